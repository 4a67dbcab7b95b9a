//! Answers handshakes and serves CloudEvents connections: nothing else here awaits.

mod messages;
mod unpacked;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event::access::{self, Gate};
use event::hub::{Admission, Attach, Close, Closed, Delivery, Hub, Link, Outcome, Publish, Receipt, Stamps};
use event::{Allowance, ClientId, Principal, RejectKind, Source};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{FutureExt as _, StreamExt as _};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::connection::{Action, Connection, Said};
use crate::deflate::Deflate;
use crate::driver::messages::{close_code, shortened};
use crate::driver::unpacked::Unpacked;
use crate::handshake::{self, Agreed, Refusal, SessionQuery};
use crate::waits::{self, Answered, Asking, WaitingBatch};
use crate::{Carrier, Options};

pub use messages::Messages;

/// The answer to a handshake.
#[derive(Debug)]
pub struct Accepted<F> {
    /// To be sent to the client.
    pub response: Response<String>,
    /// What follows once it is sent; `None` if the handshake was refused.
    pub then: Option<F>,
}

/// Answers a handshake for the first of `protocols` that the client offers; what follows yields its messages.
pub fn accept<B>(
    request: Request<B>,
    protocols: &[&'static str],
    options: &Options,
) -> Accepted<impl Future<Output = io::Result<Messages<TokioIo<Upgraded>>>> + Send + use<B>> {
    let Agreed { response, deflate } = match handshake::answer(&request, protocols, options) {
        Ok(agreed) => agreed,
        Err(refusal) => return Accepted { response: refusal.into_response(), then: None },
    };
    // Who writes has buffers of its own: what it writes leaves at once.
    let config = config(options).write_buffer_size(0);
    let period = Duration::from_secs(u64::from(options.ping_s.max(1)));
    let upgraded = hyper::upgrade::on(request);
    let then = async move {
        let io = TokioIo::new(upgraded.await.map_err(io::Error::other)?);
        let io = Unpacked::new(io, deflate);
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        Ok(Messages::new(socket, period, deflate))
    };
    Accepted { response, then: Some(then) }
}

/// Answers a handshake for MQTT (MQTT 5 §6); what follows yields the stream to speak MQTT on. `mqttv3.1` is what clients of
/// old call it, some of which offer nothing else.
pub fn accept_mqtt<B>(
    request: Request<B>,
    options: &Options,
) -> Accepted<impl Future<Output = io::Result<Carrier<TokioIo<Upgraded>>>> + Send + use<B>> {
    let Accepted { response, then } = accept(request, &["mqtt", "mqttv3.1"], options);
    Accepted { response, then: then.map(|messages| async { messages.await.map(Carrier::new) }) }
}

/// Answers a handshake for CloudEvents from `source`, if `gate` lets it in; what follows serves the connection until it
/// ends. `drain` turning true ends it once what it published is answered. Cancel-safe.
pub async fn accept_events<B>(
    request: Request<B>,
    source: Source,
    gate: Arc<dyn Gate>,
    hub: Arc<dyn Hub>,
    options: Arc<Options>,
    drain: watch::Receiver<bool>,
) -> Accepted<impl Future<Output = ()> + Send + use<B>> {
    let asked = match ask(&request, source, &*hub, &options) {
        Ok(asked) => asked,
        Err(refusal) => return Accepted { response: refusal.into_response(), then: None },
    };
    let upgraded = hyper::upgrade::on(request);
    let (Agreed { response, deflate }, query, asking) = asked;
    let who = match gate.admit(asking).await {
        Ok(who) => who,
        Err(reject) => return Accepted { response: Refusal::by_gate(reject).into_response(), then: None },
    };
    let then = async move {
        match upgraded.await {
            Ok(io) => serve(TokioIo::new(io), deflate, query, who, hub, &options, drain).await,
            Err(error) => tracing::debug!(%error, "handshake not finished"),
        }
    };
    Accepted { response, then: Some(then) }
}

/// What is answered if the gate lets it in, which session it wants, and what the gate is asked.
fn ask<B>(
    request: &Request<B>,
    source: Source,
    hub: &dyn Hub,
    options: &Options,
) -> Result<(Agreed, SessionQuery, access::Asking), Refusal> {
    let (uri, headers) = (request.uri(), request.headers());
    let agreed = handshake::answer(request, &["cloudevents.json"], options)?;
    let query =
        SessionQuery::parse(uri, options).map_err(|reason| Refusal::new(StatusCode::BAD_REQUEST, reason))?;
    let authorization = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let credentials =
        access::Credentials::of_request(authorization, uri.query()).map_err(Refusal::by_gate)?;
    let made = || ClientId::from(&*format!("$ws/{:016x}", hub.stamps().take()));
    let client = query.client.clone().unwrap_or_else(made);
    Ok((agreed, query, access::Asking { client, source, credentials }))
}

fn config(options: &Options) -> WebSocketConfig {
    let most = options.message_bytes_max.as_usize();
    // Buffers stay small: there may be very many connections.
    let config = WebSocketConfig::default().read_buffer_size(8 << 10).write_buffer_size(16 << 10);
    config.max_message_size(Some(most)).max_frame_size(Some(most))
}

async fn serve<S>(
    io: S,
    deflate: Option<Deflate>,
    query: SessionQuery,
    who: Principal,
    hub: Arc<dyn Hub>,
    options: &Options,
    drain: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let io = Unpacked::new(io, deflate);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config(options))).await;
    let (sink, stream) = socket.split();
    metrics::counter!("weft_websocket_connections_opened_total").increment(1);
    let stamps = hub.stamps();
    let acks = query.client.is_some();
    let connection = Connection::new(Arc::clone(&who.client.0), acks, options);
    let request = Attach { clean: query.clean, keep: query.keep, protocol: "WebSocket", ..Attach::default() };
    let allowance = who.allowance.clone();
    let ends =
        who.until_ms.map(|until| Instant::now() + Duration::from_millis(until.saturating_sub(now_ms())));
    let attached = hub.attach(who, request).await;
    let period = Duration::from_secs(u64::from(options.ping_s.max(1)));
    let mut ping = tokio::time::interval_at(Instant::now() + period, period);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut driver = Driver {
        sink,
        stream,
        deflate,
        connection,
        link: None,
        stamps,
        publishes_max: usize::from(options.publishes_max.max(1)),
        out: VecDeque::new(),
        dirty: false,
        receipts: VecDeque::new(),
        unanswered: 0,
        room: None,
        asking: None,
        taken: Vec::new(),
        drain,
        draining: false,
        end: None,
        ping,
        heard: true,
        pinged: false,
        allowance,
        paused: None,
        ends,
    };
    match attached {
        Ok(attached) => driver.link = Some(attached.link),
        Err(reject) => {
            driver.connection.refuse(None, &reject);
            driver.connection.close(code_of(reject.kind), "no session");
        }
    }
    let end = driver.run().await;
    driver.finish(end).await;
    metrics::counter!("weft_websocket_connections_closed_total").increment(1);
}

