//! The lock of a queue that is consumed in order, sans-io: a broker gives it to one member for 60 s, and again if it is
//! asked in time.

use std::time::{Duration, Instant};

/// What is known of the lock of one queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lease {
    asked: Option<Instant>,
}

/// How old a lock may be before it is asked for again.
const RENEW: Duration = Duration::from_secs(20);
/// How long a broker keeps a lock for its holder (rebalanceLockMaxLiveTime), less some time on the way.
const OVER: Duration = Duration::from_secs(55);

impl Lease {
    /// The broker gave it; `asked` is when the request left, which is before the broker began to count.
    pub(crate) fn given(&mut self, asked: Instant) {
        self.asked = Some(asked);
    }

    /// The broker refused it, or it is given back.
    pub(crate) fn gone(&mut self) {
        self.asked = None;
    }

    /// Whether the queue is ours at `now`.
    pub(crate) fn holds(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now < asked + OVER)
    }

    /// When it has to be asked for; `None`: at once.
    pub(crate) fn renew_at(&self) -> Option<Instant> {
        self.asked.map(|asked| asked + RENEW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_renewed_before_it_is_over() {
        let (start, mut lease) = (Instant::now(), Lease::default());
        assert!(!lease.holds(start) && lease.renew_at().is_none());
        lease.given(start);
        let renew = lease.renew_at().unwrap();
        assert!(lease.holds(renew) && renew > start);
        assert!(!lease.holds(start + Duration::from_secs(60)));
        lease.given(renew);
        assert!(lease.holds(start + Duration::from_secs(60)));
        lease.gone();
        assert!(!lease.holds(renew));
    }
}
