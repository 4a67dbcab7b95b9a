//! Limits and habits of webhooks.

use std::path::PathBuf;

use event::TopicName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Webhooks of EventMesh clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Whether webhooks may be at loopback addresses: on the machine that Weft runs on. Default false: clients could make
    /// Weft talk to services that trust this machine. Link-local, multicast and unspecified addresses are never taken.
    pub loopback: bool,
    /// Events on their way to one webhook. Default 16; 1..=1000. Others wait in the queue of its session.
    #[schemars(range(min = 1, max = 1000))]
    pub in_flight: u16,
    /// How often an event is posted again that a webhook did not take. Default 3; 0..=100. After that it is a dead letter:
    /// see `dead_letters`.
    #[schemars(range(max = 100))]
    pub retries: u16,
    /// How long before the first time it is posted again, milliseconds; twice as long before each further time. Default
    /// 3000; 1..=3600000.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub retry_ms: u32,
    /// How long a webhook may take to answer, milliseconds. Default 15000; 1..=3600000.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub timeout_ms: u32,
    /// Webhooks of all groups together. Default 1000; 1..=1000000. More are refused.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub webhooks_max: u32,
    /// Topics of one webhook. Default 1024; 1..=100000. More are refused.
    #[schemars(range(min = 1, max = 100_000))]
    pub topics_max: u32,
    /// After how many seconds without a heartbeat a client's webhooks are dropped. Default 60; 1..=86400. Only clients that
    /// send heartbeats are watched.
    #[schemars(range(min = 1, max = 86_400))]
    pub silence_s: u32,
    /// Where dead letters are published: below this topic, under the group and the topic they had, such as
    /// `$dead/GROUP/TOPIC`. Default "$dead": `#` does not match it, `$dead/#` does. Empty: they are counted and gone.
    pub dead_letters: String,
    /// File with the secret that posts are signed with (Standard Webhooks: `webhook-id`, `webhook-timestamp`,
    /// `webhook-signature`): `whsec_` and base64, or text of at least 24 bytes. Default "", none: they are not signed. All
    /// webhooks have the same: each of them could sign in Weft's name towards another.
    #[schemars(with = "String")]
    pub secret_file: PathBuf,
}

impl Options {
    /// Whether `dead_letters` can be used; what is wrong with it.
    ///
    /// # Errors
    /// It is no topic.
    pub fn check(&self) -> Result<(), String> {
        if self.dead_letters.is_empty() {
            return Ok(());
        }
        match TopicName::parse(self.dead_letters.as_str()) {
            Ok(topic) if topic.is_reserved() => Err("topics of Weft's own begin like that".to_owned()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            loopback: false,
            in_flight: 16,
            retries: 3,
            retry_ms: 3000,
            timeout_ms: 15_000,
            webhooks_max: 1000,
            topics_max: 1024,
            silence_s: 60,
            dead_letters: "$dead".to_owned(),
            secret_file: PathBuf::new(),
        }
    }
}
