//! Events on their way to the client, and its acknowledgements.

use event::hub::{Delivery, Room};

use super::session::Unacked;
use super::{Answer, Command, Connection, Frame, Now, State};
use crate::binding;

impl Connection {
    /// How much the client can take; `None`: nothing now.
    pub fn room(&self) -> Option<Room> {
        let State::Open(session) = &self.state else { return None };
        let bytes =
            self.options.output_bytes.as_usize().checked_sub(self.output.len()).filter(|left| *left > 0)?;
        if !session.listening || self.over || self.draining.is_some() {
            return None;
        }
        let out = u16::try_from(session.unacked.len()).unwrap_or(u16::MAX);
        Some(Room { numbered: self.options.deliveries_max.get().saturating_sub(out), bytes })
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
        if let Some(number) = delivery.number {
            session.unacked.insert(seq, Unacked { number, since: now.instant });
        }
        let cmd = session.push_command(delivery.subscriptions.as_deref());
        let (kind, body) = binding::body(&delivery.event, session.kind);
        let seq = seq.to_string();
        self.write(&Answer::new(cmd, Some(&seq)).carrying(kind), &body);
    }

    /// The client is done with an event. What it sends back in the body does not matter; a seq that is none of ours, or that
    /// came before, is overlooked.
    pub(super) fn acked(&mut self, frame: &Frame) {
        let State::Open(session) = &mut self.state else { return };
        let seq = frame.header.seq.as_deref().and_then(|seq| seq.parse().ok());
        if let Some(unacked) = seq.and_then(|seq: u64| session.unacked.remove(&seq)) {
            session.acks.push(unacked.number);
        }
        debug_assert!(matches!(
            frame.header.cmd,
            Command::AsyncMessageToClientAck
                | Command::BroadcastMessageToClientAck
                | Command::RequestToClientAck
        ));
    }
}
