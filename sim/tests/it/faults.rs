//! Each fault does what it says.

use std::collections::BTreeMap;

use crate::toys::probe::{Ask, Told, Watch, Word, sim, sim_with, watch};
use quorate_sim::{Fault, Loses, Ratio, Sim, SimTime, Span, System, When, ms, secs};

#[test]
fn without_faults_everything_arrives() {
    let seen = watch(sim(Watch::new(2), vec![]));
    assert!(seen.heard(0, 1, 1_000..2_000) >= 99, "a ping every 10 ms");
    assert_eq!(seen.links(0, 1).len(), 1);
    assert!(seen.losses.is_empty());
}

#[test]
fn a_one_way_cut_delivers_one_way() {
    let cut = Fault::one_way(&[0], &[1]).lasting(secs(2));
    let seen = watch(sim_with(Watch::new(2), vec![(1_000, cut)], |conditions| {
        conditions.network.notice = Ratio::NEVER;
    }));
    assert_eq!(seen.heard(0, 1, 1_000..3_000), 0);
    assert!(seen.heard(1, 0, 1_000..3_000) >= 199);
    assert!(seen.heard(0, 1, 3_010..4_000) >= 90, "it heals");
    assert_eq!(seen.links(1, 0).len(), 1, "and nobody was told");
}

#[test]
fn a_split_separates_two_groups_and_a_partial_cut_just_its_pairs() {
    let split = Fault::split(&[0, 1], &[2, 3]).lasting(secs(1));
    let partial = Fault::cut_pairs(&[(0, 1), (2, 3)]).lasting(secs(1));
    let seen = watch(sim(Watch::new(4), vec![(1_000, split), (5_000, partial)]));
    for from in 0..4 {
        for to in (0..4).filter(|&to| to != from) {
            let across = (from < 2) != (to < 2);
            assert_eq!(seen.heard(from, to, 1_000..2_000) == 0, across, "{from} to {to}");
            let cut = matches!((from, to), (0, 1) | (1, 0) | (2, 3) | (3, 2));
            assert_eq!(seen.heard(from, to, 5_000..6_000) == 0, cut, "{from} to {to}");
        }
    }
    assert!(seen.heard(0, 3, 8_500..9_000) > 40, "all is connected again");
}

#[test]
fn an_end_that_notices_a_cut_is_told_down_and_up_again() {
    let cut = Fault::split(&[0], &[1]).lasting(secs(3));
    let seen = watch(sim(Watch::new(2), vec![(1_000, cut)]));
    let [(_, true), (down, false), (up, true)] = seen.links(1, 0)[..] else {
        panic!("up, down, up: {:?}", seen.links(1, 0))
    };
    assert!(down > SimTime::secs(1) && down < SimTime::ms(3_100));
    assert!(up > SimTime::secs(4));
}

#[test]
fn a_crash_takes_only_unsynced_records_and_the_rest_is_restored() {
    let crash = |node| Fault::Crash {
        node,
        when: When::Unsynced { within_us: secs(1) },
        loses: Loses::Drawn,
        down_us: ms(50),
    };
    let faults = (1..40).map(|n| (n * 200, crash(0))).collect();
    let seen = watch(sim(Watch::new(2), faults));
    assert!(seen.losses.len() > 15, "{}", seen.losses.len());
    let mut pending = 0;
    for (at, node, loss) in &seen.losses {
        assert!((loss.durable..=loss.written).contains(&loss.survived));
        pending += u32::from(loss.written > loss.durable);
        let started = seen.starts.iter().find(|start| start.0 > *at && start.1 == *node);
        let (_, _, restored) = started.expect("it starts again");
        assert_eq!(restored.len() as u64, loss.survived);
    }
    assert!(pending * 2 > seen.losses.len() as u32, "crashes fall where writes are pending");
    assert!(seen.losses.iter().any(|(_, _, loss)| loss.survived < loss.written));
    let (_, _, last) = seen.starts.last().expect("starts");
    for (at, _, told) in seen.seen.iter().filter(|(_, node, _)| *node == 0) {
        if let Told::Said(n) = told
            && seen.starts.last().is_some_and(|start| *at < start.0)
        {
            assert!(last.contains(n), "{n} was acknowledged and is lost");
        }
    }
}

