//! Limits in bytes and count. Every queue in the house takes from a [`Budget`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A size in bytes, read from a number or from text such as `"64 MiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteLimit(pub u64);

impl ByteLimit {
    /// `n` kibibytes.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }
    /// `n` mebibytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
    /// `n` gibibytes.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }
    /// The size as a `usize`, saturating where addresses are shorter.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl std::fmt::Display for ByteLimit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (shift, unit) = match self.0 {
            n if n >= 1 << 30 && n.trailing_zeros() >= 30 => (30, "GiB"),
            n if n >= 1 << 20 && n.trailing_zeros() >= 20 => (20, "MiB"),
            n if n >= 1 << 10 && n.trailing_zeros() >= 10 => (10, "KiB"),
            _ => (0, "B"),
        };
        write!(f, "{} {unit}", self.0 >> shift)
    }
}

impl std::str::FromStr for ByteLimit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim() {
            "" | "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            other => return Err(format!("unknown unit {other:?}; use B, KiB, MiB or GiB")),
        };
        let number: u64 = number.parse().map_err(|_| format!("{text:?} does not start with a number"))?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(|| format!("{text:?} is more than 2^64 bytes"))
    }
}

impl Serialize for ByteLimit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteLimit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = ByteLimit;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number of bytes, or text such as \"64 MiB\"")
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<ByteLimit, E> {
                u64::try_from(value).map(ByteLimit).map_err(|_| E::custom("a size cannot be negative"))
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<ByteLimit, E> {
                Ok(ByteLimit(value))
            }
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<ByteLimit, E> {
                value.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Room in bytes and count that many holders share. Taking waits in the order of asking.
///
/// A request larger than the whole budget takes all of it, so that one large event can always pass alone.
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Arc<BudgetInner>,
}

#[derive(Debug)]
struct BudgetInner {
    bytes: Arc<Semaphore>,
    count: Arc<Semaphore>,
    bytes_max: u32,
    count_max: u32,
    closed: AtomicBool,
}

/// Room that was taken; it is given back when this is dropped.
#[derive(Debug)]
pub struct BudgetPermit {
    _bytes: OwnedSemaphorePermit,
    _count: OwnedSemaphorePermit,
}

impl Budget {
    /// A budget of `bytes` (at most 2 GiB are used, 512 MiB where addresses have 32 bits) and `count` items.
    pub fn new(bytes: ByteLimit, count: u32) -> Self {
        let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX).min(1 << 31);
        let bytes_max = u32::try_from(bytes.0).unwrap_or(u32::MAX).clamp(1, most);
        let count_max = count.clamp(1, most);
        let inner = BudgetInner {
            bytes: Arc::new(Semaphore::new(bytes_max as usize)),
            count: Arc::new(Semaphore::new(count_max as usize)),
            bytes_max,
            count_max,
            closed: AtomicBool::new(false),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Takes room without waiting.
    pub fn try_take(&self, bytes: usize, count: usize) -> Option<BudgetPermit> {
        let inner = &self.inner;
        let bytes = Arc::clone(&inner.bytes).try_acquire_many_owned(clamp(bytes, inner.bytes_max)).ok()?;
        let count = Arc::clone(&inner.count).try_acquire_many_owned(clamp(count, inner.count_max)).ok()?;
        Some(BudgetPermit { _bytes: bytes, _count: count })
    }

    /// Waits for room; `None` when the budget was closed. Cancel-safe: holds nothing until it returns.
    pub async fn take(&self, bytes: usize, count: usize) -> Option<BudgetPermit> {
        let inner = &self.inner;
        let bytes = Arc::clone(&inner.bytes).acquire_many_owned(clamp(bytes, inner.bytes_max)).await.ok()?;
        let count = Arc::clone(&inner.count).acquire_many_owned(clamp(count, inner.count_max)).await.ok()?;
        Some(BudgetPermit { _bytes: bytes, _count: count })
    }

    /// Refuses all that wait now and later.
    pub fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        self.inner.bytes.close();
        self.inner.count.close();
    }

    /// Whether [`Self::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.inner.closed.load(Ordering::Acquire)
    }
}

fn clamp(wanted: usize, most: u32) -> u32 {
    u32::try_from(wanted).unwrap_or(u32::MAX).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print() {
        for (text, bytes) in
            [("0", 0), ("12 B", 12), ("1KiB", 1024), ("64 MiB", 64 << 20), ("2 GiB", 2 << 30)]
        {
            assert_eq!(text.parse::<ByteLimit>().unwrap().0, bytes);
        }
        assert_eq!(ByteLimit::mib(64).to_string(), "64 MiB");
        assert_eq!(ByteLimit(1000).to_string(), "1000 B");
        assert!("1 MB".parse::<ByteLimit>().unwrap_err().contains("MiB"));
        assert!("99999999999 GiB".parse::<ByteLimit>().is_err());
    }

    /// With addresses of 32 bits the semaphore has less room than a budget may be asked for.
    #[test]
    fn the_largest_budget_can_be_had() {
        let budget = Budget::new(ByteLimit(u64::MAX), u32::MAX);
        assert!(budget.try_take(500 << 20, 1 << 20).is_some());
        let all = budget.try_take(usize::MAX, usize::MAX);
        assert!(all.is_some() && budget.try_take(1, 1).is_none());
    }

    #[test]
    fn a_full_budget_refuses_and_an_oversized_request_passes_alone() {
        let budget = Budget::new(ByteLimit(100), 10);
        let held = budget.try_take(60, 1).unwrap();
        assert!(budget.try_take(41, 1).is_none());
        assert!(budget.try_take(1000, 1).is_none());
        drop(held);
        assert!(budget.try_take(1000, 1).is_some());
    }
}
