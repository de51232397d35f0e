//! Verified ingest: decoding, hashing, checking signatures or links, and merging into the index.
//!
//! `cargo bench -p quorate-bench --bench ingest`

use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use quorate_bench::workload::{WALL, Workload, encoded};
use quorate_bench::{rate, rounds, thousands, timed};
use quorate_core::entry::Entry;
use quorate_core::identity::{Claim, Signature, verify};
use quorate_core::machine::Time;
use quorate_core::store::{Arrival, Outcome, Store};

/// Entries of a transfer's page: 128 KiB of entries of the size below.
const PAGE: usize = 400;
const PAGES: usize = 50;
const SIGNERS: usize = 4_000;
const ROUNDS: usize = 9;

fn main() {
    let (mut one, invitations) = Workload::new(2);
    let linked = encoded(&one.run(1, PAGE * PAGES));
    let one = (one.founding(), invitations);
    let (mut many, invitations) = Workload::new(SIGNERS);
    let unlinked = many.everyone(1);
    let bytes = encoded(&unlinked);
    let many = (many.founding(), invitations);
    let empty = |(founding, invitations): &(_, Vec<Entry>)| {
        let mut store = Store::new(unlinked[0].header().author, *founding, verify, 0);
        store.ingest(invitations.clone(), arrival(), &mut Vec::new());
        store
    };
    let mut ingest_linked = || ingest(empty(&one), linked.chunks(PAGE));
    let mut decode_linked = || timed(|| decode(&linked).len()).0;
    let mut ingest_batches = || ingest(empty(&many), bytes.chunks(PAGE));
    let mut ingest_singly = || ingest(empty(&many), bytes.chunks(1));
    let signed: Vec<_> = unlinked.iter().map(signed).collect();
    let mut strict = || timed(|| assert!(signed.iter().all(verify_strict))).0;
    let mut ours = || timed(|| assert!(unlinked.iter().all(|entry| entry.is_signed(verify)))).0;
    let mut at_once = || {
        let all = unlinked.chunks(PAGE).map(|page| page.iter().map(Entry::claim).collect());
        let all: Vec<Vec<Claim<'_>>> = all.collect();
        timed(|| assert!(all.iter().all(|page| verify(page)))).0
    };
    let [linked_time, decoded, batches, singly, raw, own, at_once] = rounds(
        ROUNDS,
        [
            &mut ingest_linked,
            &mut decode_linked,
            &mut ingest_batches,
            &mut ingest_singly,
            &mut strict,
            &mut ours,
            &mut at_once,
        ],
    );
    let raw = rate(SIGNERS, raw);
    println!("entries of {} bytes, medians of {ROUNDS} rounds, a core", bytes[9].len());
    println!("{:50} {:>10}  of raw verify_strict", "", "entries/s");
    let show = |what: &str, count: usize, time: Duration| {
        let rate = rate(count, time);
        println!("{what:50} {:>10}  {:6.2}", thousands(rate), rate / raw);
    };
    show(
        "raw verify_strict, keys decompressed before",
        SIGNERS,
        Duration::from_secs_f64(SIGNERS as f64 / raw),
    );
    show("identity::verify, one by one", SIGNERS, own);
    show(&format!("identity::verify, {PAGE} by as many authors at once"), SIGNERS, at_once);
    show(&format!("ingest, linked, pages of {PAGE} by one author"), PAGE * PAGES, linked_time);
    show("  of which decoding", PAGE * PAGES, decoded);
    show(&format!("ingest, unlinked, pages of {PAGE} by as many authors"), SIGNERS, batches);
    show("ingest, unlinked, one by one", SIGNERS, singly);
}

fn arrival() -> Arrival {
    Arrival { from: quorate_core::machine::NodeId([1; 32]), now: Time::ZERO, wall: WALL }
}

fn decode(entries: &[Bytes]) -> Vec<Entry> {
    entries.iter().map(|bytes| Entry::decode(bytes.clone()).expect("it was encoded")).collect()
}

/// The time it takes a store to take the batches in; dropping it not included.
fn ingest<'a>(mut store: Store, batches: impl Iterator<Item = &'a [Bytes]>) -> Duration {
    let before = store.applied();
    let mut expected = 0;
    let mut out: Vec<Outcome> = Vec::new();
    let (time, ()) = timed(|| {
        for batch in batches {
            expected += batch.len() as u64;
            store.ingest(decode(batch), arrival(), &mut out);
            out.clear();
        }
    });
    assert_eq!(store.applied() - before, expected, "every entry took effect");
    time
}

type Signed = (VerifyingKey, Bytes, ed25519_dalek::Signature);

fn signed(entry: &Entry) -> Signed {
    let head = entry.head();
    let (message, signature) = head.split_at(head.len() - Signature::BYTES);
    let key = VerifyingKey::from_bytes(&entry.header().author.0).expect("a valid key");
    let signature = ed25519_dalek::Signature::from_slice(signature).expect("64 bytes");
    (key, Bytes::copy_from_slice(message), signature)
}

fn verify_strict((key, message, signature): &Signed) -> bool {
    key.verify_strict(message, signature).is_ok()
}
