//! Durable inserts through the storage against raw redb with the same keys, in one run.
//!
//! `cargo bench -p quorate-runtime-tokio --bench storage [-- DIRECTORY]` prints, for each batch size,
//! the median over rounds of wall and CPU time a record, and the ratio of the two rates. The sides
//! take turns at going first, so that what else the machine does falls on both.

use std::path::Path;
use std::time::Instant;

use bytes::Bytes;
use quorate_runtime_tokio::storage::Storage;
use redb::{Database, TableDefinition};

const RECORD_BYTES: usize = 340;
const ROUNDS: usize = 15;
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

/// Commits of each side in a round, by records in a commit.
const CASES: [(u64, u64); 3] = [(1, 200), (64, 60), (1000, 8)];

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let parent = args.next_back().map_or_else(std::env::temp_dir, Into::into);
    println!("{RECORD_BYTES}-byte records in {}, medians of {ROUNDS} rounds", parent.display());
    println!("batch   raw wall  ours wall  ratio    raw CPU   ours CPU  ratio   (µs a record)");
    for (batch, commits) in CASES {
        let dir = tempfile::tempdir_in(&parent).expect("a directory to write in");
        case(dir.path(), batch, commits);
    }
}

fn case(dir: &Path, batch: u64, commits: u64) {
    let raw = Database::create(dir.join("raw.redb")).expect("raw redb opens");
    let storage = Storage::open(dir).expect("the storage opens");
    let body = Bytes::from(vec![0x5a; RECORD_BYTES]);
    let mut samples: [Vec<f64>; 4] = Default::default();
    for round in 0..ROUNDS as u64 {
        let positions = |commit| {
            let first = (round * commits + commit) * batch;
            first..first + batch
        };
        let mut raw_side = || {
            for commit in 0..commits {
                insert_raw(&raw, positions(commit), &body);
            }
        };
        let mut our_side = || {
            for commit in 0..commits {
                let records: Vec<_> = positions(commit).map(|at| (at, body.clone())).collect();
                storage.append(&records).expect("the storage commits");
            }
        };
        let records = (batch * commits) as f64;
        let mut sides: [(usize, &mut dyn FnMut()); 2] = [(0, &mut raw_side), (1, &mut our_side)];
        if round % 2 == 1 {
            sides.reverse();
        }
        for (side, run) in sides {
            let (wall, cpu) = (Instant::now(), cpu_us());
            run();
            samples[side].push(wall.elapsed().as_secs_f64() * 1e6 / records);
            samples[2 + side].push((cpu_us() - cpu) / records);
        }
    }
    let [raw_wall, wall, raw_cpu, cpu] = samples.map(median);
    println!(
        "{batch:5} {raw_wall:10.2} {wall:10.2} {:6.2} {raw_cpu:10.2} {cpu:10.2} {:6.2}",
        raw_wall / wall,
        raw_cpu / cpu
    );
}

fn insert_raw(database: &Database, positions: std::ops::Range<u64>, body: &[u8]) {
    let write = database.begin_write().expect("redb begins");
    let mut log = write.open_table(LOG).expect("redb opens the table");
    for position in positions {
        log.insert(position, body).expect("redb inserts");
    }
    drop(log);
    write.commit().expect("redb commits");
}

/// Microseconds this thread has been on a processor; nothing where the system does not tell.
fn cpu_us() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e3
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
