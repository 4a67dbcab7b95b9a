//! Answers the requests of the core: reads and scans that never wait for the writer, checkpoints, holds.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use event::store::{Committed, Position, Request, Scanned};
use event::{Event, Reject, RejectKind};
use tracing::{debug, error};

use crate::body::{self, Body};
use crate::disk::{Disk, DiskFile};
use crate::record::FRAME;
use crate::shared::{Free, Segment, Shared};
use crate::window::{Look, Window};
use crate::{checkpoint, meters, segment};

/// What a scan reads at once, and a read of positions that are near each other.
pub(crate) const AHEAD: usize = 256 << 10;
/// What a read of one position reads at once: most records are shorter.
pub(crate) const SINGLE: usize = 4 << 10;
/// What records of a scan share.
const PIECE: usize = 64 << 10;

pub(crate) struct Reader<D: Disk>(Arc<Shared<D>>);

impl<D: Disk> Reader<D> {
    pub(crate) fn new(shared: Arc<Shared<D>>) -> Self {
        Self(shared)
    }

    pub(crate) fn shared(&self) -> &Shared<D> {
        &self.0
    }

    /// Takes note of what a request says, before the next one is looked at.
    pub(crate) fn note(&self, request: &Request) {
        if let Request::Hold { needed, state } = request {
            self.0.hold(*needed, *state);
        }
    }

    /// Does what is asked and replies; it was noted before. Nobody listening is fine.
    pub(crate) fn answer(&self, request: Request, now_ms: u64) {
        match request {
            Request::Read { positions, reply } => {
                reply.send(self.read(&positions).map_err(|error| self.unreadable(&error))).unwrap_or(());
            }
            Request::Scan { after, bytes, reply } => {
                reply.send(self.scan(after, bytes).map_err(|error| self.unreadable(&error))).unwrap_or(());
            }
            Request::Find { since_ms, reply } => {
                reply.send(self.find(since_ms).map_err(|error| self.unreadable(&error))).unwrap_or(());
            }
            Request::Checkpoint { position, state, reply } => {
                let kept = checkpoint::keep(&self.0, position, &state);
                self.0.free(Free::Retention, now_ms);
                reply.send(kept).unwrap_or(());
            }
            Request::LoadCheckpoint { reply } => reply.send(checkpoint::load(&self.0)).unwrap_or(()),
            Request::Hold { .. } => self.0.free(Free::Retention, now_ms),
        }
    }

    fn unreadable(&self, error: &io::Error) -> Reject {
        error!(dir = %self.0.dir.display(), %error, "cannot read the log");
        Reject::new(RejectKind::Unavailable, format!("cannot read the log: {error}"))
    }

    fn read(&self, positions: &[Position]) -> io::Result<Vec<Option<Event>>> {
        let mut window: Option<(Segment, Window<D::File>)> = None;
        let mut events = Vec::with_capacity(positions.len());
        for (at, Position(position)) in positions.iter().copied().enumerate() {
            if !window.as_ref().is_some_and(|(segment, _)| (segment.base..segment.end).contains(&position)) {
                window = self.open(position)?;
            }
            let Some((_, window)) = &mut window else {
                events.push(None);
                continue;
            };
            let near =
                positions.get(at + 1).is_some_and(|next| next.0.saturating_sub(position) < AHEAD as u64 / 4);
            window.ahead = if near { AHEAD } else { SINGLE };
            let body = match window.look(position)? {
                Look::Record(record) => decode(record),
                Look::Limit | Look::End | Look::Bad(_) => None,
            };
            if body.is_none() {
                debug!(position, "no record to read");
                meters::damaged(1);
            }
            events.push(body.and_then(|body| body.event));
        }
        Ok(events)
    }

