//! `quorate sim replay`: a seed or a capsule again, to the end or to some step, told as it went.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use quorate_scenarios::{describe, origin, replay};
use quorate_sim::capsule::Judgement;
use quorate_sim::trace::TraceEvent;
use quorate_sim::{Cursor, Outcome};
use serde_json::json;

use super::subject::{Subject, Which};
use super::{print, walk};
use crate::control::protocol::{Code, Failure};

/// What to replay, and how much of it to tell.
#[derive(Args, Clone, Debug)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    which: Which,
    /// Print every event: what each node was told, sent, wrote and said
    #[arg(long)]
    trace: bool,
    /// Write the run as a page to look at: who sent what to whom, and each node's state
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the run as a log that ShiViz reads
    #[arg(long, value_name = "FILE")]
    shiviz: Option<PathBuf>,
    /// Stop when the machines have made so many steps
    #[arg(long, value_name = "N", conflicts_with_all = ["html", "shiviz"])]
    until_step: Option<u64>,
    /// Tell of this node only
    #[arg(long, value_name = "N")]
    node: Option<usize>,
    /// Go back and forth in the run, command by command
    #[arg(long, conflicts_with_all = ["trace", "until_step", "node", "html", "shiviz"])]
    interactive: bool,
}

pub(super) fn run(args: &ReplayArgs, as_json: bool) -> Result<(), Failure> {
    let subject = args.which.find()?;
    let drawn = args.html.is_some() || args.shiviz.is_some();
    let record = drawn || args.trace && args.until_step.is_none();
    let mut sim = subject.prepare(record)?;
    if drawn {
        sim.keep_states();
    }
    let nodes = sim.view().nodes();
    if let Some(node) = args.node.filter(|node| *node >= nodes) {
        let text = format!("there is no node {node}: there are {nodes}, from 0");
        return Err(Failure::new(Code::NotFound, text));
    }
    if args.interactive {
        return walk::run(Cursor::new(sim), as_json);
    }
    if let Some(step) = args.until_step {
        return until(args, &subject, Cursor::new(sim), step, as_json);
    }
    let replay = replay(sim);
    let judgement =
        subject.capsule.as_ref().map(|capsule| capsule.judge(&origin(), &replay.outcome));
    if let Some(file) = &args.html {
        write_file(file, &replay.html(subject.scenario, &subject.replay))?;
    }
    if let Some(file) = &args.shiviz {
        write_file(file, &replay.shiviz())?;
    }
    let outcome = &replay.outcome;
    let events = outcome.trace.as_deref().filter(|_| args.trace);
    let trace = told(events.unwrap_or_default(), args.node);
    let here = |node: &usize| args.node.is_none_or(|wanted| wanted == *node);
    let nodes: Vec<&String> =
        (0..nodes).filter(here).filter_map(|node| replay.nodes.get(node)).collect();
    if as_json {
        print(&as_value(&subject, outcome, judgement.as_ref(), &replay.schedule, &trace, &nodes))?;
    } else {
        print(&format!("{}: {}", subject.scenario.name, subject.scenario.about))?;
        replay.schedule.iter().try_for_each(|line| print(&format!("  {line}")))?;
        trace.iter().try_for_each(|line| print(line))?;
        nodes.iter().try_for_each(|line| print(line))?;
        print(&format!("{} steps, trace {:016x}", outcome.steps, outcome.trace_hash))?;
        judgement.iter().try_for_each(|judgement| print(&judgement.to_string()))?;
    }
    match &outcome.result {
        Ok(()) if as_json => Ok(()),
        Ok(()) => print("everything held"),
        Err(failure) => {
            Err(Failure::new(Code::Failed, format!("seed {}: {failure}", subject.seed)))
        }
    }
}

fn as_value(
    subject: &Subject,
    outcome: &Outcome,
    judgement: Option<&Judgement>,
    schedule: &[String],
    trace: &[String],
    nodes: &[&String],
) -> String {
    let failure = outcome.result.as_ref().err().map(|failure| failure.to_string());
    let value = json!({
        "scenario": subject.scenario.name, "seed": subject.seed, "failure": failure,
        "trace_hash": format!("{:016x}", outcome.trace_hash), "steps": outcome.steps,
        "verdict": judgement.map(|judgement| judgement.to_string()),
        "schedule": schedule, "trace": trace, "nodes": nodes,
    });
    value.to_string()
}

/// Stops at a step, and tells what led there and how the nodes stand.
fn until(
    args: &ReplayArgs,
    subject: &Subject,
    mut cursor: Cursor<quorate_scenarios::Mesh>,
    step: u64,
    as_json: bool,
) -> Result<(), Failure> {
    cursor.seek(step);
    let place = cursor.place();
    let events = if args.trace { cursor.events(0..place.event) } else { Vec::new() };
    let trace = told(&events, args.node);
    let all = 0..cursor.view().nodes();
    let nodes: Vec<String> = all
        .filter(|node| args.node.is_none_or(|wanted| wanted == *node))
        .map(|node| describe(cursor.sim(), node))
        .collect();
    let hash = format!("{:016x}", cursor.sim().trace_hash());
    let failure = cursor.sim().failure().map(|failure| failure.to_string());
    if as_json {
        let value = json!({
            "scenario": subject.scenario.name, "seed": subject.seed, "failure": failure,
            "trace_hash": hash, "step": place.step, "event": place.event,
            "time_us": place.time.0, "trace": trace, "nodes": nodes,
        });
        return print(&value.to_string());
    }
    trace.iter().chain(&nodes).try_for_each(|line| print(line))?;
    print(&format!("step {}, {}, trace {hash}", place.step, place.time))?;
    failure.iter().try_for_each(|failure| print(failure))
}

fn write_file(file: &Path, text: &str) -> Result<(), Failure> {
    fs::write(file, text).map_err(|error| {
        Failure::new(Code::Failed, format!("cannot write {}: {error}", file.display()))
    })
}

/// Events as sentences, of one node if only that is wanted.
pub(super) fn told(events: &[TraceEvent], node: Option<usize>) -> Vec<String> {
    let wanted = |event: &&TraceEvent| node.is_none() || event.node == node;
    events.iter().filter(wanted).map(TraceEvent::narrate).collect()
}
