//! From a failing run to the smallest that still fails in the same way.
//!
//! Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input" (2002): take chunks
//! out of the input, halves first, then ever smaller ones, and keep what still fails; what is left
//! is *1-minimal*, every single element is needed. Here the input is a [`Run`], and a chunk is
//! tried where the last one succeeded rather than from the start again: ddmin's complements without
//! its subsets, which a deterministic failure with few causes does not miss.
//!
//! Elements are not all that a run can lose. In turn: whole nodes, the network's, the disks' and
//! the clocks' conditions, all faults of one kind, elements; then the time between them, how long
//! each holds, and lanes of cuts; and operations, which [`System::simpler`] knows how to simplify.
//! All of it again until nothing more is lost.
//!
//! *The same way* is the failure's [`Fingerprint`]. As every purpose draws from a stream of its
//! own, what an edit does not touch stays much as it was, and most edits of what did not matter
//! keep the failure. Some failures hang on a message that was lost by chance, and then on whatever
//! shifts the draws before it: when nothing else helps, edits are tried with the small draws of
//! other seeds too ([`Run::draws`]).
//!
//! Candidates run on several threads, each on its own; the first in *order* that still fails is
//! kept, so the result does not depend on how many threads there are, nor on how fast they are. A
//! candidate that has made many more steps than the best run so far is given up. What was tried
//! once is not tried again.

mod edits;

use core::fmt;
use core::hash::{Hash, Hasher};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{panic, thread};

use crate::capsule::Capsule;
use crate::fingerprint::Fingerprint;
use crate::many::Scenario;
use crate::run::{Outcome, Sim};
use crate::schedule::Run;
use crate::system::System;
use crate::time::{FOREVER_US, SimTime};
use crate::trace::TraceHasher;
use edits::Edit;

/// Candidates tried before progress is told again, and at most in vain at once.
const BATCH: usize = 32;
/// A candidate may make as many steps as the best run so far, times this, and [`STEPS_MORE`].
const STEPS_TIMES: u64 = 2;
const STEPS_MORE: u64 = 1_000;

type Op<C> = <<C as Scenario>::System as System>::Op;

/// How hard to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// How many threads; zero for as many as there are cores.
    pub threads: usize,
    /// After so many candidates the best so far is the result.
    pub tries_max: u64,
}

impl Default for Effort {
    /// All cores, up to 20,000 candidates.
    fn default() -> Effort {
        Effort { threads: 0, tries_max: 20_000 }
    }
}

/// How far the search has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How many candidates were run.
    pub tried: u64,
    /// How many of them still failed and were kept.
    pub kept: u64,
    /// How many elements the schedule has now.
    pub elements: usize,
    /// How many nodes are left out.
    pub absent: usize,
}

/// The smallest run that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shrunk<O> {
    /// It, with its own trace and message.
    pub capsule: Capsule<O>,
    /// What it took.
    pub progress: Progress,
    /// Whether nothing more can be taken out; if not, the tries were used up.
    pub minimal: bool,
}

/// The capsule does not fail in the way it says, so there is nothing to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stale(pub String);

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is nothing to shrink: {}", self.0)
    }
}

impl core::error::Error for Stale {}

/// Makes the run of `capsule`, one of `scenario`, as small as it goes while it fails in the same
/// way. `told` hears of the progress.
///
/// # Errors
/// If the capsule's run does not fail in that way.
pub fn shrink<C: Scenario>(
    scenario: &C,
    capsule: &Capsule<Op<C>>,
    effort: Effort,
    told: &mut dyn FnMut(Progress),
) -> Result<Shrunk<Op<C>>, Stale>
where
    Op<C>: Send + Sync,
{
    let (system, _) = scenario.build(capsule.run.seed);
    let sim = capsule.prepare(system, false).map_err(|unfit| Stale(unfit.to_string()))?;
    let outcome = sim.finish();
    let wanted = capsule.failure.fingerprint();
    match &outcome.result {
        Ok(()) => return Err(Stale("the run does not fail".to_owned())),
        Err(failure) if failure.fingerprint() != wanted => {
            return Err(Stale(format!("the run fails in another way: {failure}")));
        }
        Err(_) => {}
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = if effort.threads == 0 { cores } else { effort.threads };
    let known = [hash_of(&capsule.run)].into();
    let best = Best { scenario, wanted, threads, run: capsule.run.clone(), outcome, known };
    let tries_max = effort.tries_max;
    let mut search = Search { best, tries_max, tried: 0, kept: 0, told };
    let minimal = search.exhaust();
    let progress = search.progress();
    let Best { run, outcome, .. } = search.best;
    let Outcome { trace_hash, result, .. } = outcome;
    let failure = result.err().unwrap_or_else(|| capsule.failure.clone());
    let capsule = Capsule { failure, trace_hash, run, ..capsule.clone() };
    Ok(Shrunk { capsule, progress, minimal })
}

struct Search<'a, C: Scenario> {
    best: Best<'a, C>,
    tries_max: u64,
    tried: u64,
    kept: u64,
    told: &'a mut dyn FnMut(Progress),
}

/// The smallest failing run so far, and what candidates for its place are measured by.
struct Best<'a, C: Scenario> {
    scenario: &'a C,
    wanted: Fingerprint,
    threads: usize,
    run: Run<Op<C>>,
    outcome: Outcome,
    /// Candidates that need not be tried again, by their hashes.
    known: BTreeSet<u64>,
}

