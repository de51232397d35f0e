//! What goes wrong around a cluster, by name. Each seed may also make nodes die with writes pending, change
//! members meanwhile, and let clocks drift within the bound.

use quorate_core::cluster::Seat;
use quorate_sim::{
    Action, Fault, Loses, NetworkConditions, Plan, Ratio, Rng, SimTime, Span, When, ms, secs,
};

use super::{Coordination, Errand, Wish};
use crate::catalogue::{Named, scenarios};

pub(crate) static SCENARIOS: [Named; 25] = scenarios! { "cluster", Coordination;
    cluster "everything at once around a cluster of three or five" ["held", "stopped", "unknown", "unavailable", "watched", "covered"];
    cluster_leader_cut "whoever leads the log is cut off, again and again" ["held", "stopped", "unknown"];
    cluster_quorum_loss "all reach only a hub that does not lead" ["held", "stopped"];
    cluster_constrained "the only node that reaches a quorum is behind in its log" ["held", "stopped"];
    cluster_chained "three in a line" ["held"];
    cluster_deaf_leader "whoever leads hears nobody" ["held", "stopped"];
    cluster_mute_leader "nobody hears whoever leads" ["held", "stopped"];
    cluster_flapping_link "one link comes and goes" ["held"];
    cluster_a_fifth_lost "a fifth of all messages is lost" ["held", "released"];
    cluster_last_append "the append of the last write is lost, and nothing follows it" ["quiet write"];
    cluster_restarts "every node dies at once, again and again" ["held", "leading"];
    cluster_members "nodes join, are promoted and leave, and leaders are cut off" ["joined", "left", "held"];
    cluster_far_behind "a node is away until only a snapshot helps" ["covered", "held"];
    cluster_witness "two keep data and one only votes; one of the two is lost" ["held", "watch ended"];
    cluster_full_disks "disks fill up, mostly that of whoever leads" ["held"];
    cluster_slow_disks "disks hang, mostly that of whoever leads" ["held"];
    hand_overs "the log's lead is handed on all the time, and no lease is lost by it" ["held", "stopped"];
    step_downs "holders are asked to give back what they hold all the time" ["held", "stepped down"];
    many_candidates "many want one name, with priorities, and each has its turn" ["held", "released"];
    leases_at_the_bound "clocks drift as far as they may" ["held", "released"];
    leases_beyond_the_bound "clocks drift farther than they may: tokens still protect" ["held", "old token refused"];
    paused_holders "whoever holds is paused, and wakes when it holds no longer" ["held", "lease expired", "old token refused"];
    late_releases "what expired is given back, when another has it" ["held", "lease expired"];
    hung_holders "the applications of a node hang, while its network side goes on" ["held", "zombie"];
    cluster_watchers "watchers across failovers, restarts and compaction" ["watched", "compacted", "listed anew"];
};

/// When faults begin: the cluster stands by then.
const BEGIN_MS: u64 = 2_000;

fn calm(active: u64) -> Plan<Errand> {
    let mut plan = Plan::calm(SimTime::secs(active));
    plan.poll_us = ms(50);
    plan
}

fn at(millis: u64) -> SimTime {
    SimTime::ms(millis)
}

fn others(nodes: usize, but: usize) -> Vec<usize> {
    (0..nodes).filter(|node| *node != but).collect()
}

fn pairs_of(nodes: &[usize]) -> Vec<(usize, usize)> {
    let all = nodes.iter().flat_map(|a| nodes.iter().map(move |b| (*a, *b)));
    all.filter(|(a, b)| a < b).collect()
}

/// Who is made the victim: node 0 leads at first, then mostly the last one, by priority.
fn victim(rng: &mut Rng, nodes: u64, round: u64) -> usize {
    match rng.below(4) {
        0 | 1 if round == 0 => 0,
        0 | 1 => nodes as usize - 1,
        _ => rng.below(nodes) as usize,
    }
}

fn wish(rng: &mut Rng, name: &str) -> Wish {
    Wish {
        name: name.to_owned(),
        priority: rng.below(3) as u8,
        ttl_ms: 700 + rng.below(1_500),
        hold_ms: 300 + rng.below(2_000),
        heartbeat_ms: None,
        late_ms: rng.below(3_000),
    }
}

