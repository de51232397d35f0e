//! Quorate's replicated log beside the crates `raft` and `omnipaxos`, in one run.
//!
//! `cargo run --release` prints two tables: what each of them makes of a leader that is cut off in
//! one way or another, all three in Quorate's simulator over the same seeds; and how many entries
//! each commits in a second of CPU time, in memory. `elections [SEEDS]` or `commits` prints one,
//! `alone` leaves out the others.

mod commits;
mod elections;
mod omni;
mod peer;
mod quorate;
mod tikv;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let seeds = words.iter().find_map(|word| word.parse().ok()).unwrap_or(200);
    let alone = words.iter().any(|word| word == "alone");
    let other = |word: &&String| word.parse::<u64>().is_err() && *word != "alone";
    let wanted = |name: &str| words.iter().filter(other).all(|word| word == name);
    if wanted("elections") {
        elections::print(seeds, alone);
    }
    if wanted("commits") {
        commits::print(alone);
    }
}
