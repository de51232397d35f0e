//! The voters' log under everything that can go wrong.

use quorate_scenarios::{Act, Voters};
use quorate_sim::{Options, Plan, SimTime, many};

fn seeds() -> u64 {
    std::env::var("QUORATE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(100)
}

fn plan(active: u64) -> Plan<Act> {
    let mut plan = Plan::new(SimTime::secs(active));
    plan.swarm.drift_ppm = 40_000;
    plan
}

fn check(name: &str, marks: &[&str], scenario: impl Fn(u64) -> (Voters, Plan<Act>) + Sync) {
    let report = many(&scenario, 0..seeds(), Options::default());
    report.assert_ok(|seed| format!("{name} {seed}"));
    assert_eq!(report.unreached(marks), [""; 0], "{name}");
}

#[test]
fn everything_at_once() {
    check(
        "swarm",
        &["leading", "stopped", "write acknowledged", "read", "snapshot taken"],
        |seed| (Voters::new(3 + 2 * (seed % 2) as usize), plan(20)),
    );
}
