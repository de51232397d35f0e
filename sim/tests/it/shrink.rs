//! Failing runs become as small as they go.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::toys::author::{Authors, Bug};
use quorate_machine::{Cx, Effects, Input, Machine, Never, Time};
use quorate_sim::shrink::Effort;
use quorate_sim::{
    Action, Capsule, Conditions, FailureKind, Fault, HostCx, Loses, Loss, Options, Origin, Plan,
    Rng, Shrunk, SimTime, System, Topology, View, When, many, ms, shrink,
};

fn origin() -> Origin {
    Origin { program: "a test".to_owned(), machine: "one".to_owned() }
}

/// Ticks, and nothing else.
#[derive(Clone)]
struct Clockwork(Option<Time>);

impl Machine for Clockwork {
    type Message = Never;
    type Record = Never;
    type Command = Never;
    type Event = Never;
    fn restore(&mut self, _: Never) {}
    fn handle(&mut self, cx: Cx, _: Input<Self>, _: &mut dyn Effects<Self>) {
        self.0 = Some(cx.now.after_ms(5));
    }
    fn deadline(&self) -> Option<Time> {
        self.0
    }
}

/// Fails once node 2 has died and after that 7 and 9 were done, wherever. What counts of an
/// operation is its last three digits.
#[derive(Clone)]
struct Puzzle {
    nodes: usize,
    died: bool,
    done: BTreeSet<u64>,
    absent: BTreeSet<usize>,
    longest: &'static AtomicU64,
}

impl Puzzle {
    fn new(longest: &'static AtomicU64) -> Puzzle {
        Puzzle { nodes: 5, died: false, done: BTreeSet::new(), absent: BTreeSet::new(), longest }
    }
}

impl System for Puzzle {
    type Machine = Clockwork;
    type Op = u64;

    fn nodes(&self) -> usize {
        self.nodes
    }

    fn boot(&self, node: usize) -> Clockwork {
        assert!(!self.absent.contains(&node), "whoever is left out never starts");
        Clockwork(None)
    }

    fn ops(&self, rng: &mut Rng, active: SimTime) -> Vec<(SimTime, usize, u64)> {
        let mut op = || (SimTime(rng.below(active.0)), rng.below(5) as usize, rng.below(20_000));
        let mut ops: Vec<_> = (0..100).map(|_| op()).collect();
        ops.extend([(SimTime::secs(8), 3, 41_007), (SimTime::ms(9_123), 4, 9)]);
        ops
    }

    fn op(&mut self, node: usize, op: u64, cx: &mut HostCx<'_, Self>) {
        assert!(!self.absent.contains(&node), "nobody is a client of whoever is left out");
        if self.died && (op % 1_000 == 7 || op % 1_000 == 9) {
            self.done.insert(op % 1_000);
        }
        if self.done.len() == 2 {
            cx.fail(format!("7 and 9 at {}", cx.now()));
        }
    }

    fn crashed(&mut self, node: usize, _: Loss, _: &mut HostCx<'_, Self>) {
        self.died |= node == 2;
    }

    fn leave_out(&mut self, node: usize) -> bool {
        self.absent.insert(node);
        node != 4
    }

    fn simpler(&self, op: &u64) -> Vec<u64> {
        if *op < 1_000 { Vec::new() } else { vec![op % 1_000, op - 1_000] }
    }

    fn invariant(&mut self, _: usize, view: &View<'_, Self>) -> Result<(), String> {
        self.longest.fetch_max(view.steps(), Ordering::Relaxed);
        Ok(())
    }
}

static LONGEST: AtomicU64 = AtomicU64::new(0);

/// A million steps and more, if nothing goes wrong.
fn puzzle(_: u64) -> (Puzzle, Plan<u64>) {
    let when = When::Unsynced { within_us: ms(900) };
    let crash = Fault::Crash { node: 2, when, loses: Loses::Drawn, down_us: ms(1_234) };
    let mut plan = Plan::new(SimTime::secs(10)).fault(SimTime::secs(4), crash);
    plan.settle_us = 1_000_000_000;
    plan.poll_us = 1_000_000_000;
    (Puzzle::new(&LONGEST), plan)
}

fn solve(effort: Effort) -> Shrunk<u64> {
    let capsule = Capsule::record(&puzzle, "puzzle", origin(), 3).expect("it fails");
    assert!(capsule.run.schedule.len() > 110, "{capsule}");
    let mut told = Vec::new();
    let shrunk = shrink(&puzzle, &capsule, effort, &mut |progress| told.push(progress));
    let shrunk = shrunk.expect("it fails again");
    assert_eq!(told.last(), Some(&shrunk.progress));
    assert!(told.windows(2).all(|pair| pair[0].tried <= pair[1].tried));
    assert!(told.windows(2).all(|pair| pair[0].elements >= pair[1].elements));
    shrunk
}

