//! The out-port: what the core asks of a connector that keeps events.
//!
//! A store is a handle and its queues, not a trait: back-pressure and byte accounting are written once here, and the
//! connector is a task or a thread that drains [`AppendQueue`] and [`RequestQueue`] and answers. A connector that
//! keeps nothing to be read back (RocketMQ as a remote store) never sees a [`Request`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::hub::{Outcome, Receipt, ReceiptSender};
use crate::{Budget, BudgetPermit, ByteLimit, Durability, Event, Pending, Reject};

/// Where a store holds a record: rises with every record, says nothing else. 0 is before all records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position(pub u64);

/// One record to be: an event, a note of the core, or both. Both become durable together. A record with neither is not
/// given out by scans.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The event.
    pub event: Option<Event>,
    /// What the core has to remember with it; opaque to the store.
    pub note: Bytes,
}

impl Entry {
    /// What it takes of a byte budget.
    pub fn weight(&self) -> usize {
        self.event.as_ref().map_or(64, Event::weight) + self.note.len()
    }
}

/// A batch to append: its entries stay together and in order.
#[derive(Debug)]
pub struct Append {
    /// What to append.
    pub entries: Vec<Entry>,
    /// What has to be true before the receipt says yes. [`Durability::Received`] asks for no write of its own.
    pub durability: Durability,
    /// What to do where the store has used its room with records that are needed.
    pub when_full: WhenFull,
    /// Who waits for it.
    pub receipt: Option<ReceiptSender>,
    permit: Option<BudgetPermit>,
}

/// What an append wants of a store whose room is used up by records that cursors wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhenFull {
    /// To be refused as busy.
    #[default]
    Refuse,
    /// The oldest records to be freed, whoever waits for them. What the state needs stays.
    DropOldest,
}

/// A record that is kept.
#[derive(Clone, Debug)]
pub struct Committed {
    /// Where.
    pub position: Position,
    /// The event, if the record has one.
    pub event: Option<Event>,
    /// The core's note.
    pub note: Bytes,
}

/// Records that were kept together, in the order of the log, with the receipts that are due once they are dispatched.
#[derive(Debug, Default)]
pub struct Batch {
    /// The records.
    pub entries: Vec<Committed>,
    /// Receipts with what the store has to say; the core resolves them after dispatch.
    pub receipts: Vec<(ReceiptSender, Outcome)>,
}

/// What the core asks of a store beside appends. Each is answered by its `reply`.
#[derive(Debug)]
pub enum Request {
    /// Reads the events of these positions. A position that is gone or damaged yields `None`.
    Read {
        /// Rising.
        positions: Vec<Position>,
        /// In the order of `positions`.
        reply: oneshot::Sender<Result<Vec<Option<Event>>, Reject>>,
    },
    /// Reads records in order, behind `after`, about `bytes` of them.
    Scan {
        /// Start behind this record. If it is freed, start at the oldest.
        after: Position,
        /// How much, about; at least one record.
        bytes: usize,
        /// The records, and whether the end of what is kept was reached.
        reply: oneshot::Sender<Result<Scanned, Reject>>,
    },
    /// Looks up by the time at which events were received.
    Find {
        /// Milliseconds since 1970.
        since_ms: u64,
        /// A position, of a record or not, behind which a scan finds the first event received at `since_ms` or later; the
        /// end, if there is none. Where the clock went back there is more than one place at which older events are followed
        /// by such ones: it is the first, unless so few events lie between it and the next that the store passes over them.
        reply: oneshot::Sender<Result<Position, Reject>>,
    },
    /// Keeps `state` as the checkpoint of all records up to and with `position`, in place of an older one.
    Checkpoint {
        /// Up to here `state` tells all.
        position: Position,
        /// Opaque.
        state: Bytes,
        /// Answered when it is durable.
        reply: oneshot::Sender<Result<(), Reject>>,
    },
    /// The last checkpoint that was kept whole.
    LoadCheckpoint {
        /// `None`: there is none.
        reply: oneshot::Sender<Result<Option<(Position, Bytes)>, Reject>>,
    },
    /// Records below `needed` may be freed when age or size ask for it; those from it on are needed.
    Hold {
        /// The lowest position that a cursor or the state still needs.
        needed: Position,
        /// The lowest position that the state needs: [`WhenFull::DropOldest`] frees nothing from it on.
        state: Position,
    },
}

