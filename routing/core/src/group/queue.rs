//! Things by position of the log: mostly put in at the end and taken from the front. Sans-io.

use std::collections::VecDeque;

use event::store::Position;

/// Sorted by position. What was taken leaves a hole until it is at an end.
#[derive(Debug)]
pub(super) struct Queue<T> {
    slots: VecDeque<(Position, Option<T>)>,
    len: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { slots: VecDeque::new(), len: 0 }
    }
}

impl<T> Queue<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts in; what was there is replaced: then false.
    pub(super) fn insert(&mut self, position: Position, value: T) -> bool {
        let place = match self.slots.back() {
            Some((last, _)) if *last >= position => self.slots.binary_search_by_key(&position, |(at, _)| *at),
            _ => Err(self.slots.len()),
        };
        let is_new = match place {
            Ok(at) => self.slots.get_mut(at).is_some_and(|(_, slot)| slot.replace(value).is_none()),
            Err(at) => {
                self.slots.insert(at, (position, Some(value)));
                true
            }
        };
        self.len += usize::from(is_new);
        is_new
    }

    /// Takes out.
    pub(super) fn remove(&mut self, position: Position) -> Option<T> {
        let at = self.slots.binary_search_by_key(&position, |(at, _)| *at).ok()?;
        let value = self.slots.get_mut(at)?.1.take()?;
        self.len -= 1;
        while self.slots.front().is_some_and(|(_, slot)| slot.is_none()) {
            self.slots.pop_front();
        }
        if self.slots.is_empty() && self.slots.capacity() > 1024 {
            self.slots = VecDeque::new();
        }
        Some(value)
    }

    pub(super) fn get(&self, position: Position) -> Option<&T> {
        let at = self.slots.binary_search_by_key(&position, |(at, _)| *at).ok()?;
        self.slots.get(at)?.1.as_ref()
    }

    pub(super) fn get_mut(&mut self, position: Position) -> Option<&mut T> {
        let at = self.slots.binary_search_by_key(&position, |(at, _)| *at).ok()?;
        self.slots.get_mut(at)?.1.as_mut()
    }

    /// From the highest position down.
    pub(super) fn values_back_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().rev().filter_map(|(_, slot)| slot.as_mut())
    }

    /// In rising order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Position, &T)> {
        self.slots.iter().filter_map(|(position, slot)| Some((*position, slot.as_ref()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_stands_in_its_old_place() {
        let mut queue = Queue::default();
        for position in [1, 3, 5, 7] {
            queue.insert(Position(position), position);
        }
        assert_eq!(queue.remove(Position(3)), Some(3));
        assert_eq!(queue.remove(Position(1)), Some(1));
        assert_eq!((queue.remove(Position(1)), queue.remove(Position(4))), (None, None));
        queue.insert(Position(3), 30);
        queue.insert(Position(7), 70);
        assert_eq!(queue.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [30, 5, 70]);
        assert_eq!(queue.len(), 3);
    }
}
