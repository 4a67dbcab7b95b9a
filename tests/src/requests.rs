//! Requests and their replies between clients here and a Java client behind a store, both ways.

use std::net::SocketAddr;

use serde_json::Value;

use crate::eventmesh_web::Web;
use crate::raw::Client;
use crate::real::JavaClient;
use crate::weft::Weft;
use crate::wire::{Connect, Property, Publish};

const RESPONSE_TOPIC: u8 = 8;
const CORRELATION_DATA: u8 = 9;

/// An MQTT 5 client of this name.
pub async fn connect(weft: &Weft, client: &str) -> Client {
    Client::connect(weft.mqtt, &Connect::v5(client)).await.unwrap().0
}

/// Asks `bodies` by MQTT 5 under `ask/`, and once more by a synchronous call over HTTP. `heard` judges the line that the Java
/// `service` says of a body; it answers with `said` and the body.
pub async fn ask(
    weft: &Weft,
    eventmesh: SocketAddr,
    service: &mut JavaClient,
    bodies: &[&str],
    heard: impl Fn(&str, &str),
    said: &str,
) {
    let (mut device, mut writer) = (connect(weft, "requester").await, connect(weft, "asking").await);
    device.subscribe(&[("answers/requester", 1)]).await;
    for (number, body) in (0..).zip(bodies) {
        let request = Publish::new("ask/one", *body, 1)
            .with(Property::Text(RESPONSE_TOPIC, "answers/requester".to_owned()))
            .with(Property::Data(CORRELATION_DATA, vec![0, 255, number]));
        writer.publish(request).await.unwrap();
        heard(&service.next().await, body);
        let answer = device.message().await.unwrap().unwrap();
        let expected = format!("{said}{body}");
        assert_eq!((&*answer.topic, &*answer.payload), ("answers/requester", expected.as_bytes()));
        let correlation = Property::Data(CORRELATION_DATA, vec![0, 255, number]);
        assert!(answer.properties.contains(&correlation), "{answer:?}");
    }
    let answer = Web::connect(eventmesh).await.send(101, "ask/http", "over HTTP", &[]).await;
    assert_eq!(answer.code(), 0, "{answer:?}");
    let reply: Value = serde_json::from_str(answer.body["retMsg"].as_str().unwrap()).unwrap();
    assert_eq!(reply["body"], format!("{said}over HTTP"), "{reply}");
}

/// The next request that `service` gets is `body`; it is answered twice: the first answer, "answer to" the body, is the reply.
pub async fn answer_twice(service: &mut Client, body: &str) {
    let asked = service.message().await.unwrap().unwrap();
    assert_eq!(&*asked.payload, body.as_bytes());
    let (mut topic, mut correlation) = (None, None);
    for property in &asked.properties {
        match property {
            Property::Text(RESPONSE_TOPIC, text) => topic = Some(text.clone()),
            Property::Data(CORRELATION_DATA, data) => correlation = Some(data.clone()),
            _ => {}
        }
    }
    for answer in [format!("answer to {body}"), "another".to_owned()] {
        let publish = Publish::new(topic.as_ref().unwrap(), answer, 1)
            .with(Property::Data(CORRELATION_DATA, correlation.clone().unwrap()));
        service.publish(publish).await.unwrap();
    }
}

/// `requester` asks, nobody answers, and it waits until its time is over.
pub async fn ask_in_vain(service: &mut Client, requester: &mut JavaClient) {
    requester.say("unanswered").await;
    assert_eq!(&*service.message().await.unwrap().unwrap().payload, b"unanswered");
    assert_eq!(requester.next().await, "none");
}

/// How often the bridge of this name (`part`) counted an outcome.
pub async fn outcomes(weft: &Weft, part: &str, metric: &str, outcome: &str) -> u64 {
    let (_, text) = weft.get("/metrics").await.unwrap();
    let labels = [format!("part=\"{part}\""), format!("outcome=\"{outcome}\"")];
    let is_it = |line: &&str| line.starts_with(metric) && labels.iter().all(|label| line.contains(&**label));
    let line = text.lines().find(is_it);
    let (_, value) = line.unwrap_or_else(|| panic!("no {metric} of {outcome}")).rsplit_once(' ').unwrap();
    value.parse().unwrap()
}
