//! Takes a checkpoint up again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use event::store::Position;
use event::{Guarantee, Reject, RejectKind};
use foldhash::fast::RandomState;
use serde::de::DeserializeOwned;

use super::image::{Head, HeldImage, OLDEST, Part, SessionImage, SlotImage, VERSION, WillImage};
use crate::account::{Account, Tenant};
use crate::held;
use crate::keeper;
use crate::ledger::Books;
use crate::session::Session;
use crate::session::slot::{Slot, SlotState};
use crate::shared::Shared;
use crate::wills::Standing;

/// What a checkpoint has told: for each session and group up to which record.
#[derive(Debug, Default)]
pub(crate) struct Told {
    of: HashMap<u64, Position, RandomState>,
    /// No record behind this one is told to anyone.
    pub(crate) highest: Position,
}

impl Told {
    fn add(&mut self, key: u64, as_of: Position) {
        self.of.insert(key, as_of);
        self.highest = self.highest.max(as_of);
    }

    /// Whether the session or group with this key has seen the record at `position`.
    pub(crate) fn knows(&self, key: u64, position: Position) -> bool {
        position <= self.highest && self.of.get(&key).is_some_and(|as_of| position <= *as_of)
    }
}

/// Takes up a checkpoint. Gives the highest stamp it knows, and what it has told.
pub(crate) async fn restore(
    shared: &Shared,
    position: Position,
    mut bytes: &[u8],
) -> Result<(u64, Told), Reject> {
    let head: Head = next(&mut bytes)?;
    if !(OLDEST..=VERSION).contains(&head.version) {
        let reason = format!(
            "the checkpoint has version {}, this weft reads versions {OLDEST} to {VERSION}",
            head.version
        );
        return Err(Reject::new(RejectKind::Unavailable, reason));
    }
    *shared.dispatched.lock() = position;
    let mut told = Told::default();
    let (mut retained, mut wills) = (Vec::new(), Vec::new());
    let (mut related, mut groups) = (Vec::new(), Vec::new());
    let (mut selects, mut books, mut accounts) = (Vec::new(), Books::default(), Vec::new());
    let mut tenants = BTreeMap::new();
    while !bytes.is_empty() {
        match next(&mut bytes)? {
            Part::Retained(list) => retained.extend(list),
            Part::Selects(list) => selects = list,
            Part::Session(mut image) => {
                image.selects = std::mem::take(&mut selects);
                (image.books, image.accounts) = (std::mem::take(&mut books), std::mem::take(&mut accounts));
                told.add(image.key, image.as_of);
                let has_shared = image.slots.iter().any(|slot| slot.group.is_some());
                let (session, queue) = restore_session(shared, image);
                if has_shared {
                    related.push((session, queue));
                } else {
                    restore_queue(shared, &session, queue);
                }
            }
            Part::Group { as_of, mut image } => {
                (image.books, image.accounts) = (std::mem::take(&mut books), std::mem::take(&mut accounts));
                groups.push((as_of, image));
            }
            Part::Wills(list) => wills.extend(list),
            Part::Held(list) => {
                for image in list {
                    let tenant = tenants.remove(&image.held).unwrap_or_default();
                    restore_held(shared, image, tenant);
                }
            }
            Part::Tenants(list) => tenants.extend(list),
            Part::Unique(list) => list.into_iter().for_each(|once| shared.known(once)),
            Part::Books { books: of, accounts: runs } => {
                books = of;
                let run = |(account, count): (Account, u32)| std::iter::repeat_n(account, count as usize);
                accounts = runs.into_iter().flat_map(run).collect();
            }
            Part::Intake(all) => shared.intake.restore(all),
            Part::Ledger { books, names } => shared.ledger.lock().restore(&books, names),
        }
    }
    // Now each group is there, and then what its members have of it.
    for (session, queue) in related {
        restore_queue(shared, &session, queue);
    }
    for (as_of, image) in groups {
        if let Some(group) = shared.group(&image.filter) {
            told.add(group.key, as_of);
            group.restore(image, shared);
        }
    }
    restore_retained(shared, retained).await?;
    restore_wills(shared, wills, &tenants).await?;
    Ok((head.stamp, told))
}

fn next<T: DeserializeOwned>(bytes: &mut &[u8]) -> Result<T, Reject> {
    let (part, rest) = postcard::take_from_bytes(bytes).map_err(|error| {
        Reject::new(RejectKind::Unavailable, format!("the checkpoint cannot be read: {error}"))
    })?;
    *bytes = rest;
    Ok(part)
}

