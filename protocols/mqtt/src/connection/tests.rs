//! The connection without a stream: packets and answers go in, actions and bytes come out, time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};
use event::hub::{Delivery, Granted, Outcome};
use event::store::Position;
use event::{Event, Guarantee, Parts, Reject, RejectKind, Start, TopicName};

use super::*;
use crate::codec::client::{self, AckKind, Hello, ServerPacket, decode_server};
use crate::codec::encode::PublishHead;
use crate::codec::{FilterOptions, PacketId, Property, decode};

use Guarantee::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use Version::{V5, V311};

/// A connection under test, and a clock.
struct Bench {
    connection: Connection,
    start: Instant,
    now_ms: u64,
    read: BytesMut,
}

impl Bench {
    fn new(options: Options) -> Self {
        let start = Instant::now();
        let connection = Connection::new(Arc::new(options), Stamps::starting_at(1), start);
        Self { connection, start, now_ms: 0, read: BytesMut::new() }
    }

    /// Connected with a clean session.
    fn open(version: Version, options: Options) -> Self {
        let mut bench = Self::new(options);
        bench.feed(|out| {
            client::connect(out, version, &Hello { client_id: "c", clean: true, ..Hello::default() })
        });
        let Some(Action::Admit(client, Credentials::None)) = bench.connection.poll_action() else {
            panic!("the gate is asked first")
        };
        bench.connection.handle_admission(Ok(Principal::anonymous(client)), bench.now());
        assert!(matches!(bench.connection.poll_action(), Some(Action::Attach(..))));
        bench.connection.handle_attached(Ok(Bound::default()), bench.now());
        assert!(matches!(bench.sent()[..], [ServerPacket::ConnAck { code: 0, .. }]));
        bench
    }

    fn now(&self) -> Now {
        Now { instant: self.start + Duration::from_millis(self.now_ms), ms: self.now_ms }
    }

    /// Gives in what `write` writes.
    fn feed(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let mut out = BytesMut::new();
        write(&mut out);
        let mut burst = out.freeze();
        while !burst.is_empty() {
            assert!(self.connection.wants_packets());
            let handled = match decode(&mut burst, self.connection.version()) {
                Ok(Some(packet)) => self.connection.handle_packet(packet, self.now()),
                Ok(None) => panic!("half a packet"),
                Err(violation) => Err(violation),
            };
            if let Err(violation) = handled {
                return self.connection.handle_violation(violation, &burst);
            }
        }
    }

    fn publish(&mut self, guarantee: Guarantee, id: u16, payload: &[u8]) {
        let version = self.connection.version().unwrap();
        let head =
            PublishHead { dup: false, guarantee, retain: false, topic: "t", id: PacketId::new(id).ok() };
        self.feed(|out| assert!(client::publish(out, version, head, &[], payload)));
    }

    fn ack(&mut self, what: AckKind, id: u16) {
        let version = self.connection.version().unwrap();
        let id = PacketId::new(id).unwrap();
        self.feed(|out| client::ack(out, version, what, id, Reason::Success));
    }

    /// All packets that were sent since the last call.
    fn sent(&mut self) -> Vec<ServerPacket> {
        let mut slices = [std::io::IoSlice::new(&[]); Output::SLICES];
        while !self.connection.output().is_empty() {
            let count = self.connection.output().slices(&mut slices);
            slices[..count].iter().for_each(|slice| self.read.extend_from_slice(slice));
            let written = slices[..count].iter().map(|slice| slice.len()).sum();
            slices = [std::io::IoSlice::new(&[]); Output::SLICES];
            self.connection.handle_written(written, self.now().instant);
        }
        let version = self.connection.version().unwrap_or(V311);
        std::iter::from_fn(|| decode_server(&mut self.read, version).unwrap()).collect()
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.connection.poll_action()).collect()
    }
}

fn delivery(number: Option<u64>, guarantee: Guarantee, data: &[u8]) -> Delivery {
    let event = Event::new(Parts {
        topic: TopicName::parse("d").unwrap(),
        data: Bytes::copy_from_slice(data),
        stamp: 1,
        received_ms: 0,
        expires_ms: 0,
        publisher: "p".into(),
        meta: None,
    });
    Delivery { event, guarantee, retain: false, again: false, number, position: None, subscriptions: None }
}

