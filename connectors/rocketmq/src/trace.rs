//! What RocketMQ's own clients tell of each message with `enableMsgTrace`: who sent it when, and who consumed it how. It goes as
//! messages into a topic of its own, whose keys are the ids of the messages that are told of.
//!
//! Fields end with U+0001, records with U+0002 (the last field of a record has no end of its own):
//!
//! ```text
//! Pub        time region group topic id tags keys host length cost kind offset-id success
//! SubBefore  time region group request id times keys
//! SubAfter   request id cost success keys code time group
//! ```

use std::collections::BTreeSet;

use bytes::Bytes;
use bytestring::ByteString;
use remoting::BatchEntry;
use remoting::properties::{Properties, parse, unescape};

/// The topic of traces.
pub(crate) const TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
/// The group that sends them.
pub(crate) const GROUP: &str = "_INNER_TRACE_PRODUCER";

/// What is told of one message.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// Its record, or records.
    text: String,
    /// By which it is found: its id, and its own keys.
    keys: Vec<ByteString>,
}

/// What a message says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject {
    pub(crate) id: ByteString,
    keys: ByteString,
    tags: ByteString,
}

impl Subject {
    /// Read from a message's properties.
    pub(crate) fn of(properties: &ByteString) -> Self {
        let mut subject = Self::default();
        for (name, value) in parse(properties) {
            match &*name {
                "UNIQ_KEY" => subject.id = unescape(&value),
                "KEYS" => subject.keys = unescape(&value),
                "TAGS" => subject.tags = unescape(&value),
                _ => {}
            }
        }
        subject
    }

    /// Names one attempt to consume it.
    pub(crate) fn attempt(&self, at_ms: u64, times: i32) -> String {
        format!("{}-{at_ms}-{times}", self.id)
    }

    fn found_by(&self) -> Vec<ByteString> {
        let own = self.keys.split(' ').filter(|key| !key.is_empty()).map(ByteString::from);
        std::iter::once(self.id.clone()).chain(own).collect()
    }
}

/// A message that was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent<'a> {
    pub(crate) group: &'a str,
    pub(crate) topic: &'a str,
    /// Address of the broker.
    pub(crate) host: &'a str,
    /// When it was sent, milliseconds since 1970, and how many it took.
    pub(crate) at_ms: u64,
    pub(crate) cost_ms: u64,
    /// Its id at the broker.
    pub(crate) offset_id: &'a str,
}

impl Sent<'_> {
    /// What is told of `message`.
    pub(crate) fn of(&self, message: &BatchEntry) -> Told {
        let subject = Subject::of(&message.properties);
        let Self { group, topic, host, at_ms, cost_ms, offset_id } = self;
        let Subject { id, keys, tags } = &subject;
        let (at, len, cost) = (at_ms.to_string(), message.body.len().to_string(), cost_ms.to_string());
        let fields =
            ["Pub", &at, REGION, group, topic, id, tags, keys, host, &len, &cost, NORMAL, offset_id, "true"];
        Told { text: record(&fields), keys: subject.found_by() }
    }
}

/// A message that was consumed, or given back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Consumed<'a> {
    pub(crate) group: &'a str,
    /// Names the attempt.
    pub(crate) request: &'a str,
    /// How often it was tried before.
    pub(crate) times: i32,
    /// When it came, milliseconds since 1970, and how many it took.
    pub(crate) at_ms: u64,
    pub(crate) cost_ms: u64,
    pub(crate) kept: bool,
}

impl Consumed<'_> {
    /// What is told of the message `subject`.
    pub(crate) fn of(&self, subject: &Subject) -> Told {
        let Self { group, request, times, at_ms, cost_ms, kept } = self;
        let Subject { id, keys, .. } = subject;
        let (at, times, cost) = (at_ms.to_string(), times.to_string(), cost_ms.to_string());
        let after = at_ms.saturating_add(*cost_ms).to_string();
        let before = record(&["SubBefore", &at, REGION, group, request, id, &times, keys]);
        let code = if *kept { SUCCESS } else { FAILED };
        let success = if *kept { "true" } else { "false" };
        let after = record(&["SubAfter", request, id, &cost, success, keys, code, &after, group]);
        Told { text: before + &after, keys: subject.found_by() }
    }
}

fn record(fields: &[&str]) -> String {
    fields.join("\u{1}") + "\u{2}"
}

/// The message that tells of all of these.
pub(crate) fn message(told: &[Told]) -> Option<BatchEntry> {
    let keys: BTreeSet<&str> = told.iter().flat_map(|told| &told.keys).map(|key| &**key).collect();
    let text: String = told.iter().map(|told| &*told.text).collect();
    let mut properties = Properties::default();
    properties.push("KEYS", &keys.into_iter().collect::<Vec<_>>().join(" "));
    Some(BatchEntry { body: Bytes::from(text), properties: properties.finish().ok()? })
}

/// Java says it when a broker does not.
const REGION: &str = "DefaultRegion";
/// Ordinals of MessageType and ConsumeReturnType.
const NORMAL: &str = "0";
const SUCCESS: &str = "0";
const FAILED: &str = "4";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_as_java_writes_them() {
        let mut properties = Properties::default();
        for (name, value) in [("UNIQ_KEY", "ID"), ("KEYS", "k1 k2"), ("TAGS", "t")] {
            properties.push(name, value);
        }
        let sent = BatchEntry { body: Bytes::from_static(b"data"), properties: properties.finish().unwrap() };
        let (group, at_ms, cost_ms) = ("g", 1000, 3);
        let told = Sent { group, topic: "T", host: "h:1", at_ms, cost_ms, offset_id: "O" }.of(&sent);
        let consumed = Consumed { group, request: "r", times: 1, at_ms, cost_ms, kept: true };
        let all = message(&[told, consumed.of(&Subject::of(&sent.properties))]).unwrap();
        assert_eq!(
            String::from_utf8(all.body.to_vec()).unwrap().replace('\u{1}', "|").replace('\u{2}', "\n"),
            "Pub|1000|DefaultRegion|g|T|ID|t|k1 k2|h:1|4|3|0|O|true\n\
             SubBefore|1000|DefaultRegion|g|r|ID|1|k1 k2\n\
             SubAfter|r|ID|3|true|k1 k2|0|1003|g\n"
        );
        assert!(all.properties.contains("KEYS\u{1}ID k1 k2"), "{:?}", all.properties);
    }
}
