//! Rates: token buckets that connections share. The time comes in; who charges a bucket waits by itself.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How much is allowed in a second, and how much at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// What flows in each second.
    pub per_second: NonZeroU64,
    /// What may be taken at once after a pause; at least 1.
    pub burst: u64,
}

impl Rate {
    /// `per_second`, and the amount of one second at once; `None` for 0, which is no limit.
    pub fn per_second(per_second: u64) -> Option<Self> {
        NonZeroU64::new(per_second).map(|rate| Self { per_second: rate, burst: per_second })
    }
}

/// A bucket of tokens that fills at a [`Rate`]. It starts full, and many may share it: no lock.
///
/// What is charged has happened, so a charge always goes through. It may leave the bucket in debt; whoever charged waits
/// until that is paid, before it takes more.
#[derive(Debug)]
pub struct Bucket {
    rate: Rate,
    start: Instant,
    /// When the bucket is full again, in nanoseconds since `start`.
    full_at: AtomicU64,
}

impl Bucket {
    /// A full bucket.
    pub fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, start: now, full_at: AtomicU64::new(0) }
    }

    /// Takes `amount` out, whatever is in it; how long until its debt is paid, zero if there is none.
    pub fn charge(&self, amount: u64, now: Instant) -> Duration {
        let (now, cost) = (self.since_start(now), self.time_of(amount));
        let later = |full_at: u64| full_at.max(now).saturating_add(cost);
        let before = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| Some(later(at)));
        self.debt(later(before.unwrap_or_else(|at| at)), now)
    }

    /// Takes `amount` out if the bucket is not in debt after it; else how long until it would not be.
    pub fn try_charge(&self, amount: u64, now: Instant) -> Result<(), Duration> {
        let (now, cost) = (self.since_start(now), self.time_of(amount));
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| {
            let later = at.max(now).saturating_add(cost);
            self.debt(later, now).is_zero().then_some(later)
        });
        taken.map(drop).map_err(|at| self.debt(at.max(now).saturating_add(cost), now))
    }

    /// How long until its debt is paid, zero if there is none.
    pub fn wait(&self, now: Instant) -> Duration {
        self.debt(self.full_at.load(Ordering::Relaxed), self.since_start(now))
    }

    /// Whether nothing is missing: a new bucket would be the same.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.load(Ordering::Relaxed) <= self.since_start(now)
    }

    fn debt(&self, full_at: u64, now: u64) -> Duration {
        let room = self.time_of(self.rate.burst.max(1));
        Duration::from_nanos(full_at.saturating_sub(now).saturating_sub(room))
    }

    /// How long `amount` takes to flow in, nanoseconds.
    fn time_of(&self, amount: u64) -> u64 {
        let nanos = u128::from(amount) * 1_000_000_000 / u128::from(self.rate.per_second.get());
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }

    fn since_start(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What one client, or one user, may send: packets (requests, frames) and bytes.
#[derive(Debug, Default)]
pub struct Meter {
    /// Packets; `None`: no limit.
    pub packets: Option<Bucket>,
    /// Bytes; `None`: no limit.
    pub bytes: Option<Bucket>,
}

/// What a connection may send: the meters of its client and of its user, which other connections share.
#[derive(Clone, Debug, Default)]
pub struct Allowance(Option<Arc<[Arc<Meter>]>>);

impl Allowance {
    /// No limit.
    pub fn unlimited() -> Self {
        Self(None)
    }

    /// As much as each of `meters` allows.
    pub fn of(meters: Vec<Arc<Meter>>) -> Self {
        Self(Some(meters).filter(|meters| !meters.is_empty()).map(Arc::from))
    }

    /// As much as this allows, and `meter` does too.
    pub fn and(&self, meter: Arc<Meter>) -> Self {
        Self::of(self.0.iter().flat_map(|meters| meters.iter().cloned()).chain([meter]).collect())
    }

    /// Charges what one read brought. Read nothing more for as long as the answer says; what was read is served, never
    /// dropped. Call it once for each read, not for each packet.
    pub fn charge(&self, packets: u64, bytes: u64, now: Instant) -> Duration {
        let mut wait = Duration::ZERO;
        for meter in self.0.iter().flat_map(|meters| meters.iter()) {
            let buckets = [(&meter.packets, packets), (&meter.bytes, bytes)];
            for (bucket, amount) in buckets.into_iter().filter_map(|(b, amount)| Some((b.as_ref()?, amount)))
            {
                wait = wait.max(bucket.charge(amount, now));
            }
        }
        wait
    }

    /// How long to read nothing, zero if something may be read now.
    pub fn wait(&self, now: Instant) -> Duration {
        let meters = self.0.iter().flat_map(|meters| meters.iter());
        let buckets = meters.flat_map(|meter| meter.packets.iter().chain(&meter.bytes));
        buckets.map(|bucket| bucket.wait(now)).max().unwrap_or(Duration::ZERO)
    }

    /// Whether there is any limit: without one, no clock has to be read to charge it.
    pub fn is_limited(&self) -> bool {
        self.0.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(per_second: u64, burst: u64, now: Instant) -> Bucket {
        let per_second = NonZeroU64::new(per_second).unwrap();
        Bucket::new(Rate { per_second, burst }, now)
    }

    #[test]
    fn a_burst_is_free_and_debt_is_paid_at_the_rate() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let bucket = bucket(100, 10, start);
        assert_eq!(bucket.charge(10, at(0)), Duration::ZERO);
        assert_eq!(bucket.charge(5, at(0)), Duration::from_millis(50));
        assert_eq!(bucket.wait(at(20)), Duration::from_millis(30));
        assert_eq!(bucket.charge(0, at(50)), Duration::ZERO);
        // 1 in 10 ms flowed in since the debt was paid.
        assert_eq!(bucket.charge(2, at(60)), Duration::from_millis(10));
        assert!(!bucket.is_full(at(100)));
        assert!(bucket.is_full(at(1000)));
        // A pause gives no more than the burst.
        assert_eq!(bucket.charge(11, at(10_000)), Duration::from_millis(10));
    }

    #[test]
    fn what_does_not_fit_is_not_taken() {
        let start = Instant::now();
        let bucket = bucket(10, 2, start);
        assert_eq!(bucket.try_charge(2, start), Ok(()));
        assert_eq!(bucket.try_charge(1, start), Err(Duration::from_millis(100)));
        assert_eq!(bucket.try_charge(1, start), Err(Duration::from_millis(100)));
        assert_eq!(bucket.try_charge(1, start + Duration::from_millis(100)), Ok(()));
    }

    #[test]
    fn an_allowance_waits_for_its_slowest_meter_and_connections_share_it() {
        let now = Instant::now();
        let meter = |packets: Option<u64>, bytes: Option<u64>| {
            let bucket = |rate: Option<u64>| rate.map(|rate| bucket(rate, rate, now));
            Arc::new(Meter { packets: bucket(packets), bytes: bucket(bytes) })
        };
        let user = meter(Some(10), None);
        let one = Allowance::of(vec![meter(None, Some(1000)), Arc::clone(&user)]);
        let other = Allowance::of(vec![user]);
        assert_eq!(one.charge(10, 1000, now), Duration::ZERO);
        assert_eq!(one.charge(0, 500, now), Duration::from_millis(500));
        assert_eq!(one.wait(now), Duration::from_millis(500));
        assert_eq!(other.charge(1, 1 << 40, now), Duration::from_millis(100));
        assert_eq!(other.wait(now), Duration::from_millis(100));
        assert_eq!(Allowance::unlimited().charge(u64::MAX, u64::MAX, now), Duration::ZERO);
        let both = Allowance::unlimited().and(meter(Some(1), None)).and(meter(None, Some(1)));
        assert_eq!(both.charge(2, 3, now), Duration::from_secs(2));
        assert!(one.is_limited() && !Allowance::of(Vec::new()).is_limited());
    }
}
