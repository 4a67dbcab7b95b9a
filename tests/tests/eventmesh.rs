//! Apache EventMesh's clients on Weft: the SDK for Java as its users have it, and events that go on by other protocols.

use serde_json::json;
use tests::PATIENCE;
use tests::Weft;
use tests::eventmesh::{Peer, event_properties, message, message_properties};
use tests::raw::Client;
use tests::real::{EventMesh, RocketMq, Tool, eventmesh_cases, needs};
use tests::util::free_address;
use tests::weft::Setup;
use tests::wire::{Connect, Property, Publish};

/// A Weft that speaks EventMesh's protocols.
async fn start() -> (Weft, EventMesh) {
    start_with("").await
}

async fn start_with(more: &str) -> (Weft, EventMesh) {
    let addresses = EventMesh {
        tcp: Some(free_address()),
        http: Some(free_address()),
        grpc: Some(free_address()),
        admin: Some(free_address()),
    };
    let listeners = [
        ("eventmesh-tcp", addresses.tcp),
        ("eventmesh-http", addresses.http),
        ("grpc", addresses.grpc),
        ("eventmesh-admin", addresses.admin),
    ];
    let tables = listeners.into_iter().filter_map(|(protocol, address)| {
        Some(format!("[listener.em-{protocol}]\nlisten = \"{}\"\nprotocol = \"{protocol}\"\n", address?))
    });
    // The suite listens for webhooks on this machine.
    let config = format!("[webhook]\nloopback = true\n{}{more}", tables.collect::<String>());
    (Setup::new().config(config).start().await, addresses)
}

#[tokio::test]
async fn the_sdk_for_java_gets_what_it_expects() {
    if !needs(&[Tool::EventMesh]) {
        return;
    }
    let (_weft, addresses) = start().await;
    accept(addresses).await;
}

#[tokio::test]
async fn the_sdk_for_java_gets_the_same_with_rocketmq_behind() {
    if !needs(&[Tool::EventMesh, Tool::Java]) {
        return;
    }
    let rocketmq = RocketMq::start("5.3.3").await;
    let store = format!(
        "[rocketmq.main]\nname_servers = [\"{}\"]\n[[route]]\ntopic = \"#\"\nstore = \"main\"\n",
        rocketmq.name_server
    );
    let (_weft, addresses) = start_with(&store).await;
    accept(addresses).await;
}

