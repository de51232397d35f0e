//! From a plan and a seed to a run: swarm testing.
//!
//! Groce et al., "Swarm Testing" (2012): a random test that *omits* some features altogether finds
//! more than one that uses all of them a little, because features get in each other's way. So each
//! seed turns whole kinds of fault off, and draws for the rest how often and how long they hold.
//! A crash falls, if it can, where writes are not durable yet, because there it may do harm.
//!
//! Faults that take away what was durable (an old copy, bit rot, a misdirected write, a sync that
//! lied) are off unless a plan asks for them. Then the run has an [`Atlas`]: they strike several
//! nodes, but leave [`Swarm::survivors`] copies of each record, so that what must survive can.

use std::collections::BTreeSet;

use crate::SimTime;
use crate::atlas::Atlas;
use crate::clock::Skew;
use crate::draw::Draw;
use crate::latency::{Distribution, Regions};
use crate::network::NetworkConditions;
use crate::prng::{Ratio, Rng, Span};
use crate::schedule::{Action, Conditions, Fault, Run, Schedule, Topology};
use crate::system::System;
use crate::time::{ms, secs};

/// A kind of fault that comes at times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "each is a fault of `Fault`, which says what it does")]
pub enum Kind {
    Partition,
    OneWayCut,
    PartialCut,
    FlappingCut,
    SlowLink,
    Reset,
    Crash,
    OldCopy,
    BitRot,
    Pause,
    SlowNode,
    SlowDisk,
    FullDisk,
    WallJump,
    Drift,
    Isolation,
    UniformPartition,
    MajorityRing,
    HubAndSpoke,
    /// Only where a plan has [`Regions`].
    RegionCut,
    Clog,
    CrashLoop,
    WallWave,
    WallSteps,
    MisdirectedWrite,
    LyingSync,
}

impl Kind {
    /// Whether it takes the end of a node's durable log.
    fn takes_the_end(self) -> bool {
        matches!(self, Kind::OldCopy | Kind::LyingSync)
    }

    /// Whether it takes what is durable.
    fn destroys(self) -> bool {
        self.takes_the_end() || matches!(self, Kind::BitRot | Kind::MisdirectedWrite)
    }

    /// How many nodes it takes at least.
    pub(crate) fn nodes_min(self) -> usize {
        match self {
            Kind::Partition
            | Kind::OneWayCut
            | Kind::PartialCut
            | Kind::FlappingCut
            | Kind::SlowLink
            | Kind::Reset
            | Kind::Isolation
            | Kind::UniformPartition
            | Kind::RegionCut
            | Kind::Clog => 2,
            Kind::MajorityRing | Kind::HubAndSpoke => 3,
            _ => 1,
        }
    }
}

/// How often a kind of fault comes and how long it holds, in microseconds. A seed draws one mean
/// gap from `gap_us`, each duration from `lasts_us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timed {
    /// Which kind.
    pub kind: Kind,
    /// Between two of them.
    pub gap_us: Span,
    /// For how long.
    pub lasts_us: Span,
}

/// The ranges from which a seed draws its faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swarm {
    /// The chance of each kind to be on at all in a seed.
    pub on: Ratio,
    /// The faults that come at times.
    pub timed: Vec<Timed>,
    /// The network at its worst; its ratios are upper bounds, its spans hold the drawn ones.
    pub network: NetworkConditions,
    /// Holds the drawn range of sync times, in microseconds.
    pub sync_us: Span,
    /// The worst wall clock offset at the start, in microseconds.
    pub wall_offset_us: u32,
    /// The worst drift of either clock, in parts per million.
    pub drift_ppm: u32,
    /// The worst jump of a wall clock, in microseconds.
    pub jump_us: u32,
    /// Of each durable record, how many nodes keep their copy whatever is taken from the others: with
    /// majorities one more than what is not one. `None` for all but one node.
    pub survivors: Option<usize>,
}

