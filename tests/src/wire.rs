//! MQTT 3.1.1 and 5, byte by byte. A judge of its own: it shares no code with Weft, writes wrong packets as readily
//! as right ones, and panics on an answer that breaks the standard.

/// The protocol level of CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V4,
    /// MQTT 5.0.
    V5,
}

/// A property of MQTT 5 (§2.2.2.2) with its identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Property {
    /// A byte.
    Byte(u8, u8),
    /// A two byte integer.
    Two(u8, u16),
    /// A four byte integer.
    Four(u8, u32),
    /// A variable byte integer.
    Variable(u8, u32),
    /// A UTF-8 string.
    Text(u8, String),
    /// Binary data.
    Data(u8, Vec<u8>),
    /// User Property.
    Pair(String, String),
}

/// CONNECT (§3.1).
#[derive(Clone, Debug)]
pub struct Connect {
    /// The protocol level.
    pub version: Version,
    /// The client identifier.
    pub client: String,
    /// Clean Session, Clean Start.
    pub clean: bool,
    /// Seconds.
    pub keep_alive: u16,
    /// MQTT 5 only.
    pub properties: Vec<Property>,
    /// Published when the connection is lost.
    pub will: Option<Publish>,
    /// MQTT 5 only.
    pub will_properties: Vec<Property>,
    /// User name and password.
    pub login: Option<(String, String)>,
}

/// PUBLISH (§3.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// Where to.
    pub topic: String,
    /// The data.
    pub payload: Vec<u8>,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Keep it as the last of its topic.
    pub retain: bool,
    /// Sent before.
    pub dup: bool,
    /// Packet identifier, at QoS 1 and 2.
    pub id: u16,
    /// MQTT 5 only.
    pub properties: Vec<Property>,
}

/// The packets with nothing but an identifier and a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// PUBACK.
    PubAck = 4,
    /// PUBREC.
    PubRec = 5,
    /// PUBREL.
    PubRel = 6,
    /// PUBCOMP.
    PubComp = 7,
}

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// CONNACK.
    ConnAck {
        /// Session Present.
        present: bool,
        /// Return code or reason code.
        code: u8,
        /// MQTT 5 only.
        properties: Vec<Property>,
    },
    /// PUBLISH.
    Publish(Publish),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack(Ack, u16, u8),
    /// SUBACK.
    SubAck(u16, Vec<u8>),
    /// UNSUBACK; no codes in 3.1.1.
    UnsubAck(u16, Vec<u8>),
    /// PINGRESP.
    PingResp,
    /// DISCONNECT, MQTT 5 only.
    Disconnect(u8),
    /// AUTH, MQTT 5 only.
    Auth(u8, Vec<Property>),
}

impl Connect {
    /// MQTT 5, a clean session that ends with the connection.
    pub fn v5(client: &str) -> Self {
        Self {
            version: Version::V5,
            client: client.to_owned(),
            clean: true,
            keep_alive: 60,
            properties: Vec::new(),
            will: None,
            will_properties: Vec::new(),
            login: None,
        }
    }

    /// MQTT 3.1.1, a clean session.
    pub fn v4(client: &str) -> Self {
        Self { version: Version::V4, ..Self::v5(client) }
    }

    /// With a session that stays.
    pub fn persistent(mut self) -> Self {
        self.clean = false;
        if self.version == Version::V5 {
            self.properties.push(Property::Four(SESSION_EXPIRY, 3600));
        }
        self
    }

    /// With this property.
    pub fn with(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// With this keep-alive in seconds.
    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.keep_alive = seconds;
        self
    }

