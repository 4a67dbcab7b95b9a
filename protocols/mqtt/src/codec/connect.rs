//! CONNECT (MQTT 5 §3.1, MQTT 3.1.1 §3.1).
//!
//! ```text
//! | 00 04 M Q T T | level | flags | keep alive (2) | properties (5) |
//! | client id | will properties (5) | will topic | will payload | user name | password |
//! ```

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use bytestring::ByteString;
use event::{Guarantee, TopicName};

use super::property::Place;
use super::reader::{Reader, share_text};
use super::{Properties, Property, Version};
use crate::Violation;

/// A wish to connect.
#[derive(Clone, Debug, PartialEq)]
pub struct Connect {
    /// The standard that is spoken from here on.
    pub version: Version,
    /// Clean Start, in 3.1.1 Clean Session.
    pub clean: bool,
    /// Keep alive, seconds; 0: none.
    pub keep_alive_s: u16,
    /// May be empty: Weft then makes one.
    pub client_id: ByteString,
    /// What to publish when the client is lost.
    pub will: Option<Will>,
    /// User name.
    pub user: Option<ByteString>,
    /// Password.
    pub password: Option<Bytes>,
    /// Session Expiry Interval, seconds; 0 when absent, and in 3.1.1.
    pub session_expiry_s: u32,
    /// Receive Maximum; 65,535 when absent.
    pub receive_max: NonZeroU16,
    /// Maximum Packet Size, bytes.
    pub max_packet_bytes: Option<NonZeroU32>,
    /// Request Problem Information: reason strings are wanted.
    pub problem_information: bool,
    /// Request Response Information: a place for answers is wanted.
    pub response_information: bool,
    /// Topic Alias Maximum: how many aliases the client takes.
    pub topic_alias_max: u16,
    /// Authentication Method: enhanced authentication is wanted.
    pub method: Option<ByteString>,
    /// Authentication Data.
    pub method_data: Bytes,
}

/// The will of a client (MQTT 5 §3.1.2.5).
#[derive(Clone, Debug, PartialEq)]
pub struct Will {
    /// Where to.
    pub topic: TopicName,
    /// What.
    pub payload: Bytes,
    /// QoS.
    pub guarantee: Guarantee,
    /// Keep it.
    pub retain: bool,
    /// Will Delay Interval, seconds.
    pub delay_s: u32,
    /// Its properties.
    pub properties: Properties,
}

const USER: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL: u8 = 0x04;
const CLEAN: u8 = 0x02;
const RESERVED: u8 = 0x01;

/// Reads the body of CONNECT.
pub(crate) fn read(mut r: Reader<'_>, whole: &Bytes) -> Result<Connect, Violation> {
    let name = r.binary()?;
    let level = r.u8()?;
    let version = match (name, level) {
        (b"MQTT", 4) => Version::V311,
        (b"MQTT", 5) => Version::V5,
        (b"MQTT", _) | (b"MQIsdp", 3) => return Err(Violation::ProtocolLevel(level)),
        _ => return Err(Violation::ProtocolName),
    };
    let flags = r.u8()?;
    check_flags(flags, version)?;
    let mut connect = Connect {
        version,
        clean: flags & CLEAN != 0,
        keep_alive_s: r.u16()?,
        client_id: ByteString::new(),
        will: None,
        user: None,
        password: None,
        session_expiry_s: 0,
        receive_max: NonZeroU16::MAX,
        max_packet_bytes: None,
        problem_information: true,
        response_information: false,
        topic_alias_max: 0,
        method: None,
        method_data: Bytes::new(),
    };
    if version == Version::V5 {
        read_properties(&mut connect, &Properties::read(&mut r, whole, Place::CONNECT)?)?;
    }
    connect.client_id = share_text(whole, r.text()?);
    if flags & WILL != 0 {
        connect.will = Some(read_will(&mut r, whole, flags, version)?);
    }
    if flags & USER != 0 {
        connect.user = Some(share_text(whole, r.text()?));
    }
    if flags & PASSWORD != 0 {
        connect.password = Some(whole.slice_ref(r.binary()?));
    }
    r.end()?;
    Ok(connect)
}

/// Whether the CONNECT packet at the front of `packet` claims version 5, however wrong the rest of it may be: then it
/// can be answered with a reason.
pub fn claims_version_5(packet: &[u8]) -> bool {
    let Ok(Some(header)) = super::Header::read(packet) else { return false };
    packet.get(header.start..).is_some_and(|body| body.starts_with(b"\0\x04MQTT\x05"))
}

fn check_flags(flags: u8, version: Version) -> Result<(), Violation> {
    let wrong = Err(Violation::ConnectFlags(flags));
    if flags & RESERVED != 0 {
        return wrong;
    }
    if flags & WILL == 0 && flags & (WILL_RETAIN | 0x18) != 0 {
        return wrong;
    }
    if flags & 0x18 == 0x18 {
        return wrong;
    }
    if version == Version::V311 && flags & USER == 0 && flags & PASSWORD != 0 {
        return wrong;
    }
    Ok(())
}

fn read_properties(connect: &mut Connect, properties: &Properties) -> Result<(), Violation> {
    let mut data = None;
    for property in properties.iter() {
        if let Property::SessionExpiry(seconds) = property {
            connect.session_expiry_s = seconds;
        } else if let Property::ReceiveMaximum(most) = property {
            connect.receive_max = most;
        } else if let Property::MaximumPacketSize(most) = property {
            connect.max_packet_bytes = Some(most);
        } else if let Property::RequestProblemInformation(wanted) = property {
            connect.problem_information = wanted;
        } else if let Property::RequestResponseInformation(wanted) = property {
            connect.response_information = wanted;
        } else if let Property::TopicAliasMaximum(most) = property {
            connect.topic_alias_max = most;
        } else if let Property::AuthenticationMethod(method) = property {
            connect.method = Some(properties.share(method));
        } else if let Property::AuthenticationData(bytes) = property {
            data = Some(properties.share_data(bytes));
        }
    }
    if data.is_some() && connect.method.is_none() {
        return Err(Violation::AuthenticationData);
    }
    connect.method_data = data.unwrap_or_default();
    Ok(())
}

fn read_will(r: &mut Reader<'_>, whole: &Bytes, flags: u8, version: Version) -> Result<Will, Violation> {
    let properties = match version {
        Version::V5 => Properties::read(r, whole, Place::WILL)?,
        Version::V311 => Properties::default(),
    };
    let topic = TopicName::parse(share_text(whole, r.text()?)).map_err(Violation::Topic)?;
    let payload = whole.slice_ref(r.binary()?);
    let delay = properties
        .iter()
        .find_map(|property| if let Property::WillDelay(seconds) = property { Some(seconds) } else { None });
    Ok(Will {
        topic,
        payload,
        guarantee: super::decode::guarantee((flags >> 3) & 0b11).ok_or(Violation::ConnectFlags(flags))?,
        retain: flags & WILL_RETAIN != 0,
        delay_s: delay.unwrap_or(0),
        properties,
    })
}
