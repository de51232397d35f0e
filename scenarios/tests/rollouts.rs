//! Every scenario of rollouts over many seeds; `QUORATE_SEEDS=N` runs N of each instead.

use quorate_scenarios::rollouts;
use quorate_sim::{Options, many};

/// Seeds of each scenario in an ordinary `cargo test`.
const SEEDS: u64 = 30;

#[allow(clippy::disallowed_methods, reason = "how many seeds, not what one does")]
fn seeds() -> u64 {
    let wanted = std::env::var("QUORATE_SEEDS").ok();
    wanted.map_or(SEEDS, |wanted| wanted.parse().expect("QUORATE_SEEDS is a number"))
}

#[test]
fn all_scenarios() {
    for rollout in rollouts() {
        let report = many(&rollout.build, 0..seeds(), Options::default());
        println!("{}: {report}", rollout.name);
        report.assert_ok(|seed| format!("scenario {} of rollouts, seed {seed}", rollout.name));
        assert_eq!(report.unreached(rollout.marks), [""; 0], "{}", rollout.name);
    }
}
