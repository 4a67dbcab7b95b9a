//! The core: implements [`Hub`], owns the parts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use event::admin::ConnectionView;
use event::audit::Wanted;
use event::hub::{Admission, Attach, Attached, Closed, Hub, Publish, Stamps, Will};
use event::store::{Append, Committed, Entry, Feed, Position, Store};
use event::{Audit, Durability, Pending, Principal, Reject, RejectKind, TopicFilter};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::breaker::Remote;
use crate::checkpoint::Told;
use crate::dispatch::Dispatcher;
use crate::feed;
use crate::notes::Change;
use crate::publish::{Marks, Publisher};
use crate::quota::Quotas;
use crate::redelivery;
use crate::rights::denied;
use crate::session::Session;
use crate::session::link::SessionLink;
use crate::shared::{Shared, now_ms};
use crate::table::{EMBEDDED, RouteTable};
use crate::tenant::Tenants;
use crate::wills::{self, Standing};
use crate::{Options, QuotaOptions, RouteOptions, TenantOptions, checkpoint, dispatch, keeper};

/// How much of the log one step of recovery reads.
const SCAN_BYTES: usize = 1 << 20;

/// The core of Weft.
pub struct Core {
    pub(crate) shared: Arc<Shared>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What recovery found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Records replayed behind the checkpoint.
    pub records: u64,
    /// Durable sessions.
    pub sessions: usize,
    /// Deliveries that wait for them.
    pub backlog: usize,
    /// Retained events.
    pub retained: usize,
    /// Wills of clients that were lost with Weft, or before.
    pub wills: usize,
}

impl Recovered {
    fn of(shared: &Shared, records: u64) -> Self {
        Self {
            records,
            sessions: shared.registry.lock().len(),
            backlog: shared.totals.backlog.load(Ordering::Relaxed),
            retained: shared.retained.read().count(),
            wills: shared.wills.lock().len(),
        }
    }
}

fn compile(routes: &[RouteOptions], remotes: &[String]) -> Result<RouteTable, Reject> {
    RouteTable::compile(routes, remotes).map_err(|reason| Reject::new(RejectKind::Malformed, reason))
}

impl Core {
    /// Reads back what the embedded store holds, and starts to dispatch. `remotes` are the stores that routes may name.
    ///
    /// # Errors
    /// A route that names an unknown store, or a store that cannot be read.
    pub async fn recover(
        options: Options,
        routes: &[RouteOptions],
        store: Store,
        feed: Feed,
        remotes: Vec<(String, Store)>,
    ) -> Result<(Arc<Self>, Recovered), Reject> {
        let names: Vec<String> = remotes.iter().map(|(name, _)| name.clone()).collect();
        let table = compile(routes, &names)?;
        let saved = store.load_checkpoint().await?;
        let remotes = remotes.into_iter().map(Remote::new).collect();
        let (mut shared, notices) = Shared::new(options, store, table, remotes);
        shared.ledger.lock().name_routes(routes);
        let (mut stamp, mut told) = (0, Told::default());
        if let Some((position, image)) = saved {
            (stamp, told) = checkpoint::restore(&shared, position, &image).await?;
        }
        let told_up_to = told.highest;
        let from = *shared.dispatched.lock();
        // Replay counts deliveries of the past; the counters that people see start after it.
        let shared_for_replay = Arc::new(shared);
        let mut dispatcher = Dispatcher::new(Arc::clone(&shared_for_replay), told);
        let records = replay_log(&mut dispatcher, &shared_for_replay.store, from).await?;
        stamp = stamp.max(dispatcher.stamp);
        drop(dispatcher);
        shared = Arc::into_inner(shared_for_replay).ok_or_else(Reject::closed)?;
        // A clock that went back must not give stamps out twice.
        shared.stamps = Stamps::starting_at(now_ms().max((stamp >> 20) + 1));
        let shared = Arc::new(shared);
        let recovered = Recovered::of(&shared, records);
        for session in shared.registry.lock().sessions() {
            // Who was connected when Weft went down is away since now.
            session.state.lock().detached_ms.get_or_insert_with(now_ms);
            shared.return_after_crash(session);
        }
        wills::after_crash(&shared);
        let dispatcher = Dispatcher::new(Arc::clone(&shared), Told::default());
        let tasks = vec![
            tokio::spawn(dispatch::run(dispatcher, feed, from)),
            tokio::spawn(keeper::run(Arc::clone(&shared), notices)),
        ];
        let core = Self { shared, tasks: Mutex::new(tasks) };
        if *core.shared.dispatched.lock() < told_up_to {
            // The end of the log is damaged: the checkpoint knows of records that are lost, and would take those that come in
            // their place for known.
            checkpoint::now(&core.shared).await?;
        }
        Ok((Arc::new(core), recovered))
    }

