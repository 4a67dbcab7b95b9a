//! What Weft says about itself, under `$SYS/`: the last value of each topic, in memory only. Whoever subscribes gets it
//! as a retained event, and each change after it, at most once.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use event::access::Rights;
use event::{Event, Guarantee, Parts, TopicFilter, TopicName};

use crate::account::Account;
use crate::core::Core;
use crate::matching::Matcher;
use crate::session::mailbox::Item;
use crate::shared::now_ms;

/// The last values.
#[derive(Debug, Default)]
pub(crate) struct System(BTreeMap<TopicName, Event>);

impl System {
    /// Shows every value that `filter` matches.
    pub(crate) fn matches(&self, filter: &TopicFilter, found: &mut impl FnMut(&Event)) {
        // Only a filter whose first level is this name matches [MQTT-4.7.2-1]; most have another.
        if filter.pattern().starts_with("$SYS") {
            let wanted = self.0.iter().filter(|(topic, _)| filter.matches(topic));
            wanted.for_each(|(_, event)| found(event));
        }
    }
}

impl Core {
    /// Says under these topics, which begin with `$SYS/`, what has changed since it was said last.
    pub fn publish_system(&self, values: Vec<(TopicName, String)>) {
        let shared = self.shared();
        let mut stamps = shared.stamps.clone();
        let received_ms = now_ms();
        let mut matcher = Matcher::default();
        for (topic, data) in values {
            let event = {
                let mut system = shared.system.write();
                if system.0.get(&topic).is_some_and(|known| *known.data() == data.as_bytes()) {
                    continue;
                }
                let parts = Parts {
                    topic: topic.clone(),
                    data: Bytes::from(data),
                    stamp: stamps.take(),
                    received_ms,
                    expires_ms: 0,
                    publisher: Arc::from("$SYS"),
                    meta: None,
                };
                let event = Event::new(parts);
                system.0.insert(topic, event.clone());
                event
            };
            let (matched, _) = matcher.find(shared, &Rights::all(), event.topic());
            let item = Item {
                event,
                guarantee: Guarantee::AtMostOnce,
                retain: true,
                position: None,
                live_done: false,
                apart: false,
                account: Account::SYSTEM,
            };
            let items = std::slice::from_ref(&item);
            matched.each("$SYS", |session, wanted| session.offer(items, wanted, shared));
            matched.each_selective(items, |session, wanted, _| session.offer(items, wanted, shared));
        }
    }
}
