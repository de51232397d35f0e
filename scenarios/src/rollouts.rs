//! What goes wrong in rollouts, by name.

use quorate_sim::{Fault, Kind, Loses, Plan, Rng, SimTime, Span, When, ms, secs};

use crate::catalogue::{Named, scenarios};
use crate::fleet::{Act, Expect, Fleet, MAINTAINERS, Release};
use crate::station::{BAD_MANNERS, Manners};

pub(crate) static SCENARIOS: [Named; 19] = scenarios! { "fleet", Fleet;
    fleet "everything at once, to nodes and carriers of all manners" ["run", "reported", "unknown", "succeeded"];
    three_of_five "three of five sign, and it runs" ["quorum", "run", "succeeded"];
    two_then_three "two for one version, then three for a higher one" ["succeeded"];
    wrong_network "signals for another network neither count nor take votes away" ["succeeded"];
    bad_hash "other bytes come than were signed" ["wrong hash", "succeeded"];
    restarts "nodes die with records pending, again and again" ["unknown", "run"];
    split_hashes "two and two for one version with different hashes" ["quorum"];
    replays "old signals come back after new ones, and maintainers propose what is old" ["succeeded"];
    bad_carriers "carriers that withhold, repeat, forge, lose, and replace wrongly" ["succeeded"];
    parted "partitions while the maintainers change their minds" ["run"];
    two_faced "a maintainer signs two things for one moment, here and there" ["quorum"];
    forged_reports "success is claimed in everybody's name" ["succeeded"];
    lost_reports "carriers lose reports during the waves" ["succeeded"];
    broken_release "the release fails wherever it runs" ["failed", "halted"];
    broken_again "a broken artifact comes back under another version" ["failed", "quarantined"];
    taken_back "a release is taken back, and what takes back something else is not followed" ["succeeded"];
    heirs "the maintainers change, once without the new ones' word and once with it" ["maintainers changed", "succeeded"];
    deadline "a reboot whose deadline passes before some hear of it" ["too late", "run"];
    clocks "signals from far ahead and from long ago, and clocks that jump" ["succeeded"];
};

const V1: &str = "1.0.0";
const V2: &str = "2.0.0";

fn calm(active: u64) -> Plan<Act> {
    patient(Plan::calm(SimTime::secs(active)))
}

/// Waves of nodes that take seconds each, and reports that are told again after minutes.
fn patient(mut plan: Plan<Act>) -> Plan<Act> {
    plan.settle_us = secs(400);
    plan.poll_us = ms(1_000);
    plan.heal_clocks = true;
    plan
}

/// A maintainer signs at `at_ms`, by a true clock, and brings it to every carrier.
fn sign(fleet: &Fleet, plan: Plan<Act>, at_ms: u64, who: u8, what: &Release) -> Plan<Act> {
    sign_as_of(fleet, plan, at_ms, who, what, (at_ms / 1_000) as i64)
}

fn sign_as_of(
    fleet: &Fleet,
    plan: Plan<Act>,
    at_ms: u64,
    who: u8,
    what: &Release,
    at_s: i64,
) -> Plan<Act> {
    let act = Act::Sign { maintainer: who, what: what.clone(), at_s };
    let everywhere = |plan: Plan<Act>, carrier| plan.op(SimTime::ms(at_ms), carrier, act.clone());
    fleet.carriers().fold(plan, everywhere)
}

/// Each of `who` signs within some seconds from `at_ms` on.
fn all_sign(
    fleet: &Fleet,
    mut plan: Plan<Act>,
    rng: &mut Rng,
    at_ms: u64,
    who: impl IntoIterator<Item = u8>,
    what: &Release,
) -> Plan<Act> {
    for who in who {
        plan = sign(fleet, plan, at_ms + rng.below(2_000), who, what);
    }
    plan
}

/// Four to eight nodes, a store and a relay.
fn some(seed: u64, name: &str) -> (Fleet, Rng) {
    let mut rng = Rng::stream(seed, name, 0);
    let nodes = 4 + rng.below(5) as usize;
    let mut fleet = Fleet::new(nodes, &[Manners::Store, Manners::Good]);
    fleet.policy.at_a_time = 1 + rng.below(2) as u32;
    fleet.policy.until_percent = if rng.below(2) == 0 { vec![20, 60, 100] } else { vec![50, 100] };
    (fleet, rng)
}

fn bad_manners(rng: &mut Rng) -> Manners {
    BAD_MANNERS[rng.below(BAD_MANNERS.len() as u64) as usize]
}

fn three_of_five(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "three of five");
    let release = Release::new("v1.0.0", 1);
    let plan = all_sign(&fleet, calm(20), &mut rng, 1_000, [0, 2, 4], &release);
    fleet.expect = Expect::Runs(release);
    (fleet, plan)
}

