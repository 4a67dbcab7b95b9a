//! What the writer and the readers share: which segments there are, how far they may be read, how far they are durable,
//! and whether the log has failed.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use event::store::Position;
use event::{Health, Reject, RejectKind};
use tracing::{error, warn};

use crate::disk::{Disk, DiskFile};
use crate::options::Options;
use crate::record::Salt;
use crate::retain::Mix;
use crate::{meters, segment};

/// The name of the log on the health board.
pub(crate) const PART: &str = "store/embedded";
/// Open files that readers keep, beside the one that is written.
const FILES_MAX: usize = 32;

pub(crate) struct Shared<D: Disk> {
    pub(crate) disk: D,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) salt: Salt,
    health: Health,
    segments: Mutex<Segments>,
    files: Mutex<VecDeque<(u64, Arc<D::File>)>>,
    active: Mutex<Arc<D::File>>,
    readable: AtomicU64,
    synced: AtomicU64,
    needed: AtomicU64,
    /// What the state needs, as distinct from cursors.
    needed_by_state: AtomicU64,
    /// Positions of the checkpoints that are kept, rising.
    pub(crate) checkpoints: Mutex<Vec<Position>>,
    failed: OnceLock<Reject>,
    full_told: Mutex<Option<Instant>>,
    // Held over a sync, so that whoever syncs after one that failed knows of it: the system tells only the first.
    sync_turn: Mutex<()>,
    free_turn: Mutex<()>,
    pub(crate) checkpoint_turn: Mutex<()>,
    _lock: D::File,
}

/// One segment, as far as others than the writer care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) base: u64,
    /// Where its last record ends; `u64::MAX` while it is written.
    pub(crate) end: u64,
    pub(crate) created_ms: u64,
    /// What it takes of the disk.
    pub(crate) bytes: u64,
    /// Whose events are in it, if that is known.
    pub(crate) mix: Option<Mix>,
}

impl Segment {
    /// A segment that is written from now on.
    pub(crate) fn new(base: u64, created_ms: u64) -> Self {
        Self { base, end: u64::MAX, created_ms, bytes: segment::HEADER, mix: None }
    }
}

#[derive(Debug, Default)]
struct Segments {
    list: VecDeque<Segment>,
    bytes: u64,
}

/// Which sealed segments that nobody needs are freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Free {
    /// Those beyond what the options say.
    Retention,
    /// The oldest, until so many bytes are free under the budget, or on the disk.
    Room(u64),
    /// As [`Self::Room`], and what cursors need as well.
    Oldest(u64),
}

/// What recovery found, to start with.
pub(crate) struct Found<D: Disk> {
    pub(crate) salt: Salt,
    pub(crate) segments: Vec<Segment>,
    pub(crate) active: Arc<D::File>,
    pub(crate) end: u64,
    pub(crate) checkpoints: Vec<Position>,
    pub(crate) lock: D::File,
}

impl<D: Disk> Shared<D> {
    pub(crate) fn new(disk: D, dir: PathBuf, options: Options, health: Health, found: Found<D>) -> Self {
        health.up(PART);
        let bytes = found.segments.iter().map(|segment| segment.bytes).sum();
        let segments = Segments { list: found.segments.into(), bytes };
        meters::disk(segments.list.len(), bytes);
        Self {
            disk,
            dir,
            options,
            salt: found.salt,
            health,
            segments: Mutex::new(segments),
            files: Mutex::default(),
            active: Mutex::new(found.active),
            readable: AtomicU64::new(found.end),
            synced: AtomicU64::new(found.end),
            needed: AtomicU64::new(0),
            needed_by_state: AtomicU64::new(0),
            checkpoints: Mutex::new(found.checkpoints),
            failed: OnceLock::new(),
            full_told: Mutex::new(None),
            sync_turn: Mutex::new(()),
            free_turn: Mutex::new(()),
            checkpoint_turn: Mutex::new(()),
            _lock: found.lock,
        }
    }

    /// Records below this may be shown: what their appends were promised holds.
    pub(crate) fn readable(&self) -> u64 {
        self.readable.load(Ordering::Acquire)
    }

    pub(crate) fn show(&self, end: u64) {
        self.readable.store(end, Ordering::Release);
    }

    /// All below this is durable.
    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// Why the log takes no more, if it has failed.
    pub(crate) fn failed(&self) -> Option<Reject> {
        self.failed.get().cloned()
    }

