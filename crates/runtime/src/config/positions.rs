//! Where in a file each key stands, so that a problem with it can name the line.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Line and column, both from 1.
pub(super) type Position = (usize, usize);

/// The keys of a TOML text by their paths.
#[derive(Clone, Debug, Default)]
pub(super) struct Positions {
    keys: BTreeMap<Vec<String>, Position>,
}

impl Positions {
    /// Empty for a text that is not TOML: its error has a position of its own.
    pub(super) fn of(text: &str) -> Self {
        let mut positions = Self::default();
        if let Ok(document) = DeTable::parse(text) {
            let lines = Lines::of(text);
            positions.visit(&lines, document.get_ref(), &mut Vec::new());
        }
        positions
    }

    fn visit(&mut self, lines: &Lines<'_>, table: &DeTable<'_>, path: &mut Vec<String>) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            let at = lines.position(key.span().start);
            self.keys.insert(path.clone(), at);
            self.visit_value(lines, value, path);
            path.pop();
        }
    }

    fn visit_value(
        &mut self,
        lines: &Lines<'_>,
        value: &Spanned<DeValue<'_>>,
        path: &mut Vec<String>,
    ) {
        match value.get_ref() {
            DeValue::Table(inner) => self.visit(lines, inner, path),
            DeValue::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    let at = lines.position(item.span().start);
                    self.keys.insert(path.clone(), at);
                    self.visit_value(lines, item, path);
                    path.pop();
                }
            }
            _ => {}
        }
    }

    /// The position of a key, or of the nearest table around it that the file has.
    pub(super) fn near(&self, path: &[String]) -> Option<Position> {
        (1..=path.len())
            .rev()
            .find_map(|length| self.keys.get(&path[..length]).copied())
    }

    /// How many parts of a path the file has.
    pub(super) fn depth(&self, path: &[String]) -> usize {
        (1..=path.len())
            .rev()
            .find(|length| self.keys.contains_key(&path[..*length]))
            .unwrap_or(0)
    }
}

/// The starts of the lines of a text.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let starts = std::iter::once(0).chain(ends).collect();
        Self { text, starts }
    }

    fn position(&self, at: usize) -> Position {
        let at = at.min(self.text.len());
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..at).unwrap_or_default();
        (line, before.chars().count() + 1)
    }
}

/// The position of a byte in a text.
pub(super) fn position(text: &str, at: usize) -> Position {
    Lines::of(text).position(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(parts: &[&str]) -> Vec<String> {
        parts.iter().map(|part| (*part).to_owned()).collect()
    }

    #[test]
    fn keys_are_found_where_they_stand() {
        let text = "# é\n[types.echo]\n  wait = \"1s\"\nhandler = { kind = \"echo\" }\n\n[[routes]]\npath = \"/a\"\n";
        let positions = Positions::of(text);
        for (key, at) in [
            (&["types", "echo"][..], Some((2, 8))),
            (&["types", "echo", "wait"], Some((3, 3))),
            (&["types", "echo", "handler", "kind"], Some((4, 13))),
            (&["types", "echo", "handler", "url"], Some((4, 1))),
            (&["types", "echo", "pool"], Some((2, 8))),
            (&["routes", "0", "path"], Some((7, 1))),
            (&["worker"], None),
        ] {
            assert_eq!(positions.near(&path(key)), at, "{key:?}");
        }
        assert_eq!(positions.depth(&path(&["types", "echo", "pool"])), 2);
    }

    proptest! {
        #[test]
        fn any_text_and_any_byte_is_somewhere(text in "\\PC*(\n\\PC*){0,5}", at in 0usize..200) {
            let (line, column) = position(&text, at);
            prop_assert!(line >= 1 && line <= text.matches('\n').count() + 1);
            prop_assert!(column >= 1);
            let _ = Positions::of(&text);
        }
    }
}
