//! What the files say, as a whole: replaced whole when one of them changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use crate::acl::Acl;
use crate::passwords::Users;
use crate::token::Keys;

/// What the files say.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    /// Rises with each change.
    pub(crate) revision: u64,
    /// The users of the password file, if there is one.
    pub(crate) users: Option<Arc<Users>>,
    /// The keys of files that tokens are checked with.
    pub(crate) keys: Keys,
    /// The rules of the ACL file, if there is one.
    pub(crate) acl: Option<Arc<Acl>>,
}

/// The policy that holds now.
#[derive(Debug, Default)]
pub(crate) struct Current {
    policy: ArcSwap<Policy>,
    /// That of `policy`, for those who only want to know whether it is still the one they know.
    revision: AtomicU64,
}

impl Current {
    pub(crate) fn load(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Replaces the policy; what was decided by the old one is decided anew. One caller at a time.
    pub(crate) fn replace(&self, policy: Policy) {
        let revision = self.revision().wrapping_add(1);
        self.policy.store(Arc::new(Policy { revision, ..policy }));
        self.revision.store(revision, Ordering::Release);
    }
}
