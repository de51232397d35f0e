//! Every planted bug is found, and nothing is found where none is planted.

use std::collections::BTreeMap;

use quorate_core::planted::{ALL, Bug, plant};
use quorate_scenarios::planted;
use quorate_scenarios::small::CONFIGURATIONS;
use quorate_sim::explore::small::Bounds;

use crate::hunt::{Found, SEEDS_MAX, hunt, hunt_in};

#[path = "../hunt/mod.rs"]
mod hunt;

/// First where it was found before, which is quick; a change of behaviour may have moved it, so then
/// everywhere.
#[test]
fn every_planted_bug_is_found() {
    let kept: BTreeMap<_, _> = planted().map(|bug| (bug.name, bug)).collect();
    let mut missed = Vec::new();
    for (bug, name, ..) in ALL {
        let known = kept.get(name);
        let again = known.and_then(|known| hunt_in(Some(*bug), known.scenario, known.seeds + 20));
        if again.or_else(|| hunt(*bug, SEEDS_MAX)).is_none() {
            missed.push(*name);
        }
    }
    assert_eq!(missed, [""; 0], "the simulator does not find these planted bugs any more");
}

/// A shortest path, told in words: no seed has to come by it.
#[test]
fn a_promise_before_it_is_durable_is_found_in_a_small_election() {
    let [election, log] = &CONFIGURATIONS;
    let calm = Bounds { crashes: 0, states_max: 20_000, ..election.bounds };
    assert_eq!(election.explore(calm, &mut |_| {}).violation, None);
    plant(Some(Bug::promised_before_durable));
    let found = election.explore(Bounds { crashes: 0, ..election.bounds }, &mut |_| {});
    plant(None);
    let violation = found.violation.as_ref().expect("somebody leads by a promise that is not kept");
    assert!(violation.reason.contains("no quorum has its promise"), "{found}");
    plant(Some(Bug::own_copy_counted_at_once));
    let found = log.explore(Bounds { crashes: 0, ..log.bounds }, &mut |_| {});
    plant(None);
    let violation = found.violation.as_ref().expect("a commit rests on what is not kept");
    assert!(violation.reason.contains("on no quorum's disks"), "{found}");
}

#[test]
fn what_finds_them_finds_nothing_else() {
    let mut seeds: BTreeMap<&str, u64> = BTreeMap::new();
    for bug in planted() {
        let most = seeds.entry(bug.scenario).or_default();
        *most = bug.seeds.max(*most);
    }
    for (scenario, seeds) in seeds {
        if let Some(Found { scenario, seeds, failure }) = hunt_in(None, scenario, seeds) {
            panic!("{scenario} fails at seed {} with nothing planted: {failure}", seeds - 1);
        }
    }
}

#[test]
fn the_table_names_every_bug_and_no_other() {
    let listed: Vec<&str> = ALL.iter().map(|(_, name, ..)| *name).collect();
    let kept: Vec<&str> = planted().map(|bug| bug.name).collect();
    assert_eq!(kept, listed, "`cargo run -p quorate-planted --example hunt` writes the table");
    assert!(listed.len() >= 40);
    let mut seeds: Vec<u64> = planted().map(|bug| bug.seeds).collect();
    seeds.sort_unstable();
    assert!(seeds[seeds.len() / 2] <= 100 && seeds[seeds.len() - 1] <= SEEDS_MAX);
}
