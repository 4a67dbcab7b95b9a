//! Simulation: random appends on a disk that loses what was not synced, crashes at random places, and a model of what
//! has to be there afterwards. A run has one thread, so a seed is a run. `WEFT_SIM_SEEDS=n` runs n seeds, from
//! `WEFT_SIM_SEED` on.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use event::hub::{Outcome, Receipt};
use event::store::{Append, Committed, Entry, Position, Request};
use event::testing::store_contract::event;
use event::{ByteLimit, Durability, Event, Health, Parts, RejectKind};
use tokio::sync::oneshot;

use crate::options::Options;
use crate::reader::Reader;
use crate::recovery::{Recovery, files, recover};
use crate::sim::{Fault, SimDisk};
use crate::writer::Writer;
use event::testing::{Chance, seeds};

#[test]
fn nothing_that_was_confirmed_is_lost() {
    let totals = Mutex::new(Totals::default());
    seeds(6, |seed, lives| {
        let mut run = Run::new(seed);
        for _ in 0..lives {
            run.live();
        }
        totals.lock().unwrap().add(&run.totals);
    });
    let totals = totals.into_inner().unwrap();
    println!("{totals:?}");
    // A simulation in which nothing happens proves nothing.
    let Totals { lives, kept, cut, power, failed, busy, freed, checkpoints, rotten, read_only, .. } = totals;
    if lives >= 1000 {
        let all = [kept, cut, power, failed, busy, freed, checkpoints, rotten, read_only];
        assert!(all.iter().all(|count| *count > 0));
    }
}

#[derive(Debug, Default)]
struct Totals {
    lives: u64,
    kept: u64,
    cut: u64,
    power: u64,
    failed: u64,
    busy: u64,
    freed: u64,
    checkpoints: u64,
    /// Records that were lost to a medium that rots.
    rotten: u64,
    read_only: u64,
}

struct Run {
    chance: Chance,
    disk: SimDisk,
    options: Options,
    now_ms: u64,
    stamp: u64,
    /// All records have one size, so that what an older write left behind is at the start of a record.
    is_even: bool,
    /// How many appends of 16 want a sync, in this life.
    sync_chance: u64,
    /// All that was ever handed over, by stamp.
    sent: BTreeMap<u64, Sent>,
    /// Below this nothing has to be there.
    held: u64,
    checkpoint: Option<(Position, Bytes)>,
    /// Checkpoints that were asked for and refused since: one of them may be there all the same.
    tried: Vec<(Position, Bytes)>,
    /// Positions that the medium has spoiled.
    rot: Vec<Range<u64>>,
    /// Records that may be lost with them.
    spoiled: BTreeSet<u64>,
    totals: Totals,
}

struct Sent {
    entry: Entry,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// Survives a power cut.
    Durable(Position),
    /// Survives the process.
    Written(Position),
    /// Nobody knows.
    Open,
    /// Refused, and nothing of it may ever be seen.
    Never,
    /// The medium lost it.
    Rotten,
}

