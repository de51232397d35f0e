//! `quorate sim replay`: a seed or a capsule again, to the end or to some step, told as it went.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use quorate_scenarios::{Keep, Replay, Walk};
use quorate_sim::trace::TraceEvent;
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
    let trial = subject.scenario.trial;
    if args.interactive || args.until_step.is_some() {
        let mut cursor = subject.ask(trial.walk(&subject.start))?;
        there(args.node, cursor.nodes())?;
        return match args.until_step {
            Some(step) => until(args, &subject, cursor.as_mut(), step, as_json),
            None => walk::run(cursor.as_mut(), as_json),
        };
    }
    let keep = match (&args.html, &args.shiviz, args.trace) {
        (Some(_), ..) => Keep::States,
        (None, Some(_), _) | (None, None, true) => Keep::Events,
        (None, None, false) => Keep::Outcome,
    };
    let replay = subject.ask(trial.replay(&subject.start, keep))?;
    there(args.node, replay.nodes.len())?;
    if let Some(file) = &args.html {
        write_file(file, &replay.html(subject.scenario, &subject.replay))?;
    }
    if let Some(file) = &args.shiviz {
        write_file(file, &replay.shiviz())?;
    }
    let Replay { outcome, judgement, schedule, nodes } = &replay;
    let events = outcome.trace.as_deref().filter(|_| args.trace);
    let trace = told(events.unwrap_or_default(), args.node);
    let here = |node: usize| args.node.is_none_or(|wanted| wanted == node);
    let nodes: Vec<&String> =
        (0..).zip(nodes).filter(|(n, _)| here(*n)).map(|(_, it)| it).collect();
    if as_json {
        print(&as_value(&subject, &replay, &trace, &nodes))?;
    } else {
        print(&format!("{}: {}", subject.scenario.name, subject.scenario.about))?;
        schedule.iter().try_for_each(|line| print(&format!("  {line}")))?;
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

/// Whether there is such a node.
fn there(node: Option<usize>, nodes: usize) -> Result<(), Failure> {
    match node.filter(|node| *node >= nodes) {
        None => Ok(()),
        Some(node) => {
            let text = format!("there is no node {node}: there are {nodes}, from 0");
            Err(Failure::new(Code::NotFound, text))
        }
    }
}

fn as_value(subject: &Subject, replay: &Replay, trace: &[String], nodes: &[&String]) -> String {
    let Replay { outcome, judgement, schedule, .. } = replay;
    let failure = outcome.result.as_ref().err().map(|failure| failure.to_string());
    let value = json!({
        "scenario": subject.scenario.name, "seed": subject.seed, "failure": failure,
        "trace_hash": format!("{:016x}", outcome.trace_hash), "steps": outcome.steps,
        "verdict": judgement.as_ref().map(|judgement| judgement.to_string()),
        "schedule": schedule, "trace": trace, "nodes": nodes,
    });
    value.to_string()
}

/// Stops at a step, and tells what led there and how the nodes stand.
fn until(
    args: &ReplayArgs,
    subject: &Subject,
    cursor: &mut dyn Walk,
    step: u64,
    as_json: bool,
) -> Result<(), Failure> {
    cursor.seek(step);
    let place = cursor.place();
    let events = if args.trace { cursor.events(0..place.event) } else { Vec::new() };
    let trace = told(&events, args.node);
    let all = 0..cursor.nodes();
    let nodes: Vec<String> = all
        .filter(|node| args.node.is_none_or(|wanted| wanted == *node))
        .map(|node| cursor.describe(node))
        .collect();
    let hash = format!("{:016x}", cursor.trace_hash());
    let failure = cursor.failure().map(|failure| failure.to_string());
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
