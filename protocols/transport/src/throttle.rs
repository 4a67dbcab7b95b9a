//! Reads as fast as a rate allows, and no faster: the socket's buffer fills, and the peer has to wait.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use event::{Bucket, Rate};
use tokio::io::ReadBuf;
use tokio::time::{Instant, Sleep, sleep};

/// The byte rate of one connection. Each of its streams has one of its own; they share the rate.
#[derive(Debug)]
pub struct Throttle {
    bucket: Arc<Bucket>,
    /// The most that one read may bring, so that no debt is long.
    most: usize,
    pause: Pin<Box<Sleep>>,
    pausing: bool,
}

impl Throttle {
    pub(crate) fn new(rate: Rate) -> Self {
        let bucket = Arc::new(Bucket::new(rate, Instant::now().into_std()));
        Self::of(bucket, usize::try_from(rate.burst).unwrap_or(usize::MAX).max(1))
    }

    fn of(bucket: Arc<Bucket>, most: usize) -> Self {
        Self { bucket, most, pause: Box::pin(sleep(std::time::Duration::ZERO)), pausing: false }
    }

    /// For another stream of the same connection.
    pub fn another(&self) -> Self {
        Self::of(Arc::clone(&self.bucket), self.most)
    }

    /// Calls `read` when something may be read, with room for no more than that.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        read: impl FnOnce(&mut Context<'_>, &mut ReadBuf<'_>) -> Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        let most = ready!(self.poll_room(cx)).min(buf.remaining());
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
        ready!(read(cx, &mut part))?;
        let came = part.filled().len();
        buf.advance(came);
        self.charge(came);
        Poll::Ready(Ok(()))
    }

    /// Ready when something may be read, with the most that may be.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<usize> {
        if self.pausing && self.pause.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.pausing = false;
        Poll::Ready(self.most)
    }

    /// So much was read.
    fn charge(&mut self, bytes: usize) {
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
