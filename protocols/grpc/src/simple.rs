//! The messages of `proto/simple.proto`, by hand as those of [`crate::proto`], and what they mean: each is turned into
//! the CloudEvent of the newer services that says the same, and answers are turned back. Sans-io.

use std::collections::BTreeMap;

use bytes::Bytes;
use event::Event;
use event::hub::Stamps;
use eventmesh::{Arrival, Kind, PROTOCOL_DESC, PROTOCOL_TYPE, PROTOCOL_VERSION, Payload};
use prost::Enumeration;

use crate::binding;
use crate::proto::{Attr, CloudEvent, Data};

/// Who asks.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RequestHeader {
    #[prost(string, tag = "1")]
    pub env: String,
    #[prost(string, tag = "2")]
    pub region: String,
    #[prost(string, tag = "3")]
    pub idc: String,
    #[prost(string, tag = "4")]
    pub ip: String,
    #[prost(string, tag = "5")]
    pub pid: String,
    #[prost(string, tag = "6")]
    pub sys: String,
    #[prost(string, tag = "7")]
    pub username: String,
    #[prost(string, tag = "8")]
    pub password: String,
    #[prost(string, tag = "9")]
    pub language: String,
    #[prost(string, tag = "10")]
    pub protocol_type: String,
    #[prost(string, tag = "11")]
    pub protocol_version: String,
    #[prost(string, tag = "12")]
    pub protocol_desc: String,
}

/// A message to publish, or to take.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SimpleMessage {
    #[prost(message, optional, tag = "1")]
    pub header: Option<RequestHeader>,
    #[prost(string, tag = "2")]
    pub producer_group: String,
    #[prost(string, tag = "3")]
    pub topic: String,
    /// The text, or a CloudEvent in JSON.
    #[prost(string, tag = "4")]
    pub content: String,
    #[prost(string, tag = "5")]
    pub ttl: String,
    #[prost(string, tag = "6")]
    pub unique_id: String,
    #[prost(string, tag = "7")]
    pub seq_num: String,
    #[prost(string, tag = "8")]
    pub tag: String,
    #[prost(btree_map = "string, string", tag = "9")]
    pub properties: BTreeMap<String, String>,
}

/// Several messages of one topic.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BatchMessage {
    #[prost(message, optional, tag = "1")]
    pub header: Option<RequestHeader>,
    #[prost(string, tag = "2")]
    pub producer_group: String,
    #[prost(string, tag = "3")]
    pub topic: String,
    #[prost(message, repeated, tag = "4")]
    pub items: Vec<MessageItem>,
}

/// One of a [`BatchMessage`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct MessageItem {
    #[prost(string, tag = "1")]
    pub content: String,
    #[prost(string, tag = "2")]
    pub ttl: String,
    #[prost(string, tag = "3")]
    pub unique_id: String,
    #[prost(string, tag = "4")]
    pub seq_num: String,
    #[prost(string, tag = "5")]
    pub tag: String,
    #[prost(btree_map = "string, string", tag = "6")]
    pub properties: BTreeMap<String, String>,
}

/// What became of a request.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Response {
    #[prost(string, tag = "1")]
    pub code: String,
    #[prost(string, tag = "2")]
    pub message: String,
    /// Milliseconds since 1970.
    #[prost(string, tag = "3")]
    pub time: String,
}

/// A wish to get events; or, on a stream, a reply.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Subscription {
    #[prost(message, optional, tag = "1")]
    pub header: Option<RequestHeader>,
    #[prost(string, tag = "2")]
    pub consumer_group: String,
    #[prost(message, repeated, tag = "3")]
    pub items: Vec<SubscriptionItem>,
    #[prost(string, tag = "4")]
    pub url: String,
    #[prost(message, optional, tag = "5")]
    pub reply: Option<Reply>,
}

/// One of a [`Subscription`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct SubscriptionItem {
    #[prost(string, tag = "1")]
    pub topic: String,
    #[prost(enumeration = "SubscriptionMode", tag = "2")]
    pub mode: i32,
    #[prost(enumeration = "SubscriptionType", tag = "3")]
    pub kind: i32,
}

