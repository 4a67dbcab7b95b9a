//! Opens a data folder: finds the last checkpoint, walks the records behind it, and finds where the log ends.
//!
//! **Torn or damaged?** In all segments but the last every byte was durable before the next segment came to be, so a
//! bad record there is damage: it is reported, and the next good record is searched for. In the last segment a bad
//! record may also be the torn tail of a power cut: writes that no sync had confirmed, of which the disk kept any part.
//! These were promised to nobody and are cut. The two are told apart by the records behind: the first record after
//! each sync says up to where the log was durable when it was written. If one of them says that the bad place was,
//! this is damage, and nothing behind it is given up. The very last sync gets its witness as soon as nothing comes
//! for a while, or at a stop: a record without content. Damage that hits before that, after a crash, is taken for a
//! torn tail.
//!
//! What the disk cannot read at all (EIO) is damage like any other: its blocks are passed, the rest is served.
//!
//! What is cut is cut by length, and the length synced before anything is appended, so old bytes never come back.
//!
//! What is kept is made durable before it is shown: a record that only the page cache has, after `kill -9` or after a
//! sync that failed, must not be acted on. After a failed sync the cache calls such bytes clean, and no later sync
//! writes them; so all that has no witness is written again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use event::Health;
use event::store::Position;
use tracing::{error, info, warn};

use crate::body;
use crate::checkpoint::{self, Checkpoint, Seen};
use crate::disk::{BLOCK, Disk, DiskFile, is_unreadable};
use crate::error::OpenError;
use crate::lockfile;
use crate::options::Options;
use crate::record::{FRAME, Salt};
use crate::segment::{self, HEADER};
use crate::shared::{Found, Segment, Shared};
use crate::walk::{self, AHEAD, Piece, Place, Step};
use crate::window::Window;
use crate::writer::Writer;

/// What opening a data folder found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// The checkpoint that is used.
    pub checkpoint: Option<Position>,
    /// Records from there on.
    pub records: u64,
    /// Files of the log.
    pub segments: usize,
    /// Where the log goes on.
    pub end: Position,
    /// The torn tail of a power cut that was cut off: positions. Nothing of it was confirmed.
    pub cut: Option<Range<u64>>,
    /// Positions whose records are lost to damage of the disk.
    pub damaged: Vec<Range<u64>>,
    /// Checkpoints that are not whole.
    pub checkpoints_damaged: usize,
}

type Recovered<D> = (Arc<Shared<D>>, Writer<D>, Recovery);

pub(crate) fn recover<D: Disk>(
    disk: D,
    dir: &Path,
    options: &Options,
    health: Health,
    now_ms: u64,
) -> Result<Recovered<D>, OpenError> {
    let (lock, spare_salt) = lock_folder(&disk, dir)?;
    let names = disk.list(dir).map_err(|error| OpenError::io("list", dir, error))?;
    let mut recovery = Recovery::default();
    let (kept, checkpoint) = find_checkpoints(&disk, dir, &names, &mut recovery)?;
    let mut pieces = find_pieces(&disk, dir, &names)?;
    let known = checkpoint.as_ref().map(|checkpoint| checkpoint.salt).or(spare_salt);
    let salt = find_salt(&disk, dir, &mut pieces, known)?;
    if spare_salt != Some(salt) {
        lockfile::keep(&lock, salt)
            .map_err(|error| OpenError::io("write", &dir.join(lockfile::NAME), error))?;
    }
    drop_unborn(&disk, dir, &mut pieces)?;
    recovery.checkpoint = checkpoint.as_ref().map(|checkpoint| checkpoint.position);

    let behind = recovery.checkpoint.map_or(0, |position| position.0);
    let Walked { end, durable } = walk_all(&pieces, salt, behind, dir, &mut recovery)?;
    let mut segments = list(&pieces, end);
    let (file, base, end, filled) = match pieces.pop() {
        Some(last) if end > behind && last.header.is_some() => {
            let filled = end.max(last.base + settle(&last, durable, end, dir, &mut recovery)?);
            (last.file, last.base, end, filled)
        }
        other => {
            // A new folder, a log that lost its end (positions still rise above those the checkpoint knows), or a last segment
            // that lost its header: it stays as it is.
            if let Some(last) = &other {
                settle(last, durable, end, dir, &mut recovery)?;
            }
            if behind > 0 && end <= behind {
                recovery.damaged.push(end..behind + 1);
            }
            let base = if behind == 0 { end } else { end.max(behind + 1) };
            let path = segment::path(dir, base);
            let file = segment::create(&disk, dir, base, salt, now_ms)
                .map_err(|e| OpenError::io("create", &path, e))?;
            if let Some(sealed) = segments.last_mut() {
                sealed.end = base;
            }
            segments.push(Segment::new(base, now_ms));
            (Arc::new(file), base, base + HEADER, base + HEADER)
        }
    };
    if let Some(active) = segments.last_mut() {
        active.bytes = filled - base;
    }
    disk.sync_dir(dir).map_err(|error| OpenError::io("sync", dir, error))?;
    recovery.segments = segments.len();
    recovery.end = Position(end);
    report(dir, &recovery);
    let found = Found { salt, segments, active: Arc::clone(&file), end, checkpoints: kept, lock };
    let shared = Arc::new(Shared::new(disk, dir.to_owned(), options.clone(), health, found));
    let writer = Writer::new(Arc::clone(&shared), file, base, end, filled);
    Ok((shared, writer, recovery))
}

