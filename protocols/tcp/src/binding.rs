//! Frame ⇄ event. Sans-io.

use std::borrow::Cow;

use event::Event;
use eventmesh::{
    Arrival, EventMeshMessage, Kind, PROTOCOL_DESC, PROTOCOL_TYPE, PROTOCOL_VERSION, Payload, Unusable,
};

use crate::codec::Frame;

/// What `frame` publishes. Properties of its header, but for those that say how the body is read, are the event's as well.
pub(crate) fn payload(frame: &Frame, arrival: Arrival<'_>) -> Result<Payload, Unusable> {
    let header = &frame.header;
    let (kind, version) = (header.property(PROTOCOL_TYPE), header.property(PROTOCOL_VERSION));
    let mut payload = Payload::read(kind, version, frame.body.clone(), arrival)?;
    for (name, value) in &header.properties {
        if ![PROTOCOL_TYPE, PROTOCOL_VERSION, PROTOCOL_DESC].contains(&name.as_str()) {
            payload.add_property(name, value);
        }
    }
    Ok(payload)
}

/// `event` for a client that speaks `kind`. SDKs do not say what their subscribers read: as long as it is not known, an event
/// goes as what it came as, and a plain publish as what both can read.
pub(crate) fn body(event: &Event, kind: Option<Kind>) -> (Kind, Cow<'_, [u8]>) {
    let natural = Kind::of(event);
    match kind.unwrap_or(natural) {
        Kind::EventMeshMessage if kind.is_none() && event.attributes().is_none() => {
            (natural, Cow::Owned(EventMeshMessage::both(event, CARRIER)))
        }
        Kind::EventMeshMessage => {
            (Kind::EventMeshMessage, Cow::Owned(EventMeshMessage::of(event).to_json(CARRIER)))
        }
        Kind::CloudEvents | Kind::OpenMessage => {
            (Kind::CloudEvents, Cow::Owned(Payload::cloud_event(event).into()))
        }
    }
}

/// `protocoldesc`.
const CARRIER: &str = "tcp";
