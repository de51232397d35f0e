//! A cursor goes anywhere in a run, and finds there what a straight run has there.

use crate::toys::author::{Authors, Bug};
use quorate_sim::many::prepare;
use quorate_sim::{Cursor, Plan, SimTime};

fn scenario(_: u64) -> (Authors, Plan<u64>) {
    let mut authors = Authors::new(3, Bug::None);
    authors.writes = 60;
    (authors, Plan::new(SimTime::secs(4)))
}

const SEED: u64 = 11;

/// The trace's hash at the first stop with so many steps, for each number of steps.
fn hashes() -> Vec<u64> {
    let mut hashes = Vec::new();
    let mut sim = prepare(&scenario, SEED, false);
    for step in 0.. {
        sim.advance_to_step(step);
        hashes.push(sim.trace_hash());
        if sim.done() {
            break;
        }
    }
    hashes
}

#[test]
fn at_every_step_the_trace_is_that_of_a_straight_run() {
    let hashes = hashes();
    assert!(hashes.len() > 500, "{}", hashes.len());
    let mut cursor = Cursor::new(prepare(&scenario, SEED, true));
    let last = hashes.len() as u64 - 1;
    for there in 0..=last {
        // Forward by a little, far on, far back: three ways to the same place.
        cursor.seek(there);
        assert_eq!(cursor.sim().trace_hash(), hashes[there as usize], "step {there}");
        let mirror = last - there;
        cursor.seek(mirror);
        assert_eq!(cursor.sim().trace_hash(), hashes[mirror as usize], "step {mirror}");
        cursor.seek(there);
        assert_eq!(cursor.sim().trace_hash(), hashes[there as usize], "step {there} again");
    }
    cursor.finish();
    let straight = prepare(&scenario, SEED, false).finish();
    assert_eq!(cursor.sim().trace_hash(), straight.trace_hash);
    assert_eq!(cursor.place().step, straight.steps);
}

#[test]
fn back_and_forward_undo_each_other() {
    let mut cursor = Cursor::new(prepare(&scenario, SEED, false));
    cursor.forward(300);
    let (place, hash) = (cursor.place(), cursor.sim().trace_hash());
    assert!((300..303).contains(&place.step));
    for steps in 1..place.step {
        cursor.back(steps);
        assert!(cursor.place().step <= place.step - steps, "back by {steps}");
        cursor.seek(place.step);
        assert_eq!((cursor.place(), cursor.sim().trace_hash()), (place, hash));
    }
    cursor.back(10_000);
    assert_eq!((cursor.place().step, cursor.place().event), (0, 0));
    cursor.back(1);
    assert_eq!(cursor.place().step, 0);
}

#[test]
fn events_are_those_of_a_recorded_run_wherever_the_cursor_stands() {
    let trace = quorate_sim::record(&scenario, SEED).trace.expect("recorded");
    let mut cursor = Cursor::new(prepare(&scenario, SEED, true));
    assert_eq!(cursor.events(0..u64::MAX), trace);
    cursor.finish();
    for start in (0..trace.len()).step_by(97) {
        let stretch = &trace[start..trace.len().min(start + 40)];
        assert_eq!(cursor.events(start as u64..start as u64 + 40), stretch);
    }
    assert!(cursor.events(5..5).is_empty());
    let told: Vec<String> = trace.iter().map(|event| event.narrate()).collect();
    assert!(told.iter().any(|line| line.contains("gets from node")));
    assert!(told.iter().any(|line| line.contains("starts with 0 records")));
}

#[test]
fn a_cursor_stops_at_a_time_at_an_event_and_at_a_node() {
    let trace = quorate_sim::record(&scenario, SEED).trace.expect("recorded");
    let mut cursor = Cursor::new(prepare(&scenario, SEED, false));
    for ms in [1_500, 300, 1_501] {
        cursor.seek_time(SimTime::ms(ms));
        let before = trace.iter().filter(|event| event.time <= SimTime::ms(ms)).count();
        assert_eq!(cursor.place().event, before as u64, "{ms} ms");
    }
    for number in [700, 20, 701] {
        cursor.seek_event(number);
        assert!(cursor.place().event > number);
        let hash = trace[cursor.place().event as usize - 1].hash;
        assert_eq!(cursor.sim().trace_hash(), hash);
    }
    cursor.seek(0);
    let mut steps = 0;
    for node in [2, 0, 0, 1].repeat(30) {
        let before = cursor.place();
        assert!(cursor.next_at(node));
        let after = cursor.place();
        assert!(after.step > before.step);
        steps += after.step - before.step;
        let events = cursor.events(before.event..after.event);
        assert!(events.iter().any(|event| event.node == Some(node)));
    }
    assert_eq!(cursor.place().step, steps);
    while cursor.next_at(1) {}
    assert!(cursor.sim().done());
    assert!(!cursor.next_at(1));
}
