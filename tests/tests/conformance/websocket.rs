//! MQTT over WebSocket (MQTT 5 §6, MQTT 3.1.1 §6).

use futures_util::{SinkExt as _, StreamExt as _};
use tests::wire::{self, Packet, Publish, Version};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::peer::{BOTH, V5, hello, name, weft};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// A WebSocket for these subprotocols, and the one that was chosen.
async fn open(offered: &str) -> (Socket, Option<String>) {
    let mut request = format!("ws://{}/mqtt", weft().http).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", offered.parse().unwrap());
    let (socket, answer) = connect_async(request).await.unwrap();
    let chosen = answer.headers().get("sec-websocket-protocol");
    (socket, chosen.map(|chosen| chosen.to_str().unwrap().to_owned()))
}

/// Reads until `count` packets are there.
async fn read(socket: &mut Socket, version: Version, count: usize) -> Vec<Packet> {
    let (mut input, mut packets) = (Vec::new(), Vec::new());
    while packets.len() < count {
        match socket.next().await.expect("a frame").unwrap() {
            // [MQTT-6.0.0-1]: all packets come in binary frames.
            Message::Binary(data) => input.extend(&data[..]),
            other => panic!("{other:?}"),
        }
        packets.extend(std::iter::from_fn(|| wire::take(&mut input, version)));
    }
    packets
}

/// Waits until the peer is gone.
async fn ends(mut socket: Socket) {
    while let Some(Ok(message)) = socket.next().await {
        assert!(matches!(message, Message::Close(_)), "{message:?}");
    }
}

#[tokio::test]
async fn mqtt_6_0_0_4_the_chosen_subprotocol_is_mqtt() {
    for offered in ["mqtt", "other, mqtt"] {
        assert_eq!(open(offered).await.1.as_deref(), Some("mqtt"), "{offered}");
    }
}

#[tokio::test]
async fn mqtt_6_0_0_1_a_text_frame_closes() {
    let (mut socket, _) = open("mqtt").await;
    socket.send(Message::text("hello")).await.unwrap();
    ends(socket).await;
    let (mut socket, _) = open("mqtt").await;
    socket.send(Message::binary(hello(V5, &name()).encode())).await.unwrap();
    read(&mut socket, V5, 1).await;
    socket.send(Message::text("hello")).await.unwrap();
    ends(socket).await;
}

#[tokio::test]
async fn mqtt_6_0_0_2_packets_do_not_follow_frames() {
    for version in BOTH {
        let topic = name();
        let (mut socket, _) = open("mqtt").await;
        let connect = hello(version, &name()).encode();
        let subscribe = wire::subscribe(version, 1, &[(&topic, 0)]);
        let publish = Publish::new(&topic, "x", 0).encode(version);
        // One byte a frame, then many packets in a frame, with the beginning of one more.
        for byte in connect {
            socket.send(Message::binary(vec![byte])).await.unwrap();
        }
        let (half, rest) = publish.split_at(3);
        let many = [&subscribe[..], &publish, &publish, half].concat();
        socket.send(Message::binary(many)).await.unwrap();
        socket.send(Message::binary(rest.to_vec())).await.unwrap();
        let packets = read(&mut socket, version, 5).await;
        assert!(matches!(packets[0], Packet::ConnAck { code: 0, .. }), "{packets:?}");
        assert_eq!(packets[1], Packet::SubAck(1, vec![0]));
        for packet in &packets[2..] {
            assert_eq!(*packet, Packet::Publish(Publish::new(&topic, "x", 0)));
        }
    }
}
