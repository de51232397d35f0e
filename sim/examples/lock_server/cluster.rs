//! The cluster: what its clients do, and what must hold.

use quorate_sim::{HostCx, Rng, SimTime, System, View};

use crate::machine::Lock;

/// One server, node 0, and its clients.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) careful: bool,
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

    /// What a picture shows of a node.
    fn describe(&self, node: usize, view: &View<'_, Self>) -> Vec<(&'static str, String)> {
        let Some(lock) = view.machine(node) else { return Vec::new() };
        vec![
            ("wants", lock.wants.to_string()),
            ("holds", lock.holds.to_string()),
            ("round", lock.round.to_string()),
            ("granted", format!("{:?}", lock.granted)),
        ]
    }

    /// A run with fewer clients is a smaller one; the server cannot be missed.
    fn leave_out(&mut self, node: usize) -> bool {
        node != 0
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
