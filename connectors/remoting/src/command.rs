//! One request or answer.

use bytes::Bytes;
use bytestring::ByteString;

/// A request or an answer: what one frame carries.
///
/// ```text
/// u32 total                    bytes behind this field
/// u32 encoding, header length  top byte: 0 JSON, 1 binary; low 24 bits: length of the header
/// header                       code, opaque, flag, remark, fields
/// body                         the rest
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// What is asked ([`crate::code::request`]) or answered ([`crate::code::response`]).
    pub code: i32,
    /// What the sender is written in. Brokers of 4.4 know no Rust.
    pub language: Language,
    /// The sender's version, an ordinal. Below 401 a name server answers with invalid JSON.
    pub version: i32,
    /// The request's number, repeated in its answer.
    pub opaque: i32,
    /// Bit 0: an answer; bit 1: no answer is wanted.
    pub flag: i32,
    /// What went wrong, in words.
    pub remark: Option<ByteString>,
    /// The header fields of this code, as text.
    pub fields: Vec<(ByteString, ByteString)>,
    /// The body; often a slice of what was read.
    pub body: Bytes,
}

/// What a client is written in, as far as it matters here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// Rust: RocketMQ's number 12.
    #[default]
    Rust,
    /// Any other: written as RocketMQ's number 7.
    Other,
}

/// The version this client names: V4_9_7. Brokers of 4.9 and 5.x both take it for one that reads valid JSON.
const VERSION: i32 = 407;
const ANSWER: i32 = 1;
const ONEWAY: i32 = 2;

impl Command {
    /// A request.
    pub fn request(code: i32) -> Self {
        Self { code, version: VERSION, ..Self::default() }
    }

    /// The answer to `request`.
    pub fn answer(request: &Self, code: i32) -> Self {
        Self { code, version: VERSION, opaque: request.opaque, flag: ANSWER, ..Self::default() }
    }

    /// With one more header field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<ByteString>) -> Self {
        self.fields.push((ByteString::from_static(name), value.into()));
        self
    }

    /// With one more header field, a number.
    #[must_use]
    pub fn with_number(self, name: &'static str, value: i64) -> Self {
        self.with(name, value.to_string())
    }

    /// With this body.
    #[must_use]
    pub fn with_body(mut self, body: Bytes) -> Self {
        self.body = body;
        self
    }

    /// As a request that wants no answer.
    #[must_use]
    pub fn oneway(mut self) -> Self {
        self.flag |= ONEWAY;
        self
    }

    /// Whether it answers a request.
    pub fn is_answer(&self) -> bool {
        self.flag & ANSWER != 0
    }

    /// Whether it wants no answer.
    pub fn is_oneway(&self) -> bool {
        self.flag & ONEWAY != 0
    }

    /// A header field, if it is there.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(have, _)| have == name).map(|(_, value)| &**value)
    }

    /// A header field as a number, if it is there and one.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.field(name)?.parse().ok()
    }
}
