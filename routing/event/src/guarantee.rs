//! How surely an event arrives, and when a positive answer to its publisher may leave.

use serde::{Deserialize, Serialize};

/// How often an event arrives at one subscriber. The order is the order of strength (MQTT 5 §4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Guarantee {
    /// QoS 0: at most once. Never waits for a disk.
    AtMostOnce,
    /// QoS 1: at least once.
    AtLeastOnce,
    /// QoS 2: exactly once.
    ExactlyOnce,
}

/// What has to be true of an event before its publisher gets a positive answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// In memory. A crash of the process loses it.
    Received,
    /// Handed to the operating system: survives a crash of the process, not a power cut.
    Written,
    /// `fdatasync` returned: survives a power cut.
    Synced,
    /// RocketMQ or DeFiBus answered that it has the event.
    Remote,
}
