//! The carrier for MQTT: bytes go through whole, whatever the frames. The server here echoes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this is a test"
)]

mod support;

use event::ByteLimit;
use futures_util::{SinkExt as _, StreamExt as _};
use support::{Server, frame, raw_close};
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;
use websocket::Options;

#[tokio::test]
async fn bytes_come_through_whole_whatever_the_frames() {
    let server = Server::start().await;
    let client = server.connect("/mqtt").await;
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n / 7) as u8).collect();
    let (mut sink, mut stream) = client.0.split();
    let expected = sent.clone();
    let writer = tokio::spawn(async move {
        let mut rest = &sent[..];
        for size in (0..).map(|n| [0, 1, 2, 100, 5_000, 70_000, 900_000][n % 7]) {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(size.min(rest.len()));
            sink.send(Message::binary(now.to_vec())).await.unwrap();
            rest = later;
        }
        sink
    });
    let mut got = Vec::new();
    while got.len() < expected.len() {
        match stream.next().await.unwrap().unwrap() {
            Message::Binary(data) => got.extend(data),
            other => panic!("{other:?}"),
        }
    }
    assert!(got == expected);
    let mut sink = writer.await.unwrap();
    sink.send(Message::Close(None)).await.unwrap();
    while let Some(message) = stream.next().await {
        assert!(message.unwrap().is_close());
    }
}

#[tokio::test]
async fn mqtt_6_0_0_1_text_frames_and_other_faults_are_closed_with_a_code() {
    let server =
        Server::start_with(Options { message_bytes_max: ByteLimit(1000), ..Options::default() }).await;
    for (what, bytes, code) in [
        ("text", frame(0x81, b"hi"), 1003),
        ("too large", frame(0x82, &[0; 1001]), 1009),
        ("reserved bit", frame(0xc2, b"x"), 1002),
        ("text that is not UTF-8", frame(0x81, b"\xff"), 1007),
    ] {
        let mut raw = server.raw("/mqtt", "mqtt").await;
        raw.write_all(&frame(0x82, b"fine")).await.unwrap();
        raw.write_all(&bytes).await.unwrap();
        assert_eq!(raw_close(&mut raw).await, code, "{what}");
    }
}

#[tokio::test]
async fn pings_between_packets_are_answered() {
    let server = Server::start().await;
    let mut client = server.connect("/mqtt").await;
    client.0.send(Message::Ping("p".into())).await.unwrap();
    client.0.send(Message::binary("x")).await.unwrap();
    let mut both = [client.0.next().await.unwrap().unwrap(), client.0.next().await.unwrap().unwrap()];
    both.sort_by_key(Message::is_pong);
    assert_eq!(both, [Message::binary("x"), Message::Pong("p".into())]);
}
