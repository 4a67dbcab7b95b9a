//! What can be set: who may come in without proof, and where proofs and rules are found.

use std::path::{Path, PathBuf};

use event::ByteLimit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::certificate::CertificateName;

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
    /// Which part of a client certificate is the user name: "off", none; "cn", the subject's common name; or the first
    /// alternative name that is a "dns" name, a "uri" (SPIFFE) or an "email" address. Default "off". It counts for clients
    /// that show no password and no token; the listener decides which certificates are good and whether one is needed.
    pub certificate: CertificateName,
    /// Who may see `/metrics`: "open", whoever reaches the HTTP listener; or "admin", who may use the admin pages. Default "open".
    pub metrics: Metrics,
    /// Tokens (JWT).
    pub jwt: JwtOptions,
    /// A service of yours that decides.
    pub callout: CalloutOptions,
    /// What each client may send. HTTP requests, event streams and WebSockets without a client id count for their address.
    pub client_rates: Rates,
    /// What all connections of a user together may send.
    pub user_rates: Rates,
}

/// Who may see `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Metrics {
    /// Whoever reaches the HTTP listener.
    #[default]
    Open,
    /// Who may use the admin pages.
    Admin,
}

/// Tokens: JWT, signed (RFC 7519, RFC 7515). They come as the MQTT password, in `Authorization: Bearer`, or from browsers
/// in the query `access_token`. Tokens are taken when there is a key. HS256/384/512 go with a secret, RS and PS
/// 256/384/512 with an RSA key, ES256 and ES384 with a key on P-256 and P-384, EdDSA with Ed25519.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct JwtOptions {
    /// File with a shared secret, at least 32 bytes, used as they are. Default "", none.
    pub secret_file: PathBuf,
    /// File with public keys in PEM. Default "", none.
    pub key_file: PathBuf,
    /// File with a JWKS (RFC 7517). Default "", none.
    pub jwks_file: PathBuf,
    /// URL of a JWKS, https or http. Default "", none. While it does not answer, the keys it gave last are used.
    pub jwks_url: String,
    /// How old the keys of the URL may get, seconds. Default 300; 10..=86400. A token with an unknown key id fetches
    /// them at once, but not more often than each 10 seconds.
    #[schemars(range(min = 10, max = 86_400))]
    pub jwks_refresh_s: u32,
    /// What the claim `iss` has to be. Default "", anything.
    pub issuer: String,
    /// Of which texts the claim `aud` has to have one. Default [], anything.
    pub audience: Vec<String>,
    /// The claim that is the user name. Default "sub".
    pub user_claim: String,
    /// The claim that has to be the client id, such as "client_id". Default "", none.
    pub client_claim: String,
    /// By how much clocks may differ when `exp` and `nbf` are checked, seconds. Default 30; 0..=600.
    #[schemars(range(max = 600))]
    pub leeway_s: u16,
    /// End a connection when its token expires. Default true.
    pub disconnect: bool,
}

impl Default for JwtOptions {
    fn default() -> Self {
        Self {
            secret_file: PathBuf::new(),
            key_file: PathBuf::new(),
            jwks_file: PathBuf::new(),
            jwks_url: String::new(),
            jwks_refresh_s: 300,
            issuer: String::new(),
            audience: Vec::new(),
            user_claim: "sub".to_owned(),
            client_claim: String::new(),
            leeway_s: 30,
            disconnect: true,
        }
    }
}

impl JwtOptions {
    /// Whether tokens are taken.
    pub fn is_on(&self) -> bool {
        let files = [&self.secret_file, &self.key_file, &self.jwks_file];
        !self.jwks_url.is_empty() || files.into_iter().any(|file| given(file).is_some())
    }
}

/// A service of yours that decides who comes in: asked by POST with JSON `{"client", "user", "password", "address",
/// "listener", "certificate"}`, it answers 200 with `{"allow": true}`, and perhaps `"user"`, the name from now on, and `"acl"`, a
/// list of rules in place of the ACL file; or with `{"allow": false}`. It is asked about users that the password file does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CalloutOptions {
    /// Its URL, https or http. Default "", none.
    pub url: String,
    /// How long it may take, milliseconds. Default 3000; 50..=60000.
    #[schemars(range(min = 50, max = 60_000))]
    pub timeout_ms: u32,
    /// How many questions may be open at a time. Default 32; 1..=10000. As many as `hash_queue` may wait.
    #[schemars(range(min = 1, max = 10_000))]
    pub concurrent: u16,
    /// For how long a yes is remembered, seconds. Default 60; 0..=86400, 0 never.
    #[schemars(range(max = 86_400))]
    pub cache_s: u32,
    /// After how many failures in a row it is left alone for `pause_ms`. Default 5; 1..=1000.
    #[schemars(range(min = 1, max = 1000))]
    pub failures_max: u16,
    /// How long it is left alone then, milliseconds. Default 5000; 100..=600000.
    #[schemars(range(min = 100, max = 600_000))]
    pub pause_ms: u32,
    /// What happens to those it gives no answer about: "refuse", they are told to come again later; or "allow", they come
    /// in under the name they gave, and the ACL file holds for them. Default "refuse".
    pub silent: Silent,
}

/// What happens when the call-out does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Silent {
    /// Nobody comes in.
    #[default]
    Refuse,
    /// Everybody comes in.
    Allow,
}

impl Default for CalloutOptions {
    fn default() -> Self {
        Self {
            url: String::new(),
            timeout_ms: 3000,
            concurrent: 32,
            cache_s: 60,
            failures_max: 5,
            pause_ms: 5000,
            silent: Silent::Refuse,
        }
    }
}

/// How much may be sent. A client above it is read more slowly, and loses nothing; an HTTP request is answered with 429.
/// The amount of one second may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rates {
    /// Connections, and HTTP requests, in a second. Default 0, no limit. More are told to come again later.
    pub connects_per_second: u32,
    /// Packets, frames and events in a second. Default 0, no limit.
    pub packets_per_second: u32,
    /// Bytes in a second. Default "0 B", no limit.
    #[schemars(with = "String")]
    pub bytes_per_second: ByteLimit,
}

impl Default for Rates {
    fn default() -> Self {
        Self { connects_per_second: 0, packets_per_second: 0, bytes_per_second: ByteLimit(0) }
    }
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
            certificate: CertificateName::Off,
            metrics: Metrics::Open,
            jwt: JwtOptions::default(),
            callout: CalloutOptions::default(),
            client_rates: Rates::default(),
            user_rates: Rates::default(),
        }
    }
}

impl Options {
    /// Whether there is any way to prove who one is.
    pub fn has_proofs(&self) -> bool {
        given(&self.password_file).is_some()
            || self.certificate != CertificateName::Off
            || self.jwt.is_on()
            || !self.callout.url.is_empty()
    }
}

/// A path that is set.
pub(crate) fn given(path: &Path) -> Option<&Path> {
    Some(path).filter(|path| !path.as_os_str().is_empty())
}
