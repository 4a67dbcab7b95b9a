//! Settings of clusters, of RocketMQ as a store, and of bridges.

use std::collections::BTreeSet;
use std::path::PathBuf;

use event::{ByteLimit, TopicFilter, is_dead_letter_place};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::address::{Address, Pattern, is_topic_char};
use crate::namespace::wrap;
use crate::shared::{DIGITS, consumer_group};
use crate::template::Template;
use crate::{Kind, OptionsError, Start};

/// A RocketMQ cluster: how to reach it, and how to use it as the store of routes that name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterOptions {
    /// Name servers as "host:port"; one is asked, and the next when it does not answer. Default ["127.0.0.1:9876"]; at least one.
    pub name_servers: Vec<String>,
    /// Name of this Weft among those that share the cluster. Default none: it shares it with no other. Letters, digits, '_'
    /// and '-'; at most 32. Where each Weft has to get everything (a store, a bridge with `broadcast`), it is added to the
    /// consumer group, as in "weft-store-NODE". One that changes begins as a new group does.
    pub node: Option<String>,
    /// Access key, if the brokers ask for one (ACL). Default none. Goes with `secret_key_file`.
    pub access_key: Option<String>,
    /// File that holds the secret key; white space around it is ignored. Default none.
    pub secret_key_file: Option<PathBuf>,
    /// PEM file of the CAs that signed the certificates of name servers and brokers. With it, connections use TLS, and
    /// certificates have to be for the addresses that name servers give. Default none: no TLS.
    pub tls_ca_file: Option<PathBuf>,
    /// Namespace of all topics and groups of this cluster, as `setNamespace` has it in RocketMQ's own clients: "ns" makes
    /// "ns%Topic" of a topic. Default none. Letters, digits, '_' and '-'; at most 32.
    pub namespace: Option<String>,
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
    /// Bodies above this are sent compressed (zlib), each in a request of its own. Default none: nothing is compressed.
    /// RocketMQ's own producers compress above "4 KiB". At least "1 KiB".
    #[schemars(with = "Option<String>")]
    pub compress_above: Option<ByteLimit>,
    /// Bytes of events that wait here to be sent; beyond it nothing is taken over. Default "8 MiB"; at least "64 KiB".
    #[schemars(with = "String")]
    pub waiting_max: ByteLimit,
    /// Bytes of messages that were pulled and are not kept here yet, for each bridge, store, and shared subscription that a
    /// store feeds (there: not acknowledged yet); beyond it nothing is pulled.
    /// Default "16 MiB"; at least "1 MiB". Pulls that are out by then may bring 256 KiB, or one message, for each queue.
    #[schemars(with = "String")]
    pub pulled_max: ByteLimit,
    /// Whether to tell of each message that is sent or consumed in the topic RMQ_SYS_TRACE_TOPIC, as RocketMQ's own clients do with
    /// `enableMsgTrace`; `mqadmin queryMsgTraceById` reads it. Default false. Brokers need `traceTopicEnable=true`, else nothing is
    /// told. What cannot be told at once is dropped.
    pub trace: bool,
    /// What to do when a broker stored an event but cannot say that disk and replicas have it (codes 10, 11 and 12):
    /// "resend" until it can, which leaves repeats with the same UNIQ_KEY, or "accept". Default "resend".
    pub unconfirmed: Unconfirmed,
    /// DeFiBus only: this side's data centre (IDC), such as "GZ". Default none. Upper-case letters and digits; at most 16. Brokers
    /// whose cluster's name begins with it ("GZ-...") get what is sent while they take it, and their queues are shared by the
    /// consumers of the same IDC.
    pub idc: Option<String>,
    /// DeFiBus only: milliseconds that an event without an expiry of its own is of use (TTL). Default 14400000, four hours;
    /// 1..=31536000000. Brokers do not count it down; their clients drop messages without one.
    #[schemars(range(min = 1, max = 31_536_000_000_u64))]
    pub ttl_ms: u64,
    /// Milliseconds that a request of a bridge waits for its reply; less if it expires sooner. Default 10000; 100..=600000.
    #[schemars(range(min = 100, max = 600000))]
    pub reply_ms: u32,
    /// Requests of a bridge that wait for their reply, in each direction. Default 10000; 1..=1000000. What is
    /// more is dropped and counted.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests_max: u32,
    /// Filters of the topics here that a request may name for its reply; the bridge publishes replies there with
    /// rights of its own. Default ["#"], all but those that begin with '$'. Requests that name another are dropped and counted.
    #[schemars(with = "Vec<String>")]
    pub reply_topics: Vec<TopicFilter>,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreOptions {
    /// RocketMQ topic that holds the events; their own topics are in the property WEFT_TOPIC. Default "Weft".
    pub topic: String,
    /// Consumer group by which this Weft gets the events for its subscribers. Default "weft-store". Each Weft has to get all
    /// of them: if several share the cluster, give each a `node`, which is added to the group.
    pub group: String,
    /// Where a group begins that is new: "first" (all that RocketMQ still has), "last", or a time such as
    /// "2026-11-24T08:00:00Z". Default "first". With "last", events of the first moments may be missed.
    #[schemars(with = "String")]
    pub start: Start,
    /// Shared subscriptions (`$share/GROUP/FILTER`, groups of EventMesh) that this node may have members of at a time. Default 100;
    /// 1..=10000. Of no use without `node`. Each is a consumer group, with a connection to each broker, and reads all of `topic`.
    /// What is more gets no events of the store, and `/ready` says so.
    #[schemars(range(min = 1, max = 10_000))]
    pub groups_max: u32,
    /// Milliseconds an event may wait for RocketMQ; then its publisher is told that the store is unavailable. Default
    /// 10000; 1000..=600000. Too short: a restart of a broker is seen by publishers.
    #[schemars(range(min = 1000, max = 600000))]
    pub deadline_ms: u32,
}