/// How a group shares events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum SubscriptionMode {
    Clustering = 0,
    Broadcasting = 1,
}

/// Whether a subscriber replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum SubscriptionType {
    Async = 0,
    Sync = 1,
}

/// A reply.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Reply {
    #[prost(string, tag = "1")]
    pub producer_group: String,
    #[prost(string, tag = "2")]
    pub topic: String,
    #[prost(string, tag = "3")]
    pub content: String,
    #[prost(string, tag = "4")]
    pub ttl: String,
    #[prost(string, tag = "5")]
    pub unique_id: String,
    #[prost(string, tag = "6")]
    pub seq_num: String,
    #[prost(string, tag = "7")]
    pub tag: String,
    #[prost(btree_map = "string, string", tag = "8")]
    pub properties: BTreeMap<String, String>,
}

/// A sign of life.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Heartbeat {
    #[prost(message, optional, tag = "1")]
    pub header: Option<RequestHeader>,
    #[prost(enumeration = "ClientType", tag = "2")]
    pub client_type: i32,
    #[prost(string, tag = "3")]
    pub producer_group: String,
    #[prost(string, tag = "4")]
    pub consumer_group: String,
    #[prost(message, repeated, tag = "5")]
    pub items: Vec<HeartbeatItem>,
}

/// What a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub enum ClientType {
    Pub = 0,
    Sub = 1,
}

/// One of a [`Heartbeat`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeartbeatItem {
    #[prost(string, tag = "1")]
    pub topic: String,
    #[prost(string, tag = "2")]
    pub url: String,
}

/// The media type of a CloudEvent in JSON.
const EVENT_TYPE: &str = "application/cloudevents+json";

impl RequestHeader {
    /// An event of EventMesh with the attributes of this header.
    fn event(self) -> CloudEvent {
        let mut event = CloudEvent {
            id: String::new(),
            source: "/".to_owned(),
            spec_version: "1.0".to_owned(),
            ty: Kind::GRPC_MESSAGE_TYPE.to_owned(),
            attributes: Vec::with_capacity(24),
            data: None,
        };
        for (name, value) in [
            ("env", self.env),
            ("idc", self.idc),
            ("ip", self.ip),
            ("pid", self.pid),
            ("sys", self.sys),
            ("username", self.username),
            ("passwd", self.password),
            ("language", self.language),
            (PROTOCOL_TYPE, self.protocol_type),
            (PROTOCOL_VERSION, self.protocol_version),
        ] {
            if !value.is_empty() {
                event.push_text(name, value);
            }
        }
        event
    }
}

impl SimpleMessage {
    /// The event that this message is. One of kind `cloudevents` whose content is none keeps the content as its data, and is
    /// refused by the checks of all events for want of an id.
    pub fn into_event(self, stamps: &mut Stamps) -> CloudEvent {
        let header = self.header.unwrap_or_default();
        if header.protocol_type == Kind::CloudEvents.as_str()
            && let Ok(incoming) = event::json::decode(Bytes::from(self.content.clone()))
        {
            let topic = event::TopicName::parse(self.topic.clone());
            let parts = topic.map(|topic| incoming.into_parts(topic, stamps.take(), 0, "".into()));
            if let Ok(parts) = parts {
                let mut event = binding::encode(&Event::new(parts));
                for entry in header.event().attributes {
                    if let Some(Attr::String(text)) = entry.value.and_then(|value| value.attr) {
                        event.set(&entry.name, Attr::String(text));
                    }
                }
                event.set("subject", Attr::String(self.topic));
                event.attributes.retain(|entry| entry.name != event::incoming::TOPIC);
                let properties = self.properties.into_iter().filter(|(name, _)| name != "contenttype");
                return message_attributes(
                    event,
                    properties,
                    self.producer_group,
                    self.ttl,
                    self.unique_id,
                    self.seq_num,
                    self.tag,
                );
            }
        }
        let mut event = header.event();
        if event.text(PROTOCOL_TYPE) != Some(Kind::CloudEvents.as_str()) {
            event.id = format!("{:016x}", stamps.take());
        }
        let media_type = self.properties.get("datacontenttype").map_or("text/plain", String::as_str);
        event.push_text("datacontenttype", media_type);
        if !self.topic.is_empty() {
            event.push_text("subject", self.topic);
        }
        event.data = Some(Data::Text(self.content));
        message_attributes(
            event,
            self.properties,
            self.producer_group,
            self.ttl,
            self.unique_id,
            self.seq_num,
            self.tag,
        )
    }

