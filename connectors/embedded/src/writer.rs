//! The one writer: turns the appends that wait into one write, and one sync if any of them asks for it.
//!
//! It blocks on the disk and on nothing else; [`crate::driver`] gives it a thread. What can go wrong:
//!
//! | what | then |
//! |---|---|
//! | an entry is too long | its append is refused as malformed, the others are written |
//! | the budget is used up | appends are refused as busy until space is freed; notes alone have a reserve |
//! | the disk is full | the write is taken back, its appends are refused as busy, later ones are tried again |
//! | a write or sync fails otherwise | the log has failed: nothing is known of its tail, so it takes nothing more |

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use event::hub::{Outcome, ReceiptSender};
use event::store::{Append, Batch, Committed, Entry, Position, WhenFull};
use event::{Durability, Reject, RejectKind};

use crate::disk::{Disk, DiskFile, is_full};
use crate::record::{self, TooLong};
use crate::retain::Mix;
use crate::shared::{Free, Shared};
use crate::{meters, segment};

/// About so many bytes are encoded before they are written: small enough for a cache, large enough for one call.
const WRITE_BYTES: usize = 4 << 20;
/// Writes of this size and more grow the file themselves.
const FILL_BELOW: usize = 16 << 10;
/// A buffer that a large batch has grown beyond this is given back.
const BUFFER_KEEP: usize = 2 * WRITE_BYTES;

pub(crate) struct Writer<D: Disk> {
    shared: Arc<Shared<D>>,
    file: Arc<D::File>,
    /// Base of the active segment.
    base: u64,
    /// Behind the last record that is written.
    end: u64,
    /// Up to here the active file has bytes: records, then zeros.
    filled: u64,
    /// The last word on durability that a record carries.
    told: u64,
    /// The log ended here when [`Self::rest`] was done last.
    rested: u64,
    buffer: Vec<u8>,
    /// Where the records of the append that was encoded last will be.
    positions: Vec<u64>,
    full: bool,
    /// Whose events are in the active segment, if that is known and anybody asks.
    mix: Option<Mix>,
}

/// What one call has written, and in it, what is encoded and not yet written.
#[derive(Default)]
struct Work {
    batch: Batch,
    sync: bool,
    /// Where the unwritten part starts in the batch.
    entries_from: usize,
    receipts_from: usize,
    /// The word on durability that the unwritten part carries.
    told: Option<u64>,
    has_event: bool,
    bytes: u64,
}

impl<D: Disk> Writer<D> {
    /// A writer that goes on at `end` of the segment at `base`, of which the bytes up to `filled` are there.
    pub(crate) fn new(shared: Arc<Shared<D>>, file: Arc<D::File>, base: u64, end: u64, filled: u64) -> Self {
        let (buffer, positions) = (Vec::new(), Vec::new());
        Self {
            shared,
            file,
            base,
            end,
            filled,
            told: 0,
            rested: 0,
            buffer,
            positions,
            full: false,
            mix: None,
        }
    }

    /// Writes all of `appends`. What is kept is in the batch, its promises held; receipts of what is refused are
    /// resolved here.
    pub(crate) fn append(&mut self, appends: &mut Vec<Append>, now_ms: u64) -> Batch {
        let had_failed = self.shared.failed().is_some();
        let mut work = Work::default();
        for append in appends.drain(..) {
            self.encode(append, &mut work, now_ms);
            if self.buffer.len() >= WRITE_BYTES {
                self.write(&mut work, now_ms);
            }
        }
        self.write(&mut work, now_ms);
        if work.sync
            && let Err(reject) = self.sync()
        {
            return refuse_all(work.batch, &reject);
        }
        if self.buffer.capacity() > BUFFER_KEEP {
            self.buffer = Vec::new();
        }
        // What a sync left in doubt is never shown, also not with what comes later.
        if !had_failed {
            self.shared.show(self.end);
        }
        meters::written(work.batch.entries.len(), work.bytes);
        work.batch
    }

