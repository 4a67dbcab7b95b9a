//! One client's connection: HELLO, session, answers, deliveries. Sans-io: frames, answers of gate and hub, and time come
//! in; bytes and [`Action`]s come out.
//!
//! Answers to publishes leave when the hub's receipt is there, each with the seq of its own frame: they are kept with
//! the batch that they belong to, and never with the connection.

mod deliver;
mod exercise;
mod publish;
mod session;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, BytesMut};
use bytestring::ByteString;
use event::access::Credentials;
use event::hub::{Attach, Closed, Publish, Stamps, Subscribe};
use event::{ClientId, Principal, Reject, TopicFilter, has_control};
use eventmesh::{Client, Kind, Order, Payload, Purpose, UserAgent};

use crate::codec::{self, Answer, Command, Dialect, Frame};
use crate::error::Code;
use crate::meters::Tally;
use crate::options::millis;
use crate::{Options, Violation, meters};

pub use exercise::exercise;
use session::Session;

/// The time, as the connection needs it.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For deadlines.
    pub instant: Instant,
    /// Milliseconds since 1970.
    pub ms: u64,
}

/// What is to be done outside.
#[derive(Debug)]
pub enum Action {
    /// Ask the gate. Next: [`Connection::handle_admission`].
    Admit(ClientId, Credentials),
    /// Ask the hub for a session. Next: [`Connection::handle_attached`].
    Attach(Box<Principal>, Attach),
    /// It has a session: operators may see it.
    Register(Box<Client>),
    /// It listens to these topics.
    Listens(Vec<String>),
    /// Publish for the client. Next: [`Connection::handle_admitted`], and when the receipt is there
    /// [`Connection::handle_published`].
    Publish(As, Vec<Publish>),
    /// Open a request. Next: [`Connection::handle_asked`], and at its end [`Connection::handle_reply`].
    Ask {
        /// The connection's number of the request.
        id: u64,
        /// What is asked.
        payload: Box<Payload>,
        /// How long it waits.
        ttl: Duration,
    },
    /// Next: [`Connection::handle_subscribed`].
    Subscribe(Vec<Subscribe>),
    /// Next: [`Connection::handle_unsubscribed`].
    Unsubscribe(Vec<TopicFilter>),
    /// These deliveries are done.
    Ack(Vec<u64>),
    /// Tell the audit that a client was refused a subscription, and why.
    Denied(Box<(Principal, TopicFilter, Reject)>),
}

/// As whom a batch is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum As {
    /// As the client.
    Client,
    /// As Weft: replies to its requests.
    Weft,
}

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    options: Arc<Options>,
    common: Arc<eventmesh::Options>,
    stamps: Stamps,
    peer: SocketAddr,
    dialect: Option<Dialect>,
    state: State,
    output: BytesMut,
    actions: VecDeque<Action>,
    /// When something came last.
    heard: Instant,
    /// Since when the client takes nothing of what waits for it.
    stalled: Option<Instant>,
    draining: Option<Instant>,
    over: bool,
    violation: Option<Violation>,

    /// What this read published so far.
    batches: [publish::Batch; 2],
    /// A batch waits for room.
    waiting: bool,
    open_count: usize,
    open_bytes: usize,
    requests: BTreeMap<u64, publish::Request>,
    next_request: u64,
    tally: Tally,
}

#[derive(Debug)]
enum State {
    /// Nobody said hello.
    Fresh {
        until: Instant,
    },
    /// Gate and hub are asked.
    Greeting {
        seq: Option<ByteString>,
        agent: Box<UserAgent>,
        until: Instant,
    },
    Open(Box<Session>),
}

impl Connection {
    /// Of someone who comes from `peer`.
    pub fn new(
        options: Arc<Options>,
        common: Arc<eventmesh::Options>,
        stamps: Stamps,
        peer: SocketAddr,
        now: Instant,
    ) -> Self {
        let until = now + millis(options.hello_timeout_ms);
        Self {
            options,
            common,
            stamps,
            peer,
            dialect: None,
            state: State::Fresh { until },
            output: BytesMut::new(),
            actions: VecDeque::new(),
            heard: now,
            stalled: None,
            draining: None,
            over: false,
            violation: None,
            batches: Default::default(),
            waiting: false,
            open_count: 0,
            open_bytes: 0,
            requests: BTreeMap::new(),
            next_request: 0,
            tally: Tally::default(),
        }
    }

