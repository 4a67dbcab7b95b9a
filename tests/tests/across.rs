//! A CloudEvent goes from every protocol to every other with no attribute and no byte lost.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tests::PATIENCE;
use tests::Weft;
use tests::cloud::{CloudEvent, STRUCTURED};
use tests::raw::Client;
use tests::socket::Socket;
use tests::sse::{Parser, ServerSentEvent};
use tests::wire::{Connect, Property, Publish};

/// How an event goes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    HttpBinary,
    HttpStructured,
    HttpBatch,
    WebSocket,
    Mqtt5Binary,
    Mqtt5Structured,
    Mqtt311,
}

const WAYS: [Way; 7] = [
    Way::HttpBinary,
    Way::HttpStructured,
    Way::HttpBatch,
    Way::WebSocket,
    Way::Mqtt5Binary,
    Way::Mqtt5Structured,
    Way::Mqtt311,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_arrives_whole_on_every_way() {
    let weft = Weft::start().await;
    let mut readers = Readers::open(&weft).await;
    for (name, event) in events() {
        for way in WAYS {
            let topic = format!("across/{name}/{way:?}");
            let event = event.clone().with("id", &format!("{name}-{way:?}"));
            send(&weft, way, &topic, &event).await;
            for (reader, got) in readers.next().await {
                assert_eq!(got.topic, topic, "{way:?} to {reader}");
                assert_eq!(got.event, event, "{name} from {way:?} to {reader}");
            }
        }
    }
}

/// What is no CloudEvent arrives as it was sent, and JSON readers see derived attributes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_publish_arrives_everywhere() {
    let weft = Weft::start().await;
    let (mut plain, _) = Client::connect(weft.mqtt, &Connect::v4("plain")).await.unwrap();
    plain.subscribe(&[("plain/#", 2)]).await;
    let mut stream = Stream::open(&weft, "plain/#").await;
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v4("a writer")).await.unwrap();
    let cases: [(&[u8], Option<&str>); 4] = [
        (b"21.5", Some("application/json")),
        (b"21.5 C", Some("text/plain")),
        (b"\xff\0\x01", Some("application/octet-stream")),
        (b"", None),
    ];
    for (data, content_type) in cases {
        writer.publish(Publish::new("plain/t", data, 1)).await.unwrap();
        let message = plain.message().await.unwrap().unwrap();
        assert_eq!(message.payload, data);
        let shown = stream.next().await;
        assert_eq!(shown.event.data, data);
        assert_eq!(shown.event.get("datacontenttype"), content_type);
        assert_eq!(shown.event.get("type"), Some("weft.message"));
        assert_eq!(shown.event.get("source"), Some("/clients/a%20writer"));
        assert_eq!(shown.event.get("subject"), Some("plain/t"));
        assert_eq!(shown.topic, "plain/t");
    }
}

/// What MQTT 5 knows beside the data goes to other MQTT 5 clients unchanged (§3.3.2.3).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn properties_of_mqtt_5_pass_unchanged() {
    let weft = Weft::start().await;
    let (mut reader, _) = Client::connect(weft.mqtt, &Connect::v5("reader")).await.unwrap();
    reader.subscribe(&[("properties/#", 2)]).await;
    let (mut writer, _) = Client::connect(weft.mqtt, &Connect::v5("writer")).await.unwrap();
    let properties = [
        Property::Byte(1, 1),
        Property::Text(3, "text/x-note".to_owned()),
        Property::Text(8, "reply/here".to_owned()),
        Property::Data(9, vec![0, 255, 7]),
        Property::Pair("B".to_owned(), "2".to_owned()),
        Property::Pair("A b".to_owned(), "1".to_owned()),
        Property::Pair("B".to_owned(), "again".to_owned()),
    ];
    let mut publish = Publish::new("properties/t", "hello", 2);
    publish.properties = properties.to_vec();
    writer.publish(publish).await.unwrap();
    let got = reader.message().await.unwrap().unwrap();
    let pairs = |list: &[Property]| -> Vec<Property> {
        list.iter().filter(|property| matches!(property, Property::Pair(..))).cloned().collect()
    };
    assert_eq!(pairs(&got.properties), pairs(&properties), "user properties keep their order");
    for property in &properties {
        assert!(got.properties.contains(property), "{property:?} is not among {:?}", got.properties);
    }
    assert_eq!(got.properties.len(), properties.len());
}

