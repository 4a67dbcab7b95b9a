//! One client's conversation in CloudEvents: frames, grants, receipts and deliveries in, actions out. Sans-io.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use event::hub::{Delivery, Granted, Outcome, Publish, Room, Stamps, Subscribe, SubscribeOptions};
use event::store::Position;
use event::{Guarantee, Incoming, InvalidEvent, Reject, RejectKind, TopicFilter};
use serde::Serialize;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::Options;
use crate::frame::{Acked, Ask, ErrorData, PLAIN, PREFIX, answer};

/// What the driver has to do, in order.
#[derive(Debug)]
pub(crate) enum Action {
    /// Answer with [`Connection::handle_outcome`].
    Publish(Publish, Said),
    /// Answer with [`Connection::handle_granted`].
    Subscribe(Subscription),
    /// Answer with [`Connection::handle_unsubscribed`].
    Unsubscribe {
        of: ByteString,
        filters: Vec<TopicFilter>,
    },
    Ack(Vec<u64>),
    /// A text frame.
    Send(Bytes),
    /// Send what is to be sent, then close.
    Close(CloseCode, String),
}

/// What a client called its event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Said {
    pub(crate) id: ByteString,
    pub(crate) source: ByteString,
}

/// A subscription that is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    of: ByteString,
    pub(crate) wanted: Vec<Subscribe>,
}

#[derive(Debug)]
pub(crate) struct Connection {
    publisher: Arc<str>,
    /// Deliveries wait for the client's ack; else they are done when written.
    acks: bool,
    receive_max: u16,
    filters_max: u16,
    actions: VecDeque<Action>,
    /// Deliveries that are out and not acked, by position: the window.
    window: BTreeSet<(Position, u64)>,
    /// Numbers of deliveries that are done when what was sent is written.
    written: Vec<u64>,
    /// How many answers were given: their ids.
    answers: u64,
    closed: bool,
}

impl Connection {
    /// A conversation with the client `publisher`; `acks`: it acks what it gets.
    pub(crate) fn new(publisher: Arc<str>, acks: bool, options: &Options) -> Self {
        Self {
            publisher,
            acks,
            receive_max: options.receive_max.max(1),
            filters_max: options.filters_max,
            actions: VecDeque::new(),
            window: BTreeSet::new(),
            written: Vec::new(),
            answers: 0,
            closed: false,
        }
    }

    /// The next thing to do.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Takes back what cannot be done yet.
    pub(crate) fn put_back(&mut self, action: Action) {
        self.actions.push_front(action);
    }

    /// How many deliveries can be taken.
    pub(crate) fn room(&self) -> Room {
        let out = self.window.len() + self.written.len();
        let numbered = usize::from(self.receive_max).saturating_sub(out);
        Room { numbered: u16::try_from(numbered).unwrap_or(u16::MAX), bytes: 256 << 10 }
    }

    /// A text frame came.
    pub(crate) fn handle_text(&mut self, text: Bytes, stamps: &mut Stamps, now_ms: u64) {
        if self.closed {
            return;
        }
        let incoming = match event::json::decode(text) {
            Ok(incoming) => incoming,
            Err(error) => {
                self.refuse(None, &Reject::new(RejectKind::Malformed, error.to_string()));
                if matches!(error, InvalidEvent::Json(_)) {
                    self.close(CloseCode::Invalid, "a frame was not JSON");
                }
                return;
            }
        };
        let ty = &incoming.attributes.ty;
        if ty.starts_with(PREFIX) && &**ty != PLAIN {
            let of = incoming.attributes.id.clone();
            match Ask::parse(ty, &incoming.data, self.filters_max) {
                Ok(ask) => self.handle_ask(ask, of),
                Err(reject) => self.refuse(Some(&of), &reject),
            }
        } else {
            self.handle_event(incoming, stamps, now_ms);
        }
    }

    fn handle_event(&mut self, incoming: Incoming, stamps: &mut Stamps, now_ms: u64) {
        let said = Said { id: incoming.attributes.id.clone(), source: incoming.attributes.source.clone() };
        let topic = match incoming.topic(None) {
            Ok(topic) => topic,
            Err(error) => {
                let reason = format!("{error}; the topic is wefttopic, else subject, else type");
                return self.refuse(Some(&said.id), &Reject::new(RejectKind::Malformed, reason));
            }
        };
        let retain = incoming.retain;
        let event = incoming.into_event(topic, stamps.take(), now_ms, Arc::clone(&self.publisher));
        let publish = Publish { event, guarantee: Guarantee::AtLeastOnce, retain, id: None };
        self.actions.push_back(Action::Publish(publish, said));
    }

