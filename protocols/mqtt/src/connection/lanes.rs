//! Data streams: packets of one client on several streams, beside the control stream that CONNECT came on. Sans-io.
//!
//! | packet | goes to |
//! |---|---|
//! | PUBACK, PUBREC, PUBCOMP, SUBACK, UNSUBACK | the stream of the packet it answers |
//! | PUBLISH | the stream on which its subscription was made, while the client sends on it |
//! | PUBREL | the stream of its PUBLISH |
//! | all others, and what belongs to a stream that is gone | the control stream |
//!
//! Packet ids, receive maximum and the session are those of the connection; topic aliases are those of one stream, since streams may
//! overtake each other. A stream that ends takes nothing with it: what was delivered on it without an ack is delivered again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use event::hub::Granted;
use event::{Reject, TopicFilter, TopicName};

use super::{Connection, Now, Phase};
use crate::Violation;
use crate::codec::encode::AckKind;
use crate::codec::{Packet, PacketId, Reason};
use crate::output::Output;
use crate::session::{Stage, packet_id};

/// A data stream. Numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lane(u64);

/// All data streams of a client.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    next: u64,
    open: BTreeMap<Lane, Side>,
    /// That of the packet that is handled now; `None`: the control stream.
    current: Option<Lane>,
    /// Where the client's packets with these ids are to be answered.
    answers: BTreeMap<u16, Lane>,
    /// Where deliveries with these ids were sent that are not over.
    deliveries: BTreeMap<u16, Lane>,
    /// Where subscriptions were made.
    filters: Vec<(TopicFilter, Lane)>,
    /// Of a SUBSCRIBE without its answer.
    asked: (Option<Lane>, Vec<TopicFilter>),
    /// Deliveries that may not have arrived, and have to be sent again; by number.
    lost: BTreeSet<u64>,
    /// They are not yet asked for.
    rewind: bool,
}

/// Weft's side of a stream.
#[derive(Debug, Default)]
struct Side {
    output: Output,
    stuck_since: Option<Instant>,
    aliases: Vec<Option<TopicName>>,
    /// The client sends no more on it.
    ended: bool,
}

/// Filters that are remembered with their stream; each is looked at for each delivery. What matches none of them goes to the
/// control stream.
const FILTERS_MAX: usize = 256;

impl Lanes {
    pub(super) fn answer(&mut self, id: PacketId) -> Option<&mut Output> {
        let lane = self.answers.remove(&id.get())?;
        self.open.get_mut(&lane).map(|side| &mut side.output)
    }

    pub(super) fn of_delivery(&mut self, id: PacketId) -> Option<&mut Output> {
        let lane = self.deliveries.get(&id.get())?;
        self.open.get_mut(lane).map(|side| &mut side.output)
    }

    /// Where an event of `topic` is to be delivered, under `id`.
    pub(super) fn of_topic(&mut self, topic: &TopicName, id: Option<PacketId>) -> Option<&mut Output> {
        let (_, lane) = self.filters.iter().find(|(filter, _)| filter.matches(topic))?;
        let side = self.open.get_mut(lane)?;
        if let Some(id) = id {
            self.deliveries.insert(id.get(), *lane);
        }
        Some(&mut side.output)
    }

    /// A delivery is over.
    pub(super) fn delivered(&mut self, number: u64) {
        self.deliveries.remove(&packet_id(number).get());
        self.lost.remove(&number);
    }

    /// How many deliveries that are out are to be sent again.
    pub(super) fn lost(&self) -> u16 {
        u16::try_from(self.lost.len()).unwrap_or(u16::MAX)
    }

    /// The aliases of the stream of the packet that is handled now.
    pub(super) fn aliases(&mut self) -> Option<&mut Vec<Option<TopicName>>> {
        self.open.get_mut(&self.current?).map(|side| &mut side.aliases)
    }

    /// A SUBSCRIBE is given to the hub.
    pub(super) fn ask<'a>(&mut self, filters: impl Iterator<Item = &'a TopicFilter>) {
        self.asked = (self.current, filters.map(TopicFilter::detached).collect());
    }

    /// The hub's answer.
    pub(super) fn granted(&mut self, answer: &Result<Vec<Result<Granted, Reject>>, Reject>) {
        let (lane, filters) = std::mem::take(&mut self.asked);
        let answers = answer.iter().flatten();
        for (filter, _) in filters.into_iter().zip(answers).filter(|(_, answer)| answer.is_ok()) {
            self.forget(&filter);
            let lane = lane.filter(|lane| self.open.get(lane).is_some_and(|side| !side.ended));
            if let Some(lane) = lane.filter(|_| self.filters.len() < FILTERS_MAX) {
                self.filters.push((filter, lane));
            }
        }
    }

    /// A subscription ends, or moves.
    pub(super) fn forget(&mut self, filter: &TopicFilter) {
        self.filters.retain(|(have, _)| have != filter);
    }

    /// Whether deliveries were lost since it was last asked.
    pub(super) fn take_loss(&mut self) -> bool {
        std::mem::take(&mut self.rewind)
    }

    /// Bytes that wait.
    pub(super) fn output_len(&self) -> usize {
        self.open.values().map(|side| side.output.len()).sum()
    }

    pub(super) fn shrink(&mut self) {
        self.open.values_mut().for_each(|side| side.output.shrink());
    }

    /// Nothing more is delivered on `lane`. The ids of what was, and is not over.
    fn end(&mut self, lane: Lane) -> Vec<PacketId> {
        self.filters.retain(|(_, of)| *of != lane);
        let ids = self.deliveries.extract_if(.., |_, of| *of == lane);
        ids.filter_map(|(id, _)| PacketId::new(id).ok()).collect()
    }
}

