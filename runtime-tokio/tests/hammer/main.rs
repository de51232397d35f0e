//! Three real processes under kills, pauses and cuts, and clients that write down what they were told.
//!
//! Some clients read, write and compare-and-set keys of the registry through whichever node answers;
//! some hold a lock in turn, with a command that writes under its token. A fault follows the other all
//! the while: a node is killed with -9 and started again, is stopped and goes on, or, where network
//! namespaces are to be had, is cut off, wholly or in one direction. In the end everything is healed,
//! and then must hold:
//!
//! - the history of each key is linearizable, by the search and by the revisions;
//! - what was acknowledged is there;
//! - no two holders of the lock ever ran at one time, and no token was granted twice;
//! - a write under an older token than one that was used is refused, by the registry and by a store
//!   outside it that remembers the newest token.
//!
//! It takes as long as it is given, and so is left out of an ordinary `cargo test`:
//! `QUORATE_HAMMER_SECONDS=180 cargo test -p quorate-runtime-tokio --test hammer -- --nocapture`.

mod clients;
mod faults;
mod holders;
#[path = "../process/mod.rs"]
mod process;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clients::{Clients, Recorder};
use faults::Faults;
use process::Place;

/// Clients of the registry.
const CLIENTS: u64 = 5;
/// Processes that want the lock.
const HOLDERS: usize = 3;

#[test]
fn what_clients_are_told_is_so_whatever_befalls_the_nodes() {
    let Ok(seconds) = std::env::var("QUORATE_HAMMER_SECONDS") else {
        println!("left out: QUORATE_HAMMER_SECONDS says for how long it is done");
        return;
    };
    let seconds = seconds.parse().expect("QUORATE_HAMMER_SECONDS is a number of seconds");
    let seed = getrandom::u64().unwrap();
    let mut places: [Place; 3] = std::array::from_fn(|_| Place::new());
    let mut faults = Faults::new(seed);
    println!("seed {seed:#x}; {}", faults.about());
    for (n, place) in places.iter_mut().enumerate() {
        faults.start(n, place);
    }
    found(&places);
    let recorder = Recorder::default();
    let (clients, stop) = (Clients::new(&places, &recorder), AtomicBool::new(false));
    let holders = holders::Holders::new(&places);
    let until = Instant::now() + Duration::from_secs(seconds);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn({
                let (clients, stop) = (&clients, &stop);
                move || clients.run(client, seed, stop)
            });
        }
        for holder in 0..HOLDERS {
            scope.spawn({
                let (holders, stop) = (&holders, &stop);
                move || holders.run(holder, stop)
            });
        }
        while Instant::now() < until {
            faults.one(&mut places);
        }
        Faults::heal(&places);
        settle(&places);
        stop.store(true, Ordering::Relaxed);
    });
    clients.read_all();
    let told = recorder.check();
    let held = holders.check();
    println!("{}; {told}; {held}", faults.done());
}

/// One mesh and one cluster of all three.
fn found(places: &[Place; 3]) {
    let [first, others @ ..] = places;
    for other in others {
        first.admit(other);
    }
    first.run(&["cluster", "init"]).ok();
    for other in others {
        first.run(&["cluster", "add", &other.id]).ok();
    }
}

/// Waits until each node answers a linearizable read: each has a leader that it reaches.
fn settle(places: &[Place; 3]) {
    for place in places {
        while place.run(&["reg", "list", "--limit", "1"]).code != 0 {}
    }
}
