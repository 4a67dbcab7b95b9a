//! Publishes, requests and replies of the client: each answer belongs to one frame of one batch.

use std::collections::VecDeque;

use event::hub::{Outcome, Publish};
use event::{Event, Guarantee, Reject};
use eventmesh::{Arrival, Payload, Responder, Unanswered, address_reply};

use super::{Action, Answer, As, ByteString, Code, Command, Connection, Frame, Kind, Now, State};
use crate::binding;

/// What one read publishes, and batches that have no answer.
#[derive(Debug, Default)]
pub(super) struct Batch {
    publishes: Vec<Publish>,
    said: Vec<Said>,
    open: VecDeque<Vec<Said>>,
}

impl Batch {
    /// How many publishes have no answer.
    pub(super) fn open(&self) -> usize {
        self.said.len() + self.open.iter().map(Vec::len).sum::<usize>()
    }

    pub(super) fn shrink(&mut self) {
        self.publishes.shrink_to_fit();
        self.said.shrink_to_fit();
        self.open.shrink_to_fit();
    }
}

/// Who waits for what became of a publish.
#[derive(Debug)]
pub(super) struct Said {
    what: What,
    bytes: usize,
}

#[derive(Debug)]
enum What {
    /// A frame that is answered either way.
    Publish(Command, Option<ByteString>),
    /// A request, answered by its reply, or here if it cannot be published.
    Request(u64),
    /// A reply, answered only if it cannot be published.
    Reply(Option<ByteString>),
}

/// A request that waits for its reply.
#[derive(Debug)]
pub(super) struct Request {
    seq: Option<ByteString>,
    /// What the reply has to be.
    kind: Option<Kind>,
}

impl Connection {
    pub(super) fn publish(&mut self, frame: &Frame, now: Now) {
        let (cmd, seq) = (frame.header.cmd, frame.header.seq.clone());
        match self.payload(frame, now) {
            Err(reason) => self.refuse(cmd, seq, Code::Fail, &reason),
            Ok(payload) => {
                self.add(As::Client, What::Publish(cmd, seq), payload.into_event(), Guarantee::AtLeastOnce);
            }
        }
    }

    pub(super) fn request(&mut self, frame: &Frame, now: Now) {
        let seq = frame.header.seq.clone();
        if self.requests.len() >= usize::from(self.options.requests_max.get()) {
            let reason = "too many requests of this client wait for their reply";
            return self.refuse(Command::RequestToServer, seq, Code::TpsOverload, reason);
        }
        let checked = self.payload(frame, now).and_then(|payload| {
            let ttl = payload.property("ttl");
            let ttl = self.common.request_ttl(ttl.as_deref());
            let ttl = ttl.ok_or_else(|| "ttl is no number of milliseconds".to_owned())?;
            Ok((payload, ttl))
        });
        match checked {
            Err(reason) => self.refuse(Command::RequestToServer, seq, Code::Fail, &reason),
            Ok((payload, ttl)) => {
                let id = self.next_request;
                self.next_request += 1;
                let kind = Kind::parse(frame.header.property(eventmesh::PROTOCOL_TYPE));
                self.requests.insert(id, Request { seq, kind });
                self.actions.push_back(Action::Ask { id, payload: Box::new(payload), ttl });
            }
        }
    }

    /// The request `id` was opened and is to be published, or it cannot be opened.
    pub fn handle_asked(&mut self, id: u64, asked: Result<Event, Reject>) {
        match asked {
            Ok(event) => self.add(As::Client, What::Request(id), event, Guarantee::AtLeastOnce),
            Err(reject) => self.refuse_request(id, Code::from(reject.kind), &reject.reason),
        }
        self.debug_assert_invariants();
    }

    /// How the request `id` ended.
    pub fn handle_reply(&mut self, id: u64, reply: Result<Event, Unanswered>) {
        match reply {
            Err(why) => self.refuse_request(id, Code::Fail, &why.to_string()),
            Ok(event) => {
                let Some(Request { seq, kind }) = self.requests.remove(&id) else { return };
                let (kind, body) = binding::body(&event, kind);
                let header = Answer::new(Command::ResponseToClient, seq.as_deref());
                self.write(&header.said(Code::Success, "success").carrying(kind), &body);
            }
        }
        self.look_if_drained();
        self.debug_assert_invariants();
    }

