//! What the TCP protocol counts. Handles are made once; connections add what they tallied, once for each turn.

use std::sync::LazyLock;

use metrics::{Counter, Gauge, counter, gauge};

use crate::Violation;
use crate::error::Code;

/// What one connection did since it was asked last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) frames_in: u64,
    pub(crate) frames_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

struct Meters {
    connections: Gauge,
    connects: Counter,
    frames_in: Counter,
    frames_out: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
}

/// The recorder has to be installed before the first connection.
static METERS: LazyLock<Meters> = LazyLock::new(|| Meters {
    connections: gauge!("weft_tcp_connections"),
    connects: counter!("weft_tcp_connects_total"),
    frames_in: counter!("weft_tcp_frames_in_total"),
    frames_out: counter!("weft_tcp_frames_out_total"),
    bytes_in: counter!("weft_tcp_in_bytes_total"),
    bytes_out: counter!("weft_tcp_out_bytes_total"),
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
pub(crate) fn add(tally: Tally) {
    let meters = &*METERS;
    for (counter, count) in [
        (&meters.frames_in, tally.frames_in),
        (&meters.frames_out, tally.frames_out),
        (&meters.bytes_in, tally.bytes_in),
        (&meters.bytes_out, tally.bytes_out),
    ] {
        if count > 0 {
            counter.increment(count);
        }
    }
}

/// A command was refused.
pub(crate) fn refused(code: Code) {
    let reason = match code {
        Code::Success => return,
        Code::Fail => "fail",
        Code::AclFail => "acl_fail",
        Code::TpsOverload => "tps_overload",
    };
    counter!("weft_tcp_commands_refused_total", "reason" => reason).increment(1);
}

/// A client broke the protocol.
pub(crate) fn violation(violation: &Violation) {
    counter!("weft_tcp_violations_total", "kind" => violation.label()).increment(1);
}
