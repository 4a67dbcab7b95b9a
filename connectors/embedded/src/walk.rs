//! One step over a segment: a whole record, damage up to the next one, or the end. What is damage and what is a torn tail
//! is told in `recovery.rs`; here it is decided, for the log that is opened and for those who only look at it.

use std::io;
use std::sync::Arc;

use crate::body;
use crate::disk::{Disk, DiskFile};
use crate::record::{FRAME, Salt};
use crate::segment::{self, HEADER, Header};
use crate::window::{Look, Window};

/// How much a walk reads at once.
pub(crate) const AHEAD: usize = 1 << 20;

/// A segment as it was found.
pub(crate) struct Piece<F> {
    pub(crate) base: u64,
    pub(crate) file: Arc<F>,
    pub(crate) length: u64,
    pub(crate) header: Option<Header>,
}

impl<F: DiskFile> Piece<F> {
    /// Opens the segment with this base. A header of another segment is none.
    pub(crate) fn open<D: Disk<File = F>>(disk: &D, dir: &std::path::Path, base: u64) -> io::Result<Self> {
        let file = disk.open(&segment::path(dir, base))?;
        let header = Header::read(&file)?.filter(|header| header.base == base);
        Ok(Self { base, length: file.length()?, header, file: Arc::new(file) })
    }

    pub(crate) fn window(&self, salt: Salt, limit: u64) -> Window<F> {
        Window::new(Arc::clone(&self.file), salt, self.base, limit, AHEAD)
    }

    /// A window up to where records can be, if the segment behind this one starts at `next`.
    pub(crate) fn records(&self, salt: Salt, next: Option<u64>) -> Window<F> {
        self.window(salt, (self.base + self.length).min(next.unwrap_or(u64::MAX)))
    }
}

/// What is at a place.
pub(crate) enum Step {
    /// A whole record of this length.
    Record(usize),
    /// Damage up to here.
    Damage(u64),
    /// No record from here on; in the last segment, none that was confirmed.
    End,
}

/// Where a walk from `wanted` on starts: there if that is a record's place, else at the first record of the segment.
pub(crate) fn start<F: DiskFile>(window: &mut Window<F>, wanted: u64) -> io::Result<u64> {
    let first = window.base() + HEADER;
    let is_record = matches!(window.look(wanted.max(first))?, Look::Record(_));
    Ok(if is_record { wanted.max(first) } else { first })
}

/// What is at `at`. In the last segment of a log damage needs a witness, a record behind it that says that `at` was durable.
pub(crate) fn step<F: DiskFile>(window: &mut Window<F>, at: u64, is_last: bool) -> io::Result<Step> {
    let skip = match window.look(at)? {
        Look::Record(record) => return Ok(Step::Record(record.len())),
        Look::Limit => return Ok(Step::End),
        Look::End => 1,
        Look::Bad(length) => length.unwrap_or(1),
    };
    match window.find(at + skip as u64)? {
        Some(next) if !is_last || is_witnessed(window, next, at)? => Ok(Step::Damage(next)),
        None if !is_last => Ok(Step::Damage(window.limit())),
        Some(_) | None => Ok(Step::End),
    }
}

/// Whether a record at or behind `from` says that the log was durable beyond `place`.
fn is_witnessed<F: DiskFile>(window: &mut Window<F>, from: u64, place: u64) -> io::Result<bool> {
    let mut next = Some(from);
    while let Some(at) = next {
        let Look::Record(record) = window.look(at)? else { return Ok(false) };
        if record.get(FRAME..).and_then(body::synced).is_some_and(|synced| synced > place) {
            return Ok(true);
        }
        let behind = at + record.len() as u64;
        next = window.find(behind)?;
    }
    Ok(false)
}
