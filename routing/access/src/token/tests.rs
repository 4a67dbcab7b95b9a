//! Tokens of every kind, made with keys of the test's own.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, Header, encode, get_current_timestamp};
use serde_json::json;

use super::*;

const SECRET_TEXT: &[u8] = b"0123456789abcdef0123456789abcdef";

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

/// A key pair: what signs, and its public key in PEM.
struct Pair {
    sign: EncodingKey,
    public: String,
}

fn rsa() -> Pair {
    let pair = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).unwrap();
    let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let sign = EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes()).unwrap();
    Pair { sign, public: pem("PUBLIC KEY", public.as_ref()) }
}

fn elliptic(curve: &'static aws_lc_rs::signature::EcdsaSigningAlgorithm) -> Pair {
    let pair = EcdsaKeyPair::generate(curve).unwrap();
    let private = pair.to_pkcs8v1().unwrap();
    let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let sign = EncodingKey::from_ec_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes()).unwrap();
    Pair { sign, public: pem("PUBLIC KEY", public.as_ref()) }
}

fn edwards() -> Pair {
    let pair = Ed25519KeyPair::generate().unwrap();
    let private = pair.to_pkcs8v1().unwrap();
    let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    let sign = EncodingKey::from_ed_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes()).unwrap();
    Pair { sign, public: pem("PUBLIC KEY", public.as_ref()) }
}

fn in_an_hour() -> u64 {
    get_current_timestamp() + 3600
}

fn token(algorithm: Algorithm, kid: Option<&str>, sign: &EncodingKey, claims: &Value) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, claims, sign).unwrap()
}

fn alice() -> Value {
    json!({"sub": "alice", "exp": in_an_hour()})
}

fn user(keys: &Keys, token: &str) -> Result<String, TokenError> {
    verify(&[keys], token, Some("c1"), &JwtOptions::default()).map(|proved| proved.user.to_string())
}

#[test]
fn every_kind_of_key_takes_its_own_algorithms_and_no_other() {
    let (rsa, p256, p384, ed) = (
        rsa(),
        elliptic(&ECDSA_P256_SHA256_FIXED_SIGNING),
        elliptic(&ECDSA_P384_SHA384_FIXED_SIGNING),
        edwards(),
    );
    let secret = EncodingKey::from_secret(SECRET_TEXT);
    let of_secret = Keys::of_secret(SECRET_TEXT).unwrap();
    for algorithm in SECRET {
        assert_eq!(user(&of_secret, &token(algorithm, None, &secret, &alice())).unwrap(), "alice");
    }
    for (pair, algorithms) in [
        (&rsa, &RSA[..]),
        (&p256, &[Algorithm::ES256][..]),
        (&p384, &[Algorithm::ES384][..]),
        (&ed, &[Algorithm::EdDSA][..]),
    ] {
        let keys = Keys::of_pem(&pair.public).unwrap();
        for algorithm in algorithms {
            assert_eq!(
                user(&keys, &token(*algorithm, None, &pair.sign, &alice())).unwrap(),
                "alice",
                "{algorithm:?}"
            );
        }
        // The public key is no secret: who signs with it proves nothing (RFC 8725 §2.1).
        let forged =
            token(Algorithm::HS256, None, &EncodingKey::from_secret(pair.public.as_bytes()), &alice());
        assert!(matches!(user(&keys, &forged), Err(TokenError::Wrong(_))));
        assert!(user(&of_secret, &token(algorithms[0], None, &pair.sign, &alice())).is_err());
    }
    let all = [&rsa, &p256, &p384, &ed].map(|pair| pair.public.clone()).concat();
    let all = Keys::of_pem(&all).unwrap();
    assert_eq!(
        (all.len(), user(&all, &token(Algorithm::EdDSA, None, &ed.sign, &alice())).unwrap().as_str()),
        (4, "alice")
    );
    assert!(
        user(
            &Keys::of_pem(&elliptic(&ECDSA_P256_SHA256_FIXED_SIGNING).public).unwrap(),
            &token(Algorithm::ES256, None, &p256.sign, &alice())
        )
        .is_err()
    );
}

#[test]
fn a_token_without_a_signature_proves_nothing() {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let keys = Keys::of_secret(SECRET_TEXT).unwrap();
    for alg in ["none", "None", "HS256"] {
        let naked = format!("{}.{}.", part(json!({"alg": alg, "typ": "JWT"})), part(alice()));
        assert!(matches!(user(&keys, &naked), Err(TokenError::Wrong(_))), "{alg}");
    }
    for text in ["", "a.b.c", "ey.ey.ey", &"x".repeat(100_000)] {
        assert!(user(&keys, text).is_err());
    }
    let good = token(Algorithm::HS256, None, &EncodingKey::from_secret(SECRET_TEXT), &alice());
    for at in (0..good.len()).filter(|at| good.as_bytes()[*at] != b'.') {
        let mut bad = good.clone().into_bytes();
        bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
        let bad = String::from_utf8(bad).unwrap();
        // The last character of a part has bits that mean nothing.
        assert!(
            bad == good
                || user(&keys, &bad).as_deref() != Ok("alice")
                || good[at + 1..].find('.').unwrap_or(0) == 0
        );
    }
}

