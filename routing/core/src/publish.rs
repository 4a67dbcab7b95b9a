//! A batch on its way in: who wants it, which store keeps it, and the one receipt that answers it.

#![expect(clippy::async_yields_async, reason = "an admission resolves to a receipt, which is awaited later")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use event::audit::Wanted;
use event::hub::{Admission, Outcome, Publish, Receipt};
use event::store::{Append, Entry, Store, WhenFull};
use event::{Durability, Event, Guarantee, Origin, Principal, Reject, RejectKind};
use tokio::time::Instant;

use crate::account::{Account, Tenant};
use crate::held::{self, Asked};
use crate::intake::{self, Fate, Tally};
use crate::matching::{Matched, Matcher};
use crate::notes::{EventNote, Part};
use crate::quota::{Allotted, Quotas};
use crate::rights::denied;
use crate::session::Session;
use crate::session::mailbox::Item;
use crate::shared::{Shared, now_ms};
use crate::table::{Came, Leg, Legs, Made, Route};
use crate::unique::{self, Claim, Claims, Name, Once};

/// One publisher's way in.
#[derive(Debug, Default)]
pub(crate) struct Publisher {
    matcher: Matcher,
    /// Whose it is, what quotas have for it, and the quotas of which that was looked up.
    allotted: Allotted,
    quotas: Option<Arc<Quotas>>,
}

/// Who else has to remember an event.
#[derive(Clone, Copy, Default)]
pub(crate) struct Marks<'a> {
    /// The session that remembers ids of exactly-once publishes, if it is durable.
    pub(crate) session: Option<&'a Session>,
    /// The will, or the event that waited, that the event is; and whose it is.
    pub(crate) will: Option<(u64, Tenant)>,
    /// Its name, if its repeats are to be known.
    pub(crate) once: Option<Once>,
    /// Members of shared subscriptions get it another way.
    pub(crate) apart: bool,
}

/// What one store gets of a batch.
#[derive(Default)]
struct Share {
    entries: Vec<Entry>,
    /// The place of each entry in the batch.
    places: Vec<usize>,
    durability: Option<Durability>,
    /// A batch takes the bolder of the wishes of its events.
    when_full: WhenFull,
}

/// What a store answers, and for which places of the batch.
type Answer = (Receipt, Vec<usize>);

/// A batch, sorted by where it goes.
#[derive(Default)]
struct Sorted {
    local: Share,
    remote: Vec<(usize, Share)>,
    /// What the embedded log has to remember once every store has its events of that place.
    after: Vec<(usize, Entry)>,
    refused: Vec<(usize, Reject)>,
    /// What each publish is, and whose.
    tally: Tally,
    tenant: Tenant,
    claims: Claims,
    /// Items of one topic that follow each other, for its subscribers that need no log.
    run: Vec<Item>,
    run_of: Option<Arc<Matched>>,
    /// Publishes that are left of the batch.
    left: usize,
    /// The last note, without its account and with it.
    booked: Option<(Account, Bytes, Bytes)>,
    /// Readers that are behind with what was just put into their live lane.
    behind: Vec<Arc<Session>>,
}

impl Publisher {
    /// Publishes a batch of `who`, always the same one.
    pub(crate) fn publish(
        &mut self,
        shared: &Arc<Shared>,
        who: &Principal,
        marks: Marks<'_>,
        batch: Vec<Publish>,
    ) -> Admission {
        self.follow_quotas(shared, who);
        if shared.is_stopping() {
            let refused = Admission::Admitted(Receipt::ready(Outcome::Refused(Reject::closed())));
            let mut tally = Tally::default();
            let account = Account::NONE.of(self.allotted.tenant);
            batch.iter().for_each(|_| tally.push(account, Fate::Refused(RejectKind::Closed)));
            return intake::counted(shared, tally, refused);
        }
        if who.origin != Origin::Weft {
            shared.metrics.events_in.increment(batch.len() as u64);
            let bytes: usize = batch.iter().map(|publish| publish.event.data().len()).sum();
            shared.metrics.in_bytes.increment(bytes as u64);
        }
        let marks = Marks { apart: who.origin == Origin::Node, ..marks };
        self.matcher.follow(&who.rights);
        let mut sorted = self.sort(shared, who, marks, batch);
        let (behind, claims) = (std::mem::take(&mut sorted.behind), std::mem::take(&mut sorted.claims));
        let tally = std::mem::take(&mut sorted.tally);
        let admission = admit(shared, sorted);
        let admission = if claims.is_empty() { admission } else { unique::settle(shared, claims, admission) };
        let admission = intake::counted(shared, tally, admission);
        if behind.is_empty() { admission } else { wait_for_readers(shared, behind, admission) }
    }