impl Default for Swarm {
    /// Every fault after which a correct machine with a durable log must recover.
    fn default() -> Swarm {
        let timed = |kind, gap: (u64, u64), lasts: (u64, u64)| Timed {
            kind,
            gap_us: Span::new(ms(gap.0), ms(gap.1)),
            lasts_us: Span::new(ms(lasts.0), ms(lasts.1)),
        };
        Swarm {
            on: Ratio::new(1, 2),
            timed: vec![
                timed(Kind::Partition, (500, 8_000), (50, 5_000)),
                timed(Kind::OneWayCut, (500, 8_000), (50, 5_000)),
                timed(Kind::PartialCut, (500, 8_000), (50, 5_000)),
                timed(Kind::FlappingCut, (2_000, 10_000), (100, 3_000)),
                timed(Kind::SlowLink, (500, 8_000), (100, 5_000)),
                timed(Kind::Reset, (200, 4_000), (0, 0)),
                timed(Kind::Crash, (500, 8_000), (10, 4_000)),
                timed(Kind::Pause, (500, 8_000), (10, 3_000)),
                timed(Kind::SlowNode, (1_000, 8_000), (100, 5_000)),
                timed(Kind::SlowDisk, (1_000, 8_000), (100, 5_000)),
                timed(Kind::FullDisk, (1_000, 8_000), (100, 3_000)),
                timed(Kind::WallJump, (500, 8_000), (0, 0)),
                timed(Kind::Drift, (1_000, 8_000), (100, 5_000)),
                timed(Kind::Isolation, (1_000, 10_000), (50, 5_000)),
                timed(Kind::UniformPartition, (1_000, 10_000), (50, 5_000)),
                timed(Kind::MajorityRing, (2_000, 12_000), (50, 5_000)),
                timed(Kind::HubAndSpoke, (2_000, 12_000), (50, 5_000)),
                timed(Kind::RegionCut, (1_000, 10_000), (50, 5_000)),
                timed(Kind::Clog, (500, 8_000), (10, 3_000)),
                timed(Kind::CrashLoop, (3_000, 12_000), (10, 1_000)),
                timed(Kind::WallWave, (1_000, 8_000), (100, 5_000)),
                timed(Kind::WallSteps, (1_000, 8_000), (100, 5_000)),
            ],
            network: NetworkConditions {
                latency_us: Span::new(100, 100_000),
                tail: Ratio::per_mille(50),
                tail_factor: 20,
                loss: Ratio::per_mille(200),
                duplicate: Ratio::per_mille(100),
                reorder: Ratio::per_mille(300),
                stale: Ratio::NEVER,
                replay: Ratio::per_mille(20),
                corrupt: Ratio::per_mille(5),
                bytes_per_ms: 50,
                notice: Ratio::per_mille(1_000),
                ..NetworkConditions::CALM
            },
            sync_us: Span::new(50, 30_000),
            wall_offset_us: 2_000_000,
            drift_ppm: 50_000,
            jump_us: 10_000_000,
            survivors: None,
        }
    }
}

impl Swarm {
    /// No faults at all; what is drawn is how quick the network and the disks are.
    #[must_use]
    pub fn calm() -> Swarm {
        Swarm {
            on: Ratio::NEVER,
            timed: Vec::new(),
            wall_offset_us: 0,
            drift_ppm: 0,
            jump_us: 0,
            ..Swarm::default()
        }
    }

    /// The same without one kind of fault.
    #[must_use]
    pub fn without(mut self, kind: Kind) -> Swarm {
        self.timed.retain(|timed| timed.kind != kind);
        self
    }

    /// The same with one kind of fault, in place of what it had of that kind.
    #[must_use]
    pub fn with(self, kind: Kind, gap_us: Span, lasts_us: Span) -> Swarm {
        let mut swarm = self.without(kind);
        swarm.timed.push(Timed { kind, gap_us, lasts_us });
        swarm
    }

