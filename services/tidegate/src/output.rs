//! What is printed: results on standard output, complaints on standard error.
//!
//! A reader that went away (`tidegate config | head -1`) is no reason to fail, so write errors are dropped here.

use std::io::{IsTerminal, Write};

/// One line, flushed: whoever started the process may be waiting for it.
pub fn line(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.as_ref());
    let _ = out.flush();
}

/// One line; `false` once nobody reads any more, so that an endless command ends with its reader.
pub fn is_read(text: impl AsRef<str>) -> bool {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", text.as_ref()).is_ok() && out.flush().is_ok()
}

/// Bytes as they are.
pub fn bytes(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes);
    let _ = out.flush();
}

/// Lines on standard error, each with the program's name.
pub fn complain(text: impl AsRef<str>) {
    let mut err = std::io::stderr().lock();
    for line in text.as_ref().lines() {
        let _ = writeln!(err, "tidegate: {line}");
    }
}

/// How far something is, on standard error: written over and over on a terminal, else a line of its own.
pub fn progress(text: impl AsRef<str>) {
    let mut err = std::io::stderr().lock();
    let text = text.as_ref();
    let _ = match err.is_terminal() {
        true => write!(err, "\r\x1b[K{text}"),
        false => writeln!(err, "{text}"),
    };
    let _ = err.flush();
}

/// Rows in columns; if there are none, what is said in their place.
pub fn rows(none: &str, head: &[&str], rows: &[Vec<String>]) {
    match rows {
        [] => line(none),
        rows => line(table(head, rows)),
    }
}

/// Rows in columns, as wide as their widest cell; the last column is not padded.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows = rows
        .iter()
        .map(|row| row.iter().map(|cell| plain(cell)).collect());
    let rows: Vec<Vec<String>> = rows.collect();
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&head).chain(&rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text.pop();
    text
}

/// A text of others that neither breaks a line nor commands the terminal.
pub fn plain(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(plain).collect()
}

/// A word of a command line that somebody may paste into a shell.
pub fn shell_word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:=@%,".contains(&b);
    match !text.is_empty() && text.bytes().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_survives_the_shell() {
        for (text, word) in [
            ("/home/ada/worker.toml", "/home/ada/worker.toml"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's $HOME", r"'it'\''s $HOME'"),
        ] {
            assert_eq!(shell_word(text), word);
        }
    }

    #[test]
    fn a_cell_cannot_break_out() {
        let rows = vec![vec!["a\nb\u{1b}[2J".to_owned()]];
        assert_eq!(table(&["x"], &rows), "x\na\u{fffd}b\u{fffd}[2J");
    }

    #[test]
    fn columns_line_up_and_lines_end_without_blanks() {
        let rows = vec![
            vec!["replies".to_owned(), "64".to_owned()],
            vec!["x".to_owned(), "".to_owned()],
        ];
        assert_eq!(
            table(&["topic", "partitions"], &rows),
            "topic    partitions\nreplies  64\nx"
        );
    }
}
