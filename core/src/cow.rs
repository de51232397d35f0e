//! Copy-on-write collections: a fork of a running cluster must cost microseconds.
//!
//! Everything the simulator does that a recording cannot (saving a run, branching it, exploring
//! what else could have happened) clones whole nodes, and a production node takes consistent
//! snapshots of its indexes the same way. So a machine's big collections have to clone in constant
//! time and pay for a copy only where they are written afterwards. `imbl` has such collections, but
//! needs `std`; this crate has none, so it owns the two that its machines use.
//!
//! **The method** is path copying (Driscoll, Sarnak, Sleator and Tarjan, "Making Data Structures
//! Persistent", 1989): "whenever we modify a node, we copy it, and we copy its ancestors". The
//! reference counts of the nodes tell when even that is needless: a node that nobody else holds is
//! written in place (`Arc::make_mut`). A collection that was never cloned copies nothing.
//!
//! [`CowMap`] is a B+-tree, not a hash trie, because a machine's order must be observable. Its
//! nodes are vectors whose capacity is kept near their length, since indexes here reach a million
//! keys. A full node is split on the way down, so that an insertion needs one descent and may
//! return a reference into the leaf. Ascending insertions leave full nodes behind: the last node of
//! a level is split at its end, not in the middle.
//!
//! **Removal is relaxed.** Empty nodes are dropped. A node that becomes sparse is merged with a
//! neighbour if the two fit one node with room to spare, and is otherwise left as it is; nothing is
//! ever moved from one neighbour to another. Order, equal depth of all leaves and the search are
//! never affected, only density: a minimum is not guaranteed (Sen and Tarjan, "Deletion without
//! rebalancing in B+-trees", 2014, show why that does little harm in practice).
//!
//! [`CowVec`] keeps its last chunk at hand and the full chunks before it in a [`CowMap`].

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::fmt;
use core::iter::FusedIterator;
use core::ops::{Bound, RangeBounds};
use core::slice;

pub use vec::CowVec;

mod vec;

/// Entries in a leaf, and children of a branch, at most.
///
/// Smaller copies less when a shared node is written, larger is denser and shallower.
const FANOUT: usize = 32;

/// A node that a removal leaves with fewer entries looks for a neighbour to merge with. A merged
/// node has room for as many more, so that it is not split again at once.
const SPARSE: usize = FANOUT / 4;

/// An ordered map that clones in constant time and copies only what is written while shared.
///
/// ```
/// use quorate_core::cow::CowMap;
///
/// let mut map: CowMap<u32, &str> = [(1, "one"), (3, "three")].into_iter().collect();
/// let before = map.clone();
/// *map.get_or_insert_with(2, || "?") = "two";
/// assert!(map.range(2..).map(|(key, _)| *key).eq([2, 3]));
/// assert_eq!(before.get(&2), None);
/// ```
pub struct CowMap<K, V> {
    root: Option<Arc<Node<K, V>>>,
    len: usize,
}

#[derive(Clone)]
enum Node<K, V> {
    /// Entries in ascending order of their keys; never empty.
    Leaf(Vec<(K, V)>),
    /// Children in ascending order; never empty; all their leaves lie at one depth.
    Branch(Vec<Child<K, V>>),
}

#[derive(Clone)]
struct Child<K, V> {
    /// At most every key in `node`, and greater than every key before it. Means nothing in a first
    /// child, which takes all keys below the second one's.
    low: K,
    node: Arc<Node<K, V>>,
}

