//! `weft trace`, and the admin page of it: follows an event through the log of a folder. Only reads.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use config::Config;
use embedded::inspect::{Found, Log, Record, Walk};
use event::event::rfc3339;
use event::store::{Committed, Ends, Position, Request, RequestQueue, Store, store};
use event::{ByteLimit, Reject, RejectKind};
use routing::trace::{self, Delivery, Traced, Tracer};

use super::args::Trace;
use super::cat::shown;
use super::progress::Progress;
use super::{output, say};

/// So many records of one id are followed.
const MOST: usize = 1000;
/// So much of a text is shown to people.
const SHOWN: usize = 200;

/// Which event.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// Its CloudEvents id.
    pub(crate) id: String,
    /// Its CloudEvents source.
    pub(crate) source: Option<String>,
}

/// What was found.
pub(crate) struct Outcome {
    /// Its records with what became of them; none: it is not in the log.
    pub(crate) traced: Vec<Traced>,
    /// From when on the log holds events: milliseconds since 1970.
    pub(crate) since_ms: Option<u64>,
    /// Damaged places that were passed over.
    pub(crate) damaged: usize,
}

impl Outcome {
    /// That there is no such event.
    pub(crate) fn nothing(&self, id: &str) -> String {
        let since = self.since_ms.map_or(String::new(), |ms| format!(", which begins at {}", rfc3339(ms)));
        format!("there is no event with id {id:?} in the log{since}")
    }
}

