//! Limits and habits of the HTTP front-end.

use event::ByteLimit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// CloudEvents over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Largest body of a request. Default "1 MiB"; at least 1 KiB is useful. A larger one is answered with 413.
    #[schemars(with = "String")]
    pub body_bytes_max: ByteLimit,
    /// What all bodies that are being received or waiting to be kept may take together. Default "64 MiB"; at least
    /// `body_bytes_max`. Requests above it are answered with 429.
    #[schemars(with = "String")]
    pub bodies_bytes_max: ByteLimit,
    /// Most events in a batch. Default 1000; 1..=100000. A longer batch is answered with 413.
    #[schemars(range(min = 1, max = 100_000))]
    pub batch_events_max: u32,
    /// How long a request may take to send its head, seconds; also how long an idle connection stays open.
    /// Default 30; 1..=3600. Too short cuts off slow networks; too long lets silent clients hold connections.
    #[schemars(range(min = 1, max = 3600))]
    pub head_timeout_s: u16,
    /// How long a request may take to send its body, and then how long it waits for its events to be kept, seconds.
    /// Default 30; 1..=3600. Then it is answered with 408, or with 503.
    #[schemars(range(min = 1, max = 3600))]
    pub publish_timeout_s: u16,
    /// Most filters of one event stream. Default 64; 1..=10000.
    #[schemars(range(min = 1, max = 10_000))]
    pub filters_max: u16,
    /// After how many seconds of silence an event stream sends a comment, so that proxies keep it open and vanished
    /// readers are found. Default 15; 1..=3600.
    #[schemars(range(min = 1, max = 3600))]
    pub heartbeat_s: u16,
    /// How long a browser is told to wait before it connects to a lost event stream again, milliseconds. Default 2000;
    /// 1..=3600000. Shorter makes many readers come back at once.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub reconnect_ms: u32,
    /// Web pages of which origins may publish and read, such as `https://example.org`; `*` is every page, `null` those from files.
    /// Default none but pages of this very host, from whatever port. Programs that are no browsers send no origin and may
    /// always.
    pub origins: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            body_bytes_max: ByteLimit::mib(1),
            bodies_bytes_max: ByteLimit::mib(64),
            batch_events_max: 1000,
            head_timeout_s: 30,
            publish_timeout_s: 30,
            filters_max: 64,
            heartbeat_s: 15,
            reconnect_ms: 2000,
            origins: Vec::new(),
        }
    }
}