    /// How lengths are counted on this connection, once its first frame told.
    pub fn dialect(&self) -> Option<Dialect> {
        self.dialect
    }

    /// Whether the next frame may be handled.
    pub fn wants_frames(&self) -> bool {
        let ready = match &self.state {
            State::Fresh { .. } => true,
            State::Greeting { .. } => false,
            State::Open(session) => !session.is_busy(),
        };
        ready
            && !self.over
            && !self.waiting
            && self.draining.is_none()
            && self.output.len() < self.options.output_bytes.as_usize()
            && self.open_count < usize::from(self.options.inflight_max.get())
            && self.open_bytes < self.options.open_bytes.as_usize()
    }

    /// Something came: the client is alive.
    pub fn handle_input(&mut self, read: usize, now: Instant) {
        self.heard = now;
        self.tally.bytes_in += read as u64;
    }

    /// A frame of this dialect. Call [`Self::flush`] behind the last one of a read.
    pub fn handle_frame(&mut self, frame: Frame, dialect: Dialect, now: Now) {
        self.dialect.get_or_insert(dialect);
        self.tally.frames_in += 1;
        if self.over {
            return;
        }
        let seq = frame.header.seq.clone();
        match (&self.state, frame.header.cmd) {
            (State::Fresh { until }, Command::HelloRequest) => {
                let until = *until;
                self.hello(&frame, seq, until);
            }
            (_, Command::RecommendRequest) => {
                self.refuse(Command::RecommendRequest, seq, Code::Fail, NO_REGISTRY);
            }
            (State::Fresh { .. } | State::Greeting { .. }, cmd) => {
                self.refuse(cmd, seq, Code::Fail, "no session is found: send HELLO_REQUEST first");
            }
            (State::Open(_), _) => self.in_session(&frame, now),
        }
        self.debug_assert_invariants();
    }

    fn hello(&mut self, frame: &Frame, seq: Option<ByteString>, until: Instant) {
        let agent = match agent(&frame.body) {
            Ok(agent) => agent,
            Err(reason) => {
                self.refuse(Command::HelloRequest, seq, Code::Fail, &reason);
                return self.end();
            }
        };
        let name = format!("$eventmesh/{}/{}", agent.group().unwrap_or_default(), self.peer);
        self.actions.push_back(Action::Admit(ClientId::from(&*name), agent.credentials()));
        self.state = State::Greeting { seq, agent: Box::new(agent.without_secrets()), until };
    }

    /// The gate's answer.
    pub fn handle_admission(&mut self, answer: Result<Principal, Reject>) {
        match answer {
            Ok(who) => {
                let attach = Attach { clean: true, protocol: PROTOCOL, ..Attach::default() };
                self.actions.push_back(Action::Attach(Box::new(who), attach));
            }
            Err(reject) => self.not_admitted(&reject),
        }
        self.debug_assert_invariants();
    }

    fn not_admitted(&mut self, reject: &Reject) {
        if let State::Greeting { seq, .. } = &self.state {
            let seq = seq.clone();
            self.refuse(Command::HelloRequest, seq, Code::from(reject.kind), &reject.reason);
        }
        self.end();
    }

    /// The hub's answer: `who` has a session.
    pub fn handle_attached(&mut self, answer: Result<Principal, Reject>, now: Now) {
        match (answer, &mut self.state) {
            (Ok(who), State::Greeting { seq, agent, .. }) => {
                let (seq, agent) = (seq.take(), std::mem::take(&mut **agent));
                let left = who.until_ms.map(|until| Duration::from_millis(until.saturating_sub(now.ms)));
                let client = Client {
                    agent: agent.clone(),
                    peer: self.peer,
                    protocol: "TCP",
                    url: None,
                    topics: Vec::new(),
                };
                self.actions.push_back(Action::Register(Box::new(client)));
                let until = left.map(|left| now.instant + left);
                self.state = State::Open(Box::new(Session::new(agent, who, until)));
                self.heard = now.instant;
                self.answer(Command::HelloRequest, seq.as_deref());
            }
            (Ok(_), State::Fresh { .. } | State::Open(_)) => {}
            (Err(reject), _) => self.not_admitted(&reject),
        }
        self.debug_assert_invariants();
    }

