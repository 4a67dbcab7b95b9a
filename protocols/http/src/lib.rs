//! CloudEvents over HTTP: publish, and read as server-sent events.
//!
//! * `POST /events` publishes one event or a batch (CE HTTP §3); a 2xx says that all of it is kept.
//! * `GET /events?topic=FILTER` is a stream of server-sent events that resumes from the log with `Last-Event-ID`.
//!
//! What a request says is read in `binding`, what a stream says is written in `sse`, both sans-io; `problem` holds the
//! refusals (RFC 9457), [`From`] says which web pages may ask, and only `driver` awaits. [`router`] is mounted beside others; [`serve_connection`] serves them
//! all on one connection.

mod binding;
mod driver;
mod options;
mod origin;
mod problem;
mod sse;

pub use driver::{router, serve_connection};
pub use options::Options;
pub use origin::From;
