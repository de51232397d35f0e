//! `quorate sim`: the scenarios, many seeds of them, or one again.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};
use quorate_scenarios::{Named, catalogue, find, replay};
use quorate_sim::{Options, Report, many};
use serde_json::{Value, json};

use crate::control::protocol::{Code, Failure};

/// What can be done with the scenarios.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SimCommand {
    /// Name the scenarios and what each tries
    List,
    /// Run many seeds; exits with 1 if one fails, and prints the command that replays it
    Run(RunArgs),
    /// Run one seed again and tell what happened
    Replay(ReplayArgs),
}

/// Which seeds to run.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// Only these scenarios (repeatable); all if none is named
    #[arg(long = "scenario", value_name = "NAME")]
    scenarios: Vec<String>,
    /// How many seeds of each
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Run this one seed only
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// The first seed
    #[arg(long, default_value_t = 0, conflicts_with = "seed")]
    from: u64,
    /// How many threads; as many as there are cores if not given
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=256))]
    jobs: u16,
}

/// Which seed to replay.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReplayArgs {
    /// The scenario
    #[arg(long, value_name = "NAME")]
    scenario: String,
    /// The seed
    #[arg(long)]
    seed: u64,
    /// Print every event: what each node was told, sent, wrote and said
    #[arg(long)]
    trace: bool,
    /// Write the run as a page to look at: who sent what to whom, and each node's state
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the run as a log that ShiViz reads
    #[arg(long, value_name = "FILE")]
    shiviz: Option<PathBuf>,
}

/// Runs one of the commands.
pub(crate) fn run(command: SimCommand, json: bool) -> Result<(), Failure> {
    match command {
        SimCommand::List => list(json),
        SimCommand::Run(args) => run_seeds(&args, json),
        SimCommand::Replay(args) => replay_seed(&args, json),
    }
}

fn list(as_json: bool) -> Result<(), Failure> {
    for Named { name, about, .. } in catalogue() {
        if as_json {
            print(&json!({ "scenario": name, "about": about }).to_string())?;
        } else {
            print(&format!("{name:<20} {about}"))?;
        }
    }
    Ok(())
}

fn run_seeds(args: &RunArgs, as_json: bool) -> Result<(), Failure> {
    let named: Vec<&Named> = if args.scenarios.is_empty() {
        catalogue().iter().collect()
    } else {
        args.scenarios.iter().map(|name| scenario(name)).collect::<Result<_, _>>()?
    };
    let seeds = match args.seed {
        Some(seed) => (seed, seed.checked_add(1)),
        None => (args.from, args.from.checked_add(args.seeds)),
    };
    // The last number is kept free: whoever counts to it must be able to stop.
    let (first, Some(end)) = seeds else {
        let text = "seeds end at 18446744073709551614: begin lower, or run fewer";
        return Err(Failure::new(Code::Usage, text.to_owned()));
    };
    let seeds = first..end;
    let options = Options { threads: usize::from(args.jobs), ..Options::default() };
    let mut failed = 0;
    for scenario in named {
        let begun = Instant::now();
        let report = many(&scenario.build, seeds.clone(), options);
        let rate = report.seeds as f64 / begun.elapsed().as_secs_f64().max(1e-9);
        failed += report.failures.len() + report.unstable.len();
        if as_json {
            print(&as_value(scenario, &report, rate).to_string())?;
        } else {
            tell(scenario, &report, rate)?;
        }
    }
    if failed > 0 {
        return Err(Failure::new(Code::Failed, format!("{failed} of the seeds failed")));
    }
    Ok(())
}

fn tell(scenario: &Named, report: &Report, rate: f64) -> Result<(), Failure> {
    let name = scenario.name;
    let faults: u64 = report.faults.values().sum();
    let missed = report.unreached(scenario.marks);
    let verdict = if report.ok() { "ok" } else { "FAILED" };
    print(&format!(
        "{name:<20} {verdict:<7} {} seeds, {rate:.0} a second, {} s simulated, {} steps, {faults} faults",
        report.seeds,
        report.simulated_us / 1_000_000,
        report.steps
    ))?;
    if !missed.is_empty() {
        print(&format!("  not reached by these seeds: {}", missed.join(", ")))?;
    }
    for outcome in &report.failures {
        if let Err(failure) = &outcome.result {
            print(&format!("  seed {}: {failure}", outcome.seed))?;
            print(&format!("    {}", replay_command(name, outcome.seed)))?;
        }
    }
    for (seed, difference) in &report.unstable {
        print(&format!("  seed {seed} ran differently twice: {difference}"))?;
    }
    Ok(())
}

