//! CONNECT and its answer (MQTT 5 §3.1.4, §3.2).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use event::access::Credentials;
use event::hub::{self, Attach};
use event::{ClientId, Principal, Reject, RejectKind};

use super::auth::Authentication;
use super::{Aliases, Connection, Now, Phase, fits};
use crate::Violation;
use crate::binding::{self, Arrival, Unbound};
use crate::codec::encode::{self, AckKind};
use crate::codec::{Connect, PacketId, Property, Reason, Version, Will};
use crate::session::{Receiving, packet_id};

/// What the client is told when the hub has bound it.
#[derive(Debug)]
pub(super) struct Welcome {
    /// What to ask next.
    pub(super) wish: Wish,
    /// When the client is told that it cannot be served now.
    pub(super) until: Instant,
    assigned: bool,
    /// The hub refuses its will, and tells those who watch over it. The client hears what is wrong with its topic.
    reserved_will: bool,
    /// Response Information is wanted.
    response_information: bool,
    session_expiry_s: Option<u32>,
    keep_alive_s: Option<u16>,
    /// What goes with the success of enhanced authentication.
    pub(super) proof: Bytes,
}

/// What a connection that is not open yet has to ask.
#[derive(Debug)]
pub(super) enum Wish {
    /// The gate.
    Admit(ClientId, Credentials, Box<Attach>),
    /// The gate was asked; this follows.
    Admitting(Box<Attach>),
    /// The hub.
    Attach(Principal, Box<Attach>),
    /// The hub was asked.
    Attaching,
}

/// What [`hub::Attached`] says beside the link.
#[derive(Clone, Debug, Default)]
pub struct Bound {
    /// An older session was taken up.
    pub present: bool,
    /// Packet ids of QoS 2 publishes that wait for PUBREL.
    pub received_ids: Vec<u16>,
    /// Numbers of QoS 2 deliveries that wait for PUBCOMP.
    pub unreleased: Vec<u64>,
}

impl Connection {
    pub(super) fn handle_connect(&mut self, connect: Connect, now: Now) -> Result<(), Violation> {
        self.version = connect.version;
        let assigned = connect.client_id.is_empty();
        // Names with `$` are those of bridges [MQTT-3.1.3-5]; an empty one needs Clean Session in 3.1.1 [MQTT-3.1.3-8].
        if connect.client_id.starts_with('$') || (assigned && !connect.clean && self.version == Version::V311)
        {
            self.refuse_connect(Reason::ClientIdNotValid, Some(2));
            return Ok(());
        }
        self.client = match assigned {
            true => Arc::from(format!("auto-{:016x}", self.stamps.take())),
            false => Arc::from(&*connect.client_id),
        };
        let reserved_will = connect.will.as_ref().is_some_and(|will| will.topic.is_reserved());
        let will = match connect.will {
            None => None,
            // 3.1.1 has no code for this; as any publish to such a topic, it is dropped.
            Some(_) if reserved_will && self.version == Version::V311 => None,
            Some(will) => match self.will(will, now) {
                Ok(will) => Some(will),
                Err(Unbound::Violation(violation)) => return Err(violation),
                Err(Unbound::Payload) => {
                    self.refuse_connect(Reason::PayloadFormatInvalid, None);
                    return Ok(());
                }
            },
        };
        let keep_alive_s = self.agree_keep_alive(connect.keep_alive_s, now);
        let aliases = self.options.topic_alias_out_max.min(connect.topic_alias_max);
        self.aliases_out = Aliases::new(aliases);
        self.problem_information = connect.problem_information;
        self.packet_max = connect.max_packet_bytes.map_or(u32::MAX, |max| max.get());
        self.deliveries_max = self.options.deliveries_max.min(connect.receive_max).get();
        let asked = match (self.version, connect.clean) {
            (Version::V5, _) => connect.session_expiry_s,
            (Version::V311, true) => 0,
            (Version::V311, false) => u32::MAX,
        };
        let (keep, session_expiry_s) = self.options.keep(asked);
        self.session_expiry_s = session_expiry_s.unwrap_or(asked);
        let client = ClientId(Arc::clone(&self.client));
        let credentials = match (connect.user, connect.password) {
            (None, None) => Credentials::None,
            (user, password) => Credentials::Password { user, password },
        };
        let protocol = match self.version {
            Version::V311 => "MQTT 3.1.1",
            Version::V5 => "MQTT 5",
        };
        let attach = Attach { clean: connect.clean, keep, will, protocol, keep_all: false };
        let attach = Box::new(attach);
        let wish = match connect.method {
            None => Wish::Admit(client, credentials, attach),
            Some(method) => {
                let data = connect.method_data;
                self.authentication = Some(Box::new(Authentication::new(&method, client, credentials, data)));
                Wish::Admitting(attach)
            }
        };
        let until = now.instant + self.options.connect_timeout();
        let welcome = Welcome {
            wish,
            until,
            assigned,
            reserved_will,
            response_information: connect.response_information,
            session_expiry_s,
            keep_alive_s,
            proof: Bytes::new(),
        };
        self.phase = Phase::Attaching(Box::new(welcome));
        Ok(())
    }

    /// The gate's answer to [`super::Action::Admit`].
    pub fn handle_admission(&mut self, answer: Result<Principal, Reject>, now: Now) {
        let Phase::Attaching(welcome) = &mut self.phase else { return };
        match (answer, std::mem::replace(&mut welcome.wish, Wish::Attaching)) {
            (Ok(who), Wish::Admitting(attach)) => {
                self.client = Arc::clone(&who.client.0);
                let until_ms = who.until_ms;
                welcome.wish = Wish::Attach(who, attach);
                self.set_proof_end(until_ms, now);
            }
            (Err(reject), Wish::Admitting(_)) => self.reject_connect(&reject),
            (_, other) => welcome.wish = other,
        }
    }

