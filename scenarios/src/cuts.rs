//! What goes wrong among voters, by name: the partial partitions of the Omni-Paxos paper, and the
//! faults that cluster libraries are known to fall over.

use quorate_sim::{
    Fault, Kind, Loses, NetworkConditions, Plan, Ratio, Rng, SimTime, Span, When, ms, secs,
};

use crate::catalogue::{Named, scenarios};
use crate::voters::{Act, Voters};

pub(crate) static SCENARIOS: [Named; 13] = scenarios! { "voters";
    voters "everything at once among three or five voters" ["stopped", "write acknowledged", "read", "snapshot taken"];
    leader_cut "whoever leads is cut off, again and again" ["leading", "stopped", "write acknowledged"];
    quorum_loss "all reach only a hub that does not lead" ["leading", "stopped"];
    constrained "the only node that reaches a quorum is behind in its log" ["leading", "stopped", "write acknowledged"];
    chained "three in a line" ["write acknowledged"];
    deaf_leader "whoever leads hears nobody" ["leading", "stopped"];
    mute_leader "nobody hears whoever leads" ["leading", "stopped"];
    flapping_link "one link comes and goes" ["write acknowledged"];
    a_fifth_lost "a fifth of all messages is lost, and the ballot stays" ["write acknowledged", "read"];
    crashes "voters die with writes pending, and the leader is cut off" ["leading", "write acknowledged"];
    all_restart "every voter dies at once" ["leading", "write acknowledged"];
    slow_disk "the disk of whoever leads hangs, and then the node is cut off" ["stopped", "write acknowledged", "told before the disk"];
    voters_change "voters come and go under all of this" ["write acknowledged", "members changed"];
};

fn plan(active: u64) -> Plan<Act> {
    let mut plan = Plan::new(SimTime::secs(active));
    plan.swarm.drift_ppm = 20_000;
    plan
}

fn calm(active: u64) -> Plan<Act> {
    Plan::calm(SimTime::secs(active))
}

/// When a drawn node is made the victim: mostly it leads by chance or by priority.
fn drawn(seed: u64, nodes: u64) -> (Rng, usize) {
    let mut rng = Rng::stream(seed, "victim", 0);
    let victim = if rng.chance(Ratio::new(1, 2)) { nodes - 1 } else { rng.below(nodes) };
    (rng, victim as usize)
}

fn others(nodes: usize, but: usize) -> Vec<usize> {
    (0..nodes).filter(|node| *node != but).collect()
}

fn voters(seed: u64) -> (Voters, Plan<Act>) {
    let mut voters = Voters::new(3 + 2 * (seed % 2) as usize);
    voters.prompt = false;
    if seed.is_multiple_of(5) {
        voters.witnesses = vec![0];
    }
    (voters, plan(20))
}

fn leader_cut(seed: u64) -> (Voters, Plan<Act>) {
    let nodes = 3 + 2 * (seed % 2) as usize;
    let mut plan = calm(20);
    for round in 0..5 {
        let (mut rng, victim) = drawn(seed * 8 + round, nodes as u64);
        let at = SimTime::ms(1_000 + round * 3_500 + rng.below(500));
        let cut =
            Fault::split(&[victim], &others(nodes, victim)).lasting(ms(500 + rng.below(2_500)));
        plan = plan.fault(at, cut);
    }
    (Voters::new(nodes), plan)
}

fn quorum_loss(seed: u64) -> (Voters, Plan<Act>) {
    let (_, hub) = drawn(seed, 5);
    let hub = (hub + 1) % 5;
    let spokes = others(5, hub);
    let pairs: Vec<(usize, usize)> = spokes
        .iter()
        .flat_map(|a| spokes.iter().map(move |b| (*a, *b)))
        .filter(|(a, b)| a < b)
        .collect();
    let cut = Fault::cut_pairs(&pairs).lasting(secs(9));
    let mut voters = Voters::new(5);
    voters.must_lead_at = Some(SimTime::secs(10));
    (voters, calm(12).fault(SimTime::secs(2), cut))
}

/// One node misses what the others agree on; then it alone reaches a quorum.
fn constrained(seed: u64) -> (Voters, Plan<Act>) {
    let (mut rng, behind) = drawn(seed, 5);
    let rest = others(5, behind);
    let away = Fault::split(&[behind], &rest).lasting(secs(4));
    let pairs: Vec<(usize, usize)> = rest
        .iter()
        .flat_map(|a| rest.iter().map(move |b| (*a, *b)))
        .filter(|(a, b)| a < b)
        .collect();
    let hub = Fault::cut_pairs(&pairs).lasting(secs(9));
    let at = SimTime::ms(5_950 + rng.below(100));
    let mut voters = Voters::new(5);
    voters.must_lead_at = Some(SimTime::secs(14));
    (voters, calm(16).fault(SimTime::secs(2), away).fault(at, hub))
}

fn chained(seed: u64) -> (Voters, Plan<Act>) {
    let (_, middle) = drawn(seed, 3);
    let ends = others(3, middle);
    let cut = Fault::cut_pairs(&[(ends[0], ends[1])]).lasting(secs(9));
    let mut voters = Voters::new(3);
    voters.must_lead_at = Some(SimTime::secs(10));
    (voters, calm(12).fault(SimTime::secs(2), cut))
}

