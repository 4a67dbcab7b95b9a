//! The program `weft`: see `weft --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    bridge::command_line()
}