impl Bench {
    /// A data stream that is subscribed to "d" at QoS 2.
    fn lane(&mut self) -> Lane {
        let lane = self.connection.open_lane().unwrap();
        let mut out = BytesMut::new();
        let options = FilterOptions {
            guarantee: ExactlyOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: 0,
        };
        client::subscribe(&mut out, V5, PacketId::new(9).unwrap(), &[("d", options)], &[]);
        let packet = decode(&mut out.freeze(), Some(V5)).unwrap().unwrap();
        self.connection.handle_packet_on(lane, packet, self.now()).unwrap();
        assert!(matches!(self.actions()[..], [Action::Subscribe(_)]));
        let granted = Granted { guarantee: ExactlyOnce, as_of: Position::default() };
        self.connection.handle_subscribed(Ok(vec![Ok(granted)]));
        assert!(matches!(self.sent_on(lane)[..], [ServerPacket::SubAck(..)]));
        lane
    }

    /// As [`Self::sent`], for a data stream.
    fn sent_on(&mut self, lane: Lane) -> Vec<ServerPacket> {
        let whole = self.connection.lane_output(lane).unwrap().whole().unwrap();
        let mut read = BytesMut::from(whole);
        self.connection.handle_lane_written(lane, read.len(), self.now().instant);
        std::iter::from_fn(|| decode_server(&mut read, V5).unwrap()).collect()
    }

    fn deliver(&mut self, numbers: &[u64]) {
        let mut list = numbers.iter().map(|number| delivery(Some(*number), ExactlyOnce, b"x")).collect();
        self.connection.handle_deliveries(&mut list, self.now());
    }

    fn room(&self) -> u16 {
        self.connection.room().unwrap().numbered
    }
}

fn two_deliveries() -> Options {
    Options { deliveries_max: NonZeroU16::new(2).unwrap(), ..Options::default() }
}

#[test]
fn what_a_stream_lost_is_sent_again_and_what_is_not_offered_again_is_over() {
    let mut bench = Bench::open(V5, two_deliveries());
    let lane = bench.lane();
    bench.deliver(&[0, 1]);
    assert_eq!((bench.sent_on(lane).len(), bench.room()), (2, 0));
    bench.connection.handle_lane_closed(lane);
    assert!(matches!(bench.actions()[..], [Action::Rewind]));
    assert_eq!(bench.room(), 2, "there is room for what was lost");
    // Number 0 has expired meanwhile.
    bench.deliver(&[1]);
    assert!(matches!(bench.sent()[..], [ServerPacket::Publish(_)]));
    assert_eq!(bench.room(), 1);
    bench.deliver(&[1]);
    assert!(bench.sent().is_empty(), "it is out already");
}

#[test]
fn an_ack_of_what_was_taken_for_lost_counts() {
    let mut bench = Bench::open(V5, two_deliveries());
    let lane = bench.lane();
    bench.deliver(&[0]);
    bench.sent_on(lane);
    bench.connection.handle_lane_eof(lane);
    assert!(matches!(bench.actions()[..], [Action::Rewind]));
    bench.ack(AckKind::PubRec, 1);
    assert!(matches!(bench.actions()[..], [Action::Received(_)]));
    bench.deliver(&[0]);
    assert!(bench.sent().is_empty(), "the client has it");
    bench.connection.handle_kept(&Outcome::Kept);
    assert!(matches!(bench.sent()[..], [ServerPacket::PubRel(_)]));
    bench.ack(AckKind::PubComp, 1);
    assert!(matches!(bench.actions()[..], [Action::Ack(_)]));
    assert_eq!(bench.room(), 2);
}

#[test]
fn a_stream_that_takes_nothing_ends_the_connection_in_time() {
    let mut bench = Bench::open(V5, Options::default());
    let lane = bench.lane();
    bench.deliver(&[0]);
    bench.connection.handle_lane_written(lane, 0, bench.now().instant);
    let until = bench.connection.poll_timeout().unwrap();
    bench.connection.handle_timeout(until - Duration::from_millis(1));
    assert_eq!(bench.connection.violation(), None);
    bench.connection.handle_timeout(until);
    assert_eq!(bench.connection.violation(), Some(Violation::WriteTimeout));
}

