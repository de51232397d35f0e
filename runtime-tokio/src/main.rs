//! The binary `quorate`: runs a node, and the commands of its owner.
#![forbid(unsafe_code)]

mod cli;
mod control;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
