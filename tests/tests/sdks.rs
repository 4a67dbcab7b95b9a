//! The official CloudEvents SDKs as clients: one publishes over HTTP in every mode it has, another reads what Weft gives
//! out as server-sent events, and what MQTT 5 and 3.1.1 subscribers get is compared as well: every attribute and the data.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tests::Weft;
use tests::cloud::{CONTENT_TYPE, CloudEvent, STRUCTURED};
use tests::raw::Client;
use tests::real::{Language, Sdk, Tool, needs};
use tests::sse::Parser;
use tests::wire::{Connect, Property, Publish};

const PYTHON: (Language, Tool) = (Language::Python, Tool::SdkPython);
const JAVASCRIPT: (Language, Tool) = (Language::JavaScript, Tool::SdkJavaScript);

const GO: (Language, Tool) = (Language::Go, Tool::SdkGo);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_publishes_also_in_batches_and_python_reads() {
    exchange(GO, PYTHON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_publishes_and_go_reads() {
    exchange(PYTHON, GO).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_publishes_and_javascript_reads() {
    exchange(PYTHON, JAVASCRIPT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn javascript_publishes_and_python_reads() {
    exchange(JAVASCRIPT, PYTHON).await;
}

async fn exchange(writer: (Language, Tool), reader: (Language, Tool)) {
    if !needs(&[writer.1, reader.1]) {
        return;
    }
    let weft = Weft::start().await;
    let mut five = Client::connect(weft.mqtt, &Connect::v5("five")).await.unwrap().0;
    let mut three = Client::connect(weft.mqtt, &Connect::v4("three")).await.unwrap().0;
    five.subscribe(&[("sdk", 1)]).await;
    three.subscribe(&[("sdk", 1)]).await;
    let url = format!("http://{}/events?topic=sdk", weft.http);
    let mut stream = reqwest::Client::new().get(&url).send().await.unwrap();
    let (say, mut shown) = tokio::sync::mpsc::channel(16);
    let mut parser = Parser::new(move |event: tests::sse::ServerSentEvent| say.try_send(event.data).unwrap());

    let (mut out, mut back) = (Sdk::start(writer.0), Sdk::start(reader.0));
    let modes: &[&str] = match writer.0 {
        Language::Go => &["binary", "structured", "batched"],
        Language::Python | Language::JavaScript => &["binary", "structured"],
    };
    for &mode in modes {
        for mut event in events(writer.0, mode) {
            let attributes = texts(&event["attributes"]);
            let wanted = (attributes, event.get("data").cloned(), event.get("data_base64").cloned());
            let case = format!("{:?}, {mode}: {wanted:?}", writer.0);
            event.extend(
                [("do", "publish"), ("mode", mode), ("url", url.as_str())].map(|(k, v)| (k.into(), v.into())),
            );
            let answer = out.call(&Value::Object(event)).await;
            assert!(matches!(answer["status"].as_u64(), Some(200..300)), "{case}: {answer}");

            let text = loop {
                if let Ok(text) = shown.try_recv() {
                    break text;
                }
                let chunk = stream.chunk().await.unwrap();
                parser.bytes(&chunk.expect("the stream goes on"));
            };
            let command = json!({ "do": "read", "content_type": STRUCTURED, "body": text });
            check(&wanted, &back.call(&command).await, &format!("{case}, as {:?} reads it", reader.0));

            let delivered = five.message().await.unwrap().expect("a message");
            check(&wanted, &seen(&delivered), &format!("{case}, over MQTT 5"));
            if reader.0 == Language::JavaScript {
                let answer = back.call(&binding(&delivered)).await;
                // The SDK's binding takes no attribute from Content Type, and leaves the payload as bytes.
                let mut attributes = wanted.0.clone();
                attributes.remove("datacontenttype");
                let bytes = STANDARD.encode(&delivered.payload);
                let wanted = (attributes, None, Some(bytes.into()));
                check(&wanted, &answer, &format!("{case}, over MQTT 5, as the SDK's own binding reads it"));
            }
            let delivered = three.message().await.unwrap().expect("a message");
            check(&wanted, &seen(&delivered), &format!("{case}, over MQTT 3.1.1"));
        }
    }
}

/// JSON, text, bytes, and no data. In binary mode the SDKs for JavaScript and Go do not encode headers as the HTTP binding
/// wants (CE HTTP §3.1.3.2): their events are of characters that need none of it. And without data the SDKs leave it to the
/// HTTP client, or to a default, to name a content type: that is only published in structured mode.
fn events(writer: Language, mode: &str) -> Vec<Map<String, Value>> {
    let plain = writer != Language::Python && mode == "binary";
    let (source, subject) =
        if plain { ("/sdk/a", "100 percent") } else { ("/sdk/a%20b", "größe 世界 \"100 %\"") };
    let event = |number: u32, content_type: Option<&str>, name: &str, data: Value| {
        let mut attributes = json!({
            "specversion": "1.0", "id": format!("{mode}-{number}"), "source": source, "type": "com.example.sdk",
            "subject": subject, "time": "2018-04-05T17:31:00.123Z", "dataschema": "https://example.com/schema",
            "anextension": "a, b; c=d", "anumber": 42,
        });
        if let Some(content_type) = content_type {
            attributes["datacontenttype"] = content_type.into();
        }
        let mut event = Map::from_iter([("attributes".to_owned(), attributes)]);
        if !data.is_null() {
            event.insert(name.to_owned(), data);
        }
        event
    };
    let mut events = vec![
        event(1, Some("application/json"), "data", json!({ "t": 20.5, "list": [1, "ä", null], "sub": {} })),
        event(2, Some("text/plain"), "data", "größe \"世界\"\nzweite".into()),
        event(3, Some("image/png"), "data_base64", STANDARD.encode(b"\x89PNG\r\n\0\xff").into()),
    ];
    if mode != "binary" {
        events.push(event(4, None, "data", Value::Null));
    }
    events
}

/// Attributes, and the data as JSON or in base64.
type Wanted = (Map<String, Value>, Option<Value>, Option<Value>);

fn check((attributes, data, data_base64): &Wanted, found: &Value, case: &str) {
    let mut shown = texts(&found["attributes"]);
    shown.retain(|name, _| !["wefttopic", "weftposition"].contains(&name.as_str()));
    assert_eq!(&shown, attributes, "{case}");
    let got = |name: &str| found.get(name).filter(|value| !value.is_null()).cloned();
    assert_eq!((&got("data"), &got("data_base64")), (data, data_base64), "{case}");
}

/// Every attribute as text, and `time` without zeros at its end: the SDKs keep a time, not how it was written.
fn texts(attributes: &Value) -> Map<String, Value> {
    let text = |(name, value): (&String, &Value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let text = if name == "time" { text.trim_end_matches(['0', 'Z']).to_owned() } else { text };
        (name.clone(), text.into())
    };
    attributes.as_object().expect("attributes").iter().map(text).collect()
}

/// A delivery, in the form that the programs with the SDKs use.
fn seen(publish: &Publish) -> Value {
    let event = CloudEvent::from_publish(publish);
    let mut shown = json!({ "attributes": event.attributes });
    match event.get("datacontenttype") {
        None => assert_eq!(event.data, b""),
        Some("application/json") => shown["data"] = serde_json::from_slice(&event.data).unwrap(),
        Some("text/plain") => shown["data"] = String::from_utf8(event.data.clone()).unwrap().into(),
        Some(_) => shown["data_base64"] = STANDARD.encode(&event.data).into(),
    }
    shown
}

/// A delivery, for the SDK's MQTT binding.
fn binding(publish: &Publish) -> Value {
    let mut command = json!({ "do": "readMqtt", "user_properties": {}, "payload_base64": STANDARD.encode(&publish.payload) });
    for property in &publish.properties {
        match property {
            Property::Text(CONTENT_TYPE, text) => command["content_type"] = text.as_str().into(),
            Property::Pair(name, value) => command["user_properties"][name] = value.as_str().into(),
            _ => {}
        }
    }
    command
}
