//! `Retry-After`, which workers and notifiers are answered with. Pure: the time is passed in.

use std::time::{Duration, SystemTime};

/// The pause that a value of `Retry-After` asks for (RFC 9110, 10.2.3): seconds, or a date, which counts from `now`.
/// `None` for anything else.
pub fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than fits is more than anyone waits.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let at = httpdate::parse_http_date(value).ok()?;
    Some(at.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Tue, 15 Nov 1994 08:12:31 GMT").unwrap();
        for (value, expected) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Tue, 15 Nov 1994 08:12:41 GMT", Some(10)),
            ("Tue, 15 Nov 1994 08:12:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("+7", None),
            ("1.5", None),
            ("", None),
        ] {
            let expected = expected.map(Duration::from_secs);
            assert_eq!(retry_after(value, now), expected, "{value}");
        }
    }
}
