//! Who is behind reads the log by turns, so that thousands that come back at once hold up nobody else, and have no more
//! of it in memory than those whose turn it is.

use std::sync::Arc;

use event::{Pending, Reject};
use tokio::sync::{Semaphore, oneshot};

/// So many read at the same time, in the order in which they asked.
pub(crate) struct Turns(Arc<Semaphore>);

impl Turns {
    /// At least one, whatever is said.
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS))))
    }

    /// Reads when it is its turn; not at all if the answer is not waited for any more.
    pub(crate) fn read<T: Send + 'static>(&self, read: Pending<T>) -> Pending<T> {
        let turns = Arc::clone(&self.0);
        let (reply, answer) = oneshot::channel();
        // In a task of its own: a connection that is stuck must not keep its turn from others.
        tokio::spawn(async move {
            let _turn = turns.acquire_owned().await;
            if !reply.is_closed() {
                reply.send(read.await).unwrap_or(());
            }
        });
        Box::pin(async move { answer.await.map_err(|_| Reject::closed())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_does_not_look_at_its_answer_holds_up_nobody() {
        let turns = Turns::new(1);
        let stuck = turns.read(Box::pin(async { Ok(1) }));
        let gone = turns.read::<()>(Box::pin(async { panic!("nobody waits for it") }));
        drop(gone);
        assert_eq!(turns.read(Box::pin(async { Ok(2) })).await.unwrap(), 2);
        assert_eq!(stuck.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn no_more_than_so_many_read_at_once() {
        let turns = Turns::new(2);
        let (first, one) = oneshot::channel::<()>();
        let (second, two) = oneshot::channel::<()>();
        let wait = |channel: oneshot::Receiver<()>| -> Pending<()> {
            Box::pin(async { channel.await.map_err(|_| Reject::closed()) })
        };
        let (reads, more) = ([turns.read(wait(one)), turns.read(wait(two))], Arc::clone(&turns.0));
        let mut third = turns.read(Box::pin(async { Ok(()) }));
        while more.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(third.as_mut().poll(&mut cx).is_pending());
        first.send(()).unwrap();
        third.await.unwrap();
        second.send(()).unwrap();
        for read in reads {
            read.await.unwrap();
        }
    }
}
