//! Takes packets of clients off a buffer of complete packets.

use bytes::{Buf, Bytes};
use bytestring::ByteString;
use event::{Guarantee, Select, TopicName};

use super::property::Place;
use super::reader::{Reader, share_text, varint_len};
use super::{
    Ack, Auth, Disconnect, FilterOptions, Header, Packet, PacketId, Properties, Property, Publish,
    REPLAY_FROM, Subscribe, Unsubscribe, Version, connect, kind, reason,
};
use crate::Violation;

/// Takes the first packet off `input`; `None` when there is no complete one. `version`: what CONNECT agreed on; `None`
/// before, when only CONNECT is taken. After a violation `input` is of no use any more.
pub fn decode(input: &mut Bytes, version: Option<Version>) -> Result<Option<Packet>, Violation> {
    let Some(header) = Header::read(input)? else { return Ok(None) };
    let total = header.total();
    let Some(body) = input.get(header.start..total) else { return Ok(None) };
    let packet = match version {
        None if header.kind != kind::CONNECT => return Err(Violation::ConnectFirst),
        None => Packet::Connect(Box::new(connect::read(Reader::new(body), input)?)),
        Some(version) => read_body(header, Reader::new(body), input, version)?,
    };
    let version = if let Packet::Connect(connect) = &packet { Some(connect.version) } else { version };
    // Version 5 forbids a length with needless bytes [MQTT-1.5.5-1], 3.1.1 does not.
    if version == Some(Version::V5) && header.start != varint_len(header.body).saturating_add(1) {
        return Err(Violation::Length);
    }
    input.advance(total);
    Ok(Some(packet))
}

fn read_body(header: Header, r: Reader<'_>, whole: &Bytes, version: Version) -> Result<Packet, Violation> {
    Ok(match header.kind {
        kind::PUBLISH => Packet::Publish(read_publish(header.flags, r, whole, version, Place::PUBLISH)?),
        kind::PUBACK => Packet::PubAck(read_ack(r, whole, version, reason::is_publish_reason)?),
        kind::PUBREC => Packet::PubRec(read_ack(r, whole, version, reason::is_publish_reason)?),
        kind::PUBREL => Packet::PubRel(read_ack(r, whole, version, reason::is_release_reason)?),
        kind::PUBCOMP => Packet::PubComp(read_ack(r, whole, version, reason::is_release_reason)?),
        kind::SUBSCRIBE => Packet::Subscribe(read_subscribe(r, whole, version)?),
        kind::UNSUBSCRIBE => Packet::Unsubscribe(read_unsubscribe(r, whole, version)?),
        kind::PINGREQ => {
            r.end()?;
            Packet::PingReq
        }
        kind::DISCONNECT => {
            Packet::Disconnect(read_disconnect(r, whole, version, reason::is_client_disconnect_reason)?)
        }
        kind::AUTH if version == Version::V5 => Packet::Auth(read_auth(r, whole)?),
        kind::AUTH => return Err(Violation::PacketType(kind::AUTH)),
        kind::CONNECT => return Err(Violation::ConnectTwice),
        _ => return Err(Violation::WrongDirection),
    })
}

/// The QoS of two bits.
pub(crate) fn guarantee(bits: u8) -> Option<Guarantee> {
    match bits {
        0 => Some(Guarantee::AtMostOnce),
        1 => Some(Guarantee::AtLeastOnce),
        2 => Some(Guarantee::ExactlyOnce),
        _ => None,
    }
}

pub(crate) fn read_publish(
    flags: u8,
    mut r: Reader<'_>,
    whole: &Bytes,
    version: Version,
    place: Place,
) -> Result<Publish, Violation> {
    let guarantee = guarantee((flags >> 1) & 0b11).ok_or(Violation::QosBits)?;
    let topic = std::str::from_utf8(r.binary()?).map_err(|_| Violation::Utf8)?;
    let id = match guarantee {
        Guarantee::AtMostOnce => None,
        Guarantee::AtLeastOnce | Guarantee::ExactlyOnce => Some(PacketId::new(r.u16()?)?),
    };
    let properties = match version {
        Version::V5 => Properties::read(&mut r, whole, place)?,
        Version::V311 => Properties::default(),
    };
    let topic = if topic.is_empty() && version == Version::V5 {
        let alias = properties.iter().any(|property| matches!(property, Property::TopicAlias(_)));
        if !alias {
            return Err(Violation::NoTopic);
        }
        None
    } else {
        Some(TopicName::parse(share_text(whole, topic)).map_err(Violation::Topic)?)
    };
    let payload = whole.slice_ref(r.remainder());
    Ok(Publish { dup: flags & 8 != 0, guarantee, retain: flags & 1 != 0, topic, id, properties, payload })
}

