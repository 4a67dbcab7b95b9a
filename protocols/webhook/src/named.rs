//! Webhooks that the configuration names: their settings.

use std::path::PathBuf;
use std::time::Duration;

use event::{ByteLimit, Select, TopicFilter, is_dead_letter_place};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::binding::Mode;
use crate::target::Target;

/// A webhook that gets events as CloudEvents over HTTP: a durable session of the name `$hook/NAME`. An event is done when the
/// webhook answered 2xx; what is not done waits in the log, over crashes and outages of any length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HookOptions {
    /// Where events are posted: http or https. CloudEvents wants https; http is for networks that are trusted.
    pub url: String,
    /// Topic filters of the events that it gets, such as `["alarms/#"]`; at least one.
    #[schemars(with = "Vec<String>")]
    pub topics: Vec<TopicFilter>,
    /// Only events that pass this filter: "cesql: type = 'com.example.alarm'" or "cel: data.t > 80". Default none: all of the
    /// topics.
    pub filter: Option<String>,
    /// "structured" (default): the event as JSON; or "binary": its attributes as headers, its data as the body.
    #[schemars(with = "String")]
    pub mode: Mode,
    /// File with a token that each post shows as `Authorization: Bearer TOKEN`. Default none.
    #[schemars(with = "Option<String>")]
    pub token_file: Option<PathBuf>,
    /// File with a secret that posts are signed with, as `webhook.secret_file` has it (Standard Webhooks). Default none.
    #[schemars(with = "Option<String>")]
    pub secret_file: Option<PathBuf>,
    /// File with the certificates of the CAs that are believed, in PEM. Default: those of the system.
    #[schemars(with = "Option<String>")]
    pub ca_file: Option<PathBuf>,
    /// Who Weft says it is, a DNS name such as "weft.example.org" (`WebHook-Request-Origin`). If set, Weft asks the webhook with
    /// OPTIONS whether it may post, keeps to the rate that it is allowed, and posts nothing before it may (CloudEvents
    /// webhooks, abuse protection). Default none: who wrote the configuration is believed to know the webhook.
    pub origin: Option<String>,
    /// Events on their way at once. Default 1: one after the other, in the order of the log, so that one that is not taken
    /// holds up all behind it; 1..=1000. With more, events with the same `partitionkey` (attribute or user property) still go one
    /// after the other, and those without one, or with others, in no order.
    #[schemars(range(min = 1, max = 1000))]
    pub in_flight: u16,
    /// Bytes of events on their way at once, about; one event always is. Default "4 MiB".
    #[schemars(with = "String")]
    pub in_flight_bytes: ByteLimit,
    /// How long an answer may take, milliseconds. Default 15000; 1..=3600000.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub timeout_ms: u32,
    /// How long before an event is posted again that was not taken, milliseconds; twice as long before each further time, up
    /// to `retry_max_ms`, and up to half of it less by chance. Default 1000; 1..=3600000.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub retry_ms: u32,
    /// The longest time before an event is posted again, milliseconds. Default 60000; 1..=3600000.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub retry_max_ms: u32,
    /// For how many seconds an event is posted again, from the first time that it was not taken; then it is a dead letter.
    /// Default 86400, a day; 0: for ever. A start of Weft, or a change of the webhook, begins anew.
    pub give_up_s: u32,
    /// After how many failures in a row the webhook is left alone: no answer, or 5xx. Default 5; 1..=1000. `/ready` says so.
    #[schemars(range(min = 1, max = 1000))]
    pub failures_max: u16,
    /// For how long it is left alone before one event tries, milliseconds. Default 10000; 1..=3600000.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub pause_ms: u32,
    /// Where dead letters are published: below this topic, as DEAD_LETTERS/HOOK/TOPIC, with the attributes `deadlettertopic` and
    /// `deadletterreason`. Default "$dead": `#` does not match it, `$dead/#` does. Empty: they are counted and gone.
    pub dead_letters: String,
}

