//! Limits and habits of WebSocket connections.

use event::ByteLimit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// WebSocket connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Largest message a client may send, in however many frames. Default "1 MiB"; at least 1 KiB is useful. A larger
    /// one closes the connection with code 1009. Over MQTT, packets are in messages: smaller than
    /// `mqtt.max_packet_bytes` makes that the smaller limit.
    #[schemars(with = "String")]
    pub message_bytes_max: ByteLimit,
    /// How many deliveries of a session with `?client=` may be out without an ack. Default 256; 1..=65534. Too few makes
    /// far readers slow; too many lets a reader that came back get many repeats.
    #[schemars(range(min = 1, max = 65_534))]
    pub receive_max: u16,
    /// How many publishes of a connection may wait to be kept. Default 256; 1..=65535. At that, Weft stops reading from it.
    #[schemars(range(min = 1, max = 65_535))]
    pub publishes_max: u16,
    /// How many subscriptions one `weft.subscribe` may ask for. Default 64; 1..=10000.
    #[schemars(range(min = 1, max = 10_000))]
    pub filters_max: u16,
    /// How long a session with `?client=` stays after its connection if the client does not say, seconds. Default 3600;
    /// 0..=4294967295.
    pub keep_s: u32,
    /// The longest a client can ask for with `&keep=`, seconds. Default 604800, a week; 0..=4294967295. More is lowered to it.
    pub keep_s_max: u32,
    /// After how many seconds of silence Weft pings, be it MQTT or CloudEvents that is spoken. Default 30; 1..=3600. As
    /// long again without a word, or without the client taking what is being sent, and the connection is ended. Too few
    /// wakes sleeping devices; with too many, proxies drop quiet connections and dead ones are found late.
    #[schemars(range(min = 1, max = 3600))]
    pub ping_s: u16,
    /// Whether messages are compressed for clients that offer it (permessage-deflate, RFC 7692), in both directions. Default
    /// false. Neither side remembers earlier messages: it costs time and saves bytes, but an idle connection takes only 0.3
    /// KiB more. `message_bytes_max` is about the message as it was before it was compressed. Leave it off where someone who
    /// sees only the length of frames must not guess what is in them.
    pub deflate: bool,
    /// Web pages of which origins may connect, such as `https://example.org`; `*` is every page, `null` those from files.
    /// Default none but pages of this very host, from whatever port. Programs that are no browsers send no origin and may
    /// always.
    pub origins: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            message_bytes_max: ByteLimit::mib(1),
            receive_max: 256,
            publishes_max: 256,
            filters_max: 64,
            keep_s: 3600,
            keep_s_max: 604_800,
            ping_s: 30,
            deflate: false,
            origins: Vec::new(),
        }
    }
}