/// Every case of the suite has to pass.
async fn accept(addresses: EventMesh) {
    let cases = eventmesh_cases();
    let said = addresses.accept(&cases).await;
    let missing = "there is no such case".to_owned();
    let verdicts = cases.iter().map(|case| (case, said.get(case).unwrap_or(&missing)));
    let failed: Vec<String> = verdicts
        .filter(|(_, verdict)| !verdict.starts_with("PASS"))
        .map(|(case, verdict)| format!("{case}: {verdict}"))
        .collect();
    assert!(failed.is_empty(), "{} of {} cases:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

/// Response Topic and Correlation Data (MQTT 5 §2.2.2.2).
const RESPONSE_TOPIC: u8 = 0x08;
const CORRELATION: u8 = 0x09;

fn pair(name: &str, value: &str) -> Property {
    Property::Pair(name.to_owned(), value.to_owned())
}

fn text(publish: &Publish, wanted: u8) -> Option<String> {
    publish.properties.iter().find_map(|property| match property {
        Property::Text(id, text) if *id == wanted => Some(text.clone()),
        _ => None,
    })
}

fn data(publish: &Publish, wanted: u8) -> Option<Vec<u8>> {
    publish.properties.iter().find_map(|property| match property {
        Property::Data(id, data) if *id == wanted => Some(data.clone()),
        _ => None,
    })
}

async fn device(weft: &Weft, name: &str, filter: &str) -> Client {
    let (mut device, _) = Client::connect(weft.mqtt, &Connect::v5(name)).await.unwrap();
    assert_eq!(device.subscribe(&[(filter, 1)]).await, [1]);
    device
}

#[tokio::test]
async fn properties_come_back_exactly_by_way_of_mqtt_5() {
    let (weft, EventMesh { tcp, .. }) = start().await;
    let tcp = tcp.unwrap();
    let properties =
        [("ttl", "30000"), ("accprop", "v-1"), ("UPPER_case", "x y"), ("id", "theirs"), ("type", "2")];
    let mut there = device(&weft, "there", "orders").await;
    let mut publisher = Peer::hello(tcp, "p", "pub").await;
    publisher.publish(&message("orders", "zażółć 🚀", &properties)).await;
    let got = there.message().await.unwrap().unwrap();
    assert_eq!((&*got.topic, &*got.payload), ("orders", "zażółć 🚀".as_bytes()));
    for property in [pair("accprop", "v-1"), pair("UPPER_case", "x y"), pair("type", "eventmeshmessage")] {
        assert!(got.properties.contains(&property), "{property:?} in {got:?}");
    }
    assert!(!format!("{got:?}").contains("hidden-password"), "the publisher's password went on");

    // Back, under another topic, with what came.
    let mut here = Peer::listen(tcp, "g", "back", "CLUSTERING", "ASYNC").await;
    there
        .publish(Publish {
            topic: "back".to_owned(),
            properties: got.properties,
            ..Publish::new("", got.payload, 1)
        })
        .await
        .unwrap();
    let frame = here.next().await;
    let mut expected = message("back", "zażółć 🚀", &properties)["properties"].clone();
    for (name, value) in message_properties().as_object().unwrap() {
        expected[name] = value.clone();
    }
    assert_eq!((&frame.body["topic"], &frame.body["body"]), (&json!("back"), &json!("zażółć 🚀")));
    assert_eq!(frame.body["properties"], expected);
}

#[tokio::test]
async fn a_cloud_event_keeps_every_attribute_between_tcp_and_mqtt_5() {
    let (weft, EventMesh { tcp, .. }) = start().await;
    let event = json!({
        "specversion": "1.0", "id": "e-1", "source": "/acceptance/src", "type": "acceptance.type", "subject": "events",
        "time": "2024-05-01T10:00:00.123Z", "datacontenttype": "application/json", "accext": "v-2", "data": {"n": 1},
    });
    let mut there = device(&weft, "there", "events").await;
    let mut here = Peer::listen(tcp.unwrap(), "g", "events", "BROADCASTING", "ASYNC").await;
    let mut publisher = Peer::hello(tcp.unwrap(), "p", "pub").await;
    let answer = publisher.call("ASYNC_MESSAGE_TO_SERVER", &event_properties(), &event).await;
    assert_eq!(answer.code(), 0, "{answer:?}");
    assert_eq!(here.next().await.body, event);
    let got = there.message().await.unwrap().unwrap();
    for (name, value) in event.as_object().unwrap() {
        let Some(value) = value.as_str().filter(|_| name != "datacontenttype") else { continue };
        assert!(got.properties.contains(&pair(name, value)), "{name} in {got:?}");
    }
    assert_eq!(got.payload, br#"{"n":1}"#);
    // And back in binary mode.
    let again = Publish { id: 0, ..got };
    let (mut back, _) = Client::connect(weft.mqtt, &Connect::v5("back")).await.unwrap();
    back.publish(again).await.unwrap();
    assert_eq!(here.next().await.body, event);
}

#[tokio::test]
async fn a_group_has_members_on_both_protocols() {
    let (weft, EventMesh { tcp, .. }) = start().await;
    let tcp = tcp.unwrap();
    let mut device = device(&weft, "member", "$share/g1/jobs").await;
    let mut member = Peer::listen(tcp, "g1", "jobs", "CLUSTERING", "ASYNC").await;
    let mut publisher = Peer::hello(tcp, "p", "pub").await;
    for n in 0..20 {
        publisher.publish(&message("jobs", &n.to_string(), &[])).await;
    }
    let (mut by_mqtt, mut by_tcp) = (Vec::new(), Vec::new());
    while by_mqtt.len() + by_tcp.len() < 20 {
        tokio::select! {
            got = device.message() => by_mqtt.push(String::from_utf8(got.unwrap().unwrap().payload).unwrap()),
            frame = member.next() => {
                by_tcp.push(frame.body["body"].as_str().unwrap().to_owned());
                member.ack(&frame).await;
            }
        }
    }
    assert!(!by_mqtt.is_empty() && !by_tcp.is_empty(), "not shared: {by_mqtt:?} {by_tcp:?}");
    let mut all: Vec<u32> = by_mqtt.iter().chain(&by_tcp).map(|n| n.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn requests_and_replies_go_from_each_protocol_to_the_other() {
    let (weft, EventMesh { tcp, .. }) = start().await;
    let tcp = tcp.unwrap();
    // A device answers an EventMesh client.
    let mut answering = device(&weft, "answering", "$share/workers/ask/device").await;
    let mut asking = Peer::hello(tcp, "p", "pub").await;
    let question = message("ask/device", "how warm?", &[("ttl", "20000")]);
    let seq = asking.send("REQUEST_TO_SERVER", &message_properties(), &question).await;
    let request = answering.message().await.unwrap().unwrap();
    let reply_to = text(&request, RESPONSE_TOPIC).unwrap();
    let correlation = data(&request, CORRELATION).unwrap();
    let answer = Publish::new(&reply_to, "21.5", 1).with(Property::Data(CORRELATION, correlation));
    answering.publish(answer).await.unwrap();
    let reply = asking.next().await;
    assert_eq!((reply.cmd(), reply.code(), reply.seq()), ("RESPONSE_TO_CLIENT", 0, &*seq));
    assert_eq!(reply.body["body"], "21.5");

    // An EventMesh client answers a device.
    let mut answering = Peer::listen(tcp, "workers", "ask/mesh", "CLUSTERING", "SYNC").await;
    let mut asking = device(&weft, "asking", "asking/answers").await;
    let question = Publish::new("ask/mesh", "how warm?", 1)
        .with(Property::Text(RESPONSE_TOPIC, "asking/answers".to_owned()))
        .with(Property::Data(CORRELATION, vec![1, 2, 3]));
    asking.publish(question).await.unwrap();
    let request = answering.next().await;
    assert_eq!((request.cmd(), &request.body["body"]), ("REQUEST_TO_CLIENT", &json!("how warm?")));
    let mut answer = request.body.clone();
    answer["body"] = json!("22.5");
    answering.send("RESPONSE_TO_SERVER", &message_properties(), &answer).await;
    answering.ack(&request).await;
    let reply = asking.message().await.unwrap().unwrap();
    assert_eq!((&*reply.payload, data(&reply, CORRELATION)), (&b"22.5"[..], Some(vec![1, 2, 3])));
}

#[tokio::test]
async fn what_was_acknowledged_outlives_a_crash() {
    let (mut weft, EventMesh { tcp, .. }) = start().await;
    let (mut device, _) = Client::connect(weft.mqtt, &Connect::v5("keeper").persistent()).await.unwrap();
    device.subscribe(&[("kept", 1)]).await;
    drop(device);
    let mut publisher = Peer::hello(tcp.unwrap(), "p", "pub").await;
    for n in 0..50 {
        publisher.publish(&message("kept", &n.to_string(), &[])).await;
    }
    weft.kill().await;
    weft.restart().await;
    let back = Connect { clean: false, ..Connect::v5("keeper").persistent() };
    let (mut device, present) = Client::connect(weft.mqtt, &back).await.unwrap();
    assert!(present);
    for n in 0..50 {
        let got = device.message().await.unwrap().unwrap();
        assert_eq!(got.payload, n.to_string().as_bytes());
    }
}

#[tokio::test]
async fn sessions_are_seen_by_operators() {
    let (weft, EventMesh { tcp, .. }) = start().await;
    let _member = Peer::listen(tcp.unwrap(), "g1", "jobs", "CLUSTERING", "ASYNC").await;
    let (status, page) = weft.get("/admin/sessions").await.unwrap();
    assert_eq!(status, 200);
    assert!(page.contains("EventMesh TCP") && page.contains("$eventmesh/g1/127.0.0.1:"), "{page}");
    assert_eq!(weft.metric("weft_tcp_connections").await, Some(1.0));
}

#[tokio::test]
async fn a_member_that_is_stuck_harms_nobody_else() {
    let (_weft, EventMesh { tcp, .. }) = start().await;
    let tcp = tcp.unwrap();
    // It never reads, nor acknowledges.
    let _stuck = Peer::listen(tcp, "g1", "jobs", "CLUSTERING", "ASYNC").await;
    let mut other = Peer::listen(tcp, "g2", "jobs", "CLUSTERING", "ASYNC").await;
    let mut publisher = Peer::hello(tcp, "p", "pub").await;
    let body = "x".repeat(900);
    for _ in 0..600 {
        publisher.publish(&message("jobs", &body, &[])).await;
        let frame = other.next_within(PATIENCE).await.expect("the other group goes on");
        other.ack(&frame).await;
    }
}
