//! Reads as fast as a rate allows, and no faster: the socket's buffer fills, and the peer has to wait.

use std::pin::Pin;
use std::task::{Context, Poll};

use event::{Bucket, Rate};
use tokio::time::{Instant, Sleep, sleep};

/// The byte rate of one connection.
#[derive(Debug)]
pub(crate) struct Throttle {
    bucket: Bucket,
    /// The most that one read may bring, so that no debt is long.
    most: usize,
    pause: Pin<Box<Sleep>>,
    pausing: bool,
}

impl Throttle {
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            bucket: Bucket::new(rate, Instant::now().into_std()),
            most: usize::try_from(rate.burst).unwrap_or(usize::MAX).max(1),
            pause: Box::pin(sleep(std::time::Duration::ZERO)),
            pausing: false,
        }
    }

    /// Ready when something may be read, with the most that may be.
    pub(crate) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if self.pausing && self.pause.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.pausing = false;
        Poll::Ready(self.most)
    }

    /// So much was read.
    pub(crate) fn charge(&mut self, bytes: usize) {
        let now = Instant::now();
        let wait = self.bucket.charge(bytes as u64, now.into_std());
        if !wait.is_zero() {
            self.pause.as_mut().reset(now + wait);
            self.pausing = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_read_too_fast_is_waited_for() {
        let mut throttle = Throttle::new(Rate::per_second(1000).unwrap());
        let start = Instant::now();
        assert_eq!(poll_fn(|cx| throttle.poll_room(cx)).await, 1000);
        throttle.charge(1000);
        assert_eq!(poll_fn(|cx| throttle.poll_room(cx)).await, 1000);
        assert_eq!(start.elapsed(), Duration::ZERO, "the burst is free");
        throttle.charge(500);
        assert_eq!(poll_fn(|cx| throttle.poll_room(cx)).await, 1000);
        let waited = start.elapsed();
        assert!((500..=502).contains(&waited.as_millis()), "{waited:?} of virtual time");
    }
}
