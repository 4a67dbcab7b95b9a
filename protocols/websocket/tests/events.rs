//! CloudEvents over a real WebSocket.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "this is a test")]

mod support;

use event::hub::Closed;
use event::testing::{Answer, Call};
use event::{ByteLimit, Guarantee, Reject, RejectKind};
use futures_util::SinkExt as _;
use serde_json::json;
use support::{Server, frame, raw_close};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::{Error, Message};
use websocket::Options;

use Guarantee::{AtLeastOnce, AtMostOnce};

#[tokio::test]
async fn a_browser_publishes_and_another_gets_it() {
    let server = Server::start().await;
    let (mut reader, mut writer) = (server.connect("/ws").await, server.connect("/ws").await);
    let granted = reader.subscribe(json!({"topic": ["a/+", "x"], "guarantee": 2})).await;
    assert_eq!(granted["topics"], json!([{"topic": "a/+", "guarantee": 2}, {"topic": "x", "guarantee": 2}]));
    let event = json!({"wefttopic": "a/b", "datacontenttype": "text/plain", "data": "hé", "ext": 5});
    writer.send("t", "7", event).await;
    let answer = writer.event().await;
    assert_eq!(
        (&answer["type"], &answer["data"]),
        (&json!("weft.published"), &json!({"id": "7", "source": "/web"}))
    );
    let event = reader.event().await;
    assert_eq!((&event["id"], &event["data"], &event["ext"]), (&json!("7"), &json!("hé"), &json!(5)));
    assert_eq!((&event["wefttopic"], &event["weftposition"]), (&json!("a/b"), &json!("100")));
    reader.send("weft.unsubscribe", "u", json!({"data": {"topic": ["a/+", "b"]}})).await;
    let topics = json!([{"topic": "a/+", "was_there": true}, {"topic": "b", "was_there": false}]);
    assert_eq!(reader.event().await["data"], json!({"of": "u", "topics": topics}));
}

#[tokio::test]
async fn published_is_said_when_it_is_kept_and_in_order() {
    let server = Server::start().await;
    let mut web = server.connect("/ws").await;
    server.hub.answer_next(Answer::Late);
    server.hub.answer_next(Answer::Refused(Reject::new(RejectKind::Denied, "not yours")));
    server.hub.answer_next(Answer::NoRoom);
    for (count, id) in ["1", "2", "3"].into_iter().enumerate() {
        web.send("t", id, json!({})).await;
        server.hub.until(|calls| (calls.len() == count + 2).then_some(())).await;
    }
    server.hub.make_room();
    server.hub.release_late();
    assert_eq!(web.event().await["data"]["id"], "1");
    let refused = web.event().await["data"].clone();
    assert_eq!(refused, json!({"of": "2", "kind": "denied", "reason": "not yours"}));
    assert_eq!(web.event().await["data"]["id"], "3");
}

#[tokio::test]
async fn a_durable_session_gets_again_what_was_not_acked() {
    let server = Server::start_with(Options { receive_max: 3, ..Options::default() }).await;
    let mut web = server.connect("/ws?client=web%201&keep=60").await;
    web.subscribe(json!({"topic": "a"})).await;
    for n in 0..5 {
        server.inject("a", &n.to_string(), AtLeastOnce);
    }
    assert_eq!(web.data(3).await, ["0", "1", "2"]);
    web.send("weft.ack", "k", json!({"data": {"positions": ["100", "300"]}})).await;
    assert_eq!(web.data(2).await, ["3", "4"], "acks make room");
    assert_eq!(server.hub.acked("web 1"), [0, 2]);
    web.0.close(None).await.unwrap();
    web.closed().await;
    server.hub.until(|calls| calls.iter().any(|call| matches!(call, Call::Close { .. })).then_some(())).await;
    let mut web = server.connect("/ws?client=web%201").await;
    assert_eq!(web.data(3).await, ["1", "3", "4"]);
    let mut newer = server.connect("/ws?client=web%201&clean=true").await;
    assert_eq!(web.closed().await, 1008, "a newer connection took the session");
    newer.subscribe(json!({"topic": "b"})).await;
}

