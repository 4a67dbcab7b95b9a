//! The call-out: asks a service who may come in.

use std::sync::Arc;
use std::time::{Duration, Instant};

use event::access::Source;
use event::{Breaker, ClientId, Reject, RejectKind};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::acl::{Acl, Written};
use crate::certificate;
use crate::options::{CalloutOptions, Options, Silent};
use crate::verified::Verified;

/// The service, and what it said.
pub(super) struct Callout {
    options: CalloutOptions,
    client: reqwest::Client,
    open: Semaphore,
    places: Semaphore,
    breaker: Breaker,
    allowed: Verified<Allowed>,
}

/// Whom it lets in.
#[derive(Clone, Debug)]
pub(super) struct Allowed {
    pub(super) user: Option<Arc<str>>,
    pub(super) acl: Option<Arc<Acl>>,
}

/// What it is asked.
#[derive(Serialize)]
struct Question<'a> {
    client: &'a str,
    user: Option<&'a str>,
    password: Option<&'a str>,
    address: String,
    listener: &'a str,
    certificate: Option<String>,
}

/// What it answers.
#[derive(Deserialize)]
struct Answer {
    allow: bool,
    user: Option<String>,
    acl: Option<Vec<Written>>,
}

/// Answers are small; this bounds what a wrong address sends.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Who asks, with what.
#[derive(Clone, Copy)]
pub(super) struct Case<'a> {
    pub(super) client: &'a ClientId,
    pub(super) source: &'a Source,
    pub(super) user: Option<&'a str>,
    pub(super) password: &'a [u8],
}

impl Callout {
    /// `None` if there is none.
    pub(super) fn new(options: &Options, client: &reqwest::Client) -> Option<Self> {
        let callout = options.callout.clone();
        if callout.url.is_empty() {
            return None;
        }
        let open = usize::from(callout.concurrent);
        let places = usize::try_from(options.hash_queue).unwrap_or(usize::MAX >> 4).saturating_add(open);
        let pause = Duration::from_millis(u64::from(callout.pause_ms));
        Some(Self {
            client: client.clone(),
            open: Semaphore::new(open),
            places: Semaphore::new(places),
            breaker: Breaker::new(u32::from(callout.failures_max), pause),
            allowed: Verified::new(Duration::from_secs(u64::from(callout.cache_s))),
            options: callout,
        })
    }

    /// Whom it lets in; `None`: nobody. Cancel-safe.
    pub(super) async fn ask(&self, case: Case<'_>) -> Result<Option<Allowed>, Reject> {
        let address = case.source.address.ip().to_canonical().to_string();
        let (user, given) = (case.user.unwrap_or_default().as_bytes(), [u8::from(case.user.is_some())]);
        let parts = [case.client.as_str().as_bytes(), address.as_bytes(), &given, user, case.password];
        let seal = self.allowed.seal(&parts);
        if let Some(allowed) = self.allowed.find(&seal, 0, Instant::now()) {
            return Ok(Some(allowed));
        }
        let busy = |_| Reject::new(RejectKind::Busy, "too many wait to be let in; try again later");
        let _place = self.places.try_acquire().map_err(busy)?;
        let _turn = self.open.acquire().await.map_err(|_| Reject::closed())?;
        if self.breaker.may_ask(Instant::now()).is_err() {
            return self.silent(case);
        }
        match self.post(case, address).await {
            Ok(answer) => {
                self.breaker.answered();
                count(if answer.is_some() { "allow" } else { "deny" });
                if let Some(allowed) = &answer {
                    self.allowed.keep(seal, 0, allowed.clone(), Instant::now());
                }
                Ok(answer)
            }
            Err(error) => {
                if self.breaker.failed(Instant::now()) {
                    let pause_ms = self.options.pause_ms;
                    tracing::error!(
                        error,
                        pause_ms,
                        "the call-out does not answer; it is left alone for a while"
                    );
                } else {
                    tracing::warn!(error, "the call-out did not answer");
                }
                self.silent(case)
            }
        }
    }

    fn silent(&self, case: Case<'_>) -> Result<Option<Allowed>, Reject> {
        count("silent");
        match self.options.silent {
            Silent::Allow => Ok(Some(Allowed { user: case.user.map(Arc::from), acl: None })),
            Silent::Refuse => {
                let reason = "who decides about you does not answer; try again later";
                Err(Reject::new(RejectKind::Unavailable, reason))
            }
        }
    }

    async fn post(&self, case: Case<'_>, address: String) -> Result<Option<Allowed>, String> {
        let Case { client, source, user, password } = case;
        let question = Question {
            client: client.as_str(),
            user,
            password: std::str::from_utf8(password).ok(),
            address,
            listener: &source.listener,
            certificate: source.certificate.as_deref().and_then(certificate::subject),
        };
        let timeout = Duration::from_millis(u64::from(self.options.timeout_ms));
        let request = self.client.post(&self.options.url).json(&question).timeout(timeout);
        let answer = request.send().await.map_err(|error| words(&error))?;
        if answer.status() != reqwest::StatusCode::OK {
            return Err(format!("it answered {}", answer.status()));
        }
        let body = super::http::body(answer, ANSWER_BYTES_MAX).await?;
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|error| format!("its answer is wrong: {error}"))?;
        if !answer.allow {
            return Ok(None);
        }
        let acl =
            answer.acl.map(Acl::of).transpose().map_err(|error| format!("its acl is wrong: {error}"))?;
        let user = answer.user.as_deref().or(user).map(Arc::from);
        Ok(Some(Allowed { user, acl: acl.map(Arc::new) }))
    }
}

fn count(answer: &'static str) {
    metrics::counter!("weft_access_callouts_total", "answer" => answer).increment(1);
}

/// The innermost reason says most.
pub(super) fn words(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    if error.is_timeout() { "no answer in time".to_owned() } else { inner.to_string() }
}
