//! Enhanced authentication with SCRAM-SHA-256 (MQTT 5 §4.12, RFC 5802, RFC 7677).

use access::testing::scram_answer;
use tests::Weft;
use tests::weft::{Setup, passwd};
use tests::wire::{Connect, Property, packet, properties};

use crate::peer::{Peer, V5, hello, name};

const METHOD: u8 = 21;
const DATA: u8 = 22;
const SCRAM: &str = "SCRAM-SHA-256";

/// A Weft with a user alice, whose password is `pencil`.
async fn weft(folder: &tempfile::TempDir) -> Weft {
    let file = folder.path().join("passwd");
    passwd(&file, "alice", Some("pencil"), &["--scram"]).await;
    Setup::new().config(format!("[access]\nanonymous = \"never\"\npassword_file = {file:?}\n")).start().await
}

/// A client that says so, and what it says first.
struct Scram {
    first: &'static str,
    password: &'static str,
}

const ALICE: Scram = Scram { first: "n,,n=alice,r=fyko+d2lbbFgONRv9qkxdawL", password: "pencil" };
const WRONG: Scram = Scram { password: "pen", ..ALICE };

impl Scram {
    fn first(&self) -> Vec<u8> {
        self.first.as_bytes().to_vec()
    }

    /// What the client says last, and what the server has to say then.
    fn last(&self, challenge: &str) -> (Vec<u8>, String) {
        let (last, told) = scram_answer(self.first, challenge, self.password).unwrap();
        (last.into_bytes(), told)
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
