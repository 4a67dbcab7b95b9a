//! Other people's MQTT clients over TCP and WebSocket, each in the conversation of `tests/real/README.md`. rumqttc has
//! its own file.

use futures_util::{SinkExt as _, StreamExt as _};
use rustls::pki_types::ServerName;
use tests::Weft;
use tests::authority::Authority;
use tests::raw::Client;
use tests::real::{Speaker, Tool, converse_in_browser, needs};
use tests::socket::Socket;
use tests::util::free_address;
use tests::weft::Setup;
use tests::wire::{self, Connect, Packet, Publish, Version};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// The steps of the conversation in `tests/real/README.md`.
fn steps(version: u8) -> &'static [&'static str] {
    match version {
        4 => &["qos", "retained", "session", "will"],
        _ => &["qos", "retained", "session", "will", "properties"],
    }
}

/// Holds the conversation over TCP and over WebSocket, in both versions of MQTT.
async fn converse(speaker: Speaker, tool: Tool) {
    if !needs(&[tool]) {
        return;
    }
    let weft = Weft::start().await;
    for (carrier, url) in
        [("tcp", format!("mqtt://{}", weft.mqtt)), ("ws", format!("ws://{}/mqtt", weft.http))]
    {
        for version in [4, 5] {
            speaker.converse(&url, version, &format!("{carrier}-{version}"), steps(version)).await;
        }
    }
}

/// A Weft that is also reached at this `wss` URL, with compression for those who offer it.
async fn secure() -> (Weft, Authority, String) {
    let (ca, address) = (Authority::new(), free_address());
    let listener = format!("[listener.secure]\nlisten = \"{address}\"\nprotocol = \"http\"\n");
    let config = format!("[websocket]\ndeflate = true\n{listener}{}", ca.tls("secure", ""));
    (Setup::new().config(config).start().await, ca, format!("wss://localhost:{}/mqtt", address.port()))
}

/// Holds the conversation over WebSocket and TLS, in both versions of MQTT.
async fn converse_securely(speaker: Speaker, tool: Tool) {
    if !needs(&[tool]) {
        return;
    }
    let (_weft, ca, url) = secure().await;
    for version in [4, 5] {
        let name = format!("wss-{version}");
        speaker.converse_trusting(&ca.path("ca.pem"), &url, version, &name, steps(version)).await;
    }
}

/// The command line clients speak no WebSocket.
#[tokio::test]
async fn mosquitto_pub_and_sub() {
    if !needs(&[Tool::Mosquitto]) {
        return;
    }
    let weft = Weft::start().await;
    for version in [4, 5] {
        let url = format!("mqtt://{}", weft.mqtt);
        Speaker::Mosquitto.converse(&url, version, &format!("mosquitto-{version}"), steps(version)).await;
    }
}

#[tokio::test]
async fn paho_for_python() {
    converse(Speaker::PahoPython, Tool::Paho).await;
}

#[tokio::test]
async fn paho_for_go() {
    converse(Speaker::PahoGo, Tool::PahoGo).await;
}

#[tokio::test]
async fn paho_for_java() {
    converse(Speaker::PahoJava, Tool::JavaClients).await;
}

#[tokio::test]
async fn the_client_of_hivemq() {
    converse(Speaker::HiveMq, Tool::JavaClients).await;
}

#[tokio::test]
async fn mqtt_js_in_node() {
    converse(Speaker::MqttJs, Tool::MqttJs).await;
}

#[tokio::test]
async fn mqtt_js_in_a_browser() {
    if !needs(&[Tool::MqttJs, Tool::Chromium]) {
        return;
    }
    let weft = Weft::start().await;
    for version in [4, 5] {
        let url = format!("ws://{}/mqtt", weft.http);
        converse_in_browser(&url, version, &format!("browser-{version}"), steps(version)).await;
    }
}

#[tokio::test]
async fn paho_for_go_over_wss() {
    converse_securely(Speaker::PahoGo, Tool::PahoGo).await;
}

#[tokio::test]
async fn paho_for_python_over_wss() {
    converse_securely(Speaker::PahoPython, Tool::Paho).await;
}

#[tokio::test]
async fn mqtt_js_in_node_over_wss() {
    converse_securely(Speaker::MqttJs, Tool::MqttJs).await;
}

