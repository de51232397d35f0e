//! The hunt for planted bugs.
//!
//! Every bug of `core/src/planted.rs` is planted in turn, and the scenarios are run over seed after
//! seed until one fails. What counts is how many seeds that takes, in the scenario that finds it
//! soonest of those that are tried: first those named for the bug, then all.

use quorate_core::planted::{ALL, Bug, plant};
use quorate_scenarios::{catalogue, find, planted};
use quorate_sim::{Failure, Options, Outcome};

/// A bug that no scenario finds within so many seeds is not found.
pub(crate) const SEEDS_MAX: u64 = 1_000;

/// A bug that is found within so many seeds where it was found before is not looked for elsewhere.
const SOON: u64 = 150;

/// What a hunt brought home.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The scenario that found it.
    pub(crate) scenario: &'static str,
    /// How many seeds that took, from seed 0 on.
    pub(crate) seeds: u64,
    /// How the run failed.
    pub(crate) failure: Failure,
}

/// The scenarios that run the protocol of `bug`: those of its own system.
#[must_use]
pub(crate) fn scenarios(bug: Bug) -> Vec<&'static str> {
    let protocol =
        ALL.iter().find(|(of, ..)| *of == bug).map_or("", |(_, _, protocol, _)| protocol);
    let system = match protocol {
        "election" | "log_replication" => "voters",
        "rollouts" => "fleet",
        "registry" | "lock" | "lease" | "cluster" => "cluster",
        _ => "mesh",
    };
    catalogue().filter(|scenario| scenario.system == system).map(|scenario| scenario.name).collect()
}

/// Runs `scenario` with `bug` planted over the seeds from 0 to `seeds`, to the first that fails.
#[must_use]
pub(crate) fn hunt_in(bug: Option<Bug>, scenario: &str, seeds: u64) -> Option<Found> {
    let options = Options { recheck_every: 0, failures_max: 1, ..Options::default() };
    let named = find(scenario)?;
    // A run is built and made on one thread: what is planted there is planted in the run.
    let report = named.trial.many(0..seeds, options, &|| plant(bug));
    let Outcome { seed, result, .. } = report.failures.into_iter().next()?;
    result.err().map(|failure| Found { scenario: named.name, seeds: seed + 1, failure })
}

/// Hunts `bug` where it was found before; if that does not find it soon, in every scenario that runs its
/// protocol, each for a few seeds, then for more, up to `most`.
#[must_use]
pub(crate) fn hunt(bug: Bug, most: u64) -> Option<Found> {
    let name = ALL.iter().find(|(of, ..)| *of == bug).map(|(_, name, ..)| *name);
    let before = planted().find(|before| Some(before.name) == name);
    let again = before.and_then(|before| hunt_in(Some(bug), before.scenario, most.min(SOON)));
    if again.is_some() {
        return again;
    }
    let rounds = [10, 30, 100, 300].into_iter().filter(|seeds| *seeds < most).chain([most]);
    rounds.into_iter().find_map(|seeds| {
        let found = scenarios(bug).into_iter().filter_map(|name| hunt_in(Some(bug), name, seeds));
        found.min_by_key(|found| found.seeds)
    })
}
