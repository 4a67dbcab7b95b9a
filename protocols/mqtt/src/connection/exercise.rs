//! What the fuzz target of the connection and the replay of its corpus run: packets, answers of gate and hub, deliveries and
//! time, in any order that a script of bytes says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use event::access::Step;
use event::hub::{Closed, Delivery, Granted, Outcome, Stamps};
use event::store::Position;
use event::{Event, Guarantee, Parts, Principal, Reject, RejectKind, TopicName};

use super::{Action, Bound, Connection, Lane, Now};
use crate::codec::client::decode_server;
use crate::codec::{Version, decode, scan};
use crate::{Options, Output};

/// Drives a connection by `script`: two bytes are one step and its argument; a step that feeds the client's bytes takes
/// as many as its argument says. `start` is any moment: the connection sees only what passes from there on. Panics only
/// when the connection is wrong.
pub fn exercise(script: &[u8], start: Instant) {
    let options = Options { inflight_max: SMALL, deliveries_max: SMALL, ..Options::default() };
    let mut bench = Bench {
        connection: Connection::new(Arc::new(options), Stamps::starting_at(1), start),
        start,
        now_ms: 1_000,
        input: BytesMut::new(),
        sent: BytesMut::new(),
        asked: VecDeque::new(),
        admission: false,
        number: 65_530,
        out: BTreeMap::new(),
        lanes: Vec::new(),
    };
    let mut script = script;
    while let [what, argument, rest @ ..] = script {
        let (what, argument) = (*what, *argument);
        script = rest;
        if what >= LANE_STEPS {
            let count = usize::from(argument).min(script.len());
            let (bytes, rest) = script.split_at(count);
            script = if bench.on_lane(what - LANE_STEPS, bytes) { rest } else { script };
            bench.perform();
            continue;
        }
        match what % 12 {
            0..=4 => {
                let count = usize::from(argument).min(script.len());
                let (bytes, rest) = script.split_at(count);
                script = rest;
                bench.input.extend_from_slice(bytes);
                bench.connection.handle_input(bench.now().instant);
                bench.feed();
            }
            5 | 6 => bench.answer(argument),
            7 | 8 => bench.deliver(argument),
            9 => {
                bench.now_ms += u64::from(argument) * 100;
                bench.connection.handle_timeout(bench.now().instant);
            }
            10 => bench.read(),
            _ => bench.interrupt(argument),
        }
        bench.perform();
    }
    bench.read();
    assert!(bench.connection.output().is_empty());
    bench.connection.shrink();
}

struct Bench {
    connection: Connection,
    start: Instant,
    now_ms: u64,
    input: BytesMut,
    sent: BytesMut,
    /// What has no answer yet.
    asked: VecDeque<Asked>,
    admission: bool,
    number: u64,
    /// Numbered deliveries that are not over.
    out: BTreeMap<u64, Delivery>,
    /// Data streams: what came and is not taken yet, and what left.
    lanes: Vec<(Lane, BytesMut, BytesMut)>,
}

enum Asked {
    Gate(event::ClientId),
    Attach,
    Publish(usize),
    Received,
    Release,
    Subscribe(usize),
    Unsubscribe(usize),
}

impl Bench {
    fn now(&self) -> Now {
        Now { instant: self.start + Duration::from_millis(self.now_ms), ms: self.now_ms }
    }

    /// As the driver does: whole packets, as long as the connection takes them.
    fn feed(&mut self) {
        let known = self.connection.version().is_some();
        let found = scan(&self.input, 1 << 16, known);
        let mut burst = self.input.split_to(found.complete).freeze();
        while !burst.is_empty() && self.connection.wants_packets() {
            let handled = match decode(&mut burst, self.connection.version()) {
                Ok(Some(packet)) => self.connection.handle_packet(packet, self.now()),
                Ok(None) => return,
                Err(violation) => Err(violation),
            };
            if let Err(violation) = handled {
                self.connection.handle_violation(violation, &burst);
                return;
            }
            self.perform();
        }
        // What was not taken stands in front of what comes.
        let mut rest = BytesMut::from(&burst[..]);
        rest.extend_from_slice(&self.input);
        self.input = rest;
    }

