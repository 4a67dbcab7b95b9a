//! The disk of this machine for those who only look: whatever would change it is refused.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::disk::{Disk, RealDisk};

/// As [`RealDisk`], but files are opened to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadOnly;

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Disk for ReadOnly {
    type File = File;

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        File::open(path)
    }

    fn create(&self, _: &Path) -> io::Result<File> {
        refused()
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }
}