#[test]
fn held_effects_never_leave_before_the_sync_and_send_now_does() {
    // The host in `toys` fails the run if a late word or an event is seen too early.
    let slow = |conditions: &mut quorate_sim::Conditions| {
        conditions.sync_us = Span::only(ms(40));
    };
    let mut sim = sim_with(Watch::new(2), vec![], slow);
    sim.advance(SimTime::ms(9_900));
    assert_eq!(sim.failure(), None);
    let said = |told: &Told| matches!(told, Told::Said(_));
    assert!(sim.system.seen.iter().filter(|(_, _, told)| said(told)).count() > 400);
    let to_self = sim.system.id(0);
    let late = |(_, node, told): &&crate::toys::probe::Seen| {
        *node == 0 && matches!(told, Told::Heard(from, Word::Late(_)) if *from == to_self)
    };
    assert!(sim.system.seen.iter().filter(late).count() > 200, "one hears oneself");
    assert!(sim.finish().marks["heard before durable"] > 400);
}

#[test]
fn duplicates_arrive_and_losses_do_not() {
    let twice = watch(sim_with(Watch::new(2), vec![], |conditions| {
        conditions.network.duplicate = Ratio::ALWAYS;
    }));
    assert!(twice.heard(0, 1, 1_000..2_000) > 190);
    let half = watch(sim_with(Watch::new(2), vec![], |conditions| {
        conditions.network.loss = Ratio::new(1, 2);
    }));
    assert!((1..180).contains(&half.heard(0, 1, 1_000..2_000)));
}

#[test]
fn limited_bandwidth_spreads_messages_out() {
    let seen = watch(sim_with(Watch::new(2), vec![], |conditions| {
        conditions.network.bytes_per_ms = 2;
    }));
    // Each direction carries 20 messages of 100 bytes a second, however many are sent.
    let heard = seen.heard(0, 1, 2_000..3_000);
    let to_itself = seen.heard(0, 0, 2_000..3_000);
    assert!((18..=22).contains(&heard), "{heard}");
    assert!(to_itself > 22, "what does not pass the network is not limited: {to_itself}");
}

#[test]
fn a_paused_process_does_nothing_and_then_catches_up() {
    let pause = Fault::Pause { node: 1, lasts_us: secs(1) };
    let seen = watch(sim(Watch::new(2), vec![(1_000, pause)]));
    let active = |from: u64, to: u64| {
        let during = SimTime::ms(from)..SimTime::ms(to);
        seen.seen.iter().filter(|(at, node, _)| *node == 1 && during.contains(at)).count()
    };
    assert_eq!(active(1_000, 2_000), 0);
    assert!(seen.heard(0, 1, 2_000..2_010) >= 99, "the backlog comes at once");
    assert_eq!(seen.links(1, 0).len(), 1, "nothing was lost for it");
}

#[test]
fn a_slow_node_takes_its_time_for_each_step() {
    let slow = Fault::SlowNode { node: 1, step_us: ms(30), lasts_us: secs(2) };
    let seen = watch(sim(Watch::new(2), vec![(1_000, slow)]));
    let steps = seen.heard(0, 1, 1_000..2_000);
    assert!(steps <= 34, "at most one in 30 ms: {steps}");
    assert!(seen.heard(0, 1, 2_000..9_000) > 700, "and none is lost");
}

