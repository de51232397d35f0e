//! The tutorial's protocol does what the tutorial says: docs/guides/protocol.md.

#[path = "../examples/lock_server/cluster.rs"]
mod cluster;
#[path = "../examples/lock_server/machine.rs"]
mod machine;

use cluster::Cluster;
use quorate_sim::capsule::{Capsule, Origin};
use quorate_sim::picture::{Caption, html};
use quorate_sim::shrink::{Effort, shrink};
use quorate_sim::{Options, Plan, Scenario, SimTime, many};

const GUIDE: &str = include_str!("../../docs/guides/protocol.md");

fn scenario(careful: bool) -> impl Scenario<System = Cluster> {
    move |_seed| (Cluster { careful }, Plan::new(SimTime::secs(10)))
}

#[test]
fn the_careful_lock_is_held_by_one() {
    let report = many(&scenario(true), 0..300, Options::default());
    report.assert_ok(|seed| format!("seed {seed}"));
    assert_eq!(report.unreached(&["held"]), [""; 0]);
}

#[test]
fn the_careless_one_is_broken_shrunk_and_drawn() {
    let careless = scenario(false);
    let options = Options { failures_max: 1, recheck_every: 0, ..Options::default() };
    let report = many(&careless, 0..1_000, options);
    let first = report.failures.first().expect("a thousand seeds find it");
    let origin = Origin { program: "test".to_owned(), machine: "1".to_owned() };
    let capsule = Capsule::record(&careless, "lock_server", origin, first.seed);
    let capsule = capsule.expect("it failed before");
    let shrunk = shrink(&careless, &capsule, Effort::default(), &mut |_| {}).expect("it fails");
    assert!(shrunk.minimal && shrunk.capsule.run.schedule.len() < 8, "{}", shrunk.capsule);
    let text = shrunk.capsule.to_string();
    assert_eq!(text.parse::<Capsule<()>>().expect("what was written"), shrunk.capsule);
    let failure = first.result.as_ref().expect_err("it failed");
    let told = format!("careless: seed {}: {failure}\n", first.seed);
    assert!(GUIDE.contains(&told), "{told}");
    let (before, after) = (capsule.run.schedule.len(), shrunk.capsule.run.schedule.len());
    let told = format!("shrunk from {before} faults and operations to {after}: ");
    assert!(GUIDE.contains(&told), "{told}");
    let happens = text.lines().filter(|line| line.starts_with("at "));
    let happens: String = happens.map(|line| format!("    {line}\n")).collect();
    assert!(GUIDE.contains(&happens), "{happens}");

    let (cluster, _) = careless.build(first.seed);
    let mut sim = shrunk.capsule.prepare(cluster, true).expect("it fits");
    sim.keep_states();
    let outcome = sim.finish();
    assert_eq!(outcome.trace_hash, shrunk.capsule.trace_hash);
    let caption = Caption {
        scenario: "lock_server".to_owned(),
        about: String::new(),
        replay: String::new(),
        names: Vec::new(),
    };
    assert!(html(&outcome, &caption).contains("hold the lock"));
}

#[test]
fn the_guide_shows_the_files_as_they_are() {
    for file in [
        include_str!("../examples/lock_server/machine.rs"),
        include_str!("../examples/lock_server/cluster.rs"),
        include_str!("../examples/lock_server/main.rs"),
    ] {
        assert!(GUIDE.contains(&format!("```rust\n{file}```")), "not in the guide:\n{file}");
    }
}

#[test]
fn the_machine_stays_small() {
    let source = include_str!("../examples/lock_server/machine.rs");
    let machine = source.lines().skip_while(|line| !line.starts_with("impl Machine"));
    assert!(machine.count() <= 60);
}
