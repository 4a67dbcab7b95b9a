//! What the client publishes (MQTT 5 §3.3, §4.3).

use event::hub::{self, Outcome};
use event::{Guarantee, Reject, RejectKind, TopicName};
use std::time::Duration;

use super::{Connection, Now, Phase};
use crate::binding::{self, Arrival, Unbound};
use crate::codec::encode::{self, AckKind};
use crate::codec::{Ack, PacketId, Property, Publish, Reason, Version};
use crate::session::Receiving;
use crate::{DeniedPublish, Violation};

/// Publishes that will be the next batch.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    publishes: Vec<hub::Publish>,
    replies: Vec<Reply>,
    bytes: usize,
}

/// A batch without outcome.
#[derive(Debug)]
pub(super) struct Open {
    replies: Vec<Reply>,
    pub(super) bytes: usize,
    /// It has nothing for the hub: all of it is refused here, and only waits for its turn.
    local: bool,
}

/// The answer that a QoS 1 or 2 publish will get, when its turn comes: acks leave in publish order.
#[derive(Clone, Copy, Debug)]
struct Reply {
    id: PacketId,
    exactly_once: bool,
    answer: Answer,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    /// What the hub says of this place in the batch.
    Place(u32),
    /// Decided here.
    Here(Reason),
}

impl Gathered {
    pub(super) fn is_empty(&self) -> bool {
        self.publishes.is_empty() && self.replies.is_empty()
    }
}

impl Connection {
    pub(super) fn handle_publish(&mut self, publish: Publish, now: Now) -> Result<(), Violation> {
        let topic = self.resolve_topic(&publish)?;
        let exactly_once = publish.guarantee == Guarantee::ExactlyOnce;
        if let Some(id) = publish.id
            && !self.take_id(id, exactly_once)?
        {
            return Ok(());
        }
        let Ok((topic, delay)) = binding::delayed(topic) else {
            self.refuse_here(publish.id, exactly_once, self.refusal_of_topic());
            return Ok(());
        };
        let is_reserved = topic.is_reserved();
        let arrival = Arrival { publisher: &self.client, stamp: self.stamps.take(), now_ms: now.ms };
        let event = match binding::event(self.version, topic, &publish.properties, publish.payload, arrival) {
            Ok(event) => event,
            Err(Unbound::Violation(violation)) => return Err(violation),
            Err(Unbound::Payload) => {
                self.refuse_here(publish.id, exactly_once, Reason::PayloadFormatInvalid);
                return Ok(());
            }
        };
        let event = binding::after(event, delay);
        let answer = match is_reserved {
            // The hub refuses it, and tells those who watch over it. The client hears what is wrong with its topic.
            true => Answer::Here(self.refusal_of_topic()),
            false => Answer::Place(u32::try_from(self.gathered.publishes.len()).unwrap_or(u32::MAX)),
        };
        let gathered = &mut self.gathered;
        if let Some(id) = publish.id {
            gathered.replies.push(Reply { id, exactly_once, answer });
        }
        gathered.bytes = gathered.bytes.saturating_add(event.weight());
        gathered.publishes.push(hub::Publish {
            event,
            guarantee: publish.guarantee,
            retain: publish.retain,
            id: publish.id.filter(|_| exactly_once).map(PacketId::get),
        });
        Ok(())
    }

    /// The topic of a publish; learns and uses aliases (MQTT 5 §3.3.2.3.4).
    fn resolve_topic(&mut self, publish: &Publish) -> Result<TopicName, Violation> {
        let alias = publish
            .properties
            .iter()
            .find_map(|property| if let Property::TopicAlias(alias) = property { Some(alias) } else { None });
        let Some(alias) = alias else {
            return publish.topic.clone().ok_or(Violation::NoTopic);
        };
        if alias == 0 || alias > self.options.topic_alias_max {
            return Err(Violation::TopicAlias(alias));
        }
        let place = usize::from(alias) - 1;
        let Self { aliases, lanes, .. } = self;
        let aliases = lanes.as_mut().and_then(|lanes| lanes.aliases()).unwrap_or(aliases);
        match &publish.topic {
            None => aliases.get(place).cloned().flatten().ok_or(Violation::TopicAlias(alias)),
            Some(topic) => {
                if aliases.len() <= place {
                    aliases.resize(place + 1, None);
                }
                if let Some(slot) = aliases.get_mut(place) {
                    // An alias lives long: it must not hold the whole read that its packet came in.
                    *slot = TopicName::parse(topic.as_str()).ok();
                }
                Ok(topic.clone())
            }
        }
    }

