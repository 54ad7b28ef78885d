//! Schemas by subject and version, and the rules between versions. Pure.

use std::collections::BTreeMap;

use apache_avro::Schema;
use apache_avro::schema_compatibility::SchemaCompatibility;

/// How a new version must stand to the old ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Level {
    None,
    Backward,
    BackwardTransitive,
    Forward,
    ForwardTransitive,
    Full,
    #[default]
    FullTransitive,
}

impl Level {
    const NAMES: [(Level, &'static str); 7] = [
        (Level::None, "NONE"),
        (Level::Backward, "BACKWARD"),
        (Level::BackwardTransitive, "BACKWARD_TRANSITIVE"),
        (Level::Forward, "FORWARD"),
        (Level::ForwardTransitive, "FORWARD_TRANSITIVE"),
        (Level::Full, "FULL"),
        (Level::FullTransitive, "FULL_TRANSITIVE"),
    ];

    pub(super) fn parse(name: &str) -> Result<Self, Refusal> {
        let found = Self::NAMES.iter().find(|(_, known)| *known == name);
        found.map(|(level, _)| *level).ok_or(Refusal::BadLevel)
    }

    pub(super) fn name(self) -> &'static str {
        Self::NAMES
            .iter()
            .find(|(level, _)| *level == self)
            .map_or("NONE", |(_, name)| name)
    }

    fn transitive(self) -> bool {
        matches!(
            self,
            Level::BackwardTransitive | Level::ForwardTransitive | Level::FullTransitive
        )
    }

    /// The new schema must read what the old one wrote.
    fn backward(self) -> bool {
        matches!(
            self,
            Level::Backward | Level::BackwardTransitive | Level::Full | Level::FullTransitive
        )
    }

    /// The old schema must read what the new one writes.
    fn forward(self) -> bool {
        matches!(
            self,
            Level::Forward | Level::ForwardTransitive | Level::Full | Level::FullTransitive
        )
    }
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    NoSubject(String),
    NoVersion(String),
    NoSchema,
    BadSchema(String),
    BadLevel,
    Incompatible(Vec<String>),
}

impl Refusal {
    /// HTTP status and error code of the Confluent interface.
    pub(super) fn codes(&self) -> (u16, u32) {
        match self {
            Refusal::NoSubject(_) => (404, 40401),
            Refusal::NoVersion(_) => (404, 40402),
            Refusal::NoSchema => (404, 40403),
            Refusal::BadSchema(_) => (422, 42201),
            Refusal::BadLevel => (422, 42203),
            Refusal::Incompatible(_) => (409, 409),
        }
    }

    pub(super) fn message(&self) -> String {
        match self {
            Refusal::NoSubject(subject) => format!("subject '{subject}' not found"),
            Refusal::NoVersion(version) => format!("version {version} not found"),
            Refusal::NoSchema => "schema not found".to_owned(),
            Refusal::BadSchema(reason) => format!("input is not a valid Avro schema: {reason}"),
            Refusal::BadLevel => "invalid compatibility level".to_owned(),
            Refusal::Incompatible(reasons) => format!(
                "schema is incompatible with an earlier one: {}",
                reasons.join("; ")
            ),
        }
    }
}

/// A schema as registered under a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registered {
    pub(super) subject: String,
    pub(super) version: u32,
    pub(super) id: u32,
    pub(super) text: String,
}

struct Entry {
    text: String,
    schema: Schema,
}

#[derive(Default)]
struct Subject {
    /// Ids, in the order of their versions, from 1.
    versions: Vec<u32>,
    level: Option<Level>,
}

/// Everything that the registry knows.
#[derive(Default)]
pub(super) struct State {
    /// The id of a schema is its place in this list, from 1.
    schemas: Vec<Entry>,
    subjects: BTreeMap<String, Subject>,
    level: Level,
}

impl State {
    pub(super) fn subjects(&self) -> Vec<&str> {
        self.subjects
            .iter()
            .filter(|(_, subject)| !subject.versions.is_empty())
            .map(|(name, _)| name.as_str())
            .collect()
    }

    pub(super) fn schema(&self, id: u32) -> Result<&str, Refusal> {
        self.entry(id).map(|entry| entry.text.as_str())
    }

    fn entry(&self, id: u32) -> Result<&Entry, Refusal> {
        (id as usize)
            .checked_sub(1)
            .and_then(|index| self.schemas.get(index))
            .ok_or(Refusal::NoSchema)
    }

    pub(super) fn versions(&self, subject: &str) -> Result<Vec<u32>, Refusal> {
        match self.subjects.get(subject) {
            Some(known) if !known.versions.is_empty() => {
                Ok((1..).take(known.versions.len()).collect())
            }
            _ => Err(Refusal::NoSubject(subject.to_owned())),
        }
    }

    /// A version by number, or `latest`.
    pub(super) fn version(&self, subject: &str, version: &str) -> Result<Registered, Refusal> {
        let last = *self.versions(subject)?.last().unwrap_or(&0);
        let number = match version {
            "latest" => last,
            text => text
                .parse()
                .ok()
                .filter(|number| (1..=last).contains(number))
                .ok_or_else(|| Refusal::NoVersion(text.to_owned()))?,
        };
        let id = self
            .subjects
            .get(subject)
            .and_then(|known| known.versions.get(number as usize - 1))
            .copied()
            .ok_or(Refusal::NoSchema)?;
        Ok(Registered {
            subject: subject.to_owned(),
            version: number,
            id,
            text: self.schema(id)?.to_owned(),
        })
    }

