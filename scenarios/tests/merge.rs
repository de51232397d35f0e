//! Entries of members are taken in any order and any number of times: what can be read is the same.

use bytes::Bytes;
use quorate_core::entry::Entry;
use quorate_core::identity::{Identity, verify};
use quorate_core::machine::{NodeId, Time, WallTime};
use quorate_core::store::{Arrival, Change, Founding, Outcome, Store};
use quorate_sim::check::merge::{Checked, Orders, items};

const WALL: WallTime = WallTime(1_000_000);

fn take(store: &mut Store, entry: &Entry) -> Vec<Outcome> {
    let mut out = Vec::new();
    let arrival = Arrival { from: NodeId([0xee; 32]), now: Time::ZERO, wall: WALL };
    store.ingest(vec![entry.clone()], arrival, &mut out);
    store.check();
    out
}

/// Three authors write one key and one counter, the second having seen the first's, the third not.
fn written() -> (Store, Vec<Entry>) {
    let authors = [1, 2, 3].map(|n| Identity::from_seed([n; 32]));
    let founding = Founding { founder: authors[0].id(), nonce: [0; 16] };
    let mut stores = [0, 1, 2].map(|n: usize| Store::new(authors[n].id(), founding, verify, 0));
    let mut entries: Vec<Entry> = Vec::new();
    let mut write = |stores: &mut [Store; 3], n: usize, change: Change, told: &[usize]| {
        let mut out = Vec::new();
        stores[n].write(&authors[n], &[change], WALL, &mut out).expect("it may");
        for outcome in out {
            if let Outcome::Stored { entry, .. } = outcome {
                told.iter().for_each(|&peer| drop(take(&mut stores[peer], &entry)));
                entries.push(entry);
            }
        }
    };
    let put = |value: &'static str| {
        let (key, value) = (Bytes::from_static(b"key"), Bytes::from_static(value.as_bytes()));
        Change::Put { key, value }
    };
    for n in [1, 2] {
        write(&mut stores, 0, Change::Invite { node: authors[n].id() }, &[1, 2]);
    }
    write(&mut stores, 0, put("first"), &[1]);
    write(&mut stores, 1, put("second"), &[]);
    write(&mut stores, 2, put("third"), &[]);
    write(&mut stores, 2, put("fourth"), &[0]);
    write(&mut stores, 0, put("fifth"), &[]);
    write(&mut stores, 1, put("sixth"), &[]);
    // Entries of strangers are refused, not kept: members are known first.
    let mut store = Store::new(NodeId([9; 32]), founding, verify, 0);
    entries.drain(..2).for_each(|invitation| drop(take(&mut store, &invitation)));
    (store, entries)
}

#[test]
fn a_store_takes_its_entries_in_any_order_and_twice() {
    let (start, entries) = written();
    assert_eq!(entries.len(), 6);
    let apply = |store: &mut Store, entry: &Entry| drop(take(store, entry));
    let checked = items(&start, &entries, Orders::Any, 1, apply, Store::digest);
    assert_eq!(checked, Ok(Checked { orders: 720, all: true }));
    // The digest tells stores apart: one without the last entry has another.
    let digest = |entries: &[Entry]| {
        let mut store = start.clone();
        entries.iter().for_each(|entry| apply(&mut store, entry));
        store.digest()
    };
    assert_ne!(digest(&entries), digest(&entries[..5]));
}
