//! SCRAM-SHA-256 at the gate, with a password file and a client of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test code")]

use std::sync::Arc;

use access::testing::scram_answer;
use access::{Access, Change, Options, change};
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

/// Runs a whole exchange.
async fn prove(gate: &Access, user: &str, password: &str) -> Result<(Principal, bool), Reject> {
    let mut exchange = start(gate).expect("the method is there");
    let first = format!("n,,n={user},r=fyko+d2lbbFgONRv9qkxdawL");
    let Step::More(challenge) = exchange.step(Bytes::from(first.clone())).await? else { panic!("too early") };
    let (last, told) = scram_answer(&first, std::str::from_utf8(&challenge).unwrap(), password).unwrap();
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