struct Life {
    writer: Writer<SimDisk>,
    reader: Reader<SimDisk>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut chance = Chance(seed);
        let segment_bytes = ByteLimit(4096 << chance.below(5));
        let options = Options {
            segment_bytes,
            prewrite_bytes: ByteLimit(chance.below(3) * 3000),
            retain_bytes: ByteLimit(chance.below(2) * 3 * segment_bytes.0),
            retain_age_s: chance.below(2) * 20,
            max_bytes: ByteLimit(if chance.below(4) == 0 { 8 * segment_bytes.0 } else { 1 << 40 }),
            ..Options::default()
        };
        let is_even = chance.below(3) == 0;
        let disk = SimDisk::new();
        Self {
            chance,
            disk,
            options,
            now_ms: 1_000_000,
            stamp: 0,
            is_even,
            sync_chance: 0,
            sent: BTreeMap::new(),
            held: 0,
            checkpoint: None,
            tried: Vec::new(),
            rot: Vec::new(),
            spoiled: BTreeSet::new(),
            totals: Totals::default(),
        }
    }

    /// From opening the log to a crash, a kill or a stop.
    fn live(&mut self) {
        self.totals.lives += 1;
        let mut life = self.open();
        self.check(&life);
        if self.chance.below(4) == 0 {
            life = self.rot(life);
            self.check(&life);
        }
        self.plan_fault();
        self.sync_chance = 1 << self.chance.below(4);
        // A life without work: what recovery found has to be durable by then.
        let steps = if self.chance.below(4) == 0 { 0 } else { self.chance.below(45) };
        for _ in 0..steps {
            self.now_ms = self.tick();
            match self.chance.below(16) {
                0..=9 => self.append(&mut life),
                10 => self.sync(&mut life),
                11 | 12 => self.checkpoint(&life),
                13 => self.hold(&life),
                14 => self.squeeze(),
                _ => self.look(&life),
            }
        }
        self.disk.clear_fault();
        self.disk.set_capacity(None);
        let stop = self.chance.below(3);
        if stop == 0 {
            self.sync(&mut life);
        }
        drop(life);
        if stop < 2 || self.disk.is_off() {
            self.power_cut();
        }
    }

    fn open(&mut self) -> Life {
        loop {
            // Recovery is interrupted too.
            match self.chance.below(12) {
                0..4 => self.disk.fail_after(self.chance.below(8), Fault::Power),
                4 => self.disk.fail_after(self.chance.below(8), Fault::ReadOnly),
                _ => {}
            }
            match recover(self.disk.clone(), dir(), &self.options, Health::default(), self.now_ms) {
                Ok((shared, writer, recovery)) => {
                    self.disk.clear_fault();
                    self.check_recovery(&recovery);
                    return Life { writer, reader: Reader::new(Arc::clone(&shared)) };
                }
                Err(error) if self.disk.is_off() => drop(error),
                Err(error) => {
                    assert!(error.to_string().contains("can be written with --data"), "{error}");
                    self.totals.read_only += 1;
                    self.disk.clear_fault();
                    continue;
                }
            }
            self.power_cut();
        }
    }

    /// Time goes on, and sometimes the clock is set.
    fn tick(&mut self) -> u64 {
        const DAYS: u64 = 400 * 24 * 3600 * 1000;
        let step = self.chance.below(1500);
        match self.chance.below(40) {
            0 => self.chance.below(DAYS),
            1 => self.now_ms + self.chance.below(DAYS),
            _ => self.now_ms + step,
        }
    }

    /// The medium rots while the log is closed, or was killed long after its last append.
    fn rot(&mut self, mut life: Life) -> Life {
        life.writer.rest().unwrap();
        let end = life.writer.witnessed();
        drop(life);
        let logs: Vec<_> = files(&self.disk, dir()).unwrap();
        let logs: Vec<_> = logs.iter().filter(|path| path.extension() == Some("log".as_ref())).collect();
        for _ in 0..1 + self.chance.below(2) {
            let path = logs[self.chance.below(logs.len() as u64) as usize];
            let base: u64 = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
            let length = (self.disk.content(path).unwrap().len() as u64).min(end.saturating_sub(base));
            if length == 0 {
                continue;
            }
            let at = self.chance.below(length);
            let block = at / 4096 * 4096;
            if self.chance.below(2) == 0 {
                self.disk.rot(path, at, 1 << self.chance.below(8));
                self.rot.push(base + at..base + at + 1);
            } else if block + 4096 <= length {
                self.disk.lose_block(path, block);
                self.rot.push(base + block..base + block + 4096);
            }
        }
        for (stamp, at, next) in self.extents(u64::MAX) {
            if self.rot.iter().any(|rot| rot.start < next && at < rot.end) {
                self.spoiled.insert(stamp);
            }
        }
        self.open()
    }

    /// The records that are there: stamp, position, and where the next one starts.
    fn extents(&self, end: u64) -> Vec<(u64, u64, u64)> {
        let there = self.sent.iter().filter_map(|(stamp, sent)| match sent.fate {
            Fate::Durable(at) | Fate::Written(at) => Some((*stamp, at.0)),
            Fate::Open | Fate::Never | Fate::Rotten => None,
        });
        let there: Vec<_> = there.collect();
        let next = there.iter().skip(1).map(|(_, at)| *at).chain([end]);
        there.iter().zip(next).map(|((stamp, at), next)| (*stamp, *at, next)).collect()
    }

    fn plan_fault(&mut self) {
        let after = self.chance.below(80);
        match self.chance.below(7) {
            0..=2 => self.disk.fail_after(after, Fault::Power),
            3 => self.disk.fail_after(after, Fault::Write),
            4 => self.disk.fail_after(after, Fault::Sync),
            5 => self.disk.fail_after(after, Fault::ReadOnly),
            _ => {}
        }
    }

    fn power_cut(&mut self) {
        self.totals.power += 1;
        self.disk.crash(self.chance.number());
        for sent in self.sent.values_mut() {
            if let Fate::Written(_) = sent.fate {
                sent.fate = Fate::Open;
            }
        }
    }

    fn check_recovery(&mut self, recovery: &Recovery) {
        for damaged in &recovery.damaged {
            let hit = |rot: &Range<u64>| rot.start < damaged.end && damaged.start < rot.end;
            assert!(self.rot.iter().any(hit), "a crash is no damage: {damaged:?}, {:?}", self.rot);
        }
        assert_eq!(recovery.checkpoints_damaged, 0, "checkpoints are whole or not there");
        self.totals.cut += u64::from(recovery.cut.is_some());
    }

    /// What is there against what has to be there. After this, all that was found is durable.
    fn check(&mut self, life: &Life) {
        let found = life.scan_all(1 + self.chance.below(5000) as usize);
        let mut last = (Position(0), 0);
        let mut seen = BTreeMap::new();
        for record in &found {
            let stamp = stamp_of(record);
            assert!((record.position, stamp) > last && record.position > last.0 && stamp > last.1, "order");
            last = (record.position, stamp);
            seen.insert(stamp, record.position);
            let sent = self.sent.get_mut(&stamp).expect("nothing is invented");
            assert_eq!(
                (&record.event, &record.note),
                (&sent.entry.event, &sent.entry.note),
                "bytes of {stamp}"
            );
            match sent.fate {
                Fate::Durable(position) | Fate::Written(position) => assert_eq!(record.position, position),
                Fate::Open => {}
                Fate::Never | Fate::Rotten => panic!("{stamp} was refused, or rotten, and is there"),
            }
            sent.fate = Fate::Durable(record.position);
        }
        for (stamp, sent) in &mut self.sent {
            match sent.fate {
                Fate::Durable(_) | Fate::Written(_)
                    if self.spoiled.contains(stamp) && !seen.contains_key(stamp) =>
                {
                    self.totals.rotten += 1;
                    sent.fate = Fate::Rotten;
                }
                Fate::Durable(at) | Fate::Written(at) if at.0 >= self.held => {
                    assert_eq!(seen.get(stamp), Some(&at), "{stamp} was confirmed and is lost");
                }
                // What is not there now is never there.
                Fate::Open if !seen.contains_key(stamp) => sent.fate = Fate::Never,
                Fate::Durable(_) | Fate::Written(_) | Fate::Open | Fate::Never | Fate::Rotten => {}
            }
        }
        let positions = found.iter().map(|record| record.position).collect();
        let events: Vec<_> = found.iter().map(|record| record.event.clone()).collect();
        assert_eq!(life.read(positions), events);
        let loaded = life.load_checkpoint();
        let tried = std::mem::take(&mut self.tried).into_iter().map(Some);
        let possible: Vec<_> = tried.chain([self.checkpoint.take()]).collect();
        assert!(possible.contains(&loaded), "checkpoint at {:?}", loaded.map(|(position, _)| position));
        self.checkpoint = loaded;
    }

    fn append(&mut self, life: &mut Life) {
        let mut appends = Vec::new();
        let mut waiting: Vec<(Vec<u64>, Durability, Receipt)> = Vec::new();
        for _ in 0..1 + self.chance.below(4) {
            let entries: Vec<Entry> = (0..1 + self.chance.below(3)).map(|_| self.entry()).collect();
            let stamps = entries.iter().map(|entry| stamp_of_note(&entry.note)).collect();
            let durability = match self.chance.below(16) {
                few if few < self.sync_chance => Durability::Synced,
                other if other % 2 == 0 => Durability::Written,
                _ => Durability::Received,
            };
            let (append, receipt) = Append::new(entries, durability);
            appends.push(append);
            waiting.push((stamps, durability, receipt));
        }
        let had_failed = life.writer.has_failed();
        let batch = life.writer.append(&mut appends, self.now_ms);
        let mut kept = batch.entries.iter();
        let mut receipts = 0;
        let mut synced = false;
        for (stamps, durability, receipt) in waiting {
            let refused = match pin!(receipt).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Outcome::Refused(reject)) => Some(reject),
                Poll::Ready(other) => panic!("{other:?} before the core has it"),
                Poll::Pending => None,
            };
            if let Some(reject) = refused {
                assert!([RejectKind::Busy, RejectKind::Unavailable].contains(&reject.kind), "{reject}");
                let clean = reject.kind == RejectKind::Busy || had_failed;
                self.totals.busy += u64::from(reject.kind == RejectKind::Busy);
                self.totals.failed += u64::from(!clean);
                for stamp in stamps {
                    self.sent.get_mut(&stamp).unwrap().fate = if clean { Fate::Never } else { Fate::Open };
                }
                continue;
            }
            receipts += 1;
            synced |= durability == Durability::Synced;
            for stamp in stamps {
                let record = kept.next().expect("each entry of a kept append is fed");
                assert_eq!(stamp_of(record), stamp, "fed in order");
                self.totals.kept += 1;
                self.sent.get_mut(&stamp).unwrap().fate = Fate::Written(record.position);
            }
        }
        assert_eq!((kept.count(), batch.receipts.len()), (0, receipts));
        if synced {
            self.all_durable();
        }
    }

    fn entry(&mut self) -> Entry {
        self.stamp += 1;
        let most = 1 << self.chance.below(12);
        let size = self.chance.below(most) as usize;
        let size = if self.is_even { 600 } else { size };
        let with_event = self.is_even || self.chance.below(4) > 0;
        let data = Bytes::from(vec![self.stamp as u8; size]);
        let event = Event::new(Parts { data, ..event(self.stamp).parts().clone() });
        let mut note = self.stamp.to_le_bytes().to_vec();
        note.resize(8 + if self.is_even { 0 } else { self.chance.below(20) as usize }, 0);
        let entry = Entry { event: with_event.then_some(event), note: note.into() };
        self.sent.insert(self.stamp, Sent { entry: entry.clone(), fate: Fate::Open });
        entry
    }

    fn all_durable(&mut self) {
        for sent in self.sent.values_mut() {
            if let Fate::Written(position) = sent.fate {
                sent.fate = Fate::Durable(position);
            }
        }
    }

    fn sync(&mut self, life: &mut Life) {
        if life.writer.is_dirty() && life.writer.sync().is_ok() {
            self.all_durable();
        }
    }

    fn fed_position(&mut self) -> Option<Position> {
        let fed: Vec<_> = self
            .sent
            .values()
            .filter_map(|sent| match sent.fate {
                Fate::Durable(position) | Fate::Written(position) => Some(position),
                Fate::Open | Fate::Never | Fate::Rotten => None,
            })
            .collect();
        let newer_half = fed.len() / 2 + self.chance.below(fed.len() as u64 / 2 + 1) as usize;
        fed.get(newer_half).copied()
    }

    fn checkpoint(&mut self, life: &Life) {
        let Some(position) = self.fed_position() else { return };
        if self.checkpoint.as_ref().is_some_and(|(last, _)| position < *last) || life.writer.has_failed() {
            return;
        }
        let state = Bytes::from(vec![self.chance.number() as u8; self.chance.below(2000) as usize]);
        match life.checkpoint(position, state.clone(), self.now_ms) {
            Ok(()) => {
                self.totals.checkpoints += 1;
                self.checkpoint = Some((position, state));
                self.tried.retain(|(other, _)| *other > position);
                for sent in self.sent.values_mut() {
                    if let Fate::Written(at) = sent.fate
                        && at <= position
                    {
                        sent.fate = Fate::Durable(at);
                    }
                }
            }
            Err(_) => self.tried.push((position, state)),
        }
    }

    fn hold(&mut self, life: &Life) {
        let Some(needed) = self.fed_position().filter(|needed| needed.0 >= self.held) else { return };
        let before = self.disk.used();
        let request = Request::Hold { needed, state: needed };
        life.reader.note(&request);
        life.reader.answer(request, self.now_ms);
        self.held = needed.0;
        self.totals.freed += u64::from(self.disk.used() < before);
    }

    /// The disk is nearly full, or has room again.
    fn squeeze(&mut self) {
        let room = self.disk.used() + self.chance.below(6000);
        self.disk.set_capacity((self.chance.below(4) == 0).then_some(room));
    }

    /// What was fed can be read at once.
    fn look(&mut self, life: &Life) {
        let fed = self.sent.values().filter_map(|sent| match sent.fate {
            Fate::Durable(at) | Fate::Written(at) if at.0 >= self.held => {
                Some((at, sent.entry.event.clone()))
            }
            Fate::Durable(_) | Fate::Written(_) | Fate::Open | Fate::Never | Fate::Rotten => None,
        });
        let (positions, events): (Vec<_>, Vec<_>) = fed.unzip();
        if self.disk.is_off() {
            return;
        }
        assert_eq!(life.read(positions), events);
        for record in life.scan_all(4000) {
            let fate = self.sent[&stamp_of(&record)].fate;
            assert!(matches!(fate, Fate::Durable(_) | Fate::Written(_)), "shown and not confirmed");
        }
    }
}

