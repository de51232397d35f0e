//! Both collections against the standard library's, with clones taken in between.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Bound;

use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::*;

impl<K: Ord + Clone + fmt::Debug, V> CowMap<K, V> {
    /// Asserts order, bounds, equal depth, no empty node, and the count.
    fn check(&self) {
        let Some(root) = &self.root else {
            return assert_eq!(self.len, 0);
        };
        let (mut depth, mut len) = (None, 0);
        check(root, None, None, 0, &mut depth, &mut len);
        assert_eq!(len, self.len);
        if let Node::Branch(children) = &**root {
            assert!(children.len() > 1, "a root with one child is not a root");
        }
    }

    fn nodes(&self) -> Vec<*const Node<K, V>> {
        fn walk<K, V>(node: &Arc<Node<K, V>>, all: &mut Vec<*const Node<K, V>>) {
            all.push(Arc::as_ptr(node));
            if let Node::Branch(children) = &**node {
                children.iter().for_each(|child| walk(&child.node, all));
            }
        }
        let mut all = Vec::new();
        self.root.iter().for_each(|root| walk(root, &mut all));
        all
    }
}

fn check<K: Ord + fmt::Debug, V>(
    node: &Node<K, V>,
    low: Option<&K>,
    high: Option<&K>,
    depth: usize,
    leaves: &mut Option<usize>,
    len: &mut usize,
) {
    assert!((1..=FANOUT).contains(&node.len()));
    match node {
        Node::Leaf(entries) => {
            assert_eq!(*leaves.get_or_insert(depth), depth, "leaves at two depths");
            assert!(entries.is_sorted_by(|a, b| a.0 < b.0));
            assert!(low.is_none_or(|low| *low <= entries[0].0), "{low:?}");
            assert!(high.is_none_or(|high| entries[entries.len() - 1].0 < *high), "{high:?}");
            *len += entries.len();
        }
        Node::Branch(children) => {
            for (at, child) in children.iter().enumerate() {
                let low = if at == 0 { low } else { Some(&child.low) };
                let high = children.get(at + 1).map_or(high, |next| Some(&next.low));
                check(&child.node, low, high, depth + 1, leaves, len);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert(u16, u32),
    Ascend(u8),
    Update(u16),
    Default(u16),
    Remove(u16),
    RemoveRange(u16, u16),
    Retain(u16),
    Fork,
    Swap,
}

fn map_op(keys: u16) -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..keys, any::<u32>()).prop_map(|(key, value)| Op::Insert(key, value)),
        2 => any::<u8>().prop_map(Op::Ascend),
        2 => (0..keys).prop_map(Op::Update),
        2 => (0..keys).prop_map(Op::Default),
        4 => (0..keys).prop_map(Op::Remove),
        1 => (0..keys, 0..keys / 2).prop_map(|(low, span)| Op::RemoveRange(low, span)),
        1 => (2..9u16).prop_map(Op::Retain),
        2 => Just(Op::Fork),
        1 => Just(Op::Swap),
    ]
}

type Both = (CowMap<u16, u32>, BTreeMap<u16, u32>);

fn apply((map, model): &mut Both, op: &Op) {
    match *op {
        Op::Insert(key, value) => assert_eq!(map.insert(key, value), model.insert(key, value)),
        Op::Ascend(count) => {
            let last = model.last_key_value().map_or(0, |(key, _)| *key);
            for key in (last..u16::MAX).take(count.into()) {
                assert_eq!(map.insert(key, 1), model.insert(key, 1));
            }
        }
        Op::Update(key) => {
            assert_eq!(map.get_mut(&key), model.get_mut(&key));
            map.get_mut(&key).into_iter().for_each(|value| *value ^= 5);
            model.get_mut(&key).into_iter().for_each(|value| *value ^= 5);
        }
        Op::Default(key) => {
            *map.get_or_insert_with(key, || 7) ^= 1;
            *model.entry(key).or_insert(7) ^= 1;
        }
        Op::Remove(key) => assert_eq!(map.remove(&key), model.remove(&key)),
        Op::RemoveRange(low, span) => {
            for key in low..low.saturating_add(span) {
                assert_eq!(map.remove(&key), model.remove(&key));
            }
        }
        Op::Retain(modulus) => {
            map.retain(|key, _| key % modulus != 0);
            model.retain(|key, _| key % modulus != 0);
        }
        Op::Fork | Op::Swap => {}
    }
}

fn compare((map, model): &Both) {
    map.check();
    assert_eq!(map.len(), model.len());
    assert!(map.iter().eq(model));
    assert!(map.iter().rev().eq(model.iter().rev()));
    assert_eq!(map.first_key_value(), model.first_key_value());
    assert_eq!(map.last_key_value(), model.last_key_value());
}