    fn perform(&mut self) {
        while let Some(action) = self.connection.poll_action() {
            let asked = match action {
                Action::Admit(client, _) | Action::Authenticate { client, .. } => Asked::Gate(client),
                Action::Step(_) => Asked::Gate(event::ClientId(Arc::from("c"))),
                Action::Attach(..) => Asked::Attach,
                Action::Publish(batch) => {
                    assert!(!batch.is_empty() && !self.admission, "a batch, and one at a time");
                    self.admission = true;
                    Asked::Publish(batch.len())
                }
                Action::Received(numbers) => {
                    assert!(!numbers.is_empty());
                    numbers.iter().for_each(|number| drop(self.out.remove(number)));
                    Asked::Received
                }
                Action::Release(ids) => {
                    assert!(!ids.is_empty());
                    Asked::Release
                }
                Action::Subscribe(wanted) => Asked::Subscribe(wanted.len()),
                Action::Unsubscribe(filters) => Asked::Unsubscribe(filters.len()),
                Action::Ack(numbers) => {
                    numbers.iter().for_each(|number| drop(self.out.remove(number)));
                    continue;
                }
                Action::Rewind => {
                    let mut again: Vec<Delivery> = self.out.values().cloned().collect();
                    again.iter_mut().for_each(|delivery| delivery.again = true);
                    self.connection.handle_deliveries(&mut again, self.now());
                    continue;
                }
                Action::Renew(_) => continue,
                Action::Close(_) => {
                    assert!(self.connection.is_over());
                    self.asked.clear();
                    return;
                }
            };
            self.asked.push_back(asked);
        }
    }

    /// Answers the oldest question, as `how` says.
    fn answer(&mut self, how: u8) {
        if std::mem::take(&mut self.admission) {
            self.connection.handle_admitted();
        }
        let Some(asked) = self.asked.pop_front() else { return };
        let now = self.now();
        let reject = reject(how);
        let kept = reject.clone().map_or(Outcome::Kept, Outcome::Refused);
        let refused = |reject: Option<Reject>| reject.map_or(Ok(()), Err);
        match asked {
            Asked::Gate(client) => match how {
                250.. => self.connection.handle_unknown_method(),
                200..250 => self.connection.handle_step(Ok(Step::More(Bytes::from_static(b"more"))), now),
                150..200 => {
                    let done = Step::Done(Principal::anonymous(client), Bytes::new());
                    self.connection.handle_step(refused(reject).map(|()| done), now);
                }
                0..150 => {
                    let who = Principal::anonymous(client);
                    self.connection.handle_admission(refused(reject).map(|()| who), now);
                }
            },
            Asked::Attach => {
                let unreleased = if how & 2 == 0 { vec![] } else { vec![65_500, 65_501] };
                let bound = Bound { present: how & 1 != 0, received_ids: vec![1, 2], unreleased };
                self.connection.handle_attached(refused(reject).map(|()| bound), now);
            }
            Asked::Publish(count) if how == 0x61 => {
                let some = vec![(count.saturating_sub(1), Reject::new(RejectKind::Busy, "full"))];
                self.connection.handle_published(&Outcome::Partly(some), now);
            }
            Asked::Publish(_) => self.connection.handle_published(&kept, now),
            Asked::Received => self.connection.handle_kept(&kept),
            Asked::Release => self.connection.handle_released(&kept),
            Asked::Subscribe(count) => {
                let one = || Ok(Granted { guarantee: guarantee(how), as_of: Position::default() });
                let all = (0..count).map(|_| one()).collect();
                self.connection.handle_subscribed(refused(reject).map(|()| all));
            }
            Asked::Unsubscribe(count) => {
                let all = vec![how & 1 != 0; count];
                self.connection.handle_unsubscribed(refused(reject).map(|()| all));
            }
        }
    }

    /// What happens on a data stream: it opens, brings `bytes`, or ends. Tells whether `bytes` were taken.
    fn on_lane(&mut self, what: u8, bytes: &[u8]) -> bool {
        if what < 2 && self.lanes.len() < 3 {
            let lane = self.connection.open_lane().map(|lane| (lane, BytesMut::new(), BytesMut::new()));
            self.lanes.extend(lane);
            return false;
        }
        let Some(at) = usize::from(what).checked_rem(self.lanes.len()) else { return false };
        let (lane, mut input, sent) = self.lanes.swap_remove(at);
        match what {
            14.. => {
                self.connection.handle_lane_closed(lane);
                return false;
            }
            12 | 13 => self.connection.handle_lane_eof(lane),
            _ => input.extend_from_slice(bytes),
        }
        if self.feed_lane(lane, &mut input) {
            self.lanes.push((lane, input, sent));
        } else {
            self.connection.handle_lane_closed(lane);
        }
        what < 12
    }

    /// As the driver does. False: the stream is broken.
    fn feed_lane(&mut self, lane: Lane, input: &mut BytesMut) -> bool {
        let found = scan(input, 1 << 16, true);
        let mut burst = input.split_to(found.complete).freeze();
        while !burst.is_empty() && self.connection.wants_packets() {
            match decode(&mut burst, self.connection.version()) {
                Ok(Some(packet)) => {
                    if let Err(violation) = self.connection.handle_packet_on(lane, packet, self.now()) {
                        self.connection.handle_violation(violation, &[]);
                    }
                }
                Ok(None) => break,
                Err(_) => return false,
            }
            self.perform();
        }
        let mut rest = BytesMut::from(&burst[..]);
        rest.extend_from_slice(input);
        *input = rest;
        found.violation.is_none()
    }

