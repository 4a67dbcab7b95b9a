//! Repeats of publishes, known by `source` and `id` (CloudEvents §3.1: together they are unique), for routes that ask for it.
//!
//! A name is open from its publish until the dispatcher passes the record, which holds the name as well: so what is known is a
//! function of the log, as everything else is. While it is open nobody can say whether the event will be kept, and a repeat is
//! asked to come again; once it is known, a repeat is answered as the first one was.

#![expect(clippy::async_yields_async, reason = "an admission resolves to a receipt, which is awaited later")]

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use bytes::{BufMut, Bytes, BytesMut};
use event::Event;
use event::hub::{Admission, Receipt};
use foldhash::fast::RandomState;
use serde::{Deserialize, Serialize};

use crate::shared::Shared;

/// What names an event: a digest of `source` and `id`. Long enough that nobody finds another event with the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Name([u8; 16]);

impl Name {
    /// `None` for a plain publish: it has neither.
    pub(crate) fn of(event: &Event) -> Option<Self> {
        let attributes = event.attributes()?;
        let mut digest = Context::new(&SHA256);
        digest.update(&(attributes.source.len() as u64).to_le_bytes());
        digest.update(attributes.source.as_bytes());
        digest.update(attributes.id.as_bytes());
        digest.finish().as_ref().first_chunk().copied().map(Self)
    }
}

/// A name, and until when its repeats are known, milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Once {
    pub(crate) name: Name,
    pub(crate) until_ms: u64,
}

/// The kind of a note that begins with a name.
pub(crate) const UNIQUE: u8 = 4;
/// Kind, time, name.
const PREFIX: usize = 1 + 8 + 16;

impl Once {
    /// The note with this name before it.
    pub(crate) fn mark(self, note: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(PREFIX + note.len());
        out.put_u8(UNIQUE);
        out.put_u64_le(self.until_ms);
        out.put_slice(&self.name.0);
        out.put_slice(note);
        out.freeze()
    }

    /// The name before a note, if there is one, and what is behind it.
    pub(crate) fn split(note: &[u8]) -> (Option<Self>, &[u8]) {
        let read = || {
            let (prefix, rest) = note.split_first_chunk::<PREFIX>()?;
            let (kind, prefix) = prefix.split_first()?;
            let (until, name) = prefix.split_first_chunk::<8>()?;
            let name = Name(*name.first_chunk()?);
            (*kind == UNIQUE).then_some((Self { name, until_ms: u64::from_le_bytes(*until) }, rest))
        };
        read().map_or((None, note), |(once, rest)| (Some(once), rest))
    }
}

/// What a publish with a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The first one.
    New,
    /// A repeat of one that is kept.
    Known,
    /// A repeat of one that is being kept.
    Open,
}

/// For how long a name stays open whose publisher is gone, before it may be published again.
const OPEN_MS: u64 = 60_000;

/// Names that are known.
#[derive(Debug, Default)]
pub(crate) struct Unique {
    of: HashMap<Name, Standing, RandomState>,
    /// By their end.
    ends: BTreeSet<(u64, Name)>,
}

#[derive(Clone, Copy, Debug)]
struct Standing {
    until_ms: u64,
    open: bool,
}

impl Unique {
    /// A publish with this name has come. If it is new, the name is open now.
    pub(crate) fn claim(&mut self, name: Name, now_ms: u64) -> Claim {
        while let Some((until_ms, ended)) = self.ends.first().copied().filter(|(until, _)| *until <= now_ms) {
            self.ends.remove(&(until_ms, ended));
            self.of.remove(&ended);
        }
        match self.of.get(&name) {
            Some(Standing { open: true, .. }) => Claim::Open,
            Some(_) => Claim::Known,
            None => {
                self.set(name, Standing { until_ms: now_ms.saturating_add(OPEN_MS), open: true });
                Claim::New
            }
        }
    }

    /// The event of this name is kept. `most`: names that are known at a time; tells how many were forgotten for it.
    pub(crate) fn kept(&mut self, once: Once, most: usize) -> u64 {
        self.set(once.name, Standing { until_ms: once.until_ms, open: false });
        let mut forgotten = 0;
        while self.of.len() > most
            && let Some((_, name)) = self.ends.pop_first()
        {
            self.of.remove(&name);
            forgotten += 1;
        }
        forgotten
    }

