//! The gate at work: decides who comes in, checks passwords on threads of their own, asks others, follows the files. Only
//! here, and below, something is waited for.

mod callout;
mod exchange;
mod files;
mod hashing;
mod http;
mod jwks;

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use event::access::{Asking, Credentials, Exchange, Gate, Source};
use event::{Audit, ClientId, Health, Pending, Principal, Reject, RejectKind, Rights};
use tokio::sync::watch;

use crate::acl::Acl;
use crate::attempts::Attempts;
use crate::certificate::CertificateName;
use crate::error::FileError;
use crate::grant::{Grant, Proof, Who};
use crate::meters::{Meters, Name};
use crate::options::{Anonymous, Options, given};
use crate::policy::Current;
use crate::token::{self, TokenError};
use crate::verified::Verified;
use callout::{Callout, Case};
use hashing::Hashing;
use jwks::Jwks;

/// The gate. Cloning shares it.
#[derive(Clone)]
pub struct Access(Arc<Inner>);

struct Inner {
    options: Options,
    /// The names of the listeners that only this machine reaches.
    loopback: HashSet<Arc<str>>,
    health: Health,
    current: Arc<Current>,
    hashing: Hashing,
    attempts: Attempts,
    verified: Verified<Arc<str>>,
    jwks: Option<Jwks>,
    callout: Option<Callout>,
    meters: Meters,
    /// Told of files that changed, once there is one.
    audit: OnceLock<Audit>,
}

/// Who somebody turned out to be.
struct Proved {
    user: Option<Arc<str>>,
    proof: Proof,
    until_ms: Option<u64>,
    acl: Option<Arc<Acl>>,
}

impl Proved {
    fn user(user: Arc<str>, proof: Proof) -> Self {
        Self { user: Some(user), proof, until_ms: None, acl: None }
    }

    const NOBODY: Self = Self { user: None, proof: Proof::Other, until_ms: None, acl: None };
}

/// Why someone is refused; the peer hears no more than this.
const UNPROVED: &str = "credentials are missing or wrong";

impl Access {
    /// Opens the gate. `loopback`: the names of the listeners that only this machine reaches.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn open(
        options: Options,
        loopback: impl IntoIterator<Item = Arc<str>>,
        health: Health,
    ) -> Result<Self, FileError> {
        let current = Arc::new(Current::default());
        current.replace(files::read(&options)?);
        let asks = !options.callout.url.is_empty() || !options.jwt.jwks_url.is_empty();
        let client = asks.then(http::client).transpose().map_err(FileError::Client)?;
        let client = client.as_ref();
        Ok(Self(Arc::new(Inner {
            loopback: loopback.into_iter().collect(),
            current,
            hashing: Hashing::new(&options),
            attempts: Attempts::new(options.failures_per_minute),
            verified: Verified::new(Duration::from_secs(u64::from(options.cache_s))),
            jwks: client.and_then(|client| Jwks::new(&options.jwt, client, &health)),
            callout: client.and_then(|client| Callout::new(&options, client)),
            meters: Meters::new(options.client_rates, options.user_rates),
            audit: OnceLock::new(),
            health,
            options,
        })))
    }

    /// Reads the files that `options` name, and nothing else: whether [`Access::open`] would take them.
    ///
    /// # Errors
    /// A file that cannot be used.
    pub fn check(options: &Options) -> Result<(), FileError> {
        files::read(options).map(drop)
    }

    /// Follows files and keys until `drain` turns true. Cancel-safe.
    pub async fn watch(self, drain: watch::Receiver<bool>) {
        let keys = async {
            if let Some(jwks) = &self.0.jwks {
                jwks.run(drain.clone()).await;
            }
        };
        tokio::join!(files::watch(&self.0, drain.clone()), keys);
    }

    /// From now on `audit` is told of files that changed. Once; any other is ignored.
    pub fn tells(&self, audit: Audit) {
        self.0.audit.set(audit).unwrap_or(());
    }

    /// Who may see `/metrics`.
    pub fn metrics(&self) -> crate::options::Metrics {
        self.0.options.metrics
    }
}

