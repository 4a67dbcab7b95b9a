//! Settings of clusters, of RocketMQ as a store, and of bridges.

use std::path::PathBuf;

use event::{ByteLimit, TopicFilter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::OptionsError;
use crate::template::Template;

/// A RocketMQ cluster: how to reach it, and how to use it as the store of routes that name it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterOptions {
    /// Name servers as "host:port"; the first that answers is asked. Default ["127.0.0.1:9876"]; at least one.
    pub name_servers: Vec<String>,
    /// Access key, if the brokers ask for one (ACL). Default none. Goes with `secret_key_file`.
    pub access_key: Option<String>,
    /// File that holds the secret key; white space around it is ignored. Default none.
    pub secret_key_file: Option<PathBuf>,
    /// Milliseconds for a connection to be made. Default 1000; 100..=60000. Too short: slow networks never connect.
    #[schemars(range(min = 100, max = 60000))]
    pub connect_ms: u32,
    /// Milliseconds for a request to be answered; then the connection is given up and the request is sent again.
    /// Default 5000; 500..=60000. Too short: a busy broker gets events twice.
    #[schemars(range(min = 500, max = 60000))]
    pub request_ms: u32,
    /// The largest message to send, properties included. Default "4 MiB", the brokers' own default (maxMessageSize);
    /// at most "15 MiB". A larger event is refused (store) or counted and dropped (bridge).
    #[schemars(with = "String")]
    pub message_max: ByteLimit,
    /// The most bytes that go into one request when several events of a topic wait. Default "256 KiB"; at least
    /// "1 KiB". Must be below the brokers' maxMessageSize, else they refuse what is larger and events go one by one.
    #[schemars(with = "String")]
    pub batch_max: ByteLimit,
    /// Bytes of events that wait here to be sent; beyond it nothing is taken over. Default "8 MiB"; at least "64 KiB".
    #[schemars(with = "String")]
    pub waiting_max: ByteLimit,
    /// What to do when a broker stored an event but cannot say that disk and replicas have it (codes 10, 11 and 12):
    /// "resend" until it can, which leaves repeats with the same UNIQ_KEY, or "accept". Default "resend".
    pub unconfirmed: Unconfirmed,
    /// The cluster as the store of the routes that name it.
    pub store: StoreOptions,
}

/// What to do with an event that is stored but not confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Unconfirmed {
    /// Send it again until disk and replicas have it.
    #[default]
    Resend,
    /// Take it for sent.
    Accept,
}

/// A cluster as the store of routes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreOptions {
    /// RocketMQ topic that holds the events; their own topics are in the property WEFT_TOPIC. Default "Weft".
    pub topic: String,
    /// Consumer group of this Weft; another Weft on the same cluster needs another. Default "weft-store".
    pub group: String,
    /// Milliseconds an event may wait for RocketMQ; then its publisher is told that the store is unavailable. Default
    /// 10000; 1000..=600000. Too short: a restart of a broker is seen by publishers.
    #[schemars(range(min = 1000, max = 600000))]
    pub deadline_ms: u32,
}

/// A bridge between topics here and RocketMQ. Its name is part of its session: renaming it forgets its backlog.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BridgeOptions {
    /// Name of the `[rocketmq.NAME]` to use.
    pub cluster: String,
    /// Consumer group of `in`. Default "weft-bridge-" and the bridge's name. Another Weft needs another group.
    pub group: Option<String>,
    /// What goes to RocketMQ. An event goes by the first rule that matches its topic.
    pub out: Vec<OutRule>,
    /// What comes from RocketMQ.
    #[serde(rename = "in")]
    pub inward: Vec<InRule>,
}

/// Events that go to RocketMQ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutRule {
    /// Topic filter of the events, such as "sensors/#".
    #[schemars(with = "String")]
    pub filter: TopicFilter,
    /// RocketMQ topic they go to. Letters, digits, '_', '-', '|' and '%'; at most 127.
    pub topic: String,
}

/// Messages that come from RocketMQ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InRule {
    /// RocketMQ topic.
    pub topic: String,
    /// Topic here, such as "commands/{tags}". Replaced: {topic}, {tags} and {keys} of the message, and {origin}, the
    /// topic it had in the Weft it comes from (else its RocketMQ topic). '+' and '#' in what is put in become '_'.
    pub to: String,
}

const TOPIC_MAX: usize = 127;
const GROUP_MAX: usize = 120;

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            name_servers: vec!["127.0.0.1:9876".to_owned()],
            access_key: None,
            secret_key_file: None,
            connect_ms: 1000,
            request_ms: 5000,
            message_max: ByteLimit::mib(4),
            batch_max: ByteLimit::kib(256),
            waiting_max: ByteLimit::mib(8),
            unconfirmed: Unconfirmed::default(),
            store: StoreOptions::default(),
        }
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { topic: "Weft".to_owned(), group: "weft-store".to_owned(), deadline_ms: 10_000 }
    }
}

