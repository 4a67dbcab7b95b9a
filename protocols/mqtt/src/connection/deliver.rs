//! What the client gets (MQTT 5 §3.3.4, §4.3, §4.4).

use event::hub::{Delivery, Outcome, Room};

use super::aliases::Choice;
use super::{Connection, Now, Phase};
use crate::Violation;
use crate::binding;
use crate::codec::encode::{self, AckKind, PublishHead};
use crate::codec::{Ack, Property, Reason, Visit};
use crate::session::{Stage, packet_id};

impl Connection {
    /// How many deliveries may be taken now. `None` while a SUBSCRIBE waits, so that nothing of it comes before its
    /// SUBACK, and while the client does not read.
    pub fn room(&self) -> Option<Room> {
        let open = matches!(self.phase, Phase::Open) && self.drain_until.is_none() && self.request.is_none();
        let bytes = self.output_limit().checked_sub(self.output_len()).filter(|bytes| *bytes > 0)?;
        let lost = self.lanes.as_ref().map_or(0, |lanes| lanes.lost());
        let out = self.deliveries.open().saturating_sub(lost);
        open.then(|| Room { numbered: self.deliveries_max.saturating_sub(out), bytes })
    }

    /// Sends deliveries that the hub gave, and empties the list.
    pub fn handle_deliveries(&mut self, deliveries: &mut Vec<Delivery>, now: Now) {
        for delivery in deliveries.drain(..) {
            self.deliver(&delivery, now);
        }
        self.debug_assert_invariants();
    }

    fn deliver(&mut self, delivery: &Delivery, now: Now) {
        let event = &delivery.event;
        if event.is_expired(now.ms) {
            self.tally.expired += 1;
            self.acks.extend(delivery.number);
            return;
        }
        if let Some(number) = delivery.number
            && !self.is_wanted(number)
        {
            return;
        }
        let payload = binding::payload(event, self.version);
        let head = PublishHead {
            dup: delivery.again && delivery.number.is_some(),
            guarantee: delivery.guarantee,
            retain: delivery.retain,
            topic: event.topic().as_str(),
            id: delivery.number.map(packet_id),
        };
        let ids = delivery.subscriptions.as_deref();
        let (version, packet_max) = (self.version, self.packet_max);
        let Self { output, lanes, aliases_out, .. } = self;
        let lane = lanes.as_mut().and_then(|lanes| lanes.of_topic(event.topic(), head.id));
        // Streams may overtake each other, so aliases are for one of them only.
        let (output, aliases_out) = match lane {
            None => (output, aliases_out.as_mut()),
            Some(lane) => (lane, None),
        };
        let out = output.buffer();
        let mut write = |topic: &str, alias: Option<u16>| {
            let properties = |visit: &mut Visit<'_>| {
                if let Some(alias) = alias {
                    visit(Property::TopicAlias(alias));
                }
                binding::each_property(event, ids, now.ms, visit);
            };
            encode::publish(
                out,
                version,
                PublishHead { topic, ..head },
                &properties,
                payload.len(),
                packet_max,
            )
        };
        let written = match aliases_out {
            None => write(head.topic, None),
            Some(aliases) => match aliases.choose(head.topic) {
                Choice::Plain => write(head.topic, None),
                Choice::Known(alias) => write("", Some(alias)),
                Choice::New(alias) if write(head.topic, Some(alias)) => {
                    aliases.set(alias, head.topic);
                    true
                }
                // It may fit without.
                Choice::New(_) => write(head.topic, None),
            },
        };
        if !written {
            // As if it had been delivered [MQTT-3.1.2-25].
            self.tally.oversized += 1;
            self.acks.extend(delivery.number);
            if let (Some(lanes), Some(number)) = (&mut self.lanes, delivery.number) {
                lanes.delivered(number);
            }
            return;
        }
        output.payload(payload);
        self.tally.publish_out += 1;
        if let Some(number) = delivery.number {
            self.deliveries.sent(number, delivery.guarantee);
        }
    }

    pub(super) fn handle_puback(&mut self, ack: Ack) -> Result<(), Violation> {
        match self.deliveries.find(ack.id) {
            // An ack of something that an older connection sent, or that ended: nothing to do.
            None => Ok(()),
            Some((number, Stage::Sent1)) => {
                self.finish(number);
                Ok(())
            }
            Some((_, Stage::Sent2 | Stage::Keeping | Stage::Released | Stage::Done)) => {
                Err(Violation::AckOrder(ack.id.get()))
            }
        }
    }

    pub(super) fn handle_pubrec(&mut self, ack: Ack) -> Result<(), Violation> {
        let refused = ack.code >= 0x80;
        match self.deliveries.find(ack.id) {
            None if refused => {}
            None => self.send_ack(AckKind::PubRel, ack.id, Reason::PacketIdNotFound),
            Some((number, Stage::Sent2)) if refused => self.finish(number),
            Some((number, Stage::Sent2)) => {
                self.deliveries.advance(number, Stage::Keeping);
                self.to_keep.push(number);
            }
            // PUBREL leaves when the first PUBREC is kept.
            Some((_, Stage::Keeping)) => {}
            Some((_, Stage::Released)) => self.send_ack(AckKind::PubRel, ack.id, Reason::Success),
            Some((_, Stage::Sent1 | Stage::Done)) => return Err(Violation::AckOrder(ack.id.get())),
        }
        Ok(())
    }

    /// What became of the oldest [`super::Action::Received`] without outcome.
    pub fn handle_kept(&mut self, outcome: &Outcome) {
        let numbers = self.keeping.pop_front().unwrap_or_default();
        match outcome {
            Outcome::Kept => {}
            Outcome::Partly(_) | Outcome::Refused(_) => return self.handle_violation(Violation::Unkept, &[]),
        }
        for number in numbers {
            self.deliveries.advance(number, Stage::Released);
            self.send_ack(AckKind::PubRel, packet_id(number), Reason::Success);
        }
        self.debug_assert_invariants();
    }

    pub(super) fn handle_pubcomp(&mut self, ack: Ack) -> Result<(), Violation> {
        match self.deliveries.find(ack.id) {
            None => Ok(()),
            Some((number, Stage::Released)) => {
                self.finish(number);
                Ok(())
            }
            Some((_, Stage::Sent1 | Stage::Sent2 | Stage::Keeping | Stage::Done)) => {
                Err(Violation::AckOrder(ack.id.get()))
            }
        }
    }

    fn finish(&mut self, number: u64) {
        if let Some(lanes) = &mut self.lanes {
            lanes.delivered(number);
        }
        self.deliveries.advance(number, Stage::Done);
        self.acks.push(number);
    }
}
