//! A store in memory: what a connector must do, in its shortest form. For tests; knows no disk and no clock.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::hub::Outcome;
use crate::store::{
    AppendQueue, Batch, Committed, Ends, Feed, FeedSender, Position, Request, RequestQueue, Scanned, Store,
    store,
};
use crate::{ByteLimit, Event, Reject};

/// Records in memory. Cloning shares them; they outlive the [`Store`] handles, so that a test can drop all of these
/// and [`MemoryStore::open`] again, as after a crash.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    records: BTreeMap<Position, Committed>,
    end: u64,
    checkpoint: Option<(Position, Bytes)>,
    needed: Position,
    refusal: Option<Reject>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts to serve a new handle, with room for 64 MiB and 4,096 batches. Needs a tokio runtime; stops when all
    /// handles are dropped.
    pub fn open(&self) -> (Store, Feed) {
        self.open_limited(ByteLimit::mib(64), 4096)
    }

    /// As [`Self::open`], with room for `bytes` and `batches`.
    pub fn open_limited(&self, bytes: ByteLimit, batches: u32) -> (Store, Feed) {
        let (store, Ends { appends, requests, feed_sender, feed }) = store(bytes, batches);
        tokio::spawn(self.clone().serve_appends(appends, feed_sender));
        tokio::spawn(self.clone().serve_requests(requests));
        (store, feed)
    }

    /// From now on every append is refused with `refusal`; `None`: accepted again.
    pub fn refuse(&self, refusal: Option<Reject>) {
        self.lock().refusal = refusal;
    }

    /// All records that are kept, in order.
    pub fn records(&self) -> Vec<Committed> {
        self.lock().records.values().cloned().collect()
    }

    /// What the last [`Store::hold`] said.
    pub fn needed(&self) -> Position {
        self.lock().needed
    }

    /// Frees the records below `position`, as retention does.
    pub fn free_below(&self, position: Position) {
        let mut state = self.lock();
        state.records = state.records.split_off(&position);
    }

    // Appends and requests are served by two tasks: the core may wait for a read while it does not take from the feed.
    async fn serve_appends(self, mut appends: AppendQueue, feed: FeedSender) {
        let mut ready = Vec::new();
        while appends.next(&mut ready, 64).await {
            let mut batch = Batch::default();
            for append in ready.drain(..) {
                let kept = self.lock().keep(append.entries);
                match (kept, append.receipt) {
                    (Ok(entries), receipt) => {
                        batch.entries.extend(entries);
                        batch.receipts.extend(receipt.map(|sender| (sender, Outcome::Kept)));
                    }
                    (Err(refusal), Some(sender)) => sender.resolve(Outcome::Refused(refusal)),
                    (Err(_), None) => {}
                }
            }
            let something = !batch.entries.is_empty() || !batch.receipts.is_empty();
            if something && !feed.send(batch).await {
                return;
            }
        }
    }

    async fn serve_requests(self, mut requests: RequestQueue) {
        while let Some(request) = requests.next().await {
            self.lock().answer(request);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, entries: Vec<crate::store::Entry>) -> Result<Vec<Committed>, Reject> {
        if let Some(refusal) = &self.refusal {
            return Err(refusal.clone());
        }
        let mut kept = Vec::with_capacity(entries.len());
        for entry in entries {
            // Like the offsets of a log, positions have gaps: nobody may count with them.
            self.end += 32 + entry.weight() as u64;
            let position = Position(self.end);
            let record = Committed { position, event: entry.event, note: entry.note };
            self.records.insert(position, record.clone());
            kept.push(record);
        }
        Ok(kept)
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Read { positions, reply } => {
                let events = positions.iter().map(|position| self.event(*position)).collect();
                reply.send(Ok(events)).unwrap_or(());
            }
            Request::Scan { after, bytes, reply } => reply.send(Ok(self.scan(after, bytes))).unwrap_or(()),
            Request::Find { since_ms, reply } => reply.send(Ok(self.find(since_ms))).unwrap_or(()),
            Request::Checkpoint { position, state, reply } => {
                self.checkpoint = Some((position, state));
                reply.send(Ok(())).unwrap_or(());
            }
            Request::LoadCheckpoint { reply } => reply.send(Ok(self.checkpoint.clone())).unwrap_or(()),
            Request::Hold { needed, state: _ } => self.needed = needed,
        }
    }

    fn event(&self, position: Position) -> Option<Event> {
        self.records.get(&position)?.event.clone()
    }

    fn find(&self, since_ms: u64) -> Position {
        let late = |record: &&Committed| {
            record.event.as_ref().is_some_and(|event| event.parts().received_ms >= since_ms)
        };
        self.records.values().find(late).map_or(Position(self.end), |record| Position(record.position.0 - 1))
    }

    fn scan(&self, after: Position, bytes: usize) -> Scanned {
        let behind = (std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded);
        let mut scanned = Scanned { records: Vec::new(), end: true };
        let mut taken = 0;
        for record in self.records.range(behind).map(|(_, record)| record) {
            if taken >= bytes && !scanned.records.is_empty() {
                scanned.end = false;
                break;
            }
            taken += record.event.as_ref().map_or(64, Event::weight) + record.note.len();
            scanned.records.push(record.clone());
        }
        scanned
    }
}
