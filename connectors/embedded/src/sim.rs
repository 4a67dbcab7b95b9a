//! A disk in memory that does what a power cut may do: until a sync it keeps any part of what was written, in any order.
//!
//! The model, which is at least as bad as a file system on a disk with a cache:
//!
//! * A write is as many sectors of 512 bytes as it touches; each unsynced one is kept or lost on its own.
//! * A new length is kept or lost; a file that grows by a kept sector has zeros where others were lost.
//! * A name that was made, moved or removed is kept or lost until the folder is synced, each on its own.
//! * A failed sync loses what it should have made durable, and the next one says nothing of it.
//! * The medium rots when it is told to: bits turn over, blocks of 4096 bytes cannot be read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event::testing::Chance;

use crate::disk::{Disk, DiskFile};

const SECTOR: usize = 512;
/// What the system reads and writes at once.
const BLOCK: usize = 4096;

/// A simulated disk. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

/// An open file of a [`SimDisk`]. It ends with the power: after [`SimDisk::crash`] all it does fails.
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    inode: usize,
    life: u64,
    is_locked: Mutex<bool>,
}

/// What goes wrong, and when: after so many more operations that change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The power is cut in the middle of the operation: it may be done in part, and all later ones fail.
    Power,
    /// One write fails with an I/O error, half done.
    Write,
    /// One sync fails with an I/O error.
    Sync,
    /// The file system is read-only from here on, as after a remount.
    ReadOnly,
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    name_changes: Vec<NameChange>,
    /// How often the power was cut.
    life: u64,
    is_off: bool,
    is_read_only: bool,
    fault: Option<(u64, Fault)>,
    capacity: Option<u64>,
    operations: u64,
}

#[derive(Debug, Default)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
    changes: Vec<Change>,
    is_locked: bool,
    /// Blocks that cannot be read until they are written again.
    lost: BTreeSet<u64>,
}

#[derive(Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Length(u64),
}

#[derive(Debug)]
enum NameChange {
    Add(PathBuf, usize),
    Move(PathBuf, PathBuf, usize),
    Remove(PathBuf),
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cuts the power and gives it back: each unsynced change is kept or lost by `seed`. Open files are dead, locks gone.
    pub fn crash(&self, seed: u64) {
        let mut state = self.state();
        let mut chance = Chance(seed);
        // Some cuts keep nearly all, some nearly nothing.
        let keep = chance.below(5) * 64;
        let State { inodes, names, durable_names, name_changes, .. } = &mut *state;
        for change in name_changes.drain(..).filter(|_| chance.below(256) < keep) {
            change.apply(durable_names);
        }
        names.clone_from(durable_names);
        for inode in inodes.iter_mut() {
            for change in inode.changes.drain(..) {
                change.apply_torn(&mut inode.durable, &mut chance, keep);
            }
            inode.content.clone_from(&inode.durable);
            inode.is_locked = false;
        }
        state.life += 1;
        state.is_off = false;
        state.is_read_only = false;
        state.fault = None;
    }

    /// `fault` comes after `operations` more operations that change something (0: with the next).
    pub fn fail_after(&self, operations: u64, fault: Fault) {
        self.state().fault = Some((operations, fault));
    }

    /// Takes back a fault that has not come yet, and a remount that came.
    pub fn clear_fault(&self) {
        let mut state = self.state();
        state.fault = None;
        state.is_read_only = false;
    }

    /// Bits of the byte at `offset` are turned over on the medium.
    pub fn rot(&self, path: &Path, offset: u64, bits: u8) {
        let mut state = self.state();
        let Some(inode) = state.names.get(path).copied() else { return };
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        if let Ok(inode) = state.inode(inode) {
            let copies = [&mut inode.content, &mut inode.durable];
            copies.into_iter().filter_map(|copy| copy.get_mut(at)).for_each(|byte| *byte ^= bits);
        }
    }

    /// The medium has lost what is at `offset`: reading the block fails with EIO until all of it is written.
    pub fn lose_block(&self, path: &Path, offset: u64) {
        let mut state = self.state();
        let Some(inode) = state.names.get(path).copied() else { return };
        if let Ok(inode) = state.inode(inode) {
            inode.lost.insert(offset / BLOCK as u64);
        }
    }

