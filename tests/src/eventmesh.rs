//! EventMesh's TCP protocol byte by byte, sharing no code with Weft, and a client on it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::util::PATIENCE;

/// A connection.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
    next_seq: u32,
}

/// A frame that came.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its header.
    pub header: Value,
    /// Its body; JSON in all frames that have one. `null`: there is none.
    pub body: Value,
}

impl Frame {
    /// The command.
    pub fn cmd(&self) -> &str {
        self.header["cmd"].as_str().unwrap_or_default()
    }

    /// The code.
    pub fn code(&self) -> u64 {
        self.header["code"].as_u64().expect("a code")
    }

    /// The seq.
    pub fn seq(&self) -> &str {
        self.header["seq"].as_str().unwrap_or_default()
    }
}

impl Peer {
    /// A client of `group` that said hello. `purpose`: `pub` or `sub`.
    pub async fn hello(address: SocketAddr, group: &str, purpose: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut peer = Self { stream, input: Vec::new(), next_seq: 0 };
        let agent = json!({
            "env": "test", "subsystem": "5023", "pid": 1, "version": "2.0.11", "group": group, "purpose": purpose,
            "username": "somebody", "password": "hidden-password",
        });
        assert_eq!(peer.call("HELLO_REQUEST", &json!({}), &agent).await.code(), 0);
        peer
    }

    /// A client of `group` that listens to `topic`.
    pub async fn listen(address: SocketAddr, group: &str, topic: &str, mode: &str, kind: &str) -> Self {
        let mut peer = Self::hello(address, group, "sub").await;
        let wanted = json!({"topicList": [{"topic": topic, "mode": mode, "type": kind}]});
        assert_eq!(peer.call("SUBSCRIBE_REQUEST", &json!({}), &wanted).await.code(), 0);
        assert_eq!(peer.call("LISTEN_REQUEST", &json!({}), &Value::Null).await.code(), 0);
        peer
    }

    /// Sends a command under the next seq; which that is.
    pub async fn send(&mut self, cmd: &str, properties: &Value, body: &Value) -> String {
        self.next_seq += 1;
        let seq = format!("{:010}", self.next_seq);
        self.send_as(cmd, &seq, properties, body).await;
        seq
    }

    /// Sends a command under this seq.
    pub async fn send_as(&mut self, cmd: &str, seq: &str, properties: &Value, body: &Value) {
        let header = json!({"cmd": cmd, "code": 0, "seq": seq, "properties": properties}).to_string();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut bytes = b"EventMesh0000".to_vec();
        let length = |n: usize| u32::try_from(n).unwrap().to_be_bytes();
        bytes.extend_from_slice(&length(13 + header.len() + body.len()));
        bytes.extend_from_slice(&length(header.len()));
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(body.as_bytes());
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// Sends a command; what answers it.
    pub async fn call(&mut self, cmd: &str, properties: &Value, body: &Value) -> Frame {
        let seq = self.send(cmd, properties, body).await;
        let frame = self.next().await;
        assert_eq!(frame.seq(), seq, "{frame:?}");
        frame
    }

    /// Publishes an EventMeshMessage; panics if that is refused.
    pub async fn publish(&mut self, message: &Value) {
        let answer = self.call("ASYNC_MESSAGE_TO_SERVER", &message_properties(), message).await;
        assert_eq!((answer.cmd(), answer.code()), ("ASYNC_MESSAGE_TO_SERVER_ACK", 0), "{answer:?}");
    }

    /// Acknowledges what was pushed.
    pub async fn ack(&mut self, frame: &Frame) {
        self.send_as(&format!("{}_ACK", frame.cmd()), frame.seq(), &json!({}), &Value::Null).await;
    }

    /// The next frame. Panics after [`PATIENCE`] without one, and at the end of the connection.
    pub async fn next(&mut self) -> Frame {
        self.next_within(PATIENCE).await.expect("a frame in time")
    }

    /// The next frame; `None`: none came in time. Panics at the end of the connection. Cancel-safe.
    pub async fn next_within(&mut self, limit: Duration) -> Option<Frame> {
        let frame = tokio::time::timeout(limit, self.next_or_end()).await.ok()?;
        Some(frame.expect("a frame, not the end of the connection"))
    }

    /// The next frame; `None`: the connection ended. Cancel-safe.
    pub async fn next_or_end(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            if self.stream.read_buf(&mut self.input).await.ok()? == 0 {
                return None;
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let word =
            |at: usize| Some(u32::from_be_bytes(self.input.get(at..at + 4)?.try_into().ok()?) as usize);
        let (package, header) = (word(13)?, word(17)?);
        let end = package + 8;
        if self.input.len() < end {
            return None;
        }
        let frame: Vec<u8> = self.input.drain(..end).collect();
        assert_eq!(&frame[..13], b"EventMesh0000");
        let (header, body) = frame[21..].split_at(header);
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(body).unwrap() };
        Some(Frame { header: serde_json::from_slice(header).unwrap(), body })
    }
}

/// Properties of a header whose body is an EventMeshMessage.
pub fn message_properties() -> Value {
    json!({"protocoltype": "eventmeshmessage", "protocolversion": "1.0", "protocoldesc": "tcp"})
}

/// Properties of a header whose body is a CloudEvent.
pub fn event_properties() -> Value {
    json!({"protocoltype": "cloudevents", "protocolversion": "1.0", "protocoldesc": "tcp"})
}

/// An EventMeshMessage.
pub fn message(topic: &str, body: &str, properties: &[(&str, &str)]) -> Value {
    let properties: serde_json::Map<String, Value> =
        properties.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    json!({"topic": topic, "properties": properties, "headers": {}, "body": body})
}