/// A bridge between topics here and RocketMQ. Its name is part of its session: one that is renamed or
/// taken out loses its backlog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BridgeOptions {
    /// Name of the `[rocketmq.NAME]` to use.
    pub cluster: String,
    /// Consumer group of `in`. Default "weft-bridge-" and the bridge's name. Its members, other Wefts or RocketMQ's own
    /// clients, share the queues; all of them need the same `in` rules.
    pub group: Option<String>,
    /// Whether each Weft gets all messages of `in`, by a group of its own: `group` with the cluster's `node` added. Default
    /// false: the members of the group share them.
    pub broadcast: bool,
    /// Whether a queue is consumed by one member at a time, by locks that brokers give (as orderly consumers do): no
    /// message overtakes another, also when queues change hands. Default false. A message that is refused holds up its
    /// queue while it is tried again each second, `retries` times.
    pub ordered: bool,
    /// Whether messages of `in` are popped (5.x): brokers hand each to one member of the group and forget it when it is kept here,
    /// without sharing out queues, so there may be more members than queues. Default false. Messages of a queue may overtake each
    /// other. All members of a group have to pop. Not with `ordered`.
    pub pop: bool,
    /// Seconds for which no other member gets what was popped here. Default 60; 10..=43200. Of no use without `pop`. What is still
    /// on its way after half of them is prolonged; what a member has when it is killed comes again behind them.
    #[schemars(range(min = 10, max = 43_200))]
    pub invisible_s: u32,
    /// Where a group begins that is new: "first", "last", or a time such as "2026-11-24T08:00:00Z". Default "first". A
    /// broker of 4.9 always begins with the first message of a topic that is still young.
    #[schemars(with = "String")]
    pub start: Start,
    /// How often a message comes again that is refused here, after pauses that grow (10 s to 2 h); then it becomes a dead
    /// letter in %DLQ%GROUP. Default 16; 0..=100. What can never be published is a dead letter at once.
    #[schemars(range(max = 100))]
    pub retries: u16,
    /// Events that go out in a second at most. Default 0: as fast as RocketMQ takes them. A backlog waits in the log.
    pub rate: u32,
    /// While the bridge is more than 5 s behind: percent of the turns that events have as they are published, ahead of the
    /// backlog. Default 0: all goes in order, and waits for what is before it; 0..=90. With more, an event may overtake older
    /// ones with the same key. Each is sent once, unless Weft or the bridge starts anew meanwhile. A turn is 32 events.
    #[schemars(range(max = 90))]
    pub live_share: u8,
    /// For how many seconds an event is offered again that RocketMQ refuses for a cause that may pass (no such topic, no
    /// permission, no queue); then it is a dead letter. Default 60. Sooner if such events take all of `waiting_max`, so that
    /// they hold up no others. An outage is no refusal: it is waited out.
    pub refused_s: u32,
    /// Where events are published that RocketMQ does not take: below this topic, as DEAD_LETTERS/BRIDGE/TOPIC, with the
    /// attributes `deadlettertopic` and `deadletterreason`. Default "$dead": `#` does not match it, `$dead/#` does. Empty:
    /// they are counted and gone.
    pub dead_letters: String,
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
    /// RocketMQ topic they go to. Letters, digits, '_', '-', '|' and '%'; at most 127. Replaced: {topic}, the event's topic;
    /// {1}, {2}, ... its levels; {type}, {source}, {subject}, {id} and any other attribute or user property. What RocketMQ
    /// does not take becomes '_'. A bridge writes to 1000 topics at most; what cannot be filled is a dead letter.
    pub topic: String,
    /// The message's tag, with the same places, such as "{type}". Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<String>,
    /// Events with the same key keep their order and go to one queue, with the same places, such as "{2}" for each machine.
    /// Default "{topic}".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Whether an event that names a topic for its reply goes out as a request of RocketMQ's own (`producer.request` of its
    /// clients), so that its reply comes to that topic. Default false: it is an event like all others, and a Weft at the other end
    /// finds that topic in it. A request waits for no outage: after the cluster's `reply_ms` it is dropped and counted. At DeFiBus
    /// always.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub requests: bool,
}