/// Everybody campaigns for one name, and some for another; two watch.
fn contended(seed: u64, nodes: usize, mut plan: Plan<Errand>) -> Plan<Errand> {
    let mut rng = Rng::stream(seed, "contended", 0);
    for node in 0..nodes {
        let when = at(1_200 + rng.below(400));
        plan = plan.op(when, node, Errand::Campaign(wish(&mut rng, "a")));
        if rng.chance(Ratio::new(1, 3)) {
            plan = plan.op(when, node, Errand::Campaign(wish(&mut rng, "b")));
        }
    }
    for prefix in ["k", "@"] {
        let (node, slow) = (rng.below(nodes as u64) as usize, rng.chance(Ratio::new(1, 2)));
        let from = rng.chance(Ratio::new(1, 2)).then_some(1);
        let watch = Errand::Watch { prefix: prefix.to_owned(), slow, from };
        plan = plan.op(at(1_000 + rng.below(2_000)), node, watch);
    }
    plan
}

/// What a seed does besides: crashes, changes of members, drifting clocks.
fn besides(
    seed: u64,
    mut cluster: Coordination,
    mut plan: Plan<Errand>,
) -> (Coordination, Plan<Errand>) {
    let mut rng = Rng::stream(seed, "besides", 0);
    let nodes = cluster.seats.len() as u64 + 1;
    if seed % 3 == 1 {
        plan = crashes(&mut rng, nodes, plan);
        // A death may come when it is least wanted, so nobody must lead at any time.
        cluster.must_lead_at.clear();
    }
    if seed % 4 == 2 && cluster.must_lead_at.is_empty() {
        plan = changes(&mut rng, nodes, &mut cluster, plan);
    }
    if seed.is_multiple_of(2) {
        plan.swarm.on = Ratio::ALWAYS;
        plan.swarm.drift_ppm = 50_000;
        plan.swarm.network =
            NetworkConditions { latency_us: Span::new(200, 20_000), ..NetworkConditions::CALM };
    }
    (cluster, plan)
}

/// Nodes die as soon as something is written that is not durable yet.
fn crashes(rng: &mut Rng, nodes: u64, mut plan: Plan<Errand>) -> Plan<Errand> {
    plan.swarm.sync_us = Span::new(1_000, 60_000);
    let mut when = BEGIN_MS;
    while when + 1_500 < plan.active.0 / 1_000 {
        let node = rng.below(nodes) as usize;
        let down_us = ms(5 + rng.below(900));
        let within = When::Unsynced { within_us: ms(500) };
        let crash = Fault::Crash { node, when: within, loses: Loses::Unsynced, down_us };
        plan = plan.fault(at(when), crash);
        when += 300 + rng.below(2_500);
    }
    plan
}

/// A member leaves and comes back, again and again; the last step brings everybody back.
fn changes(
    rng: &mut Rng,
    nodes: u64,
    cluster: &mut Coordination,
    mut plan: Plan<Errand>,
) -> Plan<Errand> {
    let mut when = BEGIN_MS;
    while when + 3_000 < plan.active.0 / 1_000 {
        let node = rng.below(nodes) as usize;
        let asked = rng.below(nodes) as usize;
        cluster.leaves.insert(node);
        plan = plan.op(at(when), asked, Errand::Remove(node));
        let seat = if rng.chance(Ratio::new(1, 4)) { Seat::Learner } else { Seat::Voter };
        let asked = (node + 1 + rng.below(nodes - 1) as usize) % nodes as usize;
        let back = when + 300 + rng.below(1_500);
        plan = plan.op(at(back), asked, Errand::Add { node, seat });
        if seat == Seat::Learner {
            plan = plan.op(at(back + 800), asked, Errand::Promote(node));
        }
        when += 1_500 + rng.below(3_000);
    }
    plan
}

/// A cluster of `nodes` with everything that is usual.
fn usual(seed: u64, nodes: usize, plan: Plan<Errand>) -> (Coordination, Plan<Errand>) {
    let mut cluster = Coordination::new(nodes);
    cluster.compact_entries = 40 + seed % 3 * 100;
    besides(seed, cluster, contended(seed, nodes, plan))
}

fn cluster(seed: u64) -> (Coordination, Plan<Errand>) {
    let nodes = 3 + 2 * (seed % 2) as usize;
    let mut plan = Plan::new(SimTime::secs(15));
    plan.poll_us = ms(50);
    let mut cluster = Coordination::new(nodes);
    if seed.is_multiple_of(5) {
        cluster = cluster.with_witness(1);
    }
    (cluster, contended(seed, nodes, plan))
}

