//! What a report is asked for. Pure.

use std::fmt;

use serde_json::Value;

/// A day, comparable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day {
    pub year: u16,
    pub month: u8,
    pub day: u8,
}

/// Sales from one day to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    pub from: Day,
    pub to: Day,
}

/// A request that is no query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}; allowed: {allowed}")]
pub struct Refusal {
    /// The field that is wrong; `body` for the whole.
    pub field: String,
    pub problem: String,
    pub allowed: &'static str,
}

impl Refusal {
    fn new(field: &str, problem: impl Into<String>, allowed: &'static str) -> Self {
        Self {
            field: field.chars().take(80).collect(),
            problem: problem.into(),
            allowed,
        }
    }
}

const FIELDS: &str = "an object with `reportType` and either `dateRange` or both `from` and `to`";
const TYPES: &str = "\"sales\"";
const RANGES: &str = "a month such as \"2025-01\" or a year such as \"2025\"";
const DAYS: &str = "a day such as \"2025-01-31\"";

impl Query {
    /// Reads the body of a job.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| Refusal::new("body", format!("is not JSON: {error}"), FIELDS))?;
        let Value::Object(fields) = value else {
            return Err(Refusal::new("body", "is not an object", FIELDS));
        };
        for name in fields.keys() {
            if !matches!(name.as_str(), "reportType" | "dateRange" | "from" | "to") {
                return Err(Refusal::new(name, "is not a known field", FIELDS));
            }
        }
        match fields.get("reportType") {
            Some(Value::String(given)) if given == "sales" => {}
            Some(_) => return Err(Refusal::new("reportType", "is not a known report", TYPES)),
            None => return Err(Refusal::new("reportType", "is missing", TYPES)),
        }
        match (
            fields.get("dateRange"),
            fields.get("from"),
            fields.get("to"),
        ) {
            (Some(range), None, None) => Self::of_range(range),
            (None, Some(from), Some(to)) => Self::between(day("from", from)?, day("to", to)?),
            (None, Some(_), None) => Err(Refusal::new("to", "is missing", DAYS)),
            (None, None, Some(_)) => Err(Refusal::new("from", "is missing", DAYS)),
            (None, None, None) => Err(Refusal::new("dateRange", "is missing", RANGES)),
            (Some(_), ..) => Err(Refusal::new(
                "dateRange",
                "is given together with `from` or `to`",
                FIELDS,
            )),
        }
    }

    fn of_range(range: &Value) -> Result<Self, Refusal> {
        let bad = || Refusal::new("dateRange", "is neither a month nor a year", RANGES);
        let text = range.as_str().ok_or_else(bad)?;
        let (first, last) = match text.split_once('-') {
            None => (1, 12),
            Some((_, month)) => {
                let month = number(month, 2)
                    .filter(|m| (1..=12).contains(m))
                    .ok_or_else(bad)?;
                (month as u8, month as u8)
            }
        };
        let year = text.split('-').next().and_then(|year| number(year, 4));
        let year = year.filter(|year| *year > 0).ok_or_else(bad)?;
        let from = Day {
            year,
            month: first,
            day: 1,
        };
        let day = days_in(year, last);
        Ok(Self {
            from,
            to: Day {
                year,
                month: last,
                day,
            },
        })
    }

    fn between(from: Day, to: Day) -> Result<Self, Refusal> {
        if from > to {
            return Err(Refusal::new(
                "from",
                format!("{from} is after `to`, {to}"),
                "a day that is not after `to`",
            ));
        }
        Ok(Self { from, to })
    }

    /// Whether a day is in the range.
    pub fn contains(&self, day: Day) -> bool {
        self.from <= day && day <= self.to
    }
}

