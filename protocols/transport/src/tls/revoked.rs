//! Which certificates are revoked: asked for each open connection when the lists change.

use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use webpki::{CertRevocationList, EndEntityCert, OwnedCertRevocationList};

/// The revoked certificates of all lists.
#[derive(Debug, Default)]
pub(crate) struct Revoked(Vec<CertRevocationList<'static>>);

impl Revoked {
    pub(crate) fn new(crls: &[CertificateRevocationListDer<'_>]) -> Result<Self, String> {
        let read = |crl: &CertificateRevocationListDer<'_>| {
            let read = OwnedCertRevocationList::from_der(crl.as_ref());
            read.map(CertRevocationList::from).map_err(|error| format!("a list is broken: {error:?}"))
        };
        crls.iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a list of its issuer names `certificate`. Who signed the list is not looked at: that is for the handshake.
    pub(crate) fn names(&self, certificate: &CertificateDer<'_>) -> bool {
        let Ok(certificate) = EndEntityCert::try_from(certificate) else { return false };
        self.0.iter().filter(|list| list.issuer() == certificate.issuer()).any(|list| {
            // A list that cannot be read to its end says nothing good.
            !matches!(list.find_serial(certificate.serial()), Ok(None))
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
