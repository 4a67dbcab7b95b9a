//! Checkpoints: the state of durable sessions and retained events as of a position of the log, so that recovery replays
//! only what is behind it, and the log may free what is before it.

mod image;
mod restore;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::Arc;

use bytes::Bytes;
use event::store::{Append, Entry, Position};
use event::{Durability, Reject};
use tokio::task::JoinHandle;

use crate::held;
use crate::notes::EventNote;
use crate::retained::Kept;
use crate::shared::Shared;
use crate::wills;

pub(crate) use restore::{Told, restore};
use walk::Walk;

/// Retained events that stand so many checkpoints back are appended again, so that their segments can be freed.
const MOVE_AFTER: u64 = 4;
/// Sessions, positions and retained events that are taken at once. Dispatch waits that long: some 50 µs.
const PIECE: usize = 1024;

/// When checkpoints are made.
pub(crate) struct Schedule {
    last: Position,
    running: Option<JoinHandle<()>>,
}

impl Schedule {
    /// `last`: where the checkpoint stands that recovery began with. What was replayed behind it counts: else a Weft that
    /// is killed again and again would never make one, and replay more each time.
    pub(crate) fn new(last: Position) -> Self {
        Self { last, running: None }
    }

    /// Makes a checkpoint if the log grew enough and none is being made.
    pub(crate) fn after(&mut self, shared: &Arc<Shared>, up_to: Position) {
        let grown = up_to.0.saturating_sub(self.last.0);
        if grown < shared.options.checkpoint_bytes.0
            || self.running.as_ref().is_some_and(|task| !task.is_finished())
        {
            return;
        }
        self.last = up_to;
        let shared = Arc::clone(shared);
        self.running = Some(tokio::spawn(async move {
            if let Err(reject) = now(&shared).await {
                tracing::warn!(%reject, "a checkpoint was not kept; the one before it holds");
            }
        }));
    }
}

/// Makes a checkpoint of what was dispatched, and waits until it is kept.
pub(crate) async fn now(shared: &Arc<Shared>) -> Result<(), Reject> {
    let mut walk = Walk::new(shared);
    while walk.step(shared, PIECE) {
        tokio::task::yield_now().await;
    }
    keep(shared, walk).await
}

async fn keep(shared: &Shared, walk: Walk) -> Result<(), Reject> {
    let Walk { from, waiting, state, bytes, .. } = walk;
    // What was taken knows of records up to now: the log must not end before them.
    let (append, receipt) = Append::new(Vec::new(), Durability::Synced);
    shared.store.append(append).await;
    receipt.await.whole()?;
    shared.store.checkpoint(from, Bytes::from(bytes)).await?;
    shared.store.hold(waiting.min(state), state);
    let old = Position(from.0.saturating_sub(MOVE_AFTER.saturating_mul(shared.options.checkpoint_bytes.0)));
    move_retained(shared, old).await;
    wills::move_old(shared, old).await;
    held::move_old(shared, old).await;
    Ok(())
}

/// Appends retained events that stand far back again, so that the log can free what is before them.
async fn move_retained(shared: &Shared, old: Position) {
    let mut entries = Vec::new();
    shared.retained.read().each(&mut |kept: &Kept| {
        if kept.position < old {
            let note = EventNote {
                retain: true,
                state_only: true,
                moved: Some(kept.position),
                ..EventNote::new(kept.guarantee)
            };
            entries.push(Entry { event: Some(kept.event.clone()), note: note.encode() });
        }
    });
    while !entries.is_empty() {
        let rest = entries.split_off(entries.len().min(256));
        shared.store.append(Append::unanswered(std::mem::replace(&mut entries, rest))).await;
    }
}
