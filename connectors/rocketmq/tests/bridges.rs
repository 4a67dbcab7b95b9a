//! How bridges come, change and go.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic, in its helpers too")]

#[allow(dead_code, reason = "other tests use all of it")]
#[path = "fake/broker.rs"]
mod broker;
#[allow(dead_code, reason = "other tests use all of it")]
#[path = "fake/defibus.rs"]
mod defibus_broker;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use broker::{Answer, FakeBroker};
use bytes::Bytes;
use defibus_broker::FakeDefibus;
use event::hub::Publish;
use event::testing::{Call, FakeHub};
use event::{Event, Guarantee, Health, Parts, TopicFilter, TopicName};
use remoting::code::request;
use rocketmq::{BridgeOptions, Bridges, ClusterOptions, InRule, Kind, OutRule, StoreOptions};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);

struct Site {
    hub: FakeHub,
    bridges: Bridges,
    kind: Kind,
}

impl Site {
    fn new(kind: Kind) -> Self {
        let hub = FakeHub::new();
        let bridges = Bridges::new(Arc::new(hub.clone()), Health::default(), BTreeMap::new());
        Self { hub, bridges, kind }
    }

    fn session(&self) -> String {
        format!("$bridge/{}/b", self.kind.name())
    }

    fn turn(&mut self, bridge: Option<&BridgeOptions>, cluster: &ClusterOptions) {
        let wanted = bridge.map(|bridge| ("b".to_owned(), bridge.clone())).into_iter().collect();
        let plans = self.bridges.plan(&wanted, |_| Some((self.kind, cluster))).unwrap();
        self.bridges.follow(plans);
    }

    /// How often its session was taken up by then, and what it subscribed last.
    fn taken_up(&self) -> (usize, Vec<String>) {
        let (mut times, mut filters, session) = (0, Vec::new(), self.session());
        for call in self.hub.calls() {
            if let Call::Subscribe { client, wanted } = call
                && client == session
            {
                times += 1;
                filters = wanted.iter().map(|one| one.filter.as_str().to_owned()).collect();
            }
        }
        (times, filters)
    }

    async fn until_taken_up(&self, times: usize) {
        let session = self.session();
        let until = self.hub.until(|calls| {
            let ours = |call: &&Call| matches!(call, Call::Subscribe { client, .. } if *client == session);
            (calls.iter().filter(ours).count() >= times).then_some(())
        });
        timeout(LIMIT, until).await.unwrap();
    }

    /// Until its session ended with all that waits there.
    async fn until_over(&self) {
        let session = self.session();
        let ended = |calls: &[Call]| {
            let is = |call: &Call| matches!(call, Call::Close { client, how } if *client == session && how.keep == Some(Duration::ZERO));
            calls.iter().any(is).then_some(())
        };
        timeout(LIMIT, self.hub.until(ended)).await.unwrap();
    }

    async fn until_published(&self, body: &str) {
        let until = self.hub.until(|calls| {
            let has = |call: &Call| matches!(call, Call::Publish { batch, .. } if batch.iter().any(|one| one.event.data() == body.as_bytes()));
            calls.iter().any(has).then_some(())
        });
        timeout(LIMIT, until).await.unwrap();
    }

    async fn until_acked(&self, count: usize) {
        let until = self.hub.until(|calls| {
            let acked = |call: &Call| if let Call::Ack { numbers, .. } = call { numbers.len() } else { 0 };
            (calls.iter().map(acked).sum::<usize>() >= count).then_some(())
        });
        timeout(LIMIT, until).await.unwrap();
    }
}

fn bridge(filter: &str, topic: &str) -> BridgeOptions {
    let out = vec![OutRule::new(TopicFilter::parse(filter.to_owned()).unwrap(), topic)];
    BridgeOptions { cluster: "main".into(), out, ..BridgeOptions::default() }
}

fn cluster(server: SocketAddr) -> ClusterOptions {
    ClusterOptions { name_servers: vec![server.to_string()], ..ClusterOptions::default() }
}

fn publish(topic: &str, body: &str, stamp: u64) -> Publish {
    let event = Event::new(Parts {
        topic: TopicName::parse(topic.to_owned()).unwrap(),
        data: Bytes::from(body.to_owned()),
        stamp,
        received_ms: 0,
        expires_ms: 0,
        publisher: Arc::from("dev"),
        meta: None,
    });
    Publish { event, guarantee: Guarantee::AtLeastOnce, retain: false, id: None }
}

