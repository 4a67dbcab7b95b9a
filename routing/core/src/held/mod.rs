//! Events that wait: for their time (delayed), or for what their publisher decides (transactions).
//!
//! Such an event is a record of the log, and answered like any other; here is only where it stands and what it waits for.
//! It ends with a second record: the event that it becomes, which names it in its note, or the decision to forget it. So
//! a crash loses none and publishes none twice.

mod ask;
mod run;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use event::store::Position;
use event::{ClientId, Guarantee};
use serde::{Deserialize, Serialize};

use crate::account::Tenant;

pub(crate) use ask::{Asked, asked};
pub(crate) use run::{move_old, publish_due, wait};

/// All of them. Sans-io.
#[derive(Debug, Default)]
pub(crate) struct Held {
    all: BTreeMap<u64, Standing>,
    /// When something is to be done, and with which.
    due: BTreeSet<(u64, u64)>,
    /// Transactions that wait for their decision.
    open: BTreeMap<Transaction, u64>,
    /// Decisions of late: one that comes again is answered as before.
    decided: VecDeque<(Transaction, bool)>,
    bytes: usize,
    /// How many are on their way.
    publishing: usize,
}

/// Names a transaction: topics do not share them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Transaction {
    pub(crate) topic: String,
    pub(crate) id: String,
}

/// What an event waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Until {
    /// Milliseconds since 1970.
    Time(u64),
    Decision(Transaction),
}

/// An event that waits.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub(crate) client: ClientId,
    pub(crate) tenant: Tenant,
    pub(crate) guarantee: Guarantee,
    pub(crate) retain: bool,
    pub(crate) until: Until,
    /// Its record.
    pub(crate) position: Position,
    /// What it takes of the limit.
    pub(crate) weight: usize,
    /// What the publisher decided, while that is not kept yet.
    said: Option<bool>,
    /// How often the publisher was asked.
    asked: u32,
    /// When something is to be done; `None`: it is being done.
    due_ms: Option<u64>,
}

/// What is to be done with one.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) id: u64,
    pub(crate) standing: Standing,
}

/// Publishes on their way at most.
const PUBLISHING: usize = 1024;
/// Decisions that are remembered.
const DECIDED: usize = 10_000;

impl Standing {
    pub(crate) fn new(
        (client, tenant): (ClientId, Tenant),
        (guarantee, retain): (Guarantee, bool),
        until: Until,
        position: Position,
        weight: usize,
    ) -> Self {
        let (said, asked, due_ms) = (None, 0, None);
        Self { client, tenant, guarantee, retain, until, position, weight, said, asked, due_ms }
    }

    /// How often the publisher was asked for a decision.
    pub(crate) fn asked(&self) -> u32 {
        self.asked
    }
}

impl Held {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// What they take.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds one; or, if it is there, its record is at another position. Something is to be done at `due_ms`, or when it
    /// is due by itself.
    pub(crate) fn add(&mut self, id: u64, standing: Standing, due_ms: u64) {
        if self.moved(id, standing.position) {
            return;
        }
        self.bytes += standing.weight;
        let due_ms = match &standing.until {
            Until::Time(at_ms) => *at_ms,
            Until::Decision(transaction) => {
                self.open.insert(transaction.clone(), id);
                due_ms
            }
        };
        self.all.insert(id, standing);
        self.set_due(id, due_ms);
    }

    /// Its record is at another position now. False: there is no such event any more.
    pub(crate) fn moved(&mut self, id: u64, position: Position) -> bool {
        self.all.get_mut(&id).map(|standing| standing.position = position).is_some()
    }

    /// Those with numbers above `after`.
    pub(crate) fn behind(&self, after: u64) -> impl Iterator<Item = (u64, &Standing)> {
        self.all.range((Bound::Excluded(after), Bound::Unbounded)).map(|(id, standing)| (*id, standing))
    }

