//! What the configuration names and what runs for it as a durable session: webhooks and bridges. Such parts come, change and go
//! while Weft runs. What they do is theirs ([`Part`]); here is how one plan follows another on the same session.

mod driver;
mod file;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use event::hub::Hub;
use event::{Health, Principal, TopicFilter};
use tokio::sync::watch;

pub use driver::Parts;
pub use file::{File, FileError};

/// How one part runs, known to be right: starting it cannot fail.
pub trait Part: Send + Sync + Sized + 'static {
    /// Where it is said how the part is, whatever plan holds.
    type Standing: Standing;
    /// What the sessions of such parts begin with; the name follows.
    const SESSIONS: &'static str;
    /// How long one may take to end when Weft stops.
    const LAST_WORD: Duration;

    /// Whether it has a session. Without one, an older one of its name ends.
    fn has_session(&self) -> bool;

    /// Does what it is for, until `place.over` turns true; then it finishes, or gives back, what is under way. `subscribed`:
    /// what its session may have subscribed so far, to be kept up to date. Not cancel-safe: events that are out go again.
    fn run(
        self: Arc<Self>,
        place: Place<Self::Standing>,
        subscribed: &mut Vec<TopicFilter>,
    ) -> impl Future<Output = ()> + Send;
}

/// Where a plan holds.
pub struct Place<S> {
    /// The name of the part.
    pub name: Arc<str>,
    /// Whose session it is.
    pub who: Principal,
    /// The core.
    pub hub: Arc<dyn Hub>,
    /// Where it is said how it is.
    pub standing: Arc<S>,
    /// Turns true when the plan does not hold any more.
    pub over: watch::Receiver<bool>,
}

/// How a part is, for `/ready` and `/metrics`.
pub trait Standing: Send + Sync + 'static {
    /// That of the part `name`. Nothing is said before [`Self::begin`].
    fn new(name: &str, health: &Health) -> Self;

    /// There is such a part from now on, or other settings are to hold for it. It is down, for `reason`, until they do.
    fn begin(&self, reason: &str);

    /// There is no such part any more, and nothing is said of it, whatever still comes to an end.
    fn end(&self);
}

/// The parts that are to be from now on. By name; `None`: that one stays as it is.
pub type Plans<P> = BTreeMap<String, Option<P>>;