impl Connection {
    /// The client opened a data stream. `None` before CONNACK: leave it where it is.
    pub fn open_lane(&mut self) -> Option<Lane> {
        if !matches!(self.phase, Phase::Open) {
            return None;
        }
        let lanes = self.lanes.get_or_insert_default();
        let lane = Lane(lanes.next);
        lanes.next = lanes.next.wrapping_add(1);
        lanes.open.insert(lane, Side::default());
        Some(lane)
    }

    /// As [`Self::handle_packet`], for a packet that came on a data stream.
    pub fn handle_packet_on(&mut self, lane: Lane, packet: Packet, now: Now) -> Result<(), Violation> {
        let Some(lanes) = &mut self.lanes else { return Ok(()) };
        match &packet {
            Packet::Publish(publish) => {
                lanes.answers.extend(publish.id.map(|id| (id.get(), lane)));
            }
            Packet::PubRel(ack) => drop(lanes.answers.insert(ack.id.get(), lane)),
            Packet::Subscribe(subscribe) => drop(lanes.answers.insert(subscribe.id.get(), lane)),
            Packet::Unsubscribe(unsubscribe) => drop(lanes.answers.insert(unsubscribe.id.get(), lane)),
            Packet::PubAck(_) | Packet::PubRec(_) | Packet::PubComp(_) => {}
            Packet::Connect(_) | Packet::PingReq | Packet::Disconnect(_) | Packet::Auth(_) => {
                return Err(Violation::ControlPacket);
            }
        }
        lanes.current = Some(lane);
        let handled = self.handle_packet(packet, now);
        if let Some(lanes) = &mut self.lanes {
            lanes.current = None;
        }
        handled
    }

    /// Bytes for the client on a data stream.
    pub fn lane_output(&self, lane: Lane) -> Option<&Output> {
        self.lanes.as_ref()?.open.get(&lane).map(|side| &side.output)
    }

    /// As [`Self::handle_written`], for a data stream.
    pub fn handle_lane_written(&mut self, lane: Lane, written: usize, now: Instant) {
        let Some(side) = self.lanes.as_mut().and_then(|lanes| lanes.open.get_mut(&lane)) else { return };
        side.output.advance(written);
        if side.output.is_empty() {
            side.stuck_since = None;
        } else if written > 0 || side.stuck_since.is_none() {
            side.stuck_since = Some(now);
        }
    }

    /// The client sends no more on a data stream. Answers to what it sent still go there.
    pub fn handle_lane_eof(&mut self, lane: Lane) {
        let Some(lanes) = &mut self.lanes else { return };
        if let Some(side) = lanes.open.get_mut(&lane) {
            side.ended = true;
        }
        let ids = lanes.end(lane);
        self.recover(&ids);
    }

    /// Whether a data stream on which the client sends no more has no answer to wait for.
    pub fn is_lane_done(&self, lane: Lane) -> bool {
        let Some(lanes) = &self.lanes else { return true };
        let is_empty = lanes.open.get(&lane).is_none_or(|side| side.output.is_empty());
        is_empty && !lanes.answers.values().any(|of| *of == lane)
    }

    /// A data stream is gone, with what was on its way there.
    pub fn handle_lane_closed(&mut self, lane: Lane) {
        let Some(lanes) = &mut self.lanes else { return };
        lanes.open.remove(&lane);
        lanes.answers.retain(|_, of| *of != lane);
        let ids = lanes.end(lane);
        self.recover(&ids);
        self.debug_assert_invariants();
    }

    /// Deliveries that may be lost go on, on the control stream.
    fn recover(&mut self, ids: &[PacketId]) {
        for id in ids {
            match self.deliveries.find(*id) {
                Some((number, Stage::Sent1 | Stage::Sent2)) => {
                    if let Some(lanes) = &mut self.lanes {
                        lanes.lost.insert(number);
                        lanes.rewind = true;
                    }
                }
                Some((_, Stage::Released)) => self.send_ack(AckKind::PubRel, *id, Reason::Success),
                // PUBREL leaves when PUBREC is kept.
                Some((_, Stage::Keeping | Stage::Done)) | None => {}
            }
        }
    }

    /// Whether delivery `number`, which the hub gives, is to be sent. What is out already comes once more for the sake of
    /// others that were lost.
    pub(super) fn is_wanted(&mut self, number: u64) -> bool {
        let Some(lanes) = &mut self.lanes else { return true };
        // They come in order: what was lost and is not offered has expired.
        while !lanes.rewind
            && let Some(gone) = lanes.lost.first().copied().filter(|gone| *gone < number)
        {
            lanes.lost.remove(&gone);
            self.deliveries.advance(gone, Stage::Done);
        }
        match self.deliveries.stage(number) {
            None => true,
            Some(Stage::Sent1 | Stage::Sent2) => lanes.lost.remove(&number),
            Some(Stage::Keeping | Stage::Released | Stage::Done) => false,
        }
    }

    /// Since when a data stream takes nothing of what is written for it.
    pub(super) fn lanes_stuck_since(&self) -> Option<Instant> {
        self.lanes.as_ref()?.open.values().filter_map(|side| side.stuck_since).min()
    }
}