    /// From here on nothing is taken: `action` failed, and nobody knows what of it is on disk.
    pub(crate) fn fail(&self, action: &str, error: &io::Error) -> Reject {
        let reason = format!(
            "the log cannot {action} and takes nothing more: {error}; look at the disk, then restart weft"
        );
        let reject = self.failed.get_or_init(|| {
            error!(dir = %self.dir.display(), action, %error, "log failed");
            self.health.down(PART, reason.clone());
            Reject::new(RejectKind::Unavailable, reason)
        });
        reject.clone()
    }

    /// Tells the health board whether there is room, and the log of the program, at most once a minute.
    pub(crate) fn set_full(&self, full: Option<&Reject>) {
        if self.failed.get().is_some() {
            return;
        }
        let Some(reject) = full else {
            self.health.up(PART);
            return;
        };
        self.health.down(PART, reject.reason.clone());
        let mut told = lock(&self.full_told);
        if told.is_none_or(|last| last.elapsed().as_secs() >= 60) {
            warn!(dir = %self.dir.display(), reason = %reject, "appends refused");
            *told = Some(Instant::now());
        }
    }

    /// Calls `sync`; when that is done, all below `end` is durable. After a failure the log has failed: no second try.
    pub(crate) fn sync_by(&self, end: u64, sync: impl FnOnce() -> io::Result<()>) -> Result<(), Reject> {
        let _turn = lock(&self.sync_turn);
        if let Some(reject) = self.failed() {
            return Err(reject);
        }
        let start = Instant::now();
        sync().map_err(|error| self.fail("sync", &error))?;
        meters::synced(start.elapsed());
        self.synced.fetch_max(end, Ordering::AcqRel);
        Ok(())
    }

    /// Makes the record at `position` durable, if it is not.
    pub(crate) fn sync_up_to(&self, position: Position) -> Result<(), Reject> {
        if position.0 < self.synced() {
            return Ok(());
        }
        // In this order: what can be read is in the file that is active afterwards, or in one that was synced when sealed.
        let end = self.readable();
        let file = Arc::clone(&lock(&self.active));
        self.sync_by(end, || file.sync())
    }

    /// All segments, the oldest first.
    pub(crate) fn segments(&self) -> Vec<Segment> {
        lock(&self.segments).list.iter().copied().collect()
    }

    /// The segment that holds `position`, or the first one behind it.
    pub(crate) fn segment_at(&self, position: u64) -> Option<Segment> {
        let segments = lock(&self.segments);
        let at = segments.list.partition_point(|segment| segment.end <= position);
        segments.list.get(at).copied()
    }

