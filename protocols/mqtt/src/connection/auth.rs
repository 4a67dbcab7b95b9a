//! Enhanced authentication, and proofs that end (MQTT 5 §4.12).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use event::access::{Credentials, Step};
use event::{ClientId, Principal, Reject, RejectKind};

use super::{Action, Connection, Now, Phase};
use crate::Violation;
use crate::codec::{Auth, Property, Reason, encode};

/// How far the proof of a client is that named a method in CONNECT.
#[derive(Debug)]
pub(super) struct Authentication {
    method: ByteString,
    turn: Turn,
    /// Who it is that was proved first: it stays that one.
    user: Option<Arc<str>>,
}

/// Who has to do what next.
#[derive(Debug)]
enum Turn {
    /// The gate has to be asked for the method.
    Start(ClientId, Credentials, Bytes),
    /// The gate has to be told what the client said.
    Step(Bytes),
    /// The gate answers.
    Gate,
    /// The client goes on.
    Client,
    /// The hub has to be told.
    Renew(Box<Principal>),
    /// It is proved.
    Done,
}

impl Authentication {
    pub(super) fn new(method: &str, client: ClientId, credentials: Credentials, data: Bytes) -> Self {
        // A copy, because it lives as long as the connection and must not hold the read that it came in.
        Self { method: method.into(), turn: Turn::Start(client, credentials, data), user: None }
    }

    /// Whether the client has to go on.
    pub(super) fn is_of_client(&self) -> bool {
        matches!(self.turn, Turn::Client)
    }

    /// The method, and the data that goes with its success.
    pub(super) fn properties<'a>(&'a self, data: &'a [u8]) -> impl Iterator<Item = Property<'a>> {
        let data = (!data.is_empty()).then_some(Property::AuthenticationData(data));
        [Property::AuthenticationMethod(&self.method)].into_iter().chain(data)
    }

    /// What to ask or tell next.
    pub(super) fn action(&mut self) -> Option<Action> {
        match std::mem::replace(&mut self.turn, Turn::Gate) {
            Turn::Start(client, credentials, data) => {
                Some(Action::Authenticate { client, credentials, method: self.method.clone(), data })
            }
            Turn::Step(data) => Some(Action::Step(data)),
            Turn::Renew(who) => {
                self.turn = Turn::Done;
                Some(Action::Renew(*who))
            }
            waiting @ (Turn::Gate | Turn::Client | Turn::Done) => {
                self.turn = waiting;
                None
            }
        }
    }
}

impl Connection {
    /// AUTH: the next step before CONNACK, or of a new proof behind it (MQTT 5 §4.12.1).
    pub(super) fn handle_auth(&mut self, auth: Auth) -> Result<(), Violation> {
        let Some(authentication) = &mut self.authentication else { return Err(Violation::Auth) };
        if auth.method != authentication.method {
            return Err(Violation::AuthMethod);
        }
        let continues = auth.code == Reason::ContinueAuthentication.byte();
        let starts = auth.code == Reason::ReAuthenticate.byte();
        authentication.turn = match authentication.turn {
            Turn::Client if continues => Turn::Step(auth.data),
            Turn::Done if starts => {
                let client = ClientId(Arc::clone(&self.client));
                Turn::Start(client, Credentials::None, auth.data)
            }
            Turn::Start(..) | Turn::Step(_) | Turn::Gate | Turn::Client | Turn::Renew(_) | Turn::Done => {
                return Err(Violation::AuthOrder);
            }
        };
        Ok(())
    }

    /// The gate has no such method: the answer to [`Action::Authenticate`] then.
    pub fn handle_unknown_method(&mut self) {
        match self.phase {
            Phase::Attaching(_) => self.refuse_connect(Reason::BadAuthenticationMethod, None),
            // DISCONNECT has no code for the method (MQTT 5 table 3-10).
            Phase::Open => self.disconnect(Reason::NotAuthorized, None),
            Phase::Waiting(_) | Phase::Ending(_) | Phase::Over => {}
        }
    }

    /// What the gate says to [`Action::Authenticate`] or [`Action::Step`].
    pub fn handle_step(&mut self, answer: Result<Step, Reject>, now: Now) {
        let open = matches!(self.phase, Phase::Open);
        if !open && !matches!(self.phase, Phase::Attaching(_)) {
            return;
        }
        let Some(authentication) = &mut self.authentication else { return };
        match answer {
            Ok(Step::More(data)) => {
                authentication.turn = Turn::Client;
                self.send_auth(Reason::ContinueAuthentication, &data);
            }
            Ok(Step::Done(who, _)) if open && who.user != authentication.user => {
                self.disconnect(Reason::NotAuthorized, Some("another user than the one that connected"));
            }
            Ok(Step::Done(who, data)) if open => {
                let until_ms = who.until_ms;
                authentication.turn = Turn::Renew(Box::new(who));
                self.set_proof_end(until_ms, now);
                self.send_auth(Reason::Success, &data);
            }
            Ok(Step::Done(who, data)) => {
                authentication.turn = Turn::Done;
                authentication.user.clone_from(&who.user);
                if let Phase::Attaching(welcome) = &mut self.phase {
                    welcome.proof = data;
                }
                self.handle_admission(Ok(who), now);
            }
            Err(reject) if open => {
                // DISCONNECT has no code for a server that is not available (MQTT 5 table 3-10).
                let told = not_proved(reject.kind);
                let told = if told == Reason::ServerUnavailable { Reason::ServerBusy } else { told };
                self.disconnect(told, Some(&reject.reason));
            }
            Err(reject) => self.refuse_as_5(not_proved(reject.kind), &reject.reason),
        }
        self.debug_assert_invariants();
    }

    fn send_auth(&mut self, reason: Reason, data: &[u8]) {
        let Some(authentication) = &self.authentication else { return };
        let properties: Vec<Property<'_>> = authentication.properties(data).collect();
        let mut out = BytesMut::new();
        encode::auth(&mut out, reason, &properties);
        if self.send(|buffer| buffer.unsplit(out)) {
            return;
        }
        match self.phase {
            Phase::Attaching(_) => self.refuse_connect(Reason::PacketTooLarge, None),
            Phase::Open | Phase::Waiting(_) | Phase::Ending(_) | Phase::Over => {
                self.disconnect(Reason::PacketTooLarge, None);
            }
        }
    }

    /// The connection ends at `until_ms`, if the client has not proved anew by then who it is.
    pub(super) fn set_proof_end(&mut self, until_ms: Option<u64>, now: Now) {
        self.proof_end =
            until_ms.map(|until| later(now.instant, Duration::from_millis(until.saturating_sub(now.ms))));
    }
}

/// A year is as good as what no clock can show.
fn later(now: Instant, wait: Duration) -> Instant {
    now + wait.min(Duration::from_secs(365 * 24 * 3600))
}

/// What the client of an exchange is told. It need not have a user name, so there is no 0x86 here.
fn not_proved(kind: RejectKind) -> Reason {
    match kind {
        RejectKind::Malformed | RejectKind::Unproved | RejectKind::Denied => Reason::NotAuthorized,
        RejectKind::Busy => Reason::ServerBusy,
        RejectKind::Unavailable | RejectKind::Closed => Reason::ServerUnavailable,
    }
}
