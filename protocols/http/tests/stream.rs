//! `GET /events`: what comes, in which order, and how a stream resumes and ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "this is a test")]

mod support;

use event::hub::Closed;
use event::testing::{Answer, Call, FakeHub};
use event::{Guarantee, Reject, RejectKind};
use http_front::Options;
use support::{Server, Stream, problem};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use Guarantee::{AtLeastOnce, AtMostOnce};

async fn open(server: &Server, query: &str, last: Option<&str>) -> Stream {
    let request = server.client.get(server.url(query));
    Stream::open(match last {
        Some(last) => request.header("last-event-id", last),
        None => request,
    })
    .await
}

/// Waits until a stream's session is gone.
async fn gone(hub: &FakeHub) {
    hub.until(|calls| calls.iter().any(|call| matches!(call, Call::Close { .. })).then_some(())).await;
    assert!(hub.sessions().is_empty());
}

#[tokio::test]
async fn events_come_as_cloud_events_with_their_position() {
    let server = Server::start().await;
    server.inject("a/old", "0", AtLeastOnce, true);
    let mut stream = open(&server, "?topic=a/%23&topic=b/+", None).await;
    let (id, event) = stream.event().await.unwrap();
    assert_eq!((id, &event["wefttopic"]), (None, &"a/old".into()), "a retained event cannot be resumed from");
    server.inject("b/c", "{\n \"t\": 21}", AtLeastOnce, false);
    server.inject("c", "no", AtLeastOnce, false);
    server.inject("a", "21.5", AtMostOnce, false);
    let mut got = [stream.event().await.unwrap(), stream.event().await.unwrap()];
    got.sort_by_key(|(id, _)| id.is_none());
    let [(id, event), (none, unkept)] = got;
    assert_eq!((id.as_deref(), none), (Some("200"), None));
    assert_eq!(
        (&event["data"]["t"], &event["weftposition"], &event["wefttopic"]),
        (&21.into(), &"200".into(), &"b/c".into())
    );
    assert_eq!(
        (&unkept["data"], &unkept["type"], &unkept["source"]),
        (&21.5.into(), &"weft.message".into(), &"/clients/dev".into())
    );
}

