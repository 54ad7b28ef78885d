//! Is this JSON? Pure; reads the text once and builds nothing.

use serde::de::IgnoredAny;

/// Where a body stops being JSON. Columns count bytes; both begin at 1, and column 0 is before the first byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotJson {
    pub line: usize,
    pub column: usize,
    /// Why, without any of the body's text.
    pub reason: String,
}

/// Checks that `body` is one JSON value in UTF-8. Neither deep nesting nor a long text costs stack or memory.
pub fn check(body: &[u8]) -> Result<(), NotJson> {
    if body.is_empty() {
        return Err(NotJson {
            line: 1,
            column: 0,
            reason: "the body is empty".to_owned(),
        });
    }
    let text = std::str::from_utf8(body).map_err(|error| {
        let good = body.get(..error.valid_up_to()).unwrap_or_default();
        NotJson {
            line: 1 + good.iter().filter(|byte| **byte == b'\n').count(),
            column: 1 + good.iter().rev().take_while(|byte| **byte != b'\n').count(),
            reason: "the text is not UTF-8".to_owned(),
        }
    })?;
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) => Ok(()),
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            let text = error.to_string();
            let place = format!(" at line {line} column {column}");
            Err(NotJson {
                line,
                column,
                reason: text.strip_suffix(&place).unwrap_or(&text).to_owned(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(body: &[u8]) -> Option<(usize, usize)> {
        check(body).err().map(|e| (e.line, e.column))
    }

    #[test]
    fn line_and_column_are_told() {
        assert_eq!(place(b"{\"a\": [1, 2.5e3, null, \"\\u00e4\"]}\n"), None);
        assert_eq!(place(b"7"), None);
        assert_eq!(place(b""), Some((1, 0)));
        assert_eq!(place(b"{\"a\":1,\n \"b\":}"), Some((2, 6)));
        assert_eq!(place(b"{} {}"), Some((1, 4)));
        assert_eq!(place(b"{\n\"a\":\"\xff\"}"), Some((2, 6)));
        assert_eq!(check(b"nope").unwrap_err().reason, "expected ident");
    }

    #[test]
    fn depth_costs_nothing() {
        let mut deep = vec![b'['; 800_000];
        assert_eq!(place(&deep), Some((1, 800_000)));
        deep.extend(std::iter::repeat_n(b']', 800_000));
        assert_eq!(place(&deep), None);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_parser(body in prop::collection::vec(any::<u8>(), 0..64)) {
            let full = serde_json::from_slice::<serde_json::Value>(&body).is_ok();
            if full {
                prop_assert!(check(&body).is_ok());
            }
        }

        #[test]
        fn jsonish_text_never_panics(body in "[\\[\\]{}:,\"\\\\0-9a-ntrue \n-]{0,40}") {
            if serde_json::from_str::<serde_json::Value>(&body).is_ok() {
                prop_assert!(check(body.as_bytes()).is_ok());
            }
        }
    }
}
