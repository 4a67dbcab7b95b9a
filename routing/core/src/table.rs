//! The route table: which events come of a published one, which store keeps each, and what has to be true before it is
//! answered. Compiled once, replaced whole, never edited.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::store::WhenFull;
use event::{Durability, Event, Guarantee, Protocol, Reject, TopicFilter, TopicName};
use filter::{EventView, Filter, Verdict};
use smallvec::SmallVec;

use crate::account::Account;
use crate::metrics::Metrics;
use crate::trie::Trie;

mod options;
mod target;

pub use options::{EMBEDDED, Missing, RouteFilter, RouteMistake, RouteOptions, TargetOptions};
pub(crate) use target::Reason;
use target::{Recipe, Unmade};

/// Where an event goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The rule that says so.
    pub(crate) id: Account,
    /// Index of a remote store; `None`: the embedded log.
    pub(crate) remote: Option<usize>,
    durability: Durability,
    pub(crate) when_full: WhenFull,
}

impl Route {
    /// Where what no rule matches goes.
    const DEFAULT: Self =
        Self { id: Account::NONE, remote: None, durability: Durability::Synced, when_full: WhenFull::Refuse };

    /// What has to be true before a publish with this guarantee is answered. One that is not answered waits for nothing.
    pub(crate) fn durability(&self, guarantee: Guarantee) -> Durability {
        match guarantee {
            Guarantee::AtMostOnce => Durability::Received,
            Guarantee::AtLeastOnce | Guarantee::ExactlyOnce => self.durability,
        }
    }
}

/// An event and where it goes.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) event: Event,
    pub(crate) route: Route,
    /// It is the event as it was published.
    is_own: bool,
}

/// What comes of one event: mostly one.
pub(crate) type Legs = SmallVec<[Leg; 1]>;

/// What rules make of one event.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(crate) legs: Legs,
    /// For how many seconds its repeats are to be known; 0: not at all.
    pub(crate) unique_s: u32,
}

/// Where the events of one topic go: by the rules in their order, up to the first that takes them and makes no copies.
#[derive(Clone, Debug)]
pub(crate) struct Ways {
    rules: Vec<Arc<Rule>>,
    /// For what all of the rules leave.
    last: Route,
}

/// What a rule depends on beside the event.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Came<'a> {
    /// The listener that it came by.
    pub(crate) listener: Option<&'a str>,
    /// The protocol that it came by.
    pub(crate) protocol: Option<Protocol>,
    /// It takes the place of its topic's retained event, and has no data.
    pub(crate) clears: bool,
}

impl Ways {
    /// The one way of all events of the topic, if there is one, and it takes them as they are.
    pub(crate) fn only(&self) -> Option<Route> {
        self.rules.is_empty().then_some(self.last)
    }

    /// What comes of `event`, at least one leg. What is left out is counted.
    ///
    /// # Errors
    /// A target refuses it.
    pub(crate) fn legs(&self, event: &Event, came: Came<'_>, metrics: &Metrics) -> Result<Made, Reject> {
        let Made { mut legs, mut unique_s } = Made::default();
        let view = EventView::new(event);
        for rule in self.rules.iter().filter(|rule| rule.takes(&view, came, metrics)) {
            let mut taken = false;
            for target in &rule.targets {
                let made = target.recipe.as_ref().map(|recipe| recipe.make(&view, came.clears));
                match made {
                    None => add_own(&mut legs, event, target.route),
                    Some(Ok(event)) => legs.push(Leg { event, route: target.route, is_own: false }),
                    Some(Err(Unmade::Skipped(reason))) => {
                        metrics.skipped(reason);
                        continue;
                    }
                    Some(Err(Unmade::Refused(reject))) => return Err(reject),
                }
                taken = true;
            }
            if taken {
                unique_s = unique_s.max(rule.unique_s);
            }
            if taken && !rule.copy {
                return Ok(Made { legs, unique_s });
            }
        }
        add_own(&mut legs, event, self.last);
        Ok(Made { legs, unique_s })
    }

    /// How the log keeps an event that a remote store brings back: it was routed before it went there.
    pub(crate) fn home(&self, event: &Event, metrics: &Metrics) -> Route {
        let view = EventView::new(event);
        let mut rules =
            self.rules.iter().filter(|rule| !rule.copy && rule.takes(&view, Came::default(), metrics));
        let Route { id, when_full, .. } = self.last;
        let (id, when_full) = rules.next().map_or((id, when_full), |rule| (rule.id, rule.when_full));
        Route { id, when_full, ..Route::DEFAULT }
    }
}

/// The event as it is goes to a store once, with the strongest of the promises.
fn add_own(legs: &mut Legs, event: &Event, route: Route) {
    let same = |leg: &&mut Leg| leg.is_own && leg.route.remote == route.remote;
    match legs.iter_mut().find(same) {
        Some(Leg { route: known, .. }) => {
            known.durability = known.durability.max(route.durability);
            known.when_full = known.when_full.max(route.when_full);
        }
        None => legs.push(Leg { event: event.clone(), route, is_own: true }),
    }
}

/// Compiled rules.
#[derive(Debug)]
pub(crate) struct RouteTable {
    rules: Vec<Arc<Rule>>,
    /// The rules by their topics, each under its place in the order.
    by_topic: Trie<()>,
}

