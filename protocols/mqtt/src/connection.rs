//! One client's protocol: packets, answers of the hub and time come in; bytes and [`Action`]s come out. Sans-io.
//!
//! Whoever drives it feeds packets while [`Connection::wants_packets`], carries out what [`Connection::poll_action`]
//! says until it says nothing, and writes [`Connection::output`]. Answers of the hub come back through the `handle_`
//! methods, those of one kind in the order in which they were asked for.
//!
//! What is gathered between two rounds of `poll_action` goes to the hub as one batch. A SUBSCRIBE waits until all
//! publishes before it are answered, and holds back all that comes behind it until it is answered itself: so a client
//! that publishes, subscribes and publishes sees what the order of its packets says.

mod aliases;
mod auth;
mod connect;
mod deliver;
mod exercise;
mod lanes;
mod publish;
mod subscribe;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use event::access::Credentials;
use event::hub::{self, Close, Closed, Stamps};
use event::{ClientId, Principal, TopicFilter, TopicName};

use crate::codec::{Disconnect, Packet, PacketId, Property, Reason, Version, claims_version_5, encode};
use crate::output::Output;
use crate::session::{Deliveries, Received};
use crate::{Options, Violation};

use aliases::Aliases;
use auth::Authentication;
pub use connect::Bound;
use connect::{Welcome, Wish};
pub use exercise::exercise;
pub use lanes::Lane;
use lanes::Lanes;
use publish::{Gathered, Open};
use subscribe::Request;

/// What time it is.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For timeouts.
    pub instant: Instant,
    /// Milliseconds since 1970, for events.
    pub ms: u64,
}

/// What the gate or the hub has to be asked or told. Answers come back in order.
#[derive(Debug)]
pub enum Action {
    /// [`event::access::Gate::admit`], answered by [`Connection::handle_admission`].
    Admit(ClientId, Credentials),
    /// [`event::access::Gate::exchange`] and its first step, answered by [`Connection::handle_step`], or
    /// [`Connection::handle_unknown_method`].
    Authenticate {
        /// The client id.
        client: ClientId,
        /// What it shows beside the exchange.
        credentials: Credentials,
        /// The name of the method.
        method: ByteString,
        /// What the client says first.
        data: Bytes,
    },
    /// [`event::access::Exchange::step`], answered by [`Connection::handle_step`].
    Step(Bytes),
    /// [`hub::Link::renew`].
    Renew(Principal),
    /// [`hub::Hub::attach`], answered by [`Connection::handle_attached`].
    Attach(Principal, Box<hub::Attach>),
    /// [`hub::Link::publish`]: call [`Connection::handle_admitted`] when it is admitted, and
    /// [`Connection::handle_published`] with the outcome.
    Publish(Vec<hub::Publish>),
    /// [`hub::Link::ack`].
    Ack(Vec<u64>),
    /// [`hub::Link::rewind`].
    Rewind,
    /// [`hub::Link::received`], answered by [`Connection::handle_kept`].
    Received(Vec<u64>),
    /// [`hub::Link::release`], answered by [`Connection::handle_released`].
    Release(Vec<u16>),
    /// [`hub::Link::subscribe`], answered by [`Connection::handle_subscribed`].
    Subscribe(Vec<hub::Subscribe>),
    /// [`hub::Link::unsubscribe`], answered by [`Connection::handle_unsubscribed`].
    Unsubscribe(Vec<TopicFilter>),
    /// [`hub::Link::close`]; then write what is left of the output, and close the stream.
    Close(Close),
}

/// What went through since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// PUBLISH packets in.
    pub publish_in: u32,
    /// PUBACK, PUBREC, PUBREL and PUBCOMP in.
    pub ack_in: u32,
    /// Other packets in.
    pub other_in: u32,
    /// PUBLISH packets out.
    pub publish_out: u32,
    /// PUBACK, PUBREC, PUBREL and PUBCOMP out.
    pub ack_out: u32,
    /// Other packets out.
    pub other_out: u32,
    /// Deliveries left out because their time was over.
    pub expired: u32,
    /// Deliveries left out because the client takes no packets of that size.
    pub oversized: u32,
}

