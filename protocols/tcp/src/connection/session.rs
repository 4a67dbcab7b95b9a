//! What the connection knows of its session: what it subscribes, what it has and did not acknowledge.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use event::hub::{Granted, RetainedWanted, Subscribe, SubscribeOptions};
use event::{Guarantee, Principal, Reject, RejectKind, Select, TopicFilter};
use eventmesh::{Mode, PROTOCOL_TYPE, Subscription, SubscriptionType, Topics, filter};

use super::{Action, ByteString, Code, Command, Connection, Frame, Kind, Now, Purpose, State, UserAgent};

#[derive(Debug)]
pub(super) struct Session {
    purpose: Purpose,
    group: String,
    pub(super) client: Arc<str>,
    who: Principal,
    /// What it speaks, once it showed that.
    pub(super) kind: Option<Kind>,
    topics: BTreeMap<u32, Topic>,
    next_id: u32,
    /// It said that it takes events.
    pub(super) listening: bool,
    busy: Option<Busy>,
    /// By the seq of the push.
    pub(super) unacked: BTreeMap<u64, Unacked>,
    /// Of all in `unacked`.
    pub(super) unacked_bytes: usize,
    pub(super) next_push: u64,
    pub(super) acks: Vec<u64>,
    /// When its proof of who it is ends.
    pub(super) until: Option<Instant>,
    /// Until when it has to leave.
    pub(super) leaving: Option<Instant>,
}

#[derive(Debug)]
struct Topic {
    name: String,
    mode: Mode,
    kind: SubscriptionType,
    filter: TopicFilter,
    select: Option<Select>,
}

/// A delivery that the client has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unacked {
    /// `None`: the core does not wait for the acknowledgement.
    pub(super) number: Option<u64>,
    /// Of the frame.
    pub(super) bytes: usize,
    pub(super) since: Instant,
}

/// What the hub was asked, and who waits for that.
#[derive(Debug)]
enum Busy {
    /// `then`: what is subscribed when the old is gone.
    Unsubscribe {
        answer: Option<Waiter>,
        then: Vec<u32>,
    },
    Subscribe {
        answer: Waiter,
        ids: Vec<u32>,
    },
}

type Waiter = (Command, Option<ByteString>);

impl Session {
    pub(super) fn new(agent: UserAgent, who: Principal, until: Option<Instant>) -> Self {
        Self {
            purpose: agent.purpose().unwrap_or(Purpose::Publish),
            group: agent.group().unwrap_or_default().to_owned(),
            client: Arc::clone(&who.client.0),
            who,
            kind: None,
            topics: BTreeMap::new(),
            next_id: 1,
            listening: false,
            busy: None,
            unacked: BTreeMap::new(),
            unacked_bytes: 0,
            next_push: FIRST_PUSH,
            acks: Vec::new(),
            until,
            leaving: None,
        }
    }

    pub(super) fn client(&self) -> &str {
        &self.client
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.is_some()
    }

    /// Since when the client has what it has longest.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.unacked.first_key_value().map(|(_, unacked)| unacked.since)
    }

    /// How a delivery that matched these subscriptions is pushed.
    pub(super) fn push_command(&self, ids: Option<&[u32]>) -> Command {
        let topic = ids.into_iter().flatten().find_map(|id| self.topics.get(id));
        match topic.map(|topic| (topic.mode, topic.kind)) {
            Some((Mode::Broadcasting, _)) => Command::BroadcastMessageToClient,
            Some((Mode::Clustering, SubscriptionType::Sync)) => Command::RequestToClient,
            Some((Mode::Clustering, SubscriptionType::Async)) | None => Command::AsyncMessageToClient,
        }
    }

    /// It gets no more: its share is for others of its group.
    pub(super) fn leave(&mut self, until: Instant, actions: &mut VecDeque<Action>) {
        self.leaving = Some(until);
        if self.listening && self.busy.is_none() && !self.topics.is_empty() {
            self.busy = Some(Busy::Unsubscribe { answer: None, then: Vec::new() });
            actions.push_back(Action::Unsubscribe(self.filters()));
        }
        self.listening = false;
    }

    fn filters(&self) -> Vec<TopicFilter> {
        self.topics.values().map(|topic| topic.filter.clone()).collect()
    }

    fn names(&self) -> Vec<String> {
        self.topics.values().map(|topic| topic.name.clone()).collect()
    }

    fn wanted(&self, ids: &[u32]) -> Vec<Subscribe> {
        let wanted = |id: &u32| {
            let Topic { filter, select, .. } = self.topics.get(id)?;
            let options = SubscribeOptions {
                retained: RetainedWanted::Never,
                id: *id,
                ..SubscribeOptions::new(Guarantee::AtLeastOnce)
            };
            Some(Subscribe { select: select.clone(), ..Subscribe::new(filter.clone(), options) })
        };
        ids.iter().filter_map(wanted).collect()
    }

    /// Takes new subscriptions: their ids, and the filters of those that they replace. Who watches over Weft is told of one that
    /// is not allowed: the hub is not asked for it.
    fn add(
        &mut self,
        list: Vec<Subscription>,
        actions: &mut VecDeque<Action>,
    ) -> Result<(Vec<u32>, Vec<TopicFilter>), (Code, String)> {
        let mut new = Vec::with_capacity(list.len());
        for Subscription { topic, mode, kind, select } in list {
            let filter =
                filter(&self.group, &topic, mode).map_err(|error| (Code::Fail, error.to_string()))?;
            if !self.who.rights.may_subscribe(&filter) {
                let reason = format!("{topic:?} may not be subscribed");
                let reject = Reject::new(RejectKind::Denied, reason.clone());
                actions.push_back(Action::Denied(Box::new((self.who.clone(), filter, reject))));
                return Err((Code::AclFail, reason));
            }
            new.push(Topic { name: topic, mode, kind, filter, select });
        }
        let (mut ids, mut gone) = (Vec::new(), Vec::new());
        for topic in new {
            let same = self.topics.iter().find(|(_, have)| have.name == topic.name).map(|(id, _)| *id);
            let replaced = same.and_then(|id| self.topics.remove(&id));
            gone.extend(replaced.map(|old| old.filter).filter(|filter| *filter != topic.filter));
            ids.push(self.next_id);
            self.topics.insert(self.next_id, topic);
            self.next_id = self.next_id.wrapping_add(1).max(1);
        }
        Ok((ids, gone))
    }

    /// Takes away the subscriptions of these topics, all if there are none: their filters.
    fn remove(&mut self, list: &[Subscription]) -> Vec<TopicFilter> {
        let wanted = |name: &str| list.is_empty() || list.iter().any(|item| item.topic == name);
        let gone = self.topics.extract_if(.., |_, topic| wanted(&topic.name));
        gone.map(|(_, topic)| topic.filter).collect()
    }
}

