//! What publishes and deliveries are booked under.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::notes::{ROUTE, TENANT};

/// What publishes and deliveries are booked under: the route that they went by, and the tenant of the publisher. Each of both
/// is a digest of its name, which is the same in each run. It stands in the log with each event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Account(u64);

/// A tenant, by a digest of its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Tenant(u32);

impl Tenant {
    /// Who belongs to no tenant.
    pub(crate) const NONE: Self = Self(0);

    /// The one of this name.
    pub(crate) fn named(name: &str) -> Self {
        Self(digest(name))
    }

    /// As the key of a name: no route has it.
    pub(crate) fn account(self) -> Account {
        Account::NONE.of(self)
    }
}

/// FNV-1a. What Weft says of itself has lower numbers.
fn digest(name: &str) -> u32 {
    let step = |digest: u32, byte: u8| (digest ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    name.bytes().fold(0x811c_9dc5, step).max(16)
}

impl Account {
    /// What no rule matched.
    pub(crate) const NONE: Self = Self(0);
    /// Retained events for new subscriptions.
    pub(crate) const RETAINED: Self = Self(1);
    /// What replays found.
    pub(crate) const REPLAY: Self = Self(2);
    /// What Weft says about itself.
    pub(crate) const SYSTEM: Self = Self(3);
    /// What a remote store brought for a shared subscription over several nodes.
    pub(crate) const FED: Self = Self(4);
    /// Those of no rules, with their names.
    pub(crate) const OWN: [(Self, &'static str); 5] = [
        (Self::NONE, "(none)"),
        (Self::RETAINED, "(retained)"),
        (Self::REPLAY, "(replay)"),
        (Self::SYSTEM, "(system)"),
        (Self::FED, "(node)"),
    ];

    /// That of a route, and no tenant.
    pub(crate) fn route(name: &str) -> Self {
        Self(digest(name).into())
    }

    /// The same route, for a tenant.
    pub(crate) fn of(self, Tenant(tenant): Tenant) -> Self {
        Self(u64::from(tenant) << 32 | self.0 & u64::from(u32::MAX))
    }

    /// Whose it is.
    pub(crate) fn tenant(self) -> Tenant {
        Tenant((self.0 >> 32) as u32)
    }

    /// What is shown of a route, or a tenant alone, whose name nobody knows.
    pub(crate) fn digest(self) -> u64 {
        match self.0 & u64::from(u32::MAX) {
            0 => self.0 >> 32,
            route => route,
        }
    }

    /// The note of what is booked under it.
    pub(crate) fn mark(self, note: Bytes) -> Bytes {
        if self == Self::NONE {
            return note;
        }
        let mut out = BytesMut::with_capacity(9 + note.len());
        match u32::try_from(self.0) {
            Ok(route) => {
                out.put_u8(ROUTE);
                out.put_u32_le(route);
            }
            Err(_) => {
                out.put_u8(TENANT);
                out.put_u64_le(self.0);
            }
        }
        out.put_slice(&note);
        out.freeze()
    }

    /// Reads what [`Self::mark`] puts before a note, and gives what stands behind it.
    pub(crate) fn split(note: &[u8]) -> (Self, &[u8]) {
        let read = match note.split_first() {
            Some((&ROUTE, rest)) => {
                rest.split_first_chunk().map(|(route, rest)| (u32::from_le_bytes(*route).into(), rest))
            }
            Some((&TENANT, rest)) => {
                rest.split_first_chunk().map(|(both, rest)| (u64::from_le_bytes(*both), rest))
            }
            _ => None,
        };
        read.map_or((Self::NONE, note), |(account, rest)| (Self(account), rest))
    }
}
