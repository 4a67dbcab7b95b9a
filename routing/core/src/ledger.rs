//! What became of deliveries, counted where they are: each mailbox and each group has books, one book for each route, and
//! what both hold, counted under their own locks, costs no other one.
//!
//! A delivery is owed from the moment in which an event enters a mailbox or a group, and ends once. So at any time, for each
//! route, `owed = queued + the sum of all ends`, where `queued` is what waits or is not acknowledged. What a group hands
//! to a member moves with it from book to book.
//!
//! A checkpoint takes the books of a session or a group with it, as of the same record: replay counts on from there. Those
//! of holders that leave no records, or are over, are in the [`Ledger`]'s own. What waited for a session that does not
//! outlive Weft has ended with it; what went past the log since the last checkpoint is forgotten when Weft is killed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use event::store::Position;
use serde::{Deserialize, Serialize};

use crate::RouteOptions;
use crate::intake::Published;
use crate::notes::ROUTE;
use crate::session::Session;
use crate::shared::Shared;

/// A route, by a digest of its name, which is the same in each run. It stands in the log with each event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct RouteId(pub(crate) u32);

impl RouteId {
    /// What no rule matched.
    pub(crate) const NONE: Self = Self(0);
    /// Retained events for new subscriptions.
    pub(crate) const RETAINED: Self = Self(1);
    /// What replays found.
    pub(crate) const REPLAY: Self = Self(2);
    /// What Weft says about itself.
    pub(crate) const SYSTEM: Self = Self(3);
    /// What a remote store brought for a shared subscription over several nodes.
    pub(crate) const FED: Self = Self(4);
    /// Those that are no rules, with their names.
    pub(crate) const OWN: [(Self, &'static str); 5] = [
        (Self::NONE, "(none)"),
        (Self::RETAINED, "(retained)"),
        (Self::REPLAY, "(replay)"),
        (Self::SYSTEM, "(system)"),
        (Self::FED, "(node)"),
    ];

    /// FNV-1a of the name.
    pub(crate) fn of(name: &str) -> Self {
        let digest = name
            .bytes()
            .fold(0x811c_9dc5_u32, |digest, byte| (digest ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        Self(digest.max(16))
    }

    /// The note of an event that goes this way.
    pub(crate) fn mark(self, note: Bytes) -> Bytes {
        if self == Self::NONE {
            return note;
        }
        let mut out = BytesMut::with_capacity(5 + note.len());
        out.put_u8(ROUTE);
        out.put_u32_le(self.0);
        out.put_slice(&note);
        out.freeze()
    }
}

/// How a delivery ended. The log has these by their place: new ones stand at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum End {
    /// The subscriber acknowledged it.
    Acked,
    /// It was handed to a connection, and nobody acknowledges it.
    Sent,
    /// The subscriber could not take it, and a dead letter of it is kept.
    DeadLettered,
    /// Its time was over.
    Expired,
    /// The queue of the subscriber was full.
    QueueFull,
    /// The subscriber read too slowly for what is not kept.
    SlowReader,
    /// The log does not hold it any more.
    RecordGone,
    /// The subscriber may not have it any more.
    Forbidden,
    /// The connection or the session ended before.
    Left,
    /// A remote store had brought it, and has it again: for another node, or for later.
    Returned,
}

impl End {
    /// All of them.
    pub(crate) const ALL: [Self; 10] = [
        Self::Acked,
        Self::Sent,
        Self::DeadLettered,
        Self::Expired,
        Self::QueueFull,
        Self::SlowReader,
        Self::RecordGone,
        Self::Forbidden,
        Self::Left,
        Self::Returned,
    ];

    /// As a label of metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Acked => "acked",
            Self::Sent => "sent",
            Self::DeadLettered => "dead_lettered",
            Self::Expired => "expired",
            Self::QueueFull => "queue_full",
            Self::SlowReader => "slow_reader",
            Self::RecordGone => "record_gone",
            Self::Forbidden => "forbidden",
            Self::Left => "left",
            Self::Returned => "returned",
        }
    }
}