    /// Whether something is written and not synced.
    pub(crate) fn is_dirty(&self) -> bool {
        self.shared.synced() < self.end && self.shared.failed().is_none()
    }

    /// Whether something was appended since [`Self::rest`].
    pub(crate) fn is_restless(&self) -> bool {
        self.rested != self.end && self.shared.failed().is_none()
    }

    /// Nothing comes for a while: makes all durable, and leaves a record without content that says so. It is the witness
    /// for what the last sync confirmed: see `recovery`.
    pub(crate) fn rest(&mut self) -> Result<(), Reject> {
        if self.is_dirty() {
            self.sync()?;
        }
        if self.is_restless() && self.end > self.base + segment::HEADER {
            self.witness()?;
        }
        self.rested = self.end;
        Ok(())
    }

    fn witness(&mut self) -> Result<(), Reject> {
        let synced = self.shared.synced();
        self.buffer.clear();
        let nothing = Entry { event: None, note: Bytes::new() };
        // It is far from too long.
        record::encode(&mut self.buffer, self.shared.salt, self.end, &nothing, Some(synced)).unwrap_or(());
        let end = self.end + self.buffer.len() as u64;
        // Where there is no room for it, what is there will soon be sealed or is refused.
        if end > self.filled {
            self.buffer.clear();
            return Ok(());
        }
        let written = self.file.write_at(&self.buffer, self.end - self.base);
        self.buffer.clear();
        written.map_err(|error| self.shared.fail("write", &error))?;
        (self.end, self.told) = (end, synced);
        self.sync()?;
        self.shared.show(end);
        Ok(())
    }

    /// Damage below this is never taken for a torn tail.
    #[cfg(test)]
    pub(crate) fn witnessed(&self) -> u64 {
        self.told.max(self.base)
    }

    /// Whether the log takes nothing more.
    #[cfg(test)]
    pub(crate) fn has_failed(&self) -> bool {
        self.shared.failed().is_some()
    }

    /// Makes all that is written durable.
    pub(crate) fn sync(&mut self) -> Result<(), Reject> {
        self.shared.sync_by(self.end, || self.file.sync())
    }

    fn encode(&mut self, append: Append, work: &mut Work, now_ms: u64) {
        let Append { entries, durability, when_full, receipt, .. } = append;
        let has_event = entries.iter().any(|entry| entry.event.is_some());
        match (self.admit(&entries, has_event, when_full, work, now_ms), receipt) {
            (Ok(()), receipt) => {
                let kept = entries.into_iter().zip(self.positions.drain(..));
                work.batch.entries.extend(kept.map(|(entry, position)| {
                    let Entry { event, note } = entry;
                    Committed { position: Position(position), event, note }
                }));
                // An append without entries is kept when all before it is.
                work.batch.receipts.extend(receipt.map(|sender| (sender, Outcome::Kept)));
                work.sync |= durability >= Durability::Synced;
                work.has_event |= has_event;
            }
            (Err(reject), Some(sender)) => refuse(sender, &reject),
            (Err(reject), None) => meters::refused(reject.kind, 1),
        }
    }

    /// Encodes the entries behind what is in the buffer. An append stays in one segment, so that refusing it leaves
    /// nothing of it anywhere.
    fn admit(
        &mut self,
        entries: &[Entry],
        has_event: bool,
        when_full: WhenFull,
        work: &mut Work,
        now_ms: u64,
    ) -> Result<(), Reject> {
        if let Some(reject) = self.shared.failed() {
            return Err(reject);
        }
        let (mut before, mix) = (self.buffer.len(), self.mix);
        self.encode_entries(entries, work)?;
        let is_first = before == 0 && self.end == self.base + segment::HEADER;
        let segment_end = self.base.saturating_add(self.shared.options.segment_bytes.0);
        if self.end + self.buffer.len() as u64 > segment_end && !is_first {
            self.buffer.truncate(before);
            self.mix = mix;
            self.write(work, now_ms);
            self.rotate(now_ms)?;
            before = 0;
            self.encode_entries(entries, work)?;
        }
        self.check_budget(has_event, when_full, now_ms).inspect_err(|_| self.buffer.truncate(before))
    }

