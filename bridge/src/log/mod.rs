//! `weft log`: looks at the embedded log of a data folder, repairs it, takes events out of it and into it.
//!
//! What only reads goes through [`embedded::inspect`], which needs no lock, so all of it works while a Weft runs on the
//! folder.

pub(crate) mod args;
mod cat;
mod export;
mod import;
mod list;
pub(crate) mod progress;
mod repair;
mod select;
pub(crate) mod trace;
mod verify;

use std::io::{BufWriter, Stdout, Write as _};
use std::path::Path;
use std::process::ExitCode;

use args::Command;
use config::Config;
use embedded::OpenError;
use embedded::inspect::{Damage, DamageKind};

/// Runs what the command line asks for.
pub(crate) fn run(command: Command, config: &Config) -> anyhow::Result<ExitCode> {
    let dir = &config.data;
    let outcome = match command {
        Command::Ls { json } => list::run(dir, json),
        Command::Cat(wanted) => cat::run(dir, &wanted),
        Command::Verify => verify::run(dir),
        Command::Repair { dry_run } => repair::run(dir, dry_run),
        Command::Export(wanted) => export::run(dir, &wanted),
        Command::Import(wanted) => import::run(config, &wanted),
    };
    ended(outcome)
}

/// Runs `weft trace`.
pub(crate) fn trace(wanted: &args::Trace, config: &Config) -> anyhow::Result<ExitCode> {
    ended(trace::run(config, wanted))
}

fn ended(outcome: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    match outcome {
        // Whoever read the output has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => match error.downcast_ref::<OpenError>() {
            Some(error) => Ok(refuse(error)),
            None => Err(error),
        },
        Ok(code) => Ok(code),
    }
}

/// Says why a log cannot be opened. 2: there is nothing that this version could look at.
fn refuse(error: &OpenError) -> ExitCode {
    match error {
        OpenError::NoLog { .. }
        | OpenError::Version { .. }
        | OpenError::Io { .. }
        | OpenError::Option { .. } => {
            say(format_args!("weft: {error}"));
            ExitCode::from(2)
        }
        OpenError::Locked { dir } => {
            let dir = dir.display();
            say(format_args!(
                "weft: a weft runs on {dir}: stop it first; a weft that runs takes events over MQTT and HTTP"
            ));
            ExitCode::FAILURE
        }
        OpenError::Header { .. } | OpenError::Checkpoint { .. } => {
            say(format_args!("weft: {error}; weft log repair --dry-run says what can be done"));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind =
        error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}

/// Standard output, in pieces that are worth a call.
fn output() -> BufWriter<Stdout> {
    BufWriter::with_capacity(64 << 10, std::io::stdout())
}

/// Says something to people, beside the output.
fn say(text: std::fmt::Arguments<'_>) {
    writeln!(std::io::stderr(), "{text}").unwrap_or(());
}

/// What is damaged, and what that means.
fn tell(damage: &Damage, file: &Path) -> String {
    let Damage { positions, kind } = damage;
    let (from, to) = (positions.start, positions.end);
    let bytes = to.saturating_sub(from);
    let file = file.file_name().unwrap_or_default().display();
    match kind {
        DamageKind::Header => {
            format!("the header of {file} is damaged; its records can be read all the same")
        }
        DamageKind::Records => {
            format!(
                "positions {from} to {to} ({bytes} B) of {file} hold no whole record: what stood there is lost, all else is served"
            )
        }
        DamageKind::Missing => {
            format!(
                "positions {from} to {to} ({bytes} B) are gone: a file, or the end of one; what stood there is lost, all else is served"
            )
        }
    }
}

/// `one thing` or `3 things`.
fn count(number: u64, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// A size as people read it.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = "B";
    for next in UNITS {
        if tenths < 10_240 {
            break;
        }
        tenths /= 1024;
        unit = next;
    }
    if unit == "B" || tenths % 10 == 0 {
        format!("{} {unit}", tenths / 10)
    } else {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_are_told_as_people_tell_them() {
        let sizes = [0, 1023, 1024, 1536, 1 << 20, (1 << 30) + (1 << 29), u64::MAX].map(super::size);
        assert_eq!(sizes, ["0 B", "1023 B", "1 KiB", "1.5 KiB", "1 MiB", "1.5 GiB", "16777215.9 TiB"]);
    }
}
