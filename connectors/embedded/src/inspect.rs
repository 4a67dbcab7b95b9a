//! Looks at a data folder, also while a log runs on it: takes no lock and changes no byte.
//!
//! **A log that runs** writes behind its end and fills zeros ahead, starts segments, and frees old ones. What is seen here
//! is the log up to some place behind its end at [`Log::open`]: its end is an end and no damage, a segment that is freed
//! meanwhile is passed, and in the segment that is written, what looks damaged is read again before it is called so, since
//! it may have been read before it was written.
//!
//! Memory: one stretch of a segment (1 MiB, or one record if that is larger), and the names of the segments.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use event::Event;
use event::store::Position;

use crate::body;
use crate::checkpoint::{self, Seen};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::lockfile;
use crate::read_only::ReadOnly;
use crate::record::{FRAME, Salt};
use crate::segment::{self, HEADER};
use crate::walk::{self, Piece, Place, Step};
use crate::window::Window;

/// The log in a data folder, as it was when it was opened.
#[derive(Debug)]
pub struct Log {
    dir: PathBuf,
    salt: Salt,
    bases: Vec<u64>,
    checkpoints: Vec<Checkpoint>,
    /// How far the last segment's file goes.
    length: u64,
}

/// A checkpoint as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Of which record it tells the state.
    pub position: Position,
    /// Its size.
    pub bytes: u64,
    /// Whether it can be used.
    pub whole: bool,
    /// Its file.
    pub path: PathBuf,
}

/// A segment as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts.
    pub base: u64,
    /// Where the next one starts; `None`: it is the last.
    pub next: Option<u64>,
    /// The length of its file.
    pub bytes: u64,
    /// When it was started, milliseconds since 1970; `None`: its header is damaged.
    pub created_ms: Option<u64>,
    /// Its file.
    pub path: PathBuf,
}

/// A record that is whole.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where.
    pub position: Position,
    /// What it takes of the log.
    pub bytes: usize,
    /// The event, if it has one.
    pub event: Option<Event>,
    /// The core's note.
    pub note: Bytes,
}

/// Positions that hold no record and should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// From where to where.
    pub positions: Range<u64>,
    /// What it is.
    pub kind: DamageKind,
}

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DamageKind {
    /// The header of a segment. No record is lost by it.
    Header,
    /// Bytes that are no whole record: what stood there is lost.
    Records,
    /// A file, or the end of one, is gone: what stood there is lost.
    Missing,
}

/// What a walk meets, in the order of the log.
#[derive(Clone, Debug)]
pub enum Found {
    /// A segment starts.
    Segment(Segment),
    /// A record.
    Record(Record),
    /// Damage.
    Damage(Damage),
    /// Bytes behind the end of the log: a write under way, or one that a crash left unfinished. Nothing of it was
    /// confirmed; the next start cuts it off.
    Tail(Range<u64>),
}

impl Log {
    /// Opens the log in `dir`.
    ///
    /// # Errors
    /// The folder cannot be read, holds no log, or one of another format.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let names = ReadOnly.list(dir).map_err(|error| OpenError::io("look into", dir, error))?;
        let numbers = |extension| {
            let mut numbers: Vec<u64> =
                names.iter().filter_map(|name| segment::number_of(name, extension)).collect();
            numbers.sort_unstable();
            numbers
        };
        let (mut checkpoints, mut salt) = (Vec::new(), spare_salt(dir));
        for position in numbers(checkpoint::EXTENSION).into_iter().map(Position) {
            let path = checkpoint::path(dir, position);
            match checkpoint::look(&ReadOnly, dir, position) {
                Ok((bytes, Seen::Whole(found))) => {
                    checkpoints.push(Checkpoint { position, bytes, whole: true, path });
                    salt = Some(found);
                }
                Ok((bytes, Seen::Damaged)) => {
                    checkpoints.push(Checkpoint { position, bytes, whole: false, path })
                }
                Ok((_, Seen::Newer(found))) => return Err(checkpoint::newer(path, found)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(OpenError::io("read", &path, error)),
            }
        }
        let bases = numbers(".log");
        if bases.is_empty() && checkpoints.is_empty() {
            return Err(OpenError::NoLog { dir: dir.to_owned() });
        }
        let mut log = Self { dir: dir.to_owned(), salt: Salt(0), bases, checkpoints, length: 0 };
        log.salt = log.find_salt(salt)?;
        Ok(log)
    }

    /// The checkpoints, oldest first.
    pub fn checkpoints(&self) -> &[Checkpoint] {
        &self.checkpoints
    }

    /// The state that the checkpoint at `position` holds; `None`: it is not whole, or gone by now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn checkpoint(&self, position: Position) -> Result<Option<Bytes>, OpenError> {
        match checkpoint::read(&ReadOnly, &self.dir, position) {
            Ok(found) => Ok(found.map(|checkpoint| checkpoint.state)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(OpenError::io("read", &checkpoint::path(&self.dir, position), error)),
        }
    }