#[test]
fn one_crash_and_two_operations_are_left() {
    let Shrunk { capsule, minimal, .. } = solve(Effort::default());
    assert!(minimal);
    let run = &capsule.run;
    let [(_, crash), first, second] = &run.schedule[..] else { panic!("three: {capsule}") };
    let down_us = 0;
    let milder = Fault::Crash { node: 2, when: When::Now, loses: Loses::Nothing, down_us };
    assert_eq!(*crash, Action::Fault(milder));
    let mut ops: Vec<u64> = Vec::new();
    for (_, action) in [first, second] {
        let Action::Op { op, .. } = action else { panic!("an operation: {capsule}") };
        ops.push(*op);
    }
    ops.sort_unstable();
    assert_eq!(ops, [7, 9]);
    assert_eq!(run.conditions, Conditions::calm());
    // Node 2 must be there to die, and one more for an operation if not for both.
    assert!(run.absent.len() >= 2 && !run.absent.contains(&2), "{capsule}");
    assert!(run.schedule.iter().all(|(at, _)| *at <= SimTime::ms(100)), "{capsule}");
    assert_eq!(capsule.failure.kind, FailureKind::Reported);
    // It is a capsule like any other.
    let read: Capsule<u64> = capsule.to_string().parse().expect("what was written");
    let outcome = read.prepare(puzzle(3).0, false).expect("it fits").finish();
    assert_eq!(
        read.judge(&origin(), &outcome).to_string().split(':').next(),
        Some("to the letter")
    );
}

#[test]
fn candidates_that_go_on_and_on_are_given_up() {
    let capsule = Capsule::record(&puzzle, "puzzle", origin(), 3).expect("it fails");
    let _ = solve(Effort::default());
    let most = capsule.failure.step * 2 + 1_000;
    assert!(LONGEST.load(Ordering::Relaxed) <= most + 3);
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let with = |threads| solve(Effort { threads, ..Effort::default() });
    assert_eq!(with(1), with(4));
}

#[test]
fn a_search_that_is_cut_short_has_the_best_so_far() {
    let whole = solve(Effort::default());
    let cut = |threads| solve(Effort { tries_max: 20, threads });
    let short = cut(1);
    assert_eq!(short, cut(4));
    assert_eq!((short.progress.tried, short.minimal), (20, false));
    assert!(short.capsule.run.schedule.len() > whole.capsule.run.schedule.len());
    // And can be gone on with.
    let more = shrink(&puzzle, &short.capsule, Effort::default(), &mut |_| {});
    assert!(more.expect("it fails").capsule.run.schedule.len() == 3);
}

fn authors(seed: u64) -> (Authors, Plan<u64>) {
    let mut plan = Plan::new(SimTime::secs(10));
    plan.topology = Topology::Mesh;
    (Authors::new(3 + (seed % 3) as usize, Bug::SendBeforeDurable), plan)
}

#[test]
fn a_bug_of_a_protocol_becomes_one_crash_between_two_writes() {
    let report = many(&authors, 0..400, Options::default());
    let two = |outcome: &&quorate_sim::Outcome| {
        outcome.result.as_ref().is_err_and(|failure| failure.kind == FailureKind::Panic)
    };
    let seed = report.failures.iter().find(two).expect("a node meets both entries").seed;
    let capsule = Capsule::record(&authors, "authors", origin(), seed).expect("it fails");
    let shrunk = shrink(&authors, &capsule, Effort::default(), &mut |_| {}).expect("it fails");
    let run = &shrunk.capsule.run;
    let ops = run.schedule.iter().filter(|(_, action)| matches!(action, Action::Op { .. })).count();
    assert_eq!((ops, run.schedule.len()), (2, 3), "{}", shrunk.capsule);
    assert!(matches!(run.schedule[1].1, Action::Fault(Fault::Crash { .. })), "{}", shrunk.capsule);
    let (system, _) = authors(seed);
    assert_eq!(run.absent.len(), system.nodes - 2, "a writer and who hears it");
    assert!(shrunk.capsule.failure.reason.contains("two entries have the number"));
}

#[test]
fn what_does_not_fail_as_it_says_is_not_shrunk() {
    let mut capsule = Capsule::record(&puzzle, "puzzle", origin(), 3).expect("it fails");
    capsule.failure.reason = "something else".to_owned();
    let other = shrink(&puzzle, &capsule, Effort::default(), &mut |_| {}).expect_err("it is not");
    assert!(other.to_string().contains("fails in another way: Reported"), "{other}");
    let sound = |seed| {
        let (mut authors, plan) = authors(seed);
        authors.bug = Bug::None;
        (authors, plan)
    };
    let capsule = Capsule { scenario: "sound".to_owned(), ..capsule };
    let mut fine = capsule.clone();
    fine.run.schedule.clear();
    let none = shrink(&sound, &fine, Effort::default(), &mut |_| {}).expect_err("it passes");
    assert!(none.to_string().contains("does not fail"), "{none}");
}