    /// The version that is this very schema.
    pub(super) fn find(&self, subject: &str, text: &str) -> Result<Registered, Refusal> {
        let schema = parse(text)?;
        for version in self.versions(subject)? {
            let registered = self.version(subject, &version.to_string())?;
            if self.entry(registered.id)?.schema == schema {
                return Ok(registered);
            }
        }
        Err(Refusal::NoSchema)
    }

    /// The id of the schema, which becomes the newest version unless it is one already.
    pub(super) fn register(&mut self, subject: &str, text: &str) -> Result<u32, Refusal> {
        let schema = parse(text)?;
        if let Ok(known) = self.find(subject, text) {
            return Ok(known.id);
        }
        let reasons = self.against_all(subject, &schema);
        if !reasons.is_empty() {
            return Err(Refusal::Incompatible(reasons));
        }
        // One schema has one id, whatever the subject.
        let place = self.schemas.iter().position(|entry| entry.schema == schema);
        let place = place.unwrap_or_else(|| {
            self.schemas.push(Entry {
                text: text.to_owned(),
                schema,
            });
            self.schemas.len() - 1
        });
        let id = u32::try_from(place + 1).map_err(|_| Refusal::NoSchema)?;
        let known = self.subjects.entry(subject.to_owned()).or_default();
        known.versions.push(id);
        Ok(id)
    }

    /// What stands against a schema as a successor of `version`, or of all that its level looks at.
    pub(super) fn check(
        &self,
        subject: &str,
        version: Option<&str>,
        text: &str,
    ) -> Result<Vec<String>, Refusal> {
        let schema = parse(text)?;
        match version {
            None => Ok(self.against_all(subject, &schema)),
            Some(version) => {
                let old = self.version(subject, version)?;
                Ok(self.against(self.level(Some(subject)), &old, &schema))
            }
        }
    }

    fn against_all(&self, subject: &str, schema: &Schema) -> Vec<String> {
        let level = self.level(Some(subject));
        let mut versions = self.versions(subject).unwrap_or_default();
        if !level.transitive() {
            versions.drain(..versions.len().saturating_sub(1));
        }
        versions
            .iter()
            .filter_map(|version| self.version(subject, &version.to_string()).ok())
            .flat_map(|old| self.against(level, &old, schema))
            .collect()
    }

    fn against(&self, level: Level, old: &Registered, new: &Schema) -> Vec<String> {
        let Ok(entry) = self.entry(old.id) else {
            return Vec::new();
        };
        let mut reasons = Vec::new();
        let version = old.version;
        if level.backward()
            && let Err(error) = SchemaCompatibility::can_read(&entry.schema, new)
        {
            reasons.push(format!("cannot read records of version {version}: {error}"));
        }
        if level.forward()
            && let Err(error) = SchemaCompatibility::can_read(new, &entry.schema)
        {
            reasons.push(format!(
                "version {version} cannot read its records: {error}"
            ));
        }
        reasons
    }

    /// The level of a subject, or of all that have none.
    pub(super) fn level(&self, subject: Option<&str>) -> Level {
        subject
            .and_then(|name| self.subjects.get(name)?.level)
            .unwrap_or(self.level)
    }

    pub(super) fn set_level(&mut self, subject: Option<&str>, level: Level) {
        match subject {
            None => self.level = level,
            Some(name) => {
                self.subjects.entry(name.to_owned()).or_default().level = Some(level);
            }
        }
    }
}

fn parse(text: &str) -> Result<Schema, Refusal> {
    Schema::parse_str(text).map_err(|error| Refusal::BadSchema(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}"#;
    const OPTIONAL: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},
        {"name":"b","type":"int","default":0}]}"#;
    const REQUIRED: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},
        {"name":"b","type":"int"}]}"#;

    #[test]
    fn versions_and_ids() {
        let mut state = State::default();
        assert_eq!(state.versions("s"), Err(Refusal::NoSubject("s".into())));
        assert_eq!(state.register("s", V1), Ok(1));
        assert_eq!(state.register("s", V1), Ok(1));
        assert_eq!(state.register("s", OPTIONAL), Ok(2));
        assert_eq!(state.register("t", OPTIONAL), Ok(2));
        assert_eq!(state.versions("s"), Ok(vec![1, 2]));
        assert_eq!(state.version("s", "latest").map(|v| v.id), Ok(2));
        assert_eq!(state.version("s", "1").map(|v| v.id), Ok(1));
        for absent in ["0", "3", "x"] {
            assert_eq!(
                state.version("s", absent),
                Err(Refusal::NoVersion(absent.into()))
            );
        }
        assert_eq!(state.find("t", V1), Err(Refusal::NoSchema));
        assert_eq!(state.find("t", OPTIONAL).map(|v| v.version), Ok(1));
        assert_eq!(state.schema(3), Err(Refusal::NoSchema));
        assert_eq!(state.schema(0), Err(Refusal::NoSchema));
        assert_eq!(state.subjects(), ["s", "t"]);
    }

    #[test]
    fn levels_decide() {
        let mut state = State::default();
        let _ = state.register("s", V1);
        assert_eq!(state.check("s", None, OPTIONAL), Ok(vec![]));
        assert!(!state.check("s", None, REQUIRED).unwrap().is_empty());
        assert!(matches!(
            state.register("s", REQUIRED),
            Err(Refusal::Incompatible(_))
        ));
        state.set_level(Some("s"), Level::Forward);
        assert_eq!(state.check("s", Some("latest"), REQUIRED), Ok(vec![]));
        state.set_level(None, Level::None);
        assert_eq!(state.level(Some("s")), Level::Forward);
        assert_eq!(state.level(Some("t")), Level::None);
        assert!(matches!(
            state.check("s", None, "{"),
            Err(Refusal::BadSchema(_))
        ));
    }
}
