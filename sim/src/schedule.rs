//! What is done to a cluster and when, as an explicit list.
//!
//! A run is determined by its seed, its [`Conditions`] and its list of ([`SimTime`], [`Action`]).
//! The list is drawn up front, so a failing run can be made smaller by taking elements out. Every
//! fault therefore carries its own end: no element needs another one to make sense.

use core::fmt;
use core::hash::Hash;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::SimTime;
use crate::atlas::Atlas;
use crate::clock::{Form, Skew, Wave};
use crate::disk::Loses;
use crate::latency::Regions;
use crate::network::NetworkConditions;
use crate::prng::Span;
use crate::time::FOREVER_US;

/// One element of a schedule. `O` is the workload's operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action<O> {
    /// Something goes wrong.
    Fault(Fault),
    /// A client does something at a node, running or not.
    Op {
        /// Where.
        node: usize,
        /// What.
        op: O,
    },
}

/// The form of a partition: a name for reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Shape {
    /// Two groups, nothing passes between them.
    Whole,
    /// Nothing passes one way, all passes the other.
    OneWay,
    /// Some pairs, no matter which.
    Partial,
    /// One of a series that comes and goes.
    Flapping,
    /// One node and the others.
    Isolation,
    /// Each node was put on one of two sides by chance.
    Uniform,
    /// Each node reaches a majority, all another one.
    MajorityRing,
    /// All reach one node, and only that.
    HubAndSpoke,
    /// Along the borders of regions.
    Regions,
}

/// When a crash strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum When {
    /// At its time.
    Now,
    /// At the first moment from its time on when writes are not durable yet, at the latest
    /// `within_us` later.
    Unsynced {
        /// How long to wait for such a moment.
        within_us: u64,
    },
}

/// Something that goes wrong. `lasts_us` and `down_us` are in microseconds, [`FOREVER_US`] for
/// until the heal phase. A fault that does not apply (a crash of a node that is down) does nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the fields say what they are: nodes, durations, factors")]
pub enum Fault {
    /// Nothing passes along `lanes`, each a (from, to).
    Cut { shape: Shape, lanes: Vec<(usize, usize)>, lasts_us: u64 },
    /// Messages along `lanes` take `factor` times as long.
    SlowLink { lanes: Vec<(usize, usize)>, factor: u32, lasts_us: u64 },
    /// Whatever would arrive along `lanes` is held, and is let go at once and in its order in the
    /// end.
    Clog { lanes: Vec<(usize, usize)>, lasts_us: u64 },
    /// The connection of two nodes breaks; both are told at once and connect again later.
    Reset { a: usize, b: usize },
    /// A process dies and starts again after `down_us`.
    Crash { node: usize, when: When, loses: Loses, down_us: u64 },
    /// A process dies `times` times, each time for `down_us`, and runs `up_us` between.
    CrashLoop { node: usize, times: u16, up_us: u64, down_us: u64 },
    /// A process that is down starts.
    Restart { node: usize },
    /// A backup of what is durable is taken. No harm by itself.
    KeepCopy { node: usize },
    /// The process dies, the last copy is put back, it starts again after `down_us`.
    RestoreOldCopy { node: usize, down_us: u64 },
    /// A durable record, chosen by `pick`, is corrupted as
    /// [`System::rot`](crate::System::rot) says.
    BitRot { node: usize, pick: u64 },
    /// A durable record, chosen by `pick`, was written over another one: both are corrupted as
    /// [`System::rot`](crate::System::rot) says.
    MisdirectedWrite { node: usize, pick: u64 },
    /// The disk says that a sync is done and keeps what it should have written in its memory. The
    /// next crash takes that away, unless an honest sync came before it.
    LyingSync { node: usize, lasts_us: u64 },
    /// The process handles nothing for a while, then all of its backlog.
    Pause { node: usize, lasts_us: u64 },
    /// Every step of the process takes `step_us`.
    SlowNode { node: usize, step_us: u64, lasts_us: u64 },
    /// Every sync that begins takes `factor` times as long.
    SlowDisk { node: usize, factor: u32, lasts_us: u64 },
    /// The disk has no room: the process stops at its first write and is started again and again.
    FullDisk { node: usize, lasts_us: u64 },
    /// The wall clock jumps.
    WallJump { node: usize, by_us: i64 },
    /// Both clocks run at other rates, in parts per million.
    Drift { node: usize, wall_ppm: i32, monotonic_ppm: i32, lasts_us: u64 },
    /// The wall clock goes up and down, or steps forth and back, and is as before in the end.
    WallWave { node: usize, wave: Wave, lasts_us: u64 },
    /// Cuts, slowness and pauses end; clocks and dead processes stay as they are.
    Heal,
}

