//! How fast the simulator is: `cargo run --release -p quorate-sim --example rate`.
//!
//! Prints messages per CPU second, without faults and with all of them, then how many small runs a
//! CPU second holds, how many clones of a running cluster, and what a thousand nodes take; each the
//! median of seven.

mod bounce;

use std::time::Instant;

use bounce::{Mesh, cluster, cpu_us, small};
use quorate_sim::{Fault, Plan, Rng, Sim, SimTime, Topology, ms, secs};

/// The rate of `body`, which returns how many things it did, per CPU second: median of seven.
#[allow(clippy::disallowed_methods, reason = "measures how long real runs take")]
fn rate(what: &str, mut body: impl FnMut(u64) -> u64) {
    let begun = Instant::now();
    let mut rates: Vec<u64> = (0..7)
        .map(|seed| {
            let before = cpu_us(begun);
            let done = body(seed);
            done * 1_000_000 / (cpu_us(begun) - before).max(1)
        })
        .collect();
    rates.sort_unstable();
    println!("{what}: {} a CPU second ({} to {})", rates[3], rates[0], rates[6]);
}

fn messages<const N: usize>(faults: bool, seed: u64) -> u64 {
    let mut sim = cluster::<N>(faults, seed);
    sim.advance(SimTime::secs(50));
    assert_eq!(sim.failure(), None);
    sim.stop().delivered
}

/// A thousand nodes, each linked to about ten others; a split in two that heals, and crashes.
fn thousand(seed: u64) -> Sim<Mesh<1>> {
    const NODES: usize = 1_000;
    let mut rng = Rng::stream(seed, "links", 0);
    let pairs = (0..NODES * 5).map(|n| (n % NODES, rng.below(NODES as u64) as usize));
    let halves: Vec<usize> = (0..NODES).collect();
    let (left, right) = halves.split_at(NODES / 2);
    let mut plan: Plan<()> = Plan::calm(SimTime::secs(600))
        .fault(SimTime::secs(1), Fault::split(left, right).lasting(secs(1)));
    for n in 0..100 {
        plan = plan.fault(SimTime::ms(n * 20), Fault::crash(n as usize * 7).lasting(ms(100)));
    }
    plan.topology = Topology::Pairs(pairs.collect());
    let mesh = Mesh(NODES);
    Sim::new(mesh.clone(), plan.draw(&mesh, seed), false)
}

fn main() {
    for faults in [false, true] {
        rate(&format!("messages, 1 in flight, faults {faults}"), |seed| {
            messages::<1>(faults, seed)
        });
        rate(&format!("messages, 10 in flight, faults {faults}"), |seed| {
            messages::<10>(faults, seed)
        });
    }
    rate("runs of 200 messages with a cut that heals", |seed| {
        const RUNS: u64 = 5_000;
        for run in 0..RUNS {
            let mut sim = small(seed * RUNS + run);
            sim.advance_to_step(280);
            let outcome = sim.stop();
            assert!(outcome.result.is_ok() && outcome.delivered >= 200, "{outcome:?}");
        }
        RUNS
    });
    let mut sim = cluster::<10>(true, 1);
    sim.advance(SimTime::secs(5));
    rate("clones of a running cluster", |_| {
        const CLONES: u64 = 20_000;
        let clones = (0..CLONES).map(|_| std::hint::black_box(sim.clone()).view().steps());
        assert_eq!(clones.max(), Some(sim.view().steps()));
        CLONES
    });
    rate("messages among 1,000 nodes, each linked to about ten", |seed| {
        let mut sim = thousand(seed);
        sim.advance_to_step(3_000_000);
        assert_eq!(sim.failure(), None);
        sim.stop().delivered
    });
    if let Ok(status) = std::fs::read_to_string("/proc/self/status")
        && let Some(peak) = status.lines().find(|line| line.starts_with("VmHWM"))
    {
        println!("memory at most, which those thousand nodes took: {peak}");
    }
}