#[tokio::test]
async fn mqtt_js_in_a_browser_over_wss() {
    if !needs(&[Tool::MqttJs, Tool::Chromium]) {
        return;
    }
    let (_weft, _ca, url) = secure().await;
    for version in [4, 5] {
        converse_in_browser(&url, version, &format!("secure-browser-{version}"), steps(version)).await;
    }
}

/// MQTT 5 §6: frames have no meaning, a packet may lie in several and several packets in one.
#[tokio::test]
async fn mqtt_over_websocket_and_over_tcp_are_one() {
    let weft = Weft::start().await;
    let (mut tcp, _) = Client::connect(weft.mqtt, &Connect::v4("tcp")).await.unwrap();
    tcp.subscribe(&[("carriers/#", 2)]).await;
    let mut socket = Socket::open(&format!("ws://{}/mqtt", weft.http), "mqtt").await.unwrap();
    let mut bytes = Connect::v5("websocket").encode();
    bytes.extend(wire::subscribe(Version::V5, 1, &[("carriers/#", 1)]));
    bytes.extend(Publish { id: 2, ..Publish::new("carriers/a", "from websocket", 1) }.encode(Version::V5));
    let half = bytes.len() / 2;
    socket.send(Message::binary(bytes[..half].to_vec())).await.unwrap();
    socket.send(Message::binary(bytes[half..].to_vec())).await.unwrap();
    assert_eq!(tcp.message().await.unwrap().unwrap().payload, b"from websocket");
    tcp.publish(Publish::new("carriers/b", "from tcp", 0)).await.unwrap();
    let mut input = Vec::new();
    let mut payloads = Vec::new();
    while payloads.len() < 2 {
        input.extend(socket.binary().await);
        while let Some(packet) = wire::take(&mut input, Version::V5) {
            if let Packet::Publish(publish) = packet {
                payloads.push(String::from_utf8(publish.payload).unwrap());
            }
        }
    }
    assert_eq!(payloads, ["from websocket", "from tcp"]);
}

/// The same over TLS: a packet in a frame for each byte, in fragments with a ping between, and many in one frame.
#[tokio::test]
async fn packets_do_not_follow_frames_over_wss() {
    let (_weft, ca, url) = secure().await;
    let mut request = url.as_str().into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "mqtt".parse().unwrap());
    let tcp = TcpStream::connect(("127.0.0.1", request.uri().port_u16().unwrap())).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(ca.client(&[b"http/1.1"]));
    let tls = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async(request, tls).await.unwrap();
    for byte in Connect::v5("frames").encode() {
        socket.send(Message::binary(vec![byte])).await.unwrap();
    }
    let large = vec![b'x'; 200_000];
    let publish = Publish { payload: large.clone(), ..Publish::new("frames/large", "", 1) };
    let publish = Publish { id: 2, ..publish }.encode(Version::V5);
    let mut rest = [wire::subscribe(Version::V5, 1, &[("frames/#", 0)]), publish].concat();
    let last = rest.split_off(150_000);
    for (at, piece) in rest.chunks(1000).enumerate() {
        let data = if at == 0 { Data::Binary } else { Data::Continue };
        let frame = Frame::message(piece.to_vec(), OpCode::Data(data), false);
        socket.send(Message::Frame(frame)).await.unwrap();
        socket.send(Message::Ping("between".into())).await.unwrap();
    }
    socket.send(Message::Frame(Frame::message(last, OpCode::Data(Data::Continue), true))).await.unwrap();
    let small = Publish::new("frames/small", "y", 0).encode(Version::V5);
    socket.send(Message::binary(small.repeat(1000))).await.unwrap();
    let (mut input, mut pongs, mut payloads, mut acked) = (Vec::new(), 0, Vec::new(), false);
    while payloads.len() < 1001 || !acked {
        match socket.next().await.expect("a frame").unwrap() {
            Message::Binary(data) => input.extend_from_slice(&data),
            Message::Pong(data) if data == "between" => pongs += 1,
            other => panic!("{other:?}"),
        }
        while let Some(packet) = wire::take(&mut input, Version::V5) {
            match packet {
                Packet::Publish(publish) => payloads.push(publish.payload),
                Packet::Ack(wire::Ack::PubAck, 2, 0) => acked = true,
                Packet::ConnAck { code: 0, .. } | Packet::SubAck(1, _) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(pongs > 0, "a ping among fragments is answered");
    let small = payloads.iter().filter(|payload| *payload == b"y").count();
    assert_eq!((small, payloads.iter().filter(|payload| **payload == large).count()), (1000, 1));
}