/// Messages that come from RocketMQ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InRule {
    /// RocketMQ topic. Each in one rule only.
    pub topic: String,
    /// Only messages with one of these tags, such as "stop || go"; brokers leave out all others. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<String>,
    /// Only messages for which this is true, in RocketMQ's SQL92 over their properties, such as "region = 'eu' AND n > 3".
    /// Default all. Brokers need `enablePropertyFilter=true`. Not with `tags`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// Topic here, such as "commands/{tags}". Replaced: {topic}, {tags} and {keys} of the message, and {origin}, the
    /// topic it had in the Weft it comes from (else its RocketMQ topic). '+' and '#' in what is put in become '_'.
    pub to: String,
}

pub(crate) const TOPIC_MAX: usize = 127;
/// A group's retry topic has `%RETRY%` in front, and at most 127 letters.
pub(crate) const GROUP_MAX: usize = 120;
const NODE_MAX: usize = 32;
/// How often RocketMQ's own consumers get a message again.
pub(crate) const RETRIES: u16 = 16;

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            name_servers: vec!["127.0.0.1:9876".to_owned()],
            node: None,
            access_key: None,
            secret_key_file: None,
            tls_ca_file: None,
            namespace: None,
            connect_ms: 1000,
            request_ms: 5000,
            message_max: ByteLimit::mib(4),
            batch_max: ByteLimit::kib(256),
            compress_above: None,
            waiting_max: ByteLimit::mib(8),
            pulled_max: ByteLimit::mib(16),
            trace: false,
            unconfirmed: Unconfirmed::default(),
            idc: None,
            ttl_ms: defibus::property::DEFAULT_TTL_MS,
            reply_ms: 10_000,
            requests_max: 10_000,
            reply_topics: TopicFilter::parse("#").into_iter().collect(),
            store: StoreOptions::default(),
        }
    }
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            topic: "Weft".to_owned(),
            group: "weft-store".to_owned(),
            start: Start::First,
            groups_max: 100,
            deadline_ms: 10_000,
        }
    }
}

impl Default for BridgeOptions {
    fn default() -> Self {
        Self {
            cluster: String::new(),
            group: None,
            broadcast: false,
            ordered: false,
            pop: false,
            invisible_s: 60,
            start: Start::First,
            retries: RETRIES,
            rate: 0,
            live_share: 0,
            refused_s: 60,
            dead_letters: "$dead".to_owned(),
            out: Vec::new(),
            inward: Vec::new(),
        }
    }
}

