//! Properties of MQTT 5 (§2.2.2): checked when a packet is read, kept as the bytes they came in, read again by those
//! who want one. A packet without properties holds none and pays for none.
//!
//! ```text
//! | length (variable) | id | value | id | value | ...
//! ```

use std::num::{NonZeroU16, NonZeroU32};

use bytes::Bytes;
use bytestring::ByteString;

use super::reader::{Reader, share_text};
use super::write::{Sink, write_binary, write_text, write_varint};
use crate::Violation;

/// Looks at one property after the other.
pub type Visit<'a> = dyn FnMut(Property<'_>) + 'a;

/// One property, borrowed from its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    /// 0x01: the payload is UTF-8.
    PayloadFormat(bool),
    /// 0x02: seconds.
    MessageExpiry(u32),
    /// 0x03.
    ContentType(&'a str),
    /// 0x08.
    ResponseTopic(&'a str),
    /// 0x09.
    CorrelationData(&'a [u8]),
    /// 0x0B: 1 to 268,435,455.
    SubscriptionId(u32),
    /// 0x11: seconds; `u32::MAX` is for ever.
    SessionExpiry(u32),
    /// 0x12.
    AssignedClientId(&'a str),
    /// 0x13: seconds.
    ServerKeepAlive(u16),
    /// 0x15.
    AuthenticationMethod(&'a str),
    /// 0x16.
    AuthenticationData(&'a [u8]),
    /// 0x17.
    RequestProblemInformation(bool),
    /// 0x18: seconds.
    WillDelay(u32),
    /// 0x19.
    RequestResponseInformation(bool),
    /// 0x1A.
    ResponseInformation(&'a str),
    /// 0x1C.
    ServerReference(&'a str),
    /// 0x1F.
    ReasonString(&'a str),
    /// 0x21.
    ReceiveMaximum(NonZeroU16),
    /// 0x22.
    TopicAliasMaximum(u16),
    /// 0x23: 0 is not allowed, and told by its own code: [`Violation::TopicAlias`].
    TopicAlias(u16),
    /// 0x24: false is QoS 0, true QoS 1.
    MaximumQos(bool),
    /// 0x25.
    RetainAvailable(bool),
    /// 0x26.
    User(&'a str, &'a str),
    /// 0x27: bytes.
    MaximumPacketSize(NonZeroU32),
    /// 0x28.
    WildcardAvailable(bool),
    /// 0x29.
    SubscriptionIdAvailable(bool),
    /// 0x2A.
    SharedAvailable(bool),
}

/// The packets that have properties, one bit each, as far as they allow different ones.
#[derive(Clone, Copy)]
pub(crate) struct Place(u16);

impl Place {
    pub(crate) const CONNECT: Self = Self(1);
    pub(crate) const WILL: Self = Self(1 << 1);
    pub(crate) const CONNACK: Self = Self(1 << 2);
    pub(crate) const PUBLISH: Self = Self(1 << 3);
    /// A PUBLISH from the server: it may name subscriptions.
    pub(crate) const DELIVERY: Self = Self(1 << 4);
    /// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK.
    pub(crate) const ACK: Self = Self(1 << 5);
    pub(crate) const SUBSCRIBE: Self = Self(1 << 6);
    pub(crate) const UNSUBSCRIBE: Self = Self(1 << 7);
    pub(crate) const DISCONNECT: Self = Self(1 << 8);
    pub(crate) const AUTH: Self = Self(1 << 9);
}

/// The properties of one packet, checked: each exists, is allowed there, is not repeated if it must not be, and has
/// a value in its range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(Bytes);

impl Properties {
    /// Reads the block, its length in front.
    pub(crate) fn read(reader: &mut Reader<'_>, whole: &Bytes, place: Place) -> Result<Self, Violation> {
        let len = reader.varint()?;
        if len == 0 {
            return Ok(Self::default());
        }
        let raw = reader.take(usize::try_from(len).map_err(|_| Violation::Truncated)?)?;
        let mut inner = Reader::new(raw);
        let mut seen = 0u64;
        while !inner.is_empty() {
            let id = inner.u8()?;
            let places = places(id).ok_or(Violation::PropertyUnknown(id))?;
            if places & place.0 == 0 {
                let of_server = id == 0x0b && place.0 == Place::PUBLISH.0;
                return Err(if of_server { Violation::SubscriptionId } else { Violation::PropertyPlace(id) });
            }
            let bit = 1u64 << (id & 0x3f);
            let repeats = id == 0x26 || (id == 0x0b && place.0 == Place::DELIVERY.0);
            if seen & bit != 0 && !repeats {
                return Err(Violation::PropertyTwice(id));
            }
            seen |= bit;
            read_value(id, &mut inner)?;
        }
        Ok(Self(whole.slice_ref(raw)))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them in their order.
    pub fn iter(&self) -> impl Iterator<Item = Property<'_>> {
        let mut reader = Reader::new(&self.0);
        std::iter::from_fn(move || {
            let id = reader.u8().ok()?;
            read_value(id, &mut reader).ok()
        })
    }

    /// A text of one of these properties, sharing their memory.
    pub fn share(&self, text: &str) -> ByteString {
        share_text(&self.0, text)
    }

    /// The data of one of these properties, sharing their memory.
    pub fn share_data(&self, data: &[u8]) -> Bytes {
        self.0.slice_ref(data)
    }
}

impl Property<'_> {
    fn id(self) -> u8 {
        match self {
            Self::PayloadFormat(_) => 0x01,
            Self::MessageExpiry(_) => 0x02,
            Self::ContentType(_) => 0x03,
            Self::ResponseTopic(_) => 0x08,
            Self::CorrelationData(_) => 0x09,
            Self::SubscriptionId(_) => 0x0b,
            Self::SessionExpiry(_) => 0x11,
            Self::AssignedClientId(_) => 0x12,
            Self::ServerKeepAlive(_) => 0x13,
            Self::AuthenticationMethod(_) => 0x15,
            Self::AuthenticationData(_) => 0x16,
            Self::RequestProblemInformation(_) => 0x17,
            Self::WillDelay(_) => 0x18,
            Self::RequestResponseInformation(_) => 0x19,
            Self::ResponseInformation(_) => 0x1a,
            Self::ServerReference(_) => 0x1c,
            Self::ReasonString(_) => 0x1f,
            Self::ReceiveMaximum(_) => 0x21,
            Self::TopicAliasMaximum(_) => 0x22,
            Self::TopicAlias(_) => 0x23,
            Self::MaximumQos(_) => 0x24,
            Self::RetainAvailable(_) => 0x25,
            Self::User(..) => 0x26,
            Self::MaximumPacketSize(_) => 0x27,
            Self::WildcardAvailable(_) => 0x28,
            Self::SubscriptionIdAvailable(_) => 0x29,
            Self::SharedAvailable(_) => 0x2a,
        }
    }

    /// The longest text or data in it, bytes.
    fn longest(self) -> usize {
        if let Self::User(name, value) = self {
            name.len().max(value.len())
        } else if let Self::CorrelationData(data) | Self::AuthenticationData(data) = self {
            data.len()
        } else if let Self::ContentType(text)
        | Self::ResponseTopic(text)
        | Self::AssignedClientId(text)
        | Self::AuthenticationMethod(text)
        | Self::ResponseInformation(text)
        | Self::ServerReference(text)
        | Self::ReasonString(text) = self
        {
            text.len()
        } else {
            0
        }
    }

    /// Writes it, or nothing when a text or data is longer than the 65,535 bytes that a property can have.
    pub(crate) fn write(self, sink: &mut impl Sink) {
        if self.longest() > usize::from(u16::MAX) {
            return;
        }
        sink.put(&[self.id()]);
        match self {
            Self::PayloadFormat(on)
            | Self::RequestProblemInformation(on)
            | Self::RequestResponseInformation(on)
            | Self::MaximumQos(on)
            | Self::RetainAvailable(on)
            | Self::WildcardAvailable(on)
            | Self::SubscriptionIdAvailable(on)
            | Self::SharedAvailable(on) => sink.put(&[u8::from(on)]),
            Self::MessageExpiry(n) | Self::SessionExpiry(n) | Self::WillDelay(n) => {
                sink.put(&n.to_be_bytes())
            }
            Self::MaximumPacketSize(n) => sink.put(&n.get().to_be_bytes()),
            Self::ServerKeepAlive(n) | Self::TopicAliasMaximum(n) | Self::TopicAlias(n) => {
                sink.put(&n.to_be_bytes())
            }
            Self::ReceiveMaximum(n) => sink.put(&n.get().to_be_bytes()),
            Self::SubscriptionId(n) => write_varint(sink, n),
            Self::ContentType(text)
            | Self::ResponseTopic(text)
            | Self::AssignedClientId(text)
            | Self::AuthenticationMethod(text)
            | Self::ResponseInformation(text)
            | Self::ServerReference(text)
            | Self::ReasonString(text) => write_text(sink, text),
            Self::CorrelationData(data) | Self::AuthenticationData(data) => write_binary(sink, data),
            Self::User(name, value) => {
                write_text(sink, name);
                write_text(sink, value);
            }
        }
    }
}

/// Where a property may stand (MQTT 5 table 2-4); `None` when there is no such property.
fn places(id: u8) -> Option<u16> {
    const PUBLISH: u16 = Place::PUBLISH.0 | Place::DELIVERY.0;
    Some(match id {
        0x01 | 0x02 | 0x03 | 0x08 | 0x09 => PUBLISH | Place::WILL.0,
        0x0b => Place::DELIVERY.0 | Place::SUBSCRIBE.0,
        0x11 => Place::CONNECT.0 | Place::CONNACK.0 | Place::DISCONNECT.0,
        0x12 | 0x13 | 0x1a | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => Place::CONNACK.0,
        0x15 | 0x16 => Place::CONNECT.0 | Place::CONNACK.0 | Place::AUTH.0,
        0x17 | 0x19 => Place::CONNECT.0,
        0x18 => Place::WILL.0,
        0x1c => Place::CONNACK.0 | Place::DISCONNECT.0,
        0x1f => Place::CONNACK.0 | Place::ACK.0 | Place::DISCONNECT.0 | Place::AUTH.0,
        0x21 | 0x22 | 0x27 => Place::CONNECT.0 | Place::CONNACK.0,
        0x23 => PUBLISH,
        0x26 => u16::MAX,
        _ => return None,
    })
}

/// The value behind `id`, checked for its range.
fn read_value<'a>(id: u8, reader: &mut Reader<'a>) -> Result<Property<'a>, Violation> {
    let flag = |byte: u8| match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Violation::PropertyValue(id)),
    };
    Ok(match id {
        0x01 => Property::PayloadFormat(flag(reader.u8()?)?),
        0x02 => Property::MessageExpiry(reader.u32()?),
        0x03 => Property::ContentType(reader.text()?),
        0x08 => Property::ResponseTopic(reader.text()?),
        0x09 => Property::CorrelationData(reader.binary()?),
        0x0b => match reader.varint()? {
            0 => return Err(Violation::PropertyValue(id)),
            n => Property::SubscriptionId(n),
        },
        0x11 => Property::SessionExpiry(reader.u32()?),
        0x12 => Property::AssignedClientId(reader.text()?),
        0x13 => Property::ServerKeepAlive(reader.u16()?),
        0x15 => Property::AuthenticationMethod(reader.text()?),
        0x16 => Property::AuthenticationData(reader.binary()?),
        0x17 => Property::RequestProblemInformation(flag(reader.u8()?)?),
        0x18 => Property::WillDelay(reader.u32()?),
        0x19 => Property::RequestResponseInformation(flag(reader.u8()?)?),
        0x1a => Property::ResponseInformation(reader.text()?),
        0x1c => Property::ServerReference(reader.text()?),
        0x1f => Property::ReasonString(reader.text()?),
        0x21 => Property::ReceiveMaximum(NonZeroU16::new(reader.u16()?).ok_or(Violation::PropertyValue(id))?),
        0x22 => Property::TopicAliasMaximum(reader.u16()?),
        0x23 => Property::TopicAlias(reader.u16()?),
        0x24 => Property::MaximumQos(flag(reader.u8()?)?),
        0x25 => Property::RetainAvailable(flag(reader.u8()?)?),
        0x26 => Property::User(reader.text()?, reader.text()?),
        0x27 => {
            Property::MaximumPacketSize(NonZeroU32::new(reader.u32()?).ok_or(Violation::PropertyValue(id))?)
        }
        0x28 => Property::WildcardAvailable(flag(reader.u8()?)?),
        0x29 => Property::SubscriptionIdAvailable(flag(reader.u8()?)?),
        0x2a => Property::SharedAvailable(flag(reader.u8()?)?),
        _ => return Err(Violation::PropertyUnknown(id)),
    })
}