impl Life {
    fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request, now_ms: u64) -> T {
        let (reply, mut answer) = oneshot::channel();
        self.reader.answer(request(reply), now_ms);
        answer.try_recv().unwrap()
    }

    fn read(&self, positions: Vec<Position>) -> Vec<Option<Event>> {
        self.ask(|reply| Request::Read { positions, reply }, 0).unwrap()
    }

    fn scan_all(&self, bytes: usize) -> Vec<Committed> {
        let mut records: Vec<Committed> = Vec::new();
        loop {
            let after = records.last().map_or(Position(0), |record| record.position);
            let scanned = self.ask(|reply| Request::Scan { after, bytes, reply }, 0).unwrap();
            records.extend(scanned.records);
            if scanned.end {
                return records;
            }
        }
    }

    fn checkpoint(&self, position: Position, state: Bytes, now_ms: u64) -> Result<(), event::Reject> {
        self.ask(|reply| Request::Checkpoint { position, state, reply }, now_ms)
    }

    fn load_checkpoint(&self) -> Option<(Position, Bytes)> {
        self.ask(|reply| Request::LoadCheckpoint { reply }, 0).unwrap()
    }
}

impl Totals {
    fn add(&mut self, other: &Self) {
        let Self { lives, kept, cut, power, failed, busy, freed, checkpoints, rotten, read_only } = other;
        self.lives += lives;
        self.kept += kept;
        self.cut += cut;
        self.power += power;
        self.failed += failed;
        self.busy += busy;
        self.freed += freed;
        self.checkpoints += checkpoints;
        self.rotten += rotten;
        self.read_only += read_only;
    }
}

fn dir() -> &'static Path {
    Path::new("/data")
}

fn stamp_of(record: &Committed) -> u64 {
    stamp_of_note(&record.note)
}

fn stamp_of_note(note: &Bytes) -> u64 {
    u64::from_le_bytes(*note.first_chunk().unwrap())
}