fn cluster_leader_cut(seed: u64) -> (Coordination, Plan<Errand>) {
    let nodes = 3 + 2 * (seed % 2) as usize;
    let mut rng = Rng::stream(seed, "cut", 0);
    let mut plan = calm(14);
    for round in 0..4 {
        let victim = victim(&mut rng, nodes as u64, round);
        let when = at(BEGIN_MS + round * 3_000 + rng.below(500));
        let cut = Fault::split(&[victim], &others(nodes, victim));
        plan = plan.fault(when, cut.lasting(ms(400 + rng.below(2_500))));
    }
    let (mut cluster, plan) = usual(seed, nodes, plan);
    cluster.prompt = true;
    (cluster, plan)
}

fn cluster_quorum_loss(seed: u64) -> (Coordination, Plan<Errand>) {
    let mut rng = Rng::stream(seed, "hub", 0);
    let hub = rng.below(5) as usize;
    let cut = Fault::cut_pairs(&pairs_of(&others(5, hub))).lasting(secs(7));
    let mut cluster = Coordination::new(5);
    cluster.must_lead_at = vec![SimTime::secs(9)];
    let plan = contended(seed, 5, calm(11).fault(at(BEGIN_MS + 500), cut));
    besides(seed, cluster, plan)
}

fn cluster_constrained(seed: u64) -> (Coordination, Plan<Errand>) {
    let mut rng = Rng::stream(seed, "behind", 0);
    let behind = victim(&mut rng, 5, 1);
    let rest = others(5, behind);
    let away = Fault::split(&[behind], &rest).lasting(secs(3));
    let hub = Fault::cut_pairs(&pairs_of(&rest)).lasting(secs(7));
    let when = at(BEGIN_MS + 2_950 + rng.below(100));
    let mut cluster = Coordination::new(5);
    cluster.must_lead_at = vec![SimTime::secs(11)];
    let plan = calm(13).fault(at(BEGIN_MS), away).fault(when, hub);
    besides(seed, cluster, contended(seed, 5, plan))
}

fn cluster_chained(seed: u64) -> (Coordination, Plan<Errand>) {
    let mut rng = Rng::stream(seed, "chain", 0);
    let ends = others(3, rng.below(3) as usize);
    let cut = Fault::cut_pairs(&[(ends[0], ends[1])]).lasting(secs(7));
    let mut cluster = Coordination::new(3);
    cluster.must_lead_at = vec![SimTime::secs(8)];
    let plan = calm(11).fault(at(BEGIN_MS), cut);
    besides(seed, cluster, contended(seed, 3, plan))
}

fn one_way(seed: u64, deaf: bool) -> (Coordination, Plan<Errand>) {
    let mut rng = Rng::stream(seed, "one way", 0);
    let (mut plan, mut cluster) = (calm(13), Coordination::new(3));
    for round in 0..2 {
        let victim = victim(&mut rng, 3, round);
        let rest = others(3, victim);
        let cut = match deaf {
            true => Fault::one_way(&rest, &[victim]),
            false => Fault::one_way(&[victim], &rest),
        };
        let when = BEGIN_MS + round * 5_000;
        plan = plan.fault(at(when), cut.lasting(secs(4)));
        cluster.must_lead_at.push(at(when + 3_500));
    }
    besides(seed, cluster, contended(seed, 3, plan))
}

fn cluster_deaf_leader(seed: u64) -> (Coordination, Plan<Errand>) {
    one_way(seed, true)
}

fn cluster_mute_leader(seed: u64) -> (Coordination, Plan<Errand>) {
    one_way(seed, false)
}

fn cluster_flapping_link(seed: u64) -> (Coordination, Plan<Errand>) {
    let mut rng = Rng::stream(seed, "flapping", 0);
    let (victim, mut plan, mut when) = (rng.below(3) as usize, calm(12), BEGIN_MS);
    while when < 11_000 {
        let lasts = 20 + rng.below(600);
        let cut = Fault::cut_pairs(&[(victim, (victim + 1) % 3)]).lasting(ms(lasts));
        plan = plan.fault(at(when), cut);
        when += lasts + rng.below(600);
    }
    usual(seed, 3, plan)
}

