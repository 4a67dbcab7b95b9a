//! What a peer can do wrong, and what it is told.

use event::TopicError;

use crate::codec::Reason;

/// The peer broke the protocol: send [`Violation::reason`] where the version has a place for it, and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A packet type that does not exist.
    #[error("[MQTT 5 §2.1.2] packet type {0} is reserved")]
    PacketType(u8),
    /// The lower bits of the first byte.
    #[error("[MQTT-2.1.3-1] first byte {0:#04x}: reserved flags")]
    Flags(u8),
    /// QoS 3.
    #[error("[MQTT-3.3.1-4] both QoS bits are set")]
    QosBits,
    /// DUP with QoS 0.
    #[error("[MQTT-3.3.1-2] DUP is set on a QoS 0 publish")]
    DupQos0,
    /// More than four bytes of length, or not the shortest form.
    #[error("[MQTT-1.5.5-1] a length that is not a variable byte integer in its shortest form")]
    Length,
    /// More than the limit, told before the body is read.
    #[error("[MQTT-3.2.2-15] packet of {len} B, limit {max} B")]
    TooLarge {
        /// The whole packet, bytes.
        len: u32,
        /// The limit, bytes.
        max: u32,
    },
    /// A field reaches over the end of the packet.
    #[error("[MQTT-4.13.1-1] a field reaches over the end of the packet")]
    Truncated,
    /// Bytes behind the last field.
    #[error("[MQTT-4.13.1-1] bytes behind the last field of the packet")]
    Trailing,
    /// Not UTF-8.
    #[error("[MQTT-1.5.4-1] a string is not UTF-8")]
    Utf8,
    /// U+0000 in a string.
    #[error("[MQTT-1.5.4-2] a string has the null character")]
    Null,
    /// A control character or non-character in a string.
    #[error("[MQTT 5 §1.5.4] a string has a control character or a Unicode non-character")]
    Control,
    /// Packet id 0.
    #[error("[MQTT-2.2.1-3] packet id 0")]
    PacketIdZero,
    /// A topic name that is none.
    #[error("{0}")]
    Topic(TopicError),
    /// No topic, no alias.
    #[error("[MQTT-3.3.2-1] a publish without topic and without topic alias")]
    NoTopic,
    /// Not an MQTT client.
    #[error("[MQTT-3.1.2-1] the protocol name is not MQTT")]
    ProtocolName,
    /// A version that Weft does not speak.
    #[error("[MQTT-3.1.2-2] protocol level {0}; 4 (MQTT 3.1.1) and 5 are spoken")]
    ProtocolLevel(u8),
    /// Reserved bit, will bits without will, password without user.
    #[error("[MQTT-3.1.2-3] connect flags {0:#010b}")]
    ConnectFlags(u8),
    /// Something else came before CONNECT.
    #[error("[MQTT-3.1.0-1] the first packet is not CONNECT")]
    ConnectFirst,
    /// CONNECT came twice.
    #[error("[MQTT-3.1.0-2] a second CONNECT")]
    ConnectTwice,
    /// A packet that only servers send.
    #[error("[MQTT 5 §2.1.2] a packet that only the server sends")]
    WrongDirection,
    /// CONNECT, PINGREQ, DISCONNECT or AUTH on a data stream.
    #[error("[MQTT 5 §4.13] a packet that belongs on the control stream")]
    ControlPacket,
    /// No filter.
    #[error("[MQTT-3.8.3-2] a SUBSCRIBE or UNSUBSCRIBE without filter")]
    NoFilter,
    /// Reserved bits, QoS 3, or Retain Handling 3.
    #[error("[MQTT-3.8.3-5] subscription options {0:#010b}")]
    SubscriptionOptions(u8),
    /// No Local with a shared subscription.
    #[error("[MQTT-3.8.3-4] no local on a shared subscription")]
    NoLocalShared,
    /// An id that does not exist.
    #[error("[MQTT 5 §2.2.2] property {0:#04x} does not exist")]
    PropertyUnknown(u8),
    /// Not in this packet.
    #[error("[MQTT 5 §2.2.2] property {0:#04x} is not allowed in this packet")]
    PropertyPlace(u8),
    /// Only a server names subscriptions.
    #[error("[MQTT-3.3.4-6] a publish of a client with a subscription identifier")]
    SubscriptionId,
    /// Data for an authentication method that is not there.
    #[error("[MQTT 5 §3.1.2.11.10] authentication data without authentication method")]
    AuthenticationData,
    /// More than once.
    #[error("[MQTT 5 §2.2.2] property {0:#04x} comes twice")]
    PropertyTwice(u8),
    /// Out of range.
    #[error("[MQTT 5 §2.2.2] property {0:#04x} has a value that is not allowed")]
    PropertyValue(u8),
    /// Not for this packet.
    #[error("[MQTT 5 §2.4] reason code {0:#04x} is not for this packet")]
    ReasonCode(u8),
    /// Alias 0, above the maximum, or without a topic so far.
    #[error("[MQTT-3.3.2-9] topic alias {0} is above the maximum, or has no topic yet")]
    TopicAlias(u16),
    /// More open than announced.
    #[error("[MQTT-3.3.4-7] more than {0} publishes without an answer")]
    ReceiveMaximum(u16),
    /// An ack that does not belong to this state.
    #[error("[MQTT-4.3.3-1] packet id {0}: an ack out of its order")]
    AckOrder(u16),
    /// A 3.1.1 client publishes with an id that waits for PUBCOMP.
    #[error("[MQTT-2.3.1-2] packet id {0} is in use")]
    PacketIdInUse(u16),
    /// A session that ends with its connection cannot be made longer at the end.
    #[error("[MQTT 5 §3.14.2.2.2] session expiry is 0 in CONNECT and not in DISCONNECT")]
    SessionExpiry,
    /// AUTH without an authentication method in CONNECT.
    #[error("[MQTT-4.12.0-7] AUTH without an authentication method")]
    Auth,
    /// AUTH where none is expected.
    #[error("[MQTT 5 §4.12] an AUTH packet that is not due now")]
    AuthOrder,
    /// AUTH with another method than CONNECT, or none.
    #[error("[MQTT-4.12.0-5] AUTH without the authentication method of CONNECT")]
    AuthMethod,
    /// Another packet before enhanced authentication was done.
    #[error("[MQTT-3.1.2-30] another packet than AUTH or DISCONNECT before CONNACK")]
    AuthFirst,
    /// The proof of who the client is has ended.
    #[error("the proof of who the client is has ended: prove it anew")]
    ProofEnded,
    /// Nothing heard.
    #[error("[MQTT-3.1.2-22] nothing came for one and a half times the keep alive")]
    KeepAlive,
    /// No CONNECT in time.
    #[error("[MQTT 5 §3.1.4] no CONNECT in time")]
    ConnectTimeout,
    /// The peer does not read.
    #[error("the peer took nothing of its output in time")]
    WriteTimeout,
    /// MQTT 3.1.1 has no answer for a refused publish but this.
    #[error("a publish was refused and MQTT 3.1.1 has no answer for that")]
    Refused,
    /// What keeps the session failed.
    #[error("the session could not be kept")]
    Unkept,
}

