//! The composition root: the only crate that names protocols and connectors. It joins them and knows how neither works.
//!
//! [`Bridge`] is a whole Weft in one value; [`command_line`] is the program around it.

mod admin;
mod args;
mod audited;
mod bridge;
pub mod catalog;
mod cert;
mod client;
mod connect;
mod greeting;
mod listen;
mod log;
mod look;
mod mesh;
mod metered;
mod operate;
mod origins;
mod passwd;
mod process;
mod reload;
mod requests;
mod shutdown;
mod start;
mod sys;
mod tasks;
pub mod telemetry;
mod traces;
mod upgrade;

pub use bridge::Bridge;
pub use listen::Listening;
pub use start::command_line;
