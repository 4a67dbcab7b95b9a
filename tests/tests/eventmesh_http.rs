//! EventMesh over HTTP beside all other protocols, byte by byte: events go from each to each with every attribute, groups
//! have members everywhere, and operators see and order the clients of all.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tests::authority::Authority;
use tests::eventmesh::{Peer, event_properties, message_properties};
use tests::eventmesh_grpc::{GrpcEvent, GrpcPeer};
use tests::eventmesh_web::{Answer, Post, Web, Webhook};
use tests::raw::Client;
use tests::socket::Socket;
use tests::util::free_address;
use tests::weft::{Setup, passwd};
use tests::wire::{Connect, Property, Publish};
use tests::{PATIENCE, Weft, eventually};

/// A Weft that speaks all of EventMesh's protocols, and where.
struct Mesh {
    weft: Weft,
    tcp: SocketAddr,
    http: SocketAddr,
    grpc: SocketAddr,
    admin: SocketAddr,
}

async fn start() -> Mesh {
    start_with("").await
}

async fn start_with(more: &str) -> Mesh {
    let (tcp, http, grpc, admin) = (free_address(), free_address(), free_address(), free_address());
    let mut config = format!("{more}[webhook]\nloopback = true\nretry_ms = 100\nretries = 2\n");
    for (name, address) in
        [("eventmesh-tcp", tcp), ("eventmesh-http", http), ("grpc", grpc), ("eventmesh-admin", admin)]
    {
        config += &format!("[listener.em-{name}]\nlisten = \"{address}\"\nprotocol = \"{name}\"\n");
    }
    Mesh { weft: Setup::new().config(config).start().await, tcp, http, grpc, admin }
}

fn pair(name: &str, value: &str) -> Property {
    Property::Pair(name.to_owned(), value.to_owned())
}

async fn device(weft: &Weft, name: &str, filter: &str) -> Client {
    let (mut device, _) = Client::connect(weft.mqtt, &Connect::v5(name)).await.unwrap();
    assert_eq!(device.subscribe(&[(filter, 1)]).await, [1]);
    device
}

/// The trace that an event belongs to.
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// What a CloudEvent says, as the wire tests compare it.
const EVENT: &str = r#"{"specversion":"1.0","id":"e-1","source":"/shop","type":"order.placed","subject":"events","time":"2024-05-01T10:00:00.123Z","datacontenttype":"application/json","accext":"v-2","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","data":{"n":1,"text":"zażółć 🚀"}}"#;

fn event() -> Value {
    serde_json::from_str(EVENT).unwrap()
}