    /// The events at these positions, which have to rise; `None` for those that the log does not hold any more.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn events(&self, positions: &[Position]) -> Result<Vec<Option<Event>>, OpenError> {
        let mut events = Vec::with_capacity(positions.len());
        let mut walk: Option<Walk<'_>> = None;
        for position in positions {
            // One that is not far is read on the way.
            let near = walk.take().filter(|walk| walk.end <= position.0 && position.0 - walk.end < STRETCH);
            let mut here = near.unwrap_or_else(|| self.walk(*position));
            events.push(here.event_at(*position)?);
            walk = Some(here);
        }
        Ok(events)
    }

    /// What makes the marks of this folder its own.
    pub(crate) fn salt(&self) -> Salt {
        self.salt
    }

    /// Where the oldest segment starts: records before it were freed.
    pub fn first(&self) -> Position {
        Position(self.bases.first().copied().unwrap_or(0))
    }

    /// A place that is before all records received from `time_ms` on (milliseconds since 1970), as far as the clock was
    /// right when they were: the start of a segment.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn before(&self, time_ms: u64) -> Result<Position, OpenError> {
        for base in self.bases.iter().rev() {
            let header = self.piece(*base)?.and_then(|piece| piece.header);
            if header.is_some_and(|header| header.created_ms.saturating_add(SLACK_MS) <= time_ms) {
                return Ok(Position(*base));
            }
        }
        Ok(self.first())
    }

    /// Walks the log from `from` on, with the segment that holds it.
    pub fn walk(&self, from: Position) -> Walk<'_> {
        let at = self.bases.partition_point(|base| *base <= from.0).saturating_sub(1);
        let first = self.bases.get(at).copied().unwrap_or(0);
        let found = self
            .lost_start()
            .filter(|lost| from.0 < lost.positions.end)
            .map(Found::Damage)
            .into_iter()
            .collect();
        Walk { log: self, next: at, first, from: from.0, end: first, open: None, found, over: false }
    }

    /// Space is freed below the checkpoints that are kept, so what is behind the newest has to be there.
    fn lost_start(&self) -> Option<Damage> {
        let newest = self.checkpoints.iter().rev().find(|checkpoint| checkpoint.whole)?;
        let (known, first) = (newest.position.0, self.first().0);
        // If it is gone, the log has newer ones by now, and has freed what they do not need.
        let lost = known < first && newest.path.exists();
        lost.then_some(Damage { positions: known..first, kind: DamageKind::Missing })
    }

    fn piece(&self, base: u64) -> Result<Option<Piece<File>>, OpenError> {
        let path = segment::path(&self.dir, base);
        match Piece::open(&ReadOnly, &self.dir, base) {
            Ok(piece) => segment::check_version(piece.header, &path).map(|()| Some(piece)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(OpenError::io("read", &path, error)),
        }
    }

    /// The salt, from a header that can be read, else from elsewhere. Drops segments that are empty because they
    /// are only being made.
    fn find_salt(&mut self, elsewhere: Option<Salt>) -> Result<Salt, OpenError> {
        let mut salt = elsewhere;
        let mut unreadable = None;
        for base in self.bases.clone() {
            let Some(piece) = self.piece(base)? else { continue };
            self.length = piece.length;
            match piece.header {
                Some(header) => salt = Some(header.salt),
                None if piece.length > HEADER => unreadable = Some(base),
                None => {}
            }
        }
        match (salt, unreadable) {
            (Some(salt), _) => Ok(salt),
            (None, Some(base)) => Err(OpenError::Header { path: segment::path(&self.dir, base) }),
            (None, None) => {
                self.bases.clear();
                Ok(Salt(0))
            }
        }
    }
}

/// The copy of the salt that the lock's file has; locks nothing.
fn spare_salt(dir: &Path) -> Option<Salt> {
    let file = ReadOnly.open(&dir.join(lockfile::NAME)).ok()?;
    lockfile::read(&file).ok().flatten()
}

/// What is nearer than this is not looked up anew.
const STRETCH: u64 = 1 << 20;

/// A clock may go back by so much, and an event may wait so long until it is written.
const SLACK_MS: u64 = 60_000;

/// A walk through a log. After an error it ends.
pub struct Walk<'a> {
    log: &'a Log,
    /// The segment to open next.
    next: usize,
    first: u64,
    from: u64,
    /// Behind the last thing that was found.
    end: u64,
    open: Option<Open>,
    found: VecDeque<Found>,
    over: bool,
}

/// The segment that is walked.
struct Open {
    window: Window<File>,
    next: Option<u64>,
    place: Place,
    at: u64,
}