#[tokio::test]
async fn a_stream_resumes_without_gap_and_without_repeat() {
    let server = Server::start().await;
    let mut stream = open(&server, "?topic=a", None).await;
    for n in 0..5 {
        server.inject("a", &n.to_string(), AtLeastOnce, false);
        server.inject("b", "no", AtLeastOnce, false);
    }
    let (got, last) = stream.data(2).await;
    assert_eq!(got, ["0", "1"]);
    drop(stream);
    gone(&server.hub).await;
    for n in 5..12 {
        server.inject("a", &n.to_string(), AtLeastOnce, false);
    }
    let mut stream = open(&server, "?topic=a", last.as_deref()).await;
    server.inject("a", "12", AtLeastOnce, false);
    let (got, _) = stream.data(11).await;
    assert_eq!(got, (2..13).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_can_start_at_the_beginning_of_the_log() {
    let server = Server::start().await;
    for n in 0..4 {
        server.inject("a", &n.to_string(), AtLeastOnce, true);
    }
    for query in
        ["?topic=a&from=0", "?topic=a&from=all", "?topic=$replay/all/a", "?topic=a&from=1970-01-01T00:00:00Z"]
    {
        let mut stream = open(&server, query, None).await;
        assert_eq!(stream.data(4).await.0, ["0", "1", "2", "3"], "{query}");
    }
    let mut stream = open(&server, "?topic=a&from=99999", None).await;
    server.inject("a", "5", AtLeastOnce, false);
    assert_eq!(stream.data(1).await.0, ["5"], "an id of another log is no harm");
}

#[tokio::test]
async fn deliveries_are_acked_once_the_connection_asks_for_more() {
    let server = Server::start().await;
    let mut stream = open(&server, "?topic=a", None).await;
    for n in 0..3 {
        server.inject("a", "x", AtLeastOnce, false);
        stream.data(1).await;
        let acked = |call: &Call| matches!(call, Call::Ack { numbers, .. } if numbers.contains(&n));
        server.hub.until(|calls| calls.iter().any(acked).then_some(())).await;
    }
}

#[tokio::test]
async fn wrong_requests_are_refused_and_named() {
    let server = Server::start_with(Options { filters_max: 2, ..Options::default() }).await;
    for (query, status, ty, word) in [
        ("", 400, "query", "?topic="),
        ("?topic=a/%23/b", 400, "topic", "last level"),
        ("?topic=$share/g/a", 400, "topic", "shared"),
        ("?topic=a&from=x", 400, "query", "a replay starts at"),
        ("?topic=$replay/x/a", 400, "topic", "a replay starts at"),
        ("?topic=$replay/all", 400, "topic", "$replay/START/FILTER"),
        ("?topic=a&id=1", 400, "query", "id=1"),
        ("?topic=a&topic=b&topic=c", 413, "too-large", "3 filters"),
    ] {
        let response = server.client.get(server.url(query)).send().await.unwrap();
        assert_eq!(response.status(), status, "{query}");
        let details = problem(response).await;
        assert_eq!(details["type"], format!("urn:weft:problem:{ty}"));
        assert!(details["detail"].as_str().unwrap().contains(word), "{details}");
    }
    assert!(server.hub.calls().is_empty());
    server.hub.refuse_attach(Some(Reject::new(RejectKind::Busy, "too many sessions")));
    assert_eq!(server.client.get(server.url("?topic=a")).send().await.unwrap().status(), 429);
    server.hub.refuse_attach(None);
    server.hub.refuse_subscribe(Some(Reject::new(RejectKind::Denied, "not yours")));
    assert_eq!(server.client.get(server.url("?topic=a")).send().await.unwrap().status(), 403);
    gone(&server.hub).await;
}

#[tokio::test]
async fn a_stream_ends_when_weft_stops_or_the_session_does() {
    let server = Server::start().await;
    let mut stream = open(&server, "?topic=a", None).await;
    server.hub.end(&server.hub.sessions()[0], Closed::Ended);
    assert_eq!(stream.block().await, None);
    let mut stream = open(&server, "?topic=a", None).await;
    server.stop();
    assert_eq!(stream.block().await, None);
    gone(&server.hub).await;
}

#[tokio::test]
async fn an_idle_stream_sends_comments() {
    let server = Server::start_with(Options { heartbeat_s: 1, ..Options::default() }).await;
    let mut stream = open(&server, "?topic=a", None).await;
    assert_eq!(stream.block().await.unwrap(), ":");
}

#[tokio::test]
async fn a_reader_that_does_not_read_takes_a_bounded_amount() {
    let server = Server::start().await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /events?topic=big HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let subscribed =
        |calls: &[Call]| calls.iter().any(|call| matches!(call, Call::Subscribe { .. })).then_some(());
    server.hub.until(subscribed).await;
    let megabyte = "x".repeat(1 << 20);
    for _ in 0..64 {
        server.inject("big", &megabyte, AtLeastOnce, false);
    }
    let client = server.hub.sessions().remove(0);
    // Another reader gets all of it, so the slow one had its time.
    let mut quick = open(&server, "?topic=big&from=0", None).await;
    for _ in 0..64 {
        quick.event().await.unwrap();
    }
    let acked = server.hub.acked(&client).len();
    assert!(acked < 32, "{acked} MiB were taken from the mailbox without a reader");
    let mut text = vec![0; 1 << 16];
    while server.hub.acked(&client).len() < 63 {
        assert_ne!(slow.read(&mut text).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let server = Server::start_with(Options { head_timeout_s: 1, ..Options::default() }).await;
    let mut text = Vec::new();
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(silent.read_to_end(&mut text).await.unwrap_or(0), 0);
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(b"GET /events?topic=a HTTP/1.1\r\nhost:").await.unwrap();
    half.read_to_end(&mut text).await.unwrap_or(0);
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"OPTIONS /events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    text.clear();
    idle.read_to_end(&mut text).await.unwrap_or(0);
    assert!(text.starts_with(b"HTTP/1.1 204"));
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Server::start_with(Options { publish_timeout_s: 1, ..Options::default() }).await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"POST /events?topic=a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhel")
        .await
        .unwrap();
    let mut text = [0; 12];
    slow.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"HTTP/1.1 408");
    assert!(server.hub.calls().is_empty());
}

#[tokio::test]
async fn a_stop_closes_idle_connections_and_finishes_requests() {
    let server = Server::start().await;
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(b"OPTIONS /events HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut text = [0; 12];
    idle.read_exact(&mut text).await.unwrap();
    server.hub.answer(Answer::Late);
    let open = tokio::spawn(server.post("?topic=a").body("x").send());
    server.hub.until(|calls| (!calls.is_empty()).then_some(())).await;
    server.stop();
    idle.read_to_end(&mut Vec::new()).await.unwrap();
    server.hub.release_late();
    assert_eq!(open.await.unwrap().unwrap().status(), 200);
}