impl ClusterOptions {
    /// Whether it makes sense for brokers of this kind. Reads no file.
    pub fn check(&self, kind: Kind) -> Result<(), OptionsError> {
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
        if let Some(idc) = self.idc.as_ref().filter(|idc| kind != Kind::Defibus || !defibus::is_idc(idc)) {
            return Err(OptionsError::Idc(idc.clone()));
        }
        in_range("ttl_ms", self.ttl_ms, 1, 31_536_000_000, "1..=31536000000")?;
        in_range("reply_ms", self.reply_ms.into(), 100, 600_000, "100..=600000")?;
        in_range("requests_max", self.requests_max.into(), 1, 1_000_000, "1..=1000000")?;
        in_range("connect_ms", self.connect_ms.into(), 100, 60_000, "100..=60000")?;
        in_range("request_ms", self.request_ms.into(), 500, 60_000, "500..=60000")?;
        in_range("message_max", self.message_max.0, 1, 15 << 20, "at most \"15 MiB\"")?;
        in_range("batch_max", self.batch_max.0, 1 << 10, 15 << 20, "\"1 KiB\" to \"15 MiB\"")?;
        in_range("waiting_max", self.waiting_max.0, 64 << 10, u64::MAX, "at least \"64 KiB\"")?;
        in_range("pulled_max", self.pulled_max.0, 1 << 20, u64::MAX, "at least \"1 MiB\"")?;
        if let Some(limit) = self.compress_above {
            in_range("compress_above", limit.0, 1 << 10, u64::MAX, "at least \"1 KiB\"")?;
        }
        for (key, name) in [("node", &self.node), ("namespace", &self.namespace)] {
            let wrong = |name: &str| name.contains(['|', '%']) || check_name(key, name, NODE_MAX).is_err();
            if let Some(name) = name.as_deref().filter(|name| wrong(name)) {
                return Err(OptionsError::Plain { key, name: name.to_owned(), max: NODE_MAX });
            }
        }
        in_range("store.deadline_ms", self.store.deadline_ms.into(), 1000, 600_000, "1000..=600000")?;
        check_name("store.topic", &self.wrap(&self.store.topic), TOPIC_MAX)?;
        in_range("store.groups_max", self.store.groups_max.into(), 1, 10_000, "1..=10000")?;
        let group = self.wrap(&self.of_node(&self.store.group));
        let most = if self.shares_groups(kind) { GROUP_MAX - DIGITS } else { GROUP_MAX };
        check_name("store.group", &group, most)
    }

    /// Whether shared subscriptions are balanced over all nodes of the cluster.
    pub(crate) fn shares_groups(&self, kind: Kind) -> bool {
        kind.feeds_groups() && self.node.is_some()
    }

    /// What brokers call a topic or group.
    pub(crate) fn wrap(&self, name: &str) -> String {
        wrap(self.namespace.as_deref(), name)
    }

    /// The group by which nodes share what a shared subscription gets.
    pub(crate) fn shared(&self, filter: &TopicFilter) -> String {
        let most = GROUP_MAX.saturating_sub(self.wrap("").len());
        self.wrap(&consumer_group(&self.store.group, filter, most))
    }

    /// The group by which this node gets everything.
    pub(crate) fn of_node(&self, group: &str) -> String {
        self.node.as_ref().map_or_else(|| group.to_owned(), |node| format!("{group}-{node}"))
    }
}

