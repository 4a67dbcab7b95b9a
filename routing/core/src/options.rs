//! The settings of the core.

use std::collections::BTreeMap;
use std::time::Duration;

use event::{ByteLimit, is_dead_letter_place};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Strategy;

/// Limits of sessions, queues and retained events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Events that one session may have waiting or unacknowledged, by count. Default 100000; at least 1. At the limit
    /// `queue_full` says what happens. Bridges are exempt: the disk is their limit. As many may wait for a shared
    /// subscription; more are dropped.
    pub queue_events: u32,
    /// The same by bytes of data. Default "256 MiB". The log holds them; a session without this limit could fill
    /// the disk for all.
    #[schemars(with = "String")]
    pub queue_bytes: ByteLimit,
    /// What happens when the queue of a session is full: "drop-newest" (default) drops what comes, "drop-oldest" drops
    /// what waits longest and was not sent yet, "disconnect" drops what comes and ends the connection (MQTT 5: 0x97), so
    /// that the client sees it. "wait" drops nothing: what comes waits in the log, until that is full (`store.max_bytes`;
    /// then `when_full` of the route holds) or `backlog_events` is reached. What is dropped is counted in
    /// `weft_core_events_dropped_total`.
    pub queue_full: QueueFull,
    /// Data of events that one session holds in memory for events that must arrive; more is read from the log when it
    /// is due. Default "1 MiB".
    #[schemars(with = "String")]
    pub queue_memory_bytes: ByteLimit,
    /// Data of QoS 0 events that may wait for one slow reader. Default "4 MiB". At the limit new ones are dropped for
    /// this reader and counted.
    #[schemars(with = "String")]
    pub live_bytes: ByteLimit,
    /// How long a batch of QoS 0 publishes waits for a reader that is behind but fast: one that empties a quarter of
    /// `live_bytes` in 250 ms. Milliseconds; default 250; 0 drops at once; at most 1000. Slower readers make nobody wait.
    pub live_wait_ms: u32,
    /// Data of events in the memory of all sessions together. Default "256 MiB". At the limit QoS 0 events are dropped
    /// and counted, all others are read from the log when they are due.
    #[schemars(with = "String")]
    pub memory_bytes: ByteLimit,
    /// Events waiting in all sessions together, by count; each takes about six bytes of memory, the first of a session some 50. Default 10000000.
    pub backlog_events: u32,
    /// Sessions, connected or not. Default 200000. At the limit new clients are refused.
    pub sessions: u32,
    /// Subscriptions of one session. Default 10000; more are refused.
    pub subscriptions: u32,
    /// Shared subscriptions.
    pub shared: SharedOptions,
    /// Events that connections end on.
    pub redelivery: RedeliveryOptions,
    /// Filters (CESQL, CEL) of subscriptions.
    pub filter: FilterOptions,
    /// Subscriptions that start in the past.
    pub replay: ReplayOptions,
    /// Delayed events and transactions.
    pub held: HeldOptions,
    /// Retained events, by count. Default 1000000. At the limit a publish that would add one is refused.
    pub retained_events: u32,
    /// Retained events, by bytes of data. Default "256 MiB". At the limit a publish that would add to it is refused.
    #[schemars(with = "String")]
    pub retained_bytes: ByteLimit,
    /// Remote stores that do not answer.
    pub breaker: BreakerOptions,
    /// Events whose repeats are known, for routes with `unique_s`, by count. Default 1000000, some 150 bytes of memory each. At
    /// the limit those are forgotten whose time is over first, which is counted in `weft_core_unique_forgotten_total`.
    pub unique_events: u32,
    /// How often the topics `$SYS/broker/...` are brought up to date, seconds. Default 10; 0: there are none.
    pub sys_interval_s: u32,
    /// Audit events of each kind (`$weft/audit/config`, `access`, `dead-letter`) in a second, on the average; up to 20 at once.
    /// Default 1; 0: there are none. More are left out and counted: each takes some 500 bytes of the log, and clients that
    /// are refused over and over cause many.
    pub audit_per_second: u32,
    /// How much the log grows between two checkpoints of sessions and retained events. Default "64 MiB". Smaller
    /// starts faster after a crash and writes more.
    #[schemars(with = "String")]
    pub checkpoint_bytes: ByteLimit,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            queue_events: 100_000,
            queue_bytes: ByteLimit::mib(256),
            queue_full: QueueFull::default(),
            queue_memory_bytes: ByteLimit::mib(1),
            live_bytes: ByteLimit::mib(4),
            live_wait_ms: 250,
            memory_bytes: ByteLimit::mib(256),
            backlog_events: 10_000_000,
            sessions: 200_000,
            subscriptions: 10_000,
            shared: SharedOptions::default(),
            redelivery: RedeliveryOptions::default(),
            filter: FilterOptions::default(),
            replay: ReplayOptions::default(),
            held: HeldOptions::default(),
            retained_events: 1_000_000,
            retained_bytes: ByteLimit::mib(256),
            breaker: BreakerOptions::default(),
            unique_events: 1_000_000,
            sys_interval_s: 10,
            audit_per_second: 1,
            checkpoint_bytes: ByteLimit::mib(64),
        }
    }
}

