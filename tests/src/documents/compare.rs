//! Whether a command printed what the page says it prints.
//!
//! What differs from run to run may differ: ids, times, durations and the ports of this machine. `…` stands for
//! anything. The order of an HTTP answer's headers says nothing.

use std::collections::BTreeMap;

/// What stands on the page, and what it is in this run: job ids, and addresses of this machine.
pub type Known = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Uuid,
    Hex,
    Time,
    Seconds,
    Address,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Token(Kind, String),
    Anything,
}

/// Compares, and learns what the page's ids and addresses are in this run.
///
/// # Errors
/// Both texts, if they do not fit.
pub fn compare(page: &str, printed: &str, known: &mut Known) -> Result<(), String> {
    let (page, printed) = (tidy(page), tidy(printed));
    let mut learned = known.clone();
    if fits(&pieces(&page), &printed, None, &mut learned) {
        *known = learned;
        return Ok(());
    }
    Err(format!("the page says:\n{page}\nprinted was:\n{printed}\n"))
}

/// The ids and addresses of a text as they are in this run; `unknown` is asked for addresses that are new.
pub fn translate(text: &str, known: &mut Known, mut unknown: impl FnMut(&str) -> String) -> String {
    let translated = pieces(text).into_iter().map(|piece| match piece {
        Piece::Text(text) => text,
        Piece::Anything => "…".to_owned(),
        Piece::Token(Kind::Address, address) => known
            .entry(address)
            .or_insert_with_key(|address| unknown(address))
            .clone(),
        Piece::Token(_, text) => known.get(&text).cloned().unwrap_or(text),
    });
    translated.collect()
}

/// Whole lines without blanks at their ends, the headers of an answer sorted. A line that is only `…` stands for any
/// number of lines, so its own end goes too.
fn tidy(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    let text = lines.join("\n");
    let mut text = text.trim_matches('\n').to_owned();
    if let Some((head, body)) = text
        .split_once("\n\n")
        .filter(|_| text.starts_with("HTTP/"))
    {
        let mut head: Vec<_> = head.lines().collect();
        head[1..].sort_unstable();
        text = format!("{}\n\n{body}", head.join("\n"));
    }
    let ended = text.lines().map(|line| match line {
        "…" => line.to_owned(),
        _ => format!("{line}\n"),
    });
    ended.collect()
}

fn pieces(text: &str) -> Vec<Piece> {
    let (mut pieces, mut plain, mut at) = (Vec::new(), String::new(), 0);
    while let Some(next) = text[at..].chars().next() {
        let before = text[..at].chars().next_back();
        let piece = match token(&text[at..], before) {
            Some((kind, length)) => Piece::Token(kind, text[at..at + length].to_owned()),
            None if next == '…' => Piece::Anything,
            None => {
                plain.push(next);
                at += next.len_utf8();
                continue;
            }
        };
        at += match &piece {
            Piece::Token(_, text) => text.len(),
            _ => next.len_utf8(),
        };
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(piece);
    }
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    pieces
}

fn fits(pieces: &[Piece], text: &str, before: Option<char>, known: &mut Known) -> bool {
    let Some((piece, rest)) = pieces.split_first() else {
        return text.is_empty();
    };
    match piece {
        Piece::Text(wanted) => text
            .strip_prefix(wanted.as_str())
            .is_some_and(|after| fits(rest, after, wanted.chars().next_back(), known)),
        Piece::Token(kind, wanted) => {
            let Some((_, length)) = token(text, before).filter(|(found, _)| found == kind) else {
                return false;
            };
            let (found, after) = text.split_at(length);
            if matches!(kind, Kind::Uuid | Kind::Address) {
                let real = known
                    .entry(wanted.clone())
                    .or_insert_with(|| found.to_owned());
                if real != found {
                    return false;
                }
            }
            fits(rest, after, found.chars().next_back(), known)
        }
        Piece::Anything => {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            for end in ends {
                let mut tried = known.clone();
                let before = text[..end].chars().next_back().or(before);
                if fits(rest, &text[end..], before, &mut tried) {
                    *known = tried;
                    return true;
                }
            }
            false
        }
    }
}