fn two_then_three(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "two then three");
    let (first, second) = (Release::new(V1, 1), Release::new(V2, 2));
    let plan = all_sign(&fleet, calm(20), &mut rng, 1_000, [0, 1], &first);
    let plan = all_sign(&fleet, plan, &mut rng, 6_000, [1, 2, 3], &second);
    fleet.never = vec![first];
    fleet.expect = Expect::Runs(second);
    (fleet, plan)
}

fn wrong_network(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "wrong network");
    let here = Release::new(V1, 1);
    let there = Release { elsewhere: true, ..Release::new(V2, 2) };
    let plan = all_sign(&fleet, calm(25), &mut rng, 1_000, [0, 1], &here);
    let plan = all_sign(&fleet, plan, &mut rng, 8_000, 0..MAINTAINERS, &there);
    let plan = all_sign(&fleet, plan, &mut rng, 15_000, [2], &here);
    fleet.expect = Expect::Runs(here);
    (fleet, plan)
}

fn bad_hash(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "bad hash");
    fleet.tampered.insert(rng.below(fleet.nodes as u64) as usize);
    fleet.policy.enough_percent = 0;
    let release = Release::new(V1, 1);
    let plan = all_sign(&fleet, calm(20), &mut rng, 1_000, [0, 1, 2], &release);
    fleet.expect = Expect::Runs(release);
    (fleet, plan)
}

/// A node dies as soon as something is written that is not durable yet: after each record in turn.
fn restarts(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "restarts");
    fleet.policy.enough_percent = 0;
    fleet.policy.at_a_time = 4;
    let release = Release::new(V1, 1);
    let mut plan = all_sign(&fleet, calm(40), &mut rng, 1_000, [0, 1, 2], &release);
    plan.swarm.sync_us = Span::new(1_000, 60_000);
    for node in 0..fleet.nodes {
        let mut at = 500 + rng.below(3_000);
        while at < 35_000 {
            let when = When::Unsynced { within_us: ms(5_000) };
            let loses = if rng.below(2) == 0 { Loses::Unsynced } else { Loses::Drawn };
            let crash = Fault::Crash { node, when, loses, down_us: ms(5 + rng.below(800)) };
            plan = plan.fault(SimTime::ms(at), crash);
            at += 200 + rng.below(6_000);
        }
        let later = Fault::crash(node).lasting(ms(100 + rng.below(900)));
        plan = plan.fault(SimTime::ms(4_000 + rng.below(8_000)), later);
    }
    fleet.expect = Expect::Through(release);
    (fleet, plan)
}

fn split_hashes(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "split hashes");
    let (one, other) = (Release::new(V1, 1), Release::new(V1, 2));
    let plan = all_sign(&fleet, calm(30), &mut rng, 1_000, [0, 1], &one);
    let plan = all_sign(&fleet, plan, &mut rng, 1_000, [2, 3], &other);
    if seed.is_multiple_of(2) {
        fleet.expect = Expect::Nothing;
        return (fleet, plan);
    }
    let plan = all_sign(&fleet, plan, &mut rng, 12_000, [4], &other);
    fleet.never = vec![one];
    fleet.expect = Expect::Runs(other);
    (fleet, plan)
}

fn replays(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "replays");
    fleet.carriers = vec![Manners::Store, Manners::Repeats, Manners::KeepsOlder];
    let (old, new) = (Release::new(V1, 1), Release::new(V2, 2));
    let again = Release::new("1.5.0", 3);
    let plan = all_sign(&fleet, calm(100), &mut rng, 1_000, [0, 1, 2], &old);
    let plan = all_sign(&fleet, plan, &mut rng, 30_000, [0, 1, 2], &new);
    let plan = all_sign(&fleet, plan, &mut rng, 90_000, 0..MAINTAINERS, &again);
    // They carry these first signals to the carriers once more, late.
    let mut plan = plan;
    for who in 0..3 {
        let at = 95_000 + rng.below(3_000);
        plan = sign_as_of(&fleet, plan, at, who, &old, 1);
    }
    fleet.never = vec![again];
    fleet.expect = Expect::Through(new);
    (fleet, plan)
}

fn bad_carriers(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "bad carriers");
    fleet.carriers = vec![Manners::Store];
    let more = 1 + rng.below(3);
    fleet.carriers.extend((0..more).map(|_| bad_manners(&mut rng)));
    let (first, second) = (Release::new(V1, 1), Release::new(V2, 2));
    let plan = all_sign(&fleet, calm(40), &mut rng, 1_000, [0, 1], &first);
    let plan = all_sign(&fleet, plan, &mut rng, 3_000, 1..MAINTAINERS, &second);
    fleet.never = vec![first];
    fleet.expect = Expect::Runs(second);
    (fleet, plan)
}

