//! The published client of DeFiBus at the other end of Weft: publish and subscribe, request and reply, each both ways,
//! through a broker that stands in for DeFiBus'. What only a real DeFiBus does (circuit break, access lock, queues that
//! come and go) is in `connectors/rocketmq/tests/defibus.rs`.

use std::collections::BTreeSet;

use tests::real::{Defibus, JavaClient, Tool, needs};
use tests::requests::{self, answer_twice, ask_in_vain, connect, outcomes};
use tests::util::free_address;
use tests::weft::Setup;
use tests::wire::{Property, Publish};
use tests::{Weft, eventually};

/// The bridge, as metrics and `/ready` call it.
const PART: &str = "defibus/bank";
const TOPICS: [&str; 5] = ["FT0-e-out", "FT0-e-in", "FT0-s-ask", "FT0-s-serve", "FT0-e-store"];

/// One broker serves all steps; each has topics of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weft_and_the_client_of_defibus() {
    if !needs(&[Tool::Java, Tool::Defibus]) {
        return;
    }
    let defibus = Defibus::start(&TOPICS).await;
    let eventmesh = free_address();
    let config = format!(
        r##"
        [defibus.bank]
        name_servers = ["{}"]
        idc = "GZ"
        [defibus.bank.store]
        topic = "FT0-e-store"
        [[route]]
        topic = "stored/#"
        store = "bank"
        [bridge.bank]
        cluster = "bank"
        [[bridge.bank.out]]
        filter = "out/#"
        topic = "FT0-e-out"
        [[bridge.bank.out]]
        filter = "ask/#"
        topic = "FT0-s-ask"
        [[bridge.bank.in]]
        topic = "FT0-e-in"
        to = "in/{{topic}}"
        [[bridge.bank.in]]
        topic = "FT0-s-serve"
        to = "serve"
        [listener.em]
        listen = "{eventmesh}"
        protocol = "eventmesh-http"
        "##,
        defibus.name_server()
    );
    let weft = Setup::new().config(config).start().await;
    what_weft_publishes_is_consumed_there(&defibus, &weft).await;
    what_is_published_there_comes_here(&defibus, &weft).await;
    a_request_from_here_is_answered_there(&defibus, &weft, eventmesh).await;
    a_request_from_there_is_answered_here(&defibus, &weft).await;
    a_route_keeps_events_there(&weft).await;
    an_outage_loses_nothing(&defibus, &weft).await;
}

async fn what_weft_publishes_is_consumed_there(defibus: &Defibus, weft: &Weft) {
    let mut consumer = defibus.client("consume", "FT0-e-out", "CG-out").await;
    let mut device = connect(weft, "publisher").await;
    for n in 0..20 {
        let user = Property::Pair("city".to_owned(), "Rome".to_owned());
        let publish = Publish::new("out/a", format!("event {n}"), 1).with(user);
        device.publish(publish).await.unwrap();
    }
    let mut got = BTreeSet::new();
    while got.len() < 20 {
        // Its listener drops what has no TTL, and works in many threads.
        let line = consumer.next().await;
        let (head, n) = line.split_once(" event ").unwrap_or_else(|| panic!("{line}"));
        assert!(head.starts_with("got "), "{line}");
        got.insert(n.parse::<u32>().unwrap());
        for property in ["TTL=14400000", "WEFT_TOPIC=out/a", "city=Rome"] {
            assert!(line.contains(property), "{line}");
        }
    }
}

async fn what_is_published_there_comes_here(defibus: &Defibus, weft: &Weft) {
    let mut device = connect(weft, "subscriber").await;
    device.subscribe(&[("in/#", 1)]).await;
    let mut producer = defibus.client("publish", "FT0-e-in", "").await;
    // Their client compresses what is longer than 4 KiB.
    let long = "long ".repeat(2000);
    for body in ["short", &long] {
        producer.say(body).await;
        assert_eq!(producer.next().await, format!("sent {body}"));
        let message = device.message().await.unwrap().unwrap();
        assert_eq!((&*message.topic, &*message.payload), ("in/FT0-e-in", body.as_bytes()));
        // It is of use for four hours there, and so here.
        let expiry = message.properties.iter().find_map(|property| match property {
            Property::Four(2, seconds) => Some(*seconds),
            _ => None,
        });
        assert!(expiry.is_some_and(|seconds| (14_000..=14_400).contains(&seconds)), "{expiry:?}");
    }
}

