//! Small claims by hand, and a store whose revisions the search of `linear` is asked about too.

use super::*;
use crate::SimTime;
use crate::check::linear;
use crate::prng::Rng;

/// A register that numbers its states: what it answers is its number with the value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Numbered {
    revision: u64,
    value: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ask {
    Get,
    Set(u8),
}

impl Model for Numbered {
    type Call = Ask;
    type Response = (u64, u8);
    type Key = ();

    fn key(_: &Ask) {}

    fn apply(&mut self, call: &Ask) -> (u64, u8) {
        if let Ask::Set(value) = call {
            *self = Numbered { revision: self.revision + 1, value: *value };
        }
        (self.revision, self.value)
    }
}

type Answers = History<Ask, (u64, u8)>;

fn place(operation: &Operation<Ask, (u64, u8)>, response: &(u64, u8)) -> Place {
    Place { revision: response.0, wrote: matches!(operation.call, Ask::Set(_)) }
}

fn verdict(history: &Answers) -> Verdict<Wrong> {
    check(&Numbered::default(), history, place, linear::WORK_MAX)
}

/// One operation after another; no answer is an open one.
fn sequence(operations: &[(Ask, Option<(u64, u8)>)]) -> Answers {
    let mut history = History::new();
    for (call, response) in operations {
        let id = history.invoke(0, 0, SimTime::ZERO, call.clone());
        if let Some(response) = response {
            history.answer(id, SimTime::ZERO, *response);
        }
    }
    history
}

#[test]
fn right_claims_hold() {
    use Ask::{Get, Set};
    let done = |value, revision| (Set(value), Some((revision, value)));
    assert_eq!(verdict(&sequence(&[])), Verdict::Holds);
    let history = sequence(&[(Get, Some((0, 0))), done(5, 1), (Get, Some((1, 5))), done(6, 2)]);
    assert_eq!(verdict(&history), Verdict::Holds);
    // Revision 2 is missing: the open write took it. Of the two only one can have.
    let lost = [done(5, 1), (Set(7), None), (Set(8), None), (Get, Some((2, 8))), done(6, 3)];
    assert_eq!(verdict(&sequence(&lost)), Verdict::Holds);
}

#[test]
fn wrong_claims_are_named() {
    use Ask::{Get, Set};
    let done = |value, revision| (Set(value), Some((revision, value)));
    let text = |operations: &[_]| match verdict(&sequence(operations)) {
        Verdict::Violated(wrong) => wrong.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(text(&[done(5, 1), done(6, 1)]), "the writes #0 and #1 both claim revision 1");
    let stale = "#0 was answered with revision 1 before #1 was invoked, which was answered with \
                 revision 0";
    assert_eq!(text(&[done(5, 1), (Get, Some((0, 0)))]), stale);
    let wrong = "#1 was answered (1, 6); at revision 1 it is (1, 5)";
    assert_eq!(text(&[done(5, 1), (Get, Some((1, 6)))]), wrong);
    // The open write was invoked only after the one that claims to have come after it.
    let late = [done(5, 2), (Set(7), None)];
    assert_eq!(text(&late), "#0 was answered (2, 5); at revision 2 it is (1, 5)");
}

#[test]
fn too_many_open_operations_are_said() {
    let mut operations: Vec<_> = (0..12).map(|n| (Ask::Set(n), None)).collect();
    operations.push((Ask::Get, Some((10, 99))));
    let verdict = check(&Numbered::default(), &sequence(&operations), place, 5_000);
    assert_eq!(verdict, Verdict::Unknown { work: 5_000 });
}

/// How the store of a random history may err.
#[derive(Clone, Copy, PartialEq)]
enum Store {
    Right,
    /// Now and then it answers a read with what was there before.
    Stale,
    /// Now and then it forgets a write that it acknowledged.
    Forgets,
    /// Now and then two writes get one number.
    Twice,
}

/// An operation under way, and its answer once it took effect.
type Under = (OpId, Ask, Option<(u64, u8)>);

/// Up to ten operations of three clients; a write's or a read's effect falls somewhere between.
fn random(store: Store, rng: &mut Rng) -> Answers {
    let (mut history, mut state) = (History::new(), Numbered::default());
    let mut before = state.clone();
    let mut clients: [Option<Under>; 3] = [None, None, None];
    for at in 0..30 {
        let at = SimTime(at);
        let slot = &mut clients[rng.below(3) as usize];
        let errs = rng.below(3) == 0;
        match slot.take() {
            None if history.len() < 10 => {
                let value = history.len() as u8 % 4;
                let call = if rng.below(2) == 0 { Ask::Get } else { Ask::Set(value) };
                *slot = Some((history.invoke(0, 0, at, call.clone()), call, None));
            }
            None => {}
            // Given up, before or after it took effect.
            Some(_) if rng.below(12) == 0 => {}
            Some((id, call, None)) => {
                let stale = store == Store::Stale && errs && call == Ask::Get;
                let saw = if stale {
                    before.clone().apply(&call)
                } else {
                    let old = state.clone();
                    let answer = state.apply(&call);
                    if call != Ask::Get {
                        before = old.clone();
                    }
                    match store {
                        Store::Forgets if errs => state = old,
                        Store::Twice if errs => state.revision = old.revision,
                        _ => {}
                    }
                    answer
                };
                *slot = Some((id, call, Some(saw)));
            }
            Some((id, _, Some(answer))) => history.answer(id, at, answer),
        }
    }
    history
}

#[test]
fn it_agrees_with_the_search() {
    let mut rng = Rng::new(2);
    for store in [Store::Right, Store::Stale, Store::Forgets, Store::Twice] {
        let mut broken = 0;
        for _ in 0..2_000 {
            let history = random(store, &mut rng);
            let quick = verdict(&history);
            let thorough = linear::check(&Numbered::default(), &history, linear::WORK_MAX);
            match (&quick, &thorough) {
                (Verdict::Holds, Verdict::Holds) => {}
                (Verdict::Violated(_), Verdict::Violated(_)) => broken += 1,
                _ => panic!("{quick:?} and {thorough:?} of {:#?}", history.operations()),
            }
        }
        let expected = if store == Store::Right { 0..1 } else { 300..2_000 };
        assert!(expected.contains(&broken), "{broken} broken histories");
    }
}
