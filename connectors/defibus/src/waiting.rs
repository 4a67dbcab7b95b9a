//! What waits under a name until a time: requests for their reply, and requesters for our answer.

use std::collections::BTreeMap;

use bytestring::ByteString;

/// Things that wait, each under its name and until its deadline. Time is any rising number the caller chooses.
#[derive(Debug)]
pub struct Waiting<T> {
    max: usize,
    by_name: BTreeMap<ByteString, (u64, T)>,
    by_deadline: BTreeMap<(u64, ByteString), ()>,
}

/// As many wait as may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} wait already, which is the limit")]
pub struct Full(pub usize);

impl<T> Waiting<T> {
    /// For at most `max`.
    pub fn new(max: usize) -> Self {
        Self { max, by_name: BTreeMap::new(), by_deadline: BTreeMap::new() }
    }

    /// Lets `what` wait under `name`, instead of what waited there.
    ///
    /// # Errors
    /// Too many wait; `what` is dropped.
    pub fn insert(&mut self, name: ByteString, deadline: u64, what: T) -> Result<(), Full> {
        self.take(&name);
        if self.by_name.len() >= self.max {
            return Err(Full(self.max));
        }
        self.by_deadline.insert((deadline, name.clone()), ());
        self.by_name.insert(name, (deadline, what));
        self.debug_assert_invariants();
        Ok(())
    }

    /// Takes what waits under `name`.
    pub fn take(&mut self, name: &str) -> Option<T> {
        let (name, (deadline, what)) = self.by_name.remove_entry(name)?;
        self.by_deadline.remove(&(deadline, name));
        self.debug_assert_invariants();
        Some(what)
    }

    /// Takes everything whose deadline is `now` or earlier.
    pub fn expired(&mut self, now: u64) -> Vec<T> {
        let mut expired = Vec::new();
        while let Some(((deadline, name), ())) = self.by_deadline.first_key_value()
            && *deadline <= now
        {
            let name = name.clone();
            expired.extend(self.take(&name));
        }
        expired
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<u64> {
        self.by_deadline.first_key_value().map(|((deadline, _), ())| *deadline)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    fn debug_assert_invariants(&self) {
        debug_assert_eq!(self.by_name.len(), self.by_deadline.len());
        debug_assert!(self.by_name.len() <= self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_taken_once_or_expires() {
        let mut waiting = Waiting::new(2);
        waiting.insert("a".into(), 10, 1).unwrap();
        waiting.insert("b".into(), 5, 2).unwrap();
        assert_eq!(waiting.insert("c".into(), 7, 3), Err(Full(2)));
        waiting.insert("a".into(), 6, 4).unwrap();
        assert_eq!((waiting.len(), waiting.next_deadline()), (2, Some(5)));
        assert_eq!((waiting.take("a"), waiting.take("a")), (Some(4), None));
        assert_eq!((waiting.expired(4), waiting.expired(5)), (vec![], vec![2]));
        assert!(waiting.is_empty() && waiting.next_deadline().is_none());
    }
}