fn cluster_a_fifth_lost(seed: u64) -> (Coordination, Plan<Errand>) {
    let nodes = 3 + 2 * (seed % 2) as usize;
    let (cluster, mut plan) = usual(seed, nodes, calm(14));
    plan.swarm.on = Ratio::ALWAYS;
    plan.swarm.network = NetworkConditions { loss: Ratio::new(1, 5), ..NetworkConditions::CALM };
    (cluster, plan)
}

/// Some writes long after each other; what goes out right after each is lost.
fn cluster_last_append(seed: u64) -> (Coordination, Plan<Errand>) {
    let mut rng = Rng::stream(seed, "last append", 0);
    let mut cluster = Coordination::new(3);
    (cluster.ops, cluster.quiet) = (0, true);
    let mut plan = calm(10);
    for round in 0..8 {
        let when = BEGIN_MS + round * 900;
        let put = Errand::Put { key: rng.below(6) as u8, checked: false };
        plan = plan.op(at(when), rng.below(3) as usize, put);
        let lost = Fault::one_way(&[0], &[1, 2]).lasting(ms(20 + rng.below(60)));
        plan = plan.fault(SimTime(when * 1_000 + rng.below(2_000)), lost);
    }
    (cluster, plan)
}

fn cluster_restarts(seed: u64) -> (Coordination, Plan<Errand>) {
    let nodes = 3 + 2 * (seed % 2) as usize;
    let mut rng = Rng::stream(seed, "restarts", 0);
    let mut plan = calm(14);
    for round in 0..3 {
        let when = BEGIN_MS + round * 3_500;
        for node in 0..nodes {
            let crash = Fault::crash(node).lasting(ms(10 + rng.below(900)));
            plan = plan.fault(at(when + rng.below(30)), crash);
        }
    }
    usual(seed, nodes, plan)
}

fn cluster_members(seed: u64) -> (Coordination, Plan<Errand>) {
    let mut rng = Rng::stream(seed, "members", 0);
    let (mut cluster, mut plan) = usual(seed, 5, calm(16));
    cluster.seats.truncate(2);
    for node in [3, 4] {
        let seat = [Seat::Voter, Seat::Learner, Seat::Witness][rng.below(3) as usize];
        cluster.leaves.insert(node);
        let when = BEGIN_MS + rng.below(3_000);
        plan = plan.op(at(when), rng.below(3) as usize, Errand::Add { node, seat });
        let when = when + 1_000 + rng.below(3_000);
        plan = plan.op(at(when), rng.below(3) as usize, Errand::Promote(node));
    }
    plan = changes(&mut rng, 5, &mut cluster, plan);
    for round in 0..3 {
        let victim = victim(&mut rng, 5, round);
        let cut = Fault::split(&[victim], &others(5, victim)).lasting(ms(rng.below(2_000)));
        plan = plan.fault(at(4_000 + round * 3_500 + rng.below(2_000)), cut);
    }
    (cluster, plan)
}

fn cluster_far_behind(seed: u64) -> (Coordination, Plan<Errand>) {
    let mut rng = Rng::stream(seed, "far behind", 0);
    let away = rng.below(3) as usize;
    let fault = match seed % 2 {
        0 => Fault::crash(away).lasting(secs(6)),
        _ => Fault::split(&[away], &others(3, away)).lasting(secs(6)),
    };
    let mut plan = calm(13).fault(at(BEGIN_MS), fault);
    for round in 0..6 {
        let fill = Errand::Fill { count: 30, bytes: 200 };
        let when = at(3_000 + round * 800 + rng.below(500));
        plan = plan.op(when, (away + 1 + rng.below(2) as usize) % 3, fill);
    }
    for _ in 0..3 {
        let cut = Fault::split(&[rng.below(3) as usize], &[away]).lasting(ms(rng.below(900)));
        plan = plan.fault(at(8_000 + rng.below(3_000)), cut);
    }
    let (mut cluster, plan) = usual(seed, 3, plan);
    cluster.compact_entries = 20;
    (cluster, plan)
}

