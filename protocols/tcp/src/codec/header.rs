//! Headers: JSON, null members left out, unknown members overlooked.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::{BufMut as _, BytesMut};
use bytestring::ByteString;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Command;
use crate::Violation;
use crate::error::Code;

/// The header of a frame that came.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// What it is.
    pub cmd: Command,
    /// What the answer repeats.
    pub seq: Option<ByteString>,
    /// Names and values, as texts.
    pub properties: BTreeMap<String, ByteString>,
}

#[derive(Deserialize)]
struct Read<'a> {
    #[serde(borrow)]
    cmd: Option<Cow<'a, str>>,
    seq: Option<Value>,
    properties: Option<BTreeMap<String, Value>>,
}

impl Header {
    pub(super) fn read(json: &[u8]) -> Result<Self, Violation> {
        let read: Read<'_> =
            serde_json::from_slice(json).map_err(|error| Violation::Header(error.to_string()))?;
        let name = read.cmd.ok_or_else(|| Violation::Header("there is no cmd".to_owned()))?;
        let cmd = Command::parse(&name).ok_or_else(|| Violation::Command(shortened(&name)))?;
        let properties = read.properties.into_iter().flatten();
        Ok(Self {
            cmd,
            seq: read.seq.and_then(text),
            properties: properties.filter_map(|(name, value)| Some((name, text(value)?))).collect(),
        })
    }

    /// A property.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(|value| &**value)
    }
}

/// The header of a frame that leaves.
#[derive(Clone, Debug, Serialize)]
pub struct Answer<'a> {
    cmd: Command,
    code: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    desc: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<&'a str>,
    properties: Properties<'a>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Properties<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    protocoltype: Option<&'a str>,
}

impl<'a> Answer<'a> {
    /// Code 0, no description.
    pub fn new(cmd: Command, seq: Option<&'a str>) -> Self {
        Self { cmd, code: Code::Success.number(), desc: None, seq, properties: Properties::default() }
    }

    /// With this code and description.
    pub fn said(mut self, code: Code, desc: &'a str) -> Self {
        self.code = code.number();
        self.desc = Some(desc);
        self
    }

    /// With a body of this kind.
    pub fn carrying(mut self, kind: eventmesh::Kind) -> Self {
        self.properties.protocoltype = Some(kind.as_str());
        self
    }

    pub(super) fn write(&self, out: &mut BytesMut) {
        // Texts and a number: there is nothing in it that JSON cannot say.
        serde_json::to_writer(out.writer(), self).unwrap_or(());
    }
}

fn text(value: Value) -> Option<ByteString> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.into()),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            Some(other.to_string().into())
        }
    }
}

/// What goes into an answer of a peer's text.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