impl Violation {
    /// The code of MQTT 5 that tells the peer what it did.
    pub fn reason(self) -> Reason {
        match self {
            Self::PacketType(_)
            | Self::Flags(_)
            | Self::QosBits
            | Self::Length
            | Self::Truncated
            | Self::Trailing
            | Self::Utf8
            | Self::Null
            | Self::Control
            | Self::ConnectFlags(_)
            | Self::SubscriptionOptions(0x40..)
            | Self::PropertyUnknown(_)
            | Self::PropertyPlace(_)
            | Self::ReasonCode(_) => Reason::MalformedPacket,
            Self::DupQos0
            | Self::PacketIdZero
            | Self::NoTopic
            | Self::ConnectFirst
            | Self::ConnectTwice
            | Self::WrongDirection
            | Self::ControlPacket
            | Self::NoFilter
            | Self::NoLocalShared
            | Self::SubscriptionOptions(_)
            | Self::SubscriptionId
            | Self::AuthenticationData
            | Self::PropertyTwice(_)
            | Self::PropertyValue(_)
            | Self::AckOrder(_)
            | Self::PacketIdInUse(_)
            | Self::SessionExpiry
            | Self::Auth
            | Self::AuthOrder
            | Self::AuthMethod
            | Self::AuthFirst => Reason::ProtocolError,
            Self::TooLarge { .. } => Reason::PacketTooLarge,
            Self::Topic(TopicError::NotUtf8 | TopicError::Null | TopicError::Control) => {
                Reason::MalformedPacket
            }
            Self::Topic(_) => Reason::TopicNameInvalid,
            Self::ProtocolName | Self::ProtocolLevel(_) => Reason::UnsupportedProtocolVersion,
            Self::TopicAlias(_) => Reason::TopicAliasInvalid,
            Self::ReceiveMaximum(_) => Reason::ReceiveMaximumExceeded,
            Self::KeepAlive => Reason::KeepAliveTimeout,
            Self::ConnectTimeout => Reason::ProtocolError,
            Self::WriteTimeout => Reason::AdministrativeAction,
            Self::ProofEnded => Reason::MaximumConnectTime,
            Self::Refused | Self::Unkept => Reason::ImplementationSpecific,
        }
    }

    /// The label of the metric `weft_mqtt_violations_total`.
    pub fn label(self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::Utf8 | Self::Null | Self::Control => "text",
            Self::Topic(_) | Self::NoTopic | Self::TopicAlias(_) => "topic",
            Self::ProtocolName | Self::ProtocolLevel(_) => "version",
            Self::ConnectFlags(_) | Self::ConnectFirst | Self::ConnectTwice | Self::SessionExpiry => {
                "connect"
            }
            Self::Auth | Self::AuthOrder | Self::AuthMethod | Self::AuthFirst => "auth",
            Self::ProofEnded => "proof_ended",
            Self::NoFilter | Self::SubscriptionOptions(_) | Self::NoLocalShared => "subscribe",
            Self::PropertyUnknown(_)
            | Self::PropertyPlace(_)
            | Self::SubscriptionId
            | Self::AuthenticationData
            | Self::PropertyTwice(_)
            | Self::PropertyValue(_)
            | Self::ReasonCode(_) => "property",
            Self::ReceiveMaximum(_) => "receive_maximum",
            Self::AckOrder(_) | Self::PacketIdInUse(_) | Self::PacketIdZero => "packet_id",
            Self::KeepAlive => "keep_alive",
            Self::ConnectTimeout => "connect_timeout",
            Self::WriteTimeout => "write_timeout",
            Self::Refused | Self::Unkept => "refused",
            Self::PacketType(_)
            | Self::Flags(_)
            | Self::QosBits
            | Self::DupQos0
            | Self::Length
            | Self::Truncated
            | Self::Trailing
            | Self::ControlPacket
            | Self::WrongDirection => "packet",
        }
    }
}
