//! The name of one process.

/// `hostname-pid-random`: tells processes apart in logs, traces, consumer groups and Kafka client ids. Only letters,
/// digits, `.`, `_` and `-`. A new one with each call, so ask once a process.
pub fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_default();
    format!(
        "{}-{}-{:06x}",
        clean(&host),
        std::process::id(),
        rand::random::<u32>() & 0xff_ffff
    )
}

/// The host's part: what a Kafka client id may hold, and not long.
fn clean(host: &str) -> String {
    let kept: String = host
        .trim()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        .take(40)
        .collect();
    if kept.is_empty() {
        "host".to_owned()
    } else {
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_and_hold_only_what_a_client_id_may() {
        assert_ne!(name(), name());
        assert_eq!(clean("web 1.ex/ample\n"), "web1.example");
        assert_eq!(clean("\n"), "host");
        assert!(clean(&"x".repeat(300)).len() <= 40);
    }
}
