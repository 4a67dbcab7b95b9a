//! What a subscriber selects of the events of its topic filter, in the words of every protocol.

use std::fmt;
use std::str::FromStr;

use bytestring::ByteString;
use serde::{Deserialize, Serialize};

/// A filter as a subscriber wrote it. Whether it is one, the core says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Select {
    /// What it is written in.
    pub language: Language,
    /// The expression.
    pub text: ByteString,
}

/// A language for filters. The numbers of the variants are in records of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// CloudEvents SQL 1.0.
    Cesql,
    /// The Common Expression Language.
    Cel,
}

/// A text is no filter as configurations write it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSelect {
    /// It does not name its language.
    #[error("a filter is \"cesql: EXPRESSION\" or \"cel: EXPRESSION\"")]
    Unnamed,
    /// It names another.
    #[error(transparent)]
    Language(#[from] UnknownLanguage),
}

/// No language for filters has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filters are written in cesql or cel, not in {0:?}")]
pub struct UnknownLanguage(String);

impl Select {
    /// The filter `text`.
    pub fn new(language: Language, text: impl Into<ByteString>) -> Self {
        Self { language, text: text.into() }
    }

    /// The language of a filter that comes under `name`: [`CESQL_NAME`] or [`CEL_NAME`].
    pub fn language_of(name: &str) -> Option<Language> {
        match name {
            CESQL_NAME => Some(Language::Cesql),
            CEL_NAME => Some(Language::Cel),
            _ => None,
        }
    }
}

/// As configurations write it: `LANGUAGE: EXPRESSION`.
impl FromStr for Select {
    type Err = BadSelect;

    fn from_str(text: &str) -> Result<Self, BadSelect> {
        let (language, expression) = text.split_once(':').ok_or(BadSelect::Unnamed)?;
        Ok(Self::new(language.trim().parse()?, expression.trim()))
    }
}

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.language, self.text)
    }
}

/// The name under which protocols carry a filter in CESQL.
pub const CESQL_NAME: &str = "filter-cesql";
/// The name under which protocols carry a filter in CEL.
pub const CEL_NAME: &str = "filter-cel";

impl Language {
    /// Its name in configuration and protocols.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cesql => "cesql",
            Self::Cel => "cel",
        }
    }
}

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(text: &str) -> Result<Self, UnknownLanguage> {
        [Self::Cesql, Self::Cel]
            .into_iter()
            .find(|language| text.eq_ignore_ascii_case(language.as_str()))
            .ok_or_else(|| UnknownLanguage(text.chars().take(SHOWN).collect()))
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// So much of a wrong name is shown to who sent it.
const SHOWN: usize = 32;