/// Records, read in order.
#[derive(Debug, Default)]
pub struct Scanned {
    /// The records.
    pub records: Vec<Committed>,
    /// Whether the end was reached.
    pub end: bool,
}

/// Whether a store works, as its connector sees it. It does until the connector says otherwise.
#[derive(Clone, Debug)]
pub struct Up(Arc<AtomicBool>);

/// The core's handle on a store.
#[derive(Clone, Debug)]
pub struct Store {
    up: Up,
    appends: mpsc::Sender<Append>,
    requests: mpsc::Sender<Request>,
    budget: Budget,
}

/// The connector's end: batches to append, in order.
#[derive(Debug)]
pub struct AppendQueue {
    appends: mpsc::Receiver<Append>,
    up: Up,
}

/// The connector's end: requests.
#[derive(Debug)]
pub struct RequestQueue(mpsc::Receiver<Request>);

/// The connector's end of the feed: every kept batch goes to the core, in order.
#[derive(Clone, Debug)]
pub struct FeedSender(mpsc::Sender<Batch>);

/// The core's end of the feed.
#[derive(Debug)]
pub struct Feed(mpsc::Receiver<Batch>);

/// All ends of one store.
pub struct Ends {
    /// For the connector.
    pub appends: AppendQueue,
    /// For the connector.
    pub requests: RequestQueue,
    /// For the connector.
    pub feed_sender: FeedSender,
    /// For the core.
    pub feed: Feed,
}

/// A store whose waiting appends take at most `bytes` and `batches`.
pub fn store(bytes: ByteLimit, batches: u32) -> (Store, Ends) {
    let (append_sender, append_receiver) = mpsc::channel(usize::try_from(batches.max(1)).unwrap_or(1));
    let (request_sender, request_receiver) = mpsc::channel(64);
    let (feed_sender, feed_receiver) = mpsc::channel(8);
    let up = Up(Arc::new(AtomicBool::new(true)));
    let budget = Budget::new(bytes, batches);
    let store = Store { up: up.clone(), appends: append_sender, requests: request_sender, budget };
    let ends = Ends {
        appends: AppendQueue { appends: append_receiver, up },
        requests: RequestQueue(request_receiver),
        feed_sender: FeedSender(feed_sender),
        feed: Feed(feed_receiver),
    };
    (store, ends)
}

impl Append {
    /// A batch with a receipt.
    pub fn new(entries: Vec<Entry>, durability: Durability) -> (Self, Receipt) {
        let (sender, receipt) = Receipt::pair();
        let when_full = WhenFull::Refuse;
        (Self { entries, durability, when_full, receipt: Some(sender), permit: None }, receipt)
    }

    /// A batch that nobody waits for.
    pub fn unanswered(entries: Vec<Entry>) -> Self {
        let (durability, when_full) = (Durability::Received, WhenFull::Refuse);
        Self { entries, durability, when_full, receipt: None, permit: None }
    }

    /// The same, with another wish for a store that is full.
    pub fn when_full(self, when_full: WhenFull) -> Self {
        Self { when_full, ..self }
    }

    fn weight(&self) -> usize {
        self.entries.iter().map(Entry::weight).sum()
    }
}

impl Up {
    /// Says whether the store works.
    pub fn set(&self, up: bool) {
        self.0.store(up, Ordering::Release);
    }
}

impl Store {
    /// Whether the store works, as its connector sees it.
    pub fn is_up(&self) -> bool {
        self.up.0.load(Ordering::Acquire)
    }

    /// Hands a batch over if there is room, and gives it back if there is none.
    pub fn try_append(&self, mut append: Append) -> Result<(), Append> {
        let Some(permit) = self.budget.try_take(append.weight(), 1) else { return Err(append) };
        append.permit = Some(permit);
        self.appends.try_send(append).map_err(|error| {
            let mut append = error.into_inner();
            append.permit = None;
            append
        })
    }