#[tokio::test]
async fn a_transient_session_acks_what_it_wrote() {
    let server = Server::start_with(Options { receive_max: 1, ..Options::default() }).await;
    let mut web = server.connect("/ws").await;
    web.subscribe(json!({"topic": "a"})).await;
    for n in 0..20 {
        server.inject("a", &n.to_string(), if n % 2 == 0 { AtLeastOnce } else { AtMostOnce });
    }
    assert_eq!(web.data(20).await.len(), 20);
    drop(web);
    server.hub.until(|calls| calls.iter().any(|call| matches!(call, Call::Close { .. })).then_some(())).await;
    assert!(server.hub.sessions().is_empty());
}

#[tokio::test]
async fn a_subscription_resumes_without_gap_and_without_repeat() {
    let server = Server::start().await;
    for n in 0..10 {
        server.inject(if n % 2 == 0 { "a" } else { "b" }, &n.to_string(), AtLeastOnce);
    }
    let mut web = server.connect("/ws").await;
    web.subscribe(json!({"topic": "b", "from": 400})).await;
    server.inject("b", "10", AtLeastOnce);
    assert_eq!(web.data(4).await, ["5", "7", "9", "10"]);
    web.subscribe(json!({"topic": "a", "from": "0"})).await;
    server.inject("a", "11", AtLeastOnce);
    assert_eq!(web.data(6).await, ["0", "2", "4", "6", "8", "11"]);
}

#[tokio::test]
async fn wrong_frames_are_closed_with_the_code_of_the_standard() {
    let server =
        Server::start_with(Options { message_bytes_max: ByteLimit(1000), ..Options::default() }).await;
    let mut fragments = frame(0x01, &[b'x'; 600]);
    fragments.extend(frame(0x80, &[b'x'; 600]));
    let mut unmasked = frame(0x81, b"{}");
    unmasked[1] &= 0x7f;
    unmasked.drain(2..6);
    for (what, bytes, code) in [
        ("not JSON", frame(0x81, b"hello"), 1007),
        ("not UTF-8", frame(0x81, b"{\"a\":\"\xff\"}"), 1007),
        ("binary", frame(0x82, b"{}"), 1003),
        ("too large", frame(0x81, &[b'x'; 1001]), 1009),
        ("too large in fragments", fragments, 1009),
        ("not masked", unmasked, 1002),
        ("reserved bit", frame(0xc1, b"{}"), 1002),
        ("unknown opcode", frame(0x83, b"{}"), 1002),
        ("continuation of nothing", frame(0x80, b"{}"), 1002),
        ("fragmented ping", frame(0x09, b""), 1002),
        ("long ping", frame(0x89, &[0; 126]), 1002),
    ] {
        let mut raw = server.raw("/ws", "cloudevents.json").await;
        raw.write_all(&bytes).await.unwrap();
        assert_eq!(raw_close(&mut raw).await, code, "{what}");
    }
    let mut web = server.connect("/ws").await;
    web.send("t", "1", json!({"specversion": "0.3"})).await;
    assert!(web.event().await["data"]["reason"].as_str().unwrap().contains("0.3"));
    web.send("t", "2", json!({"wefttopic": "a/#"})).await;
    assert_eq!(web.event().await["data"]["of"], "2");
    web.send("t", "3", json!({})).await;
    assert_eq!(web.event().await["type"], "weft.published", "it goes on");
}

#[tokio::test]
async fn what_a_client_says_before_it_leaves_is_done() {
    let server = Server::start().await;
    let mut raw = server.raw("/ws", "cloudevents.json").await;
    let event = r#"{"specversion":"1.0","id":"é","source":"/","type":"t"}"#.as_bytes();
    // In fragments, cut inside a character, with a ping between them; then goodbye in the same write.
    let cut = event.iter().position(|byte| *byte == 0xc3).unwrap() + 1;
    let mut bytes = frame(0x01, &event[..cut]);
    bytes.extend(frame(0x89, b""));
    bytes.extend(frame(0x80, &event[cut..]));
    bytes.extend(frame(0x88, &1000u16.to_be_bytes()));
    raw.write_all(&bytes).await.unwrap();
    assert_eq!(raw_close(&mut raw).await, 1000);
    assert_eq!(server.hub.published()[0].event.id(), "é");
}

