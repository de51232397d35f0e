//! Hunts the careless lock's bug, shrinks the run that shows it, writes it as a capsule and as a
//! picture, and then runs the careful one. The guide is docs/guides/protocol.md.

mod cluster;
mod machine;

use std::fs;

use cluster::Cluster;
use quorate_sim::capsule::{Capsule, Origin};
use quorate_sim::picture::{Caption, html};
use quorate_sim::shrink::{Effort, shrink};
use quorate_sim::{Options, Plan, Scenario, SimTime, many};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let careless = |_seed| (Cluster { careful: false }, Plan::new(SimTime::secs(10)));
    let report = many(&careless, 0..1_000, Options::default());
    let first = report.failures.first().ok_or("a thousand seeds found nothing")?;
    let failure = first.result.as_ref().err().ok_or("it failed")?;
    println!("careless: seed {}: {failure}", first.seed);

    let origin = Origin { program: "lock_server 1".to_owned(), machine: "1".to_owned() };
    let capsule = Capsule::record(&careless, "lock_server", origin, first.seed)
        .map_err(|_| "the seed failed before")?;
    let shrunk = shrink(&careless, &capsule, Effort::default(), &mut |_| {})
        .map_err(|stale| stale.to_string())?;
    let (before, after) = (capsule.run.schedule.len(), shrunk.capsule.run.schedule.len());
    println!("shrunk from {before} faults and operations to {after}: lock_server.capsule");
    fs::write("lock_server.capsule", shrunk.capsule.to_string())?;

    let (cluster, _) = careless.build(first.seed);
    let mut sim = shrunk.capsule.prepare(cluster, true).map_err(|unfit| unfit.to_string())?;
    sim.keep_states();
    let caption = Caption {
        scenario: "lock_server".to_owned(),
        about: "two clients hold one lock".to_owned(),
        replay: std::env::args().next().unwrap_or_default(),
        names: ["server", "ada", "ben", "cleo"].map(str::to_owned).to_vec(),
    };
    fs::write("lock_server.html", html(&sim.finish(), &caption))?;
    println!("its picture: lock_server.html");

    let careful = |_seed| (Cluster { careful: true }, Plan::new(SimTime::secs(10)));
    let report = many(&careful, 0..1_000, Options::default());
    println!("careful: {report}");
    report.assert_ok(|seed| format!("seed {seed}"));
    Ok(())
}