    /// With this user name and password.
    pub fn login(mut self, user: &str, password: &str) -> Self {
        self.login = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// With this will.
    pub fn will(mut self, will: Publish) -> Self {
        self.will = Some(will);
        self
    }

    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        if let Some(will) = &self.will {
            flags |= 4 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        if self.login.is_some() {
            flags |= 0xc0;
        }
        let level = if self.version == Version::V5 { 5 } else { 4 };
        let mut body = Vec::new();
        put_text(&mut body, "MQTT");
        body.extend([level, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        put_properties(&mut body, self.version, &self.properties);
        put_text(&mut body, &self.client);
        if let Some(will) = &self.will {
            put_properties(&mut body, self.version, &self.will_properties);
            put_text(&mut body, &will.topic);
            put_data(&mut body, &will.payload);
        }
        if let Some((user, password)) = &self.login {
            put_text(&mut body, user);
            put_text(&mut body, password);
        }
        packet(0x10, &body)
    }
}

impl Publish {
    /// A publish without flags.
    pub fn new(topic: &str, payload: impl Into<Vec<u8>>, qos: u8) -> Self {
        Self { topic: topic.to_owned(), payload: payload.into(), qos, ..Self::default() }
    }

    /// To be kept as the last of its topic.
    pub fn retained(mut self) -> Self {
        self.retain = true;
        self
    }

    /// With this property.
    pub fn with(mut self, property: Property) -> Self {
        self.properties.push(property);
        self
    }

    /// The packet.
    pub fn encode(&self, version: Version) -> Vec<u8> {
        let first = 0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        let mut body = Vec::new();
        put_text(&mut body, &self.topic);
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        put_properties(&mut body, version, &self.properties);
        body.extend(&self.payload);
        packet(first, &body)
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP with success.
pub fn ack(kind: Ack, id: u16) -> Vec<u8> {
    let flags = if kind == Ack::PubRel { 2 } else { 0 };
    packet((kind as u8) << 4 | flags, &id.to_be_bytes())
}

/// SUBSCRIBE to filters with their options (the QoS, in 3.1.1).
pub fn subscribe(version: Version, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    put_properties(&mut body, version, &[]);
    for (filter, options) in filters {
        put_text(&mut body, filter);
        body.push(*options);
    }
    packet(0x82, &body)
}

/// UNSUBSCRIBE.
pub fn unsubscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    put_properties(&mut body, version, &[]);
    for filter in filters {
        put_text(&mut body, filter);
    }
    packet(0xa2, &body)
}

/// PINGREQ.
pub const PINGREQ: [u8; 2] = [0xc0, 0];

/// DISCONNECT, normal.
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// Session Expiry Interval (§3.1.2.11.2).
pub const SESSION_EXPIRY: u8 = 17;

/// Receive Maximum (§3.1.2.11.3).
pub const RECEIVE_MAXIMUM: u8 = 33;

/// A packet of any first byte and body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    put_variable(&mut bytes, u32::try_from(body.len()).unwrap());
    bytes.extend(body);
    bytes
}

/// Takes one whole packet off the front of `input`; `None` if there is none yet.
pub fn take(input: &mut Vec<u8>, version: Version) -> Option<Packet> {
    let whole = frame(input)?;
    let length = whole.iter().skip(1).take_while(|byte| **byte & 0x80 != 0).count() + 1;
    Some(decode(whole[0], &whole[1 + length..], version))
}

/// Takes the bytes of the first packet.
pub fn frame(input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let mut length = 0usize;
    let mut at = 1;
    loop {
        let byte = *input.get(at)?;
        length |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            break;
        }
        assert!(at <= 4, "a remaining length of more than 4 bytes");
    }
    if input.len() < at + length {
        return None;
    }
    Some(input.drain(..at + length).collect())
}

fn decode(first: u8, body: &[u8], version: Version) -> Packet {
    let mut rest = Reader { body, version };
    match (first >> 4, first & 15) {
        (2, 0) => {
            let flags = rest.byte();
            assert!(flags <= 1, "reserved flags of CONNACK: {flags:#x}");
            let code = rest.byte();
            let properties = rest.properties();
            assert!(rest.body.is_empty(), "bytes behind CONNACK");
            Packet::ConnAck { present: flags == 1, code, properties }
        }
        (3, flags) => {
            let qos = flags >> 1 & 3;
            assert!(qos < 3, "PUBLISH of QoS 3");
            let topic = rest.text();
            let id = if qos > 0 { rest.two() } else { 0 };
            assert!(qos == 0 || id != 0, "PUBLISH with packet id 0");
            let properties = rest.properties();
            let (retain, dup) = (flags & 1 != 0, flags & 8 != 0);
            Packet::Publish(Publish { topic, payload: rest.body.to_vec(), qos, retain, dup, id, properties })
        }
        (4, 0) => rest.ack(Ack::PubAck),
        (5, 0) => rest.ack(Ack::PubRec),
        (6, 2) => rest.ack(Ack::PubRel),
        (7, 0) => rest.ack(Ack::PubComp),
        (9, 0) => {
            let id = rest.two();
            rest.properties();
            Packet::SubAck(id, rest.body.to_vec())
        }
        (11, 0) => {
            let id = rest.two();
            rest.properties();
            assert!(version == Version::V5 || rest.body.is_empty(), "UNSUBACK of 3.1.1 with codes");
            Packet::UnsubAck(id, rest.body.to_vec())
        }
        (13, 0) => {
            assert!(body.is_empty(), "PINGRESP with a body");
            Packet::PingResp
        }
        (14, 0) => {
            assert_eq!(version, Version::V5, "a server does not send DISCONNECT in 3.1.1");
            Packet::Disconnect(if body.is_empty() { 0 } else { rest.byte() })
        }
        (15, 0) => {
            let code = rest.byte();
            Packet::Auth(code, rest.properties())
        }
        _ => panic!("a server does not send a packet of first byte {first:#04x}: {body:02x?}"),
    }
}

struct Reader<'a> {
    body: &'a [u8],
    version: Version,
}

impl Reader<'_> {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        assert!(self.body.len() >= count, "packet too short: {:02x?}", self.body);
        let (taken, rest) = self.body.split_at(count);
        self.body = rest;
        taken.to_vec()
    }

    fn byte(&mut self) -> u8 {
        self.bytes(1)[0]
    }

    fn two(&mut self) -> u16 {
        u16::from_be_bytes(self.bytes(2).try_into().unwrap())
    }

    fn four(&mut self) -> u32 {
        u32::from_be_bytes(self.bytes(4).try_into().unwrap())
    }

    fn variable(&mut self) -> u32 {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte();
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return value;
            }
        }
        panic!("a variable byte integer of more than 4 bytes");
    }

    fn data(&mut self) -> Vec<u8> {
        let length = self.two();
        self.bytes(usize::from(length))
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.data()).expect("UTF-8")
    }

    fn ack(&mut self, kind: Ack) -> Packet {
        let id = self.two();
        let code = if self.version == Version::V5 && !self.body.is_empty() { self.byte() } else { 0 };
        if !self.body.is_empty() {
            self.properties();
        }
        assert!(self.body.is_empty(), "bytes behind {kind:?}");
        Packet::Ack(kind, id, code)
    }

    fn properties(&mut self) -> Vec<Property> {
        if self.version == Version::V4 {
            return Vec::new();
        }
        let length = usize::try_from(self.variable()).unwrap();
        let mut own = Reader { body: &self.body[..length], version: self.version };
        let mut list = Vec::new();
        while !own.body.is_empty() {
            let id = own.byte();
            list.push(match id {
                1 | 23 | 25 | 36 | 37 | 40 | 41 | 42 => Property::Byte(id, own.byte()),
                19 | 33 | 34 | 35 => Property::Two(id, own.two()),
                2 | 17 | 24 | 39 => Property::Four(id, own.four()),
                11 => Property::Variable(id, own.variable()),
                3 | 8 | 18 | 21 | 26 | 28 | 31 => Property::Text(id, own.text()),
                9 | 22 => Property::Data(id, own.data()),
                38 => Property::Pair(own.text(), own.text()),
                other => panic!("no property has identifier {other}"),
            });
        }
        self.bytes(length);
        list
    }
}

