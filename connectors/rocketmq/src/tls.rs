//! TLS towards name servers and brokers: whom to believe.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::{ClusterOptions, OptionsError};

/// The settings of TLS connections of a cluster, if it has a file of CAs. Reads it.
pub(crate) fn settings(options: &ClusterOptions) -> Result<Option<Arc<ClientConfig>>, OptionsError> {
    let Some(path) = &options.tls_ca_file else { return Ok(None) };
    let fail = |reason: String| OptionsError::Ca { path: path.clone(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| fail(error.to_string()))? {
        let certificate = certificate.map_err(|error| fail(error.to_string()))?;
        roots.add(certificate).map_err(|error| fail(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(fail("it holds no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| fail(error.to_string()))?;
    Ok(Some(Arc::new(builder.with_root_certificates(roots).with_no_client_auth())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let with = |path: &std::path::Path| ClusterOptions {
            tls_ca_file: Some(path.to_owned()),
            ..ClusterOptions::default()
        };
        let error = settings(&with(file.path())).unwrap_err().to_string();
        assert!(error.contains("no certificate"), "{error}");
        assert!(settings(&with("/does/not/exist".as_ref())).is_err());
        assert!(settings(&ClusterOptions::default()).unwrap().is_none());
    }
}
