//! Quorate's ingest and sync beside those of p2panda-core and iroh-docs, in one run.
//!
//! Each table is of medians over rounds in which the sides took turns, in processor time of the
//! whole process; docs/BENCHMARKS.md says how to run this and what it gave.

mod ingest;
mod sync;

fn main() {
    ingest::table();
    println!();
    sync::table();
}
