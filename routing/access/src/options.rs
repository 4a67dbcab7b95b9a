//! What can be set: who may come in without proof, and where proofs and rules are found.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may come in, and what they may do. Files are read again when they change, or on SIGHUP; connections stay open, and
/// the new rules hold for them at once. A file that is broken changes nothing: the log and `/ready` say what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Who may connect without proof: "loopback", clients on this machine that come by a listener on a loopback address;
    /// "never"; or "always", everybody. Default "loopback". `allow_anonymous = true` is the same as "always".
    pub anonymous: Anonymous,
    /// File of users, one `user:hash` a line, made by `weft passwd FILE USER`. Default "", none. Argon2id, SCRAM-SHA-256,
    /// and the `$7$` hashes of mosquitto are read.
    pub password_file: PathBuf,
    /// File of rules: who may publish and subscribe what. Default "", none: who comes in may do everything. README tells
    /// how to write it. With a file, what no rule allows is denied, and only its `admins` may use the admin pages.
    pub acl_file: PathBuf,
    /// How many passwords are checked at a time. Default 0: half of the processors, at least 1; 0..=64. Each check takes
    /// some 20 MiB and 20 ms; more at a time slow down the events of those who are in.
    #[schemars(range(max = 64))]
    pub hash_threads: u16,
    /// How many clients may wait for the check of their password. Default 1024; 1..=100000. More are told to come again
    /// later.
    #[schemars(range(min = 1, max = 100_000))]
    pub hash_queue: u32,
    /// For how long a password, or an answer of the call-out, that was found right is remembered, seconds. Default 60;
    /// 0..=86400, 0 never. It makes reconnects and HTTP requests cheap; a changed password file is followed at once.
    #[schemars(range(max = 86_400))]
    pub cache_s: u32,
    /// Wrong proofs that one address (IPv6: one /64) may show in a minute. Default 30; 0..=1000000, 0 is no limit. Then it
    /// is told to come again later; what was found right before still works.
    #[schemars(range(max = 1_000_000))]
    pub failures_per_minute: u32,
    /// How often files are looked at for changes, seconds. Default 2; 1..=3600.
    #[schemars(range(min = 1, max = 3600))]
    pub reload_s: u16,
}

/// Who may connect without proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Anonymous {
    /// Clients on this machine, by a listener on a loopback address.
    Loopback,
    /// Nobody.
    Never,
    /// Everybody.
    Always,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            anonymous: Anonymous::Loopback,
            password_file: PathBuf::new(),
            acl_file: PathBuf::new(),
            hash_threads: 0,
            hash_queue: 1024,
            cache_s: 60,
            failures_per_minute: 30,
            reload_s: 2,
        }
    }
}

impl Options {
    /// Whether there is any way to prove who one is.
    pub fn has_proofs(&self) -> bool {
        given(&self.password_file).is_some()
    }
}

/// A path that is set.
pub(crate) fn given(path: &Path) -> Option<&Path> {
    Some(path).filter(|path| !path.as_os_str().is_empty())
}
