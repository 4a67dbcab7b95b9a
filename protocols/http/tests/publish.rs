//! `POST /events`: what is published, when it is answered, and how it is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "this is a test")]

mod support;

use event::hub::Publish;
use event::testing::{Answer, Call};
use event::{ByteLimit, Guarantee, Reject, RejectKind, Value};
use http_front::Options;
use serde_json::json;
use support::{Server, problem};

fn only(server: &Server) -> Publish {
    let mut all = server.hub.published();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

const EVENT: &str =
    r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","wefttopic":"a/b","n":5,"data":{"x": 1}}"#;
const STRUCTURED: &str = "application/cloudevents+json; charset=utf-8";

#[tokio::test]
async fn ce_http_3_1_binary_mode() {
    let server = Server::start().await;
    let request = server.post("?topic=a/b").header("content-type", "application/x-thing").body(vec![0, 255]);
    let attributes =
        [("specversion", "1.0"), ("id", "1"), ("source", "/s%20x"), ("type", "t"), ("Ext1", "%E2%82%AC")];
    let request = attributes
        .iter()
        .fold(request, |request, (name, value)| request.header(format!("ce-{name}"), *value));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.json::<serde_json::Value>().await.unwrap(), json!({"ids": ["1"]}));
    let Publish { event, guarantee, retain, .. } = only(&server);
    assert_eq!(
        (event.topic().as_str(), &event.data()[..], guarantee),
        ("a/b", &[0, 255][..], Guarantee::AtLeastOnce)
    );
    assert_eq!((event.id(), event.source(), event.ty(), retain), ("1".into(), "/s x".into(), "t", false));
    assert_eq!(event.content_type(), Some("application/x-thing"));
    assert_eq!(event.attributes().unwrap().extensions, [("ext1".into(), Value::String("€".into()))]);
}

/// W3C Trace Context §3: `traceparent` beside an event becomes the event's own.
#[tokio::test]
async fn a_trace_goes_on_with_the_event() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let server = Server::start().await;
    let kinds = [("application/json", "1"), (STRUCTURED, EVENT)];
    for (kind, body) in kinds {
        let post = server.post("?topic=a/b").header("content-type", kind).header("traceparent", parent);
        assert_eq!(post.header("tracestate", "x=1").body(body).send().await.unwrap().status(), 200);
    }
    for Publish { event, .. } in server.hub.published() {
        let meta = event.meta().unwrap();
        assert_eq!(meta.value("traceparent").as_deref(), Some(parent));
        assert_eq!(meta.value("tracestate").as_deref(), Some("x=1"));
    }
    assert_eq!(server.hub.published().len(), kinds.len());
}

#[tokio::test]
async fn ce_http_3_2_structured_mode() {
    let server = Server::start().await;
    let response =
        server.post("?retain=true").header("content-type", STRUCTURED).body(EVENT).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let Publish { event, retain, .. } = only(&server);
    assert_eq!((event.topic().as_str(), &event.data()[..], retain), ("a/b", &b"{\"x\": 1}"[..], true));
    assert_eq!(event.attributes().unwrap().extensions, [("n".into(), Value::Integer(5))]);
}

#[tokio::test]
async fn ce_http_3_3_batched_mode() {
    let server = Server::start().await;
    let batch = format!("[{EVENT},{}]", EVENT.replace("\"id\":\"1\"", "\"id\":\"2\""));
    let request = server.post("?topic=all").header("content-type", "application/cloudevents-batch+json");
    let response = request.try_clone().unwrap().body(batch).send().await.unwrap();
    assert_eq!(response.json::<serde_json::Value>().await.unwrap(), json!({"ids": ["1", "2"]}));
    let topics: Vec<_> =
        server.hub.published().iter().map(|publish| publish.event.topic().to_string()).collect();
    assert_eq!(topics, ["all", "all"]);
    assert!(
        matches!(&server.hub.calls()[..], [Call::Publish { batch, .. }] if batch.len() == 2),
        "one batch"
    );
    let empty = request.body("[]").send().await.unwrap();
    assert_eq!(empty.json::<serde_json::Value>().await.unwrap(), json!({"ids": []}));
}

#[tokio::test]
async fn a_plain_body_is_published_as_it_is() {
    let server = Server::start().await;
    let response =
        server.post("?topic=a+b%2Fc").header("content-type", "text/plain").body("hi").send().await.unwrap();
    assert_eq!(response.status(), 200);
    let event = only(&server).event;
    assert_eq!(
        (event.topic().as_str(), &event.data()[..], event.content_type()),
        ("a b/c", &b"hi"[..], Some("text/plain"))
    );
    assert!(event.attributes().is_none());
}

