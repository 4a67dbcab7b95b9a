//! SCRAM-SHA-256 at the gate, with a password file and a client of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

use std::num::NonZeroU32;
use std::sync::Arc;

use access::{Access, Change, Options, change};
use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use event::access::{Asking, Credentials, Exchange, Gate, Source, Step};
use event::{Health, Principal, Reject, RejectKind};

const METHOD: &str = "SCRAM-SHA-256";

/// A gate with one user, who has a SCRAM secret.
fn gate(scram: bool) -> (Access, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("users");
    let text = change("", "alice", Change::Set { password: b"pencil", scram }).unwrap();
    std::fs::write(&file, text).unwrap();
    let options = Options { password_file: file, ..Options::default() };
    (Access::open(options, [], Health::default()).unwrap(), folder)
}

fn start(gate: &Access) -> Option<Box<dyn Exchange>> {
    let source = Source { address: ([10, 0, 0, 1], 1).into(), listener: "l".into(), certificate: None };
    gate.exchange(Asking { client: "c".into(), source, credentials: Credentials::None }, METHOD)
}

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

/// What the client says last, and what the server has to say then.
fn answer(first: &str, challenge: &str, password: &str) -> (String, String) {
    let part = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
    let (salt, iterations): (_, NonZeroU32) =
        (BASE64.decode(part("s=")).unwrap(), part("i=").parse().unwrap());
    let mut salted = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut salted);
    let key = sign(&salted, "Client Key");
    let stored = digest::digest(&digest::SHA256, &key);
    let last = format!("c=biws,r={}", part("r="));
    let signed = format!("{},{challenge},{last}", first.strip_prefix("n,,").unwrap());
    let proof: Vec<u8> = sign(stored.as_ref(), &signed).iter().zip(&key).map(|(a, b)| a ^ b).collect();
    let told = sign(&sign(&salted, "Server Key"), &signed);
    (format!("{last},p={}", BASE64.encode(proof)), format!("v={}", BASE64.encode(told)))
}

/// Runs a whole exchange.
async fn prove(gate: &Access, user: &str, password: &str) -> Result<(Principal, bool), Reject> {
    let mut exchange = start(gate).expect("the method is there");
    let first = format!("n,,n={user},r=fyko+d2lbbFgONRv9qkxdawL");
    let Step::More(challenge) = exchange.step(Bytes::from(first.clone())).await? else { panic!("too early") };
    let (last, told) = answer(&first, std::str::from_utf8(&challenge).unwrap(), password);
    let Step::Done(who, said) = exchange.step(Bytes::from(last)).await? else { panic!("too long") };
    Ok((who, said == told.as_bytes()))
}

#[tokio::test]
async fn a_user_with_a_secret_proves_its_password_and_the_server_its_own() {
    let (gate, _folder) = gate(true);
    let (who, told) = prove(&gate, "alice", "pencil").await.unwrap();
    assert_eq!((who.user, told), (Some(Arc::from("alice")), true));
}

#[tokio::test]
async fn a_wrong_password_and_a_user_that_is_not_there_fail_alike() {
    let (gate, _folder) = gate(true);
    for (user, password) in [("alice", "pen"), ("bob", "pencil")] {
        assert_eq!(prove(&gate, user, password).await.unwrap_err().kind, RejectKind::Unproved);
    }
    let challenge = async || {
        let Step::More(text) = start(&gate).unwrap().step(Bytes::from_static(b"n,,n=bob,r=x")).await.unwrap()
        else {
            panic!("a challenge")
        };
        String::from_utf8(text.to_vec()).unwrap().split_once(',').unwrap().1.to_owned()
    };
    assert_eq!(challenge().await, challenge().await, "the salt does not change");
}

#[tokio::test]
async fn a_client_may_name_the_method_first_and_speak_when_asked() {
    let (gate, _folder) = gate(true);
    let mut exchange = start(&gate).unwrap();
    assert!(matches!(exchange.step(Bytes::new()).await, Ok(Step::More(data)) if data.is_empty()));
    assert!(matches!(exchange.step(Bytes::from_static(b"n,,n=alice,r=x")).await, Ok(Step::More(_))));
    assert!(start(&gate).unwrap().step(Bytes::from_static(b"hello")).await.is_err());
}

#[tokio::test]
async fn too_many_wrong_proofs_have_to_wait() {
    let (gate, _folder) = gate(true);
    let mut kinds = Vec::new();
    for _ in 0..40 {
        kinds.push(prove(&gate, "bob", "x").await.unwrap_err().kind);
    }
    assert_eq!((kinds[0], kinds[39]), (RejectKind::Unproved, RejectKind::Busy));
}

#[tokio::test]
async fn without_a_secret_in_the_file_there_is_no_such_method() {
    let (gate, _folder) = gate(false);
    assert!(start(&gate).is_none());
}