#[tokio::test]
async fn pings_are_answered_and_silent_clients_are_found() {
    let server = Server::start_with(Options { ping_s: 1, ..Options::default() }).await;
    let mut raw = server.raw("/ws", "cloudevents.json").await;
    raw.write_all(&frame(0x89, b"hi")).await.unwrap();
    let mut pong = [0; 4];
    raw.read_exact(&mut pong).await.unwrap();
    assert_eq!(pong, [0x8a, 2, b'h', b'i']);
    let mut ping = [0; 2];
    raw.read_exact(&mut ping).await.unwrap();
    assert_eq!(ping, [0x89, 0]);
    assert_eq!(raw.read(&mut ping).await.unwrap_or(0), 0, "no pong: the end");
    server.hub.until(|calls| calls.iter().any(|call| matches!(call, Call::Close { .. })).then_some(())).await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_takes_a_bounded_amount() {
    let server = Server::start_with(Options { ping_s: 1, ..Options::default() }).await;
    let mut slow = server.raw("/ws", "cloudevents.json").await;
    let event =
        r#"{"specversion":"1.0","id":"1","source":"/","type":"weft.subscribe","data":{"topic":"big"}}"#;
    slow.write_all(&frame(0x81, event.as_bytes())).await.unwrap();
    server
        .hub
        .until(|calls| calls.iter().any(|call| matches!(call, Call::Subscribe { .. })).then_some(()))
        .await;
    let client = server.hub.sessions().remove(0);
    let megabyte = "x".repeat(1 << 20);
    for _ in 0..64 {
        server.inject("big", &megabyte, AtLeastOnce);
    }
    server.hub.until(|calls| calls.iter().any(|call| matches!(call, Call::Close { .. })).then_some(())).await;
    let acked = server.hub.acked(&client).len();
    assert!(acked < 32, "{acked} MiB were taken from the mailbox without a reader");
}

#[tokio::test]
async fn a_stop_answers_what_is_open_and_says_going_away() {
    let server = Server::start().await;
    let mut web = server.connect("/ws").await;
    server.hub.answer(Answer::Late);
    web.send("t", "1", json!({})).await;
    server
        .hub
        .until(|calls| calls.iter().any(|call| matches!(call, Call::Publish { .. })).then_some(()))
        .await;
    server.stop();
    server.hub.release_late();
    assert_eq!(web.event().await["data"]["id"], "1");
    assert_eq!(web.closed().await, 1001);
}

#[tokio::test]
async fn a_session_that_cannot_be_had_is_explained() {
    let server = Server::start().await;
    server.hub.refuse_attach(Some(Reject::new(RejectKind::Busy, "too many sessions")));
    let mut web = server.connect("/ws").await;
    assert_eq!(web.event().await["data"]["reason"], "too many sessions");
    assert_eq!(web.closed().await, 1013);
    server.hub.refuse_attach(None);
    let mut web = server.connect("/ws?client=w").await;
    web.subscribe(json!({"topic": "a"})).await;
    server.hub.end("w", Closed::Ended);
    assert_eq!(web.closed().await, 1008);
}

#[tokio::test]
async fn wrong_handshakes_get_their_status() {
    let server = Server::start().await;
    let protocol = ("sec-websocket-protocol", "cloudevents.json");
    for (path, headers, status) in [
        ("/ws", &[][..], 400),
        ("/ws", &[("sec-websocket-protocol", "mqtt")][..], 400),
        ("/ws", &[protocol, ("origin", "https://evil.example")][..], 403),
        ("/ws", &[protocol, ("sec-websocket-version", "8")][..], 426),
        ("/ws?client=$sys", &[protocol][..], 400),
        ("/ws?keep=soon", &[protocol][..], 400),
        ("/mqtt", &[protocol][..], 400),
    ] {
        match server.try_connect(path, headers).await {
            Err(Error::Http(response)) => assert_eq!(response.status(), status, "{path} {headers:?}"),
            other => panic!("{:?}", other.map(|_| ())),
        }
    }
    assert!(server.hub.calls().is_empty());
    // Half a handshake, and one whose client is gone when it is answered.
    for request in
        ["GET /ws HTTP/1.1\r\nHost: x\r\nUpgr", "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n"]
    {
        let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
    }
    drop(server.raw("/ws", "cloudevents.json").await);
    server.hub.until(|calls| calls.iter().any(|call| matches!(call, Call::Close { .. })).then_some(())).await;
    let mut web = server.connect("/ws").await;
    web.0.send(Message::text("{")).await.unwrap();
    assert_eq!(web.event().await["type"], "weft.error");
}