    fn conditions(&self, nodes: usize, seed: u64) -> Conditions {
        let rng = &mut Rng::stream(seed, "conditions", 0);
        let worst = self.network;
        let mut ratio = |most| if rng.chance(self.on) { rng.up_to(most) } else { Ratio::NEVER };
        let (tail, loss) = (ratio(worst.tail), ratio(worst.loss));
        let (duplicate, reorder) = (ratio(worst.duplicate), ratio(worst.reorder));
        let stale = ratio(worst.stale);
        let slow = worst.bytes_per_ms > 0 && rng.chance(self.on);
        let bytes_per_ms = if slow { worst.bytes_per_ms << rng.below(10) } else { 0 };
        let network = NetworkConditions {
            latency_us: narrower(worst.latency_us, rng),
            tail,
            tail_factor: rng.within(Span::new(1, u64::from(worst.tail_factor.max(1)))) as u32,
            loss,
            duplicate,
            reorder,
            stale,
            bytes_per_ms,
            notice: rng.up_to(worst.notice),
            ..self.rarer(worst, &mut Rng::stream(seed, "conditions", 1))
        };
        let (skewed, drifting) = (rng.chance(self.on), rng.chance(self.on));
        let skew = (0..nodes).map(|_| Skew {
            wall_offset_us: if skewed { rng.around_zero(self.wall_offset_us) } else { 0 },
            wall_ppm: if drifting { rng.around_zero(self.drift_ppm) as i32 } else { 0 },
            monotonic_ppm: if drifting { rng.around_zero(self.drift_ppm) as i32 } else { 0 },
        });
        let skew = skew.collect();
        let (regions, atlas) = (None, self.atlas(nodes, seed));
        Conditions { network, sync_us: narrower(self.sync_us, rng), skew, regions, atlas }
    }

    /// The network's rarer faults, from a stream of their own.
    fn rarer(&self, worst: NetworkConditions, rng: &mut Rng) -> NetworkConditions {
        let mut ratio = |most| if rng.chance(self.on) { rng.up_to(most) } else { Ratio::NEVER };
        let (replay, corrupt) = (ratio(worst.replay), ratio(worst.corrupt));
        let replay_after_us = narrower(worst.replay_after_us, rng);
        let bimodal = Distribution::Bimodal { far: rng.up_to(Ratio::new(1, 2)) };
        let distribution = match rng.below(2) {
            _ if !rng.chance(self.on) => worst.distribution,
            0 => Distribution::Exponential,
            _ => bimodal,
        };
        NetworkConditions { distribution, replay, replay_after_us, corrupt, ..worst }
    }

    /// Whose durable data may be lost, if a kind that takes it is asked for.
    fn atlas(&self, nodes: usize, seed: u64) -> Option<Atlas> {
        let kinds = || self.timed.iter().map(|timed| timed.kind);
        let survivors = self.survivors.unwrap_or(nodes - 1);
        let whole = usize::from(kinds().any(Kind::takes_the_end));
        kinds().any(Kind::destroys).then_some(Atlas { seed, nodes, survivors, whole })
    }

    fn faults<O>(
        &self,
        nodes: usize,
        regions: Option<&Regions>,
        active: SimTime,
        seed: u64,
        into: &mut Schedule<O>,
    ) {
        let atlas = self.atlas(nodes, seed);
        for timed in &self.timed {
            let mut rng = Rng::stream(seed, "fault", timed.kind as u64);
            let bare = timed.kind == Kind::RegionCut && regions.is_none();
            if bare || nodes < timed.kind.nodes_min() || !rng.chance(self.on) {
                continue;
            }
            let gap = rng.within(timed.gap_us).max(1);
            let mut at = rng.below(gap) + gap / 2;
            while at < active.0 {
                let lasts = rng.within(timed.lasts_us);
                let swarm = self;
                let mut draw = Draw { swarm, rng: &mut rng, nodes, regions, at, lasts, gap };
                draw.fault(timed.kind, atlas.as_ref(), into);
                at += gap / 2 + rng.below(gap) + 1;
            }
        }
    }
}