impl<K, V> CowMap<K, V> {
    /// An empty map; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { root: None, len: 0 }
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All entries, ascending.
    #[must_use]
    pub fn iter(&self) -> Range<'_, K, V> {
        let mut range = Range { front: [].iter(), rest: VecDeque::new(), back: [].iter() };
        match self.root.as_deref() {
            None => {}
            Some(Node::Leaf(entries)) => range.front = entries.iter(),
            Some(Node::Branch(children)) => range.rest.push_back(children),
        }
        range
    }

    /// All keys, ascending.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// All values, in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The entry with the smallest key.
    #[must_use]
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        let mut node = self.root.as_deref()?;
        loop {
            match node {
                Node::Leaf(entries) => return entries.first().map(|(key, value)| (key, value)),
                Node::Branch(children) => node = &children.first()?.node,
            }
        }
    }

    /// The entry with the greatest key.
    #[must_use]
    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        let mut node = self.root.as_deref()?;
        loop {
            match node {
                Node::Leaf(entries) => return entries.last().map(|(key, value)| (key, value)),
                Node::Branch(children) => node = &children.last()?.node,
            }
        }
    }

    /// The value at `key`.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.root.as_deref()?.get(key)
    }

    /// Whether there is an entry at `key`.
    #[must_use]
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// The entries whose keys lie in `range`, ascending. A range that ends before it starts is
    /// empty.
    #[must_use]
    pub fn range<Q: Ord + ?Sized>(&self, range: impl RangeBounds<Q>) -> Range<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let mut left = self.from(range.start_bound());
        left.trim(range.end_bound());
        left
    }

    /// The entries that do not lie before `start`.
    fn from<Q: Ord + ?Sized>(&self, start: Bound<&Q>) -> Range<'_, K, V>
    where
        K: Borrow<Q>,
    {
        let (Bound::Included(key) | Bound::Excluded(key)) = start else {
            return self.iter();
        };
        let mut range = Range { front: [].iter(), rest: VecDeque::new(), back: [].iter() };
        let Some(mut node) = self.root.as_deref() else {
            return range;
        };
        loop {
            match node {
                Node::Leaf(entries) => {
                    let at = match (find(entries, key), start) {
                        (Ok(at), Bound::Excluded(_)) => at + 1,
                        (Ok(at) | Err(at), _) => at,
                    };
                    range.front = entries[at..].iter();
                    return range;
                }
                Node::Branch(children) => {
                    let at = child_of(children, key);
                    range.rest.push_front(&children[at + 1..]);
                    node = &children[at].node;
                }
            }
        }
    }
}

impl<K: Ord + Clone, V: Clone> CowMap<K, V> {
    /// The value at `key`, to be written. Copies nothing if there is none.
    #[must_use]
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let mut node = self.root.as_mut()?;
        let mut found = false;
        loop {
            found = found || holds(node, key)?;
            match Arc::make_mut(node) {
                Node::Leaf(entries) => {
                    let at = find(entries, key).ok()?;
                    return Some(&mut entries[at].1);
                }
                Node::Branch(children) => {
                    let at = child_of(children, key);
                    node = &mut children[at].node;
                }
            }
        }
    }

    /// Puts `value` at `key`; the value that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let (entries, at) = leaf_for(&mut self.root, &key);
        match at {
            Ok(at) => Some(core::mem::replace(&mut entries[at].1, value)),
            Err(at) => {
                make_room(entries);
                entries.insert(at, (key, value));
                self.len += 1;
                None
            }
        }
    }

    /// The value at `key`, to be written; if there is none, what `value` makes is put there first.
    /// One descent.
    pub fn get_or_insert_with(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        let (entries, at) = leaf_for(&mut self.root, &key);
        let at = at.unwrap_or_else(|at| {
            make_room(entries);
            entries.insert(at, (key, value()));
            self.len += 1;
            at
        });
        &mut entries[at].1
    }

    /// Takes out the value at `key`. Copies nothing if there is none.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let root = self.root.as_mut()?;
        let value = remove_from(root, key, false)?;
        self.len -= 1;
        while let Node::Branch(children) = &**root
            && let [only] = &children[..]
        {
            *root = Arc::clone(&only.node);
        }
        if self.len == 0 {
            self.root = None;
        }
        Some(value)
    }

    /// Removes the entries that `keep` rejects. A subtree without one of those is neither copied
    /// nor written, unless a sparse neighbour is merged into it.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        let rejected: Vec<K> = self
            .iter()
            .filter(|(key, value)| !keep(key, value))
            .map(|(key, _)| key.clone())
            .collect();
        for key in &rejected {
            self.remove(key);
        }
    }
}

/// Asked before a node is copied: whether `key` is below it, so that the copy is not in vain.
/// `None` says that it is not; `false`, that the node is owned alone and nobody had to look.
fn holds<K: Borrow<Q>, V, Q: Ord + ?Sized>(node: &Arc<Node<K, V>>, key: &Q) -> Option<bool> {
    let shared = Arc::strong_count(node) > 1;
    if shared {
        node.get(key)?;
    }
    Some(shared)
}

/// Where `key` is in a leaf, or where it would be.
fn find<K: Borrow<Q>, V, Q: Ord + ?Sized>(entries: &[(K, V)], key: &Q) -> Result<usize, usize> {
    entries.binary_search_by(|(other, _)| other.borrow().cmp(key))
}

/// The child that holds `key`, if any does.
fn child_of<K: Borrow<Q>, V, Q: Ord + ?Sized>(children: &[Child<K, V>], key: &Q) -> usize {
    children[1..].partition_point(|child| child.low.borrow() <= key)
}

