//! Why a text is no filter.

use std::fmt;

/// What is wrong with the text of a filter, and where. Its display is one line for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct FilterError {
    /// Where, in characters from 1 on.
    pub at: usize,
    /// What, and what would be right: lower case, no full stop.
    pub message: String,
}

impl FilterError {
    /// An error at the byte `offset` of `text`.
    pub(crate) fn new(text: &str, offset: usize, message: impl Into<String>) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        Self { at: before.chars().count() + 1, message: message.into() }
    }
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: {}", self.at, self.message)
    }
}

/// A piece of a wrong text, short enough to be shown.
pub(crate) fn shown(text: &str) -> String {
    let mut piece: String = text.chars().take(SHOWN).collect();
    if piece.len() < text.len() {
        piece.push('…');
    }
    piece
}

/// So many characters of a wrong word are shown to who sent it.
const SHOWN: usize = 32;
