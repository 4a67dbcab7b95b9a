//! Signatures of requests (ACL): which access key asks, and proof that its secret is known.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytestring::ByteString;
use hmac::digest::InvalidLength;
use hmac::{Hmac, Mac};
use parts::{File, FileError};
use remoting::Command;
use sha1::Sha1;

/// Signs requests to brokers. Name servers take unsigned ones.
#[derive(Clone)]
pub(crate) struct Signer {
    access_key: ByteString,
    /// Keyed with the secret.
    mac: Hmac<Sha1>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("access_key", &self.access_key).finish_non_exhaustive()
    }
}

impl Signer {
    /// That of an access key, with the secret in `file`.
    pub(crate) fn of(access_key: &str, file: &File) -> Result<Self, FileError> {
        Self::new(access_key, file.text()?).map_err(|error| file.wrong(error))
    }

    fn new(access_key: &str, secret: &str) -> Result<Self, InvalidLength> {
        Ok(Self { access_key: access_key.into(), mac: Hmac::new_from_slice(secret.as_bytes())? })
    }

    /// Adds the access key and the signature: of all header values in the order of their names, then the body.
    pub(crate) fn sign(&self, request: &mut Command) {
        request.fields.push((ByteString::from_static("AccessKey"), self.access_key.clone()));
        let mut fields: Vec<_> = request.fields.iter().collect();
        fields.sort_by_key(|(name, _)| name);
        let mut mac = self.mac.clone();
        for (_, value) in fields {
            mac.update(value.as_bytes());
        }
        mac.update(&request.body);
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        request.fields.push((ByteString::from_static("Signature"), signature.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_signed_in_the_order_of_their_names() {
        let signer = Signer::new("rmqtest", "rmqtest-secret").unwrap();
        let body = bytes::Bytes::from_static(b"hello");
        let mut request = Command::request(310).with("b", "Topic").with("a", "group").with_body(body);
        signer.sign(&mut request);
        assert_eq!(request.field("AccessKey"), Some("rmqtest"));
        // HMAC-SHA1("rmqtest-secret", "rmqtest" "group" "Topic" "hello"), computed with openssl.
        assert_eq!(request.field("Signature"), Some("Dh7GNe3HSKSjvTEMpA63Q8+Ux7Q="));
    }

    #[test]
    fn the_secret_is_not_shown() {
        assert!(!format!("{:?}", Signer::new("a", "hidden").unwrap()).contains("hidden"));
    }
}
