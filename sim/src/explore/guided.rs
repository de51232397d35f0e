//! Going on from interesting moments instead of always from the beginning.
//!
//! A plain seed reaches a state that needs five unlikely things in a row by drawing all five at once.
//! A search that remembers where three of them had happened needs only two more. So whenever a run
//! reaches a [mark](crate::View::mark) that it had not reached before, the whole simulated cluster is
//! cloned; later the search goes back there, draws all that is small anew, adds faults that the plan
//! could have drawn, and runs on. Marks reached on such a way are gone on from in turn. This is
//! Ecoffet and others' *First return, then explore* (2021), with marks for cells; greybox fuzzers do
//! the same with coverage (Zalewski's AFL), and shared-nothing simulators return by a clone, not by
//! a replay.
//!
//! Every other piece of work is a fresh seed, so that the search never does much worse than plain
//! seeds, and which moment is gone on from is drawn: first a mark, all with the same chance, then one
//! of the moments kept for it. So a mark that was reached once is gone on from as often as one that
//! every run reaches at its start.
//!
//! Marks have to say something. If what leads to the failure leaves none, guidance is guidance to
//! nowhere, and plain seeds are as good: [`compare`] spends the same number of machine steps both
//! ways and says which got farther.
//!
//! All is drawn from the search's seed. A failure is a [`Path`]: the seed of a run, and for each fork
//! the step at which it was made, the seed from there on and the actions added. [`Path::replay`] gives
//! the same run with the same trace hash, and so does a capsule of it ([`Found::capsule`]).

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use crate::SimTime;
use crate::capsule::{Capsule, Origin};
use crate::many::{Scenario, prepare};
use crate::prng::Rng;
use crate::run::{Outcome, Sim};
pub use crate::schedule::Fork;
use crate::schedule::{Action, Run, Schedule};
use crate::system::System;

/// Moments kept for each mark; a further one takes the place of one that is drawn.
const MOMENTS_MAX: usize = 4;
/// Faults added to a fork, at most.
const ADDED_MAX: u64 = 3;
/// They come within this time after the fork, in microseconds.
const SOON_US: u64 = 1_000_000;

type Op<C> = <<C as Scenario>::System as System>::Op;

/// How a run came about: all that it takes to repeat it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path<O> {
    /// The seed of the scenario.
    pub seed: u64,
    /// The forks on the way; none for a plain run.
    pub forks: Vec<Fork<O>>,
}

impl<O: Clone> Path<O> {
    /// The run before its first event; it takes its forks on the way. `record` keeps its events.
    #[must_use]
    pub fn replay<C: Scenario<System: System<Op = O>>>(
        &self,
        scenario: &C,
        record: bool,
    ) -> Sim<C::System> {
        let (system, _) = scenario.build(self.seed);
        Sim::new(system, self.run(scenario), record)
    }

    /// All that the run does.
    #[must_use]
    pub fn run<C: Scenario<System: System<Op = O>>>(&self, scenario: &C) -> Run<O> {
        let (system, plan) = scenario.build(self.seed);
        Run { forks: self.forks.clone(), ..plan.draw(&system, self.seed) }
    }
}

impl<O: Clone> Found<O> {
    /// The failure as a capsule of `scenario`, whose name is `name`; `None` if the run did not fail.
    #[must_use]
    pub fn capsule<C: Scenario<System: System<Op = O>>>(
        &self,
        scenario: &C,
        name: &str,
        origin: Origin,
    ) -> Option<Capsule<O>> {
        let failure = self.outcome.result.as_ref().err()?.clone();
        let (scenario, run) = (name.to_owned(), self.path.run(scenario));
        Some(Capsule { scenario, origin, failure, trace_hash: self.outcome.trace_hash, run })
    }
}

impl<O: fmt::Debug> Path<O> {
    fn told(self) -> Path<String> {
        let told = |action: Action<O>| match action {
            Action::Op { node, op } => Action::Op { node, op: format!("{op:?}") },
            Action::Fault(fault) => Action::Fault(fault),
        };
        let forks = self.forks.into_iter().map(|fork| {
            let added = fork.added.into_iter().map(|(at, action)| (at, told(action)));
            Fork { step: fork.step, reseed: fork.reseed, added: added.collect() }
        });
        Path { seed: self.seed, forks: forks.collect() }
    }
}

impl<O: fmt::Debug> fmt::Display for Path<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}", self.seed)?;
        for Fork { step, reseed, added } in &self.forks {
            write!(f, "; at step {step} reseeded with {reseed}")?;
            for (at, action) in added {
                write!(f, ", at {at} {action:?}")?;
            }
        }
        Ok(())
    }
}

/// How to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many machine steps to spend. The last run may go beyond, by one event.
    pub steps_max: u64,
    /// Whether to end at the first failure.
    pub until_failure: bool,
}

/// How far a search has come; told after each run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How many steps were spent.
    pub steps: u64,
    /// How many runs were begun, forks included.
    pub runs: u64,
    /// How many marks were reached.
    pub marks: usize,
    /// How many runs failed.
    pub failures: usize,
}

