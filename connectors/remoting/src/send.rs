//! The header of requests that send messages, in the short form (SendMessageRequestHeaderV2).

use bytes::Bytes;
use bytestring::ByteString;

use crate::Command;

/// The topic in whose image brokers create others.
pub const DEFAULT_TOPIC: &str = "TBW102";
/// Queues that brokers give a topic which they create.
pub const CREATED_QUEUES: i32 = 4;

/// What is sent, and where to.
#[derive(Debug)]
pub struct Send<'a> {
    /// The group of the producer.
    pub group: &'a str,
    /// The topic.
    pub topic: &'a str,
    /// The queue of it.
    pub queue: i32,
    /// How the body is written: see [`crate::sys_flag`].
    pub sys_flag: i32,
    /// When it was made, milliseconds since 1970.
    pub born_ms: u64,
    /// The properties, as [`crate::properties`] writes them.
    pub properties: ByteString,
    /// Whether the body holds several messages.
    pub batch: bool,
    /// The body.
    pub body: Bytes,
}

impl Send<'_> {
    /// The request with this code.
    pub fn request(self, code: i32) -> Command {
        Command::request(code)
            .with("a", self.group)
            .with("b", self.topic)
            .with("c", DEFAULT_TOPIC)
            .with_number("d", CREATED_QUEUES.into())
            .with_number("e", self.queue.into())
            .with_number("f", self.sys_flag.into())
            .with("g", self.born_ms.to_string())
            .with("h", "0")
            .with("i", self.properties)
            .with("j", "0")
            .with("k", "false")
            .with("m", if self.batch { "true" } else { "false" })
            .with_body(self.body)
    }
}
