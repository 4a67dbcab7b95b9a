//! Checkpoints: the state of durable sessions and retained events as of a position of the log, so that recovery replays
//! only what is behind it, and the log may free what is before it.

use std::sync::Arc;

use bytes::Bytes;
use event::hub::SubscribeOptions;
use event::store::{Append, Entry, Position};
use event::{ClientId, Guarantee, Reject, RejectKind, TopicFilter};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::group::GroupImage;
use crate::keeper;
use crate::notes::EventNote;
use crate::retained::Kept;
use crate::session::Session;
use crate::session::mailbox::{Slot, SlotState};
use crate::shared::Shared;
use crate::wills::{self, Standing};

/// The version of [`Image`] that this code writes.
const VERSION: u16 = 3;
/// Retained events that stand so many checkpoints back are appended again, so that their segments can be freed.
const MOVE_AFTER: u64 = 4;

#[derive(Serialize, Deserialize)]
struct Image {
    version: u16,
    stamp: u64,
    sessions: Vec<SessionImage>,
    /// What waits in shared subscriptions that durable sessions are members of.
    groups: Vec<GroupImage>,
    /// Retained events by record; the log holds them.
    retained: Vec<(Position, Guarantee)>,
    wills: Vec<WillImage>,
}

#[derive(Serialize, Deserialize)]
struct SessionImage {
    key: u64,
    client: ClientId,
    keep_s: u64,
    keep_all: bool,
    detached_ms: Option<u64>,
    subscriptions: Vec<(TopicFilter, SubscribeOptions)>,
    received_ids: Vec<u16>,
    first: u64,
    sent: u64,
    slots: Vec<SlotImage>,
}

/// The log holds the event.
#[derive(Serialize, Deserialize)]
struct WillImage {
    will: u64,
    position: Position,
    session: Option<u64>,
    client: ClientId,
    delay_ms: u64,
    guarantee: Guarantee,
    retain: bool,
}

#[derive(Serialize, Deserialize)]
struct SlotImage {
    position: Position,
    guarantee: Guarantee,
    retain: bool,
    state: SlotState,
    weight: u32,
    ids: Vec<u32>,
    /// The shared subscription it came by.
    group: Option<TopicFilter>,
}

/// When checkpoints are made.
pub(crate) struct Schedule {
    last: Position,
    running: Option<JoinHandle<()>>,
}

impl Schedule {
    pub(crate) fn new(shared: &Shared) -> Self {
        Self { last: *shared.dispatched.lock(), running: None }
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
        let (position, image, needed) = take(shared);
        let shared = Arc::clone(shared);
        self.running = Some(tokio::spawn(async move {
            if let Err(reject) = keep(&shared, position, image, needed).await {
                tracing::warn!(%reject, "a checkpoint was not kept; the one before it holds");
            }
        }));
    }
}

/// Makes a checkpoint of what was dispatched, and waits until it is kept.
pub(crate) async fn now(shared: &Arc<Shared>) -> Result<(), Reject> {
    let (position, image, needed) = take(shared);
    keep(shared, position, image, needed).await
}

async fn keep(shared: &Shared, position: Position, image: Bytes, needed: Needed) -> Result<(), Reject> {
    shared.store.checkpoint(position, image).await?;
    shared.store.hold(needed.any, needed.state);
    let old = Position(position.0.saturating_sub(MOVE_AFTER * shared.options.checkpoint_bytes.0));
    move_retained(shared, old).await;
    wills::move_old(shared, old).await;
    Ok(())
}

/// The lowest positions that are needed.
#[derive(Clone, Copy)]
struct Needed {
    /// By anything.
    any: Position,
    /// By what is no cursor: retained events and wills.
    state: Position,
}

/// The state as of the last dispatched record, and what it needs.
fn take(shared: &Shared) -> (Position, Bytes, Needed) {
    let dispatched = shared.dispatched.lock();
    let (mut waiting, mut state) = (*dispatched, *dispatched);
    let mut image = Image {
        version: VERSION,
        stamp: 0,
        sessions: Vec::new(),
        groups: Vec::new(),
        retained: Vec::new(),
        wills: Vec::new(),
    };
    image.stamp = shared.stamps.clone().take();
    let registry = shared.registry.lock();
    for session in registry.sessions().filter(|session| session.durable) {
        image.sessions.push(session_image(session));
        waiting = session.mailbox.lock().lowest().map_or(waiting, |lowest| waiting.min(lowest));
    }
    drop(registry);
    for group in shared.groups.lock().values().filter_map(|group| group.image()) {
        waiting = group.lowest().map_or(waiting, |lowest| waiting.min(lowest));
        image.groups.push(group);
    }
    shared.retained.read().each(&mut |kept| {
        state = state.min(kept.position);
        image.retained.push((kept.position, kept.guarantee));
    });
    // A will whose record the dispatcher has not passed is behind the checkpoint, and replayed.
    for (will, position, standing) in shared.wills.lock().recorded() {
        state = state.min(position);
        image.wills.push(WillImage::new(will, position, standing));
    }
    let bytes = postcard::to_allocvec(&image).unwrap_or_default();
    (*dispatched, Bytes::from(bytes), Needed { any: waiting.min(state), state })
}

