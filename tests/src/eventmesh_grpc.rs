//! EventMesh's gRPC services as a client on one HTTP/2 connection speaks to them. Shares no code with Weft.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use prost::Message;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::util::PATIENCE;

/// The message of all calls.
#[derive(Clone, PartialEq, Message)]
pub struct GrpcEvent {
    /// `id`.
    #[prost(string, tag = "1")]
    pub id: String,
    /// `source`.
    #[prost(string, tag = "2")]
    pub source: String,
    /// `specversion`.
    #[prost(string, tag = "3")]
    pub spec_version: String,
    /// `type`.
    #[prost(string, tag = "4")]
    pub ty: String,
    /// All other attributes.
    #[prost(btree_map = "string, message", tag = "5")]
    pub attributes: BTreeMap<String, Attribute>,
    /// The data.
    #[prost(oneof = "Data", tags = "6, 7")]
    pub data: Option<Data>,
}

/// The value of an attribute, as far as tests look at it.
#[derive(Clone, PartialEq, Message)]
pub struct Attribute {
    /// `ce_integer`.
    #[prost(int32, optional, tag = "2")]
    pub integer: Option<i32>,
    /// `ce_string`.
    #[prost(string, optional, tag = "3")]
    pub string: Option<String>,
}

/// Data.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Data {
    /// Bytes.
    #[prost(bytes, tag = "6")]
    Binary(Vec<u8>),
    /// Text.
    #[prost(string, tag = "7")]
    Text(String),
}

impl GrpcEvent {
    /// One with the attributes that say who asks, from process `pid`, and these.
    pub fn from(pid: &str, attributes: &[(&str, &str)], data: &str) -> Self {
        let own = [
            ("env", "test"),
            ("idc", "FT"),
            ("ip", "127.0.0.1"),
            ("pid", pid),
            ("sys", "1234"),
            ("language", "JAVA"),
            ("username", "somebody"),
            ("passwd", "hidden-password"),
        ];
        let text = |(name, value): &(&str, &str)| {
            let string = Some((*value).to_owned());
            ((*name).to_owned(), Attribute { integer: None, string })
        };
        Self {
            id: "grpc-1".to_owned(),
            source: "/grpc".to_owned(),
            spec_version: "1.0".to_owned(),
            ty: "grpc.type".to_owned(),
            attributes: own.iter().chain(attributes).map(text).collect(),
            data: Some(Data::Text(data.to_owned())),
        }
    }

    /// The text of an attribute.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.string.as_deref()
    }

    /// Its data, if that is text.
    pub fn data(&self) -> &str {
        match &self.data {
            Some(Data::Text(text)) => text,
            other => panic!("{other:?} is no text"),
        }
    }
}

/// A client. Dropped, and all that share it, its connection breaks.
#[derive(Debug)]
pub struct GrpcPeer {
    requests: SendRequest<Bytes>,
    _connection: Arc<JoinSet<()>>,
}

/// A stream of events.
#[derive(Debug)]
pub struct GrpcStream {
    _out: SendStream<Bytes>,
    inbound: RecvStream,
    buffer: BytesMut,
}

impl GrpcPeer {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (requests, connection) = h2::client::handshake(stream).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { connection.await.unwrap_or(()) });
        Self { requests, _connection: Arc::new(tasks) }
    }

    /// The same connection, for further calls at the same time.
    pub fn share(&self) -> Self {
        Self { requests: self.requests.clone(), _connection: Arc::clone(&self._connection) }
    }

    /// Calls `Service/method`; what answers.
    pub async fn call(&mut self, path: &str, message: &GrpcEvent) -> GrpcEvent {
        let mut stream = self.open(path, message, true).await;
        stream.next().await
    }

    /// Publishes; panics if that is refused.
    pub async fn publish(&mut self, event: &GrpcEvent) {
        let answer = self.call("PublisherService/publish", event).await;
        assert_eq!(answer.text("statuscode"), Some("0"), "{answer:?}");
    }

    /// A stream of process `pid` that takes `topic` as a member of `group`.
    pub async fn listen(&mut self, pid: &str, group: &str, topic: &str) -> GrpcStream {
        let item = serde_json::json!({"topic": topic, "mode": "CLUSTERING", "type": "ASYNC"});
        let (stream, answer) = self.subscribe(pid, group, &item).await;
        assert_eq!(answer.text("statuscode"), Some("0"), "{answer:?}");
        stream
    }

    /// Asks for a stream that takes `item` as a member of `group`; what answers.
    pub async fn subscribe(
        &mut self,
        pid: &str,
        group: &str,
        item: &serde_json::Value,
    ) -> (GrpcStream, GrpcEvent) {
        let items = serde_json::json!([item]).to_string();
        let wanted = GrpcEvent::from(pid, &[("consumergroup", group)], &items);
        let mut stream = self.open("ConsumerService/subscribeStream", &wanted, false).await;
        let answer = stream.next().await;
        (stream, answer)
    }

    async fn open(&mut self, path: &str, message: &GrpcEvent, is_last: bool) -> GrpcStream {
        let uri = format!("http://mesh/org.apache.eventmesh.cloudevents.v1.{path}");
        let request = http::Request::post(uri).header("content-type", "application/grpc");
        let request = request.header("te", "trailers").body(()).unwrap();
        let mut ready = self.requests.clone().ready().await.unwrap();
        let (response, mut out) = ready.send_request(request, false).unwrap();
        let mut bytes = BytesMut::new();
        bytes.put_u8(0);
        bytes.put_u32(u32::try_from(message.encoded_len()).unwrap());
        message.encode(&mut bytes).unwrap();
        out.send_data(bytes.freeze(), is_last).unwrap();
        let inbound = response.await.unwrap().into_body();
        GrpcStream { _out: out, inbound, buffer: BytesMut::new() }
    }
}

impl GrpcStream {
    /// The next message. Panics after [`PATIENCE`] without one, and at the end of the stream.
    pub async fn next(&mut self) -> GrpcEvent {
        let next = tokio::time::timeout(PATIENCE, self.try_next()).await;
        next.expect("a message in time").expect("the stream goes on")
    }

    /// The next message; the `grpc-status` at the end of the stream. Cancel-safe.
    pub async fn try_next(&mut self) -> Result<GrpcEvent, String> {
        loop {
            if let Some(message) = self.take() {
                return Ok(message);
            }
            match self.inbound.data().await {
                Some(Ok(data)) => {
                    self.inbound.flow_control().release_capacity(data.len()).unwrap();
                    self.buffer.put(data);
                }
                Some(Err(error)) => return Err(error.to_string()),
                None => {
                    let trailers = self.inbound.trailers().await.unwrap().unwrap_or_default();
                    return Err(format!("{:?}", trailers.get("grpc-status")));
                }
            }
        }
    }

    fn take(&mut self) -> Option<GrpcEvent> {
        let length = usize::try_from(u32::from_be_bytes(self.buffer.get(1..5)?.try_into().unwrap())).unwrap();
        if self.buffer.len() < 5 + length {
            return None;
        }
        self.buffer.advance(5);
        Some(GrpcEvent::decode(self.buffer.split_to(length)).unwrap())
    }
}
