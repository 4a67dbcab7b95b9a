//! One TCP connection to a name server or broker, shared by all that ask it something: requests go out without waiting
//! for answers, and answers find their request by its number.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use remoting::code::{request, response};
use remoting::{Command, Decoder, Encoding, Pending, encode};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tracing::debug;

use crate::error::CallError;
use crate::reset::{self, Reset};

/// A handle on a connection. Cloning shares it; it ends with its last handle.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    addr: Arc<str>,
    local: Option<IpAddr>,
    requests: mpsc::Sender<Request>,
    closing: Arc<Notify>,
}

#[derive(Debug)]
struct Request {
    command: Command,
    deadline: Instant,
    answer: oneshot::Sender<Result<Command, CallError>>,
}

/// What a connection tells on its own.
#[derive(Debug)]
pub(super) struct Signals {
    /// A connection is lost.
    pub(super) lost: Notify,
    /// A broker says that the members of our group changed.
    pub(super) members: Notify,
    /// A broker says that the queues of topics changed: those in `changed`.
    pub(super) topics: Notify,
    pub(super) changed: Mutex<BTreeSet<String>>,
    /// Somebody set the offsets of groups: those in `offsets`.
    pub(super) reset: Notify,
    pub(super) offsets: Mutex<BTreeMap<Reset, i64>>,
    /// Replies that brokers push. When nobody takes them they are dropped: their requesters stop waiting by themselves.
    pub(super) replies: mpsc::Sender<Command>,
}

/// Topics that are remembered as changed, and queues with another offset.
const CHANGED_MAX: usize = 1024;

impl Signals {
    /// With what takes `replies`.
    pub(super) fn new(replies: mpsc::Sender<Command>) -> Self {
        Self {
            lost: Notify::new(),
            members: Notify::new(),
            topics: Notify::new(),
            changed: Mutex::default(),
            reset: Notify::new(),
            offsets: Mutex::default(),
            replies,
        }
    }

    /// The offset that somebody set for a queue, once.
    pub(super) fn take_offset(&self, queue: &Reset) -> Option<i64> {
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner).remove(queue)
    }

    fn set_offsets(&self, offsets: Vec<(Reset, i64)>) {
        let mut known = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() + offsets.len() <= CHANGED_MAX {
            known.extend(offsets);
        }
        drop(known);
        self.reset.notify_waiters();
    }

    fn topic_changed(&self, topic: &str) {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if changed.len() < CHANGED_MAX {
            changed.insert(topic.to_owned());
        }
        self.topics.notify_one();
    }
}

/// Requests that wait to be written. Callers beyond it wait.
const QUEUE: usize = 64;
/// Bytes that wait to be written, beyond which no further request is taken.
const OUTPUT_MAX: usize = 1 << 20;
/// How often requests that nobody waits for any more are forgotten.
const SWEEP: Duration = Duration::from_secs(10);

impl Connection {
    /// Connects within `limit`, with TLS if there is a connector for it. The future that is returned does the
    /// connection's work; it ends with it and tells `signals`. Cancel-safe.
    pub(super) async fn open(
        addr: &Arc<str>,
        limit: Duration,
        tls: Option<&TlsConnector>,
        signals: Arc<Signals>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), CallError> {
        let fail = |reason: String| CallError::Connect { addr: addr.to_string(), reason };
        let stream = timeout(limit, connect(addr, tls))
            .await
            .map_err(|_| fail(format!("no answer in {} ms", limit.as_millis())))?
            .map_err(|error| fail(error.to_string()))?;
        let socket = match &stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        };
        let local = socket.local_addr().ok().map(|addr| addr.ip());
        let (sender, requests) = mpsc::channel(QUEUE);
        let closing = Arc::new(Notify::new());
        let io = Io {
            addr: Arc::clone(addr),
            pending: Pending::default(),
            started: Instant::now(),
            input: BytesMut::new(),
            output: BytesMut::new(),
            unflushed: false,
            signals: Arc::clone(&signals),
        };
        let ending = Arc::clone(&closing);
        let work = async move {
            match stream {
                Stream::Plain(mut stream) => {
                    let (reader, writer) = stream.split();
                    io.run(reader, writer, requests, &ending).await;
                }
                Stream::Tls(stream) => {
                    let (reader, writer) = tokio::io::split(stream);
                    io.run(reader, writer, requests, &ending).await;
                }
            }
            signals.lost.notify_one();
        };
        Ok((Self { addr: Arc::clone(addr), local, requests: sender, closing }, work))
    }

    /// Our own address, as the peer sees it.
    pub(super) fn local(&self) -> Option<IpAddr> {
        self.local
    }

    /// Whether it can still be used, as far as is known.
    pub(super) fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Ends it: everything that waits for an answer is told that it is lost.
    pub(super) fn close(&self) {
        self.closing.notify_one();
    }

    /// Sends `command` and waits for its answer, whatever its code. Cancel-safe: dropped, the answer is ignored.
    pub(super) async fn call(&self, command: Command, limit: Duration) -> Result<Command, CallError> {
        let addr = || self.addr.to_string();
        let (answer, answered) = oneshot::channel();
        let request = Request { command, deadline: Instant::now() + limit, answer };
        let exchange = async {
            self.requests.send(request).await.map_err(|_| CallError::Lost { addr: addr() })?;
            answered.await.map_err(|_| CallError::Lost { addr: addr() })?
        };
        let late = |_| CallError::TimedOut { addr: addr(), ms: limit.as_millis() };
        timeout(limit, exchange).await.map_err(late)?
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

async fn connect(addr: &str, tls: Option<&TlsConnector>) -> io::Result<Stream> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else { return Ok(Stream::Plain(stream)) };
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    Ok(Stream::Tls(Box::new(tls.connect(name, stream).await?)))
}

