//! From options to what quinn works with.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::QuicServerConfig;
use quinn::{IdleTimeout, ServerConfig, TransportConfig, VarInt};
use rustls::server::{ProducesTickets, ServerSessionMemoryCache};

use crate::Options;

/// What connections of a listener have in common, but for certificates.
pub(crate) fn server(options: &Options, crypto: Arc<QuicServerConfig>) -> ServerConfig {
    let mut config = ServerConfig::with_crypto(crypto);
    config.transport_config(Arc::new(transport(options)));
    config.migration(options.migration);
    config.max_incoming(INCOMING_MAX);
    config.incoming_buffer_size(INCOMING_BYTES);
    config.incoming_buffer_size_total(INCOMING_BYTES_TOTAL);
    config
}

fn transport(options: &Options) -> TransportConfig {
    let mut config = TransportConfig::default();
    config.max_concurrent_bidi_streams(VarInt::from(options.streams_max.saturating_add(1)));
    config.max_concurrent_uni_streams(VarInt::from_u32(0));
    config.stream_receive_window(size(options.stream_window_bytes.0));
    config.receive_window(size(options.window_bytes.0));
    config.send_window(options.window_bytes.0);
    config.datagram_receive_buffer_size(None);
    let idle = u32::from(options.idle_timeout_s).saturating_mul(1000);
    config.max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle))));
    let ask = Duration::from_secs(u64::from(options.keepalive_s));
    config.keep_alive_interval((!ask.is_zero()).then_some(ask));
    config
}

fn size(bytes: u64) -> VarInt {
    VarInt::from_u64(bytes).unwrap_or(VarInt::MAX)
}

/// Handshakes with these certificates.
///
/// # Errors
/// QUIC cannot be spoken with them.
pub(crate) fn crypto(
    options: &Options,
    tls: &Arc<rustls::ServerConfig>,
) -> Result<Arc<QuicServerConfig>, String> {
    let mut tls = rustls::ServerConfig::clone(tls);
    if options.early_data {
        // A ticket that is good for one use only: what is sent early cannot be replayed while Weft runs.
        tls.ticketer = Arc::new(NoTickets);
        tls.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        tls.send_tls13_tickets = 1;
        tls.max_early_data_size = u32::MAX;
    }
    QuicServerConfig::try_from(tls).map(Arc::new).map_err(|error| error.to_string())
}

/// Sessions are kept here and not in tickets.
#[derive(Debug)]
struct NoTickets;

impl ProducesTickets for NoTickets {
    fn enabled(&self) -> bool {
        false
    }

    fn lifetime(&self) -> u32 {
        0
    }

    fn encrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, _: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

/// Connections that wait to be accepted. Accepting takes microseconds: more than these are a flood.
const INCOMING_MAX: usize = 1024;
/// What of one of them is kept: a first packet, and some of early data.
const INCOMING_BYTES: u64 = 64 << 10;
/// What of all of them is kept.
const INCOMING_BYTES_TOTAL: u64 = 16 << 20;
/// Clients that may send early: some 1 KiB each.
const SESSIONS_MAX: usize = 4096;