    /// Replaces the routes as a whole: what is published from now on goes by these. What was published before keeps the
    /// route it was given, and its answer. `open` opens a store that no route named so far, once all routes are known to be
    /// right; it stays open.
    ///
    /// # Errors
    /// A route that is wrong, or a store that cannot be opened; the routes of before hold then.
    pub fn set_routes(
        &self,
        routes: &[RouteOptions],
        mut open: impl FnMut(&str) -> Result<Store, String>,
    ) -> Result<(), String> {
        let mut remotes = Vec::clone(&self.shared.remotes.load());
        let mut names: Vec<String> = remotes.iter().map(|remote| remote.name.clone()).collect();
        for name in routes.iter().flat_map(RouteOptions::stores) {
            if name != EMBEDDED && !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        let table = RouteTable::compile(routes, &names)?;
        for name in names.split_off(remotes.len()) {
            let store = open(&name)?;
            remotes.push(Remote::new((name, store)));
            self.shared.remotes.store(Arc::new(remotes.clone()));
        }
        self.shared.ledger.lock().name_routes(routes);
        self.shared.table.store(Arc::new(table));
        // Behind it: who sees the new number finds the new table.
        self.shared.generation.fetch_add(1, Ordering::Release);
        self.shared.routes_changed();
        Ok(())
    }

    /// Replaces tenants and quotas. Quotas that stay go on with what they counted; connections count for those that were for
    /// them when they began.
    pub fn set_quotas(
        &self,
        tenants: &BTreeMap<String, TenantOptions>,
        quotas: &BTreeMap<String, QuotaOptions>,
    ) {
        self.shared.ledger.lock().name_tenants(tenants.keys());
        let before = self.shared.quotas.load();
        let quotas = Quotas::new(quotas, Tenants::new(tenants), &before, Instant::now());
        self.shared.quotas.store(Arc::new(quotas));
    }

    /// Refuses what comes, tells connections that Weft stops, and keeps a checkpoint. The store may be closed after it.
    pub async fn stop(&self) {
        let shared = &self.shared;
        // Those whose delay is not over wait in the log (MQTT 5 §3.1.2.5): their clients may come back to the next run.
        wills::publish_due(shared).await;
        shared.stopping.store(true, Ordering::Release);
        shared.wills_changed.notify_one();
        shared.held_changed.notify_one();
        let sessions: Vec<Arc<Session>> = shared.registry.lock().sessions().cloned().collect();
        for session in sessions {
            session.fill(|mailbox| mailbox.closed = Some(Closed::Stopping));
        }
        // Everything appended before this is dispatched when it is answered.
        let (append, receipt) = Append::new(Vec::new(), Durability::Synced);
        shared.store.append(append).await;
        if let Err(reject) = receipt.await.whole() {
            tracing::warn!(%reject, "the log did not take the last appends");
        } else if let Err(reject) = checkpoint::now(shared).await {
            tracing::warn!(%reject, "no checkpoint was kept at the stop; the next start replays more of the log");
        }
    }

    /// Brings gauges up to date, for a reader that wants them exact.
    pub fn refresh_gauges(&self) {
        keeper::gauges(&self.shared);
    }

    /// What events that are held in memory for subscribers weigh, bytes; `core.memory_bytes` is its limit.
    pub fn memory_bytes(&self) -> usize {
        self.shared.totals.memory.load(Ordering::Relaxed)
    }

    /// Says whether the ledger agrees with what is queued, which it does whenever nothing moves. Looks at every delivery.
    ///
    /// # Errors
    /// Where it does not.
    pub fn check_ledger(&self) -> Result<(), String> {
        self.shared.check_books()
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Waits for the core's tasks; the store has to be closed first.
    pub async fn join(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the core failed");
            }
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        for task in &*self.tasks.lock() {
            task.abort();
        }
    }
}

async fn replay_log(dispatcher: &mut Dispatcher, store: &Store, from: Position) -> Result<u64, Reject> {
    // The store reads ahead meanwhile.
    let (pieces, mut ready) = mpsc::channel(2);
    let reading = tokio::spawn(read_log(store.clone(), from, pieces));
    let mut records = 0;
    while let Some(piece) = ready.recv().await {
        records += piece.len() as u64;
        dispatcher.replay(piece);
    }
    reading.await.map_err(|_| Reject::closed())??;
    Ok(records)
}

/// Hands on all records behind `after`, a piece after the other.
async fn read_log(
    store: Store,
    mut after: Position,
    pieces: mpsc::Sender<Vec<Committed>>,
) -> Result<(), Reject> {
    loop {
        let scanned = store.scan(after, SCAN_BYTES).await?;
        let last = scanned.records.last().map(|record| record.position).filter(|_| !scanned.end);
        pieces.send(scanned.records).await.map_err(|_| Reject::closed())?;
        let Some(last) = last else { return Ok(()) };
        after = last;
    }
}

impl Hub for Core {
    fn attach(&self, who: Principal, request: Attach) -> Pending<Attached> {
        let shared = &self.shared;
        if let Err(reject) = self.may_attach(&who, &request) {
            return Box::pin(std::future::ready(Err(reject)));
        }
        let mut registry = shared.registry.lock();
        let older = registry.client(&who.client).cloned();
        if older.is_none() && registry.len() >= shared.options.sessions as usize {
            let reason = format!("{} sessions, the limit core.sessions", shared.options.sessions);
            return Box::pin(std::future::ready(Err(Reject::new(RejectKind::Busy, reason))));
        }
        let again = older.as_ref().is_some_and(|older| older.mailbox.lock().attached);
        let mut held = match shared.quotas.load().of(&who, Instant::now()).connect(again) {
            Ok(held) => held,
            Err(reject) => return Box::pin(std::future::ready(Err(reject))),
        };
        let holder = registry.new_holder();
        let durable = !request.keep.is_zero();
        // One whose time is over may still be here: it is ended once a second.
        let over = older.as_ref().and_then(|older| older.expires_ms()).is_some_and(|end| end <= now_ms());
        let resumed = older.clone().filter(|older| older.durable && !request.clean && !over);
        let (session, present) = match resumed {
            Some(session) => (session, true),
            None => {
                let key = registry.new_key();
                (Arc::new(Session::new(key, who.client.clone(), durable, request.keep_all)), false)
            }
        };
        let mut change = None;
        if let Some(older) = &older {
            self.take_over(older, holder, present);
            if !present {
                shared.end(&mut registry, older);
                change = older.durable.then_some(Change::Ended { session: older.key });
            }
        }
        if !present {
            registry.insert(Arc::clone(&session));
        }
        let will = request.will.map(|will| shared.add_will(&who, will, &session));
        let unreleased = {
            let mut mailbox = session.mailbox.lock();
            mailbox.pace.start(Instant::now());
            mailbox.attach(holder, redelivery::limits(shared, &session), &shared.totals)
        };
        let (user, peer) = (who.user.clone(), who.peer.clone());
        let view = ConnectionView { user, peer, protocol: request.protocol, since_ms: now_ms() };
        held.set_subscriptions(session.begin(request.keep, view, will.as_ref().map(|(id, _)| *id)));
        if present {
            shared.set_here(&session, true);
        }
        drop(registry);
        if session.durable {
            change = Some(Change::Open {
                session: session.key,
                client: session.client.clone(),
                keep_s: keeper::keep_s(request.keep),
                keep_all: session.keep_all,
                fresh: !present,
            });
        }
        let change = change.map(|change| Entry { event: None, note: change.encode() });
        let entries: Vec<Entry> = change.into_iter().chain(will.map(|(_, entry)| entry)).collect();
        let receipt = (!entries.is_empty()).then(|| shared.append_entries(entries, Durability::Synced));
        let mut link =
            Box::new(SessionLink::new(Arc::clone(shared), Arc::clone(&session), (who, held), holder));
        Box::pin(async move {
            if let Some(receipt) = receipt {
                receipt.await.whole()?;
            }
            link.accepted = true;
            if present {
                link.revoke();
            }
            let received_ids = session.state.lock().received_ids.iter().copied().collect();
            Ok(Attached { link, present, received_ids, unreleased })
        })
    }

