//! Quotas: what some users, clients or listeners may use of a Weft, together or each. The time comes in.
//!
//! Events, connections and subscriptions above a quota are refused as busy, which each protocol says with its own code.
//! Parts of Weft (bridges, delayed events, wills that are due) are not asked: what they publish was counted on its way in.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use event::{Bucket, ByteLimit, Event, Meter, Principal, Rate, Reject, RejectKind, TopicFilter};
use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::account::Tenant;
use crate::retained::Retained;
use crate::tenant::{PATTERN, Tenants, is_like, is_pattern};

/// What some may use. Those for whom several quotas are have to keep to all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QuotaOptions {
    /// Users that it is for; `*` at the end is any text. Default "", all and those without a user.
    pub user: String,
    /// Client ids that it is for, in the same way. Default "", all.
    pub client: String,
    /// The listener by which they come. Default "", any.
    pub listener: String,
    /// The tenant that they belong to. Default "", any and none.
    pub tenant: String,
    /// Who shares it: "all" (default), all for whom it is; "user", "client" or "tenant", each of them has as much. HTTP
    /// requests, event streams and WebSockets without a client id count for their address.
    pub each: Each,
    /// Topics whose events it counts. Default none given: all, also those that begin with `$`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub topic: Option<TopicFilter>,
    /// Events published in a second, on the average, and as many at once. Default 0, no limit. More are refused.
    pub events_per_second: u32,
    /// Their data in a second. Default "0 B", no limit. An event may be larger: those behind it wait for it.
    #[schemars(with = "String")]
    pub bytes_per_second: ByteLimit,
    /// Sessions with a connection, whatever protocol. Default 0, no limit. Who is refused is told so.
    pub connections: u32,
    /// Subscriptions of those that are connected. Default 0, no limit. More are refused.
    pub subscriptions: u32,
    /// Retained events of `topic`, whoever published them, so `topic` has to be given. Default 0, no limit. A publish that
    /// would add one is refused.
    pub retained_events: u32,
}

/// Who shares a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Each {
    /// All for whom it is.
    #[default]
    All,
    /// Each user has as much.
    User,
    /// Each client has as much; those without an id of their own count for their address.
    Client,
    /// Each tenant has as much. Those who belong to none share one.
    Tenant,
}

impl Default for QuotaOptions {
    fn default() -> Self {
        Self {
            user: String::new(),
            client: String::new(),
            listener: String::new(),
            tenant: String::new(),
            each: Each::default(),
            topic: None,
            events_per_second: 0,
            bytes_per_second: ByteLimit(0),
            connections: 0,
            subscriptions: 0,
            retained_events: 0,
        }
    }
}

impl QuotaOptions {
    /// What is wrong with it: the key, and why.
    ///
    /// # Errors
    /// Its topic is a shared subscription, a name has `*` before its end, or it limits retained events of no topic.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        if self.topic.as_ref().is_some_and(|topic| topic.share().is_some()) {
            return Err(("topic", "a quota is for topics, not for a shared subscription"));
        }
        for (key, wanted) in [("user", &self.user), ("client", &self.client)] {
            if !is_pattern(wanted) {
                return Err((key, PATTERN));
            }
        }
        if self.retained_events > 0 && self.topic.is_none() {
            return Err((
                "retained_events",
                "say of which topics, with topic; core.retained_events is for all",
            ));
        }
        Ok(())
    }

    fn is_for(&self, who: &Principal, tenant: &str) -> bool {
        let listener = who.peer.as_ref().map_or("", |(_, listener)| listener);
        let is = |wanted: &str, name: &str| wanted.is_empty() || is_like(wanted, name);
        is(&self.user, who.user.as_deref().unwrap_or_default())
            && is(&self.client, who.client.as_str())
            && (self.listener.is_empty() || *listener == *self.listener)
            && (self.tenant.is_empty() || *tenant == *self.tenant)
    }

    /// Whose uses are counted together.
    fn scope(&self) -> (&str, &str, &str, &str, Each) {
        (&self.user, &self.client, &self.listener, &self.tenant, self.each)
    }

    fn rates(&self, now: Instant) -> Meter {
        let bucket = |per_second: u64| Rate::per_second(per_second).map(|rate| Bucket::new(rate, now));
        Meter { packets: bucket(self.events_per_second.into()), bytes: bucket(self.bytes_per_second.0) }
    }
}