/// A candidate that a thread has looked at.
struct Tried {
    index: usize,
    hash: u64,
}

impl<C: Scenario> Search<'_, C>
where
    Op<C>: Send + Sync,
{
    /// Whether nothing more can be taken out.
    fn exhaust(&mut self) -> bool {
        loop {
            let before = self.kept;
            let failed = self.best.outcome.time;
            self.pass(|_, run| edits::ends(run, failed));
            self.pass(edits::nodes);
            self.pass(|_, run| edits::conditions(run));
            self.pass(|_, run| edits::kinds(run));
            self.pass(|_, run| edits::forks(run));
            let mut size = self.best.run.schedule.len().div_ceil(2);
            while size > 0 {
                self.pass(|_, run| edits::chunks(run, size));
                size = if size == 1 { 0 } else { size.div_ceil(2).min(size - 1) };
            }
            self.pass(|_, run| edits::times(run));
            self.pass(edits::simpler);
            if self.kept == before {
                self.pass(|system, run| edits::lucky(edits::nodes(system, run)));
                self.pass(|_, run| edits::lucky(edits::chunks(run, 1)));
                self.pass(|_, run| edits::lucky(edits::conditions(run)));
            }
            if self.tried >= self.tries_max {
                return false;
            }
            if self.kept == before {
                return true;
            }
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            tried: self.tried,
            kept: self.kept,
            elements: self.best.run.schedule.len(),
            absent: self.best.run.absent.len(),
        }
    }

    /// Tries edits from the first place to the last, and goes on at the place of each that is kept.
    fn pass(&mut self, edits: impl Fn(&C::System, &Run<Op<C>>) -> Vec<Edit<Op<C>>>) {
        let (system, _) = self.best.scenario.build(self.best.run.seed);
        let mut from = 0;
        loop {
            let mut edits = edits(&system, &self.best.run);
            edits.retain(|edit| edit.place >= from);
            match self.first(&edits) {
                Some(index) => from = edits[index].place,
                None => return,
            }
        }
    }

    /// Keeps the first edit whose run still fails, and returns its index.
    fn first(&mut self, edits: &[Edit<Op<C>>]) -> Option<usize> {
        for (batch, edits) in edits.chunks(BATCH).enumerate() {
            let left = usize::try_from(self.tries_max - self.tried).unwrap_or(usize::MAX);
            let edits = &edits[..edits.len().min(left)];
            let (found, tried) = self.best.batch(edits);
            self.tried += tried.len() as u64;
            self.best.known.extend(tried.iter().map(|tried| tried.hash));
            if let Some((index, run, outcome)) = found {
                (self.best.run, self.best.outcome) = (run, outcome);
                self.kept += 1;
                self.tell();
                return Some(batch * BATCH + index);
            }
            self.tell();
        }
        None
    }

    fn tell(&mut self) {
        let progress = self.progress();
        (self.told)(progress);
    }
}

impl<C: Scenario> Best<'_, C>
where
    Op<C>: Send + Sync,
{
    /// The first of these edits whose run still fails, with all that were tried up to it.
    #[allow(clippy::type_complexity, reason = "named by the line above, used in one place")]
    fn batch(&self, edits: &[Edit<Op<C>>]) -> (Option<(usize, Run<Op<C>>, Outcome)>, Vec<Tried>) {
        let (next, first) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        let found = Mutex::new(None::<(usize, Run<Op<C>>, Outcome)>);
        let worker = || {
            let mut tried = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                // Whoever took a lower index finishes it, so the lowest that fails is found.
                if index >= edits.len() || index > first.load(Ordering::Relaxed) {
                    return tried;
                }
                let mut run = self.run.clone();
                edits[index].apply(&mut run);
                let hash = hash_of(&run);
                if self.known.contains(&hash) {
                    continue;
                }
                tried.push(Tried { index, hash });
                if let Some(outcome) = self.attempt(&run) {
                    first.fetch_min(index, Ordering::Relaxed);
                    let mut found = found.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    if found.as_ref().is_none_or(|(other, ..)| index < *other) {
                        *found = Some((index, run, outcome));
                    }
                }
            }
        };
        let mut tried: Vec<Tried> = if self.threads == 1 {
            worker()
        } else {
            thread::scope(|scope| {
                let threads = self.threads.min(edits.len());
                let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
                let done = workers.into_iter().map(|worker| worker.join());
                done.flat_map(|done| done.unwrap_or_else(|panic| panic::resume_unwind(panic)))
                    .collect()
            })
        };
        let found = found.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        // What other threads tried beyond it is as if it had not been.
        tried.retain(|tried| tried.index <= first.load(Ordering::Relaxed));
        (found, tried)
    }

    /// What came of a run, if it fails as wanted, and before it has gone on for far too long.
    fn attempt(&self, run: &Run<Op<C>>) -> Option<Outcome> {
        let (system, _) = self.scenario.build(run.seed);
        let steps_max = self.outcome.steps.saturating_mul(STEPS_TIMES).saturating_add(STEPS_MORE);
        let mut sim = Sim::new(system, run.clone(), false);
        sim.go_while(SimTime(FOREVER_US), |sim| sim.world.steps < steps_max);
        let failure = sim.failure()?;
        (failure.fingerprint() == self.wanted).then(|| sim.stop())
    }
}

fn hash_of(run: &impl Hash) -> u64 {
    let mut hasher = TraceHasher::new(0);
    run.hash(&mut hasher);
    hasher.finish()
}