    fn publish(&self, who: &Principal, batch: Vec<Publish>) -> Admission {
        Publisher::default().publish(&self.shared, who, Marks::default(), batch)
    }

    fn stamps(&self) -> Stamps {
        self.shared.stamps.clone()
    }

    fn groups(&self, store: &str) -> watch::Receiver<BTreeSet<TopicFilter>> {
        self.shared.groups_for(store)
    }

    fn feed(&self, group: &TopicFilter, batch: Vec<Publish>) -> Admission {
        feed::feed(&self.shared, group, batch)
    }

    fn audit(&self) -> Audit {
        self.shared.audit.clone()
    }
}

impl Core {
    /// Whether Weft takes clients, and this one may have its will.
    fn may_attach(&self, who: &Principal, request: &Attach) -> Result<(), Reject> {
        if self.shared.is_stopping() {
            return Err(Reject::closed());
        }
        let forbidden = |will: &Will| {
            let topic = will.publish.event.topic();
            topic.is_reserved() || !who.rights.may_publish(topic)
        };
        let Some(will) = request.will.as_ref().filter(|will| forbidden(will)) else { return Ok(()) };
        let reject = denied("not allowed to publish to the topic of the will");
        let topic = will.publish.event.topic().as_str();
        self.shared.audit.refused(who, Wanted::Publish, Some(topic), &reject, Instant::now());
        Err(reject)
    }