    /// Looks quotas up again if they are others. Most Wefts have none.
    fn follow_quotas(&mut self, shared: &Shared, who: &Principal) {
        let quotas = shared.quotas.load();
        if !self.quotas.as_ref().is_some_and(|known| Arc::ptr_eq(known, &quotas)) {
            self.allotted = quotas.of(who, std::time::Instant::now());
            self.quotas = Some(Arc::clone(&quotas));
        }
    }

    /// Whether rights and quotas let an event come in.
    fn may_publish(
        &self,
        shared: &Shared,
        who: &Principal,
        marks: Marks<'_>,
        event: &Event,
        allowed: bool,
    ) -> Result<(), Reject> {
        if !allowed && who.origin != Origin::Weft {
            let reject = denied("not allowed to publish to this topic");
            let topic = event.topic().as_str();
            shared.audit.refused(who, Wanted::Publish, Some(topic), &reject, std::time::Instant::now());
            return Err(reject);
        }
        // A will was counted when it was left here, and what waited when it came.
        match self.allotted.is_empty() || marks.will.is_some() {
            true => Ok(()),
            false => self.allotted.publish(event, std::time::Instant::now()),
        }
    }

    fn sort(
        &mut self,
        shared: &Arc<Shared>,
        who: &Principal,
        marks: Marks<'_>,
        batch: Vec<Publish>,
    ) -> Sorted {
        let tenant = marks.will.map_or(self.allotted.tenant, |(_, tenant)| tenant);
        let mut sorted = Sorted { tenant, ..Sorted::default() };
        let count = batch.len();
        let listener = who.peer.as_ref().map(|(_, listener)| &**listener);
        for (place, publish) in batch.into_iter().enumerate() {
            let (matched, allowed) = self.matcher.find(shared, &who.rights, publish.event.topic());
            if let Err(reject) = self.may_publish(shared, who, marks, &publish.event, allowed) {
                sorted.refuse(place, reject);
                continue;
            }
            sorted.left = count - place;
            // What waited before is published now.
            let asked =
                if marks.will.is_some() { Ok(Asked::Nothing) } else { held::asked(shared, &publish, marks) };
            match asked {
                Ok(Asked::Nothing) => {}
                Ok(Asked::Done) => {
                    sorted.count(Account::NONE, Fate::Repeated);
                    continue;
                }
                Ok(Asked::Record(entry)) => {
                    sorted.count(Account::NONE, Fate::Held);
                    sorted.add_held(place, &publish, entry);
                    continue;
                }
                Err(reject) => {
                    sorted.refuse(place, reject);
                    continue;
                }
            }
            let fate = match publish.guarantee {
                Guarantee::AtMostOnce => Fate::Passed,
                Guarantee::AtLeastOnce | Guarantee::ExactlyOnce => Fate::Kept,
            };
            let one = match who.origin {
                Origin::Client => matched.ways.only(),
                Origin::Store | Origin::Node | Origin::Weft => {
                    Some(matched.ways.home(&publish.event, &shared.metrics))
                }
            };
            if let Some(route) = one {
                sorted.count(route.id, fate);
                match may_retain(shared, &self.allotted, &publish) {
                    Ok(()) => sorted.add(shared, matched, place, publish, marks, route),
                    Err(reject) => sorted.refused.push((place, reject)),
                }
                continue;
            }
            let clears = publish.retain && publish.event.data().is_empty();
            let legs = matched.ways.legs(
                &publish.event,
                Came { listener, protocol: who.protocol, clears },
                &shared.metrics,
            );
            let made = legs.and_then(|made| legs_may_retain(shared, &self.allotted, &publish, made));
            let route = made.as_ref().ok().and_then(|made| made.legs.first());
            let route = route.map_or(Account::NONE, |leg| leg.route.id);
            let new = made.and_then(|made| {
                let marks = sorted.claim(shared, place, &publish, marks, made.unique_s)?;
                Ok(marks.map(|marks| (marks, made.legs)))
            });
            match new {
                Ok(Some((marks, legs))) => {
                    sorted.count(route, fate);
                    self.add_legs(shared, &mut sorted, who, (place, &publish), marks, legs);
                }
                Ok(None) => sorted.count(route, Fate::Repeated),
                Err(reject) => sorted.refuse(place, reject),
            }
        }
        sorted.offer_live(shared);
        sorted
    }

