//! A server on loopback with a fake hub behind it.

#![allow(dead_code, unreachable_pub, reason = "a module of several test programs, each of which uses a part")]

use std::net::SocketAddr;
use std::sync::Arc;

use event::access::{Gate, OpenGate};
use event::hub::Publish;
use event::testing::FakeHub;
use event::{Event, Guarantee, Parts, TopicName};
use http_front::{Options, router, serve_connection};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub struct Server {
    pub hub: FakeHub,
    pub address: SocketAddr,
    pub client: reqwest::Client,
    drain: watch::Sender<bool>,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    pub async fn start_with(options: Options) -> Self {
        Self::start_behind(Arc::new(OpenGate), options).await
    }

    pub async fn start_behind(gate: Arc<dyn Gate>, options: Options) -> Self {
        let hub = FakeHub::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (drain, draining) = watch::channel(false);
        let options = Arc::new(options);
        let router = router(gate, Arc::new(hub.clone()), Arc::clone(&options), draining.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (router, options, draining) = (router.clone(), Arc::clone(&options), draining.clone());
                tokio::spawn(async move { serve_connection(stream, router, &options, draining).await });
            }
        });
        Self { hub, address, client: reqwest::Client::new(), drain }
    }

    pub fn stop(&self) {
        self.drain.send(true).unwrap();
    }

    pub fn url(&self, query: &str) -> String {
        format!("http://{}/events{query}", self.address)
    }

    pub fn post(&self, query: &str) -> reqwest::RequestBuilder {
        self.client.post(self.url(query))
    }

    /// Publishes `data` to `topic` behind the back of the front-end.
    pub fn inject(&self, topic: &str, data: &str, guarantee: Guarantee, retain: bool) {
        let event = Event::new(Parts {
            topic: TopicName::parse(topic).unwrap(),
            data: data.as_bytes().to_vec().into(),
            stamp: 5,
            received_ms: 1_700_000_000_000,
            expires_ms: 0,
            publisher: Arc::from("dev"),
            meta: None,
        });
        self.hub.inject("dev", Publish { event, guarantee, retain, id: None });
    }
}

/// The problem details of a refusal, checked to be such (RFC 9457 §3).
pub async fn problem(response: reqwest::Response) -> Value {
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let status = response.status().as_u16();
    let details: Value = response.json().await.unwrap();
    assert_eq!(details["status"], status);
    for member in ["type", "title", "detail"] {
        assert!(details[member].as_str().is_some_and(|text| !text.is_empty()), "{details}");
    }
    details
}

/// Reads a stream of server-sent events.
pub struct Stream {
    response: reqwest::Response,
    text: String,
}

impl Stream {
    pub async fn open(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{:?}", response.text().await);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut stream = Self { response, text: String::new() };
        assert!(stream.block().await.unwrap().starts_with("retry: "));
        stream
    }

    /// The next lines up to an empty one; `None` at the end.
    pub async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            let chunk = self.response.chunk().await.ok()??;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The id and the CloudEvent of the next event.
    pub async fn event(&mut self) -> Option<(Option<String>, Value)> {
        loop {
            let block = self.block().await?;
            if block.starts_with(':') {
                continue;
            }
            let id = block.lines().find_map(|line| line.strip_prefix("id: ")).map(str::to_owned);
            let data: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
            return Some((id, serde_json::from_str(&data.join("\n")).unwrap()));
        }
    }

    /// The data of the next `count` events, and the last id.
    pub async fn data(&mut self, count: usize) -> (Vec<String>, Option<String>) {
        let (mut all, mut last) = (Vec::new(), None);
        for _ in 0..count {
            let (id, event) = self.event().await.expect("an event");
            last = id.or(last);
            all.push(event["data"].to_string());
        }
        (all, last)
    }
}
