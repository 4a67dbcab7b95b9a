//! `curl` as a reader of server-sent events. When the stream ends it is asked for again from the last event on, as a
//! browser's EventSource does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::process::Process;
use crate::util::pause;

/// A reader that runs until it is dropped.
#[derive(Debug)]
pub struct EventStream(JoinHandle<()>);

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

impl EventStream {
    /// Reads `url`, and hands over each event.
    pub fn open(url: String, on_event: impl FnMut(ServerSentEvent) + Send + 'static) -> Self {
        let parser = Arc::new(Mutex::new(Parser {
            on_event,
            event: ServerSentEvent::default(),
            last_id: String::new(),
        }));
        Self(tokio::spawn(async move {
            loop {
                let last_id = {
                    let mut parser = parser.lock().unwrap();
                    parser.event = ServerSentEvent::default();
                    parser.last_id.clone()
                };
                let mut command = Command::new("curl");
                command.args(["-sS", "-N", "-H", "Accept: text/event-stream"]);
                if !last_id.is_empty() {
                    command.arg("-H").arg(format!("Last-Event-ID: {last_id}"));
                }
                command.arg(&url);
                let parser = parser.clone();
                let mut curl = Process::start("curl", command, move |line| parser.lock().unwrap().line(line));
                curl.wait(Duration::from_secs(3600)).await;
                pause(Duration::from_millis(50)).await;
            }
        }))
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads lines as the HTML standard says (§9.2.6): an event counts once its empty line has come.
struct Parser<F> {
    on_event: F,
    event: ServerSentEvent,
    last_id: String,
}

impl<F: FnMut(ServerSentEvent)> Parser<F> {
    fn line(&mut self, line: &str) {
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
        let events = Arc::new(Mutex::new(Vec::new()));
        let sink = events.clone();
        let on_event = move |event| sink.lock().unwrap().push(event);
        let mut parser = Parser { on_event, event: ServerSentEvent::default(), last_id: String::new() };
        for line in [": hello", "", "id: 7", "data: a", "data:b", "", "id: 8", "data: cut"] {
            parser.line(line);
        }
        let expected = ServerSentEvent { id: "7".into(), event: String::new(), data: "a\nb".into() };
        assert_eq!(*events.lock().unwrap(), [expected]);
        assert_eq!(parser.last_id, "7");
    }
}