/// What a text begins with, if that differs from run to run, and its length.
fn token(text: &str, before: Option<char>) -> Option<(Kind, usize)> {
    // In the middle of a word nothing begins.
    if before.is_some_and(|c| c.is_ascii_alphanumeric()) {
        return None;
    }
    let fixed = |shape: &str| shaped(text, shape).then_some(shape.len());
    if let Some(length) = fixed("hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh") {
        return Some((Kind::Uuid, length));
    }
    if let Some(length) = fixed("aaa, dd aaa dddd dd:dd:dd GMT") {
        return Some((Kind::Time, length));
    }
    if let Some(length) = fixed("dddd-dd-ddTdd:dd:dd") {
        let fraction = text[length..]
            .strip_prefix('.')
            .map_or(0, |rest| 1 + digits(rest));
        return text[length + fraction..]
            .starts_with('Z')
            .then_some((Kind::Time, length + fraction + 1));
    }
    if let Some(port) = text.strip_prefix("127.0.0.1:") {
        return (digits(port) > 0).then_some((Kind::Address, "127.0.0.1:".len() + digits(port)));
    }
    if let Some(seconds) = text.strip_prefix("dur=") {
        let length = seconds
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(seconds.len());
        return Some((Kind::Seconds, "dur=".len() + length));
    }
    let hex = text.find(|c: char| !hexadecimal(c)).unwrap_or(text.len());
    let ends = !text[hex..].starts_with(|c: char| c.is_ascii_alphanumeric());
    (ends && matches!(hex, 16 | 32)).then_some((Kind::Hex, hex))
}

fn digits(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len())
}

fn hexadecimal(c: char) -> bool {
    c.is_ascii_digit() || ('a'..='f').contains(&c)
}

/// In a shape, `h` is a hexadecimal digit, `d` a decimal one and `a` a letter; anything else is itself.
fn shaped(text: &str, shape: &str) -> bool {
    let mut found = text.chars();
    shape.chars().all(|wanted| {
        found.next().is_some_and(|c| match wanted {
            'h' => hexadecimal(c),
            'd' => c.is_ascii_digit(),
            'a' => c.is_ascii_alphabetic(),
            _ => c == wanted,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "01a1fc70-341f-758d-9184-0e09fe6b7e18";
    const B: &str = "01b2fc70-341f-758d-9184-0e09fe6b7e19";

    fn fit(page: &str, printed: &str) -> Option<Known> {
        let mut known = Known::new();
        compare(page, printed, &mut known).ok().map(|()| known)
    }

    #[test]
    fn what_differs_from_run_to_run_may_differ() {
        for (page, printed) in [
            ("at 2026-11-21T04:50:01.052Z", "at 2027-01-01T00:00:00.9Z"),
            (
                "date: Sat, 21 Nov 2026 04:49:33 GMT",
                "date: Mon, 01 Jan 2027 00:00:00 GMT",
            ),
            (
                "produce;dur=1.394, queue;dur=0.606",
                "produce;dur=11, queue;dur=0.1",
            ),
            (
                "00-5f3e8ddbd03509be9650ea399ad0c0ca-8282986892a31870-01",
                "00-00000000000000000000000000000001-0000000000000002-01",
            ),
            ("a\n…\nz\n", "a\nb\nc\nz"),
            ("…\na\n…\n", "a"),
            ("…\na\n…\n", "x\na\nz\n"),
            (
                "{\"status\":\"completed\",…}",
                "{\"status\":\"completed\",\"attempt\":1}",
            ),
        ] {
            assert!(fit(page, printed).is_some(), "{page} / {printed}");
        }
    }

    #[test]
    fn everything_else_must_be_the_same() {
        for (page, printed) in [
            ("16", "17"),
            ("1 attempt", "1 attempt more"),
            ("an attempt", "attempt"),
            ("2026-11-21T04:50:01Z", "soon"),
            (A, "none"),
            ("id abcdef0123456789", "id abcdef01234567890"),
            ("a…z", "ab"),
            ("a\n…\n", "ab"),
            ("", "an error"),
        ] {
            assert!(fit(page, printed).is_none(), "{page} / {printed}");
        }
    }

    #[test]
    fn headers_come_in_any_order_and_bodies_do_not() {
        let page = "HTTP/1.1 200 OK\nb: 1\na: 2\n\nx\ny\n";
        assert!(fit(page, "HTTP/1.1 200 OK\r\na: 2\r\nb: 1\r\n\r\nx\ny").is_some());
        assert!(fit(page, "HTTP/1.1 200 OK\r\na: 2\r\nb: 1\r\n\r\ny\nx").is_none());
        assert!(fit(page, "HTTP/1.1 200 OK\r\na: 2\r\n\r\nx\ny").is_none());
    }

    #[test]
    fn ids_and_ports_are_learned_and_stay_what_they_are() {
        let mut known = Known::new();
        compare(
            &format!("at 127.0.0.1:8080 {A}"),
            &format!("at 127.0.0.1:4711 {B}"),
            &mut known,
        )
        .unwrap();
        let command = translate(
            &format!("curl 127.0.0.1:8080/{A} 127.0.0.1:1"),
            &mut known,
            |_| "free".to_owned(),
        );
        assert_eq!(command, format!("curl 127.0.0.1:4711/{B} free"));
        assert!(compare(A, B, &mut known).is_ok());
        assert!(compare(A, A, &mut known).is_err(), "another id than before");
        assert!(fit(&format!("{A} {A}"), &format!("{A} {B}")).is_none());
    }
}
