//! What the fuzz target of the connection and the replay of its corpus run: frames, answers of gate and hub, deliveries,
//! orders and time, in any order that a script of bytes says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use event::hub::{Closed, Delivery, Granted, Outcome, Stamps};
use event::store::Position;
use event::{Event, Guarantee, Parts, Principal, Reject, RejectKind, TopicName};
use eventmesh::{Order, Unanswered};

use super::{Action, As, Connection, Now};
use crate::Options;
use crate::codec::{self, Dialect, Found};

/// Drives a connection by `script`: two bytes are one step and its argument; a step that feeds the client's bytes takes as
/// many as its argument says. `start` is any moment: the connection sees only what passes from there on. Panics only when the
/// connection is wrong.
pub fn exercise(script: &[u8], start: Instant) {
    let small = std::num::NonZeroU16::MIN.saturating_add(2);
    let options =
        Options { inflight_max: small, deliveries_max: small, requests_max: small, ..Options::default() };
    let common = Arc::new(eventmesh::Options::default());
    let peer = ([127, 0, 0, 1], 1).into();
    let mut bench = Bench {
        connection: Connection::new(Arc::new(options), common, Stamps::starting_at(1), peer, start),
        start,
        now_ms: 1_000,
        input: BytesMut::new(),
        asked: VecDeque::new(),
        admission: false,
        number: 0,
    };
    let mut script = script;
    while let [what, argument, rest @ ..] = script {
        let (what, argument) = (*what, *argument);
        script = rest;
        match what % 10 {
            0..=3 => {
                let (bytes, rest) = script.split_at(usize::from(argument).min(script.len()));
                script = rest;
                bench.input.extend_from_slice(bytes);
                bench.connection.handle_input(bytes.len(), bench.now().instant);
                bench.feed();
            }
            4 | 5 => bench.answer(argument),
            6 => bench.deliver(argument),
            7 => {
                bench.now_ms += u64::from(argument) * 100;
                bench.connection.handle_timeout(bench.now().instant);
            }
            8 => bench.read(usize::from(argument) * 16),
            _ => bench.interrupt(argument),
        }
        bench.perform();
    }
    bench.read(usize::MAX);
    assert!(bench.connection.output().is_empty());
    bench.connection.shrink();
}

struct Bench {
    connection: Connection,
    start: Instant,
    now_ms: u64,
    input: BytesMut,
    /// What has no answer yet.
    asked: VecDeque<Asked>,
    admission: bool,
    number: u64,
}

enum Asked {
    Gate(event::ClientId),
    Attach(Box<Principal>),
    Publish(As, usize),
    Reply(u64),
    Subscribe(usize),
    Unsubscribe(usize),
}

impl Bench {
    fn now(&self) -> Now {
        Now { instant: self.start + Duration::from_millis(self.now_ms), ms: self.now_ms }
    }

    /// As the driver does: whole frames, as long as the connection takes them.
    fn feed(&mut self) {
        while !self.input.is_empty() && self.connection.wants_frames() {
            match codec::find(&self.input, self.connection.dialect(), 1 << 16) {
                Ok(Found::Need(_)) => break,
                Ok(Found::Whole(dialect, end)) => match codec::read(self.input.split_to(end).freeze()) {
                    Ok(frame) => self.connection.handle_frame(frame, dialect, self.now()),
                    Err(violation) => self.connection.handle_violation(violation),
                },
                Err(violation) => self.connection.handle_violation(violation),
            }
            self.perform();
        }
        self.connection.flush();
    }

    /// Does what the connection wants, but for the answers.
    fn perform(&mut self) {
        while let Some(action) = self.connection.poll_action() {
            match action {
                Action::Admit(client, _) => self.asked.push_back(Asked::Gate(client)),
                Action::Attach(who, _) => self.asked.push_back(Asked::Attach(who)),
                Action::Publish(publisher, batch) => {
                    assert!(!batch.is_empty() && !self.admission, "one batch waits at a time");
                    self.admission = true;
                    self.asked.push_back(Asked::Publish(publisher, batch.len()));
                }
                Action::Ask { id, payload, .. } => {
                    self.asked.push_back(Asked::Reply(id));
                    self.connection.handle_asked(id, Ok(payload.into_event()));
                    self.connection.flush();
                }
                Action::Subscribe(wanted) => self.asked.push_back(Asked::Subscribe(wanted.len())),
                Action::Unsubscribe(filters) => self.asked.push_back(Asked::Unsubscribe(filters.len())),
                Action::Ack(numbers) => assert!(!numbers.is_empty()),
                Action::Register(_) | Action::Listens(_) | Action::Denied(_) => {}
            }
        }
    }

