//! Who subscribed which webhook to what. Sans-io.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::hub::Link;
use event::{Event, TopicFilter, TopicName};
use eventmesh::{Clients, Order, Registered, SubscriptionType};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::push::Push;
use crate::target::Target;

/// How a protocol writes an event for its webhooks.
pub(crate) type Write = fn(&Event, SubscriptionType) -> Push;

/// One webhook of one group: a session of the core.
pub(crate) struct Hook {
    pub(crate) target: Target,
    pub(crate) write: Write,
    /// `None`: it is over.
    pub(crate) link: Mutex<Option<Box<dyn Link>>>,
    /// When the proof of who subscribed it ends, milliseconds since 1970.
    pub(crate) until_ms: Option<u64>,
    wishes: Mutex<Wishes>,
    /// Turns true when it is over.
    pub(crate) over: watch::Sender<bool>,
}

/// What a webhook gets, and for whom.
#[derive(Default)]
struct Wishes {
    topics: Vec<Topic>,
    /// Those who subscribed, as operators see them.
    known: Vec<Known>,
}

/// What a webhook gets of one topic, and for whom.
struct Topic {
    name: String,
    filter: TopicFilter,
    kind: SubscriptionType,
    clients: Vec<Client>,
}

/// A client's place among [`Clients`].
struct Known {
    name: String,
    registered: Registered,
    orders: watch::Receiver<Option<Order>>,
}

/// Somebody who subscribed.
struct Client {
    name: String,
    /// The last sign of life; `None`: it is not watched.
    seen: Option<Instant>,
}

/// All webhooks, by group, URL, and the user who subscribed.
#[derive(Default)]
pub(crate) struct Registry(BTreeMap<Key, Arc<Hook>>);

pub(crate) type Key = (String, String, Option<Arc<str>>);

impl Hook {
    pub(crate) fn new(target: Target, write: Write, link: Box<dyn Link>, until_ms: Option<u64>) -> Arc<Self> {
        let (over, _) = watch::channel(false);
        Arc::new(Self {
            target,
            write,
            link: Mutex::new(Some(link)),
            until_ms,
            wishes: Mutex::default(),
            over,
        })
    }

    /// `client` wants `topic`; the filter it had before, if that is another.
    pub(crate) fn add(
        &self,
        topic: &str,
        (filter, kind): (&TopicFilter, SubscriptionType),
        client: &str,
        seen: Option<Instant>,
    ) -> Option<TopicFilter> {
        let topics = &mut self.wishes.lock().topics;
        let client = Client { name: client.to_owned(), seen };
        match topics.iter_mut().find(|have| have.name == topic) {
            Some(have) => {
                have.clients.retain(|other| other.name != client.name);
                have.clients.push(client);
                have.kind = kind;
                let old = std::mem::replace(&mut have.filter, filter.clone());
                (old != *filter).then_some(old)
            }
            None => {
                let (name, filter) = (topic.to_owned(), filter.clone());
                topics.push(Topic { name, filter, kind, clients: vec![client] });
                None
            }
        }
    }

    /// Shows what `client`, of that name, subscribed to operators, for as long as it wants any of it.
    pub(crate) fn show(&self, name: &str, client: eventmesh::Client, clients: &Clients) {
        let mut wishes = self.wishes.lock();
        wishes.known.retain(|known| known.name != name);
        let (registered, orders) = clients.register(client);
        wishes.known.push(Known { name: name.to_owned(), registered, orders });
        wishes.tell();
    }

    /// `client` wants `topic` no more; the filter to end, if nobody does. No client: whoever wants it.
    pub(crate) fn remove(&self, topic: &str, client: Option<&str>) -> Option<TopicFilter> {
        let mut wishes = self.wishes.lock();
        let at = wishes.topics.iter().position(|have| have.name == topic)?;
        let have = wishes.topics.get_mut(at)?;
        have.clients.retain(|other| client.is_some_and(|client| other.name != client));
        let over = have.clients.is_empty().then(|| wishes.topics.swap_remove(at).filter);
        wishes.tell();
        over
    }

    /// Clients that were not heard since `before` want nothing any more; the filters to end.
    pub(crate) fn sweep(&self, now: Instant, silence: Duration) -> Vec<TopicFilter> {
        let silent = |client: &Client| client.seen.is_some_and(|seen| now.duration_since(seen) >= silence);
        self.wishes.lock().give_up(silent)
    }

    /// Clients that operators sent away want nothing any more; the filters to end.
    pub(crate) fn send_away(&self) -> Vec<TopicFilter> {
        let mut wishes = self.wishes.lock();
        let away = wishes.known.iter().filter(|known| *known.orders.borrow() == Some(Order::Leave));
        let away: Vec<String> = away.map(|known| known.name.clone()).collect();
        match away.is_empty() {
            true => Vec::new(),
            false => wishes.give_up(|client| away.contains(&client.name)),
        }
    }

