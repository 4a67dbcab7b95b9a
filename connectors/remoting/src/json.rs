//! The JSON header.

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};

use crate::{Command, FrameError, Language};

const RUST: &str = "RUST";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    code: i32,
    #[serde(default)]
    flag: i32,
    #[serde(default)]
    language: Cow<'static, str>,
    opaque: i32,
    #[serde(default)]
    version: i32,
    #[serde(rename = "serializeTypeCurrentRPC", default, skip_deserializing)]
    serialize_type: &'static str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    remark: Option<String>,
    #[serde(default)]
    ext_fields: Option<Fields>,
}

/// A map whose order and repeats are kept.
struct Fields(Vec<(ByteString, ByteString)>);

pub(crate) fn decode(header: &Bytes, body: Bytes) -> Result<Command, FrameError> {
    let header: Header =
        serde_json::from_slice(header).map_err(|error| FrameError::Json(error.to_string()))?;
    Ok(Command {
        code: header.code,
        language: if header.language == RUST { Language::Rust } else { Language::Other },
        version: header.version,
        opaque: header.opaque,
        flag: header.flag,
        remark: header.remark.map(ByteString::from),
        fields: header.ext_fields.map(|fields| fields.0).unwrap_or_default(),
        body,
    })
}

pub(crate) fn encode(command: &Command, out: &mut BytesMut) {
    let header = Header {
        code: command.code,
        flag: command.flag,
        language: Cow::Borrowed(match command.language {
            Language::Rust => RUST,
            Language::Other => "OTHER",
        }),
        opaque: command.opaque,
        version: command.version,
        serialize_type: "JSON",
        remark: command.remark.as_ref().map(|remark| remark.to_string()),
        ext_fields: (!command.fields.is_empty()).then(|| Fields(command.fields.clone())),
    };
    // Writing numbers and text into memory cannot fail.
    serde_json::to_writer(out.writer(), &header).unwrap_or(());
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(&**name, &**value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of text to text")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Option<String>>()? {
                    if let Some(value) = value {
                        fields.push((name.into(), value.into()));
                    }
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}