#[derive(Debug)]
struct Rule {
    id: Account,
    topic: TopicFilter,
    filter: Option<Filter>,
    listener: Option<String>,
    protocol: Option<Protocol>,
    copy: bool,
    unique_s: u32,
    /// That of the rule itself.
    when_full: WhenFull,
    targets: Vec<Target>,
}

#[derive(Debug)]
struct Target {
    route: Route,
    /// `None`: the event as it is.
    recipe: Option<Recipe>,
}

impl Rule {
    /// The route of all that its topic matches, if it takes all of it as it is.
    fn only(&self) -> Option<Route> {
        let any = self.filter.is_none() && self.listener.is_none() && self.protocol.is_none();
        let all = any && !self.copy && self.unique_s == 0;
        match &*self.targets {
            [Target { route, recipe: None }] if all => Some(*route),
            _ => None,
        }
    }

    fn takes(&self, view: &EventView<'_>, came: Came<'_>, metrics: &Metrics) -> bool {
        if self.listener.as_deref().is_some_and(|wanted| came.listener != Some(wanted)) {
            return false;
        }
        if self.protocol.is_some_and(|wanted| came.protocol != Some(wanted)) {
            return false;
        }
        match self.filter.as_ref().map_or(Verdict::Passes, |filter| filter.judge(view).verdict) {
            Verdict::Passes => true,
            Verdict::Fails => false,
            Verdict::Error => {
                metrics.filter_errors.increment(1);
                false
            }
        }
    }
}

impl RouteTable {
    /// Compiles rules over the remote stores of these names.
    pub(crate) fn compile(rules: &[RouteOptions], remotes: &[String]) -> Result<Self, String> {
        let mut table = Self { rules: Vec::with_capacity(rules.len()), by_topic: Trie::default() };
        let mut names: BTreeMap<Account, &str> = BTreeMap::new();
        for (place, options) in rules.iter().enumerate() {
            let rule =
                compile(options, remotes).map_err(|reason| format!("route {}: {reason}", options.topic))?;
            let name = options.name();
            if let Some(other) = names.insert(rule.id, name).filter(|other| *other != name) {
                return Err(format!(
                    "routes {other:?} and {name:?} have the same digest; give one another name"
                ));
            }
            table.by_topic.insert(&rule.topic, place as u64, ());
            table.rules.push(Arc::new(rule));
        }
        Ok(table)
    }

    /// Whether the remote store may have events that a filter matches.
    pub(crate) fn may_send(&self, remote: usize, filter: &TopicFilter) -> bool {
        let sends = |rule: &Rule, target: &Target| {
            // A target may have a topic of its own.
            target.route.remote == Some(remote) && (target.recipe.is_some() || rule.topic.overlaps(filter))
        };
        self.rules.iter().any(|rule| rule.targets.iter().any(|target| sends(rule, target)))
    }

    /// The ways of `topic`: the rules that match, up to the first that takes all; else the embedded log, synced.
    pub(crate) fn ways(&self, topic: &TopicName) -> Ways {
        let mut places: SmallVec<[u64; 8]> = SmallVec::new();
        self.by_topic.matches(topic, &mut |place, ()| places.push(place));
        places.sort_unstable();
        let matched = places.iter().filter_map(|place| self.rules.get(usize::try_from(*place).ok()?));
        let mut rules = Vec::new();
        for rule in matched {
            if let Some(last) = rule.only() {
                return Ways { rules, last };
            }
            rules.push(Arc::clone(rule));
        }
        Ways { rules, last: Route::DEFAULT }
    }
}

fn compile(options: &RouteOptions, remotes: &[String]) -> Result<Rule, String> {
    options.check().map_err(|mistake| mistake.to_string())?;
    let id = Account::route(options.name());
    let route = |store: &str, durability, when_full| {
        if store == EMBEDDED {
            return Ok(Route { id, remote: None, durability, when_full });
        }
        let remote = remotes.iter().position(|name| *name == store);
        let remote = remote.ok_or_else(|| no_store(store, remotes))?;
        Ok::<_, String>(Route { id, remote: Some(remote), durability: Durability::Remote, when_full })
    };
    let mut targets = Vec::new();
    for target in &options.to {
        let when_full = target.when_full.unwrap_or(options.when_full);
        let route = route(target.store_in(options), target.durability_in(options), when_full)?;
        targets.push(Target { route, recipe: Recipe::compile(target)? });
    }
    if targets.is_empty() {
        let route = route(&options.store, options.durability, options.when_full)?;
        targets.push(Target { route, recipe: None });
    }
    let filter = options.filter.as_ref().map(RouteFilter::compile).transpose()?;
    let RouteOptions { topic, listener, protocol, copy, unique_s, when_full, .. } = options.clone();
    Ok(Rule { id, topic, filter, listener, protocol, copy, unique_s, when_full, targets })
}

fn no_store(store: &str, remotes: &[String]) -> String {
    let names: Vec<&str> = std::iter::once(EMBEDDED).chain(remotes.iter().map(String::as_str)).collect();
    format!("store {store:?} is not open (open: {})", names.join(", "))
}

#[cfg(test)]
mod tests;