impl ClusterOptions {
    /// Whether it makes sense. Reads no file.
    pub fn check(&self) -> Result<(), OptionsError> {
        if self.name_servers.is_empty() {
            return Err(OptionsError::NoNameServer);
        }
        for addr in &self.name_servers {
            let port = addr.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            if port.is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
                return Err(OptionsError::NameServer(addr.clone()));
            }
        }
        if self.access_key.is_some() != self.secret_key_file.is_some() {
            return Err(OptionsError::HalfCredentials);
        }
        in_range("connect_ms", self.connect_ms.into(), 100, 60_000, "100..=60000")?;
        in_range("request_ms", self.request_ms.into(), 500, 60_000, "500..=60000")?;
        in_range("message_max", self.message_max.0, 1, 15 << 20, "at most \"15 MiB\"")?;
        in_range("batch_max", self.batch_max.0, 1 << 10, 15 << 20, "\"1 KiB\" to \"15 MiB\"")?;
        in_range("waiting_max", self.waiting_max.0, 64 << 10, u64::MAX, "at least \"64 KiB\"")?;
        in_range("store.deadline_ms", self.store.deadline_ms.into(), 1000, 600_000, "1000..=600000")?;
        check_name("store.topic", &self.store.topic, TOPIC_MAX)?;
        check_name("store.group", &self.store.group, GROUP_MAX)
    }
}

impl BridgeOptions {
    /// Whether it makes sense for a bridge of this name.
    pub fn check(&self, name: &str) -> Result<(), OptionsError> {
        if self.out.is_empty() && self.inward.is_empty() {
            return Err(OptionsError::NoRules);
        }
        check_name("group", &self.group(name), GROUP_MAX)?;
        for rule in &self.out {
            check_name("out.topic", &rule.topic, TOPIC_MAX)?;
        }
        for rule in &self.inward {
            check_name("in.topic", &rule.topic, TOPIC_MAX)?;
            Template::parse(&rule.to).ok_or_else(|| OptionsError::Template(rule.to.clone()))?;
        }
        Ok(())
    }

    /// The consumer group of a bridge of this name.
    pub(crate) fn group(&self, name: &str) -> String {
        self.group.clone().unwrap_or_else(|| format!("weft-bridge-{name}"))
    }
}

fn in_range(
    key: &'static str,
    value: u64,
    min: u64,
    max: u64,
    range: &'static str,
) -> Result<(), OptionsError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(OptionsError::Range { key, value, range }) }
}

fn check_name(key: &'static str, name: &str, max: usize) -> Result<(), OptionsError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'|' | b'%');
    if name.is_empty() || name.len() > max || !name.bytes().all(allowed) {
        return Err(OptionsError::Name { key, name: name.to_owned(), max });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge(filter: &str, topic: &str, to: &str) -> BridgeOptions {
        BridgeOptions {
            cluster: "main".into(),
            group: None,
            out: vec![OutRule { filter: TopicFilter::parse(filter).unwrap(), topic: topic.into() }],
            inward: vec![InRule { topic: "Commands".into(), to: to.into() }],
        }
    }

    #[test]
    fn mistakes_are_named() {
        let good = ClusterOptions::default;
        assert!(good().check().is_ok());
        let store = |topic: &str| StoreOptions { topic: topic.into(), ..StoreOptions::default() };
        for (options, part) in [
            (ClusterOptions { name_servers: vec![], ..good() }, "name_servers is empty"),
            (ClusterOptions { name_servers: vec!["localhost".into()], ..good() }, "\"host:port\""),
            (ClusterOptions { access_key: Some("a".into()), ..good() }, "go together"),
            (ClusterOptions { request_ms: 1, ..good() }, "500..=60000"),
            (ClusterOptions { message_max: ByteLimit::mib(16), ..good() }, "15 MiB"),
            (ClusterOptions { store: store("a/b"), ..good() }, "store.topic"),
        ] {
            let error = options.check().unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn mistakes_of_a_bridge_are_named() {
        assert!(bridge("a/#", "A", "a/{tags}").check("b").is_ok());
        for (options, name, part) in [
            (bridge("a/#", "a/b", "a"), "b", "out.topic"),
            (bridge("a/#", &"x".repeat(128), "a"), "b", "127"),
            (bridge("a/#", "A", "a/{what}"), "b", "{tags}"),
            (bridge("a/#", "A", "a/#"), "b", "wildcard"),
            (bridge("a/#", "A", "a"), "b c", "group"),
            (BridgeOptions::default(), "b", "neither out nor in"),
        ] {
            let error = options.check(name).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
