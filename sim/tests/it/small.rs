//! Small configurations, looked at whole.

use core::hash::Hash;

use crate::toys::lock::Locks;
use quorate_machine::{Cx, Effects, Input, Machine, Never, NodeId, Time};
use quorate_sim::explore::small::{Bounds, Ended, Explored, Small, State, explore, narrate};
use quorate_sim::trace::TraceHasher;

fn crashes(crashes: u32) -> Bounds {
    Bounds { crashes, ..Bounds::default() }
}

#[test]
fn a_grant_that_overtakes_its_record_is_found_by_a_shortest_path() {
    let locks = Locks { clients: 2, hasty: true, polite: false };
    // Without a crash nothing is wrong with it.
    assert_eq!(explore(&locks, Bounds::default(), |_| {}).ended, Ended::Complete);
    let found = explore(&locks, crashes(1), |_| {});
    let violation = found.violation.as_ref().expect("two hold the lock");
    // Ask, arrives, granted, crash, ask, arrives, granted: there is no shorter way.
    assert_eq!((found.depth, violation.path.len(), found.ended), (7, 7, Ended::Violation));
    assert_eq!(violation.reason, "[1, 2] hold the lock");
    let shallower = Bounds { depth_max: 6, ..crashes(1) };
    let shallower = explore(&locks, shallower, |_| {});
    assert_eq!((shallower.violation, shallower.ended), (None, Ended::Depth));
    let expected = [
        "node 1 is asked Lock: node 1 sends Request to node 0",
        "Request from node 1 to node 0 arrives: node 0 writes Some(0000000000), node 0 sends Grant \
         to node 1",
        "Grant from node 0 to node 1 arrives: node 1 tells true",
        "node 0 dies and starts again with 0 of 1 records (0 durable)",
        "node 2 is asked Lock: node 2 sends Request to node 0",
        "Request from node 2 to node 0 arrives: node 0 writes Some(0000000000), node 0 sends Grant \
         to node 2",
        "Grant from node 0 to node 2 arrives: node 2 tells true",
    ];
    assert_eq!(violation.path, expected);
    assert_eq!(narrate(&locks, crashes(1), &violation.choices), violation.path);
    let text = found.to_string();
    assert!(text.contains("1 crashes") && text.contains("  7. Grant from"), "{text}");
}

#[test]
fn the_correct_lock_is_looked_at_whole() {
    let locks = Locks { clients: 2, hasty: false, polite: true };
    let mut told = Vec::new();
    let found = explore(&locks, crashes(1), |progress| told.push(progress.states));
    assert_eq!((found.violation.as_ref(), found.ended), (None, Ended::Complete));
    assert_eq!((found.states, found.transitions, found.depth), (310, 939, 13), "{found}");
    assert!(told.is_sorted() && told.last() == Some(&found.states));
    let few = explore(&locks, Bounds { states_max: 100, ..crashes(1) }, |_| {});
    assert_eq!((few.states, few.ended), (100, Ended::States));
    assert!(few.to_string().contains("NOT ALL"), "{few}");
}

/// Counts; node 0 sends node 1 what it is asked to, and has a timer if it is asked for 9.
#[derive(Clone, Hash)]
struct Teller {
    peer: NodeId,
    heard: Vec<u8>,
    due: Option<Time>,
}

impl Machine for Teller {
    type Message = u8;
    type Record = Never;
    type Command = u8;
    type Event = Never;

    fn restore(&mut self, record: Never) {
        match record {}
    }

    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        match input {
            Input::Command(9) => self.due = Some(cx.now.after_ms(1)),
            Input::Command(8) => panic!("asked to"),
            Input::Command(word) => fx.send(self.peer, word),
            Input::Message { message, .. } => self.heard.push(message),
            Input::Tick => self.due = self.due.filter(|_| self.heard.len() > 9),
            _ => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.due
    }
}

#[derive(Clone, Hash)]
struct Tell(Vec<u8>);

impl Small for Tell {
    type Machine = Teller;

    fn nodes(&self) -> usize {
        2
    }

    fn boot(&self, node: usize) -> Teller {
        Teller { peer: self.id(1 - node), heard: Vec::new(), due: None }
    }

    fn digest(&self, machine: &Teller, hasher: &mut TraceHasher) {
        machine.hash(hasher);
    }

    fn script(&self, node: usize) -> Vec<u8> {
        if node == 0 { self.0.clone() } else { Vec::new() }
    }

    fn invariant(&self, _: &State<Tell>) -> Result<(), String> {
        Ok(())
    }

    fn settled(&self, state: &State<Tell>) -> Result<(), String> {
        let heard = &state.machine(1).heard;
        if heard.len() < self.0.len() && !self.0.contains(&9) {
            return Err(format!("only {heard:?} were heard"));
        }
        Ok(())
    }
}

fn tell(words: &[u8], bounds: Bounds) -> Explored {
    explore(&Tell(words.to_vec()), bounds, |_| {})
}

#[test]
fn states_are_counted_as_by_hand() {
    let calm = Bounds::default();
    // Not asked, on its way, heard.
    assert_eq!(tell(&[1], calm).states, 3);
    // And once more on its way after it was heard, heard twice: the budget of one duplicate.
    assert_eq!(tell(&[1], Bounds { duplicates: 1, ..calm }).states, 5);
    // Two in any order: what was asked {0, 1, 2}, and which of those were heard in which order:
    // 1 + 2 + 5; in order: 1 + 2 + 3.
    assert_eq!(tell(&[1, 2], calm).states, 8);
    assert_eq!(tell(&[1, 2], Bounds { ordered: true, ..calm }).states, 6);
    // Two of a kind have no order between them.
    assert_eq!(tell(&[1, 1], calm).states, 6);
    // A timer that was asked for and fires, with a budget for it: asked, fired.
    assert_eq!(tell(&[9], Bounds { ticks: 1, ..calm }).states, 3);
    assert_eq!(tell(&[9], calm).states, 2);
    // A crash of either node, or of none; with the message on its way it is lost.
    let crashed = tell(&[1], crashes(1));
    assert_eq!(crashed.violation.expect("nobody sends it again").path.len(), 2);
}

#[test]
fn deadlocks_and_panics_are_violations() {
    let lost = tell(&[1], Bounds { drops: 1, ..Bounds::default() });
    let violation = lost.violation.expect("it is not sent again");
    assert_eq!(violation.reason, "only [] were heard");
    assert_eq!(violation.path[1], "1 from node 0 to node 1 is lost");
    let panics = tell(&[1, 8], Bounds::default()).violation.expect("it panics");
    assert!(panics.reason.starts_with("asked to ("), "{}", panics.reason);
    assert_eq!(panics.path.len(), 2);
    assert!(panics.path[1].starts_with("node 0 is asked 8: asked to"), "{:?}", panics.path);
}