/// Deliveries of one route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Book {
    pub(crate) owed: u64,
    /// In the order of [`End::ALL`].
    pub(crate) ends: [u64; End::ALL.len()],
}

impl Book {
    pub(crate) fn of(&self, end: End) -> u64 {
        self.ends.get(end as usize).copied().unwrap_or(0)
    }

    fn end(&mut self, end: End, count: u64) {
        if let Some(ended) = self.ends.get_mut(end as usize) {
            *ended += count;
        }
    }

    fn ended(&self) -> u64 {
        self.ends.iter().sum()
    }

    /// What waits, or is not acknowledged.
    pub(crate) fn queued(&self) -> u64 {
        self.owed.saturating_sub(self.ended())
    }

    fn add(&mut self, other: &Self) {
        self.owed += other.owed;
        for (sum, count) in self.ends.iter_mut().zip(&other.ends) {
            *sum += count;
        }
    }
}

/// The books of one holder, by route: mostly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Books(Vec<(RouteId, Book)>);

impl Books {
    fn book(&mut self, route: RouteId) -> &mut Book {
        match self.0.iter().position(|(of, _)| *of == route) {
            Some(at) => self.0.swap(0, at),
            None => {
                self.0.reserve_exact(1);
                self.0.insert(0, (route, Book::default()));
            }
        }
        // It stands in front now, and will mostly be asked for next.
        match self.0.first_mut() {
            Some((_, book)) => book,
            None => unreachable!("a book was just put in"),
        }
    }

    /// A delivery is owed.
    pub(crate) fn owe(&mut self, route: RouteId) {
        self.book(route).owed += 1;
    }

    /// A delivery that is owed ended.
    pub(crate) fn end(&mut self, route: RouteId, end: End) {
        self.book(route).end(end, 1);
    }

    /// A delivery that is owed goes to another holder, which owes it from now on.
    pub(crate) fn pass_on(&mut self, route: RouteId) {
        let book = self.book(route);
        book.owed = book.owed.saturating_sub(1);
    }

    /// All that is owed ended.
    pub(crate) fn end_all(&mut self, end: End) {
        for (_, book) in &mut self.0 {
            book.end(end, book.queued());
        }
    }

    /// Nothing is owed but what has ended: what waits is about to be told anew.
    pub(crate) fn settled(mut self) -> Self {
        self.0.iter_mut().for_each(|(_, book)| book.owed = book.ended());
        self
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (route, book) in &other.0 {
            self.book(*route).add(book);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Of a session or a group: which checkpoints know its books.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// The record with which it begins in the log; `None`: it leaves no records.
    pub(crate) since: Option<Position>,
    /// The walk that took it last.
    pub(crate) walk: u64,
}

/// The books of all that is over or leaves no records.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    over: Books,
    /// Of holders that were over while a walk went on, and that replay from its checkpoint brings to their end once more.
    again: Books,
    walk: Option<Walk>,
    walks: u64,
    /// Names of routes that had events.
    names: BTreeMap<RouteId, String>,
}

#[derive(Clone, Copy, Debug)]
struct Walk {
    number: u64,
    from: Position,
}

impl Ledger {
    /// A checkpoint is about to be taken, with which replay starts behind `from`. Gives the number of the walk.
    pub(crate) fn begin(&mut self, from: Position) -> u64 {
        self.end_walk();
        self.walks += 1;
        self.walk = Some(Walk { number: self.walks, from });
        self.walks
    }

    /// A session or a group is over.
    pub(crate) fn over(&mut self, books: &Books, kept: Kept) {
        let again = self.walk.zip(kept.since);
        match again.is_some_and(|(walk, since)| since > walk.from || kept.walk == walk.number) {
            true => self.again.add(books),
            false => self.over.add(books),
        }
    }

