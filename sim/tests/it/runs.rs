//! Runs as wholes: they are determined by their seed, failures are found and named.

use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::toys::author::{Authors, Bug};
use crate::toys::probe::{Ask, Watch, sim};
use quorate_sim::{
    FailureKind, Fault, Options, Plan, SimTime, check_determinism, many, record, run,
};

fn authors(bug: Bug) -> impl Fn(u64) -> (Authors, Plan<u64>) + Sync {
    move |seed| (Authors::new(3 + (seed % 3) as usize, bug), Plan::new(SimTime::secs(10)))
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let scenario = authors(Bug::None);
    let (first, second) = (record(&scenario, 5), record(&scenario, 5));
    assert_eq!(first, second);
    assert!(first.steps > 500);
    assert_eq!(run(&scenario, 5).trace_hash, first.trace_hash, "recording changes nothing");
    assert_ne!(run(&scenario, 6).trace_hash, first.trace_hash);
}

#[test]
fn hash_for_another_process() {
    println!("hash {:016x}", run(&authors(Bug::None), 5).trace_hash);
}

#[test]
fn another_process_gets_the_same_trace() {
    let tests = std::env::current_exe().expect("this program");
    let arguments = ["--exact", "runs::hash_for_another_process", "--nocapture"];
    let output = Command::new(tests).args(arguments).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let here = format!("hash {:016x}", run(&authors(Bug::None), 5).trace_hash);
    assert!(text.contains(&here), "{here} in {text}");
}

#[test]
fn one_different_message_is_another_trace() {
    let say = |n| {
        move |_: u64| {
            let plan = Plan::calm(SimTime::secs(1)).op(SimTime::ms(500), 0, Ask::Say(n));
            (Watch::new(2), plan)
        }
    };
    let (one, two) = (record(&say(1), 1), record(&say(2), 1));
    assert_eq!(one.steps, two.steps);
    assert_ne!(one.trace_hash, two.trace_hash);
    let traces = (one.trace.expect("recorded"), two.trace.expect("recorded"));
    let difference = quorate_sim::trace::first_difference(&traces.0, &traces.1).expect("one");
    assert_eq!(difference.left.expect("an event").detail, "Say(1)");
}

#[test]
fn a_fork_goes_on_as_the_run_does() {
    let mut sim = quorate_sim::many::prepare(&authors(Bug::None), 11, false);
    sim.advance(SimTime::secs(4));
    let fork = sim.clone();
    assert_eq!(sim.finish(), fork.finish());
}

#[test]
fn a_correct_machine_passes_under_every_fault() {
    let report = many(&authors(Bug::None), 0..120, Options::default());
    report.assert_ok(|seed| format!("cargo test -p quorate-sim # seed {seed}"));
    assert_eq!(report.seeds, 120);
    let all = [
        "partition",
        "one-way cut",
        "partial cut",
        "flapping cut",
        "slow link",
        "reset",
        "crash",
        "pause",
        "slow node",
        "slow disk",
        "full disk",
        "wall jump",
        "drift",
        "isolation",
        "uniform partition",
        "majority ring",
        "hub and spoke",
        "clog",
        "crash loop",
        "wall wave",
        "wall steps",
        "corruption",
    ];
    assert!(
        all.iter().all(|name| report.faults.get(name).is_some_and(|&times| times > 10)),
        "{report}"
    );
    assert!(report.unreached(&["write refused by a dead node"]).is_empty());
    assert_eq!(report.unreached(&["a mark that is not there"]), ["a mark that is not there"]);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let options = Options { threads: 1, ..Options::default() };
    let one = many(&authors(Bug::None), 0..24, options);
    assert_eq!(one, many(&authors(Bug::None), 0..24, Options { threads: 3, ..options }));
}

#[test]
fn a_message_sent_before_its_record_is_durable_is_found() {
    let report = many(&authors(Bug::SendBeforeDurable), 0..300, Options::default());
    let first = report.failures.first().expect("within 300 seeds");
    assert_eq!(run(&authors(Bug::SendBeforeDurable), first.seed), *first, "and replayed");
    // Either a node meets both entries of a number, or two nodes keep one each for ever.
    let failures = report.failures.iter().filter_map(|outcome| outcome.result.as_ref().err());
    let panics: Vec<_> = failures.filter(|failure| failure.kind == FailureKind::Panic).collect();
    assert!(panics.iter().any(|panic| panic.reason.contains("two entries have the number")));
    assert!(panics.iter().all(|panic| panic.node.is_some()));
}

