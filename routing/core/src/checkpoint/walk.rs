//! Takes the state piece by piece, so that dispatch waits for one piece at most and never for all of it.
//!
//! The order of the pieces matters. Replay goes on behind the record at which the walk began. A session that subscribes in
//! replay gets retained events, and with them numbers: the retained events of that moment have to be known by then. So
//! they come first, and no session is taken, and so left to replay, before they are whole. Sessions and shared
//! subscriptions hand positions to each other: all that have to do with one are taken in one piece, at one record.

use std::collections::BTreeSet;

use event::TopicName;
use event::store::Position;
use parking_lot::MutexGuard;
use serde::Serialize;

use super::image::{self, Head, HeldImage, Part, VERSION, WillImage};
use crate::account::{Account, Tenant};
use crate::ledger::{Books, End};
use crate::shared::Shared;
use crate::unique::Once;

/// A state that is being taken.
pub(super) struct Walk {
    next: Next,
    /// Replay starts behind this record.
    pub(super) from: Position,
    /// The lowest position that a cursor waits for.
    pub(super) waiting: Position,
    /// The lowest position that retained events, wills and events that wait need.
    pub(super) state: Position,
    /// What was taken.
    pub(super) bytes: Vec<u8>,
    /// Sessions that have to do with shared subscriptions.
    related: BTreeSet<u64>,
    /// Its number in the ledger.
    number: u64,
}

/// What comes next, and behind what.
enum Next {
    Retained(Option<TopicName>),
    Sessions(u64),
    Groups,
    Wills(u64),
    Held(u64),
    Unique(Option<Once>),
    Ledger,
    Nothing,
}

impl Walk {
    pub(super) fn new(shared: &Shared) -> Self {
        let (from, number) = {
            let dispatched = shared.dispatched.lock();
            (*dispatched, shared.ledger.lock().begin(*dispatched))
        };
        let head = Head { version: VERSION, stamp: shared.stamps.clone().take() };
        let mut walk = Self {
            next: Next::Retained(None),
            from,
            waiting: from,
            state: from,
            bytes: Vec::new(),
            related: BTreeSet::new(),
            number,
        };
        walk.add(&head);
        walk
    }

    /// Takes about `most` things more; false when all is taken.
    pub(super) fn step(&mut self, shared: &Shared, most: usize) -> bool {
        self.next = match std::mem::replace(&mut self.next, Next::Nothing) {
            Next::Retained(after) => self.retained(shared, after.as_ref(), most),
            Next::Sessions(after) => self.sessions(shared, after, most),
            Next::Groups => self.groups(shared),
            Next::Wills(after) => self.wills(shared, after, most),
            Next::Held(after) => self.held(shared, after, most),
            Next::Unique(after) => self.unique(shared, after, most),
            Next::Ledger => self.ledger(shared),
            Next::Nothing => return false,
        };
        true
    }

    fn retained(&mut self, shared: &Shared, after: Option<&TopicName>, most: usize) -> Next {
        let (mut list, mut last) = (Vec::new(), None);
        shared.retained.read().piece(after, most, &mut |kept| {
            list.push((kept.position, kept.guarantee));
            last = Some(kept.event.topic().clone());
        });
        for (position, _) in &list {
            self.state = self.state.min(*position);
        }
        let whole = list.len() < most;
        self.add(&Part::Retained(list));
        if whole { Next::Sessions(0) } else { Next::Retained(last) }
    }

    fn sessions(&mut self, shared: &Shared, mut after: u64, most: usize) -> Next {
        let (mut images, mut taken, mut whole) = (Vec::new(), 0, true);
        let dispatched = shared.dispatched.lock();
        let registry = shared.registry.lock();
        for session in registry.behind_key(after) {
            if taken >= most {
                whole = false;
                break;
            }
            after = session.key;
            taken += 1;
            if session.replaying() > 0 {
                let replays = &session.state.lock().replays;
                let needs =
                    replays.iter().map(|replay| replay.needs(*dispatched, shared.options.queue_bytes.0));
                self.waiting = needs.fold(self.waiting, Position::min);
            }
            if session.durable {
                let (image, lowest) = image::session(session, *dispatched);
                taken += image.slots.len();
                if !image.is_shared() {
                    session.taken(self.number);
                }
                images.push((image, lowest));
            }
        }
        MutexGuard::unlock_fair(registry);
        MutexGuard::unlock_fair(dispatched);
        for (image, lowest) in images {
            if image.is_shared() {
                self.related.insert(image.key);
            } else {
                self.add_session(image, lowest);
            }
        }
        if whole { Next::Groups } else { Next::Sessions(after) }
    }

