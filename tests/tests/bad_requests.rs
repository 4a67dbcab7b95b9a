//! Wrong input over HTTP and WebSocket, against the real program: each gets the standard's answer, and a pair of
//! well-behaved clients does not notice.

use tests::cloud::CloudEvent;
use tests::socket::Socket;
use tests::weft::Setup;
use tests::{PATIENCE, Weft, Witness, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::OpCode;
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tokio_tungstenite::tungstenite::{Error, Message};

/// A request: headers, body, query, and what the answer has to be: status and the `type` of the problem (RFC 9457).
struct Case {
    name: &'static str,
    query: &'static str,
    headers: &'static [(&'static str, &'static str)],
    body: &'static str,
    status: u16,
    problem: &'static str,
}

const EVENT: (&str, &str) = ("content-type", "application/cloudevents+json");
const BATCH: (&str, &str) = ("content-type", "application/cloudevents-batch+json");

const PUBLISHES: [Case; 16] = [
    Case { name: "no event", query: "", headers: &[], body: "x", status: 400, problem: "event" },
    Case { name: "no JSON", query: "", headers: &[EVENT], body: "{", status: 400, problem: "event" },
    Case { name: "no object", query: "", headers: &[EVENT], body: "[1]", status: 400, problem: "event" },
    Case {
        name: "no id",
        query: "",
        headers: &[EVENT],
        body: r#"{"specversion":"1.0","source":"/s","type":"t"}"#,
        status: 400,
        problem: "event",
    },
    Case {
        name: "an empty source",
        query: "",
        headers: &[EVENT],
        body: r#"{"specversion":"1.0","source":"","type":"t","id":"1"}"#,
        status: 400,
        problem: "event",
    },
    Case {
        name: "version 0.3",
        query: "",
        headers: &[EVENT],
        body: r#"{"specversion":"0.3","source":"/s","type":"t","id":"1"}"#,
        status: 400,
        problem: "specversion",
    },
    Case {
        name: "version 2.0",
        query: "?topic=t",
        headers: &[("ce-specversion", "2.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")],
        body: "",
        status: 400,
        problem: "specversion",
    },
    Case {
        name: "headers without version",
        query: "?topic=t",
        headers: &[("ce-id", "1")],
        body: "",
        status: 400,
        problem: "event",
    },
    Case {
        name: "data twice",
        query: "",
        headers: &[EVENT],
        body: r#"{"specversion":"1.0","source":"/s","type":"t","id":"1","data":1,"data_base64":"AA=="}"#,
        status: 400,
        problem: "event",
    },
    Case {
        name: "no base64",
        query: "",
        headers: &[EVENT],
        body: r#"{"specversion":"1.0","source":"/s","type":"t","id":"1","data_base64":"?"}"#,
        status: 400,
        problem: "event",
    },
    Case {
        name: "a name in capitals",
        query: "",
        headers: &[EVENT],
        body: r#"{"specversion":"1.0","source":"/s","type":"t","id":"1","Big":1}"#,
        status: 400,
        problem: "event",
    },
    Case {
        name: "a batch with one that is none",
        query: "",
        headers: &[BATCH],
        body: r#"[{"specversion":"1.0","source":"/s","type":"t","id":"1"},{}]"#,
        status: 400,
        problem: "",
    },
    Case {
        name: "XML",
        query: "?topic=t",
        headers: &[("content-type", "application/cloudevents+xml")],
        body: "<e/>",
        status: 415,
        problem: "media-type",
    },
    Case {
        name: "a wildcard",
        query: "?topic=a/%23",
        headers: &[],
        body: "x",
        status: 400,
        problem: "topic",
    },
    Case { name: "an empty topic", query: "?topic=", headers: &[], body: "x", status: 400, problem: "topic" },
    Case {
        name: "an unknown key",
        query: "?topik=t",
        headers: &[],
        body: "x",
        status: 400,
        problem: "query",
    },
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_that_are_wrong_are_answered_with_the_problem() {
    let weft = Weft::start().await;
    let witness = Witness::start(weft.mqtt).await;
    let client = reqwest::Client::new();
    for case in PUBLISHES {
        let request = client.post(format!("http://{}/events{}", weft.http, case.query)).body(case.body);
        let headers = case.headers.iter();
        let request = headers.fold(request, |request, (name, value)| request.header(*name, *value));
        assert_problem(case.name, request, case.status, case.problem).await;
    }
    witness.finish().await;
}

#[tokio::test]
async fn streams_that_are_wrong_are_answered_with_the_problem() {
    let weft = Weft::start().await;
    let client = reqwest::Client::new();
    let cases = [
        ("no filter", "", "", 400, "query"),
        ("a filter that is none", "?topic=a/%23/b", "", 400, "topic"),
        ("a shared filter", "?topic=$share/g/a", "", 400, "topic"),
        ("an unknown key", "?topic=a&colour=red", "", 400, "query"),
        ("an id of another stream", "?topic=a", "abc", 400, "query"),
        ("a negative id", "?topic=a", "-1", 400, "query"),
    ];
    for (name, query, last_id, status, problem) in cases {
        let mut request = client.get(format!("http://{}/events{query}", weft.http));
        if !last_id.is_empty() {
            request = request.header("last-event-id", last_id);
        }
        assert_problem(name, request, status, problem).await;
    }
    let unknown = client.delete(format!("http://{}/events", weft.http));
    assert_problem("another method", unknown, 405, "method").await;
    let (status, _) = weft.get("/no/such/page").await.unwrap();
    assert_eq!(status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_over_the_limit_are_refused() {
    let weft = Setup::new().config("[http]\nbody_bytes_max = \"64 KiB\"\n").start().await;
    let witness = Witness::start(weft.mqtt).await;
    let client = reqwest::Client::new();
    for size in [64 << 10, (64 << 10) + 1, 8 << 20] {
        let body = vec![b'x'; size];
        let answer = client.post(format!("http://{}/events?topic=t", weft.http)).body(body).send().await;
        // A server may also answer and close before it has read all: then the client may see the broken pipe.
        let status = answer.map_or(413, |answer| answer.status().as_u16());
        assert_eq!(status, if size == 64 << 10 { 200 } else { 413 }, "{size}");
    }
    let mut stream = TcpStream::connect(weft.http).await.unwrap();
    let head = "POST /events?topic=t HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 413", "told before the body is sent");
    witness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_http_ends_the_connection() {
    let weft = Setup::new().config("[http]\nhead_timeout_s = 1\n").start().await;
    let witness = Witness::start(weft.mqtt).await;
    let cases: [&[u8]; 6] = [
        b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /events?topic=a HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n",
        b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        // Never ends its head.
        b"GET / HTTP/1.1\r\nHost: x\r\n",
    ];
    for bytes in cases {
        let mut stream = TcpStream::connect(weft.http).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = stream.read_to_end(&mut answer);
        let shown = String::from_utf8_lossy(bytes);
        let ended = tokio::time::timeout(PATIENCE, read).await;
        let ended = ended.unwrap_or_else(|_| panic!("{shown:?}: still open"));
        ended.map(drop).unwrap_or(());
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{shown:?}: {answer}");
    }
    witness.finish().await;
}

/// A page of another site must not publish to a Weft on the machine of the person who visits it.
#[tokio::test]
async fn pages_of_other_origins_may_not() {
    let weft = Weft::start().await;
    let url = format!("http://{}/events?topic=t", weft.http);
    let client = reqwest::Client::new();
    let request = client.post(&url).header("origin", "https://elsewhere.example").body("x");
    assert_problem("another origin", request, 403, "origin").await;
    let own =
        client.post(&url).header("origin", format!("http://{}", weft.http)).body("x").send().await.unwrap();
    assert_eq!(own.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_of_a_stream_that_does_not_read_costs_bounded_memory() {
    let weft = Weft::start().await;
    let witness = Witness::start(weft.mqtt).await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(weft.http).await.unwrap();
        stream.write_all(b"GET /events?topic=flood HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        slow.push(stream);
    }
    let before = weft.memory();
    let client = reqwest::Client::new();
    let body = vec![b'x'; 256 * 1024];
    for _ in 0..400 {
        let answer = client.post(format!("http://{}/events?topic=flood", weft.http)).body(body.clone());
        assert_eq!(answer.send().await.unwrap().status(), 200);
    }
    let grown = weft.memory().saturating_sub(before);
    assert!(grown < 96 << 20, "{} MiB more for readers that do not read", grown >> 20);
    drop(slow);
    eventually("the streams are closed", || async {
        weft.metric("weft_http_streams_closed_total").await.filter(|count| *count >= 4.0)
    })
    .await;
    witness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_that_are_wrong_are_refused() {
    let weft = Weft::start().await;
    let cases = [
        ("another subprotocol", format!("ws://{}/ws", weft.http), "mqtt", 400),
        ("the other's subprotocol", format!("ws://{}/mqtt", weft.http), "cloudevents.json", 400),
        ("an unknown key", format!("ws://{}/ws?clinet=a", weft.http), "cloudevents.json", 400),
        (
            "a client id of Weft's own",
            format!("ws://{}/ws?client=$bridge/a", weft.http),
            "cloudevents.json",
            400,
        ),
    ];
    for (name, url, protocol, status) in cases {
        match Socket::open(&url, protocol).await {
            Err(Error::Http(answer)) => assert_eq!(answer.status(), status, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    for path in ["/ws", "/mqtt"] {
        assert_eq!(weft.get(path).await.unwrap().0, 426, "no handshake at all");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_wrong_close_with_the_code_of_the_standard() {
    let weft = Setup::new().config("[websocket]\nmessage_bytes_max = \"64 KiB\"\n").start().await;
    let witness = Witness::start(weft.mqtt).await;
    let frame = |first: u8, payload: &[u8]| Message::Frame(raw_frame(first, payload));
    let cases = [
        // RFC 6455 §7.4.1: 1002 protocol, 1003 kind of data, 1007 content, 1009 too big.
        ("a text that is not UTF-8", frame(0x81, b"\xff\xfe"), vec![1007]),
        ("a reserved opcode", frame(0x83, b"x"), vec![1002]),
        ("reserved bits", frame(0xf1, b"{}"), vec![1002]),
        ("a continuation of nothing", frame(0x80, b"{}"), vec![1002]),
        ("a ping in two frames", frame(0x09, b""), vec![1002]),
        ("over the limit", Message::text("x".repeat(65 * 1024)), vec![1009]),
        ("binary data", Message::binary(b"{}".to_vec()), vec![1003]),
    ];
    for (name, message, codes) in cases {
        let mut socket = Socket::connect(weft.http, "").await.unwrap();
        socket.send(message).await.unwrap();
        let code = socket.closed().await.map(u16::from);
        assert!(
            code.is_some_and(|code| codes.contains(&code)),
            "{name}: closed with {code:?}, not {codes:?}"
        );
    }
    witness.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_are_wrong_are_answered_and_the_connection_goes_on() {
    let weft = Weft::start().await;
    let mut socket = Socket::connect(weft.http, "").await.unwrap();
    let cases = [
        r#"{"specversion":"2.0","id":"1","source":"/s","type":"t"}"#,
        r#"{"specversion":"1.0","source":"/s","type":"t"}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","wefttopic":"a/#"}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"weft.subscribe","data":{"topic":"a/#/b"}}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"weft.subscribe","data":{"topik":"a"}}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"weft.no-such-thing"}"#,
        r#"{"specversion":"1.0","id":"1","source":"/s","type":"weft.ack","data":{"positions":["x"]}}"#,
    ];
    for text in cases {
        socket.send(Message::text(text)).await.unwrap();
        let answer: serde_json::Value = serde_json::from_str(&socket.text().await).unwrap();
        assert_eq!(answer["type"], "weft.error", "{text}: {answer}");
        assert_eq!(answer["data"]["kind"], "malformed", "{text}: {answer}");
        assert!(answer["data"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{answer}");
    }
    socket.publish(&CloudEvent::new("1", "/s", "t")).await;
}

/// A frame with any first byte, masked with zeros as a client's has to be.
fn raw_frame(first: u8, payload: &[u8]) -> Frame {
    let header = FrameHeader {
        is_final: first & 0x80 != 0,
        rsv1: first & 0x40 != 0,
        rsv2: first & 0x20 != 0,
        rsv3: first & 0x10 != 0,
        opcode: OpCode::from(first & 0x0f),
        mask: Some([0; 4]),
    };
    Frame::from_payload(header, payload.to_vec().into())
}

async fn assert_problem(name: &str, request: reqwest::RequestBuilder, status: u16, problem: &str) {
    let answer = request.send().await.unwrap();
    let have = answer.status().as_u16();
    let media_type = answer.headers().get("content-type").map(|value| value.to_str().unwrap().to_owned());
    let body = answer.text().await.unwrap();
    assert_eq!(have, status, "{name}: {body}");
    assert_eq!(media_type.as_deref(), Some("application/problem+json"), "{name}");
    let details: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(details["status"], status, "{name}");
    let ty = details["type"].as_str().unwrap();
    assert!(problem.is_empty() || ty.ends_with(&format!(":{problem}")), "{name}: {body}");
    assert!(!details["detail"].as_str().unwrap().is_empty(), "{name}: {body}");
}