    /// An operator's order.
    pub fn handle_order(&mut self, order: &Order, now: Instant) {
        match order {
            Order::Leave => self.say_goodbye(Code::Success, "graceful normal quit from eventmesh"),
            Order::Redirect { ip, port } => {
                let body = serde_json::json!({ "ip": ip, "port": port }).to_string();
                let header = Answer::new(Command::RedirectToClient, None).said(Code::Success, "redirect");
                self.write(&header, body.as_bytes());
            }
        }
        let until = now + millis(self.options.goodbye_timeout_ms);
        if let State::Open(session) = &mut self.state {
            session.leave(until, &mut self.actions);
        }
        self.debug_assert_invariants();
    }

    /// The session is taken away.
    pub fn handle_closed(&mut self, why: Closed) {
        let (code, reason) = match why {
            Closed::TakenOver => (Code::Fail, "a newer connection has the session"),
            Closed::Ended => (Code::Fail, "an operator ended the session"),
            Closed::QueueFull => (Code::TpsOverload, "too many events wait for this client"),
            Closed::Stopping => (Code::Success, "graceful normal quit from eventmesh"),
        };
        self.say_goodbye(code, reason);
        self.end();
    }

    /// The client broke the protocol.
    pub fn handle_violation(&mut self, violation: Violation) {
        if self.over {
            return;
        }
        self.say_goodbye(Code::Fail, &violation.to_string());
        self.violation = Some(violation);
        self.end();
    }

    /// Nothing comes any more, or can be written.
    pub fn handle_eof(&mut self) {
        self.end();
    }

    /// Weft stops: what was taken is answered, nothing more is taken.
    pub fn handle_drain(&mut self, now: Instant) {
        self.say_goodbye(Code::Success, "graceful normal quit from eventmesh");
        self.draining = Some(now + millis(self.options.drain_timeout_ms));
        self.look_if_drained();
    }

    fn look_if_drained(&mut self) {
        if self.draining.is_some() && self.open_count == 0 && self.requests.is_empty() {
            self.end();
        }
    }

    fn end(&mut self) {
        self.over = true;
    }

    /// Whether all is said; what is in [`Self::output`] is written, and the connection closed.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// What the client did wrong, if that ended the connection.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// The session's name, if there is one.
    pub fn client(&self) -> Option<&str> {
        match &self.state {
            State::Open(session) => Some(session.client()),
            State::Fresh { .. } | State::Greeting { .. } => None,
        }
    }

    /// The next thing to do. Call until there is none.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What is to be written.
    pub fn output(&self) -> &BytesMut {
        &self.output
    }

