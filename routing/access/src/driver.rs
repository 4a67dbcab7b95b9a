//! The gate at work: decides who comes in, checks passwords on threads of their own, follows the files. Only here, and
//! below, something is waited for.

mod files;
mod hashing;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use event::access::{Asking, Credentials, Exchange, Gate, Source};
use event::{Health, Pending, Principal, Reject, RejectKind, Rights};
use tokio::sync::watch;

use crate::attempts::Attempts;
use crate::error::FileError;
use crate::grant::{Grant, Proof, Who};
use crate::options::{Anonymous, Options};
use crate::policy::Current;
use crate::verified::Verified;
use hashing::Hashing;

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
        Ok(Self(Arc::new(Inner {
            loopback: loopback.into_iter().collect(),
            health,
            current,
            hashing: Hashing::new(&options),
            attempts: Attempts::new(options.failures_per_minute),
            verified: Verified::new(Duration::from_secs(u64::from(options.cache_s))),
            options,
        })))
    }

    /// Follows the files until `drain` turns true. Cancel-safe.
    pub async fn watch(self, drain: watch::Receiver<bool>) {
        files::watch(&self.0, drain).await;
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

    fn exchange(&self, _asking: Asking, _method: &str) -> Option<Box<dyn Exchange>> {
        None
    }
}

impl Inner {
    /// Cancel-safe.
    async fn admit(&self, asking: Asking) -> Result<Principal, Reject> {
        let Asking { client, source, credentials } = asking;
        let policy = self.current.load();
        let proved = match credentials {
            Credentials::Password { user: Some(user), password: Some(password) }
                if policy.users.is_some() =>
            {
                self.by_password(&source, &user, &password).await?
            }
            Credentials::None => None,
            Credentials::Password { .. } | Credentials::Token(_) if self.options.has_proofs() => {
                return Err(self.wrong(&source, Instant::now()));
            }
            // There is nothing to check them with.
            Credentials::Password { .. } | Credentials::Token(_) => None,
        };
        let proof = match &proved {
            None if !self.takes_anonymous(&source) => {
                return Err(Reject::new(RejectKind::Unproved, UNPROVED));
            }
            None => Proof::None,
            Some(_) => Proof::PasswordFile,
        };
        let address = source.address.ip().to_canonical();
        let who = Who { user: proved.clone(), client: client.clone(), address, proof, acl: None };
        let rights = Rights::by(Arc::new(Grant::new(who, Arc::clone(&self.current))));
        Ok(Principal { user: proved, rights, ..Principal::anonymous(client) })
    }

    fn takes_anonymous(&self, source: &Source) -> bool {
        match self.options.anonymous {
            Anonymous::Always => true,
            Anonymous::Never => false,
            Anonymous::Loopback => {
                source.address.ip().to_canonical().is_loopback() && self.loopback.contains(&source.listener)
            }
        }
    }

    /// Cancel-safe.
    async fn by_password(
        &self,
        source: &Source,
        user: &str,
        password: &[u8],
    ) -> Result<Option<Arc<str>>, Reject> {
        let policy = self.current.load();
        let Some(users) = &policy.users else { return Ok(None) };
        let seal = self.verified.seal(&[b"password", user.as_bytes(), password]);
        if let Some(user) = self.verified.find(&seal, policy.revision, Instant::now()) {
            return Ok(Some(user));
        }
        let may_try = || self.may_try(source);
        let found = self.hashing.verify(users, user, password, may_try).await?;
        let now = Instant::now();
        let Some(user) = found else { return Err(self.wrong(source, now)) };
        self.verified.keep(seal, policy.revision, Arc::clone(&user), now);
        Ok(Some(user))
    }

    /// An address that was wrong too often waits, and costs nothing meanwhile.
    fn may_try(&self, source: &Source) -> Result<(), Reject> {
        if self.attempts.wait(source.address.ip(), Instant::now()).is_zero() {
            return Ok(());
        }
        Err(Reject::new(RejectKind::Busy, "too many wrong credentials from this address; try again later"))
    }

    fn wrong(&self, source: &Source, now: Instant) -> Reject {
        self.attempts.failed(source.address.ip(), now);
        Reject::new(RejectKind::Unproved, UNPROVED)
    }
}