/// Events that are read from the log at a time.
const LOAD: usize = 1024;

async fn restore_retained(shared: &Shared, mut list: Vec<(Position, Guarantee)>) -> Result<(), Reject> {
    list.sort_unstable_by_key(|(position, _)| *position);
    for some in list.chunks(LOAD) {
        let events = shared.store.read(some.iter().map(|(position, _)| *position).collect()).await?;
        let mut kept = shared.retained.write();
        for ((position, guarantee), event) in some.iter().zip(events) {
            match event {
                Some(event) => kept.set(&event, *guarantee, *position),
                None => tracing::error!(position = position.0, "a retained event is gone from the log"),
            }
        }
    }
    Ok(())
}

async fn restore_wills(
    shared: &Shared,
    mut images: Vec<WillImage>,
    tenants: &BTreeMap<u64, Tenant>,
) -> Result<(), Reject> {
    images.sort_unstable_by_key(|image| image.position);
    for some in images.chunks(LOAD) {
        let events = shared.store.read(some.iter().map(|image| image.position).collect()).await?;
        let mut wills = shared.wills.lock();
        for (image, event) in some.iter().zip(events) {
            let WillImage { will, position, session, ref client, delay_ms, guarantee, retain } = *image;
            match event {
                Some(event) => {
                    let publish = (event, guarantee, retain);
                    let whose = (client.clone(), tenants.get(&will).copied().unwrap_or_default());
                    wills.add(will, Standing::recovered(whose, session, delay_ms, publish, position));
                }
                None => tracing::error!(position = position.0, "a will is gone from the log"),
            }
        }
    }
    Ok(())
}

fn restore_held(shared: &Shared, image: HeldImage, tenant: Tenant) {
    let HeldImage { held, position, client, guarantee, retain, until, weight } = image;
    let weight = usize::try_from(weight).unwrap_or(usize::MAX);
    shared.hold(held, held::Standing::new((client, tenant), (guarantee, retain), until, position, weight));
}

/// What waits for a session: the number of the first slot, the numbers that may have been sent, the slots with their routes,
/// the books.
type QueueImage = (u64, u64, Vec<(SlotImage, Account)>, Books);

fn restore_session(shared: &Shared, image: SessionImage) -> (Arc<Session>, QueueImage) {
    let session = Arc::new(Session::new(image.key, image.client, true, image.keep_all));
    session.begins(Position(0));
    {
        let mut registry = shared.registry.lock();
        let older = [registry.key(image.key), registry.client(&session.client)];
        for older in older.map(|older| older.cloned()).into_iter().flatten() {
            if older.key == image.key {
                // Taken twice: the later books go on.
                older.mailbox.lock().books = Books::default();
            }
            shared.end(&mut registry, &older);
        }
        registry.insert(Arc::clone(&session));
    }
    {
        let mut state = session.state.lock();
        state.keep = keeper::keep_of(image.keep_s);
        state.detached_ms = image.detached_ms;
        state.received_ids = image.received_ids.into_iter().collect();
    }
    for (filter, options) in image.subscriptions {
        let select = image.selects.iter().find(|(known, _)| *known == filter).map(|(_, select)| select);
        let selection = select.map(|select| shared.selections.recorded(select, &shared.metrics));
        shared.restore_subscription(&session, filter, options, selection);
    }
    for replay in image.replays {
        shared.restore_replay(&session, replay);
    }
    let accounts = image.accounts.into_iter().chain(std::iter::repeat(Account::NONE));
    let slots = image.slots.into_iter().zip(accounts).collect();
    (session, (image.first, image.sent, slots, image.books))
}

fn restore_queue(shared: &Shared, session: &Session, (first, sent, slots, books): QueueImage) {
    let mut position = Position(0);
    let slots = slots.into_iter().map(|(slot, account)| {
        position.0 = position.0.wrapping_add_signed(slot.step);
        let mut restored = Slot::new(position, slot.guarantee, slot.retain, slot.state);
        (restored.weight, restored.account) = (slot.weight, account);
        restored.ids = (!slot.ids.is_empty()).then(|| Arc::from(slot.ids));
        restored.group = slot.group.and_then(|filter| shared.group(&filter));
        if let Some(group) = restored.group.as_ref().filter(|_| slot.state != SlotState::Done) {
            group.restore_out(session.key, &restored);
        }
        restored
    });
    session.mailbox.lock().restore(first, sent, slots, books, &shared.totals);
}
