//! Runs that follow from a seed.

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Chances that a seed decides (SplitMix64): the same seed, the same run.
#[derive(Clone, Copy, Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let a = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let b = (a ^ (a >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        b ^ (b >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }
}

/// Calls `run` with each of 256 seeds and the number of steps, on a thread for each core, and says how to run the seed that
/// failed alone. `WEFT_SIM_SEED` starts at another seed, `WEFT_SIM_SEEDS` and `WEFT_SIM_STEPS` widen it.
pub fn seeds(steps: u64, run: impl Fn(u64, u64) + Sync) {
    let first = setting("WEFT_SIM_SEED", 1);
    let steps = setting("WEFT_SIM_STEPS", steps);
    let (next, end) = (AtomicU64::new(first), first + setting("WEFT_SIM_SEEDS", 256));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed, steps))) {
                eprintln!("failed with WEFT_SIM_SEED={seed} WEFT_SIM_SEEDS=1 WEFT_SIM_STEPS={steps}");
                next.store(end, Ordering::Relaxed);
                resume_unwind(panic);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
}

fn setting(name: &str, default: u64) -> u64 {
    let number = |text: String| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}"));
    std::env::var(name).map_or(default, number)
}
