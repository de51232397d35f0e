//! Forks from where a mark was reached, against plain seeds with as many machine steps.

use crate::toys::author::{Authors, Bug};
use quorate_machine::{Cx, Effects, Input, Machine, Never, Time};
use quorate_sim::capsule::Verdict;
use quorate_sim::explore::guided::{Options, Progress, compare, guided, plain};
use quorate_sim::shrink::Effort;
use quorate_sim::{Capsule, Fault, HostCx, Origin, Plan, SimTime, System, many, ms, shrink};

/// Climbs a stair by a chance of one in forty each tick, until it falls, by one in eight: it comes
/// one stair further in about one of six runs.
#[derive(Clone)]
struct Climber {
    stair: usize,
    fell: bool,
    due: Option<Time>,
}

const STAIRS: [&str; 6] = ["first", "second", "third", "fourth", "fifth", "sixth"];

impl Machine for Climber {
    type Message = Never;
    type Record = Never;
    type Command = Never;
    type Event = usize;

    fn restore(&mut self, record: Never) {
        match record {}
    }

    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        if matches!(input, Input::Start | Input::Tick) {
            self.due = Some(cx.now.after_ms(10));
            self.fell |= cx.entropy % 40 < 5;
            if cx.entropy % 40 == 5 && !self.fell {
                self.stair += 1;
                fx.emit(self.stair);
            }
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.due
    }
}

#[derive(Clone)]
struct Stairs {
    marked: bool,
}

impl System for Stairs {
    type Machine = Climber;
    type Op = ();

    fn nodes(&self) -> usize {
        1
    }

    fn boot(&self, _: usize) -> Climber {
        Climber { stair: 0, fell: false, due: None }
    }

    fn event(&mut self, _: usize, stair: usize, cx: &mut HostCx<'_, Self>) {
        match STAIRS.get(stair - 1) {
            Some(name) if self.marked => cx.mark(name),
            Some(_) => {}
            None => cx.fail("it is at the top"),
        }
    }
}

fn stairs(marked: bool) -> impl Fn(u64) -> (Stairs, Plan<()>) + Sync {
    move |_| (Stairs { marked }, Plan::calm(SimTime::secs(1)))
}

const BUDGET: Options = Options { steps_max: 150_000, until_failure: true };

#[test]
fn guidance_reaches_what_plain_seeds_do_not() {
    let compared = compare(&stairs(true), 1, BUDGET, |_| {});
    assert_eq!(compared.guided_won(), Some(true), "{compared}");
    assert!(compared.plain.failures.is_empty(), "{compared}");
    assert_eq!(compared.guided.marks.len(), 6);
    let found = compared.guided.failures.first().expect("it is reached");
    assert!(found.path.forks.len() > 1 && found.steps < BUDGET.steps_max / 2, "{compared}");
    assert_eq!(found.path.replay(&stairs(true), false).finish(), found.outcome, "{}", found.path);
}

#[test]
fn without_marks_guidance_is_plain_seeds() {
    let compared = compare(&stairs(false), 1, BUDGET, |_| {});
    assert_eq!(compared.guided.forks, 0);
    assert_eq!((&compared.plain, compared.guided_won()), (&compared.guided, None));
}

#[test]
fn a_failure_of_a_fork_is_replayed_to_the_same_trace() {
    let scenario = |_| {
        let plan =
            Plan::new(SimTime::secs(5)).fault(SimTime::secs(1), Fault::crash(0).lasting(ms(9)));
        (Authors::new(3, Bug::SendBeforeDurable), plan)
    };
    let options = Options { steps_max: 1_200_000, until_failure: false };
    let searched = guided(&scenario, 7, options, |_| {});
    let forked: Vec<_> =
        searched.failures.iter().filter(|found| !found.path.forks.is_empty()).collect();
    assert!(forked.iter().any(|f| f.path.forks.iter().any(|fork| !fork.added.is_empty())));
    for found in forked {
        assert_eq!(found.path.replay(&scenario, false).finish(), found.outcome, "{}", found.path);
        let recorded = found.path.replay(&scenario, true).finish();
        assert_eq!(recorded.trace_hash, found.outcome.trace_hash);
        assert!(recorded.trace.is_some_and(|trace| trace.len() > 100));
    }
}

#[test]
fn a_failure_of_a_fork_is_a_capsule_that_replays_and_shrinks() {
    let scenario = |_| (Authors::new(3, Bug::SendBeforeDurable), Plan::new(SimTime::secs(5)));
    let options = Options { steps_max: 1_200_000, until_failure: false };
    let searched = guided(&scenario, 7, options, |_| {});
    let origin = Origin { program: "tests".to_owned(), machine: "here".to_owned() };
    let forked = searched.failures.iter().find(|found| !found.path.forks.is_empty());
    let found = forked.expect("a fork fails");
    let capsule = found.capsule(&scenario, "authors", origin.clone()).expect("it failed");
    let text = capsule.to_string();
    let again: Capsule<_> = text.parse().expect("what is written can be read");
    assert_eq!(again, capsule);
    let replay = |capsule: &Capsule<_>| {
        let sim = capsule.prepare(scenario(7).0, false).expect("it fits");
        capsule.judge(&origin, &sim.finish()).verdict
    };
    assert_eq!(replay(&again), Verdict::ToTheLetter, "{text}");
    // Stopping on the way, or asking for a time that nothing happens at, changes nothing.
    let mut sim = again.prepare(scenario(7).0, false).expect("it fits");
    for us in (0..60_000_000).step_by(333_333) {
        sim.advance(SimTime(us));
    }
    assert_eq!(again.judge(&origin, &sim.finish()).verdict, Verdict::ToTheLetter);
    let shrunk = shrink(&scenario, &again, Effort::default(), &mut |_| {}).expect("it fails");
    assert!(shrunk.capsule.run.schedule.len() < again.run.schedule.len());
    assert!(shrunk.capsule.run.forks.len() <= again.run.forks.len());
    assert_eq!(replay(&shrunk.capsule), Verdict::ToTheLetter, "{}", shrunk.capsule);
}

#[test]
fn the_search_is_decided_by_its_seed() {
    let options = Options { steps_max: 50_000, until_failure: false };
    let mut told: Vec<Progress> = Vec::new();
    let search = |seed| guided(&stairs(true), seed, options, |_| {});
    let first = guided(&stairs(true), 3, options, |progress| told.push(*progress));
    assert_eq!(first, search(3));
    assert_ne!(first.steps, 0);
    assert_eq!(told.len() as u64, first.runs);
    assert!((50_000..50_003).contains(&first.steps), "{first}");
    // Plain seeds are those of `many`.
    let plain = plain(&stairs(true), 0, options, |_| {});
    let report = many(&stairs(true), 0..plain.runs, quorate_sim::Options::default());
    assert!(report.marks.keys().eq(plain.marks.keys()));
}
