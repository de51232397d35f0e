//! `quorate sim explore`: forks from where marks were first reached, beside plain seeds.

use clap::Args;
use quorate_sim::explore::guided::{Options, Progress, Searched};
use serde_json::{Value, json};

use super::shrink::spinner;
use super::{print, replay_command, scenario};
use crate::control::protocol::{Code, Failure};

/// What to explore, and for how long.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExploreArgs {
    /// The scenario
    #[arg(long, value_name = "NAME")]
    scenario: String,
    /// How many machine steps to spend, on each of the two ways
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
}

pub(super) fn run(args: &ExploreArgs, as_json: bool) -> Result<(), Failure> {
    let named = scenario(&args.scenario)?;
    let options = Options { steps_max: args.steps, until_failure: true };
    let bar = spinner();
    let mut told = |progress: &Progress| {
        let Progress { steps, runs, marks, failures } = progress;
        bar.set_message(format!("{steps} steps, {runs} runs, {marks} marks, {failures} failures"));
        bar.tick();
    };
    let comparison = named.trial.compare(args.from, options, &mut told);
    bar.finish_and_clear();
    let (plain, guided) = (&comparison.plain, &comparison.guided);
    if as_json {
        let value = json!({
            "scenario": named.name, "from": args.from, "steps": args.steps,
            "plain": as_value(plain), "guided": as_value(guided),
            "guided_won": comparison.guided_won(),
        });
        print(&value.to_string())?;
    } else {
        print(&comparison.to_string())?;
        for (name, step) in &guided.marks {
            let at = plain.marks.get(name).map_or_else(|| "never".to_owned(), u64::to_string);
            print(&format!("  {name:<28} after {step} steps, on plain seeds after {at}"))?;
        }
    }
    let found = plain.failures.first().map(|found| ("plain seeds", found));
    match found.or_else(|| guided.failures.first().map(|found| ("the guided search", found))) {
        None => Ok(()),
        Some((by, found)) => {
            let (seed, forks) = (found.path.seed, found.path.forks.len());
            let text = match &found.outcome.result {
                Err(failure) => failure.to_string(),
                Ok(()) => String::new(),
            };
            let how = if forks == 0 {
                replay_command(named.name, seed)
            } else {
                format!("{forks} forks from seed {seed}: {:?}", found.path.forks)
            };
            Err(Failure::new(Code::Failed, format!("{by} found: {text}\n  {how}")))
        }
    }
}

fn as_value<O>(searched: &Searched<O>) -> Value {
    let Searched { steps, runs, forks, marks, failures } = searched;
    let first =
        failures.first().map(|found| json!({ "seed": found.path.seed, "steps": found.steps }));
    json!({ "steps": steps, "runs": runs, "forks": forks, "marks": marks, "failure": first })
}
