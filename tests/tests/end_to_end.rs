//! The scenario that Weft is made for, with nothing but real parts: devices, browsers and services meet on one stream
//! while Weft is killed over and over.
//!
//! ```text
//!  mosquitto_pub ─┐                          ┌─▶ mosquitto_sub   (QoS 2, a session that stays)
//!  Paho (Python) ─┤ mesh/# ──▶ Weft ─────────┼─▶ Chromium        (WebSocket, a session that stays)
//!                 │              │           ├─▶ curl            (server-sent events, Last-Event-ID)
//!                 │              └─ bridge ──┼─▶ RocketMQ ──▶ Java consumer
//!  Java producer ─┴▶ RocketMQ ──▶ bridge ────┘   (what comes from there goes to all but RocketMQ)
//! ```

use std::time::Duration;

use tests::real::{self, Browser, EventStream, Received, RocketMq, Tool, needs};
use tests::weft::Setup;
use tests::{Ledger, PATIENCE, Process, Promise, Rng, Weft, eventually, pause, seed};
use tokio::sync::watch;

/// Topics that clients publish on, with their QoS.
fn topics(client: &str) -> Vec<(String, u8)> {
    vec![(format!("mesh/{client}/q1"), 1), (format!("mesh/{client}/q2"), 2)]
}

const KILLS: u32 = 10;

/// Everything that reads: its name in the ledger, and whether it also gets what comes from RocketMQ.
const READERS: [(&str, bool); 4] =
    [("mosquitto-sub", true), ("chromium", true), ("curl", true), ("java", false)];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_between_real_parts() {
    if !needs(&[Tool::Mosquitto, Tool::Paho, Tool::Curl, Tool::Chromium, Tool::Java]) {
        return;
    }
    let mut rng = Rng::new(seed(10));
    let rocketmq = RocketMq::start("5.3.3").await;
    let mut weft = Setup::new().config(config(&rocketmq)).start().await;
    let ledger = Ledger::new();
    let _readers = Readers::start(&weft, &rocketmq, &ledger).await;
    // The bridge and three readers here; the Java consumer reads its topic from the start.
    eventually("all have subscribed", || async {
        weft.metric("weft_core_subscriptions").await.filter(|count| *count >= 4.0)
    })
    .await;
    let (stop, stopped) = watch::channel(false);
    let mosquitto = real::mosquitto_publisher(
        weft.mqtt,
        "mosquitto",
        topics("mosquitto"),
        ledger.clone(),
        stopped.clone(),
    );
    let mut paho = real::paho_publisher(weft.mqtt, "paho", &topics("paho"), ledger.clone());
    let java = tokio::spawn(java_producer(
        rocketmq.produce("Orders", &["TAGS=java"], sent(ledger.clone())),
        ledger.clone(),
        stopped,
    ));
    everyone_reads(&ledger).await;

    for _ in 0..KILLS {
        pause(rng.millis(300, 2500)).await;
        weft.kill().await;
        weft.restart().await;
    }

    pause(Duration::from_secs(2)).await;
    stop.send_replace(true);
    paho.close_input();
    let status = paho.wait(PATIENCE).await;
    assert!(status.success(), "Paho did not get everything acknowledged");
    mosquitto.await.unwrap();
    java.await.unwrap();
    for (reader, from_rocketmq) in READERS {
        ledger.complete(reader, |topic| from_rocketmq || !is_from_rocketmq(topic)).await;
    }
    report(&ledger);
    for (reader, from_rocketmq) in READERS {
        ledger.check(reader, |topic| match topic {
            topic if is_from_rocketmq(topic) => from_rocketmq.then_some(Promise::AtLeastOnce),
            topic if topic.ends_with("q2") => Some(once(reader)),
            _ => Some(Promise::AtLeastOnce),
        });
    }
}

