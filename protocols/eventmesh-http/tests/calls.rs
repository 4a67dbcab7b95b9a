//! What requests are answered with, and when, over a fake hub.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests fail by it")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use event::access::{Asking, Credentials, Exchange, Gate, OpenGate};
use event::hub::Hub;
use event::testing::{Answer, FakeHub};
use event::{ByteLimit, Pending, Principal, Reject, RejectKind, Source};
use eventmesh::{Clients, Requester, TopicList};
use eventmesh_http::{Options, Parts, router};
use http::{Request, Response};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tower::ServiceExt as _;
use webhook::Hooks;

struct Site {
    hub: Arc<FakeHub>,
    router: Router,
    _drain: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Site {
    async fn new() -> Self {
        Self::with(Options::default(), Arc::new(OpenGate)).await
    }

    async fn with(options: Options, gate: Arc<dyn Gate>) -> Self {
        rustls::crypto::ring::default_provider().install_default().unwrap_or(());
        let hub = Arc::new(FakeHub::new());
        let shared: Arc<dyn Hub> = Arc::clone(&hub) as Arc<dyn Hub>;
        let (drain, drained) = watch::channel(false);
        let common = Arc::new(eventmesh::Options::default());
        let mut tasks = JoinSet::new();
        let asking = Requester::start(Arc::clone(&shared), &common, drained.clone());
        let (requester, replies) = asking.await.unwrap();
        tasks.spawn(replies);
        let (clients, topics) = (Clients::default(), TopicList::default());
        let webhooks = webhook::Options { loopback: true, ..webhook::Options::default() };
        let of_hooks = Arc::clone(&shared);
        let (hooks, posts) = Hooks::new(of_hooks, clients.clone(), webhooks, &common, drained).unwrap();
        tasks.spawn(posts);
        let parts = Parts { gate, hub: shared, requester, hooks, clients, topics, options, common };
        Self { hub, router: router(parts), _drain: drain, _tasks: tasks }
    }

    async fn post(&self, headers: &[(&str, &str)], body: impl Into<Body>) -> (u16, Value) {
        let mut request = Request::post("/");
        for (name, value) in [("idc", "FT"), ("sys", "1"), ("pid", "7")].iter().chain(headers) {
            request = request.header(*name, *value);
        }
        self.ask(request.body(body.into()).unwrap()).await
    }

    async fn ask(&self, mut request: Request<Body>) -> (u16, Value) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 5));
        let source = Source { address, listener: Arc::from("test"), certificate: None };
        request.extensions_mut().insert(source);
        read(self.router.clone().oneshot(request).await.unwrap()).await
    }

    async fn publish(&self) -> (u16, Value) {
        self.post(&[("code", "104"), ("username", "u"), ("passwd", "p")], FORM).await
    }
}

async fn read(response: Response<Body>) -> (u16, Value) {
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let page: Value = serde_json::from_slice(&body).expect("every answer is JSON");
    assert!(page["resTime"].is_u64() && page["retMsg"].is_string(), "{page}");
    (status, page)
}

fn code((status, page): (u16, Value)) -> (u16, i64) {
    (status, page["retCode"].as_i64().unwrap())
}

const FORM: &str = "topic=orders&content=x&bizseqno=1&uniqueid=2&producergroup=g&ttl=4000";

