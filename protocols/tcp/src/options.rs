//! Settings of EventMesh's TCP protocol, the same on every listener.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use event::ByteLimit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// EventMesh over TCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The largest frame that is read. Default 4 MiB, the limit of EventMesh's SDKs; 1 KiB to 256 MiB. A larger one ends the
    /// connection before its body is read.
    #[schemars(with = "String")]
    pub max_frame_bytes: ByteLimit,
    /// Publishes one client may have without an answer. Default 1024; 1..=65535. Above it the client is not read. Too low,
    /// and one client cannot keep the disk busy.
    pub inflight_max: NonZeroU16,
    /// Bytes of publishes of one client that wait for their answer; above it the client is not read. Default 4 MiB;
    /// 64 KiB or more.
    #[schemars(with = "String")]
    pub open_bytes: ByteLimit,
    /// Requests of one client that wait for their reply. Default 1024; 1..=65535. More are refused as an overload (code 3).
    pub requests_max: NonZeroU16,
    /// Events one client may have without its acknowledgement. Default 256; 1..=65535. Too high, and a slow member of a group
    /// holds many events that others could have.
    pub deliveries_max: NonZeroU16,
    /// Bytes of events one client may have without its acknowledgement; one event always passes. Default 32 KiB; 1 KiB or
    /// more. SDKs send each event back with its acknowledgement, and the one for Java closes its connection when more than
    /// 64 KiB of those wait to be sent: higher is for other clients.
    #[schemars(with = "String")]
    pub delivery_bytes: ByteLimit,
    /// How long a client may have an event without acknowledging it, milliseconds. Default 900000, as RocketMQ; 1000 or
    /// more. Then it is disconnected, and others of its group get what it has.
    pub ack_timeout_ms: NonZeroU32,
    /// Bytes written for one client and not yet taken by its socket, above which it gets no more events and is not read.
    /// Default 64 KiB; 4 KiB or more.
    #[schemars(with = "String")]
    pub output_bytes: ByteLimit,
    /// How long a new connection has for its HELLO_REQUEST, and then its session to be made, milliseconds. Default 10000;
    /// 100 or more.
    pub hello_timeout_ms: NonZeroU32,
    /// How long nothing may be heard of a client, milliseconds. Default 60000; 1000 or more. SDKs send a heartbeat each
    /// 30 s; less than that, and idle clients are disconnected.
    pub session_expiry_ms: NonZeroU32,
    /// How long a client may take nothing of what is written for it, milliseconds; then it is disconnected. Default
    /// 30000; 1000 or more.
    pub write_timeout_ms: NonZeroU32,
    /// How long a client that an operator sends away or redirects may take to leave, milliseconds. Default 30000; 1 or more.
    pub goodbye_timeout_ms: NonZeroU32,
    /// How long open publishes may take to finish when Weft stops, milliseconds. Default 5000.
    pub drain_timeout_ms: NonZeroU32,
}

impl Default for Options {
    fn default() -> Self {
        let count = |n: u16| NonZeroU16::MIN.saturating_add(n - 1);
        let ms = |n: u32| NonZeroU32::MIN.saturating_add(n - 1);
        Self {
            max_frame_bytes: ByteLimit::mib(4),
            inflight_max: count(1024),
            open_bytes: ByteLimit::mib(4),
            requests_max: count(1024),
            deliveries_max: count(256),
            delivery_bytes: ByteLimit::kib(32),
            ack_timeout_ms: ms(900_000),
            output_bytes: ByteLimit::kib(64),
            hello_timeout_ms: ms(10_000),
            session_expiry_ms: ms(60_000),
            write_timeout_ms: ms(30_000),
            goodbye_timeout_ms: ms(30_000),
            drain_timeout_ms: ms(5_000),
        }
    }
}

impl Options {
    /// The largest frame that is read, within what there is memory for.
    pub(crate) fn max_frame(&self) -> u32 {
        u32::try_from(self.max_frame_bytes.0).unwrap_or(u32::MAX).clamp(1 << 10, 256 << 20)
    }
}

/// `ms` milliseconds.
pub(crate) fn millis(ms: NonZeroU32) -> Duration {
    Duration::from_millis(u64::from(ms.get()))
}
