//! RocketMQ goes away and comes back: nothing that Weft acknowledged is missing there, and order holds.

use std::time::Duration;

use tests::actors::{self, Publishing};
use tests::raw::Client;
use tests::real::{Received, RocketMq, Tool, needs};
use tests::weft::Setup;
use tests::wire::{Connect, Publish};
use tests::{Ledger, Promise, Weft, eventually};

/// 100 publishes of QoS 2 a second; the broker is killed, and back after 600 of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_takes_everything_over_an_outage() {
    if !needs(&[Tool::Java]) {
        return;
    }
    let rocketmq = RocketMq::start("5.3.3").await;
    let config = format!(
        "{}[bridge.up]\ncluster = \"main\"\n[[bridge.up.out]]\nfilter = \"meters/#\"\ntopic = \"Meters\"\n",
        cluster(&rocketmq)
    );
    let mut weft = Setup::new().config(config).start().await;
    let ledger = Ledger::new();
    let _consumer = rocketmq.consume("outage", &["Meters"], note(ledger.clone())).await;
    let mut publishers: Vec<_> = (0..3)
        .map(|number| {
            let plan = Publishing {
                connect: Connect::v5(&format!("meter-{number}")).persistent(),
                topics: vec![(format!("meters/{number}"), 2)],
                window: 50,
                every: Duration::from_millis(30),
            };
            actors::publish(weft.mqtt, plan, ledger.clone())
        })
        .collect();
    for publisher in &mut publishers {
        publisher.ready().await;
    }
    ledger.more_acknowledged(300).await;
    rocketmq.kill_broker().await;
    let told = weft.until_ready_says(503, "up").await;
    ledger.more_acknowledged(600).await;
    rocketmq.restart_broker().await;
    weft.wait_ready().await;
    ledger.more_acknowledged(600).await;
    for publisher in publishers {
        publisher.finish().await;
    }
    ledger.complete("java", |_| true).await;
    ledger.check("java", |_| Some(Promise::AtLeastOnce));
    eprintln!("/ready told of it after {told:?}");
    let (status, ..) = weft.terminate().await;
    assert!(status.success());
}

/// What waits for RocketMQ survives a kill of Weft, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_a_bridge_survives_a_kill() {
    if !needs(&[Tool::Java]) {
        return;
    }
    let rocketmq = RocketMq::start("4.9.7").await;
    let config = format!(
        "{}[bridge.up]\ncluster = \"main\"\n[[bridge.up.out]]\nfilter = \"meters/#\"\ntopic = \"Meters\"\n",
        cluster(&rocketmq)
    );
    let mut weft = Setup::new().config(config).start().await;
    let ledger = Ledger::new();
    let _consumer = rocketmq.consume("backlog", &["Meters"], note(ledger.clone())).await;
    publish(&weft, &ledger, "first", 50).await;
    ledger.complete("java", |_| true).await;
    rocketmq.kill_broker().await;
    weft.until_ready_says(503, "up").await;
    for round in ["second", "third"] {
        publish(&weft, &ledger, round, 100).await;
        weft.kill().await;
        weft.launch();
        eventually("Weft is live", || async { weft.get("/live").await.filter(|(status, _)| *status == 200) })
            .await;
    }
    rocketmq.restart_broker().await;
    weft.wait_ready().await;
    publish(&weft, &ledger, "fourth", 50).await;
    ledger.complete("java", |_| true).await;
    ledger.check("java", |_| Some(Promise::AtLeastOnce));
}