pub(crate) fn lock_folder<D: Disk>(disk: &D, dir: &Path) -> Result<(D::File, Option<Salt>), OpenError> {
    disk.create_dir(dir).map_err(|error| OpenError::io("create", dir, error))?;
    let path = dir.join(lockfile::NAME);
    let file = match disk.open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(&path),
        other => other,
    };
    let file = file.map_err(|error| OpenError::io("create", &path, error))?;
    match file.try_lock() {
        Ok(true) => {}
        Ok(false) => return Err(OpenError::Locked { dir: dir.to_owned() }),
        Err(error) => return Err(OpenError::io("lock", &path, error)),
    }
    let salt = lockfile::read(&file).map_err(|error| OpenError::io("read", &path, error))?;
    Ok((file, salt))
}

/// The checkpoints that are whole, rising, and the newest of them. Others that are older than the last two are removed.
fn find_checkpoints<D: Disk>(
    disk: &D,
    dir: &Path,
    names: &[String],
    recovery: &mut Recovery,
) -> Result<(Vec<Position>, Option<Checkpoint>), OpenError> {
    if names.iter().any(|name| name == checkpoint::TEMPORARY) {
        disk.remove(&dir.join(checkpoint::TEMPORARY))
            .map_err(|error| OpenError::io("remove from", dir, error))?;
    }
    let mut positions: Vec<u64> =
        names.iter().filter_map(|name| segment::number_of(name, checkpoint::EXTENSION)).collect();
    positions.sort_unstable_by_key(|position| std::cmp::Reverse(*position));
    let (mut kept, mut newest) = (Vec::new(), None);
    for position in positions.iter().copied().map(Position) {
        let path = checkpoint::path(dir, position);
        if kept.len() == 2 {
            disk.remove(&path).map_err(|error| OpenError::io("remove", &path, error))?;
            continue;
        }
        match checkpoint::read(disk, dir, position).map_err(|error| OpenError::io("read", &path, error))? {
            Some(checkpoint) => {
                kept.insert(0, position);
                newest = newest.or(Some(checkpoint));
            }
            None => match checkpoint::look(disk, dir, position) {
                Ok((_, Seen::Newer(found))) => return Err(checkpoint::newer(path, found)),
                Ok((_, Seen::Whole(_) | Seen::Damaged)) | Err(_) => recovery.checkpoints_damaged += 1,
            },
        }
    }
    if kept.is_empty() && !positions.is_empty() {
        return Err(OpenError::Checkpoint { dir: dir.to_owned() });
    }
    Ok((kept, newest))
}

