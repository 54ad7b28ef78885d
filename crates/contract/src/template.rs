//! Texts with places for the facts of a job that has ended. Pure.

use std::fmt::Write;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::nearest;

/// What may stand in braces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The job's id.
    JobId,
    /// Its type.
    Type,
    /// For whom it was run.
    Tenant,
    /// How it ended, as in its status.
    Status,
    /// Where its status is.
    StatusUrl,
    /// The code of its error.
    ErrorCode,
    /// What its error says.
    ErrorMessage,
    /// The execution it came to.
    Attempt,
    /// When it ended, RFC 3339.
    EndedAt,
    /// The trace it belongs to.
    TraceId,
}

impl Place {
    /// Every place.
    pub const ALL: [Place; 10] = [
        Place::JobId,
        Place::Type,
        Place::Tenant,
        Place::Status,
        Place::StatusUrl,
        Place::ErrorCode,
        Place::ErrorMessage,
        Place::Attempt,
        Place::EndedAt,
        Place::TraceId,
    ];

    /// The name between the braces.
    pub const fn as_str(self) -> &'static str {
        match self {
            Place::JobId => "jobId",
            Place::Type => "type",
            Place::Tenant => "tenant",
            Place::Status => "status",
            Place::StatusUrl => "statusUrl",
            Place::ErrorCode => "error.code",
            Place::ErrorMessage => "error.message",
            Place::Attempt => "attempt",
            Place::EndedAt => "endedAt",
            Place::TraceId => "traceId",
        }
    }
}

/// Why a text is not a template.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadTemplate {
    /// A name that is none, cut short, and the one that was probably meant.
    #[error("there is no place `{{{given}}}`: {mend}", mend = mend(*.nearest))]
    Unknown {
        /// What stands between the braces.
        given: String,
        /// The place whose name is most like it.
        nearest: Option<&'static str>,
    },
    /// A brace without its other one.
    #[error("`{0}` stands alone: write it twice for one in the text")]
    Brace(char),
}

fn mend(nearest: Option<&str>) -> String {
    if let Some(near) = nearest {
        return format!("did you mean `{{{near}}}`?");
    }
    let mut known = String::from("expected one of");
    for (index, place) in Place::ALL.into_iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a text cannot fail.
        let _ = write!(known, "{comma} {{{}}}", place.as_str());
    }
    known
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Place(Place),
}

/// A text with [`Place`]s in braces; `{{` and `}}` stand for one brace each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

impl Template {
    /// As it was written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text with each place replaced by what `fact` gives for it. What comes of a place is not looked at again.
    pub fn fill(&self, mut fact: impl FnMut(Place) -> String) -> String {
        let mut filled = String::with_capacity(self.source.len());
        for part in &self.parts {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Place(place) => filled.push_str(&fact(*place)),
            }
        }
        filled
    }

    /// A template of ours, which is good: a test reads it. Were it not, it would stand for itself.
    pub(crate) fn known(source: &str) -> Self {
        source.parse().unwrap_or_else(|_| Self {
            source: source.to_owned(),
            parts: vec![Part::Text(source.to_owned())],
        })
    }
}

impl FromStr for Template {
    type Err = BadTemplate;

    fn from_str(source: &str) -> Result<Self, BadTemplate> {
        let (mut parts, mut text, mut rest) = (Vec::new(), String::new(), source);
        while let Some(at) = rest.find(['{', '}']) {
            text.push_str(&rest[..at]);
            rest = &rest[at..];
            if let Some(behind) = rest.strip_prefix("{{") {
                text.push('{');
                rest = behind;
            } else if let Some(behind) = rest.strip_prefix("}}") {
                text.push('}');
                rest = behind;
            } else {
                let inner = rest.strip_prefix('{').ok_or(BadTemplate::Brace('}'))?;
                let (name, behind) = inner.split_once('}').ok_or(BadTemplate::Brace('{'))?;
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(Part::Place(place(name)?));
                rest = behind;
            }
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self {
            source: source.to_owned(),
            parts,
        })
    }
}

fn place(name: &str) -> Result<Place, BadTemplate> {
    let known = Place::ALL.into_iter().find(|place| place.as_str() == name);
    known.ok_or_else(|| BadTemplate::Unknown {
        given: name.chars().take(64).collect(),
        nearest: nearest(name, Place::ALL.map(Place::as_str)),
    })
}

impl TryFrom<String> for Template {
    type Error = BadTemplate;

    fn try_from(source: String) -> Result<Self, BadTemplate> {
        source.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.source
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::email::{default_body, default_subject};
    use proptest::prelude::*;

    fn filled(source: &str) -> String {
        let template: Template = source.parse().unwrap();
        template.fill(|place| format!("<{}>", place.as_str()))
    }

    #[test]
    fn places_are_replaced_and_doubled_braces_are_braces() {
        assert_eq!(filled("{jobId}/{status}"), "<jobId>/<status>");
        assert_eq!(filled("{{jobId}} {{{type}}}"), "{jobId} {<type>}");
        assert_eq!(filled("nothing"), "nothing");
        assert_eq!(filled(""), "");
        for place in Place::ALL {
            let name = place.as_str();
            assert_eq!(filled(&format!("a{{{name}}}b")), format!("a<{name}>b"));
        }
    }

    #[test]
    fn what_comes_of_a_place_is_not_looked_at_again() {
        let template: Template = "{error.message}".parse().unwrap();
        assert_eq!(template.fill(|_| "{jobId}".to_owned()), "{jobId}");
    }

    #[test]
    fn our_own_texts_have_places() {
        for template in [default_subject(), default_body()] {
            let places = |part: &&Part| matches!(part, Part::Place(_));
            assert!(template.parts.iter().filter(places).count() >= 3);
        }
    }

    #[test]
    fn an_unknown_place_is_named_with_the_nearest_one() {
        let error = |source: &str| source.parse::<Template>().unwrap_err().to_string();
        assert_eq!(
            error("{error.mesage}"),
            "there is no place `{error.mesage}`: did you mean `{error.message}`?"
        );
        assert_eq!(
            error("{}"),
            "there is no place `{}`: expected one of {jobId}, {type}, {tenant}, {status}, {statusUrl}, {error.code}, \
             {error.message}, {attempt}, {endedAt}, {traceId}"
        );
        assert!(error(&format!("{{{}}}", "x".repeat(10_000))).len() < 300);
        assert_eq!(
            error("a } b"),
            "`}` stands alone: write it twice for one in the text"
        );
        assert_eq!(
            error("a { b"),
            "`{` stands alone: write it twice for one in the text"
        );
    }

    proptest! {
        #[test]
        fn any_text_with_its_braces_doubled_stands_for_itself(text in ".{0,60}") {
            let source = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(filled(&source), text);
        }

        #[test]
        fn no_text_makes_the_parser_panic(source in "[{}a-z.]{0,24}") {
            if let Ok(template) = source.parse::<Template>() {
                prop_assert_eq!(template.source(), source);
            }
        }
    }
}