impl Gate for Access {
    fn admit(&self, asking: Asking) -> Pending<Principal> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move {
            let answer = inner.admit(asking).await;
            let outcome = answer.as_ref().err().map_or("admitted", |reject| reject.kind.as_str());
            metrics::counter!("weft_access_admissions_total", "outcome" => outcome).increment(1);
            answer
        })
    }

    fn exchange(&self, asking: Asking, method: &str) -> Option<Box<dyn Exchange>> {
        if method != exchange::METHOD {
            return None;
        }
        let scram = exchange::Scram::start(Arc::clone(&self.0), asking)?;
        Some(Box::new(scram))
    }
}

impl Inner {
    /// Cancel-safe.
    async fn admit(&self, asking: Asking) -> Result<Principal, Reject> {
        let Asking { client, source, credentials } = asking;
        let proved = self.prove(&client, &source, credentials).await?;
        self.principal(client, &source, proved)
    }

    /// The principal that somebody is, if it does not come too often.
    fn principal(&self, client: ClientId, source: &Source, proved: Proved) -> Result<Principal, Reject> {
        let Proved { user, proof, until_ms, acl } = proved;
        let address = source.address.ip().to_canonical();
        let name = match is_made(&client) {
            true => Name::Address(address),
            false => Name::Client(Arc::clone(&client.0)),
        };
        let allowance = self.meters.connect(name, user.as_ref(), Instant::now()).map_err(|_| {
            Reject::new(RejectKind::Busy, "this client or user connects too often; try again later")
        })?;
        let who = Who { user: user.clone(), client: client.clone(), address, proof, acl };
        // Who may do everything and always will needs no rules.
        let is_free = user.is_none() && address.is_loopback() && given(&self.options.acl_file).is_none();
        let rights = match is_free && who.acl.is_none() {
            true => Rights::all(),
            false => Rights::by(Arc::new(Grant::new(who, Arc::clone(&self.current)))),
        };
        let peer = Some(source.peer());
        Ok(Principal { user, peer, rights, until_ms, allowance, ..Principal::anonymous(client) })
    }

    /// Cancel-safe.
    async fn prove(&self, client: &ClientId, source: &Source, shown: Credentials) -> Result<Proved, Reject> {
        match shown {
            Credentials::Token(token) if self.options.jwt.is_on() => {
                self.by_token(client, source, &token).await
            }
            Credentials::Password { password: Some(password), .. }
                if self.options.jwt.is_on() && token::is_like(&password) =>
            {
                let token = std::str::from_utf8(&password).map_err(|_| self.wrong(source))?;
                self.by_token(client, source, token).await
            }
            Credentials::Password { user: Some(user), password: Some(password) } => {
                self.by_password(client, source, &user, &password).await
            }
            Credentials::Token(token) if self.callout.is_some() => {
                self.by_callout(client, source, None, token.as_bytes()).await
            }
            Credentials::Token(_) if self.options.has_proofs() => Err(self.wrong(source)),
            Credentials::Password { .. } | Credentials::None | Credentials::Token(_) => {
                self.by_certificate(source)
            }
        }
    }

    /// Without a password: by certificate, or as nobody where that is allowed.
    fn by_certificate(&self, source: &Source) -> Result<Proved, Reject> {
        if let Some(certificate) = &source.certificate
            && self.options.certificate != CertificateName::Off
        {
            let name = self.options.certificate.of(certificate).ok_or_else(|| {
                tracing::info!(peer = %source.address, "the client certificate has no name of the kind access.certificate asks for");
                self.wrong(source)
            })?;
            return Ok(Proved::user(Arc::from(name), Proof::Other));
        }
        let takes_anonymous = match self.options.anonymous {
            Anonymous::Always => true,
            Anonymous::Never => false,
            Anonymous::Loopback => {
                source.address.ip().to_canonical().is_loopback() && self.loopback.contains(&source.listener)
            }
        };
        takes_anonymous.then_some(Proved::NOBODY).ok_or(Reject::new(RejectKind::Unproved, UNPROVED))
    }

