//! The second phase: a core is healed, nothing else goes on, and the run converges or is excused.

use crate::toys::probe::{Ask, Told, Watch, sim, sim_with};
use quorate_sim::{
    FailureKind, Fault, Loses, Options, Plan, Ratio, Sim, SimTime, When, many, ms, run, secs,
};

fn loops(node: usize) -> Fault {
    Fault::CrashLoop { node, times: 100, up_us: ms(150), down_us: ms(50) }
}

fn seen_at(sim: &Sim<Watch>, node: usize, from: u64) -> usize {
    let seen = sim.system.seen.iter();
    seen.filter(|(at, on, _)| *on == node && *at >= SimTime::ms(from)).count()
}

/// Three nodes are the core; of the others one is paused, one dies again and again, one is about
/// to be struck, and one is held by a clog. All faults begin late and would go on for long.
#[test]
fn while_the_core_is_healed_the_other_faults_freeze() {
    let ambush = Fault::Crash {
        node: 5,
        when: When::Unsynced { within_us: secs(3) },
        loses: Loses::Drawn,
        down_us: ms(10),
    };
    let within = |node| vec![(0, node), (node, 0)];
    let faults = vec![
        (9_000, Fault::Pause { node: 3, lasts_us: secs(5) }),
        (9_000, loops(4)),
        (9_900, ambush),
        (9_000, Fault::Clog { lanes: vec![(0, 6), (0, 1)], lasts_us: secs(4) }),
        (
            9_000,
            Fault::Cut { shape: quorate_sim::Shape::Partial, lanes: within(5), lasts_us: secs(4) },
        ),
        (9_000, Fault::LyingSync { node: 1, lasts_us: secs(5) }),
        (9_000, loops(2)),
        (12_000, Fault::crash(1).lasting(ms(10))),
    ];
    let core = Some(vec![0, 1, 2]);
    let mut sim =
        sim_with(Watch { core, converges: false, ..Watch::new(7) }, faults, |conditions| {
            conditions.network.loss = Ratio::new(1, 3);
            conditions.network.corrupt = Ratio::per_mille(1);
            conditions.network.notice = Ratio::NEVER;
        });
    sim.advance(SimTime::secs(10));
    let deaths = |sim: &Sim<Watch>| (0..7).map(|node| sim.view().deaths(node)).collect::<Vec<_>>();
    let before = deaths(&sim);
    assert!(before[4] >= 4 && before[2] >= 4, "{before:?}");
    sim.advance(SimTime::secs(18));
    assert_eq!(deaths(&sim), before, "nobody dies any more");
    assert_eq!(sim.failure(), None);
    assert_eq!(seen_at(&sim, 3, 10_000), 0, "the paused one stays paused");
    assert!(sim.view().running(5) && seen_at(&sim, 5, 17_000) > 90, "and who ran runs on");
    assert_eq!(sim.system.heard(0, 6, 10_000..18_000), 0, "what was held stays held");
    assert!(!sim.view().open(0, 5) && !sim.view().open(5, 0), "what was cut stays cut");
    for (from, to) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
        let heard = sim.system.heard(from, to, 13_000..18_000);
        assert_eq!(heard, 500, "the core is whole, and nothing is lost: {from} to {to}");
    }
    let outcome = sim.stop();
    let on_their_way = outcome.sent - outcome.delivered - outcome.dropped;
    assert!(on_their_way < 1_500, "what nobody will ever take is not kept: {on_their_way}");
}

#[test]
fn a_crash_loop_dies_so_many_times_and_a_healing_ends_it() {
    let brief = Fault::CrashLoop { node: 0, times: 4, up_us: ms(150), down_us: ms(50) };
    let mut sim = sim(Watch::new(2), vec![(1_000, brief), (3_000, loops(1)), (4_000, Fault::Heal)]);
    sim.advance(SimTime::secs(8));
    let deaths = |node: usize| {
        let of = sim.system.losses.iter().filter(|(_, dead, _)| *dead == node);
        of.map(|(at, ..)| at.0 / 1_000).collect::<Vec<_>>()
    };
    assert_eq!(deaths(0), [1_000, 1_200, 1_400, 1_600]);
    assert_eq!(deaths(1), [3_000, 3_200, 3_400, 3_600, 3_800]);
    assert!(sim.view().running(0) && sim.view().running(1));
    // A crash of another cause ends a loop: the process that starts then is not in it.
    let crash = Fault::crash(0).lasting(ms(500));
    let mut sim = sim_with(Watch::new(2), vec![(1_000, loops(0)), (1_300, crash)], |_| {});
    sim.advance(SimTime::secs(8));
    assert_eq!(sim.view().deaths(0), 3);
}

#[test]
fn a_run_that_does_not_converge_may_be_excused_and_is_counted() {
    let scenario = |seed: u64| {
        let reason = ["the quorum is lost", "too many copies are damaged"][seed as usize % 2];
        let excuse = (seed < 5).then(|| reason.to_owned());
        let mut plan: Plan<Ask> = Plan::calm(SimTime::secs(1));
        plan.settle_us = secs(2);
        (Watch { converges: seed >= 8, excuse, ..Watch::new(2) }, plan)
    };
    let report = many(&scenario, 0..10, Options::default());
    let failed: Vec<u64> = report.failures.iter().map(|outcome| outcome.seed).collect();
    assert_eq!(failed, [5, 6, 7], "those that have no excuse");
    let failure = report.failures[0].result.as_ref().expect_err("it failed");
    assert_eq!(failure.kind, FailureKind::Liveness);
    let excused: Vec<_> = report.excused.iter().map(|(why, seeds)| (&why[..], *seeds)).collect();
    assert_eq!(excused, [("the quorum is lost", 3), ("too many copies are damaged", 2)]);
    assert!(report.to_string().contains("excused: the quorum is lost: 3 seeds\n"), "{report}");
    let outcome = run(&scenario, 0);
    assert_eq!((outcome.result, outcome.time), (Ok(()), SimTime::secs(3)));
    assert_eq!(run(&scenario, 9).excused, None, "who converges needs no excuse");
}

#[test]
fn waves_of_the_wall_clock_come_and_go() {
    let wave = |form| {
        let wave = quorate_sim::Wave { form, most_us: -600_000, period_us: secs(2) };
        Fault::WallWave { node: 0, wave, lasts_us: secs(3) }
    };
    let faults =
        vec![(1_000, wave(quorate_sim::Form::Triangle)), (5_000, wave(quorate_sim::Form::Square))];
    let mut sim = sim(Watch::new(2), faults);
    let mut error = |at: u64| {
        sim.advance(SimTime::ms(at));
        let view = sim.view();
        view.wall(0).0 as i64 - view.wall(1).0 as i64
    };
    let triangle = [1_000, 1_250, 1_500, 2_000, 2_500, 3_500, 4_000].map(&mut error);
    assert_eq!(triangle, [0, -300, -600, 0, 600, -600, 0], "until it ends");
    let square = [5_000, 5_900, 6_000, 6_900, 7_000, 7_999, 8_000].map(&mut error);
    assert_eq!(square, [-600, -600, 0, 0, -600, -600, 0]);
    let ticks =
        sim.system.seen.iter().filter(|(_, node, told)| *node == 0 && *told == Told::Ticked);
    assert!((798..=801).contains(&ticks.count()), "no timer runs by the wall clock");
}
