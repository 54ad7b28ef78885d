//! The e-mail that the end of a job causes, as its type asks for it. Pure.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::follow_up::{EventFilter, FollowUpKind, FollowUpSpec};
use crate::template::Template;

/// Longest address, in bytes (RFC 5321, 4.5.3.1.3, without the angle brackets).
const LONGEST_ADDRESS: usize = 254;
/// Longest part before the `@`, in bytes.
const LONGEST_LOCAL: usize = 64;
/// Longest part of a domain between two dots, in bytes.
const LONGEST_LABEL: usize = 63;
/// Longest subject, in bytes, places as they are written.
const LONGEST_SUBJECT: usize = 200;
/// Longest text, in bytes, places as they are written.
const LONGEST_BODY: usize = 8 * 1024;

/// Who is told by e-mail how a job of a type ended, and in which words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailSpec {
    /// Whom.
    pub to: Recipients,
    /// Of which ends: all, unless it names some.
    #[serde(default)]
    pub events: EventFilter,
    /// One line.
    #[serde(default = "default_subject", deserialize_with = "subject")]
    pub subject: Template,
    /// Plain text.
    #[serde(default = "default_body", deserialize_with = "body")]
    pub body: Template,
}

const SUBJECT: &str = "{type}: job {jobId} is {status}";

const BODY: &str = "\
Job {jobId} has ended: {status}.

Type:      {type}
Ended at:  {endedAt}
Attempt:   {attempt}
Tenant:    {tenant}
Error:     {error.code}: {error.message}
Trace:     {traceId}

{statusUrl}
";

/// The subject of a type that gives none.
pub fn default_subject() -> Template {
    Template::known(SUBJECT)
}

/// The text of a type that gives none.
pub fn default_body() -> Template {
    Template::known(BODY)
}

fn subject<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Template, D::Error> {
    let template = bounded(deserializer, LONGEST_SUBJECT)?;
    if template.source().chars().any(char::is_control) {
        return Err(serde::de::Error::custom("a subject is one line"));
    }
    Ok(template)
}

fn body<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Template, D::Error> {
    bounded(deserializer, LONGEST_BODY)
}

fn bounded<'de, D: Deserializer<'de>>(
    deserializer: D,
    longest: usize,
) -> Result<Template, D::Error> {
    let template = Template::deserialize(deserializer)?;
    match template.source().len() {
        0 => Err(serde::de::Error::custom(
            "the text is empty: leave the key away for the one that is there anyway",
        )),
        length if length > longest => Err(serde::de::Error::custom(format!(
            "{length} bytes are too long: at most {longest}"
        ))),
        _ => Ok(template),
    }
}

impl EmailSpec {
    /// What a job of this type asks for when it is accepted. A job has one follow-up of a kind, so that all addresses
    /// are in one.
    pub fn follow_up(&self) -> FollowUpSpec {
        FollowUpSpec::new(FollowUpKind::Email, self.to.to_string(), self.events)
    }
}

/// Why a text is not an address, or not a list of them. The text is cut short.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadRecipients {
    /// Nobody.
    #[error("no address is named")]
    None,
    /// More than [`Recipients::MOST`].
    #[error("{0} addresses are too many: at most {most}", most = Recipients::MOST)]
    TooMany(usize),
    /// An address of another form.
    #[error(
        "`{0}` is not an address that can be written to: NAME@DOMAIN in ASCII, without a display name"
    )]
    Address(String),
}

/// Addresses without their display names, each once. As text they are separated by commas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Recipients(Vec<String>);

impl Recipients {
    /// The most addresses of one message.
    pub const MOST: usize = 16;

    /// Each of them.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl TryFrom<Vec<String>> for Recipients {
    type Error = BadRecipients;

    fn try_from(given: Vec<String>) -> Result<Self, BadRecipients> {
        if given.len() > Self::MOST {
            return Err(BadRecipients::TooMany(given.len()));
        }
        let mut kept: Vec<String> = Vec::new();
        for address in given {
            if !is_address(&address) {
                return Err(BadRecipients::Address(address.chars().take(80).collect()));
            }
            if !kept
                .iter()
                .any(|other| other.eq_ignore_ascii_case(&address))
            {
                kept.push(address);
            }
        }
        match kept.is_empty() {
            true => Err(BadRecipients::None),
            false => Ok(Self(kept)),
        }
    }
}

impl From<Recipients> for Vec<String> {
    fn from(recipients: Recipients) -> Self {
        recipients.0
    }
}

impl FromStr for Recipients {
    type Err = BadRecipients;

