//! The same seed gives the same trace, in this process and in every other: the hashes of a few seeds
//! are kept. A change of behaviour changes them, on purpose: `cargo insta review`, or
//! `INSTA_UPDATE=always cargo test -p quorate-scenarios --test golden`.

use std::fmt::Write as _;

use quorate_scenarios::{Keep, Start, catalogue};

#[test]
fn the_traces_of_a_few_seeds_are_as_they_were() {
    let mut hashes = String::new();
    for scenario in catalogue() {
        let _ = write!(hashes, "{:<20}", scenario.name);
        for seed in 0..3 {
            let replay = scenario.trial.replay(&Start::Seed(seed), Keep::Outcome);
            let hash = replay.expect("a seed can be run").outcome.trace_hash;
            let _ = write!(hashes, " {hash:016x}");
        }
        hashes.push('\n');
    }
    insta::assert_snapshot!(hashes);
}