fn as_value(scenario: &Named, report: &Report, rate: f64) -> Value {
    let failures: Vec<Value> = report
        .failures
        .iter()
        .filter_map(|outcome| {
            let failure = outcome.result.as_ref().err()?;
            let replay = replay_command(scenario.name, outcome.seed);
            Some(json!({ "seed": outcome.seed, "failure": failure.to_string(), "replay": replay }))
        })
        .collect();
    let marks: Value = report
        .marks
        .iter()
        .map(|(name, reached)| {
            ((*name).to_owned(), json!({ "times": reached.times, "seeds": reached.seeds }))
        })
        .collect::<serde_json::Map<String, Value>>()
        .into();
    json!({
        "scenario": scenario.name, "seeds": report.seeds, "seeds_per_second": rate,
        "simulated_s": report.simulated_us / 1_000_000, "steps": report.steps,
        "delivered": report.delivered, "dropped": report.dropped, "faults": report.faults,
        "marks": marks, "not_reached": report.unreached(scenario.marks), "failures": failures,
        "unstable": report.unstable.iter().map(|(seed, _)| seed).collect::<Vec<_>>(),
    })
}

fn replay_seed(args: &ReplayArgs, as_json: bool) -> Result<(), Failure> {
    let scenario = scenario(&args.scenario)?;
    let record = args.trace || args.html.is_some() || args.shiviz.is_some();
    let replay = replay(scenario, args.seed, record);
    let outcome = &replay.outcome;
    let told = outcome.trace.iter().flatten().filter(|_| args.trace);
    let trace: Vec<String> = told.map(|event| event.to_string()).collect();
    if let Some(file) = &args.html {
        write_file(file, &replay.html(scenario))?;
    }
    if let Some(file) = &args.shiviz {
        write_file(file, &replay.shiviz())?;
    }
    if as_json {
        let failure = outcome.result.as_ref().err().map(|failure| failure.to_string());
        print(
            &json!({
                "scenario": scenario.name, "seed": args.seed, "failure": failure,
                "trace_hash": format!("{:016x}", outcome.trace_hash), "steps": outcome.steps,
                "schedule": replay.schedule, "trace": trace, "nodes": replay.nodes,
            })
            .to_string(),
        )?;
    } else {
        print(&format!("{}: {}", scenario.name, scenario.about))?;
        replay.schedule.iter().try_for_each(|line| print(&format!("  {line}")))?;
        trace.iter().try_for_each(|line| print(line))?;
        replay.nodes.iter().try_for_each(|line| print(line))?;
        print(&format!("{} steps, trace {:016x}", outcome.steps, outcome.trace_hash))?;
    }
    match &outcome.result {
        Ok(()) if as_json => Ok(()),
        Ok(()) => print("everything held"),
        Err(failure) => Err(Failure::new(Code::Failed, format!("seed {}: {failure}", args.seed))),
    }
}

fn scenario(name: &str) -> Result<&'static Named, Failure> {
    find(name).ok_or_else(|| {
        let text = format!("there is no scenario `{name}`: `quorate sim list` names them");
        Failure::new(Code::NotFound, text)
    })
}

fn replay_command(name: &str, seed: u64) -> String {
    format!("quorate sim replay --scenario {name} --seed {seed}")
}

fn write_file(file: &Path, text: &str) -> Result<(), Failure> {
    fs::write(file, text).map_err(|error| {
        Failure::new(Code::Failed, format!("cannot write {}: {error}", file.display()))
    })
}

/// Prints a line; whoever reads may have gone.
fn print(line: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{line}").map_err(|error| Failure::new(Code::Failed, error.to_string()))
}