/// One client's protocol.
#[derive(Debug)]
pub struct Connection {
    options: Arc<Options>,
    stamps: Stamps,
    phase: Phase,
    version: Version,
    client: Arc<str>,
    output: Output,
    tally: Tally,
    violation: Option<Violation>,

    last_in: Instant,
    keep_alive: Option<Duration>,
    stuck_since: Option<Instant>,
    stalled_until: Option<Instant>,
    drain_until: Option<Instant>,
    proof_end: Option<Instant>,
    /// Of clients that named a method.
    authentication: Option<Box<Authentication>>,

    aliases: Vec<Option<TopicName>>,
    received: Received,
    /// QoS 1 and 2 publishes of the client without final answer.
    open_in: u16,
    gathered: Gathered,
    /// A batch was given out and is not yet admitted.
    admitting: bool,
    open: VecDeque<Open>,
    open_bytes: usize,
    to_release: Vec<u16>,
    releasing: VecDeque<Vec<u16>>,

    deliveries: Deliveries,
    deliveries_max: u16,
    /// The largest packet that the client takes.
    packet_max: u32,
    /// The client wants to be told why.
    problem_information: bool,
    aliases_out: Option<Box<Aliases>>,
    session_expiry_s: u32,
    acks: Vec<u64>,
    to_keep: Vec<u64>,
    keeping: VecDeque<Vec<u64>>,
    request: Option<Box<Request>>,
    /// Of clients that have opened data streams.
    lanes: Option<Box<Lanes>>,
    /// The session is another connection's.
    superseded: bool,
}

#[derive(Debug)]
enum Phase {
    /// CONNECT has to come until then.
    Waiting(Instant),
    /// CONNECT was there. The wish is taken out when it is given to the hub.
    Attaching(Box<Welcome>),
    Open,
    /// What was taken from the client is still given to the hub, then it is closed.
    Ending(Close),
    Over,
}

impl Connection {
    /// A connection whose CONNECT has still to come.
    pub fn new(options: Arc<Options>, stamps: Stamps, now: Instant) -> Self {
        Self {
            phase: Phase::Waiting(now + options.connect_timeout()),
            deliveries_max: options.deliveries_max.get(),
            options,
            stamps,
            version: Version::V311,
            client: Arc::from(""),
            output: Output::default(),
            tally: Tally::default(),
            violation: None,
            last_in: now,
            keep_alive: None,
            stuck_since: None,
            stalled_until: None,
            drain_until: None,
            proof_end: None,
            authentication: None,
            aliases: Vec::new(),
            received: Received::default(),
            open_in: 0,
            gathered: Gathered::default(),
            admitting: false,
            open: VecDeque::new(),
            open_bytes: 0,
            to_release: Vec::new(),
            releasing: VecDeque::new(),
            deliveries: Deliveries::default(),
            packet_max: u32::MAX,
            problem_information: true,
            aliases_out: None,
            session_expiry_s: 0,
            acks: Vec::new(),
            to_keep: Vec::new(),
            keeping: VecDeque::new(),
            request: None,
            lanes: None,
            superseded: false,
        }
    }

    /// What to decode the next packet as; `None` before CONNECT.
    pub fn version(&self) -> Option<Version> {
        match self.phase {
            Phase::Waiting(_) => None,
            Phase::Attaching(_) | Phase::Open | Phase::Ending(_) | Phase::Over => Some(self.version),
        }
    }

    /// The client id; empty before CONNECT.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// What the peer did wrong, if that ended the connection.
    pub fn violation(&self) -> Option<Violation> {
        self.violation
    }

