//! From a kind of fault to a fault: which nodes, which lanes, how much.

use crate::SimTime;
use crate::atlas::Atlas;
use crate::clock::{Form, Wave};
use crate::cuts::Symmetry;
use crate::disk::Loses;
use crate::latency::Regions;
use crate::prng::{Ratio, Rng};
use crate::schedule::{Action, Fault, Schedule, Shape, When};
use crate::swarm::{Kind, Swarm};
use crate::time::{ms, secs};

/// One fault being drawn.
pub(crate) struct Draw<'a> {
    pub(crate) swarm: &'a Swarm,
    pub(crate) rng: &'a mut Rng,
    pub(crate) nodes: usize,
    pub(crate) regions: Option<&'a Regions>,
    pub(crate) at: u64,
    pub(crate) lasts: u64,
    pub(crate) gap: u64,
}

impl Draw<'_> {
    /// Adds a fault of a kind, or a series of them, to a schedule.
    pub(crate) fn fault<O>(&mut self, kind: Kind, atlas: Option<&Atlas>, into: &mut Schedule<O>) {
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
                let victims = atlas.map(Atlas::whole_victims).unwrap_or_default();
                let Some(&node) = self.rng.pick(&victims) else { return };
                add(at, Fault::KeepCopy { node });
                let later = at + 1 + self.rng.below(self.gap);
                add(later, Fault::RestoreOldCopy { node, down_us: self.lasts });
            }
            Kind::LyingSync => {
                let victims = atlas.map(Atlas::whole_victims).unwrap_or_default();
                let Some(&node) = self.rng.pick(&victims) else { return };
                add(at, Fault::LyingSync { node, lasts_us: self.lasts });
            }
            Kind::BitRot | Kind::MisdirectedWrite => {
                let victims = atlas.map(Atlas::any_victims).unwrap_or_default();
                let Some(&node) = self.rng.pick(&victims) else { return };
                let pick = self.rng.next_u64();
                let rots = kind == Kind::BitRot;
                let misdirected = Fault::MisdirectedWrite { node, pick };
                add(at, if rots { Fault::BitRot { node, pick } } else { misdirected });
            }
            _ if kind.nodes_min() > 1 => add(at, self.between_nodes(kind)),
            _ => add(at, self.at_node(kind)),
        }
    }

    /// A fault of the network.
    fn between_nodes(&mut self, kind: Kind) -> Fault {
        let lasts_us = self.lasts;
        match kind {
            Kind::Partition => {
                let (left, right) = self.groups();
                Fault::split(&left, &right).lasting(lasts_us)
            }
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
            Kind::Clog => {
                let both = self.rng.chance(Ratio::new(1, 2));
                let lanes = self.pairs().into_iter().flat_map(|(a, b)| {
                    let back = both.then_some((b, a));
                    core::iter::once((a, b)).chain(back)
                });
                Fault::Clog { lanes: lanes.collect(), lasts_us }
            }
            _ => self.cut(kind).lasting(lasts_us),
        }
    }

    /// A partition of one of the rarer forms, mostly both ways.
    fn cut(&mut self, kind: Kind) -> Fault {
        let symmetry = match self.rng.below(4) {
            0 => Symmetry::Out,
            1 => Symmetry::In,
            _ => Symmetry::Both,
        };
        match kind {
            Kind::MajorityRing => {
                let mut order: Vec<usize> = (0..self.nodes).collect();
                self.rng.shuffle(&mut order);
                Fault::majority_ring(&order)
            }
            Kind::HubAndSpoke => Fault::hub_and_spoke(self.node(), self.nodes),
            Kind::UniformPartition => {
                // One bit a node, neither all set nor all clear; beyond 62 nodes they repeat.
                let bits = self.nodes.min(62);
                let sides = 1 + self.rng.below((1 << bits) - 2);
                let (left, right): (Vec<usize>, Vec<usize>) =
                    (0..self.nodes).partition(|node| sides >> (node % bits) & 1 == 1);
                Fault::between(Shape::Uniform, &left, &right, symmetry)
            }
            Kind::RegionCut if let Some(regions) = self.regions => {
                regions.isolate(regions.nodes[self.node()], symmetry)
            }
            _ => Fault::isolate(self.node(), self.nodes, symmetry),
        }
    }

    /// A fault of one node: its process, its disk, its clock.
    fn at_node(&mut self, kind: Kind) -> Fault {
        let (lasts_us, drift_ppm) = (self.lasts, self.swarm.drift_ppm);
        match kind {
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
            Kind::CrashLoop => {
                let (times, up_us) = (2 + self.rng.below(6) as u16, self.rng.below(ms(500)));
                let down_us = 1 + self.rng.below(lasts_us.max(1));
                Fault::CrashLoop { node: self.node(), times, up_us, down_us }
            }
            Kind::WallWave => self.wave(Form::Triangle),
            Kind::WallSteps => self.wave(Form::Square),
            _ => unreachable!("{kind:?} is drawn elsewhere"),
        }
    }

    fn wave(&mut self, form: Form) -> Fault {
        let most_us = self.rng.around_zero(self.swarm.jump_us);
        let period_us = (self.lasts / (1 + self.rng.below(8))).max(ms(1));
        let wave = Wave { form, most_us, period_us };
        Fault::WallWave { node: self.node(), wave, lasts_us: self.lasts }
    }

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
}
