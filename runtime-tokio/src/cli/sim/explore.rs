//! `quorate sim explore`: forks from where marks were first reached, beside plain seeds; or, with
//! `--exhaustive`, every state of a small configuration.

use std::path::PathBuf;

use clap::Args;
use quorate_scenarios::Compared;
use quorate_sim::explore::guided::{Options, Path, Progress, Searched};
use serde_json::{Value, json};

use super::shrink::spinner;
use super::{exhaustive, print, replay_command, scenario};
use crate::control::protocol::{Code, Failure};

/// What to explore, and for how long.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExploreArgs {
    /// The scenario; with --exhaustive, small_election or small_log
    #[arg(long, value_name = "NAME")]
    scenario: String,
    /// How many machine steps to spend, on each of the two ways
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Write the first failure there, as a capsule
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Look at every state of a small configuration, breadth first
    #[arg(long, conflicts_with_all = ["steps", "from", "out"])]
    exhaustive: bool,
    #[command(flatten)]
    within: exhaustive::Within,
}

pub(super) fn run(args: &ExploreArgs, as_json: bool) -> Result<(), Failure> {
    if args.exhaustive {
        return exhaustive::run(&args.scenario, &args.within, as_json);
    }
    let named = scenario(&args.scenario)?;
    let options = Options { steps_max: args.steps, until_failure: true };
    let bar = spinner();
    let mut told = |progress: &Progress| {
        let Progress { steps, runs, marks, failures } = progress;
        bar.set_message(format!("{steps} steps, {runs} runs, {marks} marks, {failures} failures"));
        bar.tick();
    };
    let Compared { comparison, plain: plain_capsule, guided: guided_capsule } =
        named.trial.compare(named.name, args.from, options, &mut told);
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
    let first = plain.failures.first().map(|found| ("plain seeds", found, plain_capsule));
    let first = first.or_else(|| {
        guided.failures.first().map(|found| ("the guided search", found, guided_capsule))
    });
    let Some((by, found, capsule)) = first else { return Ok(()) };
    let text = found.outcome.result.as_ref().err().map_or_else(String::new, ToString::to_string);
    let how = how_to_replay(args, named.name, &found.path, capsule.as_deref())?;
    Err(Failure::new(Code::Failed, format!("{by} found: {text}\n  {how}")))
}

/// The command that shows a failure again; its capsule is written where it was asked for.
fn how_to_replay(
    args: &ExploreArgs,
    name: &str,
    path: &Path<String>,
    capsule: Option<&str>,
) -> Result<String, Failure> {
    if let (Some(out), Some(capsule)) = (&args.out, capsule) {
        std::fs::write(out, capsule)
            .map_err(|error| Failure::new(Code::Storage, format!("{}: {error}", out.display())))?;
        return Ok(format!("quorate sim replay {}", out.display()));
    }
    if path.forks.is_empty() {
        return Ok(replay_command(name, path.seed));
    }
    let ExploreArgs { steps, from, .. } = args;
    Ok(format!(
        "{} forks from seed {}: to replay and shrink it, have it written as a capsule:\n  \
         quorate sim explore --scenario {name} --from {from} --steps {steps} --out FILE",
        path.forks.len(),
        path.seed
    ))
}

fn as_value<O>(searched: &Searched<O>) -> Value {
    let Searched { steps, runs, forks, marks, failures } = searched;
    let first =
        failures.first().map(|found| json!({ "seed": found.path.seed, "steps": found.steps }));
    json!({ "steps": steps, "runs": runs, "forks": forks, "marks": marks, "failure": first })
}
