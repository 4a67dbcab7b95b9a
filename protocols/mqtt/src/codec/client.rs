//! The other direction: writes what a client sends and reads what a server sends. For `weft pub`, `weft sub` and tests.

use bytes::{Buf, BytesMut};

use super::decode::{read_ack, read_auth, read_disconnect, read_publish};
use super::encode::{Each, PublishHead, publish as write_publish, with_length, write_properties};
use super::property::Place;
use super::reader::Reader;
use super::write::{Sink, write_binary, write_text};
use super::{
    Ack, Auth, FilterOptions, Header, PacketId, Properties, Property, Publish, Version, Visit, kind, reason,
};
use crate::Violation;

pub use super::encode::{AckKind, ack, auth};

/// A packet that a server sends.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerPacket {
    /// CONNACK.
    ConnAck {
        /// An older session was taken up.
        session_present: bool,
        /// Reason code, in 3.1.1 return code.
        code: u8,
        /// None in 3.1.1.
        properties: Properties,
    },
    /// PUBLISH.
    Publish(Publish),
    /// PUBACK.
    PubAck(Ack),
    /// PUBREC.
    PubRec(Ack),
    /// PUBREL.
    PubRel(Ack),
    /// PUBCOMP.
    PubComp(Ack),
    /// SUBACK: a code for each filter.
    SubAck(PacketId, Vec<u8>),
    /// UNSUBACK: a code for each filter, none in 3.1.1.
    UnsubAck(PacketId, Vec<u8>),
    /// PINGRESP.
    PingResp,
    /// DISCONNECT, version 5 only.
    Disconnect(u8),
    /// AUTH, version 5 only.
    Auth(Auth),
}

/// Takes the first packet of a server off `input`; `None` when there is no complete one.
pub fn decode_server(input: &mut BytesMut, version: Version) -> Result<Option<ServerPacket>, Violation> {
    let Some(header) = Header::read(input)? else { return Ok(None) };
    if input.len() < header.total() {
        return Ok(None);
    }
    let mut whole = input.split_to(header.total()).freeze();
    whole.advance(header.start);
    let mut r = Reader::new(&whole);
    Ok(Some(match header.kind {
        kind::CONNACK => {
            let session_present = r.u8()? != 0;
            let code = r.u8()?;
            let properties = match version {
                Version::V5 => Properties::read(&mut r, &whole, Place::CONNACK)?,
                Version::V311 => Properties::default(),
            };
            r.end()?;
            ServerPacket::ConnAck { session_present, code, properties }
        }
        kind::PUBLISH => {
            ServerPacket::Publish(read_publish(header.flags, r, &whole, version, Place::DELIVERY)?)
        }
        kind::PUBACK => ServerPacket::PubAck(read_ack(r, &whole, version, reason::is_publish_reason)?),
        kind::PUBREC => ServerPacket::PubRec(read_ack(r, &whole, version, reason::is_publish_reason)?),
        kind::PUBREL => ServerPacket::PubRel(read_ack(r, &whole, version, reason::is_release_reason)?),
        kind::PUBCOMP => ServerPacket::PubComp(read_ack(r, &whole, version, reason::is_release_reason)?),
        kind::SUBACK | kind::UNSUBACK => {
            let id = PacketId::new(r.u16()?)?;
            if version == Version::V5 {
                Properties::read(&mut r, &whole, Place::ACK)?;
            }
            let codes = r.remainder().to_vec();
            match header.kind {
                kind::SUBACK => ServerPacket::SubAck(id, codes),
                _ => ServerPacket::UnsubAck(id, codes),
            }
        }
        kind::PINGRESP => {
            r.end()?;
            ServerPacket::PingResp
        }
        kind::DISCONNECT if version == Version::V5 => {
            ServerPacket::Disconnect(read_disconnect(r, &whole, version, reason::is_disconnect_reason)?.code)
        }
        kind::AUTH if version == Version::V5 => ServerPacket::Auth(read_auth(r, &whole)?),
        other => return Err(Violation::PacketType(other)),
    }))
}

