//! What became of deliveries, counted where they are: each mailbox and each group has books, one book for each account, and
//! what both hold, counted under their own locks, costs no other one.
//!
//! A delivery is owed from the moment in which an event enters a mailbox or a group, and ends once. So at any time, for each
//! account, `owed = queued + the sum of all ends`, where `queued` is what waits or is not acknowledged. What a group hands
//! to a member moves with it from book to book.
//!
//! A checkpoint takes the books of a session or a group with it, as of the same record: replay counts on from there. Those
//! of holders that leave no records, or are over, are in the [`Ledger`]'s own. What waited for a session that does not
//! outlive Weft has ended with it; what went past the log since the last checkpoint is forgotten when Weft is killed.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::store::Position;
use serde::{Deserialize, Serialize};

use crate::RouteOptions;
use crate::account::{Account, Tenant};
use crate::intake::Published;
use crate::session::Session;
use crate::shared::Shared;

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

/// Deliveries of one account.
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

/// The books of one holder, by account: mostly one.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Books {
    /// Sorted.
    list: Vec<(Account, Book)>,
    /// The place of the one that was asked for last, and will mostly be asked for next.
    #[serde(skip)]
    last: usize,
}

impl Books {
    fn book(&mut self, account: Account) -> &mut Book {
        if self.list.get(self.last).is_none_or(|(of, _)| *of != account) {
            self.last = self.list.binary_search_by_key(&account, |(of, _)| *of).unwrap_or_else(|at| {
                if self.list.len() < FEW {
                    self.list.reserve_exact(1);
                }
                self.list.insert(at, (account, Book::default()));
                at
            });
        }
        match self.list.get_mut(self.last) {
            Some((_, book)) => book,
            None => unreachable!("it was just found, or put in"),
        }
    }

    /// A delivery is owed.
    pub(crate) fn owe(&mut self, route: Account) {
        self.book(route).owed += 1;
    }

    /// A delivery that is owed ended.
    pub(crate) fn end(&mut self, route: Account, end: End) {
        self.book(route).end(end, 1);
    }

    /// A delivery that is owed goes to another holder, which owes it from now on.
    pub(crate) fn pass_on(&mut self, route: Account) {
        let book = self.book(route);
        book.owed = book.owed.saturating_sub(1);
    }

    /// All that is owed ended.
    pub(crate) fn end_all(&mut self, end: End) {
        for (_, book) in &mut self.list {
            book.end(end, book.queued());
        }
    }

    /// Nothing is owed but what has ended: what waits is about to be told anew.
    pub(crate) fn settled(mut self) -> Self {
        self.list.iter_mut().for_each(|(_, book)| book.owed = book.ended());
        // Checkpoints of Wefts before tenants have them in another order.
        self.list.sort_unstable_by_key(|(account, _)| *account);
        self
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (account, book) in &other.list {
            self.book(*account).add(book);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// A holder with no more books than this has no room for others.
const FEW: usize = 4;

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
    /// Names of routes that had events, and of tenants, each of them alone.
    names: BTreeMap<Account, String>,
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
    pub(crate) fn left(&mut self, route: Account) {
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
    pub(crate) fn restore(&mut self, books: &Books, names: Vec<(Account, String)>) {
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
    pub(crate) fn name_routes(&mut self, routes: &[RouteOptions]) {
        let names = routes.iter().map(RouteOptions::name);
        self.names.extend(names.map(|name| (Account::route(name), name.to_owned())));
    }

    /// These tenants may publish from now on.
    pub(crate) fn name_tenants<'a>(&mut self, tenants: impl Iterator<Item = &'a String>) {
        self.names.extend(tenants.map(|name| (Tenant::named(name).account(), name.clone())));
    }

    /// The names of its route and its tenant; no name for no tenant.
    fn names_of(&self, account: Account) -> (String, String) {
        let (route, tenant) = (account.of(Tenant::NONE), account.tenant());
        let own = || Account::OWN.iter().find(|(own, _)| *own == route).map(|(_, name)| *name);
        let named = |part: Account| self.names.get(&part).map(String::as_str);
        let shown = |name: Option<&str>, part: Account| match name {
            Some(name) => name.to_owned(),
            None => format!("({:08x})", part.digest()),
        };
        let tenant = match tenant {
            Tenant::NONE => String::new(),
            tenant => shown(named(tenant.account()), tenant.account()),
        };
        (shown(own().or_else(|| named(route)), route), tenant)
    }

    /// Names of all that have books.
    pub(crate) fn names(&self) -> &BTreeMap<Account, String> {
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

    /// All books together, by the names of their routes and tenants, with what became of publishes.
    pub(crate) fn books_by_name(&self) -> BTreeMap<(String, String), (Book, Published)> {
        let (books, published) = (self.books(), self.intake.all());
        let ledger = self.ledger.lock();
        let mut by_name: BTreeMap<(String, String), (Book, Published)> = BTreeMap::new();
        for (account, book) in &books.list {
            by_name.entry(ledger.names_of(*account)).or_default().0.add(book);
        }
        for (account, published) in &published {
            by_name.entry(ledger.names_of(*account)).or_default().1.add(published);
        }
        by_name
    }

    /// Says whether the books agree with what mailboxes and groups hold, which they do whenever nothing moves.
    ///
    /// # Errors
    /// Where they do not.
    pub(crate) fn check_books(&self) -> Result<(), String> {
        let agree = |of: &str, books: &Books, held: BTreeMap<Account, u64>| {
            let queued = books.list.iter().map(|(route, book)| (*route, book.queued()));
            let queued: BTreeMap<Account, u64> = queued.filter(|(_, count)| *count > 0).collect();
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
