//! What carriers share: listeners, what they accept, and how many of it.
//!
//! A [`Listener`] binds one TCP address and accepts as [`Connections`] allow, which all listeners of a process share.
//! This crate knows no protocol and no event.

mod listener;
mod options;
mod stream;

pub use listener::{BindError, Connections, Listener, Peer};
pub use options::Options;
pub use stream::Stream;