/// A property block: its length and the properties.
pub fn properties(list: &[Property]) -> Vec<u8> {
    let mut out = Vec::new();
    put_properties(&mut out, Version::V5, list);
    out
}

fn put_variable(out: &mut Vec<u8>, mut value: u32) {
    loop {
        let byte = u8::try_from(value & 0x7f).unwrap();
        value >>= 7;
        out.push(if value > 0 { byte | 0x80 } else { byte });
        if value == 0 {
            return;
        }
    }
}

fn put_data(out: &mut Vec<u8>, data: &[u8]) {
    out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    out.extend(data);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_data(out, text.as_bytes());
}

fn put_properties(out: &mut Vec<u8>, version: Version, properties: &[Property]) {
    if version == Version::V4 {
        return;
    }
    let mut body = Vec::new();
    for property in properties {
        match property {
            Property::Byte(id, value) => body.extend([*id, *value]),
            Property::Two(id, value) => {
                body.push(*id);
                body.extend(value.to_be_bytes());
            }
            Property::Four(id, value) => {
                body.push(*id);
                body.extend(value.to_be_bytes());
            }
            Property::Variable(id, value) => {
                body.push(*id);
                put_variable(&mut body, *value);
            }
            Property::Text(id, value) => {
                body.push(*id);
                put_text(&mut body, value);
            }
            Property::Data(id, value) => {
                body.push(*id);
                put_data(&mut body, value);
            }
            Property::Pair(name, value) => {
                body.push(38);
                put_text(&mut body, name);
                put_text(&mut body, value);
            }
        }
    }
    put_variable(out, u32::try_from(body.len()).unwrap());
    out.extend(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publish_reads_back() {
        for version in [Version::V4, Version::V5] {
            let mut sent = Publish { id: 7, dup: true, ..Publish::new("a/b", "data", 2).retained() };
            if version == Version::V5 {
                sent = sent.with(Property::Pair("n".into(), "v".into())).with(Property::Variable(11, 300));
            }
            let mut bytes = sent.encode(version);
            bytes.push(0xd0);
            assert_eq!(take(&mut bytes, version), Some(Packet::Publish(sent)));
            assert_eq!(take(&mut bytes, version), None);
            assert_eq!(bytes, [0xd0]);
        }
    }

    #[test]
    fn connect_is_as_the_standard_shows_it() {
        let bytes = Connect::v4("c").keep_alive(10).encode();
        assert_eq!(bytes, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x0a\x00\x01c");
    }
}