    /// Adds what came of one publish. If a remote store has some of it, its marks wait for that: until then a publisher that
    /// repeats it is not told that it is known.
    fn add_legs(
        &mut self,
        shared: &Shared,
        sorted: &mut Sorted,
        who: &Principal,
        (place, publish): (usize, &Publish),
        marks: Marks<'_>,
        legs: Legs,
    ) {
        shared.metrics.made.increment((legs.len() as u64).saturating_sub(1));
        let last = legs.len().saturating_sub(1);
        let apart = last > 0 && legs.iter().any(|leg| leg.route.remote.is_some());
        let first = sorted.local.entries.len();
        for (at, Leg { event, route, .. }) in legs.into_iter().enumerate() {
            // Whether this publisher may publish there plays no part: who wrote the route said that it goes there.
            let (matched, _) = self.matcher.find(shared, &who.rights, event.topic());
            let leg = Publish { event, ..publish.clone() };
            let marks = if at == last && !apart { marks } else { Marks::default() };
            sorted.add(shared, matched, place, leg, marks, route);
        }
        sorted.local.join_from(first);
        if apart {
            sorted.after.extend(marks.entry(publish, None).map(|entry| (place, entry)));
        }
    }
}

/// Whether there is room for a publish that is to be retained.
fn may_retain(shared: &Shared, allotted: &Allotted, publish: &Publish) -> Result<(), Reject> {
    if !publish.retain {
        return Ok(());
    }
    allotted.retain(&publish.event, &shared.retained)?;
    if shared.has_room_to_retain(&publish.event) {
        return Ok(());
    }
    let reason = "the limit of retained events is reached; raise core.retained_events or core.retained_bytes";
    Err(Reject::new(RejectKind::Busy, reason))
}

fn legs_may_retain(
    shared: &Shared,
    allotted: &Allotted,
    publish: &Publish,
    made: Made,
) -> Result<Made, Reject> {
    if publish.retain {
        for leg in &made.legs {
            may_retain(shared, allotted, &Publish { event: leg.event.clone(), ..publish.clone() })?;
        }
    }
    Ok(made)
}

impl Marks<'_> {
    /// The publisher's id of this publish with the session that remembers it.
    pub(crate) fn id(self, publish: &Publish) -> Option<(u16, u64)> {
        let session = self.session.filter(|session| session.durable);
        publish.id.zip(session.map(|session| session.key))
    }

    /// What the log has to remember of a publish that it does not keep, if there is something. `retained`: the event, if it
    /// is the last of its topic.
    fn entry(self, publish: &Publish, retained: Option<Event>) -> Option<Entry> {
        let id = self.id(publish);
        let will = self.will.map(|(id, _)| id);
        let needed = retained.is_some() || id.is_some() || will.is_some() || self.once.is_some();
        let retain = retained.is_some();
        let note = EventNote { retain, state_only: true, id, will, ..EventNote::new(publish.guarantee) };
        needed.then(|| Entry { event: retained, note: self.named(note.encode()) })
    }

    /// The note, with the name before it if there is one.
    fn named(self, note: Bytes) -> Bytes {
        match self.once {
            Some(once) => once.mark(&note),
            None => note,
        }
    }
}

impl Sorted {
    /// The next publish goes by this route, and comes to this end if it is not refused.
    fn count(&mut self, route: Account, fate: Fate) {
        self.tally.push(route.of(self.tenant), fate);
    }

    /// Refuses a publish that no route has taken.
    fn refuse(&mut self, place: usize, reject: Reject) {
        self.count(Account::NONE, Fate::Refused(reject.kind));
        self.refused.push((place, reject));
    }