    /// Whether the power was cut by [`Fault::Power`].
    pub fn is_off(&self) -> bool {
        self.state().is_off
    }

    /// All files together may take `bytes`; `None`: no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// What all files take.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// Operations that changed something, so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The content of a file.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        state.inodes.get(*state.names.get(path)?).map(|inode| inode.content.clone())
    }

    /// Puts a file there, durable: an old data folder, or a damaged one.
    pub fn put(&self, path: &Path, content: Vec<u8>) {
        let mut state = self.state();
        let inode = state.inodes.len();
        state.inodes.push(Inode { durable: content.clone(), content, ..Inode::default() });
        state.names.insert(path.to_owned(), inode);
        state.durable_names.insert(path.to_owned(), inode);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Counts one operation; an error if the power is off, and the fault if its time has come.
    fn step(&mut self, life: u64) -> io::Result<Option<Fault>> {
        if self.is_off || life != self.life {
            return Err(no_power());
        }
        if self.is_read_only {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        self.operations += 1;
        let due = match &mut self.fault {
            Some((0, fault)) => Some(*fault),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        self.is_off = due == Some(Fault::Power);
        self.is_read_only = due == Some(Fault::ReadOnly);
        if self.is_read_only {
            return Err(ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok(due)
    }

    /// An error if the power went off with the operation that was counted.
    fn still_on(&self) -> io::Result<()> {
        if self.is_off { Err(no_power()) } else { Ok(()) }
    }

    fn take_fault(&mut self, due: Option<Fault>, wanted: Fault) -> bool {
        let hit = due == Some(wanted);
        if hit {
            self.fault = None;
        }
        hit
    }

    fn used(&self) -> u64 {
        self.names
            .values()
            .filter_map(|inode| self.inodes.get(*inode))
            .map(|inode| inode.content.len() as u64)
            .sum()
    }

    fn inode(&mut self, inode: usize) -> io::Result<&mut Inode> {
        self.inodes.get_mut(inode).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }
}

impl Inode {
    fn has_lost(&self, offset: u64, length: usize) -> bool {
        let blocks = offset / BLOCK as u64..(offset + length as u64).div_ceil(BLOCK as u64);
        self.lost.range(blocks).next().is_some()
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<SimFile> {
        let state = self.state();
        let inode = *state.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(SimFile { disk: self.clone(), inode, life: state.life, is_locked: Mutex::new(false) })
    }

    fn create(&self, path: &Path) -> io::Result<SimFile> {
        let mut state = self.state();
        let life = state.life;
        state.step(life)?;
        let inode = match state.names.get(path) {
            Some(inode) => *inode,
            None => {
                let inode = state.inodes.len();
                state.inodes.push(Inode::default());
                state.change_name(NameChange::Add(path.to_owned(), inode));
                inode
            }
        };
        let file = state.inode(inode)?;
        file.content.clear();
        file.changes.push(Change::Length(0));
        state.still_on()?;
        Ok(SimFile { disk: self.clone(), inode, life, is_locked: Mutex::new(false) })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let life = state.life;
        state.step(life)?;
        let inode = *state.names.get(from).ok_or(ErrorKind::NotFound)?;
        state.change_name(NameChange::Move(from.to_owned(), to.to_owned(), inode));
        state.still_on()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let life = state.life;
        state.step(life)?;
        state.names.get(path).ok_or(ErrorKind::NotFound)?;
        state.change_name(NameChange::Remove(path.to_owned()));
        state.still_on()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let here = state.names.keys().filter(|path| path.parent() == Some(dir));
        Ok(here.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect())
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let life = state.life;
        let due = state.step(life)?;
        state.still_on()?;
        if state.take_fault(due, Fault::Sync) {
            state.name_changes.clear();
            return Err(io::Error::other("simulated failure of a sync"));
        }
        state.name_changes.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }
}

impl SimFile {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut state = self.disk.state();
        let due = state.step(self.life)?;
        let fails = matches!(change, Change::Write(..)) && state.take_fault(due, Fault::Write);
        let free = state.capacity.map_or(u64::MAX, |most| most.saturating_sub(state.used()));
        let inode = state.inode(self.inode)?;
        let (change, outcome) = match change {
            Change::Write(offset, mut bytes) if fails => {
                bytes.truncate(bytes.len() / 2);
                (Change::Write(offset, bytes), Err(io::Error::other("simulated failure of a write")))
            }
            Change::Write(offset, mut bytes) => {
                let room = (inode.content.len() as u64).saturating_add(free).saturating_sub(offset);
                let outcome =
                    if bytes.len() as u64 > room { Err(ErrorKind::StorageFull.into()) } else { Ok(()) };
                bytes.truncate(usize::try_from(room).unwrap_or(usize::MAX));
                (Change::Write(offset, bytes), outcome)
            }
            length @ Change::Length(_) => (length, Ok(())),
        };
        if let Change::Write(offset, bytes) = &change {
            let end = offset + bytes.len() as u64;
            let whole = offset.div_ceil(BLOCK as u64)..end / BLOCK as u64;
            inode.lost.retain(|block| !whole.contains(block));
            // A block of which only a part is written is read first.
            if inode.has_lost(*offset, bytes.len()) {
                return Err(io::Error::from_raw_os_error(5));
            }
        }
        change.apply(&mut inode.content);
        inode.changes.push(change);
        state.still_on()?;
        outcome
    }

    fn make_durable(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let due = state.step(self.life)?;
        // A sync that the power cut interrupts has confirmed nothing; what it has done is in the lottery.
        state.still_on()?;
        let fails = state.take_fault(due, Fault::Sync);
        let inode = state.inode(self.inode)?;
        let changes = std::mem::take(&mut inode.changes);
        if fails {
            // As Linux does: the pages are clean now, and never reach the disk.
            return Err(io::Error::other("simulated failure of a sync"));
        }
        for change in changes {
            change.apply(&mut inode.durable);
        }
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        if state.is_off || state.life != self.life {
            return Err(no_power());
        }
        let inode = state.inode(self.inode)?;
        if inode.has_lost(offset, buffer.len()) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let content = &inode.content;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let there = content.get(from..).unwrap_or_default();
        let length = there.len().min(buffer.len());
        buffer.iter_mut().zip(there).for_each(|(to, from)| *to = *from);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write(offset, bytes.to_vec()))
    }

    fn sync(&self) -> io::Result<()> {
        self.make_durable()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.make_durable()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.change(Change::Length(length))
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.state().inode(self.inode)?.content.len() as u64)
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.disk.state();
        let inode = state.inode(self.inode)?;
        let free = !std::mem::replace(&mut inode.is_locked, true);
        *self.is_locked.lock().unwrap_or_else(PoisonError::into_inner) = free;
        Ok(free)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let holds = *self.is_locked.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.disk.state();
        if holds
            && state.life == self.life
            && let Ok(inode) = state.inode(self.inode)
        {
            inode.is_locked = false;
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => write(content, *offset, bytes),
            Self::Length(length) => content.resize(usize::try_from(*length).unwrap_or(usize::MAX), 0),
        }
    }

    /// Applies what a power cut leaves of the change.
    fn apply_torn(&self, content: &mut Vec<u8>, chance: &mut Chance, keep: u64) {
        match self {
            Self::Write(offset, bytes) => {
                let mut offset = *offset;
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let to_border = SECTOR - usize::try_from(offset % SECTOR as u64).unwrap_or(0);
                    let (sector, behind) = rest.split_at(to_border.min(rest.len()));
                    if chance.below(256) < keep {
                        write(content, offset, sector);
                    }
                    offset += sector.len() as u64;
                    rest = behind;
                }
            }
            Self::Length(_) if chance.below(256) < keep => self.apply(content),
            Self::Length(_) => {}
        }
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            Self::Add(path, inode) => {
                names.insert(path.clone(), *inode);
            }
            Self::Move(from, to, inode) => {
                if names.get(from) == Some(inode) {
                    names.remove(from);
                }
                names.insert(to.clone(), *inode);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

fn no_power() -> io::Error {
    io::Error::other("the power is off")
}

fn write(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let from = usize::try_from(offset).unwrap_or(usize::MAX);
    let to = from.saturating_add(bytes.len());
    if content.len() < to && !bytes.is_empty() {
        content.resize(to, 0);
    }
    if let Some(place) = content.get_mut(from..to) {
        place.copy_from_slice(bytes);
    }
}