    /// Whether the connection is at its end: [`Action::Close`] was given out.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Whether the client is connected: CONNACK said so, and nothing ended it.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Bytes for the peer.
    pub fn output(&self) -> &Output {
        &self.output
    }

    /// What went through since the last call.
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Gives memory back that a busy time left.
    pub fn shrink(&mut self) {
        self.output.shrink();
        if self.gathered.is_empty() {
            self.gathered = Gathered::default();
        }
        self.deliveries.shrink();
        self.received.shrink();
        self.open.shrink_to_fit();
        self.releasing.shrink_to_fit();
        self.keeping.shrink_to_fit();
        if let Some(lanes) = &mut self.lanes {
            lanes.shrink();
        }
    }

    /// Whether the next packet may be given in. Otherwise leave it, and what is behind it, where it is.
    pub fn wants_packets(&self) -> bool {
        match self.phase {
            Phase::Waiting(_) => true,
            Phase::Attaching(_) => self.authentication.as_ref().is_some_and(|it| it.is_of_client()),
            Phase::Ending(_) | Phase::Over => false,
            Phase::Open => {
                !self.admitting
                    && self.request.is_none()
                    && self.drain_until.is_none()
                    && self.stalled_until.is_none()
                    && self.open.len() < OPEN_BATCHES
                    && self.open_bytes < self.options.open_bytes.as_usize()
                    && self.output_len() < self.output_limit().saturating_mul(2)
                    && !self.is_full_311()
            }
        }
    }

    /// MQTT 3.1.1 knows no Receive Maximum, so a client above it is read when the hub has answered. What then waits for
    /// the client's PUBREL does not count: that has to be read.
    fn is_full_311(&self) -> bool {
        let waits = !(self.open.is_empty() && self.releasing.is_empty() && self.gathered.is_empty());
        self.version == Version::V311 && waits && self.open_in >= self.options.inflight_max.get()
    }

    /// A packet of the client. Give it in only if [`Self::wants_packets`]. A violation is for
    /// [`Self::handle_violation`].
    pub fn handle_packet(&mut self, packet: Packet, now: Now) -> Result<(), Violation> {
        match &packet {
            Packet::Publish(_) => self.tally.publish_in += 1,
            Packet::PubAck(_) | Packet::PubRec(_) | Packet::PubRel(_) | Packet::PubComp(_) => {
                self.tally.ack_in += 1
            }
            Packet::Connect(_)
            | Packet::Subscribe(_)
            | Packet::Unsubscribe(_)
            | Packet::PingReq
            | Packet::Disconnect(_)
            | Packet::Auth(_) => self.tally.other_in += 1,
        }
        let connected = matches!(self.phase, Phase::Open);
        match packet {
            Packet::Connect(connect) if matches!(self.phase, Phase::Waiting(_)) => {
                self.handle_connect(*connect, now)?;
            }
            Packet::Connect(_) => return Err(Violation::ConnectTwice),
            Packet::Auth(auth) => self.handle_auth(auth)?,
            Packet::Disconnect(_) if !connected => self.end(false),
            _ if !connected => return Err(Violation::AuthFirst),
            Packet::Publish(publish) if !self.superseded || publish.id.is_none() => {
                self.handle_publish(publish, now)?;
            }
            Packet::Disconnect(disconnect) => self.handle_disconnect(disconnect)?,
            // The session is another connection's: it will be asked again.
            _ if self.superseded => {}
            Packet::Publish(publish) => self.handle_publish(publish, now)?,
            Packet::PubAck(ack) => self.handle_puback(ack)?,
            Packet::PubRec(ack) => self.handle_pubrec(ack)?,
            Packet::PubRel(ack) => self.handle_pubrel(ack)?,
            Packet::PubComp(ack) => self.handle_pubcomp(ack)?,
            Packet::Subscribe(subscribe) => self.handle_subscribe(subscribe),
            Packet::Unsubscribe(unsubscribe) => self.handle_unsubscribe(unsubscribe),
            Packet::PingReq => {
                self.tally.other_out += 1;
                encode::pingresp(self.output.buffer());
            }
        }
        self.debug_assert_invariants();
        Ok(())
    }

