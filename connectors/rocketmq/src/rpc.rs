//! Request and reply between clients of RocketMQ (4.6 and later), as far as it differs from DeFiBus'.
//!
//! | property | set by | holds |
//! |---|---|---|
//! | `CORRELATION_ID` | requester | names the request; its reply repeats it |
//! | `REPLY_TO_CLIENT` | requester | its client id; its reply repeats it |
//! | `TTL` | requester | milliseconds that it waits |
//! | `CLUSTER` | broker | its cluster; messages of a batch have none |
//! | `MSG_TYPE` | responder | `reply` |
//!
//! The reply is sent to the topic of its cluster, and any broker that the requester beats at pushes it.

use bytes::Bytes;
use bytestring::ByteString;
use defibus::Asked;
use remoting::code::request;
use remoting::properties::{Properties, parse};
use remoting::{Command, Send, StoredMessage};

/// Names a request, in it and in its reply.
pub(crate) const CORRELATION_ID: &str = "CORRELATION_ID";
const REPLY_TO_CLIENT: &str = "REPLY_TO_CLIENT";
const TTL: &str = "TTL";
const CLUSTER: &str = "CLUSTER";
const MSG_TYPE: &str = "MSG_TYPE";
const REPLY: &str = "reply";
/// What RocketMQ's own client gives a reply.
const REPLY_TTL_MS: &str = "3000";

/// Whether a property belongs to request and reply, and so is none of an application's.
pub(crate) fn is_of_rpc(name: &str) -> bool {
    [CORRELATION_ID, REPLY_TO_CLIENT, "REPLY_MESSAGE_ARRIVE_TIME", "ARRIVE_TIME", "PUSH_REPLY_TIME"]
        .contains(&name)
}

/// Marks a request of the client `reply_to` under the name `id`, which waits for `ttl_ms`.
pub(crate) fn push_request(properties: &mut Properties, id: &str, reply_to: &str, ttl_ms: u64) {
    properties.push(CORRELATION_ID, id);
    properties.push(REPLY_TO_CLIENT, reply_to);
    properties.push(TTL, &ttl_ms.to_string());
}

/// The request that `message` is; `None`: it is none.
pub(crate) fn asked(message: &StoredMessage) -> Option<Asked> {
    let property = |wanted: &str| {
        parse(&message.properties)
            .find(|(name, value)| name == wanted && !value.is_empty())
            .map(|found| found.1)
    };
    let asked = Asked {
        id: property(CORRELATION_ID)?,
        reply_to: property(REPLY_TO_CLIENT)?,
        cluster: property(CLUSTER),
        broker: None,
    };
    (property(MSG_TYPE).as_deref() != Some(REPLY)).then_some(asked)
}

/// Marks a reply to `asked`.
pub(crate) fn reply_properties(asked: &Asked, properties: &mut Properties) {
    properties.push(MSG_TYPE, REPLY);
    properties.push(CORRELATION_ID, &asked.id);
    properties.push(REPLY_TO_CLIENT, &asked.reply_to);
    properties.push(TTL, REPLY_TTL_MS);
}

/// SEND_REPLY_MESSAGE_V2: a reply to a request that `cluster` stored. Its broker answers when the requester has it.
pub(crate) fn reply(
    group: &str,
    cluster: &str,
    born_ms: u64,
    properties: ByteString,
    body: Bytes,
) -> Command {
    let topic = format!("{cluster}_REPLY_TOPIC");
    let reply = Send { group, topic: &topic, queue: 0, sys_flag: 0, born_ms, properties, batch: false, body };
    reply.request(request::SEND_REPLY_MESSAGE_V2)
}
