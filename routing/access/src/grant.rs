//! What one principal may do, by the policy that holds when it is asked.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use event::access::Rules;
use event::audit;
use event::{ClientId, TopicFilter, TopicName};

use crate::acl::{Acl, Program, Subject};
use crate::policy::{Current, Policy};

/// How a user was proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// By a token, a certificate, a call-out; or not at all.
    Other,
    /// By the password file: the user has to stay in it.
    PasswordFile,
}

/// Whom rules are for.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) user: Option<Arc<str>>,
    pub(crate) client: ClientId,
    pub(crate) address: IpAddr,
    pub(crate) proof: Proof,
    /// Rules that came with the proof, in place of those of the file.
    pub(crate) acl: Option<Arc<Acl>>,
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
    may: May,
    administers: bool,
}

#[derive(Debug)]
enum May {
    Everything,
    /// A user that was deleted.
    Nothing,
    What(Arc<Program>),
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
            (Proof::Other, ..) => true,
        };
        let subject =
            Subject { user: who.user.as_deref(), client: who.client.as_str(), address: who.address };
        let may = match who.acl.as_ref().or(policy.acl.as_ref()) {
            _ if !known => May::Nothing,
            None => May::Everything,
            Some(acl) => May::What(acl.program(subject)),
        };
        let administers = match &policy.acl {
            _ if !known => false,
            Some(acl) => acl.administers(who.user.as_deref()),
            // As long as nobody says who administers, it is whoever sits at this machine.
            None => who.user.is_none() && who.address.is_loopback(),
        };
        Self { revision: policy.revision, may, administers }
    }
}

impl Rules for Grant {
    fn may_publish(&self, topic: &TopicName) -> bool {
        match &self.decided().may {
            May::Everything => true,
            May::Nothing => false,
            May::What(program) => program.may_publish(topic),
        }
    }

    fn may_subscribe(&self, filter: &TopicFilter) -> bool {
        let decided = self.decided();
        match &decided.may {
            // Without rules nobody said who may see that.
            May::Everything => decided.administers || !audit::shows(filter),
            May::Nothing => false,
            May::What(program) => program.may_subscribe(filter),
        }
    }

    fn may_administer(&self) -> bool {
        self.decided().administers
    }

    fn revision(&self) -> u64 {
        self.current.revision()
    }
}