    /// The first `written` bytes of the output were taken; 0: the client takes nothing now.
    pub fn handle_written(&mut self, written: usize, now: Instant) {
        self.output.advance(written.min(self.output.len()));
        self.tally.bytes_out += written as u64;
        self.stalled = match (self.output.is_empty(), written, self.stalled) {
            (true, ..) => None,
            (false, 0, Some(since)) => Some(since),
            (false, ..) => Some(now),
        };
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let stalled = self.stalled.map(|since| since + millis(self.options.write_timeout_ms));
        let mut deadlines = [stalled, self.draining, None, None, None, None];
        match &self.state {
            State::Fresh { until } | State::Greeting { until, .. } => deadlines[2] = Some(*until),
            State::Open(session) => {
                deadlines[2] = Some(self.heard + millis(self.options.session_expiry_ms));
                deadlines[3] = session.oldest().map(|since| since + millis(self.options.ack_timeout_ms));
                deadlines[4] = session.until;
                deadlines[5] = session.leaving;
            }
        }
        deadlines.into_iter().flatten().min()
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        let is_due = |since: Option<Instant>, ms| since.is_some_and(|since| since + millis(ms) <= now);
        let options = Arc::clone(&self.options);
        let (hello, session) = match &self.state {
            State::Fresh { until } | State::Greeting { until, .. } => (Some(*until), None),
            State::Open(session) => (None, Some((session.oldest(), session.until, session.leaving))),
        };
        let past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.stalled, options.write_timeout_ms) {
            // Nobody would read a goodbye.
            self.violation = Some(Violation::Stuck(options.write_timeout_ms.get()));
            self.output.clear();
            self.end();
        } else if past(hello) {
            self.handle_violation(Violation::NoHello(options.hello_timeout_ms.get()));
        } else if past(self.draining) {
            self.end();
        } else if let Some((oldest, until, leaving)) = session {
            if is_due(Some(self.heard), options.session_expiry_ms) {
                self.handle_violation(Violation::Silent(options.session_expiry_ms.get()));
            } else if is_due(oldest, options.ack_timeout_ms) {
                self.handle_violation(Violation::NoAck(options.ack_timeout_ms.get()));
            } else if past(until) {
                self.say_goodbye(Code::AclFail, "the proof of who this is has ended");
                self.end();
            } else if past(leaving) {
                self.end();
            }
        }
        self.debug_assert_invariants();
    }

    /// What happened since this was asked last.
    pub(crate) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Gives memory back that a busy time left.
    pub fn shrink(&mut self) {
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
        self.actions.shrink_to_fit();
        self.batches.iter_mut().for_each(publish::Batch::shrink);
    }

    /// Code 0.
    fn answer(&mut self, cmd: Command, seq: Option<&str>) {
        self.write(&Answer::new(cmd.answer(), seq).said(Code::Success, "success"), b"");
    }

    fn refuse(&mut self, cmd: Command, seq: Option<ByteString>, code: Code, reason: &str) {
        meters::refused(code);
        self.write(&Answer::new(cmd.answer(), seq.as_deref()).said(code, reason), b"");
    }

    /// Without a seq, as EventMesh says it: the Java SDK takes that for a reason to connect anew.
    fn say_goodbye(&mut self, code: Code, reason: &str) {
        self.write(&Answer::new(Command::ServerGoodbyeRequest, None).said(code, reason), b"");
    }

    fn write(&mut self, header: &Answer<'_>, body: &[u8]) {
        self.tally.frames_out += 1;
        codec::write(&mut self.output, self.dialect.unwrap_or(Dialect::From19), header, body);
    }

    fn debug_assert_invariants(&self) {
        let open: usize = self.batches.iter().map(publish::Batch::open).sum();
        debug_assert_eq!(open, self.open_count, "what is open is what waits for an answer");
        debug_assert!(self.requests.len() <= usize::from(self.options.requests_max.get()));
    }
}

/// What a HELLO_REQUEST says, if it says all that is needed.
fn agent(body: &[u8]) -> Result<UserAgent, String> {
    let agent: UserAgent =
        serde_json::from_slice(body).map_err(|error| format!("the user agent is not readable: {error}"))?;
    if agent.version.is_none() {
        return Err("client version cannot be null".to_owned());
    }
    let Some(group) = agent.group() else { return Err("client group cannot be blank".to_owned()) };
    if group.len() > GROUP_MAX || has_control(group) {
        return Err(format!("client group has control characters, or more than {GROUP_MAX} bytes"));
    }
    match agent.purpose() {
        Some(Purpose::Publish | Purpose::Subscribe) => Ok(agent),
        None => Err("client purpose config is error: it is \"pub\" or \"sub\"".to_owned()),
    }
}

/// What lists of sessions say that is spoken.
const PROTOCOL: &str = "EventMesh TCP";

/// The longest name of a group, bytes.
const GROUP_MAX: usize = 1024;

const NO_REGISTRY: &str = "registry enable config is false, not support";
