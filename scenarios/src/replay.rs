//! Telling what a seed did: the schedule, each node in the end, and, if wanted, every event.

use std::fmt::Write as _;

use quorate_core::store::Store;
use quorate_sim::many::prepare;
use quorate_sim::picture::{self, Caption};
use quorate_sim::{Outcome, SimTime, shiviz};

use crate::catalogue::Named;
use crate::mesh::Mesh;

/// A seed run once, and what there is to tell of it.
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
    /// The run as a page; it must have been recorded.
    #[must_use]
    pub fn html(&self, scenario: &Named) -> String {
        let seed = self.outcome.seed;
        let caption = Caption {
            scenario: scenario.name.to_owned(),
            about: scenario.about.to_owned(),
            replay: format!("quorate sim replay --scenario {} --seed {seed}", scenario.name),
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

/// Runs `seed` of `scenario`, keeping every event and the nodes' states if `record`.
#[must_use]
pub fn replay(scenario: &Named, seed: u64, record: bool) -> Replay {
    let mut sim = prepare(&scenario.build, seed, record);
    if record {
        sim.keep_states();
    }
    let schedule =
        sim.plan().schedule.iter().map(|(at, action)| format!("{at} {action:?}")).collect();
    let mut until = SimTime(0);
    while !sim.done() {
        until = until.after_us(1_000_000);
        sim.advance(until);
    }
    let view = sim.view();
    let nodes = (0..view.nodes())
        .map(|node| match view.machine(node) {
            None => format!("node {node} is down"),
            Some(actor) => {
                let mut text = format!("node {node} is {:?}", actor.node.id());
                if let Some(store) = actor.node.store() {
                    describe(&sim.system, store, &mut text);
                }
                text
            }
        })
        .collect();
    Replay { outcome: sim.finish(), schedule, nodes }
}

fn describe(mesh: &Mesh, store: &Store, text: &mut String) {
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