async fn a_request_from_here_is_answered_there(
    defibus: &Defibus,
    weft: &Weft,
    eventmesh: std::net::SocketAddr,
) {
    let mut service = defibus.client("reply", "FT0-s-ask", "CG-ask").await;
    let long = "long ".repeat(2000);
    let heard = |line: &str, body: &str| {
        assert!(line.starts_with("asked ") && line.ends_with(body), "{line}");
        assert!(line.contains("msgType=persistent") && line.contains("BROKER=broker-a"), "{line}");
    };
    requests::ask(weft, eventmesh, &mut service, &["what?", &long, "and?"], heard, "reply-to:").await;
    assert_eq!(outcomes(weft, PART, "weft_defibus_requests_total", "answered").await, 4);
}

async fn a_request_from_there_is_answered_here(defibus: &Defibus, weft: &Weft) {
    let mut service = connect(weft, "service").await;
    service.subscribe(&[("serve", 1)]).await;
    for role in ["request", "ask"] {
        let mut requester: JavaClient = defibus.client(role, "FT0-s-serve", "20000").await;
        for body in ["one", "two"] {
            requester.say(body).await;
            answer_twice(&mut service, body).await;
            let line = requester.next().await;
            assert!(line.starts_with("reply ") && line.ends_with(&format!(" answer to {body}")), "{line}");
        }
    }
    // Nobody answers: their client waits until its time is over.
    let mut requester = defibus.client("request", "FT0-s-serve", "5000").await;
    ask_in_vain(&mut service, &mut requester).await;
    eventually("the request is given up", || async {
        (outcomes(weft, PART, "weft_defibus_answers_total", "missing").await == 1).then_some(())
    })
    .await;
    for outcome in ["sent", "late"] {
        assert_eq!(outcomes(weft, PART, "weft_defibus_answers_total", outcome).await, 4, "{outcome}");
    }
}

async fn a_route_keeps_events_there(weft: &Weft) {
    let (mut device, mut writer) = (connect(weft, "keeper").await, connect(weft, "writer").await);
    device.subscribe(&[("stored/#", 1)]).await;
    for n in 0..20 {
        let publish = Publish::new("stored/a", format!("{n}"), 1).with(Property::Data(9, vec![0, n]));
        writer.publish(publish).await.unwrap();
    }
    for n in 0..20 {
        let message = device.message().await.unwrap().unwrap();
        assert_eq!((&*message.topic, &*message.payload), ("stored/a", n.to_string().as_bytes()));
        // An event has no expiry because its message had to have a TTL.
        assert_eq!(message.properties, [Property::Data(9, vec![0, n])]);
    }
}

async fn an_outage_loses_nothing(defibus: &Defibus, weft: &Weft) {
    let mut device = connect(weft, "patient").await;
    defibus.kill_broker().await;
    let told = weft.until_ready_says(503, "defibus/bank").await;
    eprintln!("/ready told of it after {told:?}");
    for n in 0..20 {
        device.publish(Publish::new("out/b", format!("kept {n}"), 1)).await.unwrap();
    }
    defibus.restart_broker().await;
    let mut consumer = defibus.client("consume", "FT0-e-out", "CG-outage").await;
    let mut got = BTreeSet::new();
    while got.len() < 20 {
        let line = consumer.next().await;
        if let Some((_, n)) = line.split_once(" kept ") {
            got.insert(n.parse::<u32>().unwrap());
        }
    }
    weft.until_ready_says(200, "").await;
}
