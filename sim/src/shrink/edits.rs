//! The ways in which a run can become smaller. Each function lists some of them for a run, by
//! *place*: the search goes on at the place of an edit that it kept.

use core::ops::Range;

use crate::SimTime;
use crate::capsule::fields;
use crate::clock::Skew;
use crate::disk::Loses;
use crate::network::NetworkConditions;
use crate::schedule::{Action, Conditions, Fault, Run, When};
use crate::system::System;
use crate::time::FOREVER_US;

/// Up to so many lanes of a cut are taken out one by one; more are halved first.
const LANES_ONE_BY_ONE: usize = 12;
/// How many seeds' draws an edit is tried with.
const LUCK: u64 = 32;

/// A way to make a run smaller.
#[derive(Clone, Debug)]
pub(super) struct Edit<O> {
    pub(super) place: usize,
    change: Change<O>,
    /// The seed of the small draws, if it becomes another.
    draws: Option<u64>,
}

#[derive(Clone, Debug)]
enum Change<O> {
    /// No element comes later than this.
    End(SimTime),
    /// A node is left out, and all that happens to it alone.
    LeaveOut(usize),
    Conditions(Box<Conditions>),
    /// All faults of this name.
    WithoutFault(&'static str),
    WithoutOps,
    /// These elements.
    Without(Range<usize>),
    /// A fork, and all that it adds.
    WithoutFork(usize),
    /// One element that a fork adds.
    WithoutAdded(usize, usize),
    /// The faults stop then.
    Active(SimTime),
    /// From this element on all comes so much earlier, in microseconds.
    Earlier(usize, u64),
    Replace(usize, Action<O>),
}

impl<O: Clone> Edit<O> {
    pub(super) fn apply(&self, run: &mut Run<O>) {
        run.draws = self.draws.unwrap_or(run.draws);
        match &self.change {
            Change::End(end) => run.schedule.retain(|(at, _)| at <= end),
            Change::LeaveOut(node) => {
                run.absent.insert(*node);
                run.schedule.retain_mut(|(_, action)| matters_without(*node, action));
                for fork in &mut run.forks {
                    fork.added.retain_mut(|(_, action)| matters_without(*node, action));
                }
            }
            Change::Conditions(conditions) => run.conditions = (**conditions).clone(),
            Change::WithoutFault(name) => run.schedule.retain(
                |(_, action)| !matches!(action, Action::Fault(fault) if fault.name() == *name),
            ),
            Change::WithoutOps => {
                run.schedule.retain(|(_, action)| matches!(action, Action::Fault(_)));
            }
            Change::Without(range) => drop(run.schedule.drain(range.clone())),
            Change::WithoutFork(fork) => drop(run.forks.remove(*fork)),
            Change::WithoutAdded(fork, at) => drop(run.forks[*fork].added.remove(*at)),
            Change::Active(active) => run.active = *active,
            Change::Earlier(from, by_us) => {
                let moved = run.schedule[*from].0;
                for (at, _) in &mut run.schedule[*from..] {
                    at.0 -= by_us;
                }
                if run.active >= moved {
                    run.active.0 -= by_us;
                }
            }
            Change::Replace(index, action) => run.schedule[*index].1 = action.clone(),
        }
    }
}

/// Whether an action is about more than `node`; what of it is about that node is taken away.
fn matters_without<O>(node: usize, action: &mut Action<O>) -> bool {
    match action {
        Action::Op { node: at, .. } => *at != node,
        Action::Fault(
            Fault::Cut { lanes, .. } | Fault::SlowLink { lanes, .. } | Fault::Clog { lanes, .. },
        ) => {
            lanes.retain(|&(from, to)| from != node && to != node);
            !lanes.is_empty()
        }
        Action::Fault(fault) => !fault.nodes().contains(&node),
    }
}

fn edit<O>(place: usize, change: Change<O>) -> Edit<O> {
    Edit { place, change, draws: None }
}

/// What comes after the failure cannot matter.
pub(super) fn ends<O>(run: &Run<O>, failed: SimTime) -> Vec<Edit<O>> {
    let later = run.schedule.iter().any(|(at, _)| *at > failed);
    if later { vec![edit(0, Change::End(failed))] } else { Vec::new() }
}

/// Each node that the system can do without.
pub(super) fn nodes<S: System>(system: &S, run: &Run<S::Op>) -> Vec<Edit<S::Op>> {
    let can_go = |node: &usize| {
        let mut system = system.clone();
        run.absent.iter().all(|&absent| system.leave_out(absent)) && system.leave_out(*node)
    };
    let there = (0..system.nodes()).filter(|node| !run.absent.contains(node));
    there.filter(can_go).map(|node| edit(node, Change::LeaveOut(node))).collect()
}

/// Each condition that is not calm.
pub(super) fn conditions<O>(run: &Run<O>) -> Vec<Edit<O>> {
    let now = &run.conditions;
    let (mut edits, mut place) = (Vec::new(), 0);
    let mut change = |conditions: Conditions| {
        place += 1;
        if conditions != *now {
            edits.push(edit(place, Change::Conditions(Box::new(conditions))));
        }
    };
    // The atlas is no fault: it says which ones are bearable.
    change(Conditions { atlas: now.atlas.clone(), ..Conditions::calm() });
    change(Conditions { regions: None, ..now.clone() });
    change(Conditions { network: NetworkConditions::CALM, ..now.clone() });
    change(Conditions { skew: Vec::new(), ..now.clone() });
    change(Conditions { sync_us: Conditions::calm().sync_us, ..now.clone() });
    for (field, value) in fields(&NetworkConditions::CALM) {
        let mut fields = fields(&now.network);
        fields.insert(field, value);
        if let Ok(network) = serde_json::from_value(fields.into()) {
            change(Conditions { network, ..now.clone() });
        }
    }
    for node in 0..now.skew.len() {
        let mut conditions = now.clone();
        conditions.skew[node] = Skew::default();
        change(conditions);
    }
    edits
}

/// All faults of one kind, and all operations.
pub(super) fn kinds<O>(run: &Run<O>) -> Vec<Edit<O>> {
    let name = |(_, action): &(SimTime, Action<O>)| match action {
        Action::Fault(fault) => Some(fault.name()),
        Action::Op { .. } => None,
    };
    let mut names: Vec<&'static str> = run.schedule.iter().filter_map(name).collect();
    names.sort_unstable();
    names.dedup();
    let faults = names.into_iter().map(Change::WithoutFault);
    let changes = faults.chain([Change::WithoutOps]).enumerate();
    changes.map(|(place, change)| edit(place, change)).collect()
}

/// Each fork, and each element that one adds.
pub(super) fn forks<O>(run: &Run<O>) -> Vec<Edit<O>> {
    let changes = run.forks.iter().enumerate().flat_map(|(fork, of)| {
        let added = (0..of.added.len()).map(move |at| Change::WithoutAdded(fork, at));
        [Change::WithoutFork(fork)].into_iter().chain(added)
    });
    changes.enumerate().map(|(place, change)| edit(place, change)).collect()
}

/// The schedule in chunks of `size`.
pub(super) fn chunks<O>(run: &Run<O>, size: usize) -> Vec<Edit<O>> {
    let len = run.schedule.len();
    let chunk = |from: usize| edit(from, Change::Without(from..len.min(from + size)));
    (0..len).step_by(size).map(chunk).collect()
}

/// Each edit with other luck: the small draws of other seeds. A run that fails by a rare chance often
/// fails by another one with less in it.
pub(super) fn lucky<O: Clone>(edits: Vec<Edit<O>>) -> Vec<Edit<O>> {
    let with = |edit: Edit<O>| (1..=LUCK).map(move |n| Edit { draws: Some(n), ..edit.clone() });
    edits.into_iter().flat_map(with).collect()
}

/// The time between elements, and between the last and the end of the faults.
pub(super) fn times<O>(run: &Run<O>) -> Vec<Edit<O>> {
    let mut edits = Vec::new();
    let mut before = 0;
    for (index, (at, _)) in run.schedule.iter().enumerate() {
        let gap = at.0 - before;
        let earlier = shorter(gap).into_iter().map(|left| Change::Earlier(index, gap - left));
        edits.extend(earlier.map(|change| edit(index, change)));
        before = at.0;
    }
    if run.active.0 > before {
        let ends = shorter(run.active.0 - before).into_iter().map(|left| SimTime(before + left));
        edits.extend(ends.map(|end| edit(run.schedule.len(), Change::Active(end))));
    }
    edits
}

/// Every element in a simpler form.
pub(super) fn simpler<S: System>(system: &S, run: &Run<S::Op>) -> Vec<Edit<S::Op>> {
    let mut edits = Vec::new();
    for (index, (_, action)) in run.schedule.iter().enumerate() {
        let actions: Vec<Action<S::Op>> = match action {
            Action::Op { node, op } => {
                let simpler = system.simpler(op).into_iter();
                simpler.map(|op| Action::Op { node: *node, op }).collect()
            }
            Action::Fault(fault) => milder(fault).into_iter().map(Action::Fault).collect(),
        };
        let replace = |action| edit(index, Change::Replace(index, action));
        edits.extend(actions.into_iter().map(replace));
    }
    edits
}

/// Shorter durations than `us`, the shortest first: none, powers of ten, the half, and what is left
/// when the last digits are rounded off; no fractions of a millisecond. Forever is a round number.
fn shorter(us: u64) -> Vec<u64> {
    if us == FOREVER_US {
        return Vec::new();
    }
    let powers = (3..9).map(|power| 10_u64.pow(power));
    let digits = us.checked_ilog10().unwrap_or(0);
    let rounded = |kept: u32| {
        let unit = 10_u64.pow(digits.saturating_sub(kept));
        us / unit * unit
    };
    let mut all: Vec<u64> = powers.chain([0, rounded(0) / 2, rounded(0), rounded(1)]).collect();
    all.retain(|&shorter| shorter < us && (shorter == 0 || shorter >= 1_000));
    all.sort_unstable();
    all.dedup();
    all
}

/// Faults that do a little less than `fault`.
fn milder(fault: &Fault) -> Vec<Fault> {
    let mut milder = Vec::new();
    let lasting = |us: u64| shorter(us).into_iter().map(|us| fault.clone().lasting(us));
    match fault {
        Fault::Cut { lanes, .. } | Fault::SlowLink { lanes, .. } | Fault::Clog { lanes, .. } => {
            milder.extend(fewer(lanes).into_iter().map(|fewer| {
                let mut fault = fault.clone();
                if let Fault::Cut { lanes, .. }
                | Fault::SlowLink { lanes, .. }
                | Fault::Clog { lanes, .. } = &mut fault
                {
                    *lanes = fewer;
                }
                fault
            }));
        }
        &Fault::Crash { node, when, loses, down_us } => {
            let crash = |when, loses| Fault::Crash { node, when, loses, down_us };
            if let When::Unsynced { within_us } = when {
                milder.push(crash(When::Now, loses));
                let sooner = shorter(within_us).into_iter();
                milder.extend(sooner.map(|within_us| crash(When::Unsynced { within_us }, loses)));
            }
            let less: &[Loses] = match loses {
                Loses::Drawn => &[Loses::Nothing, Loses::Unsynced],
                Loses::Unsynced => &[Loses::Nothing],
                Loses::Nothing => &[],
            };
            milder.extend(less.iter().map(|&loses| crash(when, loses)));
        }
        &Fault::CrashLoop { node, times, up_us, down_us } => {
            let (when, loses) = (When::Now, Loses::Drawn);
            milder.push(Fault::Crash { node, when, loses, down_us });
            let fewer = [times / 2, times.saturating_sub(1)].into_iter().filter(|fewer| *fewer > 0);
            milder.extend(fewer.map(|times| Fault::CrashLoop { node, times, up_us, down_us }));
        }
        &Fault::WallJump { node, by_us } => {
            let less = shorter(by_us.unsigned_abs()).into_iter();
            let signed = less.map(|us| by_us.signum() * i64::try_from(us).unwrap_or(i64::MAX));
            milder.extend(signed.map(|by_us| Fault::WallJump { node, by_us }));
        }
        &Fault::Drift { node, wall_ppm, monotonic_ppm, lasts_us } => {
            let drift =
                |wall_ppm, monotonic_ppm| Fault::Drift { node, wall_ppm, monotonic_ppm, lasts_us };
            milder.extend([drift(0, monotonic_ppm), drift(wall_ppm, 0)]);
        }
        _ => {}
    }
    milder.extend(fault.duration_us().into_iter().flat_map(lasting));
    milder
}

/// `lanes` without the one half, without the other; and without each, if there are not too many.
fn fewer(lanes: &[(usize, usize)]) -> Vec<Vec<(usize, usize)>> {
    let mut all = Vec::new();
    if lanes.len() > 3 {
        let (left, right) = lanes.split_at(lanes.len() / 2);
        all.extend([left.to_vec(), right.to_vec()]);
    }
    if (2..=LANES_ONE_BY_ONE).contains(&lanes.len()) {
        for left_out in 0..lanes.len() {
            let mut rest = lanes.to_vec();
            rest.remove(left_out);
            all.push(rest);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_become_shorter_and_rounder_until_nothing_is_left() {
        assert!(shorter(0).is_empty());
        assert_eq!(shorter(1_900), [0, 1_000]);
        let from = |us| shorter(us).pop();
        assert_eq!((from(4_347_123), from(4_300_000)), (Some(4_300_000), Some(4_000_000)));
        assert_eq!(shorter(4_347_123)[..3], [0, 1_000, 10_000]);
        assert!(shorter(FOREVER_US).is_empty());
        for mut us in [u64::MAX - 1, 7, 86_400_000_000] {
            while let Some(next) = shorter(us).pop() {
                assert!(next < us);
                us = next;
            }
            assert_eq!(us, 0);
        }
    }

    #[test]
    fn a_node_left_out_takes_its_lanes_with_it() {
        let mut cut: Action<()> = Action::Fault(Fault::split(&[0], &[1, 2]));
        assert!(matters_without(2, &mut cut));
        let Action::Fault(Fault::Cut { lanes, .. }) = &cut else { panic!("a cut") };
        assert_eq!(lanes, &[(0, 1), (1, 0)]);
        assert!(!matters_without(0, &mut cut));
        assert!(!matters_without::<()>(1, &mut Action::Fault(Fault::Reset { a: 0, b: 1 })));
        assert!(matters_without::<()>(1, &mut Action::Fault(Fault::Heal)));
    }
}
