//! The tutorial's protocol, and its cluster in the simulator: docs/guides/protocol.md walks through it.
//!
//! `cargo run --release -p quorate-sim --example lock_server` runs the careless lock, whose bug is
//! found, and then the careful one.

mod machine;

use machine::Lock;
use quorate_sim::{HostCx, Options, Plan, Rng, SimTime, System, View, many};

/// One server, node 0, and its clients.
#[derive(Clone)]
struct Cluster {
    careful: bool,
}

impl System for Cluster {
    type Machine = Lock;
    /// A client takes the lock, if it gets it before it gives up.
    type Op = ();

    fn nodes(&self) -> usize {
        4
    }

    fn boot(&self, _: usize) -> Lock {
        Lock { careful: self.careful, ..Lock::default() }
    }

    fn ops(&self, rng: &mut Rng, active: SimTime) -> Vec<(SimTime, usize, ())> {
        (0..40).map(|_| (SimTime(rng.below(active.0)), 1 + rng.below(3) as usize, ())).collect()
    }

    fn op(&mut self, _: usize, (): (), cx: &mut HostCx<'_, Self>) {
        cx.command(true);
    }

    fn event(&mut self, _: usize, _: bool, cx: &mut HostCx<'_, Self>) {
        cx.mark("held");
        let while_us = cx.rng().below(300_000);
        cx.command_after(while_us, false);
    }

    fn invariant(&mut self, _: usize, view: &View<'_, Self>) -> Result<(), String> {
        let holders: Vec<usize> =
            view.machines().filter(|(_, lock)| lock.holds).map(|(node, _)| node).collect();
        if holders.len() > 1 {
            return Err(format!("nodes {holders:?} hold the lock"));
        }
        Ok(())
    }

    fn converged(&mut self, view: &View<'_, Self>) -> Result<(), String> {
        match view.machines().find(|(_, lock)| lock.holds) {
            Some((node, _)) => Err(format!("node {node} still holds the lock")),
            None => Ok(()),
        }
    }
}

fn main() {
    for careful in [false, true] {
        let scenario = |_seed| (Cluster { careful }, Plan::new(SimTime::secs(10)));
        let report = many(&scenario, 0..1_000, Options::default());
        println!("careful: {careful}\n{report}");
        if let Some(outcome) = report.failures.first() {
            println!("seed {}: {:?}\n", outcome.seed, outcome.result);
        }
    }
}
