//! What became of publishes, by route: each that a publisher hands over comes to one end. So at any time, for each route,
//! `in = under way + the sum of all ends`.

#![expect(clippy::async_yields_async, reason = "an admission resolves to a receipt, which is awaited later")]

use std::collections::BTreeMap;
use std::sync::Arc;

use event::hub::{Admission, Outcome};
use event::{Reject, RejectKind};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::account::Account;
use crate::shared::Shared;

/// How a publish ended. Checkpoints have these by their place in [`Fate::ALL`]: new ones stand at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is kept as its route promises, and its publisher is told so.
    Kept,
    /// QoS 0: it was handed on, and nobody is told anything.
    Passed,
    /// It was known by source and id, or said again what was decided.
    Repeated,
    /// It is kept until its time, or a decision; then it comes anew.
    Held,
    /// The publisher went away before there was an answer: it may be kept.
    Unanswered,
    /// It was refused.
    Refused(RejectKind),
}

impl Fate {
    /// All of them.
    pub(crate) const ALL: [Self; 11] = [
        Self::Kept,
        Self::Passed,
        Self::Repeated,
        Self::Held,
        Self::Unanswered,
        Self::Refused(RejectKind::Malformed),
        Self::Refused(RejectKind::Unproved),
        Self::Refused(RejectKind::Denied),
        Self::Refused(RejectKind::Busy),
        Self::Refused(RejectKind::Unavailable),
        Self::Refused(RejectKind::Closed),
    ];

    /// As a label of metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Passed => "passed",
            Self::Repeated => "repeated",
            Self::Held => "held",
            Self::Unanswered => "unanswered",
            Self::Refused(kind) => kind.as_str(),
        }
    }

    fn of(reject: &Reject) -> Self {
        Self::Refused(reject.kind)
    }
}

/// Publishes of one route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Published {
    pub(crate) came: u64,
    /// In the order of [`Fate::ALL`].
    ends: [u64; Fate::ALL.len()],
}

impl Published {
    pub(crate) fn of(&self, fate: Fate) -> u64 {
        Fate::ALL.iter().zip(self.ends).find(|(of, _)| **of == fate).map_or(0, |(_, count)| count)
    }

    /// Those of which nobody knows yet.
    pub(crate) fn under_way(&self) -> u64 {
        self.came.saturating_sub(self.ends.iter().sum())
    }

    fn end(&mut self, fate: Fate, count: u64) {
        let mut ends = Fate::ALL.iter().zip(&mut self.ends);
        if let Some((_, ended)) = ends.find(|(of, _)| **of == fate) {
            *ended += count;
        }
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.came += other.came;
        for (sum, count) in self.ends.iter_mut().zip(&other.ends) {
            *sum += count;
        }
    }
}

/// All publishes, by route.
#[derive(Debug, Default)]
pub(crate) struct Intake(Mutex<BTreeMap<Account, Published>>);

impl Intake {
    pub(crate) fn all(&self) -> Vec<(Account, Published)> {
        self.0.lock().iter().map(|(account, published)| (*account, *published)).collect()
    }

    /// What a checkpoint holds: what is under way now may be kept or not when Weft goes down.
    pub(crate) fn image(&self) -> Vec<(Account, Published)> {
        let mut all = self.all();
        for (_, published) in &mut all {
            published.end(Fate::Unanswered, published.under_way());
        }
        all
    }

    pub(crate) fn restore(&self, all: Vec<(Account, Published)>) {
        let mut of = self.0.lock();
        for (account, published) in all {
            of.entry(account).or_default().add(&published);
        }
    }
}

/// What the publishes of a batch are, in their order.
#[derive(Debug, Default)]
pub(crate) struct Tally(SmallVec<[(Account, Fate, u32); 1]>);

impl Tally {
    /// The next publish goes this way, and comes to this end if it is not refused.
    pub(crate) fn push(&mut self, account: Account, fate: Fate) {
        match self.0.last_mut() {
            Some((of, same, count)) if (*of, *same) == (account, fate) => *count += 1,
            _ => self.0.push((account, fate, 1)),
        }
    }

    /// Counts what became of them; with `came`, also that they came.
    fn end(&self, outcome: &Outcome, came: bool, of: &mut BTreeMap<Account, Published>) {
        let mut places = 0..;
        self.each(|account, fate, count| {
            let published = of.entry(account).or_default();
            published.came += if came { count } else { 0 };
            match outcome {
                Outcome::Kept => published.end(fate, count),
                Outcome::Refused(reject) => published.end(Fate::of(reject), count),
                Outcome::Partly(_) => {
                    for place in places.by_ref().take(usize::try_from(count).unwrap_or(usize::MAX)) {
                        published.end(outcome.of(place).map_or_else(Fate::of, |()| fate), 1);
                    }
                }
            }
        });
    }

    fn each(&self, mut found: impl FnMut(Account, Fate, u64)) {
        self.0.iter().for_each(|(account, fate, count)| found(*account, *fate, u64::from(*count)));
    }
}

/// A batch that is under way. Dropped before its outcome is known, nobody was answered.
struct Open {
    shared: Arc<Shared>,
    tally: Tally,
}

impl Open {
    fn end(mut self, outcome: &Outcome) {
        let tally = std::mem::take(&mut self.tally);
        tally.end(outcome, false, &mut self.shared.intake.0.lock());
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.tally.0.is_empty() {
            return;
        }
        let mut of = self.shared.intake.0.lock();
        self.tally.each(|account, _, count| of.entry(account).or_default().end(Fate::Unanswered, count));
    }
}

/// Counts a batch: what came now, and what became of it when that is known.
pub(crate) fn counted(shared: &Arc<Shared>, tally: Tally, admission: Admission) -> Admission {
    if let Admission::Admitted(receipt) = &admission
        && let Some(outcome) = receipt.known()
    {
        tally.end(outcome, true, &mut shared.intake.0.lock());
        return admission;
    }
    {
        let mut of = shared.intake.0.lock();
        tally.each(|account, _, count| of.entry(account).or_default().came += count);
    }
    let open = Open { shared: Arc::clone(shared), tally };
    match admission {
        Admission::Admitted(receipt) => Admission::Admitted(receipt.watched(|outcome| open.end(outcome))),
        Admission::Waiting(room) => Admission::Waiting(Box::pin(async move {
            let open = open;
            room.await.watched(|outcome| open.end(outcome))
        })),
    }
}
