//! Who may come in, and what they may do: the real [`event::access::Gate`].
//!
//! [`Access`] decides by what its [`Options`] name: a password file, tokens, client certificates,
//! a call-out, and without proof by where a client comes from; [`Options::acl_file`] says what each may do.
//! What is decided by reading bytes (`acl`, `passwords`, `scram`) is sans-io; only `driver` waits, reads files and has threads.

mod acl;
mod attempts;
mod certificate;
mod driver;
mod error;
mod grant;
mod meters;
mod options;
mod passwords;
mod policy;
pub mod scram;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod token;
mod verified;

pub use certificate::CertificateName;
pub use driver::Access;
pub use error::FileError;
pub use options::{Anonymous, CalloutOptions, JwtOptions, Metrics, Options, Rates, Silent};
pub use passwords::{Change, Users, change};
