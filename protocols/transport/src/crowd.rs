//! How many connections one address has, and how fast it makes new ones.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use event::{Bucket, Rate};

use crate::network::Host;

/// The connections of each address. Memory is bounded: an address without a connection is forgotten when its rate allows, or
/// when there are too many.
#[derive(Debug)]
pub(crate) struct Crowd {
    /// Open connections of one address; 0: no limit.
    most: u32,
    rate: Option<Rate>,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    hosts: BTreeMap<Host, Entry>,
    /// At how many hosts to look for those that may be forgotten.
    sweep_at: usize,
}

#[derive(Debug)]
struct Entry {
    open: u32,
    made: Option<Bucket>,
}

/// Why an address gets no further connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TooMany {
    Open,
    Fast,
}

impl Crowd {
    /// `None` if neither is limited.
    pub(crate) fn new(most: u32, rate: Option<Rate>) -> Option<Self> {
        (most > 0 || rate.is_some()).then(|| Self { most, rate, book: Mutex::default() })
    }

    /// A connection of `address` begins. What came in has to [`Crowd::leave`].
    pub(crate) fn enter(&self, address: IpAddr, now: Instant) -> Result<(), TooMany> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.sweep(now);
        let made = || self.rate.map(|rate| Bucket::new(rate, now));
        let entry = book.hosts.entry(Host::of(address)).or_insert_with(|| Entry { open: 0, made: made() });
        if self.most > 0 && entry.open >= self.most {
            return Err(TooMany::Open);
        }
        if entry.made.as_ref().is_some_and(|made| made.try_charge(1, now).is_err()) {
            return Err(TooMany::Fast);
        }
        entry.open = entry.open.saturating_add(1);
        Ok(())
    }

    /// A connection of `address` that came in has ended.
    pub(crate) fn leave(&self, address: IpAddr) {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let host = Host::of(address);
        let Some(entry) = book.hosts.get_mut(&host) else { return };
        entry.open = entry.open.saturating_sub(1);
        if entry.open == 0 && entry.made.is_none() {
            book.hosts.remove(&host);
        }
    }
}

impl Book {
    /// Forgets who makes no difference, and at the limit all without a connection.
    fn sweep(&mut self, now: Instant) {
        if self.hosts.len() < self.sweep_at.max(SWEEP_MIN) {
            return;
        }
        let is_full = |made: &Option<Bucket>| made.as_ref().is_none_or(|made| made.is_full(now));
        self.hosts.retain(|_, entry| entry.open > 0 || !is_full(&entry.made));
        if self.hosts.len() >= GONE_MAX {
            self.hosts.retain(|_, entry| entry.open > 0);
        }
        self.sweep_at = self.hosts.len().saturating_mul(2).min(self.hosts.len().saturating_add(GONE_MAX));
    }
}

const SWEEP_MIN: usize = 1024;

/// Addresses without a connection that are remembered for their rate: some 8 MiB.
const GONE_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    #[test]
    fn each_address_has_its_own_count() {
        let now = Instant::now();
        let crowd = Crowd::new(2, None).unwrap();
        assert_eq!((crowd.enter(ONE, now), crowd.enter(ONE, now)), (Ok(()), Ok(())));
        assert_eq!(crowd.enter(ONE, now), Err(TooMany::Open));
        assert_eq!(crowd.enter(OTHER, now), Ok(()));
        crowd.leave(ONE);
        assert_eq!(crowd.enter(ONE, now), Ok(()));
        crowd.leave(OTHER);
        assert_eq!(crowd.book.lock().unwrap().hosts.len(), 1);
        assert!(Crowd::new(0, None).is_none());
    }

    #[test]
    fn each_address_has_its_own_rate_which_a_disconnect_does_not_reset() {
        let now = Instant::now();
        let crowd = Crowd::new(0, Rate::per_second(2)).unwrap();
        for _ in 0..2 {
            assert_eq!(crowd.enter(ONE, now), Ok(()));
            crowd.leave(ONE);
        }
        assert_eq!(crowd.enter(ONE, now), Err(TooMany::Fast));
        assert_eq!(crowd.enter(OTHER, now), Ok(()));
        assert_eq!(crowd.enter(ONE, now + Duration::from_millis(500)), Ok(()));
    }

    #[test]
    fn addresses_that_are_gone_do_not_pile_up() {
        let now = Instant::now();
        let crowd = Crowd::new(0, Rate::per_second(1)).unwrap();
        for address in 0..3 * u32::try_from(GONE_MAX).unwrap() {
            let address = IpAddr::V4(address.into());
            crowd.enter(address, now).unwrap();
            crowd.leave(address);
        }
        assert!(crowd.book.lock().unwrap().hosts.len() <= 2 * GONE_MAX);
        crowd.enter(ONE, now + Duration::from_secs(60)).unwrap();
    }
}