impl Connection {
    /// A frame of a client that has a session.
    pub(super) fn in_session(&mut self, frame: &Frame, now: Now) {
        self.note_kind(frame);
        let (cmd, seq) = (frame.header.cmd, frame.header.seq.clone());
        match cmd {
            Command::HelloRequest | Command::HeartbeatRequest => self.answer(cmd, seq.as_deref()),
            Command::ClientGoodbyeRequest => {
                self.answer(cmd, seq.as_deref());
                self.end();
            }
            Command::ServerGoodbyeResponse => {
                if matches!(&self.state, State::Open(session) if session.leaving.is_some()) {
                    self.end();
                }
            }
            Command::SubscribeRequest => self.subscribe(frame),
            Command::ListenRequest => self.listen(frame),
            Command::UnsubscribeRequest => self.unsubscribe(frame),
            Command::AsyncMessageToServer | Command::BroadcastMessageToServer => self.publish(frame, now),
            Command::RequestToServer => self.request(frame, now),
            Command::ResponseToServer => self.response(frame, now),
            Command::AsyncMessageToClientAck
            | Command::BroadcastMessageToClientAck
            | Command::RequestToClientAck => self.acked(frame),
            Command::ResponseToClientAck => {}
            Command::RegisterRequest
            | Command::UnregisterRequest
            | Command::SysLogToLogserver
            | Command::TraceLogToLogserver => {
                self.refuse(cmd, seq, Code::Fail, "this command is not supported by any EventMesh");
            }
            Command::HeartbeatResponse
            | Command::HelloResponse
            | Command::ClientGoodbyeResponse
            | Command::ServerGoodbyeRequest
            | Command::SubscribeResponse
            | Command::UnsubscribeResponse
            | Command::ListenResponse
            | Command::RequestToClient
            | Command::ResponseToClient
            | Command::AsyncMessageToServerAck
            | Command::AsyncMessageToClient
            | Command::BroadcastMessageToServerAck
            | Command::BroadcastMessageToClient
            | Command::RedirectToClient
            | Command::RegisterResponse
            | Command::UnregisterResponse
            | Command::RecommendRequest
            | Command::RecommendResponse => {
                self.refuse(cmd, seq, Code::Fail, "a server does not take this command");
            }
        }
    }

    /// SDKs say what they speak only when they publish or answer; others may say it with any frame.
    fn note_kind(&mut self, frame: &Frame) {
        let Some(named) = frame.header.property(PROTOCOL_TYPE) else { return };
        if let (State::Open(session), Some(kind)) = (&mut self.state, Kind::parse(Some(named)))
            && kind != Kind::OpenMessage
        {
            session.kind = Some(kind);
        }
    }