    /// The file of a segment; `None` if it was freed.
    pub(crate) fn file(&self, base: u64) -> io::Result<Option<Arc<D::File>>> {
        let mut files = lock(&self.files);
        if let Some(at) = files.iter().position(|(other, _)| *other == base) {
            return Ok(files.get(at).map(|(_, file)| Arc::clone(file)));
        }
        let file = match self.disk.open(&segment::path(&self.dir, base)) {
            Ok(file) => Arc::new(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        if files.len() == FILES_MAX {
            files.pop_front();
        }
        files.push_back((base, Arc::clone(&file)));
        Ok(Some(file))
    }

    /// What the log takes of the disk.
    pub(crate) fn bytes(&self) -> u64 {
        lock(&self.segments).bytes
    }

    /// The segment that is written takes `bytes` of the disk.
    pub(crate) fn resize(&self, bytes: u64) {
        let mut segments = lock(&self.segments);
        let Some(active) = segments.list.back_mut() else { return };
        let before = std::mem::replace(&mut active.bytes, bytes);
        segments.bytes = segments.bytes.saturating_add(bytes).saturating_sub(before);
        meters::disk(segments.list.len(), segments.bytes);
    }

    /// When a segment that is made now was made: never before the one in front of it, whatever the clock says.
    pub(crate) fn creation_ms(&self, now_ms: u64) -> u64 {
        lock(&self.segments).list.back().map_or(now_ms, |segment| segment.created_ms.max(now_ms))
    }

    /// The segment that was written ends at `base`, and a new one starts there.
    pub(crate) fn rotate(&self, file: Arc<D::File>, base: u64, created_ms: u64, mix: Option<Mix>) {
        *lock(&self.active) = file;
        self.synced.fetch_max(base + segment::HEADER, Ordering::AcqRel);
        let mut segments = lock(&self.segments);
        if let Some(sealed) = segments.list.back_mut() {
            sealed.end = base;
            sealed.mix = mix;
        }
        segments.list.push_back(Segment::new(base, created_ms));
        segments.bytes += segment::HEADER;
        meters::disk(segments.list.len(), segments.bytes);
    }

    /// Records from `needed` on are needed, from `state` on by the state.
    pub(crate) fn hold(&self, needed: Position, state: Position) {
        self.needed.store(needed.0, Ordering::Release);
        self.needed_by_state.store(state.0, Ordering::Release);
    }

    /// Frees sealed segments of which nothing is needed, neither by the core nor behind the checkpoints that are kept.
    pub(crate) fn free(&self, which: Free, now_ms: u64) {
        let _turn = lock(&self.free_turn);
        let checkpoint = lock(&self.checkpoints).first().map_or(0, |position| position.0);
        let needed = self.needed.load(Ordering::Acquire);
        let below = checkpoint.min(match which {
            Free::Retention | Free::Room(_) => needed,
            Free::Oldest(_) => self.needed_by_state.load(Ordering::Acquire),
        });
        let mut room = 0;
        while let Some(segment) = self.next_to_free(which, below, now_ms) {
            if matches!(which, Free::Room(wanted) | Free::Oldest(wanted) if room >= wanted) {
                return;
            }
            if let Err(error) = self.disk.remove(&segment::path(&self.dir, segment.base)) {
                warn!(dir = %self.dir.display(), base = segment.base, %error, "cannot free a segment");
                return;
            }
            room += segment.bytes;
            if segment.end > needed {
                self.tell_dropped(&segment);
            }
            self.forget(segment);
            // One at a time: a power cut must not leave a hole between older and newer segments.
            if let Err(error) = self.disk.sync_dir(&self.dir) {
                warn!(dir = %self.dir.display(), %error, "cannot sync the folder");
                return;
            }
        }
    }

    fn next_to_free(&self, which: Free, below: u64, now_ms: u64) -> Option<Segment> {
        let (oldest, next_ms, bytes) = {
            let segments = lock(&self.segments);
            let (oldest, next) = (segments.list.front()?, segments.list.get(1)?);
            (*oldest, next.created_ms, segments.bytes)
        };
        let may_go = match which {
            Free::Room(_) | Free::Oldest(_) => true,
            Free::Retention => {
                // All in a segment is older than the one behind it.
                let age_s = now_ms.saturating_sub(next_ms) / 1000;
                let too_much = self.options.retain_bytes.0 > 0 && bytes > self.options.retain_bytes.0;
                oldest.end <= below && self.is_over(oldest, age_s, too_much)
            }
        };
        (may_go && oldest.end <= below).then_some(oldest)
    }

    /// Whether nothing in a segment of this age has to stay readable.
    fn is_over(&self, segment: Segment, age_s: u64, too_much: bool) -> bool {
        let Options { retain_age_s, retain, .. } = &self.options;
        let is_old = |limit_s: u64| limit_s > 0 && age_s >= limit_s;
        let plain = is_old(*retain_age_s) || too_much;
        if retain.is_empty() || !(plain || retain.iter().any(|rule| is_old(rule.age_s))) {
            return plain;
        }
        let mix = segment.mix.unwrap_or_else(|| {
            let mix = Mix::of(self, segment);
            // It is the oldest, and only who holds the turn takes it away.
            if let Some(oldest) = lock(&self.segments).list.front_mut() {
                oldest.mix = Some(mix);
            }
            mix
        });
        (plain || !mix.plain) && mix.ruled_s.is_none_or(is_old)
    }

    fn tell_dropped(&self, segment: &Segment) {
        meters::dropped(segment.bytes);
        let mut told = lock(&self.full_told);
        if told.is_none_or(|last| last.elapsed().as_secs() >= 60) {
            let Segment { base, end, .. } = *segment;
            warn!(dir = %self.dir.display(), from = base, to = end, "max_bytes is reached: dropped events that somebody waits for");
            *told = Some(Instant::now());
        }
    }

    fn forget(&self, segment: Segment) {
        lock(&self.files).retain(|(base, _)| *base != segment.base);
        let mut segments = lock(&self.segments);
        segments.list.pop_front();
        segments.bytes = segments.bytes.saturating_sub(segment.bytes);
        meters::disk(segments.list.len(), segments.bytes);
    }
}

/// A lock whose holder cannot leave its data half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use event::store::{Append, Entry};
    use event::testing::store_contract::event;
    use event::{ByteLimit, Event, Parts, TopicFilter, TopicName};

    use super::*;
    use crate::recovery::recover;
    use crate::sim::SimDisk;
    use crate::{Retain, checkpoint, files};

    #[test]
    fn space_is_freed_by_age_once_all_in_a_segment_is_older() {
        let options = Options {
            segment_bytes: ByteLimit::kib(4),
            retain_age_s: 100,
            retain_bytes: ByteLimit(0),
            ..Options::default()
        };
        let dir = std::path::Path::new("/data");
        let disk = SimDisk::new();
        let (shared, mut writer, _) = recover(disk.clone(), dir, &options, Health::default(), 0).unwrap();
        let mut last = Position(0);
        // Each second a record that fills a segment: the segment of second n starts then.
        for second in 0..10 {
            let entry = Entry { event: None, note: Bytes::from(vec![1; 3000]) };
            let batch = writer.append(&mut vec![Append::unanswered(vec![entry])], second * 1000);
            last = batch.entries[0].position;
        }
        let segments = || {
            files(&disk, dir).unwrap().iter().filter(|path| path.extension() == Some("log".as_ref())).count()
        };
        shared.hold(last, last);
        shared.free(Free::Retention, 200_000);
        assert_eq!(segments(), 10, "nothing is freed before there is a checkpoint");
        checkpoint::keep(&shared, last, b"").unwrap();
        for (now_ms, left) in [(100_999, 10), (101_000, 9), (105_500, 5), (900_000, 1)] {
            shared.free(Free::Retention, now_ms);
            assert_eq!(segments(), left, "at {now_ms}");
        }
    }

    /// A segment may go when all in it may: by the rules for topics, whether it was written in this run or found.
    #[test]
    fn topics_stay_as_long_as_their_rules_say() {
        let rule = |topic: &str, age_s| Retain { topic: TopicFilter::parse(topic).unwrap(), age_s };
        let options = Options {
            segment_bytes: ByteLimit::kib(4),
            retain_age_s: 100,
            retain_bytes: ByteLimit::kib(16),
            retain: vec![rule("audit/#", 1000), rule("metrics/#", 10), rule("keep", 0)],
            ..Options::default()
        };
        let dir = std::path::Path::new("/data");
        let disk = SimDisk::new();
        let open = || recover(disk.clone(), dir, &options, Health::default(), 0).unwrap();
        let segments = |shared: &Shared<SimDisk>, now_ms: u64| {
            shared.free(Free::Retention, now_ms);
            files(&disk, dir).unwrap().iter().filter(|path| path.extension() == Some("log".as_ref())).count()
        };
        let (shared, mut writer, _) = open();
        let mut last = Position(0);
        // Each fills a segment, one a second.
        for (second, topic) in
            ["metrics/a", "metrics/b", "other", "audit/x", "metrics/c", "keep", "other", "other"]
                .iter()
                .enumerate()
        {
            let topic = TopicName::parse(*topic).unwrap();
            let parts = Parts { topic, data: Bytes::from(vec![1; 3000]), ..event(1).parts().clone() };
            let entry = Entry { event: Some(Event::new(parts)), note: Bytes::new() };
            let batch = writer.append(&mut vec![Append::unanswered(vec![entry])], second as u64 * 1000);
            last = batch.entries[0].position;
        }
        shared.hold(last, last);
        checkpoint::keep(&shared, last, b"").unwrap();
        // Too many bytes take none that a rule names before its time.
        assert_eq!(segments(&shared, 10_999), 8);
        assert_eq!(segments(&shared, 12_000), 5, "two of metrics, and one because of the bytes");
        writer.sync().unwrap();
        drop((shared, writer));
        let (shared, ..) = open();
        shared.hold(last, last);
        assert_eq!(segments(&shared, 1_003_999), 5, "audit");
        assert_eq!(segments(&shared, 1_004_000), 3, "audit, and metrics behind it");
        assert_eq!(segments(&shared, 9_000_000_000), 3, "no limit by age");
    }
}
