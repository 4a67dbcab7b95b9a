//! What the log asks of a disk, and the real one. Knows no record: bytes, files, folders.
//!
//! The log trusts a disk with this and no more: bytes are safe after [`DiskFile::sync`], names after
//! [`Disk::sync_dir`]. Until then a power cut may keep any part of them, in any order. `sim::SimDisk`
//! makes that come true.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

/// A disk. Cloning shares it.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;

    /// Makes the folder and those above it, for the owner only, if they are not there; durable.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Opens a file to read and write.
    fn open(&self, path: &Path) -> io::Result<Self::File>;
    /// Creates an empty file in place of an older one, to read and write.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Renames, in place of an older file of that name: there is no moment without the name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes all names in the folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file. All methods take `&self`: readers and the writer share it.
pub trait DiskFile: Send + Sync + 'static {
    /// Reads up to `buffer.len()` bytes from `offset`; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`; the file grows as it has to. After an error any part may be written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes all data durable, and what is needed to read it back (`fdatasync`). After an error nothing is known of
    /// what was written since the last success, and asking again proves nothing.
    fn sync(&self) -> io::Result<()>;
    /// As [`Self::sync`], and all else that is known of the file, its length above all (`fsync`).
    fn sync_all(&self) -> io::Result<()>;
    /// Sets the length.
    fn truncate(&self, length: u64) -> io::Result<()>;
    /// The length.
    fn length(&self) -> io::Result<u64>;
    /// Locks the file until it is dropped; false if another holds it.
    fn try_lock(&self) -> io::Result<bool>;
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    type File = File;

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let new: Vec<&Path> = dir.ancestors().take_while(|path| !path.exists()).collect();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        for parent in new.iter().filter_map(|path| path.parent()) {
            let here = parent.as_os_str().is_empty();
            self.sync_dir(if here { Path::new(".") } else { parent })?;
        }
        Ok(())
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(path)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl DiskFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match FileExt::read_at(self, rest, offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        Self::sync_all(self)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn try_lock(&self) -> io::Result<bool> {
        match Self::try_lock(self) {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// What a disk reads at once: an error on one of its sectors takes so much with it.
pub(crate) const BLOCK: usize = 4096;

/// Reads as [`DiskFile::read_at`] does, and goes on behind blocks that the disk cannot give: `filler` is in their place.
pub(crate) fn read_around(
    file: &impl DiskFile,
    buffer: &mut [u8],
    offset: u64,
    filler: u8,
) -> io::Result<usize> {
    let whole = file.read_at(buffer, offset);
    if !whole.as_ref().is_err_and(is_unreadable) {
        return whole;
    }
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset.saturating_add(done as u64);
        let to_border = BLOCK - usize::try_from(at % BLOCK as u64).unwrap_or(0);
        let length = to_border.min(rest.len());
        let Some(block) = rest.get_mut(..length) else { break };
        match file.read_at(block, at) {
            Ok(read) => {
                done += read;
                if read < length {
                    break;
                }
            }
            Err(error) if is_unreadable(&error) => {
                block.fill(filler);
                done += length;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Whether `error` says that the disk has lost what was written there (EIO). Asked of a read: other places may be well.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EIO)
}

/// The number of this error on every Unix.
const EIO: i32 = 5;

/// Whether `error` says that there is no room: the write may pass later, and nothing that is written is in doubt.
pub(crate) fn is_full(error: &io::Error) -> bool {
    [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded].contains(&error.kind())
}