    /// The event of this name was refused: it may come again.
    pub(crate) fn refused(&mut self, name: Name) {
        if let Some(Standing { until_ms, .. }) = self.of.get(&name).copied().filter(|standing| standing.open)
        {
            self.ends.remove(&(until_ms, name));
            self.of.remove(&name);
        }
    }

    /// How many names are known.
    pub(crate) fn count(&self) -> usize {
        self.of.len()
    }

    /// Names that are known, behind the one that ends at `after`, at most `most`.
    pub(crate) fn piece(&self, after: Option<Once>, most: usize) -> Vec<Once> {
        let from = after.map_or(Bound::Unbounded, |once| Bound::Excluded((once.until_ms, once.name)));
        let kept = self
            .ends
            .range((from, Bound::Unbounded))
            .filter(|(_, name)| self.of.get(name).is_some_and(|standing| !standing.open));
        kept.take(most).map(|(until_ms, name)| Once { name: *name, until_ms: *until_ms }).collect()
    }

    fn set(&mut self, name: Name, standing: Standing) {
        if let Some(old) = self.of.insert(name, standing) {
            self.ends.remove(&(old.until_ms, name));
        }
        self.ends.insert((standing.until_ms, name));
    }
}

/// Claims of a batch: the place of each in it.
pub(crate) type Claims = Vec<(usize, Name)>;

/// Takes back the claims of what is refused.
pub(crate) fn settle(shared: &Arc<Shared>, claims: Claims, admission: Admission) -> Admission {
    let shared = Arc::clone(shared);
    let joined = |receipt: Receipt| {
        Receipt::joined(async move {
            let outcome = receipt.await;
            let mut unique = shared.unique.lock();
            for (place, name) in claims {
                if outcome.of(place).is_err() {
                    unique.refused(name);
                }
            }
            outcome
        })
    };
    match admission {
        Admission::Admitted(receipt) => Admission::Admitted(joined(receipt)),
        Admission::Waiting(waiting) => Admission::Waiting(Box::pin(async move { joined(waiting.await) })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u8) -> Name {
        Name([n; 16])
    }

    #[test]
    fn a_name_is_known_once_it_is_kept_and_until_its_end() {
        let mut unique = Unique::default();
        assert_eq!(unique.claim(name(1), 1000), Claim::New);
        assert_eq!(unique.claim(name(1), 1000), Claim::Open);
        unique.refused(name(1));
        assert_eq!(unique.claim(name(1), 1000), Claim::New);
        assert_eq!(unique.kept(Once { name: name(1), until_ms: 5000 }, 10), 0);
        unique.refused(name(1));
        assert_eq!(unique.claim(name(1), 4999), Claim::Known);
        assert_eq!(unique.claim(name(1), 5000), Claim::New);
        assert_eq!(
            unique.claim(name(2), 5000 + OPEN_MS),
            Claim::New,
            "a claim nobody settles ends by itself"
        );
        assert_eq!((unique.count(), unique.ends.len()), (1, 1));
    }

    #[test]
    fn what_ends_first_is_forgotten_first() {
        let mut unique = Unique::default();
        for (n, until_ms) in [(1, 900), (2, 100), (3, 500)] {
            unique.kept(Once { name: name(n), until_ms }, 3);
        }
        assert_eq!(unique.kept(Once { name: name(4), until_ms: 700 }, 3), 1);
        let pieces = |after| unique.piece(after, 2).iter().map(|once| once.name).collect::<Vec<_>>();
        assert_eq!(pieces(None), [name(3), name(4)]);
        assert_eq!(pieces(Some(Once { name: name(4), until_ms: 700 })), [name(1)]);
    }

    #[test]
    fn a_name_stands_before_a_note() {
        let once = Once { name: name(7), until_ms: 0x0102 };
        let note = once.mark(&[1, 2, 3]);
        assert_eq!(Once::split(&note), (Some(once), &[1, 2, 3][..]));
        for other in [&[][..], &[1, 2], &note[..PREFIX - 1]] {
            assert_eq!(Once::split(other), (None, other));
        }
    }
}
