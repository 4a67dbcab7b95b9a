//! The requests that Weft makes.

use bytes::Bytes;
use bytestring::ByteString;
use remoting::code::request;
use remoting::{BatchEntry, Command, Send, encode_batch};
use serde::Deserialize;
use serde_json::json;

use crate::pop::Receipt;
use crate::route::Queue;
use crate::start::Start;
use crate::subscription::{Subscription, Wanted};

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

/// SEND_MESSAGE_V2 for one message, which may be compressed (`sys_flag`); SEND_BATCH_MESSAGE for several.
pub(crate) fn send(
    group: &str,
    topic: &str,
    queue: &Queue,
    born_ms: u64,
    (sys_flag, messages): (i32, &[BatchEntry]),
) -> Command {
    let (code, properties, body) = match messages {
        [one] => (request::SEND_MESSAGE_V2, one.properties.clone(), one.body.clone()),
        many => {
            (request::SEND_BATCH_MESSAGE, ByteString::from_static("WAIT\u{1}true\u{2}"), encode_batch(many))
        }
    };
    let (queue_id, batch) = (queue.id, code == request::SEND_BATCH_MESSAGE);
    let send = Send { group, topic, queue: queue_id, sys_flag, born_ms, properties, batch, body };
    send.request(code).with("n", &*queue.broker)
}

/// PULL_MESSAGE from `offset`: waits `hold_ms` at the broker if there is nothing, 0: it does not; commits `commit`.
pub(crate) fn pull(
    place: &Place<'_>,
    offset: i64,
    commit: Option<i64>,
    hold_ms: i64,
    (wanted, version): (&Wanted, u64),
) -> Command {
    const COMMIT: i64 = 1;
    const HOLD: i64 = 2;
    const SUBSCRIPTION: i64 = 4;
    let hold = if hold_ms > 0 { HOLD } else { 0 };
    let flags = hold | SUBSCRIPTION | if commit.is_some() { COMMIT } else { 0 };
    of(request::PULL_MESSAGE, place)
        .with_number("queueOffset", offset)
        .with_number("maxMsgNums", PULL_MESSAGES)
        .with_number("sysFlag", flags)
        .with_number("commitOffset", commit.unwrap_or_default())
        .with_number("suspendTimeoutMillis", hold_ms)
        .with("subscription", wanted.text())
        .with("subVersion", version.to_string())
        .with("expressionType", wanted.language())
}

/// QUERY_CONSUMER_OFFSET.
pub(crate) fn committed(place: &Place<'_>) -> Command {
    // Brokers of 5.x say 0 for a young topic otherwise, as if the group had consumed it; those of 4.9 always do.
    of(request::QUERY_CONSUMER_OFFSET, place).with("setZeroIfNotFound", "false")
}

/// UPDATE_CONSUMER_OFFSET.
pub(crate) fn commit(place: &Place<'_>, offset: i64) -> Command {
    of(request::UPDATE_CONSUMER_OFFSET, place).with_number("commitOffset", offset)
}

/// Where a group begins that is new: GET_MIN_OFFSET, GET_MAX_OFFSET or SEARCH_OFFSET_BY_TIMESTAMP.
pub(crate) fn start(place: &Place<'_>, start: Start) -> Command {
    match start {
        Start::First => of(request::GET_MIN_OFFSET, place),
        Start::Last => of(request::GET_MAX_OFFSET, place),
        Start::At(ms) => of(request::SEARCH_OFFSET_BY_TIMESTAMP, place).with("timestamp", ms.to_string()),
    }
}

/// GET_EARLIEST_MSG_STORETIME.
pub(crate) fn earliest(place: &Place<'_>) -> Command {
    of(request::GET_EARLIEST_MSG_STORETIME, place)
}

/// GET_CONSUMER_LIST_BY_GROUP.
pub(crate) fn members(group: &str) -> Command {
    Command::request(request::GET_CONSUMER_LIST_BY_GROUP).with("consumerGroup", group)
}

