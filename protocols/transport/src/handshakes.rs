//! The handshakes under way on one listener: so many and no more. When there are too many, the oldest ends: whoever answers
//! gets in, and whoever opens connections and stays silent pushes out his own kind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

#[derive(Debug)]
pub(crate) struct Handshakes {
    most: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    turns: BTreeMap<u64, oneshot::Sender<()>>,
}

/// One handshake's place. It ends when it is dropped.
#[derive(Debug)]
pub struct Turn {
    all: Arc<Handshakes>,
    number: u64,
    over: oneshot::Receiver<()>,
}

impl Handshakes {
    pub(crate) fn new(most: u32) -> Arc<Self> {
        Arc::new(Self { most: usize::try_from(most).unwrap_or(usize::MAX).max(1), open: Mutex::default() })
    }

    /// Begins one, and ends the oldest if there are too many.
    pub(crate) fn begin(self: &Arc<Self>) -> Turn {
        let (sender, over) = oneshot::channel();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let number = open.next;
        open.next = number.wrapping_add(1);
        open.turns.insert(number, sender);
        if open.turns.len() > self.most {
            // Its receiver resolves when the sender is dropped.
            open.turns.pop_first();
        }
        Turn { all: Arc::clone(self), number, over }
    }
}

impl Turn {
    /// Resolves when it has to end. Cancel-safe.
    pub(crate) async fn over(&mut self) {
        (&mut self.over).await.unwrap_or(());
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.all.open.lock().unwrap_or_else(PoisonError::into_inner).turns.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_over(turn: &mut Turn) -> bool {
        pin!(turn.over()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn the_oldest_makes_room() {
        let all = Handshakes::new(2);
        let (mut first, mut second) = (all.begin(), all.begin());
        assert!(!is_over(&mut first));
        let mut third = all.begin();
        assert!(is_over(&mut first) && !is_over(&mut second) && !is_over(&mut third));
        drop(second);
        let fourth = all.begin();
        assert!(!is_over(&mut third));
        drop((first, third, fourth));
        assert!(all.open.lock().unwrap().turns.is_empty());
    }
}