/// All quotas, sorted by name, and the tenants that they know.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    all: Vec<Arc<Quota>>,
    pub(crate) tenants: Tenants,
}

#[derive(Debug)]
struct Quota {
    name: String,
    options: QuotaOptions,
    uses: Arc<Uses>,
}

/// What is used, by user or client if each has its own. Outlives a change of the limits.
#[derive(Debug, Default)]
struct Uses(Mutex<HashMap<Arc<str>, Arc<Use>, RandomState>>);

#[derive(Debug)]
struct Use {
    rates: ArcSwap<Meter>,
    connections: AtomicUsize,
    subscriptions: AtomicUsize,
}

/// As many users or clients are remembered before those are forgotten who use nothing.
const SWEEP: usize = 1024;

impl Quotas {
    /// The quotas that hold from now on. One of `before` with the same name, for the same ones, goes on with its counts.
    pub(crate) fn new(
        options: &BTreeMap<String, QuotaOptions>,
        tenants: Tenants,
        before: &Self,
        now: Instant,
    ) -> Self {
        let quota = |(name, options): (&String, &QuotaOptions)| {
            let same = |old: &&Arc<Quota>| old.name == *name && old.options.scope() == options.scope();
            let old = before.all.iter().find(same);
            if let Some(old) = old.filter(|old| old.options == *options) {
                return Arc::clone(old);
            }
            let uses = old.map(|old| Arc::clone(&old.uses)).unwrap_or_default();
            uses.0.lock().values().for_each(|one| one.rates.store(Arc::new(options.rates(now))));
            Arc::new(Quota { name: name.clone(), options: options.clone(), uses })
        };
        Self { all: options.iter().map(quota).collect(), tenants }
    }

    /// Those that are for `who`.
    pub(crate) fn of(&self, who: &Principal, now: Instant) -> Allotted {
        let tenant = self.tenants.name_of(who);
        // Parts of Weft have no peer.
        let some = self
            .all
            .iter()
            .filter(|quota| who.peer.is_some() && quota.options.is_for(who, tenant.unwrap_or_default()));
        let uses = some.map(|quota| (Arc::clone(quota), quota.of(who, tenant.unwrap_or_default(), now)));
        Allotted { tenant: tenant.map_or(Tenant::NONE, Tenant::named), uses: uses.collect() }
    }
}

impl Quota {
    fn of(&self, who: &Principal, tenant: &str, now: Instant) -> Arc<Use> {
        let address = || who.peer.as_ref().map_or(String::new(), |(address, _)| address.ip().to_string());
        let key = match self.options.each {
            Each::All => Arc::from(""),
            Each::User => who.user.clone().unwrap_or_default(),
            // Weft made the name, for one request perhaps.
            Each::Client if who.client.as_str().starts_with('$') => Arc::from(address()),
            Each::Client => Arc::clone(&who.client.0),
            Each::Tenant => Arc::from(tenant),
        };
        let mut uses = self.uses.0.lock();
        if let Some(known) = uses.get(&key) {
            return Arc::clone(known);
        }
        if uses.len() >= SWEEP && uses.len().is_power_of_two() {
            uses.retain(|_, one| Arc::strong_count(one) > 1 || !one.is_fresh(now));
        }
        let one = Arc::new(Use {
            rates: ArcSwap::from_pointee(self.options.rates(now)),
            connections: AtomicUsize::new(0),
            subscriptions: AtomicUsize::new(0),
        });
        uses.insert(key, Arc::clone(&one));
        one
    }

    fn refuse(&self, what: &'static str, most: impl Display) -> Reject {
        let name = self.name.clone();
        metrics::counter!("weft_core_quota_refused_total", "quota" => name, "what" => what).increment(1);
        Reject::new(RejectKind::Busy, format!("{what} are above quota.{}: {most}", self.name))
    }
}