/// LOCK_BATCH_MQ for one queue; its answer's body names it, if it was given.
pub(crate) fn lock(client: &str, place: &Place<'_>) -> Command {
    Command::request(request::LOCK_BATCH_MQ).with_body(one_queue(client, place))
}

/// Whether the answer to [`lock`] says that the queue is locked for us.
pub(crate) fn is_locked(body: &[u8], place: &Place<'_>) -> Result<bool, serde_json::Error> {
    #[derive(Deserialize)]
    struct Given {
        #[serde(default, rename = "lockOKMQSet")]
        queues: Vec<Locked>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Locked {
        topic: String,
        broker_name: String,
        queue_id: i32,
    }
    let given: Given = serde_json::from_slice(body)?;
    let Place { topic, queue, .. } = place;
    let is_it =
        |one: &Locked| one.topic == *topic && *one.broker_name == *queue.broker && one.queue_id == queue.id;
    Ok(given.queues.iter().any(is_it))
}

/// UNLOCK_BATCH_MQ for one queue.
pub(crate) fn unlock(client: &str, place: &Place<'_>) -> Command {
    Command::request(request::UNLOCK_BATCH_MQ).with_body(one_queue(client, place))
}

fn one_queue(client: &str, place: &Place<'_>) -> Bytes {
    let Place { group, topic, queue } = place;
    let body = json!({
        "consumerGroup": group, "clientId": client,
        "mqSet": [{ "topic": topic, "brokerName": &*queue.broker, "queueId": queue.id }],
    });
    body.to_string().into()
}

/// A message as it is given back.
#[derive(Clone, Debug)]
pub(crate) struct Returned {
    /// Its place in the broker's commit log.
    pub(crate) offset: i64,
    /// Its id.
    pub(crate) id: ByteString,
    /// The topic it was pulled from.
    pub(crate) topic: ByteString,
    /// How often it came before.
    pub(crate) times: i32,
    /// The right to it, if it was popped.
    pub(crate) receipt: Option<Receipt>,
}

/// CONSUMER_SEND_MSG_BACK: the message comes again after a while that grows with each time, and after `most` times it
/// becomes a dead letter; or it does at once.
pub(crate) fn give_back(group: &str, message: &Returned, most: u16, at_once: bool) -> Command {
    Command::request(request::CONSUMER_SEND_MSG_BACK)
        .with_number("offset", message.offset)
        .with("group", group)
        .with_number("delayLevel", if at_once { -1 } else { 0 })
        .with("originMsgId", message.id.clone())
        .with("originTopic", message.topic.clone())
        .with("unitMode", "false")
        .with_number("maxReconsumeTimes", most.into())
}

fn of(code: i32, place: &Place<'_>) -> Command {
    Command::request(code)
        .with("consumerGroup", place.group)
        .with("topic", place.topic)
        .with_number("queueId", place.queue.id.into())
        .with("bname", &*place.queue.broker)
}

/// Who a client is, for its heartbeats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    pub(crate) client: &'a str,
    pub(crate) producer: &'a str,
    pub(crate) group: &'a str,
    pub(crate) subscriptions: &'a [Subscription],
    /// A broker keeps the newest subscriptions of a group.
    pub(crate) version: u64,
    pub(crate) start: Start,
}

/// HEART_BEAT.
pub(crate) fn heartbeat(member: &Member<'_>) -> Command {
    let from = match member.start {
        Start::First => "CONSUME_FROM_FIRST_OFFSET",
        Start::Last => "CONSUME_FROM_LAST_OFFSET",
        Start::At(_) => "CONSUME_FROM_TIMESTAMP",
    };
    let consumers = if member.subscriptions.is_empty() {
        json!([])
    } else {
        let list: Vec<_> = member.subscriptions.iter().map(|one| one.as_json(member.version)).collect();
        json!([{
            "groupName": member.group, "consumeType": "CONSUME_PASSIVELY", "messageModel": "CLUSTERING",
            "consumeFromWhere": from, "unitMode": false, "subscriptionDataSet": list,
        }])
    };
    let body = json!({
        "clientID": member.client, "producerDataSet": [{ "groupName": member.producer }],
        "consumerDataSet": consumers,
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
