//! Many seeds: in parallel over the cores, reported in the order of the seeds.
//!
//! Runs share nothing, so they are spread over threads; which thread takes which seed changes
//! nothing. Now and then a run is repeated, on a fresh thread and after others: if its hash differs,
//! outside state has leaked into it (a hash map's order, a static, the time of day), and the first
//! event that differs is named; see [`determinism`](crate::determinism).

use core::fmt;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{panic, thread};

use crate::determinism::{recheck, sketch};
use crate::run::{Outcome, Sim};
use crate::swarm::Plan;
use crate::system::System;
use crate::trace::Difference;

/// What is run for a seed. A function from a seed to a system and a plan is one.
pub trait Scenario: Sync {
    /// The system under test.
    type System: System;

    /// The cluster and its plan. Everything that differs between seeds, such as the number of
    /// nodes, must be drawn from `seed`.
    fn build(&self, seed: u64) -> (Self::System, Plan<<Self::System as System>::Op>);
}

impl<S: System, F: Fn(u64) -> (S, Plan<S::Op>) + Sync> Scenario for F {
    type System = S;
    fn build(&self, seed: u64) -> (S, Plan<S::Op>) {
        self(seed)
    }
}

/// The cluster of a seed before its first event.
#[must_use]
pub fn prepare<C: Scenario>(scenario: &C, seed: u64, record: bool) -> Sim<C::System> {
    let (system, plan) = scenario.build(seed);
    let run = plan.draw(&system, seed);
    Sim::new(system, run, record)
}

/// Runs one seed.
#[must_use]
pub fn run<C: Scenario>(scenario: &C, seed: u64) -> Outcome {
    prepare(scenario, seed, false).finish()
}

/// Runs one seed and keeps every event.
#[must_use]
pub fn record<C: Scenario>(scenario: &C, seed: u64) -> Outcome {
    prepare(scenario, seed, true).finish()
}

/// How to run many seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// How many threads; zero for as many as there are cores.
    pub threads: usize,
    /// Every so manieth seed is run twice and compared; zero for none.
    pub recheck_every: u64,
    /// After so many failures no further seed is begun.
    pub failures_max: usize,
}

impl Default for Options {
    /// All cores, every 20th run repeated, up to ten failures.
    fn default() -> Options {
        Options { threads: 0, recheck_every: 20, failures_max: 10 }
    }
}

/// How often a mark was reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// In all runs together.
    pub times: u64,
    /// In how many seeds.
    pub seeds: u64,
}

/// What came of many runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// How many seeds were run.
    pub seeds: u64,
    /// The runs that failed, by seed.
    pub failures: Vec<Outcome>,
    /// The seeds whose second run was another one, with the first difference.
    pub unstable: Vec<(u64, Difference)>,
    /// Machine steps in all.
    pub steps: u64,
    /// Messages that arrived in all.
    pub delivered: u64,
    /// Messages that did not.
    pub dropped: u64,
    /// Messages that were sent twice.
    pub duplicated: u64,
    /// Simulated time in all, in microseconds.
    pub simulated_us: u64,
    /// The runs that did not converge and were excused, by reason.
    pub excused: BTreeMap<String, u64>,
    /// How often each fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often each mark was reached.
    pub marks: BTreeMap<&'static str, Reached>,
}

