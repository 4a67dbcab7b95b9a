//! rumqttd with the figures of its own `rumqttd.toml`, as a peer for the benchmark.
//!
//! `rumqttd_peer V4_ADDRESS V5_ADDRESS`: rumqttd needs a listener for each protocol version.

use std::collections::HashMap;
use std::net::SocketAddr;

use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings};

fn main() {
    let addresses: Vec<SocketAddr> =
        std::env::args().skip(1).map(|text| text.parse().expect("an address")).collect();
    let config = Config {
        router: RouterConfig {
            max_connections: 10_010,
            max_outgoing_packet_count: 200,
            max_segment_size: 104_857_600,
            max_segment_count: 10,
            ..RouterConfig::default()
        },
        v4: Some(listener("v4", addresses[0])),
        v5: Some(listener("v5", addresses[1])),
        ..Config::default()
    };
    Broker::new(config).start().expect("rumqttd runs");
}

fn listener(name: &str, listen: SocketAddr) -> HashMap<String, ServerSettings> {
    let connections = ConnectionSettings {
        connection_timeout_ms: 60_000,
        max_payload_size: 20_480,
        max_inflight_count: 100,
        auth: None,
        external_auth: None,
        dynamic_filters: true,
    };
    let settings =
        ServerSettings { name: name.to_owned(), listen, tls: None, next_connection_delay_ms: 0, connections };
    HashMap::from([(name.to_owned(), settings)])
}
