//! `weft log verify`: whether all of a log is whole, and what it means if not.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use embedded::inspect::{Found, Log};
use event::store::Position;

use super::progress::Progress;
use super::{count, size, tell};
use crate::start::print;

pub(super) fn run(dir: &Path) -> anyhow::Result<ExitCode> {
    let log = Log::open(dir)?;
    let mut progress = Progress::new("checking");
    let mut said = String::new();
    let mut file = PathBuf::new();
    let (mut damaged, mut records, mut segments, mut bytes) = (0, 0, 0, 0);
    let mut walk = log.walk(Position(0));
    while let Some(found) = walk.next() {
        match found? {
            Found::Segment(segment) => {
                segments += 1;
                bytes += segment.bytes;
                file = segment.path;
            }
            Found::Record(_) => records += 1,
            Found::Damage(damage) => {
                damaged += 1;
                writeln!(said, "damage: {}", tell(&damage, &file))?;
            }
            Found::Tail(tail) => writeln!(
                said,
                "note: {} B behind the end at {} are of a write under way, or of one that a crash left unfinished: nothing of it was confirmed, the next start cuts it off",
                tail.end - tail.start,
                tail.start
            )?,
        }
        let (done, all) = walk.progress();
        progress.at(done, Some(all));
    }
    drop(progress);
    let whole = log.checkpoints().iter().filter(|checkpoint| checkpoint.whole).count();
    for checkpoint in log.checkpoints().iter().filter(|checkpoint| !checkpoint.whole) {
        damaged += 1;
        let meaning = match whole {
            0 => {
                "there is no other, so weft does not start; weft log repair puts it aside: sessions and retained events are then only what the log still has of them"
            }
            _ => "another one is used with the records behind it, so nothing is lost",
        };
        writeln!(said, "damage: the checkpoint at {} is not whole; {meaning}", checkpoint.position.0)?;
    }
    let all = [
        count(segments, "segment", "segments"),
        size(bytes),
        count(records, "record", "records"),
        count(log.checkpoints().len() as u64, "checkpoint", "checkpoints"),
    ];
    let verdict = match damaged {
        0 => "fine: every record and every checkpoint is whole".to_owned(),
        n => format!(
            "{}; weft log repair --dry-run says what can be done",
            count(n, "damaged place", "damaged places")
        ),
    };
    print(&format!("{}: {}\n{said}{verdict}\n", dir.display(), all.join(", ")));
    Ok(if damaged == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