/// A range inside `span`, drawn so that small ones are as likely as large ones.
fn narrower(span: Span, rng: &mut Rng) -> Span {
    let width = span.max - span.min;
    let scaled = |rng: &mut Rng| span.min + (rng.below(width + 1) >> rng.below(8));
    let (a, b) = (scaled(rng), scaled(rng));
    Span::new(a.min(b), a.max(b))
}

/// What a scenario asks for; [`Plan::draw`] makes a [`Run`] of it for a seed.
#[derive(Clone, Debug)]
pub struct Plan<O> {
    /// Which pairs can connect.
    pub topology: Topology,
    /// Where the nodes stand, if distances differ.
    pub regions: Option<Regions>,
    /// How long faults and operations go on.
    pub active: SimTime,
    /// How long after that the run may take to converge, in microseconds.
    pub settle_us: u64,
    /// How often convergence is asked for, in microseconds.
    pub poll_us: u64,
    /// The random faults.
    pub swarm: Swarm,
    /// The scenario's own actions, besides the random ones.
    pub script: Schedule<O>,
    /// Whether clocks become true when the faults stop.
    pub heal_clocks: bool,
    /// More machine steps than this fail the run.
    pub steps_max: u64,
}

impl<O> Plan<O> {
    /// A mesh, `active` long, with the default swarm, a minute to converge.
    #[must_use]
    pub fn new(active: SimTime) -> Plan<O> {
        Plan {
            topology: Topology::Mesh,
            regions: None,
            active,
            settle_us: secs(60),
            poll_us: ms(20),
            swarm: Swarm::default(),
            script: Vec::new(),
            heal_clocks: false,
            steps_max: 20_000_000,
        }
    }

    /// A plan without faults other than those of a script.
    #[must_use]
    pub fn calm(active: SimTime) -> Plan<O> {
        Plan { swarm: Swarm::calm(), ..Plan::new(active) }
    }

    /// The same with one more fault at a time.
    #[must_use]
    pub fn fault(mut self, at: SimTime, fault: Fault) -> Plan<O> {
        self.script.push((at, Action::Fault(fault)));
        self
    }

    /// The same with one more operation at a time.
    #[must_use]
    pub fn op(mut self, at: SimTime, node: usize, op: O) -> Plan<O> {
        self.script.push((at, Action::Op { node, op }));
        self
    }
}