/// Subscriptions of all protocols may have filters; those of one group have the same, whatever they came by.
#[tokio::test]
async fn subscriptions_of_eventmesh_take_filters() {
    let mesh = start().await;
    let item = |expression: &str| json!({"topic": "orders", "mode": "CLUSTERING", "type": "ASYNC", "filter": {"cel": expression}});
    let big = "data.n > 10";
    let mut by_grpc = GrpcPeer::connect(mesh.grpc).await;
    let (mut stream, answer) = by_grpc.subscribe("1", "g1", &item(big)).await;
    assert_eq!(answer.text("statuscode"), Some("0"), "{answer:?}");
    let mut by_tcp = Peer::hello(mesh.tcp, "g2", "sub").await;
    let wanted = json!({"topicList": [item(big)]});
    assert_eq!(by_tcp.call("SUBSCRIBE_REQUEST", &json!({}), &wanted).await.code(), 0);
    assert_eq!(by_tcp.call("LISTEN_REQUEST", &json!({}), &Value::Null).await.code(), 0);
    let mut hook = Webhook::start().await;
    let mut web = Web::connect(mesh.http).await;
    let hooked = async |web: &mut Web, group: &str, expression: &str| {
        let topics = json!([item(expression)]).to_string();
        web.command(206, "1", &[("consumerGroup", group), ("topic", &*topics), ("url", &*hook.url)]).await
    };
    assert_eq!(hooked(&mut web, "g3", big).await.code(), 0);

    // Those that are wrong, or not that of the group.
    let (_stream, answer) = by_grpc.subscribe("2", "g4", &item("data.n = 1")).await;
    assert_ne!(answer.text("statuscode"), Some("0"));
    assert!(answer.text("responsemessage").unwrap().contains("at character 8"), "{answer:?}");
    let (_stream, answer) = by_grpc.subscribe("3", "g2", &item("data.n > 11")).await;
    assert!(answer.text("responsemessage").unwrap().contains("all of them have the same"), "{answer:?}");
    let mut late = Peer::hello(mesh.tcp, "g1", "sub").await;
    let wanted = json!({"topicList": [{"topic": "orders", "mode": "CLUSTERING", "type": "ASYNC"}]});
    let subscribed = late.call("SUBSCRIBE_REQUEST", &json!({}), &wanted).await;
    let refused = if subscribed.code() == 0 {
        late.call("LISTEN_REQUEST", &json!({}), &Value::Null).await
    } else {
        subscribed
    };
    assert_ne!(refused.code(), 0, "{refused:?}");
    assert_ne!(hooked(&mut web, "g2", "data.n > 12").await.code(), 0);

    let (mut writer, _) = Client::connect(mesh.weft.mqtt, &Connect::v5("writer")).await.unwrap();
    for n in [9, 11] {
        writer.publish(Publish::new("orders", json!({"n": n}).to_string(), 1)).await.unwrap();
    }
    assert_eq!(stream.next().await.data(), r#"{"n":11}"#);
    let frame = by_tcp.next().await;
    assert!(
        frame.body.to_string().contains("11") && !frame.body.to_string().contains("{\\\"n\\\":9}"),
        "{frame:?}"
    );
    assert_eq!(hook.next().await.content(), r#"{"n":11}"#);
    let (status, page) = mesh.weft.get("/admin/subscriptions").await.unwrap();
    let page: Value = serde_json::from_str(&page).unwrap();
    let shown = page["subscriptions"].as_array().unwrap();
    assert_eq!(status, 200);
    assert_eq!(shown.iter().filter(|one| one["selects"] == "cel: data.n > 10").count(), 3, "{page}");
}

#[tokio::test]
async fn a_message_published_by_http_reaches_every_protocol() {
    let mesh = start().await;
    let mut there = device(&mesh.weft, "there", "orders").await;
    let mut by_grpc = GrpcPeer::connect(mesh.grpc).await;
    let mut stream = by_grpc.listen("1", "g1", "orders").await;
    let mut by_tcp = Peer::listen(mesh.tcp, "g2", "orders", "CLUSTERING", "ASYNC").await;
    let mut browser = Socket::connect(mesh.weft.http, "").await.unwrap();
    browser.subscribe("orders").await;
    let mut hook = Webhook::start().await;
    let mut web = Web::connect(mesh.http).await;
    web.subscribe("1", "g3", "orders", "ASYNC", &hook.url).await;

    let text = "zażółć & 'x' = 100% 🚀";
    web.publish("orders", text, &[("extFields", r#"{"accprop":"v-1","UPPER_case":"x y"}"#), ("tag", "red")])
        .await;
    let properties = [
        ("accprop", "v-1"),
        ("bizseqno", "biz-1"),
        ("uniqueid", "unique-1"),
        ("producergroup", "p"),
        ("ttl", "30000"),
        ("tag", "red"),
        ("idc", "FT"),
        ("sys", "1234"),
    ];

    let got = there.message().await.unwrap().unwrap();
    assert_eq!((&*got.topic, &*got.payload), ("orders", text.as_bytes()));
    let got_grpc = stream.next().await;
    assert_eq!((got_grpc.text("subject"), got_grpc.data()), (Some("orders"), text));
    let got_tcp = by_tcp.next().await;
    assert_eq!((&got_tcp.body["topic"], &got_tcp.body["body"]), (&json!("orders"), &json!(text)));
    let got_browser: Value = serde_json::from_str(&browser.text().await).unwrap();
    assert_eq!((&got_browser["data"], &got_browser["type"]), (&json!(text), &json!("eventmeshmessage")));
    let post = hook.next().await;
    assert_eq!((post.content(), &*post.fields["topic"]), (text, "orders"));
    for (name, value) in properties {
        assert!(got.properties.contains(&pair(name, value)), "{name} in {got:?}");
        assert_eq!(got_grpc.text(name), Some(value), "{name}");
        assert_eq!(got_tcp.body["properties"][name], value, "{name}");
        assert_eq!(got_browser[name], value, "{name}");
        assert_eq!(post.extensions()[name], value, "{name}");
    }
    assert!(got.properties.contains(&pair("UPPER_case", "x y")), "{got:?}");
    assert_eq!(got_tcp.body["properties"]["UPPER_case"], "x y");
    assert_eq!(post.extensions()["UPPER_case"], "x y");
    for said in [
        format!("{got:?}"),
        format!("{got_grpc:?}"),
        format!("{got_tcp:?}"),
        got_browser.to_string(),
        format!("{post:?}"),
    ] {
        assert!(!said.contains("hidden-password") && !said.contains("somebody"), "a secret went on: {said}");
    }
}

#[tokio::test]
async fn a_cloud_event_published_by_http_keeps_every_attribute() {
    let mesh = start().await;
    let mut there = device(&mesh.weft, "there", "events").await;
    let mut by_grpc = GrpcPeer::connect(mesh.grpc).await;
    let mut stream = by_grpc.listen("1", "g1", "events").await;
    let mut by_tcp = Peer::listen(mesh.tcp, "g2", "events", "CLUSTERING", "ASYNC").await;
    let mut hook = Webhook::start().await;
    let mut web = Web::connect(mesh.http).await;
    web.subscribe("1", "g3", "events", "ASYNC", &hook.url).await;
    let headers = [("code", "104"), ("protocoltype", "cloudevents"), ("protocolversion", "1.0")];
    let answer = web.form(&headers, &[("content", EVENT), ("producergroup", "p")]).await;
    assert_eq!(answer.code(), 0, "{answer:?}");

    let got = there.message().await.unwrap().unwrap();
    let got_grpc = stream.next().await;
    assert_eq!((&*got_grpc.id, &*got_grpc.source, &*got_grpc.ty), ("e-1", "/shop", "order.placed"));
    for (name, value) in event().as_object().unwrap() {
        let Some(value) = value.as_str().filter(|_| !["datacontenttype", "time"].contains(&&**name)) else {
            continue;
        };
        assert!(got.properties.contains(&pair(name, value)), "{name} in {got:?}");
    }
    assert_eq!((got_grpc.text("accext"), got_grpc.text("traceparent")), (Some("v-2"), Some(TRACE)));
    let data: Value = serde_json::from_slice(&got.payload).unwrap();
    assert_eq!(data, event()["data"]);
    assert_eq!(serde_json::from_str::<Value>(got_grpc.data()).unwrap(), event()["data"]);
    assert_eq!(by_tcp.next().await.body, event());
    let post = hook.next().await;
    assert_eq!((post.content(), &*post.headers["code"]), (EVENT, "105"));
}

/// W3C Trace Context: the trace of a request over HTTP is that of its event, and a message of TCP brings its own.
#[tokio::test]
async fn a_trace_goes_on_from_eventmesh_to_mqtt() {
    let mesh = start().await;
    let mut there = device(&mesh.weft, "there", "traced").await;
    let mut web = Web::connect(mesh.http).await;
    let headers = [("traceparent", TRACE), ("source", "/s"), ("bizseqno", "1")];
    assert_eq!(web.json("/eventmesh/publish/traced", &headers, &json!({"content": "x"})).await.code(), 0);
    let mut by_tcp = Peer::hello(mesh.tcp, "p", "pub").await;
    by_tcp.publish(&tests::eventmesh::message("traced", "x", &[("traceparent", TRACE)])).await;
    for way in ["a header of HTTP", "a property of TCP"] {
        let got = there.message().await.unwrap().unwrap();
        assert!(got.properties.contains(&pair("traceparent", TRACE)), "{way}: {got:?}");
    }
}

/// What a CloudEvent in a webhook's `content` says.
fn content(post: &Post) -> Value {
    serde_json::from_str(post.content()).unwrap()
}

#[tokio::test]
async fn a_webhook_gets_events_of_every_protocol_whole() {
    let mesh = start().await;
    let mut hook = Webhook::start().await;
    let mut web = Web::connect(mesh.http).await;
    web.subscribe("1", "g", "events", "ASYNC", &hook.url).await;

    // TCP, structured.
    let mut by_tcp = Peer::hello(mesh.tcp, "p", "pub").await;
    assert_eq!(by_tcp.call("ASYNC_MESSAGE_TO_SERVER", &event_properties(), &event()).await.code(), 0);
    assert_eq!(content(&hook.next().await), event());

    // MQTT 5, binary.
    let (mut device, _) = Client::connect(mesh.weft.mqtt, &Connect::v5("device")).await.unwrap();
    let mut publish = Publish::new("events", r#"{"n":1,"text":"zażółć 🚀"}"#, 1);
    for (name, value) in event().as_object().unwrap() {
        let Some(value) = value.as_str().filter(|_| name != "datacontenttype") else { continue };
        publish = publish.with(pair(name, value));
    }
    publish = publish.with(Property::Text(3, "application/json".to_owned()));
    device.publish(publish).await.unwrap();
    assert_eq!(content(&hook.next().await), event());

    // MQTT 5, plain, with a user property.
    let plain = Publish::new("events", "21.5", 1).with(pair("Sensor-Id", "7"));
    device.publish(plain).await.unwrap();
    let post = hook.next().await;
    assert_eq!((post.content(), &post.extensions()["Sensor-Id"]), ("21.5", &json!("7")));
    assert_eq!(post.extensions()["protocoltype"], "eventmeshmessage");

    // gRPC.
    let mut by_grpc = GrpcPeer::connect(mesh.grpc).await;
    let attributes = [
        ("subject", "events"),
        ("protocoltype", "cloudevents"),
        ("uniqueid", "u-9"),
        ("seqnum", "s-9"),
        ("producergroup", "p"),
        ("ttl", "4000"),
        ("datacontenttype", "application/json"),
        ("accext", "v-2"),
        ("traceparent", TRACE),
    ];
    by_grpc.publish(&GrpcEvent::from("1", &attributes, r#"{"n":1}"#)).await;
    let post = hook.next().await;
    let json = content(&post);
    for (name, value) in [
        ("id", "grpc-1"),
        ("source", "/grpc"),
        ("type", "grpc.type"),
        ("accext", "v-2"),
        ("traceparent", TRACE),
    ] {
        assert_eq!(json[name], value, "{name} in {json}");
    }
    assert_eq!(json["data"], json!({"n": 1}));
    assert_eq!((&*post.fields["uniqueId"], &*post.fields["bizseqno"]), ("u-9", "s-9"));
    assert!(!format!("{post:?}").contains("hidden-password"), "{post:?}");

    // By a path.
    let headers = [("source", "/paths"), ("bizseqno", "b-7")];
    let answer = web.json("/eventmesh/publish/events", &headers, &json!({"content": "x"})).await;
    assert_eq!(answer.code(), 0, "{answer:?}");
    let post = hook.next().await;
    assert_eq!((content(&post), &*post.fields["bizseqno"]), (json!({"content": "x"}), "b-7"));
    assert_eq!((&*post.headers["source"], &*post.headers["type"]), ("/paths", "http_request"));
}

#[tokio::test]
async fn a_group_has_members_on_four_protocols() {
    let mesh = start().await;
    let mut device = device(&mesh.weft, "member", "$share/g/jobs").await;
    let mut by_tcp = Peer::listen(mesh.tcp, "g", "jobs", "CLUSTERING", "ASYNC").await;
    let mut peer = GrpcPeer::connect(mesh.grpc).await;
    let mut by_grpc = peer.listen("1", "g", "jobs").await;
    let (mut one, mut two) = (Webhook::start().await, Webhook::start().await);
    let mut web = Web::connect(mesh.http).await;
    web.subscribe("1", "g", "jobs", "ASYNC", &one.url).await;
    web.subscribe("2", "g", "jobs", "ASYNC", &two.url).await;
    const EVENTS: usize = 50;
    for n in 0..EVENTS {
        web.publish("jobs", &n.to_string(), &[]).await;
    }
    let mut got: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for _ in 0..EVENTS {
        let (who, what) = tokio::select! {
            message = device.message() => ("mqtt", String::from_utf8(message.unwrap().unwrap().payload).unwrap()),
            frame = by_tcp.next() => {
                by_tcp.ack(&frame).await;
                ("tcp", frame.body["body"].as_str().unwrap().to_owned())
            }
            event = by_grpc.next() => ("grpc", event.data().to_owned()),
            post = one.next() => ("webhook one", post.content().to_owned()),
            post = two.next() => ("webhook two", post.content().to_owned()),
        };
        got.entry(who).or_default().push(what);
    }
    assert_eq!(got.len(), 5, "not shared by all: {got:?}");
    let mut all: Vec<usize> = got.values().flatten().map(|n| n.parse().unwrap()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..EVENTS).collect::<Vec<_>>());
}

#[tokio::test]
async fn requests_by_http_are_answered_by_any_protocol() {
    let mesh = start().await;
    let mut web = Web::connect(mesh.http).await;
    let ask = |topic: &'static str| async move {
        let mut web = Web::connect(mesh.http).await;
        let fields = [
            ("topic", topic),
            ("content", "how warm?"),
            ("bizseqno", "1"),
            ("uniqueid", "2"),
            ("producergroup", "p"),
            ("ttl", "20000"),
        ];
        web.command(101, "7", &fields).await
    };
    let reply = |answer: Answer| -> Value {
        assert_eq!(answer.code(), 0, "{answer:?}");
        serde_json::from_str(answer.body["retMsg"].as_str().unwrap()).unwrap()
    };

    // By a responder over TCP.
    let mut by_tcp = Peer::listen(mesh.tcp, "g", "ask/tcp", "CLUSTERING", "SYNC").await;
    let answering = async {
        let request = by_tcp.next().await;
        let mut answer = request.body.clone();
        answer["body"] = json!("21.5");
        by_tcp.send("RESPONSE_TO_SERVER", &message_properties(), &answer).await;
        by_tcp.ack(&request).await;
    };
    let (answer, ()) = tokio::join!(ask("ask/tcp"), answering);
    let said = reply(answer);
    assert_eq!((&said["topic"], &said["body"]), (&json!("ask/tcp"), &json!("21.5")));

    // By a webhook, with code 301.
    let mut hook = Webhook::start().await;
    web.subscribe("1", "g", "ask/web", "SYNC", &hook.url).await;
    let answering = async {
        let post = hook.next().await;
        assert_eq!((&*post.headers["code"], post.content()), ("106", "how warm?"));
        let fields = [
            ("origtopic", "ask/web"),
            ("content", "22.5"),
            ("bizseqno", "1"),
            ("uniqueid", "2"),
            ("producergroup", "g"),
            ("extFields", &*post.fields["extFields"]),
        ];
        let answer = web.command(301, "8", &fields).await;
        assert_eq!(answer.code(), 0, "{answer:?}");
        // Who does not say what it answers is told so.
        let lost: Vec<(&str, &str)> = fields
            .iter()
            .map(|(name, value)| (*name, if *name == "extFields" { "{}" } else { *value }))
            .collect();
        assert_eq!(web.command(301, "8", &lost).await.code(), 16);
    };
    let (answer, ()) = tokio::join!(ask("ask/web"), answering);
    assert_eq!(reply(answer)["body"], "22.5");

    // By nobody.
    let fields = [
        ("topic", "ask/nobody"),
        ("content", "x"),
        ("bizseqno", "1"),
        ("uniqueid", "2"),
        ("producergroup", "p"),
        ("ttl", "50"),
    ];
    assert_eq!(Web::connect(mesh.http).await.command(101, "7", &fields).await.code(), 4);
}

#[tokio::test]
async fn what_no_webhook_takes_is_a_dead_letter() {
    let mesh = start().await;
    let mut dead = device(&mesh.weft, "undertaker", "$dead/#").await;
    let mut hook = Webhook::start().await;
    let mut web = Web::connect(mesh.http).await;
    web.subscribe("1", "g", "jobs", "ASYNC", &hook.url).await;
    for (status, code) in [(500, 0), (200, 2), (200, 5)] {
        hook.answer(status, code);
    }
    web.publish("jobs", "heavy", &[]).await;
    for _ in 0..3 {
        assert_eq!(hook.next().await.content(), "heavy");
    }
    let letter = dead.message().await.unwrap().unwrap();
    assert_eq!((&*letter.topic, &*letter.payload), ("$dead/g/jobs", &b"heavy"[..]));
    assert!(letter.properties.contains(&pair("uniqueid", "unique-1")), "{letter:?}");
    let mut audit = device(&mesh.weft, "auditor", "$replay/all/$weft/audit/dead-letter").await;
    let told: Value = serde_json::from_slice(&audit.message().await.unwrap().unwrap().payload).unwrap();
    let letter = json!({
        "topic": "jobs", "letter": "$dead/g/jobs", "id": told["id"], "source": told["source"],
        "reason": "no webhook of the group took it", "left_out": 0
    });
    assert_eq!(told, letter);
    web.publish("jobs", "light", &[]).await;
    assert_eq!(hook.next().await.content(), "light", "the webhook goes on");
}

#[tokio::test]
async fn what_was_answered_with_0_outlives_a_crash() {
    let mut mesh = start().await;
    let (mut device, _) = Client::connect(mesh.weft.mqtt, &Connect::v5("keeper").persistent()).await.unwrap();
    device.subscribe(&[("kept/#", 1)]).await;
    drop(device);
    let mut web = Web::connect(mesh.http).await;
    for n in 0..20 {
        web.publish("kept/form", &n.to_string(), &[]).await;
        assert_eq!(web.json("/eventmesh/publish/kept/path", &[], &json!({"n": n})).await.code(), 0);
    }
    let contents: Vec<Value> =
        (0..10).map(|n| json!({"bizSeqNo": "1", "topic": "kept/batch", "msg": n.to_string()})).collect();
    let contents = Value::from(contents).to_string();
    let fields = [("batchId", "b"), ("size", "10"), ("producerGroup", "p"), ("contents", &*contents)];
    assert_eq!(web.command(102, "7", &fields).await.code(), 0);
    mesh.weft.kill().await;
    mesh.weft.restart().await;
    let back = Connect { clean: false, ..Connect::v5("keeper").persistent() };
    let (mut device, present) = Client::connect(mesh.weft.mqtt, &back).await.unwrap();
    assert!(present);
    let mut got: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for _ in 0..50 {
        let message = device.message().await.unwrap().unwrap();
        got.entry(message.topic).or_default().push(String::from_utf8(message.payload).unwrap());
    }
    assert_eq!(got["kept/form"], (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(got["kept/path"], (0..20).map(|n| json!({"n": n}).to_string()).collect::<Vec<_>>());
    assert_eq!(got["kept/batch"], (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn every_bad_request_is_answered_and_the_connection_goes_on() {
    let mesh = start().await;
    let mut web = Web::connect(mesh.http).await;
    let long = "x".repeat(1001);
    let topics = r#"[{"topic":"t"}]"#;
    for (code, fields, want) in [
        (
            104,
            &[
                ("topic", "t"),
                ("content", &*long),
                ("bizseqno", "1"),
                ("uniqueid", "1"),
                ("producergroup", "p"),
            ][..],
            8,
        ),
        (
            101,
            &[
                ("topic", "t"),
                ("content", &*long),
                ("bizseqno", "1"),
                ("uniqueid", "1"),
                ("producergroup", "p"),
            ],
            7,
        ),
        (104, &[], 7),
        (102, &[("batchId", "1"), ("size", "2"), ("contents", "[]"), ("producerGroup", "p")], 7),
        (107, &[("topic", "t")], 7),
        (301, &[], 7),
        (206, &[("url", "ftp://h/"), ("consumerGroup", "g"), ("topic", topics)], 7),
        (206, &[("url", "http://no-such-host.invalid/"), ("consumerGroup", "g"), ("topic", topics)], 7),
        (206, &[("url", "http://169.254.169.254/"), ("consumerGroup", "g"), ("topic", topics)], 7),
        (207, &[("consumerGroup", "g")], 7),
        (203, &[("consumerGroup", "g"), ("heartbeatEntities", "{")], 7),
    ] {
        let answer = web.command(code, "7", fields).await;
        assert_eq!((answer.status, answer.code()), (200, want), "{code} {fields:?}: {answer:?}");
        assert_eq!(answer.headers["code"], code.to_string());
        assert!(answer.body["retMsg"].as_str().unwrap().len() > 10, "{answer:?}");
    }
    assert_eq!(web.command(104, "none", &[]).await.code(), 6);
    let strange = web.form(&[("code", "999")], &[]).await;
    assert_eq!((strange.status, strange.code()), (400, 2));
    for (path, want) in [
        ("/eventmesh/publish/$SYS", 7),
        ("/eventmesh/publish", 7),
        ("/eventmesh/bridge/publish", 7),
        ("/eventmesh/subscribe/local", 7),
        ("/eventmesh/subscribe/remote", 100),
        ("/eventmesh/topic/create", 7),
    ] {
        assert_eq!(web.json(path, &[], &json!({"x": 1})).await.code(), want, "{path}");
    }
    let broken = web.post("/eventmesh/publish/t", &[("content-type", "application/json")], b"{broken").await;
    assert_eq!(broken.code(), 7);
    let page = web.post("/eventmesh/publish/t", &[("origin", "http://evil.example")], b"{}").await;
    assert_eq!(page.status, 403, "web pages of others may not: {page:?}");
    let huge = vec![b'x'; (1 << 20) + 1];
    let answer = web.post("/", &[("code", "104")], &huge).await;
    assert_eq!((answer.status, answer.code()), (413, 8));
}

#[tokio::test]
async fn operators_see_and_send_away_clients_of_all_protocols() {
    let mesh = start().await;
    let _by_tcp = Peer::listen(mesh.tcp, "g-tcp", "t", "CLUSTERING", "ASYNC").await;
    let mut peer = GrpcPeer::connect(mesh.grpc).await;
    let mut stream = peer.listen("17", "g-grpc", "t").await;
    let mut hook = Webhook::start().await;
    let mut web = Web::connect(mesh.http).await;
    web.subscribe("18", "g-http", "t", "ASYNC", &hook.url).await;
    let page = |path: &'static str| async move {
        let answer = reqwest::get(format!("http://{}{path}", mesh.admin)).await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.json::<Value>().await.unwrap()
    };
    for (path, group, pid) in
        [("/client/tcp", "g-tcp", 1), ("/client/grpc", "g-grpc", 17), ("/client/http", "g-http", 18)]
    {
        let clients = page(path).await;
        let client = &clients[0];
        assert_eq!((&client["group"], &client["pid"]), (&json!(group), &json!(pid)), "{clients}");
        assert_eq!((&client["host"], &client["topics"]), (&json!("127.0.0.1"), &json!(["t"])));
    }
    assert_eq!(page("/client/http").await[0]["url"], hook.url);
    assert_eq!(page("/topic").await, json!([{"name": "t"}]));

    let client = reqwest::Client::new();
    let delete = |path: &str, body: Value| {
        client.delete(format!("http://{}{path}", mesh.admin)).body(body.to_string()).send()
    };
    let gone: Value = delete("/client/http", json!({"url": hook.url})).await.unwrap().json().await.unwrap();
    assert_eq!(gone, json!({"rejected": 1}));
    eventually("the webhook is gone", || async { (page("/client/http").await == json!([])).then_some(()) })
        .await;
    web.publish("t", "x", &[]).await;
    assert_eq!(stream.next().await.data(), "x", "gRPC still gets events");
    assert!(hook.next_within(Duration::from_millis(300)).await.is_none(), "the webhook gets none");
    let place = page("/client/grpc").await[0].clone();
    let wanted = json!({"host": place["host"], "port": place["port"]});
    assert_eq!(delete("/client/grpc", wanted).await.unwrap().status(), 200);
    let end = tokio::time::timeout(PATIENCE, stream.try_next()).await.expect("the stream ends");
    assert!(end.is_err(), "{end:?}");
    assert_eq!(delete("/client/tcp", json!({})).await.unwrap().status(), 400, "nobody is not everybody");

    let event = client.post(format!("http://{}/event", mesh.admin)).body(EVENT).send().await.unwrap();
    assert_eq!(event.status(), 200);
    let page = client.get(format!("http://{}/client/tcp", mesh.admin)).header("sec-fetch-site", "cross-site");
    assert_eq!(page.send().await.unwrap().status(), 403, "web pages of others may not");
}

#[tokio::test]
async fn who_may_publish_and_operate_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (users, rules) = (folder.path().join("users"), folder.path().join("rules.toml"));
    passwd(&users, "shop", Some("a-long-secret-1"), &[]).await;
    passwd(&users, "chief", Some("a-long-secret-2"), &[]).await;
    std::fs::write(
        &rules,
        "admins = [\"chief\"]\n[[rule]]\nuser = \"shop\"\nallow = \"all\"\ntopic = \"orders/#\"\n",
    )
    .unwrap();
    let access = format!(
        "[access]\npassword_file = {:?}\nacl_file = {:?}\nanonymous = \"never\"\n",
        users.display().to_string(),
        rules.display().to_string()
    );
    let mesh = start_with(&access).await;
    let mut web = Web::connect(mesh.http).await;
    let fields = [
        ("topic", "orders/eu"),
        ("content", "x"),
        ("bizseqno", "1"),
        ("uniqueid", "1"),
        ("producergroup", "p"),
    ];
    let code = ("code", "104");
    let shop = ("authorization", "Basic c2hvcDphLWxvbmctc2VjcmV0LTE=");
    assert_eq!(web.form(&[code], &fields).await.code(), 22, "somebody is not known");
    assert_eq!(web.form(&[code, shop], &fields).await.code(), 0);
    let mut other = fields;
    other[0].1 = "secret/plans";
    assert_eq!(web.form(&[code, shop], &other).await.code(), 22, "not allowed");

    let client = reqwest::Client::new();
    let pages = format!("http://{}/client/tcp", mesh.admin);
    assert_eq!(client.get(&pages).send().await.unwrap().status(), 401);
    let asked = client.get(&pages).basic_auth("shop", Some("a-long-secret-1"));
    assert_eq!(asked.send().await.unwrap().status(), 403);
    let asked = client.get(&pages).basic_auth("chief", Some("a-long-secret-2"));
    assert_eq!(asked.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn clients_speak_https_as_well() {
    let ca = Authority::new();
    let address = free_address();
    let tls = ca.tls("mesh", "");
    let config = format!("[listener.mesh]\nlisten = \"{address}\"\nprotocol = \"eventmesh-http\"\n{tls}");
    let weft = Setup::new().config(config).start().await;
    let mut there = device(&weft, "there", "orders").await;
    let pem = std::fs::read(ca.path("ca.pem")).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([reqwest::Certificate::from_pem(&pem).unwrap()])
        .resolve("localhost", address)
        .build()
        .unwrap();
    let url = format!("https://localhost:{}/eventmesh/publish/orders", address.port());
    let answer =
        client.post(url).header("content-type", "application/json").body(r#"{"n":1}"#).send().await.unwrap();
    assert_eq!(answer.json::<Value>().await.unwrap()["retCode"], 0);
    assert_eq!(there.message().await.unwrap().unwrap().payload, br#"{"n":1}"#);
}

#[tokio::test]
async fn a_heartbeat_keeps_a_webhook_and_its_silence_ends_it() {
    let (http, mut config) = (free_address(), "[webhook]\nloopback = true\nsilence_s = 1\n".to_owned());
    config += &format!("[listener.em]\nlisten = \"{http}\"\nprotocol = \"eventmesh-http\"\n");
    let weft = Setup::new().config(config).start().await;
    let (silent, quiet) = (Webhook::start().await, Webhook::start().await);
    let mut web = Web::connect(http).await;
    web.subscribe("1", "g1", "t", "ASYNC", &silent.url).await;
    web.subscribe("2", "g2", "t", "ASYNC", &quiet.url).await;
    let entities = json!([{"topic": "t", "url": silent.url}]).to_string();
    let beat = [("clientType", "SUB"), ("consumerGroup", "g1"), ("heartbeatEntities", &*entities)];
    assert_eq!(web.command(203, "1", &beat).await.code(), 0);
    // Who sent one is watched from then on, who sent none is not.
    eventually("the silent one is gone", || async {
        let (_, page) = weft.get("/admin/sessions").await?;
        (!page.contains("$webhook/g1") && page.contains("$webhook/g2")).then_some(())
    })
    .await;
}
