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

    /// Which segment this is, if the one behind it starts at `next`.
    pub(crate) fn place(&self, next: Option<u64>) -> Place {
        match (next, self.header) {
            (Some(_), _) => Place::Sealed,
            (None, Some(_)) => Place::Last,
            (None, None) => Place::Headless,
        }
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

/// Which segment of its log is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// One that was sealed: all of it was durable.
    Sealed,
    /// The last one: damage needs a witness, a record behind it that says that its place was durable.
    Last,
    /// The last one, without a header. That is durable before a record comes, so nothing here is a torn tail.
    Headless,
}

/// What is at `at`.
pub(crate) fn step<F: DiskFile>(window: &mut Window<F>, at: u64, place: Place) -> io::Result<Step> {
    let skip = match window.look(at)? {
        Look::Record(record) => return Ok(Step::Record(record.len())),
        Look::Limit => return Ok(Step::End),
        Look::End => 1,
        Look::Bad(length) => length.unwrap_or(1),
    };
    match window.find(at + skip as u64)? {
        Some(next) if place != Place::Last || is_witnessed(window, next, at)? => Ok(Step::Damage(next)),
        // Zeros that were written ahead are no damage.
        None if place == Place::Headless && window.last_used(at)?.is_none() => Ok(Step::End),
        None if place != Place::Last => Ok(Step::Damage(window.limit())),
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