impl Use {
    /// Whether a new one would be the same.
    fn is_fresh(&self, now: Instant) -> bool {
        let rates = self.rates.load();
        rates.packets.iter().chain(&rates.bytes).all(|bucket| bucket.is_full(now))
    }
}

/// What the quotas have for one principal, and whose it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Allotted {
    pub(crate) tenant: Tenant,
    uses: Vec<(Arc<Quota>, Arc<Use>)>,
}

impl Allotted {
    pub(crate) fn is_empty(&self) -> bool {
        self.uses.is_empty()
    }

    /// Counts an event that is to be published.
    ///
    /// # Errors
    /// There were too many.
    pub(crate) fn publish(&self, event: &Event, now: Instant) -> Result<(), Reject> {
        let counts =
            |quota: &Quota| quota.options.topic.as_ref().is_none_or(|topic| topic.matches(event.topic()));
        for (quota, one) in self.uses.iter().filter(|(quota, _)| counts(quota)) {
            let QuotaOptions { events_per_second, bytes_per_second, .. } = &quota.options;
            let Meter { packets, bytes } = &**one.rates.load();
            // One that is larger than a second's share may pass; then the next ones wait for it.
            if bytes.as_ref().is_some_and(|bucket| !bucket.wait(now).is_zero()) {
                return Err(quota.refuse("bytes", format!("{bytes_per_second} a second")));
            }
            if packets.as_ref().is_some_and(|bucket| bucket.try_charge(1, now).is_err()) {
                return Err(quota.refuse("events", format!("{events_per_second} a second")));
            }
            if let Some(bucket) = bytes {
                bucket.charge(event.data().len() as u64, now);
            }
        }
        Ok(())
    }

    /// Whether one more event may be retained.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn retain(&self, event: &Event, retained: &RwLock<Retained>) -> Result<(), Reject> {
        for (quota, _) in &self.uses {
            let most = quota.options.retained_events as usize;
            let topic = quota.options.topic.as_ref().filter(|topic| most > 0 && topic.matches(event.topic()));
            let Some(topic) = topic.filter(|_| !event.data().is_empty()) else { continue };
            let retained = retained.read();
            if retained.contains(event.topic()) {
                continue;
            }
            let mut count = 0;
            retained.page(topic, None, most, &mut |_| {
                count += 1;
                true
            });
            if count >= most {
                return Err(quota.refuse("retained events", most));
            }
        }
        Ok(())
    }

    /// Counts a connection until what is given is dropped. `again`: it takes the place of another one.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn connect(self, again: bool) -> Result<Held, Reject> {
        let mut held = Held::default();
        for (quota, one) in self.uses {
            let most = quota.options.connections as usize;
            let before = one.connections.fetch_add(1, Ordering::Relaxed);
            held.0.push((Arc::clone(&quota), one));
            if most > 0 && before >= most && !again {
                return Err(quota.refuse("connections", most));
            }
        }
        Ok(held)
    }
}

/// A connection that is counted, with its subscriptions.
#[derive(Debug, Default)]
pub(crate) struct Held(Vec<(Arc<Quota>, Arc<Use>)>, usize);

impl Held {
    /// No quota is for it.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// It has so many subscriptions, whatever the quotas say.
    pub(crate) fn set_subscriptions(&mut self, count: usize) {
        let before = std::mem::replace(&mut self.1, count);
        for (_, one) in &self.0 {
            one.subscriptions.fetch_add(count, Ordering::Relaxed);
            one.subscriptions.fetch_sub(before, Ordering::Relaxed);
        }
    }

    /// It wants one subscription more.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn subscribe(&mut self) -> Result<(), Reject> {
        for (quota, one) in &self.0 {
            let most = quota.options.subscriptions as usize;
            if most > 0 && one.subscriptions.load(Ordering::Relaxed) >= most {
                return Err(quota.refuse("subscriptions", most));
            }
        }
        self.set_subscriptions(self.1 + 1);
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set_subscriptions(0);
        for (_, one) in &self.0 {
            one.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
