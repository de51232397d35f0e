//! `quorate sim shrink`.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use quorate_scenarios::Smaller;
use quorate_sim::shrink::{Effort, Progress};
use serde_json::json;

use super::print;
use super::subject::Which;
use crate::control::protocol::{Code, Failure};

/// What to make smaller.
#[derive(Args, Clone, Debug)]
pub(crate) struct ShrinkArgs {
    #[command(flatten)]
    which: Which,
    /// Write the capsule there; printed if not given
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How many threads; as many as there are cores if not given
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=256))]
    jobs: u16,
}

pub(super) fn run(args: &ShrinkArgs, as_json: bool) -> Result<(), Failure> {
    let subject = args.which.find()?;
    let (scenario, seed) = (subject.scenario, subject.seed);
    let effort = Effort { threads: usize::from(args.jobs), ..Effort::default() };
    let bar = spinner();
    let mut told = |progress: Progress| {
        let Progress { tried, kept, elements, absent } = progress;
        bar.set_message(format!(
            "{tried} tried, {kept} kept, {elements} elements left, {absent} nodes left out"
        ));
        bar.tick();
    };
    let shrunk = scenario.trial.shrink(scenario.name, &subject.start, effort, &mut told);
    bar.finish_and_clear();
    let Smaller { capsule, failure, before, progress, minimal } = subject.ask(shrunk)?;
    if let Some(out) = &args.out {
        std::fs::write(out, &capsule)
            .map_err(|error| Failure::new(Code::Storage, format!("{}: {error}", out.display())))?;
    }
    let Progress { tried, kept, elements, absent } = progress;
    let out = args.out.as_ref().map(|out| out.display().to_string());
    if as_json {
        let value = json!({
            "scenario": scenario.name, "seed": seed, "failure": failure.to_string(),
            "elements_before": before, "elements": elements, "absent": absent, "tried": tried,
            "kept": kept, "minimal": minimal, "out": out, "capsule": capsule,
        });
        return print(&value.to_string());
    }
    let nodes = if absent == 1 { "node" } else { "nodes" };
    let summary = format!(
        "{before} elements are {elements}, {absent} {nodes} left out; {tried} runs tried: {failure}"
    );
    match out {
        Some(out) => {
            print(&summary)?;
            print(&format!("  quorate sim replay {out}"))
        }
        // What is printed is the capsule, and can be sent to a file as it is.
        None => print(&format!("{capsule}\n# {summary}")),
    }
}

/// A line on a terminal that says how far it has come.
pub(super) fn spinner() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    match ProgressStyle::with_template("{spinner} {msg}") {
        Ok(style) => ProgressBar::new_spinner().with_style(style),
        Err(_) => ProgressBar::new_spinner(),
    }
}
