//! `weft log ls`: what is in a data folder, file by file.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use embedded::inspect::{Checkpoint, Found, Log, Record, Segment};
use event::event::rfc3339;
use event::store::Position;
use serde_json::{Value, json};

use super::progress::Progress;
use super::{count, output, size};
use crate::look::{Column, table};

/// What a segment holds.
struct Row {
    segment: Segment,
    end: u64,
    records: u64,
    events: u64,
    times: Option<(u64, u64)>,
    damaged: u64,
}

pub(super) fn run(dir: &Path, as_json: bool) -> anyhow::Result<ExitCode> {
    let log = Log::open(dir)?;
    let mut progress = Progress::new("reading");
    let mut out = output();
    let mut rows: Vec<Row> = Vec::new();
    let mut sums = Sums::default();
    let mut walk = log.walk(Position(0));
    while let Some(found) = walk.next() {
        match found? {
            Found::Segment(segment) => {
                sums.close(&mut rows, as_json, &mut out)?;
                rows.push(Row { end: segment.base, segment, records: 0, events: 0, times: None, damaged: 0 });
            }
            Found::Record(record) => {
                if let Some(row) = rows.last_mut() {
                    row.add(&record);
                }
            }
            Found::Damage(damage) => {
                sums.damaged += 1;
                if let Some(row) = rows.last_mut() {
                    row.damaged += 1;
                    row.end = row.end.max(damage.positions.end);
                }
            }
            Found::Tail(_) => {}
        }
        let (done, all) = walk.progress();
        progress.at(done, Some(all));
    }
    sums.close(&mut rows, as_json, &mut out)?;
    drop(progress);
    let checkpoints: Vec<Value> = log.checkpoints().iter().map(of_checkpoint).collect();
    if as_json {
        for checkpoint in &checkpoints {
            writeln!(out, "{checkpoint}")?;
        }
    } else {
        out.write_all(table(SEGMENTS, &sums.rows, 0).as_bytes())?;
        if !checkpoints.is_empty() {
            write!(out, "\n{}", table(CHECKPOINTS, &checkpoints, 0))?;
        }
        writeln!(out, "\n{}", sums.line())?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

impl Row {
    fn add(&mut self, record: &Record) {
        self.records += 1;
        self.end = record.position.0 + record.bytes as u64;
        let Some(event) = &record.event else { return };
        self.events += 1;
        let ms = event.parts().received_ms;
        let (first, last) = self.times.unwrap_or((ms, ms));
        self.times = Some((first.min(ms), last.max(ms)));
    }

    fn value(&self) -> Value {
        json!({
            "kind": "segment",
            "from": self.segment.base,
            "to": self.end,
            "bytes": self.segment.bytes,
            "records": self.records,
            "events": self.events,
            "created": self.segment.created_ms.map(rfc3339),
            "first": self.times.map(|(first, _)| rfc3339(first)),
            "last": self.times.map(|(_, last)| rfc3339(last)),
            "damaged": self.damaged,
        })
    }
}

fn of_checkpoint(checkpoint: &Checkpoint) -> Value {
    let Checkpoint { position, bytes, whole, path: _ } = checkpoint;
    json!({ "kind": "checkpoint", "position": position.0, "bytes": bytes, "whole": whole })
}

/// All segments together. People get a table, as wide as what stands in it; so it waits for the last row.
#[derive(Default)]
struct Sums {
    rows: Vec<Value>,
    segments: u64,
    bytes: u64,
    records: u64,
    events: u64,
    damaged: u64,
}

impl Sums {
    /// The last row is complete.
    fn close(
        &mut self,
        rows: &mut Vec<Row>,
        as_json: bool,
        out: &mut impl std::io::Write,
    ) -> std::io::Result<()> {
        let Some(row) = rows.pop() else { return Ok(()) };
        self.segments += 1;
        self.bytes += row.segment.bytes;
        self.records += row.records;
        self.events += row.events;
        if as_json {
            return writeln!(out, "{}", row.value());
        }
        self.rows.push(row.value());
        Ok(())
    }

    fn line(&self) -> String {
        let damage = match self.damaged {
            0 => String::new(),
            n => format!("; {}: weft log verify tells them", count(n, "damaged place", "damaged places")),
        };
        format!(
            "{}, {}, {} ({}){damage}",
            count(self.segments, "segment", "segments"),
            size(self.bytes),
            count(self.records, "record", "records"),
            count(self.events, "event", "events"),
        )
    }
}

const SEGMENTS: &[Column] = &[
    ("FROM", "from"),
    ("TO", "to"),
    ("BYTES", "bytes"),
    ("RECORDS", "records"),
    ("EVENTS", "events"),
    ("FIRST EVENT", "first"),
    ("LAST EVENT", "last"),
    ("DAMAGED", "damaged"),
];
const CHECKPOINTS: &[Column] = &[("CHECKPOINT", "position"), ("BYTES", "bytes"), ("WHOLE", "whole")];
