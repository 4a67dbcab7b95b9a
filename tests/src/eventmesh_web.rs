//! EventMesh's HTTP protocol as raw clients speak it, and a webhook that gets what is posted. Shares no code with Weft.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::hook::{Hook, whole};
use crate::util::PATIENCE;

/// An answer of HTTP.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as JSON; `null`: it is none.
    pub body: Value,
}

impl Answer {
    /// Its `retCode`.
    pub fn code(&self) -> i64 {
        self.body["retCode"].as_i64().unwrap_or_else(|| panic!("no retCode in {self:?}"))
    }
}

/// A connection of a client.
#[derive(Debug)]
pub struct Web {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Web {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), input: Vec::new() }
    }

    /// Sends a form with this code, as EventMesh's SDK for Java does, from process `pid`.
    pub async fn command(&mut self, code: u16, pid: &str, fields: &[(&str, &str)]) -> Answer {
        let code = code.to_string();
        let headers = [("code", &*code), ("protocoltype", "eventmeshmessage"), ("pid", pid)];
        self.form(&headers, fields).await
    }

    /// Sends a form with these headers beside those that all have.
    pub async fn form(&mut self, headers: &[(&str, &str)], fields: &[(&str, &str)]) -> Answer {
        let body: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let kind = [("content-type", "application/x-www-form-urlencoded; charset=UTF-8")];
        self.post("/", &[headers, &kind].concat(), body.join("&").as_bytes()).await
    }

    /// Sends JSON to a path.
    pub async fn json(&mut self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let kind = [("content-type", "application/json")];
        self.post(path, &[headers, &kind].concat(), body.to_string().as_bytes()).await
    }

    /// Sends a message with this code, such as 104 (asynchronous) or 101 (a request).
    pub async fn send(&mut self, code: u16, topic: &str, content: &str, more: &[(&str, &str)]) -> Answer {
        let fields = [
            ("topic", topic),
            ("content", content),
            ("bizseqno", "biz-1"),
            ("uniqueid", "unique-1"),
            ("producergroup", "p"),
            ("ttl", "30000"),
        ];
        self.command(code, "7", &[&fields[..], more].concat()).await
    }

    /// Publishes a message; panics if it is refused.
    pub async fn publish(&mut self, topic: &str, content: &str, more: &[(&str, &str)]) {
        let answer = self.send(104, topic, content, more).await;
        assert_eq!((answer.status, answer.code()), (200, 0), "{answer:?}");
    }

    /// Subscribes a webhook from process `pid`; panics if that is refused.
    pub async fn subscribe(&mut self, pid: &str, group: &str, topic: &str, kind: &str, url: &str) {
        let topics = json!([{"topic": topic, "mode": "CLUSTERING", "type": kind}]).to_string();
        let fields = [("consumerGroup", group), ("topic", &*topics), ("url", url)];
        let answer = self.command(206, pid, &fields).await;
        assert_eq!(answer.code(), 0, "{answer:?}");
    }

    /// Sends any POST.
    pub async fn post(&mut self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let own = [("idc", "FT"), ("env", "test"), ("sys", "1234"), ("pid", "7"), ("language", "JAVA")];
        let own = own.into_iter().filter(|(name, _)| !headers.iter().any(|(given, _)| given == name));
        let own = own.chain([("username", "somebody"), ("passwd", "hidden-password"), ("version", "1.0")]);
        let mut head = format!("POST {path} HTTP/1.1\r\nhost: mesh\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in own.chain(headers.iter().copied()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let bytes = [format!("{head}\r\n").as_bytes(), body].concat();
        self.stream.write_all(&bytes).await.unwrap();
        let (first, headers, body) = whole(&mut self.stream, &mut self.input).await.expect("an answer");
        let status = first.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, headers, body: serde_json::from_slice(&body).unwrap_or_default() }
    }
}

/// What was posted to a webhook.
#[derive(Clone, Debug)]
pub struct Post {
    /// The headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The fields of the form.
    pub fields: BTreeMap<String, String>,
}

impl Post {
    /// The field `content`.
    pub fn content(&self) -> &str {
        &self.fields["content"]
    }

    /// The field `extFields`, read as JSON.
    pub fn extensions(&self) -> Value {
        serde_json::from_str(&self.fields["extFields"]).unwrap()
    }
}

/// A webhook. Dropped, it is gone.
#[derive(Debug)]
pub struct Webhook {
    /// Where it is.
    pub url: String,
    hook: Hook,
}

impl Webhook {
    /// One on a free port that takes all.
    pub async fn start() -> Self {
        let hook = Hook::start().await;
        hook.consent("webhook-allowed-origin: *\r\n");
        Self { url: hook.url(), hook }
    }

    /// The next post is answered with this status and `retCode`.
    pub fn answer(&self, status: u16, code: u8) {
        self.hook.answer(status, "", &format!("{{\"retCode\":{code}}}"));
    }

    /// The next post. Panics after [`PATIENCE`] without one.
    pub async fn next(&mut self) -> Post {
        self.next_within(PATIENCE).await.expect("a post in time")
    }

    /// The next post; `None`: none came in time. Cancel-safe.
    pub async fn next_within(&mut self, limit: Duration) -> Option<Post> {
        let posts = async {
            loop {
                let post = self.hook.next_within(limit).await?;
                if post.method == "POST" {
                    let fields = post.text().split('&').filter_map(|pair| pair.split_once('='));
                    let fields = fields.map(|(name, value)| (decoded(name), decoded(value))).collect();
                    return Some(Post { headers: post.headers, fields });
                }
            }
        };
        tokio::time::timeout(limit, posts).await.ok().flatten()
    }
}

/// As a form has it.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn decoded(text: &str) -> String {
    let text = text.replace('+', " ");
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first == b'%' {
            let digits = std::str::from_utf8(&tail[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &tail[2..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).unwrap()
}
