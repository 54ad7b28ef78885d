//! The options of a submit in its headers, besides `Prefer`. Pure.

use std::time::Duration;

use tidegate_contract::time::rfc3339;
use tidegate_contract::{JobType, JobTypeSpec, Millis, Tier};

use crate::problem::{ApiError, clip};

/// Options that this version knows, in lower case.
const PRIORITY: &str = "tidegate-priority";
const DEADLINE: &str = "tidegate-deadline";
/// Not ours by name, and still a promise that must not be broken in silence.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What the headers of a submit ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub tier: Tier,
    /// After this the job is not started any more.
    pub deadline: Millis,
}

/// Reads the options among `headers` (names in lower case).
///
/// An option that this version does not know is refused: a client that asks for a delay, or for a key that keeps a
/// repeat from running twice, must not be told `202` by a server that does neither.
///
/// # Errors
/// [`ApiError::UnsupportedOption`], [`ApiError::MalformedHeader`], [`ApiError::TierNotAllowed`].
pub fn parse<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    job_type: &JobType,
    spec: &JobTypeSpec,
    now: Millis,
) -> Result<Options, ApiError> {
    let mut options = Options {
        tier: spec.tier,
        deadline: now.saturating_add(millis(spec.deadline)),
    };
    let (mut seen_priority, mut seen_deadline) = (false, false);
    for (name, value) in headers {
        match name {
            PRIORITY if !seen_priority => {
                seen_priority = true;
                options.tier = priority(value, job_type, spec)?;
            }
            DEADLINE if !seen_deadline => {
                seen_deadline = true;
                options.deadline = deadline(value, spec.deadline, now)?;
            }
            PRIORITY => return Err(twice("Tidegate-Priority")),
            DEADLINE => return Err(twice("Tidegate-Deadline")),
            _ if name == IDEMPOTENCY_KEY || name.starts_with("tidegate-") => {
                return Err(ApiError::UnsupportedOption { name: clip(name) });
            }
            _ => {}
        }
    }
    Ok(options)
}

fn twice(name: &'static str) -> ApiError {
    ApiError::MalformedHeader {
        name,
        allowed: "one value".to_owned(),
    }
}

fn text(value: &[u8]) -> &str {
    std::str::from_utf8(value).map_or("", str::trim)
}

fn priority(value: &[u8], job_type: &JobType, spec: &JobTypeSpec) -> Result<Tier, ApiError> {
    let allowed = || {
        let tiers = Tier::ALL.into_iter().filter(|tier| spec.allows(*tier));
        let tiers: Vec<_> = tiers.map(Tier::as_str).collect();
        tiers.join(", ")
    };
    let tier: Tier = text(value).parse().map_err(|_| ApiError::MalformedHeader {
        name: "Tidegate-Priority",
        allowed: format!("one of {} for job type {job_type}", allowed()),
    })?;
    if !spec.allows(tier) {
        return Err(ApiError::TierNotAllowed {
            tier,
            job_type: job_type.clone(),
            allowed: allowed(),
        });
    }
    Ok(tier)
}

/// A point in time (RFC 3339) or a time from now (`30s`, `2h 30m`), in the future and not beyond what the type keeps
/// its jobs for.
fn deadline(value: &[u8], longest: Duration, now: Millis) -> Result<Millis, ApiError> {
    let latest = now.saturating_add(millis(longest));
    let malformed = || ApiError::MalformedHeader {
        name: "Tidegate-Deadline",
        allowed: format!(
            "a time in the future in RFC 3339, or a duration such as `30s`, at most {} ({}) away",
            humantime::format_duration(longest),
            rfc3339(latest)
        ),
    };
    let value = text(value);
    let at = match humantime::parse_duration(value) {
        Ok(duration) => now.saturating_add(millis(duration)),
        Err(_) => instant(value).ok_or_else(malformed)?,
    };
    if at <= now || at > latest {
        return Err(malformed());
    }
    Ok(at)
}

