//! Histories whose verdict is known, and small random ones against every order there is.

use super::*;
use crate::SimTime;
use crate::prng::Rng;

type Small = Register<u8, u8>;
type Calls = History<Call<u8, u8>, Response<u8>>;

const READ: Call<u8, u8> = Call::Read(0);

fn write(value: u8) -> Call<u8, u8> {
    Call::Write(0, value)
}

/// A call, its response, when it was invoked and when answered; 0 for never.
type Row = (Call<u8, u8>, Response<u8>, u64, u64);

fn history(operations: &[Row]) -> Calls {
    let mut events: Vec<(u64, usize, bool)> = Vec::new();
    for (index, (_, _, invoked, answered)) in operations.iter().enumerate() {
        events.push((*invoked, index, false));
        events.extend((*answered > 0).then_some((*answered, index, true)));
    }
    events.sort_unstable();
    let (mut history, mut ids) = (History::new(), BTreeMap::new());
    for (at, index, answer) in events {
        let (call, response, ..) = &operations[index];
        if answer {
            history.answer(ids[&index], SimTime(at), response.clone());
        } else {
            ids.insert(index, history.invoke(index as u64, 0, SimTime(at), call.clone()));
        }
    }
    history
}

fn holds(operations: &[Row]) -> bool {
    match check(&Small::default(), &history(operations), WORK_MAX) {
        Verdict::Holds => true,
        Verdict::Violated(_) => false,
        Verdict::Unknown { .. } => panic!("so small a history is decided"),
    }
}

#[test]
fn good_histories_hold() {
    use Response::{Done, Swapped, Value};
    assert!(holds(&[]));
    assert!(holds(&[(write(1), Done, 1, 2), (READ, Value(Some(1)), 3, 4)]));
    // A read beside a write sees the old or the new.
    assert!(holds(&[(write(1), Done, 1, 4), (READ, Value(None), 2, 3)]));
    assert!(holds(&[(write(1), Done, 1, 4), (READ, Value(Some(1)), 2, 3)]));
    // Herlihy and Wing's point: the answer may come long after the effect.
    assert!(holds(&[
        (write(1), Done, 1, 10),
        (READ, Value(Some(1)), 2, 3),
        (write(2), Done, 4, 9),
        (READ, Value(Some(2)), 5, 6),
    ]));
    // An open write may take effect late, or never.
    let open = (write(1), Done, 1, 0);
    assert!(holds(&[open.clone(), (READ, Value(None), 2, 3), (READ, Value(Some(1)), 4, 5)]));
    assert!(holds(&[open, (READ, Value(None), 2, 3), (READ, Value(None), 4, 5)]));
    let cas = |expected, new| Call::Cas { key: 0, expected, new };
    assert!(holds(&[
        (cas(None, 1), Swapped(true), 1, 4),
        (cas(None, 2), Swapped(false), 2, 5),
        (READ, Value(Some(1)), 6, 7),
    ]));
}

#[test]
fn bad_histories_do_not() {
    use Response::{Done, Swapped, Value};
    // A stale read, a lost write, a value from nowhere.
    assert!(!holds(&[(write(1), Done, 1, 2), (READ, Value(None), 3, 4)]));
    assert!(!holds(&[(READ, Value(Some(9)), 3, 4)]));
    // Two reads beside a write see it, then do not.
    assert!(!holds(&[
        (write(1), Done, 1, 8),
        (READ, Value(Some(1)), 2, 3),
        (READ, Value(None), 4, 5),
    ]));
    // An open write takes effect once, not twice.
    assert!(!holds(&[
        (write(1), Done, 1, 0),
        (READ, Value(Some(1)), 2, 3),
        (write(2), Done, 4, 5),
        (READ, Value(Some(2)), 6, 7),
        (READ, Value(Some(1)), 8, 9),
    ]));
    let cas = |expected, new| Call::Cas { key: 0, expected, new };
    assert!(!holds(&[(cas(None, 1), Swapped(true), 1, 4), (cas(None, 2), Swapped(true), 2, 5)]));
}

#[test]
fn what_failed_never_took_effect() {
    let mut history = history(&[(READ, Response::Value(Some(1)), 5, 6)]);
    let id = history.invoke(9, 0, SimTime::ZERO, write(1));
    let open = history.clone();
    history.fail(id, SimTime::ZERO);
    let check = |history| check(&Small::default(), history, WORK_MAX);
    assert!(matches!(check(&history), Verdict::Violated(_)));
    // Nor does an open one that was invoked after the read was answered.
    assert!(matches!(check(&open), Verdict::Violated(_)));
}

#[test]
fn each_key_is_an_object_of_its_own() {
    let one = (Call::Write(7, 1), Response::Done, 1, 2);
    assert!(holds(&[one.clone(), (READ, Response::Value(None), 3, 4)]));
    let other = (Call::Read(7), Response::Value(None), 5, 6);
    let history = history(&[one, (READ, Response::Value(None), 3, 4), other]);
    let Verdict::Violated(window) = check(&Small::default(), &history, WORK_MAX) else {
        panic!("key 7 was written")
    };
    assert_eq!((window.key, window.operations.len()), (7, 2));
}