    /// A delivery that nobody owed any more has ended.
    pub(crate) fn left(&mut self, route: RouteId) {
        self.over.owe(route);
        self.over.end(route, End::Left);
    }

    /// The walk is at its end: what its checkpoint has to know beside the books of those it took.
    pub(crate) fn image(&mut self) -> Books {
        let image = self.over.clone();
        self.end_walk();
        image
    }

    fn end_walk(&mut self) {
        self.walk = None;
        self.over.add(&std::mem::take(&mut self.again));
    }

    /// Takes up what a checkpoint holds.
    pub(crate) fn restore(&mut self, books: &Books, names: Vec<(RouteId, String)>) {
        self.over.add(books);
        self.names.extend(names);
    }

    /// The books of all that is over.
    pub(crate) fn sum(&self) -> Books {
        let mut sum = self.over.clone();
        sum.add(&self.again);
        sum
    }

    /// These routes may have events from now on.
    pub(crate) fn name(&mut self, routes: &[RouteOptions]) {
        let names = routes.iter().map(RouteOptions::name);
        self.names.extend(names.map(|name| (RouteId::of(name), name.to_owned())));
    }

    /// Names of all that have books.
    pub(crate) fn names(&self) -> &BTreeMap<RouteId, String> {
        &self.names
    }
}

/// Sessions whose books are read at once.
const PIECE: usize = 1024;

impl Shared {
    /// All books together. Taken piece by piece: while deliveries go on it is that of no one moment, and never counts one
    /// twice.
    fn books(&self) -> Books {
        let mut sum = self.ledger.lock().sum();
        let mut after = 0;
        loop {
            let some: Vec<Arc<Session>> =
                self.registry.lock().behind_key(after).take(PIECE).cloned().collect();
            for session in &some {
                sum.add(&session.mailbox.lock().books);
            }
            match some.last() {
                Some(last) => after = last.key,
                None => break,
            }
        }
        for group in self.groups.lock().values() {
            sum.add(&group.books().0);
        }
        sum
    }

    /// All books together, by the names of their routes, with what became of publishes.
    pub(crate) fn books_by_name(&self) -> BTreeMap<String, (Book, Published)> {
        let (books, published) = (self.books(), self.intake.all());
        let ledger = self.ledger.lock();
        let own = |id: RouteId| RouteId::OWN.iter().find(|(own, _)| *own == id).map(|(_, name)| *name);
        let name = |id: RouteId| {
            let known = own(id).or_else(|| ledger.names.get(&id).map(String::as_str));
            known.map_or_else(|| format!("({:08x})", id.0), str::to_owned)
        };
        let mut by_name: BTreeMap<String, (Book, Published)> = BTreeMap::new();
        for (id, book) in &books.0 {
            by_name.entry(name(*id)).or_default().0.add(book);
        }
        for (id, published) in &published {
            by_name.entry(name(*id)).or_default().1.add(published);
        }
        by_name
    }

    /// Says whether the books agree with what mailboxes and groups hold, which they do whenever nothing moves.
    ///
    /// # Errors
    /// Where they do not.
    pub(crate) fn check_books(&self) -> Result<(), String> {
        let agree = |of: &str, books: &Books, held: BTreeMap<RouteId, u64>| {
            let queued = books.0.iter().map(|(route, book)| (*route, book.queued()));
            let queued: BTreeMap<RouteId, u64> = queued.filter(|(_, count)| *count > 0).collect();
            match queued == held {
                true => Ok(()),
                false => Err(format!("the books of {of} say {queued:?}, it holds {held:?}: {books:?}")),
            }
        };
        for session in self.registry.lock().sessions() {
            let mailbox = session.mailbox.lock();
            agree(session.client.as_str(), &mailbox.books, mailbox.held())?;
        }
        for group in self.groups.lock().values() {
            agree(group.filter.as_str(), &group.books().0, group.held())?;
        }
        agree("what is over", &self.ledger.lock().sum(), BTreeMap::new())
    }
}
