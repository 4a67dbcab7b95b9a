//! DeFiBus, both uses and both ways of request and reply, against a broker that refuses, holds back and pushes as no real
//! one does on demand. `tests/tests/defibus.rs` has the published client of DeFiBus at the other end.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic, in its helpers too")]

#[path = "fake/bridges.rs"]
mod bridges;
#[path = "fake/defibus.rs"]
mod broker;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bridges::spawn_bridge;
use broker::{FakeDefibus, Lock, Sent};
use bytes::Bytes;
use defibus::code::request as theirs;
use event::hub::{Outcome, Publish, Receipt};
use event::store::{Append, Entry, Store};
use event::testing::{Call, FakeHub};
use event::{
    Attributes, Durability, Event, Guarantee, Health, Meta, Parts, RejectKind, TopicFilter, TopicName, Value,
};
use remoting::code::request;
use remoting::{Command, Language};
use rocketmq::{BridgeOptions, ClusterOptions, InRule, Kind, OutRule, StoreOptions, spawn_store};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

const PATIENCE: Duration = Duration::from_secs(60);
const BRIDGE: &str = "$bridge/defibus/b";

// ------------------------------------------------------- publish and subscribe

#[tokio::test]
async fn an_event_has_a_ttl_and_comes_back_as_it_was() {
    let broker = FakeDefibus::start().await;
    let (store, running) = Running::store(&cluster(&broker));
    let expires_ms = now_ms() + 60_000;
    let events = [cloud_event(0), cloud_event(expires_ms), plain("a/b", "plain")];
    let receipt = append(&store, &events).await;
    assert!(matches!(timeout(PATIENCE, receipt).await.unwrap(), Outcome::Kept));
    let sent = broker.until_sent(3).await;
    assert_eq!(sent[0].properties["TTL"], "14400000");
    let left: u64 = sent[1].properties["TTL"].parse().unwrap();
    assert!((50_000..=60_000).contains(&left), "{left}");
    assert_eq!(sent[2].properties["TTL"], "14400000");
    running.until_published(3).await;
    let mut back: Vec<Event> = running.hub.published().into_iter().map(|publish| publish.event).collect();
    back.sort_by_key(|event| event.parts().stamp);
    assert_eq!(
        back.iter().map(Event::parts).collect::<Vec<_>>(),
        events.iter().map(Event::parts).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn messages_of_other_clients_lose_what_is_of_defibus_and_keep_what_is_theirs() {
    let broker = FakeDefibus::start().await;
    let hour = ("TTL", "3600000");
    broker.store(
        0,
        &[
            ("KEYS", "k"),
            ("city", "Rome"),
            hour,
            ("CLUSTER", "GZ-defibus"),
            ("BROKER", "broker-a"),
            ("REDIRECT", "false"),
        ],
        "one",
        Duration::ZERO,
    );
    // Brokers hand out what is over, too.
    broker.store(0, &[("TTL", "1000")], "too old", Duration::from_secs(2));
    broker.store_compressed(&[hour], &[b'x'; 5000]);
    broker.store(0, &[], "without TTL", Duration::from_secs(100_000_000));
    let running = Running::bridge(&cluster(&broker));
    running.until_published(3).await;
    let published = running.hub.published();
    let bodies: Vec<usize> = published.iter().map(|publish| publish.event.data().len()).collect();
    assert_eq!(bodies, [3, 5000, 11]);
    let first = &published[0].event;
    let user: Vec<String> =
        first.meta().unwrap().user.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(user, ["KEYS=k", "city=Rome"]);
    let left = first.parts().expires_ms.saturating_sub(now_ms());
    assert!((3_500_000..=3_600_000).contains(&left), "{left}");
    assert_eq!(published[2].event.parts().expires_ms, 0);
}

#[tokio::test]
async fn a_client_says_who_it_is_as_defibus_wants_it() {
    let broker = FakeDefibus::start().await;
    let running = Running::bridge(&ClusterOptions { idc: Some("GZ".into()), ..cluster(&broker) });
    running.until_subscribed().await;
    let pull = broker
        .until_asked(|asked| asked.iter().find(|command| command.code == request::PULL_MESSAGE).cloned())
        .await;
    let id = pull.field("clientId").unwrap();
    assert!(id.starts_with("127.0.0.1@") && id.ends_with("#V1_0_0#GZ"), "{id}");
    assert_eq!(id.matches('#').count(), 2, "{id}");
    assert_eq!((pull.version, pull.language), (293, Language::Other));
    // 38 would never be answered.
    assert_eq!(broker.asked(38).len(), 0);
    assert!(!broker.asked(theirs::MEMBERS_OF_TOPIC).is_empty());
}

#[tokio::test]
async fn a_topic_that_is_missing_is_told_and_not_made() {
    let broker = FakeDefibus::start().await;
    broker.forget_topics();
    let running = Running::bridge(&cluster(&broker));
    running.until_health(|reason| reason.is_some_and(|reason| reason.contains("holds topic"))).await;
    running.hub.inject("dev", publish(plain("out/a", "1")));
    assert!(broker.sent().is_empty());
}

#[tokio::test]
async fn a_broker_that_is_gone_is_told() {
    let broker = FakeDefibus::start().await;
    let running = Running::bridge(&cluster(&broker));
    running.until_health(|reason| reason.is_none()).await;
    drop(broker);
    running.until_health(|reason| reason.is_some()).await;
}

// ------------------------------------------------------------ request and reply

#[tokio::test]
async fn a_request_goes_alone_and_its_reply_comes_back_to_who_asked() {
    let broker = FakeDefibus::start().await;
    let running = Running::bridge(&cluster(&broker));
    running.until_subscribed().await;
    running.hub.inject("dev", publish(plain("out/a", "before")));
    running.hub.inject("dev", publish(request_event("out/a", "question", "dev/answers", b"\x00\xff7")));
    running.hub.inject("dev", publish(plain("out/a", "behind")));
    let sent = broker.until_sent(3).await;
    let asked = sent.iter().find(|sent| sent.body == "question").unwrap();
    assert_eq!((asked.code, &*asked.properties["msgType"]), (request::SEND_MESSAGE_V2, "persistent"));
    assert!(asked.properties["TTL"].parse::<u64>().unwrap() <= 10_000);
    let id = &asked.properties["RR_REQUEST_UNIQ_ID"];
    assert!(id.starts_with("w/") && id.len() == 38 && id.as_bytes()[16] == b'4', "{id}");
    let leaks = ["WEFT_REPLY_TO", "WEFT_CORRELATION"];
    assert!(leaks.iter().all(|name| !asked.properties.contains_key(*name)), "{asked:?}");
    assert!(!sent.iter().any(|sent| sent.body != "question" && sent.properties.contains_key("REPLY_TO")));
    running.until_acked(3).await;

    broker.push_reply(&asked.properties["REPLY_TO"], id, "answer");
    running.until_published(1).await;
    let reply = running.hub.published().remove(0);
    assert_eq!((reply.event.topic().as_str(), &reply.event.data()[..]), ("dev/answers", &b"answer"[..]));
    assert_eq!(reply.guarantee, Guarantee::AtLeastOnce);
    let meta = reply.event.meta().unwrap();
    assert_eq!(meta.correlation.as_deref(), Some(&b"\x00\xff7"[..]));
    assert_eq!(meta.user, [("city".into(), "Rome".into())]);

    // The second reply to one request, and one to nothing.
    broker.push_reply(&asked.properties["REPLY_TO"], id, "again");
    broker.push_reply(&asked.properties["REPLY_TO"], "w/unknown", "what");
    running.hub.inject("dev", publish(request_event("out/a", "next", "$reply/x", b"1")));
    let next = broker.until_sent(4).await.remove(3);
    broker.push_reply(&next.properties["REPLY_TO"], &next.properties["RR_REQUEST_UNIQ_ID"], "last");
    running.until_published(2).await;
    let bodies: Vec<Bytes> = running.hub.published().iter().map(|p| p.event.data().clone()).collect();
    assert_eq!(bodies, ["answer", "last"]);
    assert_eq!(running.hub.published()[1].guarantee, Guarantee::AtMostOnce);
}

#[tokio::test]
async fn a_request_that_is_late_is_not_sent_and_a_reply_that_is_late_not_published() {
    let broker = FakeDefibus::start().await;
    let running = Running::bridge(&ClusterOptions { reply_ms: 300, ..cluster(&broker) });
    running.until_subscribed().await;
    // It has waited longer than anyone waits for its reply.
    let mut old = request_event("out/a", "old", "dev/answers", b"1").parts().clone();
    old.received_ms = now_ms() - 400;
    running.hub.inject("dev", publish(Event::new(old)));
    running.hub.inject("dev", publish(request_event("out/a", "young", "dev/answers", b"2")));
    let asked = broker.until_sent(1).await.remove(0);
    assert_eq!(asked.body, "young");
    running.until_acked(2).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    broker.push_reply(&asked.properties["REPLY_TO"], &asked.properties["RR_REQUEST_UNIQ_ID"], "too late");
    running.hub.inject("dev", publish(request_event("out/a", "next", "dev/answers", b"3")));
    let next = broker.until_sent(2).await.remove(1);
    broker.push_reply(&next.properties["REPLY_TO"], &next.properties["RR_REQUEST_UNIQ_ID"], "in time");
    running.until_published(1).await;
    assert_eq!(running.hub.published()[0].event.data(), "in time");
}

#[tokio::test]
async fn a_reply_goes_only_where_the_bridge_may_publish() {
    let broker = FakeDefibus::start().await;
    let reply_topics = vec![TopicFilter::parse("answers/#").unwrap()];
    let running = Running::bridge(&ClusterOptions { reply_topics, requests_max: 2, ..cluster(&broker) });
    running.until_subscribed().await;
    for (body, to) in
        [("a", "alarms/x"), ("b", "answers/x"), ("c", "$reply/y"), ("d", "answers/one-too-many")]
    {
        running.hub.inject("dev", publish(request_event("out/a", body, to, b"1")));
    }
    running.until_acked(4).await;
    let sent: Vec<String> = broker.sent().into_iter().map(|sent| sent.body).collect();
    assert_eq!(sent, ["b", "c"]);
}

#[tokio::test]
async fn brokers_without_our_topics_may_push_replies() {
    let (broker, other) = (FakeDefibus::start().await, FakeDefibus::named("broker-b", "SZ-defibus").await);
    broker.knows(&other, false);
    let running = Running::bridge(&cluster(&broker));
    running.until_subscribed().await;
    running.hub.inject("dev", publish(request_event("out/a", "question", "dev/answers", b"1")));
    let asked = broker.until_sent(1).await.remove(0);
    other
        .until_asked(|asked| asked.iter().any(|command| command.code == request::HEART_BEAT).then_some(()))
        .await;
    other.push_reply(&asked.properties["REPLY_TO"], &asked.properties["RR_REQUEST_UNIQ_ID"], "from there");
    running.until_published(1).await;
    // It is no broker of ours: its end is no outage.
    running.until_health(|reason| reason.is_none()).await;
    drop(other);
    // The next beats are to both, and what they find is told before those behind them leave.
    let beats = broker.asked(request::HEART_BEAT).len();
    let further = |asked: &[Command]| {
        let count = asked.iter().filter(|command| command.code == request::HEART_BEAT).count();
        (count >= beats + 4).then_some(())
    };
    broker.until_asked(further).await;
    running.until_health(|reason| reason.is_none()).await;
}

#[tokio::test]
async fn a_request_from_there_is_answered_once_by_the_first_answer_here() {
    let broker = FakeDefibus::start().await;
    let running = Running::bridge(&cluster(&broker));
    running.until_replier().await;
    broker.store(0, &asking("w/1", "3000"), "question", Duration::ZERO);
    running.until_published(1).await;
    let asked = running.hub.published().remove(0);
    assert_eq!((asked.event.topic().as_str(), &asked.event.data()[..]), ("in", &b"question"[..]));
    let left = asked.event.parts().expires_ms.saturating_sub(now_ms());
    assert!((1..=3000).contains(&left), "{left}");
    let meta = asked.event.meta().unwrap().clone();
    let (to, correlation) = (meta.reply_to.unwrap(), meta.correlation.unwrap());
    assert!(to.as_str().starts_with("$reply/") && to.as_str().len() == 39, "{to}");
    // Nothing of DeFiBus is left for whoever reads it.
    assert_eq!(meta.user, [("city".into(), "Rome".into())]);

    for (body, correlation) in [("guessed", &b"1"[..]), ("answer", &correlation), ("second", &correlation)] {
        running.hub.inject("service", publish(answer_event(to.as_str(), body, correlation)));
    }
    let sent = broker.until_sent(1).await;
    let reply = &sent[0];
    assert_eq!(
        (reply.code, &*reply.topic, reply.queue),
        (theirs::SEND_DIRECT_V2, "GZ-defibus-rr-reply-topic", 0)
    );
    assert_eq!(reply.body, "answer");
    for (name, value) in [
        ("msgType", "reply"),
        ("RR_REQUEST_UNIQ_ID", "w/1"),
        ("REPLY_TO", "10.0.0.9@1#V1_0_0#GZ"),
        ("BROKER", "broker-a"),
        ("TTL", "3000"),
    ] {
        assert_eq!(reply.properties[name], value);
    }
    // The topic of replies cannot be guessed, and is not told.
    assert!(!reply.properties.values().any(|value| value.contains("$reply")), "{reply:?}");
    broker.store(0, &asking("w/2", "3000"), "next", Duration::ZERO);
    running.until_published(2).await;
    let next = running.hub.published().remove(1).event.meta().unwrap().clone();
    running
        .hub
        .inject("service", publish(answer_event(to.as_str(), "next answer", &next.correlation.unwrap())));
    let bodies: Vec<String> = broker.until_sent(2).await.into_iter().map(|sent| sent.body).collect();
    assert_eq!(bodies, ["answer", "next answer"]);
}

#[tokio::test]
async fn a_request_whose_time_is_over_is_dropped() {
    let broker = FakeDefibus::start().await;
    broker.store(0, &asking("w/1", "1000"), "old", Duration::from_secs(2));
    broker.store(0, &asking("w/2", "60000"), "young", Duration::from_secs(2));
    let running = Running::bridge(&cluster(&broker));
    running.until_published(1).await;
    assert_eq!(running.hub.published()[0].event.data(), "young");
}

#[tokio::test]
async fn only_so_many_requests_are_open() {
    let broker = FakeDefibus::start().await;
    for n in 0..3 {
        broker.store(0, &asking(&format!("w/{n}"), "60000"), &n.to_string(), Duration::ZERO);
    }
    broker.store(0, &[("TTL", "60000")], "no request", Duration::ZERO);
    let running = Running::bridge(&ClusterOptions { requests_max: 2, ..cluster(&broker) });
    running.until_published(3).await;
    let bodies: Vec<Bytes> = running.hub.published().iter().map(|p| p.event.data().clone()).collect();
    assert_eq!(bodies, ["0", "1", "no request"]);
}

// ------------------------------------------------------- queues that come and go

#[tokio::test]
async fn a_notice_brings_new_queues_and_takes_old_ones() {
    let broker = FakeDefibus::start().await;
    let running = Running::bridge(&cluster(&broker));
    broker
        .until_asked(|asked| asked.iter().any(|command| command.code == request::PULL_MESSAGE).then_some(()))
        .await;
    broker.set_queues(2, true);
    let told = Instant::now();
    broker.store(1, &[], "in the new queue", Duration::ZERO);
    running.until_published(1).await;
    // Routes are looked up every second and more seldom without it.
    eprintln!("what is in a new queue came {:?} after the notice", told.elapsed());
    // A queue that is gone is let go, and no failure.
    broker.set_queues(1, true);
    broker.store(0, &[], "in the old one", Duration::ZERO);
    running.until_published(2).await;
    running.until_health(|reason| reason.is_none()).await;
}

#[tokio::test]
async fn a_locked_queue_is_asked_for_now_and_then() {
    let broker = FakeDefibus::start().await;
    for body in ["0", "1", "2", "3"] {
        broker.store(0, &[], body, Duration::ZERO);
    }
    broker.set_lock(0, Lock::Held);
    let running = Running::bridge(&cluster(&broker));
    let pulls = |count: usize| {
        move |asked: &[Command]| {
            let all: Vec<i64> = asked
                .iter()
                .filter(|command| command.code == request::PULL_MESSAGE)
                .map(|command| command.number("queueOffset").unwrap())
                .collect();
            (all.len() >= count).then_some(all)
        }
    };
    broker.until_asked(pulls(1)).await;
    let start = Instant::now();
    broker.until_asked(pulls(5)).await;
    assert!(start.elapsed() >= Duration::from_millis(600), "it spins: 4 pulls in {:?}", start.elapsed());
    // The holder committed 2 before it lost the queue.
    broker.set_lock(0, Lock::Given(2));
    running.until_published(2).await;
    let bodies: Vec<Bytes> = running.hub.published().iter().map(|p| p.event.data().clone()).collect();
    assert_eq!(bodies, ["2", "3"]);
}

#[tokio::test]
async fn queues_are_shared_with_members_of_the_same_idc() {
    let (gz, sz) = (FakeDefibus::start().await, FakeDefibus::named("broker-b", "SZ-defibus").await);
    gz.knows(&sz, true);
    gz.join("10.0.0.9@1#V1_0_0#GZ");
    sz.join("10.0.0.9@1#V1_0_0#GZ");
    let running = Running::bridge(&ClusterOptions { idc: Some("SZ".into()), ..cluster(&gz) });
    sz.store(0, &[], "ours", Duration::ZERO);
    running.until_published(1).await;
    assert!(gz.asked(request::PULL_MESSAGE).is_empty(), "the queue of GZ is the other member's");
    // What is sent stays near, too.
    running.until_subscribed().await;
    for n in 0..20 {
        running.hub.inject("dev", publish(plain(&format!("out/{n}"), "x")));
    }
    running.until_acked(20).await;
    assert_eq!((gz.sent().len(), sz.sent().len()), (0, 20));
    // Unless nobody near takes it.
    sz.set_full(0, true);
    running.hub.inject("dev", publish(plain("out/1", "far")));
    assert_eq!(gz.until_sent(1).await[0].body, "far");
}

#[tokio::test]
async fn a_queue_that_is_full_is_avoided() {
    let broker = FakeDefibus::start().await;
    broker.set_queues(2, false);
    broker.set_full(0, true);
    let running = Running::bridge(&cluster(&broker));
    running.until_subscribed().await;
    for n in 0..20 {
        running.hub.inject("dev", publish(plain(&format!("out/{n}"), &n.to_string())));
    }
    running.until_acked(20).await;
    let sent: Vec<Sent> = broker.sent();
    assert!(sent.iter().all(|sent| sent.queue == 1), "{sent:?}");
    running.until_health(|reason| reason.is_none()).await;
    let refused =
        broker.asked(request::SEND_MESSAGE_V2).len() + broker.asked(request::SEND_BATCH_MESSAGE).len();
    assert!(refused > 1);
}

#[tokio::test]
async fn when_all_queues_are_full_publishers_are_told_to_wait() {
    let broker = FakeDefibus::start().await;
    broker.set_full(0, true);
    let options = StoreOptions { topic: "In".into(), deadline_ms: 1000, ..StoreOptions::default() };
    let (store, running) = Running::store(&ClusterOptions { store: options, ..cluster(&broker) });
    let receipt = append(&store, &[plain("a", "1")]).await;
    running.until_health(|reason| reason.is_some_and(|reason| reason.contains("circuit break"))).await;
    let Outcome::Refused(reject) = timeout(PATIENCE, receipt).await.unwrap() else { panic!("it is full") };
    assert_eq!(reject.kind, RejectKind::Busy);
    broker.set_full(0, false);
    let receipt = append(&store, &[plain("a", "2")]).await;
    assert!(matches!(timeout(PATIENCE, receipt).await.unwrap(), Outcome::Kept | Outcome::Refused(_)));
    let receipt = append(&store, &[plain("a", "3")]).await;
    assert!(matches!(timeout(PATIENCE, receipt).await.unwrap(), Outcome::Kept));
    running.until_health(|reason| reason.is_none()).await;
}

// --------------------------------------------------------------------- helpers

struct Running {
    hub: FakeHub,
    health: Health,
    _stop: watch::Sender<bool>,
    _task: JoinHandle<()>,
}

impl Running {
    fn bridge(cluster: &ClusterOptions) -> Self {
        let (hub, health, stop) = (FakeHub::new(), Health::default(), watch::Sender::new(false));
        let bridge = BridgeOptions {
            cluster: "main".into(),
            out: vec![OutRule::new(TopicFilter::parse("out/#").unwrap(), "Out")],
            inward: vec![InRule { topic: "In".into(), tags: None, sql: None, to: "in".into() }],
            ..BridgeOptions::default()
        };
        let task = spawn_bridge(
            Kind::Defibus,
            "b",
            &bridge,
            cluster,
            Arc::new(hub.clone()),
            &health,
            stop.subscribe(),
        );
        Self { hub, health, _stop: stop, _task: task.unwrap() }
    }

    fn store(cluster: &ClusterOptions) -> (Store, Self) {
        let (hub, health, stop) = (FakeHub::new(), Health::default(), watch::Sender::new(false));
        let (store, ends) = event::store::store(cluster.waiting_max, 64);
        let task = spawn_store(
            Kind::Defibus,
            "s",
            cluster,
            ends.appends,
            Arc::new(hub.clone()),
            &health,
            stop.subscribe(),
        );
        (store, Self { hub, health, _stop: stop, _task: task.unwrap() })
    }

    async fn until_subscribed(&self) {
        self.until_subscribed_as(BRIDGE).await;
    }

    async fn until_replier(&self) {
        self.until_subscribed_as(&format!("{BRIDGE}/replies")).await;
    }

    async fn until_subscribed_as(&self, who: &str) {
        let found = self.hub.until(|calls| {
            let is_it = |call: &Call| matches!(call, Call::Subscribe { client, .. } if client == who);
            calls.iter().any(is_it).then_some(())
        });
        timeout(PATIENCE, found).await.unwrap();
    }

    async fn until_published(&self, count: usize) {
        let found = self.hub.until(|calls| {
            let batch = |call: &Call| if let Call::Publish { batch, .. } = call { batch.len() } else { 0 };
            (calls.iter().map(batch).sum::<usize>() >= count).then_some(())
        });
        let seen = || format!("{:?}, {:?}", self.health.parts(), self.hub.published());
        timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{}", seen()));
    }

    async fn until_acked(&self, count: usize) {
        let found = self.hub.until(|calls| {
            let acked = |call: &Call| {
                if let Call::Ack { client, numbers } = call
                    && client == BRIDGE
                {
                    return numbers.len();
                }
                0
            };
            (calls.iter().map(acked).sum::<usize>() >= count).then_some(())
        });
        timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{:?}", self.health.parts()));
    }

    async fn until_health(&self, is_it: impl Fn(Option<&str>) -> bool) {
        let look = async {
            while !is_it(self.health.parts()[0].1.as_deref()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{:?}", self.health.parts()));
    }
}

fn cluster(broker: &FakeDefibus) -> ClusterOptions {
    ClusterOptions {
        name_servers: vec![broker.addr.to_string()],
        store: StoreOptions { topic: "In".into(), ..StoreOptions::default() },
        ..ClusterOptions::default()
    }
}

/// The properties of a request of another client.
fn asking<'a>(id: &'a str, ttl: &'a str) -> [(&'a str, &'a str); 8] {
    [
        ("msgType", "persistent"),
        ("RR_REQUEST_UNIQ_ID", id),
        ("REPLY_TO", "10.0.0.9@1#V1_0_0#GZ"),
        ("TTL", ttl),
        ("CLUSTER", "GZ-defibus"),
        ("BROKER", "broker-a"),
        ("REDIRECT", "false"),
        ("city", "Rome"),
    ]
}

async fn append(store: &Store, events: &[Event]) -> Receipt {
    let entry = |event: &Event| Entry { event: Some(event.clone()), note: Bytes::new() };
    let (append, receipt) = Append::new(events.iter().map(entry).collect(), Durability::Remote);
    store.append(append).await;
    receipt
}

fn publish(event: Event) -> Publish {
    Publish { event, guarantee: Guarantee::AtLeastOnce, retain: false, id: None }
}

fn plain(topic: &str, body: &str) -> Event {
    static STAMP: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1 << 40);
    Event::new(Parts {
        topic: TopicName::parse(topic).unwrap(),
        data: Bytes::copy_from_slice(body.as_bytes()),
        stamp: STAMP.fetch_add(1, std::sync::atomic::Ordering::Relaxed),
        received_ms: now_ms(),
        expires_ms: 0,
        publisher: Arc::from("dev"),
        meta: None,
    })
}

fn request_event(topic: &str, body: &str, reply_to: &str, correlation: &'static [u8]) -> Event {
    let meta = Meta {
        reply_to: Some(TopicName::parse(reply_to).unwrap()),
        correlation: Some(Bytes::from_static(correlation)),
        ..Meta::default()
    };
    Event::new(Parts { meta: Some(Box::new(meta)), ..plain(topic, body).parts().clone() })
}

fn answer_event(topic: &str, body: &str, correlation: &[u8]) -> Event {
    let meta = Meta { correlation: Some(Bytes::copy_from_slice(correlation)), ..Meta::default() };
    Event::new(Parts { meta: Some(Box::new(meta)), ..plain(topic, body).parts().clone() })
}

fn cloud_event(expires_ms: u64) -> Event {
    let attributes = Attributes {
        id: "id 1".into(),
        source: "/sensors/ö".into(),
        ty: "com.example.read".into(),
        subject: Some("s".into()),
        time: Some("2026-01-02T03:04:05.678Z".into()),
        dataschema: None,
        extensions: vec![("seq".into(), Value::Integer(-7)), ("ok".into(), Value::Boolean(true))],
    };
    let meta = Meta {
        attributes: Some(attributes),
        content_type: Some("application/json".into()),
        reply_to: Some(TopicName::parse("answers/1").unwrap()),
        correlation: Some(Bytes::from_static(b"\x00\x01\x02")),
        user: vec![("msgType".into(), "mine".into()), ("TTL".into(), "mine too".into())],
        ..Meta::default()
    };
    Event::new(Parts { meta: Some(Box::new(meta)), expires_ms, ..plain("a/b", "{}").parts().clone() })
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64
}