/// The leaf for `key`, owned alone, and where in it the key is (`Ok`) or goes (`Err`: there is
/// room).
fn leaf_for<'a, K: Ord + Clone, V: Clone>(
    root: &'a mut Option<Arc<Node<K, V>>>,
    key: &K,
) -> (&'a mut Vec<(K, V)>, Result<usize, usize>) {
    let root = root.get_or_insert_with(|| Arc::new(Node::Leaf(Vec::new())));
    if root.lacks_room_for(key) {
        // The tree grows at its top, which keeps all leaves at one depth. The first child's bound
        // is never looked at; any key will do.
        let child = Child { low: key.clone(), node: Arc::clone(root) };
        *root = Arc::new(Node::Branch(Vec::from([child])));
    }
    let mut last_of_level = true;
    let mut node = Arc::make_mut(root);
    loop {
        match node {
            Node::Leaf(entries) => {
                let at = find(entries, key);
                return (entries, at);
            }
            Node::Branch(children) => {
                let mut at = child_of(children, key);
                last_of_level &= at + 1 == children.len();
                if children[at].node.lacks_room_for(key) {
                    let right = split(&mut children[at].node, key, last_of_level);
                    make_room(children);
                    at += 1;
                    let goes_right = right.low <= *key;
                    children.insert(at, right);
                    if !goes_right {
                        at -= 1;
                        last_of_level = false;
                    }
                }
                node = Arc::make_mut(&mut children[at].node);
            }
        }
    }
}

impl<K, V> Node<K, V> {
    fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let mut node = self;
        loop {
            match node {
                Node::Leaf(entries) => return Some(&entries[find(entries, key).ok()?].1),
                Node::Branch(children) => node = &children[child_of(children, key)].node,
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Node::Leaf(entries) => entries.len(),
            Node::Branch(children) => children.len(),
        }
    }

    /// Whether this node must be split before `key` is put below it.
    fn lacks_room_for(&self, key: &K) -> bool
    where
        K: Ord,
    {
        match self {
            Node::Leaf(entries) => entries.len() >= FANOUT && find(entries, key).is_err(),
            Node::Branch(children) => children.len() >= FANOUT,
        }
    }
}

/// Takes the upper part of a full node into a new one to its right. A leaf is split at its end when
/// `key` is the greatest of all: the new leaf is empty and waits for it.
fn split<K: Ord + Clone, V: Clone>(
    node: &mut Arc<Node<K, V>>,
    key: &K,
    last_of_level: bool,
) -> Child<K, V> {
    match Arc::make_mut(node) {
        Node::Leaf(entries) => {
            let ascending = last_of_level && entries.last().is_some_and(|(last, _)| last < key);
            if ascending {
                return Child { low: key.clone(), node: Arc::new(Node::Leaf(Vec::new())) };
            }
            let right = entries.split_off(FANOUT / 2);
            entries.shrink_to_fit();
            Child { low: right[0].0.clone(), node: Arc::new(Node::Leaf(right)) }
        }
        Node::Branch(children) => {
            let ascending = last_of_level && child_of(children, key) + 1 == children.len();
            let right = children.split_off(if ascending { FANOUT - 1 } else { FANOUT / 2 });
            children.shrink_to_fit();
            Child { low: right[0].low.clone(), node: Arc::new(Node::Branch(right)) }
        }
    }
}

/// Room for one more, in steps that leave at most [`SPARSE`] places unused.
fn make_room<T>(items: &mut Vec<T>) {
    if items.len() == items.capacity() {
        items.reserve_exact(items.len().clamp(1, SPARSE));
    }
}

fn remove_from<K: Ord + Clone + Borrow<Q>, V: Clone, Q: Ord + ?Sized>(
    node: &mut Arc<Node<K, V>>,
    key: &Q,
    found: bool,
) -> Option<V> {
    let found = found || holds(node, key)?;
    match Arc::make_mut(node) {
        Node::Leaf(entries) => {
            let at = find(entries, key).ok()?;
            Some(entries.remove(at).1)
        }
        Node::Branch(children) => {
            let at = child_of(children, key);
            let value = remove_from(&mut children[at].node, key, found)?;
            mend(children, at);
            Some(value)
        }
    }
}

/// After a removal below child `at`: drops it if it is empty, merges it if it is sparse.
fn mend<K: Ord + Clone, V: Clone>(children: &mut Vec<Child<K, V>>, at: usize) {
    let len = children[at].node.len();
    if len == 0 {
        children.remove(at);
    } else if len < SPARSE {
        let pairs = [at.checked_sub(1), Some(at)].into_iter().flatten();
        let fits = |left: &usize| {
            let pair = children.get(*left..*left + 2);
            pair.is_some_and(|pair| pair[0].node.len() + pair[1].node.len() <= FANOUT - SPARSE)
        };
        if let Some(left) = pairs.into_iter().find(fits) {
            merge(children, left);
        }
    }
}

