//! The store contract, on the real disk and on the simulated one.
#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use embedded::disk::Disk;
use embedded::sim::SimDisk;
use embedded::{Handle, Opened, Options, RealDisk};
use event::store::{Feed, Store};
use event::testing::store_contract::{self, Subject};
use event::{ByteLimit, Health};

struct Log<D> {
    disk: D,
    dir: PathBuf,
    options: Options,
    handle: Option<Handle>,
    _folder: Option<Arc<tempfile::TempDir>>,
}

impl<D: Disk> Subject for Log<D> {
    fn start(&mut self) -> (Store, Feed) {
        let opened = embedded::open(&self.options, &self.dir, self.disk.clone(), Health::default());
        let Opened { store, feed, handle, .. } = opened.unwrap();
        self.handle = Some(handle);
        (store, feed)
    }

    fn stop(&mut self) {
        self.handle.take().unwrap().close();
    }
}

fn small_segments() -> Options {
    Options { segment_bytes: ByteLimit::kib(64), prewrite_bytes: ByteLimit::kib(4), ..Options::default() }
}

fn real(options: Options) -> Log<RealDisk> {
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let dir = folder.path().join("made/for it");
    Log { disk: RealDisk, dir, options, handle: None, _folder: Some(folder) }
}

#[tokio::test]
async fn the_real_disk_passes() {
    store_contract::check(|| real(Options::default())).await;
}

#[tokio::test]
async fn the_real_disk_passes_with_small_segments() {
    store_contract::check(|| real(small_segments())).await;
}

#[tokio::test]
async fn the_simulated_disk_passes() {
    store_contract::check(|| Log {
        disk: SimDisk::new(),
        dir: Path::new("/data").to_owned(),
        options: small_segments(),
        handle: None,
        _folder: None,
    })
    .await;
}