impl Walk<'_> {
    /// Goes on to `position`, for the event of the record there.
    fn event_at(&mut self, position: Position) -> Result<Option<Event>, OpenError> {
        while self.end <= position.0
            && let Some(found) = self.next()
        {
            match found? {
                Found::Record(record) if record.position == position => return Ok(record.event),
                Found::Record(record) if record.position > position => return Ok(None),
                Found::Record(_) | Found::Segment(_) | Found::Damage(_) | Found::Tail(_) => {}
            }
        }
        Ok(None)
    }

    /// How far it is, in bytes of the log, and of how many, about.
    pub fn progress(&self) -> (u64, u64) {
        let end = self.log.bases.last().map_or(0, |base| base + self.log.length);
        (self.end.saturating_sub(self.first), end.saturating_sub(self.first))
    }

    /// Opens the next segment that is still there. False at the end of the log.
    fn enter(&mut self) -> Result<bool, OpenError> {
        let log = self.log;
        while let Some(base) = log.bases.get(self.next).copied() {
            self.next += 1;
            let next = log.bases.get(self.next).copied();
            let Some(piece) = log.piece(base)? else {
                self.end = next.unwrap_or(base);
                continue;
            };
            let path = segment::path(&log.dir, base);
            let mut window = piece.records(log.salt, next);
            let at =
                walk::start(&mut window, self.from).map_err(|error| OpenError::io("read", &path, error))?;
            let created_ms = piece.header.map(|header| header.created_ms);
            // A last segment without a header is being made, or a power cut left it so.
            if created_ms.is_none() && next.is_none() && piece.length <= HEADER {
                continue;
            }
            self.found.push_back(Found::Segment(Segment {
                base,
                next,
                bytes: piece.length,
                created_ms,
                path,
            }));
            if created_ms.is_none() {
                self.damage(base..base + HEADER, DamageKind::Header);
            }
            self.end = at;
            self.open = Some(Open { window, next, place: piece.place(next), at });
            return Ok(true);
        }
        Ok(false)
    }

    fn damage(&mut self, positions: Range<u64>, kind: DamageKind) {
        self.found.push_back(Found::Damage(Damage { positions, kind }));
    }

    /// One step in the open segment.
    fn step(&mut self) -> Result<(), OpenError> {
        let Some(Open { window, next, place: segment, at }) = &mut self.open else { return Ok(()) };
        let (place, next) = (*at, *next);
        let path = segment::path(&self.log.dir, window.base());
        match advance(window, place, *segment).map_err(|error| OpenError::io("read", &path, error))? {
            Advanced::Record(record) => {
                *at += record.bytes as u64;
                self.end = *at;
                // The witness of a sync is no record of the core's.
                let is_witness = record.event.is_none() && record.note.is_empty();
                if place >= self.from && !is_witness {
                    self.found.push_back(Found::Record(record));
                }
            }
            Advanced::Damage(to) => {
                *at = to;
                self.end = to;
                self.damage(place..to, DamageKind::Records);
            }
            Advanced::End(used) => {
                self.open = None;
                if let Some(used) = used {
                    self.found.push_back(Found::Tail(place..used));
                }
                if let Some(next) = next.filter(|next| *next > place) {
                    self.damage(place..next, DamageKind::Missing);
                    self.end = next;
                }
            }
        }
        Ok(())
    }

    /// A checkpoint of a record that is not there any more: the log has lost its end.
    fn lost_end(&mut self) {
        let known = self.log.checkpoints.iter().rev().find(|checkpoint| checkpoint.whole);
        if let Some(position) =
            known.map(|checkpoint| checkpoint.position.0).filter(|known| *known >= self.end)
        {
            self.damage(self.end..position + 1, DamageKind::Missing);
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Found, OpenError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(found) = self.found.pop_front() {
                return Some(Ok(found));
            }
            if self.over {
                return None;
            }
            let went = if self.open.is_some() { self.step().map(|()| true) } else { self.enter() };
            match went {
                Ok(true) => {}
                Ok(false) => {
                    self.over = true;
                    self.lost_end();
                }
                Err(error) => {
                    self.over = true;
                    return Some(Err(error));
                }
            }
        }
    }
}

enum Advanced {
    Record(Record),
    Damage(u64),
    /// The end, and where the bytes behind it end if there are any.
    End(Option<u64>),
}

fn advance(window: &mut Window<File>, at: u64, place: Place) -> io::Result<Advanced> {
    let mut step = walk::step(window, at, place)?;
    // What looks damaged in the last segment may be a write under way.
    if place == Place::Last && matches!(step, Step::Damage(_)) {
        // A witness behind it was read later: whatever was written here is here now.
        window.forget();
        step = walk::step(window, at, place)?;
    }
    match step {
        Step::Record(length) => {
            let body = window.record(at, length)?.get(FRAME..).unwrap_or_default();
            Ok(match body::decode(Bytes::copy_from_slice(body)) {
                Some(body) => Advanced::Record(Record {
                    position: Position(at),
                    bytes: length,
                    event: body.event,
                    note: body.note,
                }),
                None => Advanced::Damage(at + length as u64),
            })
        }
        Step::Damage(to) => Ok(Advanced::Damage(to)),
        Step::End if place != Place::Sealed => Ok(Advanced::End(window.last_used(at)?)),
        Step::End => Ok(Advanced::End(None)),
    }
}