    /// Takes down what the publisher of a transaction says. `Ok(None)`: it was said and done before.
    pub(crate) fn decide(&mut self, transaction: &Transaction, commit: bool) -> Result<Option<u64>, String> {
        let other = |before: bool| {
            let before = if before { "committed" } else { "rolled back" };
            format!("transaction {:?} of topic {:?} was {before}", transaction.id, transaction.topic)
        };
        let Some(id) = self.open.get(transaction).copied() else {
            let before = self.decided.iter().rev().find(|(known, _)| known == transaction);
            return match before {
                Some((_, before)) if *before == commit => Ok(None),
                Some((_, before)) => Err(other(*before)),
                None => Err(format!(
                    "no transaction {:?} waits on topic {:?}: it was never begun there, or decided long ago",
                    transaction.id, transaction.topic
                )),
            };
        };
        let said = self.all.get_mut(&id).and_then(|standing| standing.said.replace(commit));
        match said {
            Some(before) if before != commit => {
                self.all.get_mut(&id).map(|standing| standing.said.replace(before));
                Err(other(before))
            }
            Some(_) | None => Ok(Some(id)),
        }
    }

    /// Whether this transaction waits.
    pub(crate) fn is_open(&self, transaction: &Transaction) -> bool {
        self.open.contains_key(transaction)
    }

    /// A decision is kept: a transaction is published from `now_ms` on; or whatever waits is forgotten. Tells whether it was
    /// a transaction that waited.
    pub(crate) fn decided(&mut self, id: u64, commit: bool, now_ms: u64) -> bool {
        let Some(standing) = self.all.get_mut(&id) else { return false };
        let transaction = match &standing.until {
            Until::Decision(transaction) => Some(transaction.clone()),
            Until::Time(_) => None,
        };
        if !commit {
            self.remove(id);
        } else if let Some(transaction) = &transaction {
            standing.until = Until::Time(now_ms);
            self.open.remove(transaction);
            self.set_due(id, now_ms);
        }
        let Some(transaction) = transaction else { return false };
        if self.decided.len() >= DECIDED {
            self.decided.pop_front();
        }
        self.decided.push_back((transaction, commit));
        true
    }

    /// Something is to be done with it at `at_ms`.
    pub(crate) fn set_due(&mut self, id: u64, at_ms: u64) {
        let Some(standing) = self.all.get_mut(&id) else { return };
        match standing.due_ms.replace(at_ms) {
            Some(before) => drop(self.due.remove(&(before, id))),
            None => self.publishing = self.publishing.saturating_sub(1),
        }
        self.due.insert((at_ms, id));
    }

    /// It is over.
    pub(crate) fn remove(&mut self, id: u64) {
        let Some(standing) = self.all.remove(&id) else { return };
        self.bytes = self.bytes.saturating_sub(standing.weight);
        match standing.due_ms {
            Some(at_ms) => drop(self.due.remove(&(at_ms, id))),
            None => self.publishing = self.publishing.saturating_sub(1),
        }
        if let Until::Decision(transaction) = &standing.until {
            self.open.remove(transaction);
        }
    }

    /// When there is something to do next, if there is room to do it.
    fn next_due(&self) -> Option<u64> {
        self.due.first().map(|(at_ms, _)| *at_ms).filter(|_| self.publishing < PUBLISHING)
    }

    /// What is to be done at `now_ms`, the oldest first, of about `bytes` together.
    fn take_due(&mut self, now_ms: u64, bytes: usize) -> Vec<Due> {
        let (mut taken, mut weight) = (Vec::new(), 0);
        while weight < bytes
            && self.publishing < PUBLISHING
            && let Some((at_ms, id)) = self.due.first().copied()
            && at_ms <= now_ms
        {
            self.due.remove(&(at_ms, id));
            let Some(standing) = self.all.get_mut(&id) else { continue };
            standing.due_ms = None;
            standing.asked += u32::from(matches!(standing.until, Until::Decision(_)));
            self.publishing += 1;
            weight += standing.weight;
            taken.push(Due { id, standing: standing.clone() });
        }
        taken
    }
}

#[cfg(test)]
mod tests;