    /// `event` for a subscriber. Whether it takes messages or CloudEvents it does not say where it matters, so the event's own
    /// kind decides, as in EventMesh.
    pub fn of(event: &Event) -> Self {
        let json = || String::from_utf8_lossy(&Payload::cloud_event(event)).into_owned();
        let mut message = Self::from_attributes(&binding::encode(event), Kind::of(event), json);
        message.topic = event.topic().as_str().to_owned();
        message
    }

    /// A reply, or the request with the status code that says why there is none.
    pub fn reply(reply: CloudEvent) -> Self {
        let kind = Kind::parse(reply.text(PROTOCOL_TYPE)).unwrap_or(Kind::EventMeshMessage);
        let json = || {
            let publisher = "".into();
            let arrival = Arrival { publisher: &publisher, stamp: 0, now_ms: 0 };
            let event = binding::decode(reply.clone(), arrival).ok().map(Event::new);
            event.map_or_else(String::new, |event| String::from_utf8_lossy(event.as_json()).into_owned())
        };
        Self::from_attributes(&reply, kind, json)
    }

    /// A message with the attributes and the text of `event`, or with `json` if it is a CloudEvent.
    fn from_attributes(attributes: &CloudEvent, kind: Kind, json: impl FnOnce() -> String) -> Self {
        let text = |name: &str| attributes.text(name).unwrap_or_default().to_owned();
        let reserved = |name: &str| {
            ["subject", "datacontenttype", "dataschema", "time", "seqnum", "uniqueid", "ttl", PROTOCOL_DESC]
                .contains(&name)
        };
        let properties = attributes.attributes.iter().filter(|entry| !reserved(&entry.name));
        let mut properties: BTreeMap<String, String> = properties
            .filter_map(|entry| Some((entry.name.clone(), as_text(entry.value.as_ref()?.attr.as_ref()?)?)))
            .collect();
        let content = match kind {
            Kind::CloudEvents => {
                properties.insert("contenttype".to_owned(), EVENT_TYPE.to_owned());
                json()
            }
            Kind::EventMeshMessage | Kind::OpenMessage => match &attributes.data {
                Some(Data::Text(text)) => text.clone(),
                Some(Data::Binary(data)) => String::from_utf8_lossy(data).into_owned(),
                Some(Data::Proto(any)) => String::from_utf8_lossy(&any.value).into_owned(),
                None => String::new(),
            },
        };
        let header = RequestHeader {
            env: text("env"),
            idc: text("idc"),
            ip: text("ip"),
            pid: text("pid"),
            sys: text("sys"),
            language: text("language"),
            protocol_type: kind.as_str().to_owned(),
            protocol_version: "1.0".to_owned(),
            protocol_desc: "grpc".to_owned(),
            ..RequestHeader::default()
        };
        Self {
            header: Some(header),
            producer_group: text("producergroup"),
            topic: text("subject"),
            content,
            ttl: text("ttl"),
            unique_id: text("uniqueid"),
            seq_num: text("seqnum"),
            tag: text("tag"),
            properties,
        }
    }

    /// An answer on a stream, or to a request that nobody replied to: told from a message by its lack of numbers.
    pub fn answer(answer: &CloudEvent) -> Self {
        let Response { code, message, time } = Response::of(answer);
        let json = serde_json::json!({ "respCode": code, "respMsg": message, "respTime": time });
        let properties = [("statuscode", code), ("responsemessage", message)];
        let properties = properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { content: json.to_string(), properties, ..Self::default() }
    }
}

