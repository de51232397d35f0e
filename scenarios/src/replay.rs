//! Telling what a run did: the schedule, each node in the end, and, if wanted, every event.

use std::fmt::Write as _;

use quorate_core::store::Store;
use quorate_sim::picture::{self, Caption};
use quorate_sim::{Outcome, Sim, SimTime, shiviz};

use crate::catalogue::Named;
use crate::mesh::Mesh;

/// A run to its end, and what there is to tell of it.
#[derive(Debug)]
pub struct Replay {
    /// What came of it; with the trace if it was asked for.
    pub outcome: Outcome,
    /// The faults and operations, in order.
    pub schedule: Vec<String>,
    /// Each node when the run ended.
    pub nodes: Vec<String>,
}

impl Replay {
    /// The run as a page, with the command that replays it; it must have been recorded.
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

    /// The run as a log for ShiViz; it must have been recorded.
    #[must_use]
    pub fn shiviz(&self) -> String {
        shiviz::log(self.outcome.trace.as_deref().unwrap_or_default())
    }
}

/// Runs a mesh to its end.
#[must_use]
pub fn replay(mut sim: Sim<Mesh>) -> Replay {
    let schedule =
        sim.plan().schedule.iter().map(|(at, action)| format!("{at} {action:?}")).collect();
    let mut until = SimTime(0);
    while !sim.done() {
        until = until.after_us(1_000_000);
        sim.advance(until);
    }
    let nodes = (0..sim.view().nodes()).map(|node| describe(&sim, node)).collect();
    Replay { outcome: sim.finish(), schedule, nodes }
}

/// A node as it stands, in a few lines.
#[must_use]
pub fn describe(sim: &Sim<Mesh>, node: usize) -> String {
    let view = sim.view();
    let Some(actor) = view.machine(node) else { return format!("node {node} is down") };
    let mut text = format!("node {node} is {:?}", actor.node.id());
    if let Some(store) = actor.node.store() {
        describe_store(&sim.system, store, &mut text);
    }
    text
}

fn describe_store(mesh: &Mesh, store: &Store, text: &mut String) {
    let orphans = store.orphans();
    let _ = write!(
        text,
        ": state {:?}, {} applied, {} waiting ({} parked)",
        store.digest(),
        store.applied(),
        orphans.len(),
        orphans.parked()
    );
    for author in orphans.authors() {
        for orphan in orphans.of(author, 0) {
            let _ = write!(text, "\n    {:?} waits for {:?}", orphan.entry, orphan.wait);
        }
    }
    for (author, member) in store.membership().iter() {
        let chain = store.chains().of(author);
        let (tip, held) = (store.tip(author), chain.map_or(0, |chain| chain.held()));
        let name = mesh.name(author).unwrap_or_else(|| format!("{author:?}"));
        let _ = write!(
            text,
            "\n    {name} {:?}: {} of {held} entries, tip {:?}, cut {:?}",
            member.state, tip.height, tip.hash, member.limit
        );
    }
}
