//! The carrier for MQTT: bytes go through whole, whatever the frames. The server here echoes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this is a test"
)]

mod support;

use futures_util::{SinkExt as _, StreamExt as _};
use support::{Server, frame, next_frame, raw_close};
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
async fn mqtt_6_0_0_1_text_is_closed_with_1003() {
    let server = Server::start().await;
    let mut raw = server.raw("/mqtt", "mqtt").await;
    raw.write_all(&frame(0x81, b"hi")).await.unwrap();
    assert_eq!(raw_close(&mut raw).await, 1003);
}

#[tokio::test]
async fn mqtt_6_0_0_2_packets_need_not_lie_in_frames_of_their_own() {
    let server = Server::start().await;
    let mut raw = server.raw("/mqtt", "mqtt").await;
    let frames = [
        frame(0x02, b"one pac"),
        frame(0x89, b"a ping between"),
        frame(0x00, b"ket and"),
        frame(0x8a, b"a pong that nobody asked for"),
        frame(0x80, b" half of"),
        frame(0x82, b""),
        frame(0x82, b" the next"),
    ];
    // Byte by byte, or all at once: the network cuts where it likes.
    for piece in frames.concat().chunks(3) {
        raw.write_all(piece).await.unwrap();
    }
    raw.write_all(&frames.concat()).await.unwrap();
    let whole = b"one packet and half of the next".repeat(2);
    let (mut got, mut pongs) = (Vec::new(), 0);
    while got.len() < whole.len() || pongs < 2 {
        match next_frame(&mut raw).await.unwrap() {
            (0x82, data) => got.extend(data),
            (0x8a, data) if data == b"a ping between" => pongs += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((got, pongs), (whole, 2));
}

#[tokio::test]
async fn mqtt_6_0_0_3_and_4_the_subprotocol_is_asked_for_and_answered() {
    let server = Server::start().await;
    for (offered, answered) in [("mqtt", "mqtt"), ("mqttv3.1, mqtt", "mqtt"), ("x, mqttv3.1", "mqttv3.1")] {
        let (_, head) = server.handshake("/mqtt", offered).await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.contains(&format!("\r\nsec-websocket-protocol: {answered}\r\n")), "{head}");
    }
    for offered in ["x", "MQTT", "mqttv5"] {
        let (_, head) = server.handshake("/mqtt", offered).await;
        assert!(head.starts_with("HTTP/1.1 400"), "{head}");
    }
}

#[tokio::test]
async fn a_silent_peer_is_pinged_and_then_given_up() {
    let server = Server::start_with(Options { ping_s: 1, ..Options::default() }).await;
    let (mut quiet, mut alive) = (server.raw("/mqtt", "mqtt").await, server.raw("/mqtt", "mqtt").await);
    assert_eq!(next_frame(&mut quiet).await, Some((0x89, vec![])));
    assert_eq!(next_frame(&mut alive).await, Some((0x89, vec![])));
    alive.write_all(&frame(0x8a, b"")).await.unwrap();
    let next = next_frame(&mut quiet).await;
    assert!(next.as_ref().is_none_or(|(first, _)| *first == 0x88), "no pong: the end, not {next:?}");
    assert_eq!(next_frame(&mut alive).await, Some((0x89, vec![])), "who answered is asked again");
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
