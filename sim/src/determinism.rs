//! Whether a seed decides everything: runs are repeated, and where two part is named.
//!
//! A machine that reads a clock, iterates a hash map or keeps a static has a source of decisions
//! that is not the seed. Nothing forbids that in Rust, so it is looked for: a run's rolling hash
//! (see [`trace`](crate::trace)) must be the same each time. Which repetition shows a leak depends
//! on what leaks, so they are made in several ways:
//!
//! - *At once, on the same thread*: shows a clock, and what a thread keeps between runs.
//! - *On a fresh thread*: shows what the first run warmed up and what threads have of their own.
//! - *After a run of another seed*: shows a static that a whole run leaves as it found it, as a
//!   counter does that is used modulo two and counts an even number.
//! - *Often*: a hash map of two keys has the same order every other time. [`REPEATS`] times are
//!   one chance in 65,536 to miss it, and less for every further map or key.
//!
//! What repeating cannot show: a clock that reads the same each time, such as the date; a leak in
//! code that this seed does not reach; and what changes nothing that leaves a machine, which does
//! not matter. For the first there is clippy's `disallowed-methods`.
//!
//! The runs to be compared keep their events without the texts, which is nearly free. Only when two
//! differ are runs recorded in full, until two of these differ too; if none do (a static that was
//! only ever cold once), what the first run had is named as far as it was kept.

use std::{panic, thread};

use crate::many::{Scenario, prepare, record, run};
use crate::run::Outcome;
use crate::trace::{Difference, TraceEvent, first_difference};

/// How often [`check_determinism`] repeats a run.
pub const REPEATS: u64 = 16;

/// Runs one seed and repeats it, [`REPEATS`] times, as the [module](self) says.
///
/// # Errors
/// The first event that differs between two runs.
pub fn check_determinism<C: Scenario>(scenario: &C, seed: u64) -> Result<(), Box<Difference>> {
    let first = record(scenario, seed);
    for repeat in 0..REPEATS {
        if repeat % 4 == 3 {
            let _ = run(scenario, seed.wrapping_add(repeat));
        }
        if repeat % 2 == 0 {
            on_a_fresh_thread(|| compare(scenario, &first))?;
        } else {
            compare(scenario, &first)?;
        }
    }
    Ok(())
}

/// Runs one seed and keeps its events without their texts.
pub(crate) fn sketch<C: Scenario>(scenario: &C, seed: u64) -> Outcome {
    prepare(scenario, seed, true).without_texts().finish()
}

/// Repeats a sketched run on a fresh thread.
pub(crate) fn recheck<C: Scenario>(scenario: &C, first: &Outcome) -> Result<(), Box<Difference>> {
    on_a_fresh_thread(|| compare(scenario, first))
}

fn on_a_fresh_thread<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(body).join())
        .unwrap_or_else(|panic| panic::resume_unwind(panic))
}

fn compare<C: Scenario>(scenario: &C, first: &Outcome) -> Result<(), Box<Difference>> {
    let again = sketch(scenario, first.seed);
    if again.trace_hash == first.trace_hash {
        return Ok(());
    }
    let recorded = record(scenario, first.seed).trace.unwrap_or_default();
    for _ in 0..REPEATS {
        let other = on_a_fresh_thread(|| record(scenario, first.seed)).trace.unwrap_or_default();
        if let Some(difference) = first_difference(&recorded, &other) {
            return Err(Box::new(difference));
        }
    }
    let [left, right] = [first, &again].map(|run| run.trace.as_deref().unwrap_or_default());
    let same = left.iter().zip(right).take_while(|(a, b)| a.hash == b.hash).count();
    let side = |events: &[TraceEvent]| events.get(same).map(|event| named(event, &recorded));
    Err(Box::new(Difference { left: side(left), right: side(right) }))
}

/// An event with its text, from wherever that was kept.
fn named(event: &TraceEvent, recorded: &[TraceEvent]) -> TraceEvent {
    if let Some(same) = recorded.get(event.number as usize)
        && same.hash == event.hash
    {
        return same.clone();
    }
    let mut event = event.clone();
    if event.detail.is_empty() {
        "(it did not come again, and its text was not kept)".clone_into(&mut event.detail);
    }
    event
}
