//! Server-sent events as a reader reads them (HTML §9.2.6). Shares no code with Weft.

/// One event as it stands in the stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerSentEvent {
    /// The `id` field.
    pub id: String,
    /// The `event` field.
    pub event: String,
    /// The `data` fields, joined by newlines.
    pub data: String,
}

/// Takes a stream line by line and hands over each event with the empty line that ends it.
#[derive(Debug)]
pub struct Parser<F> {
    on_event: F,
    event: ServerSentEvent,
    last_id: String,
    rest: Vec<u8>,
}

impl<F: FnMut(ServerSentEvent)> Parser<F> {
    /// A parser at the start of a stream.
    pub fn new(on_event: F) -> Self {
        Self { on_event, event: ServerSentEvent::default(), last_id: String::new(), rest: Vec::new() }
    }

    /// Forgets the event that was cut off; the id to resume from, empty if there is none.
    pub fn reconnect(&mut self) -> String {
        self.event = ServerSentEvent::default();
        self.rest.clear();
        self.last_id.clone()
    }

    /// Takes what one read brought.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.rest.extend(bytes);
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8(line).expect("a stream of UTF-8");
            self.line(line.trim_end_matches(['\n', '\r']));
        }
    }

    /// Takes a line without its end.
    pub fn line(&mut self, line: &str) {
        if line.is_empty() {
            let mut event = std::mem::take(&mut self.event);
            if !event.id.is_empty() {
                self.last_id.clone_from(&event.id);
            }
            if event.data.pop().is_some() {
                (self.on_event)(event);
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => value.clone_into(&mut self.event.id),
            "event" => value.clone_into(&mut self.event.event),
            "data" => {
                self.event.data.push_str(value);
                self.event.data.push('\n');
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_counts_with_its_empty_line() {
        let mut events = Vec::new();
        let mut parser = Parser::new(|event| events.push(event));
        parser.bytes(b": hello\n\nid: 7\nda");
        parser.bytes(b"ta: a\r\ndata:b\n\nid: 8\ndata: cut\n");
        assert_eq!(parser.reconnect(), "7");
        assert_eq!(events, [ServerSentEvent { id: "7".into(), event: String::new(), data: "a\nb".into() }]);
    }
}