/// A run that failed, and after how many steps of the search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found<O> {
    /// How to get there.
    pub path: Path<O>,
    /// What came of it.
    pub outcome: Outcome,
    /// How many steps the search had spent.
    pub steps: u64,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Searched<O> {
    /// How many steps were spent. What a fork shares with its run is spent once.
    pub steps: u64,
    /// How many runs there were, forks included.
    pub runs: u64,
    /// How many of them were forks.
    pub forks: u64,
    /// The marks, with the number of steps spent when each was first reached.
    pub marks: BTreeMap<&'static str, u64>,
    /// The runs that failed; of those that failed alike only the first.
    pub failures: Vec<Found<O>>,
}

impl<O> Default for Searched<O> {
    fn default() -> Searched<O> {
        Searched { steps: 0, runs: 0, forks: 0, marks: BTreeMap::new(), failures: Vec::new() }
    }
}

impl<O: fmt::Debug> Searched<O> {
    fn told(self) -> Searched<String> {
        let Searched { steps, runs, forks, marks, failures } = self;
        let failures = failures.into_iter().map(|found| {
            let Found { path, outcome, steps } = found;
            Found { path: path.told(), outcome, steps }
        });
        Searched { steps, runs, forks, marks, failures: failures.collect() }
    }
}

impl<O> fmt::Display for Searched<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Searched { steps, runs, forks, marks, failures } = self;
        let marks = marks.len();
        write!(f, "{steps} steps, {runs} runs of which {forks} forks: {marks} marks, ")?;
        match failures.first() {
            None => write!(f, "no failure"),
            Some(found) => write!(f, "the first failure after {} steps", found.steps),
        }
    }
}

/// The same budget spent both ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison<O> {
    /// On plain seeds.
    pub plain: Searched<O>,
    /// On a guided search.
    pub guided: Searched<O>,
}

impl<O> Comparison<O> {
    /// Whether guidance got farther: to a failure in fewer steps, or, if neither or both found one
    /// at the same step, to more marks. `None` if they are even.
    #[must_use]
    pub fn guided_won(&self) -> Option<bool> {
        let reached = |searched: &Searched<O>| {
            let first = searched.failures.first().map_or(u64::MAX, |found| found.steps);
            (core::cmp::Reverse(first), searched.marks.len())
        };
        let (plain, guided) = (reached(&self.plain), reached(&self.guided));
        (plain != guided).then_some(guided > plain)
    }
}

impl<O: fmt::Debug> Comparison<O> {
    /// The same with operations in words, whatever they were.
    #[must_use]
    pub fn told(self) -> Comparison<String> {
        Comparison { plain: self.plain.told(), guided: self.guided.told() }
    }
}

impl<O> fmt::Display for Comparison<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { plain, guided } = self;
        write!(f, "plain:  {plain}\nguided: {guided}")
    }
}

/// Runs the seeds from `seed` on, one after the other.
#[must_use]
pub fn plain<C: Scenario>(
    scenario: &C,
    seed: u64,
    options: Options,
    progress: impl FnMut(&Progress),
) -> Searched<Op<C>> {
    Search::new(scenario, seed, options).run(false, progress)
}

/// Runs seeds from `seed` on, and forks of them from where they reached a mark.
#[must_use]
pub fn guided<C: Scenario>(
    scenario: &C,
    seed: u64,
    options: Options,
    progress: impl FnMut(&Progress),
) -> Searched<Op<C>> {
    Search::new(scenario, seed, options).run(true, progress)
}

/// Spends the same budget on [`plain`] seeds and on a [`guided`] search.
#[must_use]
pub fn compare<C: Scenario>(
    scenario: &C,
    seed: u64,
    options: Options,
    mut progress: impl FnMut(&Progress),
) -> Comparison<Op<C>> {
    let plain = plain(scenario, seed, options, &mut progress);
    Comparison { plain, guided: guided(scenario, seed, options, &mut progress) }
}

/// A run on its way, and how it came about.
struct Branch<C: Scenario> {
    sim: Sim<C::System>,
    path: Path<Op<C>>,
}

impl<C: Scenario> Clone for Branch<C> {
    fn clone(&self) -> Branch<C> {
        Branch { sim: self.sim.clone(), path: self.path.clone() }
    }
}

struct Search<'a, C: Scenario> {
    scenario: &'a C,
    next_seed: u64,
    options: Options,
    rng: Rng,
    /// For each mark, moments right after it was first reached in a run.
    moments: BTreeMap<&'static str, Vec<Branch<C>>>,
    searched: Searched<Op<C>>,
}

