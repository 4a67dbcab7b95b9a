//! `weft log export`: published events as JSON Lines, in the order of the log.

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use embedded::inspect::{Log, Record};
use event::lines;
use event::store::Position;
use routing::inspect::{What, describe};

use super::args::Export;
use super::progress::Progress;
use super::select::{self, Next};
use super::{count, output, say};

pub(super) fn run(dir: &Path, wanted: &Export) -> anyhow::Result<ExitCode> {
    let log = Log::open(dir)?;
    let mut progress = match wanted.output {
        None if std::io::stdout().is_terminal() => Progress::none(),
        Some(_) | None => Progress::new("exporting"),
    };
    let (events, damaged) = match &wanted.output {
        None => write(&log, wanted, &mut progress, output())?.0,
        Some(path) => {
            let shown = path.display();
            let file = File::create(path).with_context(|| format!("cannot write {shown}"))?;
            let (counts, file) =
                write(&log, wanted, &mut progress, BufWriter::with_capacity(256 << 10, file))?;
            file.get_ref().sync_all().with_context(|| format!("cannot write {shown}"))?;
            counts
        }
    };
    drop(progress);
    let damage = match damaged {
        0 => String::new(),
        n => format!("; {} could not be read", count(n, "damaged place", "damaged places")),
    };
    say(format_args!("exported {}{damage}", count(events, "event", "events")));
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

type Counts = (u64, u64);

fn write<W: Write>(
    log: &Log,
    wanted: &Export,
    progress: &mut Progress,
    mut out: W,
) -> anyhow::Result<(Counts, W)> {
    let mut events = 0;
    let first = log.first();
    let met = select::each(log, &wanted.selection, progress, |record| {
        if let Some((event, retain)) = published(record, first) {
            out.write_all(&lines::encode(event, retain))?;
            out.write_all(b"\n")?;
            events += 1;
        }
        Ok(Next::More)
    })?;
    out.flush()?;
    Ok(((events, met.damaged), out))
}

/// The event of a record if it was published, and whether it was retained. Wills and the like are state of sessions. A
/// retained event that was appended again stands for itself once its first place is freed.
fn published(record: &Record, first: Position) -> Option<(&event::Event, bool)> {
    let event = record.event.as_ref()?;
    match describe(&record.note).what {
        What::Published { retain, .. } => Some((event, retain)),
        What::Moved(from) if from < first => Some((event, true)),
        What::Moved(_) | What::State | What::Unknown => None,
    }
}
