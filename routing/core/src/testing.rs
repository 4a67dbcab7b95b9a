//! What the core's own tests share.

use std::sync::Arc;

use bytes::Bytes;
use event::{Event, Parts, TopicName};

/// A plain event.
pub(crate) fn event(topic: &'static str, data: impl Into<Bytes>) -> Event {
    Event::new(Parts {
        topic: TopicName::parse(topic).unwrap(),
        data: data.into(),
        stamp: 1,
        received_ms: 1,
        expires_ms: 0,
        publisher: Arc::from("tester"),
        meta: None,
    })
}
