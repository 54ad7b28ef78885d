//! A short name for a set of job types.

use sha2::{Digest, Sha256};
use tidegate_contract::JobTypes;

/// Hexadecimal digits of the digest that are kept.
const DIGITS: usize = 12;

/// The first 12 hexadecimal digits of the SHA-256 of the types as they are understood: comments, the order of tables
/// and keys, the order in lists that are sets, how a duration is written and defaults that are spelled out make no
/// difference. Compare it between processes of one version only: another one may know more settings.
pub fn digest(types: &JobTypes) -> String {
    let mut hash = Sha256::new();
    for (name, spec) in types {
        let mut spec = spec.clone();
        spec.allowed_tiers.sort_unstable();
        spec.allowed_tiers.dedup();
        spec.pass_headers.sort_unstable();
        spec.pass_headers.dedup();
        // Maps are sorted and fields in the order of the code. A spec is plain data, which always has a JSON form.
        let text = serde_json::to_vec(&spec).unwrap_or_default();
        hash.update(name.as_str());
        // Neither a name nor JSON text has a zero byte.
        hash.update([0]);
        hash.update(text);
        hash.update([0]);
    }
    let bytes = hash.finalize();
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    digits.collect::<String>().chars().take(DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        let types: JobTypes = toml::from_str(text).unwrap();
        digest(&types)
    }

    const PLAIN: &str = r#"
[echo]
handler = { kind = "echo" }
allowed_tiers = ["high", "low"]
wait = "60s"

[words]
handler = { kind = "command", program = ["wc", "-w"], env = { A = "1", B = "2" } }
"#;

    #[test]
    fn what_means_the_same_has_the_same_digest() {
        let other = r#"
# The same in another order.
[words.handler]
env.B = "2"
env.A = "1"
program = ["wc", "-w"]
kind = "command"
[echo]
wait = "1m"
allowed_tiers = ["low", "high", "low"]
mode = "wait"
handler.kind = "echo"
"#;
        assert_eq!(of(PLAIN), of(other));
        assert_eq!(of(PLAIN).len(), 12);
    }

    #[test]
    fn what_means_something_else_has_another() {
        let mut seen = vec![of(PLAIN), of("")];
        for (old, new) in [
            ("60s", "61s"),
            ("\"wc\", \"-w\"", "\"-w\", \"wc\""),
            ("[words]", "[word]"),
            ("B = \"2\"", "B = \"3\""),
            (", \"low\"", ""),
        ] {
            let digest = of(&PLAIN.replace(old, new));
            assert!(!seen.contains(&digest), "{old} for {new}");
            seen.push(digest);
        }
    }

    /// It is compared between processes and written down by people: it may not change by itself.
    #[test]
    fn it_stays_the_same_from_build_to_build() {
        let plain = "[echo]\nhandler = { kind = \"echo\" }\n";
        assert_eq!(of(plain), "e6b97151d976");
    }
}
