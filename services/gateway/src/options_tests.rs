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
fn a_serial_key_settles_the_tier() {
    let options = with(&[(SERIAL_KEY, "order-7")]).unwrap();
    assert_eq!(options.serial_key.as_deref(), Some("order-7"));
    assert_eq!(options.tier, Tier::Normal);
    let refused = with(&[(SERIAL_KEY, "order-7"), (PRIORITY, "low")]).unwrap_err();
    assert!(
        refused.to_string().contains("Tidegate-Priority"),
        "{refused}"
    );
    for bad in ["", "two words", "naïve", &"k".repeat(256)] {
        let refused = with(&[(SERIAL_KEY, bad)]).unwrap_err();
        assert!(refused.to_string().contains("255"), "{refused}");
    }
    assert!(with(&[(SERIAL_KEY, "a"), (SERIAL_KEY, "a")]).is_err());
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
fn delays_are_times_or_durations_before_the_deadline() {
    let not_before = |headers: &[(&str, &str)]| with(headers).map(|options| options.not_before);
    assert_eq!(not_before(&[]).ok(), Some(None));
    for (value, expected) in [("30s", 30_000), ("2025-01-31T10:31:00+01:00", 60_000)] {
        let at = not_before(&[(DELAY, value)]).unwrap();
        assert_eq!(at, Some(NOW + expected), "{value}");
    }
    // The order of headers does not matter.
    let both = [(DELAY, "10s"), (DEADLINE, "11s")];
    assert_eq!(not_before(&both).unwrap(), Some(NOW + 10_000));
    for headers in [
        &[(DELAY, "")][..],
        &[(DELAY, "soon")],
        &[(DELAY, "0s")],
        &[(DELAY, "-5s")],
        &[(DELAY, "2025-01-31T09:30:00Z")],
        &[(DELAY, "7d")],
        &[(DELAY, "999999999999999y")],
        &[(DELAY, "10s"), (DEADLINE, "10s")],
        &[(DEADLINE, "10s"), (DELAY, "1h")],
    ] {
        let error = not_before(headers).unwrap_err().to_string();
        let limit = error.contains("Tidegate-Delay") && error.contains("deadline at 2025-");
        assert!(limit, "{headers:?}: {error}");
    }
    assert!(not_before(&[(DELAY, "1s"), (DELAY, "1s")]).is_err());
}

#[test]
fn options_of_later_versions_are_refused_by_name() {
    for name in ["tidegate-cron", "tidegate-stream"] {
        let error = with(&[(name, "x")]).unwrap_err();
        assert!(matches!(&error, ApiError::UnsupportedOption { name: n } if n == name));
    }
}

#[test]
fn a_key_is_taken_as_it_is_or_refused_with_the_limit() {
    let longest = "k".repeat(KEY_LIMIT);
    for key in [
        "1",
        "\"a-b/c\"",
        "8e03978e-40d5-43dd-bc93-6894a57f9324",
        &longest,
    ] {
        let options = with(&[(IDEMPOTENCY_KEY, key)]).unwrap();
        assert_eq!(options.key.as_deref(), Some(key));
    }
    for key in [
        "",
        " ",
        "a b",
        "\u{e4}",
        "a\u{7f}",
        "a\tb",
        &"k".repeat(KEY_LIMIT + 1),
    ] {
        let error = with(&[(IDEMPOTENCY_KEY, key)]).unwrap_err().to_string();
        assert!(
            error.contains("Idempotency-Key") && error.contains("255"),
            "{key}: {error}"
        );
    }
    assert!(with(&[(IDEMPOTENCY_KEY, "a"), (IDEMPOTENCY_KEY, "a")]).is_err());
}

#[test]
fn what_was_asked_for_is_told_apart_from_what_the_type_gives() {
    assert_eq!(with(&[]).unwrap().asked, Asked::default());
    let asked = |headers: &[(&str, &str)]| with(headers).unwrap().asked;
    assert_eq!(asked(&[(PRIORITY, "normal")]).tier, Some(Tier::Normal));
    for (value, wish) in [
        ("30s", AskedTime::Within(30_000)),
        ("30000ms", AskedTime::Within(30_000)),
        ("2025-01-31T10:31:00+01:00", AskedTime::At(NOW + 60_000)),
    ] {
        assert_eq!(asked(&[(DEADLINE, value)]).deadline, Some(wish));
    }
}

proptest! {
    #[test]
    fn no_deadline_makes_it_panic(value in "\\PC*") {
        let _ = with(&[(DEADLINE, &value)]);
        let _ = with(&[(DELAY, &value)]);
    }

    #[test]
    fn nor_one_that_looks_right(value in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]{0,12}[Z+-][0-9:]{0,5}") {
        if let Ok(options) = with(&[(DEADLINE, &value)]) {
            prop_assert!(options.deadline > NOW);
        }
    }
}
