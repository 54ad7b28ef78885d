//! The options of a submit in its headers, besides `Prefer`. Pure.

use std::time::Duration;

use tidegate_contract::time::rfc3339;
use tidegate_contract::{BadEvents, EventFilter, JobType, JobTypeSpec, Millis, Tier};

use crate::problem::{ApiError, clip};

/// Options that this version knows, in lower case.
const PRIORITY: &str = "tidegate-priority";
const DEADLINE: &str = "tidegate-deadline";
const DELAY: &str = "tidegate-delay";
const ON_DISCONNECT: &str = "tidegate-on-disconnect";
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const SERIAL_KEY: &str = "tidegate-serial-key";
const CALLBACK_URL: &str = "tidegate-callback-url";
const CALLBACK_EVENTS: &str = "tidegate-callback-events";

/// Longest idempotency or serial key, in characters.
const KEY_LIMIT: usize = 255;
/// The tier of all jobs with a serial key, whatever their types say: order is kept within a partition, so within a topic.
const SERIAL_TIER: Tier = Tier::Normal;

/// What the headers of a submit ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub tier: Tier,
    /// After this the job is not started any more.
    pub deadline: Millis,
    /// The first attempt is not to begin before this.
    pub not_before: Option<Millis>,
    /// A repeat under the same key joins the job of the first request.
    pub key: Option<String>,
    /// Jobs of one key run one at a time, in the order in which they came.
    pub serial_key: Option<String>,
    /// What becomes of the job when its client goes away while it waits.
    pub on_disconnect: Option<OnDisconnect>,
    /// What of this was asked for, and does not come from the type.
    pub asked: Asked,
}

/// What a disconnect of a waiting client does to its job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDisconnect {
    /// Nothing.
    #[default]
    Continue,
    /// It is cancelled.
    Cancel,
}

/// The options that change the job, as they were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub tier: Option<Tier>,
    pub deadline: Option<AskedTime>,
    pub delay: Option<AskedTime>,
    pub callback: Option<AskedCallback>,
}

/// Where the end of a job is to be told, not judged yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedCallback {
    pub url: String,
    pub events: EventFilter,
}

/// A time as it was given: one that counts from now is the same wish at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedTime {
    At(Millis),
    /// Milliseconds from now.
    Within(Millis),
}

