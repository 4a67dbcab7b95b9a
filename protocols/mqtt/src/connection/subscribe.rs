//! SUBSCRIBE and UNSUBSCRIBE (MQTT 5 §3.8 to §3.11).

use std::borrow::Cow;

use event::hub::{self, Granted, RetainedWanted, SubscribeOptions};
use event::replay::{parse_filter, plain_filter};
use event::{Guarantee, Reject, RejectKind, Start, TopicFilter};

use super::{Action, Connection};
use crate::Violation;
use crate::codec::{FilterOptions, PacketId, Reason, Subscribe, Unsubscribe, Version, encode};

/// A SUBSCRIBE or UNSUBSCRIBE without its answer.
#[derive(Debug)]
pub(super) struct Request {
    id: PacketId,
    /// One for each filter of the packet; `None`: the hub says.
    answers: Vec<Option<Reason>>,
    /// What is wrong with the first that is refused.
    text: Option<Cow<'static, str>>,
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
    fn fill(self, mut of_hub: impl Iterator<Item = Reason>) -> Answered {
        let fill = |answer: Option<Reason>| answer.or_else(|| of_hub.next()).unwrap_or(Reason::Unspecified);
        let reasons = self.answers.into_iter().map(fill).collect();
        Answered { id: self.id, reasons, text: self.text }
    }
}

/// What SUBACK or UNSUBACK says.
struct Answered {
    id: PacketId,
    reasons: Vec<Reason>,
    text: Option<Cow<'static, str>>,
}

impl Connection {
    pub(super) fn handle_subscribe(&mut self, subscribe: Subscribe) {
        let mut wanted = Vec::new();
        let mut answers = Vec::new();
        let mut text = None;
        let in_use = self.version == Version::V5 && self.received.find(subscribe.id).is_some();
        let all = subscribe.replay.map(|start| Start::parse(&start)).transpose();
        let mut selects = subscribe.selects.into_iter();
        let (select, more) = (selects.next(), selects.next().is_some());
        for (filter, options) in subscribe.filters {
            // What the filter says of its own counts more than the property.
            let wish = parse_filter(&*filter).and_then(|(filter, own)| Ok((filter, own.or(all.clone()?))));
            answers.push(match wish {
                _ if in_use => Some(Reason::PacketIdInUse),
                _ if more => {
                    text.get_or_insert(Cow::Borrowed("one filter-cesql or filter-cel for each SUBSCRIBE"));
                    Some(Reason::TopicFilterInvalid)
                }
                Err(error) => {
                    text.get_or_insert_with(|| Cow::Owned(error.to_string()));
                    Some(Reason::TopicFilterInvalid)
                }
                Ok((filter, replay)) => {
                    let options = subscribe_options(options, subscribe.subscription);
                    wanted.push(hub::Subscribe { filter, options, replay, select: select.clone() });
                    None
                }
            });
        }
        if wanted.is_empty() {
            let reasons = answers.into_iter().flatten().collect();
            return self.send_suback(&Answered { id: subscribe.id, reasons, text });
        }
        if let Some(lanes) = &mut self.lanes {
            lanes.ask(wanted.iter().map(|one| &one.filter));
        }
        let asks = Some(Asks::Subscribe(wanted));
        self.request = Some(Box::new(Request { id: subscribe.id, answers, text, asks }));
    }

    /// The hub's answer to [`Action::Subscribe`].
    pub fn handle_subscribed(&mut self, answer: Result<Vec<Result<Granted, Reject>>, Reject>) {
        let Some(mut request) = self.request.take() else { return };
        if let Some(lanes) = &mut self.lanes {
            lanes.granted(&answer);
        }
        let refusal = match &answer {
            Ok(list) => list.iter().find_map(|one| one.as_ref().err()),
            Err(reject) => Some(reject),
        };
        request.text = request.text.or_else(|| refusal.map(|reject| reject.reason.clone()));
        let answered = match answer {
            Ok(list) => request.fill(list.into_iter().map(|one| match one {
                Ok(granted) => granted_reason(granted.guarantee),
                Err(reject) => refused_reason(reject.kind),
            })),
            Err(reject) => request.fill(std::iter::repeat(refused_reason(reject.kind))),
        };
        self.send_suback(&answered);
        self.debug_assert_invariants();
    }

    fn send_suback(&mut self, answered: &Answered) {
        let Answered { id, reasons, text } = answered;
        let (version, text) = (self.version, text.as_deref().and_then(|text| self.told(text)));
        if !self.send_answer(Some(*id), |out| encode::suback(out, version, *id, reasons, text)) {
            self.disconnect(Reason::PacketTooLarge, None);
        }
    }

    pub(super) fn handle_unsubscribe(&mut self, unsubscribe: Unsubscribe) {
        let mut filters = Vec::new();
        let mut answers = Vec::new();
        let mut text = None;
        let in_use = self.version == Version::V5 && self.received.find(unsubscribe.id).is_some();
        for filter in unsubscribe.filters {
            answers.push(match plain_filter(&*filter) {
                _ if in_use => Some(Reason::PacketIdInUse),
                Err(error) => {
                    text.get_or_insert_with(|| Cow::Owned(error.to_string()));
                    Some(Reason::TopicFilterInvalid)
                }
                Ok(filter) => {
                    filters.push(filter);
                    None
                }
            });
        }
        if filters.is_empty() {
            let reasons = answers.into_iter().flatten().collect();
            return self.send_unsuback(&Answered { id: unsubscribe.id, reasons, text });
        }
        if let Some(lanes) = &mut self.lanes {
            filters.iter().for_each(|filter| lanes.forget(filter));
        }
        let asks = Some(Asks::Unsubscribe(filters));
        self.request = Some(Box::new(Request { id: unsubscribe.id, answers, text, asks }));
    }

    /// The hub's answer to [`Action::Unsubscribe`].
    pub fn handle_unsubscribed(&mut self, answer: Result<Vec<bool>, Reject>) {
        let Some(mut request) = self.request.take() else { return };
        if let (None, Err(reject)) = (&request.text, &answer) {
            request.text = Some(reject.reason.clone());
        }
        let answered = match answer {
            Ok(list) => request.fill(list.into_iter().map(|there| match there {
                true => Reason::Success,
                false => Reason::NoSubscriptionExisted,
            })),
            // UNSUBACK of 3.1.1 can only say yes.
            Err(_) if self.version == Version::V311 => return self.handle_violation(Violation::Unkept, &[]),
            Err(_) => request.fill(std::iter::repeat(Reason::ImplementationSpecific)),
        };
        self.send_unsuback(&answered);
        self.debug_assert_invariants();
    }

    fn send_unsuback(&mut self, answered: &Answered) {
        let Answered { id, reasons, text } = answered;
        let (version, text) = (self.version, text.as_deref().and_then(|text| self.told(text)));
        if !self.send_answer(Some(*id), |out| encode::unsuback(out, version, *id, reasons, text)) {
            self.disconnect(Reason::PacketTooLarge, None);
        }
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
