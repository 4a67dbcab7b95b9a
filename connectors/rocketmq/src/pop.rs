//! What pop consumption says, sans-io (5.x): a broker hands out messages of all its queues, each with a receipt. Who acks a receipt
//! in time is done with its message; any other comes again. So members need no shares, no locks and no offsets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytestring::ByteString;
use remoting::code::request;
use remoting::properties::parse;
use remoting::{Command, StoredMessage};
use serde_json::json;

use crate::start::Start;
use crate::subscription::{RETRY, Wanted};

/// Messages that one pop asks for: the brokers' own limit.
const MESSAGES: i64 = 32;
/// How far behind the start of its pop a message may be for an ack of several: what brokers look through at once is far less.
const SPAN: usize = 1 << 16;

/// The right to be done with a message. It changes when it is prolonged; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Receipt(Arc<Mutex<Right>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Right {
    part: Part,
    offset: i64,
    /// It comes again later, so it is neither acked nor prolonged.
    put_off: bool,
}

/// What one pop brought of one queue.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Part {
    start: i64,
    popped_ms: i64,
    invisible_ms: i64,
    revive: i64,
    /// "0": the topic itself; "1" and "2": what comes again has a topic of its own, named in two ways.
    retry: ByteString,
    broker: ByteString,
    queue: i64,
}

/// POP_MESSAGE from any queue: waits `poll_ms` at the broker if there is nothing; what it brings comes to nobody else for
/// `invisible_ms`.
pub(crate) fn pop(
    (group, topic, broker): (&str, &str, &str),
    (start, wanted): (Start, &Wanted),
    (invisible_ms, poll_ms, now_ms): (i64, i64, u64),
) -> Command {
    let first = match start {
        Start::First | Start::At(_) => 0,
        Start::Last => 1,
    };
    Command::request(request::POP_MESSAGE)
        .with("consumerGroup", group)
        .with("topic", topic)
        .with("queueId", "-1")
        .with_number("maxMsgNums", MESSAGES)
        .with_number("invisibleTime", invisible_ms)
        .with_number("pollTime", poll_ms)
        .with("bornTime", now_ms.to_string())
        .with_number("initMode", first)
        .with("expType", wanted.language())
        .with("exp", wanted.text())
        .with("order", "false")
        .with("bname", broker)
}

/// BATCH_ACK_MESSAGE: messages of one pop are done; `None`: there are none.
pub(crate) fn acks(group: &str, topic: &str, receipts: &[Receipt]) -> Option<Command> {
    let mut parts = BTreeMap::<Part, Vec<u8>>::new();
    for receipt in receipts {
        let Right { part, offset, put_off } = receipt.right().clone();
        let place = usize::try_from(offset.saturating_sub(part.start)).ok().filter(|place| *place < SPAN);
        let Some(place) = place.filter(|_| !put_off) else { continue };
        // As Java's BitSet has it.
        let bits = parts.entry(part).or_default();
        bits.resize(bits.len().max(place / 8 + 1), 0);
        if let Some(byte) = bits.get_mut(place / 8) {
            *byte |= 1 << (place % 8);
        }
    }
    let (first, _) = parts.first_key_value()?;
    let broker = first.broker.to_string();
    let ack = |(part, bits): (&Part, &Vec<u8>)| {
        json!({
            "c": group, "t": topic, "r": &*part.retry, "so": part.start, "q": part.queue, "rq": part.revive,
            "pt": part.popped_ms, "it": part.invisible_ms, "b": STANDARD.encode(bits),
        })
    };
    let acks: Vec<_> = parts.iter().map(ack).collect();
    let body = json!({ "brokerName": broker, "acks": acks }).to_string();
    Some(Command::request(request::BATCH_ACK_MESSAGE).with_body(body.into()))
}

impl Receipt {
    /// ACK_MESSAGE: the message is done; `None`: it was put off.
    pub(crate) fn ack(&self, group: &str, topic: &str) -> Option<Command> {
        let right = self.right();
        (!right.put_off).then(|| right.command(request::ACK_MESSAGE, group, topic))
    }

