//! The requests that RocketMQ does not have.

use bytes::Bytes;
use bytestring::ByteString;
use remoting::{Command, Send};

use crate::code::request;
use crate::reply_topic;

/// GET_CONSUMER_LIST_BY_GROUP_AND_TOPIC: the members of `group` that subscribe `topic`. [`crate::parse_members`] reads
/// the answer.
pub fn members(group: &str, topic: &str) -> Command {
    Command::request(request::MEMBERS_OF_TOPIC).with("consumerGroup", group).with("topic", topic)
}

/// SEND_DIRECT_MESSAGE_V2: a reply to a request that `cluster` stored. `properties` come from
/// [`Asked::reply_properties`](crate::Asked::reply_properties). Ask the broker that stored the request; it answers when
/// it has pushed the reply, or when it knows after a second that the requester is gone: both are success.
pub fn reply(group: &str, cluster: &str, born_ms: u64, properties: ByteString, body: Bytes) -> Command {
    let topic = reply_topic(cluster);
    let reply = Send { group, topic: &topic, queue: 0, sys_flag: 0, born_ms, properties, batch: false, body };
    reply.request(request::SEND_DIRECT_V2)
}

/// GET_BROKER_CLUSTER_INFO, for a name server. [`brokers`] reads the answer.
pub fn cluster_info() -> Command {
    Command::request(request::CLUSTER_INFO)
}

/// The addresses of all masters in an answer to [`cluster_info`], in a fixed order.
///
/// # Errors
/// It is no such answer.
pub fn brokers(body: &[u8]) -> Result<Vec<String>, serde_json::Error> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Info {
        #[serde(default)]
        broker_addr_table: std::collections::BTreeMap<String, Broker>,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Broker {
        #[serde(default)]
        broker_addrs: std::collections::BTreeMap<String, String>,
    }
    let info: Info = serde_json::from_slice(&remoting::strict_json(body))?;
    let masters =
        info.broker_addr_table.into_values().filter_map(|mut broker| broker.broker_addrs.remove("0"));
    Ok(masters.collect())
}