impl BatchMessage {
    /// The events that these messages are.
    pub fn into_events(self, stamps: &mut Stamps) -> Vec<CloudEvent> {
        let one = |item: MessageItem| SimpleMessage {
            header: self.header.clone(),
            producer_group: self.producer_group.clone(),
            topic: self.topic.clone(),
            content: item.content,
            ttl: item.ttl,
            unique_id: item.unique_id,
            seq_num: item.seq_num,
            tag: item.tag,
            properties: item.properties,
        };
        self.items.into_iter().map(one).map(|message| message.into_event(stamps)).collect()
    }
}

impl Response {
    /// The answer that `event` is.
    pub fn of(event: &CloudEvent) -> Self {
        let text = |name: &str| event.text(name).unwrap_or_default().to_owned();
        let ms = match event.value("time") {
            Some(Attr::Timestamp(at)) => at.seconds * 1000 + i64::from(at.nanos) / 1_000_000,
            _ => 0,
        };
        Self { code: text("statuscode"), message: text("responsemessage"), time: ms.to_string() }
    }
}

impl Subscription {
    /// The subscription, or the reply, as newer services get it.
    pub fn into_event(self, stamps: &mut Stamps) -> CloudEvent {
        let header = self.header.unwrap_or_default();
        if let Some(reply) = self.reply {
            let message = SimpleMessage {
                header: Some(header),
                producer_group: reply.producer_group,
                topic: reply.topic,
                content: reply.content,
                ttl: reply.ttl,
                unique_id: reply.unique_id,
                seq_num: reply.seq_num,
                tag: reply.tag,
                properties: reply.properties,
            };
            let mut event = message.into_event(stamps);
            event.set("submessagetype", Attr::String("subscription_reply".to_owned()));
            return event;
        }
        let item = |item: &SubscriptionItem| {
            let mode = match item.mode() {
                SubscriptionMode::Clustering => "CLUSTERING",
                SubscriptionMode::Broadcasting => "BROADCASTING",
            };
            let kind = match item.kind() {
                SubscriptionType::Async => "ASYNC",
                SubscriptionType::Sync => "SYNC",
            };
            serde_json::json!({ "topic": item.topic, "mode": mode, "type": kind })
        };
        let items: Vec<_> = self.items.iter().map(item).collect();
        let mut event = header.event();
        event.push_text("consumergroup", self.consumer_group);
        event.push_text("url", self.url);
        event.data = Some(Data::Text(serde_json::Value::Array(items).to_string()));
        event
    }
}

impl Heartbeat {
    /// The heartbeat as newer services get it.
    pub fn into_event(self) -> CloudEvent {
        let is_subscriber = self.client_type() == ClientType::Sub;
        let item = |item: &HeartbeatItem| serde_json::json!({ "topic": item.topic, "url": item.url });
        let items: Vec<_> = self.items.iter().map(item).collect();
        let mut event = self.header.unwrap_or_default().event();
        event.push_text("consumergroup", self.consumer_group);
        event.push("clienttype", Attr::Integer(if is_subscriber { 2 } else { 1 }));
        event.data = Some(Data::Text(serde_json::Value::Array(items).to_string()));
        event
    }
}

/// `event` with what a message says beside its header and content.
fn message_attributes(
    mut event: CloudEvent,
    properties: impl IntoIterator<Item = (String, String)>,
    producer_group: String,
    ttl: String,
    unique_id: String,
    seq_num: String,
    tag: String,
) -> CloudEvent {
    for (name, value) in properties {
        if name != "datacontenttype" {
            event.set(&name, Attr::String(value));
        }
    }
    for (name, value) in [
        ("producergroup", producer_group),
        ("ttl", ttl),
        ("uniqueid", unique_id),
        ("seqnum", seq_num),
        ("tag", tag),
    ] {
        if !value.is_empty() {
            event.set(name, Attr::String(value));
        }
    }
    event
}

fn as_text(attr: &Attr) -> Option<String> {
    match attr {
        Attr::Boolean(value) => Some(value.to_string()),
        Attr::Integer(value) => Some(value.to_string()),
        Attr::String(text) | Attr::Uri(text) | Attr::UriRef(text) => Some(text.clone()),
        Attr::Bytes(_) | Attr::Timestamp(_) => None,
    }
}
