//! Other people's MQTT clients over TCP and WebSocket, each in the conversation of `tests/real/README.md`. rumqttc has
//! its own file.

use tests::Weft;
use tests::raw::Client;
use tests::real::{Speaker, Tool, converse_in_browser, needs};
use tests::socket::Socket;
use tests::wire::{self, Connect, Publish, Version};
use tokio_tungstenite::tungstenite::Message;

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
            if let wire::Packet::Publish(publish) = packet {
                payloads.push(String::from_utf8(publish.payload).unwrap());
            }
        }
    }
    assert_eq!(payloads, ["from websocket", "from tcp"]);
}