/// What happens when the queue of a session is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum QueueFull {
    /// The event that comes is dropped.
    #[default]
    DropNewest,
    /// The event that waits longest is dropped, if one waits that was not sent.
    DropOldest,
    /// The event that comes is dropped, and the connection ends.
    Disconnect,
    /// The event that comes waits as well.
    Wait,
}

/// How shared subscriptions (`$share/GROUP/FILTER`) spread events over their members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SharedOptions {
    /// "round-robin" (default): one member after the other; "least-inflight": who has the fewest unacknowledged; "sticky":
    /// one member gets all until it leaves; "hash-client", "hash-topic": all events of one publisher, or of one topic, go to
    /// one member, in order, also while members come and go; "hash-key": the same by the attribute `partitionkey`, else by topic.
    pub strategy: Strategy,
    /// Events that one member may have unacknowledged. Default 256; at least 1. What no member has room for waits in the
    /// group, `queue_events` at most. Too high, and a member that is slow or stuck holds back more.
    pub inflight: u32,
    /// Groups with a strategy of their own, by name: `groups = { billing = "hash-topic" }`. Default none.
    pub groups: BTreeMap<String, Strategy>,
    /// Members that get more than others, by client id, which may end with `*`: `weights = { "big-*" = 3 }` gives them three times
    /// what one without a weight gets. 1..=100. Not for "sticky". Default none.
    pub weights: BTreeMap<String, u8>,
}

impl Default for SharedOptions {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            inflight: 256,
            groups: BTreeMap::new(),
            weights: BTreeMap::new(),
        }
    }
}

/// Events that their subscribers cannot take: each connection that gets one ends, and the next one gets it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RedeliveryOptions {
    /// How many connections may end without acknowledging an event; then it is a dead letter. Default 0, any number; 0..=1000. Of
    /// what a connection leaves unacknowledged, only the oldest event counts: the others were behind it. Too low, and a bad
    /// network makes dead letters. QoS 2 is exempt, as MQTT wants it completed. Counted while Weft runs.
    #[schemars(range(max = 1000))]
    pub limit: u32,
    /// How long an event waits with which a connection ended, once the next connection got as far; doubled with each
    /// connection, up to a thousand times. What is behind it waits as well. Milliseconds; default 0; at most 600000.
    #[schemars(range(max = 600_000))]
    pub delay_ms: u32,
    /// Where dead letters are published: below this topic, as DEAD_LETTERS/CLIENT/TOPIC, or DEAD_LETTERS/GROUP/TOPIC for a shared
    /// subscription, with the attributes `deadlettertopic` and `deadletterreason`. Default "$dead": `#` does not match it, `$dead/#` does.
    /// Empty: they are counted and gone.
    pub dead_letters: String,
}

impl RedeliveryOptions {
    /// Whether somebody has to count.
    pub(crate) fn is_on(&self) -> bool {
        self.limit > 0 || self.delay_ms > 0
    }

    /// How long an event waits with which so many connections ended; `None`: they were too many.
    pub(crate) fn delay(&self, times: u32) -> Option<Duration> {
        let delay = Duration::from_millis(self.delay_ms.into());
        let doubled = 1 << times.saturating_sub(1).min(10);
        (self.limit == 0 || times < self.limit).then(|| delay * doubled)
    }

