//! The messages of `proto/cloudevents.proto`, by hand: these few lines are plainer than generated ones, and a build
//! needs no compiler for them. A test compares them with the file, field by field, on the wire.

use bytes::Bytes;
use prost_types::{Any, Timestamp};

/// A CloudEvent in protobuf (CE Protobuf §3). EventMesh sends all else in this form as well: what a request says
/// beside its event is in the attributes.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CloudEvent {
    /// `id`.
    #[prost(string, tag = "1")]
    pub id: String,
    /// `source`.
    #[prost(string, tag = "2")]
    pub source: String,
    /// `specversion`.
    #[prost(string, tag = "3")]
    pub spec_version: String,
    /// `type`.
    #[prost(string, tag = "4")]
    pub ty: String,
    /// All other attributes: the entries of a map as they are on the wire, so that their order stays. Of a name that is
    /// there twice the last counts.
    #[prost(message, repeated, tag = "5")]
    pub attributes: Vec<Attribute>,
    /// The data.
    #[prost(oneof = "Data", tags = "6, 7, 8")]
    pub data: Option<Data>,
}

/// An entry of [`CloudEvent::attributes`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct Attribute {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AttributeValue>,
}

/// The value of an attribute.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AttributeValue {
    /// With its type.
    #[prost(oneof = "Attr", tags = "1, 2, 3, 4, 5, 6, 7")]
    pub attr: Option<Attr>,
}

/// The types of CloudEvents (CE §3.1).
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Attr {
    /// Boolean.
    #[prost(bool, tag = "1")]
    Boolean(bool),
    /// Integer.
    #[prost(int32, tag = "2")]
    Integer(i32),
    /// String.
    #[prost(string, tag = "3")]
    String(String),
    /// Binary.
    #[prost(bytes = "bytes", tag = "4")]
    Bytes(Bytes),
    /// URI.
    #[prost(string, tag = "5")]
    Uri(String),
    /// URI-reference.
    #[prost(string, tag = "6")]
    UriRef(String),
    /// Timestamp.
    #[prost(message, tag = "7")]
    Timestamp(Timestamp),
}

/// The data of an event.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Data {
    /// Any bytes.
    #[prost(bytes = "bytes", tag = "6")]
    Binary(Bytes),
    /// Text.
    #[prost(string, tag = "7")]
    Text(String),
    /// A protobuf message.
    #[prost(message, tag = "8")]
    Proto(Any),
}

/// Several events.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CloudEventBatch {
    /// In their order.
    #[prost(message, repeated, tag = "1")]
    pub events: Vec<CloudEvent>,
}

impl CloudEvent {
    /// The attribute `name`, if it is of type String: EventMesh takes no other for what it needs itself.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.value(name)? {
            Attr::String(text) => Some(text),
            Attr::Boolean(_)
            | Attr::Integer(_)
            | Attr::Bytes(_)
            | Attr::Uri(_)
            | Attr::UriRef(_)
            | Attr::Timestamp(_) => None,
        }
    }

    /// The attribute `name`.
    pub fn value(&self, name: &str) -> Option<&Attr> {
        let entry = self.attributes.iter().rev().find(|entry| entry.name == name)?;
        entry.value.as_ref()?.attr.as_ref()
    }

    /// Sets the attribute `name`.
    pub fn set(&mut self, name: &str, value: Attr) {
        self.attributes.retain(|entry| entry.name != name);
        self.push(name, value);
    }

    /// Sets the attribute `name`, which is not there yet.
    pub(crate) fn push(&mut self, name: &str, value: Attr) {
        let value = Some(AttributeValue { attr: Some(value) });
        self.attributes.push(Attribute { name: name.to_owned(), value });
    }

    /// As [`Self::push`], with text.
    pub(crate) fn push_text(&mut self, name: &str, text: impl Into<String>) {
        self.push(name, Attr::String(text.into()));
    }
}
