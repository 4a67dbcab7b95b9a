//! Two Wefts over one RocketMQ, and a group with members at both, over MQTT and EventMesh: each event comes to one of them, wherever
//! it was published. One Weft is killed with what a member has: the members at the other get that and all that follows.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::eventmesh::Peer;
use tests::raw::Client;
use tests::real::{RocketMq, Tool, needs};
use tests::util::free_address;
use tests::weft::Setup;
use tests::wire::{Ack, Connect, Packet, Publish, ack};
use tests::{Weft, eventually};
use tokio::task::JoinSet;
use tokio::time::interval;

/// Of the topic, and one of what the group gives back.
const QUEUES: f64 = 5.0;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_balanced_over_two_wefts_and_one_is_killed() {
    if !needs(&[Tool::Java]) {
        return;
    }
    let rocketmq = RocketMq::start("5.3.3").await;
    let (one, mesh_one) = node(&rocketmq, "a").await;
    let (mut two, mesh_two) = node(&rocketmq, "b").await;
    let writer = Arc::new(Writer::default());
    // Before there is a group: it begins behind it.
    writer.write(one.mqtt, 1).await;
    let (got, mut members) = (Arc::new(Arrivals::default()), JoinSet::new());
    got.join(&mut members, "one", one.mqtt, mesh_one).await;
    got.join(&mut members, "two", two.mqtt, mesh_two).await;
    until_shared(&one, &two).await;

    writer.write(one.mqtt, 200).await;
    writer.write(two.mqtt, 200).await;
    got.until_complete(1, writer.written()).await;
    let calm = writer.written();
    eprintln!("each of 400 events came once, as members of each kind and Weft have: {:?}", got.counts());
    assert_eq!(got.counts().values().sum::<usize>(), 400, "each event once");
    assert_eq!(got.counts().len(), 4, "each member has some");

    let load = tokio::spawn({
        let (writer, address) = (Arc::clone(&writer), one.mqtt);
        async move { writer.write(address, u64::MAX).await }
    });
    let before = got.of("two").len();
    eventually("the second Weft has its share of the load", || async {
        (got.of("two").len() > before + 200).then_some(())
    })
    .await;
    got.deaf.store(true, Ordering::SeqCst);
    eventually("a member there has some that it does not acknowledge", || async {
        (got.unacknowledged().len() > 20).then_some(())
    })
    .await;
    let killed = Instant::now();
    two.kill().await;
    let until = writer.written();
    got.until_complete(1, until).await;
    eprintln!("members at the other Weft had all that came before the kill {:?} after it", killed.elapsed());
    eventually("the load goes on", || async { (writer.written() > until + 100).then_some(()) }).await;
    writer.stop.store(true, Ordering::SeqCst);
    load.await.unwrap();
    let end = writer.written();
    got.until_complete(1, end).await;

    let (here, there) = (got.of("one"), got.of("two"));
    let distinct: BTreeSet<u64> = here.iter().copied().collect();
    assert_eq!(distinct.len(), here.len(), "nothing comes twice to members that are there all the time");
    let again: Vec<u64> = there.into_iter().filter(|n| distinct.contains(n)).collect();
    let held = got.unacknowledged().len();
    eprintln!("{held} were not acknowledged at the kill; {} were, and came again", again.len());
    assert!(again.iter().all(|n| *n >= calm), "acknowledged long before, and came again: {again:?}");

    // It comes back: what its log has of the group is no debt any more, and it has its share of what is new.
    got.deaf.store(false, Ordering::SeqCst);
    let before = got.of("two").len();
    two.launch();
    two.wait_ready().await;
    got.join(&mut members, "two", two.mqtt, mesh_two).await;
    until_shared(&one, &two).await;
    writer.stop.store(false, Ordering::SeqCst);
    writer.write(two.mqtt, 200).await;
    got.until_complete(end, end + 200).await;
    let new = |n: &u64| *n >= end;
    let (here, there) = (got.of("one"), got.of("two").split_off(before));
    assert!(there.iter().all(new), "old events at the one that came back: {there:?}");
    assert_eq!(here.iter().filter(|n| new(n)).count() + there.len(), 200, "each event once");
    assert!(!there.is_empty(), "it has its share");
}

/// A Weft with a store, and its address for clients of EventMesh.
async fn node(rocketmq: &RocketMq, name: &str) -> (Weft, SocketAddr) {
    let mesh = free_address();
    let config = format!(
        "[rocketmq.main]\nname_servers = [\"{}\"]\nnode = \"{name}\"\n[[route]]\ntopic = \"stored/#\"\nstore = \"main\"\n\
         [listener.mesh]\nlisten = \"{mesh}\"\nprotocol = \"eventmesh-tcp\"\n",
        rocketmq.name_server
    );
    let mut weft = Setup::new().config(config).start().await;
    weft.wait_ready().await;
    (weft, mesh)
}

