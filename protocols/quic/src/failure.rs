//! Why a handshake failed, as a label with few values: those of TLS over TCP, where there is one.

use quinn::ConnectionError;
use rustls::AlertDescription;
use transport::Failure;

/// What ended a connection before it was one.
pub(crate) fn failure(error: &ConnectionError) -> Failure {
    let reason = match error {
        ConnectionError::ApplicationClosed(_) | ConnectionError::Reset => return Failure::Closed,
        ConnectionError::TimedOut => return Failure::Timeout,
        ConnectionError::TransportError(error) => alert(error.code).map_or("protocol", of_us),
        ConnectionError::ConnectionClosed(close) => alert(close.error_code).map_or("protocol", of_client),
        ConnectionError::VersionMismatch => "version",
        ConnectionError::LocallyClosed | ConnectionError::CidsExhausted => "protocol",
    };
    Failure::Carrier { reason, text: error.to_string() }
}

/// The alert of TLS in an error code (RFC 9001 §4.8).
fn alert(code: quinn::TransportErrorCode) -> Option<AlertDescription> {
    let code = u64::from(code);
    (0x100..0x200).contains(&code).then(|| u8::try_from(code - 0x100).unwrap_or(u8::MAX)).map(Into::into)
}

/// What Weft did not like.
#[expect(clippy::wildcard_enum_match_arm, reason = "an enum of rustls that grows")]
fn of_us(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::NoApplicationProtocol => "alpn",
        AlertDescription::CertificateRequired => "no_certificate",
        AlertDescription::CertificateRevoked => "revoked",
        AlertDescription::UnknownCA => "unknown_ca",
        AlertDescription::CertificateExpired => "expired",
        AlertDescription::BadCertificate | AlertDescription::CertificateUnknown => "bad_certificate",
        AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion => "incompatible",
        _ => "protocol",
    }
}

/// What the client did not like.
#[expect(clippy::wildcard_enum_match_arm, reason = "an enum of rustls that grows")]
fn of_client(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::DecryptError
        | AlertDescription::CertificateExpired => "refused_by_client",
        _ => "alert",
    }
}
