//! What an operator may see and end: sessions, subscriptions, retained events. Every list comes in pages, so that looking
//! at a million of something costs no more at a time than looking at a hundred.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::hub::SubscribeOptions;
use crate::store::Position;
use crate::{ClientId, Event, Guarantee, Pending, Select, TopicFilter, TopicName};

/// The operator's view of the core.
pub trait Admin: Send + Sync {
    /// Sessions in the order of their client ids, behind `after`, at most `limit`.
    fn sessions(&self, after: Option<&ClientId>, limit: usize) -> Vec<SessionView>;

    /// One session; `None`: there is none of this client.
    fn session(&self, client: &ClientId) -> Option<SessionView>;

    /// What a session subscribed, by filter; `None`: there is no such session.
    fn subscriptions(&self, client: &ClientId) -> Option<Vec<SubscriptionView>>;

    /// Ends the connection of a session; its protocol tells the client that an operator did it. With `forget` the session
    /// ends as well, with all that it is owed. Its will is published as that of a lost client.
    fn end(&self, client: &ClientId, forget: bool) -> Ending;

    /// Retained events that `filter` matches, in the order of their topics, behind `after`, at most `limit`.
    fn retained(
        &self,
        filter: &TopicFilter,
        after: Option<&TopicName>,
        limit: usize,
    ) -> Pending<Vec<RetainedView>>;

    /// Forgets the retained events of these topics; resolves when that is kept.
    fn forget(&self, topics: Vec<TopicName>) -> Pending<()>;

    /// What became of all publishes and deliveries, for each route and tenant that had any, in the order of their names.
    fn ledger(&self) -> Vec<LedgerView>;
}

/// What became of the publishes of one route and tenant, and of their deliveries, since the data folder was made. For the publishes
/// `came = under_way + the sum of all fates`, for the deliveries `owed = queued + the sum of all ends`, as long as nothing moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerView {
    /// The name of the route. Deliveries of no route stand under a name in parentheses.
    pub route: String,
    /// The name of the tenant whose publishes they are; "": they are no tenant's.
    pub tenant: String,
    /// Publishes that were handed over.
    pub came: u64,
    /// Those of which nobody knows yet.
    pub under_way: u64,
    /// How many came to which end, by the names of the ends.
    pub fates: Vec<(&'static str, u64)>,
    /// Deliveries that were to be made: one for each subscriber that an event was for.
    pub owed: u64,
    /// Those that wait, or were sent and are not acknowledged.
    pub queued: u64,
    /// How many ended in which way, by the names of the ways.
    pub ends: Vec<(&'static str, u64)>,
}

/// A session, as it is now.
#[derive(Clone, Debug)]
pub struct SessionView {
    /// Whose it is.
    pub client: ClientId,
    /// Its connection; `None`: the client is away.
    pub connection: Option<Arc<ConnectionView>>,
    /// When its last connection ended, milliseconds since 1970.
    pub away_since_ms: Option<u64>,
    /// It survives the end of its connection.
    pub durable: bool,
    /// For how long; [`Duration::MAX`], or nearly: for ever.
    pub keep: Duration,
    /// How much it subscribed.
    pub subscriptions: usize,
    /// Deliveries that were sent and are not acknowledged.
    pub inflight: usize,
    /// Events that wait to be sent.
    pub queued: usize,
    /// What waiting events take of the memory; the others wait in the log.
    pub queued_bytes: usize,
    /// Events that were dropped because it was too slow, or away for too long.
    pub dropped: u64,
}

/// A subscription.
#[derive(Clone, Debug)]
pub struct SubscriptionView {
    /// Its topics.
    pub filter: TopicFilter,
    /// How it wants their events.
    pub options: SubscribeOptions,
    /// Which of them.
    pub select: Option<Select>,
}

/// Who is at the other end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionView {
    /// The user that was proved.
    pub user: Option<Arc<str>>,
    /// The client's address, and the listener it came by; `None` for parts of Weft.
    pub peer: Option<(SocketAddr, Arc<str>)>,
    /// What it speaks, with its version.
    pub protocol: &'static str,
    /// When it came, milliseconds since 1970.
    pub since_ms: u64,
}

/// What became of the wish to end a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Done.
    Ended,
    /// The client is away, and its session was to stay.
    Away,
    /// There is no such session.
    Unknown,
    /// It is a part of Weft.
    Ours,
}

/// A retained event.
#[derive(Clone, Debug)]
pub struct RetainedView {
    /// The event.
    pub event: Event,
    /// How it was published.
    pub guarantee: Guarantee,
    /// Where the log holds it.
    pub position: Position,
}