fn deaf_leader(seed: u64) -> (Voters, Plan<Act>) {
    let (_, victim) = drawn(seed, 3);
    let cut = Fault::one_way(&others(3, victim), &[victim]).lasting(secs(8));
    let mut voters = Voters::new(3);
    voters.must_lead_at = Some(SimTime::secs(9));
    (voters, calm(12).fault(SimTime::secs(2), cut))
}

fn mute_leader(seed: u64) -> (Voters, Plan<Act>) {
    let (_, victim) = drawn(seed, 3);
    let cut = Fault::one_way(&[victim], &others(3, victim)).lasting(secs(8));
    let mut voters = Voters::new(3);
    voters.must_lead_at = Some(SimTime::secs(9));
    (voters, calm(12).fault(SimTime::secs(2), cut))
}

fn flapping_link(seed: u64) -> (Voters, Plan<Act>) {
    let (mut rng, victim) = drawn(seed, 3);
    let mut plan = calm(15);
    let mut at = 1_000;
    while at < 14_000 {
        let lasts = 20 + rng.below(600);
        let cut = Fault::cut_pairs(&[(victim, (victim + 1) % 3)]).lasting(ms(lasts));
        plan = plan.fault(SimTime::ms(at), cut);
        at += lasts + rng.below(600);
    }
    (Voters::new(3), plan)
}

fn a_fifth_lost(seed: u64) -> (Voters, Plan<Act>) {
    let mut plan = calm(20);
    // Loss, and nothing else.
    plan.swarm.on = Ratio::ALWAYS;
    plan.swarm.network = NetworkConditions { loss: Ratio::new(1, 5), ..NetworkConditions::CALM };
    let mut voters = Voters::new(3 + 2 * (seed % 2) as usize);
    voters.steady = Some(SimTime::secs(5));
    (voters, plan)
}

/// Voters die as soon as something is written that is not durable yet, and whoever leads is cut off.
fn crashes(seed: u64) -> (Voters, Plan<Act>) {
    let nodes = 3 + 2 * (seed % 2) as usize;
    let mut plan = calm(20);
    plan.swarm.sync_us = Span::new(1_000, 60_000);
    let mut rng = Rng::stream(seed, "crashes", 0);
    let mut at = 500;
    while at < 19_000 {
        let node = rng.below(nodes as u64) as usize;
        let down_us = ms(5 + rng.below(400));
        let when = When::Unsynced { within_us: ms(500) };
        let crash = Fault::Crash { node, when, loses: Loses::Unsynced, down_us };
        plan = plan.fault(SimTime::ms(at), crash);
        if rng.chance(Ratio::new(1, 4)) {
            let victim = rng.below(nodes as u64) as usize;
            let cut = Fault::split(&[victim], &others(nodes, victim)).lasting(ms(rng.below(900)));
            plan = plan.fault(SimTime::ms(at + rng.below(200)), cut);
        }
        at += 50 + rng.below(500);
    }
    let mut voters = Voters::new(nodes);
    voters.ops = 300;
    (voters, plan)
}

fn all_restart(seed: u64) -> (Voters, Plan<Act>) {
    let nodes = 3 + 2 * (seed % 2) as usize;
    let mut plan = calm(20);
    let mut rng = Rng::stream(seed, "restart", 0);
    for round in 0..4 {
        let at = 2_000 + round * 4_000;
        for node in 0..nodes {
            let when = SimTime::ms(at + rng.below(30));
            plan = plan.fault(when, Fault::crash(node).lasting(ms(10 + rng.below(900))));
        }
    }
    (Voters::new(nodes), plan)
}

/// Writes wait for a disk that hangs when their leader stops to be one.
fn slow_disk(seed: u64) -> (Voters, Plan<Act>) {
    let nodes = 3 + 2 * (seed % 2) as usize;
    let mut plan = calm(20);
    for round in 0..5 {
        let (mut rng, victim) = drawn(seed * 8 + round, nodes as u64);
        let at = 1_000 + round * 3_500 + rng.below(500);
        let hangs =
            Fault::SlowDisk { node: victim, factor: 200, lasts_us: ms(1_000 + rng.below(1_000)) };
        let cut =
            Fault::split(&[victim], &others(nodes, victim)).lasting(ms(500 + rng.below(2_000)));
        plan = plan.fault(SimTime::ms(at), hangs);
        if rng.chance(Ratio::new(3, 4)) {
            plan = plan.fault(SimTime::ms(at + rng.below(300)), cut);
        }
    }
    let mut voters = Voters::new(nodes);
    voters.ops = 300;
    (voters, plan)
}

fn voters_change(seed: u64) -> (Voters, Plan<Act>) {
    let mut voters = Voters::new(5);
    voters.voting = 3;
    voters.prompt = false;
    let mut plan = plan(25);
    plan.swarm = plan.swarm.without(Kind::FullDisk);
    let mut rng = Rng::stream(seed, "change", 0);
    for round in 0..12 {
        let count = 3 + rng.below(3) as usize;
        let mut all: Vec<usize> = (0..5).collect();
        rng.shuffle(&mut all);
        all.truncate(count);
        for node in 0..5 {
            let when = SimTime::ms(2_000 + round * 1_700);
            plan = plan.op(when, node, Act::Change(all.clone()));
            if rng.chance(Ratio::new(1, 4)) {
                plan = plan.op(SimTime::ms(2_800 + round * 1_700), node, Act::HandOver);
            }
        }
    }
    (voters, plan)
}
