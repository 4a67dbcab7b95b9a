//! The command line of `weft log`.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use event::TopicFilter;
use event::store::Position;

/// Which log, and what to do with it.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(crate) struct Log {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) folder: Folder,
}

const AFTER: &str = "\
ls, cat, verify and export only read: they are safe while a Weft runs on the folder, and take what it had kept when
they began. repair and import need the folder for themselves.

Exit codes: 0 fine, 1 something is damaged or was not done, 2 wrong command line or configuration, or no log there.";

/// Where the log is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Folder {
    /// Folder of the log [default: what the configuration says, else weft-data]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<String>,
    /// Configuration file, also WEFT_CONFIG [default: weft.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE", env = "WEFT_CONFIG", hide_env = true)]
    pub(crate) config: Option<PathBuf>,
}

/// What to do with the log.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List segments and checkpoints: positions, times, records, bytes
    Ls {
        /// JSON for scripts: one object a line
        #[arg(long)]
        json: bool,
    },
    /// Print records: one line each, with position, time, topic, publisher, size and data
    Cat(Cat),
    /// Look whether every record and checkpoint is whole, and say what is damaged
    Verify,
    /// Put damaged files out of the way so that the log opens; whole records are never touched
    Repair {
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Write events as CloudEvents in JSON, one a line
    Export(Export),
    /// Take events in that `weft log export` wrote, or any CloudEvents in JSON, one a line
    Import(Import),
}

/// Which records.
#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Start here: a position, a time (2026-11-26T12:00:00Z), or how long ago (90s, 30m, 2h, 7d)
    #[arg(long, value_name = "POS|TIME", value_parser = bound)]
    pub(crate) from: Option<Bound>,
    /// End before this position or time
    #[arg(long, value_name = "POS|TIME", value_parser = bound)]
    pub(crate) to: Option<Bound>,
    /// Only events of topics that this filter matches
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    pub(crate) topic: Option<TopicFilter>,
}

/// What to print.
#[derive(Debug, Args)]
pub(crate) struct Cat {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Stop after this many records
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<u64>,
    /// JSON for scripts: one object a line, with the event as a CloudEvent
    #[arg(long)]
    pub(crate) json: bool,
}

/// What to write, and where.
#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) selection: Selection,
    /// Write to this file instead of standard output; one that is there is replaced
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

/// What to read.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file; - is standard input
    pub(crate) file: PathBuf,
    /// Stop at the first line that is no event, instead of naming it and going on
    #[arg(long)]
    pub(crate) strict: bool,
}

/// Which event to follow.
#[derive(Debug, Args)]
#[command(after_help = TRACE)]
pub(crate) struct Trace {
    /// Its CloudEvents id; for a plain publish, the one that Weft shows it with
    pub(crate) id: String,
    /// Only events of this CloudEvents source
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: Option<String>,
    /// JSON for scripts: one record a line
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) folder: Folder,
}

const TRACE: &str = "\
It only reads the log: it is safe while a Weft runs on the folder, and needs as much memory as a start of Weft.

What leaves no record is not told: deliveries to sessions that end with their connection, QoS 0 events that no session
that stays wants, publishes that were refused, and repeats that a route with unique_s answered: the record of the first
says until when there may have been any, not how many. Deliveries that were over before the oldest checkpoint are not
known any more; it says so.

Exit codes: 0 found, 1 there is no such event, 2 wrong command line or configuration, or no log there.";

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// A position.
    Position(Position),
    /// A time, milliseconds since 1970.
    Time(u64),
}

fn bound(text: &str) -> Result<Bound, String> {
    if let Ok(position) = text.parse() {
        return Ok(Bound::Position(Position(position)));
    }
    if let Some(ms) = event::event::parse_rfc3339(text) {
        return Ok(Bound::Time(ms));
    }
    let ago = text.split_at_checked(text.len().saturating_sub(1)).and_then(|(count, unit)| {
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return None,
        };
        count.parse::<u64>().ok()?.checked_mul(seconds * 1000)
    });
    let hint = "is no position (a number), no time (2026-11-26T12:00:00Z) and no time ago (90s, 30m, 2h, 7d)";
    ago.map(|ago| Bound::Time(now_ms().saturating_sub(ago))).ok_or_else(|| hint.to_owned())
}

fn filter(text: &str) -> Result<TopicFilter, String> {
    TopicFilter::parse(text).map_err(|error| error.to_string())
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_a_position_or_a_time() {
        assert_eq!(bound("64"), Ok(Bound::Position(Position(64))));
        assert_eq!(bound("2023-11-14T22:13:20Z"), Ok(Bound::Time(1_700_000_000_000)));
        let Ok(Bound::Time(ms)) = bound("2h") else { panic!("no time") };
        assert!(now_ms() - ms >= 7_200_000 && now_ms() - ms < 7_300_000);
        for wrong in ["", "h", "-5", "2 h", "yesterday", "2026-11-26", "99999999999999999999d"] {
            assert!(bound(wrong).is_err(), "{wrong}");
        }
    }
}
