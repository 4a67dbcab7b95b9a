//! The books: who sent what, what was acknowledged, who received what, and which promises were broken.
//!
//! A message is a publisher and a number that rises with every publish of that publisher. A publisher that repeats a
//! publish (as MQTT asks) keeps its number; one that gives up and publishes anew takes a new number.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::util::{PATIENCE, eventually, pause};

/// What every test message says in its data.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Message {
    /// Who published it.
    pub publisher: String,
    /// Rises with every publish of that publisher.
    pub n: u64,
}

/// What is promised of the messages on a topic towards one reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Acknowledged ones arrive, perhaps repeatedly; in order by first arrival.
    AtLeastOnce,
    /// Acknowledged ones arrive once, all others at most once; in order.
    ExactlyOnce,
}

/// The books of one test. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Books>>);

#[derive(Debug, Default)]
struct Books {
    /// Topic by topic, what was sent and whether it was acknowledged.
    sent: BTreeMap<String, BTreeMap<Message, bool>>,
    /// Reader and topic to arrivals in their order.
    received: BTreeMap<(String, String), Vec<Message>>,
    /// What a reader could not make sense of.
    oddities: Vec<String>,
}

impl Message {
    /// The data of a publish.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap()
    }
}

impl Ledger {
    /// Empty books.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a publish before it leaves, and gives its data.
    pub fn sent(&self, topic: &str, publisher: &str, n: u64) -> String {
        let message = Message { publisher: publisher.to_owned(), n };
        let data = message.to_json();
        self.lock().sent.entry(topic.to_owned()).or_default().entry(message).or_insert(false);
        data
    }

    /// Notes that a publish was answered with success.
    pub fn acked(&self, topic: &str, publisher: &str, n: u64) {
        let message = Message { publisher: publisher.to_owned(), n };
        self.lock().sent.entry(topic.to_owned()).or_default().insert(message, true);
    }

    /// Notes an arrival.
    pub fn received(&self, reader: &str, topic: &str, data: &[u8]) {
        let mut books = self.lock();
        match serde_json::from_slice::<Message>(data) {
            Ok(message) => {
                books.received.entry((reader.to_owned(), topic.to_owned())).or_default().push(message);
            }
            Err(error) => {
                let text = String::from_utf8_lossy(data);
                books.oddities.push(format!("{reader} got on {topic}: {text:?}: {error}"));
            }
        }
    }

    /// How many publishes were acknowledged, on all topics.
    pub fn acknowledged(&self) -> usize {
        self.lock().sent.values().flat_map(BTreeMap::values).filter(|acked| **acked).count()
    }

    /// Waits until `count` more publishes are acknowledged.
    pub async fn more_acknowledged(&self, count: usize) {
        let goal = self.acknowledged() + count;
        eventually("more is acknowledged", || async { (self.acknowledged() >= goal).then_some(()) }).await;
    }

    /// How many publishes of `publisher` were acknowledged.
    pub fn acknowledged_by(&self, publisher: &str) -> usize {
        let of = |(message, acked): &(&Message, &bool)| **acked && message.publisher == publisher;
        self.lock().sent.values().map(|messages| messages.iter().filter(of).count()).sum()
    }

    /// How many of them on topics that `wanted` picks.
    pub fn acknowledged_on(&self, wanted: impl Fn(&str) -> bool) -> usize {
        let books = self.lock();
        let topics = books.sent.iter().filter(|(topic, _)| wanted(topic));
        topics.flat_map(|(_, messages)| messages.values()).filter(|acked| **acked).count()
    }

    /// How many messages `reader` received, repeats included.
    pub fn arrivals(&self, reader: &str) -> usize {
        self.lock().received.iter().filter(|((who, _), _)| who == reader).map(|(_, list)| list.len()).sum()
    }

    /// Whose messages `reader` received.
    pub fn publishers_seen_by(&self, reader: &str) -> BTreeSet<String> {
        let books = self.lock();
        let lists = books.received.iter().filter(|((who, _), _)| who == reader).flat_map(|(_, list)| list);
        lists.map(|message| message.publisher.clone()).collect()
    }

    /// The acknowledged messages of topics that `wanted` picks which `reader` has not got.
    pub fn missing(&self, reader: &str, wanted: impl Fn(&str) -> bool) -> Vec<(String, Message)> {
        let books = self.lock();
        let mut missing = Vec::new();
        for (topic, messages) in books.sent.iter().filter(|(topic, _)| wanted(topic)) {
            let got: BTreeSet<&Message> = books.got(reader, topic).iter().collect();
            let absent = messages.iter().filter(|(message, acked)| **acked && !got.contains(message));
            missing.extend(absent.map(|(message, _)| (topic.clone(), message.clone())));
        }
        missing
    }

