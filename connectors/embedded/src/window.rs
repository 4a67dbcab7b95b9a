//! Looks at the records of one segment through a window of bytes. Checks sums, finds what is behind damage; changes nothing.

use std::io;
use std::sync::Arc;

use crate::disk::{DiskFile, read_around};
use crate::record::{self, FRAME, Head, Salt};

/// A view of one segment up to `limit`.
pub(crate) struct Window<F> {
    file: Arc<F>,
    salt: Salt,
    base: u64,
    limit: u64,
    /// How much to read at once.
    pub(crate) ahead: usize,
    start: u64,
    bytes: Vec<u8>,
}

/// In place of what the disk cannot read: no record starts with it, and it is not the end of the log.
const UNREADABLE: u8 = 0xee;

/// What is at a position.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Look<'a> {
    /// A whole record.
    Record(&'a [u8]),
    /// The limit.
    Limit,
    /// A length of zero.
    End,
    /// A record of this length with wrong bytes, or no record at all.
    Bad(Option<usize>),
}

impl<F: DiskFile> Window<F> {
    pub(crate) fn new(file: Arc<F>, salt: Salt, base: u64, limit: u64, ahead: usize) -> Self {
        Self { file, salt, base, limit, ahead, start: base, bytes: Vec::new() }
    }

    /// Where the segment starts.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Positions from here on are not looked at.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// What is at `position`.
    pub(crate) fn look(&mut self, position: u64) -> io::Result<Look<'_>> {
        if position >= self.limit {
            return Ok(Look::Limit);
        }
        let salt = self.salt;
        let length = match record::head(self.view(position, FRAME)?, salt, position) {
            Head::End => return Ok(Look::End),
            Head::Bad => return Ok(Look::Bad(None)),
            Head::Record(length) if length as u64 > self.limit - position => return Ok(Look::Bad(None)),
            Head::Record(length) => length,
        };
        match self.view(position, length)?.get(..length) {
            Some(record) if record::is_whole(record) => Ok(Look::Record(record)),
            Some(_) | None => Ok(Look::Bad(Some(length))),
        }
    }

    /// The bytes of a record that was found whole.
    pub(crate) fn record(&mut self, position: u64, length: usize) -> io::Result<&[u8]> {
        Ok(self.view(position, length)?.get(..length).unwrap_or_default())
    }

    /// Forgets what was read: a log that is being written may have more by now.
    pub(crate) fn forget(&mut self) {
        self.bytes.clear();
    }

    /// The first whole record at or behind `from`.
    pub(crate) fn find(&mut self, from: u64) -> io::Result<Option<u64>> {
        self.find_before(from, self.limit)
    }

    /// As [`Self::find`], if it starts before `until`.
    pub(crate) fn find_before(&mut self, from: u64, until: u64) -> io::Result<Option<u64>> {
        let mut at = from;
        while at < self.limit.min(until) {
            let view = self.view(at, FRAME)?;
            if view.len() < FRAME {
                // The file is shorter than it should be.
                return Ok(None);
            }
            let zeros = view.iter().take_while(|byte| **byte == 0).count();
            // A length has four bytes: a record may start with up to three zeros.
            if zeros > 3 {
                at += zeros as u64 - 3;
            } else if matches!(self.look(at)?, Look::Record(_)) {
                return Ok(Some(at));
            } else {
                at += 1;
            }
        }
        Ok(None)
    }

    /// Behind the last byte from `from` on that is not zero; `None` if all are.
    pub(crate) fn last_used(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut used = None;
        let mut at = from;
        while at < self.limit {
            let view = self.view(at, 1)?;
            if view.is_empty() {
                break;
            }
            let last = view.iter().rposition(|byte| *byte != 0);
            used = last.map(|last| at + last as u64 + 1).or(used);
            at += view.len() as u64;
        }
        Ok(used)
    }

    /// The bytes from `position` on that are in memory: at least `length`, fewer only before the limit or the file's end.
    fn view(&mut self, position: u64, length: usize) -> io::Result<&[u8]> {
        let length = length.min(usize::try_from(self.limit.saturating_sub(position)).unwrap_or(usize::MAX));
        let have = (self.start + self.bytes.len() as u64).saturating_sub(position);
        if position < self.start || have < length as u64 {
            self.fill(position, length.max(self.ahead))?;
        }
        let from = usize::try_from(position - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(from..).unwrap_or_default())
    }

    fn fill(&mut self, position: u64, length: usize) -> io::Result<()> {
        let room = usize::try_from(self.limit - position).unwrap_or(usize::MAX);
        self.start = position;
        self.bytes.resize(length.min(room), 0);
        let read = read_around(&*self.file, &mut self.bytes, position - self.base, UNREADABLE)
            .inspect_err(|_| self.bytes.clear());
        self.bytes.truncate(read?);
        Ok(())
    }
}
