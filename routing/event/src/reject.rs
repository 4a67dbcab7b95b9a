//! The one outcome of failure that crosses crates. Each protocol maps [`RejectKind`] to its own code.

use std::borrow::Cow;

/// What the caller can do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectKind {
    /// The request itself is wrong; sending it again cannot help.
    Malformed,
    /// Credentials are missing or wrong.
    Unproved,
    /// Well formed, and not allowed.
    Denied,
    /// A limit is reached; later it may pass.
    Busy,
    /// What keeps the event cannot be reached, or failed.
    Unavailable,
    /// Weft is stopping.
    Closed,
}

impl RejectKind {
    /// The word used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unproved => "unproved",
            Self::Denied => "denied",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
            Self::Closed => "closed",
        }
    }
}

/// A refusal with its reason, in words that tell the peer or the operator what to do.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct Reject {
    /// What the caller can do next.
    pub kind: RejectKind,
    /// Lower case, no full stop, values included.
    pub reason: Cow<'static, str>,
}

impl Reject {
    /// A refusal of `kind` because of `reason`.
    pub fn new(kind: RejectKind, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, reason: reason.into() }
    }

    /// Weft is stopping.
    pub fn closed() -> Self {
        Self::new(RejectKind::Closed, "weft is stopping")
    }
}
