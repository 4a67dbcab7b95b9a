//! SUBSCRIBE and UNSUBSCRIBE (MQTT 5 §3.8 to §3.11).

use event::hub::{self, Granted, RetainedWanted, SubscribeOptions};
use event::{Guarantee, Reject, RejectKind, TopicFilter};

use super::{Action, Connection};
use crate::Violation;
use crate::codec::{FilterOptions, PacketId, Reason, Subscribe, Unsubscribe, Version, encode};

/// A SUBSCRIBE or UNSUBSCRIBE without its answer.
#[derive(Debug)]
pub(super) struct Request {
    id: PacketId,
    /// One for each filter of the packet; `None`: the hub says.
    answers: Vec<Option<Reason>>,
    /// Taken when it is given to the hub.
    asks: Option<Asks>,
}

#[derive(Debug)]
enum Asks {
    Subscribe(Vec<hub::Subscribe>),
    Unsubscribe(Vec<TopicFilter>),
}

impl Request {
    pub(super) fn ask(&mut self) -> Option<Action> {
        match self.asks.take()? {
            Asks::Subscribe(wanted) => Some(Action::Subscribe(wanted)),
            Asks::Unsubscribe(filters) => Some(Action::Unsubscribe(filters)),
        }
    }

    /// Fills the answers that are the hub's.
    fn fill(self, mut of_hub: impl Iterator<Item = Reason>) -> (PacketId, Vec<Reason>) {
        let fill = |answer: Option<Reason>| answer.or_else(|| of_hub.next()).unwrap_or(Reason::Unspecified);
        (self.id, self.answers.into_iter().map(fill).collect())
    }
}

impl Connection {
    pub(super) fn handle_subscribe(&mut self, subscribe: Subscribe) {
        let mut wanted = Vec::new();
        let mut answers = Vec::new();
        for (text, options) in subscribe.filters {
            answers.push(match TopicFilter::parse(&*text) {
                _ if text.starts_with("$share/") => Some(Reason::SharedNotSupported),
                Err(_) => Some(Reason::TopicFilterInvalid),
                Ok(filter) => {
                    let options = subscribe_options(options, subscribe.subscription);
                    wanted.push(hub::Subscribe { filter, options });
                    None
                }
            });
        }
        if wanted.is_empty() {
            let answers: Vec<Reason> = answers.into_iter().flatten().collect();
            return self.send_suback(subscribe.id, &answers);
        }
        let asks = Some(Asks::Subscribe(wanted));
        self.request = Some(Box::new(Request { id: subscribe.id, answers, asks }));
    }

    /// The hub's answer to [`Action::Subscribe`].
    pub fn handle_subscribed(&mut self, answer: Result<Vec<Result<Granted, Reject>>, Reject>) {
        let Some(request) = self.request.take() else { return };
        let (id, answers) = match answer {
            Ok(list) => request.fill(list.into_iter().map(|one| match one {
                Ok(granted) => granted_reason(granted.guarantee),
                Err(reject) => refused_reason(reject.kind),
            })),
            Err(reject) => request.fill(std::iter::repeat(refused_reason(reject.kind))),
        };
        self.send_suback(id, &answers);
        self.debug_assert_invariants();
    }

    fn send_suback(&mut self, id: PacketId, answers: &[Reason]) {
        self.tally.other_out += 1;
        encode::suback(self.output.buffer(), self.version, id, answers);
    }

    pub(super) fn handle_unsubscribe(&mut self, unsubscribe: Unsubscribe) {
        let mut filters = Vec::new();
        let mut answers = Vec::new();
        for text in unsubscribe.filters {
            answers.push(match TopicFilter::parse(&*text) {
                Err(_) => Some(Reason::TopicFilterInvalid),
                Ok(filter) => {
                    filters.push(filter);
                    None
                }
            });
        }
        if filters.is_empty() {
            let answers: Vec<Reason> = answers.into_iter().flatten().collect();
            return self.send_unsuback(unsubscribe.id, &answers);
        }
        let asks = Some(Asks::Unsubscribe(filters));
        self.request = Some(Box::new(Request { id: unsubscribe.id, answers, asks }));
    }

    /// The hub's answer to [`Action::Unsubscribe`].
    pub fn handle_unsubscribed(&mut self, answer: Result<Vec<bool>, Reject>) {
        let Some(request) = self.request.take() else { return };
        let (id, answers) = match answer {
            Ok(list) => request.fill(list.into_iter().map(|there| match there {
                true => Reason::Success,
                false => Reason::NoSubscriptionExisted,
            })),
            // UNSUBACK of 3.1.1 can only say yes.
            Err(_) if self.version == Version::V311 => return self.handle_violation(Violation::Unkept, &[]),
            Err(_) => request.fill(std::iter::repeat(Reason::ImplementationSpecific)),
        };
        self.send_unsuback(id, &answers);
        self.debug_assert_invariants();
    }

    fn send_unsuback(&mut self, id: PacketId, answers: &[Reason]) {
        self.tally.other_out += 1;
        encode::unsuback(self.output.buffer(), self.version, id, answers);
    }
}

fn subscribe_options(options: FilterOptions, id: u32) -> SubscribeOptions {
    SubscribeOptions {
        guarantee: options.guarantee,
        no_local: options.no_local,
        retain_as_published: options.retain_as_published,
        retained: match options.retain_handling {
            0 => RetainedWanted::Always,
            1 => RetainedWanted::IfNew,
            _ => RetainedWanted::Never,
        },
        id,
    }
}

fn granted_reason(guarantee: Guarantee) -> Reason {
    match guarantee {
        Guarantee::AtMostOnce => Reason::Success,
        Guarantee::AtLeastOnce => Reason::GrantedQos1,
        Guarantee::ExactlyOnce => Reason::GrantedQos2,
    }
}

fn refused_reason(kind: RejectKind) -> Reason {
    match kind {
        RejectKind::Malformed => Reason::TopicFilterInvalid,
        RejectKind::Unproved | RejectKind::Denied => Reason::NotAuthorized,
        RejectKind::Busy => Reason::QuotaExceeded,
        RejectKind::Unavailable | RejectKind::Closed => Reason::ImplementationSpecific,
    }
}
