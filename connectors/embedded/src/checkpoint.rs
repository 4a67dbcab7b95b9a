//! Checkpoints: the core's state as of a record, each in a file of its own, the last two of them kept.
//!
//! The name is the position, 20 digits, and `.checkpoint`. A checkpoint is written to `checkpoint.tmp`, synced, and
//! renamed; only then an older one goes. Space is freed below the older of the two, so if the newer one is damaged
//! later, the older one and the records behind it still tell all.
//!
//! ```text
//! offset size
//!      0    8  "weft chk"
//!      8    4  version of the format: 1
//!     12    4  0
//!     16    8  position
//!     24    8  salt of the data folder
//!     32    8  length of the state
//!     40    4  CRC-32 (IEEE) of the bytes before, then of the state
//!     44    …  state
//! ```

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use event::store::Position;
use event::{Reject, RejectKind};
use tracing::{error, warn};

use crate::disk::{Disk, DiskFile, read_around};
use crate::error::OpenError;
use crate::record::Salt;
use crate::shared::{Shared, lock};

const MAGIC: [u8; 8] = *b"weft chk";
const VERSION: u64 = 1;
const HEAD: usize = 44;
/// So much is written at once, 256 KiB: a millisecond or two of a slow disk.
const WRITE_PIECE: usize = 256 << 10;
/// How much of a checkpoint is read at once by those who only look.
const PIECE: usize = 1 << 20;
pub(crate) const EXTENSION: &str = ".checkpoint";
pub(crate) const TEMPORARY: &str = "checkpoint.tmp";

/// A checkpoint, read.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) position: Position,
    pub(crate) salt: Salt,
    pub(crate) state: Bytes,
}

pub(crate) fn path(dir: &Path, position: Position) -> PathBuf {
    dir.join(format!("{:020}{EXTENSION}", position.0))
}

/// The head of a checkpoint, but for its sum.
fn start(position: Position, salt: Salt, length: u64) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD);
    head.extend_from_slice(&MAGIC);
    for number in [VERSION, position.0, salt.0, length] {
        head.extend_from_slice(&number.to_le_bytes());
    }
    head
}

fn head(position: Position, salt: Salt, state: &[u8]) -> Vec<u8> {
    let mut head = start(position, salt, state.len() as u64);
    let mut sum = crc32fast::Hasher::new();
    sum.update(&head);
    sum.update(state);
    head.extend_from_slice(&sum.finalize().to_le_bytes());
    head
}

/// A whole checkpoint.
#[cfg(test)]
pub(crate) fn encode(position: Position, salt: Salt, state: &[u8]) -> Vec<u8> {
    [&head(position, salt, state), state].concat()
}

/// What a checkpoint is, seen from outside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// It can be used; the salt of its folder.
    Whole(Salt),
    /// It is whole, and of a format that this version does not know.
    Newer(u32),
    /// It is not whole.
    Damaged,
}

/// The size of a checkpoint, and what it is. Does not hold it in memory.
pub(crate) fn look<D: Disk>(disk: &D, dir: &Path, position: Position) -> io::Result<(u64, Seen)> {
    let file = disk.open(&path(dir, position))?;
    let length = file.length()?;
    let mut head = [0; HEAD];
    if read_around(&file, &mut head, 0, 0)? < HEAD {
        return Ok((length, Seen::Damaged));
    }
    let (content, told) = head.split_at(HEAD - 4);
    let mut sum = crc32fast::Hasher::new();
    sum.update(content);
    let mut bytes = vec![0; PIECE];
    let mut at = HEAD as u64;
    loop {
        let read = read_around(&file, &mut bytes, at, 0)?;
        sum.update(bytes.get(..read).unwrap_or_default());
        at += read as u64;
        if read == 0 {
            break;
        }
    }
    let number =
        |at: usize| content.get(at..).and_then(|rest| rest.first_chunk()).map(|n| u64::from_le_bytes(*n));
    let (Some(version), Some(salt)) = (number(8), number(24).map(Salt)) else {
        return Ok((length, Seen::Damaged));
    };
    let seen = if !content.starts_with(&MAGIC) || told != sum.finalize().to_le_bytes() {
        Seen::Damaged
    } else if version != VERSION {
        Seen::Newer(u32::try_from(version).unwrap_or(u32::MAX))
    } else if content == start(position, salt, at - HEAD as u64) {
        Seen::Whole(salt)
    } else {
        Seen::Damaged
    };
    Ok((length, seen))
}

