//! Every scenario of voters over many seeds; `QUORATE_SEEDS=N` runs N of each instead.

use quorate_scenarios::cuts;
use quorate_sim::{Options, many};

/// Seeds of each scenario in an ordinary `cargo test`.
const SEEDS: u64 = 120;

#[allow(clippy::disallowed_methods, reason = "how many seeds, not what one does")]
fn seeds() -> u64 {
    let wanted = std::env::var("QUORATE_SEEDS").ok();
    wanted.map_or(SEEDS, |wanted| wanted.parse().expect("QUORATE_SEEDS is a number"))
}

#[test]
fn all_scenarios() {
    for cut in cuts() {
        let report = many(&cut.build, 0..seeds(), Options::default());
        println!("{}: {report}", cut.name);
        report.assert_ok(|seed| format!("scenario {} of voters, seed {seed}", cut.name));
        assert_eq!(report.unreached(cut.marks), [""; 0], "{}", cut.name);
    }
}
