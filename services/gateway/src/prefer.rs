//! `Prefer` (RFC 7240): how a client wants its answer. Pure.

use std::time::Duration;

use crate::problem::ApiError;

/// What a malformed header is told.
const ALLOWED: &str =
    "`wait=N` with whole seconds, `respond-async`, or both, such as `respond-async, wait=10`";

/// The preferences that this server honours; any other is passed over, as the RFC asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefer {
    /// Seconds that the client is ready to wait.
    pub wait: Option<u64>,
    /// `202` rather than waiting; together with `wait`, only once that has run out.
    pub respond_async: bool,
}

/// Reads all `Prefer` headers of a request. Of a preference that comes twice the first counts.
///
/// # Errors
/// [`ApiError::MalformedHeader`] for what breaks the grammar, or a `wait` that is no whole number.
pub fn parse<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Prefer, ApiError> {
    let mut prefer = Prefer::default();
    for value in values {
        for preference in split(value, b',') {
            let preference = preference.trim_matches([' ', '\t']);
            if preference.is_empty() {
                continue;
            }
            let (name, value) = read(preference).ok_or_else(malformed)?;
            if name.eq_ignore_ascii_case("wait") {
                let seconds = seconds(&value).ok_or_else(malformed)?;
                prefer.wait.get_or_insert(seconds);
            } else if name.eq_ignore_ascii_case("respond-async") {
                if !value.is_empty() {
                    return Err(malformed());
                }
                prefer.respond_async = true;
            }
        }
    }
    Ok(prefer)
}

fn malformed() -> ApiError {
    ApiError::MalformedHeader {
        name: "Prefer",
        allowed: ALLOWED.to_owned(),
    }
}

/// One preference with its parameters: checked as a whole, of which only name and value are of use.
fn read(preference: &str) -> Option<(&str, String)> {
    let mut parts = split(preference, b';');
    let first = pair(parts.next()?)?;
    for parameter in parts {
        if !parameter.trim_matches([' ', '\t']).is_empty() {
            pair(parameter)?;
        }
    }
    Some(first)
}

/// `token`, `token=token` or `token="text"`; no value and an empty one are the same.
fn pair(text: &str) -> Option<(&str, String)> {
    let text = text.trim_matches([' ', '\t']);
    let (name, value) = match text.split_once('=') {
        None => (text, String::new()),
        Some((name, value)) => (
            name.trim_end_matches([' ', '\t']),
            word(value.trim_start_matches([' ', '\t']))?,
        ),
    };
    is_token(name).then_some((name, value))
}

/// A token or a quoted string, unquoted.
fn word(text: &str) -> Option<String> {
    let Some(inner) = text.strip_prefix('"') else {
        return is_token(text).then(|| text.to_owned());
    };
    let mut out = String::new();
    let mut chars = inner.chars();
    loop {
        match chars.next()? {
            '"' => return chars.next().is_none().then_some(out),
            '\\' => out.push(chars.next()?),
            c => out.push(c),
        }
    }
}

fn is_token(text: &str) -> bool {
    let tchar = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(tchar)
}

/// Digits only. More than fit mean: as long as possible.
fn seconds(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Splits outside quoted strings.
fn split(text: &str, at: u8) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let (mut quoted, mut escaped) = (false, false);
        for (index, byte) in text.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                // `at` is ASCII, so this is a boundary of characters.
                b if b == at && !quoted => {
                    rest = text.get(index + 1..);
                    return text.get(..index);
                }
                _ => {}
            }
        }
        rest = None;
        Some(text)
    })
}

/// What will be done about a request's preferences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// `None`: `202` at once.
    pub wait: Option<Duration>,
    /// `Preference-Applied`, where the client had a preference.
    pub applied: Option<String>,
}

/// Holds the preferences against what the type does without any, and against the longest wait.
pub fn decide(prefer: Prefer, default: Option<Duration>, longest: Duration) -> Waiting {
    let cap = longest.as_secs();
    match (prefer.wait, prefer.respond_async) {
        (None, false) => Waiting {
            wait: default
                .map(|wait| wait.min(longest))
                .filter(|w| !w.is_zero()),
            applied: None,
        },
        (None, true) => Waiting {
            wait: None,
            applied: Some("respond-async".to_owned()),
        },
        (Some(seconds), both) => {
            let seconds = seconds.min(cap);
            let applied = if both {
                format!("respond-async, wait={seconds}")
            } else {
                format!("wait={seconds}")
            };
            Waiting {
                wait: (seconds > 0).then(|| Duration::from_secs(seconds)),
                applied: Some(applied),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(value: &str) -> Option<(Option<u64>, bool)> {
        parse([value]).ok().map(|p| (p.wait, p.respond_async))
    }

    #[test]
    fn what_the_rfc_allows_is_read() {
        for (value, expected) in [
            ("", (None, false)),
            ("wait=10", (Some(10), false)),
            ("Wait = 10", (Some(10), false)),
            ("wait=\"10\"", (Some(10), false)),
            ("respond-async, wait=10", (Some(10), true)),
            ("respond-async;foo=\"a,b;c\" , wait=5", (Some(5), true)),
            ("respond-async=\"\"", (None, true)),
            ("wait=1, wait=2", (Some(1), false)),
            ("return=minimal; a, handling=lenient,,", (None, false)),
            ("wait=99999999999999999999999", (Some(u64::MAX), false)),
            ("x=\"a\\\"b, wait=3\"", (None, false)),
        ] {
            assert_eq!(of(value), Some(expected), "{value}");
        }
        let two = parse(["respond-async", "wait=3"]).unwrap();
        assert_eq!((two.wait, two.respond_async), (Some(3), true));
    }

    #[test]
    fn what_it_does_not_is_refused() {
        for value in [
            "wait",
            "wait=",
            "wait=soon",
            "wait=-1",
            "wait=1.5",
            "wait=1 2",
            "=5",
            "wait=\"1",
            "wait=\"1\"2",
            "a b",
            "respond-async=yes",
            "respond-async;=",
            "\u{e4}",
        ] {
            assert_eq!(of(value), None, "{value}");
        }
    }

    #[test]
    fn the_wait_is_capped_and_that_is_said() {
        let longest = Duration::from_secs(30);
        let default = Some(Duration::from_secs(10));
        let decided = |value| {
            let waiting = decide(parse([value]).unwrap(), default, longest);
            (waiting.wait.map(|w| w.as_secs()), waiting.applied)
        };
        assert_eq!(decided(""), (Some(10), None));
        assert_eq!(decided("wait=90"), (Some(30), Some("wait=30".into())));
        assert_eq!(decided("wait=0"), (None, Some("wait=0".into())));
        assert_eq!(
            decided("respond-async"),
            (None, Some("respond-async".into()))
        );
        assert_eq!(
            decided("respond-async, wait=2"),
            (Some(2), Some("respond-async, wait=2".into()))
        );
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(value in "\\PC*") {
            let _ = parse([value.as_str()]);
        }

        #[test]
        fn nor_does_what_looks_right(value in "[ \\t,;=\"\\\\a-z0-9-]{0,40}") {
            let _ = parse([value.as_str()]);
        }
    }
}
