//! Writes the packets that a server sends. Version 3.1.1 gets the same without properties and reason codes.

use bytes::BytesMut;
use event::Guarantee;

use super::write::{Measure, Sink, write_text, write_varint};
use super::{PacketId, Property, Reason, Version, Visit, kind};

/// The four acks of QoS 1 and 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckKind {
    /// PUBACK.
    PubAck,
    /// PUBREC.
    PubRec,
    /// PUBREL.
    PubRel,
    /// PUBCOMP.
    PubComp,
}

impl AckKind {
    fn first_byte(self) -> u8 {
        match self {
            Self::PubAck => kind::PUBACK << 4,
            Self::PubRec => kind::PUBREC << 4,
            Self::PubRel => (kind::PUBREL << 4) | 0b0010,
            Self::PubComp => kind::PUBCOMP << 4,
        }
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP; the short form when all is well \[MQTT-3.4.2.1\].
pub fn ack(out: &mut BytesMut, version: Version, what: AckKind, id: PacketId, reason: Reason) {
    let [high, low] = id.get().to_be_bytes();
    let first = what.first_byte();
    if version == Version::V311 || reason == Reason::Success {
        out.put(&[first, 2, high, low]);
    } else {
        out.put(&[first, 3, high, low, reason.byte()]);
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP of version 5 with a reason string.
pub fn ack_saying(out: &mut BytesMut, what: AckKind, id: PacketId, reason: Reason, text: &str) {
    out.put(&[what.first_byte()]);
    with_length(out, |sink| {
        let mut sink = Each(sink);
        sink.put(&id.get().to_be_bytes());
        sink.put(&[reason.byte()]);
        write_properties(&mut sink, &[Property::ReasonString(text)]);
    });
}

/// PINGRESP.
pub fn pingresp(out: &mut BytesMut) {
    out.put(&[kind::PINGRESP << 4, 0]);
}

/// CONNACK of version 5.
pub fn connack(out: &mut BytesMut, session_present: bool, reason: Reason, properties: &[Property<'_>]) {
    out.put(&[kind::CONNACK << 4]);
    let body = |sink: &mut dyn FnMut(&[u8])| {
        let mut sink = Each(sink);
        sink.put(&[u8::from(session_present), reason.byte()]);
        write_properties(&mut sink, properties);
    };
    with_length(out, body);
}

/// CONNACK of 3.1.1 with its return code: 0 accepted, 1 version, 2 client id, 3 unavailable, 4 password, 5 not allowed.
pub fn connack_311(out: &mut BytesMut, session_present: bool, code: u8) {
    out.put(&[kind::CONNACK << 4, 2, u8::from(session_present), code]);
}

/// SUBACK: one code for each filter, and in version 5 perhaps a reason string. 3.1.1 knows one failure, 0x80.
pub fn suback(out: &mut BytesMut, version: Version, id: PacketId, reasons: &[Reason], text: Option<&str>) {
    out.put(&[kind::SUBACK << 4]);
    let body = |sink: &mut dyn FnMut(&[u8])| {
        sink(&id.get().to_be_bytes());
        if version == Version::V5 {
            write_properties(&mut Each(&mut *sink), text.map(Property::ReasonString).as_slice());
        }
        for reason in reasons {
            let plain = version == Version::V311 && reason.is_error();
            sink(&[if plain { Reason::Unspecified.byte() } else { reason.byte() }]);
        }
    };
    with_length(out, body);
}

/// UNSUBACK: version 5 has one code for each filter, and perhaps a reason string, 3.1.1 neither.
pub fn unsuback(out: &mut BytesMut, version: Version, id: PacketId, reasons: &[Reason], text: Option<&str>) {
    out.put(&[kind::UNSUBACK << 4]);
    let body = |sink: &mut dyn FnMut(&[u8])| {
        sink(&id.get().to_be_bytes());
        if version == Version::V5 {
            write_properties(&mut Each(&mut *sink), text.map(Property::ReasonString).as_slice());
            for reason in reasons {
                sink(&[reason.byte()]);
            }
        }
    };
    with_length(out, body);
}

/// DISCONNECT of version 5; 3.1.1 servers send none.
pub fn disconnect(out: &mut BytesMut, reason: Reason, properties: &[Property<'_>]) {
    out.put(&[kind::DISCONNECT << 4]);
    let body = |sink: &mut dyn FnMut(&[u8])| {
        let mut sink = Each(sink);
        sink.put(&[reason.byte()]);
        write_properties(&mut sink, properties);
    };
    with_length(out, body);
}

/// AUTH of either end.
pub fn auth(out: &mut BytesMut, reason: Reason, properties: &[Property<'_>]) {
    out.put(&[kind::AUTH << 4]);
    let body = |sink: &mut dyn FnMut(&[u8])| {
        let mut sink = Each(sink);
        sink.put(&[reason.byte()]);
        write_properties(&mut sink, properties);
    };
    with_length(out, body);
}

/// What stands before the payload of a PUBLISH, but for the properties.
#[derive(Clone, Copy, Debug)]
pub struct PublishHead<'a> {
    /// It may have been sent before.
    pub dup: bool,
    /// QoS.
    pub guarantee: Guarantee,
    /// Retain.
    pub retain: bool,
    /// The topic.
    pub topic: &'a str,
    /// With QoS 1 and 2.
    pub id: Option<PacketId>,
}

/// Writes a PUBLISH up to its payload, which the caller sends next; `payload` is its length. `each_property` calls
/// its argument for each property, the same ones each time it is called; it is not called in 3.1.1.
///
/// Returns false, and writes nothing, when the packet would be larger than `max` bytes.
pub fn publish(
    out: &mut BytesMut,
    version: Version,
    head: PublishHead<'_>,
    each_property: &dyn Fn(&mut Visit<'_>),
    payload: usize,
    max: u32,
) -> bool {
    let mut properties = Measure::default();
    if version == Version::V5 {
        each_property(&mut |property| property.write(&mut properties));
    }
    let properties = u32::try_from(properties.0).unwrap_or(u32::MAX);
    let mut body = head.topic.len().saturating_add(2).saturating_add(payload);
    if head.id.is_some() {
        body = body.saturating_add(2);
    }
    if version == Version::V5 {
        let len = super::reader::varint_len(properties);
        body = body.saturating_add(len).saturating_add(usize::try_from(properties).unwrap_or(usize::MAX));
    }
    let body = u32::try_from(body).unwrap_or(u32::MAX);
    let total =
        body.saturating_add(1).saturating_add(u32::try_from(super::reader::varint_len(body)).unwrap_or(4));
    if body > super::reader::VARINT_MAX || total > max {
        return false;
    }
    let qos = match head.guarantee {
        Guarantee::AtMostOnce => 0,
        Guarantee::AtLeastOnce => 0b0010,
        Guarantee::ExactlyOnce => 0b0100,
    };
    out.put(&[(kind::PUBLISH << 4) | (u8::from(head.dup) << 3) | qos | u8::from(head.retain)]);
    write_varint(out, body);
    write_text(out, head.topic);
    if let Some(id) = head.id {
        out.put(&id.get().to_be_bytes());
    }
    if version == Version::V5 {
        write_varint(out, properties);
        if properties > 0 {
            each_property(&mut |property| property.write(out));
        }
    }
    true
}

/// Calls a closure with each piece.
pub(crate) struct Each<'a>(pub(crate) &'a mut dyn FnMut(&[u8]));

impl Sink for Each<'_> {
    fn put(&mut self, bytes: &[u8]) {
        (self.0)(bytes);
    }
}

/// Properties behind their length.
pub(crate) fn write_properties(sink: &mut impl Sink, properties: &[Property<'_>]) {
    let mut len = Measure::default();
    for property in properties {
        property.write(&mut len);
    }
    write_varint(sink, u32::try_from(len.0).unwrap_or(u32::MAX));
    for property in properties {
        property.write(sink);
    }
}

/// Writes the remaining length and the body.
pub(crate) fn with_length(out: &mut BytesMut, body: impl Fn(&mut dyn FnMut(&[u8]))) {
    let mut len = Measure::default();
    body(&mut |bytes| len.put(bytes));
    write_varint(out, u32::try_from(len.0).unwrap_or(u32::MAX));
    body(&mut |bytes| out.put(bytes));
}