fn find_pieces<D: Disk>(disk: &D, dir: &Path, names: &[String]) -> Result<Vec<Piece<D::File>>, OpenError> {
    let mut bases: Vec<u64> = names.iter().filter_map(|name| segment::number_of(name, ".log")).collect();
    bases.sort_unstable();
    let mut pieces = Vec::with_capacity(bases.len());
    for base in bases {
        let path = segment::path(dir, base);
        let piece = Piece::open(disk, dir, base).map_err(|error| OpenError::io("read", &path, error))?;
        segment::check_version(piece.header, &path)?;
        pieces.push(piece);
    }
    Ok(pieces)
}

/// The salt of the folder; a new folder gets one.
fn find_salt<D: Disk>(
    disk: &D,
    dir: &Path,
    pieces: &mut Vec<Piece<D::File>>,
    elsewhere: Option<Salt>,
) -> Result<Salt, OpenError> {
    let known = pieces.iter().find_map(|piece| piece.header).map(|header| header.salt);
    if let Some(salt) = known.or(elsewhere) {
        return Ok(salt);
    }
    // The very first segment may be without a header, if the power was cut while it was made. Then it is empty.
    for piece in pieces.drain(..) {
        let path = segment::path(dir, piece.base);
        if piece.length > HEADER {
            return Err(OpenError::Header { path });
        }
        disk.remove(&path).map_err(|error| OpenError::io("remove", &path, error))?;
    }
    Ok(Salt(RandomState::new().hash_one(std::process::id())))
}

/// A last segment without a header: the power was cut while it was made.
fn drop_unborn<D: Disk>(disk: &D, dir: &Path, pieces: &mut Vec<Piece<D::File>>) -> Result<(), OpenError> {
    if let Some(last) = pieces.pop_if(|last| last.header.is_none() && last.length <= HEADER) {
        let path = segment::path(dir, last.base);
        disk.remove(&path).map_err(|error| OpenError::io("remove", &path, error))?;
    }
    Ok(())
}

/// What a walk found.
#[derive(Clone, Copy, Default)]
struct Walked {
    /// Where the last record ends.
    end: u64,
    /// Up to here the log is known to be durable.
    durable: u64,
}

/// Walks all segments from the record at `behind` on, up to which the log is durable.
fn walk_all<F: DiskFile>(
    pieces: &[Piece<F>],
    salt: Salt,
    behind: u64,
    dir: &Path,
    recovery: &mut Recovery,
) -> Result<Walked, OpenError> {
    let mut walked = Walked { end: 0, durable: behind };
    // Space is freed below the checkpoints that are kept, so what is behind the newest was there.
    if let Some(first) = pieces.first().filter(|first| behind > 0 && first.base > behind) {
        recovery.damaged.push(behind..first.base);
    }
    for (at, piece) in pieces.iter().enumerate() {
        let next = pieces.get(at + 1).map(|next| next.base);
        if next.is_some_and(|next| next <= behind) {
            continue;
        }
        if piece.header.is_none() {
            recovery.damaged.push(piece.base..piece.base + HEADER);
        }
        let path = segment::path(dir, piece.base);
        let mut window = piece.records(salt, next);
        walk_one(&mut window, behind, piece.place(next), &mut walked, recovery)
            .map_err(|error| OpenError::io("read", &path, error))?;
        if let Some(next) = next.filter(|next| *next > walked.end) {
            recovery.damaged.push(walked.end..next);
        }
    }
    Ok(walked)
}

/// Walks one segment.
fn walk_one<F: DiskFile>(
    window: &mut Window<F>,
    behind: u64,
    place: Place,
    walked: &mut Walked,
    recovery: &mut Recovery,
) -> io::Result<()> {
    // A checkpoint at no record's place is not to be trusted with where the walk starts.
    walked.end = walk::start(window, behind)?;
    loop {
        let at = walked.end;
        match walk::step(window, at, place)? {
            Step::Record(length) => {
                let witness = window.record(at, length)?.get(FRAME..).and_then(body::synced);
                walked.durable = walked.durable.max(witness.unwrap_or(0));
                walked.end += length as u64;
                recovery.records += 1;
            }
            Step::Damage(to) => {
                walked.end = to;
                recovery.damaged.push(at..to);
            }
            Step::End => return Ok(()),
        }
    }
}