#[test]
fn a_cluster_that_never_converges_is_found() {
    let report = many(&authors(Bug::NoRepair), 0..20, Options::default());
    let failure = report.failures[0].result.as_ref().expect_err("it failed");
    assert_eq!(failure.kind, FailureKind::Liveness);
    assert!(failure.reason.contains("other entries"), "{failure}");
}

#[test]
fn a_report_names_the_command_that_replays() {
    let report = many(&authors(Bug::NoRepair), 0..20, Options::default());
    let seed = report.failures[0].seed;
    let text = std::panic::catch_unwind(|| report.assert_ok(|seed| format!("replay-it {seed}")));
    let panic = text.expect_err("it panics");
    let text = panic.downcast_ref::<String>().expect("a message");
    assert!(text.contains(&format!("replay: replay-it {seed}\n")), "{text}");
}

#[test]
fn a_timer_that_never_moves_is_reported() {
    let outcome = sim(Watch { stuck: true, ..Watch::new(2) }, vec![]).finish();
    let failure = outcome.result.expect_err("it failed");
    assert_eq!(failure.kind, FailureKind::Timer);
    assert!(failure.node.is_some() && failure.time < SimTime::ms(50));
}

#[test]
fn a_panic_is_reported_with_its_node() {
    let scenario = |_| {
        let plan = Plan::calm(SimTime::secs(1)).op(SimTime::ms(500), 1, Ask::Panic);
        (Watch::new(2), plan)
    };
    let failure = run(&scenario, 1).result.expect_err("it failed");
    assert_eq!((failure.kind, failure.node), (FailureKind::Panic, Some(1)));
    assert_eq!(failure.time, SimTime::ms(500));
    assert!(failure.reason.starts_with("asked to (") && failure.reason.contains("probe.rs"));
}

#[test]
fn a_run_that_goes_round_in_circles_is_reported() {
    let scenario = |_| {
        let mut plan = Plan::calm(SimTime::secs(100));
        plan.steps_max = 1_000;
        (Watch::new(2), plan)
    };
    let failure = run(&scenario, 1).result.expect_err("it failed");
    assert_eq!((failure.kind, failure.step), (FailureKind::Steps, 1_001));
}

#[test]
fn outside_state_that_leaks_into_a_run_is_named() {
    static LEAK: AtomicU64 = AtomicU64::new(0);
    let scenario = |_| {
        let n = LEAK.fetch_add(1, Ordering::Relaxed);
        (Watch::new(2), Plan::calm(SimTime::secs(1)).op(SimTime::ms(500), 0, Ask::Say(n)))
    };
    let difference = check_determinism(&scenario, 1).expect_err("it leaks");
    assert!(difference.left.expect("an event").detail.starts_with("Say("));
    assert!(check_determinism(&authors(Bug::None), 1).is_ok());
}

#[test]
fn a_fault_taken_out_leaves_the_others_as_they_were() {
    let scenario = |_| (Watch::new(3), Plan::<Ask>::new(SimTime::secs(5)));
    let sim = quorate_sim::many::prepare(&scenario, 3, false);
    let mut run = sim.plan().clone();
    let before = run.schedule.len();
    run.schedule
        .retain(|(_, action)| !matches!(action, quorate_sim::Action::Fault(Fault::Crash { .. })));
    let outcome = quorate_sim::Sim::new(Watch::new(3), run.clone(), false).finish();
    assert_eq!(outcome.result, Ok(()));
    assert!(run.schedule.len() <= before && !outcome.faults.contains_key("crash"));
}

#[test]
fn a_fork_can_be_given_another_future() {
    let mut sim = quorate_sim::many::prepare(&authors(Bug::None), 11, false);
    sim.advance(SimTime::secs(4));
    let (mut reseeded, mut added) = (sim.clone(), sim.clone());
    reseeded.reseed(99);
    let (at, crash) = (SimTime::secs(5), Fault::crash(0).lasting(1_000));
    added.add(at, quorate_sim::Action::Fault(crash));
    let replay = added.plan().clone();
    let (sim, reseeded, added) = (sim.finish(), reseeded.finish(), added.finish());
    assert_eq!([&sim, &reseeded, &added].map(|outcome| &outcome.result), [&Ok(()); 3]);
    assert_ne!(sim.trace_hash, reseeded.trace_hash);
    assert_ne!(sim.trace_hash, added.trace_hash);
    // The extended schedule is the whole truth: a run of it from the start is the same.
    let (system, _) = authors(Bug::None)(11);
    assert_eq!(quorate_sim::Sim::new(system, replay, false).finish(), added);
}
