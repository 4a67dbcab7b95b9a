//! Delivers events to webhooks: those that the configuration names, and those that clients subscribed, for EventMesh's gRPC and
//! HTTP protocols.
//!
//! * [`NamedHooks`] posts CloudEvents to those of the configuration ([`HookOptions`]), each of which is a durable session.
//! * [`target`] says which addresses may be posted to: Weft must not be a way into its own machine.
//! * [`push`] has the form that is posted, and reads what the webhook answers.
//! * [`Hooks`] keeps who subscribed what, and delivers.
//!
//! A webhook of a client is a session of the core for as long as somebody subscribes it, and a member of its group like any other. At
//! most [`Options::in_flight`] events are on their way to one; the others wait in the session's queue. An event that
//! a webhook does not take is posted again, to the next webhook of the group, and given up, as a dead letter that is
//! counted, after the last try.

mod binding;
mod driver;
mod hooks;
mod keys;
mod named;
mod options;
pub mod push;
pub mod target;

pub use binding::Mode;
pub use driver::{Hooks, NamedHooks, Plans, Refused, SESSIONS, Wanted, check, check_files};
pub use named::{HookMistake, HookOptions};
pub use options::Options;