    fn subscribe(&mut self, frame: &Frame) {
        let State::Open(session) = &mut self.state else { return };
        let waiter = (Command::SubscribeRequest, frame.header.seq.clone());
        let added = match (session.purpose, serde_json::from_slice::<Topics>(&frame.body)) {
            (Purpose::Publish, _) => {
                Err((Code::Fail, "a session of purpose pub cannot subscribe".to_owned()))
            }
            (Purpose::Subscribe, Err(error)) => {
                Err((Code::Fail, format!("the subscription is not readable: {error}")))
            }
            (Purpose::Subscribe, Ok(topics)) if topics.list.is_empty() => {
                Err((Code::Fail, "the subscription names no topic".to_owned()))
            }
            (Purpose::Subscribe, Ok(topics)) => session.add(topics.list, &mut self.actions),
        };
        match added {
            Err((code, reason)) => self.refuse(waiter.0, waiter.1, code, &reason),
            Ok(_) if !session.listening => self.answer(waiter.0, waiter.1.as_deref()),
            Ok((ids, gone)) if gone.is_empty() => self.ask_for(waiter, ids),
            Ok((ids, gone)) => {
                session.busy = Some(Busy::Unsubscribe { answer: Some(waiter), then: ids });
                self.actions.push_back(Action::Unsubscribe(gone));
            }
        }
    }

    /// Asks the hub for the subscriptions `ids`.
    fn ask_for(&mut self, answer: Waiter, ids: Vec<u32>) {
        let State::Open(session) = &mut self.state else { return };
        self.actions.push_back(Action::Subscribe(session.wanted(&ids)));
        session.busy = Some(Busy::Subscribe { answer, ids });
    }

    fn listen(&mut self, frame: &Frame) {
        let State::Open(session) = &mut self.state else { return };
        let waiter = (Command::ListenRequest, frame.header.seq.clone());
        match session.purpose {
            Purpose::Publish => {
                self.refuse(waiter.0, waiter.1, Code::Fail, "a session of purpose pub cannot listen");
            }
            Purpose::Subscribe if session.leaving.is_some() => {
                self.refuse(waiter.0, waiter.1, Code::Fail, "this session has to leave");
            }
            Purpose::Subscribe => {
                let was = std::mem::replace(&mut session.listening, true);
                let ids: Vec<u32> = session.topics.keys().copied().collect();
                if was || ids.is_empty() {
                    return self.answer(waiter.0, waiter.1.as_deref());
                }
                self.ask_for(waiter, ids);
            }
        }
    }

    fn unsubscribe(&mut self, frame: &Frame) {
        let State::Open(session) = &mut self.state else { return };
        let waiter = (Command::UnsubscribeRequest, frame.header.seq.clone());
        let topics = match frame.body.is_empty() {
            true => Ok(Topics::default()),
            false => serde_json::from_slice::<Topics>(&frame.body),
        };
        let topics = match topics {
            Ok(topics) => topics,
            Err(error) => {
                let reason = format!("the subscription is not readable: {error}");
                return self.refuse(waiter.0, waiter.1, Code::Fail, &reason);
            }
        };
        let gone = session.remove(&topics.list);
        if gone.is_empty() || !session.listening {
            return self.answer(waiter.0, waiter.1.as_deref());
        }
        session.busy = Some(Busy::Unsubscribe { answer: Some(waiter), then: Vec::new() });
        self.actions.push_back(Action::Unsubscribe(gone));
    }

    /// The hub's answer to [`Action::Unsubscribe`].
    pub fn handle_unsubscribed(&mut self, answer: Result<Vec<bool>, Reject>) {
        let State::Open(session) = &mut self.state else { return };
        let Some(Busy::Unsubscribe { answer: waiter, then }) = session.busy.take() else { return };
        self.actions.push_back(Action::Listens(session.names()));
        let Some(waiter) = waiter else { return };
        match answer {
            Err(reject) => self.refuse(waiter.0, waiter.1, Code::from(reject.kind), &reject.reason),
            Ok(_) if then.is_empty() => self.answer(waiter.0, waiter.1.as_deref()),
            Ok(_) => self.ask_for(waiter, then),
        }
        self.debug_assert_invariants();
    }

    /// The hub's answer to [`Action::Subscribe`].
    pub fn handle_subscribed(&mut self, answer: Result<Vec<Result<Granted, Reject>>, Reject>) {
        let State::Open(session) = &mut self.state else { return };
        let Some(Busy::Subscribe { answer: waiter, ids }) = session.busy.take() else { return };
        let refused = match answer {
            Err(reject) => {
                session.topics.retain(|id, _| !ids.contains(id));
                Some(reject)
            }
            Ok(granted) => {
                let mut refused = None;
                for (id, granted) in ids.iter().zip(granted) {
                    if let Err(reject) = granted {
                        session.topics.remove(id);
                        refused.get_or_insert(reject);
                    }
                }
                refused
            }
        };
        self.actions.push_back(Action::Listens(session.names()));
        match refused {
            None => self.answer(waiter.0, waiter.1.as_deref()),
            Some(reject) => self.refuse(waiter.0, waiter.1, Code::from(reject.kind), &reject.reason),
        }
        self.debug_assert_invariants();
    }
}

/// The first seq of a push. SDKs take ten digits from 0 to 8 for their own, and match what comes by seq alone: with eleven
/// digits ours cannot be taken for an answer.
const FIRST_PUSH: u64 = 90_000_000_000;
