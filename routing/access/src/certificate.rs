//! The user name that a client certificate gives (RFC 5280 §4.1.2.6, §4.2.1.6). It was verified before.

use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Which part of a client certificate is the user name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CertificateName {
    /// None: certificates name nobody.
    #[default]
    Off,
    /// The common name of the subject.
    Cn,
    /// The first DNS name.
    Dns,
    /// The first URI, such as a SPIFFE id.
    Uri,
    /// The first e-mail address.
    Email,
}

impl CertificateName {
    /// The name in `certificate`, DER.
    pub(crate) fn of(self, certificate: &[u8]) -> Option<String> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let name = match self {
            Self::Off => None,
            Self::Cn => {
                let mut names = certificate.subject().iter_common_name();
                names.next().and_then(|name| name.as_str().ok()).map(str::to_owned)
            }
            Self::Dns | Self::Uri | Self::Email => {
                let names = certificate.subject_alternative_name().ok()??;
                names.value.general_names.iter().find_map(|name| self.alternative(name)).map(str::to_owned)
            }
        };
        name.filter(|name| !name.is_empty())
    }

    fn alternative<'a>(self, name: &GeneralName<'a>) -> Option<&'a str> {
        match (self, name) {
            (Self::Dns, GeneralName::DNSName(name))
            | (Self::Uri, GeneralName::URI(name))
            | (Self::Email, GeneralName::RFC822Name(name)) => Some(name),
            _ => None,
        }
    }
}

/// The subject of `certificate`, DER, as text (RFC 4514).
pub(crate) fn subject(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.subject().to_string())
}