proptest! {
    /// What is done to one clone never shows in another, whichever of them is written.
    #[test]
    fn a_map_and_its_forks_behave_like_separate_maps(
        ops in prop_oneof![
            prop::collection::vec(map_op(60), 1..200),
            prop::collection::vec(map_op(4000), 1..400),
        ],
    ) {
        let mut current: Both = Default::default();
        let mut forks: Vec<Both> = Vec::new();
        for op in ops {
            apply(&mut current, &op);
            current.0.check();
            match op {
                Op::Fork => forks.push(current.clone()),
                Op::Swap => if let Some(fork) = forks.first_mut() {
                    core::mem::swap(fork, &mut current);
                }
                _ => {}
            }
        }
        forks.push(current);
        forks.iter().for_each(compare);
    }

    #[test]
    fn a_range_is_the_models_range_from_both_ends(
        keys in prop::collection::btree_set(0..3000u16, 0..2500),
        removed in 0..3000u16,
        low in 0..3000u16,
        span in 0..3000u16,
        bounds in (0..3u8, 0..3u8),
        turns in any::<u64>(),
    ) {
        let mut map: CowMap<u16, ()> = keys.iter().map(|key| (*key, ())).collect();
        let mut model: BTreeMap<u16, ()> = keys.iter().map(|key| (*key, ())).collect();
        map.retain(|key, ()| !(removed..removed.saturating_add(400)).contains(key));
        model.retain(|key, ()| !(removed..removed.saturating_add(400)).contains(key));
        let bound = |kind, key| match kind {
            0 => Bound::Included(key),
            1 => Bound::Excluded(key),
            _ => Bound::Unbounded,
        };
        // The model panics for an empty range that excludes both its ends.
        let high = low + span + u16::from(bounds == (1, 1));
        let range = (bound(bounds.0, low), bound(bounds.1, high));
        let (mut ours, mut theirs) = (map.range(range), model.range(range));
        for turn in (0..64).cycle() {
            let (left, right) = if turns >> turn & 1 == 0 {
                (ours.next(), theirs.next())
            } else {
                (ours.next_back(), theirs.next_back())
            };
            prop_assert_eq!(left, right);
            if left.is_none() {
                break;
            }
        }
        prop_assert_eq!(ours.next(), None);
        prop_assert_eq!(ours.next_back(), None);
    }

    #[test]
    fn a_vector_and_its_forks_behave_like_separate_vectors(
        ops in prop::collection::vec((0..6u8, 0..300usize), 1..200),
    ) {
        let mut current: (CowVec<usize>, Vec<usize>) = Default::default();
        let mut forks = Vec::new();
        for (op, n) in ops {
            let (vec, model) = &mut current;
            match op {
                0 => { vec.extend(0..n); model.extend(0..n); }
                1 => { vec.push(n); model.push(n); }
                2 => { vec.truncate(n); model.truncate(n); }
                3 => {
                    prop_assert_eq!(vec.get(n), model.get(n));
                    prop_assert_eq!(vec.get_mut(n), model.get_mut(n));
                    vec.get_mut(n).into_iter().for_each(|value| *value += 1);
                    model.get_mut(n).into_iter().for_each(|value| *value += 1);
                }
                4 => forks.push(current.clone()),
                _ => if let Some(fork) = forks.first_mut() {
                    core::mem::swap(fork, &mut current);
                }
            }
            let (vec, model) = &current;
            prop_assert_eq!(vec.last(), model.last());
            prop_assert_eq!(vec.len(), model.len());
            prop_assert_eq!(vec.is_empty(), model.is_empty());
            prop_assert!(vec.iter_from(n).eq(model.iter().skip(n)));
        }
        forks.push(current);
        for (vec, model) in &forks {
            prop_assert!(vec.iter().eq(model));
            prop_assert!(vec.iter().rev().eq(model.iter().rev()));
        }
    }
}

/// Large enough for branches to be merged and split: whole ranges go and come back, in turns.
#[test]
fn a_large_map_keeps_its_order_while_ranges_come_and_go() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut both: Both = Default::default();
    for round in 0..400 {
        let draw = random.next_u64();
        let (low, span) = (draw as u16, (draw >> 16) as u16 % 9_000);
        let step = 1 + (draw >> 32) as usize % 3;
        for key in (low..low.saturating_add(span)).step_by(step) {
            if round % 2 == 0 {
                assert_eq!(both.0.insert(key, round), both.1.insert(key, round));
            } else {
                assert_eq!(both.0.remove(&key), both.1.remove(&key));
            }
        }
        compare(&both);
    }
}

#[test]
fn a_write_copies_its_path_and_nothing_else() {
    let mut map: CowMap<u32, u32> = (0..50_000).map(|key| (key, key)).collect();
    let before = map.clone();
    let depth = {
        let (mut depth, mut node) = (1, before.root.as_ref().unwrap());
        while let Node::Branch(children) = &**node {
            (depth, node) = (depth + 1, &children[0].node);
        }
        depth
    };
    assert_eq!(map.get_mut(&60_000), None);
    assert_eq!(map.remove(&60_000), None);
    assert_eq!(map.nodes(), before.nodes(), "looking for what is not there copies nothing");

    *map.get_mut(&25_000).unwrap() = 1;
    let copied = map.nodes().iter().zip(before.nodes()).filter(|(a, b)| **a != *b).count();
    assert_eq!(copied, depth);

    let nodes = map.nodes();
    *map.get_mut(&25_000).unwrap() = 2;
    assert_eq!(map.nodes(), nodes, "a path that is owned alone is written in place");
    assert_eq!(before.get(&25_000), Some(&25_000));
}

#[test]
fn ascending_keys_leave_full_leaves_and_removal_leaves_none_behind() {
    let mut map: CowMap<u32, u32> = (0..32 * 32 * 4).map(|key| (key, key)).collect();
    let leaves = |map: &CowMap<u32, u32>| {
        fn count(node: &Node<u32, u32>) -> usize {
            match node {
                Node::Leaf(_) => 1,
                Node::Branch(children) => children.iter().map(|child| count(&child.node)).sum(),
            }
        }
        map.root.as_ref().map_or(0, |root| count(root))
    };
    assert_eq!(leaves(&map), 32 * 4);
    for key in 0..32 * 32 * 4 {
        if key % 64 != 0 {
            map.remove(&key);
        }
    }
    map.check();
    assert!(leaves(&map) <= map.len() / (SPARSE / 2), "{} leaves", leaves(&map));
    map.retain(|_, _| false);
    assert!(map.root.is_none());
}