    fn refuse_request(&mut self, id: u64, code: Code, reason: &str) {
        if let Some(Request { seq, .. }) = self.requests.remove(&id) {
            self.refuse(Command::RequestToServer, seq, code, reason);
        }
    }

    pub(super) fn response(&mut self, frame: &Frame, now: Now) {
        let seq = frame.header.seq.clone();
        let addressed = self.payload(frame, now).and_then(|mut payload| {
            let responder = address_reply(payload.parts_mut()).map_err(|error| error.to_string())?;
            Ok((payload.into_event(), responder))
        });
        match addressed {
            Err(reason) => self.refuse(Command::ResponseToServer, seq, Code::Fail, &reason),
            // A reply to one of Weft's requests is of no use later: no log has to hold it.
            Ok((event, Responder::Weft)) => {
                self.add(As::Weft, What::Reply(seq), event, Guarantee::AtMostOnce);
            }
            Ok((event, Responder::Client)) => {
                self.add(As::Client, What::Reply(seq), event, Guarantee::AtLeastOnce);
            }
        }
    }

    /// What `frame` publishes, or why it cannot.
    fn payload(&mut self, frame: &Frame, now: Now) -> Result<Payload, String> {
        let State::Open(session) = &self.state else { return Err("no session is found".to_owned()) };
        let arrival = Arrival { publisher: &session.client, stamp: self.stamps.take(), now_ms: now.ms };
        let payload = binding::payload(frame, arrival).map_err(|error| error.to_string())?;
        if !self.common.takes(payload.data()) {
            return Err(format!("event size exceeds the limit: {}", self.common.max_event_chars));
        }
        Ok(payload)
    }

    fn add(&mut self, publisher: As, what: What, event: Event, guarantee: Guarantee) {
        let bytes = event.weight();
        self.open_count += 1;
        self.open_bytes = self.open_bytes.saturating_add(bytes);
        let batch = self.batch(publisher);
        batch.said.push(Said { what, bytes });
        batch.publishes.push(Publish { event, guarantee, retain: false, id: None });
    }

    /// Hands on what was read: one batch of publishes, one of acknowledgements.
    pub fn flush(&mut self) {
        for publisher in [As::Weft, As::Client] {
            let waiting = self.waiting;
            let batch = self.batch(publisher);
            if waiting || batch.publishes.is_empty() {
                continue;
            }
            let said = std::mem::take(&mut batch.said);
            batch.open.push_back(said);
            let publishes = std::mem::take(&mut batch.publishes);
            self.waiting = true;
            self.actions.push_back(Action::Publish(publisher, publishes));
        }
        if let State::Open(session) = &mut self.state
            && !session.acks.is_empty()
        {
            self.actions.push_back(Action::Ack(std::mem::take(&mut session.acks)));
        }
        self.debug_assert_invariants();
    }

    /// There was room for the last batch.
    pub fn handle_admitted(&mut self) {
        self.waiting = false;
        self.flush();
    }

    /// What became of the oldest batch that `publisher` published.
    pub fn handle_published(&mut self, publisher: As, outcome: &Outcome) {
        let batch = self.batch(publisher);
        let Some(said) = batch.open.pop_front() else { return };
        for (place, Said { what, bytes }) in said.into_iter().enumerate() {
            self.open_count = self.open_count.saturating_sub(1);
            self.open_bytes = self.open_bytes.saturating_sub(bytes);
            match (what, outcome.of(place)) {
                (What::Publish(cmd, seq), Ok(())) => self.answer(cmd, seq.as_deref()),
                (What::Publish(cmd, seq), Err(reject)) => {
                    self.refuse(cmd, seq, Code::from(reject.kind), &reject.reason);
                }
                (What::Request(id), Err(reject)) => {
                    self.refuse_request(id, Code::from(reject.kind), &reject.reason);
                }
                (What::Reply(seq), Err(reject)) => {
                    self.refuse(Command::ResponseToServer, seq, Code::from(reject.kind), &reject.reason);
                }
                (What::Request(_) | What::Reply(_), Ok(())) => {}
            }
        }
        self.look_if_drained();
        self.debug_assert_invariants();
    }

    fn batch(&mut self, publisher: As) -> &mut Batch {
        let [client, weft] = &mut self.batches;
        match publisher {
            As::Client => client,
            As::Weft => weft,
        }
    }
}