impl Day {
    /// Reads `YYYY-MM-DD`; `None` for anything else and for days that no calendar has.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let year = number(parts.next()?, 4).filter(|year| *year > 0)?;
        let month = number(parts.next()?, 2)? as u8;
        let day = number(parts.next()?, 2)? as u8;
        let real = parts.next().is_none()
            && (1..=12).contains(&month)
            && (1..=days_in(year, month)).contains(&day);
        real.then_some(Self { year, month, day })
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

fn day(field: &str, value: &Value) -> Result<Day, Refusal> {
    let text = value.as_str().and_then(Day::parse);
    text.ok_or_else(|| Refusal::new(field, "is not a day", DAYS))
}

/// Exactly that many digits.
fn number(text: &str, digits: usize) -> Option<u16> {
    let all = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    all.then(|| text.parse().ok())?
}

/// The days of a month in the Gregorian calendar.
pub fn days_in(year: u16, month: u8) -> u8 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(body: &str) -> Result<String, String> {
        match Query::parse(body.as_bytes()) {
            Ok(query) => Ok(format!("{}..{}", query.from, query.to)),
            Err(refusal) => Err(refusal.field),
        }
    }

    #[test]
    fn months_years_and_days_are_ranges() {
        for (body, expected) in [
            (
                r#"{"reportType":"sales","dateRange":"2025-01"}"#,
                "2025-01-01..2025-01-31",
            ),
            (
                r#"{"reportType":"sales","dateRange":"2024-02"}"#,
                "2024-02-01..2024-02-29",
            ),
            (
                r#"{"reportType":"sales","dateRange":"2025"}"#,
                "2025-01-01..2025-12-31",
            ),
            (
                r#"{"reportType":"sales","from":"2025-01-01","to":"2025-03-31"}"#,
                "2025-01-01..2025-03-31",
            ),
            (
                r#"{"reportType":"sales","from":"2025-01-01","to":"2025-01-01"}"#,
                "2025-01-01..2025-01-01",
            ),
        ] {
            assert_eq!(parse(body).as_deref(), Ok(expected), "{body}");
        }
    }

    #[test]
    fn anything_else_is_refused_by_the_name_of_its_field() {
        for (body, field) in [
            ("", "body"),
            ("[]", "body"),
            ("{}", "reportType"),
            (r#"{"reportType":"costs","dateRange":"2025"}"#, "reportType"),
            (r#"{"reportType":7,"dateRange":"2025"}"#, "reportType"),
            (r#"{"reportType":"sales"}"#, "dateRange"),
            (
                r#"{"reportType":"sales","dateRange":"2025-13"}"#,
                "dateRange",
            ),
            (
                r#"{"reportType":"sales","dateRange":"2025-1"}"#,
                "dateRange",
            ),
            (
                r#"{"reportType":"sales","dateRange":"2025-01-01"}"#,
                "dateRange",
            ),
            (r#"{"reportType":"sales","dateRange":"0000"}"#, "dateRange"),
            (r#"{"reportType":"sales","dateRange":2025}"#, "dateRange"),
            (
                r#"{"reportType":"sales","dateRange":"2025","to":"2025-01-01"}"#,
                "dateRange",
            ),
            (r#"{"reportType":"sales","from":"2025-01-01"}"#, "to"),
            (r#"{"reportType":"sales","to":"2025-01-01"}"#, "from"),
            (
                r#"{"reportType":"sales","from":"2025-02-30","to":"2025-03-01"}"#,
                "from",
            ),
            (
                r#"{"reportType":"sales","from":"2025-02-01","to":"2025-01-01"}"#,
                "from",
            ),
            (
                r#"{"reportType":"sales","dateRange":"2025","region":"x"}"#,
                "region",
            ),
        ] {
            assert_eq!(
                parse(body).as_ref().map_err(String::as_str),
                Err(field),
                "{body}"
            );
        }
    }

    proptest! {
        #[test]
        fn days_read_back_and_nothing_panics(text in ".{0,40}", y in 1u16..9999, m in 1u8..=12, d in 1u8..=28) {
            let _ = Query::parse(text.as_bytes());
            let _ = Day::parse(&text);
            let range = serde_json::json!({ "reportType": "sales", "dateRange": text });
            let _ = Query::parse(range.to_string().as_bytes());
            let day = Day { year: y, month: m, day: d };
            prop_assert_eq!(Day::parse(&day.to_string()), Some(day));
        }
    }
}
