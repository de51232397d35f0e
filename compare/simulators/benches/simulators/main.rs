//! Quorate's simulator beside turmoil and madsim: `cargo bench`, from this directory.
//!
//! Five nodes in a mesh, UDP or its like, 64-byte payloads, 1 to 10 ms a message, one or ten pings in
//! flight on each directed pair. Quorate runs with all faults and the trace hash on, the others with
//! none. Then small runs: five nodes, 200 messages, a cut and its healing. Rates are of processor time,
//! medians of seven rounds in which the three took turns.

#[path = "../../../../sim/examples/rate/bounce.rs"]
#[allow(dead_code)]
mod bounce;
mod on_madsim;
mod on_turmoil;

use std::time::{Duration, Instant};

use quorate_sim::SimTime;

/// What `delivered` of one kind of run gives: messages that arrived.
type Side = (&'static str, fn(u64) -> u64);

/// How long a run of the others lasts, in simulated time.
const LASTS: Duration = Duration::from_secs(4);
const ROUNDS: usize = 7;
const LATENCY: std::ops::Range<Duration> = Duration::from_millis(1)..Duration::from_millis(10);

fn quorate<const N: usize>(seed: u64) -> u64 {
    let mut sim = bounce::cluster::<N>(true, seed);
    sim.advance(SimTime::secs(30));
    assert_eq!(sim.failure(), None);
    sim.stop().delivered
}

fn quorate_small(seed: u64) -> u64 {
    const RUNS: u64 = 2_000;
    for run in 0..RUNS {
        let mut sim = bounce::small(seed * RUNS + run);
        sim.advance_to_step(280);
        assert!(sim.stop().delivered >= 200);
    }
    RUNS
}

fn main() {
    println!("things a CPU second, median of {ROUNDS} (least to most)");
    table(
        "messages, 1 in flight a pair",
        [
            ("quorate", quorate::<1>),
            ("turmoil", |seed| on_turmoil::messages(seed, 1, LASTS)),
            ("madsim", |seed| on_madsim::messages(seed, 1, LASTS)),
        ],
    );
    table(
        "messages, 10 in flight a pair",
        [
            ("quorate", quorate::<10>),
            ("turmoil", |seed| on_turmoil::messages(seed, 10, LASTS)),
            ("madsim", |seed| on_madsim::messages(seed, 10, LASTS)),
        ],
    );
    table(
        "small runs",
        [
            ("quorate", quorate_small),
            ("turmoil", |seed| on_turmoil::small(seed, 100)),
            ("madsim", |seed| on_madsim::small(seed, 200)),
        ],
    );
}

fn table(what: &str, sides: [Side; 3]) {
    let begun = Instant::now();
    let mut rates: [Vec<u64>; 3] = Default::default();
    for round in 0..ROUNDS {
        for ((_, body), rates) in sides.iter().zip(&mut rates) {
            let before = bounce::cpu_us(begun);
            let done = body(round as u64 + 1);
            rates.push(done * 1_000_000 / (bounce::cpu_us(begun) - before).max(1));
        }
    }
    rates.iter_mut().for_each(|rates| rates.sort_unstable());
    println!("\n{what}");
    let ours = rates[0][ROUNDS / 2];
    for ((name, _), rates) in sides.iter().zip(&rates) {
        let median = rates[ROUNDS / 2];
        let (least, most) = (rates[0], rates[ROUNDS - 1]);
        let ratio = ours as f64 / median as f64;
        println!(
            "  {name:<8} {median:>12} ({least} to {most}), quorate makes {ratio:.1} times that"
        );
    }
}