#[test]
fn a_refusal_of_its_own_waits_for_its_turn_behind_an_open_batch() {
    let mut bench = Bench::open(V5, Options::default());
    bench.publish(AtLeastOnce, 1, b"x");
    assert!(matches!(bench.actions()[..], [Action::Publish(_)]));
    bench.connection.handle_admitted();
    let head = PublishHead {
        dup: false,
        guarantee: AtLeastOnce,
        retain: false,
        topic: "$delayed/soon/a",
        id: PacketId::new(2).ok(),
    };
    bench.feed(|out| assert!(client::publish(out, V5, head, &[], b"")));
    assert!(bench.actions().is_empty());
    assert_eq!(bench.sent(), []);
    bench.connection.handle_published(&Outcome::Kept, bench.now());
    let codes: Vec<_> = bench.sent().iter().map(|packet| format!("{packet:?}")).collect();
    assert!(codes[0].contains("code: 0") && codes[1].contains("code: 144"), "{codes:?}");
}

#[test]
fn a_partly_kept_batch_refuses_only_what_was_refused() {
    let mut bench = Bench::open(V5, Options::default());
    bench.publish(AtMostOnce, 0, b"");
    bench.publish(AtLeastOnce, 1, b"");
    bench.publish(ExactlyOnce, 2, b"");
    bench.publish(AtLeastOnce, 3, b"");
    bench.actions();
    bench.connection.handle_admitted();
    let refused = vec![(2, Reject::new(RejectKind::Unavailable, "down"))];
    bench.connection.handle_published(&Outcome::Partly(refused), bench.now());
    let shown: Vec<_> = bench.sent().into_iter().map(|packet| format!("{packet:?}")).collect();
    assert!(shown[0].starts_with("PubAck") && shown[0].ends_with("code: 0 })"));
    assert!(shown[1].starts_with("PubRec") && shown[1].ends_with("code: 131 })"));
    assert!(shown[2].starts_with("PubAck") && shown[2].ends_with("code: 0 })"));
}

#[test]
fn a_subscribe_says_where_it_starts() {
    let options = FilterOptions {
        guarantee: AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
    };
    let id = PacketId::new(5).unwrap();
    for (version, property, filters, starts, codes) in [
        (V311, None, &["$replay/all/a/#", "a"][..], &[Some(Start::All), None][..], &[1, 1][..]),
        (
            V5,
            Some("7"),
            &["$replay/all/a", "b"],
            &[Some(Start::All), Some(Start::Behind(Position(7)))],
            &[1, 1],
        ),
        (V5, None, &["$replay/now/a", "a", "$replay/all"], &[None], &[0x8f, 1, 0x8f]),
        (V5, Some("now"), &["a", "$replay/all/a"], &[], &[0x8f, 0x8f]),
    ] {
        let mut bench = Bench::open(version, Options::default());
        let filters: Vec<_> = filters.iter().map(|filter| (*filter, options)).collect();
        let property = property.map(|start| Property::User("replay-from", start));
        bench.feed(|out| client::subscribe(out, version, id, &filters, property.as_slice()));
        if !starts.is_empty() {
            let Some(Action::Subscribe(wanted)) = bench.connection.poll_action() else {
                panic!("a subscribe")
            };
            assert_eq!(wanted.iter().map(|wish| wish.replay).collect::<Vec<_>>(), starts);
            assert!(wanted.iter().all(|wish| !wish.filter.as_str().starts_with('$')));
            let granted = Granted { guarantee: AtLeastOnce, as_of: Position::default() };
            bench.connection.handle_subscribed(Ok(vec![Ok(granted); wanted.len()]));
        }
        let sent = bench.sent();
        assert!(matches!(&sent[..], [ServerPacket::SubAck(_, got)] if got == codes), "{sent:?}");
    }
    let mut bench = Bench::open(V5, Options::default());
    bench.feed(|out| client::unsubscribe(out, V5, id, &["$replay/-10m/a/#"]));
    let Some(Action::Unsubscribe(filters)) = bench.connection.poll_action() else { panic!("an unsubscribe") };
    assert_eq!(filters[0].as_str(), "a/#");
}