/// The error for a checkpoint of another format.
pub(crate) fn newer(path: PathBuf, found: u32) -> OpenError {
    OpenError::Version { path, found, known: u32::try_from(VERSION).unwrap_or(u32::MAX) }
}

/// Reads a checkpoint; `None` if it is not whole, or the disk cannot read it.
pub(crate) fn read<D: Disk>(disk: &D, dir: &Path, position: Position) -> io::Result<Option<Checkpoint>> {
    let file = disk.open(&path(dir, position))?;
    let mut bytes = vec![0; usize::try_from(file.length()?).unwrap_or(usize::MAX)];
    let read = read_around(&file, &mut bytes, 0, 0)?;
    bytes.truncate(read);
    Ok(decode(bytes.into(), position))
}

fn decode(mut bytes: Bytes, position: Position) -> Option<Checkpoint> {
    let salt = Salt(u64::from_le_bytes(*bytes.get(24..)?.first_chunk()?));
    let state = (bytes.len() >= HEAD).then(|| bytes.split_off(HEAD))?;
    (bytes == head(position, salt, &state)).then_some(Checkpoint { position, salt, state })
}

/// Keeps `state`; done when it is durable, and the records it rests on too.
pub(crate) fn keep<D: Disk>(shared: &Shared<D>, position: Position, state: &[u8]) -> Result<(), Reject> {
    // Else a power cut could leave a checkpoint that is ahead of the log.
    shared.sync_up_to(position)?;
    let _turn = lock(&shared.checkpoint_turn);
    let mut kept = lock(&shared.checkpoints).clone();
    if kept.last().is_some_and(|last| position < *last) || position.0 >= shared.readable() {
        let reason = format!("a checkpoint at {} is older than the last one, or beyond the log", position.0);
        return Err(Reject::new(RejectKind::Malformed, reason));
    }
    if let Err(error) = write(shared, position, state) {
        shared.disk.remove(&shared.dir.join(TEMPORARY)).unwrap_or(());
        warn!(dir = %shared.dir.display(), %error, "cannot keep a checkpoint");
        return Err(Reject::new(RejectKind::Unavailable, format!("cannot keep a checkpoint: {error}")));
    }
    if kept.last() != Some(&position) {
        kept.push(position);
    }
    while kept.len() > 2 {
        let oldest = kept.remove(0);
        if let Err(error) = shared.disk.remove(&path(&shared.dir, oldest)) {
            warn!(dir = %shared.dir.display(), %error, "cannot remove an old checkpoint");
        }
    }
    *lock(&shared.checkpoints) = kept;
    Ok(())
}

fn write<D: Disk>(shared: &Shared<D>, position: Position, state: &[u8]) -> io::Result<()> {
    let Shared { disk, dir, salt, .. } = shared;
    let temporary = dir.join(TEMPORARY);
    let file = disk.create(&temporary)?;
    file.write_at(&head(position, *salt, state), 0)?;
    for (at, piece) in (0..).step_by(WRITE_PIECE).zip(state.chunks(WRITE_PIECE)) {
        file.write_at(piece, HEAD as u64 + at)?;
        // The log's own syncs have to wait for what the disk has taken: a piece, and not the whole of it.
        file.sync()?;
    }
    file.sync_all()?;
    disk.rename(&temporary, &path(dir, position))?;
    disk.sync_dir(dir)
}

/// The newest checkpoint that is whole.
pub(crate) fn load<D: Disk>(shared: &Shared<D>) -> Result<Option<(Position, Bytes)>, Reject> {
    let kept = lock(&shared.checkpoints).clone();
    for position in kept.iter().rev() {
        match read(&shared.disk, &shared.dir, *position) {
            Ok(Some(checkpoint)) => return Ok(Some((checkpoint.position, checkpoint.state))),
            Ok(None) => error!(dir = %shared.dir.display(), position = position.0, "checkpoint damaged"),
            Err(error) => {
                error!(dir = %shared.dir.display(), position = position.0, %error, "cannot read a checkpoint")
            }
        }
    }
    if kept.is_empty() {
        return Ok(None);
    }
    Err(Reject::new(RejectKind::Unavailable, "no checkpoint can be read"))
}
