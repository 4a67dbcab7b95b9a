//! Why a log cannot be opened, in words for the person who starts Weft.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting is out of its range.
    #[error("{key} is {value}; it has to be between {least} and {most}")]
    Option {
        /// Which.
        key: &'static str,
        /// What it is.
        value: u64,
        /// The least it may be.
        least: u64,
        /// The most it may be.
        most: u64,
    },
    /// Another process has the folder.
    #[error(
        "data folder {dir} is in use by another weft: stop that one, or give this one a folder of its own with --data"
    )]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder or a file in it cannot be used.
    #[error("cannot {action} {path}: {source}{hint}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do about it, if that is known.
        hint: &'static str,
    },
    /// There is no log in the folder.
    #[error(
        "{dir} holds no log of weft: name its data folder with --data, or the configuration that names it with --config"
    )]
    NoLog {
        /// The folder.
        dir: PathBuf,
    },
    /// A file is of a format that this version does not know.
    #[error("{path} has format {found}, this weft knows up to {known}: start the newer weft that wrote it")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest known one.
        known: u32,
    },
    /// No segment has a header that can be read.
    #[error(
        "{path} is no log of weft, or its header is damaged: restore the data folder from a copy, or move it away to start empty"
    )]
    Header {
        /// The file.
        path: PathBuf,
    },
    /// There are checkpoints, and none is whole.
    #[error(
        "no checkpoint in {dir} is whole: restore the data folder from a copy, or move the checkpoint files away to start without the sessions they hold"
    )]
    Checkpoint {
        /// The folder.
        dir: PathBuf,
    },
}

impl OpenError {
    /// `action` on `path` failed.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let hint = HINTS.iter().find(|(kind, _)| *kind == source.kind()).map_or("", |(_, hint)| hint);
        Self::Io { action, path: path.to_owned(), source, hint }
    }
}

const HINTS: [(ErrorKind, &str); 7] = [
    (ErrorKind::NotFound, ": name the data folder with --data"),
    (
        ErrorKind::PermissionDenied,
        ": the user who runs weft has to own the data folder, or choose another with --data",
    ),
    (ErrorKind::ReadOnlyFilesystem, ": choose a folder that can be written with --data"),
    (ErrorKind::StorageFull, ": free some space on this disk"),
    (ErrorKind::QuotaExceeded, ": free some space, or raise the quota"),
    (ErrorKind::NotADirectory, ": a file is in the place of a folder"),
    (ErrorKind::AlreadyExists, ": a file is in the place of a folder"),
];