impl<'a, C: Scenario> Search<'a, C> {
    fn new(scenario: &'a C, seed: u64, options: Options) -> Search<'a, C> {
        let rng = Rng::stream(seed, "guided search", 0);
        let (moments, searched) = (BTreeMap::new(), Searched::default());
        Search { scenario, next_seed: seed, options, rng, moments, searched }
    }

    fn run(mut self, guided: bool, mut progress: impl FnMut(&Progress)) -> Searched<Op<C>> {
        while self.searched.steps < self.options.steps_max {
            let fork = guided && self.searched.runs % 2 == 1;
            let branch = if fork { self.fork() } else { None };
            self.searched.forks += u64::from(branch.is_some());
            let branch = branch.unwrap_or_else(|| self.fresh());
            self.searched.runs += 1;
            self.follow(branch, guided);
            let Searched { steps, runs, marks, failures, .. } = &self.searched;
            let (steps, runs, marks, failures) = (*steps, *runs, marks.len(), failures.len());
            progress(&Progress { steps, runs, marks, failures });
            if self.options.until_failure && failures > 0 {
                break;
            }
        }
        self.searched
    }

    fn fresh(&mut self) -> Branch<C> {
        let seed = self.next_seed;
        self.next_seed = seed.wrapping_add(1);
        let path = Path { seed, forks: Vec::new() };
        Branch { sim: prepare(self.scenario, seed, false), path }
    }

    /// Another future for a moment that is drawn.
    fn fork(&mut self) -> Option<Branch<C>> {
        let names: Vec<&'static str> = self.moments.keys().copied().collect();
        let name = self.rng.pick(&names)?;
        let mut branch = self.rng.pick(&self.moments[name])?.clone();
        let reseed = self.rng.next_u64();
        let added = self.draw_faults(&branch, reseed);
        branch.sim.reseed(reseed);
        added.iter().for_each(|(at, action)| branch.sim.add(*at, action.clone()));
        let step = branch.sim.view().steps();
        branch.path.forks.push(Fork { step, reseed, added });
        Some(branch)
    }

    /// Some faults of those that the plan draws for another seed, moved to soon after the fork: no
    /// kind that the scenario does not have, and none of its script, which the run has anyway.
    fn draw_faults(&mut self, branch: &Branch<C>, seed: u64) -> Schedule<Op<C>> {
        let now = branch.sim.view().now();
        let (system, mut plan) = self.scenario.build(branch.path.seed);
        plan.script.clear();
        let drawn = plan.draw(&system, seed).schedule.into_iter();
        let faults: Vec<_> =
            drawn.filter(|(_, action)| matches!(action, Action::Fault(_))).collect();
        let count = self.rng.below(ADDED_MAX + 1);
        let mut added: Schedule<Op<C>> = Vec::new();
        for _ in 0..count {
            let Some((_, fault)) = self.rng.pick(&faults) else { break };
            let at = SimTime(now.0 + self.rng.below(SOON_US));
            if at < branch.sim.plan().active {
                added.push((at, fault.clone()));
            }
        }
        added.sort_by_key(|(at, _)| *at);
        added
    }

    /// Runs on to the end or to the end of the budget, and keeps the moments of new marks.
    fn follow(&mut self, mut branch: Branch<C>, keep: bool) {
        let begun = branch.sim.view().steps();
        let spent = self.searched.steps;
        let last = begun + (self.options.steps_max - spent);
        let mut known: BTreeSet<&'static str> = branch.sim.view().marks().into_iter().collect();
        loop {
            let reached = known.len();
            let stop = |view: &crate::View<'_, C::System>| {
                view.marks_reached() > reached || view.steps() >= last
            };
            // What was marked before the first event is new as well.
            if branch.sim.view().marks_reached() == reached {
                branch.sim.advance_until(stop);
            }
            self.searched.steps = spent + (branch.sim.view().steps() - begun);
            let marks = branch.sim.view().marks();
            let new: Vec<_> = marks.into_iter().filter(|name| known.insert(name)).collect();
            for &name in &new {
                self.searched.marks.entry(name).or_insert(self.searched.steps);
            }
            if branch.sim.done() || branch.sim.view().steps() >= last {
                break;
            }
            if keep && !new.is_empty() {
                // The next moment that is told apart by the number of steps can be returned to.
                branch.sim.advance_to_step(branch.sim.view().steps() + 1);
                if !branch.sim.done() {
                    new.iter().for_each(|name| self.keep(name, &branch));
                }
            }
        }
        let Branch { sim, path } = branch;
        if sim.failure().is_some() {
            self.failed(path, sim.stop());
        }
    }

    fn keep(&mut self, name: &'static str, branch: &Branch<C>) {
        let moments = self.moments.entry(name).or_default();
        if moments.len() < MOMENTS_MAX {
            moments.push(branch.clone());
        } else {
            moments[self.rng.below(MOMENTS_MAX as u64) as usize] = branch.clone();
        }
    }

    fn failed(&mut self, path: Path<Op<C>>, outcome: Outcome) {
        let alike = |found: &Found<Op<C>>| match (&found.outcome.result, &outcome.result) {
            (Err(a), Err(b)) => (a.kind, &a.reason) == (b.kind, &b.reason),
            _ => false,
        };
        if !self.searched.failures.iter().any(alike) {
            let steps = self.searched.steps;
            self.searched.failures.push(Found { path, outcome, steps });
        }
    }
}