impl BridgeOptions {
    /// Whether it makes sense for a bridge of this name on `cluster`.
    pub fn check(&self, name: &str, cluster: &ClusterOptions) -> Result<(), OptionsError> {
        if self.out.is_empty() && self.inward.is_empty() {
            return Err(OptionsError::NoRules);
        }
        if self.broadcast && cluster.node.is_none() {
            return Err(OptionsError::NoNode);
        }
        if self.pop && (self.ordered || matches!(self.start, Start::At(_))) {
            return Err(OptionsError::Pop);
        }
        check_name("group", &cluster.wrap(&self.group(name, cluster)), GROUP_MAX)?;
        in_range("retries", self.retries.into(), 0, 100, "0..=100")?;
        in_range("invisible_s", self.invisible_s.into(), 10, 43_200, "10..=43200")?;
        in_range("live_share", self.live_share.into(), 0, 90, "0..=90")?;
        for rule in &self.out {
            let address = rule.address(cluster)?;
            if let Some(topic) = address.fixed() {
                check_name("out.topic", topic, TOPIC_MAX)?;
            }
        }
        if !is_dead_letter_place(&self.dead_letters) {
            return Err(OptionsError::DeadLetters(self.dead_letters.clone()));
        }
        let mut topics = BTreeSet::new();
        for rule in &self.inward {
            check_name("in.topic", &cluster.wrap(&rule.topic), TOPIC_MAX)?;
            if !topics.insert(&rule.topic) {
                return Err(OptionsError::TwoRules(rule.topic.clone()));
            }
            let filled = |text: &Option<String>| text.as_ref().is_none_or(|text| !text.trim().is_empty());
            if (rule.tags.is_some() && rule.sql.is_some()) || !filled(&rule.tags) || !filled(&rule.sql) {
                return Err(OptionsError::Filter(rule.topic.clone()));
            }
            Template::parse(&rule.to).ok_or_else(|| OptionsError::Template(rule.to.clone()))?;
        }
        Ok(())
    }

    /// Whether it makes sense for brokers of this kind.
    pub fn check_kind(&self, kind: Kind) -> Result<(), OptionsError> {
        if self.pop && kind != Kind::RocketMq { Err(OptionsError::Pop) } else { Ok(()) }
    }

    /// The consumer group of a bridge of this name.
    pub(crate) fn group(&self, name: &str, cluster: &ClusterOptions) -> String {
        let group = self.group.clone().unwrap_or_else(|| format!("weft-bridge-{name}"));
        if self.broadcast { cluster.of_node(&group) } else { group }
    }
}

impl OutRule {
    /// All events of `filter` to one topic.
    pub fn new(filter: TopicFilter, topic: impl Into<String>) -> Self {
        Self { filter, topic: topic.into(), tags: None, key: None, requests: false }
    }