    /// Looks whether a publish is a repeat of one that is kept: then nothing more is to be done, and there are no marks; else
    /// its marks.
    ///
    /// # Errors
    /// It is the repeat of one of which nobody knows yet whether it will be kept.
    fn claim<'m>(
        &mut self,
        shared: &Shared,
        place: usize,
        publish: &Publish,
        marks: Marks<'m>,
        unique_s: u32,
    ) -> Result<Option<Marks<'m>>, Reject> {
        let Some(name) = Some(&publish.event).filter(|_| unique_s > 0).and_then(Name::of) else {
            return Ok(Some(marks));
        };
        let now_ms = now_ms();
        let once = Once { name, until_ms: now_ms.saturating_add(u64::from(unique_s) * 1000) };
        let claim = shared.unique.lock().claim(name, now_ms);
        match claim {
            // Nobody is answered, and nothing is promised: known from now on.
            Claim::New if publish.guarantee == Guarantee::AtMostOnce => {
                shared.known(once);
                Ok(Some(marks))
            }
            Claim::New => {
                self.claims.push((place, name));
                Ok(Some(Marks { once: Some(once), ..marks }))
            }
            Claim::Known => {
                shared.metrics.repeats.increment(1);
                if let Some(entry) = marks.entry(publish, None) {
                    self.local.push(place, entry);
                    self.local.durability = Some(Durability::Synced);
                }
                Ok(None)
            }
            Claim::Open => {
                let reason = "an event with this source and id is being kept; send it again";
                Err(Reject::new(RejectKind::Busy, reason))
            }
        }
    }

    /// Adds an event to what goes to its store, and to its live subscribers.
    fn add(
        &mut self,
        shared: &Shared,
        matched: Arc<Matched>,
        place: usize,
        publish: Publish,
        marks: Marks<'_>,
        route: Route,
    ) {
        if let Some(remote) = route.remote {
            self.add_remote(remote, place, &publish, marks);
            return;
        }
        let live = publish.guarantee == Guarantee::AtMostOnce;
        if !live || publish.retain || matched.keep_all || marks.will.is_some() {
            self.add_local(place, &publish, marks, route);
        }
        if live && !matched.is_empty() {
            if !self.run_of.as_ref().is_some_and(|known| Arc::ptr_eq(known, &matched)) {
                self.offer_live(shared);
                self.run_of = Some(matched);
            }
            let Publish { event, guarantee, retain, id: _ } = publish;
            let (position, apart, account) = (None, marks.apart, route.id.of(self.tenant));
            self.run.push(Item { event, guarantee, retain, position, live_done: false, apart, account });
        }
    }

    fn add_local(&mut self, place: usize, publish: &Publish, marks: Marks<'_>, route: Route) {
        let mut note = EventNote::new(publish.guarantee);
        note.retain = publish.retain;
        note.live_done = publish.guarantee == Guarantee::AtMostOnce;
        note.id = marks.id(publish);
        note.will = marks.will.map(|(id, _)| id);
        let answered = publish.guarantee != Guarantee::AtMostOnce || publish.retain;
        self.local.reserve_for(self.left);
        let note = if marks.apart { note.encode_apart() } else { marks.named(note.encode()) };
        let note = self.booked(route.id.of(self.tenant), note);
        self.local.push(place, Entry { event: Some(publish.event.clone()), note });
        self.local.when_full = self.local.when_full.max(route.when_full);
        if answered {
            self.local.durability = self.local.durability.max(Some(route.durability(publish.guarantee)));
        }
    }

    /// The note with its account before it. Those of a batch are mostly the same.
    fn booked(&mut self, account: Account, note: Bytes) -> Bytes {
        let known = self.booked.as_ref().filter(|(of, plain, _)| *of == account && *plain == note);
        if let Some((.., booked)) = known {
            return booked.clone();
        }
        let booked = account.mark(note.clone());
        self.booked = Some((account, note, booked.clone()));
        booked
    }

    /// What waits, waits here, wherever it goes in the end.
    fn add_held(&mut self, place: usize, publish: &Publish, Entry { event, note }: Entry) {
        let entry = Entry { event, note: Account::NONE.of(self.tenant).mark(note) };
        self.local.push(place, entry);
        if publish.guarantee != Guarantee::AtMostOnce {
            self.local.durability = Some(Durability::Synced);
        }
    }

    fn add_remote(&mut self, remote: usize, place: usize, publish: &Publish, marks: Marks<'_>) {
        let at = self.remote.iter().position(|(index, _)| *index == remote).unwrap_or_else(|| {
            self.remote.push((remote, Share::default()));
            self.remote.len() - 1
        });
        let Some((_, share)) = self.remote.get_mut(at) else { return };
        if publish.guarantee != Guarantee::AtMostOnce {
            share.durability = Some(Durability::Remote);
        }
        let note = EventNote::new(publish.guarantee).encode();
        share.push(place, Entry { event: Some(publish.event.clone()), note });
        // The remote holds the event; retained state, ids of publishers and the end of wills are kept here.
        let retained = publish.retain.then(|| publish.event.clone());
        self.after.extend(marks.entry(publish, retained).map(|entry| (place, entry)));
    }

    /// Hands the run to its subscribers.
    fn offer_live(&mut self, shared: &Shared) {
        let Self { run, run_of, behind, .. } = self;
        let Some(matched) = run_of.take() else { return };
        let Some(publisher) = run.first().map(|item| Arc::clone(item.event.publisher())) else { return };
        matched.each(&publisher, |session, wanted| {
            if session.offer_live(run.iter(), wanted, shared) {
                behind.push(Arc::clone(session));
            }
        });
        matched.each_selective(run, |session, wanted, item| {
            if session.offer_live(std::iter::once(item), wanted, shared) {
                behind.push(Arc::clone(session));
            }
        });
        let fits = |item: &Item| !item.apart;
        matched.each_group(run, |_| true, fits, |group, items| group.offer_live(items, shared, behind));
        run.clear();
    }
}