#[test]
fn a_subscribe_may_carry_one_filter() {
    let options = FilterOptions {
        guarantee: AtLeastOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: 0,
    };
    let id = PacketId::new(5).unwrap();
    let cel = Property::User("filter-cel", "data.t > 20");
    let mut bench = Bench::open(V5, Options::default());
    bench.feed(|out| client::subscribe(out, V5, id, &[("a", options), ("b", options)], &[cel]));
    let Some(Action::Subscribe(wanted)) = bench.connection.poll_action() else { panic!("a subscribe") };
    let select = Some(event::Select::new(event::Language::Cel, "data.t > 20"));
    assert!(wanted.len() == 2 && wanted.iter().all(|wish| wish.select == select), "{wanted:?}");
    // The hub says that it is none.
    let wrong = Reject::new(RejectKind::Malformed, "the cel filter is wrong");
    bench.connection.handle_subscribed(Ok(vec![Err(wrong.clone()), Err(wrong)]));
    let sent = bench.sent();
    assert!(matches!(&sent[..], [ServerPacket::SubAck(_, codes)] if codes == &[0x8f, 0x8f]), "{sent:?}");
    let cesql = Property::User("filter-cesql", "type = 'x'");
    bench.feed(|out| client::subscribe(out, V5, id, &[("a", options)], &[cel, cesql]));
    assert!(bench.connection.poll_action().is_none(), "which of the two?");
    let sent = bench.sent();
    assert!(matches!(&sent[..], [ServerPacket::SubAck(_, codes)] if codes == &[0x8f]), "{sent:?}");
}

#[test]
fn an_id_that_waits_for_pubcomp_is_in_use() {
    for version in [V5, V311] {
        let mut bench = Bench::open(version, Options::default());
        bench.publish(ExactlyOnce, 1, b"");
        bench.actions();
        bench.connection.handle_admitted();
        bench.connection.handle_published(&Outcome::Kept, bench.now());
        bench.ack(AckKind::PubRel, 1);
        bench.sent();
        bench.publish(ExactlyOnce, 1, b"");
        match version {
            V5 => assert!(format!("{:?}", bench.sent()).contains("code: 145")),
            V311 => assert_eq!(bench.connection.violation(), Some(Violation::PacketIdInUse(1))),
        }
    }
}

#[test]
fn pubrel_before_pubrec_is_a_violation() {
    let mut bench = Bench::open(V5, Options::default());
    bench.publish(ExactlyOnce, 1, b"");
    bench.ack(AckKind::PubRel, 1);
    assert_eq!(bench.connection.violation(), Some(Violation::AckOrder(1)));
    // What came before it still goes to the hub, then it is closed.
    assert!(matches!(bench.actions()[..], [Action::Publish(_)]));
    bench.connection.handle_admitted();
    assert!(matches!(bench.actions()[..], [Action::Close(Close { will: true, keep: None })]));
    assert!(bench.connection.is_over());
}

#[test]
fn state_that_cannot_be_kept_ends_the_connection() {
    let refused = Outcome::Refused(Reject::new(RejectKind::Unavailable, "down"));
    let mut bench = Bench::open(V5, Options::default());
    bench.connection.handle_deliveries(&mut vec![delivery(Some(0), ExactlyOnce, b"")], bench.now());
    bench.ack(AckKind::PubRec, 1);
    bench.actions();
    bench.connection.handle_kept(&refused);
    assert_eq!(bench.connection.violation(), Some(Violation::Unkept));
    assert!(!format!("{:?}", bench.sent()).contains("PubRel"));
}

#[test]
fn open_bytes_stop_the_reading() {
    let mut bench = Bench::open(V5, Options { open_bytes: event::ByteLimit::kib(64), ..Options::default() });
    for _ in 0..2 {
        bench.publish(AtMostOnce, 0, &[0; 40_000]);
        assert!(matches!(bench.actions()[..], [Action::Publish(_)]));
        bench.connection.handle_admitted();
    }
    assert!(!bench.connection.wants_packets());
    bench.connection.handle_published(&Outcome::Kept, bench.now());
    assert!(bench.connection.wants_packets());
}

#[test]
fn a_client_that_floods_pings_and_reads_nothing_is_not_read() {
    let mut bench = Bench::open(V5, Options { output_bytes: event::ByteLimit::kib(4), ..Options::default() });
    let mut pings = 0;
    while bench.connection.wants_packets() {
        bench.feed(client::pingreq);
        pings += 1;
    }
    assert_eq!(pings, 4096);
}