    /// Takes a session from the connection that has it, and deals with that connection's will.
    fn take_over(&self, older: &Session, holder: u64, present: bool) {
        let shared = &self.shared;
        older.fill(|mailbox| mailbox.holder = holder);
        let will = older.state.lock().will.take();
        if let Some(will) = will {
            wills::taken_over(shared, will, present);
        }
    }
}

impl Shared {
    /// Appends a change of state now, in the order of calls, and tells when it is kept and dispatched.
    pub(crate) fn append(&self, change: &Change, durability: Durability) -> event::hub::Receipt {
        self.append_entries(vec![Entry { event: None, note: change.encode() }], durability)
    }

    /// As [`Self::append`], for records that belong together.
    fn append_entries(&self, entries: Vec<Entry>, durability: Durability) -> event::hub::Receipt {
        let (append, receipt) = Append::new(entries, durability);
        match self.store.try_append(append) {
            Ok(()) => receipt,
            Err(append) => {
                let store = self.store.clone();
                event::hub::Receipt::joined(async move {
                    store.append(append).await;
                    receipt.await
                })
            }
        }
    }

    /// Adds the will of a client that connects. Gives its number and its record.
    fn add_will(&self, who: &Principal, will: Will, session: &Session) -> (u64, Entry) {
        let id = self.stamps.clone().take();
        let tenant = self.quotas.load().tenants.of(who);
        let standing = Standing::new(who.clone(), tenant, will, session.durable.then_some(session.key));
        let entry = standing.entry(id, false);
        self.wills.lock().add(id, standing);
        (id, entry)
    }

    /// Appends a change of state that nobody waits for; false when there is no room.
    pub(crate) fn append_unanswered(&self, change: &Change) -> bool {
        let entry = Entry { event: None, note: change.encode() };
        self.store.try_append(Append::unanswered(vec![entry])).is_ok()
    }
}
