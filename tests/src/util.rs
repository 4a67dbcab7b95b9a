//! Small things that every test needs: free ports, seeded randomness, waiting for something to become true.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long a test waits for what has to come: longer than any part takes on a busy machine. The slowest is a broker of RocketMQ
/// that took the last heartbeat of a killed client after it saw its connection end: it counts the client for two minutes more, and
/// looks every ten seconds.
pub const PATIENCE: Duration = Duration::from_secs(200);

/// An address on loopback that nothing listens on. Below the range of the ports that the system gives to clients, so
/// that a program that is killed and started again finds its port free.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let base = std::process::id().wrapping_mul(97);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = 21_000 + base.wrapping_add(step) % 9_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port).unwrap()));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Waits until `check` yields something; panics with `what` after [`PATIENCE`].
pub async fn eventually<T, F>(what: &str, mut check: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        if let Some(found) = check().await {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        pause(Duration::from_millis(20)).await;
    }
}

/// Lets `time` pass: for loads with a rate, kills at random moments, and intervals between looks. Never to give
/// something time to happen: wait for it with [`eventually`].
pub async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

/// The seed of this run: `WEFT_TEST_SEED`, or `default`. Printed, so that a failure shows it.
pub fn seed(default: u64) -> u64 {
    let seed = std::env::var("WEFT_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    eprintln!("WEFT_TEST_SEED={seed}");
    seed
}

/// A seeded generator (splitmix64): the same seed gives the same run as far as the test decides.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator that starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number of `range`.
    pub fn within(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.draw() % (range.end - range.start)
    }

    /// A time between `from` and `to` milliseconds.
    pub fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.within(from..to))
    }
}
