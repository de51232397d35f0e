//! Machines that decide by something other than the seed, each in another way, are all caught.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use quorate_machine::{Cx, Effects, Input, Machine, Never, Time};
use quorate_sim::trace::{Difference, TraceEvent, What};
use quorate_sim::{Options, Plan, SimTime, System, check_determinism, many};

/// Tells its host, 5 ms after its start, what `look` saw when it booted.
#[derive(Clone)]
struct Looker {
    look: fn() -> u64,
    due: Option<Time>,
}

impl Machine for Looker {
    type Message = Never;
    type Record = Never;
    type Command = Never;
    type Event = u64;

    fn restore(&mut self, record: Never) {
        match record {}
    }

    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        match input {
            Input::Start => self.due = Some(cx.now.after_ms(5)),
            Input::Tick => {
                self.due = None;
                fx.emit((self.look)());
            }
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.due
    }
}

#[derive(Clone)]
struct Lookers {
    nodes: usize,
    look: fn() -> u64,
}

impl System for Lookers {
    type Machine = Looker;
    type Op = ();

    fn nodes(&self) -> usize {
        self.nodes
    }

    fn boot(&self, _: usize) -> Looker {
        Looker { look: self.look, due: None }
    }
}

/// An even seed has an even number of nodes, an odd one an odd number.
fn scenario(look: fn() -> u64) -> impl Fn(u64) -> (Lookers, Plan<()>) + Sync {
    move |seed| (Lookers { nodes: 2 + (seed % 2) as usize, look }, Plan::calm(SimTime::secs(1)))
}

/// Both sides of what differs, which must be what the machine told.
fn caught(found: Result<(), Box<Difference>>) -> [TraceEvent; 2] {
    let difference = found.expect_err("it decides by something else than the seed");
    let Difference { left: Some(left), right: Some(right) } = *difference else {
        panic!("only one side: {difference}")
    };
    assert_eq!([left.what, right.what], [What::Emit; 2]);
    assert_eq!((left.number, left.time, left.node), (right.number, right.time, right.node));
    assert!(left.node.is_some());
    assert_ne!(left.detail, right.detail);
    [left, right]
}

#[test]
fn a_wall_clock() {
    let look = || SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").subsec_nanos().into();
    caught(check_determinism(&scenario(look), 2));
}

#[test]
#[allow(clippy::disallowed_methods, reason = "it is what is to be caught")]
fn a_stopwatch() {
    let look = || {
        let since = Instant::now();
        (0..1_000).for_each(|n| drop(std::hint::black_box(Box::new(n))));
        since.elapsed().as_nanos() as u64
    };
    caught(check_determinism(&scenario(look), 2));
}

#[test]
#[allow(clippy::disallowed_types, reason = "its order is what is to be caught")]
fn a_hash_map_of_two_keys() {
    let look = || {
        let map = std::collections::HashMap::from([(1, ()), (2, ())]);
        *map.keys().next().expect("two keys")
    };
    let details = caught(check_determinism(&scenario(look), 2)).map(|event| event.detail);
    assert!(details.iter().all(|detail| detail == "1" || detail == "2"), "{details:?}");
}

#[test]
fn a_static_that_counts() {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    caught(check_determinism(&scenario(|| COUNT.fetch_add(1, Ordering::Relaxed)), 2));
}

#[test]
fn a_static_that_a_run_leaves_as_it_found_it() {
    static ODD: AtomicBool = AtomicBool::new(false);
    let look = || u64::from(ODD.fetch_xor(true, Ordering::Relaxed));
    caught(check_determinism(&scenario(look), 2));
}

#[test]
fn a_static_that_only_the_first_run_finds_cold() {
    static WARM: AtomicBool = AtomicBool::new(false);
    let [left, right] =
        caught(check_determinism(&scenario(|| u64::from(WARM.swap(true, Ordering::Relaxed))), 2));
    assert_eq!([&*left.detail, &*right.detail], ["0", "1"]);
}

#[test]
fn what_a_thread_keeps() {
    thread_local! {
        static KEPT: Cell<u64> = const { Cell::new(0) };
    }
    caught(check_determinism(&scenario(|| KEPT.replace(KEPT.get() + 1)), 2));
}

#[test]
fn many_seeds_catch_them_too() {
    static WARM: AtomicBool = AtomicBool::new(false);
    static ODD: AtomicBool = AtomicBool::new(false);
    let cold = || u64::from(WARM.swap(true, Ordering::Relaxed));
    let odd = || u64::from(ODD.fetch_xor(true, Ordering::Relaxed));
    // Seed 0 is repeated after 1 to 20, when the first of them has left its mark.
    let options = Options { threads: 1, ..Options::default() };
    let report = many(&scenario(cold), 0..40, options);
    assert_eq!(report.unstable.iter().map(|(seed, _)| *seed).collect::<Vec<_>>(), [0]);
    let [left, right] = caught(Err(Box::new(report.unstable[0].1.clone())));
    assert_eq!(right.detail, "1");
    assert!(left.detail.contains("did not come again"), "{}", left.detail);

    let every = Options { recheck_every: 1, ..options };
    let report = many(&scenario(odd), 0..10, every);
    assert!(!report.unstable.is_empty() && !report.ok());
    caught(Err(Box::new(report.unstable[0].1.clone())));
}

#[test]
fn what_the_seed_decides_is_left_alone() {
    assert_eq!(check_determinism(&scenario(|| 7), 2), Ok(()));
}
