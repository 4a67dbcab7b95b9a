//! A small MQTT 5 client on the same codec: enough for `weft pub`, `weft sub` and tests. One request at a time; it does
//! not reconnect and keeps nothing on disk.

mod driver;

use std::io;
use std::time::Duration;

use crate::Violation;
use crate::codec::Publish;

pub use driver::Client;

/// How to connect.
#[derive(Clone, Debug)]
pub struct Hello {
    /// Empty: the server makes one.
    pub client_id: String,
    /// Forget an older session.
    pub clean: bool,
    /// How long the session stays after the connection, seconds.
    pub session_expiry_s: u32,
    /// Keep alive, seconds; 0: none.
    pub keep_alive_s: u16,
    /// User name.
    pub user: Option<String>,
    /// Password.
    pub password: Option<Vec<u8>>,
    /// How long an answer may take.
    pub patience: Duration,
}

impl Default for Hello {
    fn default() -> Self {
        Self {
            client_id: String::new(),
            clean: true,
            session_expiry_s: 0,
            keep_alive_s: 30,
            user: None,
            password: None,
            patience: Duration::from_secs(20),
        }
    }
}

/// Why it did not work.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The stream failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The server closed the stream, or said DISCONNECT with this code.
    #[error("the server closed the connection: {name} (reason code {0:#04x})", name = name(*.0))]
    Closed(u8),
    /// The server said no, with this code.
    #[error("the server refused: {name} (reason code {0:#04x})", name = name(*.0))]
    Refused(u8),
    /// The server said nothing.
    #[error("no answer in time")]
    Timeout,
    /// The server does not speak MQTT 5.
    #[error("the server broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// Larger than any packet can be.
    #[error("the message is too large for MQTT")]
    TooLarge,
}

/// What a reason code is called (MQTT 5 §2.4).
fn name(code: u8) -> &'static str {
    match code {
        0x00 => "it said nothing",
        0x80 => "unspecified error",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "implementation specific error",
        0x84 => "unsupported protocol version",
        0x85 => "client identifier not valid",
        0x86 => "bad user name or password",
        0x87 => "not authorized",
        0x88 => "server unavailable",
        0x89 => "server busy",
        0x8a => "banned",
        0x8b => "server shutting down",
        0x8c => "bad authentication method",
        0x8d => "keep alive timeout",
        0x8e => "session taken over",
        0x8f => "topic filter invalid",
        0x90 => "topic name invalid",
        0x91 => "packet identifier in use",
        0x92 => "packet identifier not found",
        0x93 => "receive maximum exceeded",
        0x94 => "topic alias invalid",
        0x95 => "packet too large",
        0x96 => "message rate too high",
        0x97 => "quota exceeded",
        0x98 => "administrative action",
        0x99 => "payload format invalid",
        0x9a => "retain not supported",
        0x9b => "QoS not supported",
        0x9c => "use another server",
        0x9d => "server moved",
        0x9e => "shared subscriptions not supported",
        0x9f => "connection rate exceeded",
        0xa0 => "maximum connect time",
        0xa1 => "subscription identifiers not supported",
        0xa2 => "wildcard subscriptions not supported",
        _ => "for a reason without a name",
    }
}

/// What was received.
pub type Message = Publish;
