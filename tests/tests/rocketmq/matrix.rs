//! The outage matrix: whatever ails a RocketMQ 5.3.3, as the store of a route and as a bridge, what Weft acknowledged is
//! delivered or accounted for, what it refuses is refused with the protocol's code, and everybody can see the trouble.
//!
//! One Weft and one broker go through all rows; each has topics of its own in the books.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use tests::actors::{self, Actor, Subscribing};
use tests::gate::Gate;
use tests::raw::Client;
use tests::real::{Received, RocketMq, Tool, needs};
use tests::weft::Setup;
use tests::wire::{Ack, Connect, Packet, Publish};
use tests::{Ledger, Promise, Weft, eventually};

/// What ails RocketMQ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outage {
    BrokerKilled,
    BrokerPaused,
    NetworkCut,
    NameServerGone,
    DiskFull,
    WrongKeys,
    Flapping,
    MissingTopic,
}

/// What publishers to the route hear meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Store {
    /// All is refused: 0x83, and 503 over HTTP.
    Refuses,
    /// All is kept.
    Keeps,
    /// Either.
    Both,
}

/// What becomes of what the bridge takes meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bridge {
    /// It waits in the log.
    Waits,
    /// It is a dead letter, as RocketMQ refuses it.
    Buries,
}

/// A broker looks at its disk from its second minute on, so whatever restarts it comes behind that. A topic that is missing takes
/// along what was in it, so it is the last one.
const MATRIX: [(Outage, Store, Bridge); 8] = [
    (Outage::BrokerPaused, Store::Refuses, Bridge::Waits),
    (Outage::NetworkCut, Store::Refuses, Bridge::Waits),
    (Outage::NameServerGone, Store::Keeps, Bridge::Waits),
    (Outage::Flapping, Store::Both, Bridge::Waits),
    (Outage::DiskFull, Store::Refuses, Bridge::Waits),
    (Outage::BrokerKilled, Store::Refuses, Bridge::Waits),
    (Outage::WrongKeys, Store::Refuses, Bridge::Waits),
    (Outage::MissingTopic, Store::Refuses, Bridge::Buries),
];

/// RocketMQ's topics: of the store, of the bridge.
const TOPICS: [&str; 2] = ["Stored", "Meters"];
/// Publishes of each phase and topic.
const COUNT: u64 = 20;
/// Where the broker listens; the gate is where name servers say that it is.
const BEHIND_THE_GATE: &str = "127.0.0.3";
const UNAVAILABLE: u8 = 0x83;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_ails_rocketmq_nothing_is_lost_and_everybody_can_see_it() {
    if !needs(&[Tool::Java]) {
        return;
    }
    let bind = format!("bindAddress={BEHIND_THE_GATE}");
    let options =
        ["--set", &bind, "--set", "autoCreateTopicEnable=false", "--set", "cleanResourceInterval=1000"];
    let rocketmq = RocketMq::start_with("5.3.3", &options).await;
    let at: SocketAddr = rocketmq.broker.parse().unwrap();
    let gate = Gate::start(at, format!("{BEHIND_THE_GATE}:{}", at.port()).parse().unwrap()).await;
    for topic in TOPICS {
        rocketmq.make_topic(topic).await;
    }
    let keys = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&keys, "weft-secret").unwrap();
    let config = format!(
        "[rocketmq.main]\nname_servers = [\"{}\"]\nrequest_ms = 2000\naccess_key = \"weft\"\nsecret_key_file = {:?}\n\
         [rocketmq.main.store]\ntopic = \"{}\"\ndeadline_ms = 1500\n[[route]]\ntopic = \"stored/#\"\nstore = \"main\"\n\
         [bridge.up]\ncluster = \"main\"\nrefused_s = 1\n[[bridge.up.out]]\nfilter = \"meters/#\"\ntopic = \"{}\"\n\
         [[bridge.up.in]]\ntopic = \"{}\"\nto = \"back/{{origin}}\"\n",
        rocketmq.name_server,
        keys.path(),
        TOPICS[0],
        TOPICS[1],
        TOPICS[1]
    );
    let mut table =
        Table { weft: Setup::new().config(config).start().await, rocketmq, gate, books: Ledger::new() };
    let readers = table.subscribe().await;
    for (outage, store, bridge) in MATRIX {
        if outage == Outage::MissingTopic {
            table.check_with_java("before").await;
        }
        table.row(outage, store, bridge).await;
    }
    for reader in readers {
        reader.finish().await;
    }
}

struct Table {
    weft: Weft,
    rocketmq: RocketMq,
    gate: Gate,
    books: Ledger,
}