#[tokio::test]
async fn the_answer_waits_until_the_event_is_kept() {
    let server = Server::start().await;
    for answer in [Answer::Late, Answer::NoRoom] {
        server.hub.answer(answer);
        let before = server.hub.published().len();
        let answered = tokio::spawn(server.post("?topic=a").body("x").send());
        server.hub.until(|calls| (calls.len() > before).then_some(())).await;
        assert!(!answered.is_finished());
        server.hub.release_late();
        server.hub.make_room();
        assert_eq!(answered.await.unwrap().unwrap().status(), 200);
    }
}

#[tokio::test]
async fn every_kind_of_reject_has_its_status() {
    let server = Server::start().await;
    for (kind, status, ty, retry) in [
        (RejectKind::Malformed, 400, "malformed", None),
        (RejectKind::Denied, 403, "denied", None),
        (RejectKind::Busy, 429, "busy", Some("1")),
        (RejectKind::Unavailable, 503, "unavailable", Some("5")),
        (RejectKind::Closed, 503, "closed", Some("5")),
    ] {
        server.hub.answer(Answer::Refused(Reject::new(kind, "for a reason")));
        let response = server.post("?topic=a").body("x").send().await.unwrap();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers().get("retry-after").map(|value| value.to_str().unwrap()), retry);
        let details = problem(response).await;
        assert_eq!(
            (details["type"].as_str(), details["detail"].as_str()),
            (Some(&*format!("urn:weft:problem:{ty}")), Some("for a reason"))
        );
    }
}

#[tokio::test]
async fn a_batch_that_is_kept_in_part_says_which() {
    let server = Server::start().await;
    server.hub.answer(Answer::Partly(vec![(1, Reject::new(RejectKind::Denied, "not yours"))]));
    let batch = format!("[{EVENT},{}]", EVENT.replace("\"id\":\"1\"", "\"id\":\"2\""));
    let request = server.post("").header("content-type", "application/cloudevents-batch+json").body(batch);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 403);
    let details = problem(response).await;
    assert_eq!(details["kept"], json!(["1"]));
    let refused = json!([{"index": 1, "id": "2", "type": "urn:weft:problem:denied", "detail": "not yours"}]);
    assert_eq!(details["refused"], refused);
}