    /// Where its events go.
    pub(crate) fn address(&self, cluster: &ClusterOptions) -> Result<Address, OptionsError> {
        let pattern = |key: &'static str, text: &str| {
            Pattern::parse(text).ok_or_else(|| OptionsError::Pattern { key, text: text.to_owned() })
        };
        let optional =
            |key, text: &Option<String>| text.as_deref().map(|text| pattern(key, text)).transpose();
        let topic = pattern("topic", &self.topic)?;
        if !topic.is_of(is_topic_char) {
            return Err(OptionsError::Name { key: "out.topic", name: self.topic.clone(), max: TOPIC_MAX });
        }
        let (tags, key) = (optional("tags", &self.tags)?, optional("key", &self.key)?);
        Ok(Address::new(topic, tags, key, |name| cluster.wrap(name)))
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
            out: vec![OutRule::new(TopicFilter::parse(filter).unwrap(), topic)],
            inward: vec![rule(to)],
            ..BridgeOptions::default()
        }
    }

    fn rule(to: &str) -> InRule {
        InRule { topic: "Commands".into(), tags: None, sql: None, to: to.into() }
    }

    #[test]
    fn mistakes_are_named() {
        let good = ClusterOptions::default;
        assert!(good().check(Kind::RocketMq).is_ok());
        let store = |topic: &str| StoreOptions { topic: topic.into(), ..StoreOptions::default() };
        let groups = |groups_max| {
            let store = StoreOptions { groups_max, ..StoreOptions::default() };
            ClusterOptions { store, ..good() }
        };
        let base = |node: Option<&str>, length| {
            let store = StoreOptions { group: "g".repeat(length), ..StoreOptions::default() };
            ClusterOptions { store, node: node.map(Into::into), ..good() }
        };
        assert!(base(None, GROUP_MAX).check(Kind::RocketMq).is_ok());
        assert!(base(Some("a"), GROUP_MAX - DIGITS - 2).check(Kind::RocketMq).is_ok());
        for (options, part) in [
            (ClusterOptions { name_servers: vec![], ..good() }, "name_servers is empty"),
            (ClusterOptions { name_servers: vec!["localhost".into()], ..good() }, "\"host:port\""),
            (ClusterOptions { access_key: Some("a".into()), ..good() }, "go together"),
            (ClusterOptions { request_ms: 1, ..good() }, "500..=60000"),
            (ClusterOptions { message_max: ByteLimit::mib(16), ..good() }, "15 MiB"),
            (ClusterOptions { store: store("a/b"), ..good() }, "store.topic"),
            (ClusterOptions { node: Some("a|b".into()), ..good() }, "node is \"a|b\""),
            (ClusterOptions { idc: Some("GZ".into()), ..good() }, "[defibus.NAME]"),
            (ClusterOptions { reply_ms: 1, ..good() }, "100..=600000"),
            (ClusterOptions { pulled_max: ByteLimit::kib(1), ..good() }, "1 MiB"),
            (groups(0), "store.groups_max is 0; it has to be 1..=10000"),
            (groups(10_001), "1..=10000"),
            (base(None, GROUP_MAX + 1), "store.group"),
            // The groups of shared subscriptions have digits behind it.
            (base(Some("a"), GROUP_MAX - DIGITS - 1), "store.group"),
        ] {
            let error = options.check(Kind::RocketMq).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn an_idc_has_upper_case() {
        let check = |idc: &str| {
            ClusterOptions { idc: Some(idc.into()), ..ClusterOptions::default() }.check(Kind::Defibus)
        };
        assert!(check("GZ").is_ok());
        assert!(check("gz").unwrap_err().to_string().contains("\"gz\""));
    }

    #[test]
    fn mistakes_of_a_bridge_are_named() {
        let cluster = ClusterOptions::default();
        assert!(bridge("a/#", "A", "a/{tags}").check("b", &cluster).is_ok());
        let good = || bridge("a/#", "A", "a");
        let inward = |rules: &[InRule]| BridgeOptions { inward: rules.to_vec(), ..good() };
        for (options, name, part) in [
            (bridge("a/#", "a/b", "a"), "b", "out.topic"),
            (bridge("a/#", &"x".repeat(128), "a"), "b", "127"),
            (bridge("a/#", "A", "a/{what}"), "b", "{tags}"),
            (bridge("a/#", "A", "a/#"), "b", "wildcard"),
            (bridge("a/#", "A", "a"), "b c", "group"),
            (BridgeOptions::default(), "b", "neither out nor in"),
            (BridgeOptions { broadcast: true, ..good() }, "b", "node"),
            (BridgeOptions { pop: true, ordered: true, ..good() }, "b", "pop does not go"),
            (BridgeOptions { pop: true, start: Start::At(1), ..good() }, "b", "pop does not go"),
            (BridgeOptions { invisible_s: 9, ..good() }, "b", "10..=43200"),
            (BridgeOptions { retries: 101, ..good() }, "b", "0..=100"),
            (BridgeOptions { live_share: 91, ..good() }, "b", "0..=90"),
            (bridge("a/#", "T-{1", "a"), "b", "out.topic"),
            (bridge("a/#", "a/{1}", "a"), "b", "out.topic"),
            (BridgeOptions { dead_letters: "$SYS/dead".into(), ..good() }, "b", "dead_letters"),
            (BridgeOptions { dead_letters: "a/#".into(), ..good() }, "b", "dead_letters"),
            (inward(&[rule("a"), rule("b")]), "b", "two rules"),
            (
                inward(&[InRule { tags: Some("a".into()), sql: Some("b".into()), ..rule("a") }]),
                "b",
                "tags or sql",
            ),
            (inward(&[InRule { tags: Some(" ".into()), ..rule("a") }]), "b", "tags or sql"),
        ] {
            let error = options.check(name, &cluster).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn nodes_that_get_everything_have_groups_of_their_own() {
        let cluster = ClusterOptions { node: Some("n1".into()), ..ClusterOptions::default() };
        assert_eq!(cluster.of_node(&cluster.store.group), "weft-store-n1");
        let bridge = bridge("a/#", "A", "a");
        assert_eq!(bridge.group("b", &cluster), "weft-bridge-b");
        let broadcast = BridgeOptions { broadcast: true, ..bridge };
        assert!(broadcast.check("b", &cluster).is_ok());
        assert_eq!(broadcast.group("b", &cluster), "weft-bridge-b-n1");
    }
}