impl Fault {
    /// A whole partition: nothing passes between the nodes of `left` and those of `right`.
    #[must_use]
    pub fn split(left: &[usize], right: &[usize]) -> Fault {
        let across = left.iter().flat_map(|&a| right.iter().flat_map(move |&b| [(a, b), (b, a)]));
        Fault::Cut { shape: Shape::Whole, lanes: across.collect(), lasts_us: FOREVER_US }
    }

    /// Nothing passes from `from` to `to`.
    #[must_use]
    pub fn one_way(from: &[usize], to: &[usize]) -> Fault {
        let lanes = from.iter().flat_map(|&a| to.iter().map(move |&b| (a, b))).collect();
        Fault::Cut { shape: Shape::OneWay, lanes, lasts_us: FOREVER_US }
    }

    /// A partial partition: nothing passes between the two nodes of each pair.
    #[must_use]
    pub fn cut_pairs(pairs: &[(usize, usize)]) -> Fault {
        let lanes = pairs.iter().flat_map(|&(a, b)| [(a, b), (b, a)]).collect();
        Fault::Cut { shape: Shape::Partial, lanes, lasts_us: FOREVER_US }
    }

    /// A crash now, losing what the seed says, without a restart.
    #[must_use]
    pub fn crash(node: usize) -> Fault {
        Fault::Crash { node, when: When::Now, loses: Loses::Drawn, down_us: FOREVER_US }
    }

    /// The same fault for another duration; for a crash or an old copy, the time until the restart.
    #[must_use]
    pub fn lasting(mut self, us: u64) -> Fault {
        match &mut self {
            Fault::Cut { lasts_us, .. }
            | Fault::SlowLink { lasts_us, .. }
            | Fault::Clog { lasts_us, .. }
            | Fault::LyingSync { lasts_us, .. }
            | Fault::WallWave { lasts_us, .. }
            | Fault::Pause { lasts_us, .. }
            | Fault::SlowNode { lasts_us, .. }
            | Fault::SlowDisk { lasts_us, .. }
            | Fault::FullDisk { lasts_us, .. }
            | Fault::Drift { lasts_us, .. }
            | Fault::Crash { down_us: lasts_us, .. }
            | Fault::CrashLoop { down_us: lasts_us, .. }
            | Fault::RestoreOldCopy { down_us: lasts_us, .. } => *lasts_us = us,
            Fault::Reset { .. }
            | Fault::Restart { .. }
            | Fault::KeepCopy { .. }
            | Fault::BitRot { .. }
            | Fault::MisdirectedWrite { .. }
            | Fault::WallJump { .. }
            | Fault::Heal => {}
        }
        self
    }

    /// What [`lasting`](Fault::lasting) sets.
    pub(crate) fn duration_us(&self) -> Option<u64> {
        match *self {
            Fault::Crash { down_us, .. }
            | Fault::CrashLoop { down_us, .. }
            | Fault::RestoreOldCopy { down_us, .. } => Some(down_us),
            _ => self.undone_after(),
        }
    }