    /// The hub's answer to [`super::Action::Attach`].
    pub fn handle_attached(&mut self, answer: Result<Bound, Reject>, now: Now) {
        let bound = match answer {
            Ok(bound) => bound,
            Err(reject) => {
                let reserved_will = matches!(&self.phase, Phase::Attaching(welcome) if welcome.reserved_will);
                return if reserved_will && reject.kind == RejectKind::Denied {
                    self.refuse_connect(Reason::TopicNameInvalid, None);
                } else {
                    self.reject_connect(&reject);
                };
            }
        };
        if self.version == Version::V311 {
            self.tally.other_out += 1;
            encode::connack_311(self.output.buffer(), bound.present, 0);
        } else if !self.welcome(bound.present, true) && !self.welcome(bound.present, false) {
            // Even without what the client can do without.
            return self.refuse_connect(Reason::PacketTooLarge, None);
        }
        self.phase = Phase::Open;
        self.last_in = now.instant;
        for id in bound.received_ids {
            if let Ok(id) = PacketId::new(id) {
                self.received.set(id, Receiving::Kept);
            }
        }
        for number in bound.unreleased {
            self.deliveries.resumed(number);
            self.send_ack(AckKind::PubRel, packet_id(number), Reason::Success);
        }
        self.debug_assert_invariants();
    }

    /// Writes CONNACK of version 5. False: it is too large for the client. `all`: with what only helps.
    fn welcome(&mut self, present: bool, all: bool) -> bool {
        let Phase::Attaching(welcome) = &self.phase else { return false };
        let response = Some(&self.client).filter(|_| all && welcome.response_information);
        let response = response.and_then(|client| self.options.response_topic(client));
        let mut properties = vec![
            Property::ReceiveMaximum(self.options.inflight_max),
            Property::TopicAliasMaximum(self.options.topic_alias_max),
        ];
        if let Ok(max) = self.options.max_packet().try_into() {
            properties.push(Property::MaximumPacketSize(max));
        }
        if let Some(seconds) = welcome.session_expiry_s {
            properties.push(Property::SessionExpiry(seconds));
        }
        if let Some(seconds) = welcome.keep_alive_s {
            properties.push(Property::ServerKeepAlive(seconds));
        }
        if let Some(authentication) = &self.authentication {
            properties.extend(authentication.properties(&welcome.proof));
        }
        if welcome.assigned {
            properties.push(Property::AssignedClientId(&self.client));
        }
        properties.extend(response.as_deref().map(Property::ResponseInformation));
        let mut out = BytesMut::new();
        encode::connack(&mut out, present, Reason::Success, &properties);
        self.send(|buffer| buffer.unsplit(out))
    }

    /// The event that is published when the client is lost.
    fn will(&mut self, will: Will, now: Now) -> Result<hub::Will, Unbound> {
        let stamp = self.stamps.take();
        let arrival = Arrival { publisher: &self.client, stamp, now_ms: now.ms };
        let event = binding::event(self.version, will.topic, &will.properties, will.payload, arrival)?;
        let publish = hub::Publish { event, guarantee: will.guarantee, retain: will.retain, id: None };
        Ok(hub::Will { publish, delay: Duration::from_secs(u64::from(will.delay_s)) })
    }

    /// Sets the keep alive; returns what the client has to be told if it is not what it wanted \[MQTT-3.1.2-21\].
    fn agree_keep_alive(&mut self, wanted_s: u16, now: Now) -> Option<u16> {
        let most = self.options.keep_alive_max_s;
        let replaced = self.version == Version::V5 && most != 0 && (wanted_s == 0 || wanted_s > most);
        let seconds = if replaced { most } else { wanted_s };
        // One and a half times [MQTT-3.1.2-22].
        self.keep_alive = (seconds != 0).then(|| Duration::from_millis(u64::from(seconds) * 1500));
        self.last_in = now.instant;
        replaced.then_some(seconds)
    }

    /// Answers CONNECT with what the gate's or the hub's refusal means in either version.
    fn reject_connect(&mut self, reject: &Reject) {
        let (reason, code) = match reject.kind {
            RejectKind::Malformed => (Reason::ImplementationSpecific, 3),
            RejectKind::Unproved => (Reason::BadUserNameOrPassword, 4),
            RejectKind::Denied => (Reason::NotAuthorized, 5),
            RejectKind::Busy => (Reason::ServerBusy, 3),
            RejectKind::Unavailable | RejectKind::Closed => (Reason::ServerUnavailable, 3),
        };
        match self.version {
            Version::V5 => self.refuse_as_5(reason, &reject.reason),
            Version::V311 => self.refuse_connect(reason, Some(code)),
        }
    }

    /// Answers CONNECT with a refusal. `code`: what 3.1.1 says; `None`: it only closes.
    pub(super) fn refuse_connect(&mut self, reason: Reason, code: Option<u8>) {
        match (self.version, code) {
            (Version::V5, _) => return self.refuse_as_5(reason, ""),
            (Version::V311, Some(code)) => {
                self.tally.other_out += 1;
                encode::connack_311(self.output.buffer(), false, code);
            }
            (Version::V311, None) => {}
        }
        self.end(false);
    }

    pub(super) fn refuse_as_5(&mut self, reason: Reason, text: &str) {
        let text = Some(text).filter(|text| !text.is_empty() && fits(text, self.packet_max));
        self.send(|out| encode::connack(out, false, reason, text.map(Property::ReasonString).as_slice()));
        self.end(false);
    }
}
