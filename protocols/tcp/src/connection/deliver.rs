//! Events on their way to the client, and its acknowledgements.

use event::hub::{Delivery, Room};

use super::session::Unacked;
use super::{Answer, Command, Connection, Frame, Now, State};
use crate::binding;

impl Connection {
    /// How much the client can take; `None`: nothing now.
    pub fn room(&self) -> Option<Room> {
        let State::Open(session) = &self.state else { return None };
        if !session.listening || self.over || self.draining.is_some() {
            return None;
        }
        let left = |limit: usize, taken: usize| limit.checked_sub(taken).filter(|left| *left > 0);
        let bytes = left(self.options.output_bytes.as_usize(), self.output.len())?;
        let window = left(self.options.delivery_bytes.as_usize(), session.unacked_bytes)?;
        let count = left(usize::from(self.options.deliveries_max.get()), session.unacked.len())?;
        // A frame is longer than its event.
        let count = u16::try_from(count.min(window / SMALL + 1)).unwrap_or(u16::MAX);
        Some(Room { numbered: count, bytes: bytes.min(window) })
    }

    /// Pushes `deliveries`.
    pub fn handle_deliveries(&mut self, deliveries: &mut Vec<Delivery>, now: Now) {
        for delivery in deliveries.drain(..) {
            self.push(&delivery, now);
        }
        self.debug_assert_invariants();
    }

    fn push(&mut self, delivery: &Delivery, now: Now) {
        let State::Open(session) = &mut self.state else { return };
        let seq = session.next_push;
        session.next_push += 1;
        let cmd = session.push_command(delivery.subscriptions.as_deref());
        let (kind, body) = binding::body(&delivery.event, session.kind);
        let (text, before) = (seq.to_string(), self.output.len());
        self.write(&Answer::new(cmd, Some(&text)).carrying(kind), &body);
        let bytes = self.output.len() - before;
        if let State::Open(session) = &mut self.state {
            session.unacked_bytes += bytes;
            session.unacked.insert(seq, Unacked { number: delivery.number, bytes, since: now.instant });
        }
    }

    /// The client is done with an event. What it sends back in the body does not matter; a seq that is none of ours, or that
    /// came before, is overlooked.
    pub(super) fn acked(&mut self, frame: &Frame) {
        let State::Open(session) = &mut self.state else { return };
        let seq = frame.header.seq.as_deref().and_then(|seq| seq.parse().ok());
        if let Some(unacked) = seq.and_then(|seq: u64| session.unacked.remove(&seq)) {
            session.unacked_bytes -= unacked.bytes;
            session.acks.extend(unacked.number);
        }
        debug_assert!(matches!(
            frame.header.cmd,
            Command::AsyncMessageToClientAck
                | Command::BroadcastMessageToClientAck
                | Command::RequestToClientAck
        ));
    }
}

/// Bytes of a frame of a small event, about.
const SMALL: usize = 1 << 10;
