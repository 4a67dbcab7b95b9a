//! The settings of the embedded log.

use event::{ByteLimit, TopicFilter};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::OpenError;

/// How the log uses the disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Size of one file of the log. Default "64 MiB"; "64 KiB" to "4 GiB". Space is freed one whole file at a time: smaller
    /// files free it sooner, larger ones are fewer.
    #[schemars(with = "String")]
    pub segment_bytes: ByteLimit,
    /// How long events that nobody waits for stay readable (for replay), seconds. Default 604800 (a week); 0: no limit by
    /// age. A file is freed when all in it is older.
    pub retain_age_s: u64,
    /// How much of the log stays readable once nobody waits for it. Default "1 GiB"; 0: no limit by size. Events that a
    /// session or bridge still waits for are kept beyond both limits, up to `max_bytes`.
    #[schemars(with = "String")]
    pub retain_bytes: ByteLimit,
    /// Topics whose events stay readable longer or shorter than the others: `[[store.retain]]` with `topic` (a filter) and
    /// `age_s`. The first that matches decides. Default none. A file is freed when all in it may go.
    pub retain: Vec<Retain>,
    /// The most that the log may take of the disk. Default "16 GiB"; at least four times `segment_bytes`. When it is full of
    /// events that somebody waits for, new events are refused as "busy", or the oldest are dropped: see `when_full` of a
    /// route. One sixteenth is left for acknowledgements.
    #[schemars(with = "String")]
    pub max_bytes: ByteLimit,
    /// Events waiting in memory to be written. Default "64 MiB"; "64 KiB" to "2 GiB". At the limit publishers wait.
    #[schemars(with = "String")]
    pub queue_bytes: ByteLimit,
    /// Batches waiting in memory to be written. Default 4096; 1 to 1000000. At the limit publishers wait.
    pub queue_batches: u32,
    /// How far ahead of the last event a file is filled with zeros, so that most syncs write no metadata. Default "4 MiB";
    /// 0 to "64 MiB". Without it syncs take about twice as long; with much of it each new stretch costs a longer one. A write
    /// of 16 KiB and more is not worth it: it grows the file itself.
    #[schemars(with = "String")]
    pub prewrite_bytes: ByteLimit,
    /// Events that need no sync for their answer are synced after this time all the same, milliseconds. Default 1000;
    /// 10 to 60000. A power cut costs at most so much of them.
    pub sync_idle_ms: u64,
}

/// How long the events of some topics stay readable once nobody waits for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retain {
    /// Topic filter, such as "audit/#".
    #[schemars(with = "String")]
    pub topic: TopicFilter,
    /// At least so long, in place of `retain_age_s` and whatever `retain_bytes` says, up to `max_bytes`; seconds. 0: no limit
    /// by age.
    pub age_s: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: ByteLimit::mib(64),
            retain_age_s: 7 * 24 * 3600,
            retain_bytes: ByteLimit::gib(1),
            retain: Vec::new(),
            max_bytes: ByteLimit::gib(16),
            queue_bytes: ByteLimit::mib(64),
            queue_batches: 4096,
            prewrite_bytes: ByteLimit::mib(4),
            sync_idle_ms: 1000,
        }
    }
}

impl Options {
    /// Whether every value is in its range; the error names the first that is not.
    pub fn check(&self) -> Result<(), OpenError> {
        let kib = |n| ByteLimit::kib(n).0;
        let gib = |n| ByteLimit::gib(n).0;
        range("segment_bytes", self.segment_bytes.0, kib(64), gib(4))?;
        range("queue_bytes", self.queue_bytes.0, kib(64), gib(2))?;
        range("queue_batches", self.queue_batches.into(), 1, 1_000_000)?;
        range("prewrite_bytes", self.prewrite_bytes.0, 0, ByteLimit::mib(64).0)?;
        range("sync_idle_ms", self.sync_idle_ms, 10, 60_000)?;
        range("max_bytes", self.max_bytes.0, self.segment_bytes.0.saturating_mul(4), u64::MAX)
    }
}

fn range(key: &'static str, value: u64, least: u64, most: u64) -> Result<(), OpenError> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(OpenError::Option { key, value, least, most }) }
}