/// The short forms of version 5: two bytes say success, three a code without properties.
pub(crate) fn read_ack(
    mut r: Reader<'_>,
    whole: &Bytes,
    version: Version,
    allowed: fn(u8) -> bool,
) -> Result<Ack, Violation> {
    let id = PacketId::new(r.u16()?)?;
    let mut code = 0;
    if version == Version::V5 && !r.is_empty() {
        code = r.u8()?;
        if !allowed(code) {
            return Err(Violation::ReasonCode(code));
        }
        if !r.is_empty() {
            Properties::read(&mut r, whole, Place::ACK)?;
        }
    }
    r.end()?;
    Ok(Ack { id, code })
}

fn read_subscribe(mut r: Reader<'_>, whole: &Bytes, version: Version) -> Result<Subscribe, Violation> {
    let id = PacketId::new(r.u16()?)?;
    let (mut subscription, mut replay, mut selects) = (0, None, Vec::new());
    if version == Version::V5 {
        let properties = Properties::read(&mut r, whole, Place::SUBSCRIBE)?;
        for property in properties.iter() {
            if let Property::SubscriptionId(number) = property {
                subscription = number;
            } else if let Property::User(REPLAY_FROM, start) = property {
                replay.get_or_insert_with(|| properties.share(start));
            } else if let Property::User(name, text) = property
                && let Some(language) = Select::language_of(name)
            {
                selects.push(Select::new(language, properties.share(text)));
            }
        }
    }
    let mut filters = Vec::new();
    while !r.is_empty() {
        let filter = r.text()?;
        let options = read_options(r.u8()?, version)?;
        if options.no_local && filter.starts_with("$share/") {
            return Err(Violation::NoLocalShared);
        }
        filters.push((share_text(whole, filter), options));
    }
    if filters.is_empty() {
        return Err(Violation::NoFilter);
    }
    Ok(Subscribe { id, subscription, replay, selects, filters })
}

fn read_options(bits: u8, version: Version) -> Result<FilterOptions, Violation> {
    let wrong = Violation::SubscriptionOptions(bits);
    let reserved = match version {
        Version::V311 => 0b1111_1100,
        Version::V5 => 0b1100_0000,
    };
    let retain_handling = (bits >> 4) & 0b11;
    if bits & reserved != 0 || retain_handling == 3 {
        return Err(wrong);
    }
    Ok(FilterOptions {
        guarantee: guarantee(bits & 0b11).ok_or(wrong)?,
        no_local: bits & 0b0100 != 0,
        retain_as_published: bits & 0b1000 != 0,
        retain_handling,
    })
}

fn read_unsubscribe(mut r: Reader<'_>, whole: &Bytes, version: Version) -> Result<Unsubscribe, Violation> {
    let id = PacketId::new(r.u16()?)?;
    if version == Version::V5 {
        Properties::read(&mut r, whole, Place::UNSUBSCRIBE)?;
    }
    let mut filters = Vec::new();
    while !r.is_empty() {
        filters.push(share_text(whole, r.text()?));
    }
    if filters.is_empty() {
        return Err(Violation::NoFilter);
    }
    Ok(Unsubscribe { id, filters })
}

/// Version 5: nothing is a normal end, one byte a code without properties.
pub(crate) fn read_disconnect(
    mut r: Reader<'_>,
    whole: &Bytes,
    version: Version,
    allowed: fn(u8) -> bool,
) -> Result<Disconnect, Violation> {
    let mut disconnect = Disconnect { code: 0, session_expiry: None };
    if version == Version::V5 && !r.is_empty() {
        disconnect.code = r.u8()?;
        if !allowed(disconnect.code) {
            return Err(Violation::ReasonCode(disconnect.code));
        }
        if !r.is_empty() {
            let properties = Properties::read(&mut r, whole, Place::DISCONNECT)?;
            for property in properties.iter() {
                if let Property::SessionExpiry(seconds) = property {
                    disconnect.session_expiry = Some(seconds);
                }
            }
        }
    }
    r.end()?;
    Ok(disconnect)
}

/// Nothing says success.
pub(crate) fn read_auth(mut r: Reader<'_>, whole: &Bytes) -> Result<Auth, Violation> {
    let mut auth = Auth { code: 0, method: ByteString::new(), data: Bytes::new() };
    if r.is_empty() {
        return Ok(auth);
    }
    auth.code = r.u8()?;
    if !matches!(auth.code, 0x00 | 0x18 | 0x19) {
        return Err(Violation::ReasonCode(auth.code));
    }
    let properties = Properties::read(&mut r, whole, Place::AUTH)?;
    for property in properties.iter() {
        if let Property::AuthenticationMethod(method) = property {
            auth.method = properties.share(method);
        } else if let Property::AuthenticationData(data) = property {
            auth.data = properties.share_data(data);
        }
    }
    r.end()?;
    Ok(auth)
}