#[test]
fn a_slow_disk_and_a_slow_link_delay() {
    let disk = Fault::SlowDisk { node: 0, factor: 10_000, lasts_us: secs(2) };
    let link = Fault::SlowLink { lanes: vec![(1, 0)], factor: 500, lasts_us: secs(1) };
    let seen = watch(sim(Watch::new(2), vec![(1_000, disk), (1_000, link)]));
    let said = seen.seen.iter().filter(|(at, node, told)| {
        let during = (SimTime::ms(1_010)..SimTime::ms(2_900)).contains(at);
        during && *node == 0 && matches!(told, Told::Said(_))
    });
    assert_eq!(said.count(), 0, "nothing becomes durable");
    assert_eq!(seen.heard(1, 0, 1_002..1_500), 0, "all is on its way for 500 ms");
}

#[test]
fn a_full_disk_stops_the_process_until_there_is_room() {
    let full = Fault::FullDisk { node: 0, lasts_us: secs(3) };
    let seen = watch(sim(Watch::new(2), vec![(1_000, full)]));
    let said = |from: u64, to: u64| {
        let during = SimTime::ms(from)..SimTime::ms(to);
        let said = |(at, node, told): &&crate::toys::probe::Seen| {
            *node == 0 && during.contains(at) && matches!(told, Told::Said(_))
        };
        seen.seen.iter().filter(said).count()
    };
    assert_eq!(said(1_010, 4_000), 0);
    assert!(said(5_500, 8_000) > 50, "there is room again");
    assert!((2..=4).contains(&seen.losses.len()), "{:?}", seen.losses);
}

#[test]
fn clocks_drift_and_jump() {
    let drift = Fault::Drift { node: 1, wall_ppm: 0, monotonic_ppm: 500_000, lasts_us: secs(4) };
    let jump = Fault::WallJump { node: 0, by_us: -3_600_000_000 };
    let mut sim = sim(Watch::new(2), vec![(1_000, drift), (2_000, jump)]);
    sim.advance(SimTime::ms(1_999));
    let (before, monotonic) = (sim.view().wall(0), sim.view().monotonic(0));
    sim.advance(SimTime::secs(3));
    assert_eq!(before.0 - sim.view().wall(0).0, 3_600_000 - 1_001);
    assert_eq!(sim.view().monotonic(0).since_us(monotonic), 1_001_000);
    let seen = watch(sim);
    let ticks = |node: usize, from: u64, to: u64| {
        let during = SimTime::ms(from)..SimTime::ms(to);
        let tick = |(at, on, told): &&crate::toys::probe::Seen| {
            *on == node && during.contains(at) && *told == Told::Ticked
        };
        seen.seen.iter().filter(tick).count()
    };
    assert!((148..=151).contains(&ticks(1, 2_000, 3_000)), "{}", ticks(1, 2_000, 3_000));
    assert!((99..=101).contains(&ticks(0, 2_000, 3_000)));
    assert!((99..=101).contains(&ticks(1, 6_000, 7_000)), "the drift ends");
}

#[test]
fn an_old_copy_takes_the_node_back_in_time() {
    let faults = vec![
        (2_000, Fault::KeepCopy { node: 0 }),
        (5_000, Fault::RestoreOldCopy { node: 0, down_us: ms(10) }),
    ];
    let seen = watch(sim(Watch::new(2), faults));
    let (at, _, restored) = seen.starts.last().expect("it starts again");
    assert_eq!(*at, SimTime::ms(5_010));
    let newest = restored.iter().max().expect("some records");
    assert!(
        (100..=112).contains(newest),
        "what was written by 2 s, of a record each 17 ms: {newest}"
    );
}

#[test]
fn bit_rot_changes_what_is_restored_and_forgotten_records_are_not() {
    let crash = Fault::crash(0).lasting(ms(10));
    let rot = Fault::BitRot { node: 0, pick: 3 };
    let seen = watch(sim(Watch::new(2), vec![(4_000, rot), (5_000, crash.clone())]));
    let (_, _, restored) = seen.starts.last().expect("it starts again");
    assert_eq!(restored[..5], [0, 2, 4, 1_006, 8]);
    let forgetful = Watch { forget: true, ..Watch::new(2) };
    let seen = watch(sim(forgetful, vec![(5_000, crash)]));
    let (_, _, restored) = seen.starts.last().expect("it starts again");
    assert!(restored.len() <= 2, "all but what was not synced: {restored:?}");
}