    fn encode_entries(&mut self, entries: &[Entry], work: &mut Work) -> Result<(), Reject> {
        let before = self.buffer.len();
        self.positions.clear();
        for entry in entries {
            let position = self.end + self.buffer.len() as u64;
            // The first record of a write tells how far the log is durable: see `recovery`.
            let synced =
                Some(self.shared.synced()).filter(|synced| self.buffer.is_empty() && *synced > self.told);
            if let Err(TooLong(length)) =
                record::encode(&mut self.buffer, self.shared.salt, position, entry, synced)
            {
                self.buffer.truncate(before);
                let most = record::LONGEST;
                let reason = format!("the event takes {length} B in the log, which is more than {most} B");
                return Err(Reject::new(RejectKind::Malformed, reason));
            }
            work.told = synced.or(work.told);
            if let (Some(mix), Some(event)) = (&mut self.mix, &entry.event) {
                mix.add(&self.shared.options.retain, event.topic());
            }
            self.positions.push(position);
        }
        Ok(())
    }

    /// Whether the file may grow so far that the buffer fits. Notes alone may use what events may not.
    fn check_budget(&mut self, has_event: bool, when_full: WhenFull, now_ms: u64) -> Result<(), Reject> {
        let grows = (self.end + self.buffer.len() as u64).saturating_sub(self.filled);
        if grows == 0 {
            return Ok(());
        }
        let most = self.budget(has_event);
        let over = |shared: &Shared<D>| (shared.bytes() + grows).saturating_sub(most);
        if over(&self.shared) > 0 {
            self.shared.free(Free::Room(over(&self.shared)), now_ms);
        }
        if over(&self.shared) > 0 && when_full == WhenFull::DropOldest {
            self.shared.free(Free::Oldest(over(&self.shared)), now_ms);
        }
        if over(&self.shared) == 0 {
            return Ok(());
        }
        let reason = format!(
            "the log has used its {} with events that somebody still waits for: raise max_bytes, or let the sessions and \
             bridges that are behind catch up",
            self.shared.options.max_bytes
        );
        Err(self.set_full(Reject::new(RejectKind::Busy, reason)))
    }

    fn budget(&self, has_event: bool) -> u64 {
        let most = self.shared.options.max_bytes.0;
        if has_event { most - most / 16 } else { most }
    }

    /// Writes the buffer. When that fails, the appends in it are refused.
    fn write(&mut self, work: &mut Work, now_ms: u64) {
        let (told, has_event) = (work.told.take(), std::mem::take(&mut work.has_event));
        let written = if self.buffer.is_empty() { Ok(()) } else { self.write_buffer(has_event, now_ms) };
        match written {
            Ok(()) => {
                self.told = told.filter(|_| !self.buffer.is_empty()).unwrap_or(self.told);
                work.bytes += self.buffer.len() as u64;
                work.entries_from = work.batch.entries.len();
                work.receipts_from = work.batch.receipts.len();
            }
            Err(reject) => {
                work.batch.entries.truncate(work.entries_from);
                for (sender, _) in work.batch.receipts.drain(work.receipts_from..) {
                    refuse(sender, &reject);
                }
            }
        }
        self.buffer.clear();
    }

