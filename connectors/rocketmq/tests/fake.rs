//! Both uses against a broker that is late, busy, deaf or gone, as no real one is on demand.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic, in its helpers too")]

#[path = "fake/bridges.rs"]
mod bridges;
#[path = "fake/broker.rs"]
mod broker;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bridges::spawn_bridge;
use broker::{Answer, FakeBroker};
use bytes::Bytes;
use event::hub::{Attach, Hub as _, Outcome, Publish, Receipt};
use event::store::{Append, Entry, Store};
use event::testing::{self, Call, FakeHub};
use event::{
    ByteLimit, Durability, Event, Guarantee, Health, Parts, Principal, Reject, RejectKind, TopicFilter,
    TopicName,
};
use remoting::code::{request, response};
use rocketmq::{
    BridgeOptions, ClusterOptions, InRule, Kind, OutRule, StoreOptions, Unconfirmed, spawn_store,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_receipt_waits_for_the_answer() {
    let broker = FakeBroker::start().await;
    broker.answer_next(Answer::Late);
    let (store, _running) = Running::store(&cluster(&broker));
    let mut receipt = append(&store, &["1"]).await;
    broker.until_sends(1).await;
    assert!(timeout(Duration::from_millis(50), &mut receipt).await.is_err());
    broker.release();
    assert!(matches!(outcome(receipt).await, Outcome::Kept));
}

#[tokio::test]
async fn what_fails_is_sent_again_before_what_is_behind_it() {
    let broker = FakeBroker::start().await;
    for failure in
        [Answer::Code(response::SYSTEM_BUSY), Answer::Close, Answer::Code(response::SERVICE_NOT_AVAILABLE)]
    {
        broker.answer_next(failure);
    }
    let (store, _running) = Running::store(&cluster(&broker));
    let first = append(&store, &["1"]).await;
    let second = append(&store, &["2", "3"]).await;
    assert!(matches!(outcome(first).await, Outcome::Kept));
    assert!(matches!(outcome(second).await, Outcome::Kept));
    let sends = broker.until_sends(4).await;
    assert!(sends.iter().all(|bodies| bodies.is_sorted()), "{sends:?}");
    assert!(sends[..4].iter().all(|bodies| bodies[0] == "1"), "{sends:?}");
    assert_eq!(sends.last().unwrap().last().unwrap(), "3");
}

#[tokio::test]
async fn an_illegal_message_is_refused_alone() {
    let broker = FakeBroker::start().await;
    broker.answer_next(Answer::Late);
    let (store, _running) = Running::store(&cluster(&broker));
    let first = append(&store, &["1"]).await;
    broker.until_sends(1).await;
    let batch = append(&store, &["2", "3", "4"]).await;
    // The batch, then 2 and 3 alone.
    for code in [response::MESSAGE_ILLEGAL, response::SUCCESS, response::MESSAGE_ILLEGAL] {
        broker.answer_next(Answer::Code(code));
    }
    broker.release();
    assert!(matches!(outcome(first).await, Outcome::Kept));
    let Outcome::Partly(refused) = outcome(batch).await else { panic!("one is illegal") };
    assert_eq!(
        refused.iter().map(|(place, reject)| (*place, reject.kind)).collect::<Vec<_>>(),
        [(1, RejectKind::Denied)]
    );
}

#[tokio::test]
async fn a_publisher_is_told_when_the_deadline_is_over() {
    let addr = unused().await;
    let mut cluster = ClusterOptions { name_servers: vec![addr], ..ClusterOptions::default() };
    cluster.store = StoreOptions { deadline_ms: 1000, ..StoreOptions::default() };
    let (store, running) = Running::store(&cluster);
    let receipt = append(&store, &["1", "2"]).await;
    let Outcome::Refused(reject) = outcome(receipt).await else { panic!("nobody is there") };
    assert_eq!(reject.kind, RejectKind::Unavailable);
    running.until_health(|reason| reason.is_some_and(|reason| reason.contains("cannot connect"))).await;
}

#[tokio::test]
async fn an_unconfirmed_event_is_sent_again_or_accepted() {
    for (unconfirmed, requests) in [(Unconfirmed::Resend, 2), (Unconfirmed::Accept, 1)] {
        let broker = FakeBroker::start().await;
        broker.answer_next(Answer::Code(response::FLUSH_DISK_TIMEOUT));
        let (store, _running) = Running::store(&ClusterOptions { unconfirmed, ..cluster(&broker) });
        assert!(matches!(outcome(append(&store, &["1"]).await).await, Outcome::Kept));
        assert_eq!(broker.until_sends(1).await.len(), requests);
    }
}

#[tokio::test]
async fn what_is_refused_for_long_becomes_a_dead_letter_that_is_kept_first() {
    for code in [response::NO_PERMISSION, response::TOPIC_NOT_EXIST, response::MESSAGE_ILLEGAL] {
        let broker = FakeBroker::start().await;
        let change = BridgeOptions { refused_s: 0, dead_letters: "lost".into(), ..BridgeOptions::default() };
        let running = Running::bridge_like(FakeHub::new(), &cluster(&broker), change);
        running.until_subscribed().await;
        running.hub.answer(testing::Answer::Late);
        broker.answer_next(Answer::Code(code));
        running.hub.inject("dev", publish("out/x", "refused"));
        running.until_published(1).await;
        let letter = running.hub.published().remove(0).event;
        assert_eq!((letter.topic().as_str(), &**letter.data()), ("lost/b/out/x", &b"refused"[..]));
        let told = |name: &str| letter.meta().unwrap().user.iter().find(|(known, _)| known == name).cloned();
        assert_eq!(told("deadlettertopic").unwrap().1, "out/x");
        assert!(told("deadletterreason").unwrap().1.contains(&format!("code {code}")), "{:?}", letter.meta());
        running.hub.inject("dev", publish("out/x", "taken"));
        running.until_acked(1).await;
        assert_eq!(running.hub.acked("$bridge/rocketmq/b").len(), 1, "the dead letter is not kept yet");
        running.hub.release_late();
        running.until_acked(2).await;
        assert_eq!(broker.until_sends(2).await.concat(), ["refused", "taken"]);
    }
}

/// An outage is no refusal, however long it lasts.
#[tokio::test]
async fn what_gets_no_answer_is_sent_again_and_becomes_no_dead_letter() {
    let broker = FakeBroker::start().await;
    let change = BridgeOptions { refused_s: 0, ..BridgeOptions::default() };
    let running = Running::bridge_like(FakeHub::new(), &cluster(&broker), change);
    running.until_subscribed().await;
    for answer in [Answer::Close, Answer::Code(response::SYSTEM_BUSY), Answer::Close] {
        broker.answer_next(answer);
    }
    running.hub.inject("dev", publish("out/x", "1"));
    running.until_acked(1).await;
    assert_eq!(broker.until_sends(4).await.concat(), ["1", "1", "1", "1"]);
    assert!(running.hub.published().is_empty());
}

/// Weft starts while all brokers are gone, and name servers have forgotten their topics.
#[tokio::test]
async fn a_topic_whose_brokers_are_all_gone_is_not_refused() {
    let broker = FakeBroker::start().await;
    broker.unregister(true);
    let change = BridgeOptions { refused_s: 0, ..BridgeOptions::default() };
    let running = Running::bridge_like(FakeHub::new(), &cluster(&broker), change);
    running.until_subscribed().await;
    running.hub.inject("dev", publish("out/x", "1"));
    running.until_health(|reason| reason.is_some_and(|reason| reason.contains("knows no broker"))).await;
    broker.unregister(false);
    running.until_acked(1).await;
    assert_eq!(broker.until_sends(1).await, [["1"]]);
    assert!(running.hub.published().is_empty());
}

#[tokio::test]
async fn a_topic_that_nobody_creates_is_told() {
    let broker = FakeBroker::start().await;
    broker.forget_topics();
    let running = Running::bridge(&cluster(&broker));
    running
        .until_health(|reason| reason.is_some_and(|reason| reason.contains("autoCreateTopicEnable")))
        .await;
}

#[tokio::test]
async fn a_route_that_name_servers_forget_is_used_on() {
    let broker = FakeBroker::start().await;
    let (store, running) = Running::store(&cluster(&broker));
    assert!(matches!(outcome(append(&store, &["1"]).await).await, Outcome::Kept));
    broker.forget_topics();
    // Its route is doubted after a failure.
    broker.answer_next(Answer::Close);
    assert!(matches!(outcome(append(&store, &["2"]).await).await, Outcome::Kept));
    running.until_health(|reason| reason.is_none()).await;
}

#[tokio::test]
async fn a_queue_that_works_again_is_said_to_before_something_comes() {
    let broker = FakeBroker::start().await;
    broker.refuse_pulls(Some(response::SYSTEM_BUSY));
    let running = Running::bridge(&cluster(&broker));
    running.until_health(|reason| reason.is_some_and(|reason| reason.contains("answers code 2"))).await;
    broker.refuse_pulls(None);
    running.until_health(|reason| reason.is_none()).await;
    broker.store("one");
    running.until_published(1).await;
}

#[tokio::test]
async fn what_is_published_when_weft_stops_is_committed() {
    let broker = FakeBroker::start().await;
    broker.store("one");
    let hub = FakeHub::new();
    hub.answer_next(testing::Answer::Late);
    let running = Running::bridge_of(hub, &cluster(&broker));
    running.until_published(1).await;
    running.stop.send(true).unwrap();
    running.hub.release_late();
    broker.until_committed(1).await;
    timeout(PATIENCE, running.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_bridge_acks_after_the_answer_and_in_each_topic_in_order() {
    let broker = FakeBroker::start().await;
    broker.answer_next(Answer::Late);
    let running = Running::bridge(&cluster(&broker));
    running.until_subscribed().await;
    running.hub.inject("dev", publish("out/a", "1"));
    broker.until_sends(1).await;
    running.hub.inject("dev", publish("out/a", "2"));
    running.hub.inject("dev", publish("out/a", "3"));
    assert_eq!(running.hub.acked("$bridge/rocketmq/b"), Vec::<u64>::new());
    broker.release();
    assert_eq!(broker.until_sends(2).await, [vec!["1"], vec!["2", "3"]]);
    running.until_acked(3).await;
}

/// A backlog that is larger than what waits to be sent; what is published now goes past it, and once.
#[tokio::test]
async fn with_a_share_what_is_published_does_not_wait_for_the_backlog() {
    let broker = FakeBroker::start().await;
    broker.answer_next(Answer::Late);
    let change = BridgeOptions { live_share: 50, ..BridgeOptions::default() };
    let cluster = ClusterOptions { waiting_max: ByteLimit::kib(64), ..cluster(&broker) };
    let running = Running::bridge_like(FakeHub::new(), &cluster, change);
    running.until_subscribed().await;
    for n in 0..400 {
        running.hub.inject("dev", publish("out/x", &format!("{n:<1000}")));
    }
    let own = "$bridge/rocketmq/b";
    let live =
        |call: &Call| matches!(call, Call::Subscribe { client, .. } if client == "$bridge/rocketmq/b/live");
    running.until(|calls| calls.iter().any(live)).await;
    broker.until_sends(1).await;
    running.hub.inject("dev", publish_now("out/x", "new"));
    let mut brought_in = publish_now("out/x", "brought in by the bridge");
    brought_in.event = Event::new(Parts { publisher: own.into(), ..brought_in.event.parts().clone() });
    running.hub.inject(own, brought_in);
    broker.release();
    running.until_acked(401).await;
    let mut sent: Vec<String> = broker.until_sends(3).await.concat();
    let new = sent.iter().position(|body| body == "new").unwrap();
    assert!(new < 200, "it was sent behind {new} others");
    sent.remove(new);
    let old: Vec<usize> = sent.iter().map(|body| body.trim().parse().unwrap()).collect();
    assert_eq!(old, (0..400).collect::<Vec<_>>(), "the backlog is in order, and all is sent once");
    let mut acked = running.hub.acked(own);
    acked.sort_unstable();
    assert_eq!(acked, (0..401).collect::<Vec<u64>>());
    // The backlog is gone, and the second session with it.
    let gone =
        |call: &Call| matches!(call, Call::Close { client, .. } if client == "$bridge/rocketmq/b/live");
    while !running.hub.calls().iter().any(gone) {
        let acked = running.hub.acked(own).len();
        running.hub.inject("dev", publish_now("out/x", "newer"));
        running.until_acked(acked + 1).await;
    }
}

#[tokio::test]
async fn a_bridge_that_lost_its_session_takes_it_up_again() {
    let broker = FakeBroker::start().await;
    let running = Running::bridge(&cluster(&broker));
    running.until_subscribed().await;
    running.hub.end("$bridge/rocketmq/b", event::hub::Closed::Ended);
    running.hub.inject("dev", publish("out/a", "1"));
    assert_eq!(broker.until_sends(1).await, [["1"]]);
    running.until_acked(1).await;
}

#[tokio::test]
async fn an_offset_is_committed_when_the_hub_has_kept_what_is_before_it() {
    let broker = FakeBroker::start().await;
    broker.store("one");
    broker.store("two");
    let hub = FakeHub::new();
    hub.answer_next(testing::Answer::Refused(Reject::new(RejectKind::Busy, "full")));
    hub.answer_next(testing::Answer::Late);
    let running = Running::bridge_of(hub, &cluster(&broker));
    // Refused once, and published again.
    running.until_published(2).await;
    assert_eq!(broker.commits(), Vec::<i64>::new());
    running.hub.release_late();
    running.until_published(3).await;
    assert_eq!(broker.until_committed(2).await[..2], [1, 2]);
    let bodies: Vec<Bytes> =
        running.hub.published().iter().map(|publish| publish.event.data().clone()).collect();
    assert_eq!(bodies, ["one", "one", "two"]);
}

#[tokio::test]
async fn what_the_hub_denies_is_given_back_and_does_not_stop_the_others() {
    let broker = FakeBroker::start().await;
    for body in ["one", "two", "three"] {
        broker.store(body);
    }
    let hub = FakeHub::new();
    hub.answer_next(testing::Answer::Refused(Reject::new(RejectKind::Denied, "not now")));
    hub.answer_next(testing::Answer::Refused(Reject::new(RejectKind::Malformed, "never")));
    let running = Running::bridge_of(hub, &cluster(&broker));
    running.until_published(3).await;
    broker.until_committed(3).await;
    // Level 0: it comes again when the broker thinks fit; -1: it is a dead letter.
    assert_eq!(broker.until_returned(2).await, [(1000, 0), (1001, -1)]);
}

#[tokio::test]
async fn in_order_a_denied_message_is_tried_again_before_those_behind_it() {
    let broker = FakeBroker::start().await;
    broker.store("one");
    broker.store("two");
    let hub = FakeHub::new();
    for _ in 0..2 {
        hub.answer_next(testing::Answer::Refused(Reject::new(RejectKind::Denied, "no")));
    }
    let change = BridgeOptions { ordered: true, retries: 1, ..BridgeOptions::default() };
    let running = Running::bridge_like(hub, &cluster(&broker), change);
    running.until_published(3).await;
    assert_eq!(running.bodies(), ["one", "one", "two"]);
    assert_eq!(broker.until_returned(1).await, [(1000, -1)]);
}

#[tokio::test]
async fn a_queue_is_given_up_when_another_member_comes_and_taken_when_it_leaves() {
    let broker = FakeBroker::start().await;
    broker.join("a");
    let running = Running::bridge(&cluster(&broker));
    // "a" is before "weft": the first of the two queues is its own.
    broker.store_in(1, "ours");
    running.until_published(1).await;
    broker.store_in(0, "its");
    broker.store_in(1, "ours again");
    running.until_published(2).await;
    assert_eq!(running.bodies(), ["ours", "ours again"]);
    broker.part("a");
    running.until_published(3).await;
    broker.until_committed(1).await;

    // What is on its way is finished and committed before the queue is let go.
    running.hub.answer_next(testing::Answer::Late);
    broker.store_in(0, "last");
    running.until_published(4).await;
    broker.join("b");
    running.hub.release_late();
    broker.until_asked(request::UPDATE_CONSUMER_OFFSET).await;
    broker.until_committed(2).await;
}

#[tokio::test]
async fn a_group_whose_members_are_not_told_is_trouble() {
    let broker = FakeBroker::start().await;
    broker.hide_members(true);
    let running = Running::bridge(&cluster(&broker));
    running.until_health(|reason| reason.is_some_and(|reason| reason.contains("code 16"))).await;
    broker.hide_members(false);
    running.until_health(|reason| reason.is_none()).await;
}

#[tokio::test]
async fn a_store_takes_every_queue_and_tells_of_others_in_its_group() {
    let broker = FakeBroker::start().await;
    broker.join("a");
    let (_store, running) = Running::store(&cluster(&broker));
    broker.store_in(0, "one");
    broker.store_in(1, "two");
    running.until_published(2).await;
    running.until_health(|reason| reason.is_some_and(|reason| reason.contains("node of its own"))).await;
    broker.part("a");
    running.until_health(|reason| reason.is_none()).await;
}

#[tokio::test]
async fn a_shared_subscription_consumes_while_it_has_members_and_commits_what_they_acknowledged() {
    let broker = FakeBroker::start().await;
    let cluster = ClusterOptions { node: Some("a".into()), ..cluster(&broker) };
    let (_store, running) = Running::store(&cluster);
    broker.store("1");
    running.until_published(1).await;
    running.hub.answer(testing::Answer::Late);
    let group = TopicFilter::parse("$share/workers/#").unwrap();
    running.hub.set_groups([group.clone()].into());
    let fed = |call: &&Call| matches!(call, Call::Publish { client, .. } if client == group.as_str());
    let until_fed = |count| running.until(move |calls| calls.iter().filter(fed).count() >= count);
    until_fed(1).await;
    // Its place is known before anything is acknowledged, and pulls go on.
    broker.until_committed_by("workers", 0).await;
    broker.store("2");
    until_fed(2).await;
    assert!(broker.committed_by("workers").iter().all(|offset| *offset == 0));
    running.hub.release_late();
    broker.until_committed_by("workers", 2).await;

    // What members have by then does not move the offset that somebody set.
    broker.store("3");
    until_fed(3).await;
    broker.set_offset("workers", 1);
    until_fed(4).await;
    broker.until_committed_by("workers", 1).await;
    running.hub.set_groups([].into());
    broker.until_asked(request::UNREGISTER_CLIENT).await;
}

#[tokio::test]
async fn shared_subscriptions_beyond_the_limit_are_told_of() {
    let broker = FakeBroker::start().await;
    let mut cluster = ClusterOptions { node: Some("a".into()), ..cluster(&broker) };
    cluster.store.groups_max = 1;
    let (_store, running) = Running::store(&cluster);
    let groups = |names: &[&str]| {
        let filters = names.iter().map(|name| TopicFilter::parse(format!("$share/{name}/#")).unwrap());
        running.hub.set_groups(filters.collect());
    };
    groups(&["first", "second"]);
    running.until_health(|reason| reason.is_some_and(|reason| reason.contains("groups_max"))).await;
    assert!(broker.committed_by("second").is_empty());
    groups(&["second"]);
    running.until_health(|reason| reason.is_none()).await;
    broker.until_committed_by("second", 0).await;
}

#[tokio::test]
async fn a_queue_is_consumed_in_order_under_its_lock_only() {
    let broker = FakeBroker::start().await;
    broker.lock_queues(true);
    broker.store("one");
    let change = BridgeOptions { ordered: true, ..BridgeOptions::default() };
    let running = Running::bridge_like(FakeHub::new(), &cluster(&broker), change);
    broker.until_asked(request::LOCK_BATCH_MQ).await;
    running.until_health(|reason| reason.is_none()).await;
    assert_eq!(running.bodies(), [""; 0]);
    broker.lock_queues(false);
    running.until_published(1).await;
    broker.until_committed(1).await;
    running.stop.send(true).unwrap();
    broker.until_asked(request::UNLOCK_BATCH_MQ).await;
}

#[tokio::test]
async fn nothing_is_pulled_while_too_much_is_not_kept() {
    let broker = FakeBroker::start().await;
    let hub = FakeHub::new();
    hub.answer_next(testing::Answer::Late);
    let limited = ClusterOptions { pulled_max: ByteLimit::mib(1), ..cluster(&broker) };
    let running = Running::bridge_of(hub, &limited);
    broker.store_in(0, &"x".repeat(2 << 20));
    running.until_published(1).await;
    // Longer than a pull that is out already is held.
    timeout(Duration::from_millis(500), std::future::pending::<()>()).await.unwrap_err();
    let pulls = broker.asked().iter().filter(|code| **code == request::PULL_MESSAGE).count();
    broker.store_in(1, "small");
    timeout(Duration::from_millis(300), std::future::pending::<()>()).await.unwrap_err();
    assert_eq!(broker.asked().iter().filter(|code| **code == request::PULL_MESSAGE).count(), pulls);
    running.hub.release_late();
    running.until_published(2).await;
}

#[tokio::test]
async fn pulls_go_to_the_replica_that_a_broker_suggests() {
    let (master, replica) = (FakeBroker::start().await, FakeBroker::start().await);
    master.suggest(replica.addr);
    replica.suggest(replica.addr);
    master.store("from the master");
    let running = Running::bridge(&cluster(&master));
    running.until_published(1).await;
    replica.until_asked(request::PULL_MESSAGE).await;
    // The replica has what its master had.
    replica.store("from the master");
    replica.store("from the replica");
    running.until_published(2).await;
    assert_eq!(running.bodies(), ["from the master", "from the replica"]);
    // Offsets are the master's affair.
    master.until_committed(2).await;
    // One that is gone is left for the master.
    drop(replica);
    master.store("from the replica");
    master.store("from the master again");
    running.until_published(3).await;
}

#[tokio::test]
async fn name_servers_are_asked_in_turn() {
    // Takes connections, and says nothing.
    let deaf = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for first in [unused().await, deaf.local_addr().unwrap().to_string()] {
        let broker = FakeBroker::start().await;
        let name_servers = vec![first, broker.addr.to_string()];
        let options = ClusterOptions { name_servers, ..ClusterOptions::default() };
        let (store, running) = Running::store(&options);
        assert!(matches!(outcome(append(&store, &["1"]).await).await, Outcome::Kept));
        running.until_health(|reason| reason.is_none()).await;
        // The route is asked for anew, and the next time at the one that answers.
        broker.answer_next(Answer::Close);
        assert!(matches!(outcome(append(&store, &["2"]).await).await, Outcome::Kept));
        running.until_health(|reason| reason.is_none()).await;
    }
}

#[tokio::test]
async fn what_waits_has_a_limit() {
    let addr = unused().await;
    let waiting_max = ByteLimit::kib(64);
    let cluster = ClusterOptions { name_servers: vec![addr], waiting_max, ..ClusterOptions::default() };
    let running = Running::bridge(&cluster);
    running.until_subscribed().await;
    let large = "x".repeat(1000);
    let event = publish("out/a", &large);
    for _ in 0..1000 {
        running.hub.inject("dev", event.clone());
    }
    // Time to take more than it should, if it did.
    timeout(Duration::from_millis(200), std::future::pending::<()>()).await.unwrap_err();
    let request = Attach { keep: Duration::MAX, ..Attach::default() };
    let mut session = running.hub.attach(Principal::anonymous("$bridge/rocketmq/b"), request).await.unwrap();
    let mut deliveries = Vec::new();
    testing::take_deliveries(session.link.as_mut(), 1000, &mut deliveries).await.unwrap();
    let taken = deliveries.iter().filter(|delivery| delivery.again).count();
    assert!((1..=64).contains(&taken), "{taken} of 1000 taken");
}

// -------------------------------------------------------------- helpers

/// A bridge or store at work. Ends when it is dropped.
struct Running {
    hub: FakeHub,
    health: Health,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    fn store(cluster: &ClusterOptions) -> (Store, Self) {
        let (store, ends) = event::store::store(ByteLimit::mib(1), 64);
        let (hub, health, (stop, drain)) = (FakeHub::new(), Health::default(), watch::channel(false));
        let task =
            spawn_store(Kind::RocketMq, "s", cluster, ends.appends, Arc::new(hub.clone()), &health, drain)
                .unwrap();
        (store, Self { hub, health, stop, task })
    }

    fn bridge(cluster: &ClusterOptions) -> Self {
        Self::bridge_of(FakeHub::new(), cluster)
    }

    fn bridge_of(hub: FakeHub, cluster: &ClusterOptions) -> Self {
        Self::bridge_like(hub, cluster, BridgeOptions::default())
    }

    fn bridge_like(hub: FakeHub, cluster: &ClusterOptions, change: BridgeOptions) -> Self {
        let bridge = BridgeOptions {
            cluster: "main".into(),
            out: vec![OutRule::new(TopicFilter::parse("out/#").unwrap(), "Out")],
            inward: vec![InRule { topic: "In".into(), tags: None, sql: None, to: "in".into() }],
            ..change
        };
        let (health, (stop, drain)) = (Health::default(), watch::channel(false));
        let task = spawn_bridge(Kind::RocketMq, "b", &bridge, cluster, Arc::new(hub.clone()), &health, drain)
            .unwrap();
        Self { hub, health, stop, task }
    }

    async fn until_subscribed(&self) {
        self.until(|calls| calls.iter().any(|call| matches!(call, Call::Subscribe { .. }))).await;
    }

    async fn until_published(&self, batches: usize) {
        let count = |calls: &[Call]| calls.iter().filter(|call| matches!(call, Call::Publish { .. })).count();
        self.until(|calls| count(calls) >= batches).await;
    }

    /// What was published, in order.
    fn bodies(&self) -> Vec<String> {
        let text = |publish: &Publish| String::from_utf8(publish.event.data().to_vec()).unwrap();
        self.hub.published().iter().map(text).collect()
    }

    async fn until_acked(&self, count: usize) {
        let acked = |call: &Call| if let Call::Ack { numbers, .. } = call { numbers.len() } else { 0 };
        self.until(|calls| calls.iter().map(acked).sum::<usize>() >= count).await;
    }

    async fn until(&self, done: impl Fn(&[Call]) -> bool) {
        timeout(PATIENCE, self.hub.until(|calls| done(calls).then_some(()))).await.unwrap();
    }

    async fn until_health(&self, wanted: impl Fn(Option<&str>) -> bool) {
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        let until = async {
            while !self.health.parts().first().is_some_and(|(_, reason)| wanted(reason.as_deref())) {
                tick.tick().await;
            }
        };
        assert!(timeout(PATIENCE, until).await.is_ok(), "{:?}", self.health.parts());
    }
}

fn cluster(broker: &FakeBroker) -> ClusterOptions {
    ClusterOptions { name_servers: vec![broker.addr.to_string()], ..ClusterOptions::default() }
}

/// An address where nobody listens.
async fn unused() -> String {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

async fn append(store: &Store, bodies: &[&str]) -> Receipt {
    let entry = |body: &&str| Entry { event: Some(publish("t", body).event), note: Bytes::new() };
    let (append, receipt) = Append::new(bodies.iter().map(entry).collect(), Durability::Remote);
    store.append(append).await;
    receipt
}

async fn outcome(receipt: Receipt) -> Outcome {
    timeout(PATIENCE, receipt).await.unwrap()
}

/// Published long ago.
fn publish(topic: &str, body: &str) -> Publish {
    publish_at(topic, body, 0)
}

fn publish_now(topic: &str, body: &str) -> Publish {
    publish_at(
        topic,
        body,
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64,
    )
}

fn publish_at(topic: &str, body: &str, received_ms: u64) -> Publish {
    static STAMPS: AtomicU64 = AtomicU64::new(1);
    let event = Event::new(Parts {
        topic: TopicName::parse(topic).unwrap(),
        data: Bytes::from(body.to_owned()),
        stamp: STAMPS.fetch_add(1, Ordering::Relaxed),
        received_ms,
        expires_ms: 0,
        publisher: Arc::from("dev"),
        meta: None,
    });
    Publish { event, guarantee: Guarantee::AtLeastOnce, retain: false, id: None }
}