/// What is wrong with a setting: its key, and a sentence.
pub type HookMistake = (&'static str, String);

impl HookOptions {
    /// Whether it makes sense. Reads no file, and leaves the expression in `filter` to who knows the languages.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), HookMistake> {
        // Who writes the configuration may reach this machine.
        Target::parse(&self.url, true).map_err(|error| ("url", error.to_string()))?;
        if self.topics.is_empty() {
            return Err(("topics", "no topic filter: it would get nothing".to_owned()));
        }
        if self.topics.iter().any(|topic| topic.share().is_some()) {
            return Err(("topics", "a webhook has a session of its own, which shares nothing".to_owned()));
        }
        self.select().map_err(|reason| ("filter", reason))?;
        let is_dns = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        if self.origin.as_ref().is_some_and(|origin| origin.is_empty() || !origin.bytes().all(is_dns)) {
            return Err(("origin", "not a DNS name".to_owned()));
        }
        if !is_dead_letter_place(&self.dead_letters) {
            return Err(("dead_letters", "not a topic that may be published to".to_owned()));
        }
        Ok(())
    }

    /// The filter, if there is one.
    ///
    /// # Errors
    /// It is not written as filters are.
    pub fn select(&self) -> Result<Option<Select>, String> {
        self.filter
            .as_ref()
            .map(|text| text.parse())
            .transpose()
            .map_err(|error: event::BadSelect| error.to_string())
    }

    /// How long before an event is posted again that was not taken `times` times. `chance`: any number, drawn each time, so
    /// that who failed together does not come back together.
    pub(crate) fn pause(&self, times: u32, chance: u32) -> Duration {
        let doubled =
            u64::from(self.retry_ms).checked_shl(times.saturating_sub(1).min(32)).unwrap_or(u64::MAX);
        let longest = doubled.clamp(1, u64::from(self.retry_max_ms.max(1)));
        Duration::from_millis(longest - u64::from(chance) % (longest / 2 + 1))
    }
}

impl Default for HookOptions {
    fn default() -> Self {
        Self {
            url: String::new(),
            topics: Vec::new(),
            filter: None,
            mode: Mode::Structured,
            token_file: None,
            secret_file: None,
            ca_file: None,
            origin: None,
            in_flight: 1,
            in_flight_bytes: ByteLimit::mib(4),
            timeout_ms: 15_000,
            retry_ms: 1000,
            retry_max_ms: 60_000,
            give_up_s: 86_400,
            failures_max: 5,
            pause_ms: 10_000,
            dead_letters: "$dead".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> HookOptions {
        let topics = vec![TopicFilter::parse("a/#").unwrap()];
        HookOptions { url: "http://127.0.0.1:9/".to_owned(), topics, ..HookOptions::default() }
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        good().check().unwrap();
        for (options, key) in [
            (HookOptions { url: "ftp://h/".into(), ..good() }, "url"),
            (HookOptions { topics: Vec::new(), ..good() }, "topics"),
            (HookOptions { topics: vec![TopicFilter::parse("$share/g/a").unwrap()], ..good() }, "topics"),
            (HookOptions { filter: Some("a = b".into()), ..good() }, "filter"),
            (HookOptions { filter: Some("sql: a = b".into()), ..good() }, "filter"),
            (HookOptions { origin: Some("a b".into()), ..good() }, "origin"),
            (HookOptions { dead_letters: "$SYS/dead".into(), ..good() }, "dead_letters"),
            (HookOptions { dead_letters: "a/#".into(), ..good() }, "dead_letters"),
        ] {
            assert_eq!(options.check().unwrap_err().0, key);
        }
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_chance_takes_up_to_half() {
        let options = HookOptions { retry_ms: 100, retry_max_ms: 1000, ..good() };
        let longest: Vec<u128> = (1..7).map(|times| options.pause(times, 0).as_millis()).collect();
        assert_eq!(longest, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(options.pause(u32::MAX, 0).as_millis(), 1000);
        for chance in 0..1000 {
            assert!((200..=400).contains(&options.pause(3, chance).as_millis()), "{chance}");
        }
        assert!((0..1000).any(|chance| options.pause(3, chance).as_millis() == 200));
        assert_eq!(HookOptions { retry_ms: 1, ..good() }.pause(1, 7).as_millis(), 1, "never at once");
    }
}
