//! Both uses against real RocketMQ 5.3.3 and 4.9.7, with the official Java client at the other end.
//! `tests/rocketmq/README.md` says what is needed; without it the tests say that they are skipped.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use event::hub::{Outcome, Publish};
use event::store::{Append, Entry, Store};
use event::testing::{Call, FakeHub};
use event::{
    Attributes, ByteLimit, Durability, Event, Guarantee, Health, Meta, Parts, TopicFilter, TopicName, Value,
};
use rocketmq::{BridgeOptions, ClusterOptions, InRule, Kind, OutRule, spawn_store};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

#[path = "fake/bridges.rs"]
mod bridges;
#[path = "../../../tests/rocketmq/fixture.rs"]
mod fixture;

#[path = "real/clusters.rs"]
mod clusters;
#[path = "real/consuming.rs"]
mod consuming;

use bridges::spawn_bridge;
use fixture::{Node, RocketMq};

const PATIENCE: Duration = Duration::from_secs(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_cross_5_3_3() {
    let Some(rocketmq) = start("5.3.3") else { return };
    events_cross(&rocketmq).await;
    messages_are_traced(&rocketmq).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_cross_4_9_7() {
    let Some(rocketmq) = start("4.9.7") else { return };
    events_cross(&rocketmq).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outages_of_5_3_3_are_waited_out() {
    let Some(rocketmq) = start("5.3.3") else { return };
    an_outage_is_seen_and_waited_out(&rocketmq).await;
    a_silent_broker_is_seen(&rocketmq).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outages_of_4_9_7_are_waited_out() {
    let Some(rocketmq) = start("4.9.7") else { return };
    an_outage_is_seen_and_waited_out(&rocketmq).await;
    a_silent_broker_is_seen(&rocketmq).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_signed_for_brokers_that_ask_for_keys() {
    for version in ["5.3.3", "4.9.7"] {
        if RocketMq::is_available() {
            let rocketmq = RocketMq::start(version, &["--acl"]);
            the_right_keys_are_taken_and_wrong_ones_are_told(&rocketmq).await;
        }
    }
}

/// ACL 2.0: a user has rights of its own. What it may not send is a dead letter, and holds up nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_has_the_rights_that_brokers_give_it() {
    if !RocketMq::is_available() {
        return;
    }
    let part = |what: &str| format!("{what}=org.apache.rocketmq.auth.authorization.provider.");
    let settings = [
        "authorizationEnabled=true".to_owned(),
        part("authorizationProvider") + "DefaultAuthorizationProvider",
        part("authorizationMetadataProvider") + "LocalAuthorizationMetadataProvider",
    ];
    let options: Vec<&str> =
        ["--acl"].into_iter().chain(settings.iter().flat_map(|setting| ["--set", setting])).collect();
    let rocketmq = RocketMq::start("5.3.3", &options);
    let at = rocketmq.broker();
    rocketmq.admin(&["createUser", "-b", &at, "-u", "plant", "-p", "plant-secret", "-t", "Normal"]);
    let rights = ["-r", "Topic:Open", "-a", "Pub", "-d", "ALLOW"];
    rocketmq.admin(&[&["createAcl", "-b", &at, "-s", "User:plant"][..], &rights].concat());
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&secret, "plant-secret").unwrap();
    let cluster = ClusterOptions {
        access_key: Some("plant".to_owned()),
        secret_key_file: Some(secret.path().to_owned()),
        ..cluster(&rocketmq)
    };
    let rule = |filter: &str, topic: &str| OutRule::new(TopicFilter::parse(filter).unwrap(), topic);
    let options = BridgeOptions {
        cluster: "main".into(),
        out: vec![rule("open/#", "Open"), rule("shut/#", "Shut")],
        refused_s: 0,
        ..BridgeOptions::default()
    };
    let bridge = Running::launch(&cluster, "rights", &options);
    bridge.until_health(|reason| reason.is_none()).await;
    bridge.publish("open/1", "1");
    bridge.publish("shut/1", "2");
    bridge.publish("open/1", "3");
    bridge.until_acked(3).await;
    let letter = bridge.until_published(1).await.remove(0).event;
    assert_eq!(letter.topic().as_str(), "$dead/rights/shut/1");
    let reason = letter.meta().unwrap().user.iter().find(|(name, _)| name == "deadletterreason").unwrap();
    assert!(reason.1.contains("code 16"), "{reason:?}");
    bridge.stop().await;
}

/// A RocketMQ that serves all steps of a test; each has topics of its own. `None`: this machine has no Java.
fn start(version: &str) -> Option<RocketMq> {
    // What is given back comes again after a second, not ten and more.
    let delays = format!("messageDelayLevel={}", ["1s"; 18].join(" "));
    let settings = [&*delays, "enablePropertyFilter=true", "traceTopicEnable=true"];
    let options: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    RocketMq::is_available().then(|| RocketMq::start(version, &options))
}

/// Out of Weft and into it, as a bridge and as a store.
async fn events_cross(rocketmq: &RocketMq) {
    a_bridge_sends_in_order(rocketmq).await;
    a_bridge_brings_in_what_java_sends(rocketmq).await;
    a_consumer_goes_on_where_it_stopped(rocketmq).await;
    a_store_answers_and_feeds(rocketmq).await;
    what_rocketmq_refuses_is_a_dead_letter_alone(rocketmq).await;
    events_go_where_the_rule_says(rocketmq).await;
}

async fn a_bridge_sends_in_order(rocketmq: &RocketMq) {
    let bridge = Running::bridge(rocketmq, "out", &[("sensors/#", "Sensors")], &[]).await;
    let count = 400;
    for n in 0..count {
        bridge.publish(&format!("sensors/{}", n % 7), &n.to_string());
    }
    bridge.publish("other/1", "not for RocketMQ");
    bridge.until_acked(count).await;
    bridge.stop().await;

    let messages = consume(rocketmq, "java-out", "Sensors", count);
    assert_eq!(messages.iter().map(|m| &m.unique_key).collect::<BTreeSet<_>>().len(), count);
    in_order_by_topic(&messages, count);
}

async fn a_bridge_brings_in_what_java_sends(rocketmq: &RocketMq) {
    let bridge = Running::bridge(rocketmq, "in", &[], &[("Commands", "commands/{tags}")]).await;
    // Java compresses what is longer than 4 KiB.
    let mut lines: Vec<String> = (0..100).map(|n| format!("go {n}")).collect();
    lines.push("long ".repeat(2000));
    rocketmq.send("Commands", &["TAGS=stop", "KEYS=k1", "city=Köln"], &lines);
    let published = bridge.until_published(lines.len()).await;
    let bodies: Vec<String> =
        published.iter().map(|p| String::from_utf8_lossy(p.event.data()).into_owned()).collect();
    assert_eq!(bodies, lines);
    let first = &published[0];
    assert_eq!((first.event.topic().as_str(), first.guarantee), ("commands/stop", Guarantee::AtLeastOnce));
    assert_eq!(&**first.event.publisher(), "$bridge/rocketmq/in");
    let user = &first.event.meta().unwrap().user;
    for (name, value) in [("TAGS", "stop"), ("KEYS", "k1"), ("city", "Köln")] {
        assert!(user.iter().any(|(n, v)| n == name && v == value), "{name} in {user:?}");
    }
    bridge.stop().await;
}

async fn a_consumer_goes_on_where_it_stopped(rocketmq: &RocketMq) {
    let bridge = Running::bridge(rocketmq, "in", &[], &[("Commands", "commands/{tags}")]).await;
    rocketmq.send("Commands", &["TAGS=next"], &["later".to_owned()]);
    let published = bridge.until_published(1).await;
    assert_eq!(
        published[0].event.topic().as_str(),
        "commands/next",
        "what was committed does not come again"
    );
    bridge.stop().await;
}

async fn a_store_answers_and_feeds(rocketmq: &RocketMq) {
    let (store, running) = Running::store(rocketmq).await;
    let events: Vec<Event> = (0..60)
        .map(|n| {
            event(&format!("house/{}", n % 3), Bytes::from(vec![n as u8; if n == 7 { 0 } else { n * 400 }]))
        })
        .chain([cloud_event()])
        .collect();
    let (append, receipt) = new_append(events.clone());
    store.append(append).await;
    assert!(matches!(timeout(PATIENCE, receipt).await.unwrap(), Outcome::Kept));

    let published = running.until_published(events.len()).await;
    let back: BTreeMap<u64, &Event> = published.iter().map(|p| (p.event.parts().stamp, &p.event)).collect();
    for event in &events {
        assert_eq!(back[&event.parts().stamp], event, "an event comes back as it was");
    }
    let (append, receipt) = new_append(vec![
        event("house/1", Bytes::from_static(b"fits")),
        event("house/1", vec![0; 5 << 20].into()),
    ]);
    store.append(append).await;
    let Outcome::Partly(refused) = timeout(PATIENCE, receipt).await.unwrap() else {
        panic!("one is too large")
    };
    assert_eq!(refused.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1]);
    running.stop().await;
}

async fn what_rocketmq_refuses_is_a_dead_letter_alone(rocketmq: &RocketMq) {
    // The broker takes 4 MiB; this bridge does not know.
    let cluster = ClusterOptions { message_max: ByteLimit::mib(8), ..cluster(rocketmq) };
    let bridge = Running::start_bridge(&cluster, "large", &[("large/#", "Large")], &[]).await;
    for body in [b"1".to_vec(), vec![0; 5 << 20], b"2".to_vec(), b"3".to_vec()] {
        bridge.hub.inject("dev", publish(event("large/x", body.into())));
    }
    bridge.until_acked(4).await;
    let letter = bridge.until_published(1).await.remove(0).event;
    assert_eq!((letter.topic().as_str(), letter.data().len()), ("$dead/large/large/x", 5 << 20));
    bridge.stop().await;
    let bodies: Vec<String> =
        consume(rocketmq, "java-large", "Large", 3).into_iter().map(|m| m.body).collect();
    assert_eq!(bodies, ["1", "2", "3"]);
}

/// Topic, tag and key are made of the event; what the rule cannot make is a dead letter.
async fn events_go_where_the_rule_says(rocketmq: &RocketMq) {
    let rule = OutRule {
        tags: Some("{type}".into()),
        key: Some("{3}".into()),
        ..OutRule::new(TopicFilter::parse("plant/#").unwrap(), "Plant-{2}")
    };
    let options =
        BridgeOptions { cluster: "main".into(), out: vec![rule], rate: 200, ..BridgeOptions::default() };
    let bridge = Running::launch(&cluster(rocketmq), "made", &options);
    bridge.until_health(|reason| reason.is_none()).await;
    for number in 0..30 {
        bridge.publish(&format!("plant/hall{}/m{}", number % 2, number % 3), &number.to_string());
    }
    bridge.publish("plant/hall0", "no machine");
    bridge.until_acked(31).await;
    let letter = bridge.until_published(1).await.remove(0).event;
    assert_eq!(letter.topic().as_str(), "$dead/made/plant/hall0");
    for hall in 0..2 {
        let topic = format!("Plant-hall{hall}");
        let lines = rocketmq.consume(&format!("java-made-{hall}"), &topic, 15);
        let messages: Vec<serde_json::Value> =
            lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut machines: BTreeMap<String, BTreeSet<i64>> = BTreeMap::new();
        for message in &messages {
            let properties = &message["properties"];
            assert_eq!(properties["TAGS"], "weft.message", "{message}");
            let key = properties["__SHARDINGKEY"].as_str().unwrap().to_owned();
            machines.entry(key).or_default().insert(message["queueId"].as_i64().unwrap_or(-1));
        }
        assert_eq!(machines.keys().collect::<Vec<_>>(), ["m0", "m1", "m2"]);
        assert!(machines.values().all(|queues| queues.len() == 1), "a key has one queue: {machines:?}");
    }
    bridge.stop().await;
}

/// RocketMQ's own tool finds who sent a message, and who consumed it.
async fn messages_are_traced(rocketmq: &RocketMq) {
    let cluster = ClusterOptions { trace: true, ..cluster(rocketmq) };
    let rules = ([("traced/#", "Traced")], [("Traced", "back")]);
    let bridge = Running::start_bridge(&cluster, "traced", &rules.0, &rules.1).await;
    for n in 0..3 {
        bridge.publish(&format!("traced/{n}"), &n.to_string());
    }
    bridge.until_published(3).await;
    let id = consume(rocketmq, "java-traced", "Traced", 3).remove(0).unique_key;
    let mut said = String::new();
    for _ in 0..20 {
        said = rocketmq.ask_admin(&["queryMsgTraceById", "-n", rocketmq.name_server(), "-i", &id]);
        let told = |what: &str| said.lines().any(|line| line.starts_with(what) && line.contains("success"));
        if told("Pub") && told("Sub") {
            return bridge.stop().await;
        }
    }
    panic!("of {id} mqadmin says {said:?}");
}

async fn an_outage_is_seen_and_waited_out(rocketmq: &RocketMq) {
    let rules_in = [("Answers", "answers")];
    let bridge = Running::bridge(rocketmq, "outage", &[("load/#", "Load")], &rules_in).await;
    rocketmq.send("Answers", &[], &["before".to_owned()]);
    bridge.until_published(1).await;
    let mut sent = 0;
    let mut publish = |count: usize| {
        for _ in 0..count {
            bridge.publish(&format!("load/{}", sent % 5), &sent.to_string());
            sent += 1;
        }
    };
    publish(50);
    bridge.until_acked(50).await;
    publish(50);
    rocketmq.signal(Node::Broker, "KILL");
    let killed = Instant::now();
    bridge.until_health(|reason| reason.is_some()).await;
    eprintln!("down after {:?}", killed.elapsed());
    publish(100);
    rocketmq.restart(Node::Broker);
    let restarted = Instant::now();
    bridge.until_acked(200).await;
    eprintln!("all sent {:?} after the broker listened again", restarted.elapsed());
    bridge.until_health(|reason| reason.is_none()).await;
    rocketmq.send("Answers", &[], &["after".to_owned()]);
    let published = bridge.until_published(2).await;
    assert_eq!(published.iter().map(|p| p.event.data().clone()).collect::<Vec<_>>(), ["before", "after"]);
    bridge.stop().await;

    // Requests without an answer may have been carried out: their repeats have the same key.
    let mut seen = BTreeSet::new();
    let messages = consume_all(rocketmq, "java-load", "Load", 200);
    let messages: Vec<_> =
        messages.into_iter().filter(|message| seen.insert(message.unique_key.clone())).collect();
    in_order_by_topic(&messages, 200);
}

async fn a_silent_broker_is_seen(rocketmq: &RocketMq) {
    let bridge = Running::bridge(rocketmq, "silent", &[("silent/#", "Silent")], &[]).await;
    rocketmq.signal(Node::Broker, "STOP");
    let stopped = Instant::now();
    bridge.publish("silent/1", "1");
    bridge.until_health(|reason| reason.is_some()).await;
    eprintln!("down after {:?}", stopped.elapsed());
    rocketmq.signal(Node::Broker, "CONT");
    bridge.until_health(|reason| reason.is_none()).await;
    bridge.until_acked(1).await;
    bridge.stop().await;
}

async fn the_right_keys_are_taken_and_wrong_ones_are_told(rocketmq: &RocketMq) {
    let folder = tempfile::tempdir().unwrap();
    let with_secret = |secret: &str| {
        let path = folder.path().join(secret);
        std::fs::write(&path, format!("{secret}\n")).unwrap();
        ClusterOptions {
            access_key: Some("rmqtest".to_owned()),
            secret_key_file: Some(path),
            ..cluster(rocketmq)
        }
    };
    let rules = [("keys/#", "Keys")];
    let bridge =
        Running::start_bridge(&with_secret("rmqtest-secret"), "keys", &rules, &[("Keys", "back")]).await;
    for n in 0..20 {
        bridge.publish("keys/1", &n.to_string());
    }
    bridge.until_acked(20).await;
    bridge.until_published(20).await;
    bridge.stop().await;

    let bridge = Running::launch_bridge(&with_secret("wrong"), "keys", &rules, &[]);
    let told =
        |reason: &Option<String>| reason.as_ref().is_some_and(|reason| reason.contains("answers code"));
    bridge.until_health(told).await;
    bridge.stop().await;
}

// -------------------------------------------------------------- helpers

/// A bridge or a store at work.
struct Running {
    hub: FakeHub,
    health: Health,
    client: String,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    async fn bridge(rocketmq: &RocketMq, name: &str, out: &[(&str, &str)], inward: &[(&str, &str)]) -> Self {
        Self::start_bridge(&cluster(rocketmq), name, out, inward).await
    }

    async fn start_bridge(
        cluster: &ClusterOptions,
        name: &str,
        out: &[(&str, &str)],
        inward: &[(&str, &str)],
    ) -> Self {
        let running = Self::launch_bridge(cluster, name, out, inward);
        running.until_health(|reason| reason.is_none()).await;
        if !out.is_empty() {
            let subscribed = running
                .hub
                .until(|calls| calls.iter().any(|call| matches!(call, Call::Subscribe { .. })).then_some(()));
            timeout(PATIENCE, subscribed).await.unwrap();
        }
        running
    }

    fn launch_bridge(
        cluster: &ClusterOptions,
        name: &str,
        out: &[(&str, &str)],
        inward: &[(&str, &str)],
    ) -> Self {
        let out =
            out.iter().map(|(filter, topic)| OutRule::new(TopicFilter::parse(*filter).unwrap(), *topic));
        let options = BridgeOptions {
            cluster: "main".into(),
            out: out.collect(),
            inward: inward.iter().map(|(topic, to)| in_rule(topic, to)).collect(),
            ..BridgeOptions::default()
        };
        Self::launch(cluster, name, &options)
    }

    fn launch(cluster: &ClusterOptions, name: &str, options: &BridgeOptions) -> Self {
        let (hub, health, (stop, drain)) = (FakeHub::new(), Health::default(), watch::channel(false));
        let task =
            spawn_bridge(Kind::RocketMq, name, options, cluster, Arc::new(hub.clone()), &health, drain)
                .unwrap();
        Self { hub, health, client: format!("$bridge/rocketmq/{name}"), stop, task }
    }

    async fn store(rocketmq: &RocketMq) -> (Store, Self) {
        Self::store_on(&cluster(rocketmq)).await
    }

    async fn store_on(cluster: &ClusterOptions) -> (Store, Self) {
        let (store, ends) = event::store::store(ByteLimit::mib(32), 64);
        let (hub, health, (stop, drain)) = (FakeHub::new(), Health::default(), watch::channel(false));
        let task =
            spawn_store(Kind::RocketMq, "main", cluster, ends.appends, Arc::new(hub.clone()), &health, drain)
                .unwrap();
        let running = Self { hub, health, client: String::new(), stop, task };
        running.until_health(|reason| reason.is_none()).await;
        (store, running)
    }

    fn publish(&self, topic: &str, body: &str) {
        self.hub.inject("dev", publish(event(topic, Bytes::from(body.to_owned()))));
    }

    async fn until_acked(&self, count: usize) {
        let acked = |call: &Call| {
            let Call::Ack { client, numbers } = call else { return 0 };
            if *client == self.client { numbers.len() } else { 0 }
        };
        let enough = |calls: &[Call]| calls.iter().map(acked).sum::<usize>() >= count;
        let done = timeout(PATIENCE, self.hub.until(|calls| enough(calls).then_some(()))).await;
        let have = self.hub.acked(&self.client).len();
        assert!(done.is_ok(), "{have} of {count} acked; {:?}", self.health.parts());
    }

    async fn until_published(&self, count: usize) -> Vec<Publish> {
        let published = |call: &Call| if let Call::Publish { batch, .. } = call { batch.len() } else { 0 };
        let enough = |calls: &[Call]| calls.iter().map(published).sum::<usize>() >= count;
        let done = timeout(PATIENCE, self.hub.until(|calls| enough(calls).then_some(()))).await;
        let published = self.hub.published();
        assert!(done.is_ok(), "{} of {count} published; {:?}", published.len(), self.health.parts());
        published
    }

    async fn until_health(&self, wanted: impl Fn(&Option<String>) -> bool) {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        let until = async {
            while !self.health.parts().first().is_some_and(|(_, reason)| wanted(reason)) {
                tick.tick().await;
            }
        };
        assert!(timeout(PATIENCE, until).await.is_ok(), "{:?}", self.health.parts());
    }

    async fn stop(self) {
        self.stop.send(true).unwrap();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

fn in_rule(topic: &str, to: &str) -> InRule {
    InRule { topic: topic.to_owned(), tags: None, sql: None, to: to.to_owned() }
}

fn cluster(rocketmq: &RocketMq) -> ClusterOptions {
    ClusterOptions { name_servers: vec![rocketmq.name_server().to_owned()], ..ClusterOptions::default() }
}

fn event(topic: &str, data: Bytes) -> Event {
    static STAMP: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1 << 40);
    Event::new(Parts {
        topic: TopicName::parse(topic).unwrap(),
        data,
        stamp: STAMP.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        received_ms: 1_700_000_000_000,
        expires_ms: 0,
        publisher: Arc::from("dev"),
        meta: None,
    })
}

fn cloud_event() -> Event {
    let attributes = Attributes {
        id: "id 1".into(),
        source: "/s".into(),
        ty: "t".into(),
        subject: None,
        time: Some("2026-11-24T00:00:00Z".into()),
        dataschema: None,
        extensions: vec![("seq".into(), Value::Integer(7)), ("note".into(), Value::String("é %01".into()))],
    };
    let mut parts = event("house/ce", Bytes::from_static(b"{}")).parts().clone();
    parts.meta = Some(Box::new(Meta {
        attributes: Some(attributes),
        content_type: Some("application/json".into()),
        user: vec![("A b".into(), "ü".into())],
        ..Meta::default()
    }));
    Event::new(parts)
}

fn publish(event: Event) -> Publish {
    Publish { event, guarantee: Guarantee::AtLeastOnce, retain: false, id: None }
}

fn new_append(events: Vec<Event>) -> (Append, event::hub::Receipt) {
    let entry = |event| Entry { event: Some(event), note: Bytes::new() };
    Append::new(events.into_iter().map(entry).collect(), Durability::Remote)
}

/// What the Java consumer prints.
#[derive(Debug)]
struct Message {
    topic: String,
    unique_key: String,
    body: String,
}

fn consume(rocketmq: &RocketMq, group: &str, topic: &str, count: usize) -> Vec<Message> {
    rocketmq.consume(group, topic, count).iter().map(|line| message(line)).collect()
}

/// Consumes until `count` different messages are there.
fn consume_all(rocketmq: &RocketMq, group: &str, topic: &str, count: usize) -> Vec<Message> {
    use std::io::BufRead as _;
    let mut child = rocketmq
        .java(&["RmqConsume", rocketmq.name_server(), group, "0", topic])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut messages = Vec::new();
    let mut seen = BTreeSet::new();
    for line in std::io::BufReader::new(child.stdout.take().unwrap()).lines() {
        messages.push(message(&line.unwrap()));
        seen.insert(messages[messages.len() - 1].unique_key.clone());
        if seen.len() == count {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    messages
}

fn message(line: &str) -> Message {
    let json: serde_json::Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let body = base64::engine::general_purpose::STANDARD.decode(text(&json["body"])).unwrap();
    Message {
        topic: text(&json["properties"]["WEFT_TOPIC"]),
        unique_key: text(&json["UNIQ_KEY"]),
        body: String::from_utf8(body).unwrap(),
    }
}

/// Bodies are numbers that rise in each topic, and all of them are there.
fn in_order_by_topic(messages: &[Message], count: usize) {
    let mut topics: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for message in messages {
        topics.entry(&message.topic).or_default().push(message.body.parse().unwrap());
    }
    for (topic, numbers) in &topics {
        assert!(numbers.is_sorted(), "{topic}: {numbers:?}");
    }
    assert_eq!(topics.values().map(Vec::len).sum::<usize>(), count);
}
