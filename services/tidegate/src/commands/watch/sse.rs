//! Server-sent events out of pieces of bytes (WHATWG HTML, 9.2.6). Pure.

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Empty if it has none.
    pub id: String,
    pub kind: String,
    /// Without the last line's end.
    pub data: String,
}

/// What is there of an event that is not whole yet.
#[derive(Debug, Default)]
pub struct Reader {
    line: Vec<u8>,
    event: Event,
}

impl Reader {
    /// The events that are whole with these bytes.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut whole = Vec::new();
        let mut lines = bytes.split(|byte| *byte == b'\n');
        self.line
            .extend_from_slice(lines.next().unwrap_or_default());
        for begun in lines {
            let line = std::mem::replace(&mut self.line, begun.to_vec());
            let line = String::from_utf8_lossy(&line);
            whole.extend(self.take(line.strip_suffix('\r').unwrap_or(&line)));
        }
        whole
    }

    /// Takes a line. An empty one ends an event; what begins with a colon is a comment.
    fn take(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let mut event = std::mem::take(&mut self.event);
            // Without any data it is none.
            return event.data.pop().map(|_| event);
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => value.clone_into(&mut self.event.id),
            "event" => value.clone_into(&mut self.event.kind),
            "data" => {
                self.event.data.push_str(value);
                self.event.data.push('\n');
            }
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_whole_however_the_stream_is_cut() {
        let stream = "retry: 2000\n\nid: 0\nevent: accepted\ndata: {}\n\n: still here\n\nid:1\r\nevent: completed\r\n\
                      data: {\"result\":\r\ndata:  \"\u{fc}\"}\r\n\r\nid: 2\nevent: started\ndata: {\"cut\"";
        let event = |id: &str, kind: &str, data: &str| Event {
            id: id.to_owned(),
            kind: kind.to_owned(),
            data: data.to_owned(),
        };
        let expected = [
            event("0", "accepted", "{}"),
            event("1", "completed", "{\"result\":\n \"\u{fc}\"}"),
        ];
        for size in 1..=stream.len() {
            let mut reader = Reader::default();
            let pieces = stream.as_bytes().chunks(size);
            let events: Vec<_> = pieces.flat_map(|piece| reader.push(piece)).collect();
            assert_eq!(events, expected, "pieces of {size}");
        }
    }
}