    /// Some deliveries, within the room that there is.
    fn deliver(&mut self, how: u8) {
        let Some(room) = self.connection.room() else { return };
        let guarantee = guarantee(how);
        let numbered = guarantee != Guarantee::AtMostOnce;
        let count = if numbered { u16::from(how >> 2).min(room.numbered) } else { u16::from(how >> 2) };
        let Ok(topic) = TopicName::parse("delivered/to") else { return };
        let mut deliveries = Vec::new();
        for _ in 0..count {
            self.number += u64::from(numbered);
            deliveries.push(Delivery {
                event: event(how, topic.clone()),
                guarantee,
                retain: how & 16 != 0,
                again: how & 32 != 0,
                number: numbered.then_some(self.number),
                position: None,
                subscriptions: None,
            });
        }
        let numbered = deliveries.iter().filter_map(|one| Some((one.number?, one.clone())));
        self.out.extend(numbered);
        self.connection.handle_deliveries(&mut deliveries, self.now());
        assert!(deliveries.is_empty());
    }

    /// Takes all output; it has to be right packets of a server.
    fn read(&mut self) {
        self.read_lanes();
        let mut slices = [std::io::IoSlice::new(&[]); Output::SLICES];
        while !self.connection.output().is_empty() {
            let count = self.connection.output().slices(&mut slices);
            let mut written = 0;
            for slice in slices.iter().take(count) {
                self.sent.extend_from_slice(slice);
                written += slice.len();
            }
            slices = [std::io::IoSlice::new(&[]); Output::SLICES];
            self.connection.handle_written(written, self.now().instant);
        }
        let version = self.connection.version().unwrap_or(Version::V311);
        if self.connection.client().is_empty() {
            // A refusal may be in a version that the client did not choose.
            return self.sent.clear();
        }
        while !self.sent.is_empty() {
            assert!(matches!(decode_server(&mut self.sent, version), Ok(Some(_))), "a right packet");
        }
    }

    /// As [`Self::read`], for data streams.
    fn read_lanes(&mut self) {
        let version = self.connection.version().unwrap_or(Version::V311);
        for (lane, _, sent) in &mut self.lanes {
            while let Some(output) = self.connection.lane_output(*lane)
                && !output.is_empty()
            {
                let mut slices = [std::io::IoSlice::new(&[]); Output::SLICES];
                let count = output.slices(&mut slices);
                let before = sent.len();
                slices.iter().take(count).for_each(|slice| sent.extend_from_slice(slice));
                let written = sent.len() - before;
                let now = self.start + Duration::from_millis(self.now_ms);
                self.connection.handle_lane_written(*lane, written, now);
            }
            while !sent.is_empty() {
                assert!(matches!(decode_server(sent, version), Ok(Some(_))), "a right packet");
            }
        }
    }

    fn interrupt(&mut self, how: u8) {
        match how % 6 {
            0 => self.connection.handle_eof(),
            1 => self.connection.handle_drain(self.now().instant),
            2 if !self.connection.is_superseded() => self.connection.handle_superseded(),
            2 => self.connection.handle_closed(Closed::TakenOver),
            3 => self.connection.handle_closed(Closed::Ended),
            4 => self.connection.handle_written(0, self.now().instant),
            _ => self.connection.shrink(),
        }
        if let Some(next) = self.connection.poll_timeout() {
            assert!(next >= self.start, "a deadline behind the start");
        }
    }
}

/// A few chances in a hundred for each kind of refusal.
fn reject(how: u8) -> Option<Reject> {
    let kind = match how % 32 {
        26 => RejectKind::Malformed,
        27 => RejectKind::Unproved,
        28 => RejectKind::Denied,
        29 => RejectKind::Busy,
        30 => RejectKind::Unavailable,
        31 => RejectKind::Closed,
        _ => return None,
    };
    Some(Reject::new(kind, "no"))
}

fn guarantee(how: u8) -> Guarantee {
    match how & 3 {
        0 => Guarantee::AtMostOnce,
        1 => Guarantee::AtLeastOnce,
        _ => Guarantee::ExactlyOnce,
    }
}

fn event(how: u8, topic: TopicName) -> Event {
    Event::new(Parts {
        topic,
        data: Bytes::from(vec![how; usize::from(how)]),
        stamp: 1,
        received_ms: 0,
        expires_ms: u64::from(how & 64) * 40,
        publisher: "p".into(),
        meta: None,
    })
}

/// Small limits, so that scripts reach them.
const SMALL: std::num::NonZeroU16 = std::num::NonZeroU16::new(4).unwrap();

/// Steps from here on are those of data streams.
const LANE_STEPS: u8 = 240;