/// The working half.
struct Io {
    addr: Arc<str>,
    pending: Pending<oneshot::Sender<Result<Command, CallError>>>,
    started: Instant,
    input: BytesMut,
    output: BytesMut,
    /// TLS may hold what was written.
    unflushed: bool,
    signals: Arc<Signals>,
}

impl Io {
    /// Works until the peer, the last handle or [`Connection::close`] ends it. Dropping `self` tells all that wait.
    async fn run(
        mut self,
        mut reader: impl AsyncRead + Unpin,
        mut writer: impl AsyncWrite + Unpin,
        mut requests: mpsc::Receiver<Request>,
        closing: &Notify,
    ) {
        let mut sweep = interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = closing.notified() => return,
                written = put(&mut writer, &self.output), if self.unflushed || !self.output.is_empty() => match written {
                    Ok(0) if self.output.is_empty() => self.unflushed = false,
                    Ok(0) | Err(_) => return,
                    Ok(count) => {
                        self.output.advance(count);
                        self.unflushed = true;
                    }
                },
                request = requests.recv(), if self.output.len() < OUTPUT_MAX => match request {
                    Some(request) => self.take(request, &mut requests),
                    None => return,
                },
                read = reader.read_buf(&mut self.input) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(_) => if !self.handle_input() { return },
                },
                _ = sweep.tick() => drop(self.pending.expired(millis(self.started, Instant::now()))),
            }
        }
    }

    /// Writes a request, and those that wait behind it, into one output.
    fn take(&mut self, first: Request, more: &mut mpsc::Receiver<Request>) {
        self.put(first);
        while self.output.len() < OUTPUT_MAX {
            match more.try_recv() {
                Ok(request) => self.put(request),
                Err(_) => return,
            }
        }
    }

    fn put(&mut self, request: Request) {
        let Request { mut command, deadline, answer } = request;
        if answer.is_closed() {
            return;
        }
        command.opaque = self.pending.insert(millis(self.started, deadline), answer);
        // A binary header has 16 bits for the code.
        let encoding = i16::try_from(command.code).map_or(Encoding::Json, |_| Encoding::Binary);
        if let Err(error) = encode(&command, encoding, &mut self.output)
            && let Some(answer) = self.pending.take(command.opaque)
        {
            answer.send(Err(error.into())).unwrap_or(());
        }
    }

    /// Handles the frames that are there; false: the peer does not speak the protocol.
    fn handle_input(&mut self) -> bool {
        loop {
            match Decoder::default().decode(&mut self.input) {
                Ok(Some(command)) if command.is_answer() => {
                    if let Some(answer) = self.pending.take(command.opaque) {
                        answer.send(Ok(command)).unwrap_or(());
                    }
                }
                Ok(Some(command)) => self.handle_request(command),
                Ok(None) => return true,
                Err(error) => {
                    debug!(addr = &*self.addr, %error, "not a frame");
                    return false;
                }
            }
        }
    }

    /// The reply to a request. RocketMQ wants to hear whether it came, and tells the responder.
    fn handle_reply(&mut self, push: Command) {
        let mut heard = Command::answer(&push, response::SUCCESS);
        let oneway = push.is_oneway();
        if self.signals.replies.try_send(push).is_err() {
            debug!(addr = &*self.addr, "a reply is dropped");
            heard.code = response::SYSTEM_ERROR;
        }
        if !oneway {
            encode(&heard, Encoding::Json, &mut self.output).unwrap_or(());
        }
    }

    /// Brokers tell that a group's members, a topic's queues or offsets changed, and push replies. They ask clients to tell of
    /// themselves as well; that is refused.
    fn handle_request(&mut self, request: Command) {
        match request.code {
            request::NOTIFY_CONSUMER_IDS_CHANGED => self.signals.members.notify_one(),
            defibus::code::request::TOPIC_CHANGED => {
                self.signals.topic_changed(request.field("topic").unwrap_or_default());
            }
            defibus::code::request::PUSH_REPLY | request::PUSH_REPLY_MESSAGE_TO_CLIENT => {
                self.handle_reply(request)
            }
            request::RESET_CONSUMER_CLIENT_OFFSET => {
                self.signals.set_offsets(reset::offsets(&request));
            }
            _ if request.is_oneway() => {}
            _ => {
                let answer = Command::answer(&request, response::REQUEST_CODE_NOT_SUPPORTED);
                encode(&answer, Encoding::Json, &mut self.output).unwrap_or(());
            }
        }
    }
}

/// Writes some of `output`; if there is none, what the writer still holds. Cancel-safe.
async fn put(writer: &mut (impl AsyncWrite + Unpin), output: &[u8]) -> io::Result<usize> {
    if output.is_empty() { writer.flush().await.map(|()| 0) } else { writer.write(output).await }
}

fn millis(started: Instant, at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(started).as_millis()).unwrap_or(u64::MAX)
}
