//! What is wrong, in one sentence, without secrets.

use figment::Error;
use figment::error::{Actual, Kind};

use super::describe::dotted;
use super::layers::{Layer, located};

/// The path of what is wrong, to the key itself where serde stopped at its table.
pub(super) fn full_path(error: &Error) -> Vec<String> {
    let mut path = error.path.clone();
    let last = match &error.kind {
        Kind::UnknownField(field, _) => field.as_str(),
        Kind::MissingField(field) => field.as_ref(),
        _ => return path,
    };
    if path.last().map(String::as_str) != Some(last) {
        path.push(last.to_owned());
    }
    path
}

/// `SOURCE: KEY: what was found; what is allowed`. The source of a key in a file has the line in it.
pub(super) fn sentence(error: &Error, layers: &[Layer]) -> String {
    let path = full_path(error);
    let key = dotted(&path);
    let hidden = path.iter().any(|part| sounds_secret(part)) || expects_secret(&error.kind);
    let found = |actual: &Actual| {
        if hidden {
            "a value of another kind".to_owned()
        } else {
            shown(actual)
        }
    };
    let what = match &error.kind {
        Kind::UnknownField(field, known) => {
            format!("unknown key; {}", choice(field, known, "keys here"))
        }
        Kind::UnknownVariant(given, known) => {
            let given = if hidden { "a value" } else { given.as_str() };
            format!(
                "found {}; {}",
                quoted(given),
                choice(given, known, "allowed")
            )
        }
        Kind::MissingField(_) => "is missing, and has no default".to_owned(),
        Kind::InvalidType(actual, expected) if is_table(expected) => {
            // A value in the place of a table may be any of the values in it.
            format!("found {}; allowed is a table", sort(actual))
        }
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) => {
            format!("found {}; allowed is {}", found(actual), allowed(expected))
        }
        Kind::InvalidLength(length, expected) => {
            format!("found {length} elements; allowed is {}", allowed(expected))
        }
        Kind::DuplicateField(_) => "is given twice".to_owned(),
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => "is out of range".to_owned(),
        Kind::Unsupported(actual) | Kind::UnsupportedKey(actual, _) => {
            format!("{} cannot stand here", sort(actual))
        }
        Kind::Message(_) if hidden => "is not usable".to_owned(),
        Kind::Message(message) => message.replace('\n', ", "),
    };
    let source = error.metadata.as_ref().map(|metadata| &*metadata.name);
    let layer = match source {
        Some(source) => layers.iter().find(|layer| layer.source == source),
        // What is missing has no source: it belongs where most of the way to it is written.
        None => layers
            .iter()
            .rev()
            .max_by_key(|layer| layer.positions.depth(&path))
            .filter(|layer| layer.positions.depth(&path) > 0),
    };
    let source = layer
        .map(|layer| located(&layer.source, layer.positions.near(&path)))
        .unwrap_or_else(|| source.unwrap_or("configuration").to_owned());
    let line = if key.is_empty() {
        format!("{source}: {what}")
    } else {
        format!("{source}: {key}: {what}")
    };
    mask_passwords(&line)
}

/// The nearest of the known names, and all of them.
fn choice(given: &str, known: &[&str], what: &str) -> String {
    if known.is_empty() {
        return "none is known here".to_owned();
    }
    let hint = tidegate_contract::nearest(given, known.iter().copied())
        .map(|near| format!("did you mean `{near}`? "))
        .unwrap_or_default();
    format!("{hint}{what}: {}", known.join(", "))
}

fn is_table(expected: &str) -> bool {
    let expected = expected.to_lowercase();
    [
        "struct ",
        "map",
        "a map",
        "internally tagged",
        "adjacently tagged",
    ]
    .iter()
    .any(|start| expected.starts_with(start))
}

/// What serde expects, in the words of somebody who writes a configuration.
fn allowed(expected: &str) -> String {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a string" | "a borrowed string" => "text in quotes".to_owned(),
        "a sequence" => "an array".to_owned(),
        "a duration" => "a duration such as \"500ms\" or \"1m 30s\"".to_owned(),
        "path string" => "a path in quotes".to_owned(),
        other => other
            .strip_prefix("enum ")
            .map_or_else(|| other.to_owned(), |_| "one of its names".to_owned()),
    }
}

fn shown(actual: &Actual) -> String {
    match actual {
        Actual::Bool(truth) => truth.to_string(),
        Actual::Unsigned(number) => number.to_string(),
        Actual::Signed(number) => number.to_string(),
        Actual::Float(number) => number.to_string(),
        Actual::Char(c) => quoted(&c.to_string()),
        Actual::Str(text) => quoted(text),
        other => sort(other).to_owned(),
    }
}

/// The sort of a value without the value.
fn sort(actual: &Actual) -> &'static str {
    match actual {
        Actual::Bool(_) => "a truth value",
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => "a number",
        Actual::Char(_) | Actual::Str(_) => "text",
        Actual::Seq => "an array",
        Actual::Map => "a table",
        Actual::Unit | Actual::Option => "nothing",
        _ => "something else",
    }
}

fn quoted(text: &str) -> String {
    let short: String = text.chars().take(80).collect();
    let rest = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{rest}")
}

/// [`Secret`](tidegate_contract::Secret) expects `a secret`, which tells its errors from those of other text.
fn expects_secret(kind: &Kind) -> bool {
    matches!(kind, Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) if expected.starts_with("a secret"))
}

/// Whether a key is one that people keep secrets under, whatever its type is.
fn sounds_secret(part: &str) -> bool {
    let part = part.to_lowercase();
    [
        "password",
        "passwd",
        "secret",
        "token",
        "credential",
        "sasl",
        "private",
    ]
    .iter()
    .any(|word| part.contains(word))
}

/// `scheme://user:password@host` with `***` for the password, wherever it stands in a text. Rather too much is hidden
/// than too little: the password may hold any character but a blank or a quote.
pub fn mask_passwords(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(scheme) = rest.find("://") {
        let (head, tail) = rest.split_at(scheme + 3);
        out.push_str(head);
        let end = tail
            .find([' ', '\n', '\t', '"', '\'', '`'])
            .unwrap_or(tail.len());
        let (url, after) = tail.split_at(end);
        match (url.find(':'), url.rfind('@')) {
            (Some(colon), Some(at)) if colon < at => {
                out.push_str(&url[..colon]);
                out.push_str(":***");
                out.push_str(&url[at..]);
            }
            _ => out.push_str(url),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}