/// How a connection that cannot have what it needs is closed.
fn code_of(kind: RejectKind) -> CloseCode {
    match kind {
        RejectKind::Malformed | RejectKind::Unproved | RejectKind::Denied => CloseCode::Policy,
        RejectKind::Busy | RejectKind::Unavailable => CloseCode::Again,
        RejectKind::Closed => CloseCode::Away,
    }
}

/// How many frames are read before what they say is done: one batch.
const FRAMES: usize = 64;

/// How many frames may wait to be written before no more is read.
const OUT_MAX: usize = 1024;

struct Driver<S> {
    sink: SplitSink<WebSocketStream<Unpacked<S>>, Message>,
    stream: SplitStream<WebSocketStream<Unpacked<S>>>,
    deflate: Option<Deflate>,
    connection: Connection,
    /// `None`: there is no session.
    link: Option<Box<dyn Link>>,
    stamps: Stamps,
    publishes_max: usize,
    out: VecDeque<Message>,
    /// Something is to be written or flushed.
    dirty: bool,
    /// Batches that are not answered, in order.
    receipts: VecDeque<(Vec<Said>, Receipt)>,
    /// Events in these, and in the batch that waits for room.
    unanswered: usize,
    room: Option<WaitingBatch>,
    asking: Option<Asking>,
    /// Kept for its room.
    taken: Vec<Delivery>,
    drain: watch::Receiver<bool>,
    draining: bool,
    /// The client ended it, or broke a rule.
    end: Option<End>,
    ping: Interval,
    /// The client said something since the last tick of `ping`.
    heard: bool,
    pinged: bool,
    allowance: Allowance,
    /// Until then nothing is read, because more came than is allowed.
    paused: Option<Instant>,
    /// When the proof of who it is ends.
    ends: Option<Instant>,
}

