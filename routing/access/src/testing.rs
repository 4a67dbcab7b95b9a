//! What tests of SCRAM-SHA-256 need: a client's side of it (RFC 5802 §3), without channel binding.

use std::num::NonZeroU32;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// What a client says to `challenge`, and what the server has to say then. `first` is what the client said first. `None`: it
/// is no challenge.
pub fn scram_answer(first: &str, challenge: &str, password: &str) -> Option<(String, String)> {
    let part = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name));
    let (salt, iterations): (_, NonZeroU32) = (BASE64.decode(part("s=")?).ok()?, part("i=")?.parse().ok()?);
    let mut salted = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut salted);
    let key = sign(&salted, "Client Key");
    let stored = digest::digest(&digest::SHA256, &key);
    let last = format!("c=biws,r={}", part("r=")?);
    let signed = format!("{},{challenge},{last}", first.strip_prefix("n,,")?);
    let proof: Vec<u8> = sign(stored.as_ref(), &signed).iter().zip(&key).map(|(a, b)| a ^ b).collect();
    let told = sign(&sign(&salted, "Server Key"), &signed);
    Some((format!("{last},p={}", BASE64.encode(proof)), format!("v={}", BASE64.encode(told))))
}

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}