/// Joins child `left` and the one after it.
fn merge<K: Ord + Clone, V: Clone>(children: &mut Vec<Child<K, V>>, left: usize) {
    let right = children.remove(left + 1);
    match (Arc::make_mut(&mut children[left].node), Arc::unwrap_or_clone(right.node)) {
        (Node::Leaf(entries), Node::Leaf(more)) => {
            entries.reserve_exact(more.len());
            entries.extend(more);
        }
        (Node::Branch(children), Node::Branch(mut more)) => {
            // It was a first child, whose bound meant nothing; from now on it does.
            more[0].low = right.low;
            children.reserve_exact(more.len());
            children.append(&mut more);
        }
        (Node::Leaf(_), Node::Branch(_)) | (Node::Branch(_), Node::Leaf(_)) => {
            unreachable!("all leaves lie at one depth")
        }
    }
}

/// Entries of a [`CowMap`] in order, from either end.
pub struct Range<'a, K, V> {
    /// What is left of the leaf at the front.
    front: slice::Iter<'a, (K, V)>,
    /// Subtrees between the two leaves, in order.
    rest: VecDeque<&'a [Child<K, V>]>,
    /// What is left of the leaf at the back.
    back: slice::Iter<'a, (K, V)>,
}

impl<K, V> Range<'_, K, V> {
    /// Drops the entries beyond `end`. Only for a range that has not been read from the back.
    fn trim<Q: Ord + ?Sized>(&mut self, end: Bound<&Q>)
    where
        K: Borrow<Q>,
    {
        let (Bound::Included(key) | Bound::Excluded(key)) = end else {
            return;
        };
        let within = |entries: &[(K, V)]| match (find(entries, key), end) {
            (Ok(at), Bound::Included(_)) => at + 1,
            (Ok(at) | Err(at), _) => at,
        };
        while let Some(children) = self.rest.pop_back() {
            if children.is_empty() {
                continue;
            }
            // The first child's bound may mean nothing, so it is looked into.
            let last = child_of(children, key);
            self.rest.push_back(&children[..last]);
            match &*children[last].node {
                Node::Leaf(entries) => {
                    self.back = entries[..within(entries)].iter();
                    if !self.back.as_slice().is_empty() {
                        return;
                    }
                }
                Node::Branch(children) => self.rest.push_back(children),
            }
        }
        let entries = self.front.as_slice();
        self.front = entries[..within(entries)].iter();
    }
}

impl<'a, K, V> Iterator for Range<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.front.next() {
                return Some((key, value));
            }
            let Some(children) = self.rest.pop_front() else {
                return self.back.next().map(|(key, value)| (key, value));
            };
            let Some((first, others)) = children.split_first() else {
                continue;
            };
            self.rest.push_front(others);
            match &*first.node {
                Node::Leaf(entries) => self.front = entries.iter(),
                Node::Branch(children) => self.rest.push_front(children),
            }
        }
    }
}

impl<K, V> DoubleEndedIterator for Range<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((key, value)) = self.back.next_back() {
                return Some((key, value));
            }
            let Some(children) = self.rest.pop_back() else {
                return self.front.next_back().map(|(key, value)| (key, value));
            };
            let Some((last, others)) = children.split_last() else {
                continue;
            };
            self.rest.push_back(others);
            match &*last.node {
                Node::Leaf(entries) => self.back = entries.iter(),
                Node::Branch(children) => self.rest.push_back(children),
            }
        }
    }
}

impl<K, V> FusedIterator for Range<'_, K, V> {}

impl<K, V> Clone for Range<'_, K, V> {
    fn clone(&self) -> Self {
        Self { front: self.front.clone(), rest: self.rest.clone(), back: self.back.clone() }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Range<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.clone()).finish()
    }
}

impl<K, V> Clone for CowMap<K, V> {
    fn clone(&self) -> Self {
        Self { root: self.root.clone(), len: self.len }
    }
}

impl<K, V> Default for CowMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for CowMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for CowMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other)
    }
}

impl<K: Eq, V: Eq> Eq for CowMap<K, V> {}

impl<'a, K, V> IntoIterator for &'a CowMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Range<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for CowMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

impl<K: Ord + Clone, V: Clone> Extend<(K, V)> for CowMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests;
