//! What one principal may do, by the policy that holds when it is asked.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use event::access::Rules;
use event::{TopicFilter, TopicName};

use crate::policy::{Current, Policy};

/// How a user was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It was not.
    None,
    /// By the password file: the user has to stay in it.
    PasswordFile,
}

/// Whom rules are for.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) user: Option<Arc<str>>,
    pub(crate) address: IpAddr,
    pub(crate) proof: Proof,
}

/// The rights of one principal.
#[derive(Debug)]
pub(crate) struct Grant {
    who: Who,
    current: Arc<Current>,
    decided: ArcSwap<Decided>,
}

/// What the policy of a revision says about someone.
#[derive(Debug)]
struct Decided {
    revision: u64,
    /// It is still somebody: a user that was deleted may do nothing.
    known: bool,
    administers: bool,
}

impl Grant {
    pub(crate) fn new(who: Who, current: Arc<Current>) -> Self {
        let decided = ArcSwap::from_pointee(Decided::new(&who, &current.load()));
        Self { who, current, decided }
    }

    fn decided(&self) -> arc_swap::Guard<Arc<Decided>> {
        let decided = self.decided.load();
        if decided.revision == self.current.revision() {
            return decided;
        }
        self.decided.store(Arc::new(Decided::new(&self.who, &self.current.load())));
        self.decided.load()
    }
}

impl Decided {
    fn new(who: &Who, policy: &Policy) -> Self {
        let known = match (who.proof, &who.user, &policy.users) {
            (Proof::PasswordFile, Some(user), Some(users)) => users.has(user),
            (Proof::PasswordFile, ..) => false,
            (Proof::None, ..) => true,
        };
        let administers = known && who.user.is_none() && who.address.is_loopback();
        Self { revision: policy.revision, known, administers }
    }
}

impl Rules for Grant {
    fn may_publish(&self, _topic: &TopicName) -> bool {
        self.decided().known
    }

    fn may_subscribe(&self, _filter: &TopicFilter) -> bool {
        self.decided().known
    }

    fn may_administer(&self) -> bool {
        self.decided().administers
    }

    fn revision(&self) -> u64 {
        self.current.revision()
    }
}
