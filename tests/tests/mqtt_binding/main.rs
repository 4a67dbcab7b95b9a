//! The scenarios of `tests/conformance/mqtt-protocol-binding.feature` (CloudEvents MQTT binding 1.0.2), each against a
//! Weft, in bytes. How Weft parsed a message is seen by two subscribers: one of MQTT 5, which gets binary mode, and one
//! of MQTT 3.1.1, which gets structured mode. They have to agree.

mod gherkin;

use std::collections::BTreeMap;

use gherkin::{Scenario, Step, scenarios};
use serde_json::Value;
use tests::Weft;
use tests::cloud::{CONTENT_TYPE, CloudEvent, STRUCTURED};
use tests::raw::Client;
use tests::weft::root;
use tests::wire::{Connect, Property, Publish, Version};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scenario() {
    let file = root().join("tests/conformance/mqtt-protocol-binding.feature");
    let all = scenarios(&std::fs::read_to_string(file).unwrap());
    assert!(all.len() > 50, "only {} scenarios", all.len());
    let weft = Weft::start().await;
    let mut failed = Vec::new();
    for scenario in all {
        let name = scenario.name.clone();
        let address = (weft.mqtt, weft.http);
        // A task of its own: the rest is run, too, if one panics.
        if let Err(error) = tokio::spawn(async move { run(address, &scenario).await }).await {
            let reason = error.into_panic();
            let text = reason.downcast_ref::<String>().cloned().unwrap_or_default();
            failed.push(format!("{name}\n    {text}"));
        }
    }
    assert!(failed.is_empty(), "{} scenarios failed:\n{}", failed.len(), failed.join("\n"));
}

type Addresses = (std::net::SocketAddr, std::net::SocketAddr);

const TOPIC: &str = "binding/it";
const END: &str = "binding/end";

/// What a scenario has said so far.
struct World {
    weft: Addresses,
    version: Version,
    message: Publish,
    event: CloudEvent,
    json: Option<String>,
    /// What the subscribers of 5 and of 3.1.1 got; `None` if Weft refused the message.
    got: Option<(Publish, Publish)>,
    /// The one of them that the scenario mapped to.
    mapped: Publish,
}

async fn run(weft: Addresses, scenario: &Scenario) {
    let mut world = World {
        weft,
        version: Version::V5,
        message: Publish::default(),
        event: CloudEvent::default(),
        json: None,
        got: None,
        mapped: Publish::default(),
    };
    for step in &scenario.steps {
        let (text, argument) = match step.text.split_once('"') {
            Some((text, rest)) => (text.trim(), rest.strip_suffix('"').expect("a closing quote")),
            None => (&*step.text, ""),
        };
        if !world.given(text, argument, step) && !world.when(text).await && !world.then(text, argument, step)
        {
            panic!("a step that nobody knows: {}", step.text);
        }
    }
}

impl World {
    fn given(&mut self, text: &str, argument: &str, step: &Step) -> bool {
        match text {
            "MQTT Protocol Binding is supported" => {}
            "an MQTT 5.0 message with payload:" => self.message = Publish::new(TOPIC, step.doc(), 1),
            "an MQTT 5.0 message with payload bytes" => {
                self.message = Publish::new(TOPIC, bytes(argument), 1)
            }
            "an MQTT 5.0 message without payload" => self.message = Publish::new(TOPIC, "", 1),
            "an MQTT 3.1.1 message with payload:" => {
                self.version = Version::V4;
                self.message = Publish::new(TOPIC, step.doc(), 1);
            }
            "Content Type" => {
                self.message.properties.push(Property::Text(CONTENT_TYPE, argument.to_owned()));
            }
            "User Properties:" => {
                let pairs = step.pairs().into_iter().map(|(name, value)| Property::Pair(name, value));
                self.message.properties.extend(pairs);
            }
            "an event with attributes:" => self.event.attributes = step.pairs().into_iter().collect(),
            "data:" => step.doc().as_bytes().clone_into(&mut self.event.data),
            "an event in JSON:" => self.json = Some(step.doc().to_owned()),
            _ => return false,
        }
        true
    }

    async fn when(&mut self, text: &str) -> bool {
        let event = !self.event.attributes.is_empty() || self.json.is_some();
        match text {
            "parsed as MQTT message" => self.got = self.through_weft().await,
            "mapped to an MQTT 5.0 message in binary content mode" if event => {
                self.mapped = self.through_weft().await.expect("taken").0;
            }
            "mapped to an MQTT 3.1.1 message" if event => {
                self.mapped = self.through_weft().await.expect("taken").1;
            }
            _ => return false,
        }
        true
    }