    fn write_buffer(&mut self, has_event: bool, now_ms: u64) -> Result<(), Reject> {
        let end = self.end + self.buffer.len() as u64;
        let mut done = self.fill(end).and_then(|()| self.file.write_at(&self.buffer, self.end - self.base));
        if done.as_ref().is_err_and(is_full) {
            self.take_back()?;
            self.shared.free(Free::Room(self.buffer.len() as u64), now_ms);
            done = self.file.write_at(&self.buffer, self.end - self.base);
        }
        match done {
            Ok(()) => {
                self.end = end;
                self.filled = self.filled.max(end);
                self.shared.resize(self.filled - self.base);
                if self.full && has_event {
                    self.full = false;
                    self.shared.set_full(None);
                }
                Ok(())
            }
            Err(error) if is_full(&error) => {
                self.take_back()?;
                Err(self.set_full(disk_full(&error)))
            }
            Err(error) => Err(self.shared.fail("write", &error)),
        }
    }

    /// Fills the file with zeros up to `end` and a stretch beyond, so that the syncs to come change no metadata. Where a
    /// sync has much to write, that saves less than writing every byte twice costs.
    fn fill(&mut self, end: u64) -> io::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let options = &self.shared.options;
        let ahead = if self.full || self.buffer.len() >= FILL_BELOW { 0 } else { options.prewrite_bytes.0 };
        let room = self.budget(true).saturating_sub(self.shared.bytes());
        let to = (end + ahead).min(self.base.saturating_add(options.segment_bytes.0)).min(self.filled + room);
        if end <= self.filled || to <= end {
            return Ok(());
        }
        while self.filled < to {
            let zeros =
                ZEROS.get(..usize::try_from(to - self.filled).unwrap_or(usize::MAX)).unwrap_or(&ZEROS);
            self.file.write_at(zeros, self.filled - self.base)?;
            self.filled += zeros.len() as u64;
        }
        Ok(())
    }

    /// Takes a write back that did not go through, and all zeros with it. If that fails the file may hold anything.
    fn take_back(&mut self) -> Result<(), Reject> {
        let cut = || self.file.truncate(self.end - self.base).and_then(|()| self.file.sync_all());
        self.shared.sync_by(self.end, cut)?;
        self.filled = self.end;
        self.shared.resize(self.filled - self.base);
        Ok(())
    }

    /// Seals the active segment and starts a new one behind it. All of the old one is durable before the new one is there.
    fn rotate(&mut self, now_ms: u64) -> Result<(), Reject> {
        self.take_back()?;
        let Shared { disk, dir, salt, .. } = &*self.shared;
        let created_ms = self.shared.creation_ms(now_ms);
        let file = match segment::create(disk, dir, self.end, *salt, created_ms) {
            Ok(file) => Arc::new(file),
            Err(error) => {
                // A segment without records is removed when the log is opened next, if not here.
                disk.remove(&segment::path(dir, self.end)).unwrap_or(());
                let full = is_full(&error);
                let reject = if full {
                    self.set_full(disk_full(&error))
                } else {
                    self.shared.fail("start a segment", &error)
                };
                return Err(reject);
            }
        };
        let known = Some(Mix::default()).filter(|_| !self.shared.options.retain.is_empty());
        let mix = std::mem::replace(&mut self.mix, known);
        self.shared.rotate(Arc::clone(&file), self.end, created_ms, mix);
        self.file = file;
        self.base = self.end;
        self.end = self.base + segment::HEADER;
        self.filled = self.end;
        self.shared.free(Free::Retention, now_ms);
        Ok(())
    }

    fn set_full(&mut self, reject: Reject) -> Reject {
        if !std::mem::replace(&mut self.full, true) {
            self.shared.set_full(Some(&reject));
        }
        reject
    }
}

fn disk_full(error: &io::Error) -> Reject {
    let reason = format!(
        "the disk of the data folder is full ({error}): free some space, or move the folder to another disk"
    );
    Reject::new(RejectKind::Busy, reason)
}

fn refuse(sender: ReceiptSender, reject: &Reject) {
    meters::refused(reject.kind, 1);
    sender.resolve(Outcome::Refused(reject.clone()));
}

fn refuse_all(batch: Batch, reject: &Reject) -> Batch {
    for (sender, _) in batch.receipts {
        refuse(sender, reject);
    }
    Batch::default()
}
