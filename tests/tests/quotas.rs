//! Quotas: each protocol says with its own code that one is reached.

use serde_json::{Value, json};
use tests::Weft;
use tests::eventmesh_grpc::{GrpcEvent, GrpcPeer};
use tests::raw::Client;
use tests::util::free_address;
use tests::weft::Setup;
use tests::wire::{Connect, Packet};

async fn post(weft: &Weft, topic: &str) -> (u16, Value) {
    let url = format!("http://{}/events?topic={topic}", weft.http);
    let answer = reqwest::Client::new().post(url).body("x").send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

#[tokio::test]
async fn a_quota_is_told_by_every_protocol_and_changes_while_weft_runs() {
    let grpc = free_address();
    let listener = format!("reload_s = 0\n[listener.em]\nlisten = \"{grpc}\"\nprotocol = \"grpc\"\n");
    let quota =
        |more: &str| format!("{listener}[quota.demo]\ntopic = \"demo/#\"\nevents_per_second = 1\n{more}");
    let weft = Setup::new().config(quota("connections = 1\nsubscriptions = 1\n")).start().await;
    // HTTP: one passes, and those of the next second at most.
    let mut refused = None;
    for _ in 0..100 {
        let (status, page) = post(&weft, "demo/x").await;
        if status != 200 {
            refused = Some((status, page));
            break;
        }
    }
    let (status, page) = refused.unwrap();
    assert_eq!((status, &page["type"]), (429, &json!("urn:weft:problem:busy")));
    assert!(page["detail"].as_str().unwrap().contains("quota.demo: 1 a second"), "{page}");
    assert_eq!(post(&weft, "other").await.0, 200);

    let (mut one, _) = Client::connect(weft.mqtt, &Connect::v5("one")).await.unwrap();
    assert_eq!(one.subscribe(&[("a", 1), ("b", 1)]).await, [1, 0x97]);
    let connect = Connect::v5("two");
    let mut two = Client::open(weft.mqtt, connect.version).await.unwrap();
    two.send(&connect.encode()).await.unwrap();
    let Packet::ConnAck { code, .. } = two.next().await else { panic!("no CONNACK") };
    assert_eq!(code, 0x89);

    weft.configure(&quota(""));
    let reload = reqwest::Client::new().post(format!("http://{}/admin/reload", weft.http));
    assert_eq!(reload.send().await.unwrap().status(), 200);
    Client::connect(weft.mqtt, &connect).await.unwrap();

    let mut peer = GrpcPeer::connect(grpc).await;
    let attributes = [
        ("subject", "demo/x"),
        ("protocoltype", "eventmeshmessage"),
        ("uniqueid", "1"),
        ("seqnum", "1"),
        ("producergroup", "p"),
        ("ttl", "4000"),
    ];
    let mut codes = Vec::new();
    while codes.last().is_none_or(|code| code == "0") && codes.len() < 100 {
        let answer = peer.call("PublisherService/publish", &GrpcEvent::from("1", &attributes, "x")).await;
        codes.push(answer.text("statuscode").unwrap().to_owned());
    }
    assert_eq!(codes.last().unwrap(), "1", "{codes:?}");
    assert!(weft.metric("weft_core_quota_refused_total").await.unwrap() >= 4.0);
}
