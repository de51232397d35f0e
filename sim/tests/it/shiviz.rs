//! The vector clocks of a recorded run say what happened before what, and nothing else.

use crate::toys::author::{Authors, Bug};
use quorate_sim::shiviz::{Clock, clocks, log};
use quorate_sim::trace::{TraceEvent, What};
use quorate_sim::{About, Plan, SimTime, record};

fn small_run() -> Vec<TraceEvent> {
    let scenario = |_: u64| (Authors::new(3, Bug::None), Plan::new(SimTime::ms(1_500)));
    record(&scenario, 3).trace.expect("recorded")
}

/// Whether there is a path from each event to each other: along a node, or with a message.
fn reaches(events: &[TraceEvent]) -> Vec<Vec<bool>> {
    let mut reached = vec![vec![false; events.len()]; events.len()];
    for to in 0..events.len() {
        let mut causes: Vec<usize> = Vec::new();
        causes.extend((0..to).rfind(|&from| events[from].node == events[to].node));
        if let (What::Deliver, About::Message(sent)) = (events[to].what, &events[to].about) {
            causes.push(*sent as usize);
        }
        for cause in causes {
            reached[cause][to] = true;
            for row in &mut reached[..to] {
                row[to] |= row[cause];
            }
        }
    }
    reached
}

fn before(one: &Clock, other: &Clock) -> bool {
    one != other && one.iter().all(|(host, seen)| other.get(host).is_some_and(|n| n >= seen))
}

#[test]
fn clocks_are_reachability() {
    let events = small_run();
    assert!(events.len() > 200, "{}", events.len());
    let count = |what| events.iter().filter(|event| event.what == what).count();
    assert!(count(What::Deliver) > 20 && count(What::Drop) > 0, "a run with something in it");
    let (clocks, reaches): (Vec<Clock>, _) = (clocks(&events).collect(), reaches(&events));
    for from in 0..events.len() {
        for to in 0..events.len() {
            let (one, other) = (&events[from], &events[to]);
            assert_eq!(before(&clocks[from], &clocks[to]), reaches[from][to], "{one} and {other}");
        }
    }
}

#[test]
fn every_message_is_its_sends() {
    let events = small_run();
    let about = events.iter().filter(|event| {
        matches!(event.what, What::Deliver | What::Duplicate) || event.what == What::Drop
    });
    for event in about {
        let About::Message(sent) = event.about else { panic!("{event} is about no message") };
        let send = &events[sent as usize];
        assert_eq!((send.number, send.what), (sent, What::Send));
        let ends = if event.what == What::Deliver {
            (event.peer, event.node)
        } else {
            (event.node, event.peer)
        };
        assert_eq!(ends, (send.node, send.peer), "{event}");
        if event.what == What::Deliver {
            assert_eq!(event.detail, send.detail);
        }
    }
}

#[test]
fn the_log_is_a_line_an_event_that_ends_in_its_clock() {
    let events = small_run();
    let log = log(&events);
    assert_eq!(log.lines().count(), events.len());
    for (line, event) in log.lines().zip(&events) {
        let host = line.split(' ').next().expect("a host");
        let clock = &line[line.rfind(" {").expect("a clock") + 1..];
        let clock: serde_json::Value = serde_json::from_str(clock).expect("the clock is JSON");
        assert!(clock[host].as_u64().is_some_and(|seen| seen > 0), "{line}");
        let node = event.node.map_or("simulator".to_owned(), |node| format!("node{node}"));
        assert_eq!(host, node);
    }
}
