//! `weft log repair`: says what it is going to do, and does it.

use std::path::Path;
use std::process::ExitCode;

use embedded::repair::Repair;

use super::count;
use crate::start::print;

pub(super) fn run(dir: &Path, dry_run: bool) -> anyhow::Result<ExitCode> {
    let repair = Repair::plan(dir)?;
    for loss in repair.losses() {
        print(&format!("stays: {}\n", super::tell(loss, Path::new("its file"))));
    }
    if repair.actions().is_empty() {
        print("nothing to repair: the log opens as it is\n");
        return Ok(ExitCode::SUCCESS);
    }
    for action in repair.actions() {
        print(&format!("{}: {action}\n", if dry_run { "would" } else { "will" }));
    }
    if dry_run {
        return Ok(ExitCode::SUCCESS);
    }
    let done = repair.carry_out()?;
    if let Some(aside) = &done.aside {
        print(&format!("what was damaged is in {}\n", aside.display()));
    }
    print(&format!("repaired: the log opens, with {}\n", count(done.segments as u64, "segment", "segments")));
    Ok(ExitCode::SUCCESS)
}
