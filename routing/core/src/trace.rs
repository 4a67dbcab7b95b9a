//! What became of an event, by what the log says. The records of the log are walked through the same dispatcher that a
//! start walks them through, so what is told here is what a start would come to.
//!
//! What leaves no record cannot be told: deliveries to sessions that end with their connection, QoS 0 events that nobody
//! keeps, and repeats that were answered without being kept. Of these the record of the first one says until when they were.

use std::collections::BTreeSet;
use std::sync::Arc;

use event::event::{Value, rfc3339};
use event::store::{Committed, Position, Store};
use event::{Event, Reject};
use serde::Serialize;

use crate::checkpoint::{self, Told};
use crate::dispatch::Dispatcher;
use crate::inspect::describe;
use crate::ledger::End;
use crate::notes::{Assignment, Change, Note};
use crate::session::Session;
use crate::session::slot::SlotState;
use crate::shared::Shared;
use crate::table::RouteTable;
use crate::{Options, RouteOptions};

/// So many deliveries of one record are told.
const SHOWN: usize = 10_000;

/// A record of the event that is traced.
#[derive(Clone, Debug, Serialize)]
pub struct Traced {
    /// Where it stands.
    pub position: u64,
    /// When Weft received the event, RFC 3339.
    pub received: String,
    /// Its topic.
    pub topic: String,
    /// Its CloudEvents source.
    pub source: String,
    /// Its CloudEvents type.
    #[serde(rename = "type")]
    pub ty: String,
    /// Who published it.
    pub publisher: String,
    /// Its data, in bytes.
    pub bytes: usize,
    /// When it expires, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// What its note says, as `weft log cat` shows it; empty for a plain publish.
    pub note: String,
    /// Its route knows repeats: until then, RFC 3339, one with its source and id was answered as it was, and left no record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeats_until: Option<String>,
    /// If it is a dead letter: the topic that the event had, and why nobody took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<(String, String)>,
    /// To whom it went, as far as the log knows.
    pub deliveries: Vec<Delivery>,
    /// Deliveries that are not told, as there are too many.
    pub more: usize,
    /// The log does not reach back far enough to tell all deliveries: those that were over before this position are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub known_from: Option<u64>,
}

/// A delivery of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// The client, if a session has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The number of the session in the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session: Option<u64>,
    /// The number of the delivery in that session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
    /// The shared subscription that it came by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What became of it.
    pub state: State,
    /// The record that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<u64>,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It waits.
    Waiting,
    /// It may have been sent, and was not acknowledged.
    Sent,
    /// The subscriber has it (QoS 2), and did not release it.
    Received,
    /// It is done: acknowledged, or handed to somebody who acknowledges nothing. In records of Wefts before the ledger it may
    /// have expired, too.
    Done,
    /// Its time was over.
    Expired,
    /// The subscriber could not take it, and a dead letter of it is kept.
    DeadLettered,
    /// The log did not hold it any more.
    Lost,
    /// The subscriber may not have it any more.
    Forbidden,
    /// The session gave it up; another member of the group gets it.
    GivenBack,
    /// The queue of the session was full, or its reader too slow.
    Dropped,
    /// The session ended before it was done.
    Ended,
}

impl State {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waits",
            Self::Sent => "was sent and not acknowledged",
            Self::Received => "was received and not released",
            Self::Done => "is done",
            Self::Expired => "expired",
            Self::DeadLettered => "became a dead letter",
            Self::Lost => "was gone from the log",
            Self::Forbidden => "is not allowed any more",
            Self::GivenBack => "was given back",
            Self::Dropped => "was dropped, as the queue was full",
            Self::Ended => "ended with its session",
        }
    }

    fn of(end: End) -> Self {
        match end {
            End::Acked | End::Sent => Self::Done,
            End::DeadLettered => Self::DeadLettered,
            End::Expired => Self::Expired,
            End::QueueFull | End::SlowReader => Self::Dropped,
            End::RecordGone => Self::Lost,
            End::Forbidden => Self::Forbidden,
            End::Left => Self::Ended,
            End::Returned => Self::GivenBack,
        }
    }

    fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::Sent | Self::Received)
    }
}

/// The record, if it holds the event with this CloudEvents id, and source if one is given.
pub fn find(record: &Committed, id: &str, source: Option<&str>) -> Option<Traced> {
    let event = record.event.as_ref()?;
    let wanted = event.id() == id && source.is_none_or(|source| event.source() == source);
    wanted.then(|| Traced::new(record.position, event, &record.note))
}

impl Traced {
    fn new(position: Position, event: &Event, note: &[u8]) -> Self {
        let parts = event.parts();
        let said = |name: &str| {
            let meta = event.meta()?;
            let attribute = meta.attributes.as_ref().and_then(|attributes| {
                attributes.extensions.iter().find(|(known, _)| &**known == name).map(|(_, value)| value)
            });
            attribute.map(Value::as_text).or_else(|| meta.value(name)).map(|text| text.into_owned())
        };
        let dead_letter =
            said("deadlettertopic").map(|topic| (topic, said("deadletterreason").unwrap_or_default()));
        Self {
            position: position.0,
            received: rfc3339(parts.received_ms),
            topic: parts.topic.to_string(),
            source: event.source().into_owned(),
            ty: event.ty().to_owned(),
            publisher: parts.publisher.to_string(),
            bytes: parts.data.len(),
            expires: (parts.expires_ms != 0).then(|| rfc3339(parts.expires_ms)),
            note: describe(note).text,
            repeats_until: Note::read(note).1.map(|once| rfc3339(once.until_ms)),
            dead_letter,
            deliveries: Vec::new(),
            more: 0,
            known_from: None,
        }
    }