    /// Takes the packet id into use. False: the publish is a repeat, or refused, and is answered already.
    fn take_id(&mut self, id: PacketId, exactly_once: bool) -> Result<bool, Violation> {
        let known = if self.received.is_empty() { None } else { self.received.find(id) };
        match (known, exactly_once) {
            (None, _) => {}
            // PUBREC leaves as soon as the first one is kept.
            (Some(Receiving::Open), true) => return Ok(false),
            (Some(Receiving::Kept), true) => {
                self.send_ack(AckKind::PubRec, id, Reason::Success);
                return Ok(false);
            }
            (Some(_), _) if self.version == Version::V311 => return Err(Violation::PacketIdInUse(id.get())),
            (Some(Receiving::Releasing), true) => {
                self.send_ack(AckKind::PubRec, id, Reason::PacketIdInUse);
                return Ok(false);
            }
            (Some(_), false) => {
                self.send_ack(AckKind::PubAck, id, Reason::PacketIdInUse);
                return Ok(false);
            }
        }
        let most = self.options.inflight_max.get();
        if self.version == Version::V5 && self.open_in >= most {
            return Err(Violation::ReceiveMaximum(most));
        }
        self.open_in = self.open_in.saturating_add(1);
        if exactly_once {
            self.received.set(id, Receiving::Open);
        }
        Ok(true)
    }

    /// The answer to a publish to a topic that no client may publish to. 3.1.1 has no word for it.
    fn refusal_of_topic(&self) -> Reason {
        match self.version {
            Version::V5 => Reason::TopicNameInvalid,
            Version::V311 => Reason::Success,
        }
    }

    fn refuse_here(&mut self, id: Option<PacketId>, exactly_once: bool, reason: Reason) {
        if let Some(id) = id {
            self.gathered.replies.push(Reply { id, exactly_once, answer: Answer::Here(reason) });
        }
    }

    /// What was gathered, as a batch for the hub.
    pub(super) fn take_batch(&mut self) -> Option<Vec<hub::Publish>> {
        if self.gathered.is_empty() {
            return None;
        }
        let Gathered { publishes, replies, bytes } = std::mem::take(&mut self.gathered);
        let local = publishes.is_empty();
        self.open_bytes = self.open_bytes.saturating_add(bytes);
        self.open.push_back(Open { replies, bytes, local });
        if local {
            self.answer_local();
            return None;
        }
        self.admitting = true;
        Some(publishes)
    }

    /// The batch of the last [`super::Action::Publish`] found room.
    pub fn handle_admitted(&mut self) {
        self.admitting = false;
    }

    /// What became of the oldest batch without outcome.
    pub fn handle_published(&mut self, outcome: &Outcome, now: Now) {
        if let Some(open) = self.open.pop_front() {
            self.answer(&open, outcome, now);
        }
        self.answer_local();
        self.debug_assert_invariants();
    }

    fn answer_local(&mut self) {
        while let Some(open) = self.open.pop_front_if(|open| open.local) {
            for reply in &open.replies {
                let Answer::Here(reason) = reply.answer else { continue };
                self.reply(*reply, reason);
            }
        }
    }

    fn answer(&mut self, open: &Open, outcome: &Outcome, now: Now) {
        self.open_bytes = self.open_bytes.saturating_sub(open.bytes);
        for reply in &open.replies {
            if !matches!(self.phase, Phase::Open) || self.stalled_until.is_some() {
                return;
            }
            match reply.answer {
                Answer::Here(reason) => self.reply(*reply, reason),
                Answer::Place(place) => match outcome.of(usize::try_from(place).unwrap_or(usize::MAX)) {
                    Ok(()) => self.reply(*reply, Reason::Success),
                    Err(reject) => self.reply_refused(*reply, reject, now),
                },
            }
        }
    }

