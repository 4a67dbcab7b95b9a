//! A client on one HTTP/2 connection, and services over a fake hub.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests fail by it, and each uses a part"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use event::Source;
use event::access::{Gate, OpenGate};
use event::hub::Hub;
use event::testing::FakeHub;
use eventmesh::{Clients, Requester};
use grpc::proto::{Attr, CloudEvent, Data};
use grpc::{Options, Services};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::Request;
use prost::Message;
use tokio::io::DuplexStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use webhook::Hooks;

/// Services over a fake hub.
pub(crate) struct Site {
    pub(crate) hub: Arc<FakeHub>,
    pub(crate) clients: Clients,
    pub(crate) gate: Arc<dyn Gate>,
    services: Services,
    pub(crate) drain: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Site {
    pub(crate) async fn new(options: Options) -> Self {
        rustls::crypto::ring::default_provider().install_default().unwrap_or(());
        let hub = Arc::new(FakeHub::new());
        let (drain, drained) = watch::channel(false);
        let shared: Arc<dyn Hub> = Arc::clone(&hub) as Arc<dyn Hub>;
        let eventmesh = eventmesh::Options::default();
        let (requester, answers) = Requester::start(Arc::clone(&shared), &eventmesh, drained).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(answers);
        let webhooks = webhook::Options { loopback: true, ..webhook::Options::default() };
        let clients = Clients::default();
        let of_hooks = Arc::clone(&shared);
        let (hooks, posts) =
            Hooks::new(of_hooks, clients.clone(), webhooks, &eventmesh, drain.subscribe()).unwrap();
        tasks.spawn(posts);
        let places = (hooks, clients.clone());
        let services = Services::new(shared, requester, places, options, eventmesh).await;
        Self { hub, clients, gate: Arc::new(OpenGate), services, drain, tasks }
    }

    /// A connection.
    pub(crate) async fn connect(&mut self) -> Client {
        let (client, server) = tokio::io::duplex(64 << 10);
        self.serve(server);
        Client::new(client).await
    }

    pub(crate) fn serve(&mut self, server: DuplexStream) {
        let (services, gate, drain) = (self.services.clone(), Arc::clone(&self.gate), self.drain.subscribe());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let source = Source { address, listener: Arc::from("test"), certificate: None };
        self.tasks.spawn(async move { services.serve(server, source, gate, drain).await });
    }

    /// Sessions of streams.
    pub(crate) fn sessions(&self) -> Vec<String> {
        self.hub.sessions().into_iter().filter(|name| name.starts_with("$grpc/")).collect()
    }

    /// The one session of a stream.
    pub(crate) fn session(&self) -> String {
        let mut sessions = self.sessions();
        assert_eq!(sessions.len(), 1, "{sessions:?}");
        sessions.remove(0)
    }
}

/// A client. Dropped, its connection breaks.
pub(crate) struct Client {
    requests: SendRequest<Bytes>,
    _connection: JoinSet<()>,
}

/// A call of which messages may still come or go.
pub(crate) struct Call {
    pub(crate) out: SendStream<Bytes>,
    inbound: RecvStream,
    buffer: BytesMut,
}

/// How a call ended: `grpc-status`, and `grpc-message`.
pub(crate) type Ended = (u32, String);

impl Client {
    pub(crate) async fn new(io: DuplexStream) -> Self {
        Self::with_window(io, 64 << 10).await
    }

    /// With this window for each stream, which is not opened again before messages are taken.
    pub(crate) async fn with_window(io: DuplexStream, window: u32) -> Self {
        let mut builder = h2::client::Builder::new();
        let (requests, connection) =
            builder.initial_window_size(window).handshake::<_, Bytes>(io).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { connection.await.unwrap_or(()) });
        Self { requests, _connection: tasks }
    }

    /// Starts a call.
    pub(crate) async fn open(&mut self, path: &str) -> Call {
        self.open_with(path, &[]).await
    }

