//! SCRAM-SHA-256 against the password file, for clients that can prove a password without showing it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use bytes::Bytes;
use event::access::{Asking, Exchange, Source, Step};
use event::{ClientId, Pending, Reject};

use super::{Inner, Proved};
use crate::grant::Proof;
use crate::scram::{Challenge, ClientFirst, ScramSecret};

/// The name of the method (RFC 7677 §3).
pub(super) const METHOD: &str = "SCRAM-SHA-256";

/// One exchange.
pub(super) struct Scram {
    gate: Arc<Inner>,
    client: ClientId,
    source: Source,
    state: State,
}

enum State {
    /// The client has to name its user; it may have started without.
    First {
        asked: bool,
    },
    /// The client has to prove its password. `None`: no such user, and that is not shown.
    Challenged(Challenge, Option<Arc<str>>),
    Over,
}

impl Scram {
    /// `None` when no user has a secret for it.
    pub(super) fn start(gate: Arc<Inner>, asking: Asking) -> Option<Self> {
        gate.current.load().users.as_ref()?.scram_any()?;
        let Asking { client, source, .. } = asking;
        Some(Self { gate, client, source, state: State::First { asked: false } })
    }

    fn advance(&mut self, data: &[u8]) -> Result<Step, Reject> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::First { asked: false } if data.is_empty() => {
                self.state = State::First { asked: true };
                Ok(Step::More(Bytes::new()))
            }
            State::First { .. } => self.challenge(data),
            State::Challenged(challenge, user) => {
                let told = challenge.verify(data).map_err(|error| self.wrong(&error.to_string()))?;
                let user = user.ok_or_else(|| self.wrong("no such user"))?;
                let proved = Proved::user(user, Proof::PasswordFile);
                let who = self.gate.principal(self.client.clone(), &self.source, proved)?;
                Ok(Step::Done(who, Bytes::from(told)))
            }
            State::Over => Err(self.wrong("the exchange is over")),
        }
    }

    fn challenge(&mut self, data: &[u8]) -> Result<Step, Reject> {
        self.gate.may_try(&self.source)?;
        let first = ClientFirst::parse(data).map_err(|error| self.wrong(&error.to_string()))?;
        let policy = self.gate.current.load();
        let users = policy.users.as_ref().ok_or_else(|| self.wrong("no password file"))?;
        let secret = users.scram(first.user()).cloned();
        let user = secret.is_some().then(|| Arc::from(first.user()));
        // The same salt each time, as if there were such a user.
        let decoy = || {
            let seal = self.gate.verified.seal(&[b"scram", first.user().as_bytes()]);
            ScramSecret::decoy(seal, users.scram_any())
        };
        let mut nonce = [0; 18];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| self.wrong("the system has no random numbers"))?;
        let challenge = first.challenge(secret.unwrap_or_else(decoy), &BASE64.encode(nonce));
        let text = Bytes::copy_from_slice(challenge.text().as_bytes());
        self.state = State::Challenged(challenge, user);
        Ok(Step::More(text))
    }

    fn wrong(&self, why: &str) -> Reject {
        tracing::debug!(peer = %self.source.address, why, "SCRAM-SHA-256 failed");
        self.gate.wrong(&self.source)
    }
}

impl Exchange for Scram {
    fn step(&mut self, data: Bytes) -> Pending<Step> {
        let answer = self.advance(&data);
        match &answer {
            Ok(Step::More(_)) => {}
            Ok(Step::Done(..)) => count("admitted"),
            Err(reject) => count(reject.kind.as_str()),
        }
        Box::pin(std::future::ready(answer))
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("weft_access_admissions_total", "outcome" => outcome).increment(1);
}
