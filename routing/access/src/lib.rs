//! Who may come in, and what they may do: the real [`event::access::Gate`].
//!
//! [`Access`] decides by what its [`Options`] name: a password file, rules, and without proof by where a client comes from.
//! What is decided by reading bytes (`acl`, `passwords`, `scram`) is sans-io; only `driver` waits, reads files and has threads.

mod acl;
mod attempts;
mod driver;
mod error;
mod grant;
mod options;
mod passwords;
mod policy;
pub mod scram;
mod verified;

pub use driver::Access;
pub use error::FileError;
pub use options::{Anonymous, Options};
pub use passwords::{Change, Users, change};