impl Table {
    async fn row(&mut self, outage: Outage, store: Store, bridge: Bridge) {
        let (name, begun) = (format!("{outage:?}"), Instant::now());
        let topics = [format!("stored/{name}"), format!("meters/{name}")];
        let (sent, dead) = (self.count("sent").await, self.count("refused").await);
        self.until_all_is_kept(&topics, "before").await;

        if outage == Outage::MissingTopic {
            // With the topic goes what is in it.
            self.books.complete("stored", |topic| topic == topics[0]).await;
            self.books.complete("back", |topic| topic == topics[1]).await;
        }
        self.begin(outage).await;
        let ailing = Instant::now();
        let [stored, bridged] = match store {
            Store::Keeps => self.publish_until_kept(&topics, "during").await,
            Store::Refuses | Store::Both => self.publish(&topics, "during").await,
        };
        let refused = stored.iter().filter(|code| **code == UNAVAILABLE).count();
        let kept = stored.iter().filter(|code| **code < 0x80).count();
        assert_eq!(refused + kept, stored.len(), "{name}: the route answers {stored:x?}");
        match store {
            Store::Refuses => assert_eq!(kept, 0, "{name}: the route answers {stored:x?}"),
            Store::Keeps => assert_eq!(refused, 0, "{name}: the route answers {stored:x?}"),
            Store::Both => {}
        }
        assert!(bridged.iter().all(|code| *code < 0x80), "{name}: the bridge's log answers {bridged:x?}");
        if outage != Outage::Flapping {
            self.until_told(&name, ailing).await;
            let [stored, bridged] = match store {
                Store::Keeps => {
                    eventually("HTTP keeps all", async || {
                        Some(self.post(&topics).await).filter(|statuses| statuses[0] == 200)
                    })
                    .await
                }
                Store::Refuses | Store::Both => self.post(&topics).await,
            };
            assert_eq!(stored, if store == Store::Keeps { 200 } else { 503 }, "{name}");
            assert_eq!(bridged, 200, "{name}");
        }
        if bridge == Bridge::Buries {
            // All of it, so that nothing waits for the topic to be there again.
            let letters = self.books.missing("back", |topic| topic == topics[1]).len() as f64;
            eventually("all are dead letters", || async {
                (self.count("refused").await - dead >= letters).then_some(())
            })
            .await;
        }

        self.end(outage).await;
        self.until_all_is_kept(&topics, "after").await;

        self.books.complete("stored", |topic| topic == topics[0]).await;
        let accounted = eventually("the bridge is done", || async {
            let lost = self.books.missing("back", |topic| topic == topics[1]);
            let buried = self.books.missing("dead", |topic| topic == topics[1]);
            lost.iter().all(|message| !buried.contains(message)).then_some(lost.len())
        })
        .await;
        self.books.check("stored", |topic| (topic == topics[0]).then_some(Promise::AtLeastOnce));
        let buried = self.count("refused").await - dead;
        assert_eq!(buried, accounted as f64, "{name}: what is missing is counted, and nothing else");
        assert_eq!(buried > 0.0, bridge == Bridge::Buries, "{name}");
        let sent = self.count("sent").await - sent;
        let taken = self.books.acknowledged_on(|topic| topics.iter().any(|name| name == topic));
        assert!(sent + buried >= taken as f64, "{name}: {sent} sent and {buried} buried of {taken}");
        eventually("nothing waits", || async {
            let waiting = self.weft.metric("weft_core_backlog_events").await?;
            let bytes = self.weft.metric("weft_rocketmq_waiting_bytes").await?;
            (waiting + bytes == 0.0).then_some(())
        })
        .await;
        eprintln!(
            "{name}: {taken} acknowledged, {refused} refused, {buried} dead letters; {:?}",
            begun.elapsed()
        );
    }

    async fn begin(&mut self, outage: Outage) {
        match outage {
            Outage::BrokerKilled => self.rocketmq.kill_broker().await,
            Outage::BrokerPaused => self.rocketmq.signal_broker("STOP").await,
            Outage::NetworkCut => self.gate.silence(),
            Outage::NameServerGone => self.rocketmq.kill("namesrv").await,
            Outage::DiskFull => self.rocketmq.fill_disk(true).await,
            Outage::WrongKeys => self.rocketmq.restart_broker_with(&OTHER_KEYS).await,
            Outage::Flapping => {
                let topics = ["stored", "meters"].map(|topic| format!("{topic}/{outage:?}"));
                for n in 0..6 {
                    self.gate.close();
                    self.publish(&topics, &format!("closed {n}")).await;
                    self.gate.open();
                    self.publish(&topics, &format!("open {n}")).await;
                }
            }
            Outage::MissingTopic => {
                for topic in TOPICS {
                    self.rocketmq.delete_topic(topic).await;
                }
            }
        }
    }

    async fn end(&mut self, outage: Outage) {
        match outage {
            Outage::BrokerKilled => self.rocketmq.restart_broker().await,
            Outage::BrokerPaused => self.rocketmq.signal_broker("CONT").await,
            Outage::NetworkCut => self.gate.open(),
            Outage::NameServerGone => self.rocketmq.restart("namesrv").await,
            Outage::DiskFull => self.rocketmq.fill_disk(false).await,
            Outage::WrongKeys => self.rocketmq.restart_broker_with(&["authenticationEnabled=false"]).await,
            Outage::Flapping => {}
            Outage::MissingTopic => {
                for topic in TOPICS {
                    self.rocketmq.make_topic(topic).await;
                }
            }
        }
    }

