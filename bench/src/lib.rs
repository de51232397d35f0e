//! What the benchmarks share: how to measure, what to measure with, and two nodes joined in memory.
//!
//! Every figure is processor time ([`cpu`]), which other work on the machine disturbs least, and
//! every comparison is a ratio of medians of rounds in which the sides took turns ([`rounds`]). What
//! is compared lies in the benches of this crate and, where others' code is needed, in `compare/`.

pub mod pair;
pub mod workload;

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Processor time that this process has used, all its threads together.
#[must_use]
pub fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The processor time that `run` takes, and what it returns.
pub fn timed<T>(run: impl FnOnce() -> T) -> (Duration, T) {
    let start = cpu();
    let value = run();
    (cpu() - start, value)
}

/// One side of a comparison: does its work once and answers with the processor time that counts,
/// without that of its preparations.
pub type Side<'a> = &'a mut dyn FnMut() -> Duration;

/// Runs every side once a round, in an order that reverses each round, and gives the median of each.
pub fn rounds<const N: usize>(count: usize, sides: [Side<'_>; N]) -> [Duration; N] {
    let mut samples = [const { Vec::new() }; N];
    for round in 0..count {
        let order: [usize; N] =
            std::array::from_fn(|at| if round % 2 == 0 { at } else { N - 1 - at });
        for side in order {
            samples[side].push(sides[side]());
        }
    }
    samples.map(|mut samples: Vec<Duration>| {
        samples.sort_unstable();
        samples[samples.len() / 2]
    })
}

/// `count` things in `time`, as things a second.
#[must_use]
pub fn rate(count: usize, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}

/// A rate for a table: `612k`.
#[must_use]
pub fn thousands(rate: f64) -> String {
    if rate < 100_000.0 { format!("{:.1}k", rate / 1e3) } else { format!("{:.0}k", rate / 1e3) }
}
