//! Sync of 10,000 entries by 100 authors between two replicas in memory, beside iroh-docs.
//!
//! Both encode and decode every message. What iroh-docs moves is keys, hashes and signatures only:
//! its values travel apart, and are not counted. In Quorate, one side lacks the ends of chains; in
//! iroh-docs, the same number of entries, spread over the same authors.

use std::time::Duration;

use iroh_docs::store::Store;
use iroh_docs::sync::{
    ContentStatus, ProtocolMessage, Record, RecordIdentifier, SignedEntry, SyncOutcome,
};
use iroh_docs::{Author, NamespaceSecret};
use quorate_bench::pair::{FRAME_HEADER_BYTES, Pair};
use quorate_bench::workload::{KEY_BYTES, VALUE_BYTES, Workload};
use quorate_bench::{rounds, timed};
use quorate_core::entry::Entry;
use quorate_core::hash::Hash;

const AUTHORS: usize = 100;
const ENTRIES: usize = 10_000;
const ROUNDS: usize = 3;
/// Time enough for the difference to move and for a second session to find both equal.
const SYNC_MS: u64 = 10_000;

/// Measures and prints.
pub fn table() {
    let (mut workload, mut all) = Workload::new(AUTHORS);
    all.extend(workload.everyone(ENTRIES / AUTHORS));
    println!(
        "Sync, {ENTRIES} entries by {AUTHORS} authors, both sides, medians of {ROUNDS} rounds"
    );
    println!(
        "{:>8} | {:>10} {:>10} {:>6} {:>9} | {:>10} {:>6} {:>9} | {:>10}",
        "missing",
        "Quorate B",
        "of entries",
        "trips",
        "CPU ms",
        "iroh B",
        "trips",
        "CPU ms",
        "CPU ratio"
    );
    let iroh = Iroh::new();
    for missing in [0, 1, 100, 1_000, 10_000] {
        case(&workload, &all, &iroh, missing);
    }
}

fn case(workload: &Workload, all: &[Entry], iroh: &Iroh, missing: usize) {
    let held = if missing == ENTRIES { 0 } else { all.len() - missing };
    let own: usize = all[held..].iter().map(|entry| entry.bytes().len()).sum();
    let mut traffic = Default::default();
    let mut outcome = (0, 0);
    let [ours, theirs] = rounds(
        ROUNDS,
        [
            &mut || {
                let identities = [&workload.identities[0], &workload.identities[1]];
                let entries = [all, &all[..held]];
                let mut pair = Pair::new(workload.founding(), identities, entries);
                pair.join();
                let (time, ()) = timed(|| pair.sync(1, SYNC_MS));
                assert_eq!(pair.store(0).digest(), pair.store(1).digest(), "both hold the same");
                traffic = pair.traffic;
                time
            },
            &mut || {
                let (time, bytes, flights) = iroh.sync(missing);
                outcome = (bytes, flights);
                time
            },
        ],
    );
    let bytes = traffic.metadata_bytes + traffic.page_bytes;
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{missing:>8} | {bytes:>10} {:>10.4} {:>6.1} {:>9.2} | {:>10} {:>6.1} {:>9.2} | {:>10.3}",
        bytes as f64 / own.max(1) as f64,
        f64::from(traffic.flights) / 2.0,
        ms(ours),
        outcome.0,
        f64::from(outcome.1) / 2.0,
        ms(theirs),
        ours.as_secs_f64() / theirs.as_secs_f64(),
    );
}

/// The entries that both sides of iroh-docs share, or lack.
struct Iroh {
    runtime: tokio::runtime::Runtime,
    namespace: NamespaceSecret,
    entries: Vec<SignedEntry>,
}

impl Iroh {
    fn new() -> Iroh {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let namespace = NamespaceSecret::from_bytes(&[7; 32]);
        let author = |number: usize| {
            let mut seed = [1; 32];
            seed[..8].copy_from_slice(&number.to_le_bytes());
            Author::from_bytes(&seed)
        };
        let authors: Vec<Author> = (0..AUTHORS).map(author).collect();
        let entry = |at: usize| {
            let author = &authors[at % AUTHORS];
            let hash = Hash::of(&at.to_le_bytes()).0;
            let id = RecordIdentifier::new(namespace.id(), author.id(), &hash[..KEY_BYTES]);
            let record = Record::new(hash.into(), VALUE_BYTES as u64, 1_000_000 + at as u64);
            SignedEntry::from_entry(iroh_docs::Entry::new(id, record), &namespace, author)
        };
        let entries = (0..ENTRIES).map(entry).collect();
        Iroh { runtime, namespace, entries }
    }

    /// One sync where one side lacks the last `missing` entries: time, bytes, messages.
    fn sync(&self, missing: usize) -> (Duration, usize, u32) {
        let (mut one, mut other) = (Store::memory(), Store::memory());
        let mut ahead = one.new_replica(self.namespace.clone()).expect("a replica");
        let mut behind = other.new_replica(self.namespace.clone()).expect("a replica");
        self.runtime.block_on(async {
            for (at, entry) in self.entries.iter().enumerate() {
                let status = ContentStatus::Complete;
                let inserted = ahead.insert_remote_entry(entry.clone(), [9; 32], status).await;
                inserted.expect("a valid entry");
                if at < ENTRIES - missing {
                    let status = ContentStatus::Complete;
                    let inserted = behind.insert_remote_entry(entry.clone(), [9; 32], status).await;
                    inserted.expect("a valid entry");
                }
            }
        });
        let (mut bytes, mut messages, mut received) = (0, 0, 0);
        let (time, ()) = timed(|| {
            self.runtime.block_on(async {
                let (mut state_ahead, mut state_behind) = <(SyncOutcome, SyncOutcome)>::default();
                let mut next = behind.sync_initial_message().map(Some).expect("a message");
                while let Some(message) = next {
                    let encoded = postcard::to_stdvec(&message).expect("it encodes");
                    bytes += FRAME_HEADER_BYTES + encoded.len();
                    messages += 1;
                    let message: ProtocolMessage =
                        postcard::from_bytes(&encoded).expect("it was encoded");
                    let reply = if messages % 2 == 1 {
                        ahead.sync_process_message(message, [2; 32], &mut state_ahead).await
                    } else {
                        behind.sync_process_message(message, [1; 32], &mut state_behind).await
                    };
                    next = reply.expect("it syncs");
                }
                received = state_behind.num_recv;
            });
        });
        assert!(received >= missing, "everything that was missing has come");
        (time, bytes, messages)
    }
}
