//! From a topic to those who want it, remembered until subscriptions or routes change.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use event::TopicName;
use event::access::Rights;
use event::hub::SubscribeOptions;
use filter::EventView;
use foldhash::fast::RandomState;

use crate::group::Group;
use crate::replay::Replay;
use crate::select::{Allowance, Selection};
use crate::session::Session;
use crate::session::mailbox::{Item, Wanted};
use crate::shared::{Shared, Subscription};
use crate::table::Ways;

/// Who wants the events of a topic, and where it is kept.
#[derive(Debug)]
pub(crate) struct Matched {
    topic: Box<str>,
    /// Sorted by session; a session is there twice if some of its subscriptions leave out its own publishes and some do not.
    pub(crate) targets: Vec<Target>,
    /// Sorted by session: all subscriptions of those sessions that have one with a filter among them.
    selective: Vec<Selective>,
    /// The filters, each once.
    selections: Vec<Arc<Selection>>,
    /// Shared subscriptions: one of each group's members gets the event.
    pub(crate) groups: Vec<Arc<Group>>,
    /// Subscriptions that find the event in the log when they come so far.
    pub(crate) replays: Vec<Arc<Replay>>,
    /// Somebody wants every event through the log.
    pub(crate) keep_all: bool,
    pub(crate) ways: Ways,
}

/// One session that wants a topic.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) session: Arc<Session>,
    pub(crate) wanted: Wanted,
    /// Not what its own client publishes.
    no_local: bool,
}

impl Matched {
    /// Nobody wants it.
    pub(crate) fn is_empty(&self) -> bool {
        self.targets.is_empty() && self.selective.is_empty() && self.groups.is_empty()
    }

    /// The sessions that want an event of `publisher` whatever it is, each once.
    pub(crate) fn each(&self, publisher: &str, mut found: impl FnMut(&Arc<Session>, &Wanted)) {
        for same in self.targets.chunk_by(|a, b| a.session.key == b.session.key) {
            let mut wanting = same
                .iter()
                .filter(|target| !(target.no_local && target.session.client.as_str() == publisher));
            let Some(first) = wanting.next() else { continue };
            match wanting.next() {
                None => found(&first.session, &first.wanted),
                Some(second) => found(&first.session, &merge(&first.wanted, &second.wanted)),
            }
        }
    }

    /// The groups for which `asks` is true, each with those events for which `fits` is and that pass its filter.
    pub(crate) fn each_group(
        &self,
        items: &[Item],
        asks: impl Fn(&Group) -> bool,
        fits: impl Fn(&Item) -> bool,
        mut found: impl FnMut(&Arc<Group>, &[&Item]),
    ) {
        let asking = self.groups.iter().filter(|group| asks(group));
        let mut wanting: Vec<_> = asking.map(|group| (group, group.selection(), Vec::new())).collect();
        if wanting.is_empty() {
            return;
        }
        // Each event is read once for all of them.
        for item in items.iter().filter(|item| fits(item)) {
            let view = EventView::new(&item.event);
            for (_, selection, wanted) in &mut wanting {
                if selection.as_ref().is_none_or(|selection| selection.passes(&view)) {
                    wanted.push(item);
                }
            }
        }
        for (group, _, wanted) in &wanting {
            found(group, wanted);
        }
    }

    /// The other sessions, with each event that they want: the same as if they had but the subscriptions it passes.
    pub(crate) fn each_selective(
        &self,
        items: &[Item],
        mut found: impl FnMut(&Arc<Session>, &Wanted, &Item),
    ) {
        if self.selective.is_empty() {
            return;
        }
        let mut known = vec![None; self.selections.len()];
        for item in items {
            let view = EventView::new(&item.event);
            known.fill(None);
            let publisher = &**item.event.publisher();
            for same in self.selective.chunk_by(|(a, _), (b, _)| a.session.key == b.session.key) {
                let mut wanted: Option<Wanted> = None;
                let mut allowance = Allowance::new(&view);
                for (target, at) in same {
                    let own = target.no_local && target.session.client.as_str() == publisher;
                    let filter = at.and_then(|at| Some((self.selections.get(at)?, known.get_mut(at)?)));
                    if !own
                        && filter.is_none_or(|(selection, known)| allowance.passes(selection, &view, known))
                    {
                        wanted = Some(match wanted {
                            Some(wanted) => merge(&wanted, &target.wanted),
                            None => target.wanted.clone(),
                        });
                    }
                }
                if let (Some(wanted), Some((target, _))) = (wanted, same.first()) {
                    found(&target.session, &wanted, item);
                }
            }
        }
    }
}

/// Remembers what topics matched.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    /// With whether the publisher may publish to it.
    known: HashMap<Box<str>, (Arc<Matched>, bool), RandomState>,
    /// The topic of the event before, which mostly is that of the next one as well.
    last: Option<(Arc<Matched>, bool)>,
    generation: u64,
    /// Of the rights that were asked.
    revision: u64,
}

/// Topics remembered by one publisher; more, and it starts anew.
const KNOWN_MAX: usize = 512;

impl Matcher {
    /// Forgets what was allowed if the rights changed since. Once for each batch.
    pub(crate) fn follow(&mut self, rights: &Rights) {
        let revision = rights.revision();
        if revision != self.revision {
            self.forget();
            self.revision = revision;
        }
    }

