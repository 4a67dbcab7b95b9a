//! Limits of accepted connections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits of accepted connections, for all listeners together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How many connections may be open at a time. Default 100000; 1..=10000000. More are closed as soon as they are
    /// accepted. Each needs a file descriptor, so set the system's limit (`ulimit -n`) some hundred higher; where that
    /// is reached first, new connections wait until one ends.
    #[schemars(range(min = 1, max = 10_000_000))]
    pub connections_max: u32,
    /// How many connections the system holds for a listener until they are accepted. Default 1024; 1..=65535. Linux
    /// lowers it to `net.core.somaxconn`. Too few: connects fail or are slow when many clients come at once.
    #[schemars(range(min = 1, max = 65_535))]
    pub backlog: u32,
    /// After how many seconds of silence the system asks whether the peer is still there (TCP keep-alive). Default 60;
    /// 0..=32767, 0 never asks. Finds peers that vanished without a word where the protocol itself does not ask.
    #[schemars(range(max = 32_767))]
    pub keepalive_s: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self { connections_max: 100_000, backlog: 1024, keepalive_s: 60 }
    }
}
