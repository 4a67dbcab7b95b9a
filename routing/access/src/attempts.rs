//! Wrong proofs by address: who shows too many has to wait. The time comes in.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use event::{Bucket, Rate};
use parking_lot::Mutex;

/// The wrong proofs of all addresses.
#[derive(Debug)]
pub(crate) struct Attempts {
    /// A wrong proof costs one token; `None`: no limit.
    rate: Option<Rate>,
    addresses: Mutex<HashMap<IpAddr, Bucket>>,
}

/// One wrong proof. 60 flow in a minute for each that is allowed, so that the rate is a whole number a second.
const COST: u64 = 60;

/// How many addresses are remembered; then those who wait no more are forgotten, or else all.
const ADDRESSES_MAX: usize = 65_536;

impl Attempts {
    pub(crate) fn new(per_minute: u32) -> Self {
        let per_second = NonZeroU64::new(u64::from(per_minute));
        let rate = per_second.map(|rate| Rate { per_second: rate, burst: rate.get().saturating_mul(COST) });
        Self { rate, addresses: Mutex::default() }
    }

    /// How long this address has to wait before it may show the next proof; zero if it may now.
    pub(crate) fn wait(&self, address: IpAddr, now: Instant) -> Duration {
        let addresses = self.addresses.lock();
        addresses.get(&place(address)).map_or(Duration::ZERO, |bucket| bucket.wait(now))
    }

    /// A proof of this address was wrong.
    pub(crate) fn failed(&self, address: IpAddr, now: Instant) {
        let Some(rate) = self.rate else { return };
        let mut addresses = self.addresses.lock();
        if addresses.len() >= ADDRESSES_MAX {
            addresses.retain(|_, bucket| !bucket.is_full(now));
            if addresses.len() >= ADDRESSES_MAX {
                addresses.clear();
            }
        }
        addresses.entry(place(address)).or_insert_with(|| Bucket::new(rate, now)).charge(COST, now);
    }
}

/// Who has one IPv6 address usually has all of its /64.
fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_wrong_proofs_make_an_address_wait_and_no_other() {
        let attempts = Attempts::new(6);
        let now = Instant::now();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        for _ in 0..6 {
            assert_eq!(attempts.wait(ip("2001:db8::1"), now), Duration::ZERO);
            attempts.failed(ip("2001:db8::1"), now);
        }
        assert_eq!(attempts.wait(ip("2001:db8::1"), now), Duration::ZERO);
        attempts.failed(ip("2001:db8::1"), now);
        assert_eq!(attempts.wait(ip("2001:db8::2"), now), Duration::from_secs(10));
        assert_eq!(attempts.wait(ip("2001:db8:0:1::1"), now), Duration::ZERO);
        assert_eq!(attempts.wait(ip("2001:db8::1"), now + Duration::from_secs(10)), Duration::ZERO);
        let free = Attempts::new(0);
        (0..1000).for_each(|_| free.failed(ip("127.0.0.1"), now));
        assert_eq!(free.wait(ip("127.0.0.1"), now), Duration::ZERO);
    }
}