#[test]
fn rfc_7519_4_1_claims_are_checked() {
    let sign = EncodingKey::from_secret(SECRET_TEXT);
    let keys = Keys::of_secret(SECRET_TEXT).unwrap();
    let now = get_current_timestamp();
    let options = JwtOptions {
        issuer: "https://id.example".to_owned(),
        audience: vec!["weft".to_owned(), "edge".to_owned()],
        user_claim: "name".to_owned(),
        client_claim: "cid".to_owned(),
        ..JwtOptions::default()
    };
    let good = json!({
        "iss": "https://id.example", "aud": ["edge", "x"], "name": "bob", "cid": "c1", "exp": now + 60, "nbf": now - 60
    });
    let check = |changes: Value, client: Option<&str>| {
        let mut claims = good.clone();
        for (name, value) in changes.as_object().unwrap() {
            let claims = claims.as_object_mut().unwrap();
            if value.is_null() {
                claims.remove(name)
            } else {
                claims.insert(name.clone(), value.clone())
            };
        }
        verify(&[&keys], &token(Algorithm::HS256, None, &sign, &claims), client, &options)
    };
    let proved = Proved { user: Arc::from("bob"), until_ms: (now + 60) * 1000 };
    assert_eq!(check(json!({}), Some("c1")), Ok(proved));
    // Clocks differ.
    assert!(
        check(json!({"exp": now - 20}), Some("c1")).is_ok()
            && check(json!({"nbf": now + 20}), Some("c1")).is_ok()
    );
    for wrong in [
        json!({"exp": now - 40}),
        json!({"exp": null}),
        json!({"exp": "never"}),
        json!({"nbf": now + 40}),
        json!({"iss": "https://evil.example"}),
        json!({"iss": null}),
        json!({"aud": "other"}),
        json!({"aud": null}),
        json!({"name": null}),
        json!({"name": ""}),
        json!({"name": 7}),
    ] {
        assert!(matches!(check(wrong.clone(), Some("c1")), Err(TokenError::Wrong(_))), "{wrong}");
    }
    assert_eq!(check(json!({}), Some("c2")), Err(TokenError::OtherClient));
    assert_eq!(check(json!({"cid": null}), Some("c1")), Err(TokenError::OtherClient));
    assert!(check(json!({}), None).is_ok(), "a request has no client id");
}

#[test]
fn rfc_7517_keys_are_found_by_id() {
    let (old, new) = (elliptic(&ECDSA_P256_SHA256_FIXED_SIGNING), elliptic(&ECDSA_P256_SHA256_FIXED_SIGNING));
    let jwk = |pair: &Pair, kid: &str, changes: Value| {
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&pair.sign, Algorithm::ES256).unwrap()).unwrap();
        let object = jwk.as_object_mut().unwrap();
        object.insert("kid".to_owned(), json!(kid));
        object.extend(changes.as_object().unwrap().clone());
        jwk
    };
    let set = |keys: Value| Keys::of_jwks(json!({"keys": keys}).to_string().as_bytes());
    let keys = set(json!([
        jwk(&old, "old", json!({})),
        {"kty": "future", "kid": "x"},
        jwk(&new, "new", json!({"use": "sig"})),
        jwk(&new, "enc", json!({"use": "enc"})),
    ]))
    .unwrap();
    assert_eq!(keys.len(), 2);
    let made = |kid, pair: &Pair| token(Algorithm::ES256, kid, &pair.sign, &alice());
    assert_eq!(user(&keys, &made(Some("new"), &new)).unwrap(), "alice");
    assert_eq!(user(&keys, &made(None, &old)).unwrap(), "alice");
    assert!(matches!(user(&keys, &made(Some("old"), &new)), Err(TokenError::Wrong(_))));
    assert_eq!(
        user(&keys, &made(Some("newer"), &new)),
        Err(TokenError::UnknownKey(Some("newer".to_owned())))
    );
    let mixed = set(json!([jwk(&old, "old", json!({"alg": "RS256"}))]));
    assert!(mixed.unwrap_err().contains("no usable key"));
    assert!(set(json!([])).is_err() && Keys::of_jwks(b"{}").is_err() && Keys::of_jwks(b"x").is_err());
}

#[test]
fn files_that_cannot_be_right_are_named() {
    assert!(Keys::of_secret(b"short\n").unwrap_err().contains("at least 32"));
    assert!(Keys::of_pem("").unwrap_err().contains("no public key"));
    let private = pem("PRIVATE KEY", b"x");
    assert!(Keys::of_pem(&private).unwrap_err().contains("public key"));
    assert!(Keys::of_pem(&pem("PUBLIC KEY", b"x")).unwrap_err().contains("RSA, EC or Ed25519"));
    assert!(Keys::of_pem("-----BEGIN PUBLIC KEY-----\n").unwrap_err().contains("no end"));
    assert!(is_like(b"eyJ.x.y") && !is_like(b"secret") && !is_like(b"ey.x"));
}
