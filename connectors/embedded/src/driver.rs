//! The threads of the log: one that writes, two that read. The only file that waits. A log without work does nothing:
//! all threads sleep until somebody asks.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use event::Health;
use event::store::{Append, AppendQueue, FeedSender, RequestQueue};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::disk::Disk;
use crate::reader::Reader;
use crate::shared::{PART, Shared, lock};
use crate::writer::Writer;

/// Batches that are taken for one write: about one for each connection that is busy.
const APPENDS_MAX: usize = 1024;
/// Threads that read.
const READERS: usize = 2;

/// The running log. Dropped, the log runs on until all handles of its store are dropped.
#[derive(Debug)]
pub struct Handle {
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Handle {
    /// Stops the log: what waits is written, all is synced, the folder is unlocked. Appends from now on are refused
    /// as closed. Waits until that is done, so call it where waiting is allowed, while the feed is read or dropped.
    pub fn close(self) {
        self.stop.send_replace(true);
        for thread in self.threads {
            // A thread that panicked has told so.
            thread.join().unwrap_or(());
        }
    }
}

pub(crate) fn start<D: Disk>(
    writer: Writer<D>,
    shared: &Arc<Shared<D>>,
    health: Health,
    appends: AppendQueue,
    requests: RequestQueue,
    feed: FeedSender,
) -> io::Result<Handle> {
    let (stop, stopped) = watch::channel(false);
    let mut threads = Vec::with_capacity(1 + READERS);
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let idle = Duration::from_millis(shared.options.sync_idle_ms);
    let queue = Queue { appends, stopped: stopped.clone(), runtime, rest_at: None, closing: false };
    let guard = Guard(health.clone());
    threads.push(spawn("weft-log-write", move || {
        let _guard = guard;
        write(writer, queue, &feed, idle);
    })?);
    let requests = Arc::new(Mutex::new(requests));
    for _ in 0..READERS {
        let reader = Reader::new(Arc::clone(shared));
        let (requests, stopped) = (Arc::clone(&requests), stopped.clone());
        let runtime = Builder::new_current_thread().build()?;
        let guard = Guard(health.clone());
        threads.push(spawn("weft-log-read", move || {
            let _guard = guard;
            read(&reader, &runtime, &requests, stopped);
        })?);
    }
    Ok(Handle { stop, threads })
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}

fn write<D: Disk>(mut writer: Writer<D>, mut queue: Queue, feed: &FeedSender, idle: Duration) {
    let mut ready = Vec::with_capacity(APPENDS_MAX);
    loop {
        match queue.next(&mut ready) {
            Wake::Appends => {
                let batch = writer.append(&mut ready, now_ms());
                if !(batch.entries.is_empty() && batch.receipts.is_empty()) {
                    // Without a core the receipts are dropped, which says that weft is stopping.
                    feed.blocking_send(batch);
                }
            }
            // A failure is on the health board, and in the log of the program.
            Wake::Tail => writer.rest().unwrap_or(()),
            Wake::Stop => {
                queue.closing = true;
                queue.appends.close();
            }
            Wake::Gone => break,
        }
        // What is not synced is not put off by what comes later.
        let since = queue.rest_at.filter(|_| writer.is_dirty()).unwrap_or_else(|| Instant::now() + idle);
        queue.rest_at = writer.is_restless().then_some(since);
    }
    writer.rest().unwrap_or(());
}

/// What the writer waits for.
struct Queue {
    appends: AppendQueue,
    stopped: watch::Receiver<bool>,
    runtime: Runtime,
    /// When to make durable what is not, and to rest.
    rest_at: Option<Instant>,
    closing: bool,
}

enum Wake {
    Appends,
    Tail,
    Stop,
    Gone,
}

impl Queue {
    fn next(&mut self, ready: &mut Vec<Append>) -> Wake {
        let Self { appends, stopped, runtime, rest_at, closing } = self;
        let tail = async {
            match *rest_at {
                Some(time) => tokio::time::sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        runtime.block_on(async {
            tokio::select! {
                biased;
                () = stop_asked(stopped), if !*closing => Wake::Stop,
                () = tail => Wake::Tail,
                some = appends.next(ready, APPENDS_MAX) => if some { Wake::Appends } else { Wake::Gone },
            }
        })
    }
}

fn read<D: Disk>(
    reader: &Reader<D>,
    runtime: &Runtime,
    requests: &Mutex<RequestQueue>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        // The readers take turns in waiting; whoever has got a request lets the next one wait and answers it.
        let mut queue = lock(requests);
        let request = runtime.block_on(async {
            tokio::select! {
                biased;
                () = stop_asked(&mut stopped) => None,
                request = queue.next() => request,
            }
        });
        // In the order of the requests: one that comes later knows what is needed.
        request.iter().for_each(|request| reader.note(request));
        drop(queue);
        let Some(request) = request else { return };
        reader.answer(request, now_ms());
    }
}

/// Ready when the log was told to stop. A handle that was dropped asks for nothing.
async fn stop_asked(stopped: &mut watch::Receiver<bool>) {
    if stopped.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Tells the health board when a thread ends by a panic.
struct Guard(Health);

impl Drop for Guard {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.down(PART, "a thread of the log has failed: restart weft, and report what its log says");
        }
    }
}
