//! TLS towards name servers and brokers: whom to believe.

use std::sync::Arc;

use parts::{File, FileError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// The settings of TLS connections to who can show a certificate of one of these CAs.
pub(crate) fn settings(authorities: &File) -> Result<Arc<ClientConfig>, FileError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authorities.bytes()) {
        let certificate = certificate.map_err(|error| authorities.wrong(error))?;
        roots.add(certificate).map_err(|error| authorities.wrong(error))?;
    }
    if roots.is_empty() {
        return Err(authorities.wrong("it holds no certificate"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| authorities.wrong(error))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let file = File::read("tls_ca_file", Some(file.path())).unwrap().unwrap();
        let error = settings(&file).unwrap_err().to_string();
        assert!(error.contains("no certificate"), "{error}");
    }
}