#[test]
fn timeouts_are_told_ahead() {
    let mut bench = Bench::new(Options::default());
    let until = bench.now().instant + Duration::from_secs(10);
    assert_eq!(bench.connection.poll_timeout(), Some(until));
    bench.connection.handle_timeout(until - Duration::from_millis(1));
    assert!(bench.connection.violation().is_none());
    bench.connection.handle_timeout(until);
    assert_eq!(bench.connection.violation(), Some(Violation::ConnectTimeout));

    let mut bench = Bench::new(Options::default());
    bench.now_ms = 5_000;
    bench.feed(|out| client::connect(out, V5, &Hello { client_id: "c", clean: true, ..Hello::default() }));
    let until = bench.now().instant + Duration::from_secs(10);
    assert_eq!(bench.connection.poll_timeout(), Some(until));
    bench.connection.handle_timeout(until);
    assert!(matches!(bench.sent()[..], [ServerPacket::ConnAck { code: 0x88, .. }]));

    let mut bench = Bench::open(V5, Options::default());
    assert_eq!(bench.connection.poll_timeout(), None);
    bench.connection.handle_deliveries(&mut vec![delivery(None, AtMostOnce, b"x")], bench.now());
    bench.connection.handle_written(0, bench.now().instant);
    let until = bench.now().instant + Duration::from_secs(30);
    assert_eq!(bench.connection.poll_timeout(), Some(until));
    bench.now_ms = 20_000;
    bench.connection.handle_written(1, bench.now().instant);
    assert_eq!(bench.connection.poll_timeout(), Some(until + Duration::from_secs(20)));
    let left = bench.connection.output().len();
    bench.connection.handle_written(left, bench.now().instant);
    assert_eq!(bench.connection.poll_timeout(), None);
}

/// Numbers that look random, from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// A client and a hub that keep to the rules but are late by chance: everything is answered once, in order, and only
/// after it was kept.
#[test]
fn nothing_is_lost_doubled_or_early_whatever_the_timing() {
    for seed in 0..300 {
        for version in [V5, V311] {
            run(seed, version);
        }
    }
}

struct Sim {
    bench: Bench,
    dice: Dice,
    version: Version,
    next_id: u16,
    /// Publishes of the client that were not answered, in order.
    unanswered: Vec<(u16, Guarantee)>,
    kept: BTreeSet<u16>,
    /// Batches without outcome: their ids.
    batches: VecDeque<Vec<u16>>,
    batch_ids: Vec<u16>,
    held_admission: bool,
    releases: VecDeque<Vec<u16>>,
    received: VecDeque<Vec<u64>>,
    /// Ids the client got PUBREC for, and answers later.
    to_release: BTreeSet<u16>,
    next_number: u64,
    /// Packet ids of deliveries that the client has, and what it would say next.
    in_hand: BTreeMap<u16, AckKind>,
    acked: Vec<u64>,
}

fn run(seed: u64, version: Version) {
    let options = Options {
        inflight_max: NonZeroU16::new(4).unwrap(),
        deliveries_max: NonZeroU16::new(5).unwrap(),
        ..Options::default()
    };
    let mut sim = Sim {
        bench: Bench::open(version, options),
        dice: Dice(seed),
        version,
        next_id: 1,
        unanswered: Vec::new(),
        kept: BTreeSet::new(),
        batches: VecDeque::new(),
        batch_ids: Vec::new(),
        held_admission: false,
        releases: VecDeque::new(),
        received: VecDeque::new(),
        to_release: BTreeSet::new(),
        next_number: 65_500,
        in_hand: BTreeMap::new(),
        acked: Vec::new(),
    };
    for step in 0..400 {
        // Towards the end nothing new is started.
        sim.step(step < 250);
        assert_eq!(sim.bench.connection.violation(), None, "seed {seed} {version:?}");
    }
    for _ in 0..200 {
        for what in 2..8 {
            sim.act(what);
        }
    }
    assert!(sim.unanswered.is_empty(), "seed {seed} {version:?}: {:?}", sim.unanswered);
    let numbers: BTreeSet<u64> = sim.acked.iter().copied().collect();
    assert_eq!(numbers.len(), sim.acked.len(), "seed {seed}: acked once");
    assert!(numbers.into_iter().eq(65_500..sim.next_number), "seed {seed}: all acked");
}

impl Sim {
    fn step(&mut self, new: bool) {
        let what = self.dice.roll(8);
        if new || what >= 2 {
            self.act(what);
        }
    }

    fn act(&mut self, what: u64) {
        match what {
            0 => self.client_publishes(),
            1 => self.hub_delivers(),
            2 => {
                if let Some(ids) = self.batches.pop_front() {
                    self.kept.extend(ids);
                    let now = self.bench.now();
                    self.bench.connection.handle_published(&Outcome::Kept, now);
                }
            }
            3 => {
                if self.releases.pop_front().is_some() {
                    self.bench.connection.handle_released(&Outcome::Kept);
                }
            }
            4 => {
                if self.received.pop_front().is_some() {
                    self.bench.connection.handle_kept(&Outcome::Kept);
                }
            }
            5 => {
                if std::mem::take(&mut self.held_admission) {
                    self.bench.connection.handle_admitted();
                }
            }
            6 => self.client_acks(),
            _ => self.perform(),
        }
        self.client_reads();
    }

