//! Reason codes of MQTT 5 (§2.4) and return codes of CONNACK and SUBACK in 3.1.1.

/// A reason code that Weft sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// Success; in DISCONNECT: normal disconnection; in SUBACK: granted QoS 0.
    Success = 0x00,
    /// SUBACK: granted QoS 1.
    GrantedQos1 = 0x01,
    /// SUBACK: granted QoS 2.
    GrantedQos2 = 0x02,
    /// DISCONNECT by a client that wants its will published.
    DisconnectWithWill = 0x04,
    /// UNSUBACK: there was no such subscription.
    NoSubscriptionExisted = 0x11,
    /// AUTH: the other end goes on.
    ContinueAuthentication = 0x18,
    /// AUTH by a client that proves anew who it is.
    ReAuthenticate = 0x19,
    /// No more precise code fits.
    Unspecified = 0x80,
    /// A packet that cannot be read.
    MalformedPacket = 0x81,
    /// A packet that is not allowed at this time or in this form.
    ProtocolError = 0x82,
    /// Valid, and not done for a reason of our own: what keeps the event is away.
    ImplementationSpecific = 0x83,
    /// CONNACK: a protocol level that Weft does not speak.
    UnsupportedProtocolVersion = 0x84,
    /// CONNACK: a client id that is not allowed.
    ClientIdNotValid = 0x85,
    /// CONNACK: credentials that are missing or wrong.
    BadUserNameOrPassword = 0x86,
    /// Not allowed to do this.
    NotAuthorized = 0x87,
    /// CONNACK: cannot take clients now.
    ServerUnavailable = 0x88,
    /// CONNACK: too much to do, try later.
    ServerBusy = 0x89,
    /// DISCONNECT: Weft stops.
    ServerShuttingDown = 0x8b,
    /// CONNACK: an authentication method that is not known.
    BadAuthenticationMethod = 0x8c,
    /// DISCONNECT: nothing came for one and a half times the keep alive.
    KeepAliveTimeout = 0x8d,
    /// DISCONNECT: another connection uses this client id.
    SessionTakenOver = 0x8e,
    /// A filter that is no filter, or not allowed.
    TopicFilterInvalid = 0x8f,
    /// A topic that clients may not publish to.
    TopicNameInvalid = 0x90,
    /// The packet id is in use.
    PacketIdInUse = 0x91,
    /// The packet id is not known.
    PacketIdNotFound = 0x92,
    /// DISCONNECT: more publishes open than the Receive Maximum allows.
    ReceiveMaximumExceeded = 0x93,
    /// DISCONNECT: a topic alias of 0 or above the maximum.
    TopicAliasInvalid = 0x94,
    /// A packet above the Maximum Packet Size.
    PacketTooLarge = 0x95,
    /// A limit of ours is reached.
    QuotaExceeded = 0x97,
    /// DISCONNECT: an operator, or a policy, ended the connection.
    AdministrativeAction = 0x98,
    /// The payload is not what its properties say.
    PayloadFormatInvalid = 0x99,
    /// DISCONNECT: the proof of who the client is has ended.
    MaximumConnectTime = 0xa0,
}

impl Reason {
    /// The byte on the wire.
    pub fn byte(self) -> u8 {
        self as u8
    }

    /// What a person is told who looks at an answer with it; only for what is decided here and not by the hub.
    pub(crate) fn text(self) -> &'static str {
        match self.byte() {
            0x90 => "topics that begin with $ are not for clients to publish to",
            0x91 => "the packet id is in use by a publish that is not finished",
            0x92 => "nothing is open under this packet id",
            0x99 => "the payload is not what the properties say",
            _ => "",
        }
    }

    /// Whether it says no.
    pub fn is_error(self) -> bool {
        self.byte() >= 0x80
    }
}

/// Whether PUBACK and PUBREC may carry `code` (MQTT 5 table 3-4, 3-5).
pub(crate) fn is_publish_reason(code: u8) -> bool {
    matches!(code, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
}

/// Whether PUBREL and PUBCOMP may carry `code` (MQTT 5 table 3-6, 3-7).
pub(crate) fn is_release_reason(code: u8) -> bool {
    matches!(code, 0x00 | 0x92)
}

/// Whether a client's DISCONNECT may carry `code` (MQTT 5 table 3-10).
pub(crate) fn is_client_disconnect_reason(code: u8) -> bool {
    matches!(code, 0x00 | 0x04 | 0x80..=0x83 | 0x90 | 0x93..=0x99)
}

/// Whether a DISCONNECT may carry `code` (MQTT 5 table 3-10).
pub(crate) fn is_disconnect_reason(code: u8) -> bool {
    matches!(code, 0x00 | 0x04 | 0x80..=0x83 | 0x87 | 0x89 | 0x8b | 0x8d..=0x90 | 0x93..=0xa2)
}
