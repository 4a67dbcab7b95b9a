//! Tokens (JWT, RFC 7519): keys, and who a token proves. Each key takes the algorithms of its own kind only, so that no
//! token can choose how it is checked (RFC 8725 §3.1); `none` is no algorithm here.

use std::str::FromStr as _;
use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use crate::options::JwtOptions;

/// The keys that tokens are checked with.
#[derive(Clone, Default)]
pub(crate) struct Keys(Vec<Key>);

#[derive(Clone)]
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// What a token proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proved {
    pub(crate) user: Arc<str>,
    /// When it expires, milliseconds since 1970.
    pub(crate) until_ms: u64,
}

/// What is wrong with a token, for the operator's eyes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// No key has this id: there may be newer keys.
    #[error("no key for kid {0:?}")]
    UnknownKey(Option<String>),
    /// It proves nothing.
    #[error("{0}")]
    Wrong(String),
    /// It is for a client of another name.
    #[error("the token is for another client id")]
    OtherClient,
}

const SECRET: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: [Algorithm; 6] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];
const ELLIPTIC: [Algorithm; 2] = [Algorithm::ES256, Algorithm::ES384];

/// RFC 7518 §3.2 asks for as many bits as the hash has; shorter ones are guessed from one token.
const SECRET_BYTES_MIN: usize = 32;

/// Tokens are below 2 KiB; this bounds what a stranger makes us read.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// How many keys of one id, or of none, are tried.
const TRIES_MAX: usize = 8;

impl Keys {
    /// A shared secret: its bytes as they are, without a line end.
    pub(crate) fn of_secret(text: &[u8]) -> Result<Self, String> {
        let secret = text.strip_suffix(b"\n").unwrap_or(text);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        if secret.len() < SECRET_BYTES_MIN {
            return Err(format!(
                "the secret has {} bytes; at least {SECRET_BYTES_MIN} are needed",
                secret.len()
            ));
        }
        let key = DecodingKey::from_secret(secret);
        Ok(Self(vec![Key { id: None, algorithms: SECRET.to_vec(), key }]))
    }

    /// Public keys in PEM: RSA, EC (P-256, P-384) or Ed25519.
    pub(crate) fn of_pem(text: &str) -> Result<Self, String> {
        const END: &str = "-----END ";
        let mut keys = Vec::new();
        let mut rest = text;
        while let Some(begin) = rest.find("-----BEGIN ") {
            let from = rest.get(begin..).unwrap_or_default();
            let end = from
                .find(END)
                .and_then(|end| Some(end + END.len() + from.get(end + END.len()..)?.find("-----")? + 5));
            let end = end.ok_or("a PEM block has no end")?;
            let (block, tail) = from.split_at(end);
            if block.contains("PRIVATE KEY") {
                return Err(
                    "a private key has no place here: whoever issues tokens keeps it; give its public key"
                        .to_owned(),
                );
            }
            keys.push(of_pem_block(block.as_bytes())?);
            rest = tail;
        }
        if keys.is_empty() { Err("no public key in PEM".to_owned()) } else { Ok(Self(keys)) }
    }

    /// A set of keys (JWKS, RFC 7517 §5). Keys that are not for signatures, or of unknown kinds, are left out.
    pub(crate) fn of_jwks(text: &[u8]) -> Result<Self, String> {
        let list: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| format!("not a JWKS: {error}"))?;
        let Some(Value::Array(list)) = list.get("keys") else {
            return Err("not a JWKS: it has no list keys".to_owned());
        };
        // One by one: a key of a kind that is not known does not spoil the others.
        let known = list.iter().filter_map(|key| serde_json::from_value::<Jwk>(key.clone()).ok());
        let set = JwkSet { keys: known.collect() };
        let keys: Vec<Key> = set.keys.iter().filter_map(of_jwk).collect();
        if keys.is_empty() {
            Err("no usable key for signatures in the JWKS".to_owned())
        } else {
            Ok(Self(keys))
        }
    }

    pub(crate) fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.iter().cloned());
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Tells how many, and no secret.
impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