/// `weft trace`.
pub(super) fn run(config: &Config, wanted: &Trace) -> anyhow::Result<ExitCode> {
    let asked = Wanted { id: wanted.id.clone(), source: wanted.source.clone() };
    let mut bars = |what| Progress::new(what);
    let found = follow(&config.data, &config.core, &asked, &mut bars)?;
    if found.damaged > 0 {
        say(format_args!("weft: {} damaged places in the log; weft log verify names them", found.damaged));
    }
    if found.traced.is_empty() {
        say(format_args!("weft: {}", found.nothing(&wanted.id)));
        return Ok(ExitCode::FAILURE);
    }
    let mut out = output();
    for traced in &found.traced {
        let text = if wanted.json { serde_json::to_string(traced)? } else { as_text(traced) };
        writeln!(out, "{text}")?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// Follows an event through the log in `dir`, also while Weft runs on it. `bars` shows how far the work is.
pub(crate) fn follow(
    dir: &Path,
    options: &routing::Options,
    wanted: &Wanted,
    bars: &mut dyn FnMut(&'static str) -> Progress,
) -> anyhow::Result<Outcome> {
    let log = Log::open(dir)?;
    let mut outcome = Outcome { traced: Vec::new(), since_ms: None, damaged: 0 };
    let mut walk = log.walk(Position(0));
    let mut bar = bars("looking");
    while let Some(found) = walk.next() {
        match found? {
            Found::Segment(segment) => {
                outcome.since_ms = outcome.since_ms.or(segment.created_ms);
            }
            Found::Damage(_) => outcome.damaged += 1,
            Found::Tail(_) => {}
            Found::Record(record) => {
                let found = trace::find(&committed(record), &wanted.id, wanted.source.as_deref());
                outcome.traced.extend(found);
                if outcome.traced.len() == MOST {
                    break;
                }
            }
        }
        tell(&walk, &mut bar);
    }
    drop(bar);
    if let Some(first) = outcome.traced.first().map(|first| Position(first.position)) {
        let traced = std::mem::take(&mut outcome.traced);
        outcome.traced = deliveries(&log, options, first, traced, &mut bars("following"))?;
    }
    Ok(outcome)
}

/// Finds out what became of them, from the oldest checkpoint before the first one on.
fn deliveries(
    log: &Log,
    options: &routing::Options,
    first: Position,
    traced: Vec<Traced>,
    bar: &mut Progress,
) -> anyhow::Result<Vec<Traced>> {
    let whole = || log.checkpoints().iter().filter(|checkpoint| checkpoint.whole);
    let before = whole().find(|checkpoint| checkpoint.position < first);
    // Without one the beginning of the log will do, if it is there; else a later one still knows what waits.
    let chosen = before.or_else(|| whole().next().filter(|_| log.first() > Position(0)));
    let image = match chosen {
        Some(checkpoint) => {
            let state = log.checkpoint(checkpoint.position)?.context("the checkpoint is gone: try again")?;
            Some((checkpoint.position, state))
        }
        None => None,
    };
    let (store, ends) = store(ByteLimit::kib(1), 1);
    let Ends { requests, .. } = ends;
    std::thread::scope(|scope| {
        scope.spawn(|| serve(log, requests));
        let checkpoint = image.as_ref().map(|(position, state)| (*position, &**state));
        let mut tracer = start(options, store, checkpoint, traced)?;
        let mut walk = log.walk(Position(tracer.start().0 + 1));
        while let Some(found) = walk.next() {
            if let Found::Record(record) = found? {
                tracer.pass(committed(record));
            }
            tell(&walk, bar);
        }
        Ok(tracer.finish())
    })
}

fn start(
    options: &routing::Options,
    store: Store,
    checkpoint: Option<(Position, &[u8])>,
    traced: Vec<Traced>,
) -> anyhow::Result<Tracer> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    // What is counted here did not happen now.
    let silent = metrics::NoopRecorder;
    let starting = || runtime.block_on(Tracer::new(options.clone(), store, checkpoint, traced));
    Ok(metrics::with_local_recorder(&silent, starting)?)
}

/// Answers what is read of the log, until nobody asks any more.
fn serve(log: &Log, mut requests: RequestQueue) {
    while let Some(request) = requests.blocking_next() {
        match request {
            Request::Read { positions, reply } => {
                let failed =
                    |error: embedded::OpenError| Reject::new(RejectKind::Unavailable, error.to_string());
                reply.send(log.events(&positions).map_err(failed)).unwrap_or(());
            }
            // A trace asks for nothing else.
            Request::Scan { .. }
            | Request::Find { .. }
            | Request::Checkpoint { .. }
            | Request::LoadCheckpoint { .. }
            | Request::Hold { .. } => {}
        }
    }
}

fn tell(walk: &Walk<'_>, bar: &mut Progress) {
    let (done, all) = walk.progress();
    bar.at(done, Some(all));
}

fn committed(record: Record) -> Committed {
    let Record { position, event, note, bytes: _ } = record;
    Committed { position, event, note }
}

fn as_text(traced: &Traced) -> String {
    let line = |text: &str| shown(text.as_bytes(), SHOWN);
    let Traced { position, received, topic, source, ty, publisher, bytes, .. } = traced;
    let (topic, source, ty, publisher) = (line(topic), line(source), line(ty), line(publisher));
    let mut text =
        format!("{position}  {received}  {topic}  {bytes} B  type {ty}  source {source}  from {publisher}");
    let mut add = |what: std::fmt::Arguments<'_>| text.write_fmt(what).unwrap_or(());
    if !traced.note.is_empty() {
        add(format_args!("  [{}]", line(&traced.note)));
    }
    if let Some(until) = &traced.repeats_until {
        add(format_args!("\n  repeats of it until {until} were answered, and left no record"));
    }
    if let Some((topic, reason)) = &traced.dead_letter {
        add(format_args!("\n  dead letter of {}: {}", line(topic), line(reason)));
    }
    for Delivery { client, number, group, state, at, .. } in &traced.deliveries {
        add(format_args!("\n  "));
        if let Some(group) = group {
            add(format_args!("{}: ", line(group)));
        }
        if let (Some(client), Some(number)) = (client, number) {
            add(format_args!("delivery {number} to {}: ", line(client)));
        }
        add(format_args!("{}", state.as_str()));
        if let Some(at) = at {
            add(format_args!(" ({at})"));
        }
    }
    if traced.more > 0 {
        add(format_args!("\n  and {} more deliveries", traced.more));
    }
    if let Some(from) = traced.known_from {
        add(format_args!("\n  deliveries that were over before position {from} are not known any more"));
    }
    if traced.deliveries.is_empty() && traced.known_from.is_none() {
        add(format_args!("\n  no session that stays wanted it; others leave no record"));
    }
    text
}