fn cluster_witness(seed: u64) -> (Coordination, Plan<Errand>) {
    let mut rng = Rng::stream(seed, "witness", 0);
    let mut plan = calm(14);
    for round in 0..3 {
        let lost = rng.below(2) as usize;
        let when = at(BEGIN_MS + round * 3_500);
        let fault = match rng.below(2) {
            0 => Fault::crash(lost).lasting(ms(2_000 + rng.below(1_000))),
            _ => Fault::split(&[lost], &others(3, lost)).lasting(ms(2_000 + rng.below(1_000))),
        };
        plan = plan.fault(when, fault);
    }
    let cluster = Coordination::new(3).with_witness(2);
    let watch = Errand::Watch { prefix: "k".to_owned(), slow: false, from: None };
    (cluster, contended(seed, 3, plan.op(at(BEGIN_MS), 2, watch)))
}

fn disks(seed: u64, fault: impl Fn(&mut Rng, usize) -> Fault) -> (Coordination, Plan<Errand>) {
    let mut rng = Rng::stream(seed, "disks", 0);
    let mut plan = calm(14);
    for round in 0..6 {
        let victim = victim(&mut rng, 3, round);
        let when = at(BEGIN_MS + round * 1_900 + rng.below(500));
        plan = plan.fault(when, fault(&mut rng, victim));
    }
    usual(seed, 3, plan)
}

fn cluster_full_disks(seed: u64) -> (Coordination, Plan<Errand>) {
    disks(seed, |rng, node| Fault::FullDisk { node, lasts_us: ms(100 + rng.below(2_500)) })
}

fn cluster_slow_disks(seed: u64) -> (Coordination, Plan<Errand>) {
    disks(seed, |rng, node| {
        let factor = 50 << rng.below(6);
        Fault::SlowDisk { node, factor: factor as u32, lasts_us: ms(100 + rng.below(1_500)) }
    })
}

fn hand_overs(seed: u64) -> (Coordination, Plan<Errand>) {
    let nodes = 3 + 2 * (seed % 2) as usize;
    let mut rng = Rng::stream(seed, "hand over", 0);
    let (mut plan, mut when) = (contended(seed, nodes, calm(12)), BEGIN_MS);
    while when < 11_000 {
        let to = rng.chance(Ratio::new(2, 3)).then(|| rng.below(nodes as u64) as usize);
        let hand_over = Errand::HandOver(to);
        plan = plan.op(at(when), rng.below(nodes as u64) as usize, hand_over);
        when += 300 + rng.below(700);
    }
    plan.swarm.network.latency_us = Span::new(200, 10_000);
    let mut cluster = Coordination::new(nodes);
    (cluster.steadfast, cluster.prompt) = (true, true);
    for (_, action) in &mut plan.script {
        if let Action::Op { op: Errand::Campaign(wish), .. } = action {
            wish.ttl_ms += 1_500;
        }
    }
    (cluster, plan)
}

fn step_downs(seed: u64) -> (Coordination, Plan<Errand>) {
    let mut rng = Rng::stream(seed, "step down", 0);
    let (mut plan, mut when) = (calm(12), BEGIN_MS);
    while when < 11_000 {
        let to = rng.chance(Ratio::new(2, 3)).then(|| rng.below(3) as usize);
        let name = if rng.chance(Ratio::new(2, 3)) { "a" } else { "b" };
        let down = Errand::StepDown { name: name.to_owned(), to };
        plan = plan.op(at(when), rng.below(3) as usize, down);
        when += 50 + rng.below(500);
    }
    usual(seed, 3, plan)
}

fn many_candidates(seed: u64) -> (Coordination, Plan<Errand>) {
    let mut rng = Rng::stream(seed, "many", 0);
    let mut plan = calm(12);
    for n in 0..15 {
        let mut wish = wish(&mut rng, "a");
        (wish.hold_ms, wish.ttl_ms) = (100 + rng.below(400), 2_000);
        let when = at(1_200 + rng.below(6_000));
        plan = plan.op(when, n % 5, Errand::Campaign(wish));
    }
    let mut cluster = Coordination::new(5);
    cluster.steadfast = !(seed % 3 == 1 || seed % 4 == 2);
    besides(seed, cluster, plan)
}

fn leases_at_the_bound(seed: u64) -> (Coordination, Plan<Errand>) {
    let mut plan = contended(seed, 3, calm(15));
    plan.swarm.on = Ratio::ALWAYS;
    plan.swarm.drift_ppm = 50_000;
    plan.swarm.network = NetworkConditions::CALM;
    let mut rng = Rng::stream(seed, "bound", 0);
    let wholly = rng.below(8);
    for node in 0..3 {
        let sign = if wholly >> node & 1 == 0 { 50_000 } else { -50_000 };
        let drift = Fault::Drift { node, wall_ppm: 0, monotonic_ppm: sign, lasts_us: secs(20) };
        plan = plan.fault(at(1_000), drift);
    }
    for round in 0..4 {
        let victim = rng.below(3) as usize;
        let when = at(BEGIN_MS + round * 3_000 + rng.below(500));
        let cut = Fault::split(&[victim], &others(3, victim)).lasting(ms(rng.below(2_900)));
        plan = plan.fault(when, cut);
    }
    (Coordination::new(3), plan)
}