    fn from_str(text: &str) -> Result<Self, BadRecipients> {
        let parts = text.split(',').map(|part| part.trim().to_owned());
        let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
        parts.try_into()
    }
}

impl fmt::Display for Recipients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// Whether this is an address of the plain form: a dot-atom, `@`, and a domain with a dot. Quoted names, address
/// literals and other letters than ASCII are left out: servers differ about them, and a comma would separate.
fn is_address(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    let atom = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b);
    let label = |part: &str| {
        (1..=LONGEST_LABEL).contains(&part.len())
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    text.len() <= LONGEST_ADDRESS
        && local.len() <= LONGEST_LOCAL
        && local
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(atom))
        && domain.contains('.')
        && domain.split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn read(value: serde_json::Value) -> Result<EmailSpec, String> {
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_are_enough_and_all_else_has_defaults() {
        let spec = read(json!({ "to": ["ops@example.com"] })).unwrap();
        assert_eq!(spec.events, EventFilter::default());
        assert_eq!(spec.subject.source(), SUBJECT);
        assert_eq!(spec.body.source(), BODY);
        let again = read(serde_json::to_value(&spec).unwrap());
        assert_eq!(again, Ok(spec));
    }

    #[test]
    fn what_a_job_asks_for_names_all_addresses_and_the_events() {
        let spec = read(json!({
            "to": ["ops@example.com", "a.b+c@mail.example.org", "OPS@example.com"],
            "events": "job.dead_lettered, job.failed",
        }));
        let follow_up = spec.unwrap().follow_up();
        assert_eq!(follow_up.kind, "email");
        assert_eq!(follow_up.target, "ops@example.com,a.b+c@mail.example.org");
        assert_eq!(follow_up.events, "job.failed, job.dead_lettered");
        let read: Recipients = follow_up.target.parse().unwrap();
        assert_eq!(read.iter().len(), 2);
    }

    #[test]
    fn what_cannot_be_sent_is_refused_when_it_is_read() {
        let to = json!(["ops@example.com"]);
        let many = vec!["a@b.example"; Recipients::MOST + 1];
        for (value, expected) in [
            (json!({}), "missing field `to`"),
            (json!({ "to": [] }), "no address is named"),
            (
                json!({ "to": many }),
                "17 addresses are too many: at most 16",
            ),
            (
                json!({ "to": ["Ops <ops@example.com>"] }),
                "`Ops <ops@example.com>` is not an address",
            ),
            (
                json!({ "to": to, "events": "job.faild" }),
                "`job.faild` is not an event",
            ),
            (
                json!({ "to": to, "subject": "{jobid}" }),
                "there is no place `{jobid}`: did you mean `{jobId}`?",
            ),
            (
                json!({ "to": to, "subject": "a\nBcc: x@y.example" }),
                "a subject is one line",
            ),
            (
                json!({ "to": to, "subject": "x".repeat(201) }),
                "201 bytes are too long: at most 200",
            ),
            (
                json!({ "to": to, "body": "x".repeat(8193) }),
                "8193 bytes are too long: at most 8192",
            ),
            (json!({ "to": to, "body": "" }), "the text is empty"),
            (json!({ "to": to, "cc": to }), "unknown field `cc`"),
        ] {
            let error = read(value).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn an_address_is_plain() {
        let long = format!("{}@example.com", "x".repeat(65));
        for bad in [
            "",
            "ops",
            "@example.com",
            "ops@",
            "ops@localhost",
            "a@b@c.example",
            "a..b@example.com",
            ".a@example.com",
            "a b@example.com",
            "a@-x.example",
            "a@x..example",
            "a@[127.0.0.1]",
            "\"a,b\"@example.com",
            "ü@example.com",
            "a@exämple.com",
            "a@example.com\r\nRCPT TO:<b@example.com>",
            "<a@example.com>",
            &long,
        ] {
            assert!(!is_address(bad), "{bad}");
        }
        assert!(is_address("o'neil.jr+x=y@mail-1.example.co.uk"));
    }

    proptest! {
        #[test]
        fn a_list_never_holds_what_would_end_a_line_or_a_path(text in ".{0,80}") {
            if let Ok(recipients) = text.parse::<Recipients>() {
                for address in recipients.iter() {
                    prop_assert!(address.bytes().all(|b| b.is_ascii_graphic() && !b"<>,;:\"\\()[]".contains(&b)));
                }
                prop_assert_eq!(recipients.to_string().parse(), Ok(recipients));
            }
        }
    }
}