    /// Who wants `topic` now, and whether one with these `rights`, always the same ones, may publish to it.
    pub(crate) fn find(
        &mut self,
        shared: &Shared,
        rights: &Rights,
        topic: &TopicName,
    ) -> (Arc<Matched>, bool) {
        let generation = shared.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.forget();
            self.generation = generation;
        }
        if let Some((matched, allowed)) =
            self.last.as_ref().filter(|(last, _)| *last.topic == *topic.as_str())
        {
            return (Arc::clone(matched), *allowed);
        }
        let (matched, allowed) = match self.known.get(topic.as_str()) {
            Some((matched, allowed)) => (Arc::clone(matched), *allowed),
            None => self.learn(shared, rights, topic),
        };
        self.last = Some((Arc::clone(&matched), allowed));
        (matched, allowed)
    }

    fn learn(&mut self, shared: &Shared, rights: &Rights, topic: &TopicName) -> (Arc<Matched>, bool) {
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        let allowed = !topic.is_reserved() && rights.may_publish(topic);
        let matched = Arc::new(look_up(shared, topic));
        self.known.insert(Box::from(topic.as_str()), (Arc::clone(&matched), allowed));
        (matched, allowed)
    }

    fn forget(&mut self) {
        self.known.clear();
        self.last = None;
    }
}

fn look_up(shared: &Shared, topic: &TopicName) -> Matched {
    let mut hits: Vec<Hit> = Vec::new();
    let mut groups = Vec::new();
    let mut replays: Vec<Arc<Replay>> = Vec::new();
    shared.trie.read().matches(topic, &mut |key, subscription| match subscription {
        Subscription::Session { session, options } => hits.push((key, Arc::clone(session), *options, None)),
        Subscription::Selective(one) => {
            let selection = Some(Arc::clone(&one.selection));
            hits.push((key, Arc::clone(&one.session), one.options, selection));
        }
        Subscription::Group(group) => groups.push(Arc::clone(group)),
        Subscription::Replay(replay) => {
            if !replays.iter().any(|known| Arc::ptr_eq(known, replay)) {
                replays.push(Arc::clone(replay));
            }
        }
    });
    hits.sort_by_key(|(key, _, options, _)| (*key, options.no_local));
    let (selective, selections) = take_selective(&mut hits);
    let mut targets: Vec<Target> = Vec::with_capacity(hits.len());
    for (key, session, options, _) in hits {
        let wanted = Wanted::from(options);
        match targets.last_mut() {
            Some(last) if last.session.key == key && last.no_local == options.no_local => {
                last.wanted = merge(&last.wanted, &wanted);
            }
            _ => targets.push(Target { session, wanted, no_local: options.no_local }),
        }
    }
    let all = targets.iter().chain(selective.iter().map(|(target, _)| target));
    let keep_all = !replays.is_empty() || all.into_iter().any(|target| target.session.keep_all);
    let ways = shared.table.load().ways(topic);
    Matched {
        topic: Box::from(topic.as_str()),
        targets,
        selective,
        selections,
        groups,
        replays,
        keep_all,
        ways,
    }
}

/// A subscription, and where its filter is in [`Matched::selections`].
type Selective = (Target, Option<usize>);

/// A subscription that a topic hits: the session's key, the session, and how it wants the event.
type Hit = (u64, Arc<Session>, SubscribeOptions, Option<Arc<Selection>>);

/// Takes the subscriptions of sessions out of which one has a filter. They are sorted by session.
fn take_selective(hits: &mut Vec<Hit>) -> (Vec<Selective>, Vec<Arc<Selection>>) {
    if hits.iter().all(|(.., selection)| selection.is_none()) {
        return Default::default();
    }
    let some: BTreeSet<u64> =
        hits.iter().filter(|(.., selection)| selection.is_some()).map(|(key, ..)| *key).collect();
    let mut selections: Vec<Arc<Selection>> = Vec::new();
    let mut places: HashMap<*const Selection, usize, RandomState> = HashMap::default();
    let mut place = |selection: Arc<Selection>| {
        *places.entry(Arc::as_ptr(&selection)).or_insert_with(|| {
            selections.push(selection);
            selections.len() - 1
        })
    };
    let target = |(_, session, options, selection): Hit| {
        let target = Target { session, wanted: Wanted::from(options), no_local: options.no_local };
        (target, selection.map(&mut place))
    };
    let selective = hits.extract_if(.., |(key, ..)| some.contains(key)).map(target).collect();
    (selective, selections)
}

/// Overlapping subscriptions deliver once: with the strongest guarantee, and all their ids \[MQTT-3.3.4-2, -3\].
fn merge(a: &Wanted, b: &Wanted) -> Wanted {
    let ids: Vec<u32> = [&a.ids, &b.ids].into_iter().flatten().flat_map(|ids| ids.iter().copied()).collect();
    Wanted {
        guarantee: a.guarantee.max(b.guarantee),
        retain_as_published: a.retain_as_published || b.retain_as_published,
        ids: (!ids.is_empty()).then(|| Arc::from(ids)),
    }
}
