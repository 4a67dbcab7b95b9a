//! Why the gate cannot be opened, or a changed file is not taken.

use std::path::PathBuf;

/// A file of access control that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{}: cannot be read: {reason}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// What is in it is wrong, as a whole.
    #[error("{}: {reason}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is right.
        reason: String,
    },
    /// No HTTP client for call-out and JWKS.
    #[error("no HTTP client: {0}")]
    Client(String),
    /// What is in it is wrong.
    #[error("{}:{line}: {reason}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong, and what is right.
        reason: String,
    },
}

/// A mistake in the text of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TextError {
    /// The line, from 1.
    pub(crate) line: usize,
    pub(crate) reason: String,
}

impl TextError {
    pub(crate) fn in_file(self, path: impl Into<PathBuf>) -> FileError {
        FileError::Line { path: path.into(), line: self.line, reason: self.reason }
    }
}
