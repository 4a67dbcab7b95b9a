//! SCRAM-SHA-256 (RFC 5802, RFC 7677): what is kept for a user, and the exchange. Sans-io.

mod exchange;

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

pub use exchange::{Challenge, ClientFirst, ScramError};

/// What is kept for a user (RFC 5802 §3): enough to check a proof, not to make one.
///
/// As text it is `SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY`, the last three in base64: PostgreSQL's way.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramSecret {
    /// How often the password is hashed.
    pub iterations: NonZeroU32,
    /// The salt.
    pub salt: Box<[u8]>,
    /// The hash of the client's key.
    pub stored_key: [u8; 32],
    /// The key we sign with.
    pub server_key: [u8; 32],
}

/// The hash's name in front of a secret's text.
const NAME: &str = "SCRAM-SHA-256$";

/// Iterations of new secrets: more than RFC 7677 §4 asks for, and still below 10 ms for a small client.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(15_000).unwrap();

impl ScramSecret {
    /// The secret of `password`, which is UTF-8 and used as it is.
    pub fn derive(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = [0; 32];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, &mut salted);
        let client_key = sign(&salted, b"Client Key");
        let mut stored_key = [0; 32];
        stored_key.copy_from_slice(digest::digest(&digest::SHA256, &client_key).as_ref());
        Self { iterations, salt: salt.into(), stored_key, server_key: sign(&salted, b"Server Key") }
    }

    /// The secret of `password` with a new salt.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new(password: &[u8]) -> Result<Self, &'static str> {
        let mut salt = [0; 16];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| "the system has no random numbers")?;
        Ok(Self::derive(password, &salt, ITERATIONS))
    }

    /// A secret whose password nobody has, made of `seed`, with the iterations of `like`.
    pub(crate) fn decoy(seed: [u8; 32], like: Option<&Self>) -> Self {
        let salt = seed.first_chunk::<16>().copied().unwrap_or_default();
        let iterations = like.map_or(ITERATIONS, |like| like.iterations);
        let key = sign(&seed, b"decoy");
        Self { iterations, salt: salt.into(), stored_key: key, server_key: key }
    }

    /// Reads the text.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, keys) = text.strip_prefix(NAME)?.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let key = |text: &str| BASE64.decode(text).ok()?.try_into().ok();
        Some(Self {
            iterations: iterations.parse().ok()?,
            salt: BASE64.decode(salt).ok()?.into(),
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }

    /// Whether `password` is the one. Takes as long as deriving it.
    pub fn is_of(&self, password: &[u8]) -> bool {
        let other = Self::derive(password, &self.salt, self.iterations);
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.stored_key, &other.stored_key).is_ok()
    }
}

impl std::fmt::Display for ScramSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (salt, stored, server) =
            (BASE64.encode(&self.salt), BASE64.encode(self.stored_key), BASE64.encode(self.server_key));
        write!(f, "{NAME}{}:{salt}${stored}:{server}", self.iterations)
    }
}

/// Says no more than that it is one: it must not get into logs.
impl std::fmt::Debug for ScramSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ScramSecret")
    }
}

fn sign(key: &[u8], text: &[u8]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut out = [0; 32];
    out.copy_from_slice(hmac::sign(&key, text).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_7677_3_the_example_has_these_keys() {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let secret = ScramSecret::derive(b"pencil", &salt, NonZeroU32::new(4096).unwrap());
        // As PostgreSQL has them for the RFC's example.
        let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:\
                    wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
        assert_eq!(secret.to_string(), text);
        assert_eq!(ScramSecret::parse(text), Some(secret.clone()));
        assert!(secret.is_of(b"pencil") && !secret.is_of(b"pen"));
    }

    #[test]
    fn other_texts_are_none() {
        for text in
            ["", "SCRAM-SHA-256$", "SCRAM-SHA-256$0:AA==$AA==:AA==", "SCRAM-SHA-1$4096:AA==$AA==:AA=="]
        {
            assert_eq!(ScramSecret::parse(text), None, "{text}");
        }
    }
}
