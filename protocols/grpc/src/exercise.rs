//! What a fuzz target, and the replay of its corpus, run. Sans-io.

#![expect(clippy::expect_used, reason = "this is how it tells that the binding is wrong")]

use std::sync::Arc;

use event::Event;
use event::hub::Stamps;
use eventmesh::{Arrival, SubscriptionType};
use prost::Message as _;

use crate::error::Answer;
use crate::proto::CloudEvent;
use crate::{binding, request, simple};

/// Reads `data` as a message of a client: the first byte says whether of the newer services or of the older ones. What it
/// publishes is written for a reader, read again, and is the same then. Panics only when the binding is wrong.
pub fn exercise(data: &[u8]) {
    let Some((&mode, data)) = data.split_first() else { return };
    let mut stamps = Stamps::starting_at(1_700_000_000_000);
    let message = match mode % 4 {
        0 => CloudEvent::decode(data).ok(),
        1 => simple::SimpleMessage::decode(data).ok().map(|message| message.into_event(&mut stamps)),
        2 => simple::Subscription::decode(data).ok().map(|message| message.into_event(&mut stamps)),
        _ => simple::Heartbeat::decode(data).ok().map(simple::Heartbeat::into_event),
    };
    let Some(message) = message else { return };
    if let Ok(interest) = request::interest(&message) {
        assert!(!interest.items.is_empty() && !interest.group.trim().is_empty());
    }
    if let Ok(heartbeat) = request::heartbeat(&message) {
        assert!(!heartbeat.group.trim().is_empty());
    }
    let marked = Answer::success().mark(binding::without_secrets(message.clone()), 1);
    assert_eq!((marked.text("statuscode"), marked.text("passwd")), (Some("0"), None));
    let publisher: Arc<str> = Arc::from("p");
    let arrival = Arrival { publisher: &publisher, stamp: 7, now_ms: 1_700_000_000_000 };
    let Ok(parts) = binding::decode(message, arrival) else { return };
    let event = Event::new(parts);
    let written = binding::encode(&event);
    let bytes = written.encode_to_vec();
    let read = CloudEvent::decode(&bytes[..]).expect("what is written is a message");
    assert_eq!(read, written);
    let again = Event::new(binding::decode(read, arrival).expect("what is written can be published"));
    assert_eq!((again.topic(), again.id(), again.ty()), (event.topic(), event.id(), event.ty()));
    assert_eq!((again.source(), again.time().is_some()), (event.source(), event.time().is_some()));
    assert_eq!(again.data(), event.data());
    for (name, value) in event.extensions() {
        let found = again.extensions().into_iter().find(|(have, _)| *have == name);
        assert!(found.is_some_and(|(_, have)| have == value || OURS.contains(&&*name)), "{name} is lost");
    }
    let post = binding::push(&event, SubscriptionType::Async);
    assert_eq!(post.topic, event.topic().as_str());
    simple::SimpleMessage::of(&event);
}

/// What is supplied where it is empty.
const OURS: [&str; 2] = ["seqnum", "uniqueid"];
