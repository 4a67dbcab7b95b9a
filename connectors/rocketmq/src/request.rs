//! The requests that Weft makes.

use bytes::Bytes;
use bytestring::ByteString;
use remoting::code::request;
use remoting::{BatchEntry, Command, encode_batch};
use serde_json::json;

use crate::route::{CREATED_QUEUES, Queue};

/// The topic in whose image brokers create others.
pub(crate) const DEFAULT_TOPIC: &str = "TBW102";

/// Messages that one pull asks for: the brokers' own limit.
const PULL_MESSAGES: i64 = 32;

/// A position in a queue that a group has consumed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) group: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) queue: &'a Queue,
}

/// GET_ROUTEINFO_BY_TOPIC.
pub(crate) fn route(topic: &str) -> Command {
    Command::request(request::GET_ROUTE_BY_TOPIC).with("topic", topic).with("acceptStandardJsonOnly", "true")
}

/// SEND_MESSAGE_V2 for one message, SEND_BATCH_MESSAGE for several.
pub(crate) fn send(
    group: &str,
    topic: &str,
    queue: &Queue,
    born_ms: u64,
    messages: &[BatchEntry],
) -> Command {
    let (code, properties, body) = match messages {
        [one] => (request::SEND_MESSAGE_V2, one.properties.clone(), one.body.clone()),
        many => {
            (request::SEND_BATCH_MESSAGE, ByteString::from_static("WAIT\u{1}true\u{2}"), encode_batch(many))
        }
    };
    Command::request(code)
        .with("a", group)
        .with("b", topic)
        .with("c", DEFAULT_TOPIC)
        .with_number("d", CREATED_QUEUES.into())
        .with_number("e", queue.id.into())
        .with("f", "0")
        .with("g", born_ms.to_string())
        .with("h", "0")
        .with("i", properties)
        .with("j", "0")
        .with("k", "false")
        .with("m", if code == request::SEND_BATCH_MESSAGE { "true" } else { "false" })
        .with("n", &*queue.broker)
        .with_body(body)
}

/// PULL_MESSAGE: waits `hold_ms` at the broker if there is nothing; commits `commit`.
pub(crate) fn pull(
    place: &Place<'_>,
    offset: i64,
    commit: Option<i64>,
    hold_ms: i64,
    sub_version: u64,
) -> Command {
    const COMMIT: i64 = 1;
    const HOLD: i64 = 2;
    const SUBSCRIPTION: i64 = 4;
    let flags = HOLD | SUBSCRIPTION | if commit.is_some() { COMMIT } else { 0 };
    of(request::PULL_MESSAGE, place)
        .with_number("queueOffset", offset)
        .with_number("maxMsgNums", PULL_MESSAGES)
        .with_number("sysFlag", flags)
        .with_number("commitOffset", commit.unwrap_or_default())
        .with_number("suspendTimeoutMillis", hold_ms)
        .with("subscription", "*")
        .with("subVersion", sub_version.to_string())
        .with("expressionType", "TAG")
}

/// QUERY_CONSUMER_OFFSET.
pub(crate) fn committed(place: &Place<'_>) -> Command {
    of(request::QUERY_CONSUMER_OFFSET, place)
}

/// UPDATE_CONSUMER_OFFSET.
pub(crate) fn commit(place: &Place<'_>, offset: i64) -> Command {
    of(request::UPDATE_CONSUMER_OFFSET, place).with_number("commitOffset", offset)
}

/// GET_MIN_OFFSET.
pub(crate) fn first(place: &Place<'_>) -> Command {
    of(request::GET_MIN_OFFSET, place)
}

fn of(code: i32, place: &Place<'_>) -> Command {
    Command::request(code)
        .with("consumerGroup", place.group)
        .with("topic", place.topic)
        .with_number("queueId", place.queue.id.into())
        .with("bname", &*place.queue.broker)
}

/// HEART_BEAT of a client that produces as `producer`, and consumes `topics` as `group`.
pub(crate) fn heartbeat(
    client: &str,
    producer: &str,
    group: &str,
    topics: &[String],
    sub_version: u64,
) -> Command {
    let subscription = |topic: &String| {
        json!({
            "topic": topic, "subString": "*", "tagsSet": [], "codeSet": [], "subVersion": sub_version,
            "expressionType": "TAG", "classFilterMode": false,
        })
    };
    let consumers = if topics.is_empty() {
        json!([])
    } else {
        json!([{
            "groupName": group, "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING",
            "consumeFromWhere": "CONSUME_FROM_FIRST_OFFSET", "unitMode": false,
            "subscriptionDataSet": topics.iter().map(subscription).collect::<Vec<_>>(),
        }])
    };
    let body = json!({
        "clientID": client, "producerDataSet": [{ "groupName": producer }], "consumerDataSet": consumers,
    });
    Command::request(request::HEART_BEAT).with_body(Bytes::from(body.to_string()))
}

/// UNREGISTER_CLIENT.
pub(crate) fn goodbye(client: &str, producer: &str, group: &str) -> Command {
    Command::request(request::UNREGISTER_CLIENT)
        .with("clientID", client)
        .with("producerGroup", producer)
        .with("consumerGroup", group)
}
