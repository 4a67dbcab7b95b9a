//! Where a group begins that has consumed nothing yet.

use std::fmt;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Where a new group begins in a queue. In configuration "first", "last", or a time such as "2026-11-24T08:00:00Z".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Start {
    /// With the oldest message that is there.
    #[default]
    First,
    /// With the next one that comes.
    Last,
    /// With the first that was stored at this time or later, milliseconds since 1970.
    At(u64),
}

/// The text is neither of the words nor a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("start is {0:?}; write \"first\", \"last\" or a time such as \"2026-11-24T08:00:00Z\"")]
pub struct StartError(String);

impl TryFrom<String> for Start {
    type Error = StartError;

    fn try_from(text: String) -> Result<Self, StartError> {
        match &*text {
            "first" => return Ok(Self::First),
            "last" => return Ok(Self::Last),
            _ => {}
        }
        let at = OffsetDateTime::parse(&text, &Rfc3339).ok();
        let ms = at.and_then(|at| u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok());
        ms.map(Self::At).ok_or(StartError(text))
    }
}

impl From<Start> for String {
    fn from(start: Start) -> Self {
        start.to_string()
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("first"),
            Self::Last => f.write_str("last"),
            Self::At(ms) => {
                let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(*ms) * 1_000_000);
                f.write_str(&at.ok().and_then(|at| at.format(&Rfc3339).ok()).ok_or(fmt::Error)?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read_and_written() {
        for (text, start) in [
            ("first", Start::First),
            ("last", Start::Last),
            ("1970-01-01T00:00:01.5Z", Start::At(1500)),
            ("2026-11-24T08:00:00Z", Start::At(1_795_507_200_000)),
        ] {
            assert_eq!(
                (Start::try_from(text.to_owned()).unwrap(), start.to_string()),
                (start, text.to_owned())
            );
        }
        assert_eq!(Start::try_from("1970-01-01T01:00:00+01:00".to_owned()).unwrap(), Start::At(0));
        for text in ["", "First", "2026-11-24", "1969-12-31T00:00:00Z"] {
            assert_eq!(Start::try_from(text.to_owned()), Err(StartError(text.to_owned())));
        }
    }
}
