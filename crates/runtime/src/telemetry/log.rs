//! Log lines: an event with the fields of the spans around it, and the ids of its trace.
//!
//! Whatever a span is given as `job_id`, every line within it carries. Fields of inner spans win over outer ones, and
//! the event's own over both. `otel.*` fields are for traces only.

use std::fmt::{self, Write as _};
use std::io::{IsTerminal, Write as _};

use opentelemetry::trace::TraceContextExt;
use serde_json::{Map, Value};
use tidegate_contract::{now_millis, time::rfc3339};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::LogFormat;

/// Writes one line an event.
pub(super) struct LogLayer<W> {
    format: LogFormat,
    colour: bool,
    writer: W,
}

impl LogLayer<fn() -> std::io::Stderr> {
    /// To standard error; coloured when that is a terminal and lines are for people.
    pub(super) fn stderr(format: LogFormat) -> Self {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self {
            format,
            colour,
            writer: std::io::stderr,
        }
    }
}

/// The fields of one span, kept in its extensions as they came: most spans never see a line, so only a line pays for
/// its form. Text lies in one buffer. A field that is set again is there twice, the later one counts.
#[derive(Default)]
struct SpanFields {
    fields: Vec<(&'static str, Kept)>,
    text: String,
}

/// A field's value.
enum Kept {
    /// A range of the buffer.
    Text(usize, usize),
    Other(Value),
}

impl SpanFields {
    fn keep(&mut self, field: &Field, value: Kept) {
        if let Some(name) = shown_name(field) {
            self.fields.push((name, value));
        }
    }

    fn add_to(&self, lines: &mut Map<String, Value>) {
        for (name, value) in &self.fields {
            let value = match value {
                Kept::Text(from, to) => {
                    Value::String(self.text.get(*from..*to).unwrap_or_default().to_owned())
                }
                Kept::Other(value) => value.clone(),
            };
            lines.insert((*name).to_owned(), value);
        }
    }
}

impl Visit for SpanFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if shown_name(field).is_none() {
            return;
        }
        let from = self.text.len();
        let _ = write!(self.text, "{value:?}");
        self.keep(field, Kept::Text(from, self.text.len()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if shown_name(field).is_none() {
            return;
        }
        let from = self.text.len();
        self.text.push_str(value);
        self.keep(field, Kept::Text(from, self.text.len()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, Kept::Other(value.into()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, Kept::Other(value.into()));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, Kept::Other(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, Kept::Other(value.into()));
    }
}

/// The name of a field in a line; `None` for what is for traces only.
fn shown_name(field: &Field) -> Option<&'static str> {
    let name = field.name();
    let is_shown = !name.starts_with("otel.");
    is_shown.then(|| name.strip_prefix("r#").unwrap_or(name))
}

/// The fields of one event.
#[derive(Default)]
struct EventFields(Map<String, Value>);

impl<S, W> Layer<S> for LogLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, cx: Context<'_, S>) {
        if let Some(span) = cx.span(id) {
            let mut fields = SpanFields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, cx: Context<'_, S>) {
        if let Some(span) = cx.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<SpanFields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, cx: Context<'_, S>) {
        let mut own = EventFields::default();
        event.record(&mut own);
        let mut own = own.0;
        let message = own.remove("message").map(plain).unwrap_or_default();
        // Records of the `log` crate arrive under the target `log`, with their own in a field.
        let target = own.remove("log.target").map(plain);
        own.retain(|name, _| !name.starts_with("log."));

        let mut context = Map::new();
        if let Some(scope) = cx.event_scope(event) {
            for span in scope.from_root() {
                if let Some(fields) = span.extensions().get::<SpanFields>() {
                    fields.add_to(&mut context);
                }
            }
        }
        // Entering a span makes its trace context the current one, so this costs no look-up and starts no span.
        let current = opentelemetry::Context::current();
        let ids = current.span().span_context().clone();
        if ids.is_valid() {
            context.insert(
                "trace_id".to_owned(),
                Value::String(ids.trace_id().to_string()),
            );
            context.insert(
                "span_id".to_owned(),
                Value::String(ids.span_id().to_string()),
            );
        }
        context.retain(|name, _| !own.contains_key(name));

        let line = Line {
            time: rfc3339(now_millis()),
            level: *event.metadata().level(),
            target: target.as_deref().unwrap_or(event.metadata().target()),
            message: &message,
            own,
            context,
        };
        let text = match self.format {
            LogFormat::Json => line.json(),
            LogFormat::Text => line.text(self.colour),
        };
        // Standard error that has gone is no reason to end.
        let _ = self
            .writer
            .make_writer_for(event.metadata())
            .write_all(text.as_bytes());
    }
}

struct Line<'a> {
    time: String,
    level: Level,
    target: &'a str,
    message: &'a str,
    own: Map<String, Value>,
    context: Map<String, Value>,
}

impl Line<'_> {
    fn json(self) -> String {
        let mut object = Map::new();
        object.insert("timestamp".to_owned(), Value::String(self.time));
        object.insert("level".to_owned(), Value::String(self.level.to_string()));
        object.insert("target".to_owned(), Value::String(self.target.to_owned()));
        object.insert("message".to_owned(), Value::String(self.message.to_owned()));
        for (name, value) in self.context.into_iter().chain(self.own) {
            // A field must not pass for one of the four above.
            object.entry(name).or_insert(value);
        }
        let mut text = Value::Object(object).to_string();
        text.push('\n');
        text
    }

    fn text(self, colour: bool) -> String {
        let (paint, dim, plain) = match (colour, self.level) {
            (false, _) => ("", "", ""),
            (true, Level::ERROR) => ("\x1b[31m", "\x1b[2m", "\x1b[0m"),
            (true, Level::WARN) => ("\x1b[33m", "\x1b[2m", "\x1b[0m"),
            (true, _) => ("\x1b[32m", "\x1b[2m", "\x1b[0m"),
        };
        let mut text = format!(
            "{dim}{}{plain} {paint}{:>5}{plain} {dim}{}{plain}: {}",
            self.time,
            self.level.as_str(),
            self.target,
            Visible(self.message),
        );
        for (name, value) in &self.own {
            let _ = write!(text, " {dim}{name}={plain}{}", shown(value));
        }
        for (name, value) in &self.context {
            let _ = write!(text, " {dim}{name}={}{plain}", shown(value));
        }
        text.push('\n');
        text
    }
}

/// A field's value in a line for people: quoted where it would not read as one word.
fn shown(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains([' ', '"', '=']) => {
            Visible(text).to_string()
        }
        other => other.to_string(),
    }
}

/// Text without its control characters: a value must not forge a line or move a terminal's cursor.
struct Visible<'a>(&'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

fn plain(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

impl EventFields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        if let Some(name) = shown_name(field) {
            self.0.insert(name.to_owned(), value.into());
        }
    }
}

impl Visit for EventFields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string());
    }
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
