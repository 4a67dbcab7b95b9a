//! What MQTT counts. Handles are made once; connections add what they tallied, once for each turn.

use std::sync::LazyLock;

use metrics::{Counter, Gauge, counter, gauge};

use crate::Violation;
use crate::connection::Tally;

struct Meters {
    packets_in: [Counter; 3],
    packets_out: [Counter; 3],
    bytes_in: Counter,
    bytes_out: Counter,
    expired: Counter,
    oversized: Counter,
    connects: Counter,
    connections: Gauge,
}

/// The recorder has to be installed before the first connection.
static METERS: LazyLock<Meters> = LazyLock::new(|| {
    let classes = ["publish", "ack", "other"];
    Meters {
        packets_in: classes.map(|class| counter!("weft_mqtt_packets_in_total", "class" => class)),
        packets_out: classes.map(|class| counter!("weft_mqtt_packets_out_total", "class" => class)),
        bytes_in: counter!("weft_mqtt_in_bytes_total"),
        bytes_out: counter!("weft_mqtt_out_bytes_total"),
        expired: counter!("weft_mqtt_deliveries_left_out_total", "why" => "expired"),
        oversized: counter!("weft_mqtt_deliveries_left_out_total", "why" => "oversized"),
        connects: counter!("weft_mqtt_connects_total"),
        connections: gauge!("weft_mqtt_connections"),
    }
});

/// One connection, as long as it lives.
pub(crate) struct Connected(());

impl Connected {
    pub(crate) fn new() -> Self {
        METERS.connects.increment(1);
        METERS.connections.increment(1.0);
        Self(())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        METERS.connections.decrement(1.0);
    }
}

/// Adds what one connection tallied.
pub(crate) fn add(tally: Tally, bytes_in: usize, bytes_out: usize) {
    let meters = &*METERS;
    let [publish_in, ack_in, other_in] = &meters.packets_in;
    let [publish_out, ack_out, other_out] = &meters.packets_out;
    for (counter, count) in [
        (publish_in, tally.publish_in),
        (ack_in, tally.ack_in),
        (other_in, tally.other_in),
        (publish_out, tally.publish_out),
        (ack_out, tally.ack_out),
        (other_out, tally.other_out),
        (&meters.expired, tally.expired),
        (&meters.oversized, tally.oversized),
    ] {
        if count > 0 {
            counter.increment(u64::from(count));
        }
    }
    for (counter, count) in [(&meters.bytes_in, bytes_in), (&meters.bytes_out, bytes_out)] {
        if count > 0 {
            counter.increment(u64::try_from(count).unwrap_or(u64::MAX));
        }
    }
}

/// A client broke the protocol.
pub(crate) fn violation(violation: Violation) {
    counter!("weft_mqtt_violations_total", "kind" => violation.label()).increment(1);
}