impl WillImage {
    fn new(will: u64, position: Position, standing: &Standing) -> Self {
        Self {
            will,
            position,
            session: standing.session,
            client: standing.who.client.clone(),
            delay_ms: u64::try_from(standing.will.delay.as_millis()).unwrap_or(u64::MAX),
            guarantee: standing.will.publish.guarantee,
            retain: standing.will.publish.retain,
        }
    }
}

fn session_image(session: &Session) -> SessionImage {
    let state = session.state.lock();
    let mailbox = session.mailbox.lock();
    let (first, sent, slots) = mailbox.image();
    let slot_image = |slot: &Slot| SlotImage {
        position: slot.position,
        guarantee: slot.guarantee,
        retain: slot.retain,
        state: slot.state,
        weight: slot.weight,
        ids: slot.ids.as_deref().unwrap_or_default().to_vec(),
        group: slot.group.as_ref().map(|group| group.filter.clone()),
    };
    SessionImage {
        key: session.key,
        client: session.client.clone(),
        keep_s: keeper::keep_s(state.keep),
        keep_all: session.keep_all,
        detached_ms: state.detached_ms,
        subscriptions: state
            .subscriptions
            .iter()
            .map(|(filter, options)| (filter.clone(), *options))
            .collect(),
        received_ids: state.received_ids.iter().copied().collect(),
        first,
        sent,
        slots: slots.map(slot_image).collect(),
    }
}

/// Takes up a checkpoint. Gives the highest stamp it knows.
pub(crate) async fn restore(shared: &Shared, position: Position, image: &[u8]) -> Result<u64, Reject> {
    let image: Image = postcard::from_bytes(image).map_err(|error| {
        Reject::new(RejectKind::Unavailable, format!("the checkpoint cannot be read: {error}"))
    })?;
    if image.version != VERSION {
        let reason =
            format!("the checkpoint has version {}, this weft reads version {VERSION}", image.version);
        return Err(Reject::new(RejectKind::Unavailable, reason));
    }
    *shared.dispatched.lock() = position;
    let mut retained = image.retained;
    retained.sort_unstable_by_key(|(position, _)| *position);
    for some in retained.chunks(1024) {
        let events = shared.store.read(some.iter().map(|(position, _)| *position).collect()).await?;
        let mut kept = shared.retained.write();
        for ((position, guarantee), event) in some.iter().zip(events) {
            match event {
                Some(event) => kept.set(&event, *guarantee, *position),
                None => tracing::error!(position = position.0, "a retained event is gone from the log"),
            }
        }
    }
    restore_wills(shared, image.wills).await?;
    for session in image.sessions {
        restore_session(shared, session);
    }
    for image in image.groups {
        if let Some(group) = shared.group(&image.filter) {
            group.restore(image, shared);
        }
    }
    Ok(image.stamp)
}

async fn restore_wills(shared: &Shared, mut images: Vec<WillImage>) -> Result<(), Reject> {
    images.sort_unstable_by_key(|image| image.position);
    for some in images.chunks(1024) {
        let events = shared.store.read(some.iter().map(|image| image.position).collect()).await?;
        let mut wills = shared.wills.lock();
        for (image, event) in some.iter().zip(events) {
            let WillImage { will, position, session, ref client, delay_ms, guarantee, retain } = *image;
            match event {
                Some(event) => {
                    let publish = (event, guarantee, retain);
                    let client = client.clone();
                    wills.add(will, Standing::recovered(client, session, delay_ms, publish, position));
                }
                None => tracing::error!(position = position.0, "a will is gone from the log"),
            }
        }
    }
    Ok(())
}

fn restore_session(shared: &Shared, image: SessionImage) {
    let session = Arc::new(Session::new(image.key, image.client, true, image.keep_all));
    shared.registry.lock().insert(Arc::clone(&session));
    {
        let mut state = session.state.lock();
        state.keep = keeper::keep_of(image.keep_s);
        state.detached_ms = image.detached_ms;
        state.received_ids = image.received_ids.into_iter().collect();
    }
    for (filter, options) in image.subscriptions {
        shared.restore_subscription(&session, filter, options);
    }
    let slots = image.slots.into_iter().map(|slot| {
        let mut restored = Slot::new(slot.position, slot.guarantee, slot.retain, slot.state);
        restored.weight = slot.weight;
        restored.ids = (!slot.ids.is_empty()).then(|| Arc::from(slot.ids));
        restored.group = slot.group.and_then(|filter| shared.group(&filter));
        if let Some(group) = restored.group.as_ref().filter(|_| slot.state != SlotState::Done) {
            group.restore_out(session.key, &restored);
        }
        restored
    });
    session.mailbox.lock().restore(image.first, image.sent, slots, &shared.totals);
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
