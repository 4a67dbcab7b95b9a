//! Where a replay starts, in the words of every protocol, and the filter that carries them. Sans-io.
//!
//! ```text
//! start    = "all" | position | time | age
//! position = 1*DIGIT                              behind the event that the log holds there
//! time     = date-time of RFC 3339                the first event that was received then or later
//! age      = "-" 1*DIGIT ("s" | "m" | "h" | "d")  the same, so long ago
//! filter   = "$replay/" start "/" topic-filter
//! ```

use std::time::Duration;

use bytestring::ByteString;

use crate::event::parse_rfc3339;
use crate::store::Position;
use crate::{TopicError, TopicFilter};

/// Where in the log a subscription starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest event that is kept.
    All,
    /// Behind this position; at the oldest event that is kept if that is later.
    Behind(Position),
    /// At the first event that was received at this time or later, milliseconds since 1970.
    Since(u64),
    /// The same, so long before now.
    Ago(Duration),
}

/// Why a text says no start, or a filter no replay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// None of the forms of a start.
    #[error(
        "a replay starts at \"all\", a position (digits), an RFC 3339 time or an age such as -10m, not {0:?}"
    )]
    Unknown(String),
    /// `$replay/` without a start and a filter behind it.
    #[error("a replay is $replay/START/FILTER, such as $replay/all/a/#")]
    Filter,
    /// The filter behind it is none.
    #[error(transparent)]
    Topic(#[from] TopicError),
}

impl Start {
    /// Reads a start. Letters may be large or small.
    pub fn parse(text: &str) -> Result<Self, StartError> {
        let known = if text.eq_ignore_ascii_case("all") {
            Some(Self::All)
        } else if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            text.parse().ok().map(|position| Self::Behind(Position(position)))
        } else if let Some(age) = text.strip_prefix('-') {
            parse_age(age).map(Self::Ago)
        } else {
            parse_rfc3339(&text.to_ascii_uppercase()).map(Self::Since)
        };
        known.ok_or_else(|| StartError::Unknown(text.chars().take(SHOWN).collect()))
    }
}

/// Reads a filter that may be one of a replay: `$replay/START/FILTER`, or a plain filter.
pub fn parse_filter(text: impl Into<ByteString>) -> Result<(TopicFilter, Option<Start>), StartError> {
    let text = text.into();
    let Some(rest) = text.strip_prefix(PREFIX) else {
        return Ok((TopicFilter::parse(text)?, None));
    };
    let (start, filter) = rest.split_once('/').ok_or(StartError::Filter)?;
    if filter.is_empty() {
        return Err(StartError::Filter);
    }
    Ok((TopicFilter::parse(text.slice_ref(filter))?, Some(Start::parse(start)?)))
}

/// The filter without its replay, whatever that says: what an UNSUBSCRIBE names.
pub fn plain_filter(text: impl Into<ByteString>) -> Result<TopicFilter, TopicError> {
    let text = text.into();
    let rest = text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/'));
    TopicFilter::parse(rest.map_or_else(|| text.clone(), |(_, filter)| text.slice_ref(filter)))
}

fn parse_age(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" | "S" => 1,
        "m" | "M" => 60,
        "h" | "H" => 3600,
        "d" | "D" => 86_400,
        _ => return None,
    };
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

const PREFIX: &str = "$replay/";
/// So much of a wrong start is shown to who sent it.
const SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read_and_others_named() {
        for (text, start) in [
            ("all", Start::All),
            ("ALL", Start::All),
            ("0", Start::Behind(Position(0))),
            ("18446744073709551615", Start::Behind(Position(u64::MAX))),
            ("2023-11-14T22:13:20Z", Start::Since(1_700_000_000_000)),
            ("2023-11-14t23:13:20.5+01:00", Start::Since(1_700_000_000_500)),
            ("-90s", Start::Ago(Duration::from_secs(90))),
            ("-10m", Start::Ago(Duration::from_secs(600))),
            ("-2H", Start::Ago(Duration::from_secs(7200))),
            ("-7d", Start::Ago(Duration::from_secs(604_800))),
        ] {
            assert_eq!(Start::parse(text), Ok(start), "{text}");
        }
        for text in [
            "",
            "-",
            "-m",
            "-1",
            "-1w",
            "--1m",
            "-+1m",
            "+1",
            "1 ",
            "18446744073709551616",
            "yesterday",
            "2023-11-14",
            "2023-13-14T22:13:20Z",
            "1960-01-01T00:00:00Z",
            "-99999999999999999999d",
            "-1é",
        ] {
            assert_eq!(Start::parse(text), Err(StartError::Unknown(text.to_owned())));
        }
    }

    #[test]
    fn a_filter_says_where_it_starts() {
        let plain = |text| TopicFilter::parse(text).unwrap();
        assert_eq!(parse_filter("a/#"), Ok((plain("a/#"), None)));
        assert_eq!(parse_filter("$replay/all/a/#"), Ok((plain("a/#"), Some(Start::All))));
        assert_eq!(parse_filter("$replay/7//a"), Ok((plain("/a"), Some(Start::Behind(Position(7))))));
        let time = "$replay/2023-11-14T23:13:20+01:00/#";
        assert_eq!(parse_filter(time), Ok((plain("#"), Some(Start::Since(1_700_000_000_000)))));
        for text in ["$replay/", "$replay/all", "$replay/all/"] {
            assert_eq!(parse_filter(text), Err(StartError::Filter), "{text}");
        }
        assert_eq!(parse_filter("$replay/now/a"), Err(StartError::Unknown("now".to_owned())));
        assert_eq!(parse_filter("$replay/all/a#"), Err(StartError::Topic(TopicError::WildcardPlace)));
        for text in ["a/#", "$replay/all/a/#", "$replay/now/a/#"] {
            assert_eq!(plain_filter(text), Ok(plain("a/#")));
        }
    }
}