/// RocketMQ takes a message again when its answer was lost; MQTT at QoS 2 and the positions of the log tell repeats. But
/// libmosquitto does not look whether it has a PUBLISH already: it puts the repeat beside it (`handle__publish`), and gives
/// one out for each PUBREL. If a kill comes before PUBREC is kept, and the next one before PUBCOMP is, it has both twice.
fn once(reader: &str) -> Promise {
    match reader {
        "java" | "mosquitto-sub" => Promise::AtLeastOnce,
        _ => Promise::ExactlyOnce,
    }
}

fn is_from_rocketmq(topic: &str) -> bool {
    topic == "mesh/from-rocketmq/java"
}

fn config(rocketmq: &RocketMq) -> String {
    format!(
        r#"
        [rocketmq.main]
        name_servers = ["{}"]

        [bridge.services]
        cluster = "main"
        [[bridge.services.out]]
        filter = "mesh/#"
        topic = "Mesh"
        [[bridge.services.in]]
        topic = "Orders"
        to = "mesh/from-rocketmq/{{tags}}"
        "#,
        rocketmq.name_server
    )
}

/// All that reads, for as long as it is held.
struct Readers {
    _mosquitto: Process,
    _chromium: Browser,
    _curl: EventStream,
    _java: Process,
}

impl Readers {
    async fn start(weft: &Weft, rocketmq: &RocketMq, ledger: &Ledger) -> Self {
        let note = |reader: &'static str| {
            let ledger = ledger.clone();
            move |event: serde_json::Value| match event["wefttopic"].as_str() {
                Some(topic) => ledger.received(reader, topic, event["data"].to_string().as_bytes()),
                None => assert_ne!(event["type"], "weft.error", "{event}"),
            }
        };
        let note_text = note("curl");
        let java = ledger.clone();
        let on_message = move |message: Received| {
            let topic = message.properties.get("WEFT_TOPIC").cloned().unwrap_or_default();
            java.received("java", &topic, &message.body());
        };
        Self {
            _mosquitto: real::mosquitto_subscriber(weft.mqtt, "mosquitto-sub", "mesh/#", 2, ledger.clone()),
            _chromium: Browser::open(weft.http, "client=chromium", "mesh/#", note("chromium")).await,
            _curl: EventStream::open(format!("http://{}/events?topic=mesh/%23", weft.http), move |event| {
                note_text(serde_json::from_str(&event.data).expect("a CloudEvent in JSON"));
            }),
            _java: rocketmq.consume("services", &["Mesh"], on_message).await,
        }
    }
}

/// Waits until every reader has got something from every publisher: then it is subscribed, and has a place in the
/// stream to go on from.
async fn everyone_reads(ledger: &Ledger) {
    for (reader, from_rocketmq) in READERS {
        let what = format!("{reader} reads what everyone publishes");
        eventually(&what, || async {
            let publishers = ledger.publishers_seen_by(reader);
            (publishers.len() >= if from_rocketmq { 3 } else { 2 }).then_some(())
        })
        .await;
    }
}

/// Sends a message to RocketMQ every 50 ms until it is told to stop, then waits until all are stored.
async fn java_producer(mut producer: Process, ledger: Ledger, stop: watch::Receiver<bool>) {
    let topic = "mesh/from-rocketmq/java";
    for n in 0.. {
        if *stop.borrow() {
            break;
        }
        let data = ledger.sent(topic, "java", n);
        producer.write(&format!("{data}\n")).await.unwrap();
        pause(Duration::from_millis(50)).await;
    }
    producer.close_input();
    assert!(producer.wait(PATIENCE).await.success());
}

fn sent(ledger: Ledger) -> impl FnMut(u64) + Send + 'static {
    move |n| ledger.acked("mesh/from-rocketmq/java", "java", n)
}

fn report(ledger: &Ledger) {
    let arrivals: Vec<String> =
        READERS.iter().map(|(reader, _)| format!("{reader} {}", ledger.arrivals(reader))).collect();
    eprintln!("{} acknowledged; arrivals: {}", ledger.acknowledged(), arrivals.join(", "));
}