/// Makes the last segment what the walk says: written again from `durable` on, cut at `end`, and durable. What is left
/// of its length.
fn settle<F: DiskFile>(
    last: &Piece<F>,
    durable: u64,
    end: u64,
    dir: &Path,
    recovery: &mut Recovery,
) -> Result<u64, OpenError> {
    let mut settle = || {
        let mut window = last.window(Salt(0), last.base + last.length);
        let used = window.last_used(end)?;
        let from = if durable > last.base + HEADER { durable - last.base } else { 0 };
        write_again(&*last.file, from, end - last.base)?;
        if let Some(used) = used {
            recovery.cut = Some(end..used);
            last.file.truncate(end - last.base)?;
        }
        last.file.sync_all()?;
        Ok(if used.is_some() { end - last.base } else { last.length })
    };
    settle().map_err(|error| OpenError::io("repair", &segment::path(dir, last.base), error))
}

fn write_again(file: &impl DiskFile, from: u64, to: u64) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut at = from;
    while at < to {
        bytes.resize(AHEAD.min(usize::try_from(to - at).unwrap_or(AHEAD)), 0);
        let mut read = file.read_at(&mut bytes, at);
        if read.as_ref().is_err_and(is_unreadable) {
            // Block by block around what the disk has lost, which is no longer in any cache either.
            let border = (at / BLOCK as u64 + 1) * BLOCK as u64;
            bytes.truncate(usize::try_from(border - at).unwrap_or(BLOCK));
            read = file.read_at(&mut bytes, at);
            if read.as_ref().is_err_and(is_unreadable) {
                at = border;
                continue;
            }
        }
        let read = read?;
        bytes.truncate(read);
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_at(&bytes, at)?;
        at += bytes.len() as u64;
    }
    Ok(())
}

fn list<F>(pieces: &[Piece<F>], end: u64) -> Vec<Segment> {
    let mut created_ms = 0;
    let mut segments = Vec::with_capacity(pieces.len() + 1);
    for (at, piece) in pieces.iter().enumerate() {
        created_ms = piece.header.map_or(created_ms, |header| header.created_ms);
        let next = pieces.get(at + 1).map(|next| next.base);
        debug_assert!(next.is_some() || end >= piece.base, "the last segment holds the end");
        segments.push(Segment {
            base: piece.base,
            end: next.unwrap_or(u64::MAX),
            created_ms,
            bytes: piece.length,
            mix: None,
        });
    }
    segments
}

fn report(dir: &Path, recovery: &Recovery) {
    let Recovery { checkpoint, records, segments, end, cut, damaged, checkpoints_damaged } = recovery;
    let dir = dir.display();
    let checkpoint = checkpoint.map(|position| position.0);
    info!(%dir, checkpoint, records, segments, end = end.0, "log opened");
    if let Some(cut) = cut {
        warn!(%dir, from = cut.start, to = cut.end, "cut what a crash left unfinished; nothing of it was confirmed");
    }
    for damaged in damaged {
        error!(%dir, from = damaged.start, to = damaged.end, "the log is damaged here: records are lost");
    }
    if *checkpoints_damaged > 0 {
        error!(%dir, checkpoints_damaged, "a checkpoint is damaged; the one before it is used");
    }
}

/// The paths of a data folder that hold state, for tests that damage them.
#[cfg(any(test, feature = "testing"))]
pub fn files(disk: &impl Disk, dir: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let mut names = disk.list(dir)?;
    names.retain(|name| name.ends_with(".log") || name.ends_with(checkpoint::EXTENSION));
    names.sort_unstable();
    Ok(names.iter().map(|name| dir.join(name)).collect())
}
