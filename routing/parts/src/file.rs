//! A file that a setting names.

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// What is in a file, from one reading: a plan is made of it, and with what a later reading finds it is told whether another plan
/// is needed.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    key: &'static str,
    path: PathBuf,
    bytes: Vec<u8>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{key} {}: {reason}", path.display())]
pub struct FileError {
    /// The key that names it.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl File {
    /// Reads the file that `key` names, if it names one. Blocks.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(key: &'static str, path: Option<&Path>) -> Result<Option<Self>, FileError> {
        let Some(path) = path else { return Ok(None) };
        let mut file = Self { key, path: path.to_owned(), bytes: Vec::new() };
        file.bytes = std::fs::read(path).map_err(|error| file.wrong(error))?;
        Ok(Some(file))
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// All of it, without white space around it.
    ///
    /// # Errors
    /// It is empty, or no text.
    pub fn text(&self) -> Result<&str, FileError> {
        match str::from_utf8(&self.bytes).map_err(|error| self.wrong(error))?.trim() {
            "" => Err(self.wrong("it is empty")),
            text => Ok(text),
        }
    }

    /// It cannot be used, and this is why.
    pub fn wrong(&self, why: impl Display) -> FileError {
        FileError { key: self.key, path: self.path.clone(), reason: why.to_string() }
    }
}
