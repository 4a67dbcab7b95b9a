//! What can be set of QUIC.

use event::ByteLimit;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// QUIC of a listener. Certificates are those of the table `tls`; QUIC speaks TLS 1.3 only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How many data streams a client may have open beside its control stream. Default 16; 0..=1000. One more has to wait
    /// until another is closed; 0: all goes over the control stream.
    #[schemars(range(max = 1000))]
    pub streams_max: u16,
    /// How much a client may send on one stream ahead of what Weft has read. Default 256 KiB; 16 KiB to 64 MiB. Too low, and
    /// long links are slow: a stream brings at most one window for each round trip.
    #[schemars(with = "String")]
    pub stream_window_bytes: ByteLimit,
    /// How much a client may send on all its streams ahead of what Weft has read, and how much Weft keeps of what the client
    /// has not acknowledged. Default 1 MiB; 16 KiB to 256 MiB. It is the memory that a client can take up twice.
    #[schemars(with = "String")]
    pub window_bytes: ByteLimit,
    /// After how many seconds of silence a connection is lost. Default 75; 5..=3600. The client's own, if shorter, counts. A
    /// client that vanished without a word is found by it, and its will is published.
    #[schemars(range(min = 5, max = 3600))]
    pub idle_timeout_s: u16,
    /// After how many seconds of silence Weft asks whether the client is still there. Default 25; 0..=1800, 0 never asks. It
    /// also keeps the way open through NATs, most of which forget UDP after 30 seconds. Not below the idle timeout, and
    /// silent clients are lost.
    #[schemars(range(max = 1800))]
    pub keepalive_s: u16,
    /// From how many handshakes under way on a client has to show first that it gets what is sent to its address (a Retry
    /// packet, RFC 9000 §8.1.2), so that forged addresses take no memory. Default 100; 0: always. It costs a round trip.
    /// Where `limits` count addresses, it is always so.
    pub retry_from: u32,
    /// Whether a connection goes on when the client's address changes (RFC 9000 §9). Default true.
    pub migration: bool,
    /// Whether clients that come back may send with their first packet (0-RTT, RFC 8446 §2.3). Default false: who records
    /// such a packet can send it once more, and what is in it is taken twice if Weft was started anew between. Not
    /// together with client certificates.
    pub early_data: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            streams_max: 16,
            stream_window_bytes: ByteLimit::kib(256),
            window_bytes: ByteLimit::mib(1),
            idle_timeout_s: 75,
            keepalive_s: 25,
            retry_from: 100,
            migration: true,
            early_data: false,
        }
    }
}

impl Options {
    /// Sizes out of range: the key, and what is wrong with it.
    ///
    /// # Errors
    /// The first of them.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let least = ByteLimit::kib(16).0;
        if !(least..=ByteLimit::mib(64).0).contains(&self.stream_window_bytes.0) {
            return Err(("stream_window_bytes", "out of range 16 KiB to 64 MiB"));
        }
        if !(least..=ByteLimit::mib(256).0).contains(&self.window_bytes.0) {
            return Err(("window_bytes", "out of range 16 KiB to 256 MiB"));
        }
        Ok(())
    }
}