    /// What is wrong with it: the key, and why.
    ///
    /// # Errors
    /// `dead_letters` is not a topic that may be published to.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        match is_dead_letter_place(&self.dead_letters) {
            true => Ok(()),
            false => Err(("dead_letters", "not a topic that may be published to")),
        }
    }
}

impl Default for RedeliveryOptions {
    fn default() -> Self {
        Self { limit: 0, delay_ms: 0, dead_letters: "$dead".to_owned() }
    }
}

/// How many filters subscriptions may have. One has at most 4096 bytes; what all of one session cost an event is bounded, whatever
/// they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FilterOptions {
    /// Subscriptions with a filter that one session may have. Default 100; more are refused (MQTT 5: 0x97). Each costs
    /// every event of its topics some 100 ns.
    pub session: u32,
    /// Different filters of all sessions together. Default 10000; new ones are refused then. Each takes some KiB of memory.
    pub different: u32,
}

impl Default for FilterOptions {
    fn default() -> Self {
        Self { session: 100, different: 10_000 }
    }
}

/// How fast subscriptions that start in the past read the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayOptions {
    /// How much of the log one replay reads in a second. Default "16 MiB"; 0: no limit. More takes time and memory of the
    /// disk from live traffic; a replay slower than what is published never gets to its end.
    #[schemars(with = "String")]
    pub bytes_per_second: ByteLimit,
    /// Replays that read the log at the same time; others take turns with them. Default 4; at least 1.
    pub running: u32,
    /// Replays that are not at their end, in all sessions, connected or not. Default 1000; further ones are refused as
    /// "busy" (MQTT 5: 0x97; HTTP: 429). Each may take 64 KiB of memory.
    pub unfinished: u32,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        Self { bytes_per_second: ByteLimit::mib(16), running: 4, unfinished: 1000 }
    }
}

/// Events that wait for their time (`delayms`, `deliverytime`) or for their publisher's decision (`transaction`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeldOptions {
    /// How many may wait, by count. Default 100000. More are refused as busy (MQTT 5: 0x97; HTTP: 429). Each takes some
    /// 200 bytes of memory; the log holds the events.
    pub events: u32,
    /// The same by bytes. Default "256 MiB". What waits for long is written again each time that the log has grown by four
    /// times `checkpoint_bytes`.
    #[schemars(with = "String")]
    pub bytes: ByteLimit,
    /// How late an event may be delivered, seconds from now. Default 604800, a week. Later ones are refused.
    pub delay_max_s: u32,
    /// How long a transaction may be without a decision before its publisher is asked on
    /// `$weft/transactions/TOPIC`, and between two questions. Seconds; default 30; at least 1.
    #[schemars(range(min = 1))]
    pub check_s: u32,
    /// How often it is asked. Default 15. Then the transaction is rolled back.
    pub checks: u32,
}

impl Default for HeldOptions {
    fn default() -> Self {
        Self {
            events: 100_000,
            bytes: ByteLimit::mib(256),
            delay_max_s: 7 * 24 * 60 * 60,
            check_s: 30,
            checks: 15,
        }
    }
}

/// When a remote store is left alone: its publishers are told at once then (MQTT 5: 0x83; HTTP: 503), not after its deadline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerOptions {
    /// After how many batches in a row that the store did not take in time. Default 5; 1..=1000. Too low, and a short
    /// disturbance refuses what could have waited for it.
    #[schemars(range(min = 1, max = 1000))]
    pub failures: u32,
    /// For how long, milliseconds; then one batch finds out whether it works again, and nobody else waits for that. Default
    /// 1000; 100..=600000.
    #[schemars(range(min = 100, max = 600_000))]
    pub pause_ms: u32,
}

impl Default for BreakerOptions {
    fn default() -> Self {
        Self { failures: 5, pause_ms: 1000 }
    }
}

impl BreakerOptions {
    pub(crate) fn pause(&self) -> Duration {
        Duration::from_millis(self.pause_ms.into())
    }
}

impl SharedOptions {
    /// The strategy of the group of this name.
    pub(crate) fn strategy_of(&self, group: &str) -> Strategy {
        self.groups.get(group).copied().unwrap_or(self.strategy)
    }
}
