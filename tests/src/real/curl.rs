//! `curl` as a reader of server-sent events. When the stream ends it is asked for again from the last event on, as a
//! browser's EventSource does.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::process::Process;
use crate::sse::{Parser, ServerSentEvent};
use crate::util::pause;

/// A reader that runs until it is dropped.
#[derive(Debug)]
pub struct EventStream(JoinHandle<()>);

impl EventStream {
    /// Reads `url`, and hands over each event.
    pub fn open(url: String, on_event: impl FnMut(ServerSentEvent) + Send + 'static) -> Self {
        let parser = Arc::new(Mutex::new(Parser::new(on_event)));
        Self(tokio::spawn(async move {
            loop {
                let last_id = parser.lock().unwrap().reconnect();
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