    /// A sign of life of `client`; whether it is known to want `topic`.
    pub(crate) fn touch(&self, topic: &str, client: &str, now: Instant) -> bool {
        let topics = &mut self.wishes.lock().topics;
        let topic = topics.iter_mut().find(|have| have.name == topic);
        let client = topic.and_then(|topic| topic.clients.iter_mut().find(|have| have.name == client));
        client.map(|client| client.seen = Some(now)).is_some()
    }

    /// How it wants events of `topic`; `None`: not at all.
    pub(crate) fn wants(&self, topic: &TopicName) -> Option<SubscriptionType> {
        let wishes = self.wishes.lock();
        wishes.topics.iter().find(|have| have.filter.matches(topic)).map(|have| have.kind)
    }

    /// Whether `topic` is subscribed for it.
    pub(crate) fn has(&self, topic: &str) -> bool {
        self.wishes.lock().topics.iter().any(|have| have.name == topic)
    }

    /// How many topics it has.
    pub(crate) fn topics(&self) -> usize {
        self.wishes.lock().topics.len()
    }

    /// Whether `client` has something here, or fewer than `most` have.
    pub(crate) fn takes_client(&self, client: &str, most: usize) -> bool {
        let wishes = self.wishes.lock();
        wishes.known.len() < most || wishes.known.iter().any(|known| known.name == client)
    }
}

impl Wishes {
    /// Those that `gone` chooses want nothing any more; the filters to end.
    fn give_up(&mut self, gone: impl Fn(&Client) -> bool) -> Vec<TopicFilter> {
        for topic in &mut self.topics {
            topic.clients.retain(|client| !gone(client));
        }
        let over = self.topics.extract_if(.., |topic| topic.clients.is_empty());
        let over = over.map(|topic| topic.filter).collect();
        self.tell();
        over
    }

    /// Tells operators what each client has.
    fn tell(&mut self) {
        let topics = &self.topics;
        self.known.retain(|known| {
            let its = topics.iter().filter(|topic| topic.clients.iter().any(|of| of.name == known.name));
            let its: Vec<String> = its.map(|topic| topic.name.clone()).collect();
            let any = !its.is_empty();
            known.registered.listens(its);
            any
        });
    }
}

impl Registry {
    pub(crate) fn find(&self, key: &Key) -> Option<Arc<Hook>> {
        self.0.get(key).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn insert(&mut self, key: Key, hook: Arc<Hook>) {
        self.0.insert(key, hook);
    }

    pub(crate) fn remove(&mut self, key: &Key, hook: &Arc<Hook>) {
        if self.0.get(key).is_some_and(|have| Arc::ptr_eq(have, hook)) {
            self.0.remove(key);
        }
    }

    pub(crate) fn all(&self) -> Vec<(Key, Arc<Hook>)> {
        self.0.iter().map(|(key, hook)| (key.clone(), Arc::clone(hook))).collect()
    }

    /// The webhooks of `group`.
    pub(crate) fn of_group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Arc<Hook>> {
        let from = (group.to_owned(), String::new(), None);
        self.0.range(from..).take_while(move |((of, ..), _)| of == group).map(|(_, hook)| hook)
    }

    /// The webhook of `group` that wants `topic` and comes behind `hook`; `hook` itself if there is no other.
    pub(crate) fn next(&self, group: &str, hook: &Arc<Hook>, topic: &TopicName) -> Arc<Hook> {
        let all: Vec<&Arc<Hook>> =
            self.of_group(group).filter(|other| other.wants(topic).is_some()).collect();
        let at = all.iter().position(|other| Arc::ptr_eq(other, hook));
        let next = at.map_or(0, |at| (at + 1) % all.len());
        all.get(next).map_or_else(|| Arc::clone(hook), |next| Arc::clone(next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_client_wants_nothing_any_more() {
        let target = Target::parse("http://h/", false).unwrap();
        let (over, _) = watch::channel(false);
        let hook = Hook {
            target,
            write: |_, _| Push::default(),
            link: Mutex::new(None),
            until_ms: None,
            wishes: Mutex::default(),
            over,
        };
        let now = Instant::now();
        let (a, b) = (TopicFilter::parse("a").unwrap(), TopicFilter::parse("b").unwrap());
        hook.add("a", (&a, SubscriptionType::Async), "watched", Some(now));
        hook.add("b", (&b, SubscriptionType::Async), "not watched", None);
        let minute = Duration::from_secs(60);
        assert_eq!(hook.sweep(now + minute / 2, minute), []);
        assert!(hook.touch("a", "watched", now + minute / 2));
        assert_eq!(hook.sweep(now + minute, minute), []);
        assert_eq!(hook.sweep(now + minute * 2, minute), [a]);
        assert!(!hook.touch("a", "watched", now));
        // Whoever sends one heartbeat is watched from then on.
        assert!(hook.touch("b", "not watched", now));
        assert_eq!(hook.sweep(now + minute, minute), [b]);
    }
}