    pub(crate) async fn open_with(&mut self, path: &str, headers: &[(&str, &str)]) -> Call {
        let mut request = Request::post(format!("http://weft{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut ready = self.requests.clone().ready().await.unwrap();
        let (response, out) = ready.send_request(request.body(()).unwrap(), false).unwrap();
        let inbound = response.await.unwrap().into_body();
        Call { out, inbound, buffer: BytesMut::new() }
    }

    /// A call of one message.
    pub(crate) async fn unary<M: Message, R: Message + Default>(
        &mut self,
        path: &str,
        message: &M,
    ) -> Result<R, Ended> {
        self.unary_with(path, &[], message).await
    }

    pub(crate) async fn unary_with<M: Message, R: Message + Default>(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        message: &M,
    ) -> Result<R, Ended> {
        let mut request = Request::post(format!("http://weft{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut ready = self.requests.clone().ready().await.unwrap();
        let (response, mut out) = ready.send_request(request.body(()).unwrap(), false).unwrap();
        out.send_data(frame(message), true).unwrap();
        let response = response.await.unwrap();
        if let Some(status) = response.headers().get("grpc-status") {
            let message = response.headers().get("grpc-message").map_or("", |text| text.to_str().unwrap());
            return Err((status.to_str().unwrap().parse().unwrap(), message.to_owned()));
        }
        let mut call = Call { out, inbound: response.into_body(), buffer: BytesMut::new() };
        let answer = call.next::<R>().await?.expect("a message");
        assert!(call.next::<R>().await?.is_none());
        Ok(answer)
    }
}

impl Call {
    pub(crate) fn send(&mut self, message: &impl Message) {
        self.out.send_data(frame(message), false).unwrap();
    }

    /// The next message; `None` at the end.
    pub(crate) async fn next<R: Message + Default>(&mut self) -> Result<Option<R>, Ended> {
        loop {
            if let Some(message) = self.take::<R>() {
                return Ok(Some(message));
            }
            match self.inbound.data().await {
                Some(Ok(data)) => {
                    self.inbound.flow_control().release_capacity(data.len()).unwrap();
                    self.buffer.put(data);
                }
                Some(Err(error)) => return Err((1, error.to_string())),
                None => break,
            }
        }
        let trailers = self.inbound.trailers().await.unwrap().unwrap_or_default();
        let text = |name: &str| trailers.get(name).map_or("0", |text| text.to_str().unwrap()).to_owned();
        match text("grpc-status").parse().unwrap() {
            0 => Ok(None),
            status => Err((status, text("grpc-message"))),
        }
    }

    /// The next event or answer.
    pub(crate) async fn event(&mut self) -> CloudEvent {
        self.next().await.unwrap().expect("the stream goes on")
    }

    fn take<R: Message + Default>(&mut self) -> Option<R> {
        let length = usize::try_from(u32::from_be_bytes(self.buffer.get(1..5)?.try_into().unwrap())).unwrap();
        if self.buffer.len() < 5 + length {
            return None;
        }
        self.buffer.advance(5);
        Some(R::decode(self.buffer.split_to(length)).unwrap())
    }
}

/// A message with gRPC's prefix.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}

fn common(pid: &str) -> CloudEvent {
    let mut message = CloudEvent {
        id: "1".to_owned(),
        source: "/".to_owned(),
        spec_version: "1.0".to_owned(),
        ty: "org.apache.eventmesh".to_owned(),
        ..CloudEvent::default()
    };
    for (name, value) in [
        ("env", "test"),
        ("idc", "FT"),
        ("ip", "127.0.0.1"),
        ("pid", pid),
        ("sys", "1"),
        ("language", "JAVA"),
        ("username", "u"),
        ("passwd", "p"),
        ("protocoltype", "eventmeshmessage"),
    ] {
        message.set(name, Attr::String(value.to_owned()));
    }
    message
}

/// An event to publish.
pub(crate) fn event(topic: &str, text: &str) -> CloudEvent {
    let mut message = common("1");
    for (name, value) in [
        ("subject", topic),
        ("uniqueid", "u1"),
        ("seqnum", "s1"),
        ("producergroup", "p"),
        ("ttl", "4000"),
        ("datacontenttype", "text/plain"),
    ] {
        message.set(name, Attr::String(value.to_owned()));
    }
    message.data = Some(Data::Text(text.to_owned()));
    message
}

/// A subscription of the client with this pid.
pub(crate) fn subscription(pid: &str, group: &str, topic: &str, mode: &str) -> CloudEvent {
    let mut message = common(pid);
    message.set("consumergroup", Attr::String(group.to_owned()));
    message.data = Some(Data::Text(format!(r#"[{{"topic":"{topic}","mode":"{mode}","type":"ASYNC"}}]"#)));
    message
}

/// A heartbeat of the client with this pid.
pub(crate) fn heartbeat(pid: &str, group: &str, topic: &str) -> CloudEvent {
    let mut message = common(pid);
    message.set("consumergroup", Attr::String(group.to_owned()));
    message.set("clienttype", Attr::Integer(2));
    message.data = Some(Data::Text(format!(r#"[{{"topic":"{topic}","url":"grpc_stream"}}]"#)));
    message
}

pub(crate) fn code(answer: &CloudEvent) -> &str {
    answer.text("statuscode").unwrap_or("none")
}

pub(crate) const PUBLISH: &str = "/org.apache.eventmesh.cloudevents.v1.PublisherService/publish";
pub(crate) const ONE_WAY: &str = "/org.apache.eventmesh.cloudevents.v1.PublisherService/publishOneWay";
pub(crate) const BATCH: &str = "/org.apache.eventmesh.cloudevents.v1.PublisherService/batchPublish";
pub(crate) const REQUEST: &str = "/org.apache.eventmesh.cloudevents.v1.PublisherService/requestReply";
pub(crate) const STREAM: &str = "/org.apache.eventmesh.cloudevents.v1.ConsumerService/subscribeStream";
pub(crate) const SUBSCRIBE: &str = "/org.apache.eventmesh.cloudevents.v1.ConsumerService/subscribe";
pub(crate) const UNSUBSCRIBE: &str = "/org.apache.eventmesh.cloudevents.v1.ConsumerService/unsubscribe";
pub(crate) const HEARTBEAT: &str = "/org.apache.eventmesh.cloudevents.v1.HeartbeatService/heartbeat";

/// Waits until `what` holds; time is virtual.
pub(crate) async fn until(what: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("it never came to be");
}
