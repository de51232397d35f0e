//! What a million keys cost in memory: keys of 16 bytes with values of 100, one entry a key.
//!
//! `cargo bench -p quorate-bench --bench memory`
//!
//! Counted exactly, by the allocator: the bytes asked for and not given back. What the allocator
//! itself adds is told beside, as the growth of the resident set.

use std::alloc::System;

use cap::Cap;
use quorate_bench::workload::{WALL, Workload};
use quorate_core::identity::verify;
use quorate_core::machine::{NodeId, Time};
use quorate_core::store::{Arrival, Store};

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

const KEYS: usize = 1_000_000;
const BATCH: usize = 400;

fn main() {
    println!("{:24} {:>16} {:>18}", "1,000,000 keys", "index bytes/key", "resident bytes/key");
    for authors in [1, 100, 10_000] {
        case(authors);
    }
}

fn case(authors: usize) {
    let (mut workload, invitations) = Workload::new(authors + 1);
    let arrival = Arrival { from: NodeId([1; 32]), now: Time::ZERO, wall: WALL };
    let mut out = Vec::new();
    let mut store = Store::new(workload.identities[0].id(), workload.founding(), verify, 0);
    store.ingest(invitations, arrival, &mut out);
    out.clear();
    let (allocated, resident) = (ALLOCATOR.allocated(), resident());
    for first in (0..KEYS).step_by(BATCH) {
        // Each batch by one author: links spare the signatures.
        let author = 1 + first / BATCH % authors;
        store.ingest(workload.run(author, BATCH), arrival, &mut out);
        out.clear();
    }
    assert_eq!(store.dag().len(), KEYS);
    let out = std::mem::take(&mut out);
    drop(out);
    let index = ALLOCATOR.allocated() - allocated;
    let grown = self::resident().saturating_sub(resident);
    let per_key = |bytes: usize| bytes as f64 / KEYS as f64;
    println!("{authors:>10} {:13} {:16.1} {:18.1}", "authors", per_key(index), per_key(grown));
}

/// Bytes of memory that the process occupies.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok());
    pages.unwrap_or(0) * rustix::param::page_size()
}
