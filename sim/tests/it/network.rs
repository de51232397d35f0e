//! Faults of the network: what is held, repeated, corrupted, and how far it is.

use std::collections::{BTreeMap, BTreeSet};

use crate::toys::probe::{Told, Watch, sim, sim_with, watch};
use quorate_sim::{
    Conditions, Distribution, Fault, Ratio, Regions, SimTime, Span, Symmetry, ms, secs,
};

fn clog(ms: u64) -> Fault {
    Fault::Clog { lanes: vec![(0, 1)], lasts_us: ms * 1_000 }
}

#[test]
fn a_clogged_lane_holds_everything_and_lets_it_go_in_order() {
    let seen = watch(sim_with(Watch::new(2), vec![(1_000, clog(1_000))], |conditions| {
        conditions.network.latency_us = Span::new(500, 30_000);
    }));
    assert_eq!(seen.heard(0, 1, 1_000..2_000), 0);
    assert!(seen.heard(0, 1, 2_000..2_001) >= 97, "all at once");
    assert!(seen.heard(1, 0, 1_000..2_000) >= 97, "the other way is free");
    let pings = seen.pings(0, 1);
    assert!(pings.is_sorted_by_key(|(_, n)| *n));
    assert_eq!(pings.last().map(|(_, n)| *n), Some(pings.len() as u64 + pings[0].1 - 1), "all");
    assert_eq!(seen.links(1, 0).len(), 1, "and nobody was told");
}

#[test]
fn a_lane_is_clogged_until_its_last_clog_ends_and_what_its_link_outlived_is_lost() {
    let clogs = vec![(1_000, clog(1_000)), (1_500, clog(1_500))];
    let seen = watch(sim(Watch::new(2), clogs));
    assert_eq!(seen.heard(0, 1, 1_000..3_000), 0);
    assert!(seen.heard(0, 1, 3_000..3_001) >= 199);
    let reset = vec![(1_000, clog(2_000)), (1_900, Fault::Reset { a: 0, b: 1 })];
    let seen = watch(sim(Watch::new(2), reset));
    let of_old_link = seen.pings(0, 1).iter().filter(|(_, n)| (105..185).contains(n)).count();
    assert_eq!(of_old_link, 0);
    let heal = vec![(1_000, clog(5_000)), (2_000, Fault::Heal)];
    assert!(watch(sim(Watch::new(2), heal)).heard(0, 1, 2_000..2_001) >= 99, "healing ends it");
}

/// How often each ping was heard, and the longest time between.
fn repeats(seen: &Watch) -> BTreeMap<u64, (u32, u64)> {
    let mut first: BTreeMap<u64, SimTime> = BTreeMap::new();
    let mut repeats: BTreeMap<u64, (u32, u64)> = BTreeMap::new();
    for (at, n) in seen.pings(0, 1) {
        let after = at.0 - first.entry(n).or_insert(at).0;
        let repeat = repeats.entry(n).or_default();
        *repeat = (repeat.0 + 1, repeat.1.max(after));
    }
    repeats
}

#[test]
fn a_replay_arrives_much_later_and_by_default_in_the_same_connection() {
    let replay = |later_links| {
        move |conditions: &mut Conditions| {
            conditions.network.replay = Ratio::new(1, 2);
            conditions.network.replay_after_us = Span::new(secs(2), secs(3));
            conditions.network.replay_later_links = later_links;
        }
    };
    let seen = watch(sim_with(Watch::new(2), vec![], replay(false)));
    let twice = repeats(&seen);
    let again: Vec<_> = twice.values().filter(|(times, _)| *times == 2).collect();
    assert!((250..450).contains(&again.len()), "half of those of 7 s: {}", again.len());
    assert!(again.iter().all(|(_, after)| (secs(2)..=secs(3)).contains(after)));
    let reset = || vec![(5_000, Fault::Reset { a: 0, b: 1 })];
    // Replays of what was sent in the two seconds before the reset come after it.
    let across = |seen: &Watch| {
        let old = repeats(seen).range(305..495).filter(|(_, (times, _))| *times == 2).count();
        let late = seen.pings(0, 1).iter().filter(|(at, _)| *at > SimTime::ms(5_600)).count();
        assert!(late > 390, "it goes on: {late}");
        old
    };
    assert_eq!(across(&watch(sim_with(Watch::new(2), reset(), replay(false)))), 0);
    assert!(across(&watch(sim_with(Watch::new(2), reset(), replay(true)))) > 60);
}

