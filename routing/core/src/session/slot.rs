//! One numbered delivery of a mailbox, and what becomes of it.

use std::sync::Arc;

use event::store::Position;
use event::{Event, Guarantee};

use crate::account::Account;
use crate::group::Group;
use crate::ledger::End;

/// One numbered delivery.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) position: Position,
    /// Held while memory allows and it was not sent.
    pub(super) event: Option<Event>,
    pub(crate) ids: Option<Arc<[u32]>>,
    pub(crate) guarantee: Guarantee,
    pub(crate) retain: bool,
    pub(crate) state: SlotState,
    /// Of the event, as far as it is known.
    pub(crate) weight: u32,
    /// What it is booked under.
    pub(crate) account: Account,
    /// The shared subscription it came by.
    pub(crate) group: Option<Arc<Group>>,
    /// How many members of that ended with it.
    pub(crate) ended: u32,
}

/// Deliveries that are over without an acknowledgement: expired, gone from the log, or sent to who acknowledges nothing.
#[derive(Debug, Default)]
pub(crate) struct Over {
    pub(crate) numbers: Vec<(u64, End)>,
    /// Those of shared subscriptions.
    pub(crate) shared: Vec<Left>,
}

/// A delivery of a shared subscription that left a mailbox.
#[derive(Clone, Debug)]
pub(crate) struct Left {
    pub(crate) group: Arc<Group>,
    pub(crate) position: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum SlotState {
    /// Not acked.
    Open,
    /// The subscriber has it; it is not released.
    Received,
    /// Acked, dropped or expired.
    Done,
}

/// How much waits or is not acknowledged, wherever its events are held.
#[derive(Debug, Default)]
pub(super) struct Queued {
    pub(super) count: usize,
    pub(super) bytes: u64,
}

impl Queued {
    pub(super) fn add(&mut self, weight: u32) {
        self.count += 1;
        self.bytes += u64::from(weight);
    }

    fn remove(&mut self, weight: u32) {
        self.count -= 1;
        self.bytes -= u64::from(weight);
    }
}

impl Slot {
    /// Whether it came by this shared subscription.
    pub(crate) fn is_of(&self, group: &Group) -> bool {
        self.group.as_ref().is_some_and(|of| of.key == group.key)
    }

    /// Nothing waits for it any more.
    pub(super) fn set_done(&mut self, queued: &mut Queued) {
        self.state = SlotState::Done;
        queued.remove(self.weight);
    }

    /// It is over without an acknowledgement.
    pub(super) fn finish(&mut self, number: u64, end: End, queued: &mut Queued, over: &mut Over) {
        self.set_done(queued);
        over.numbers.push((number, end));
        over.shared.extend(self.left());
    }

    /// What its group is told when it is done.
    pub(super) fn left(&self) -> Option<Left> {
        Some(Left { group: Arc::clone(self.group.as_ref()?), position: self.position })
    }

    /// A slot without its event.
    pub(crate) fn new(position: Position, guarantee: Guarantee, retain: bool, state: SlotState) -> Self {
        let account = Account::NONE;
        let (event, ids, weight, group, ended) = (None, None, 0, None, 0);
        Self { position, event, ids, guarantee, retain, state, weight, account, group, ended }
    }
}
