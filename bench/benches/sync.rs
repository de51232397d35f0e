//! Sync between two nodes joined in memory: bytes, round trips and processor time.
//!
//! `cargo bench -p quorate-bench --bench sync`. Beside iroh-docs: see `compare/`.

use std::time::Duration;

use quorate_bench::pair::{Pair, Traffic};
use quorate_bench::timed;
use quorate_bench::workload::Workload;
use quorate_core::entry::Entry;

const ROUNDS: usize = 3;

fn main() {
    println!("10,000 entries by 100 authors, medians of {ROUNDS} rounds; both sides' time");
    header();
    let (mut workload, invitations) = Workload::new(100);
    let mut all = invitations;
    all.extend(workload.everyone(100));
    for missing in [0, 1, 100, 1_000, 10_000] {
        for initiator in [1, 0] {
            case(&workload, &all, missing, initiator);
        }
    }
    println!("10,000 entries by 10,000 authors");
    header();
    let (mut workload, invitations) = Workload::new(10_000);
    let mut all = invitations;
    all.extend(workload.everyone(1));
    for missing in [0, 1, 10, 100, 10_000] {
        for initiator in [1, 0] {
            case(&workload, &all, missing, initiator);
        }
    }
}

fn header() {
    println!(
        "{:>8} {:>12} {:>12} {:>12} {:>10} {:>9} {:>9} {:>9}",
        "missing",
        "offered by",
        "metadata B",
        "pages B",
        "of entries",
        "messages",
        "trips",
        "CPU ms"
    );
}

/// The last `missing` entries are held by one node only.
fn case(workload: &Workload, all: &[Entry], missing: usize, initiator: usize) {
    let held = if missing == 10_000 { 0 } else { all.len() - missing };
    let own: usize = all[held..].iter().map(|entry| entry.bytes().len()).sum();
    let mut samples: Vec<(Duration, Traffic)> = Vec::new();
    for _ in 0..ROUNDS {
        let identities = [&workload.identities[0], &workload.identities[1]];
        let mut pair = Pair::new(workload.founding(), identities, [all, &all[..held]]);
        pair.join();
        let (time, ()) = timed(|| pair.sync(initiator, 10_000));
        assert_eq!(pair.store(0).digest(), pair.store(1).digest(), "both hold the same");
        samples.push((time, pair.traffic));
    }
    samples.sort_unstable_by_key(|(time, _)| *time);
    let (time, traffic) = samples[ROUNDS / 2];
    let Traffic { metadata_bytes, page_bytes, messages, flights } = traffic;
    let of_entries = (metadata_bytes + page_bytes) as f64 / own.max(1) as f64;
    println!(
        "{missing:>8} {:>12} {metadata_bytes:>12} {page_bytes:>12} {:>10} {messages:>9} {:>9.1} {:>9.2}",
        if initiator == 1 { "behind" } else { "ahead" },
        if own == 0 { String::from("-") } else { format!("{of_entries:.4}") },
        f64::from(flights) / 2.0,
        time.as_secs_f64() * 1e3,
    );
}