    /// The table of refusals: what [`RejectKind`] means in either version.
    fn reply_refused(&mut self, reply: Reply, reject: &Reject, now: Now) {
        match (self.version, reject.kind) {
            (Version::V5, RejectKind::Malformed) => {
                self.reply_saying(reply, Reason::PayloadFormatInvalid, &reject.reason);
            }
            (Version::V5, RejectKind::Unproved | RejectKind::Denied) => {
                self.reply_saying(reply, Reason::NotAuthorized, &reject.reason);
            }
            (Version::V5, RejectKind::Busy) => {
                self.reply_saying(reply, Reason::QuotaExceeded, &reject.reason);
            }
            (Version::V5, RejectKind::Unavailable) => {
                self.reply_saying(reply, Reason::ImplementationSpecific, &reject.reason);
            }
            (Version::V5, RejectKind::Closed) => self.disconnect(Reason::ServerShuttingDown, None),
            (Version::V311, RejectKind::Unproved | RejectKind::Denied)
                if self.options.denied_publish == DeniedPublish::Drop =>
            {
                self.reply(reply, Reason::Success);
            }
            // No ack, and the client is not read for a moment: then it is closed, so that it sends again.
            (Version::V311, RejectKind::Busy) => self.stalled_until = Some(now.instant + BUSY_PAUSE),
            (Version::V311, RejectKind::Closed) => self.end(true),
            (
                Version::V311,
                RejectKind::Malformed | RejectKind::Unproved | RejectKind::Denied | RejectKind::Unavailable,
            ) => {
                self.handle_violation(Violation::Refused, &[]);
            }
        }
    }

    fn reply(&mut self, reply: Reply, reason: Reason) {
        self.reply_saying(reply, reason, reason.text());
    }

    /// Sends PUBACK or PUBREC.
    fn reply_saying(&mut self, reply: Reply, reason: Reason, text: &str) {
        if reply.exactly_once && !reason.is_error() {
            self.received.set(reply.id, Receiving::Kept);
            return self.send_ack(AckKind::PubRec, reply.id, reason);
        }
        self.open_in = self.open_in.saturating_sub(1);
        if reply.exactly_once {
            self.received.remove(reply.id);
            self.send_ack_saying(AckKind::PubRec, reply.id, reason, text);
        } else {
            self.send_ack_saying(AckKind::PubAck, reply.id, reason, text);
        }
    }

    pub(super) fn handle_pubrel(&mut self, ack: Ack) -> Result<(), Violation> {
        match self.received.find(ack.id) {
            None => self.send_ack(AckKind::PubComp, ack.id, Reason::PacketIdNotFound),
            Some(Receiving::Open) => return Err(Violation::AckOrder(ack.id.get())),
            Some(Receiving::Kept) => {
                self.received.set(ack.id, Receiving::Releasing);
                self.to_release.push(ack.id.get());
            }
            // PUBCOMP leaves when the first one is kept.
            Some(Receiving::Releasing) => {}
        }
        Ok(())
    }

    /// What became of the oldest release without outcome.
    pub fn handle_released(&mut self, outcome: &Outcome) {
        let ids = self.releasing.pop_front().unwrap_or_default();
        match outcome {
            Outcome::Kept => {}
            // The client sends PUBREL again when it is back.
            Outcome::Partly(_) | Outcome::Refused(_) => return self.handle_violation(Violation::Unkept, &[]),
        }
        for id in ids {
            let Ok(id) = PacketId::new(id) else { continue };
            self.received.remove(id);
            self.open_in = self.open_in.saturating_sub(1);
            self.send_ack(AckKind::PubComp, id, Reason::Success);
        }
        self.debug_assert_invariants();
    }

    pub(super) fn send_ack(&mut self, what: AckKind, id: PacketId, reason: Reason) {
        self.send_ack_saying(what, id, reason, reason.text());
    }

    fn send_ack_saying(&mut self, what: AckKind, id: PacketId, reason: Reason, text: &str) {
        if !matches!(self.phase, Phase::Open) {
            return;
        }
        self.tally.ack_out += 1;
        let text = self.told(text);
        let Self { output, lanes, .. } = self;
        let lane = lanes.as_mut().and_then(|lanes| match what {
            AckKind::PubAck | AckKind::PubRec | AckKind::PubComp => lanes.answer(id),
            AckKind::PubRel => lanes.of_delivery(id),
        });
        let out = lane.unwrap_or(output).buffer();
        match text {
            None => encode::ack(out, self.version, what, id, reason),
            Some(text) => encode::ack_saying(out, what, id, reason, text),
        }
    }
}

/// How long a 3.1.1 client is not read after a publish that found no room. A second lets a short rush pass.
const BUSY_PAUSE: Duration = Duration::from_secs(1);
