//! Finds where events of a time start, without an index: the headers of the segments say when each was begun, and within
//! one a few samples narrow it down, since a record can be told from any other bytes at every offset.
//!
//! Each round looks at [`WAYS`] - 1 places, from the old end on, up to the first that is late enough: a 64 MiB segment
//! takes some 30 reads of 4 KiB and one of 256 KiB. Where times only rise the answer is exact. Where the clock went
//! back it is the first place too, unless all that is late enough before it lies between two samples: then it is less
//! than a sixteenth of a segment that is passed over.

use std::io;

use event::store::Position;

use crate::body;
use crate::disk::{Disk, DiskFile};
use crate::reader::{AHEAD, Reader, SINGLE};
use crate::record::FRAME;
use crate::segment;
use crate::window::{Look, Window};

/// Into how many parts a round divides what is left.
const WAYS: u64 = 16;
/// What is left at last is read from start to end.
const REST: u64 = AHEAD as u64;

impl<D: Disk> Reader<D> {
    /// A position behind which the first event received at `since_ms` or later is found.
    pub(crate) fn find(&self, since_ms: u64) -> io::Result<Position> {
        let segments = self.shared().segments();
        // All in a segment came before the next one was begun.
        let may =
            segments.windows(2).position(|pair| pair.iter().skip(1).any(|next| next.created_ms >= since_ms));
        for segment in segments.iter().skip(may.unwrap_or(segments.len().saturating_sub(1))) {
            let start = segment.base + segment::HEADER;
            // It may be gone meanwhile, or have nothing in it yet.
            let Some((_, mut window)) = self.open(start)? else { continue };
            if let Some(position) = search(&mut window, start, since_ms)? {
                return Ok(Position(position - 1));
            }
        }
        Ok(Position(self.shared().readable() - 1))
    }
}

/// Where the first record from `low` on is whose event is late enough.
fn search<F: DiskFile>(window: &mut Window<F>, mut low: u64, since_ms: u64) -> io::Result<Option<u64>> {
    let mut high = window.limit();
    let mut found = None;
    while high - low > REST {
        let before = (low, high);
        let step = (high - low).div_ceil(WAYS);
        window.ahead = SINGLE;
        for place in (low + step..high).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
            match first(window, place, high.min(place + step), 0)? {
                Some((late, received_ms)) if received_ms >= since_ms => {
                    (found, high) = (Some(late), late);
                    break;
                }
                Some((early, _)) => low = early,
                None => {}
            }
        }
        if (low, high) == before {
            // One record is larger than all that.
            break;
        }
    }
    window.ahead = AHEAD;
    Ok(first(window, low, high, since_ms)?.map(|(position, _)| position).or(found))
}