    fn add(&mut self, delivery: Delivery) {
        if self.deliveries.len() < SHOWN {
            self.deliveries.push(delivery);
        } else {
            self.more += 1;
        }
    }
}

/// Follows records of events through the log. Takes as much memory as the sessions and retained events of a start.
pub struct Tracer {
    shared: Arc<Shared>,
    dispatcher: Dispatcher,
    /// In the order of the log.
    traced: Vec<Traced>,
    /// So many of them were passed.
    passed: usize,
}

impl Tracer {
    /// Follows `traced`, from a checkpoint on; `None`: from the beginning of the log. `store` has to read what the checkpoint
    /// rests on; nothing is appended to it.
    ///
    /// # Errors
    /// The checkpoint cannot be read.
    pub async fn new(
        options: Options,
        store: Store,
        checkpoint: Option<(Position, &[u8])>,
        traced: Vec<Traced>,
    ) -> Result<Self, Reject> {
        let table = RouteTable::compile(&[] as &[RouteOptions], &[]);
        let table = table.map_err(|reason| Reject::new(event::RejectKind::Malformed, reason))?;
        let (shared, _) = Shared::new(options, store, table, Vec::new());
        let (mut told, mut from) = (Told::default(), None);
        if let Some((position, image)) = checkpoint {
            (_, told) = checkpoint::restore(&shared, position, image).await?;
            from = Some(position.max(told.highest));
        }
        let shared = Arc::new(shared);
        let dispatcher = Dispatcher::new(Arc::clone(&shared), told);
        let mut tracer = Self { shared, dispatcher, traced, passed: 0 };
        if let Some(from) = from {
            for one in tracer.traced.iter_mut().filter(|one| one.position <= from.0) {
                one.known_from = Some(from.0);
            }
        }
        tracer.look_up(checkpoint.map_or(Position(0), |(position, _)| position));
        Ok(tracer)
    }

    /// The record behind which the first one has to be that is passed.
    pub fn start(&self) -> Position {
        *self.shared.dispatched.lock()
    }

    /// Takes the next record of the log.
    pub fn pass(&mut self, record: Committed) {
        let position = record.position;
        let change = match Note::decode(&record.note) {
            Some(Note::Change(change)) => Some(change),
            Some(Note::Event(_) | Note::Part(..) | Note::Apart(_) | Note::Fed(..)) | None => None,
        };
        self.dispatcher.replay(vec![record]);
        if let Some(change) = change {
            self.changed(position, &change);
        }
        if !self.dispatcher.is_in_parts() {
            self.look_up(position);
        }
    }

    /// What was found.
    pub fn finish(mut self) -> Vec<Traced> {
        for traced in &mut self.traced {
            let position = Position(traced.position);
            for delivery in traced.deliveries.iter_mut().filter(|one| one.state.is_open()) {
                let session = delivery.session.and_then(|key| session(&self.shared, key));
                match (&session, delivery.session) {
                    (Some(session), _) => {
                        let mut slots = slots_at(session, position).into_iter();
                        let found = slots.find(|(number, _)| Some(*number) == delivery.number);
                        delivery.state = found.map_or(State::Dropped, |(_, state)| state);
                    }
                    (None, Some(_)) => delivery.state = State::Ended,
                    // It waits in its group, as nothing else was said.
                    (None, None) => {}
                }
            }
        }
        self.traced
    }

    /// Looks up to whom those go that stand at `position` or before, and were not looked up yet.
    fn look_up(&mut self, position: Position) {
        let new = self.traced.iter_mut().skip(self.passed).take_while(|one| one.position <= position.0);
        for traced in new {
            self.passed += 1;
            let at = Position(traced.position);
            let sessions: Vec<Arc<Session>> = self.shared.registry.lock().sessions().cloned().collect();
            for session in sessions {
                for (number, state) in slots_at(&session, at) {
                    traced.add(Delivery { state, ..Delivery::of(&session, number) });
                }
            }
            let groups: Vec<_> = self.shared.groups.lock().values().cloned().collect();
            for group in groups.iter().filter(|group| group.unassigned().contains(&at)) {
                traced.add(Delivery::waiting(group.filter.as_str()));
            }
        }
    }

