//! The glossary of Weft, as code: events, topics, and the two contracts between the parts.
//!
//! * [`Event`] is a CloudEvent 1.0 with the [`TopicName`] it was published to.
//! * [`hub`] is what a protocol may ask of the core: attach, publish, subscribe, take deliveries, ack.
//! * [`replay`] is how a subscription says that it starts in the past.
//! * [`access`] is who may come in, and what they may do.
//! * [`audit`] is what is told to those who watch over Weft.
//! * [`store`] is what the core asks of a connector that keeps events.
//!
//! This crate knows no socket, file or clock, no protocol and no store; everything else imports it.

pub mod access;
pub mod admin;
pub mod audit;
mod breaker;
mod dead_letter;
pub mod event;
mod guarantee;
mod health;
pub mod hub;
pub mod incoming;
pub mod json;
mod limit;
pub mod lines;
mod principal;
mod rate;
mod reject;
pub mod replay;
mod select;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod topic;
pub mod trace;

pub use access::{Rights, Source};
pub use audit::Audit;
pub use breaker::Breaker;
pub use dead_letter::{dead_letter, is_dead_letter_place};
pub use event::{Attributes, Event, Meta, Parts, Value};
pub use guarantee::{Durability, Guarantee};
pub use health::Health;
pub use incoming::{Draft, Incoming, InvalidEvent};
pub use limit::{Budget, BudgetPermit, ByteLimit};
pub use principal::{ClientId, Origin, Principal, Protocol};
pub use rate::{Allowance, Bucket, Meter, Rate};
pub use reject::{Reject, RejectKind};
pub use replay::{Start, StartError};
pub use select::{BadSelect, CEL_NAME, CESQL_NAME, Language, Select, UnknownLanguage};
pub use topic::{REPLY_TOPICS, TopicError, TopicFilter, TopicName, has_control};

/// A future that a contract hands out: boxed, so that the traits stay object-safe.
pub type Pending<T> = std::pin::Pin<Box<dyn Future<Output = Result<T, Reject>> + Send>>;