fn leases_beyond_the_bound(seed: u64) -> (Coordination, Plan<Errand>) {
    let (mut cluster, mut plan) = leases_at_the_bound(seed);
    cluster.true_clocks = false;
    plan.swarm.drift_ppm = 400_000;
    let mut rng = Rng::stream(seed, "beyond", 0);
    for node in 0..3 {
        let monotonic_ppm = rng.around_zero(700_000) as i32;
        let drift = Fault::Drift { node, wall_ppm: 0, monotonic_ppm, lasts_us: secs(20) };
        plan = plan.fault(at(1_100), drift);
    }
    (cluster, plan)
}

fn paused_holders(seed: u64) -> (Coordination, Plan<Errand>) {
    let mut rng = Rng::stream(seed, "paused", 0);
    let mut plan = calm(14);
    for round in 0..8 {
        let pause =
            Fault::Pause { node: rng.below(3) as usize, lasts_us: ms(500 + rng.below(3_000)) };
        plan = plan.fault(at(BEGIN_MS + round * 1_400 + rng.below(500)), pause);
    }
    usual(seed, 3, plan)
}

fn late_releases(seed: u64) -> (Coordination, Plan<Errand>) {
    let mut rng = Rng::stream(seed, "late", 0);
    let mut plan = calm(14);
    for round in 0..5 {
        let victim = rng.below(3) as usize;
        let cut = Fault::split(&[victim], &others(3, victim)).lasting(ms(800 + rng.below(1_800)));
        plan = plan.fault(at(BEGIN_MS + round * 2_300), cut);
    }
    let mut cluster = Coordination::new(3);
    cluster.prompt = true;
    for node in 0..3 {
        let mut wish = wish(&mut rng, "a");
        (wish.hold_ms, wish.late_ms) = (5_000, 200 + rng.below(2_500));
        plan = plan.op(at(1_200), node, Errand::Campaign(wish));
    }
    besides(seed, cluster, contended(seed, 3, plan))
}

fn hung_holders(seed: u64) -> (Coordination, Plan<Errand>) {
    let mut rng = Rng::stream(seed, "hung", 0);
    let mut plan = calm(12);
    for node in 0..3 {
        let mut wish = wish(&mut rng, "a");
        wish.heartbeat_ms = Some(300 + rng.below(500));
        plan = plan.op(at(1_200), node, Errand::Campaign(wish));
    }
    for round in 0..6 {
        let when = at(BEGIN_MS + round * 1_500);
        plan = plan.op(when, rng.below(3) as usize, Errand::Hang(200 + rng.below(2_000)));
    }
    besides(seed, Coordination::new(3), plan)
}

fn cluster_watchers(seed: u64) -> (Coordination, Plan<Errand>) {
    let mut rng = Rng::stream(seed, "watchers", 0);
    let (cluster, mut plan) = cluster_leader_cut(seed);
    let nodes = cluster.seats.len() + 1;
    for node in 0..nodes {
        let slow = rng.chance(Ratio::new(1, 2));
        for prefix in ["k", "@", "guarded/"] {
            let from = rng.chance(Ratio::new(1, 3)).then_some(1);
            let watch = Errand::Watch { prefix: prefix.to_owned(), slow, from };
            plan = plan.op(at(BEGIN_MS + rng.below(5_000)), node, watch);
        }
    }
    if seed.is_multiple_of(10) {
        // More than is remembered; who asks for the beginning then is told so.
        let node = rng.below(nodes as u64) as usize;
        plan = plan.op(at(5_000), node, Errand::Fill { count: 40, bytes: 500 * 1024 });
        for prefix in ["k", "@"] {
            let watch = Errand::Watch { prefix: prefix.to_owned(), slow: false, from: Some(1) };
            plan = plan.op(at(9_000), rng.below(nodes as u64) as usize, watch);
        }
    }
    (cluster, plan)
}
