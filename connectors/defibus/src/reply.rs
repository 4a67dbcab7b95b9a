//! Both ends of request and reply: a request that came to us, and a reply that was pushed to us.

use std::net::SocketAddr;

use bytestring::ByteString;
use remoting::properties::{Properties, parse};
use remoting::{Command, StoredMessage};

use crate::property::{BROKER, CLUSTER, KIND, KIND_REPLY, REPLY_TO, REQUEST_ID, TTL, push_ttl};

/// A request of another client, as its message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Names the request.
    pub id: ByteString,
    /// The requester.
    pub reply_to: ByteString,
    /// The cluster that stored it, if its broker said so.
    pub cluster: Option<ByteString>,
    /// The broker that stored it, if it said so.
    pub broker: Option<ByteString>,
}

/// A reply, pushed by a broker.
#[derive(Clone, Debug, PartialEq)]
pub struct Pushed {
    /// Names the request.
    pub id: ByteString,
    /// The reply, as if it had been pulled.
    pub message: StoredMessage,
}

/// Until when `message` is of use, milliseconds since 1970; `None`: it has no TTL. Brokers count from when they store it
/// and hand it out all the same: consumers have to look.
pub fn expires_ms(message: &StoredMessage) -> Option<u64> {
    let ttl = parse(&message.properties).find(|(name, _)| name == TTL)?.1.parse::<u64>().ok()?;
    Some(u64::try_from(message.store_ms).ok()?.saturating_add(ttl))
}

impl Asked {
    /// The request that `message` is; `None`: it is none.
    pub fn of(message: &StoredMessage) -> Option<Self> {
        let property = |wanted: &str| {
            parse(&message.properties).find(|(name, value)| name == wanted && !value.is_empty()).map(|p| p.1)
        };
        let asked = Self {
            id: property(REQUEST_ID)?,
            reply_to: property(REPLY_TO)?,
            cluster: property(CLUSTER),
            broker: property(BROKER),
        };
        // A reply has both too; it lies in a topic that nobody consumes.
        (property(KIND).as_deref() != Some(KIND_REPLY)).then_some(asked)
    }

    /// Marks a reply to it.
    pub fn reply_properties(&self, properties: &mut Properties) {
        if let Some(broker) = &self.broker {
            properties.push(BROKER, broker);
        }
        properties.push(KIND, KIND_REPLY);
        properties.push(REQUEST_ID, &self.id);
        properties.push(REPLY_TO, &self.reply_to);
        push_ttl(properties, REPLY_TTL_MS);
    }
}

/// The reply that a PUSH_REPLY carries; `None`: it names no request. `request_id` is the property that does: [`REQUEST_ID`],
/// but RocketMQ, whose push looks the same, has another.
pub fn pushed(push: &Command, request_id: &str) -> Option<Pushed> {
    let properties = ByteString::from(push.field("properties")?);
    let id = parse(&properties).find(|(name, value)| name == request_id && !value.is_empty())?.1;
    let number = |name: &str| push.number(name).unwrap_or_default();
    let small = |name: &str| i32::try_from(number(name)).unwrap_or_default();
    let message = StoredMessage {
        topic: push.field("topic").unwrap_or_default().into(),
        queue: small("queueId"),
        queue_offset: 0,
        physical_offset: 0,
        flag: small("flag"),
        sys_flag: small("sysFlag"),
        born_ms: number("bornTimestamp"),
        born_host: host(push.field("bornHost")),
        store_ms: number("storeTimestamp"),
        store_host: host(push.field("storeHost")),
        reconsume_times: small("reconsumeTimes"),
        body: push.body.clone(),
        properties,
    };
    Some(Pushed { id, message })
}

/// An address as Java shows it: `name/10.0.0.5:4711`, the name often empty.
fn host(text: Option<&str>) -> SocketAddr {
    let addr = text.and_then(|text| text.rsplit('/').next()).and_then(|addr| addr.parse().ok());
    addr.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)))
}

/// What DeFiBus' own client gives a reply: the time in which it has to be sent.
const REPLY_TTL_MS: u64 = 3000;