/// Who signs what when is drawn; what is signed rises.
fn campaigns(fleet: &mut Fleet, mut plan: Plan<Act>, rng: &mut Rng, until_ms: u64) -> Plan<Act> {
    let mut at = 1_000;
    for hash in 1..=4 {
        let release = Release::new(&format!("{hash}.0.0"), hash);
        let count = 2 + rng.below(4) as u8;
        let first = rng.below(u64::from(MAINTAINERS)) as u8;
        let who: Vec<u8> = (0..count).map(|n| (first + n) % MAINTAINERS).collect();
        plan = all_sign(fleet, plan, rng, at, who, &release);
        at += 2_000 + rng.below(until_ms / 6);
    }
    let last = Release::new("9.0.0", 9);
    plan = all_sign(fleet, plan, rng, until_ms, 0..MAINTAINERS, &last);
    fleet.expect = Expect::Through(last);
    plan
}

fn parted(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "parted");
    fleet.policy.enough_percent = 50;
    let mut plan = campaigns(&mut fleet, calm(60), &mut rng, 50_000);
    let carriers: Vec<usize> = fleet.carriers().collect();
    for _ in 0..12 {
        let some: Vec<usize> = (0..fleet.nodes).filter(|_| rng.below(2) == 0).collect();
        let cut = Fault::split(&some, &carriers).lasting(ms(500 + rng.below(9_000)));
        plan = plan.fault(SimTime::ms(rng.below(58_000)), cut);
    }
    (fleet, plan)
}

fn fleet(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "fleet");
    fleet.carriers.push(bad_manners(&mut rng));
    // Whoever dies in the middle fails, and so does what it is asked for next with that artifact.
    fleet.policy.enough_percent = 0;
    let mut plan = patient(Plan::new(SimTime::secs(60)));
    plan.swarm = plan.swarm.without(Kind::FullDisk);
    let plan = campaigns(&mut fleet, plan, &mut rng, 50_000);
    (fleet, plan)
}

/// One maintainer signs both, for the same second or not; each carrier gets one first, or only one.
fn two_faced(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "two faced");
    let (one, other) = (Release::new(V1, 1), Release::new(V1, 2));
    let mut plan = all_sign(&fleet, calm(40), &mut rng, 1_000, [0, 1], &one);
    plan = all_sign(&fleet, plan, &mut rng, 1_000, [2, 3], &other);
    let [store, relay] = fleet.carriers().collect::<Vec<_>>()[..] else { return (fleet, plan) };
    for (carrier, what) in [(store, &one), (relay, &other), (store, &other), (relay, &one)] {
        let act = Act::Sign { maintainer: 4, what: what.clone(), at_s: 2 };
        plan = plan.op(SimTime::ms(3_000 + rng.below(9_000)), carrier, act);
    }
    fleet.expect = Expect::Anything;
    (fleet, plan)
}

fn forged_reports(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "forged reports");
    fleet.carriers.push(Manners::Forges);
    fleet.policy.failures_max = 0;
    let release = Release::new(V1, 1);
    let mut plan = all_sign(&fleet, calm(40), &mut rng, 1_000, [0, 1, 2], &release);
    for carrier in fleet.carriers() {
        for _ in 0..4 {
            let at = SimTime::ms(rng.below(20_000));
            plan = plan.op(at, carrier, Act::Claim(release.clone()));
        }
    }
    fleet.expect = Expect::Runs(release);
    (fleet, plan)
}

fn lost_reports(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "lost reports");
    fleet.carriers = vec![Manners::Store, Manners::Loses, Manners::Loses];
    let release = Release::new(V1, 1);
    let mut plan = all_sign(&fleet, calm(60), &mut rng, 1_000, [0, 1, 2], &release);
    plan.swarm = Plan::<Act>::new(SimTime::ZERO).swarm;
    plan.swarm.timed.retain(|timed| matches!(timed.kind, Kind::Reset | Kind::Isolation));
    (plan.swarm.wall_offset_us, plan.swarm.drift_ppm) = (0, 0);
    let store = fleet.nodes;
    for _ in 0..4 {
        let nodes: Vec<usize> = (0..fleet.nodes).collect();
        let cut = Fault::split(&nodes, &[store]).lasting(ms(1_000 + rng.below(12_000)));
        plan = plan.fault(SimTime::ms(4_000 + rng.below(50_000)), cut);
    }
    fleet.expect = Expect::Runs(release);
    (fleet, plan)
}

fn broken_release(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "broken release");
    fleet.nodes = 10;
    fleet.policy.enough_percent = 0;
    fleet.policy.failures_max = 1;
    fleet.broken.insert(1);
    let release = Release::new(V1, 1);
    let plan = all_sign(&fleet, calm(30), &mut rng, 1_000, [0, 1, 2], &release);
    fleet.expect = Expect::Halts(release);
    (fleet, plan)
}