impl<O: Clone> Plan<O> {
    /// Draws the run of `seed`: its conditions, faults and operations.
    #[must_use]
    pub fn draw<S: System<Op = O>>(&self, system: &S, seed: u64) -> Run<O> {
        let nodes = system.nodes();
        let regions = self.regions.clone();
        let conditions = Conditions { regions, ..self.swarm.conditions(nodes, seed) };
        let mut schedule = self.script.clone();
        let regions = self.regions.as_ref();
        self.swarm.faults(nodes, regions, self.active, seed, &mut schedule);
        let ops = system.ops(&mut Rng::stream(seed, "workload", 0), self.active);
        schedule.extend(ops.into_iter().map(|(at, node, op)| (at, Action::Op { node, op })));
        schedule.sort_by_key(|(at, _)| *at);
        Run {
            seed,
            draws: seed,
            topology: self.topology.clone(),
            conditions,
            schedule,
            active: self.active,
            settle_us: self.settle_us,
            poll_us: self.poll_us,
            heal_clocks: self.heal_clocks,
            steps_max: self.steps_max,
            absent: BTreeSet::new(),
            forks: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn names(swarm: &Swarm, seed: u64) -> BTreeMap<&'static str, u32> {
        let mut schedule: Schedule<()> = Vec::new();
        let regions = Regions::three_continents(5);
        swarm.faults(5, Some(&regions), SimTime::secs(30), seed, &mut schedule);
        let mut names = BTreeMap::new();
        for (at, action) in schedule {
            assert!(at < SimTime::secs(60));
            if let Action::Fault(fault) = action {
                if let Fault::Cut { lanes, .. } | Fault::Clog { lanes, .. } = &fault {
                    assert!(!lanes.is_empty(), "it cuts nothing: {fault:?}");
                }
                *names.entry(fault.name()).or_default() += 1;
            }
        }
        names
    }

    #[test]
    fn each_seed_leaves_whole_kinds_out_and_every_kind_comes_in_some() {
        let gap = Span::only(secs(1));
        let swarm = Swarm::default().with(Kind::OldCopy, gap, gap).with(Kind::BitRot, gap, gap);
        let swarm = swarm.with(Kind::MisdirectedWrite, gap, gap).with(Kind::LyingSync, gap, gap);
        let seeds: Vec<_> = (0..50).map(|seed| names(&swarm, seed)).collect();
        let mut all = BTreeMap::new();
        for names in &seeds {
            names.keys().for_each(|name| *all.entry(*name).or_insert(0) += 1);
        }
        assert_eq!(all.len(), 27, "{all:?}");
        assert!(all.values().all(|&seeds| (8..=42).contains(&seeds)), "{all:?}");
    }

    #[test]
    fn turning_one_kind_off_leaves_the_others_as_they_were() {
        for seed in 0..20 {
            let mut all = names(&Swarm::default(), seed);
            all.remove("crash");
            assert_eq!(all, names(&Swarm::default().without(Kind::Crash), seed));
        }
    }

    #[test]
    fn what_takes_the_end_of_a_log_strikes_one_node_and_the_rest_goes_round() {
        let gap = Span::only(ms(100));
        let none = Swarm { on: Ratio::ALWAYS, timed: Vec::new(), ..Swarm::default() };
        let hit = |swarm: &Swarm| {
            let mut schedule: Schedule<()> = Vec::new();
            swarm.faults(5, None, SimTime::secs(10), 3, &mut schedule);
            assert!(schedule.len() > 50);
            let mut hit = [BTreeSet::new(), BTreeSet::new()];
            for (_, action) in schedule {
                match action {
                    Action::Fault(
                        Fault::RestoreOldCopy { node, .. } | Fault::LyingSync { node, .. },
                    ) => hit[0].insert(node),
                    Action::Fault(
                        Fault::BitRot { node, .. } | Fault::MisdirectedWrite { node, .. },
                    ) => hit[1].insert(node),
                    _ => false,
                };
            }
            hit.map(|nodes| nodes.len())
        };
        let rot = none.clone().with(Kind::BitRot, gap, gap).with(Kind::MisdirectedWrite, gap, gap);
        assert_eq!(hit(&rot), [0, 5], "each node loses other records");
        let all = rot.with(Kind::OldCopy, gap, gap).with(Kind::LyingSync, gap, gap);
        assert_eq!(hit(&all), [1, 1], "what that node may lose, no other may");
        assert_eq!(hit(&Swarm { survivors: Some(3), ..all.clone() }), [1, 5]);
        assert_eq!(all.atlas(5, 3).map(|atlas| atlas.survivors), Some(4));
        assert_eq!(none.with(Kind::Crash, gap, gap).atlas(5, 3), None, "nothing durable is lost");
    }

    #[test]
    fn the_calm_swarm_has_no_faults() {
        let swarm = Swarm::calm();
        assert!(names(&swarm, 1).is_empty());
        let conditions = swarm.conditions(3, 1);
        let NetworkConditions { loss, replay, corrupt, distribution, .. } = conditions.network;
        assert_eq!([loss, replay, corrupt], [Ratio::NEVER; 3]);
        assert_eq!(distribution, Distribution::Uniform);
        assert!(conditions.skew.iter().all(|skew| *skew == Skew::default()));
    }
}