    /// Waits for room and hands a batch over. A store that is gone drops it, and with it the receipt.
    /// Cancel-safe: dropped before it returns, nothing was appended.
    pub async fn append(&self, mut append: Append) {
        let Some(permit) = self.budget.take(append.weight(), 1).await else { return };
        append.permit = Some(permit);
        if let Ok(slot) = self.appends.reserve().await {
            slot.send(append);
        }
    }

    /// Reads events by position, rising.
    pub fn read(&self, positions: Vec<Position>) -> Pending<Vec<Option<Event>>> {
        self.ask(|reply| Request::Read { positions, reply })
    }

    /// Reads records in order. Their events may share memory with their neighbours: who keeps one keeps
    /// [`Event::detached`].
    pub fn scan(&self, after: Position, bytes: usize) -> Pending<Scanned> {
        self.ask(|reply| Request::Scan { after, bytes, reply })
    }

    /// Where events received at `since_ms` (milliseconds since 1970) or later start: scan behind it.
    pub fn find(&self, since_ms: u64) -> Pending<Position> {
        self.ask(|reply| Request::Find { since_ms, reply })
    }

    /// Keeps a checkpoint.
    pub fn checkpoint(&self, position: Position, state: Bytes) -> Pending<()> {
        self.ask(|reply| Request::Checkpoint { position, state, reply })
    }

    /// The last checkpoint.
    pub fn load_checkpoint(&self) -> Pending<Option<(Position, Bytes)>> {
        self.ask(|reply| Request::LoadCheckpoint { reply })
    }

    /// Says which records are still needed. A hint: skipped while the store is busy, so say it again.
    pub fn hold(&self, needed: Position, state: Position) {
        self.requests.try_send(Request::Hold { needed, state }).unwrap_or(());
    }

    fn ask<T: Send + 'static>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, Reject>>) -> Request,
    ) -> Pending<T> {
        let (reply, answer) = oneshot::channel();
        let request = request(reply);
        let requests = self.requests.clone();
        Box::pin(async move {
            requests.send(request).await.map_err(|_| Reject::closed())?;
            answer.await.map_err(|_| Reject::closed())?
        })
    }
}

impl AppendQueue {
    /// Whether the store works, for the connector to say.
    pub fn up(&self) -> Up {
        self.up.clone()
    }

    /// Waits for the next batch, then takes what else is there, up to `most` batches. False when the core is gone
    /// and the queue is empty. Cancel-safe.
    pub async fn next(&mut self, out: &mut Vec<Append>, most: usize) -> bool {
        self.appends.recv_many(out, most).await > 0
    }

    /// As [`Self::next`], for a connector on a thread of its own.
    pub fn blocking_next(&mut self, out: &mut Vec<Append>, most: usize) -> bool {
        self.appends.blocking_recv_many(out, most) > 0
    }

    /// Takes no more: later appends are dropped, and with them their receipts. What waits is still given out.
    pub fn close(&mut self) {
        self.appends.close();
    }

    /// Takes what is there without waiting.
    pub fn take_ready(&mut self, out: &mut Vec<Append>, most: usize) {
        while out.len() < most {
            match self.appends.try_recv() {
                Ok(append) => out.push(append),
                Err(_) => return,
            }
        }
    }
}

impl RequestQueue {
    /// The next request; `None` when the core is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Request> {
        self.0.recv().await
    }

    /// As [`Self::next`], for a connector on a thread of its own.
    pub fn blocking_next(&mut self) -> Option<Request> {
        self.0.blocking_recv()
    }
}

impl FeedSender {
    /// Hands a kept batch to the core; waits while the core is behind. False when the core is gone.
    pub fn blocking_send(&self, batch: Batch) -> bool {
        self.0.blocking_send(batch).is_ok()
    }

    /// As [`Self::blocking_send`], from a task. Not cancel-safe: the batch is lost with the future.
    pub async fn send(&self, batch: Batch) -> bool {
        self.0.send(batch).await.is_ok()
    }
}

impl Feed {
    /// The next batch; `None` when the store is gone. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Batch> {
        self.0.recv().await
    }
}
