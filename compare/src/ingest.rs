//! Checked ingest: Quorate's decoding, verifying and merging, against p2panda-core's decoding and
//! validating. p2panda-core keeps no state: what its store would add is not counted.
//!
//! Both sides have the same payload: a key of 16 bytes and a value of 100.

use std::time::Duration;

use bytes::Bytes;
use p2panda_core::cbor::decode_cbor;
use p2panda_core::{
    Body, Hash, Header, Operation, SigningKey, validate_backlink, validate_operation,
};
use quorate_bench::workload::{KEY_BYTES, VALUE_BYTES, WALL, Workload, encoded};
use quorate_bench::{rate, rounds, thousands, timed};
use quorate_core::entry::Entry;
use quorate_core::identity::verify;
use quorate_core::machine::{NodeId, Time};
use quorate_core::store::{Arrival, Store};

const ENTRIES: usize = 4_000;
const PAGE: usize = 400;
const ROUNDS: usize = 7;

type Encoded = (Vec<u8>, Vec<u8>);

/// Measures and prints.
pub fn table() {
    let (mut workload, invitations) = Workload::new(2);
    let linked = encoded(&workload.run(1, ENTRIES));
    let store = store(&workload, invitations);
    let (mut workload, invitations) = Workload::new(ENTRIES);
    let unlinked = encoded(&workload.everyone(1));
    let many = self::store(&workload, invitations);
    let operations = operations();

    let [linked_time, unlinked_time, theirs] = rounds(
        ROUNDS,
        [
            &mut || ingest(store.clone(), &linked),
            &mut || ingest(many.clone(), &unlinked),
            &mut || timed(|| validate(&operations)).0,
        ],
    );
    let theirs = rate(ENTRIES, theirs);
    println!("Checked ingest, a core, medians of {ROUNDS} rounds");
    println!("{:48} {:>10} {:>14} {:>6}", "", "entries/s", "of p2panda's", "bytes");
    let show = |what: &str, rate: f64, bytes: usize| {
        println!("{what:48} {:>10} {:>14.2} {bytes:>6}", thousands(rate), rate / theirs);
    };
    let (header, body) = &operations[ENTRIES / 2];
    show("p2panda-core 0.7.0: decode and validate", theirs, header.len() + body.len());
    show(
        "Quorate: decode, verify and merge, unlinked",
        rate(ENTRIES, unlinked_time),
        unlinked[9].len(),
    );
    show("Quorate: decode, verify and merge, linked", rate(ENTRIES, linked_time), linked[9].len());
}

fn store(workload: &Workload, invitations: Vec<Entry>) -> Store {
    let mut store = Store::new(workload.identities[0].id(), workload.founding(), verify, 0);
    store.ingest(invitations, arrival(), &mut Vec::new());
    store
}

fn arrival() -> Arrival {
    Arrival { from: NodeId([1; 32]), now: Time::ZERO, wall: WALL }
}

fn ingest(mut store: Store, entries: &[Bytes]) -> Duration {
    let before = store.applied();
    let mut out = Vec::new();
    let (time, ()) = timed(|| {
        for page in entries.chunks(PAGE) {
            let page = page.iter().map(|bytes| Entry::decode(bytes.clone()));
            let page = page.collect::<Result<_, _>>().expect("they were encoded");
            store.ingest(page, arrival(), &mut out);
            out.clear();
        }
    });
    assert_eq!(store.applied() - before, entries.len() as u64, "every entry took effect");
    time
}

/// A log of one author: headers and bodies.
fn operations() -> Vec<Encoded> {
    let key = SigningKey::generate();
    let mut backlink = None;
    let one = |seq_num: usize| {
        let mut payload = vec![0x5a; KEY_BYTES + VALUE_BYTES];
        payload[..8].copy_from_slice(&seq_num.to_le_bytes());
        let body = Body::new(&payload);
        let mut header = Header {
            version: 1,
            verifying_key: key.verifying_key(),
            signature: None,
            payload_size: body.size(),
            payload_hash: Some(body.hash()),
            seq_num: seq_num as _,
            backlink,
            extensions: (),
        };
        header.sign(&key);
        backlink = Some(header.hash());
        (header.to_bytes(), payload)
    };
    (0..ENTRIES).map(one).collect()
}

fn validate(operations: &[Encoded]) {
    let mut past: Option<Header<()>> = None;
    for (header, body) in operations {
        let header: Header<()> = decode_cbor(&header[..]).expect("it was encoded");
        let hash: Hash = header.hash();
        let operation = Operation { hash, header, body: Some(Body::new(body)) };
        validate_operation(&operation).expect("a valid operation");
        if let Some(past) = &past {
            validate_backlink(past, &operation.header).expect("a log");
        }
        past = Some(operation.header);
    }
}
