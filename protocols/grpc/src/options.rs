//! Limits and habits of gRPC connections.

use event::ByteLimit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// EventMesh over gRPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Largest message of a client. Default "1 MiB"; at least 1 KiB is needed. A larger one is answered with the gRPC status
    /// OUT_OF_RANGE.
    #[schemars(with = "String")]
    pub message_bytes_max: ByteLimit,
    /// What messages on their way in may take together, over all connections. Default "64 MiB". More are answered with
    /// RESOURCE_EXHAUSTED, which clients repeat.
    #[schemars(with = "String")]
    pub messages_bytes_max: ByteLimit,
    /// How many calls one connection may have open, streams included. Default 256; 1..=10000. Told to clients (HTTP/2
    /// SETTINGS_MAX_CONCURRENT_STREAMS), which then wait.
    #[schemars(range(min = 1, max = 10_000))]
    pub calls_max: u32,
    /// Most events in one batch. Default 1024; 1..=65535. A larger batch is answered with status code 7.
    #[schemars(range(min = 1, max = 65_535))]
    pub batch_events_max: u32,
    /// How many subscriptions one stream may have. Default 1024; 1..=100000. More are answered with status code 7.
    #[schemars(range(min = 1, max = 100_000))]
    pub subscriptions_max: u32,
    /// How many events may be on their way to one stream without a sign that the client has them. Default 1024;
    /// 1..=65534. What is on its way when a stream breaks goes to another member of its group: too many and such a member
    /// gets many repeats, too few and far clients are slow.
    #[schemars(range(min = 1, max = 65_534))]
    pub window: u16,
    /// How long a call may take to arrive, and a publish to be kept, seconds. Default 30; 1..=3600.
    #[schemars(range(min = 1, max = 3600))]
    pub call_timeout_s: u16,
    /// After how many seconds of silence Weft pings. Default 20; 1..=3600. As long again without an answer, and the connection is
    /// ended, its streams leave their groups, and what was on its way to them goes to others. Too few wakes sleeping
    /// devices; with too many, dead clients are found late.
    #[schemars(range(min = 1, max = 3600))]
    pub ping_s: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            message_bytes_max: ByteLimit::mib(1),
            messages_bytes_max: ByteLimit::mib(64),
            calls_max: 256,
            batch_events_max: 1024,
            subscriptions_max: 1024,
            window: 1024,
            call_timeout_s: 30,
            ping_s: 20,
        }
    }
}