    fn handle_ask(&mut self, ask: Ask, of: ByteString) {
        match ask {
            Ask::Subscribe { filters, guarantee, select } => {
                let options = SubscribeOptions::new(guarantee);
                let wish = |(filter, replay)| Subscribe { filter, options, replay, select: select.clone() };
                let wanted = filters.into_iter().map(wish).collect();
                self.actions.push_back(Action::Subscribe(Subscription { of, wanted }));
            }
            Ask::Unsubscribe { filters } => self.actions.push_back(Action::Unsubscribe { of, filters }),
            Ask::Ack(acked) => {
                let numbers = self.take_acked(acked);
                if !numbers.is_empty() {
                    self.actions.push_back(Action::Ack(numbers));
                }
            }
        }
    }

    /// Takes deliveries out of the window. What is not in it was acked before.
    fn take_acked(&mut self, acked: Acked) -> Vec<u64> {
        let done: Vec<(Position, u64)> = match acked {
            Acked::UpTo(last) => self.window.range(..=(last, u64::MAX)).copied().collect(),
            Acked::These(list) => {
                let at = |position| self.window.range((position, 0)..=(position, u64::MAX)).copied();
                list.into_iter().flat_map(at).collect()
            }
        };
        for delivery in &done {
            self.window.remove(delivery);
        }
        done.into_iter().map(|(_, number)| number).collect()
    }

    /// The hub answered a subscribe.
    pub(crate) fn handle_granted(
        &mut self,
        asked: Subscription,
        results: Result<Vec<Result<Granted, Reject>>, Reject>,
    ) {
        let Subscription { of, wanted } = asked;
        let results = match results {
            Ok(results) => results,
            Err(reject) => return self.refuse(Some(&of), &reject),
        };
        let (mut topics, mut as_of) = (Vec::new(), Position(0));
        for (Subscribe { filter, .. }, result) in wanted.into_iter().zip(results) {
            topics.push(match &result {
                Ok(grant) => json!({"topic": filter.as_str(), "guarantee": grant.guarantee as u8}),
                Err(reject) => {
                    json!({"topic": filter.as_str(), "kind": reject.kind.as_str(), "reason": reject.reason})
                }
            });
            as_of = result.map_or(as_of, |grant| as_of.max(grant.as_of));
        }
        let data = json!({"of": of, "topics": topics, "as_of": as_of.0.to_string()});
        self.answer("weft.subscribed", &data);
    }

    /// The hub answered an unsubscribe.
    pub(crate) fn handle_unsubscribed(
        &mut self,
        of: &ByteString,
        filters: &[TopicFilter],
        result: Result<Vec<bool>, Reject>,
    ) {
        match result {
            Err(reject) => self.refuse(Some(of), &reject),
            Ok(there) => {
                let one = |(filter, there): (&TopicFilter, bool)| json!({"topic": filter.as_str(), "was_there": there});
                let topics: Vec<Value> = filters.iter().zip(there).map(one).collect();
                self.answer("weft.unsubscribed", &json!({"of": of, "topics": topics}));
            }
        }
    }

    /// A batch was answered: tells the client of each event, in order.
    pub(crate) fn handle_outcome(&mut self, batch: &[Said], outcome: &Outcome) {
        for (place, said) in batch.iter().enumerate() {
            match outcome.of(place) {
                Ok(()) => self.answer("weft.published", said),
                Err(reject) => self.refuse(Some(&said.id), reject),
            }
        }
    }

    /// A delivery was taken.
    pub(crate) fn handle_delivery(&mut self, delivery: Delivery) {
        self.actions.push_back(Action::Send(delivery.event.as_reader_json(delivery.position)));
        match (delivery.number, delivery.position) {
            (Some(number), Some(position)) if self.acks => {
                self.window.insert((position, number));
            }
            // Without a position, a client could not name it.
            (Some(number), _) => self.written.push(number),
            (None, _) => {}
        }
        debug_assert!(self.window.len() + self.written.len() <= usize::from(self.receive_max));
    }

    /// All that was to be sent is written.
    pub(crate) fn handle_written(&mut self) {
        if !self.written.is_empty() {
            let numbers = std::mem::take(&mut self.written);
            self.actions.push_back(Action::Ack(numbers));
        }
    }

    /// Tells the client why something is not done.
    pub(crate) fn refuse(&mut self, of: Option<&str>, reject: &Reject) {
        metrics::counter!("weft_websocket_errors_total", "kind" => reject.kind.as_str()).increment(1);
        self.answer("weft.error", &ErrorData::new(of, reject));
    }

    /// Ends the conversation.
    pub(crate) fn close(&mut self, code: CloseCode, reason: &str) {
        if !self.closed {
            self.closed = true;
            self.actions.push_back(Action::Close(code, reason.to_owned()));
        }
    }

    fn answer(&mut self, ty: &str, data: &impl Serialize) {
        self.answers += 1;
        self.actions.push_back(Action::Send(answer(self.answers, ty, data)));
    }
}

#[cfg(test)]
mod tests;