#[test]
fn a_host_that_disconnects_takes_the_link_down_at_both_ends() {
    let seen = watch(sim(Watch { closes: Some((1, 0)), ..Watch::new(3) }, vec![]));
    let ups = |node, peer| seen.links(node, peer).iter().map(|link| link.1).collect::<Vec<_>>();
    assert_eq!(ups(1, 0), [true, false, true]);
    assert_eq!(ups(0, 1), [true, false, true]);
    assert_eq!(ups(0, 2), [true]);
}

#[test]
fn a_reset_and_a_crash_end_links_and_they_come_back() {
    let faults =
        vec![(1_000, Fault::Reset { a: 0, b: 1 }), (3_000, Fault::crash(2).lasting(ms(500)))];
    let seen = watch(sim_with(Watch::new(3), faults, |conditions| {
        conditions.network.notice = Ratio::NEVER;
    }));
    let ups = |node, peer| seen.links(node, peer).iter().map(|link| link.1).collect::<Vec<_>>();
    assert_eq!(ups(0, 1), [true, false, true]);
    // Nobody noticed that node 2 was dead: the end comes with the new beginning.
    assert_eq!(ups(0, 2), [true, false, true]);
    let links = seen.links(0, 2);
    assert!(links[1].0 >= SimTime::ms(3_500));
    assert_eq!(seen.heard(2, 0, 3_002..3_500), 0);
}

/// Under every fault at once, each end is told up and down in turn, and nothing arrives outside.
#[test]
fn messages_arrive_only_over_links_that_are_up() {
    let scenario = |_| {
        let mut plan = quorate_sim::Plan::new(SimTime::secs(8));
        plan.swarm.on = Ratio::ALWAYS;
        (Watch::new(4), plan.op(SimTime::secs(1), 0, Ask::Say(1)))
    };
    let mut heard = 0;
    for seed in 0..8 {
        let mut sim = quorate_sim::many::prepare(&scenario, seed, false);
        sim.advance(SimTime::secs(20));
        assert_eq!(sim.failure(), None);
        let watch = &sim.system;
        let mut up: BTreeMap<(usize, usize), bool> = BTreeMap::new();
        let mut crashes = watch.losses.iter().peekable();
        for (at, node, told) in &watch.seen {
            while let Some((_, dead, _)) = crashes.next_if(|loss| loss.0 <= *at) {
                up.retain(|(on, _), _| on != dead);
            }
            match told {
                Told::Link(peer, now_up) => {
                    let peer = sim.view().index(*peer).expect("a node");
                    let before = up.insert((*node, peer), *now_up).unwrap_or(false);
                    assert_ne!(before, *now_up, "seed {seed} node {node} peer {peer} at {at}");
                }
                Told::Heard(from, _) => {
                    let from = sim.view().index(*from).expect("a node");
                    let known = from == *node || up.get(&(*node, from)) == Some(&true);
                    assert!(known, "seed {seed} node {node} heard {from} at {at}");
                    heard += 1;
                }
                Told::Said(_) | Told::Ticked => {}
            }
        }
    }
    assert!(heard > 5_000, "{heard}");
}

#[test]
fn only_the_core_is_healed_when_faults_stop() {
    let faults = vec![(1_000, Fault::crash(2)), (1_000, Fault::split(&[0, 1], &[3]))];
    let core = Some(vec![0, 1, 2]);
    let mut sim: Sim<Watch> = sim(Watch { core, ..Watch::new(4) }, faults);
    sim.advance(SimTime::ms(9_999));
    assert!(!sim.view().running(2));
    let mut after = sim.clone();
    after.advance(SimTime::ms(10_015));
    assert_eq!(after.view().healed(), Some(&[0, 1, 2][..]));
    assert!(!after.view().open(0, 3) && after.view().open(2, 3));
}
