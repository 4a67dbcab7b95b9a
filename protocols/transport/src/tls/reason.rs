//! Why a handshake failed, as a label with few values.

use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// The label for what a handshake ended with.
pub(crate) fn reason_of(error: &io::Error) -> &'static str {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else { return "io" };
    // rustls' own enums: they grow with its versions.
    #[expect(clippy::wildcard_enum_match_arm, reason = "an enum of rustls that grows")]
    match error {
        Error::NoCertificatesPresented => "no_certificate",
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::InvalidMessage(_) => "not_tls",
        Error::PeerIncompatible(_) => "incompatible",
        Error::NoApplicationProtocol => "alpn",
        Error::AlertReceived(alert) => of_alert(*alert),
        _ => "protocol",
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "an enum of rustls that grows")]
fn of_certificate(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Revoked => "revoked",
        CertificateError::UnknownIssuer => "unknown_ca",
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
        CertificateError::UnknownRevocationStatus => "no_crl",
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            "expired_crl"
        }
        _ => "bad_certificate",
    }
}

/// The client did not like what it got.
#[expect(clippy::wildcard_enum_match_arm, reason = "an enum of rustls that grows")]
fn of_alert(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired => "refused_by_client",
        _ => "alert",
    }
}