#[tokio::test(start_paused = true)]
async fn an_answer_waits_until_the_event_is_kept() {
    let site = Site::new().await;
    site.hub.answer(Answer::Late);
    let publish = site.publish();
    let mut publish = std::pin::pin!(publish);
    tokio::select! {
        biased;
        answer = &mut publish => panic!("answered before it was kept: {answer:?}"),
        () = tokio::time::sleep(Duration::from_secs(1)) => {}
    }
    assert_eq!(site.hub.release_late(), 1);
    let (status, page) = publish.await;
    assert_eq!((status, &page["retCode"]), (200, &0.into()));
    assert!(page["retMsg"].as_str().unwrap().starts_with("success"), "{page}");
    assert_eq!(site.hub.published()[0].event.topic().as_str(), "orders");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_kept_in_time_is_told() {
    let site = Site::new().await;
    site.hub.answer(Answer::Late);
    assert_eq!(code(site.publish().await), (200, 15));
}

#[tokio::test(start_paused = true)]
async fn refusals_have_the_codes_of_eventmesh() {
    let site = Site::new().await;
    for (kind, want) in [
        (RejectKind::Malformed, 7),
        (RejectKind::Denied, 22),
        (RejectKind::Busy, 1),
        (RejectKind::Unavailable, 15),
        (RejectKind::Closed, 9),
    ] {
        site.hub.answer_next(Answer::Refused(Reject::new(kind, "so it is")));
        let (status, page) = site.publish().await;
        assert_eq!((status, &page["retCode"]), (200, &want.into()), "{kind:?}");
        assert!(page["retMsg"].as_str().unwrap().ends_with("so it is"), "{page}");
    }
}

/// Lets nobody in, and notes what was shown.
#[derive(Default)]
struct Closed(std::sync::Mutex<Vec<Credentials>>);

impl Gate for Closed {
    fn admit(&self, asking: Asking) -> Pending<Principal> {
        self.0.lock().unwrap().push(asking.credentials);
        Box::pin(async { Err(Reject::new(RejectKind::Unproved, "not you")) })
    }

    fn exchange(&self, _asking: Asking, _method: &str) -> Option<Box<dyn Exchange>> {
        None
    }
}

#[tokio::test(start_paused = true)]
async fn everything_is_asked_of_the_gate() {
    let gate = Arc::new(Closed::default());
    let site = Site::with(Options::default(), Arc::clone(&gate) as Arc<dyn Gate>).await;
    let topics = "url=http%3A%2F%2F127.0.0.1%3A9%2F&consumerGroup=g&topic=%5B%22t%22%5D";
    let beat = "consumerGroup=g&heartbeatEntities=%5B%7B%22topic%22%3A%22t%22%7D%5D";
    let batch =
        "batchId=1&size=1&producerGroup=g&contents=%5B%7B%22topic%22%3A%22t%22%2C%22msg%22%3A%22m%22%7D%5D";
    let one = "topic=t&msg=x&bizseqno=1&producergroup=g";
    let reply = "origtopic=t&content=x&bizseqno=1&uniqueid=1&producergroup=g&extFields=%7B%7D";
    for (command, body) in [
        ("101", FORM),
        ("102", batch),
        ("104", FORM),
        ("107", one),
        ("203", beat),
        ("206", topics),
        ("207", topics),
        ("301", reply),
    ] {
        let answer = site.post(&[("code", command), ("username", "u"), ("passwd", "p")], body).await;
        assert_eq!(code(answer), (200, 22), "{command}");
    }
    for (path, body) in [
        ("/eventmesh/publish/t", "{}"),
        ("/eventmesh/bridge/publish", r#"{"topic":"t","content":"x"}"#),
        ("/eventmesh/subscribe/local", r#"{"url":"http://127.0.0.1:9/","consumerGroup":"g","topic":["t"]}"#),
        (
            "/eventmesh/unsubscribe/local",
            r#"{"url":"http://127.0.0.1:9/","consumerGroup":"g","topic":["t"]}"#,
        ),
        ("/eventmesh/topic/create", r#"{"topic":"a;b"}"#),
        ("/eventmesh/topic/delete", r#"{"topic":"a;b"}"#),
        ("/eventmesh/subscrition/query", "{}"),
    ] {
        let request = Request::post(path).header("token", "t").body(Body::from(body)).unwrap();
        assert_eq!(code(site.ask(request).await), (200, 22), "{path}");
    }
    assert!(site.hub.published().is_empty());
    let shown = gate.0.lock().unwrap();
    assert!(shown.iter().all(|shown| !matches!(shown, Credentials::None)), "{shown:?}");
}

#[tokio::test(start_paused = true)]
async fn bodies_are_limited_alone_and_together() {
    let (one, all) = (ByteLimit::kib(1), ByteLimit::kib(2));
    let options = Options { body_bytes_max: one, bodies_bytes_max: all, ..Options::default() };
    let site = Site::with(options, Arc::new(OpenGate)).await;
    let large = format!("{FORM}&extFields={}", "x".repeat(1024));
    assert_eq!(code(site.post(&[("code", "104")], large.clone()).await), (413, 8));
    let announced = [("code", "104"), ("content-length", "5000")];
    assert_eq!(code(site.post(&announced, large).await), (413, 8));
    // Two that wait to be kept leave no room for a third; its size is not announced, so it counts as the largest.
    site.hub.answer(Answer::Late);
    let headers = [("code", "104")];
    let (first, second) = (site.post(&headers, FORM), site.post(&headers, FORM));
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    tokio::select! {
        biased;
        _ = &mut first => panic!("answered"),
        _ = &mut second => panic!("answered"),
        () = tokio::time::sleep(Duration::from_millis(1)) => {}
    }
    assert_eq!(code(site.post(&headers, FORM).await), (200, 1));
    site.hub.release_late();
    assert_eq!((code(first.await), code(second.await)), ((200, 0), (200, 0)));
    site.hub.answer(Answer::Kept);
    assert_eq!(code(site.post(&headers, FORM).await), (200, 0), "the room is free again");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let site = Site::new().await;
    let (_sender, body) = tokio::sync::mpsc::channel::<Result<bytes::Bytes, std::io::Error>>(1);
    let body = Body::from_stream(Stuck(body));
    assert_eq!(code(site.post(&[("code", "104")], body).await), (408, 7));
}

/// A body of which nothing comes.
struct Stuck(tokio::sync::mpsc::Receiver<Result<bytes::Bytes, std::io::Error>>);

impl futures_util::Stream for Stuck {
    type Item = Result<bytes::Bytes, std::io::Error>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn methods_versions_and_codes_are_checked_first() {
    let site = Site::new().await;
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS"] {
        let request = Request::builder().method(method).uri("/").body(Body::empty()).unwrap();
        assert_eq!(code(site.ask(request).await), (405, 2), "{method}");
    }
    assert_eq!(code(site.post(&[("code", "104"), ("version", "9.9")], FORM).await), (400, 6));
    assert_eq!(code(site.post(&[], FORM).await), (400, 2));
    assert_eq!(code(site.post(&[("code", "999")], FORM).await), (400, 2));
    let get = Request::get(format!("/?code=104&{FORM}"));
    let get = get.header("idc", "i").header("sys", "s").header("pid", "1").body(Body::empty()).unwrap();
    assert_eq!(code(site.ask(get).await), (200, 0), "the query of GET is a form");
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_kept_whole_or_says_what_is_not() {
    let site = Site::with(Options { batch_events_max: 3, ..Options::default() }, Arc::new(OpenGate)).await;
    let batch = |count: usize| {
        let list = vec![r#"{"bizSeqNo":"1","topic":"t","msg":"m"}"#; count].join(",");
        format!("batchId=1&size={count}&producerGroup=g&contents=[{list}]")
    };
    let headers = [("code", "102")];
    assert_eq!(code(site.post(&headers, batch(3)).await), (200, 0));
    assert_eq!(site.hub.published().len(), 3);
    assert_eq!(code(site.post(&headers, batch(4)).await), (200, 7));
    let refused = Reject::new(RejectKind::Unavailable, "the disk is full");
    site.hub.answer_next(Answer::Partly(vec![(1, refused)]));
    let (_, page) = site.post(&headers, batch(3)).await;
    let text = page["retMsg"].as_str().unwrap();
    assert_eq!(page["retCode"], 17);
    assert!(text.contains("the disk is full") && text.contains("messages 1;"), "{text}");
    let long = format!(
        "batchId=1&size=1&producerGroup=g&contents=[{{\"topic\":\"t\",\"msg\":\"{}\"}}]",
        "x".repeat(1001)
    );
    assert_eq!(code(site.post(&headers, long).await), (200, 8));
    assert_eq!(site.hub.published().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn topics_are_noted_and_forgotten() {
    let site = Site::new().await;
    let ask = |path: &str, body: &'static str| Request::post(path).body(Body::from(body)).unwrap();
    assert_eq!(code(site.ask(ask("/eventmesh/topic/create", r#"{"topic":"a; b"}"#)).await), (200, 0));
    assert_eq!(code(site.ask(ask("/eventmesh/topic/create", r#"{"topic":"a/#"}"#)).await), (200, 100));
    assert_eq!(code(site.ask(ask("/eventmesh/topic/delete", r#"{"topic":"a"}"#)).await), (200, 0));
}