/// RFC 3339 with any offset.
fn instant(text: &str) -> Option<Millis> {
    if let Some(at) = tidegate_contract::time::parse_rfc3339(text) {
        return Some(at);
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let sign = match offset.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = offset.get(1..)?.split_once(':')?;
    let number = |text: &str, limit: i64| {
        let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|n: &i64| digits && *n < limit)
    };
    let minutes = number(hours, 24)? * 60 + number(minutes, 60)?;
    let local = tidegate_contract::time::parse_rfc3339(&format!("{local}Z"))?;
    local.checked_sub(sign * minutes * 60_000)
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tidegate_contract::HandlerSpec;

    const NOW: Millis = 1_738_315_800_000; // 2025-01-31T09:30:00Z

    fn with(headers: &[(&str, &str)]) -> Result<Options, ApiError> {
        let mut spec = JobTypeSpec::new(HandlerSpec::Echo);
        spec.allowed_tiers = vec![Tier::Low];
        let headers = headers.iter().map(|(n, v)| (*n, v.as_bytes()));
        parse(headers, &"echo".parse().unwrap(), &spec, NOW)
    }

    #[test]
    fn a_request_without_options_gets_those_of_its_type() {
        let options = with(&[("accept", "*/*"), ("x-tidegate", "1")]).unwrap();
        assert_eq!(options.tier, Tier::Normal);
        assert_eq!(options.deadline, NOW + 7 * 24 * 3600 * 1000);
    }

    #[test]
    fn tiers_are_read_refused_and_not_everybodys() {
        assert_eq!(with(&[(PRIORITY, "low")]).unwrap().tier, Tier::Low);
        let malformed = with(&[(PRIORITY, "urgent")]).unwrap_err();
        assert!(malformed.to_string().contains("normal, low"), "{malformed}");
        assert!(matches!(
            with(&[(PRIORITY, "high")]),
            Err(ApiError::TierNotAllowed {
                tier: Tier::High,
                ..
            })
        ));
        assert!(with(&[(PRIORITY, "low"), (PRIORITY, "low")]).is_err());
    }

    #[test]
    fn deadlines_are_times_or_durations_within_the_limit() {
        for (value, expected) in [
            ("30s", 30_000),
            ("2h 30m", 9_000_000),
            ("2025-01-31T09:31:00Z", 60_000),
            ("2025-01-31T10:31:00+01:00", 60_000),
            ("2025-01-31T04:01:00.500-05:30", 60_500),
            ("7d", 7 * 24 * 3_600_000),
        ] {
            let options = with(&[(DEADLINE, value)]);
            assert_eq!(
                options.map(|o| o.deadline - NOW).ok(),
                Some(expected),
                "{value}"
            );
        }
        for value in [
            "",
            "soon",
            "0s",
            "-5s",
            "30",
            "2025-01-31T09:29:59Z",
            "2025-02-07T09:30:01Z",
            "8d",
            "2025-01-31T10:31:00+25:00",
            "2025-01-31",
            "\u{e4}\u{e4}\u{e4}+01:00",
            "999999999999999y",
        ] {
            let error = with(&[(DEADLINE, value)]).unwrap_err().to_string();
            assert!(
                error.contains("Tidegate-Deadline") && error.contains("7days"),
                "{value}: {error}"
            );
        }
    }

    #[test]
    fn options_of_later_versions_are_refused_by_name() {
        for name in [
            "tidegate-delay",
            "tidegate-serial-key",
            "tidegate-callback-url",
            IDEMPOTENCY_KEY,
        ] {
            let error = with(&[(name, "x")]).unwrap_err();
            assert!(matches!(&error, ApiError::UnsupportedOption { name: n } if n == name));
        }
    }

    proptest! {
        #[test]
        fn no_deadline_makes_it_panic(value in "\\PC*") {
            let _ = with(&[(DEADLINE, &value)]);
        }

        #[test]
        fn nor_one_that_looks_right(value in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{0,12}[Z+-][0-9:]{0,5}") {
            if let Ok(options) = with(&[(DEADLINE, &value)]) {
                prop_assert!(options.deadline > NOW);
            }
        }
    }
}
