//! The TCP protocol of Apache EventMesh, server side, as its SDKs of all releases speak it.
//!
//! `codec`, `connection` and `binding` are sans-io; [`serve`] drives them over a stream. Knows the hub of `event` and what
//! EventMesh's protocols share (`eventmesh`), and nothing behind it: no route, no store, no other protocol.
//!
//! | a command is refused as | code | |
//! |---|---|---|
//! | malformed, unavailable, closed | 1 | FAIL |
//! | denied, unproved | 2 | ACL_FAIL |
//! | busy | 3 | TPS_OVERLOAD |
//!
//! A publish is answered when the hub's receipt is there: code 0 means kept. A frame that is none, or an unknown command,
//! is answered with SERVER_GOODBYE_REQUEST of code 1 and the reason, and ends the connection.

mod binding;
pub mod codec;
pub mod connection;
mod driver;
mod error;
mod meters;
mod options;

pub use driver::{Parts, serve};
pub use error::Violation;
pub use options::Options;
