//! MQTT 3.1.1 and 5.0, server side, and a small client.
//!
//! `codec`, `connection`, `session` and `binding` are sans-io; [`serve`] drives them over a stream. Knows the hub of
//! `event` and nothing behind it: no route, no store, no other protocol.
//!
//! | a publish is refused as | MQTT 5 | MQTT 3.1.1 |
//! |---|---|---|
//! | malformed | PUBACK or PUBREC 0x99 | close |
//! | denied | 0x87 | close, or ack and drop ([`DeniedPublish`]) |
//! | busy | 0x97 | no ack, not read for a second, then close |
//! | unavailable | 0x83 | close: the client sends again |
//! | closed | DISCONNECT 0x8B | close |

mod binding;
pub mod client;
pub mod codec;
pub mod connection;
mod driver;
mod error;
mod meters;
mod options;
mod output;
mod session;

pub use driver::{Accept, DataStream, serve, serve_many};
pub use error::Violation;
pub use options::{DeniedPublish, Options};
pub use output::Output;
