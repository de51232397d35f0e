//! Faults that take what was durable, and the atlas that says of whom.

use std::collections::BTreeSet;

use crate::toys::probe::{Ask, Told, Watch, sim, sim_with, watch};
use quorate_sim::many::prepare;
use quorate_sim::{Atlas, Fault, Kind, Loses, Plan, Ratio, SimTime, Span, Swarm, When, ms, secs};

fn power_cut(node: usize) -> Fault {
    Fault::Crash { node, when: When::Now, loses: Loses::Unsynced, down_us: ms(10) }
}

fn lie(node: usize) -> Fault {
    Fault::LyingSync { node, lasts_us: secs(2) }
}

/// What node 0 said before the time given in milliseconds and had not when it started last.
fn lost(seen: &Watch, before: u64) -> Vec<(SimTime, u64)> {
    let (_, _, restored) = seen.starts.iter().rfind(|start| start.1 == 0).expect("a start");
    let said = seen.seen.iter().filter_map(|(at, node, told)| match told {
        Told::Said(n) if *node == 0 && *at < SimTime::ms(before) => Some((*at, *n)),
        _ => None,
    });
    said.filter(|(_, n)| !restored.contains(n)).collect()
}

#[test]
fn what_a_lying_sync_promised_is_lost_with_the_next_crash() {
    let seen = watch(sim(Watch::new(2), vec![(1_000, lie(0)), (2_000, power_cut(0))]));
    let lost = lost(&seen, 2_000);
    assert!(lost.len() > 25, "{lost:?}");
    assert!(lost.iter().all(|(at, _)| *at >= SimTime::secs(1)), "nothing from before the lie");
    let (_, _, loss) = seen.losses[0];
    assert!(loss.survived < loss.durable);
}

#[test]
fn an_honest_sync_makes_a_lie_true() {
    let seen = watch(sim(Watch::new(2), vec![(1_000, lie(0)), (4_000, power_cut(0))]));
    assert_eq!(lost(&seen, 4_000), []);
    let healed = vec![(1_000, lie(0)), (2_000, Fault::Heal), (2_500, power_cut(0))];
    assert_eq!(lost(&watch(sim(Watch::new(2), healed)), 2_500), []);
}

/// The positions at which a node restored a rotten record at its last start.
fn rotten(seen: &Watch, node: usize) -> BTreeSet<usize> {
    let (_, _, restored) = seen.starts.iter().rfind(|start| start.1 == node).expect("a start");
    let rotten = restored.iter().enumerate().filter(|(_, record)| **record >= 1_000);
    rotten.map(|(position, _)| position).collect()
}

#[test]
fn a_misdirected_write_damages_two_records() {
    let write = Fault::MisdirectedWrite { node: 0, pick: 7 + (5 << 60) };
    let seen = watch(sim(Watch::new(2), vec![(4_000, write), (5_000, power_cut(0))]));
    let hit = rotten(&seen, 0);
    assert_eq!(hit.len(), 2, "{hit:?}");
    // With one record there is no other.
    let write = Fault::MisdirectedWrite { node: 0, pick: 7 };
    let seen = watch(sim(Watch::new(2), vec![(130, write), (133, power_cut(0))]));
    assert_eq!(rotten(&seen, 0), [0].into());
}

#[test]
fn no_record_is_damaged_on_more_nodes_than_the_atlas_says() {
    let mut faults = Vec::new();
    for n in 0..60 {
        for node in 0..2 {
            let pick = n * 1_000_003;
            let at = 3_000 + n * 20;
            faults.push((at, Fault::BitRot { node, pick }));
            faults.push((at, Fault::MisdirectedWrite { node, pick: pick << 20 }));
        }
    }
    faults.extend([(5_000, power_cut(0)), (5_000, power_cut(1))]);
    let atlas = |survivors, whole| Some(Atlas { seed: 9, nodes: 2, survivors, whole });
    let run = |atlas: Option<Atlas>| {
        let seen = watch(sim_with(Watch::new(2), faults.clone(), |conditions| {
            conditions.atlas = atlas;
        }));
        let (left, right) = (rotten(&seen, 0), rotten(&seen, 1));
        (left.len(), right.len(), left.intersection(&right).count())
    };
    let (left, right, both) = run(None);
    assert!(left > 40 && right > 40 && both > 20, "{left} {right} {both}");
    let (left, right, both) = run(atlas(1, 0));
    assert!(left > 15 && right > 15 && both == 0, "{left} {right} {both}");
    let (left, right, both) = run(atlas(1, 1));
    assert!(left.max(right) > 40 && left.min(right) == 0 && both == 0, "{left} {right}");
    assert_eq!(run(atlas(2, 0)), (0, 0, 0));
}

#[test]
fn only_who_may_lose_everything_goes_back_in_time_or_is_lied_to() {
    let atlas = Atlas { seed: 9, nodes: 2, survivors: 1, whole: 1 };
    let victim = atlas.whole_victims()[0];
    for node in 0..2 {
        let back = Fault::RestoreOldCopy { node, down_us: ms(10) };
        let faults = vec![(1_000, Fault::KeepCopy { node }), (2_000, lie(node)), (3_000, back)];
        let mut sim = sim_with(Watch::new(2), faults, |conditions| {
            conditions.atlas = Some(atlas.clone());
        });
        sim.advance(SimTime::secs(4));
        let struck = sim.stop().faults;
        for name in ["old copy restored", "lying sync"] {
            assert_eq!(struck.contains_key(name), node == victim, "{name} at {node}");
        }
    }
}

/// Five nodes write the same log; then everything that destroys strikes as it will.
#[test]
fn of_each_record_so_many_copies_survive_every_fault_of_a_swarm() {
    let scenario = |seed: u64| {
        let mut plan = Plan::calm(SimTime::secs(20));
        let gap = Span::new(ms(50), ms(500));
        let kinds = [Kind::OldCopy, Kind::LyingSync, Kind::BitRot, Kind::MisdirectedWrite];
        let swarm = Swarm { on: Ratio::new(3, 4), ..Swarm::calm() };
        plan.swarm = kinds.into_iter().fold(swarm, |swarm, kind| swarm.with(kind, gap, gap));
        plan.swarm.survivors = seed.is_multiple_of(2).then_some(3);
        for n in 0..200 {
            for node in 0..5 {
                plan = plan.op(SimTime::ms(100 + n * 50), node, Ask::Say(n));
            }
        }
        (Watch { destroyed: true, ..Watch::new(5) }, plan)
    };
    let (mut damaged, mut most_lost) = (0, [0, 0]);
    for seed in 0..24 {
        let mut sim = prepare(&scenario, seed, false);
        sim.advance(SimTime::ms(19_999));
        assert_eq!(sim.failure(), None, "seed {seed}");
        for n in 0..200 {
            let intact = |node: &usize| sim.view().log(*node).get(n) == Some(&n);
            let lost = 5 - (0..5).filter(intact).count();
            damaged += lost;
            most_lost[seed as usize % 2] = lost.max(most_lost[seed as usize % 2]);
        }
    }
    assert_eq!(most_lost, [2, 1], "three copies survive, or all but one");
    assert!(damaged > 2_000, "{damaged}");
}
