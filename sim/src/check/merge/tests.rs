//! Merges that are right and wrong in each way, and random tables against every order.

use std::collections::BTreeSet;

use super::*;

fn sum(state: &mut u32, item: &u32) {
    *state += item;
}

#[test]
fn a_set_takes_any_order_and_a_sum_none_twice() {
    let add = |state: &mut BTreeSet<u32>, item: &u32| {
        state.insert(*item);
    };
    let many: Vec<u32> = (0..40).collect();
    let checked = items(&BTreeSet::new(), &many, Orders::Any, 1, add, Clone::clone);
    assert_eq!(checked, Ok(Checked { orders: ORDERS_MAX, all: false }));
    // A sum commutes and is not idempotent: one item, twice, shows it.
    let differs = items(&0, &[5, 6, 7], Orders::Any, 1, sum, |sum| *sum).expect_err("not twice");
    assert_eq!((differs.left.0.len(), differs.left.1), (1, differs.left.0[0]));
    assert!(differs.right.0.iter().all(|item| *item == differs.left.0[0]));
}

#[test]
fn what_needs_causal_order_gets_it() {
    // A list to which an item is added only after its past, and else is lost.
    let past = [vec![], vec![0], vec![0], vec![1, 2]];
    let chain = |state: &mut BTreeSet<usize>, item: &usize| {
        if past[*item].iter().all(|one| state.contains(one)) {
            state.insert(*item);
        }
    };
    let all = [0, 1, 2, 3];
    let causal = items(&BTreeSet::new(), &all, Orders::Causal(&past), 1, chain, Clone::clone);
    assert_eq!(causal, Ok(Checked { orders: 2, all: true }));
    let any = items(&BTreeSet::new(), &all, Orders::Any, 1, chain, Clone::clone);
    assert_eq!(any.expect_err("one without its past").left.0.len(), 2);
}

#[test]
fn a_random_machine_is_right_exactly_if_every_order_is() {
    let mut rng = Rng::new(5);
    let (mut right, mut wrong) = (0, 0);
    for _ in 0..2_000 {
        // Three items act on three states; how often they must be applied again to show it is
        // not more than the states there are.
        let table = [(); 3].map(|()| [(); 3].map(|()| rng.below(3) as usize));
        let apply = |state: &mut usize, item: &usize| *state = table[*item][*state];
        let found = items(&0, &[0, 1, 2], Orders::Any, 9, apply, |state| *state);
        let gives = |way: &[usize]| way.iter().fold(0, |state, &item| table[item][state]);
        match found {
            Ok(checked) => {
                let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
                assert!(orders.iter().all(|order| gives(order) == gives(&orders[0])));
                assert_eq!(checked, Checked { orders: 6, all: true });
                right += 1;
            }
            Err(differs) => {
                assert_ne!(differs.left.1, differs.right.1);
                assert_eq!(gives(&differs.left.0), differs.left.1);
                assert_eq!(gives(&differs.right.0), differs.right.1);
                let set = |way: &[usize]| way.iter().copied().collect::<BTreeSet<_>>();
                assert_eq!(set(&differs.left.0), set(&differs.right.0));
                wrong += 1;
            }
        }
    }
    assert!(right > 50 && wrong > 500, "{right} {wrong}");
}

#[test]
fn the_three_laws_are_told_apart() {
    let values = [0u32, 1, 2, 5];
    let law = |merge: fn(&u32, &u32) -> u32| states(&values, merge, |state| *state);
    assert_eq!(law(|a, b| *a.max(b)), Ok(()));
    assert_eq!(law(|a, b| a + b), Err((Law::Idempotent, vec![1])));
    assert_eq!(law(|a, _| *a), Err((Law::Commutative, vec![0, 1])));
    // The mean is idempotent and commutative.
    let mean = states(&[0u32, 4, 8], |a, b| (a + b) / 2, |state| *state);
    assert_eq!(mean, Err((Law::Associative, vec![0, 0, 1])));
}