#[test]
fn the_window_is_the_two_operations_that_matter() {
    let mut operations: Vec<_> = (0u8..=250)
        .map(|n| {
            let at = 10 * u64::from(n) + 1;
            let read = (READ, Response::Value(Some(n)), at + 2, at + 3);
            [(write(n), Response::Done, at, at + 1), read]
        })
        .collect::<Vec<_>>()
        .concat();
    // In the middle, a read of what was there three writes ago.
    operations[301].1 = Response::Value(Some(147));
    let Verdict::Violated(window) = check(&Small::default(), &history(&operations), WORK_MAX)
    else {
        panic!("it is stale")
    };
    let ids: Vec<u32> = window.operations.iter().map(|op| op.id.0).collect();
    assert_eq!((ids, window.culprit, window.from_start), (vec![300, 301], OpId(301), false));
    let text = window.to_string();
    assert!(text.contains("whatever was there before"), "{text}");
    assert!(text.contains("#300 client 300 at node 0, 0.001501s: Write(0, 150) -> Done"), "{text}");
    assert!(text.contains("Read(0) -> Value(Some(147)) at 0.001504s  <- cannot be"), "{text}");
}

#[test]
fn running_out_of_work_is_said() {
    // Twenty-five open writes at once, and a read of what nobody wrote.
    let mut operations: Vec<_> = (0..25).map(|n| (write(n), Response::Done, 1, 0)).collect();
    operations.push((READ, Response::Value(Some(99)), 50, 51));
    let verdict = check(&Small::default(), &history(&operations), 20);
    assert_eq!(verdict, Verdict::Unknown { work: 20 });
    assert!(verdict.into_result().expect_err("not silent").contains("no verdict: 20 steps"));
    // They are no 2^25 ways: all but the last write before the read are wasted.
    let verdict = check(&Small::default(), &history(&operations), 1_000);
    assert!(matches!(verdict, Verdict::Violated(_)));
}

/// Every order of every choice of the open ones, and nothing clever.
fn brute(start: &Small, operations: &[Operation<Call<u8, u8>, Response<u8>>], begin: u64) -> bool {
    fn extend(
        order: &mut Vec<usize>,
        start: &Small,
        operations: &[Operation<Call<u8, u8>, Response<u8>>],
        begin: u64,
    ) -> bool {
        let must = |op: &Operation<_, _>| op.answered() != u64::MAX && op.invoked >= begin;
        if (0..operations.len()).all(|op| order.contains(&op) || !must(&operations[op]))
            && explains(order, start, operations)
        {
            return true;
        }
        (0..operations.len()).any(|op| {
            if order.contains(&op) {
                return false;
            }
            order.push(op);
            let found = extend(order, start, operations, begin);
            order.pop();
            found
        })
    }
    fn explains(
        order: &[usize],
        start: &Small,
        operations: &[Operation<Call<u8, u8>, Response<u8>>],
    ) -> bool {
        let in_time = order.iter().enumerate().all(|(at, &later)| {
            order[..at]
                .iter()
                .all(|&earlier| operations[later].answered() > operations[earlier].invoked)
        });
        let mut model = start.clone();
        in_time
            && order.iter().all(|&op| {
                let answer = model.apply(&operations[op].call);
                match &operations[op].completion {
                    Completion::Answered { response, .. } => *response == answer,
                    _ => true,
                }
            })
    }
    extend(&mut Vec::new(), start, operations, begin)
}

/// Up to six operations with random answers, as likely wrong as right.
fn random(rng: &mut Rng) -> Vec<Row> {
    let mut orders: Vec<u64> = (1..=12).collect();
    rng.shuffle(&mut orders);
    let value = |rng: &mut Rng| rng.below(3) as u8;
    let some = |rng: &mut Rng| rng.below(3).checked_sub(1).map(|n| n as u8);
    let operation = |pair: &[u64], rng: &mut Rng| {
        let (invoked, mut answered) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
        if rng.below(6) == 0 {
            answered = 0;
        }
        let (call, response) = match rng.below(4) {
            0 => (write(value(rng)), Response::Done),
            1 => {
                let call = Call::Cas { key: 0, expected: some(rng), new: value(rng) };
                (call, Response::Swapped(rng.below(2) == 0))
            }
            _ => (READ, Response::Value(some(rng))),
        };
        (call, response, invoked, answered)
    };
    let count = 1 + rng.below(5) as usize;
    orders.chunks(2).take(count).map(|pair| operation(pair, rng)).collect()
}

#[test]
fn it_says_what_trying_every_order_says() {
    let mut rng = Rng::new(1);
    let (mut held, mut windows) = (0, 0);
    for _ in 0..3_000 {
        let history = history(&random(&mut rng));
        let operations = history.operations();
        let expected = brute(&Small::default(), &operations, 0);
        match check(&Small::default(), &history, WORK_MAX) {
            Verdict::Holds => assert!(expected, "{operations:#?}"),
            Verdict::Violated(window) => {
                assert!(!expected, "{operations:#?}");
                // The window stands for itself; how the object began is always among what it was.
                let start = Small::default();
                assert!(!brute(&start, &window.operations, window.begin), "{window}");
                windows += usize::from(!window.from_start);
            }
            Verdict::Unknown { .. } => panic!("so small a history is decided"),
        }
        held += usize::from(expected);
    }
    assert!((500..2_500).contains(&held) && windows > 500, "{held} held, {windows} windows");
}
