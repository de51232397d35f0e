//! From a plan and a seed to a run: swarm testing.
//!
//! Groce et al., "Swarm Testing" (2012): a random test that *omits* some features altogether finds
//! more than one that uses all of them a little, because features get in each other's way. So each
//! seed turns whole kinds of fault off, and draws for the rest how often and how long they hold.
//! A crash falls, if it can, where writes are not durable yet, because there it may do harm.
//!
//! Faults that take away what was durable (an old copy, bit rot) are off unless a plan asks for
//! them, and strike at most [`Swarm::victims`] nodes in a run, so that what must survive can.

use crate::SimTime;
use crate::clock::Skew;
use crate::disk::Loses;
use crate::network::NetworkConditions;
use crate::prng::{Ratio, Rng, Span};
use crate::schedule::{Action, Conditions, Fault, Run, Schedule, Shape, Topology, When};
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
    /// How many nodes may lose durable data in one run.
    pub victims: usize,
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
            ],
            network: NetworkConditions {
                latency_us: Span::new(100, 100_000),
                tail: Ratio::per_mille(50),
                tail_factor: 20,
                loss: Ratio::per_mille(200),
                duplicate: Ratio::per_mille(100),
                reorder: Ratio::per_mille(300),
                stale: Ratio::NEVER,
                bytes_per_ms: 50,
                notice: Ratio::per_mille(1_000),
                ..NetworkConditions::CALM
            },
            sync_us: Span::new(50, 30_000),
            wall_offset_us: 2_000_000,
            drift_ppm: 50_000,
            jump_us: 10_000_000,
            victims: 1,
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

    fn conditions(&self, nodes: usize, rng: &mut Rng) -> Conditions {
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
            ..worst
        };
        let (skewed, drifting) = (rng.chance(self.on), rng.chance(self.on));
        let skew = (0..nodes).map(|_| Skew {
            wall_offset_us: if skewed { rng.around_zero(self.wall_offset_us) } else { 0 },
            wall_ppm: if drifting { rng.around_zero(self.drift_ppm) as i32 } else { 0 },
            monotonic_ppm: if drifting { rng.around_zero(self.drift_ppm) as i32 } else { 0 },
        });
        let skew = skew.collect();
        Conditions { network, sync_us: narrower(self.sync_us, rng), skew }
    }

    fn faults<O>(&self, nodes: usize, active: SimTime, seed: u64, into: &mut Schedule<O>) {
        let mut victims: Vec<usize> = (0..nodes).collect();
        let mut rng = Rng::stream(seed, "victims", 0);
        rng.shuffle(&mut victims);
        victims.truncate(self.victims);
        for timed in &self.timed {
            let mut rng = Rng::stream(seed, "fault", timed.kind as u64);
            if !rng.chance(self.on) {
                continue;
            }
            let gap = rng.within(timed.gap_us).max(1);
            let mut at = rng.below(gap) + gap / 2;
            while at < active.0 {
                let lasts = rng.within(timed.lasts_us);
                let mut draw = Draw { swarm: self, rng: &mut rng, nodes, at, lasts, gap };
                draw.fault(timed.kind, &victims, into);
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

/// One fault being drawn.
struct Draw<'a> {
    swarm: &'a Swarm,
    rng: &'a mut Rng,
    nodes: usize,
    at: u64,
    lasts: u64,
    gap: u64,
}

impl Draw<'_> {
    fn node(&mut self) -> usize {
        self.rng.below(self.nodes as u64) as usize
    }

    /// Two groups, neither empty.
    fn groups(&mut self) -> (Vec<usize>, Vec<usize>) {
        let mut all: Vec<usize> = (0..self.nodes).collect();
        self.rng.shuffle(&mut all);
        let right = all.split_off(1 + self.rng.below(self.nodes as u64 - 1) as usize);
        (all, right)
    }

    /// Some pairs, at least one.
    fn pairs(&mut self) -> Vec<(usize, usize)> {
        let all = (0..self.nodes).flat_map(|a| (a + 1..self.nodes).map(move |b| (a, b)));
        let mut pairs: Vec<(usize, usize)> = all.collect();
        self.rng.shuffle(&mut pairs);
        pairs.truncate(1 + self.rng.below(pairs.len() as u64) as usize);
        pairs
    }

    fn fault<O>(&mut self, kind: Kind, victims: &[usize], into: &mut Schedule<O>) {
        let pairwise = matches!(
            kind,
            Kind::Partition
                | Kind::OneWayCut
                | Kind::PartialCut
                | Kind::FlappingCut
                | Kind::SlowLink
                | Kind::Reset
        );
        if pairwise && self.nodes < 2 {
            return;
        }
        let at = self.at;
        let mut add = |at: u64, fault| into.push((SimTime(at), Action::Fault(fault)));
        match kind {
            Kind::FlappingCut => {
                let cut = {
                    let (left, right) = self.groups();
                    Fault::split(&left, &right)
                };
                let Fault::Cut { lanes, .. } = cut else { return };
                let (shape, mut from) = (Shape::Flapping, at);
                let period = (self.lasts / (2 + self.rng.below(20))).max(ms(1));
                while from < at + self.lasts {
                    let lasts_us = 1 + self.rng.below(period);
                    add(from, Fault::Cut { shape, lanes: lanes.clone(), lasts_us });
                    from += lasts_us + 1 + self.rng.below(period);
                }
            }
            Kind::OldCopy => {
                let Some(&node) = self.rng.pick(victims) else { return };
                add(at, Fault::KeepCopy { node });
                let later = at + 1 + self.rng.below(self.gap);
                add(later, Fault::RestoreOldCopy { node, down_us: self.lasts });
            }
            Kind::BitRot => {
                let Some(&node) = self.rng.pick(victims) else { return };
                add(at, Fault::BitRot { node, pick: self.rng.next_u64() });
            }
            _ => add(at, self.simple(kind)),
        }
    }

    /// The kinds that are one fault each.
    fn simple(&mut self, kind: Kind) -> Fault {
        let (lasts_us, drift_ppm) = (self.lasts, self.swarm.drift_ppm);
        match kind {
            Kind::OneWayCut => {
                let (from, to) = self.groups();
                Fault::one_way(&from, &to).lasting(lasts_us)
            }
            Kind::PartialCut => Fault::cut_pairs(&self.pairs()).lasting(lasts_us),
            Kind::SlowLink => {
                let lanes = self.pairs().into_iter().flat_map(|(a, b)| [(a, b), (b, a)]).collect();
                Fault::SlowLink { lanes, factor: 2 + self.rng.below(50) as u32, lasts_us }
            }
            Kind::Reset => {
                let (a, b) = self.pairs()[0];
                Fault::Reset { a, b }
            }
            Kind::Crash => {
                let within_us = self.rng.below(secs(1));
                let unsynced = self.rng.chance(Ratio::new(9, 10));
                let when = if unsynced { When::Unsynced { within_us } } else { When::Now };
                Fault::Crash { node: self.node(), when, loses: Loses::Drawn, down_us: lasts_us }
            }
            Kind::Pause => Fault::Pause { node: self.node(), lasts_us },
            Kind::SlowNode => {
                let step_us = 10 + self.rng.below(ms(5));
                Fault::SlowNode { node: self.node(), step_us, lasts_us }
            }
            Kind::SlowDisk => {
                let factor = 2 + self.rng.below(50) as u32;
                Fault::SlowDisk { node: self.node(), factor, lasts_us }
            }
            Kind::FullDisk => Fault::FullDisk { node: self.node(), lasts_us },
            Kind::WallJump => {
                let by_us = self.rng.around_zero(self.swarm.jump_us);
                Fault::WallJump { node: self.node(), by_us }
            }
            Kind::Drift => Fault::Drift {
                node: self.node(),
                wall_ppm: self.rng.around_zero(drift_ppm) as i32,
                monotonic_ppm: self.rng.around_zero(drift_ppm) as i32,
                lasts_us,
            },
            Kind::Partition | Kind::FlappingCut | Kind::OldCopy | Kind::BitRot => {
                let (left, right) = self.groups();
                Fault::split(&left, &right).lasting(lasts_us)
            }
        }
    }
}

/// What a scenario asks for; [`Plan::draw`] makes a [`Run`] of it for a seed.
#[derive(Clone, Debug)]
pub struct Plan<O> {
    /// Which pairs can connect.
    pub topology: Topology,
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
        let conditions = self.swarm.conditions(nodes, &mut Rng::stream(seed, "conditions", 0));
        let mut schedule = self.script.clone();
        self.swarm.faults(nodes, self.active, seed, &mut schedule);
        let ops = system.ops(&mut Rng::stream(seed, "workload", 0), self.active);
        schedule.extend(ops.into_iter().map(|(at, node, op)| (at, Action::Op { node, op })));
        schedule.sort_by_key(|(at, _)| *at);
        Run {
            seed,
            topology: self.topology.clone(),
            conditions,
            schedule,
            active: self.active,
            settle_us: self.settle_us,
            poll_us: self.poll_us,
            heal_clocks: self.heal_clocks,
            steps_max: self.steps_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn names(swarm: &Swarm, seed: u64) -> BTreeMap<&'static str, u32> {
        let mut schedule: Schedule<()> = Vec::new();
        swarm.faults(5, SimTime::secs(30), seed, &mut schedule);
        let mut names = BTreeMap::new();
        for (at, action) in schedule {
            assert!(at < SimTime::secs(60));
            if let Action::Fault(fault) = action {
                *names.entry(fault.name()).or_default() += 1;
            }
        }
        names
    }

    #[test]
    fn each_seed_leaves_whole_kinds_out_and_every_kind_comes_in_some() {
        let gap = Span::only(secs(1));
        let swarm = Swarm::default().with(Kind::OldCopy, gap, gap).with(Kind::BitRot, gap, gap);
        let seeds: Vec<_> = (0..50).map(|seed| names(&swarm, seed)).collect();
        let mut all = BTreeMap::new();
        for names in &seeds {
            names.keys().for_each(|name| *all.entry(*name).or_insert(0) += 1);
        }
        assert_eq!(all.len(), 16, "{all:?}");
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
    fn only_so_many_nodes_lose_durable_data() {
        let gap = Span::only(ms(100));
        let swarm = Swarm { on: Ratio::ALWAYS, timed: Vec::new(), ..Swarm::default() };
        let swarm = swarm.with(Kind::OldCopy, gap, gap).with(Kind::BitRot, gap, gap);
        let mut schedule: Schedule<()> = Vec::new();
        swarm.faults(5, SimTime::secs(10), 3, &mut schedule);
        let mut hit: Vec<usize> = schedule
            .iter()
            .filter_map(|(_, action)| match action {
                Action::Fault(Fault::RestoreOldCopy { node, .. } | Fault::BitRot { node, .. }) => {
                    Some(*node)
                }
                _ => None,
            })
            .collect();
        assert!(hit.len() > 50);
        hit.dedup();
        assert_eq!(hit.len(), 1);
    }

    #[test]
    fn the_calm_swarm_has_no_faults() {
        let swarm = Swarm::calm();
        assert!(names(&swarm, 1).is_empty());
        let conditions = swarm.conditions(3, &mut Rng::new(1));
        assert_eq!(conditions.network.loss, Ratio::NEVER);
        assert!(conditions.skew.iter().all(|skew| *skew == Skew::default()));
    }
}