    /// Looks whether a change of state is about one of them.
    fn changed(&mut self, position: Position, change: &Change) {
        let Self { shared, traced, .. } = self;
        match change {
            Change::Acked { session, ranges, .. } => {
                mark(traced, *session, |number| among(ranges, number), (State::Done, position));
            }
            Change::Over { session, ranges, end, .. } => {
                mark(traced, *session, |number| among(ranges, number), (State::of(*end), position));
            }
            Change::Received { session, numbers } => {
                mark(traced, *session, |number| numbers.contains(&number), (State::Received, position));
            }
            Change::Returned { session, numbers } => {
                mark(traced, *session, |number| numbers.contains(&number), (State::GivenBack, position));
                // Until somebody else gets it, it waits in the group.
                for one in traced.iter_mut() {
                    let back = one.deliveries.iter().find(|delivery| delivery.at == Some(position.0));
                    if let Some(group) = back.and_then(|delivery| delivery.group.clone()) {
                        one.add(Delivery::waiting(&group));
                    }
                }
            }
            Change::Assigned { session: key, filter, list } => {
                let Some(session) = session(shared, *key) else { return };
                given(traced, &session, list, Some(filter.as_str()), position);
            }
            Change::Replayed { session: key, step, .. } => {
                let Some(session) = session(shared, *key) else { return };
                given(traced, &session, &step.list, None, position);
            }
            Change::Settled { filter, positions } => {
                let settled: BTreeSet<u64> = positions.iter().map(|position| position.0).collect();
                for one in traced.iter_mut().filter(|one| settled.contains(&one.position)) {
                    one.deliveries.retain(|delivery| !delivery.waits_in(filter.as_str()));
                    let (state, at) = (State::Done, Some(position.0));
                    one.add(Delivery { state, at, ..Delivery::waiting(filter.as_str()) });
                }
            }
            Change::Ended { .. } | Change::Open { .. } => {
                for delivery in traced.iter_mut().flat_map(|one| &mut one.deliveries) {
                    let over = delivery.session.is_some_and(|key| session(shared, key).is_none());
                    if over && delivery.state.is_open() {
                        (delivery.state, delivery.at) = (State::Ended, Some(position.0));
                    }
                }
            }
            Change::Closed { .. }
            | Change::Subscribed { .. }
            | Change::SubscribedFrom { .. }
            | Change::SubscribedWith { .. }
            | Change::Unsubscribed { .. }
            | Change::Released { .. }
            | Change::Will { .. }
            | Change::WillOff { .. }
            | Change::Held { .. }
            | Change::Decided { .. } => {}
        }
    }
}

impl Delivery {
    fn of(session: &Session, number: u64) -> Self {
        Self {
            client: Some(session.client.to_string()),
            session: Some(session.key),
            number: Some(number),
            group: None,
            state: State::Waiting,
            at: None,
        }
    }

    /// One that waits in a group.
    fn waiting(group: &str) -> Self {
        let group = Some(group.to_owned());
        Self { client: None, session: None, number: None, group, state: State::Waiting, at: None }
    }

    fn waits_in(&self, group: &str) -> bool {
        self.session.is_none() && self.state == State::Waiting && self.group.as_deref() == Some(group)
    }
}

/// Marks deliveries of a session that are not over.
fn mark(traced: &mut [Traced], session: u64, among: impl Fn(u64) -> bool, (state, at): (State, Position)) {
    for delivery in traced.iter_mut().flat_map(|one| &mut one.deliveries) {
        let is_one = delivery.session == Some(session) && delivery.number.is_some_and(&among);
        if is_one && delivery.state.is_open() {
            (delivery.state, delivery.at) = (state, Some(at.0));
        }
    }
}

fn among(ranges: &[(u64, u32)], number: u64) -> bool {
    ranges.iter().any(|(first, count)| (*first..*first + u64::from(*count)).contains(&number))
}

/// A session got some of them by a record of its own.
fn given(traced: &mut [Traced], session: &Session, list: &[Assignment], group: Option<&str>, at: Position) {
    for one in traced {
        let position = Position(one.position);
        if !list.iter().any(|assignment| assignment.position == position) {
            continue;
        }
        if let Some(group) = group {
            one.deliveries.retain(|delivery| !delivery.waits_in(group));
        }
        let known = |number| {
            one.deliveries.iter().any(|d| d.session == Some(session.key) && d.number == Some(number))
        };
        let new: Vec<_> =
            slots_at(session, position).into_iter().filter(|(number, _)| !known(*number)).collect();
        for (number, state) in new {
            let group = group.map(str::to_owned);
            one.add(Delivery { group, state, at: Some(at.0), ..Delivery::of(session, number) });
        }
    }
}

fn session(shared: &Shared, key: u64) -> Option<Arc<Session>> {
    shared.registry.lock().key(key).cloned()
}

/// The deliveries that a session has of the record at `position`: their numbers, and where they are.
fn slots_at(session: &Session, position: Position) -> Vec<(u64, State)> {
    let mailbox = session.mailbox.lock();
    let (first, sent, slots) = mailbox.image();
    let found = (first..).zip(slots).filter(|(_, slot)| slot.position == position);
    let state = |number, state| match state {
        SlotState::Open if number < sent => State::Sent,
        SlotState::Open => State::Waiting,
        SlotState::Received => State::Received,
        SlotState::Done => State::Done,
    };
    found.map(|(number, slot)| (number, state(number, slot.state))).collect()
}
