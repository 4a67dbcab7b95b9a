//! Sends what is told of messages to the topic of traces, some at a time. What finds no room, or cannot be sent, is dropped: a
//! trace holds up nothing.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use super::client::{Client, locked, now_ms};
use crate::error::CallError;
use crate::request;
use crate::trace::{GROUP, TOPIC, Told, message};

/// What waits to be told.
pub(super) const WAITING: usize = 4096;
/// Of one message: as RocketMQ's own clients do.
const MOST: usize = 100;
const WAIT: Duration = Duration::from_millis(500);

/// Where to tell of messages.
#[derive(Clone, Debug)]
pub(super) struct Tracer(pub(super) mpsc::Sender<Told>);

impl Tracer {
    /// Tells of a message, if there is room.
    pub(super) fn tell(&self, told: Told) {
        self.0.try_send(told).unwrap_or_else(|_| debug!("a trace is dropped"));
    }
}

/// Sends traces of `client` as long as there is anything to tell. Never ends.
pub(super) async fn run(client: &Client) {
    let told = locked(&client.traces).take();
    let Some(mut told) = told else { return std::future::pending().await };
    let mut lane = 0;
    while let Some(first) = told.recv().await {
        let mut batch = vec![first];
        let until = Instant::now() + WAIT;
        while batch.len() < MOST
            && let Ok(Some(more)) = timeout_at(until, told.recv()).await
        {
            batch.push(more);
        }
        if let Err(error) = send(client, &batch, lane).await {
            debug!(%error, count = batch.len(), "traces are dropped");
        }
        lane += 1;
    }
    std::future::pending().await
}

async fn send(client: &Client, batch: &[Told], lane: u64) -> Result<(), CallError> {
    let route = client.route(TOPIC).await?;
    let no_queue = || CallError::NoQueue(TOPIC.to_owned());
    let now = Instant::now().into_std();
    let queue = client.avoided().choose(&route.writable, lane, now).cloned().ok_or_else(no_queue)?;
    let Some(message) = message(batch) else { return Ok(()) };
    let command = request::send(GROUP, TOPIC, &queue, now_ms(), (0, &[message]));
    client.ask_well(&queue.addr, command).await.map(drop)
}