fn broken_again(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "broken again");
    fleet.policy.enough_percent = 0;
    fleet.broken.insert(1);
    let (first, again) = (Release::new(V1, 1), Release::new("1.0.1", 1));
    let plan = all_sign(&fleet, calm(120), &mut rng, 1_000, [0, 1, 2], &first);
    let mut plan = all_sign(&fleet, plan, &mut rng, 90_000, [0, 1, 2], &again);
    for node in 0..fleet.nodes {
        let crash = Fault::crash(node).lasting(ms(200 + rng.below(2_000)));
        plan = plan.fault(SimTime::ms(2_000 + rng.below(60_000)), crash);
    }
    fleet.expect = Expect::Through(again);
    (fleet, plan)
}

fn taken_back(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "taken back");
    fleet.policy.at_a_time = 4;
    let (old, new) = (Release::new(V1, 1), Release::new(V2, 2));
    let back_to = |of: &str, hash| {
        let rollback_of = Some(of.to_owned());
        Release { rollback_of, ..Release::new(V1, hash) }
    };
    let (back, wrong) = (back_to(V2, 1), back_to("1.5.0", 3));
    let plan = all_sign(&fleet, calm(170), &mut rng, 1_000, [0, 1, 2], &old);
    let plan = all_sign(&fleet, plan, &mut rng, 50_000, [0, 1, 2], &new);
    let plan = all_sign(&fleet, plan, &mut rng, 100_000, [0, 1, 2], &back);
    let plan = all_sign(&fleet, plan, &mut rng, 150_000, [0, 1, 2], &wrong);
    fleet.never = vec![wrong];
    fleet.expect = Expect::Runs(back);
    (fleet, plan)
}

fn heirs(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "heirs");
    let (coup, release) = (Release::new(V2, 2), Release::new(V1, 1));
    let mut plan = calm(50);
    for node in 0..fleet.nodes {
        // Three of the old ones, one of whom stays; three of the new ones, two of whom were there.
        let at = |from: u64, rng: &mut Rng| SimTime::ms(from + rng.below(3_000));
        plan = plan.op(at(1_000, &mut rng), node, Act::Succeed(vec![0, 1, 3]));
        plan = plan.op(at(10_000, &mut rng), node, Act::Succeed(vec![3, 4, 5, 6]));
        plan = plan.op(at(20_000, &mut rng), node, Act::Succeed(vec![0, 3, 4, 5]));
    }
    let plan = all_sign(&fleet, plan, &mut rng, 30_000, 5..8, &release);
    // Those who are no maintainers any more.
    let plan = all_sign(&fleet, plan, &mut rng, 30_000, 0..3, &coup);
    fleet.never = vec![coup];
    fleet.expect = Expect::Runs(release);
    (fleet, plan)
}

fn deadline(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "deadline");
    fleet.policy.enough_percent = 0;
    fleet.policy.at_a_time = 4;
    let reboot = Release { required_by_s: Some(15), ..Release::new(V1, 1) };
    let mut plan = all_sign(&fleet, calm(40), &mut rng, 1_000, [0, 1, 2], &reboot);
    let late = rng.below(fleet.nodes as u64) as usize;
    let carriers: Vec<usize> = fleet.carriers().collect();
    let cut = Fault::split(&[late], &carriers).lasting(secs(25));
    plan = plan.fault(SimTime::ms(500), cut);
    fleet.expect = Expect::Through(reboot);
    (fleet, plan)
}

fn clocks(seed: u64) -> (Fleet, Plan<Act>) {
    let (mut fleet, mut rng) = some(seed, "clocks");
    fleet.lifetime_s = 7 * 86_400;
    let (release, stale) = (Release::new(V1, 1), Release::new(V2, 2));
    let ahead = Release::new("8.0.0", 8);
    let mut plan = patient(Plan::new(SimTime::secs(60)));
    let mut kinds = plan.swarm.clone();
    let clock = |kind| matches!(kind, Kind::WallJump | Kind::Drift | Kind::WallWave);
    kinds.timed.retain(|timed| clock(timed.kind));
    plan.swarm = kinds;
    // One whose clock is years ahead, and three who signed something a month ago.
    plan = sign_as_of(&fleet, plan, 1_000, 0, &ahead, 3 * 365 * 86_400);
    for who in [1, 2, 3] {
        plan = sign_as_of(&fleet, plan, 1_000 + rng.below(3_000), who, &stale, -30 * 86_400);
    }
    let plan = all_sign(&fleet, plan, &mut rng, 20_000, [0, 1, 2], &release);
    fleet.never = vec![stale, ahead];
    // The old signal of 3 is not taken, and is the last one that it cast.
    fleet.same_votes = false;
    fleet.expect = Expect::Runs(release);
    (fleet, plan)
}