    /// Shared subscriptions and their members, all at one record.
    fn groups(&mut self, shared: &Shared) -> Next {
        let dispatched = shared.dispatched.lock();
        let as_of = *dispatched;
        let registry = shared.registry.lock();
        let groups = shared.groups.lock();
        let mut related = std::mem::take(&mut self.related);
        groups.values().for_each(|group| related.extend(group.related()));
        let sessions = related.iter().filter_map(|key| registry.key(*key));
        let sessions = sessions.inspect(|session| session.taken(self.number));
        let sessions: Vec<_> = sessions.map(|session| image::session(session, as_of)).collect();
        let fed = groups.values().filter_map(|group| group.lowest_fed());
        self.waiting = fed.fold(self.waiting, Position::min);
        let groups: Vec<_> = groups.values().filter_map(|group| group.image(self.number)).collect();
        drop((registry, dispatched));
        for (image, lowest) in sessions {
            self.add_session(image, lowest);
        }
        for mut image in groups {
            self.add_books(&mut image.books, &image.accounts);
            self.waiting = image.lowest().map_or(self.waiting, |lowest| self.waiting.min(lowest));
            self.add(&Part::Group { as_of, image });
        }
        Next::Wills(0)
    }

    /// A will whose record the dispatcher has not passed is behind the checkpoint, and replayed.
    fn wills(&mut self, shared: &Shared, after: u64, most: usize) -> Next {
        let wills = shared.wills.lock();
        let some = wills.recorded_behind(after).take(most);
        let (list, tenants): (Vec<_>, Vec<_>) = some
            .map(|(id, position, standing)| (WillImage::new(id, position, standing), (id, standing.tenant)))
            .unzip();
        drop(wills);
        self.add_tenants(tenants);
        for image in &list {
            self.state = self.state.min(image.position);
        }
        let last = list.last().filter(|_| list.len() == most).map(|image| image.will);
        self.add(&Part::Wills(list));
        last.map_or(Next::Held(0), Next::Wills)
    }

    fn held(&mut self, shared: &Shared, after: u64, most: usize) -> Next {
        let (list, tenants): (Vec<_>, Vec<_>) = {
            let held = shared.held.lock();
            let some = held.behind(after).take(most);
            some.map(|(id, standing)| (HeldImage::new(id, standing), (id, standing.tenant))).unzip()
        };
        self.add_tenants(tenants);
        for image in &list {
            self.state = self.state.min(image.position);
        }
        let last = list.last().filter(|_| list.len() == most).map(|image| image.held);
        if !list.is_empty() {
            self.add(&Part::Held(list));
        }
        last.map_or(Next::Unique(None), Next::Held)
    }

    /// One whose record the dispatcher has not passed is behind the checkpoint, and replayed.
    fn unique(&mut self, shared: &Shared, after: Option<Once>, most: usize) -> Next {
        let list = shared.unique.lock().piece(after, most);
        let last = list.last().copied().filter(|_| list.len() == most);
        if !list.is_empty() {
            self.add(&Part::Unique(list));
        }
        last.map_or(Next::Ledger, |last| Next::Unique(Some(last)))
    }

    /// The books of all that is not taken, and that replay does not bring back: what waits there ends if Weft goes down.
    fn ledger(&mut self, shared: &Shared) -> Next {
        let sessions: Vec<_> = shared.registry.lock().sessions().cloned().collect();
        let groups: Vec<_> = shared.groups.lock().values().cloned().collect();
        let mut lost = Books::default();
        for session in sessions.iter().filter(|session| !session.durable) {
            lost.add(&session.mailbox.lock().books_if_lost());
        }
        for (mut books, kept) in groups.iter().map(|group| group.books()) {
            if kept.walk != self.number && kept.since <= Some(self.from) {
                books.end_all(End::Left);
                lost.add(&books);
            }
        }
        let mut ledger = shared.ledger.lock();
        let mut books = ledger.image();
        books.add(&lost);
        let names = ledger.names().iter().map(|(id, name)| (*id, name.clone())).collect();
        drop(ledger);
        self.add(&Part::Ledger { books, names });
        self.add(&Part::Intake(shared.intake.image()));
        Next::Nothing
    }

    fn add_tenants(&mut self, mut tenants: Vec<(u64, Tenant)>) {
        tenants.retain(|(_, tenant)| *tenant != Tenant::NONE);
        if !tenants.is_empty() {
            self.add(&Part::Tenants(tenants));
        }
    }

    fn add_books(&mut self, books: &mut Books, accounts: &[Account]) {
        let books = std::mem::take(books);
        let same = accounts.chunk_by(|a, b| a == b);
        let run = |same: &[Account]| Some((*same.first()?, u32::try_from(same.len()).ok()?));
        let accounts: Vec<_> = same.filter_map(run).collect();
        if !books.is_empty() || !accounts.is_empty() {
            self.add(&Part::Books { books, accounts });
        }
    }

    /// A session that joined a shared subscription after it was taken is there twice: the later one counts.
    fn add_session(&mut self, mut image: image::SessionImage, lowest: Option<Position>) {
        self.waiting = lowest.map_or(self.waiting, |lowest| self.waiting.min(lowest));
        self.add_books(&mut image.books, &image.accounts);
        let selects = std::mem::take(&mut image.selects);
        if !selects.is_empty() {
            self.add(&Part::Selects(selects));
        }
        self.add(&Part::Session(image));
    }

    fn add(&mut self, part: &impl Serialize) {
        match postcard::to_extend(part, std::mem::take(&mut self.bytes)) {
            Ok(bytes) => self.bytes = bytes,
            // No part refuses to be written. If one ever did, what is left is no checkpoint, and recovery says so.
            Err(error) => tracing::error!(%error, "a part of a checkpoint could not be written"),
        }
    }
}
