//! Names that callers and configurations give: job types, pools, tenants, tiers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A name that breaks the rule for names.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{kind} `{given}` is not a name: 1 to 64 of a-z, 0-9, `-`, `_` and `.`, beginning with a letter or digit"
)]
pub struct BadName {
    kind: &'static str,
    given: String,
}

/// Whether `text` may be part of a topic name: Kafka allows ASCII letters, digits, `.`, `_` and `-`; we keep to
/// lower case so that no two names differ in case alone.
fn is_name(text: &str) -> bool {
    let allowed =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    let bytes = text.as_bytes();
    (1..=64).contains(&bytes.len())
        && bytes.iter().all(|b| allowed(*b))
        && bytes[0].is_ascii_alphanumeric()
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                if is_name(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(BadName { kind: $kind, given: text.chars().take(80).collect() })
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadName;

            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// What is to be done, such as `sales-report`; its settings are a [`crate::JobTypeSpec`].
    JobType,
    "job type"
);
name!(
    /// The workers that can run a type. `default` has the unqualified topics.
    Pool,
    "pool"
);
name!(
    /// For whom a job is run: the unit of authentication, limits and fairness.
    Tenant,
    "tenant"
);

impl JobType {
    /// Stands for a type that nobody can tell any more, in the end of a job whose records cannot be read.
    pub fn unknown() -> Self {
        Self("unknown".to_owned())
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

/// Priority of a job; each tier has topics of its own.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Taken first, where there is a choice.
    High,
    /// Of jobs for which nothing is said.
    #[default]
    Normal,
    /// Taken last, and never starved.
    Low,
}

impl Tier {
    /// Every tier, most urgent first.
    pub const ALL: [Tier; 3] = [Tier::High, Tier::Normal, Tier::Low];

    /// The tier as it stands in topic names, headers and JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Tier::High => "high",
            Tier::Normal => "normal",
            Tier::Low => "low",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Tier {
    type Err = BadTier;

    fn from_str(text: &str) -> Result<Self, BadTier> {
        Tier::ALL
            .into_iter()
            .find(|tier| tier.as_str() == text)
            .ok_or(BadTier)
    }
}

/// Not one of the three tiers.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a tier: high, normal or low")]
pub struct BadTier;

/// The known name that `given` was most likely meant to be, for error messages; `None` if nothing is close.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A hostile name must not cost more than a glance: similarity is quadratic in the length.
    let given: String = given.chars().take(64).collect();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&given, name), name))
        .filter(|(score, _)| *score > 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_what_a_topic_may_hold() {
        assert!("sales-report.v2".parse::<JobType>().is_ok());
        for bad in ["", "Sales", "-x", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<JobType>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_nearest_name_is_found_and_nothing_far_is_offered() {
        let known = ["echo", "process-report", "resize"];
        assert_eq!(nearest("proces-report", known), Some("process-report"));
        assert_eq!(nearest("ecoh", known), Some("echo"));
        assert_eq!(nearest("zzz", known), None);
    }

    #[test]
    fn tiers_read_back() {
        for tier in Tier::ALL {
            assert_eq!(tier.as_str().parse(), Ok(tier));
        }
        assert_eq!("urgent".parse::<Tier>(), Err(BadTier));
    }
}