    /// Answers what was asked first. `argument` says how.
    fn answer(&mut self, argument: u8) {
        let refused = || Reject::new(RejectKind::Busy, "busy");
        let yes = !argument.is_multiple_of(4);
        match self.asked.pop_front() {
            None => {}
            Some(Asked::Gate(client)) => {
                let who = Principal::anonymous(client);
                self.connection.handle_admission(if yes { Ok(who) } else { Err(refused()) });
            }
            Some(Asked::Attach(who)) => {
                let answer = if yes { Ok(*who) } else { Err(refused()) };
                self.connection.handle_attached(answer, self.now());
            }
            Some(Asked::Publish(publisher, count)) => {
                if std::mem::take(&mut self.admission) {
                    self.connection.handle_admitted();
                }
                let outcome = match argument % 3 {
                    0 => Outcome::Refused(refused()),
                    1 => Outcome::Partly(vec![(usize::from(argument) % count, refused())]),
                    _ => Outcome::Kept,
                };
                self.connection.handle_published(publisher, &outcome);
            }
            Some(Asked::Reply(id)) => {
                let late = Unanswered::Late(Duration::from_secs(1));
                self.connection.handle_reply(id, if yes { Ok(event(argument)) } else { Err(late) });
            }
            Some(Asked::Subscribe(count)) => {
                let granted = Granted { guarantee: Guarantee::AtLeastOnce, as_of: Position(0) };
                let all = (0..count).map(|_| if yes { Ok(granted) } else { Err(refused()) }).collect();
                self.connection.handle_subscribed(Ok(all));
            }
            Some(Asked::Unsubscribe(count)) => self.connection.handle_unsubscribed(Ok(vec![true; count])),
        }
    }

    fn deliver(&mut self, argument: u8) {
        let Some(room) = self.connection.room() else { return };
        let guarantee =
            if argument.is_multiple_of(2) { Guarantee::AtLeastOnce } else { Guarantee::AtMostOnce };
        if guarantee == Guarantee::AtLeastOnce && room.numbered == 0 {
            return;
        }
        let number = (guarantee == Guarantee::AtLeastOnce).then_some(self.number);
        self.number += 1;
        let subscriptions = Some(Arc::from([u32::from(argument) % 4].as_slice()));
        let event = event(argument);
        let delivery =
            Delivery { event, guarantee, retain: false, again: false, number, position: None, subscriptions };
        self.connection.handle_deliveries(&mut vec![delivery], self.now());
    }

    /// The client takes `most` bytes: they have to be whole frames to their end.
    fn read(&mut self, most: usize) {
        let dialect = self.connection.dialect().unwrap_or(Dialect::From19);
        let taken = self.connection.output().len().min(most);
        if taken == self.connection.output().len() && most == usize::MAX {
            let mut rest = &self.connection.output()[..];
            // What was taken before ended anywhere.
            if !rest.starts_with(b"EventMesh0000") {
                rest = &[];
            }
            while !rest.is_empty() {
                let found = codec::find(rest, Some(dialect), u32::MAX);
                let Ok(Found::Whole(_, end)) = found else { panic!("what is written is frames: {found:?}") };
                rest = rest.get(end..).unwrap_or_default();
            }
        }
        self.connection.handle_written(taken, self.now().instant);
    }

    fn interrupt(&mut self, argument: u8) {
        let now = self.now().instant;
        match argument % 6 {
            0 => self.connection.handle_drain(now),
            1 => self.connection.handle_closed(Closed::Ended),
            2 => self.connection.handle_eof(),
            3 => self.connection.handle_order(&Order::Leave, now),
            4 => self.connection.handle_order(&Order::Redirect { ip: [127, 0, 0, 1].into(), port: 1 }, now),
            _ => self.connection.shrink(),
        }
    }
}

fn event(argument: u8) -> Event {
    let topic = TopicName::parse("t");
    let Ok(topic) = topic else { panic!("a topic") };
    Event::new(Parts {
        topic,
        data: vec![argument; usize::from(argument % 8)].into(),
        stamp: 1,
        received_ms: 1,
        expires_ms: 0,
        publisher: Arc::from("dev"),
        meta: None,
    })
}