    fn then(&self, text: &str, argument: &str, step: &Step) -> bool {
        match text {
            "the attributes are:" => {
                let wanted: BTreeMap<_, _> = step.pairs().into_iter().collect();
                for (event, by) in self.parsed() {
                    assert_eq!(event.attributes, wanted, "as {by} shows it");
                }
            }
            "the data is equal to the following JSON:" => {
                for (event, by) in self.parsed() {
                    assert_eq!(json(&event.data), json(step.doc().as_bytes()), "as {by} shows it");
                }
            }
            "the data is equal to the following text:" => self.data_is(step.doc().as_bytes()),
            "the data is the bytes" => self.data_is(&bytes(argument)),
            "there is no data" => self.data_is(b""),
            "it is not a CloudEvent" => {
                // Refused, or passed on to both as it came.
                if let Some((five, three)) = &self.got {
                    self.is_as_it_came(five);
                    assert_eq!(three.payload, self.message.payload);
                }
            }
            "the message is passed on as it is" => {
                self.is_as_it_came(&self.got.as_ref().expect("it was taken").0);
            }
            "the Content Type is" => {
                let wanted = Property::Text(CONTENT_TYPE, argument.to_owned());
                assert!(self.mapped.properties.contains(&wanted), "{:?}", self.mapped.properties);
            }
            "the User Properties are:" => {
                let mut wanted = step.pairs();
                wanted.sort();
                assert_eq!(pairs(&self.mapped), wanted);
            }
            "the payload is:" => assert_eq!(text_of(&self.mapped.payload), step.doc()),
            "the payload is the bytes" => assert_eq!(self.mapped.payload, bytes(argument)),
            "the payload is equal to the following JSON:" => {
                assert_eq!(json(&self.mapped.payload), json(step.doc().as_bytes()));
            }
            _ => return false,
        }
        true
    }

    /// What the subscribers read from what they got.
    fn parsed(&self) -> [(CloudEvent, &'static str); 2] {
        let (five, three) = self.got.as_ref().expect("it was taken");
        [(CloudEvent::from_publish(five), "MQTT 5.0"), (CloudEvent::from_publish(three), "MQTT 3.1.1")]
    }

    fn data_is(&self, wanted: &[u8]) {
        for (event, by) in self.parsed() {
            assert_eq!(event.data, wanted, "as {by} shows it");
        }
    }

    fn is_as_it_came(&self, got: &Publish) {
        let content_type = |publish: &Publish| {
            let is = |one: &&Property| matches!(one, Property::Text(CONTENT_TYPE, _));
            publish.properties.iter().find(is).cloned()
        };
        assert_eq!(text_of(&got.payload), text_of(&self.message.payload));
        assert_eq!(content_type(got), content_type(&self.message));
        assert_eq!(pairs(got), pairs(&self.message));
    }

    /// Publishes the message or the event; what the two subscribers get.
    async fn through_weft(&self) -> Option<(Publish, Publish)> {
        let mut five = self.connect(&Connect::v5("reader-5")).await;
        let mut three = self.connect(&Connect::v4("reader-3")).await;
        for reader in [&mut five, &mut three] {
            reader.subscribe(&[("binding/#", 1)]).await;
        }
        if self.message.topic.is_empty() {
            self.post().await;
        } else {
            let writer = Connect { version: self.version, ..Connect::v5("writer") };
            let result = self.connect(&writer).await.publish(self.message.clone()).await;
            // It tells the reason code; only a refusal of the payload's format (0x99) is one that a CloudEvent may get.
            if let Err(error) = &result {
                assert!(error.to_string().ends_with("153))"), "{error}");
            }
        }
        self.connect(&Connect::v5("end")).await.publish(Publish::new(END, "", 1)).await.unwrap();
        match (until_end(&mut five).await, until_end(&mut three).await) {
            (Some(five), Some(three)) => Some((five, three)),
            (None, None) => None,
            other => panic!("only one subscriber got it: {other:?}"),
        }
    }

    async fn connect(&self, connect: &Connect) -> Client {
        Client::connect(self.weft.0, connect).await.unwrap().0
    }

    /// The event comes in over HTTP, so that nothing is yet as MQTT wants it.
    async fn post(&self) {
        let url = format!("http://{}/events?topic={TOPIC}", self.weft.1);
        let mut request = reqwest::Client::new().post(url);
        if let Some(json) = &self.json {
            request = request.header("content-type", STRUCTURED).body(json.clone());
        } else {
            for (name, value) in &self.event.attributes {
                request = match name.as_str() {
                    "datacontenttype" => request.header("content-type", value),
                    _ => request.header(format!("ce-{name}"), percent(value)),
                };
            }
            request = request.body(self.event.data.clone());
        }
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }
}

/// The only message before that of [`END`].
async fn until_end(reader: &mut Client) -> Option<Publish> {
    let mut found = None;
    loop {
        let message = reader.message().await.unwrap().expect("a message");
        if message.topic == END {
            return found;
        }
        assert_eq!((&*message.topic, &found), (TOPIC, &None), "one message");
        found = Some(message);
    }
}

fn pairs(publish: &Publish) -> Vec<(String, String)> {
    let pair = |property: &Property| match property {
        Property::Pair(name, value) => Some((name.clone(), value.clone())),
        _ => None,
    };
    let mut pairs: Vec<_> = publish.properties.iter().filter_map(pair).collect();
    pairs.sort();
    pairs
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).expect("bytes in hexadecimal")).collect()
}

fn text_of(data: &[u8]) -> String {
    String::from_utf8_lossy(data).into_owned()
}

fn json(data: &[u8]) -> Value {
    serde_json::from_slice(data).unwrap_or_else(|error| panic!("{error}: {}", text_of(data)))
}

/// As the HTTP binding writes attributes (CE HTTP §3.1.3.2).
fn percent(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'!'..=b'~' if !matches!(byte, b'"' | b'%') => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
