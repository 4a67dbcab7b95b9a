//! Packets of MQTT 3.1.1 and 5.0, read and written without I/O. Knows no session and no event.
//!
//! Reading goes in two steps, so that memory is shared and not copied: [`scan`] tells how many bytes at the front of
//! a buffer are complete packets, and refuses what is too large before its body is there; the caller freezes these
//! bytes once, and [`decode`] takes packet after packet off them. Topics, properties and payloads are slices of them.
//!
//! ```text
//! | type << 4 + flags | remaining length, 1 to 4 bytes | body |
//! ```

#![deny(clippy::arithmetic_side_effects)]

pub mod client;
mod connect;
mod decode;
pub mod encode;
mod exercise;
mod property;
mod reader;
mod reason;
mod write;

use std::num::NonZeroU16;

use bytes::Bytes;
use bytestring::ByteString;
use event::{Guarantee, Select, TopicName};

pub use connect::{Connect, Will, claims_version_5};
pub use decode::decode;
pub use exercise::exercise;
pub use property::{Properties, Property, Visit};
pub use reason::Reason;

use crate::Violation;

/// Which of the two standards a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5.0.
    V5,
}

/// A packet id: 1 to 65,535 (MQTT 5 §2.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PacketId(pub NonZeroU16);

impl PacketId {
    /// The number on the wire; 0 is none.
    pub fn new(number: u16) -> Result<Self, Violation> {
        NonZeroU16::new(number).map(Self).ok_or(Violation::PacketIdZero)
    }

    /// The number on the wire.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

/// A packet that a client sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
    /// CONNECT.
    Connect(Box<Connect>),
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
    /// SUBSCRIBE.
    Subscribe(Subscribe),
    /// UNSUBSCRIBE.
    Unsubscribe(Unsubscribe),
    /// PINGREQ.
    PingReq,
    /// DISCONNECT.
    Disconnect(Disconnect),
    /// AUTH.
    Auth(Auth),
}

/// PUBLISH (MQTT 5 §3.3).
#[derive(Clone, Debug, PartialEq)]
pub struct Publish {
    /// It may have come before.
    pub dup: bool,
    /// QoS.
    pub guarantee: Guarantee,
    /// Keep it.
    pub retain: bool,
    /// `None` in version 5 when a topic alias stands for it.
    pub topic: Option<TopicName>,
    /// With QoS 1 and 2.
    pub id: Option<PacketId>,
    /// None in 3.1.1.
    pub properties: Properties,
    /// The payload.
    pub payload: Bytes,
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP (MQTT 5 §3.4 to §3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Of what.
    pub id: PacketId,
    /// The reason code; 0 in 3.1.1.
    pub code: u8,
}

/// The user property of a SUBSCRIBE that says from where on it wants events that were before it.
pub const REPLAY_FROM: &str = "replay-from";

/// SUBSCRIBE (MQTT 5 §3.8).
#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe {
    /// To be repeated by SUBACK.
    pub id: PacketId,
    /// The Subscription Identifier; 0: none.
    pub subscription: u32,
    /// The first user property [`REPLAY_FROM`].
    pub replay: Option<ByteString>,
    /// The user properties [`event::CESQL_NAME`] and [`event::CEL_NAME`]: filters of its events.
    pub selects: Vec<Select>,
    /// At least one. The text is UTF-8 without null; whether it is a filter is not checked yet, because a wrong one
    /// has an answer of its own.
    pub filters: Vec<(ByteString, FilterOptions)>,
}

/// Subscription options (MQTT 5 §3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterOptions {
    /// The maximum QoS.
    pub guarantee: Guarantee,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Retain Handling: 0, 1 or 2.
    pub retain_handling: u8,
}

/// UNSUBSCRIBE (MQTT 5 §3.10).
#[derive(Clone, Debug, PartialEq)]
pub struct Unsubscribe {
    /// To be repeated by UNSUBACK.
    pub id: PacketId,
    /// At least one.
    pub filters: Vec<ByteString>,
}

/// DISCONNECT (MQTT 5 §3.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect {
    /// The reason code; 0 in 3.1.1.
    pub code: u8,
    /// A new Session Expiry Interval, seconds.
    pub session_expiry: Option<u32>,
}

