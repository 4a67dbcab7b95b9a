//! What pop consumption says, sans-io (5.x): a broker hands out messages of all its queues, each with a receipt. Who acks a receipt
//! in time is done with its message; any other comes again. So members need no shares, no locks and no offsets.

use std::collections::BTreeMap;

use bytestring::ByteString;
use remoting::code::request;
use remoting::properties::parse;
use remoting::{Command, StoredMessage};

use crate::start::Start;
use crate::subscription::Wanted;

/// Messages that one pop asks for: the brokers' own limit.
const MESSAGES: i64 = 32;

/// The right to be done with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// `start popTime invisibleTime reviveQid retry broker queue offset`.
    text: ByteString,
    queue: i64,
    offset: i64,
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

/// ACK_MESSAGE: the message is done.
pub(crate) fn ack(group: &str, topic: &str, receipt: &Receipt) -> Command {
    of(request::ACK_MESSAGE, group, topic, receipt)
}

/// CHANGE_MESSAGE_INVISIBLETIME: the message comes again in `invisible_ms`.
pub(crate) fn put_off(group: &str, topic: &str, receipt: &Receipt, invisible_ms: i64) -> Command {
    of(request::CHANGE_MESSAGE_INVISIBLETIME, group, topic, receipt)
        .with_number("invisibleTime", invisible_ms)
}

fn of(code: i32, group: &str, topic: &str, receipt: &Receipt) -> Command {
    Command::request(code)
        .with("consumerGroup", group)
        .with("topic", topic)
        .with_number("queueId", receipt.queue)
        .with("extraInfo", receipt.text.clone())
        .with_number("offset", receipt.offset)
}

/// What the answer to a pop says of its messages.
pub(crate) struct Popped {
    /// popTime, invisibleTime and reviveQid as receipts have them.
    times: String,
    /// Where queues started, by whether it is one of retries and its number.
    starts: BTreeMap<(String, i64), String>,
    broker: String,
}

impl Popped {
    /// Of `broker`; `None`: the answer lacks something.
    pub(crate) fn of(answer: &Command, broker: &str) -> Option<Self> {
        let times = ["popTime", "invisibleTime", "reviveQid"].map(|name| answer.field(name));
        let [Some(popped), Some(invisible), Some(revive)] = times else { return None };
        let triple = |text: &str| {
            let mut parts = text.split(' ').filter(|part| !part.is_empty());
            let (retry, queue, start) = (parts.next()?, parts.next()?, parts.next()?);
            Some(((retry.to_owned(), queue.parse().ok()?), start.to_owned()))
        };
        let starts = answer.field("startOffsetInfo")?.split(';').filter_map(triple).collect();
        Some(Self { times: format!("{popped} {invisible} {revive}"), starts, broker: broker.to_owned() })
    }

    /// The receipt of a message. What came again has it with it.
    pub(crate) fn receipt(&self, message: &StoredMessage) -> Option<Receipt> {
        let with_it = parse(&message.properties).find(|(name, _)| name == "POP_CK").map(|found| found.1);
        let text = match with_it {
            Some(text) => text,
            None => {
                let queue = i64::from(message.queue);
                let start = self.starts.get(&("0".to_owned(), queue))?;
                let (times, broker, offset) = (&self.times, &self.broker, message.queue_offset);
                ByteString::from(format!("{start} {times} 0 {broker} {queue} {offset}"))
            }
        };
        let mut behind = text.rsplit(' ').map(|part| part.parse().ok());
        let (offset, queue) = (behind.next()??, behind.next()??);
        Some(Receipt { text, queue, offset })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::binding::tests::stored;

    fn message(queue: i32, offset: i64, properties: &str) -> StoredMessage {
        StoredMessage { queue, queue_offset: offset, ..stored("T", Bytes::new(), properties.into()) }
    }

    #[test]
    fn receipts_are_those_that_java_makes() {
        let answer = Command::default()
            .with("popTime", "1000")
            .with("invisibleTime", "60000")
            .with("reviveQid", "2")
            .with("startOffsetInfo", "0 1 5;0 3 7")
            .with("msgOffsetInfo", "0 1 5,6;0 3 7");
        let popped = Popped::of(&answer, "broker-0").unwrap();
        let receipt = popped.receipt(&message(1, 6, "")).unwrap();
        assert_eq!(&*receipt.text, "5 1000 60000 2 0 broker-0 1 6");
        assert_eq!((receipt.queue, receipt.offset), (1, 6));
        let again = "POP_CK\u{1}0 900 60000 1 1 broker-0 0 4\u{2}";
        let receipt = popped.receipt(&message(9, 9, again)).unwrap();
        assert_eq!((&*receipt.text, receipt.queue, receipt.offset), ("0 900 60000 1 1 broker-0 0 4", 0, 4));
        assert_eq!(popped.receipt(&message(2, 0, "")), None);
        assert!(Popped::of(&Command::default(), "b").is_none());
    }
}