/// What happened.
enum Turn {
    Drain,
    Outcome(Vec<Said>, Outcome),
    Room(Vec<Said>, Receipt),
    Written(Result<(), Error>),
    Answered(Answered),
    Delivered(Result<(), Closed>),
    Read(Option<Result<Message, Error>>),
    Ping { reads: bool },
    Resume,
    Expired,
}

/// How a connection ends.
enum End {
    /// We say why.
    Close(CloseCode, String),
    /// The client said goodbye.
    Goodbye,
    /// It is gone.
    Lost,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Driver<S> {
    /// Not cancel-safe: what was read and taken is lost.
    async fn run(&mut self) -> End {
        loop {
            // What was read before the end is done before it.
            if let Some(end) = self.act().or_else(|| self.end.take()) {
                return end;
            }
            if self.draining && self.unanswered == 0 {
                return End::Close(CloseCode::Away, "weft is stopping".to_owned());
            }
            let turn = self.turn().await;
            if let Some(end) = self.take_turn(turn) {
                return end;
            }
        }
    }

    /// Waits for the next thing to happen. Cancel-safe.
    async fn turn(&mut self) -> Turn {
        let reads = self.reads();
        let takes = !self.dirty && self.asking.is_none() && !self.draining;
        let room = self.connection.room();
        tokio::select! {
            biased;
            _ = self.drain.wait_for(|drain| *drain), if !self.draining => Turn::Drain,
            (batch, outcome) = poll_fn(|cx| waits::poll_outcome(cx, &mut self.receipts)), if !self.receipts.is_empty() => Turn::Outcome(batch, outcome),
            (batch, receipt) = poll_fn(|cx| waits::poll_room(cx, &mut self.room)), if self.room.is_some() => Turn::Room(batch, receipt),
            written = poll_fn(|cx| waits::poll_write(cx, &mut self.sink, &mut self.out)), if self.dirty => Turn::Written(written),
            answered = poll_fn(|cx| waits::poll_answer(cx, &mut self.asking)), if self.asking.is_some() => Turn::Answered(answered),
            open = poll_fn(|cx| waits::poll_deliveries(cx, &mut self.link, room, &mut self.taken)), if takes => Turn::Delivered(open),
            message = self.stream.next(), if reads => Turn::Read(message),
            _ = self.ping.tick() => Turn::Ping { reads },
            () = at(self.paused) => Turn::Resume,
            () = at(self.ends) => Turn::Expired,
        }
    }

    fn take_turn(&mut self, turn: Turn) -> Option<End> {
        match turn {
            Turn::Drain => self.draining = true,
            Turn::Outcome(batch, outcome) => {
                self.unanswered -= batch.len();
                self.connection.handle_outcome(&batch, &outcome);
            }
            Turn::Room(batch, receipt) => self.receipts.push_back((batch, receipt)),
            Turn::Written(Err(_)) => return Some(End::Lost),
            Turn::Written(Ok(())) => {
                self.dirty = false;
                self.connection.handle_written();
            }
            Turn::Answered(Answered::Granted(asked, results)) => {
                self.connection.handle_granted(asked, results)
            }
            Turn::Answered(Answered::Unsubscribed(of, filters, result)) => {
                self.connection.handle_unsubscribed(&of, &filters, result);
            }
            Turn::Delivered(open) => return self.delivered(open),
            Turn::Read(message) => self.read(message),
            Turn::Resume => self.paused = None,
            Turn::Expired => {
                let reason = "the proof of who you are has expired".to_owned();
                return Some(End::Close(CloseCode::Policy, reason));
            }
            Turn::Ping { reads } => return self.is_dead(reads).then_some(End::Lost),
        }
        None
    }

    fn reads(&self) -> bool {
        let can_publish = self.room.is_none() && self.unanswered < self.publishes_max;
        can_publish
            && self.asking.is_none()
            && self.out.len() < OUT_MAX
            && self.paused.is_none()
            && !self.draining
    }

    /// Does what the connection asks for, as far as it can be done now.
    fn act(&mut self) -> Option<End> {
        let (mut batch, mut said) = (Vec::new(), Vec::new());
        while let Some(action) = self.connection.poll_action() {
            let waits = self.asking.is_some();
            let waits = match &action {
                Action::Publish(..) => self.room.is_some() || waits,
                Action::Subscribe(_) | Action::Unsubscribe { .. } => {
                    !batch.is_empty() || self.room.is_some() || waits
                }
                Action::Ack(_) | Action::Send(_) | Action::Close(..) => false,
            };
            if waits {
                self.connection.put_back(action);
                if batch.is_empty() {
                    break;
                }
                self.publish(std::mem::take(&mut batch), std::mem::take(&mut said));
                continue;
            }
            match action {
                Action::Publish(publish, name) => {
                    batch.push(publish);
                    said.push(name);
                }
                Action::Send(text) => {
                    self.dirty = true;
                    // The text is JSON of ours: no need to look for UTF-8 in it for each reader.
                    let frame = match self.deflate {
                        Some(deflate) => deflate.pack(Data::Text, text),
                        None => Frame::message(text, OpCode::Data(Data::Text), true),
                    };
                    self.out.push_back(Message::Frame(frame));
                }
                Action::Close(code, reason) => return Some(End::Close(code, reason)),
                Action::Ack(numbers) => self.link.iter_mut().for_each(|link| link.ack(&numbers)),
                Action::Subscribe(asked) => {
                    let answer = self.link.as_mut().map(|link| link.subscribe(asked.wanted.clone()));
                    self.asking = answer.map(|answer| Asking::Subscribe(asked, answer));
                }
                Action::Unsubscribe { of, filters } => {
                    let answer = self.link.as_mut().map(|link| link.unsubscribe(filters.clone()));
                    self.asking = answer.map(|answer| Asking::Unsubscribe { of, filters, answer });
                }
            }
        }
        if !batch.is_empty() {
            self.publish(batch, said);
        }
        None
    }

    fn publish(&mut self, batch: Vec<Publish>, said: Vec<Said>) {
        let Some(link) = &mut self.link else { return };
        metrics::counter!("weft_websocket_events_received_total").increment(batch.len() as u64);
        self.unanswered += batch.len();
        match link.publish(batch) {
            Admission::Admitted(receipt) => self.receipts.push_back((said, receipt)),
            Admission::Waiting(room) => self.room = Some((said, room)),
        }
    }

    /// Takes `first` and what else was read with it.
    fn read(&mut self, first: Option<Result<Message, Error>>) {
        self.heard = true;
        let now_ms = now_ms();
        let mut next = Some(first);
        let (mut frames, mut bytes) = (0, 0);
        for _ in 0..FRAMES {
            let Some(message) = next.take().or_else(|| self.stream.next().now_or_never()) else { break };
            if let Some(Ok(message)) = &message {
                frames += 1;
                bytes += message.len() as u64;
            }
            self.end = match message {
                Some(Ok(Message::Text(text))) => {
                    self.connection.handle_text(text.into(), &mut self.stamps, now_ms);
                    None
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {
                    self.dirty = true;
                    None
                }
                Some(Ok(Message::Binary(_))) => {
                    Some(End::Close(CloseCode::Unsupported, "JSON is sent in text frames".to_owned()))
                }
                Some(Ok(Message::Close(_))) | None => Some(End::Goodbye),
                Some(Err(error)) => Some(match close_code(&error) {
                    Some(code) => End::Close(code, error.to_string()),
                    None => End::Lost,
                }),
            };
            if self.end.is_some() {
                return;
            }
        }
        if self.allowance.is_limited() {
            let now = Instant::now();
            let wait = self.allowance.charge(frames, bytes, now.into_std());
            self.paused = Some(now + wait).filter(|_| !wait.is_zero());
        }
    }

    fn delivered(&mut self, open: Result<(), Closed>) -> Option<End> {
        let end = |code, reason: &str| Some(End::Close(code, reason.to_owned()));
        match open {
            Ok(()) => {
                metrics::counter!("weft_websocket_events_sent_total").increment(self.taken.len() as u64);
                self.taken.drain(..).for_each(|delivery| self.connection.handle_delivery(delivery));
                None
            }
            Err(Closed::TakenOver) => end(CloseCode::Policy, "a newer connection has the session"),
            Err(Closed::Ended) => end(CloseCode::Policy, "the session was ended"),
            Err(Closed::QueueFull) => end(CloseCode::Policy, "the queue of the session is full"),
            Err(Closed::Stopping) => end(CloseCode::Away, "weft is stopping"),
        }
    }

    /// Pings a silent client; true if it did not answer the last one. A client that is not read because of us is not
    /// silent; one that takes nothing of what it is sent is.
    fn is_dead(&mut self, reads: bool) -> bool {
        let heard = std::mem::take(&mut self.heard) || !(reads || self.dirty);
        if !heard && self.pinged {
            return true;
        }
        self.pinged = !heard;
        if self.pinged {
            self.out.push_back(Message::Ping(bytes::Bytes::new()));
            self.dirty = true;
        }
        false
    }

    /// Sends what is left, the close frame at last, and gives the client a moment to answer it (RFC 6455 §7.1.2).
    async fn finish(mut self, end: End) {
        if let Some(link) = self.link.take() {
            link.close(Close { will: false, keep: None });
        }
        let goodbye = async {
            match end {
                End::Lost => {}
                // The library answers the client's close frame.
                End::Goodbye => while let Some(Ok(_)) = self.stream.next().await {},
                End::Close(code, reason) => {
                    tracing::debug!(code = u16::from(code), reason, "connection closed");
                    let reason = shortened(&reason).into();
                    self.out.push_back(Message::Close(Some(CloseFrame { code, reason })));
                    poll_fn(|cx| waits::poll_write(cx, &mut self.sink, &mut self.out))
                        .await
                        .unwrap_or_default();
                    // Read to the end: if something lay unread when the socket is dropped, the client would see a
                    // reset, and perhaps no close frame.
                    if let Ok(socket) = self.sink.reunite(self.stream) {
                        let mut io = socket.into_inner().into_inner();
                        io.shutdown().await.unwrap_or_default();
                        tokio::io::copy(&mut io, &mut tokio::io::sink()).await.unwrap_or_default();
                    }
                }
            }
        };
        timeout(Duration::from_secs(2), goodbye).await.unwrap_or_default();
    }
}

/// Resolves at `when`. Cancel-safe.
async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