#[test]
fn no_replay_arrives_once_the_faults_have_stopped() {
    let mut sim = sim_with(Watch { converges: false, ..Watch::new(2) }, vec![], |conditions| {
        conditions.network.replay = Ratio::ALWAYS;
        conditions.network.replay_after_us = Span::only(secs(2));
    });
    sim.advance(SimTime::secs(15));
    let mut heard = BTreeSet::new();
    for (at, n) in sim.system.pings(0, 1) {
        assert!(heard.insert(n) || at <= SimTime::secs(10), "ping {n} is heard again at {at}");
    }
    assert!(heard.len() > 1_400);
}

#[test]
fn a_corrupt_message_is_lost_with_its_link_or_reaches_the_machine_changed() {
    let corrupt = |conditions: &mut Conditions| {
        conditions.network.corrupt = Ratio::per_mille(5);
    };
    let seen = watch(sim_with(Watch::new(2), vec![], corrupt));
    assert!(seen.pings(0, 1).iter().all(|(_, n)| *n < 1_000_000));
    assert!(seen.links(0, 1).len() > 4, "links break: {:?}", seen.links(0, 1));
    let ups = |node, peer| seen.links(node, peer).iter().filter(|link| link.1).count();
    assert_eq!(ups(0, 1), ups(1, 0), "at both ends");
    assert!(seen.heard(0, 1, 1_000..9_900) > 400, "and come back");
    let unchecked = Watch { unchecked: true, ..Watch::new(2) };
    let seen = watch(sim_with(unchecked, vec![], corrupt));
    let changed = seen.pings(0, 1).iter().filter(|(_, n)| *n > 1_000_000).count();
    assert!((1..40).contains(&changed), "{changed}");
    assert_eq!(seen.links(0, 1).len(), 1);
}

#[test]
fn messages_take_as_long_as_the_regions_are_apart() {
    let seen = watch(sim_with(Watch::new(6), vec![], |conditions| {
        conditions.regions = Some(Regions::three_continents(6));
        conditions.network.distribution = Distribution::Exponential;
    }));
    // Nodes 2 and 5 are in Asia, 3 is in America. None of them writes anything.
    let ticked = |(at, node, told): &crate::toys::probe::Seen| {
        (*node == 2 && *told == Told::Ticked).then_some(*at)
    };
    let sent: Vec<SimTime> = seen.seen.iter().filter_map(ticked).collect();
    let took = |to: usize| {
        let pings = seen.pings(2, to).into_iter();
        pings.map(|(at, n)| at.0 - sent[n as usize - 1].0).collect::<Vec<_>>()
    };
    let (far, near) = (took(3), took(5));
    assert!(far.len() > 900 && near.len() > 900);
    assert!(far.iter().all(|us| (50_000..=90_000).contains(us)), "{far:?}");
    assert!(near.iter().all(|us| (500..=2_000).contains(us)), "{near:?}");
    let quick = near.iter().filter(|us| **us < 1_250).count();
    assert!(quick * 10 > near.len() * 9, "fifteen in sixteen are in the nearer half: {quick}");
}

#[test]
fn partitions_follow_their_form() {
    let regions = Regions::three_continents(5);
    let forms = vec![
        (1_000, Fault::isolate(2, 5, Symmetry::Out).lasting(ms(500))),
        (2_000, Fault::majority_ring(&[0, 1, 2, 3, 4]).lasting(ms(500))),
        (3_000, Fault::hub_and_spoke(3, 5).lasting(ms(500))),
        (4_000, regions.isolate(0, Symmetry::Both).lasting(ms(500))),
    ];
    let seen = watch(sim_with(Watch::new(5), forms, |conditions| {
        conditions.network.notice = Ratio::NEVER;
    }));
    let passes: [fn(usize, usize) -> bool; 4] = [
        |from, _| from != 2,
        |from, to| matches!((from + 5 - to) % 5, 1 | 4),
        |from, to| from == 3 || to == 3,
        |from, to| (from % 3 == 0) == (to % 3 == 0),
    ];
    for (form, passes) in (1..).zip(passes) {
        for from in 0..5 {
            for to in (0..5).filter(|&to| to != from) {
                let during = form * 1_000..form * 1_000 + 500;
                let heard = seen.heard(from, to, during) > 0;
                assert_eq!(heard, passes(from, to), "form {form}: {from} to {to}");
                let after = form * 1_000 + 510..form * 1_000 + 990;
                assert!(seen.heard(from, to, after) > 40, "form {form} ends: {from} to {to}");
            }
        }
    }
}