impl Report {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.steps += outcome.steps;
        self.delivered += outcome.delivered;
        self.dropped += outcome.dropped;
        self.duplicated += outcome.duplicated;
        self.simulated_us += outcome.time.0;
        for (&name, times) in &outcome.faults {
            *self.faults.entry(name).or_default() += times;
        }
        for (&name, times) in &outcome.marks {
            let reached = self.marks.entry(name).or_default();
            reached.times += times;
            reached.seeds += 1;
        }
        if let Some(reason) = &outcome.excused {
            *self.excused.entry(reason.clone()).or_default() += 1;
        }
        if outcome.result.is_err() {
            self.failures.push(outcome);
        }
    }

    /// Adds the report of later seeds.
    pub fn join(&mut self, later: Report) {
        self.seeds += later.seeds;
        self.failures.extend(later.failures);
        self.unstable.extend(later.unstable);
        self.steps += later.steps;
        self.delivered += later.delivered;
        self.dropped += later.dropped;
        self.duplicated += later.duplicated;
        self.simulated_us += later.simulated_us;
        for (reason, seeds) in later.excused {
            *self.excused.entry(reason).or_default() += seeds;
        }
        for (name, times) in later.faults {
            *self.faults.entry(name).or_default() += times;
        }
        for (name, more) in later.marks {
            let reached = self.marks.entry(name).or_default();
            reached.times += more.times;
            reached.seeds += more.seeds;
        }
    }

    /// Whether no run failed and every repeated run was the same.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.failures.is_empty() && self.unstable.is_empty()
    }

    /// Those of `names` that no seed reached: branches that the search did not test.
    #[must_use]
    pub fn unreached<'a>(&self, names: &[&'a str]) -> Vec<&'a str> {
        names.iter().copied().filter(|name| !self.marks.contains_key(name)).collect()
    }

    /// Panics unless the report is [`ok`](Report::ok), with each failing seed and the one command
    /// that replays it, as `replay` gives it.
    ///
    /// # Panics
    /// If a run failed or was not the same twice.
    #[track_caller]
    pub fn assert_ok(&self, replay: impl Fn(u64) -> String) {
        let mut text = String::new();
        for outcome in &self.failures {
            if let Err(failure) = &outcome.result {
                let (seed, replay) = (outcome.seed, replay(outcome.seed));
                text += &format!("seed {seed}: {failure}\n  replay: {replay}\n");
            }
        }
        for (seed, difference) in &self.unstable {
            let replay = replay(*seed);
            text +=
                &format!("seed {seed} ran differently twice\n{difference}\n  replay: {replay}\n");
        }
        assert!(self.ok(), "of {} seeds:\n{text}", self.seeds);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { seeds, steps, delivered, dropped, duplicated, simulated_us, .. } = self;
        let (failed, unstable, secs) =
            (self.failures.len(), self.unstable.len(), simulated_us / 1_000_000);
        writeln!(
            f,
            "{seeds} seeds, {failed} failed, {unstable} unstable, {secs} simulated seconds"
        )?;
        writeln!(
            f,
            "{steps} steps; messages: {delivered} delivered, {dropped} dropped, \
             {duplicated} duplicated"
        )?;
        for (reason, seeds) in &self.excused {
            writeln!(f, "excused: {reason}: {seeds} seeds")?;
        }
        for (name, times) in &self.faults {
            writeln!(f, "fault {name}: {times}")?;
        }
        for (name, reached) in &self.marks {
            writeln!(f, "mark {name}: {} times in {} seeds", reached.times, reached.seeds)?;
        }
        Ok(())
    }
}

/// Runs every seed of `seeds` and sums up in their order: the same whatever the number of threads,
/// unless [`Options::failures_max`] ends it early.
#[must_use]
pub fn many<C: Scenario>(scenario: &C, seeds: Range<u64>, options: Options) -> Report {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = if options.threads == 0 { cores } else { options.threads };
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicU64::new(0));
    let worker = || {
        let (mut outcomes, mut unstable) = (Vec::new(), Vec::new());
        // The run that is to be repeated: once others have left their traces in the process.
        let mut waiting: Option<Outcome> = None;
        let mut repeat = |run: Option<Outcome>| {
            let Some(run) = run else { return };
            unstable.extend(recheck(scenario, &run).err().map(|differs| (run.seed, *differs)));
        };
        while failed.load(Ordering::Relaxed) < options.failures_max as u64 {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let outcome = if options.recheck_every > 0 && seed % options.recheck_every == 0 {
                let outcome = sketch(scenario, seed);
                repeat(waiting.replace(outcome.clone()));
                Outcome { trace: None, ..outcome }
            } else {
                run(scenario, seed)
            };
            failed.fetch_add(u64::from(outcome.result.is_err()), Ordering::Relaxed);
            outcomes.push(outcome);
        }
        repeat(waiting);
        (outcomes, unstable)
    };
    let (mut outcomes, mut report) = (Vec::new(), Report::default());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            let (ran, unstable) = worker.join().unwrap_or_else(|panic| panic::resume_unwind(panic));
            outcomes.extend(ran);
            report.unstable.extend(unstable);
        }
    });
    outcomes.sort_by_key(|outcome| outcome.seed);
    report.unstable.sort_by_key(|(seed, _)| *seed);
    outcomes.into_iter().for_each(|outcome| report.add(outcome));
    report
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
    static MESSAGE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs `body`, which must catch its panics. They print nothing; a panic's message and place are
/// returned instead. Panics of other threads are printed as before.
pub(crate) fn quiet<T>(body: impl FnOnce() -> thread::Result<T>) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if QUIET.get() {
                let payload = info.payload_as_str().unwrap_or("a panic without a message");
                let place = info.location().map_or_else(String::new, |at| format!(" ({at})"));
                MESSAGE.set(Some(format!("{payload}{place}")));
            } else {
                before(info);
            }
        }));
    });
    let nested = QUIET.replace(true);
    let result = body();
    QUIET.set(nested);
    result.map_err(|_| MESSAGE.take().unwrap_or_default())
}
