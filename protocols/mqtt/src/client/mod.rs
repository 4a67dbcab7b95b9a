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
    #[error("the server closed the connection (reason code {0:#04x})")]
    Closed(u8),
    /// The server said no, with this code.
    #[error("the server refused (reason code {0:#04x})")]
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

/// What was received.
pub type Message = Publish;
