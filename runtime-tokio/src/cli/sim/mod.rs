//! `quorate sim`: the scenarios, many seeds of them, one again, and one made smaller.

mod bugs;
mod exhaustive;
mod explore;
mod list;
mod replay;
mod run;
mod shrink;
mod subject;
mod walk;

use std::io::{self, Write};

use clap::Subcommand;
use quorate_scenarios::small::CONFIGURATIONS;
use quorate_scenarios::{Named, find};

use crate::control::protocol::{Code, Failure};

/// As long as the longest name of a scenario.
const NAME_WIDTH: usize = 23;
/// The system of what can be explored in full only.
const SMALL: &str = "small";

/// What can be done with the scenarios.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SimCommand {
    /// Name the scenarios and what each tries
    List,
    /// Run many seeds; exits with 1 if one fails, and prints the commands that replay and shrink it
    Run(run::RunArgs),
    /// Run one seed or capsule again and tell what happened
    Replay(replay::ReplayArgs),
    /// Make a failing seed as small as it goes, as a capsule: a file that replays on its own
    Shrink(shrink::ShrinkArgs),
    /// Search by forking runs where they first reached a mark, beside plain seeds; or look at every
    /// state of a small configuration
    Explore(explore::ExploreArgs),
    /// The planted bugs, and how many seeds it took to find each
    Bugs,
}

/// Runs one of the commands.
pub(crate) fn run(command: SimCommand, json: bool) -> Result<(), Failure> {
    match command {
        SimCommand::List => list::run(json),
        SimCommand::Run(args) => run::run(&args, json),
        SimCommand::Replay(args) => replay::run(&args, json),
        SimCommand::Shrink(args) => shrink::run(&args, json),
        SimCommand::Explore(args) => explore::run(&args, json),
        SimCommand::Bugs => bugs::run(json),
    }
}

fn scenario(name: &str) -> Result<&'static Named, Failure> {
    find(name).ok_or_else(|| {
        let text = if CONFIGURATIONS.iter().any(|small| small.name == name) {
            format!(
                "`{name}` is a small configuration, for \
                 `quorate sim explore --exhaustive --scenario {name}` alone"
            )
        } else {
            format!("there is no scenario `{name}`: `quorate sim list` names them")
        };
        Failure::new(Code::NotFound, text)
    })
}

fn replay_command(name: &str, seed: u64) -> String {
    format!("quorate sim replay --scenario {name} --seed {seed}")
}

fn shrink_command(name: &str, seed: u64) -> String {
    format!("quorate sim shrink --scenario {name} --seed {seed}")
}

/// Prints a line; whoever reads may have gone.
fn print(line: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Code::Failed, format!("cannot print: {error}")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use quorate_scenarios::catalogue;

    use super::*;

    #[test]
    fn names_have_room_in_their_column() {
        let longest = catalogue().map(|scenario| scenario.name.len()).max();
        assert_eq!(longest, Some(NAME_WIDTH));
    }

    #[test]
    fn a_name_that_is_not_a_scenario_s_is_told_what_it_is() {
        let said = scenario("small_log").unwrap_err().to_string();
        assert!(said.contains("explore --exhaustive --scenario small_log"), "{said}");
        let said = scenario("smal_log").unwrap_err().to_string();
        assert!(said.contains("there is no scenario `smal_log`"), "{said}");
    }
}