    /// Waits until Weft tells of no trouble and keeps all that is published.
    async fn until_all_is_kept(&mut self, topics: &[String; 2], phase: &str) {
        self.weft.wait_ready().await;
        eventually("the gauges tell", || async { (self.links_up().await? == 2.0).then_some(()) }).await;
        self.publish_until_kept(topics, phase).await;
    }

    /// Publishes until all is kept; the codes of the last answers. A broker that has just begun, or a machine that is busy with others,
    /// may take longer for an answer than publishers are let wait.
    async fn publish_until_kept(&self, topics: &[String; 2], phase: &str) -> [Vec<u8>; 2] {
        let rounds = AtomicU32::new(0);
        eventually("all is kept", || async {
            let round = rounds.fetch_add(1, Ordering::Relaxed);
            let codes = self.publish(topics, &format!("{phase} {round}")).await;
            codes.iter().flatten().all(|code| *code == 0).then_some(codes)
        })
        .await
    }

    /// Publishes to both topics side by side, all at once; the codes of the answers.
    async fn publish(&self, topics: &[String; 2], phase: &str) -> [Vec<u8>; 2] {
        let [stored, bridged] = topics;
        let (stored, bridged) = tokio::join!(self.publish_to(stored, phase), self.publish_to(bridged, phase));
        [stored, bridged]
    }

    async fn publish_to(&self, topic: &str, phase: &str) -> Vec<u8> {
        let (mut client, _) =
            Client::connect(self.weft.mqtt, &Connect::v5(&format!("{topic} {phase}"))).await.unwrap();
        for n in 0..COUNT {
            let publish =
                Publish { id: n as u16 + 1, ..Publish::new(topic, self.books.sent(topic, phase, n), 1) };
            client.send(&publish.encode(Connect::v5("").version)).await.unwrap();
        }
        let mut codes = Vec::new();
        while codes.len() < COUNT as usize {
            let Some(Packet::Ack(Ack::PubAck, id, code)) = client.recv().await.unwrap() else {
                panic!("no PUBACK")
            };
            if code < 0x80 {
                self.books.acked(topic, phase, u64::from(id) - 1);
            }
            // 0x10: nobody subscribes.
            codes.push(if code == 0x10 { 0 } else { code });
        }
        codes
    }

    /// One publish to each topic over HTTP; the status of the answers.
    async fn post(&self, topics: &[String; 2]) -> [u16; 2] {
        let mut statuses = [0; 2];
        for (status, topic) in statuses.iter_mut().zip(topics) {
            let request =
                reqwest::Client::new().post(format!("http://{}/events?topic={topic}", self.weft.http));
            let request = request.header("content-type", "application/json");
            let answer = request.body(self.books.sent(topic, "http", 0)).send().await.unwrap();
            *status = answer.status().as_u16();
            if answer.status().is_success() {
                self.books.acked(topic, "http", 0);
            }
        }
        statuses
    }

    /// Waits until `/ready` and the gauge tell of both uses.
    async fn until_told(&self, name: &str, since: Instant) {
        for part in ["rocketmq/up", "rocketmq/main/store"] {
            self.weft.until_ready_says(503, part).await;
        }
        eventually("the gauges tell", || async { (self.links_up().await? == 0.0).then_some(()) }).await;
        eprintln!("{name}: told {:?} after it began", since.elapsed());
    }

    async fn links_up(&self) -> Option<f64> {
        self.weft.metric("weft_rocketmq_link_up").await
    }

    async fn count(&self, what: &str) -> f64 {
        self.weft.metric(&format!("weft_rocketmq_{what}_events_total")).await.unwrap_or_default()
    }

    async fn subscribe(&self) -> Vec<Actor> {
        let mut readers = Vec::new();
        for (client, filter, above) in
            [("stored", "stored/#", 0), ("back", "back/#", 1), ("dead", "$dead/#", 2)]
        {
            let connect = Connect::v5(client).persistent();
            let plan = Subscribing { connect, filter: filter.to_owned(), qos: 1, above, flap: None };
            let mut reader = actors::subscribe(self.weft.mqtt, plan, self.books.clone());
            reader.ready().await;
            readers.push(reader);
        }
        readers
    }

    /// What RocketMQ has, as its own client sees it.
    async fn check_with_java(&self, group: &str) {
        let books = self.books.clone();
        let note = move |message: Received| {
            let topic = message.properties.get("WEFT_TOPIC").cloned().unwrap_or_default();
            books.received("java", &topic, &message.body());
        };
        let _consumer = self.rocketmq.consume(group, &TOPICS, note).await;
        self.books.complete("java", |_| true).await;
        self.books.check("java", |_| Some(Promise::AtLeastOnce));
    }
}

/// Others than Weft has.
const OTHER_KEYS: [&str; 5] = [
    "authenticationEnabled=true",
    "authenticationProvider=org.apache.rocketmq.auth.authentication.provider.DefaultAuthenticationProvider",
    "authenticationMetadataProvider=org.apache.rocketmq.auth.authentication.provider.LocalAuthenticationMetadataProvider",
    r#"initAuthenticationUser={"username":"other","password":"other-secret"}"#,
    r#"innerClientAuthenticationCredentials={"accessKey":"other","secretKey":"other-secret"}"#,
];
