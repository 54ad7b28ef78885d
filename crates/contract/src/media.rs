//! Media types.

/// Whether a media type, with or without parameters, is one of JSON: `application/json`, or one that ends with `+json`
/// (RFC 6839, 3.1).
pub fn is_json(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || essence
            .get(essence.len().saturating_sub(5)..)
            .is_some_and(|end| end.eq_ignore_ascii_case("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_by_the_essence_alone() {
        for json in [
            "application/json",
            " Application/JSON ; charset=utf-8",
            "application/problem+json; x=y",
        ] {
            assert!(is_json(json), "{json}");
        }
        for other in [
            "",
            "json",
            "application/jsonl",
            "text/plain; a=+json",
            "a/\u{e9}json",
        ] {
            assert!(!is_json(other), "{other}");
        }
    }
}