    /// The peer broke the protocol with `packet`, the bytes from the wrong packet on: tell it, and end.
    pub fn handle_violation(&mut self, violation: Violation, packet: &[u8]) {
        match self.phase {
            Phase::Waiting(_) => {
                self.violation = Some(violation);
                if let Violation::ProtocolLevel(0..=4) = violation {
                    self.refuse_connect(violation.reason(), Some(1));
                } else if matches!(violation, Violation::ProtocolLevel(_)) || claims_version_5(packet) {
                    self.refuse_as_5(violation.reason(), &violation.to_string());
                } else {
                    self.end(true);
                }
            }
            // Only enhanced authentication, which is of version 5, reads before CONNACK.
            Phase::Attaching(_) => {
                self.violation = Some(violation);
                self.refuse_as_5(violation.reason(), &violation.to_string());
            }
            Phase::Open => {
                self.violation = Some(violation);
                self.disconnect(violation.reason(), Some(&violation.to_string()));
            }
            Phase::Ending(_) | Phase::Over => {}
        }
        self.debug_assert_invariants();
    }

    /// The stream ended, or failed.
    pub fn handle_eof(&mut self) {
        self.end(true);
    }

    /// Bytes came, or could not come because they were not read.
    pub fn handle_input(&mut self, now: Instant) {
        self.last_in = now;
    }

    /// `written` bytes of the output left; 0 when the socket takes nothing.
    pub fn handle_written(&mut self, written: usize, now: Instant) {
        self.output.advance(written);
        if self.output.is_empty() {
            self.stuck_since = None;
        } else if written > 0 || self.stuck_since.is_none() {
            self.stuck_since = Some(now);
        }
    }

    /// The session is no longer this connection's.
    pub fn handle_closed(&mut self, why: Closed) {
        match why {
            Closed::TakenOver => self.disconnect(Reason::SessionTakenOver, None),
            Closed::Ended => self.disconnect(Reason::AdministrativeAction, None),
            Closed::QueueFull => self.disconnect(Reason::QuotaExceeded, None),
            Closed::Stopping => self.disconnect(Reason::ServerShuttingDown, None),
        }
    }

    /// Another connection has the session. What the client had sent before may still be given in, and then
    /// [`Closed::TakenOver`] to [`Self::handle_closed`]: of that only QoS 0 publishes and DISCONNECT count, as nobody repeats
    /// them. Everything else the client does again on its new connection.
    pub fn handle_superseded(&mut self) {
        self.superseded = true;
    }

    /// Whether [`Self::handle_superseded`] was called.
    pub fn is_superseded(&self) -> bool {
        self.superseded
    }

    /// Weft stops: nothing more is taken from the client; what was taken is answered, within a limit.
    pub fn handle_drain(&mut self, now: Instant) {
        match self.phase {
            Phase::Open => {
                self.drain_until.get_or_insert(now + self.options.drain_timeout());
            }
            Phase::Waiting(_) => self.end(false),
            Phase::Attaching(_) => self.refuse_connect(Reason::ServerUnavailable, Some(3)),
            Phase::Ending(_) => {
                self.drain_until.get_or_insert(now + self.options.drain_timeout());
            }
            Phase::Over => {}
        }
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let mut next = self.drain_until;
        let mut at = |deadline: Option<Instant>| {
            if let Some(deadline) = deadline {
                next = Some(next.map_or(deadline, |have| have.min(deadline)));
            }
        };
        match self.phase {
            Phase::Waiting(until) => at(Some(until)),
            Phase::Attaching(ref welcome) => at(Some(welcome.until)),
            Phase::Ending(_) | Phase::Over => {}
            Phase::Open => {
                at(self.keep_alive.map(|keep_alive| self.last_in + keep_alive));
                at(self.stuck_since.map(|since| since + self.options.write_timeout()));
                at(self.stalled_until);
                at(self.lanes_stuck_since().map(|since| since + self.options.write_timeout()));
                at(self.proof_end);
            }
        }
        next
    }

