//! Telling what a run did: the schedule, each node in the end, and, if wanted, every event.

use quorate_sim::capsule::Judgement;
use quorate_sim::picture::{self, Caption};
use quorate_sim::{Outcome, Sim, SimTime, System, shiviz};

use crate::catalogue::Named;

/// A run to its end, and what there is to tell of it.
#[derive(Debug)]
pub struct Replay {
    /// What came of it; with the trace if it was kept.
    pub outcome: Outcome,
    /// What the outcome says of the capsule, if the run is one's.
    pub judgement: Option<Judgement>,
    /// The faults and operations, in order.
    pub schedule: Vec<String>,
    /// Each node when the run ended.
    pub nodes: Vec<String>,
}

impl Replay {
    /// The run as a page, with the command that replays it; its states must have been kept.
    #[must_use]
    pub fn html(&self, scenario: &Named, replay: &str) -> String {
        let caption = Caption {
            scenario: scenario.name.to_owned(),
            about: scenario.about.to_owned(),
            replay: replay.to_owned(),
            names: Vec::new(),
        };
        picture::html(&self.outcome, &caption)
    }

    /// The run as a log for ShiViz; its events must have been kept.
    #[must_use]
    pub fn shiviz(&self) -> String {
        shiviz::log(self.outcome.trace.as_deref().unwrap_or_default())
    }
}

/// Runs a cluster to its end.
pub(crate) fn replay<S: System>(mut sim: Sim<S>) -> Replay {
    let schedule =
        sim.plan().schedule.iter().map(|(at, action)| format!("{at} {action:?}")).collect();
    let mut until = SimTime(0);
    while !sim.done() {
        until = until.after_us(1_000_000);
        sim.advance(until);
    }
    let nodes = (0..sim.view().nodes()).map(|node| describe(&sim, node)).collect();
    Replay { outcome: sim.finish(), judgement: None, schedule, nodes }
}

/// A node as it stands: what its system says of it, a line each.
pub(crate) fn describe<S: System>(sim: &Sim<S>, node: usize) -> String {
    let view = sim.view();
    if !view.running(node) {
        return format!("node {node} is down");
    }
    let lines = sim.system.describe(node, &view);
    let lines = lines.into_iter().map(|(label, text)| format!("\n    {label:<10} {text}"));
    format!("node {node}:{}", lines.collect::<String>())
}