    /// CHANGE_MESSAGE_INVISIBLETIME: the message comes again in `invisible_ms`, whatever becomes of it here.
    pub(crate) fn put_off(&self, group: &str, topic: &str, invisible_ms: i64) -> Command {
        let mut right = self.right();
        right.put_off = true;
        right.until(group, topic, invisible_ms)
    }

    /// The same for a message that is still on its way here: nobody else gets it before that. `None`: it was put off. The answer
    /// makes a new right; see [`Self::prolonged`].
    pub(crate) fn prolong(&self, group: &str, topic: &str, invisible_ms: i64) -> Option<Command> {
        let right = self.right();
        (!right.put_off).then(|| right.until(group, topic, invisible_ms))
    }

    /// A broker answered so to [`Self::prolong`].
    pub(crate) fn prolonged(&self, answer: &Command) {
        let numbers = ["popTime", "invisibleTime", "reviveQid"].map(|name| answer.number(name));
        let [Some(popped_ms), Some(invisible_ms), Some(revive)] = numbers else { return };
        let mut right = self.right();
        let start = right.offset;
        right.part = Part { start, popped_ms, invisible_ms, revive, ..right.part.clone() };
    }

    fn right(&self) -> MutexGuard<'_, Right> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Right {
    fn until(&self, group: &str, topic: &str, invisible_ms: i64) -> Command {
        self.command(request::CHANGE_MESSAGE_INVISIBLETIME, group, topic)
            .with_number("invisibleTime", invisible_ms)
    }

    fn command(&self, code: i32, group: &str, topic: &str) -> Command {
        let Self { part, offset, .. } = self;
        let Part { start, popped_ms, invisible_ms, revive, retry, broker, queue } = part;
        // Brokers show what comes again under the topic that was asked for.
        let topic = match &**retry {
            _ if topic.starts_with(RETRY) => topic.to_owned(),
            "1" => format!("{RETRY}{group}_{topic}"),
            "2" => format!("{RETRY}{group}+{topic}"),
            _ => topic.to_owned(),
        };
        let text = format!("{start} {popped_ms} {invisible_ms} {revive} {retry} {broker} {queue} {offset}");
        Command::request(code)
            .with("consumerGroup", group)
            .with("topic", topic)
            .with_number("queueId", *queue)
            .with("extraInfo", text)
            .with_number("offset", *offset)
    }

    /// What [`Right::command`] writes as `extraInfo`.
    fn parse(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split(' ').collect();
        let [start, popped, invisible, revive, retry, broker, queue, offset] = *words else { return None };
        let part = Part {
            start: start.parse().ok()?,
            popped_ms: popped.parse().ok()?,
            invisible_ms: invisible.parse().ok()?,
            revive: revive.parse().ok()?,
            retry: retry.into(),
            broker: broker.into(),
            queue: queue.parse().ok()?,
        };
        Some(Self { part, offset: offset.parse().ok()?, put_off: false })
    }
}