/// Waits until each of two Wefts has a share of the group's queues.
async fn until_shared(one: &Weft, two: &Weft) {
    let series = "weft_rocketmq_consumed_queues{part=\"rocketmq/main/groups\"}";
    eventually("both have some of the group's queues", || async {
        let (one, two) = (one.series(series).await?, two.series(series).await?);
        (one >= 2.0 && two >= 2.0 && one + two == QUEUES).then_some(())
    })
    .await;
}

/// Publishes numbers.
#[derive(Default)]
struct Writer {
    next: AtomicU64,
    stop: AtomicBool,
}

impl Writer {
    /// How many were published and acknowledged.
    fn written(&self) -> u64 {
        self.next.load(Ordering::SeqCst)
    }

    async fn write(&self, address: SocketAddr, count: u64) {
        let (mut client, _) = Client::connect(address, &Connect::v5("writer")).await.unwrap();
        for _ in 0..count {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let n = self.written();
            let data = json!({ "n": n }).to_string();
            client.publish(Publish::new(&format!("stored/{}", n % 64), data, 1)).await.unwrap();
            self.next.store(n + 1, Ordering::SeqCst);
        }
    }
}

/// What members of the group got.
#[derive(Default)]
struct Arrivals {
    /// By the Weft and the protocol of the member.
    acknowledged: Mutex<Vec<(&'static str, &'static str, u64)>>,
    /// What the MQTT member at the second Weft had while it was deaf.
    held: Mutex<BTreeSet<u64>>,
    /// It does not acknowledge.
    deaf: AtomicBool,
}

impl Arrivals {
    /// Adds a member over MQTT and one of EventMesh, for as long as their Weft lives.
    async fn join(
        self: &Arc<Self>,
        members: &mut JoinSet<()>,
        weft: &'static str,
        mqtt: SocketAddr,
        mesh: SocketAddr,
    ) {
        let (mut client, _) = Client::connect(mqtt, &Connect::v5(weft).persistent()).await.unwrap();
        assert_eq!(client.subscribe(&[("$share/workers/stored/#", 1)]).await, [1]);
        members.spawn(Arc::clone(self).mqtt(client, weft));
        let peer = Peer::listen(mesh, "workers", "stored/#", "CLUSTERING", "ASYNC").await;
        members.spawn(Arc::clone(self).mesh(peer, weft));
    }

    async fn mqtt(self: Arc<Self>, mut client: Client, weft: &'static str) {
        while let Ok(Some(packet)) = client.recv_within(Duration::from_secs(3600)).await {
            let Packet::Publish(publish) = packet else { continue };
            let data: Value = serde_json::from_slice(&publish.payload).unwrap();
            let n = data["n"].as_u64().unwrap();
            if weft == "two" && self.deaf.load(Ordering::SeqCst) {
                self.held.lock().unwrap().insert(n);
                continue;
            }
            self.acknowledged.lock().unwrap().push((weft, "mqtt", n));
            if client.send(&ack(Ack::PubAck, publish.id)).await.is_err() {
                return;
            }
        }
    }

    async fn mesh(self: Arc<Self>, mut peer: Peer, weft: &'static str) {
        let mut beat = interval(Duration::from_secs(10));
        loop {
            let frame = tokio::select! {
                frame = peer.next_or_end() => frame,
                _ = beat.tick() => {
                    peer.send("HEARTBEAT_REQUEST", &json!({}), &Value::Null).await;
                    continue;
                }
            };
            let Some(frame) = frame else { return };
            if frame.cmd() != "ASYNC_MESSAGE_TO_CLIENT" {
                continue;
            }
            let data: Value = serde_json::from_str(frame.body["body"].as_str().unwrap()).unwrap();
            self.acknowledged.lock().unwrap().push((weft, "mesh", data["n"].as_u64().unwrap()));
            peer.ack(&frame).await;
        }
    }

    /// How many each member has.
    fn counts(&self) -> BTreeMap<(&'static str, &'static str), usize> {
        let mut counts = BTreeMap::new();
        for (weft, protocol, _) in &*self.acknowledged.lock().unwrap() {
            *counts.entry((*weft, *protocol)).or_default() += 1;
        }
        counts
    }

    /// What members at one Weft have.
    fn of(&self, weft: &str) -> Vec<u64> {
        let acknowledged = self.acknowledged.lock().unwrap();
        acknowledged.iter().filter(|(at, ..)| *at == weft).map(|(.., n)| *n).collect()
    }

    fn unacknowledged(&self) -> BTreeSet<u64> {
        self.held.lock().unwrap().clone()
    }

    /// Waits until members have all numbers from `first` to before `end`.
    async fn until_complete(&self, first: u64, end: u64) {
        eventually("the group has all that was written", || async {
            let got: BTreeSet<u64> = self.acknowledged.lock().unwrap().iter().map(|(.., n)| *n).collect();
            (first..end).all(|n| got.contains(&n)).then_some(())
        })
        .await;
    }
}