/// AUTH (MQTT 5 §3.15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// The reason code: 0x00 success, 0x18 continue, 0x19 authenticate anew.
    pub code: u8,
    /// The Authentication Method; empty when it is left out.
    pub method: ByteString,
    /// The Authentication Data.
    pub data: Bytes,
}

/// The types of packets.
pub(crate) mod kind {
    pub(crate) const CONNECT: u8 = 1;
    pub(crate) const CONNACK: u8 = 2;
    pub(crate) const PUBLISH: u8 = 3;
    pub(crate) const PUBACK: u8 = 4;
    pub(crate) const PUBREC: u8 = 5;
    pub(crate) const PUBREL: u8 = 6;
    pub(crate) const PUBCOMP: u8 = 7;
    pub(crate) const SUBSCRIBE: u8 = 8;
    pub(crate) const SUBACK: u8 = 9;
    pub(crate) const UNSUBSCRIBE: u8 = 10;
    pub(crate) const UNSUBACK: u8 = 11;
    pub(crate) const PINGREQ: u8 = 12;
    pub(crate) const PINGRESP: u8 = 13;
    pub(crate) const DISCONNECT: u8 = 14;
    pub(crate) const AUTH: u8 = 15;
}

/// The fixed header of a packet (MQTT 5 §2.1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// Bytes before the body.
    pub(crate) start: usize,
    /// Bytes of the body.
    pub(crate) body: u32,
}

impl Header {
    /// Reads and checks the fixed header; `None` when more bytes are needed.
    pub(crate) fn read(input: &[u8]) -> Result<Option<Self>, Violation> {
        let Some((&first, rest)) = input.split_first() else { return Ok(None) };
        let (kind, flags) = (first >> 4, first & 0x0f);
        match kind {
            0 => return Err(Violation::PacketType(0)),
            kind::PUBLISH if flags & 0b0110 == 0b0110 => return Err(Violation::QosBits),
            kind::PUBLISH if flags & 0b1110 == 0b1000 => return Err(Violation::DupQos0),
            kind::PUBLISH => {}
            kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE if flags != 0b0010 => {
                return Err(Violation::Flags(first));
            }
            kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE => {}
            _ if flags != 0 => return Err(Violation::Flags(first)),
            _ => {}
        }
        let Some((body, used)) = reader::varint(rest)? else { return Ok(None) };
        Ok(Some(Self { kind, flags, start: used.saturating_add(1), body }))
    }

    /// Bytes of the whole packet.
    pub(crate) fn total(self) -> usize {
        self.start.saturating_add(usize::try_from(self.body).unwrap_or(usize::MAX))
    }
}

/// What is at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// How many bytes are complete packets.
    pub complete: usize,
    /// How many packets these are.
    pub packets: u32,
    /// How many bytes the packet behind them needs in all, as far as known; 0 when not known.
    pub next: usize,
    /// What is wrong behind them, if something is.
    pub violation: Option<Violation>,
}

/// Looks at the fixed headers in `input`. `max`: the largest packet allowed, bytes. `connected`: CONNECT was there, so
/// that nothing else is waited for before.
pub fn scan(input: &[u8], max: u32, connected: bool) -> Scan {
    let mut scan = Scan { complete: 0, packets: 0, next: 0, violation: None };
    let mut connected = connected;
    while let Some(rest) = input.get(scan.complete..) {
        if !connected && rest.first().is_some_and(|first| first >> 4 != kind::CONNECT) {
            scan.violation = Some(Violation::ConnectFirst);
            return scan;
        }
        let header = match Header::read(rest) {
            Ok(Some(header)) => header,
            Ok(None) => return scan,
            Err(violation) => {
                scan.violation = Some(violation);
                return scan;
            }
        };
        let total = header.total();
        let len = u32::try_from(total).unwrap_or(u32::MAX);
        if len > max {
            scan.violation = Some(Violation::TooLarge { len, max });
            return scan;
        }
        if rest.len() < total {
            scan.next = total;
            return scan;
        }
        scan.complete = scan.complete.saturating_add(total);
        scan.packets = scan.packets.saturating_add(1);
        connected = true;
    }
    scan
}

#[cfg(test)]
mod tests;
