//! Settings of MQTT, the same on every listener.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use event::ByteLimit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of MQTT.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The largest packet that is read. Default 1 MiB; 1 KiB to 256 MiB. A larger packet ends the connection before its
    /// body is read (MQTT 5: code 0x95); too high, and few clients can fill the memory. Sent as Maximum Packet Size.
    #[schemars(with = "String")]
    pub max_packet_bytes: ByteLimit,
    /// QoS 1 and 2 publishes one client may have open. Default 1024: a batch for each of a few disk syncs; 1..=65535.
    /// Sent as Receive Maximum; an MQTT 5 client above it is disconnected (0x93), a 3.1.1 client is read more slowly.
    /// Too low, and one client cannot keep the disk busy.
    pub inflight_max: NonZeroU16,
    /// QoS 1 and 2 deliveries one client may have open, if it does not ask for fewer. Default 1024; 1..=65535. Too
    /// high costs memory for clients that are slow to acknowledge.
    pub deliveries_max: NonZeroU16,
    /// Bytes of publishes of one client that wait for their answer; above it the client is not read. Default 4 MiB;
    /// 64 KiB or more.
    #[schemars(with = "String")]
    pub open_bytes: ByteLimit,
    /// Bytes written for one client and not yet taken by its socket, above which no more deliveries are taken for it.
    /// Default 64 KiB; 4 KiB or more. Too low costs system calls, too high memory for slow readers.
    #[schemars(with = "String")]
    pub output_bytes: ByteLimit,
    /// Topic aliases a client may use. Default 16; 0: none. Sent as Topic Alias Maximum.
    pub topic_alias_max: u16,
    /// Topic aliases used towards a client that takes them. Default 16; 0: none. More save bytes where a client gets
    /// many topics, and take up to 512 bytes each while it is connected.
    pub topic_alias_out_max: u16,
    /// Where a client that asks for Response Information may have its answers sent: a topic, or the beginning of one;
    /// `{client}` stands for its client id. Default `response/{client}`; empty: none is told. Rules of access have to
    /// allow it.
    pub response_information: String,
    /// The longest keep alive, seconds; a longer one, or none, is replaced by it (MQTT 5: Server Keep Alive; a 3.1.1
    /// client is not told and keeps its own). Default 0: clients choose.
    pub keep_alive_max_s: u16,
    /// The longest that a session is kept without its client, seconds. Default 604800, a week; 4294967295: for ever.
    /// It is also how long sessions of 3.1.1 clients without Clean Session are kept. Too high, and clients that never
    /// come back fill the disk.
    pub session_expiry_max_s: u32,
    /// How long a new connection has for its CONNECT, and then its session to be made, milliseconds. Default 10000; 100
    /// or more. Too short, and clients on slow links, or with a busy disk behind Weft, never get in.
    pub connect_timeout_ms: NonZeroU32,
    /// How long a client may take nothing of what is written for it, milliseconds; then it is disconnected. Default
    /// 30000; 1000 or more.
    pub write_timeout_ms: NonZeroU32,
    /// How long open publishes may take to finish when Weft stops, milliseconds. Default 5000.
    pub drain_timeout_ms: NonZeroU32,
    /// What a 3.1.1 client gets for a publish it is not allowed to make, since its version has no word for that.
    /// Default `close`.
    pub denied_publish: DeniedPublish,
}

/// What an MQTT 3.1.1 client gets for a publish it is not allowed to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DeniedPublish {
    /// The connection is closed.
    Close,
    /// An ack, as if it had been taken; it is dropped.
    Drop,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_packet_bytes: ByteLimit::mib(1),
            inflight_max: NonZeroU16::MIN.saturating_add(1023),
            deliveries_max: NonZeroU16::MIN.saturating_add(1023),
            open_bytes: ByteLimit::mib(4),
            output_bytes: ByteLimit::kib(64),
            topic_alias_max: 16,
            topic_alias_out_max: 16,
            response_information: "response/{client}".to_owned(),
            keep_alive_max_s: 0,
            session_expiry_max_s: 604_800,
            connect_timeout_ms: NonZeroU32::MIN.saturating_add(9_999),
            write_timeout_ms: NonZeroU32::MIN.saturating_add(29_999),
            drain_timeout_ms: NonZeroU32::MIN.saturating_add(4_999),
            denied_publish: DeniedPublish::Close,
        }
    }
}

impl Options {
    /// The largest packet that is read, within what MQTT allows.
    pub(crate) fn max_packet(&self) -> u32 {
        u32::try_from(self.max_packet_bytes.0).unwrap_or(u32::MAX).clamp(1 << 10, PACKET_MAX)
    }

    /// How long a session is kept that asks for `seconds`, and what to tell the client if that is not what it asked.
    pub(crate) fn keep(&self, seconds: u32) -> (Duration, Option<u32>) {
        let granted = seconds.min(self.session_expiry_max_s);
        (keep(granted), (granted != seconds).then_some(granted))
    }

    /// Where answers for `client` may be sent. None for a client id that is not good for a topic.
    pub(crate) fn response_topic(&self, client: &str) -> Option<String> {
        let usable = !self.response_information.is_empty() && !client.contains(['+', '#']);
        usable.then(|| self.response_information.replace("{client}", client))
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.connect_timeout_ms.get()))
    }

    pub(crate) fn write_timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.write_timeout_ms.get()))
    }

    pub(crate) fn drain_timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.drain_timeout_ms.get()))
    }
}

fn keep(seconds: u32) -> Duration {
    match seconds {
        u32::MAX => Duration::MAX,
        seconds => Duration::from_secs(u64::from(seconds)),
    }
}

/// The largest packet there can be: five bytes of fixed header and 268,435,455 bytes.
const PACKET_MAX: u32 = 268_435_460;
