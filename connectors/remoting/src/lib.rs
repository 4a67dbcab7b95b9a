//! RocketMQ's remoting protocol, without I/O: frames, stored messages, property strings.
//!
//! * [`Decoder`] and [`encode`] turn bytes into [`Command`]s and back, with a JSON or a binary header.
//! * [`Pending`] finds the request that an answer belongs to.
//! * [`StoredMessage`] and [`encode_batch`] are the two ways messages travel in bodies.
//! * [`Send`] is the header that all sends have.
//! * [`properties`] are the strings in which a message carries its properties.
//! * [`strict_json`] mends what older brokers write in bodies.
//!
//! All integers on the wire are big-endian. Nothing here knows sockets, clocks or events.

mod binary;
pub mod code;
mod codec;
mod command;
mod json;
mod message;
mod pending;
pub mod properties;
mod send;
mod strict;

pub use codec::{Decoder, EncodeError, Encoding, FRAME_MAX, FrameError, HEADER_MAX, Limits, encode};
pub use command::{Command, Language};
pub use message::{BatchEntry, MessageError, StoredMessage, decode_messages, encode_batch, sys_flag};
pub use pending::Pending;
pub use send::{CREATED_QUEUES, DEFAULT_TOPIC, Send};
pub use strict::strict_json;