#[tokio::test]
async fn one_that_changed_goes_on_with_its_session_and_one_that_did_not_is_left_alone() {
    let broker = FakeBroker::start().await;
    let cluster = cluster(broker.addr);
    let mut site = Site::new(Kind::RocketMq);
    site.turn(Some(&bridge("a/#", "T")), &cluster);
    site.until_taken_up(1).await;
    // The broker has it and has not said so: it is heard out before the next settings hold.
    broker.answer_next(Answer::Late);
    site.hub.inject("dev", publish("a/x", "1", 1));
    broker.until_sends(1).await;
    site.turn(Some(&bridge("b/#", "T")), &cluster);
    assert_eq!(site.taken_up().0, 1);
    broker.release();
    site.until_taken_up(2).await;
    assert_eq!(site.hub.acked(&site.session()).len(), 1);
    assert_eq!(site.taken_up(), (2, vec!["b/#".to_owned()]));
    let left = |calls: &[Call]| {
        calls.iter().find_map(|call| {
            let Call::Unsubscribe { client, filters } = call else { return None };
            (*client == site.session()).then(|| filters.clone())
        })
    };
    let left = timeout(LIMIT, site.hub.until(left)).await.unwrap();
    assert_eq!(left, [TopicFilter::parse("a/#").unwrap()]);
    site.hub.inject("dev", publish("b/x", "2", 2));
    site.until_acked(2).await;
    assert_eq!(broker.until_sends(2).await.concat(), ["1", "2"]);

    // The store of the cluster is none of its business.
    let store = StoreOptions { topic: "Other".into(), ..StoreOptions::default() };
    site.turn(Some(&bridge("b/#", "T")), &ClusterOptions { store, ..cluster.clone() });
    site.hub.inject("dev", publish("b/x", "3", 3));
    site.until_acked(3).await;
    assert_eq!(site.taken_up().0, 2);
    // All else is.
    site.turn(Some(&bridge("b/#", "T")), &ClusterOptions { request_ms: 4000, ..cluster.clone() });
    site.until_taken_up(3).await;
    // So is what a file says.
    let secret = tempfile::NamedTempFile::new().unwrap();
    let keyed = ClusterOptions {
        access_key: Some("key".into()),
        secret_key_file: Some(secret.path().to_owned()),
        ..cluster.clone()
    };
    for (text, times) in [("one", 4), ("one", 4), ("two", 5)] {
        std::fs::write(secret.path(), text).unwrap();
        site.turn(Some(&bridge("b/#", "T")), &keyed);
        site.until_taken_up(times).await;
        assert_eq!(site.taken_up().0, times);
    }
    site.turn(None, &cluster);
    site.until_over().await;
    assert!(site.hub.sessions().is_empty());
}

/// Both ways; and one that goes to a cluster of another kind begins anew.
#[tokio::test]
async fn those_of_defibus_come_change_and_go_as_well() {
    let broker = FakeDefibus::start().await;
    let theirs = cluster(broker.addr);
    let mut site = Site::new(Kind::Defibus);
    site.turn(Some(&bridge("a/#", "Out")), &theirs);
    site.until_taken_up(1).await;
    site.hub.inject("dev", publish("a/x", "1", 1));
    site.until_acked(1).await;

    // Another filter, and another way: the same session.
    let inward = vec![InRule { topic: "In".into(), tags: None, sql: None, to: "in".into() }];
    let both = BridgeOptions { inward, ..bridge("b/#", "Out") };
    site.turn(Some(&both), &theirs);
    site.until_taken_up(2).await;
    assert_eq!(site.taken_up(), (2, vec!["b/#".to_owned()]));
    site.hub.inject("dev", publish("b/x", "2", 2));
    site.until_acked(2).await;
    let sent: Vec<String> = broker.until_sent(2).await.into_iter().map(|sent| sent.body).collect();
    assert_eq!(sent, ["1", "2"]);
    broker.store(0, &[], "3", Duration::ZERO);
    site.until_published("3").await;
    // The same settings leave it alone.
    site.turn(Some(&both), &theirs);
    site.hub.inject("dev", publish("b/x", "4", 4));
    site.until_acked(3).await;
    assert_eq!(site.taken_up().0, 2);

    let ours = FakeBroker::start().await;
    site.kind = Kind::RocketMq;
    site.turn(Some(&bridge("c/#", "T")), &cluster(ours.addr));
    site.until_taken_up(1).await;
    site.kind = Kind::Defibus;
    site.until_over().await;
    assert_eq!(site.hub.sessions(), ["$bridge/rocketmq/b"]);
    // Its clients said goodbye: nobody stays in a group.
    let left = broker.until_asked(|asked| {
        let left = asked.iter().filter(|command| command.code == request::UNREGISTER_CLIENT).count();
        (left >= 2).then_some(left)
    });
    assert_eq!(left.await, 2);
}

#[tokio::test]
async fn what_cannot_be_used_is_told_and_changes_nothing() {
    let broker = FakeBroker::start().await;
    let site = Site::new(Kind::RocketMq);
    let reason = |bridge: BridgeOptions, cluster: Option<&ClusterOptions>| {
        let wanted = BTreeMap::from([("b".to_owned(), bridge)]);
        let plans = site.bridges.plan(&wanted, |_| cluster.map(|cluster| (Kind::RocketMq, cluster)));
        plans.err().unwrap()
    };
    let cluster = cluster(broker.addr);
    let keyed = |secret: &Path| ClusterOptions {
        access_key: Some("key".into()),
        secret_key_file: Some(secret.to_owned()),
        ..cluster.clone()
    };
    let empty = tempfile::NamedTempFile::new().unwrap();
    for (reason, part) in [
        (reason(bridge("a", "T"), None), "no cluster main"),
        (reason(BridgeOptions::default(), Some(&cluster)), "neither out nor in rules"),
        (reason(bridge("a", "T"), Some(&keyed("/no/such/file".as_ref()))), "secret_key_file /no/such/file: "),
        (reason(bridge("a", "T"), Some(&keyed(empty.path()))), ": it is empty"),
    ] {
        assert!(reason.starts_with("bridge.b: ") && reason.contains(part), "{reason}");
    }
    assert!(site.hub.calls().is_empty());
}
