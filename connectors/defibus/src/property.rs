//! Properties of messages that mean something to DeFiBus.
//!
//! | property | set by | holds |
//! |---|---|---|
//! | `msgType` | client | `persistent`: a request; `reply`; `direct`: neither stored for long nor retried |
//! | `RR_REQUEST_UNIQ_ID` | requester | names the request; its reply repeats it |
//! | `REPLY_TO` | requester | its client id; its reply repeats it |
//! | `TTL` | client | milliseconds that the message is of use |
//! | `CLUSTER`, `BROKER` | broker | where a message lies that was sent by itself; messages of a batch have neither |

use remoting::properties::Properties;

/// What kind of message it is.
pub const KIND: &str = "msgType";
/// Names a request, in it and in its reply.
pub const REQUEST_ID: &str = "RR_REQUEST_UNIQ_ID";
/// The client id of the requester.
pub const REPLY_TO: &str = "REPLY_TO";
/// Milliseconds that it is of use, from when a broker stored it.
pub const TTL: &str = "TTL";
/// The cluster that stored it.
pub const CLUSTER: &str = "CLUSTER";
/// The broker that stored it.
pub const BROKER: &str = "BROKER";

/// [`KIND`] of a request.
pub const KIND_REQUEST: &str = "persistent";
/// [`KIND`] of a reply.
pub const KIND_REPLY: &str = "reply";

/// The TTL that DeFiBus' own client gives a message without one: four hours.
pub const DEFAULT_TTL_MS: u64 = 4 * 60 * 60 * 1000;

/// Whether a property belongs to DeFiBus, and so is none of an application's.
pub fn is_of_defibus(name: &str) -> bool {
    OURS.contains(&name)
}

const OURS: [&str; 11] = [
    KIND,
    REQUEST_ID,
    REPLY_TO,
    TTL,
    CLUSTER,
    BROKER,
    "REDIRECT",
    "REDIRECT_FLAG",
    "LEAVE_TIME",
    "ARRIVE_TIME",
    "RETRY_TIME",
];

/// Marks a message that is to be read within `ttl_ms`.
pub fn push_ttl(properties: &mut Properties, ttl_ms: u64) {
    // 0 would be no TTL to some listeners, and expired to others.
    properties.push(TTL, &ttl_ms.max(1).to_string());
}

/// Marks a request of the client `reply_to` under the name `id`. [`push_ttl`] says how long it waits.
pub fn push_request(properties: &mut Properties, id: &str, reply_to: &str) {
    properties.push(KIND, KIND_REQUEST);
    properties.push(REQUEST_ID, id);
    properties.push(REPLY_TO, reply_to);
}
