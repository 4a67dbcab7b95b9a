//! Credentials that were found right, remembered for a short time: a password costs milliseconds, this does not. The time
//! comes in. What is kept is a keyed hash, so that nobody can read passwords out of it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use parking_lot::Mutex;

/// Credentials found right, and what they stand for.
pub(crate) struct Verified<T> {
    key: hmac::Key,
    keep: Duration,
    entries: Mutex<HashMap<Seal, Entry<T>>>,
}

/// A keyed hash of credentials.
pub(crate) type Seal = [u8; 32];

struct Entry<T> {
    until: Instant,
    /// The policy it was found under.
    revision: u64,
    value: T,
}

/// How many are kept; then old ones are forgotten, or else all.
const ENTRIES_MAX: usize = 65_536;

impl<T: Clone> Verified<T> {
    /// Remembers for `keep`; nothing if it is zero.
    pub(crate) fn new(keep: Duration) -> Self {
        let mut key = [0; 32];
        // Without random numbers nothing is remembered.
        let keep = aws_lc_rs::rand::fill(&mut key).map_or(Duration::ZERO, |()| keep);
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key), keep, entries: Mutex::default() }
    }

    /// The seal of credentials, given in parts.
    pub(crate) fn seal(&self, parts: &[&[u8]]) -> Seal {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let mut seal = [0; 32];
        seal.copy_from_slice(context.sign().as_ref());
        seal
    }

    /// What these credentials stand for, if they were found right under the policy `revision` not long ago.
    pub(crate) fn find(&self, seal: &Seal, revision: u64, now: Instant) -> Option<T> {
        let entries = self.entries.lock();
        let entry = entries.get(seal)?;
        (entry.revision == revision && entry.until > now).then(|| entry.value.clone())
    }

    /// They are right.
    pub(crate) fn keep(&self, seal: Seal, revision: u64, value: T, now: Instant) {
        if self.keep.is_zero() {
            return;
        }
        let mut entries = self.entries.lock();
        if entries.len() >= ENTRIES_MAX {
            entries.retain(|_, entry| entry.revision == revision && entry.until > now);
            if entries.len() >= ENTRIES_MAX {
                entries.clear();
            }
        }
        entries.insert(seal, Entry { until: now + self.keep, revision, value });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_right_is_known_for_a_time_and_under_one_policy() {
        let verified = Verified::new(Duration::from_secs(60));
        let now = Instant::now();
        let seal = verified.seal(&[b"alice", b"secret"]);
        assert_ne!(seal, verified.seal(&[b"alices", b"ecret"]));
        verified.keep(seal, 1, "alice", now);
        assert_eq!(verified.find(&seal, 1, now + Duration::from_secs(59)), Some("alice"));
        assert_eq!(verified.find(&seal, 1, now + Duration::from_secs(60)), None);
        assert_eq!(verified.find(&seal, 2, now), None);
        let off = Verified::new(Duration::ZERO);
        off.keep(off.seal(&[b"a"]), 1, "a", now);
        assert_eq!(off.find(&off.seal(&[b"a"]), 1, now), None);
    }
}
