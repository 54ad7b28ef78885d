//! Which dead letters are meant, and where a list goes on. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use tidegate_contract::time::parse_rfc3339;
use tidegate_contract::{DeadLetter, Millis};

/// What is asked for, as it comes in a query or in a body.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Wanted {
    #[serde(rename = "type")]
    pub job_type: Option<String>,
    pub tenant: Option<String>,
    pub reason: Option<String>,
    /// RFC 3339: set aside at that time or later.
    pub since: Option<String>,
    /// RFC 3339: set aside before that time.
    pub until: Option<String>,
}

/// The same, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    job_type: Option<String>,
    tenant: Option<String>,
    reason: Option<String>,
    since: Option<Millis>,
    until: Option<Millis>,
}

impl Wanted {
    /// Reads the times.
    ///
    /// # Errors
    /// One sentence that names what is malformed.
    pub fn read(self) -> Result<Filter, String> {
        let at = |name, text: Option<String>| text.map(|text| time(name, &text)).transpose();
        Ok(Filter {
            since: at("since", self.since)?,
            until: at("until", self.until)?,
            job_type: self.job_type,
            tenant: self.tenant,
            reason: self.reason,
        })
    }
}

/// The time in a parameter of that name.
///
/// # Errors
/// One sentence that names the parameter and what it may be.
pub fn time(name: &str, text: &str) -> Result<Millis, String> {
    parse_rfc3339(text).ok_or_else(|| {
        format!("{name} is malformed: allowed is RFC 3339 in UTC, such as 2025-01-31T09:30:00Z")
    })
}

impl Filter {
    /// Whether it leaves nothing out.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Only what is of this tenant, whatever was asked for.
    pub fn within(&mut self, tenant: &str) {
        self.tenant = Some(tenant.to_owned());
    }

    /// Whether a letter is meant that was set aside at `at`.
    pub fn takes(&self, letter: &DeadLetter) -> bool {
        let is = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        is(&self.job_type, letter.job_type.as_deref())
            && is(&self.tenant, letter.tenant.as_deref())
            && is(&self.reason, Some(&letter.reason))
            && self.since.is_none_or(|since| letter.at >= since)
            && self.until.is_none_or(|until| letter.at < until)
    }
}

/// Where a list goes on: for some partitions, the offset below which nothing has been told yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cursor(pub BTreeMap<i32, i64>);

impl Cursor {
    /// As it stands in answers: `0.17_1.22`.
    pub fn text(&self) -> String {
        let parts = self.0.iter();
        let parts: Vec<_> = parts
            .map(|(partition, below)| format!("{partition}.{below}"))
            .collect();
        parts.join("_")
    }

    /// Reads it back. `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| text.parse::<i64>().ok().filter(|n| *n >= 0);
        let parts = text.split('_').map(|part| {
            let (partition, below) = part.split_once('.')?;
            Some((i32::try_from(number(partition)?).ok()?, number(below)?))
        });
        parts.collect::<Option<_>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn letter(job_type: Option<&str>, reason: &str, at: Millis) -> DeadLetter {
        DeadLetter {
            job_id: None,
            reason: reason.to_owned(),
            message: String::new(),
            at,
            source: String::new(),
            topic: String::new(),
            partition: 0,
            offset: 0,
            attempt: 1,
            key: None,
            headers: Vec::new(),
            value: None,
            job_type: job_type.map(str::to_owned),
            tenant: Some("shop".to_owned()),
            attempts: 3,
            redrives: 0,
            first_error: None,
            last_error: None,
            trace_id: None,
        }
    }

    #[test]
    fn every_part_of_a_filter_leaves_something_out() {
        let echo = letter(Some("echo"), "attempts-exhausted", 1_738_315_800_000);
        let lost = letter(None, "unreadable-record", 1_738_315_800_000);
        let takes = |json: serde_json::Value| {
            let wanted: Wanted = serde_json::from_value(json).unwrap();
            let filter = wanted.read().unwrap();
            (filter.takes(&echo), filter.takes(&lost))
        };
        use serde_json::json;
        assert_eq!(takes(json!({})), (true, true));
        assert_eq!(takes(json!({"type": "echo"})), (true, false));
        assert_eq!(takes(json!({"reason": "unreadable-record"})), (false, true));
        assert_eq!(takes(json!({"tenant": "other"})), (false, false));
        let at = "2025-01-31T09:30:00Z";
        assert_eq!(takes(json!({"since": at})), (true, true));
        assert_eq!(takes(json!({"until": at})), (false, false));
        let bad: Wanted = serde_json::from_value(json!({"since": "yesterday"})).unwrap();
        assert!(bad.read().unwrap_err().contains("RFC 3339"));
        assert!(serde_json::from_value::<Wanted>(json!({"resaon": "x"})).is_err());
    }

    proptest! {
        #[test]
        fn cursors_read_back(parts in prop::collection::btree_map(0i32..100, 0i64..i64::MAX, 1..20)) {
            let cursor = Cursor(parts);
            prop_assert_eq!(Cursor::parse(&cursor.text()), Some(cursor));
        }

        #[test]
        fn no_cursor_makes_it_panic(text in "\\PC*") {
            let _ = Cursor::parse(&text);
        }
    }
}