    /// Cancel-safe.
    async fn by_password(
        &self,
        client: &ClientId,
        source: &Source,
        user: &str,
        password: &[u8],
    ) -> Result<Proved, Reject> {
        let policy = self.current.load();
        let users = match &policy.users {
            Some(users) if self.callout.is_none() || users.has(user) => users,
            _ if self.callout.is_some() => {
                return self.by_callout(client, source, Some(user), password).await;
            }
            _ if self.options.has_proofs() => return Err(self.wrong(source)),
            // There is nothing to check it with.
            _ => return self.by_certificate(source),
        };
        let seal = self.verified.seal(&[user.as_bytes(), password]);
        if let Some(user) = self.verified.find(&seal, policy.revision, Instant::now()) {
            return Ok(Proved::user(user, Proof::PasswordFile));
        }
        let found = self.hashing.verify(users, user, password, || self.may_try(source)).await?;
        let user = found.ok_or_else(|| self.wrong(source))?;
        self.verified.keep(seal, policy.revision, Arc::clone(&user), Instant::now());
        Ok(Proved::user(user, Proof::PasswordFile))
    }

    /// Cancel-safe.
    async fn by_callout(
        &self,
        client: &ClientId,
        source: &Source,
        user: Option<&str>,
        password: &[u8],
    ) -> Result<Proved, Reject> {
        let Some(callout) = &self.callout else { return Err(self.wrong(source)) };
        self.may_try(source)?;
        let allowed = callout.ask(Case { client, source, user, password }).await?;
        let allowed = allowed.ok_or_else(|| self.wrong(source))?;
        Ok(Proved { user: allowed.user, proof: Proof::Other, until_ms: None, acl: allowed.acl })
    }

    /// Cancel-safe.
    async fn by_token(&self, client: &ClientId, source: &Source, token: &str) -> Result<Proved, Reject> {
        let options = &self.options.jwt;
        let chosen = (!is_made(client)).then_some(client.as_str());
        let verify = || {
            let (policy, fetched) = (self.current.load(), self.jwks.as_ref().map(Jwks::keys));
            let fetched = fetched.unwrap_or_default();
            token::verify(&[&policy.keys, &fetched], token, chosen, options)
        };
        let mut verified = verify();
        if let (Err(TokenError::UnknownKey(_)), Some(jwks)) = (&verified, &self.jwks) {
            self.may_try(source)?;
            jwks.refresh().await;
            verified = verify();
        }
        match verified {
            Ok(token::Proved { user, until_ms }) => {
                let until_ms = Some(until_ms).filter(|_| options.disconnect);
                Ok(Proved { until_ms, ..Proved::user(user, Proof::Other) })
            }
            Err(error @ TokenError::OtherClient) => {
                tracing::debug!(%error, %client, peer = %source.address, "token refused");
                Err(Reject::new(RejectKind::Denied, "these credentials are for another client id"))
            }
            Err(error @ (TokenError::UnknownKey(_) | TokenError::Wrong(_))) => {
                tracing::debug!(%error, %client, peer = %source.address, "token refused");
                Err(self.wrong(source))
            }
        }
    }

    /// An address that was wrong too often waits, and costs nothing meanwhile.
    fn may_try(&self, source: &Source) -> Result<(), Reject> {
        if self.attempts.wait(source.address.ip(), Instant::now()).is_zero() {
            return Ok(());
        }
        Err(Reject::new(RejectKind::Busy, "too many wrong credentials from this address; try again later"))
    }

    fn wrong(&self, source: &Source) -> Reject {
        self.attempts.failed(source.address.ip(), Instant::now());
        Reject::new(RejectKind::Unproved, UNPROVED)
    }
}

/// Whether Weft made the client id, because a request has none: clients cannot take names that begin with `$`.
fn is_made(client: &ClientId) -> bool {
    client.as_str().starts_with('$')
}
