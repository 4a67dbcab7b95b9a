//! What can be set of TLS.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// TLS of a listener. All files are PEM. They are read again when they change, or on SIGHUP; what is broken changes nothing:
/// the log and `/ready` say what is wrong. Connections stay open, but for those of revoked certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TlsOptions {
    /// File of the server's certificate, followed by those of the CAs between it and the root. Default "", none; has to be
    /// given with carriers "tls" and "quic". It is shown to clients that name no server, or one that no `sni` is for.
    pub certificate: PathBuf,
    /// File of its private key (PKCS#8, PKCS#1 or SEC1). Default "", none.
    pub key: PathBuf,
    /// Further certificates, picked by the server name that the client asks for (SNI).
    pub sni: Vec<SniOptions>,
    /// The oldest version that is spoken: "1.2" or "1.3". Default "1.2". QUIC has 1.3 only.
    pub min_version: Version,
    /// File of the CAs that sign clients' certificates. Default "", none.
    pub client_ca: PathBuf,
    /// Whether clients show a certificate: "off" does not ask; "optional" asks, and takes clients without; "required" takes
    /// none without. A certificate that is shown has to be good. Default "off". Needs `client_ca`.
    pub client_certificates: ClientCertificates,
    /// Lists of revoked certificates (CRL), PEM or DER: files, or folders of files. Default none. Each CA that signs clients
    /// needs one, see `crl_missing`. A client whose certificate gets revoked is disconnected at once.
    pub crl: Vec<PathBuf>,
    /// Clients whose CA has no list: "refuse" or "accept". Default "refuse". Counts only with `crl`.
    pub crl_missing: Doubt,
    /// Clients whose CA has a list that is past its next update: "refuse" or "accept". Default "refuse".
    pub crl_expired: Doubt,
    /// Whether clients may resume a session with a ticket, which saves most of the handshake. Default true. Changed files
    /// end all tickets.
    pub tickets: bool,
    /// How long a client has for its handshake (and PROXY header), seconds. Default 10; 1..=300. Too short, and clients on
    /// slow links never get in.
    #[schemars(range(min = 1, max = 300))]
    pub handshake_timeout_s: u16,
    /// How many handshakes may be under way. Default 1000; 1..=100000. One more ends the oldest, so silent connections keep
    /// nobody out. Each takes some 20 KiB.
    #[schemars(range(min = 1, max = 100_000))]
    pub handshakes_max: u32,
    /// How often files are looked at for changes, seconds. Default 2; 1..=3600.
    #[schemars(range(min = 1, max = 3600))]
    pub reload_s: u16,
}

/// A certificate for some server names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SniOptions {
    /// File of the certificate and of the CAs between it and the root.
    pub certificate: PathBuf,
    /// File of its private key.
    pub key: PathBuf,
    /// The server names it is for, such as "mqtt.example.org"; "*.example.org" is for all names one level below. Default:
    /// the names in the certificate.
    #[serde(default)]
    pub names: Vec<String>,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Version {
    /// RFC 5246.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    V13,
}

/// Whether clients show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    Off,
    /// They are asked, and may say no.
    Optional,
    /// They have to.
    Required,
}

/// What to do where a list of revoked certificates does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Doubt {
    /// Take it for revoked.
    #[default]
    Refuse,
    /// Take it for good.
    Accept,
}

impl Default for TlsOptions {
    fn default() -> Self {
        Self {
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            sni: Vec::new(),
            min_version: Version::default(),
            client_ca: PathBuf::new(),
            client_certificates: ClientCertificates::default(),
            crl: Vec::new(),
            crl_missing: Doubt::default(),
            crl_expired: Doubt::default(),
            tickets: true,
            handshake_timeout_s: 10,
            handshakes_max: 1000,
            reload_s: 2,
        }
    }
}

impl TlsOptions {
    /// Settings that do not go together: the key, what is wrong, and what to do. Reads no file.
    ///
    /// # Errors
    /// The first of them.
    pub fn check(&self) -> Result<(), (&'static str, &'static str, &'static str)> {
        let is_set = |path: &PathBuf| !path.as_os_str().is_empty();
        if !is_set(&self.certificate) {
            return Err((
                "certificate",
                "TLS needs a certificate",
                "make one to try it: weft cert --host NAME",
            ));
        }
        if !is_set(&self.key) {
            return Err(("key", "the certificate needs its key", "name the file of its private key"));
        }
        let asks = self.client_certificates != ClientCertificates::Off;
        if asks && !is_set(&self.client_ca) {
            return Err((
                "client_ca",
                "clients' certificates need a CA",
                "name the file of the CA that signs them",
            ));
        }
        if !asks && is_set(&self.client_ca) {
            let hint = "set it to \"optional\" or \"required\", or take client_ca away";
            return Err(("client_certificates", "clients are not asked for certificates of client_ca", hint));
        }
        if !asks && !self.crl.is_empty() {
            return Err(("crl", "clients are not asked for certificates", "set client_certificates"));
        }
        Ok(())
    }

    /// All files and folders it reads.
    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let own = [&self.certificate, &self.key, &self.client_ca].into_iter();
        let sni = self.sni.iter().flat_map(|sni| [&sni.certificate, &sni.key]);
        let all = own.chain(sni).chain(&self.crl);
        all.filter(|path| !path.as_os_str().is_empty()).cloned().collect()
    }
}