    /// Waits until `reader` has all acknowledged messages of topics that `wanted` picks.
    pub async fn complete(&self, reader: &str, wanted: impl Fn(&str) -> bool + Copy) {
        let start = Instant::now();
        loop {
            let missing = self.missing(reader, wanted);
            let (count, some) = (missing.len(), &missing[..missing.len().min(20)]);
            if count == 0 {
                return;
            }
            let patient = start.elapsed() < PATIENCE;
            assert!(patient, "{reader} misses {count} acknowledged messages, the first: {some:?}");
            pause(Duration::from_millis(20)).await;
        }
    }

    /// Panics if a promise to `reader` is broken on a topic that `promise` names one for.
    pub fn check(&self, reader: &str, promise: impl Fn(&str) -> Option<Promise>) {
        let books = self.lock();
        let mut broken = String::new();
        for oddity in books.oddities.iter().filter(|text| text.starts_with(reader)) {
            writeln!(broken, "{oddity}").unwrap();
        }
        for topic in books.sent.keys() {
            let Some(promise) = promise(topic) else { continue };
            for fault in faults(&books.sent[topic], books.got(reader, topic), promise) {
                writeln!(broken, "{reader} on {topic}: {fault}").unwrap();
            }
        }
        let unknown =
            books.received.keys().filter(|(who, topic)| who == reader && !books.sent.contains_key(topic));
        for (_, topic) in unknown {
            writeln!(broken, "{reader} got messages on {topic}, where nobody published").unwrap();
        }
        assert!(
            broken.is_empty(),
            "broken promises:\n{}",
            broken.lines().take(40).collect::<Vec<_>>().join("\n")
        );
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap()
    }
}

impl Books {
    fn got(&self, reader: &str, topic: &str) -> &[Message] {
        self.received.get(&(reader.to_owned(), topic.to_owned())).map_or(&[], Vec::as_slice)
    }
}

fn faults(sent: &BTreeMap<Message, bool>, got: &[Message], promise: Promise) -> Vec<String> {
    let mut faults = Vec::new();
    let mut count: BTreeMap<&Message, usize> = BTreeMap::new();
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for message in got {
        if !sent.contains_key(message) {
            faults.push(format!("{message:?} was never sent there"));
        }
        let times = count.entry(message).or_default();
        *times += 1;
        if *times > 1 {
            continue;
        }
        let last = last.entry(&message.publisher).or_insert(message.n);
        if *last > message.n {
            faults.push(format!("{message:?} came for the first time behind number {last}"));
        }
        *last = message.n;
    }
    if promise == Promise::ExactlyOnce {
        let repeated = count.iter().filter(|(_, times)| **times > 1);
        faults.extend(repeated.map(|(message, times)| format!("{message:?} came {times} times")));
    }
    let lost = sent.iter().filter(|(message, acked)| **acked && !count.contains_key(message));
    faults.extend(lost.map(|(message, _)| format!("{message:?} was acknowledged and never came")));
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(got: &[u64], acked: &[u64]) -> Ledger {
        let ledger = Ledger::new();
        for n in 0..5 {
            ledger.sent("t", "p", n);
        }
        acked.iter().for_each(|n| ledger.acked("t", "p", *n));
        for n in got {
            let data = Message { publisher: "p".into(), n: *n }.to_json();
            ledger.received("r", "t", data.as_bytes());
        }
        ledger
    }

    fn broken(got: &[u64], acked: &[u64], promise: Promise) -> bool {
        let ledger = books(got, acked);
        std::panic::catch_unwind(|| ledger.check("r", |_| Some(promise))).is_err()
    }

    #[test]
    fn loss_of_what_was_acknowledged_is_found() {
        assert!(broken(&[0, 2], &[0, 1], Promise::AtLeastOnce));
        assert!(!broken(&[0, 2], &[0], Promise::AtLeastOnce));
    }

    #[test]
    fn a_repeat_breaks_only_exactly_once() {
        assert!(!broken(&[0, 1, 0, 1, 2], &[], Promise::AtLeastOnce));
        assert!(broken(&[0, 1, 0], &[], Promise::ExactlyOnce));
    }

    #[test]
    fn wrong_order_is_found() {
        assert!(broken(&[1, 0], &[], Promise::AtLeastOnce));
    }

    #[test]
    fn what_nobody_sent_is_found() {
        assert!(broken(&[7], &[], Promise::AtLeastOnce));
    }
}