/// What a client says to connect. `Default` is an empty client id, clean, without keep alive.
#[derive(Clone, Debug, Default)]
pub struct Hello<'a> {
    /// May be empty.
    pub client_id: &'a str,
    /// Clean Start, in 3.1.1 Clean Session.
    pub clean: bool,
    /// Seconds; 0: none.
    pub keep_alive_s: u16,
    /// Topic, payload, QoS bits, retain.
    pub will: Option<(&'a str, &'a [u8], u8, bool)>,
    /// Properties of the will.
    pub will_properties: &'a [Property<'a>],
    /// User name.
    pub user: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// Left out in 3.1.1.
    pub properties: &'a [Property<'a>],
}

/// CONNECT.
pub fn connect(out: &mut BytesMut, version: Version, hello: &Hello<'_>) {
    let mut flags = u8::from(hello.clean) << 1;
    if let Some((_, _, qos, retain)) = hello.will {
        flags |= 0x04 | (qos & 0b11) << 3 | u8::from(retain) << 5;
    }
    flags |= u8::from(hello.password.is_some()) << 6 | u8::from(hello.user.is_some()) << 7;
    out.put(&[kind::CONNECT << 4]);
    with_length(out, |sink| {
        let mut sink = Each(sink);
        write_text(&mut sink, "MQTT");
        sink.put(&[if version == Version::V5 { 5 } else { 4 }, flags]);
        sink.put(&hello.keep_alive_s.to_be_bytes());
        if version == Version::V5 {
            write_properties(&mut sink, hello.properties);
        }
        write_text(&mut sink, hello.client_id);
        if let Some((topic, payload, ..)) = hello.will {
            if version == Version::V5 {
                write_properties(&mut sink, hello.will_properties);
            }
            write_text(&mut sink, topic);
            write_binary(&mut sink, payload);
        }
        if let Some(user) = hello.user {
            write_text(&mut sink, user);
        }
        if let Some(password) = hello.password {
            write_binary(&mut sink, password);
        }
    });
}

/// PUBLISH with its payload. Returns false, and writes nothing, when it is larger than any packet can be.
pub fn publish(
    out: &mut BytesMut,
    version: Version,
    head: PublishHead<'_>,
    properties: &[Property<'_>],
    payload: &[u8],
) -> bool {
    let each = |visit: &mut Visit<'_>| properties.iter().for_each(|property| visit(*property));
    let written = write_publish(out, version, head, &each, payload.len(), u32::MAX);
    if written {
        out.put(payload);
    }
    written
}

/// SUBSCRIBE.
pub fn subscribe(
    out: &mut BytesMut,
    version: Version,
    id: PacketId,
    filters: &[(&str, FilterOptions)],
    properties: &[Property<'_>],
) {
    out.put(&[(kind::SUBSCRIBE << 4) | 0b0010]);
    with_length(out, |sink| {
        let mut sink = Each(sink);
        sink.put(&id.get().to_be_bytes());
        if version == Version::V5 {
            write_properties(&mut sink, properties);
        }
        for (filter, options) in filters {
            write_text(&mut sink, filter);
            let qos = options.guarantee as u8;
            let extra = u8::from(options.no_local) << 2
                | u8::from(options.retain_as_published) << 3
                | (options.retain_handling & 0b11) << 4;
            sink.put(&[if version == Version::V5 { qos | extra } else { qos }]);
        }
    });
}

/// UNSUBSCRIBE.
pub fn unsubscribe(out: &mut BytesMut, version: Version, id: PacketId, filters: &[&str]) {
    out.put(&[(kind::UNSUBSCRIBE << 4) | 0b0010]);
    with_length(out, |sink| {
        let mut sink = Each(sink);
        sink.put(&id.get().to_be_bytes());
        if version == Version::V5 {
            sink.put(&[0]);
        }
        for filter in filters {
            write_text(&mut sink, filter);
        }
    });
}

/// PINGREQ.
pub fn pingreq(out: &mut BytesMut) {
    out.put(&[kind::PINGREQ << 4, 0]);
}

/// DISCONNECT with `code`, which 3.1.1 leaves out.
pub fn disconnect(out: &mut BytesMut, version: Version, code: u8, properties: &[Property<'_>]) {
    out.put(&[kind::DISCONNECT << 4]);
    with_length(out, |sink| {
        if version == Version::V5 && (code != 0 || !properties.is_empty()) {
            let mut sink = Each(sink);
            sink.put(&[code]);
            write_properties(&mut sink, properties);
        }
    });
}