/// The first record from `at` on and before `until` with an event received at `since_ms` or later, and when that was.
fn first<F: DiskFile>(
    window: &mut Window<F>,
    mut at: u64,
    until: u64,
    since_ms: u64,
) -> io::Result<Option<(u64, u64)>> {
    while at < until {
        at = match window.look(at)? {
            Look::Record(record) => {
                let received_ms = record.get(FRAME..).and_then(body::received_ms);
                if let Some(received_ms) = received_ms.filter(|ms| *ms >= since_ms) {
                    return Ok(Some((at, received_ms)));
                }
                at + record.len() as u64
            }
            Look::Bad(_) => match window.find_before(at + 1, until)? {
                Some(next) => next,
                None => return Ok(None),
            },
            Look::Limit | Look::End => return Ok(None),
        };
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use event::store::{Append, Entry, Request, Scanned};
    use event::testing::Chance;
    use event::testing::store_contract::event;
    use event::{ByteLimit, Event, Health, Parts};

    use super::*;
    use crate::recovery::recover;
    use crate::sim::SimDisk;
    use crate::writer::Writer;
    use crate::{Options, files};

    struct Log {
        disk: SimDisk,
        reader: Reader<SimDisk>,
        writer: Writer<SimDisk>,
        /// Position and time of each event.
        events: Vec<(u64, u64)>,
    }

    const DIR: &str = "/data";

    impl Log {
        fn new(segment: ByteLimit) -> Self {
            let options =
                Options { segment_bytes: segment, prewrite_bytes: ByteLimit::kib(4), ..Options::default() };
            let disk = SimDisk::new();
            let (shared, writer, _) =
                recover(disk.clone(), DIR.as_ref(), &options, Health::default(), 0).unwrap();
            Self { disk, reader: Reader::new(shared), writer, events: Vec::new() }
        }

        /// Appends an event that is received now; some notes come before it.
        fn add(&mut self, now_ms: u64, size: usize, notes: usize) {
            let parts =
                Parts { received_ms: now_ms, data: Bytes::from(vec![7; size]), ..event(1).parts().clone() };
            let note = Entry { event: None, note: Bytes::from_static(b"a note without an event") };
            let mut entries = vec![note; notes];
            entries.push(Entry { event: Some(Event::new(parts)), note: Bytes::new() });
            let batch = self.writer.append(&mut vec![Append::unanswered(entries)], now_ms);
            let positions = batch.entries.iter().filter(|record| record.event.is_some());
            self.events.extend(positions.map(|record| (record.position.0, now_ms)));
        }

        fn scan(&self, after: Position, bytes: usize) -> Scanned {
            let (reply, mut answer) = tokio::sync::oneshot::channel();
            self.reader.answer(Request::Scan { after, bytes, reply }, 0);
            answer.try_recv().unwrap().unwrap()
        }

        /// Position and time of the first event behind what was found.
        fn first_behind(&self, since_ms: u64) -> Option<(u64, u64)> {
            let mut after = self.reader.find(since_ms).unwrap();
            loop {
                let scanned = self.scan(after, 4096);
                after = scanned.records.last().map_or(after, |last| last.position);
                let first = scanned.records.into_iter().find(|record| record.event.is_some());
                match first {
                    Some(first) => return Some((first.position.0, first.event?.parts().received_ms)),
                    None if scanned.end => return None,
                    None => {}
                }
            }
        }

        fn expected(&self, since_ms: u64) -> Option<(u64, u64)> {
            self.events.iter().copied().find(|(_, ms)| *ms >= since_ms)
        }
    }

    #[test]
    fn the_first_event_of_a_time_is_found_whatever_lies_around_it() {
        event::testing::seeds(60, |seed, steps| {
            let mut chance = Chance(seed);
            let mut log = Log::new([ByteLimit::kib(64), ByteLimit::mib(4)][chance.below(2) as usize]);
            assert_eq!(log.first_behind(0), None);
            let mut now_ms = 1000;
            for _ in 0..chance.below(steps) {
                now_ms += [0, 1, 5, 5000][chance.below(4) as usize];
                let size = [0, 10, 300, 20_000][chance.below(4) as usize];
                log.add(now_ms, size, [0, 0, 3, 40][chance.below(4) as usize]);
            }
            for _ in 0..10 {
                let since_ms = 900 + chance.below(now_ms);
                assert_eq!(log.first_behind(since_ms), log.expected(since_ms), "since {since_ms}");
            }
            for (_, since_ms) in log.events.iter().step_by(7) {
                assert_eq!(log.first_behind(*since_ms), log.expected(*since_ms), "since {since_ms}");
            }
        });
    }

    #[test]
    fn what_comes_after_a_look_up_at_the_end_is_behind_it() {
        let mut log = Log::new(ByteLimit::kib(64));
        for n in 0..400 {
            let found = log.reader.find(u64::MAX).unwrap();
            log.add(n, 100, 0);
            assert!(found.0 < log.events.last().unwrap().0);
            assert_eq!(log.scan(found, 1 << 20).records.len(), 1);
        }
    }

    #[test]
    fn a_clock_that_went_back_leads_to_the_first_place() {
        // In one segment, and over many.
        for segment in [ByteLimit::mib(8), ByteLimit::kib(64)] {
            let mut log = Log::new(segment);
            for minute in (0..600).chain(300..900) {
                log.add(minute * 60_000, 1000, 0);
            }
            for minute in [0, 1, 299, 300, 301, 450, 500, 600, 601, 899, 900] {
                let since_ms = minute * 60_000;
                assert_eq!(log.first_behind(since_ms), log.expected(since_ms), "minute {minute}");
            }
        }
    }

    #[test]
    fn damage_and_freed_space_are_passed_over() {
        let mut log = Log::new(ByteLimit::mib(1));
        for n in 0..2000 {
            log.add(n * 10, 2000, 0);
        }
        let segments = files(&log.disk, DIR.as_ref()).unwrap();
        let third = segments.get(2).unwrap();
        let mut bytes = log.disk.content(third).unwrap();
        let (from, length) = (bytes.len() / 4, bytes.len() / 2);
        bytes.iter_mut().skip(from).take(length).for_each(|byte| *byte = 0xa5);
        log.disk.put(third, bytes);
        let records = log.scan(Position(0), 1 << 30).records.into_iter();
        let whole: Vec<(u64, u64)> =
            records.map(|record| (record.position.0, record.event.unwrap().parts().received_ms)).collect();
        assert!(whole.len() < log.events.len() && whole.len() > 1500);
        log.events = whole;
        for since_ms in (0..20_000).step_by(130) {
            assert_eq!(log.first_behind(since_ms), log.expected(since_ms), "since {since_ms}");
        }
    }
}