    fn scan(&self, after: Position, bytes: usize) -> io::Result<Scanned> {
        let mut found = Found::default();
        let mut room = bytes;
        let mut at = self.behind(after.0)?;
        while at < self.0.readable()
            && let Some(segment) = self.0.segment_at(at)
        {
            at = at.max(segment.base + segment::HEADER);
            if let Some((_, mut window)) = self.open(at)? {
                window.ahead = AHEAD.min(bytes.max(SINGLE));
                at = scan_segment(&mut window, at, &mut room, &mut found)?;
                if at < window.limit() {
                    return Ok(Scanned { records: found.records, end: false });
                }
            }
            // Freed meanwhile, or shorter than it should be: on to the next one.
            at = at.max(segment.end.min(self.0.readable()));
        }
        Ok(Scanned { records: found.records, end: true })
    }

    /// Where the record behind the one at `after` starts. `after` may come from outside and be no record's position.
    fn behind(&self, after: u64) -> io::Result<u64> {
        let Some((segment, mut window)) = self.open(after)? else { return Ok(after.saturating_add(1)) };
        if after < segment.base + segment::HEADER {
            return Ok(after);
        }
        match window.look(after)? {
            Look::Record(record) => Ok(after + record.len() as u64),
            Look::Limit | Look::End | Look::Bad(_) => Ok(window.find(after + 1)?.unwrap_or(window.limit())),
        }
    }

    /// A window of the segment that holds `position`, as far as it may be read.
    pub(crate) fn open(&self, position: u64) -> io::Result<Option<(Segment, Window<D::File>)>> {
        let readable = self.0.readable();
        let held = |segment: &Segment| segment.base <= position && position < readable.min(segment.end);
        let Some(segment) = self.0.segment_at(position).filter(held) else { return Ok(None) };
        let Some(file) = self.0.file(segment.base)? else { return Ok(None) };
        let window = Window::new(file, self.0.salt, segment.base, segment.end.min(readable), SINGLE);
        Ok(Some((segment, window)))
    }
}

/// Takes the records from `at` on while there is room, at least one. Where it ended: the limit, or the next record.
fn scan_segment<F: DiskFile>(
    window: &mut Window<F>,
    mut at: u64,
    room: &mut usize,
    found: &mut Found,
) -> io::Result<u64> {
    loop {
        let (length, body) = match window.look(at)? {
            Look::Limit => return Ok(at),
            Look::Record(_) if *room == 0 && !found.records.is_empty() => return Ok(at),
            Look::Record(record) => (record.len(), found.decode(record)),
            Look::End | Look::Bad(_) => (0, None),
        };
        if let Some(Body { event, note, .. }) = body {
            // The witness of a sync is no record of the core's.
            if event.is_some() || !note.is_empty() {
                found.records.push(Committed { position: Position(at), event, note });
            }
            *room = room.saturating_sub(length);
            at += length as u64;
        } else {
            meters::damaged(1);
            let next = window.find(at + length.max(1) as u64)?.unwrap_or(window.limit());
            error!(from = at, to = next, "the log is damaged here: records are lost");
            at = next;
        }
    }
}

/// What a whole record says. Copied out, so that one small event does not keep all its neighbours in memory.
fn decode(record: &[u8]) -> Option<Body> {
    body::decode(Bytes::copy_from_slice(record.get(FRAME..)?))
}

/// What a scan found. Many records share one piece of memory, and publishers their names: who replays millions of records
/// in another thread than this one waits for nothing as much as for the allocator.
#[derive(Default)]
struct Found {
    records: Vec<Committed>,
    piece: BytesMut,
    publisher: Option<Arc<str>>,
}

impl Found {
    fn decode(&mut self, record: &[u8]) -> Option<Body> {
        let body = record.get(FRAME..)?;
        if self.piece.capacity() < body.len() {
            self.piece = BytesMut::with_capacity(PIECE.max(body.len()));
        }
        self.piece.extend_from_slice(body);
        body::decode_after(self.piece.split().freeze(), &mut self.publisher)
    }
}
