//! From files to what TLS works with.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::names::Names;
use super::options::{ClientCertificates, Doubt, TlsOptions, Version};
use super::revoked::Revoked;

/// A file that cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{key} = {path:?}: {reason}")]
pub struct TlsError {
    /// The option that names it.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// All that the files say.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) verifier: Option<Arc<dyn ClientCertVerifier>>,
    pub(crate) revoked: Revoked,
}

/// Reads all files of `options`. Blocks.
pub(crate) fn load(options: &TlsOptions, alpn: &[&[u8]]) -> Result<Loaded, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut names = Names::new(certified(&provider, "certificate", &options.certificate, &options.key)?);
    for sni in &options.sni {
        let key = certified(&provider, "sni.certificate", &sni.certificate, &sni.key)?;
        let own = || dns_names(&key);
        let list = if sni.names.is_empty() { own() } else { sni.names.clone() };
        if list.is_empty() {
            return Err(wrong("sni.certificate", &sni.certificate, "names no server: set sni.names"));
        }
        list.iter().for_each(|name| names.add(name, &key));
    }
    let crls = read_crls(&options.crl)?;
    let revoked = Revoked::new(&crls).map_err(|reason| wrong("crl", Path::new(""), &reason))?;
    let verifier = verifier(options, &provider, crls)?;
    let versions: &[&SupportedProtocolVersion] = match options.min_version {
        Version::V12 => &[&version::TLS13, &version::TLS12],
        Version::V13 => &[&version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let broken = |error: rustls::Error| wrong("certificate", &options.certificate, &error.to_string());
    let builder = builder.with_protocol_versions(versions).map_err(broken)?;
    let asks = verifier.clone().unwrap_or_else(WebPkiClientVerifier::no_client_auth);
    let mut config = builder.with_client_cert_verifier(asks).with_cert_resolver(Arc::new(names));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    // Sessions live in tickets that clients keep: they take no memory here, and end with this config, so that whoever is
    // revoked cannot resume.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    if options.tickets {
        config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(broken)?;
        config.send_tls13_tickets = 1;
    } else {
        config.send_tls13_tickets = 0;
    }
    Ok(Loaded { config: Arc::new(config), verifier, revoked })
}

fn certified(
    provider: &CryptoProvider,
    key: &'static str,
    certificate: &Path,
    private: &Path,
) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(key, certificate)?;
    let key_name = if key == "certificate" { "key" } else { "sni.key" };
    let pem = read(key_name, private)?;
    warn_if_open(private);
    let private_key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| wrong(key_name, private, &format!("no private key in PEM: {error}")))?;
    let certified = CertifiedKey::from_der(chain, private_key, provider).map_err(|error| {
        let reason = if matches!(error, rustls::Error::InconsistentKeys(_)) {
            format!("is not the key of {}", certificate.display())
        } else {
            error.to_string()
        };
        wrong(key_name, private, &reason)
    })?;
    Ok(Arc::new(certified))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(key, path)?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let list = list.map_err(|error| wrong(key, path, &format!("no certificates in PEM: {error}")))?;
    if list.is_empty() { Err(wrong(key, path, "holds no certificate in PEM")) } else { Ok(list) }
}

/// The names of servers that a certificate is for.
fn dns_names(key: &CertifiedKey) -> Vec<String> {
    let certificate = key.cert.first().and_then(|leaf| webpki::EndEntityCert::try_from(leaf).ok());
    certificate.map(|leaf| leaf.valid_dns_names().map(str::to_owned).collect()).unwrap_or_default()
}

fn verifier(
    options: &TlsOptions,
    provider: &Arc<CryptoProvider>,
    crls: Vec<CertificateRevocationListDer<'static>>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    if options.client_certificates == ClientCertificates::Off {
        return Ok(None);
    }
    let path = &options.client_ca;
    let mut roots = RootCertStore::empty();
    for root in certificates("client_ca", path)? {
        roots.add(root).map_err(|error| wrong("client_ca", path, &error.to_string()))?;
    }
    let has_crls = !crls.is_empty() || !options.crl.is_empty();
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let mut builder = builder.with_crls(crls);
    if options.client_certificates == ClientCertificates::Optional {
        builder = builder.allow_unauthenticated();
    }
    if !has_crls || options.crl_missing == Doubt::Accept {
        builder = builder.allow_unknown_revocation_status();
    }
    if options.crl_expired == Doubt::Refuse {
        builder = builder.enforce_revocation_expiration();
    }
    let verifier = builder.build();
    verifier.map(Some).map_err(|error| wrong("client_ca", path, &error.to_string()))
}

fn read_crls(paths: &[PathBuf]) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let mut crls = Vec::new();
    for path in paths {
        let files = if path.is_dir() { files_of(path)? } else { vec![path.clone()] };
        for file in files {
            let bytes = read("crl", &file)?;
            if !bytes.starts_with(b"0\x82") && !bytes.starts_with(b"0\x81") && !bytes.starts_with(b"0\x83") {
                let list: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
                let list = list.map_err(|error| wrong("crl", &file, &format!("no CRL in PEM: {error}")))?;
                if list.is_empty() {
                    return Err(wrong("crl", &file, "holds no CRL, neither in PEM nor in DER"));
                }
                crls.extend(list);
            } else {
                crls.push(CertificateRevocationListDer::from(bytes));
            }
        }
    }
    Ok(crls)
}

/// The files in a folder, by name, but for hidden ones.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>, TlsError> {
    let unreadable = |error: std::io::Error| wrong("crl", folder, &format!("cannot be read: {error}"));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if !entry.file_name().to_string_lossy().starts_with('.') && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

fn read(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| wrong(key, path, &format!("cannot be read: {error}")))
}

fn wrong(key: &'static str, path: &Path, reason: &str) -> TlsError {
    TlsError { key, path: path.to_owned(), reason: reason.to_owned() }
}

/// A private key is for nobody else on this machine.
fn warn_if_open(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(path).map_or(0, |meta| meta.permissions().mode());
    if mode & 0o004 != 0 {
        let advice = "chmod o-rwx it";
        tracing::warn!(file = %path.display(), advice, "everybody on this machine can read this private key");
    }
}

/// What shows that files are others, or have changed: time, size and inode of each, those in folders included.
pub(crate) type Look = Vec<(PathBuf, Option<(SystemTime, u64, u64)>)>;

/// The files that came, went or changed.
pub(crate) fn differing(before: &Look, now: &Look) -> Vec<PathBuf> {
    let gone = before.iter().filter(|one| !now.contains(one));
    let new = now.iter().filter(|one| !before.contains(one));
    gone.chain(new).map(|(path, _)| path.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Looks at all files. Blocks.
pub(crate) fn look(options: &TlsOptions) -> Look {
    use std::os::unix::fs::MetadataExt as _;
    let one = |path: PathBuf| {
        let meta = std::fs::metadata(&path).ok();
        let look = meta.and_then(|meta| Some((meta.modified().ok()?, meta.len(), meta.ino())));
        (path, look)
    };
    let mut all = Vec::new();
    for path in options.paths() {
        all.extend(files_of(&path).unwrap_or_default().into_iter().map(one));
        all.push(one(path));
    }
    all
}
