//! CloudEvents as the tests write and compare them: every attribute as text, and the data as bytes, whatever binding
//! and format carried them. Shares no code with Weft.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use crate::wire::{Property, Publish};

/// Content Type of MQTT 5 (§3.3.2.3.9).
pub const CONTENT_TYPE: u8 = 3;

/// The media type of an event in structured mode.
pub const STRUCTURED: &str = "application/cloudevents+json";

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloudEvent {
    /// All attributes by name, `specversion` and `datacontenttype` too.
    pub attributes: BTreeMap<String, String>,
    /// The data.
    pub data: Vec<u8>,
}

impl CloudEvent {
    /// An event with the required attributes.
    pub fn new(id: &str, source: &str, ty: &str) -> Self {
        Self::default().with("specversion", "1.0").with("id", id).with("source", source).with("type", ty)
    }

    /// With this attribute.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.attributes.insert(name.to_owned(), value.to_owned());
        self
    }

    /// With this data.
    pub fn data(mut self, content_type: &str, data: &[u8]) -> Self {
        self.data = data.to_vec();
        self.with("datacontenttype", content_type)
    }

    /// An attribute.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    /// In JSON (CE JSON §2): data of a JSON type as it is, of a text type as a string, else in base64.
    pub fn to_json(&self) -> String {
        let members = self.attributes.iter().map(|(name, value)| format!("{}:{}", quote(name), quote(value)));
        let mut members: Vec<String> = members.collect();
        let content_type = self.get("datacontenttype").unwrap_or_default();
        if is_json(content_type) {
            members.push(format!("\"data\":{}", std::str::from_utf8(&self.data).unwrap()));
        } else if content_type.starts_with("text/") {
            members.push(format!("\"data\":{}", quote(std::str::from_utf8(&self.data).unwrap())));
        } else if !self.data.is_empty() {
            members.push(format!("\"data_base64\":{}", quote(&STANDARD.encode(&self.data))));
        }
        format!("{{{}}}", members.join(","))
    }

    /// Reads JSON. Panics if it is no CloudEvent.
    pub fn from_json(text: &[u8]) -> Self {
        let members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(text)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(text)));
        let mut event = Self::default();
        for (name, value) in &members {
            if !name.starts_with("data") || name == "datacontenttype" || name == "dataschema" {
                event.attributes.insert(name.clone(), unquote(value.get()));
            }
        }
        if let Some(data) = members.get("data_base64") {
            event.data = STANDARD.decode(unquote(data.get())).expect("base64");
        }
        if let Some(data) = members.get("data") {
            let json = event.get("datacontenttype").is_none_or(is_json);
            event.data = if json { data.get().to_owned() } else { unquote(data.get()) }.into_bytes();
        }
        event
    }

    /// As a publish of MQTT 5 in binary mode.
    pub fn to_publish(&self, topic: &str, qos: u8) -> Publish {
        let mut publish = Publish::new(topic, self.data.clone(), qos);
        for (name, value) in &self.attributes {
            publish.properties.push(match name.as_str() {
                "datacontenttype" => Property::Text(CONTENT_TYPE, value.clone()),
                _ => Property::Pair(name.clone(), value.clone()),
            });
        }
        publish
    }

    /// Of a publish of MQTT 5 in either mode, or of 3.1.1 in structured mode.
    pub fn from_publish(publish: &Publish) -> Self {
        let content_type = publish.properties.iter().find_map(|property| match property {
            Property::Text(CONTENT_TYPE, text) => Some(text.as_str()),
            _ => None,
        });
        if publish.properties.is_empty() || content_type.is_some_and(|text| text.starts_with(STRUCTURED)) {
            return Self::from_json(&publish.payload);
        }
        let mut event = Self { data: publish.payload.clone(), ..Self::default() };
        for property in &publish.properties {
            if let Property::Pair(name, value) = property {
                let before = event.attributes.insert(name.clone(), value.clone());
                assert_eq!(before, None, "attribute {name} comes twice");
            }
        }
        match content_type {
            Some(text) => event.with("datacontenttype", text),
            None => event,
        }
    }

    /// Without the attributes that say how an event travelled with Weft.
    pub fn without_travel(mut self) -> Self {
        self.attributes
            .retain(|name, _| !["wefttopic", "weftposition", "weftretain"].contains(&name.as_str()));
        self
    }
}

fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    media_type.ends_with("/json") || media_type.ends_with("+json")
}

fn quote(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// The text of a JSON string; of another value, the value as it is written.
fn unquote(json: &str) -> String {
    serde_json::from_str::<String>(json).unwrap_or_else(|_| json.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_back_from_json_and_mqtt() {
        for (content_type, data) in [
            ("application/json", &br#"{"b":1,"a":[]}"#[..]),
            ("text/plain", b"\"x\""),
            ("image/png", b"\xff\0"),
        ] {
            let event = CloudEvent::new("1", "/s", "t").with("subject", "ä \" b").data(content_type, data);
            assert_eq!(CloudEvent::from_json(event.to_json().as_bytes()), event);
            assert_eq!(CloudEvent::from_publish(&event.to_publish("t", 1)), event);
        }
    }
}