fn events() -> Vec<(&'static str, CloudEvent)> {
    let full = CloudEvent::new("x", "https://example.org/träger?a=b#c", "org.example.reading")
        .with("subject", "Küche/Ofen \"2\", 100 % \\ ☃ 🦀")
        .with("time", "2024-02-29T23:59:59.123456789+01:30")
        .with("dataschema", "https://example.org/schema/1")
        .with("text", "  with spaces  and ünicode, comma; semicolon")
        .with("count", "-2147483648")
        .with("flag", "true")
        .with("blob", "AP8=")
        .with("a1b2c3", "x");
    let bytes: Vec<u8> = (0..=255).chain([0, 0, 10, 13]).collect();
    vec![
        ("bytes", full.clone().data("application/octet-stream", &bytes)),
        ("json", full.clone().data("application/json", br#"{"b":[1,2.50,"ue"],"a":{"n":null}}"#)),
        ("vendor-json", full.clone().data("application/vnd.example+json; charset=utf-8", br#"[true]"#)),
        ("text", full.clone().data("text/plain; charset=utf-8", "grüße \"x\"\r\n\ttab".as_bytes())),
        ("no-data", full),
        ("small", CloudEvent::new("y", "/s", "t").data("application/octet-stream", b"\0")),
    ]
}

async fn send(weft: &Weft, way: Way, topic: &str, event: &CloudEvent) {
    match way {
        Way::HttpBinary | Way::HttpStructured | Way::HttpBatch => post(weft, way, topic, event).await,
        Way::WebSocket => {
            let mut socket = Socket::connect(weft.http, "").await.unwrap();
            // The topic travels in the event, and comes out as it went in.
            socket.publish(&event.clone().with("wefttopic", topic)).await;
        }
        Way::Mqtt5Binary => publish(weft, &Connect::v5("sender"), event.to_publish(topic, 1)).await,
        Way::Mqtt5Structured => {
            let publish_it = Publish::new(topic, event.to_json(), 2);
            let typed = publish_it.with(Property::Text(tests::cloud::CONTENT_TYPE, STRUCTURED.to_owned()));
            publish(weft, &Connect::v5("sender"), typed).await;
        }
        Way::Mqtt311 => publish(weft, &Connect::v4("sender"), Publish::new(topic, event.to_json(), 1)).await,
    }
}

async fn publish(weft: &Weft, connect: &Connect, publish: Publish) {
    let (mut client, _) = Client::connect(weft.mqtt, connect).await.unwrap();
    client.publish(publish).await.unwrap();
    client.disconnect().await;
}

async fn post(weft: &Weft, way: Way, topic: &str, event: &CloudEvent) {
    let url = format!("http://{}/events?topic={topic}", weft.http);
    let request = reqwest::Client::new().post(url);
    let request = match way {
        Way::HttpStructured => request.header("content-type", STRUCTURED).body(event.to_json()),
        Way::HttpBatch => {
            let body = format!("[{}]", event.to_json());
            request.header("content-type", "application/cloudevents-batch+json").body(body)
        }
        _ => event.attributes.iter().fold(request.body(event.data.clone()), |request, (name, value)| {
            let name =
                if name == "datacontenttype" { "content-type".to_owned() } else { format!("ce-{name}") };
            let value = if name == "content-type" { value.clone() } else { percent_encode(value) };
            request.header(name, value)
        }),
    };
    let answer = request.send().await.unwrap();
    let (status, body) = (answer.status(), answer.text().await.unwrap());
    assert!(status.is_success(), "{way:?}: {status}: {body}");
    assert!(body.contains(event.get("id").unwrap()), "{body}");
}

/// CE HTTP §3.1.3.2: space, `"`, `%` and all that is not printable ASCII.
fn percent_encode(value: &str) -> String {
    let plain = |byte: &u8| (0x21..=0x7e).contains(byte) && !matches!(byte, b'"' | b'%');
    let encode = |byte: u8| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    value.bytes().map(encode).collect()
}

/// An event as a reader got it.
#[derive(Clone, Debug)]
struct Got {
    topic: String,
    event: CloudEvent,
}

impl Got {
    /// From JSON, where an attribute holds the topic.
    fn of(event: CloudEvent) -> Self {
        Self { topic: event.get("wefttopic").expect("wefttopic").to_owned(), event: event.without_travel() }
    }
}

/// One reader of each protocol.
struct Readers {
    mqtt5: Client,
    mqtt311: Client,
    socket: Socket,
    stream: Stream,
}

impl Readers {
    async fn open(weft: &Weft) -> Self {
        let (mut mqtt5, _) = Client::connect(weft.mqtt, &Connect::v5("reader-5")).await.unwrap();
        mqtt5.subscribe(&[("across/#", 2)]).await;
        let (mut mqtt311, _) = Client::connect(weft.mqtt, &Connect::v4("reader-311")).await.unwrap();
        mqtt311.subscribe(&[("across/#", 1)]).await;
        let mut socket = Socket::connect(weft.http, "client=reader-ws").await.unwrap();
        socket.subscribe("across/#").await;
        Self { mqtt5, mqtt311, socket, stream: Stream::open(weft, "across/#").await }
    }

    async fn next(&mut self) -> Vec<(&'static str, Got)> {
        let mut got = Vec::new();
        for (name, client) in [("MQTT 5", &mut self.mqtt5), ("MQTT 3.1.1", &mut self.mqtt311)] {
            let message = client.message().await.unwrap().expect("a message");
            let event = CloudEvent::from_publish(&message);
            got.push((name, Got { topic: message.topic, event: event.without_travel() }));
        }
        let shown = CloudEvent::from_json(self.socket.text().await.as_bytes());
        let position = shown.get("weftposition").expect("weftposition");
        self.socket.ask("weft.ack", serde_json::json!({"positions": [position]})).await;
        got.push(("WebSocket", Got::of(shown)));
        got.push(("server-sent events", self.stream.next().await));
        got
    }
}

/// A stream of server-sent events.
struct Stream {
    response: reqwest::Response,
    parser: Parser<Box<dyn FnMut(ServerSentEvent) + Send>>,
    events: Arc<Mutex<VecDeque<Got>>>,
}

impl Stream {
    async fn open(weft: &Weft, filter: &str) -> Self {
        let url = format!("http://{}/events?topic={}", weft.http, filter.replace('#', "%23"));
        let response = reqwest::get(url).await.unwrap();
        assert_eq!(response.status(), 200);
        let events = Arc::new(Mutex::new(VecDeque::new()));
        let sink = events.clone();
        let on_event = move |event: ServerSentEvent| {
            sink.lock().unwrap().push_back(Got::of(CloudEvent::from_json(event.data.as_bytes())));
        };
        Self { response, parser: Parser::new(Box::new(on_event)), events }
    }

    async fn next(&mut self) -> Got {
        loop {
            if let Some(got) = self.events.lock().unwrap().pop_front() {
                return got;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await;
            let chunk = chunk.expect("the stream shows the event").unwrap();
            self.parser.bytes(&chunk.expect("the stream goes on"));
        }
    }
}

/// A request over HTTP is answered with what an MQTT 5 device publishes to the Response Topic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_answers_a_request_over_http() {
    let weft = Weft::start().await;
    let (mut device, _) = Client::connect(weft.mqtt, &Connect::v5("device")).await.unwrap();
    device.subscribe(&[("ask/+", 1)]).await;
    let url = format!("http://{}/events?topic=ask/light&reply_ms=20000", weft.http);
    let ask = |accept: &'static str| {
        let request = reqwest::Client::new().post(&url).header("accept", accept).body("on?");
        tokio::spawn(async move {
            let answer = request.send().await.unwrap();
            let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
            (answer.status().as_u16(), kind, answer.text().await.unwrap())
        })
    };
    let plain = ask("*/*");
    let request = device.message().await.unwrap().expect("a request");
    assert_eq!(request.payload, b"on?");
    let reply_to = request.properties.iter().find_map(|one| match one {
        Property::Text(8, topic) => Some(topic.clone()),
        _ => None,
    });
    let correlation = request.properties.iter().find(|one| matches!(one, Property::Data(9, _))).unwrap();
    let reply_to = reply_to.expect("a Response Topic");
    // An answer to another request is none.
    device.publish(Publish::new(&reply_to, "nonsense", 1)).await.unwrap();
    device.publish(Publish::new(&reply_to, "{\"on\":true}", 1).with(correlation.clone())).await.unwrap();
    assert_eq!(plain.await.unwrap(), (200, "application/json".into(), "{\"on\":true}".into()));

    let structured = ask(STRUCTURED);
    let request = device.message().await.unwrap().expect("a request");
    let told = |one: &Property| matches!(one, Property::Data(9, _) | Property::Text(8, _));
    let mut told = request.properties.into_iter().filter(told).collect::<Vec<_>>();
    let topic = told.iter().position(|one| matches!(one, Property::Text(8, _))).unwrap();
    let Property::Text(_, reply_to) = told.remove(topic) else { unreachable!("it is a text") };
    device.publish(Publish::new(&reply_to, "yes", 0).with(told.remove(0))).await.unwrap();
    let (status, kind, body) = structured.await.unwrap();
    assert_eq!((status, &*kind), (200, STRUCTURED));
    let event: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((&event["data"], &event["type"]), (&"yes".into(), &"weft.message".into()));

    let url = format!("http://{}/events?topic=nobody&reply_ms=50", weft.http);
    let late = reqwest::Client::new().post(url).body("x").send().await.unwrap();
    assert_eq!(late.status().as_u16(), 504);
}