impl Share {
    /// Room for so many entries, if it has none yet: most batches go to one store as a whole.
    fn reserve_for(&mut self, count: usize) {
        if self.entries.is_empty() {
            self.entries.reserve_exact(count);
            self.places.reserve_exact(count);
        }
    }

    fn push(&mut self, place: usize, entry: Entry) {
        self.entries.push(entry);
        self.places.push(place);
    }

    /// Marks the entries from `first` on as those of one publish: all of them count, or none does.
    fn join_from(&mut self, first: usize) {
        let entries = self.entries.get_mut(first..).unwrap_or_default();
        if let Some(count) = u16::try_from(entries.len()).ok().filter(|count| *count > 1) {
            for (entry, place) in entries.iter_mut().zip(0..) {
                entry.note = Part { place, count }.mark(&entry.note);
            }
        }
    }

    /// The batch for the store, and the receipt if somebody waits for it.
    fn into_append(self) -> (Append, Option<Receipt>, Vec<usize>) {
        match self.durability {
            None => (Append::unanswered(self.entries).when_full(self.when_full), None, self.places),
            Some(durability) => {
                let (append, receipt) = Append::new(self.entries, durability);
                (append.when_full(self.when_full), Some(receipt), self.places)
            }
        }
    }
}

fn admit(shared: &Arc<Shared>, sorted: Sorted) -> Admission {
    let Sorted { local, remote, after, refused, .. } = sorted;
    let refusals = refused.len() as u64;
    if refusals > 0 {
        shared.metrics.refused.increment(refusals);
    }
    if !remote.is_empty() {
        return admit_remote(shared, local, remote, after, refused);
    }
    let answer = |receipt: Option<Receipt>, refused: Vec<(usize, Reject)>| match receipt {
        Some(receipt) if refused.is_empty() => receipt,
        Some(receipt) => Receipt::joined(async move { join(receipt.await, refused) }),
        None if refused.is_empty() => Receipt::ready(Outcome::Kept),
        None => Receipt::ready(Outcome::Partly(refused)),
    };
    if local.entries.is_empty() {
        return Admission::Admitted(answer(None, refused));
    }
    let (append, receipt, _) = local.into_append();
    match shared.store.try_append(append) {
        Ok(()) => Admission::Admitted(answer(receipt, refused)),
        Err(append) => {
            let store = shared.store.clone();
            Admission::Waiting(Box::pin(async move {
                store.append(append).await;
                answer(receipt, refused)
            }))
        }
    }
}