    /// The fault's name in reports.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Fault::Cut { shape: Shape::Whole, .. } => "partition",
            Fault::Cut { shape: Shape::OneWay, .. } => "one-way cut",
            Fault::Cut { shape: Shape::Partial, .. } => "partial cut",
            Fault::Cut { shape: Shape::Flapping, .. } => "flapping cut",
            Fault::Cut { shape: Shape::Isolation, .. } => "isolation",
            Fault::Cut { shape: Shape::Uniform, .. } => "uniform partition",
            Fault::Cut { shape: Shape::MajorityRing, .. } => "majority ring",
            Fault::Cut { shape: Shape::HubAndSpoke, .. } => "hub and spoke",
            Fault::Cut { shape: Shape::Regions, .. } => "region cut",
            Fault::SlowLink { .. } => "slow link",
            Fault::Clog { .. } => "clog",
            Fault::Reset { .. } => "reset",
            Fault::Crash { .. } => "crash",
            Fault::CrashLoop { .. } => "crash loop",
            Fault::Restart { .. } => "restart",
            Fault::KeepCopy { .. } => "copy kept",
            Fault::RestoreOldCopy { .. } => "old copy restored",
            Fault::BitRot { .. } => "bit rot",
            Fault::MisdirectedWrite { .. } => "misdirected write",
            Fault::LyingSync { .. } => "lying sync",
            Fault::Pause { .. } => "pause",
            Fault::SlowNode { .. } => "slow node",
            Fault::SlowDisk { .. } => "slow disk",
            Fault::FullDisk { .. } => "full disk",
            Fault::WallJump { .. } => "wall jump",
            Fault::Drift { .. } => "drift",
            Fault::WallWave { wave: Wave { form: Form::Triangle, .. }, .. } => "wall wave",
            Fault::WallWave { wave: Wave { form: Form::Square, .. }, .. } => "wall steps",
            Fault::Heal => "heal",
        }
    }

    /// The nodes it is about; every node for [`Fault::Heal`], which names none.
    #[must_use]
    pub fn nodes(&self) -> BTreeSet<usize> {
        match *self {
            Fault::Cut { ref lanes, .. }
            | Fault::SlowLink { ref lanes, .. }
            | Fault::Clog { ref lanes, .. } => {
                lanes.iter().flat_map(|&(from, to)| [from, to]).collect()
            }
            Fault::Reset { a, b } => [a, b].into(),
            Fault::Crash { node, .. }
            | Fault::CrashLoop { node, .. }
            | Fault::MisdirectedWrite { node, .. }
            | Fault::LyingSync { node, .. }
            | Fault::WallWave { node, .. }
            | Fault::Restart { node }
            | Fault::KeepCopy { node }
            | Fault::RestoreOldCopy { node, .. }
            | Fault::BitRot { node, .. }
            | Fault::Pause { node, .. }
            | Fault::SlowNode { node, .. }
            | Fault::SlowDisk { node, .. }
            | Fault::FullDisk { node, .. }
            | Fault::WallJump { node, .. }
            | Fault::Drift { node, .. } => [node].into(),
            Fault::Heal => BTreeSet::new(),
        }
    }

    /// How long the fault holds until it must be undone; `None` if it undoes itself or never is.
    pub(crate) fn undone_after(&self) -> Option<u64> {
        match *self {
            Fault::Cut { lasts_us, .. }
            | Fault::SlowLink { lasts_us, .. }
            | Fault::Clog { lasts_us, .. }
            | Fault::LyingSync { lasts_us, .. }
            | Fault::WallWave { lasts_us, .. }
            | Fault::Pause { lasts_us, .. }
            | Fault::SlowNode { lasts_us, .. }
            | Fault::SlowDisk { lasts_us, .. }
            | Fault::FullDisk { lasts_us, .. }
            | Fault::Drift { lasts_us, .. } => Some(lasts_us),
            Fault::CrashLoop { times, up_us, down_us, .. } => {
                Some(up_us.saturating_add(down_us).saturating_mul(u64::from(times)))
            }
            _ => None,
        }
    }
}

/// What holds for a whole run rather than at one time of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Conditions {
    /// The network.
    pub network: NetworkConditions,
    /// How long a sync takes, in microseconds.
    pub sync_us: Span,
    /// The clocks at the start, by node; nodes beyond the end have true clocks.
    pub skew: Vec<Skew>,
    /// Where the nodes stand, if distances differ: in place of the network's own latency.
    pub regions: Option<Regions>,
    /// Whose durable data may be lost; `None` for anyone's.
    pub atlas: Option<Atlas>,
}

impl Conditions {
    /// No faults, quick disks, true clocks.
    #[must_use]
    pub fn calm() -> Conditions {
        Conditions {
            network: NetworkConditions::CALM,
            sync_us: Span::new(200, 5_000),
            skew: Vec::new(),
            regions: None,
            atlas: None,
        }
    }
}

/// Which pairs of nodes can connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Topology {
    /// Every pair.
    Mesh,
    /// Each with the next.
    Line,
    /// Each with the next, the last with the first.
    Ring,
    /// Node 0 with every other.
    Star,
    /// Just these.
    Pairs(Vec<(usize, usize)>),
}

impl Topology {
    /// Whether the two may connect, in a cluster of `nodes`; `a` and `b` in either order.
    #[must_use]
    pub fn allows(&self, nodes: usize, a: usize, b: usize) -> bool {
        let (low, high) = (a.min(b), a.max(b));
        match self {
            Topology::Mesh => low != high,
            Topology::Line => low + 1 == high,
            Topology::Ring => low != high && (low + 1 == high || (low, high) == (0, nodes - 1)),
            Topology::Star => low == 0 && high > 0,
            Topology::Pairs(pairs) => pairs.contains(&(a, b)) || pairs.contains(&(b, a)),
        }
    }
}

/// A schedule: actions with their times, in the order of the times.
pub type Schedule<O> = Vec<(SimTime, Action<O>)>;

/// Where a run is given another future: what a search that forks runs has found is a run with some.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fork<O> {
    /// Once the machines have made so many steps.
    pub step: u64,
    /// What all small things are drawn from since.
    pub reseed: u64,
    /// What is added to the schedule.
    pub added: Schedule<O>,
}

