//! What goes wrong among voters, by name: the partial partitions of the Omni-Paxos paper, and the
//! faults that cluster libraries are known to fall over.

use quorate_sim::{
    Fault, Kind, Loses, NetworkConditions, Plan, Ratio, Rng, SimTime, Span, When, ms, secs,
};

use crate::catalogue::{Named, scenarios};
use crate::voters::{Act, Voters};

pub(crate) static SCENARIOS: [Named; 26] = scenarios! { "voters", Voters;
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
    stalled_disk "the disk of whoever leads hangs, and nothing else is wrong" ["stopped", "write acknowledged"];
    hung_leader "the application of whoever leads says nothing any more" ["stopped", "write acknowledged"];
    transfers "the lead is handed to a named node, which may be cut off or dead" ["transferred", "transfer given up", "write acknowledged"];
    witness "of two nodes with data one is dead, and then the other; the third keeps none" ["leading", "write acknowledged"];
    far_behind "a node misses so much that it needs a snapshot, and then the leader is cut off" ["snapshot taken", "write acknowledged"];
    drift_within "clocks differ in rate by as much as they may, and leaders are cut off" ["leading", "stopped", "read"];
    drift_beyond "clocks differ by more than that: two may lead, and what is committed stays" ["two lead", "write acknowledged"];
    voters_change_cut "voters come and go while leaders are cut off in every way" ["members changed", "stopped", "write acknowledged"];
    voters_change "voters come and go under all of this" ["write acknowledged", "members changed"];
    untrue_clocks "clocks far beyond their bound, voters that die with a promise pending" ["leading", "write acknowledged", "read"];
    bound_voter "a voter dies again and again between a leader and one who would be" ["leading", "write acknowledged"];
    slow_leader "a leader with a slow disk dies, and who had its entries is cut off" ["leading", "stopped", "write acknowledged"];
    old_entries "entries of an earlier leader reach a quorum before the leader's own" ["leading", "stopped", "following"];
    two_changes "two voters are added at once by a leader that is cut off" ["leading", "refused", "write acknowledged"];
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

/// Nothing but the disk of one node hangs, for some seconds: meanwhile another leads.
fn stalled_disk(seed: u64) -> (Voters, Plan<Act>) {
    let nodes = 3 + 2 * (seed % 2) as usize;
    let (mut plan, mut voters) = (calm(20), Voters::new(nodes));
    for round in 0..3 {
        let (mut rng, node) = drawn(seed * 8 + round, nodes as u64);
        let at = 2_000 + round * 6_000 + rng.below(500);
        let hangs = Fault::SlowDisk { node, factor: 100_000, lasts_us: ms(3_800) };
        plan = plan.fault(SimTime::ms(at), hangs);
        // A sync that began meanwhile hangs for minutes: the process is restarted.
        let again = Fault::crash(node).lasting(ms(100));
        plan = plan.fault(SimTime::ms(at + 4_000), again);
        voters.must_lead_elsewhere.push((SimTime::ms(at + 3_500), node));
    }
    voters.must_lead_elsewhere.reverse();
    voters.ops = 400;
    (voters, plan)
}

/// Applications say that they live, but for one at a time.
fn hung_leader(seed: u64) -> (Voters, Plan<Act>) {
    let nodes = 3 + 2 * (seed % 2) as usize;
    let (mut plan, mut voters) = (calm(20), Voters::new(nodes));
    voters.alive_within_us = Some(ms(400));
    let mut hangs = Vec::new();
    for round in 0..4 {
        let (mut rng, node) = drawn(seed * 8 + round, nodes as u64);
        let at = 2_000 + round * 4_500 + rng.below(500);
        hangs.push((node, at..at + 2_500));
        voters.must_lead_elsewhere.push((SimTime::ms(at + 2_000), node));
    }
    voters.must_lead_elsewhere.reverse();
    for at in (0..22_000).step_by(100) {
        let hung = |node| hangs.iter().any(|(hung, while_)| *hung == node && while_.contains(&at));
        for node in (0..nodes).filter(|node| !hung(*node)) {
            plan = plan.op(SimTime::ms(at), node, Act::Alive);
        }
    }
    (voters, plan)
}

fn transfers(seed: u64) -> (Voters, Plan<Act>) {
    let nodes = 3 + 2 * (seed % 2) as usize;
    let mut plan = calm(20);
    let mut rng = Rng::stream(seed, "transfers", 0);
    for round in 0..16 {
        let (at, to) = (1_500 + round * 1_100 + rng.below(300), rng.below(nodes as u64) as usize);
        for node in 0..nodes {
            plan = plan.op(SimTime::ms(at), node, Act::Transfer(to));
        }
        let soon = SimTime::ms(at - 60 + rng.below(80));
        plan = match rng.below(4) {
            0 => plan.fault(soon, Fault::crash(to).lasting(ms(300))),
            1 => plan.fault(soon, Fault::split(&[to], &others(nodes, to)).lasting(ms(300))),
            2 => plan.fault(soon, Fault::one_way(&others(nodes, to), &[to]).lasting(ms(300))),
            _ => plan,
        };
    }
    let mut voters = Voters::new(nodes);
    voters.ops = 200;
    (voters, plan)
}

/// A witness lets one node with data go on alone; what only these two know, no other may lead over.
fn witness(seed: u64) -> (Voters, Plan<Act>) {
    let mut rng = Rng::stream(seed, "witness", 0);
    let witness = rng.below(3) as usize;
    let mut data = others(3, witness);
    rng.shuffle(&mut data);
    let mut plan = calm(20);
    for round in 0..4 {
        let at = 2_000 + round * 4_000;
        let dead = data[round as usize % 2];
        plan = plan.fault(SimTime::ms(at), Fault::crash(dead).lasting(ms(3_000)));
        // The other dies soon after the first is back, perhaps before it has caught up.
        if round % 2 == 1 {
            let other = data[(round as usize + 1) % 2];
            let soon = SimTime::ms(at + 3_000 + rng.below(60));
            plan = plan.fault(soon, Fault::crash(other).lasting(ms(300 + rng.below(400))));
        }
    }
    let mut voters = Voters::new(3);
    voters.witnesses = vec![witness];
    voters.must_lead_at = Some(SimTime::ms(4_500));
    voters.ops = 300;
    (voters, plan)
}

fn far_behind(seed: u64) -> (Voters, Plan<Act>) {
    let nodes = 3 + 2 * (seed % 2) as usize;
    let mut plan = calm(22);
    for round in 0..3 {
        let (mut rng, behind) = drawn(seed * 8 + round, nodes as u64);
        let at = 1_000 + round * 7_000;
        let away = Fault::split(&[behind], &others(nodes, behind)).lasting(secs(4));
        plan = plan.fault(SimTime::ms(at), away);
        for node in others(nodes, behind) {
            plan = plan.op(SimTime::ms(at + 3_800), node, Act::Compact);
        }
        // Whoever leads is gone while the snapshot is on its way.
        let (_, victim) = drawn(seed * 8 + round + 4, nodes as u64);
        let when = SimTime::ms(at + 4_000 + rng.below(200));
        let gone = Fault::crash(victim).lasting(ms(200 + rng.below(1_500)));
        plan = plan.fault(when, gone);
    }
    let mut voters = Voters::new(nodes);
    voters.ops = 300;
    (voters, plan)
}

/// Every clock runs off by as much as `ppm` at most, and leaders are cut off.
fn drifting(seed: u64, ppm: i32) -> (Voters, Plan<Act>) {
    let (voters, mut plan) = leader_cut(seed);
    let mut rng = Rng::stream(seed, "drift", 0);
    for node in 0..3 + 2 * (seed % 2) as usize {
        let monotonic_ppm = if rng.chance(Ratio::new(1, 2)) { ppm } else { -ppm };
        let drift = Fault::Drift { node, wall_ppm: 0, monotonic_ppm, lasts_us: secs(30) };
        plan = plan.fault(SimTime::ms(100), drift);
    }
    (voters, plan)
}

/// A rate 2.4 % too high and one 2.4 % too low: 5 % between them.
fn drift_within(seed: u64) -> (Voters, Plan<Act>) {
    drifting(seed, 24_300)
}

/// A clock that runs two and a half times as fast as another.
fn drift_beyond(seed: u64) -> (Voters, Plan<Act>) {
    let (mut voters, plan) = drifting(seed, 430_000);
    voters.true_clocks = false;
    voters.prompt = false;
    (voters, plan)
}

/// Members change while the leader is cut off, deaf, mute, or all but a hub is.
fn voters_change_cut(seed: u64) -> (Voters, Plan<Act>) {
    let nodes = 5;
    let mut plan = calm(24);
    let mut rng = Rng::stream(seed, "change and cut", 0);
    for round in 0..7 {
        let (_, victim) = drawn(seed * 8 + round, nodes as u64);
        let rest = others(nodes, victim);
        let spokes: Vec<(usize, usize)> = rest
            .iter()
            .flat_map(|a| rest.iter().map(move |b| (*a, *b)))
            .filter(|(a, b)| a < b)
            .collect();
        let cut = match rng.below(5) {
            0 => Fault::split(&[victim], &rest),
            1 => Fault::one_way(&rest, &[victim]),
            2 => Fault::one_way(&[victim], &rest),
            3 => Fault::cut_pairs(&spokes),
            _ => Fault::cut_pairs(&[(victim, rest[0]), (rest[1], rest[2])]),
        };
        let at = 2_000 + round * 3_000;
        plan = plan.fault(SimTime::ms(at + rng.below(400)), cut.lasting(ms(1_800)));
        for step in 0..4 {
            let mut all: Vec<usize> = (0..nodes).collect();
            rng.shuffle(&mut all);
            all.truncate(3 + rng.below(3) as usize);
            for node in 0..nodes {
                let when = SimTime::ms(at + step * 200);
                plan = plan.op(when, node, Act::Change(all.clone()));
            }
        }
    }
    let mut voters = Voters::new(nodes);
    voters.voting = 3;
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

/// Who plays which part in a round: a leader, a voter between, and one who would lead. Who leads is
/// not known beforehand, so in a third of the rounds it is as meant.
fn parts(rng: &mut Rng) -> [usize; 3] {
    let mut parts = [0, 1, 2];
    rng.shuffle(&mut parts);
    parts
}

fn slow(from: usize, to: usize, factor: u32, lasts_us: u64) -> Fault {
    Fault::SlowLink { lanes: vec![(from, to)], factor, lasts_us }
}

/// The leader's clock is slow, the voter's fast, so the voter promises another while the leader still
/// thinks that it leads. Then the voter dies, and hears the leader first.
fn untrue_clocks(seed: u64) -> (Voters, Plan<Act>) {
    let mut voters = Voters::new(3);
    voters.true_clocks = false;
    voters.ops = 300;
    let mut plan = calm(24);
    plan.heal_clocks = true;
    plan.swarm.sync_us = Span::new(1_000, 40_000);
    let mut rng = Rng::stream(seed, "untrue clocks", 0);
    for round in 0..14 {
        let [leader, voter, other] = parts(&mut rng);
        let (at, length) = (1_000 + round * 1_600, ms(1_000));
        let drift = |node, monotonic_ppm| {
            let (wall_ppm, lasts_us) = (0, length);
            Fault::Drift { node, wall_ppm, monotonic_ppm, lasts_us }
        };
        let apart = ms(150 + rng.below(350));
        let crash_at = at + 100 + rng.below(600);
        let when = When::Unsynced { within_us: ms(100) };
        let crash = Fault::Crash {
            node: voter,
            when,
            loses: Loses::Unsynced,
            down_us: ms(1 + rng.below(9)),
        };
        plan = plan
            .fault(SimTime::ms(at), drift(leader, -500_000))
            .fault(SimTime::ms(at), drift(voter, 800_000))
            .fault(SimTime::ms(at), Fault::cut_pairs(&[(leader, other)]).lasting(length))
            .fault(SimTime::ms(at), slow(other, voter, 8, length))
            .fault(SimTime::ms(at + 50), Fault::cut_pairs(&[(leader, voter)]).lasting(apart))
            .fault(SimTime::ms(crash_at), crash);
    }
    (voters, plan)
}

/// A voter that restarts does not know whom it has just answered.
fn bound_voter(seed: u64) -> (Voters, Plan<Act>) {
    let mut plan = calm(24);
    let mut rng = Rng::stream(seed, "bound voter", 0);
    for round in 0..5 {
        let [leader, voter, other] = parts(&mut rng);
        let (at, length) = (1_000 + round * 4_500, ms(3_500));
        plan = plan
            .fault(SimTime::ms(at), Fault::cut_pairs(&[(leader, other)]).lasting(length))
            .fault(SimTime::ms(at), slow(leader, voter, 10, length));
        let mut crash_at = at + 300;
        while crash_at < at + 3_300 {
            let crash = Fault::crash(voter).lasting(ms(1 + rng.below(5)));
            plan = plan.fault(SimTime::ms(crash_at), crash);
            crash_at += 150 + rng.below(300);
        }
    }
    (Voters::new(3), plan)
}

/// What a follower has and the leader has not yet, durably, is on one disk only.
fn slow_leader(seed: u64) -> (Voters, Plan<Act>) {
    let mut voters = Voters::new(3);
    voters.ops = 300;
    let mut plan = calm(24);
    let mut rng = Rng::stream(seed, "slow leader", 0);
    for round in 0..6 {
        let [leader, follower, other] = parts(&mut rng);
        let at = 1_000 + round * 3_600;
        let crash_at = at + 200 + rng.below(400);
        let apart = ms(crash_at - at);
        let slow_disk = Fault::SlowDisk { node: leader, factor: 60, lasts_us: apart };
        let when = When::Unsynced { within_us: ms(100) };
        let down_us = ms(5 + rng.below(100));
        let crash = Fault::Crash { node: leader, when, loses: Loses::Unsynced, down_us };
        let away = Fault::split(&[follower], &[leader, other]).lasting(ms(1_800));
        plan = plan
            .fault(SimTime::ms(at), slow_disk)
            .fault(SimTime::ms(at), Fault::cut_pairs(&[(leader, other)]).lasting(apart))
            .fault(SimTime::ms(crash_at), crash)
            .fault(SimTime::ms(crash_at + rng.below(40)), away);
    }
    (voters, plan)
}

/// Figure 8 of the Raft paper. The two that led first have several entries more than the others, who
/// elect one that is cut off at once, with an entry of its own. Then the first are back, are followed
/// by the others as far as some of the old entries, and are cut off in turn.
fn old_entries(seed: u64) -> (Voters, Plan<Act>) {
    let mut rng = Rng::stream(seed, "old entries", 0);
    let mut voters = Voters::new(5);
    voters.ops = 0;
    let (first, own, rest) = ([4, 3], 2, [1, 0]);
    let mut plan = calm(12);
    let at = 2_000;
    let apart = Fault::split(&first, &[2, 1, 0]);
    plan = plan.op(SimTime::ms(1_500), 4, Act::Write);
    plan = plan.fault(SimTime::ms(at), apart.clone().lasting(ms(1_200)));
    for node in first {
        plan = plan.op(SimTime::ms(at + 20), node, Act::Big(5));
    }
    let alone = Fault::split(&[own], &others(5, own));
    let (begin, end) = (at + 500 + rng.below(400), at + 1_700 + rng.below(700));
    for node in rest {
        plan = plan.fault(SimTime::ms(at), slow(own, node, 15, ms(begin - at)));
        for leader in first {
            plan = plan.fault(SimTime::ms(at + 1_200), slow(leader, node, 15, ms(2_000)));
        }
    }
    plan = plan
        .fault(SimTime::ms(begin), alone.lasting(ms(end - begin)))
        .fault(SimTime::ms(end), apart.lasting(ms(2_500)));
    for node in 0..5 {
        plan = plan.op(SimTime::ms(8_000), node, Act::Write);
    }
    (voters, plan)
}

/// Two voters more at once, and the majority of the five is not one of the three.
fn two_changes(seed: u64) -> (Voters, Plan<Act>) {
    let mut voters = Voters::new(5);
    voters.voting = 3;
    let mut plan = calm(20);
    let mut rng = Rng::stream(seed, "two changes", 0);
    let leader = if rng.chance(Ratio::new(2, 3)) { 2 } else { rng.below(2) as usize };
    let old = [leader, (leader + 1) % 3, (leader + 2) % 3];
    let at = 2_000 + rng.below(1_000);
    let apart = Fault::split(&old[1..], &[leader, 3, 4]).lasting(secs(4));
    plan = plan.fault(SimTime::ms(at), apart);
    for n in 0..2 {
        let when = SimTime::ms(at + n * rng.below(30));
        plan = plan.op(when, leader, Act::Change((0..5).collect()));
    }
    (voters, plan)
}