/// The way of a batch of which a remote store gets something. Slower: it joins several answers.
fn admit_remote(
    shared: &Arc<Shared>,
    local: Share,
    remote: Vec<(usize, Share)>,
    after: Vec<(usize, Entry)>,
    mut refused: Vec<(usize, Reject)>,
) -> Admission {
    let shared = Arc::clone(shared);
    Admission::Waiting(Box::pin(async move {
        let mut receipts: Vec<Answer> = Vec::new();
        if !local.entries.is_empty() {
            let (append, receipt, places) = local.into_append();
            shared.store.append(append).await;
            receipts.extend(receipt.map(|receipt| (receipt, places)));
        }
        let remotes = shared.remotes.load_full();
        for (index, share) in remote {
            let Some(remote) = remotes.get(index).cloned() else { continue };
            let (append, receipt, places) = share.into_append();
            let admitted = remote.admit(&shared.options.breaker, Instant::now());
            match (receipt, admitted) {
                (Some(receipt), Ok(())) => {
                    remote.store.append(append).await;
                    let shared = Arc::clone(&shared);
                    let receipt = Receipt::joined(async move {
                        let outcome = receipt.await;
                        remote.answered(&outcome, &shared.options.breaker, Instant::now());
                        outcome
                    });
                    receipts.push((receipt, places));
                }
                (Some(_), Err(reject)) => refused.extend(places.into_iter().map(|at| (at, reject.clone()))),
                // It waits for nobody: at the limit it is dropped and counted.
                (None, admitted) => {
                    let full =
                        || Reject::new(RejectKind::Busy, format!("the store {:?} is full", remote.name));
                    let taken = admitted.and_then(|()| remote.store.try_append(append).map_err(|_| full()));
                    if let Err(reject) = taken {
                        shared.metrics.dropped_remote.increment(places.len() as u64);
                        refused.extend(places.into_iter().map(|at| (at, reject.clone())));
                    }
                }
            }
        }
        if receipts.is_empty() {
            let kept = after.into_iter().filter(|(place, _)| !refused.iter().any(|(at, _)| at == place));
            let after: Vec<Entry> = kept.map(|(_, entry)| entry).collect();
            if !after.is_empty() {
                shared.store.append(Append::unanswered(after)).await;
            }
            return Receipt::ready(join(Outcome::Kept, refused));
        }
        Receipt::joined(async move {
            for (receipt, places) in receipts {
                refused.extend(refusals_at(&receipt.await, &places));
            }
            let kept = after.into_iter().filter(|(place, _)| !refused.iter().any(|(at, _)| at == place));
            let (places, entries): (Vec<usize>, Vec<Entry>) = kept.unzip();
            if !entries.is_empty() {
                let outcome = append_and_wait(&shared.store, entries).await;
                refused.extend(refusals_at(&outcome, &places));
            }
            join(Outcome::Kept, refused)
        })
    }))
}

async fn append_and_wait(store: &Store, entries: Vec<Entry>) -> Outcome {
    let (append, receipt) = Append::new(entries, Durability::Synced);
    store.append(append).await;
    receipt.await
}

fn refusals_at(outcome: &Outcome, places: &[usize]) -> Vec<(usize, Reject)> {
    let places = places.iter().enumerate();
    places.filter_map(|(at, place)| outcome.of(at).err().map(|reject| (*place, reject.clone()))).collect()
}

fn join(outcome: Outcome, mut refused: Vec<(usize, Reject)>) -> Outcome {
    match outcome {
        Outcome::Refused(reject) => Outcome::Refused(reject),
        Outcome::Kept if refused.is_empty() => Outcome::Kept,
        Outcome::Kept => Outcome::Partly(refused),
        Outcome::Partly(more) => {
            refused.extend(more);
            Outcome::Partly(refused)
        }
    }
}

/// A reader that is behind and empties a quarter of its lane each 250 ms makes its publishers wait a little; a slower one
/// makes nobody wait, and loses what does not fit.
fn wait_for_readers(shared: &Shared, behind: Vec<Arc<Session>>, admission: Admission) -> Admission {
    let low = shared.options.live_bytes.as_usize() / 4;
    let wait = Duration::from_millis(u64::from(shared.options.live_wait_ms.min(1000)));
    Admission::Waiting(Box::pin(async move {
        let drained = async {
            for session in behind {
                let drained = session.drained.notified();
                tokio::pin!(drained);
                drained.as_mut().enable();
                if session.mailbox.lock().live_bytes() > low {
                    drained.await;
                }
            }
        };
        // Over time is no error: the next batch finds the lane full and is dropped for this reader alone.
        tokio::time::timeout(wait, drained).await.unwrap_or(());
        admission.receipt().await
    }))
}
