//! Events for the tests of filters.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::sync::Arc;

use bytes::Bytes;
use event::{Event, Meta, Parts, TopicName};

/// The CloudEvent that `json` is, published to `a/b`.
pub(crate) fn cloud_event(json: &serde_json::Value) -> Event {
    let incoming = event::json::decode(Bytes::from(json.to_string())).unwrap();
    incoming.into_event(TopicName::parse("a/b").unwrap(), 1, 1_700_000_000_000, Arc::from("c"))
}

/// A CloudEvent with this JSON as data.
pub(crate) fn with_data(data: &str) -> Event {
    let data: Box<serde_json::value::RawValue> = serde_json::from_str(data).unwrap();
    let json = format!(
        r#"{{"specversion":"1.0","id":"1","source":"/s","type":"com.example.made","n":5,"yes":true,"word":"x","data":{data}}}"#
    );
    let incoming = event::json::decode(Bytes::from(json)).unwrap();
    incoming.into_event(TopicName::parse("a/b").unwrap(), 1, 1_700_000_000_000, Arc::from("c"))
}

/// A publish that is no CloudEvent.
pub(crate) fn plain(topic: &str, data: &'static [u8], meta: Option<Meta>) -> Event {
    Event::new(Parts {
        topic: TopicName::parse(topic.to_owned()).unwrap(),
        data: Bytes::from_static(data),
        stamp: 0xabc,
        received_ms: 1_700_000_000_000,
        expires_ms: 0,
        publisher: Arc::from("dev 1"),
        meta: meta.map(Box::new),
    })
}
