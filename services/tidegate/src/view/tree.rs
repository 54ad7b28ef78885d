//! The spans of a trace as a tree.

use std::collections::{BTreeMap, BTreeSet};

use super::spans::Span;

/// What of a span's attributes is shown, and under which name.
const SHOWN: [(&str, &str); 10] = [
    ("messaging.message.conversation_id", "job"),
    ("job_id", "job"),
    ("tidegate.attempt", "attempt"),
    ("messaging.destination.partition.id", "partition"),
    ("messaging.kafka.offset", "offset"),
    ("tidegate.event", "event"),
    ("http.response.status_code", "status"),
    ("tidegate.smtp.reply_code", "reply"),
    ("error.type", "error"),
    ("otel.status_description", "error"),
];

/// Deeper than any trace of ours: what lies below is shown at this depth.
const DEEPEST: usize = 40;

/// A line of the tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Node<'s> {
    pub depth: usize,
    pub span: &'s Span,
    /// Of the root whose parent is not among the spans.
    pub orphan_of: Option<&'s str>,
}

/// The spans in the order of the tree: children under their parent, by their start. Roots come first, then the spans
/// whose parents are not here. Each span comes once, whatever its references say.
pub fn order(spans: &[Span]) -> Vec<Node<'_>> {
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.span_id.as_str()).collect();
    let mut children = BTreeMap::<&str, Vec<&Span>>::new();
    let (mut roots, mut orphans) = (Vec::new(), Vec::new());
    for span in spans {
        match span.parent_span_id.as_deref().filter(|id| !id.is_empty()) {
            None => roots.push(span),
            Some(parent) if ids.contains(parent) => children.entry(parent).or_default().push(span),
            Some(_) => orphans.push(span),
        }
    }
    for group in children.values_mut().chain([&mut roots, &mut orphans]) {
        group.sort_by_key(|span| (span.start_us, span.span_id.as_str()));
    }
    let mut walk = Walk {
        children,
        seen: BTreeSet::new(),
        nodes: Vec::with_capacity(spans.len()),
    };
    for root in roots {
        walk.down(root, 0, None);
    }
    for orphan in orphans {
        walk.down(orphan, 1, orphan.parent_span_id.as_deref());
    }
    // Spans that name each other as parents hang from nothing.
    for span in spans {
        walk.down(span, 1, span.parent_span_id.as_deref());
    }
    walk.nodes
}

struct Walk<'s> {
    children: BTreeMap<&'s str, Vec<&'s Span>>,
    seen: BTreeSet<&'s str>,
    nodes: Vec<Node<'s>>,
}

impl<'s> Walk<'s> {
    fn down(&mut self, span: &'s Span, depth: usize, orphan_of: Option<&'s str>) {
        let mut todo = vec![(span, depth, orphan_of)];
        while let Some((span, depth, orphan_of)) = todo.pop() {
            if !self.seen.insert(&span.span_id) {
                continue;
            }
            self.nodes.push(Node {
                depth,
                span,
                orphan_of,
            });
            let below = self.children.get(span.span_id.as_str());
            let below = below.into_iter().flatten().rev();
            todo.extend(below.map(|child| (*child, (depth + 1).min(DEEPEST), None)));
        }
    }
}

/// The tree as a table: name with its indentation, kind, service, start and duration in milliseconds, status, some
/// attributes.
pub fn rows(spans: &[Span]) -> Vec<Vec<String>> {
    let start = spans.iter().map(|span| span.start_us).min().unwrap_or(0);
    let mut rows = Vec::new();
    let mut missing = None;
    for node in order(spans) {
        let span = node.span;
        if node.orphan_of.is_some() && node.orphan_of != missing {
            missing = node.orphan_of;
            rows.push(vec![format!(
                "(parent not here) {}",
                missing.unwrap_or_default()
            )]);
        }
        rows.push(vec![
            format!("{}{}", "  ".repeat(node.depth), span.name),
            span.kind.clone(),
            span.service.clone(),
            format!("+{}", millis(span.start_us - start)),
            millis(span.duration_us),
            if span.error { "ERROR" } else { "ok" }.to_owned(),
            attributes(span),
        ]);
    }
    rows
}

fn millis(us: i64) -> String {
    format!("{:.3}", us as f64 / 1000.0)
}

fn attributes(span: &Span) -> String {
    let mut shown = Vec::<(&str, &str)>::new();
    for (key, name) in SHOWN {
        if let Some(value) = span.attributes.get(key)
            && !shown.iter().any(|(known, _)| *known == name)
        {
            shown.push((name, value));
        }
    }
    let shown = shown.iter().map(|(name, value)| format!("{name}={value}"));
    shown.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: &str, parent: Option<&str>, start_us: i64) -> Span {
        Span {
            span_id: id.to_owned(),
            parent_span_id: parent.map(str::to_owned),
            name: format!("span {id}"),
            kind: "internal".to_owned(),
            service: "tidegate-dev".to_owned(),
            start_us,
            duration_us: 1500,
            error: false,
            attributes: BTreeMap::new(),
        }
    }

    fn drawn(spans: &[Span]) -> Vec<String> {
        rows(spans).into_iter().map(|row| row[0].clone()).collect()
    }

    #[test]
    fn children_stand_under_their_parents_by_their_start() {
        let spans = [
            span("c", Some("a"), 30),
            span("b", Some("a"), 20),
            span("d", Some("b"), 25),
            span("a", None, 10),
        ];
        assert_eq!(
            drawn(&spans),
            ["span a", "  span b", "    span d", "  span c"]
        );
        let rows = rows(&spans);
        assert_eq!(rows[1][3..6], ["+0.010", "1.500", "ok"].map(str::to_owned));
    }

    #[test]
    fn spans_without_their_parent_are_shown_as_such() {
        let spans = [
            span("a", Some("client"), 10),
            span("b", Some("a"), 20),
            span("x", Some("gone"), 5),
        ];
        let expected = [
            "(parent not here) gone",
            "  span x",
            "(parent not here) client",
            "  span a",
            "    span b",
        ];
        assert_eq!(drawn(&spans), expected);
    }

    #[test]
    fn a_circle_is_shown_once() {
        let spans = [
            span("a", Some("b"), 1),
            span("b", Some("a"), 2),
            span("c", Some("c"), 3),
        ];
        let mut names: Vec<_> = order(&spans)
            .iter()
            .map(|node| node.span.span_id.clone())
            .collect();
        names.sort();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn an_attribute_with_two_names_is_shown_once() {
        let mut one = span("a", None, 0);
        for key in ["job_id", "messaging.message.conversation_id"] {
            one.attributes.insert(key.to_owned(), "j".to_owned());
        }
        one.attributes.insert("secret".to_owned(), "s".to_owned());
        one.error = true;
        assert_eq!(rows(&[one])[0][5..], ["ERROR", "job=j"].map(str::to_owned));
    }
}