/// RocketMQ as the store of a route: an answer means that RocketMQ has it, and subscribers here get it, too. The route, and the
/// cluster, come by a reload; a second one has a target in either store.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_into_rocketmq_answers_after_rocketmq() {
    if !needs(&[Tool::Java]) {
        return;
    }
    let rocketmq = RocketMq::start("5.3.3").await;
    let weft = Setup::new().config("reload_s = 0\n").start().await;
    let (mut early, _) = Client::connect(weft.mqtt, &Connect::v5("early")).await.unwrap();
    early.publish(Publish::new("stored/early", "kept here", 1)).await.unwrap();
    weft.configure(&format!(
        "reload_s = 0\n{}[rocketmq.main.store]\ntopic = \"Stored\"\ndeadline_ms = 2000\n[[route]]\ntopic = \"stored/#\"\nstore = \"main\"\n\
         [[route]]\ntopic = \"both/#\"\nto = [{{ topic = \"kept/{{topic}}\" }}, {{ store = \"main\" }}]\n",
        cluster(&rocketmq)
    ));
    let answer =
        reqwest::Client::new().post(format!("http://{}/admin/reload", weft.http)).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap().trim(), r#"{"after_restart":[],"routes":2}"#);
    let ledger = Ledger::new();
    let _consumer = rocketmq.consume("store", &["Stored"], note(ledger.clone())).await;
    let (mut reader, _) = Client::connect(weft.mqtt, &Connect::v5("reader")).await.unwrap();
    reader.subscribe(&[("stored/#", 1)]).await;
    let (mut kept, _) = Client::connect(weft.mqtt, &Connect::v5("kept")).await.unwrap();
    kept.subscribe(&[("kept/#", 2)]).await;
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
    for n in 0..20 {
        let data = ledger.sent("both/t", "both", n);
        writer.publish(Publish::new("both/t", data, 1 + u8::from(n % 2 == 0))).await.unwrap();
        ledger.acked("both/t", "both", n);
        let message = kept.message().await.unwrap().expect("a message");
        assert_eq!(message.topic, "kept/both/t");
        ledger.received("kept", "both/t", &message.payload);
    }
    ledger.check("kept", |topic| (topic == "both/t").then_some(Promise::ExactlyOnce));
    for n in 0..100 {
        let data = ledger.sent("stored/t", "writer", n);
        writer.publish(Publish::new("stored/t", data, 1 + u8::from(n % 2 == 0))).await.unwrap();
        ledger.acked("stored/t", "writer", n);
    }
    for _ in 0..100 {
        let message = reader.message().await.unwrap().expect("a message");
        ledger.received("reader", &message.topic, &message.payload);
    }
    ledger.complete("java", |_| true).await;
    for (reader, topic) in [("java", ""), ("reader", "stored/t")] {
        ledger.check(reader, |of| (topic.is_empty() || of == topic).then_some(Promise::AtLeastOnce));
    }
    rocketmq.kill_broker().await;
    let refused = writer.publish(Publish::new("stored/t", "not kept", 1)).await.unwrap_err().to_string();
    assert!(refused.contains("131") || refused.contains("151"), "answered with {refused}, not 0x83 or 0x97");
    let (mut both, _) = Client::connect(weft.mqtt, &Connect::v5("both")).await.unwrap();
    let refused = both.publish(Publish::new("both/t", "not everywhere", 2)).await.unwrap_err().to_string();
    assert!(refused.contains("131") || refused.contains("151"), "answered with {refused}, not 0x83 or 0x97");
    let (mut other, _) = Client::connect(weft.mqtt, &Connect::v5("other")).await.unwrap();
    other.publish(Publish::new("elsewhere", "kept here", 2)).await.unwrap();
    rocketmq.restart_broker().await;
    eventually("the route takes publishes again", || async {
        let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("again")).await.ok()?;
        let data = ledger.sent("stored/again", "again", 0);
        writer.publish(Publish::new("stored/again", data, 1)).await.ok()
    })
    .await;
}

fn cluster(rocketmq: &RocketMq) -> String {
    format!("[rocketmq.main]\nname_servers = [\"{}\"]\n", rocketmq.name_server)
}

/// Notes what the Java consumer gets, under the topic that it had in Weft.
fn note(ledger: Ledger) -> impl FnMut(Received) + Send + 'static {
    move |message| {
        let topic = message.properties.get("WEFT_TOPIC").cloned().unwrap_or_default();
        ledger.received("java", &topic, &message.body());
    }
}

async fn publish(weft: &Weft, ledger: &Ledger, publisher: &str, count: u64) {
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5(publisher)).await.unwrap();
    for n in 0..count {
        let data = ledger.sent("meters/t", publisher, n);
        writer.publish(Publish::new("meters/t", data, 1 + u8::from(n % 2 == 0))).await.unwrap();
        ledger.acked("meters/t", publisher, n);
    }
}