#[tokio::test]
async fn wrong_requests_are_refused_and_named() {
    let server = Server::start().await;
    let ce = |changes: &str| EVENT.replace(r#","n":5"#, changes);
    let batch = "application/cloudevents-batch+json";
    let cases: &[(&str, &str, &str, u16, &str, &str)] = &[
        ("", "text/plain", "x", 400, "event", "?topic="),
        ("?topic=a/%23", "text/plain", "x", 400, "topic", "wildcard"),
        ("?topic=", "text/plain", "x", 400, "topic", "at least one"),
        ("?topic=a%00", "text/plain", "x", 400, "topic", "null"),
        ("?topic=%ff", "text/plain", "x", 400, "query", "UTF-8"),
        ("?topik=a", "text/plain", "x", 400, "query", "topik"),
        ("?topic=a&topic=b", "text/plain", "x", 400, "query", "twice"),
        ("?topic=a&retain=yes", "text/plain", "x", 400, "query", "retain"),
        ("?topic=a", "application/cloudevents+avro", "x", 415, "media-type", "avro"),
        ("?topic=a", STRUCTURED, "{", 400, "event", "JSON"),
        ("?topic=a", STRUCTURED, "[]", 400, "event", "object"),
        ("?topic=a", STRUCTURED, &EVENT.replace("1.0", "0.3"), 400, "specversion", "0.3"),
        ("?topic=a", STRUCTURED, &ce(r#","BIG":1"#), 400, "event", "lower-case"),
        ("", STRUCTURED, &EVENT.replace("a/b", "a/#"), 400, "topic", "wildcard"),
        ("", batch, &format!("[{EVENT},{{}}]"), 400, "event", "event 1: "),
        ("", batch, &format!("[{EVENT},{}]", EVENT.replace("1.0", "2")), 400, "specversion", "event 1: "),
        ("", batch, EVENT, 400, "event", "sequence"),
    ];
    for (query, content_type, body, status, ty, word) in cases {
        let request = server.post(query).header("content-type", *content_type).body((*body).to_owned());
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), *status, "{query} {body}");
        let details = problem(response).await;
        assert_eq!(details["type"], format!("urn:weft:problem:{ty}"), "{details}");
        assert!(details["detail"].as_str().unwrap().contains(word), "{word}: {details}");
    }
    let binary = |headers: &[(&str, &str)]| {
        headers
            .iter()
            .fold(server.post("?topic=a"), |request, (name, value)| request.header(*name, *value))
            .send()
    };
    let complete = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/"), ("ce-type", "t")];
    for (changes, ty) in [
        (&[("ce-specversion", "1.1")][..], "specversion"),
        (&complete[1..], "event"),
        (&complete[..3], "event"),
        (&[complete[0], complete[1], complete[1], complete[2], complete[3]], "event"),
        (&[complete[0], complete[1], complete[2], complete[3], ("ce-time", "noon")], "event"),
        (&[complete[0], complete[1], complete[2], complete[3], ("ce-x_y", "1")], "event"),
        (&[complete[0], complete[1], complete[2], complete[3], ("ce-data", "1")], "event"),
        (&[complete[0], complete[1], complete[2], complete[3], ("ce-x", "%FF")], "event"),
    ] {
        let response = binary(changes).await.unwrap();
        assert_eq!(response.status(), 400);
        assert_eq!(problem(response).await["type"], format!("urn:weft:problem:{ty}"), "{changes:?}");
    }
    assert!(server.hub.calls().is_empty(), "nothing of it reached the hub");
}

#[tokio::test]
async fn too_much_is_refused() {
    let options = Options {
        body_bytes_max: ByteLimit(400),
        bodies_bytes_max: ByteLimit(500),
        batch_events_max: 2,
        ..Options::default()
    };
    let server = Server::start_with(options).await;
    let response = server.post("?topic=a").body("x".repeat(401)).send().await.unwrap();
    assert_eq!(response.status(), 413);
    assert_eq!(problem(response).await["type"], "urn:weft:problem:too-large");
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(3);
    for _ in 0..3 {
        sender.send(Ok(vec![0; 200])).await.unwrap();
    }
    let unannounced = futures_util::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    let response =
        server.post("?topic=a").body(reqwest::Body::wrap_stream(unannounced)).send().await.unwrap();
    assert_eq!(response.status(), 413);
    let event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    let request = server.post("").header("content-type", "application/cloudevents-batch+json");
    let response = request.body(format!("[{event},{event},{event}]")).send().await.unwrap();
    assert_eq!(response.status(), 413);
    assert!(problem(response).await["detail"].as_str().unwrap().contains("3 events"));
    server.hub.answer_next(Answer::Late);
    let first = tokio::spawn(server.post("?topic=a").body("x".repeat(300)).send());
    server.hub.until(|calls| (!calls.is_empty()).then_some(())).await;
    let second = server.post("?topic=a").body("x".repeat(300)).send().await.unwrap();
    assert_eq!(second.status(), 429, "bodies that wait take their room");
    server.hub.release_late();
    assert_eq!(first.await.unwrap().unwrap().status(), 200);
    assert_eq!(server.post("?topic=a").body("x".repeat(300)).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn an_answer_comes_even_if_the_store_gives_none() {
    let server = Server::start_with(Options { publish_timeout_s: 1, ..Options::default() }).await;
    for (answer, status) in [(Answer::Never, 503), (Answer::NoRoom, 429)] {
        server.hub.answer(answer);
        let response = server.post("?topic=a").body("x").send().await.unwrap();
        assert_eq!(response.status(), status);
        assert!(problem(response).await["detail"].as_str().unwrap().contains("in time"));
    }
}

#[tokio::test]
async fn other_methods_and_origins() {
    let options = Options { origins: vec!["https://app.example".to_owned()], ..Options::default() };
    let server = Server::start_with(options).await;
    let response = server.client.delete(server.url("")).send().await.unwrap();
    assert_eq!(
        (response.status().as_u16(), &response.headers()["allow"]),
        (405, &"GET, HEAD, POST, OPTIONS".parse().unwrap())
    );
    assert_eq!(problem(response).await["type"], "urn:weft:problem:method");
    let head = server.client.head(server.url("?topic=a")).send().await.unwrap();
    assert_eq!(
        (head.status().as_u16(), &head.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );

    let elsewhere =
        server.post("?topic=a").header("origin", "https://evil.example").body("x").send().await.unwrap();
    assert_eq!(elsewhere.status(), 403);
    assert!(elsewhere.headers().get("access-control-allow-origin").is_none());
    assert_eq!(problem(elsewhere).await["type"], "urn:weft:problem:origin");
    assert!(server.hub.calls().is_empty());
    let here = format!("http://{}", server.address);
    for (origin, allowed) in [("https://app.example", true), (&*here, false)] {
        let response = server.post("?topic=a").header("origin", origin).body("x").send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers().get("access-control-allow-origin").is_some(), allowed);
    }
    let preflight = server
        .client
        .request(reqwest::Method::OPTIONS, server.url(""))
        .header("origin", "https://app.example");
    let response = preflight.header("access-control-request-method", "POST").send().await.unwrap();
    assert_eq!(response.status(), 204);
    assert_eq!(response.headers()["access-control-allow-origin"], "https://app.example");
    assert!(response.headers()["access-control-allow-methods"].to_str().unwrap().contains("POST"));
}
