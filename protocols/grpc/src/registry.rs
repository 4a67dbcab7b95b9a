//! Who takes events by a stream: one stream for each client and topic of a group. Sans-io.
//!
//! A client is told by its group, data centre, address and process id, as it says, and by the user that it proved to
//! be. When it subscribes a topic by a new stream, an older one of its own, perhaps of a connection that is dead without
//! anybody knowing, gives the topic up.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::TopicFilter;
use event::hub::{Close, Link};
use eventmesh::Registered;
use parking_lot::Mutex;

use crate::request::Caller;

/// One group's part of a stream: a session of the core.
pub(crate) struct Member {
    pub(crate) group: String,
    pub(crate) client: Client,
    /// `None`: the stream is over.
    pub(crate) link: Mutex<Option<Box<dyn Link>>>,
    topics: Mutex<Vec<(String, TopicFilter)>>,
    /// Its place among the clients that operators see.
    registered: Registered,
}

/// Who a client is, within a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Client {
    idc: String,
    ip: String,
    pid: String,
    user: Option<Arc<str>>,
}

impl Client {
    pub(crate) fn new(caller: &Caller, user: Option<Arc<str>>) -> Self {
        Self { idc: caller.idc.clone(), ip: caller.ip.clone(), pid: caller.pid.clone(), user }
    }
}

/// All streams that take events.
#[derive(Default)]
pub(crate) struct Registry(Mutex<BTreeMap<Key, Arc<Member>>>);

type Key = (String, Client, String);

impl Member {
    pub(crate) fn new(
        group: String,
        client: Client,
        link: Box<dyn Link>,
        registered: Registered,
    ) -> Arc<Self> {
        let (link, topics) = (Mutex::new(Some(link)), Mutex::default());
        Arc::new(Self { group, client, link, topics, registered })
    }

    /// Notes that it gets the events of `topic`; the filter that it had for it before, if that is another.
    pub(crate) fn add(&self, topic: &str, filter: TopicFilter) -> Option<TopicFilter> {
        let mut topics = self.topics.lock();
        let old = topics.iter().position(|(name, _)| name == topic).map(|at| topics.swap_remove(at).1);
        topics.push((topic.to_owned(), filter.clone()));
        self.registered.listens(names(&topics));
        old.filter(|old| *old != filter)
    }

    /// Notes that it gets no more events of `topic`; the filter it had for it.
    pub(crate) fn remove(&self, topic: &str) -> Option<TopicFilter> {
        let mut topics = self.topics.lock();
        let at = topics.iter().position(|(name, _)| name == topic)?;
        let (_, filter) = topics.swap_remove(at);
        self.registered.listens(names(&topics));
        Some(filter)
    }

    /// Whether it gets the events of `topic`.
    pub(crate) fn has(&self, topic: &str) -> bool {
        self.topics.lock().iter().any(|(name, _)| name == topic)
    }

    /// How many topics it has.
    pub(crate) fn topics(&self) -> usize {
        self.topics.lock().len()
    }

    /// Whether it still wants the events of `topic`.
    pub(crate) fn wants(&self, topic: &event::TopicName) -> bool {
        self.topics.lock().iter().any(|(_, filter)| filter.matches(topic))
    }

    fn names(&self) -> Vec<String> {
        names(&self.topics.lock())
    }
}

impl Registry {
    /// `member` gets the events of `topic`; who of the same client had them before.
    pub(crate) fn enter(&self, member: &Arc<Member>, topic: &str) -> Option<Arc<Member>> {
        let old = self.0.lock().insert(key(&member.group, &member.client, topic), Arc::clone(member));
        old.filter(|old| !Arc::ptr_eq(old, member))
    }

    /// Who gets the events of `topic`.
    pub(crate) fn find(&self, group: &str, client: &Client, topic: &str) -> Option<Arc<Member>> {
        self.0.lock().get(&key(group, client, topic)).cloned()
    }

    /// `member` gets no more events of `topic`.
    pub(crate) fn leave(&self, member: &Arc<Member>, topic: &str) {
        let mut all = self.0.lock();
        let key = key(&member.group, &member.client, topic);
        if all.get(&key).is_some_and(|have| Arc::ptr_eq(have, member)) {
            all.remove(&key);
        }
    }

    /// The stream of `member` is over: what it had goes to others of its group.
    pub(crate) fn end(&self, member: &Arc<Member>) {
        member.names().iter().for_each(|topic| self.leave(member, topic));
        let link = member.link.lock().take();
        if let Some(link) = link {
            link.close(Close { will: false, keep: None });
        }
    }
}

fn names(topics: &[(String, TopicFilter)]) -> Vec<String> {
    topics.iter().map(|(name, _)| name.clone()).collect()
}

fn key(group: &str, client: &Client, topic: &str) -> Key {
    (group.to_owned(), client.clone(), topic.to_owned())
}
