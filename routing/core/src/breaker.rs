//! A circuit breaker for each remote store: one that failed several times in a row is left alone for a while, and its
//! publishers are told at once instead of after the store's own deadline.

use std::sync::Arc;

use event::hub::Outcome;
use event::store::Store;
use event::{Reject, RejectKind};
use metrics::{Gauge, gauge};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::options::BreakerOptions;

/// A remote store as routes know it.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) name: String,
    pub(crate) store: Store,
    breaker: Mutex<Breaker>,
    open: Gauge,
}

/// Whether a store is used.
#[derive(Clone, Copy, Debug)]
enum Breaker {
    /// It is; so many batches in a row failed.
    Closed(u32),
    /// It is not, until then.
    Open(Instant),
    /// One batch finds out whether it works again. From then on the next one may: the publisher of this one may be gone.
    Trying(Instant),
}

impl Remote {
    pub(crate) fn new((name, store): (String, Store)) -> Arc<Self> {
        let open = gauge!("weft_core_store_left_alone", "store" => name.clone());
        open.set(0.0);
        Arc::new(Self { name, store, breaker: Mutex::new(Breaker::Closed(0)), open })
    }

    /// Whether a batch may go there.
    ///
    /// # Errors
    /// The store is left alone.
    pub(crate) fn admit(&self, options: &BreakerOptions, now: Instant) -> Result<(), Reject> {
        let mut breaker = self.breaker.lock();
        match *breaker {
            Breaker::Closed(_) => Ok(()),
            // Its connector knows first that it is back.
            Breaker::Open(_) | Breaker::Trying(_) if self.store.is_up() => Ok(()),
            Breaker::Open(until) | Breaker::Trying(until) if until <= now => {
                *breaker = Breaker::Trying(now + options.pause());
                Ok(())
            }
            Breaker::Open(_) | Breaker::Trying(_) => {
                let reason =
                    format!("the store {:?} does not take events; it is tried again soon", self.name);
                Err(Reject::new(RejectKind::Unavailable, reason))
            }
        }
    }

    /// What became of a batch that went there.
    pub(crate) fn answered(&self, outcome: &Outcome, options: &BreakerOptions, now: Instant) {
        let failed = matches!(outcome, Outcome::Refused(reject) if reject.kind == RejectKind::Unavailable);
        let mut breaker = self.breaker.lock();
        let next = match *breaker {
            Breaker::Closed(_) | Breaker::Trying(_) if !failed => Breaker::Closed(0),
            Breaker::Closed(failures) if failures + 1 < options.failures => Breaker::Closed(failures + 1),
            // One that went there before the store was left alone.
            Breaker::Open(_) if !failed => Breaker::Closed(0),
            open @ Breaker::Open(_) => open,
            Breaker::Closed(_) | Breaker::Trying(_) => Breaker::Open(now + options.pause()),
        };
        let is_open = !matches!(next, Breaker::Closed(_));
        if is_open != !matches!(*breaker, Breaker::Closed(_)) {
            self.open.set(f64::from(u8::from(is_open)));
            match is_open {
                true => tracing::warn!(store = &*self.name, "does not take events; left alone for a while"),
                false => tracing::info!(store = &*self.name, "takes events again"),
            }
        }
        *breaker = next;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use event::ByteLimit;

    use super::*;

    #[test]
    fn who_fails_is_left_alone_and_tried_by_one() {
        let options = BreakerOptions { failures: 3, pause_ms: 1000 };
        let (store, ends) = event::store::store(ByteLimit::mib(1), 1);
        let (remote, up) = (Remote::new(("main".to_owned(), store)), ends.appends.up());
        up.set(false);
        let late = Outcome::Refused(Reject::new(RejectKind::Unavailable, "late"));
        let busy = Outcome::Refused(Reject::new(RejectKind::Busy, "full"));
        let mut now = Instant::now();
        let admit = |now| remote.admit(&options, now);
        let answer = |outcome: &Outcome, now| remote.answered(outcome, &options, now);
        for outcome in [&late, &late, &busy, &late, &late] {
            assert!(admit(now).is_ok());
            answer(outcome, now);
        }
        assert!(admit(now).is_ok(), "two failures in a row are not three");
        answer(&late, now);
        assert_eq!(admit(now).unwrap_err().kind, RejectKind::Unavailable);
        up.set(true);
        assert!(admit(now).is_ok(), "its connector says that it works");
        up.set(false);
        now += Duration::from_millis(1000);
        assert!(admit(now).is_ok(), "one tries");
        assert!(admit(now).is_err(), "and no other");
        answer(&late, now);
        assert!(admit(now + Duration::from_millis(999)).is_err());
        now += Duration::from_millis(1000);
        assert!(admit(now).is_ok());
        now += Duration::from_millis(1000);
        assert!(admit(now).is_ok(), "one whose answer nobody saw holds up nobody for ever");
        answer(&Outcome::Kept, now);
        assert!((0..5).all(|_| admit(now).is_ok()));
        answer(&late, now);
        assert!(admit(now).is_ok(), "it starts anew");
    }
}
