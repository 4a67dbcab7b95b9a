//! What each client and each user may send: meters that their connections share. The time comes in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use event::{Allowance, Bucket, Meter, Rate};
use parking_lot::Mutex;

use crate::options::Rates;

/// The meters of all clients and users.
#[derive(Debug)]
pub(crate) struct Meters {
    clients: Kind<Name>,
    users: Kind<Arc<str>>,
}

/// Whose meter it is: a client that named itself, or the address of one whose name Weft made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    Client(Arc<str>),
    Address(IpAddr),
}

#[derive(Debug)]
struct Kind<K> {
    rates: Rates,
    all: Mutex<All<K>>,
}

#[derive(Debug)]
struct All<K> {
    meters: HashMap<K, Arc<Own>>,
    /// When as many are there, those that nobody needs are forgotten.
    sweep_at: usize,
}

#[derive(Debug)]
struct Own {
    connects: Option<Bucket>,
    sends: Arc<Meter>,
}

const SWEEP_MIN: usize = 1024;

impl<K: std::hash::Hash + Eq> Kind<K> {
    fn new(rates: Rates) -> Self {
        Self { rates, all: Mutex::new(All { meters: HashMap::new(), sweep_at: SWEEP_MIN }) }
    }

    /// The meters of `key`; `None` without limits.
    fn of(&self, key: K, now: Instant) -> Option<Arc<Own>> {
        if self.rates == Rates::default() {
            return None;
        }
        let mut all = self.all.lock();
        if all.meters.len() >= all.sweep_at {
            all.meters.retain(|_, own| own.is_needed(now));
            all.sweep_at = (all.meters.len() * 2).max(SWEEP_MIN);
        }
        let bucket = |rate: u32| Rate::per_second(u64::from(rate)).map(|rate| Bucket::new(rate, now));
        let make = || {
            let bytes = Rate::per_second(self.rates.bytes_per_second.0).map(|rate| Bucket::new(rate, now));
            let sends = Meter { packets: bucket(self.rates.packets_per_second), bytes };
            Arc::new(Own { connects: bucket(self.rates.connects_per_second), sends: Arc::new(sends) })
        };
        Some(Arc::clone(all.meters.entry(key).or_insert_with(make)))
    }
}

impl Own {
    /// Somebody sends by it, or a new one would allow more.
    fn is_needed(&self, now: Instant) -> bool {
        let mut buckets = self.connects.iter().chain(&self.sends.packets).chain(&self.sends.bytes);
        Arc::strong_count(&self.sends) > 1 || buckets.any(|bucket| !bucket.is_full(now))
    }

    fn may_connect(&self, now: Instant) -> bool {
        self.connects.as_ref().is_none_or(|bucket| bucket.try_charge(1, now).is_ok())
    }
}

/// Too many connections began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooOften;

impl Meters {
    pub(crate) fn new(clients: Rates, users: Rates) -> Self {
        Self { clients: Kind::new(clients), users: Kind::new(users) }
    }

    /// Begins a connection of `client` for `user`: what the two may send.
    pub(crate) fn connect(
        &self,
        client: Name,
        user: Option<&Arc<str>>,
        now: Instant,
    ) -> Result<Allowance, TooOften> {
        let client = self.clients.of(client, now);
        let user = user.and_then(|user| self.users.of(Arc::clone(user), now));
        let all = [client, user];
        if all.iter().flatten().any(|own| !own.may_connect(now)) {
            return Err(TooOften);
        }
        let limited = |own: &Arc<Own>| own.sends.packets.is_some() || own.sends.bytes.is_some();
        let sends = all.iter().flatten().filter(|own| limited(own)).map(|own| Arc::clone(&own.sends));
        Ok(Allowance::of(sends.collect()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use event::ByteLimit;

    use super::*;

    fn client(name: &str) -> Name {
        Name::Client(Arc::from(name))
    }

    #[test]
    fn a_user_shares_over_connections_and_a_reconnect_gives_nothing_back() {
        let users = Rates { bytes_per_second: ByteLimit(100), ..Rates::default() };
        let meters = Meters::new(Rates::default(), users);
        let (now, alice) = (Instant::now(), Arc::from("alice"));
        let one = meters.connect(client("1"), Some(&alice), now).unwrap();
        assert_eq!(one.charge(1, 200, now), Duration::from_secs(1));
        let two = meters.connect(client("2"), Some(&alice), now).unwrap();
        assert_eq!(two.wait(now), Duration::from_secs(1));
        drop((one, two));
        assert_eq!(meters.connect(client("1"), Some(&alice), now).unwrap().wait(now), Duration::from_secs(1));
        assert!(!meters.connect(client("1"), None, now).unwrap().is_limited());
    }

    #[test]
    fn who_connects_too_often_is_refused() {
        let clients = Rates { connects_per_second: 2, ..Rates::default() };
        let meters = Meters::new(clients, Rates::default());
        let now = Instant::now();
        assert!(
            meters.connect(client("a"), None, now).is_ok() && meters.connect(client("a"), None, now).is_ok()
        );
        assert_eq!(meters.connect(client("a"), None, now).unwrap_err(), TooOften);
        assert!(meters.connect(client("b"), None, now).is_ok());
        assert!(meters.connect(client("a"), None, now + Duration::from_millis(500)).is_ok());
    }

    #[test]
    fn what_nobody_needs_is_forgotten() {
        let clients = Rates { packets_per_second: 10, ..Rates::default() };
        let meters = Meters::new(clients, Rates::default());
        let now = Instant::now();
        let held = meters.connect(client("held"), None, now).unwrap();
        for at in 0..10 * SWEEP_MIN {
            meters.connect(client(&at.to_string()), None, now).unwrap();
        }
        assert!(meters.clients.all.lock().meters.len() <= SWEEP_MIN);
        held.charge(30, 0, now);
        assert_eq!(meters.connect(client("held"), None, now).unwrap().wait(now), Duration::from_secs(2));
    }
}
