//! `weft log import`: JSON Lines into a log that no Weft uses.
//!
//! It opens the folder as Weft does, core and all, and publishes. So sessions get what they subscribed, retained events take
//! their places, and a line counts when it is synced. Over the HTTP of a running Weft this could not be: there every event
//! is a CloudEvent of somebody who may publish it, now; here plain publishes stay plain, with their publisher and time.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use config::Config;
use event::hub::{Hub as _, Publish, Receipt, Stamps};
use event::lines::{self, Line};
use event::{Guarantee, Health, Principal, RejectKind};
use routing::Core;
use tokio::sync::mpsc;

use super::args::{Import, now_ms};
use super::progress::Progress;
use super::{count, say};
use crate::shutdown::StopSignals;
use crate::telemetry;

/// The name under which CloudEvents are published that came with none.
const PUBLISHER: &str = "import";
/// Lines that go into the log together, and their bytes, about.
const BATCH_LINES: usize = 256;
const BATCH_BYTES: usize = 1 << 20;
/// Batches that wait for their sync.
const BATCHES: usize = 8;
/// The longest line: what the largest MQTT packet takes as base64, and attributes.
const LINE_MAX: u64 = 384 << 20;

pub(super) fn run(config: &Config, wanted: &Import) -> anyhow::Result<ExitCode> {
    let log = config::Log { level: "warn".to_owned(), format: config.log.format };
    telemetry::start_logs(&log)?;
    let (input, all) = open(&wanted.file)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("no runtime")?;
    let outcome = runtime.block_on(async {
        let mut signals = StopSignals::listen()?;
        let opened = embedded::open(&config.store, &config.data, embedded::RealDisk, Health::default())?;
        let recovery = Core::recover(config.core.clone(), &[], opened.store, opened.feed, Vec::new());
        let (core, _) = recovery.await.context("the log cannot be read back")?;
        let mut import = Importing::new(Arc::clone(&core), wanted.strict);
        let lines = read(input, core.stamps());
        let ended = import.run(lines, all, &mut signals).await;
        core.stop().await;
        let handle = opened.handle;
        tokio::task::spawn_blocking(move || handle.close()).await.context("closing the log")?;
        core.join().await;
        ended.map(|()| import)
    });
    // A thread may still wait for input.
    runtime.shutdown_background();
    let import = outcome?;
    let bad = match import.bad {
        0 => String::new(),
        n => format!("; {} left out", count(n, "line was", "lines were")),
    };
    say(format_args!("imported {}{bad}", count(import.kept, "event", "events")));
    Ok(if import.bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

type Input = Box<dyn BufRead + Send>;

/// The input, and its length if it is known.
fn open(file: &Path) -> anyhow::Result<(Input, Option<u64>)> {
    if file.as_os_str() == "-" {
        return Ok((Box::new(BufReader::new(std::io::stdin())), None));
    }
    let open = || {
        let file = File::open(file)?;
        let all = file.metadata()?.len();
        Ok::<_, std::io::Error>((Box::new(BufReader::with_capacity(1 << 20, file)) as Input, Some(all)))
    };
    open().with_context(|| format!("cannot read {}", file.display()))
}

/// Lines with their numbers, and how many bytes they were.
struct Lines {
    lines: Vec<(u64, Result<Line, String>)>,
    bytes: u64,
}

/// Reads lines on a thread of their own, since input may keep one waiting.
fn read(mut input: Input, mut stamps: Stamps) -> mpsc::Receiver<anyhow::Result<Lines>> {
    let (sender, receiver) = mpsc::channel(2);
    tokio::task::spawn_blocking(move || {
        let publisher = Arc::from(PUBLISHER);
        let mut number = 0;
        loop {
            let next = batch(&mut input, &mut number, &mut stamps, &publisher);
            let over = !matches!(&next, Ok(Some(_)));
            if let Some(next) = next.transpose()
                && sender.blocking_send(next).is_err()
            {
                return;
            }
            if over {
                return;
            }
        }
    });
    receiver
}

fn batch(
    input: &mut Input,
    number: &mut u64,
    stamps: &mut Stamps,
    publisher: &Arc<str>,
) -> anyhow::Result<Option<Lines>> {
    let mut batch = Lines { lines: Vec::new(), bytes: 0 };
    while batch.lines.len() < BATCH_LINES && batch.bytes < BATCH_BYTES as u64 {
        let mut line = Vec::new();
        let read = input.take(LINE_MAX).read_until(b'\n', &mut line).context("cannot read on")?;
        if read == 0 {
            break;
        }
        *number += 1;
        batch.bytes += read as u64;
        if read as u64 == LINE_MAX && !line.ends_with(b"\n") {
            bail!("line {number} is longer than {LINE_MAX} B");
        }
        line.truncate(line.trim_ascii_end().len());
        if line.is_empty() {
            continue;
        }
        let read = lines::decode(Bytes::from(line), stamps.take(), now_ms(), publisher);
        batch.lines.push((*number, read.map_err(|error| error.to_string())));
    }
    Ok(Some(batch).filter(|batch| batch.bytes > 0))
}

struct Importing {
    core: Arc<Core>,
    who: Principal,
    strict: bool,
    /// Lines of each batch that is on its way.
    waiting: VecDeque<(Vec<u64>, Receipt)>,
    kept: u64,
    bad: u64,
}

impl Importing {
    fn new(core: Arc<Core>, strict: bool) -> Self {
        let who = Principal::anonymous(PUBLISHER);
        Self { core, who, strict, waiting: VecDeque::new(), kept: 0, bad: 0 }
    }

    async fn run(
        &mut self,
        mut lines: mpsc::Receiver<anyhow::Result<Lines>>,
        all: Option<u64>,
        signals: &mut StopSignals,
    ) -> anyhow::Result<()> {
        let mut progress = Progress::new("importing");
        let mut done = 0;
        let ended = loop {
            let batch = tokio::select! {
                biased;
                _ = signals.next() => break Err(anyhow::anyhow!("stopped as asked")),
                batch = lines.recv() => batch,
            };
            let batch = match batch {
                None => break Ok(()),
                Some(Err(error)) => break Err(error),
                Some(Ok(batch)) => batch,
            };
            done += batch.bytes;
            if let Err(error) = self.publish(batch).await {
                break Err(error);
            }
            progress.at(done, all);
        };
        let settled = self.settle(0).await;
        drop(progress);
        ended
            .and(settled)
            .with_context(|| format!("{} kept, then", count(self.kept, "event was", "events were")))
    }

    async fn publish(&mut self, batch: Lines) -> anyhow::Result<()> {
        let (mut numbers, mut events) = (Vec::new(), Vec::new());
        let mut broken = None;
        for (number, line) in batch.lines {
            match line {
                Ok(Line { event, retain }) => {
                    numbers.push(number);
                    events.push(Publish { event, guarantee: Guarantee::AtLeastOnce, retain, id: None });
                }
                Err(error) if self.strict => {
                    broken = Some(anyhow::anyhow!("line {number}: {error}"));
                    break;
                }
                Err(error) => self.leave_out(number, &error),
            }
        }
        let receipt = self.core.publish(&self.who, events).receipt().await;
        self.waiting.push_back((numbers, receipt));
        self.settle(BATCHES).await?;
        broken.map_or(Ok(()), Err)
    }

    /// Waits until at most so many batches are on their way.
    async fn settle(&mut self, most: usize) -> anyhow::Result<()> {
        while self.waiting.len() > most {
            let Some((numbers, receipt)) = self.waiting.pop_front() else { return Ok(()) };
            let outcome = receipt.await;
            for (place, number) in numbers.into_iter().enumerate() {
                match outcome.of(place) {
                    Ok(()) => self.kept += 1,
                    Err(reject)
                        if self.strict
                            || !matches!(reject.kind, RejectKind::Denied | RejectKind::Malformed) =>
                    {
                        bail!("line {number}: {reject}");
                    }
                    Err(reject) => self.leave_out(number, &reject.reason),
                }
            }
        }
        Ok(())
    }

    fn leave_out(&mut self, number: u64, why: &str) {
        self.bad += 1;
        say(format_args!("weft: line {number}: {why}"));
    }
}
