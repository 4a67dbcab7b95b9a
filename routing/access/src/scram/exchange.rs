//! The server's half of an exchange (RFC 5802 §5, RFC 7677), without channel binding. Sans-io.
//!
//! ```text
//! client  n,,n=user,r=CLIENTNONCE
//! server  r=CLIENTNONCE SERVERNONCE,s=SALT,i=ITERATIONS
//! client  c=biws,r=CLIENTNONCE SERVERNONCE,p=PROOF
//! server  v=SIGNATURE
//! ```

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::{ScramSecret, sign};

/// Why an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// Not what RFC 5802 §7 says.
    #[error("[RFC 5802 §7] the message is not one of SCRAM")]
    Syntax,
    /// The client wants its channel bound.
    #[error("[RFC 5802 §6] channel binding is not offered")]
    ChannelBinding,
    /// The client wants to act for another user.
    #[error("[RFC 5802 §5.1] the authorization identity is another user")]
    OtherIdentity,
    /// An attribute that has to be understood.
    #[error("[RFC 5802 §5.1] an extension that is not known")]
    Extension,
    /// Of another exchange.
    #[error("[RFC 5802 §5.1] the nonce or the channel binding is not the one of this exchange")]
    Mismatch,
    /// The password is not the user's.
    #[error("the proof is wrong")]
    Proof,
}

/// What the client says first: who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirst {
    user: String,
    /// The part before `bare`.
    header: String,
    bare: String,
    nonce: String,
}

impl ClientFirst {
    /// Reads the message.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(message: &[u8]) -> Result<Self, ScramError> {
        let text = std::str::from_utf8(message).map_err(|_| ScramError::Syntax)?;
        let (binding, rest) = text.split_once(',').ok_or(ScramError::Syntax)?;
        match binding {
            // "y": the client could, and thinks that we cannot. It is right.
            "n" | "y" => {}
            _ if binding.starts_with("p=") => return Err(ScramError::ChannelBinding),
            _ => return Err(ScramError::Syntax),
        }
        let (identity, bare) = rest.split_once(',').ok_or(ScramError::Syntax)?;
        let mut parts = bare.split(',');
        let mut next = |name: &str| parts.next().and_then(|part| part.strip_prefix(name));
        if bare.starts_with("m=") {
            return Err(ScramError::Extension);
        }
        let user = unescape(next("n=").ok_or(ScramError::Syntax)?)?;
        let nonce = next("r=").filter(|nonce| is_nonce(nonce)).ok_or(ScramError::Syntax)?;
        if !identity.is_empty() {
            let other = unescape(identity.strip_prefix("a=").ok_or(ScramError::Syntax)?)?;
            if other != user {
                return Err(ScramError::OtherIdentity);
            }
        }
        let header = text.get(..text.len() - bare.len()).unwrap_or_default();
        Ok(Self { user, header: header.to_owned(), bare: bare.to_owned(), nonce: nonce.to_owned() })
    }

    /// The name of the user.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Goes on with the secret of this user. `nonce`: printable, without comma, never used before.
    pub fn challenge(&self, secret: ScramSecret, nonce: &str) -> Challenge {
        let nonce = format!("{}{nonce}", self.nonce);
        let (salt, iterations) = (BASE64.encode(&secret.salt), secret.iterations);
        let text = format!("r={nonce},s={salt},i={iterations}");
        let before = format!("{},{text},", self.bare);
        Challenge { text, before, nonce, binding: BASE64.encode(&self.header), secret }
    }
}

/// What the client has to answer.
#[derive(Clone, Debug)]
pub struct Challenge {
    text: String,
    /// What is signed, before the client's last message.
    before: String,
    nonce: String,
    /// What the client has to repeat of its header.
    binding: String,
    secret: ScramSecret,
}

