//! How a connection walks the log for the replays of its session: it reads a piece when the subscriber has room, and rests
//! when it has read as much as it may. Replays take turns, within a session and among all.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use event::hub::Receipt;
use event::store::{Committed, Position, Scanned};
use event::{Bucket, Durability, Event, Guarantee, Pending, Rate, Reject};
use tokio::time::{Instant, Sleep, sleep};

use super::Session;
use super::mailbox::ReplayRoom;
use crate::notes::Change;
use crate::replay::{Replay, Step};
use crate::shared::{Shared, now_ms};

/// How much of the log is read at once: it is in memory until the mailbox has what is wanted of it.
const PIECE: usize = 64 << 10;
/// How long a walk rests before it tries again what could not be done.
const AGAIN: Duration = Duration::from_millis(250);

/// The walks of one connection.
#[derive(Default)]
pub(super) struct Walks(VecDeque<Walk>);

struct Walk {
    replay: Arc<Replay>,
    /// All up to here was looked at.
    at: Position,
    doing: Doing,
    /// How fast it may read.
    bucket: Option<Bucket>,
}

enum Doing {
    Nothing,
    Reading {
        until: Position,
        most: usize,
        scan: Pending<Scanned>,
    },
    /// The step is on its way through the log.
    Keeping(Receipt),
    Resting(Pin<Box<Sleep>>),
}

impl Walks {
    /// Walks until there is no room or something to wait for.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, shared: &Arc<Shared>, session: &Arc<Session>) {
        loop {
            self.0.retain(|walk| walk.replay.after().is_some());
            if self.0.len() < session.replaying() {
                self.follow(session, shared);
            }
            let Some(walk) = self.0.front_mut() else { return };
            match walk.poll(cx, shared, session) {
                Poll::Pending => return,
                Poll::Ready(()) => self.0.rotate_left(1),
            }
        }
    }

    /// Starts a walk for each replay that has none.
    fn follow(&mut self, session: &Session, shared: &Shared) {
        for replay in &session.state.lock().replays {
            if !self.0.iter().any(|walk| Arc::ptr_eq(&walk.replay, replay)) {
                self.0.push_back(Walk::new(Arc::clone(replay), shared));
            }
        }
    }
}

impl Walk {
    fn new(replay: Arc<Replay>, shared: &Shared) -> Self {
        let rate = Rate::per_second(shared.options.replay.bytes_per_second.0);
        let bucket = rate.map(|rate| Bucket::new(rate, Instant::now().into_std()));
        Self { at: replay.after().unwrap_or_default(), replay, doing: Doing::Nothing, bucket }
    }

    /// Ready when it went a step on, or is over.
    fn poll(&mut self, cx: &mut Context<'_>, shared: &Arc<Shared>, session: &Arc<Session>) -> Poll<()> {
        loop {
            match &mut self.doing {
                Doing::Nothing => {
                    let Some(after) = self.replay.after() else { return Poll::Ready(()) };
                    self.at = self.at.max(after);
                    let debt = self.bucket.as_ref().map(|bucket| bucket.wait(Instant::now().into_std()));
                    if let Some(debt) = debt.filter(|debt| !debt.is_zero()) {
                        self.rest(debt);
                        continue;
                    }
                    let room = session.mailbox.lock().replay_room(&shared.options, &shared.totals);
                    match room {
                        // The connection asks again when the subscriber took something.
                        ReplayRoom::None => return Poll::Pending,
                        ReplayRoom::Later => self.rest(AGAIN),
                        ReplayRoom::Some(most) => self.begin(most, shared, session),
                    }
                }
                Doing::Reading { until, most, scan } => {
                    let (until, most) = (*until, *most);
                    let scanned = ready!(scan.as_mut().poll(cx));
                    self.doing = Doing::Nothing;
                    self.handle_scanned(scanned, until, most, shared, session);
                    return Poll::Ready(());
                }
                Doing::Keeping(receipt) => {
                    let outcome = ready!(Pin::new(receipt).poll(cx)).whole();
                    self.doing = Doing::Nothing;
                    if let Err(reject) = outcome {
                        tracing::warn!(client_id = %session.client, %reject, "a replay waits: the log takes no record of it");
                        self.at = self.replay.after().unwrap_or_default();
                        self.rest(AGAIN);
                    }
                    return Poll::Ready(());
                }
                Doing::Resting(sleep) => {
                    ready!(sleep.as_mut().poll(cx));
                    self.doing = Doing::Nothing;
                }
            }
        }
    }

    /// Looks at what is behind, if there is something; else it is done.
    fn begin(&mut self, most: usize, shared: &Arc<Shared>, session: &Arc<Session>) {
        let dispatched = *shared.dispatched.lock();
        if self.at >= dispatched {
            let at = self.at;
            let (step, events) = self.replay.look(Vec::new(), at, at, most, true, now_ms());
            return self.go(step, events, shared, session);
        }
        let scan = shared.replay_turns.read(shared.store.scan(self.at, PIECE));
        self.doing = Doing::Reading { until: dispatched, most, scan };
    }

    fn handle_scanned(
        &mut self,
        scanned: Result<Scanned, Reject>,
        until: Position,
        most: usize,
        shared: &Arc<Shared>,
        session: &Arc<Session>,
    ) {
        let Scanned { records, end } = match scanned {
            Ok(scanned) => scanned,
            Err(reject) => {
                tracing::warn!(client_id = %session.client, %reject, "a replay waits: the log cannot be read");
                return self.rest(AGAIN);
            }
        };
        let bytes: usize = records.iter().map(weight).sum();
        if let Some(bucket) = &self.bucket {
            bucket.charge(bytes as u64, Instant::now().into_std());
        }
        let (step, events) = self.replay.look(records, self.at, until, most, end, now_ms());
        if step.list.is_empty() && !step.last {
            self.at = step.up_to;
        } else {
            self.go(step, events, shared, session);
        }
    }

    /// Does a step; for a durable session by way of the log.
    fn go(
        &mut self,
        step: Step,
        events: Vec<(Position, Event)>,
        shared: &Arc<Shared>,
        session: &Arc<Session>,
    ) {
        self.at = step.up_to;
        self.replay.keep_at_hand(events);
        if session.durable {
            // A packet id must not come to mean another event.
            let once = self.replay.guarantee() == Guarantee::ExactlyOnce;
            let durability = if once { Durability::Synced } else { Durability::Received };
            let change = Change::Replayed { session: session.key, replay: self.replay.id, step };
            self.doing = Doing::Keeping(shared.append(&change, durability));
        } else {
            let dispatched = shared.dispatched.lock();
            shared.advance(session, &self.replay, step);
            drop(dispatched);
        }
    }

    fn rest(&mut self, how_long: Duration) {
        self.doing = Doing::Resting(Box::pin(sleep(how_long)));
    }
}

/// What a record took to read, about.
fn weight(record: &Committed) -> usize {
    record.event.as_ref().map_or(32, Event::weight) + record.note.len()
}