    fn client_publishes(&mut self) {
        if !self.bench.connection.wants_packets() || self.unanswered.len() >= 4 {
            return;
        }
        let guarantee = [AtMostOnce, AtLeastOnce, ExactlyOnce][usize::try_from(self.dice.roll(3)).unwrap()];
        if guarantee == AtMostOnce {
            return self.bench.publish(guarantee, 0, b"x");
        }
        let id = self.next_id;
        self.next_id = id % 50 + 1;
        self.unanswered.push((id, guarantee));
        self.batch_ids.push(id);
        self.bench.publish(guarantee, id, b"x");
    }

    fn hub_delivers(&mut self) {
        let Some(room) = self.bench.connection.room() else { return };
        let guarantee = [AtMostOnce, AtLeastOnce, ExactlyOnce][usize::try_from(self.dice.roll(3)).unwrap()];
        let numbered = guarantee != AtMostOnce;
        if numbered && room.numbered == 0 {
            return;
        }
        let number = numbered.then_some(self.next_number);
        self.next_number += u64::from(numbered);
        let now = self.bench.now();
        self.bench.connection.handle_deliveries(&mut vec![delivery(number, guarantee, b"y")], now);
    }

    fn client_acks(&mut self) {
        if !self.bench.connection.wants_packets() {
            return;
        }
        if self.dice.roll(2) == 0
            && let Some(id) = self.to_release.pop_first()
        {
            return self.bench.ack(AckKind::PubRel, id);
        }
        if self.in_hand.is_empty() {
            return;
        }
        let place = usize::try_from(self.dice.roll(self.in_hand.len() as u64)).unwrap();
        let (&id, &what) = self.in_hand.iter().nth(place).unwrap();
        self.in_hand.remove(&id);
        self.bench.ack(what, id);
    }

    fn perform(&mut self) {
        for action in self.bench.actions() {
            match action {
                Action::Publish(_) => {
                    self.batches.push_back(std::mem::take(&mut self.batch_ids));
                    self.held_admission = true;
                }
                Action::Ack(numbers) => self.acked.extend(numbers),
                Action::Received(numbers) => self.received.push_back(numbers),
                Action::Release(ids) => self.releases.push_back(ids),
                Action::Admit(..)
                | Action::Authenticate { .. }
                | Action::Step(_)
                | Action::Renew(_)
                | Action::Rewind
                | Action::Attach(..)
                | Action::Subscribe(_)
                | Action::Unsubscribe(_)
                | Action::Close(_) => {
                    panic!("{action:?}")
                }
            }
        }
    }

    fn client_reads(&mut self) {
        for packet in self.bench.sent() {
            match packet {
                ServerPacket::PubAck(ack) => {
                    let first = self.unanswered.iter().position(|(_, guarantee)| *guarantee == AtLeastOnce);
                    assert_eq!(self.unanswered.remove(first.unwrap()).0, ack.id.get(), "in publish order");
                    assert!(self.kept.remove(&ack.id.get()), "only when kept");
                }
                ServerPacket::PubRec(ack) => {
                    assert!(self.kept.contains(&ack.id.get()), "only when kept");
                    self.to_release.insert(ack.id.get());
                }
                ServerPacket::PubComp(ack) => {
                    self.kept.remove(&ack.id.get());
                    self.unanswered.retain(|(id, _)| *id != ack.id.get());
                }
                ServerPacket::Publish(publish) => match (publish.guarantee, publish.id) {
                    (AtLeastOnce, Some(id)) => drop(self.in_hand.insert(id.get(), AckKind::PubAck)),
                    (ExactlyOnce, Some(id)) => drop(self.in_hand.insert(id.get(), AckKind::PubRec)),
                    _ => {}
                },
                ServerPacket::PubRel(ack) => drop(self.in_hand.insert(ack.id.get(), AckKind::PubComp)),
                ServerPacket::ConnAck { .. }
                | ServerPacket::SubAck(..)
                | ServerPacket::UnsubAck(..)
                | ServerPacket::PingResp
                | ServerPacket::Auth(_)
                | ServerPacket::Disconnect(_) => panic!("{packet:?} {:?}", self.version),
            }
        }
    }
}