/// Everything that one run does: what shrinking takes elements out of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Run<O> {
    /// The seed of the scenario: its system, and at first all draws.
    pub seed: u64,
    /// Where all small draws come from: latencies, losses, sync times, entropy. The seed, unless
    /// shrinking has found others.
    pub draws: u64,
    /// Which pairs can connect.
    pub topology: Topology,
    /// What holds throughout.
    pub conditions: Conditions,
    /// What happens when.
    pub schedule: Schedule<O>,
    /// When faults stop.
    pub active: SimTime,
    /// How long after that the run may take to converge, in microseconds.
    pub settle_us: u64,
    /// How often [`System::converged`](crate::System::converged) is asked then, in microseconds.
    pub poll_us: u64,
    /// Whether clocks become true when the faults stop.
    pub heal_clocks: bool,
    /// A run with more machine steps than this fails: it is going round in circles.
    pub steps_max: u64,
    /// Nodes that never start, see [`System::leave_out`](crate::System::leave_out).
    pub absent: BTreeSet<usize>,
    /// In the order of their steps; none for what a seed draws.
    pub forks: Vec<Fork<O>>,
}

impl<O> Run<O> {
    /// Whether every node that the run speaks of is one of `nodes`, and its clocks can be set: what
    /// a list drawn by [`Plan::draw`](crate::Plan::draw) always is, and one edited by hand may not.
    ///
    /// # Errors
    /// What does not fit.
    pub fn fits(&self, nodes: usize) -> Result<(), String> {
        let there = |node: usize, what: &dyn fmt::Debug| {
            if node < nodes {
                return Ok(());
            }
            Err(format!("{what:?} speaks of node {node}, and there are {nodes}, from 0"))
        };
        if !self.forks.is_sorted_by(|a, b| a.step < b.step) {
            return Err("the steps of its forks are out of order".to_owned());
        }
        let added = self.forks.iter().flat_map(|fork| &fork.added);
        for (at, action) in self.schedule.iter().chain(added) {
            match action {
                Action::Op { node, .. } => there(*node, &format_args!("the operation at {at}"))?,
                Action::Fault(fault) => {
                    fault.nodes().into_iter().try_for_each(|node| there(node, fault))?;
                }
            }
            if let Action::Fault(Fault::Drift { wall_ppm, monotonic_ppm, .. }) = action {
                keeps_going(*wall_ppm, *monotonic_ppm)?;
            }
        }
        self.absent.iter().try_for_each(|&node| there(node, &"absent"))?;
        let Conditions { regions, atlas, skew, .. } = &self.conditions;
        let square = |regions: &Regions| {
            let count = regions.latency_us.len();
            regions.nodes.len() == nodes
                && regions.nodes.iter().all(|&region| region < count)
                && regions.latency_us.iter().all(|row| row.len() == count)
        };
        if !regions.as_ref().is_none_or(square) {
            return Err("a node is in no region, or a region is not in the table".to_owned());
        }
        if !atlas.as_ref().is_none_or(|atlas| atlas.nodes == nodes && atlas.survivors <= nodes) {
            return Err(format!("the atlas is not one of {nodes} nodes"));
        }
        skew.iter().try_for_each(|skew| keeps_going(skew.wall_ppm, skew.monotonic_ppm))
    }
}

fn keeps_going(wall_ppm: i32, monotonic_ppm: i32) -> Result<(), String> {
    let slowest = wall_ppm.min(monotonic_ppm);
    if slowest > -1_000_000 {
        return Ok(());
    }
    Err(format!("a clock must not stand still or go back: {slowest} parts in a million"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topologies_allow_what_they_say() {
        let degree = |topology: &Topology, node| {
            (0..5).filter(|&peer| topology.allows(5, node, peer)).count()
        };
        let degrees = |topology: Topology| (0..5).map(|n| degree(&topology, n)).collect::<Vec<_>>();
        assert_eq!(degrees(Topology::Mesh), [4; 5]);
        assert_eq!(degrees(Topology::Line), [1, 2, 2, 2, 1]);
        assert_eq!(degrees(Topology::Ring), [2; 5]);
        assert_eq!(degrees(Topology::Star), [4, 1, 1, 1, 1]);
        assert_eq!(degrees(Topology::Pairs(vec![(3, 1)])), [0, 1, 0, 1, 0]);
    }

    #[test]
    fn a_split_cuts_every_lane_across_both_ways() {
        let Fault::Cut { lanes, .. } = Fault::split(&[0, 1], &[2]) else { panic!("a cut") };
        assert_eq!(lanes, [(0, 2), (2, 0), (1, 2), (2, 1)]);
        let Fault::Cut { lanes, lasts_us, .. } = Fault::one_way(&[0], &[1, 2]).lasting(9) else {
            panic!("a cut")
        };
        assert_eq!((lanes, lasts_us), (vec![(0, 1), (0, 2)], 9));
    }
}
