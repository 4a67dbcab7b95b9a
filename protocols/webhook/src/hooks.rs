//! Who subscribed which webhook to what. Sans-io.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::hub::Link;
use event::{Event, TopicFilter, TopicName};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::push::Push;
use crate::target::Target;

/// How a protocol writes an event for its webhooks.
pub(crate) type Write = fn(&Event) -> Push;

/// One webhook of one group: a session of the core.
pub(crate) struct Hook {
    pub(crate) target: Target,
    pub(crate) write: Write,
    /// `None`: it is over.
    pub(crate) link: Mutex<Option<Box<dyn Link>>>,
    /// When the proof of who subscribed it ends, milliseconds since 1970.
    pub(crate) until_ms: Option<u64>,
    topics: Mutex<Vec<Topic>>,
    /// Turns true when it is over.
    pub(crate) over: watch::Sender<bool>,
}

/// What a webhook gets of one topic, and for whom.
struct Topic {
    name: String,
    filter: TopicFilter,
    clients: Vec<Client>,
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
            topics: Mutex::default(),
            over,
        })
    }

    /// `client` wants `topic`; the filter it had before, if that is another.
    pub(crate) fn add(
        &self,
        topic: &str,
        filter: &TopicFilter,
        client: &str,
        seen: Option<Instant>,
    ) -> Option<TopicFilter> {
        let mut topics = self.topics.lock();
        let client = Client { name: client.to_owned(), seen };
        match topics.iter_mut().find(|have| have.name == topic) {
            Some(have) => {
                have.clients.retain(|other| other.name != client.name);
                have.clients.push(client);
                let old = std::mem::replace(&mut have.filter, filter.clone());
                (old != *filter).then_some(old)
            }
            None => {
                topics.push(Topic { name: topic.to_owned(), filter: filter.clone(), clients: vec![client] });
                None
            }
        }
    }

    /// `client` wants `topic` no more; the filter to end, if nobody does. No client: whoever wants it.
    pub(crate) fn remove(&self, topic: &str, client: Option<&str>) -> Option<TopicFilter> {
        let mut topics = self.topics.lock();
        let at = topics.iter().position(|have| have.name == topic)?;
        let have = topics.get_mut(at)?;
        have.clients.retain(|other| client.is_some_and(|client| other.name != client));
        have.clients.is_empty().then(|| topics.swap_remove(at).filter)
    }

    /// Clients that were not heard since `before` want nothing any more; the filters to end.
    pub(crate) fn sweep(&self, now: Instant, silence: Duration) -> Vec<TopicFilter> {
        let mut topics = self.topics.lock();
        for topic in topics.iter_mut() {
            topic.clients.retain(|client| client.seen.is_none_or(|seen| now.duration_since(seen) < silence));
        }
        let over = topics.extract_if(.., |topic| topic.clients.is_empty());
        over.map(|topic| topic.filter).collect()
    }

    /// A sign of life of `client`; whether it is known to want `topic`.
    pub(crate) fn touch(&self, topic: &str, client: &str, now: Instant) -> bool {
        let mut topics = self.topics.lock();
        let topic = topics.iter_mut().find(|have| have.name == topic);
        let client = topic.and_then(|topic| topic.clients.iter_mut().find(|have| have.name == client));
        client.map(|client| client.seen = Some(now)).is_some()
    }

    /// Whether it wants events of `topic`.
    pub(crate) fn wants(&self, topic: &TopicName) -> bool {
        self.topics.lock().iter().any(|have| have.filter.matches(topic))
    }

    /// Whether `topic` is subscribed for it.
    pub(crate) fn has(&self, topic: &str) -> bool {
        self.topics.lock().iter().any(|have| have.name == topic)
    }

    /// How many topics it has.
    pub(crate) fn topics(&self) -> usize {
        self.topics.lock().len()
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
        let all: Vec<&Arc<Hook>> = self.of_group(group).filter(|other| other.wants(topic)).collect();
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
            write: |_| Push::default(),
            link: Mutex::new(None),
            until_ms: None,
            topics: Mutex::default(),
            over,
        };
        let now = Instant::now();
        let (a, b) = (TopicFilter::parse("a").unwrap(), TopicFilter::parse("b").unwrap());
        hook.add("a", &a, "watched", Some(now));
        hook.add("b", &b, "not watched", None);
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
