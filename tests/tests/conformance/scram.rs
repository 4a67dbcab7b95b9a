//! Enhanced authentication with SCRAM-SHA-256 (MQTT 5 §4.12, RFC 5802, RFC 7677).

use std::num::NonZeroU32;
use std::process::Stdio;

use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tests::Weft;
use tests::weft::{Setup, program};
use tests::wire::{Connect, Property, packet, properties};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::peer::{Peer, V5, hello, name};

const METHOD: u8 = 21;
const DATA: u8 = 22;
const SCRAM: &str = "SCRAM-SHA-256";

/// A Weft with a user alice, whose password is `pencil`.
async fn weft(folder: &tempfile::TempDir) -> Weft {
    let file = folder.path().join("passwd");
    let mut command = Command::new(program());
    command.arg("passwd").arg("--scram").arg(&file).arg("alice").stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"pencil\n").await.unwrap();
    assert!(child.wait().await.unwrap().success());
    Setup::new().config(format!("[access]\nanonymous = \"never\"\npassword_file = {file:?}\n")).start().await
}

/// A client that says so, and what it says first.
struct Scram {
    first: &'static str,
    password: &'static str,
}

const ALICE: Scram = Scram { first: "n=alice,r=fyko+d2lbbFgONRv9qkxdawL", password: "pencil" };
const WRONG: Scram = Scram { password: "pen", ..ALICE };

fn sign(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

impl Scram {
    fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.first).into_bytes()
    }

    /// What the client says last, and what the server has to say then.
    fn last(&self, challenge: &str) -> (Vec<u8>, String) {
        let part = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).unwrap();
        let (salt, iterations): (_, NonZeroU32) =
            (BASE64.decode(part("s=")).unwrap(), part("i=").parse().unwrap());
        let mut salted = [0; 32];
        let password = self.password.as_bytes();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password, &mut salted);
        let key = sign(&salted, "Client Key");
        let stored = digest::digest(&digest::SHA256, &key);
        let last = format!("c=biws,r={}", part("r="));
        let signed = format!("{},{challenge},{last}", self.first);
        let proof: Vec<u8> = sign(stored.as_ref(), &signed).iter().zip(&key).map(|(a, b)| a ^ b).collect();
        let told = sign(&sign(&salted, "Server Key"), &signed);
        (format!("{last},p={}", BASE64.encode(proof)).into_bytes(), format!("v={}", BASE64.encode(told)))
    }
}

/// AUTH with a method and data.
fn auth(code: u8, method: &str, data: Vec<u8>) -> Vec<u8> {
    let list = properties(&[Property::Text(METHOD, method.into()), Property::Data(DATA, data)]);
    packet(0xf0, &[&[code], &*list].concat())
}

/// What the last packet says by the method, which it has to name.
fn said(peer: &Peer) -> String {
    assert!(peer.properties.contains(&Property::Text(METHOD, SCRAM.into())), "{:?}", peer.properties);
    let data = peer.properties.iter().find_map(|property| match property {
        Property::Data(DATA, data) => Some(data.clone()),
        _ => None,
    });
    String::from_utf8(data.unwrap()).unwrap()
}

fn connect(scram: &Scram) -> Connect {
    let hello = hello(V5, &name());
    hello.with(Property::Text(METHOD, SCRAM.into())).with(Property::Data(DATA, scram.first()))
}

/// A client that was let in.
async fn enter(weft: &Weft) -> Peer {
    let mut peer = Peer::open_at(weft.mqtt, V5).await;
    peer.send(&connect(&ALICE).encode()).await;
    peer.says("AUTH 0x18").await;
    let (last, told) = ALICE.last(&said(&peer));
    peer.send(&auth(0x18, SCRAM, last)).await;
    peer.says("CONNACK 0x00").await;
    assert_eq!(said(&peer), told, "the server proves that it knows the password");
    peer
}

#[tokio::test]
async fn mqtt_4_12_0_2_3_5_auth_goes_to_and_fro_and_names_the_method() {
    let folder = tempfile::tempdir().unwrap();
    let weft = weft(&folder).await;
    let mut peer = enter(&weft).await;
    peer.subscribe("a", 0).await;
    // In the middle, another reason code or method is no answer.
    for wrong in [auth(0x19, SCRAM, vec![1]), auth(0, SCRAM, vec![1]), auth(0x18, "other", vec![1])] {
        let mut peer = Peer::open_at(weft.mqtt, V5).await;
        peer.send(&connect(&ALICE).encode()).await;
        peer.says("AUTH 0x18").await;
        peer.send(&wrong).await;
        let answer = peer.next().await;
        let refused = answer.starts_with("CONNACK 0x8") || answer.starts_with("DISCONNECT 0x8");
        assert!(refused || answer == "END", "{answer}");
    }
}

#[tokio::test]
async fn mqtt_4_12_0_4_a_proof_that_fails_closes() {
    let folder = tempfile::tempdir().unwrap();
    let weft = weft(&folder).await;
    let mut peer = Peer::open_at(weft.mqtt, V5).await;
    peer.send(&connect(&WRONG).encode()).await;
    peer.says("AUTH 0x18").await;
    let (last, _) = WRONG.last(&said(&peer));
    peer.send(&auth(0x18, SCRAM, last)).await;
    peer.says("CONNACK 0x87").await;
    peer.says("END").await;
}

#[tokio::test]
async fn mqtt_4_12_1_1_a_client_may_prove_itself_again_by_the_same_method() {
    let folder = tempfile::tempdir().unwrap();
    let weft = weft(&folder).await;
    let mut peer = enter(&weft).await;
    peer.send(&auth(0x19, SCRAM, ALICE.first())).await;
    peer.says("AUTH 0x18").await;
    let (last, told) = ALICE.last(&said(&peer));
    // The client goes on meanwhile.
    peer.subscribe("a", 0).await;
    peer.send(&auth(0x18, SCRAM, last)).await;
    peer.says("AUTH 0x00").await;
    assert_eq!(said(&peer), told);
    peer.ping().await;
    peer.send(&auth(0x19, "other", ALICE.first())).await;
    peer.closed(&[0x82, 0x87, 0x8c]).await;
}

#[tokio::test]
async fn mqtt_4_12_1_2_if_that_fails_the_connection_closes() {
    let folder = tempfile::tempdir().unwrap();
    let weft = weft(&folder).await;
    let mut peer = enter(&weft).await;
    peer.send(&auth(0x19, SCRAM, WRONG.first())).await;
    peer.says("AUTH 0x18").await;
    let (last, _) = WRONG.last(&said(&peer));
    peer.send(&auth(0x18, SCRAM, last)).await;
    peer.closed(&[0x87]).await;
}