/// Reads the options among `headers` (names in lower case).
///
/// An option that this version does not know is refused: a client that asks for an order must not be told `202` by a
/// server that keeps none.
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
        not_before: None,
        key: None,
        serial_key: None,
        on_disconnect: None,
        asked: Asked::default(),
    };
    let mut delay = None;
    let (mut callback_url, mut callback_events) = (None, None);
    for (name, value) in headers {
        match name {
            PRIORITY if options.asked.tier.is_none() => {
                options.tier = priority(value, job_type, spec)?;
                options.asked.tier = Some(options.tier);
            }
            DEADLINE if options.asked.deadline.is_none() => {
                let (at, asked) = deadline(value, spec.deadline, now)?;
                options.deadline = at;
                options.asked.deadline = Some(asked);
            }
            IDEMPOTENCY_KEY if options.key.is_none() => {
                options.key = Some(key("Idempotency-Key", value)?);
            }
            SERIAL_KEY if options.serial_key.is_none() => {
                options.serial_key = Some(key("Tidegate-Serial-Key", value)?);
            }
            SERIAL_KEY => return Err(twice("Tidegate-Serial-Key")),
            ON_DISCONNECT if options.on_disconnect.is_none() => {
                options.on_disconnect = Some(on_disconnect(value)?);
            }
            CALLBACK_URL if callback_url.is_none() => callback_url = Some(url(value)?),
            CALLBACK_URL => return Err(twice("Tidegate-Callback-Url")),
            CALLBACK_EVENTS if callback_events.is_none() => {
                callback_events = Some(events(value)?);
            }
            CALLBACK_EVENTS => return Err(twice("Tidegate-Callback-Events")),
            DELAY if delay.is_none() => delay = Some(value),
            DELAY => return Err(twice("Tidegate-Delay")),
            PRIORITY => return Err(twice("Tidegate-Priority")),
            DEADLINE => return Err(twice("Tidegate-Deadline")),
            ON_DISCONNECT => return Err(twice("Tidegate-On-Disconnect")),
            IDEMPOTENCY_KEY => return Err(twice("Idempotency-Key")),
            _ if name.starts_with("tidegate-") => {
                return Err(ApiError::UnsupportedOption { name: clip(name) });
            }
            _ => {}
        }
    }
    if options.serial_key.is_some() {
        if options.asked.tier.is_some() {
            return Err(ApiError::MalformedHeader {
                name: "Tidegate-Serial-Key",
                allowed: format!(
                    "without Tidegate-Priority: jobs with a serial key all travel in the tier {SERIAL_TIER}"
                ),
            });
        }
        options.tier = SERIAL_TIER;
    }
    options.asked.callback = match (callback_url, callback_events) {
        (None, None) => None,
        (Some(url), events) => Some(AskedCallback {
            url,
            events: events.unwrap_or_default(),
        }),
        (None, Some(_)) => {
            return Err(ApiError::MalformedHeader {
                name: "Tidegate-Callback-Events",
                allowed: "beside Tidegate-Callback-Url: without one there is no callback to choose events for".to_owned(),
            });
        }
    };
    // The headers come in any order, and the deadline bounds the delay.
    if let Some(value) = delay {
        let (at, asked) = not_before(value, options.deadline, now)?;
        options.not_before = Some(at);
        options.asked.delay = Some(asked);
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

/// A key is compared as it is, and kept: it must be worth both.
fn key(name: &'static str, value: &[u8]) -> Result<String, ApiError> {
    let visible = (1..=KEY_LIMIT).contains(&value.len()) && value.iter().all(u8::is_ascii_graphic);
    match std::str::from_utf8(value) {
        Ok(key) if visible => Ok(key.to_owned()),
        _ => Err(ApiError::MalformedHeader {
            name,
            allowed: format!("1 to {KEY_LIMIT} visible ASCII characters, without spaces"),
        }),
    }
}

/// What it may be is for the rules of callbacks to say.
fn url(value: &[u8]) -> Result<String, ApiError> {
    let text = std::str::from_utf8(value);
    let text = text.map_err(|_| ApiError::MalformedHeader {
        name: "Tidegate-Callback-Url",
        allowed: "an absolute URL in UTF-8".to_owned(),
    })?;
    Ok(text.to_owned())
}

fn events(value: &[u8]) -> Result<EventFilter, ApiError> {
    text(value)
        .parse()
        .map_err(|error: BadEvents| ApiError::MalformedHeader {
            name: "Tidegate-Callback-Events",
            allowed: error.to_string(),
        })
}

fn on_disconnect(value: &[u8]) -> Result<OnDisconnect, ApiError> {
    match value {
        b"continue" => Ok(OnDisconnect::Continue),
        b"cancel" => Ok(OnDisconnect::Cancel),
        _ => Err(ApiError::MalformedHeader {
            name: "Tidegate-On-Disconnect",
            allowed: "continue or cancel".to_owned(),
        }),
    }
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
fn deadline(value: &[u8], longest: Duration, now: Millis) -> Result<(Millis, AskedTime), ApiError> {
    let latest = now.saturating_add(millis(longest));
    let malformed = || ApiError::MalformedHeader {
        name: "Tidegate-Deadline",
        allowed: format!(
            "a time in the future in RFC 3339, or a duration such as `30s`, at most {} ({}) away",
            humantime::format_duration(longest),
            rfc3339(latest)
        ),
    };
    let (at, asked) = time_or_duration(value, now).ok_or_else(malformed)?;
    if at <= now || at > latest {
        return Err(malformed());
    }
    Ok((at, asked))
}

/// The same for a delay: in the future, and before the job's deadline, after which nothing would be started.
fn not_before(
    value: &[u8],
    deadline: Millis,
    now: Millis,
) -> Result<(Millis, AskedTime), ApiError> {
    let at = time_or_duration(value, now).filter(|(at, _)| (now + 1..deadline).contains(at));
    at.ok_or_else(|| ApiError::MalformedHeader {
        name: "Tidegate-Delay",
        allowed: format!(
            "a time in the future in RFC 3339, or a duration such as `30s`, before the job's deadline at {}",
            rfc3339(deadline)
        ),
    })
}

/// As it is reckoned from now, and as it was given.
fn time_or_duration(value: &[u8], now: Millis) -> Option<(Millis, AskedTime)> {
    let value = text(value);
    match humantime::parse_duration(value) {
        Ok(duration) => {
            let within = millis(duration);
            Some((now.saturating_add(within), AskedTime::Within(within)))
        }
        Err(_) => instant(value).map(|at| (at, AskedTime::At(at))),
    }
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
#[path = "options_tests.rs"]
mod tests;
