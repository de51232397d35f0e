//! What goes wrong on the disks of meshes.

use quorate_sim::{Fault, Kind, Plan, Rng, SimTime, ms, secs};

use super::{at, mesh, put};
use crate::mesh::{Mesh, Op};

/// Four nodes, one of which will forget what it had made durable.
fn forgetful(seed: u64) -> (Mesh, Plan<Op>, usize) {
    let (mut mesh, mut plan) = mesh(4, Plan::new(at(30)));
    plan.swarm = plan.swarm.without(Kind::Crash).without(Kind::WallJump);
    // Orphans of what was lost for good go when their time is up.
    plan.settle_us = secs(1_500);
    // Half of the hosts can tell that their disk is an old copy; with the others the node may fork
    // its own chain, and the mesh must bear it.
    mesh.suspicious = seed.is_multiple_of(2);
    let victim = (seed / 2 % 4) as usize;
    mesh.expect.cut.extend((!mesh.suspicious).then_some(victim));
    (mesh, plan, victim)
}

/// One node's disk goes back in time, again and again. One only: what two nodes have lost is gone.
pub(super) fn old_copy(seed: u64) -> (Mesh, Plan<Op>) {
    let (mesh, mut plan, victim) = forgetful(seed);
    let mut rng = Rng::stream(seed, "old copy", 0);
    for round in 0..3 {
        let kept = SimTime::ms(6_000 + round * 8_000 + rng.below(3_000));
        let restored = kept.after_us(ms(1_000 + rng.below(4_000)));
        let down_us = ms(100 + rng.below(2_000));
        plan = plan
            .fault(kept, Fault::KeepCopy { node: victim })
            .fault(restored, Fault::RestoreOldCopy { node: victim, down_us });
    }
    (mesh, plan)
}

/// A disk says that syncs are done that are not, and the next crash shows it.
pub(super) fn lying_sync(seed: u64) -> (Mesh, Plan<Op>) {
    let (mesh, mut plan, victim) = forgetful(seed);
    let mut rng = Rng::stream(seed, "lying sync", 0);
    for round in 0..3 {
        let lies = SimTime::ms(6_000 + round * 8_000 + rng.below(3_000));
        let lasts_us = ms(500 + rng.below(4_000));
        let dies = lies.after_us(lasts_us - rng.below(ms(400)));
        plan = plan
            .fault(lies, Fault::LyingSync { node: victim, lasts_us })
            .fault(dies, Fault::crash(victim).lasting(ms(100 + rng.below(2_000))));
    }
    (mesh, plan)
}

/// The victim's key has written here before, and it must not write over that, however little it knows
/// and however often it is interrupted. Everything has spread before; afterwards only others' crashes
/// are spared.
pub(super) fn wiped(seed: u64) -> (Mesh, Plan<Op>) {
    let (mut mesh, mut plan) = mesh(4, Plan::calm(at(40)));
    mesh.ops = 0;
    let victim = 1 + (seed % 3) as usize;
    let mut rng = Rng::stream(seed, "wiped", 0);
    plan = plan.fault(SimTime::ms(1 + rng.below(10)), Fault::KeepCopy { node: victim });
    for node in 0..4 {
        let count = 1 + rng.below(900) as u32;
        plan = plan.op(SimTime::ms(4_000 + rng.below(4_000)), node, Op::Import(count));
    }
    let (restored, down_us) = (SimTime::secs(16), ms(100 + rng.below(1_000)));
    plan = plan.fault(restored, Fault::RestoreOldCopy { node: victim, down_us });
    for _ in 0..1 + rng.below(3) {
        let when = SimTime::ms(16_200 + rng.below(6_000));
        plan = plan.fault(when, Fault::crash(victim).lasting(ms(50 + rng.below(800))));
    }
    for n in 0..60 {
        let when = SimTime::ms(16_000 + rng.below(10_000));
        plan = plan.op(when, victim, put(&format!("k{}", n % 4), &n.to_string()));
    }
    (mesh, plan)
}

pub(super) fn bit_rot(seed: u64) -> (Mesh, Plan<Op>) {
    damaged(seed, "bit rot", |node, pick| Fault::BitRot { node, pick })
}

pub(super) fn misdirected(seed: u64) -> (Mesh, Plan<Op>) {
    damaged(seed, "misdirected", |node, pick| Fault::MisdirectedWrite { node, pick })
}

/// Only what others hold as well is damaged: everything is written, and has spread, before.
fn damaged(seed: u64, name: &str, fault: fn(usize, u64) -> Fault) -> (Mesh, Plan<Op>) {
    let (mut mesh, mut plan) = mesh(4, Plan::calm(at(40)));
    mesh.ops = 0;
    let victim = (seed % 4) as usize;
    let mut rng = Rng::stream(seed, name, 0);
    for n in 0..40 {
        let when = SimTime::ms(3_000 + rng.below(9_000));
        plan = plan.op(when, rng.below(4) as usize, put(&format!("k{}", n % 6), &n.to_string()));
    }
    for _ in 0..12 {
        let (when, pick) = (SimTime::ms(16_000 + rng.below(6_000)), rng.next_u64());
        plan = plan.fault(when, fault(victim, pick));
    }
    let other = (victim + 1) % 4;
    plan = plan.fault(at(23), Fault::crash(victim).lasting(ms(200)));
    for n in 0..8 {
        let when = SimTime::ms(26_000 + rng.below(9_000));
        plan = plan.op(when, other, put(&format!("k{n}"), "after"));
        plan = plan.op(when, victim, put(&format!("k{n}"), "after, damaged"));
    }
    (mesh, plan)
}

pub(super) fn deep_rot(seed: u64) -> (Mesh, Plan<Op>) {
    let (mut mesh, mut plan) = mesh(3, Plan::calm(at(40)));
    mesh.ops = 0;
    let victim = (seed % 3) as usize;
    let mut rng = Rng::stream(seed, "deep rot", 0);
    plan = plan.op(at(4), (seed / 3 % 3) as usize, Op::Import(2_300));
    for _ in 0..6 {
        let (when, pick) = (SimTime::ms(20_000 + rng.below(3_000)), rng.next_u64());
        plan = plan.fault(when, Fault::BitRot { node: victim, pick });
    }
    plan = plan.fault(at(24), Fault::crash(victim).lasting(ms(200)));
    for n in 0..6 {
        let when = SimTime::ms(26_000 + rng.below(9_000));
        plan = plan.op(when, n % 3, put(&format!("k{n}"), "after"));
    }
    (mesh, plan)
}