    /// It is `now`; what is due is done.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if due(self.drain_until) {
            self.admitting = false;
            self.disconnect(Reason::ServerShuttingDown, None);
            return;
        }
        let violation = match &self.phase {
            Phase::Waiting(until) if *until <= now => Violation::ConnectTimeout,
            // Behind it is what the client had to say next in its exchange.
            Phase::Attaching(welcome) if welcome.until <= now && self.wants_packets() => {
                Violation::ConnectTimeout
            }
            Phase::Attaching(welcome) if welcome.until <= now => {
                return self.refuse_connect(Reason::ServerUnavailable, Some(3));
            }
            Phase::Open if due(self.keep_alive.map(|keep_alive| self.last_in + keep_alive)) => {
                Violation::KeepAlive
            }
            Phase::Open
                if due(self.stuck_since.map(|since| since + self.options.write_timeout()))
                    || due(self.lanes_stuck_since().map(|since| since + self.options.write_timeout())) =>
            {
                Violation::WriteTimeout
            }
            Phase::Open if due(self.stalled_until) => Violation::Refused,
            Phase::Open if due(self.proof_end) => Violation::ProofEnded,
            Phase::Waiting(_) | Phase::Attaching(_) | Phase::Open | Phase::Ending(_) | Phase::Over => return,
        };
        self.handle_violation(violation, &[]);
    }

    /// What to ask or tell the hub next; `None` when there is nothing now.
    pub fn poll_action(&mut self) -> Option<Action> {
        if let Some(authentication) = &mut self.authentication
            && matches!(self.phase, Phase::Attaching(_) | Phase::Open)
            && let Some(action) = authentication.action()
        {
            return Some(action);
        }
        match &mut self.phase {
            Phase::Waiting(_) | Phase::Over => return None,
            Phase::Attaching(welcome) => {
                return match std::mem::replace(&mut welcome.wish, Wish::Attaching) {
                    Wish::Admit(client, credentials, attach) => {
                        welcome.wish = Wish::Admitting(attach);
                        Some(Action::Admit(client, credentials))
                    }
                    Wish::Attach(who, attach) => Some(Action::Attach(who, attach)),
                    waiting @ (Wish::Admitting(_) | Wish::Attaching) => {
                        welcome.wish = waiting;
                        None
                    }
                };
            }
            Phase::Open | Phase::Ending(_) => {}
        }
        if !self.admitting
            && let Some(batch) = self.take_batch()
        {
            return Some(Action::Publish(batch));
        }
        if !self.acks.is_empty() {
            return Some(Action::Ack(std::mem::take(&mut self.acks)));
        }
        if !self.to_keep.is_empty() {
            let numbers = std::mem::take(&mut self.to_keep);
            self.keeping.push_back(numbers.clone());
            return Some(Action::Received(numbers));
        }
        if let Some(lanes) = &mut self.lanes
            && lanes.take_loss()
        {
            return Some(Action::Rewind);
        }
        if !self.to_release.is_empty() {
            let ids = std::mem::take(&mut self.to_release);
            self.releasing.push_back(ids.clone());
            return Some(Action::Release(ids));
        }
        if self.open.is_empty()
            && let Some(request) = &mut self.request
            && let Some(action) = request.ask()
        {
            return Some(action);
        }
        if self.drain_until.is_some() && self.is_quiet() {
            self.disconnect(Reason::ServerShuttingDown, None);
        }
        match self.phase {
            Phase::Ending(close) if !self.admitting => {
                self.phase = Phase::Over;
                Some(Action::Close(close))
            }
            Phase::Waiting(_) | Phase::Attaching(_) | Phase::Open | Phase::Ending(_) | Phase::Over => None,
        }
    }

    /// Nothing that was taken from the client is without its answer.
    fn is_quiet(&self) -> bool {
        !self.admitting
            && self.open.is_empty()
            && self.releasing.is_empty()
            && self.keeping.is_empty()
            && self.request.is_none()
    }

    fn handle_disconnect(&mut self, disconnect: Disconnect) -> Result<(), Violation> {
        let keep = match disconnect.session_expiry {
            Some(seconds) if seconds != 0 && self.session_expiry_s == 0 => {
                return Err(Violation::SessionExpiry);
            }
            Some(seconds) => Some(self.options.keep(seconds).0),
            None => None,
        };
        self.phase = Phase::Ending(Close { will: disconnect.code != 0, keep });
        Ok(())
    }

    /// Writes a packet, if it is not larger than the client takes \[MQTT-3.1.2-24\]. Tells whether it was written.
    fn send(&mut self, write: impl FnOnce(&mut BytesMut)) -> bool {
        self.send_answer(None, write)
    }

    /// As [`Self::send`], on the stream of the client's packet that had this id.
    fn send_answer(&mut self, id: Option<PacketId>, write: impl FnOnce(&mut BytesMut)) -> bool {
        let Self { output, lanes, .. } = self;
        let lane = lanes.as_mut().and_then(|lanes| lanes.answer(id?));
        let out = lane.unwrap_or(output).buffer();
        let before = out.len();
        write(out);
        let fits = u32::try_from(out.len() - before).is_ok_and(|len| len <= self.packet_max);
        match fits {
            true => self.tally.other_out += 1,
            false => out.truncate(before),
        }
        fits
    }

    /// `text` if the client wants reason strings and takes a packet of that size \[MQTT-3.1.2-29\].
    fn told<'a>(&self, text: &'a str) -> Option<&'a str> {
        let wanted = self.version == Version::V5 && self.problem_information && !text.is_empty();
        Some(text).filter(|text| wanted && fits(text, self.packet_max))
    }

    /// Says goodbye, in version 5 with `reason`, and ends.
    fn disconnect(&mut self, reason: Reason, text: Option<&str>) {
        if matches!(self.phase, Phase::Open) && self.version == Version::V5 {
            let text = text.filter(|text| fits(text, self.packet_max)).map(Property::ReasonString);
            self.send(|out| encode::disconnect(out, reason, text.as_slice()));
        }
        self.end(true);
    }

    fn end(&mut self, will: bool) {
        match self.phase {
            Phase::Waiting(_) | Phase::Attaching(_) | Phase::Open => {
                self.phase = Phase::Ending(Close { will, keep: None });
            }
            Phase::Ending(_) | Phase::Over => {}
        }
    }

    /// Bytes that wait, of all streams.
    fn output_len(&self) -> usize {
        self.output.len().saturating_add(self.lanes.as_ref().map_or(0, |lanes| lanes.output_len()))
    }

    fn output_limit(&self) -> usize {
        self.options.output_bytes.as_usize().max(4 << 10)
    }

    fn debug_assert_invariants(&self) {
        self.deliveries.debug_assert_invariants();
        debug_assert!(
            self.open_bytes == self.open.iter().map(|open| open.bytes).sum::<usize>(),
            "open bytes are those of the open batches"
        );
        debug_assert!(
            self.version == Version::V311 || self.open_in <= self.options.inflight_max.get(),
            "receive maximum"
        );
    }
}

/// Whether a packet with a reason string of `text` and little else is within `max` bytes.
fn fits(text: &str, max: u32) -> bool {
    u32::try_from(text.len()).is_ok_and(|len| len.saturating_add(16) <= max)
}

/// Batches without an answer above which a client is not read: more would be latency, not speed.
const OPEN_BATCHES: usize = 64;

#[cfg(test)]
mod tests;