/// The receipts of messages that the answer to a pop brought, by their physical offsets; `None`: the answer lacks something.
pub(crate) fn receipts(
    answer: &Command,
    broker: &str,
    messages: &[StoredMessage],
) -> Option<BTreeMap<i64, Receipt>> {
    let times = ["popTime", "invisibleTime", "reviveQid"].map(|name| answer.number(name));
    let [Some(popped_ms), Some(invisible_ms), Some(revive)] = times else { return None };
    let triple = |text: &str| {
        let mut parts = text.split(' ').filter(|part| !part.is_empty());
        let (retry, queue, start) = (parts.next()?, parts.next()?, parts.next()?);
        // What comes again has its receipt with it.
        (retry == "0").then_some((queue.parse::<i64>().ok()?, start.parse::<i64>().ok()?))
    };
    let starts: BTreeMap<i64, i64> = answer.field("startOffsetInfo")?.split(';').filter_map(triple).collect();
    let right = |message: &StoredMessage| {
        if let Some((_, text)) = parse(&message.properties).find(|(name, _)| name == "POP_CK") {
            return Right::parse(&text);
        }
        let queue = i64::from(message.queue);
        let start = *starts.get(&queue)?;
        let (retry, broker) = ("0".into(), broker.into());
        let part = Part { start, popped_ms, invisible_ms, revive, retry, broker, queue };
        Some(Right { part, offset: message.queue_offset, put_off: false })
    };
    let receipt = |message: &StoredMessage| {
        Some((message.physical_offset, Receipt(Arc::new(Mutex::new(right(message)?)))))
    };
    Some(messages.iter().filter_map(receipt).collect())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::binding::tests::stored;

    fn message(place: i64, queue: i32, offset: i64, properties: &str) -> StoredMessage {
        let message = stored("T", Bytes::new(), properties.into());
        StoredMessage { physical_offset: place, queue, queue_offset: offset, ..message }
    }

    fn answer() -> Command {
        Command::default()
            .with("popTime", "1000")
            .with("invisibleTime", "60000")
            .with("reviveQid", "2")
            .with("startOffsetInfo", "0 1 5;0 3 7")
            .with("msgOffsetInfo", "0 1 5,6;0 3 7")
    }

    /// Three that came for the first time, and two that came again.
    fn five() -> Vec<Receipt> {
        let messages = [
            message(10, 1, 5, ""),
            message(11, 1, 15, ""),
            message(12, 3, 7, ""),
            message(13, 9, 9, "POP_CK\u{1}0 900 60000 1 1 broker-0 0 4\u{2}"),
            message(14, 9, 9, "POP_CK\u{1}0 900 60000 1 2 broker-0 0 4\u{2}"),
            message(15, 2, 0, ""),
        ];
        receipts(&answer(), "broker-0", &messages).unwrap().into_values().collect()
    }

    fn shown(command: &Command) -> [String; 4] {
        ["topic", "queueId", "extraInfo", "offset"].map(|name| command.field(name).unwrap().to_string())
    }

    #[test]
    fn receipts_are_those_that_java_makes() {
        let acks: Vec<_> = five().iter().map(|receipt| shown(&receipt.ack("g", "T").unwrap())).collect();
        assert_eq!(acks[1], ["T", "1", "5 1000 60000 2 0 broker-0 1 15", "15"]);
        assert_eq!(acks[3], ["%RETRY%g_T", "0", "0 900 60000 1 1 broker-0 0 4", "4"]);
        assert_eq!(acks[4][0], "%RETRY%g+T");
        assert_eq!(acks.len(), 5, "of a queue that the answer does not name, nothing is known");
        assert!(receipts(&Command::default(), "b", &[]).is_none());
    }

    #[test]
    fn what_is_prolonged_has_a_new_right_and_what_is_put_off_none() {
        let all = five();
        let asked = all[1].prolong("g", "T", 30_000).unwrap();
        assert_eq!(asked.number("invisibleTime"), Some(30_000));
        let answer = Command::default().with("popTime", "2000").with("invisibleTime", "30000");
        all[1].prolonged(&answer);
        assert_eq!(shown(&all[1].ack("g", "T").unwrap())[2], "5 1000 60000 2 0 broker-0 1 15");
        all[1].clone().prolonged(&answer.with("reviveQid", "3"));
        assert_eq!(shown(&all[1].ack("g", "T").unwrap())[2], "15 2000 30000 3 0 broker-0 1 15");
        all[2].put_off("g", "T", 10_000);
        assert!(all[2].ack("g", "T").is_none() && all[2].prolong("g", "T", 10_000).is_none());
    }

    #[test]
    fn several_are_acked_at_once() {
        let all = five();
        all[2].put_off("g", "T", 10_000);
        let body = acks("g", "T", &all).unwrap().body;
        let ack = |retry: &str, so: i64, q: i64, rq: i64, pt: i64, b: &str| json!({"c": "g", "t": "T", "r": retry, "so": so, "q": q, "rq": rq, "pt": pt, "it": 60_000, "b": b});
        // Bits 0 and 10, and bit 4.
        let wanted =
            [ack("1", 0, 0, 1, 900, "EA=="), ack("2", 0, 0, 1, 900, "EA=="), ack("0", 5, 1, 2, 1000, "AQQ=")];
        assert_eq!(
            serde_json::from_slice::<serde_json::Value>(&body).unwrap(),
            json!({"brokerName": "broker-0", "acks": wanted})
        );
        assert!(acks("g", "T", &all[2..3]).is_none());
    }
}