/// Who `token` proves, by one of all these keys; `client`: the client id that asks, if it chose one itself.
pub(crate) fn verify(
    sets: &[&Keys],
    token: &str,
    client: Option<&str>,
    options: &JwtOptions,
) -> Result<Proved, TokenError> {
    let wrong = |what: &str| TokenError::Wrong(what.to_owned());
    if token.len() > TOKEN_BYTES_MAX {
        return Err(wrong("the token is too large"));
    }
    let header = decode_header(token).map_err(|error| wrong(&error.to_string()))?;
    let has_id = |key: &&Key| header.kid.is_none() || key.id.is_none() || key.id == header.kid;
    let mut candidates = sets.iter().flat_map(|keys| &keys.0).filter(has_id).peekable();
    if candidates.peek().is_none() {
        return Err(TokenError::UnknownKey(header.kid.clone()));
    }
    let candidates = candidates.filter(|key| key.algorithms.contains(&header.alg));
    let mut last = wrong(&format!("no key takes the algorithm {:?}", header.alg));
    let validation = validation(header.alg, options);
    for key in candidates.take(TRIES_MAX) {
        match decode::<Map<String, Value>>(token, &key.key, &validation) {
            Ok(found) => return proved(&found.claims, client, options),
            Err(error) => last = wrong(&error.to_string()),
        }
    }
    Err(last)
}

/// Whether a password looks like a token: three parts of base64url, the first of which is JSON.
pub(crate) fn is_like(text: &[u8]) -> bool {
    text.starts_with(b"ey") && text.iter().filter(|byte| **byte == b'.').count() == 2
}

fn validation(algorithm: Algorithm, options: &JwtOptions) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = u64::from(options.leeway_s);
    validation.validate_nbf = true;
    let mut required = vec!["exp"];
    if !options.issuer.is_empty() {
        validation.set_issuer(&[&options.issuer]);
        required.push("iss");
    }
    validation.validate_aud = !options.audience.is_empty();
    if !options.audience.is_empty() {
        validation.set_audience(&options.audience);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    validation
}

fn proved(
    claims: &Map<String, Value>,
    client: Option<&str>,
    options: &JwtOptions,
) -> Result<Proved, TokenError> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let user = text(&options.user_claim)
        .ok_or_else(|| TokenError::Wrong(format!("the claim {} is no text", options.user_claim)))?;
    if let Some(client) = client.filter(|_| !options.client_claim.is_empty())
        && text(&options.client_claim) != Some(client)
    {
        return Err(TokenError::OtherClient);
    }
    // RFC 7519 §2: seconds, perhaps with a fraction.
    let exp = claims
        .get("exp")
        .and_then(|exp| exp.as_u64().or_else(|| exp.as_f64().map(|exp| exp.max(0.0) as u64)));
    let until_ms = exp.unwrap_or(0).saturating_mul(1000);
    Ok(Proved { user: Arc::from(user), until_ms })
}

fn of_pem_block(block: &[u8]) -> Result<Key, String> {
    let key = |algorithms: &[Algorithm], key| Key { id: None, algorithms: algorithms.to_vec(), key };
    let rsa = DecodingKey::from_rsa_pem(block).map(|found| key(&RSA, found));
    let elliptic = |_| DecodingKey::from_ec_pem(block).map(|found| key(&ELLIPTIC, found));
    let edwards = |_| DecodingKey::from_ed_pem(block).map(|found| key(&[Algorithm::EdDSA], found));
    let found = rsa.or_else(elliptic).or_else(edwards);
    found.map_err(|_| "a PEM block is no public key of RSA, EC or Ed25519".to_owned())
}

fn of_jwk(jwk: &Jwk) -> Option<Key> {
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    // Both enums grow with the library: what is not named here is no key for us.
    #[expect(clippy::wildcard_enum_match_arm, reason = "enums of a library that grow")]
    let kind: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => &RSA,
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => &[Algorithm::ES256],
            EllipticCurve::P384 => &[Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(_) => &[Algorithm::EdDSA],
        AlgorithmParameters::OctetKey(_) => &SECRET,
        _ => return None,
    };
    let algorithms = match jwk.common.key_algorithm {
        None => kind.to_vec(),
        // The set may say which one; another kind's would be a mix-up.
        Some(one) => {
            let one = Algorithm::from_str(&one.to_string()).ok()?;
            kind.contains(&one).then(|| vec![one])?
        }
    };
    Some(Key { id: jwk.common.key_id.clone(), algorithms, key: DecodingKey::from_jwk(jwk).ok()? })
}

#[cfg(test)]
mod tests;
