//! Limits of EventMesh over HTTP.

use event::ByteLimit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// EventMesh over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Largest body of a request. Default "1 MiB"; at least 1 KiB is needed. A larger one is answered with 413 and `retCode` 8.
    #[schemars(with = "String")]
    pub body_bytes_max: ByteLimit,
    /// What all bodies that are being received or waiting to be kept may take together. Default "64 MiB"; at least 64 KiB is
    /// needed. Requests above it are answered with `retCode` 1 (overload).
    #[schemars(with = "String")]
    pub bodies_bytes_max: ByteLimit,
    /// Most events in one batch (code 102). Default 1000; 1..=100000. A larger batch is answered with `retCode` 7.
    #[schemars(range(min = 1, max = 100_000))]
    pub batch_events_max: u32,
    /// How long a request may take to send its body, and then how long it waits for its events to be kept, seconds. Default
    /// 10; 1..=3600. Clients with EventMesh's SDK for Java give up after 15 seconds.
    #[schemars(range(min = 1, max = 3600))]
    pub publish_timeout_s: u16,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            body_bytes_max: ByteLimit::mib(1),
            bodies_bytes_max: ByteLimit::mib(64),
            batch_events_max: 1000,
            publish_timeout_s: 10,
        }
    }
}
