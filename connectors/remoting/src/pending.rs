//! Which request an answer belongs to.

use std::collections::BTreeMap;

/// Requests that wait for an answer, by their `opaque`, each with its deadline. Time is any rising number the caller
/// chooses (milliseconds, say); it is passed in.
#[derive(Debug)]
pub struct Pending<T> {
    next: i32,
    waiting: BTreeMap<i32, (u64, T)>,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self { next: 0, waiting: BTreeMap::new() }
    }
}

impl<T> Pending<T> {
    /// Keeps `waiter` until `deadline` and gives the `opaque` for its request, one that no other request has now.
    pub fn insert(&mut self, deadline: u64, waiter: T) -> i32 {
        while self.waiting.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1) & i32::MAX;
        }
        let opaque = self.next;
        self.next = self.next.wrapping_add(1) & i32::MAX;
        self.waiting.insert(opaque, (deadline, waiter));
        opaque
    }

    /// The waiter for the answer with this `opaque`; `None` if nobody waits (any more).
    pub fn take(&mut self, opaque: i32) -> Option<T> {
        self.waiting.remove(&opaque).map(|(_, waiter)| waiter)
    }

    /// The waiters whose deadline is `now` or earlier.
    pub fn expired(&mut self, now: u64) -> Vec<T> {
        self.waiting
            .extract_if(.., |_, (deadline, _)| *deadline <= now)
            .map(|(_, (_, waiter))| waiter)
            .collect()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_their_request_once() {
        let mut pending = Pending::default();
        let (a, b) = (pending.insert(10, "a"), pending.insert(10, "b"));
        assert_eq!((pending.take(b), pending.take(b), pending.take(a)), (Some("b"), None, Some("a")));
    }

    #[test]
    fn late_requests_are_given_up_and_their_answers_ignored() {
        let mut pending = Pending::default();
        let (a, b) = (pending.insert(10, "a"), pending.insert(20, "b"));
        assert_eq!(pending.expired(9), Vec::<&str>::new());
        assert_eq!(pending.expired(10), vec!["a"]);
        assert_eq!((pending.take(a), pending.take(b), pending.is_empty()), (None, Some("b"), true));
    }

    #[test]
    fn numbers_in_use_are_not_given_twice() {
        let mut pending = Pending { next: i32::MAX, waiting: BTreeMap::new() };
        let numbers: Vec<i32> = (0..3).map(|n| pending.insert(1, n)).collect();
        assert_eq!(numbers, [i32::MAX, 0, 1]);
        pending.next = i32::MAX;
        assert_eq!(pending.insert(1, 3), 2);
    }
}