impl Challenge {
    /// The message for the client.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Checks the client's answer; our own proof, for the client.
    ///
    /// # Errors
    /// The answer is not one, or not of this user.
    pub fn verify(&self, answer: &[u8]) -> Result<String, ScramError> {
        let text = std::str::from_utf8(answer).map_err(|_| ScramError::Syntax)?;
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramError::Syntax)?;
        let mut parts = without_proof.split(',');
        let mut next = |name: &str| parts.next().and_then(|part| part.strip_prefix(name));
        let (binding, nonce) = (next("c=").ok_or(ScramError::Syntax)?, next("r=").ok_or(ScramError::Syntax)?);
        if binding != self.binding || nonce != self.nonce {
            return Err(ScramError::Mismatch);
        }
        let proof: [u8; 32] =
            BASE64.decode(proof).ok().and_then(|proof| proof.try_into().ok()).ok_or(ScramError::Syntax)?;
        let signed = format!("{}{without_proof}", self.before);
        let mut key = sign(&self.secret.stored_key, signed.as_bytes());
        key.iter_mut().zip(proof).for_each(|(byte, other)| *byte ^= other);
        let stored = digest::digest(&digest::SHA256, &key);
        verify_slices_are_equal(stored.as_ref(), &self.secret.stored_key).map_err(|_| ScramError::Proof)?;
        Ok(format!("v={}", BASE64.encode(sign(&self.secret.server_key, signed.as_bytes()))))
    }
}

/// `=2C` is a comma, `=3D` an equals sign (RFC 5802 §5.1).
fn unescape(name: &str) -> Result<String, ScramError> {
    let mut out = String::with_capacity(name.len());
    let mut parts = name.split('=');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (byte, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (_, Some(rest)) => ('=', rest),
            (None, None) => return Err(ScramError::Syntax),
        };
        out.push(byte);
        out.push_str(rest);
    }
    Some(out).filter(|name| !name.is_empty()).ok_or(ScramError::Syntax)
}

fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn challenge(first: &[u8]) -> Challenge {
        let salt = BASE64.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let secret = ScramSecret::derive(b"pencil", &salt, NonZeroU32::new(4096).unwrap());
        ClientFirst::parse(first).unwrap().challenge(secret, NONCE)
    }

    #[test]
    fn rfc_7677_3_the_example_goes_like_this() {
        let challenge = challenge(FIRST);
        let text = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(challenge.text(), text);
        let told = challenge.verify(FINAL.as_bytes());
        assert_eq!(told.as_deref(), Ok("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
    }

    #[test]
    fn wrong_answers_prove_nothing() {
        let verify = |text: &str| challenge(FIRST).verify(text.as_bytes());
        assert_eq!(verify(&FINAL.replace("p=dH", "p=eH")), Err(ScramError::Proof));
        assert_eq!(verify(&FINAL.replace("c=biws", "c=eSws")), Err(ScramError::Mismatch));
        assert_eq!(verify(&FINAL.replace("k0,", "k1,")), Err(ScramError::Mismatch));
        assert_eq!(verify("c=biws,r=x"), Err(ScramError::Syntax));
        assert_eq!(verify(&FINAL.replace("VQ=", "V")), Err(ScramError::Syntax));
        assert_eq!(verify(&FINAL.replace("k0,", "k0,x=1,")), Err(ScramError::Proof), "it is signed");
        // A header that was changed on the way is found.
        assert_eq!(
            challenge(b"y,,n=user,r=rOprNGfwEbeRWgbNEkqO").verify(FINAL.as_bytes()),
            Err(ScramError::Mismatch)
        );
    }

    #[test]
    fn first_messages_are_read_or_refused() {
        let user = |text: &str| ClientFirst::parse(text.as_bytes()).map(|first| first.user);
        assert_eq!(user("n,,n=a=2Cb=3Dc,r=x,ext=1").as_deref(), Ok("a,b=c"));
        assert_eq!(user("y,a=me,n=me,r=x").as_deref(), Ok("me"));
        assert_eq!(user("n,a=you,n=me,r=x"), Err(ScramError::OtherIdentity));
        assert_eq!(user("p=tls-exporter,,n=me,r=x"), Err(ScramError::ChannelBinding));
        assert_eq!(user("n,,m=1,n=me,r=x"), Err(ScramError::Extension));
        for text in [
            "",
            "n",
            "n,",
            "n,,",
            "x,,n=a,r=b",
            "n,,n=a",
            "n,,r=b,n=a",
            "n,,n=a=2X,r=b",
            "n,,n=,r=b",
            "n,,n=a,r=",
            "n,b,n=a,r=x",
        ] {
            assert_eq!(user(text), Err(ScramError::Syntax), "{text}");
        }
        assert_eq!(ClientFirst::parse(&[0xff]), Err(ScramError::Syntax));
    }
}
