//! Who belongs to the mesh, and up to where what they wrote counts.
//!
//! Membership is not agreed on; it is computed, from the invitations and removals among the entries of
//! the store itself. Any two nodes that hold the same entries compute the same members, whatever order
//! the entries came in, and however hostile their authors.
//!
//! **Authority flows down the tree of invitations.** The founder, whose key the store's id commits to,
//! has depth 0. A member invited by one of depth *d* has depth *d* + 1, by the shortest way. Any member
//! may invite. A removal counts if its author stands *nearer the founder* than the one removed, or if
//! somebody removes itself, which is leaving. Members of one depth cannot remove each other: that is
//! what makes two who remove each other at once, on two sides of a partition, a question that has one
//! answer. (p2panda's *strong removal* answers it by removing both, which lets a removed member take
//! everyone along by backdating.)
//!
//! A removal names the last place of the removed chain that counts. The lowest such place wins. Above
//! it nothing of that author has an effect, its invitations and removals included, so members known
//! only through those are gone too.
//!
//! **Why this terminates**: depth by depth. Everything that can limit a member of depth *d* was written
//! by members of lower depth, whose own limits are final by then.
//!
//! A removal is for good. Who comes back comes back with a new key.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::machine::NodeId;

/// The most members a mesh can have. Of the invitations beyond that, those farthest from the founder
/// have no effect, and among equals those of the highest ids.
pub const MAX_MEMBERS: usize = 100_000;
/// The most nodes that one member can invite: its later invitations have no effect. Whoever invites
/// thousands of its own making crowds out nobody nearer the founder, and goes, with all of them, by one
/// removal.
pub const MAX_GUESTS: u32 = 10_000;
/// How often one member can lower the place where another ends: its later removals of that one have no
/// effect.
pub const MAX_REMOVALS: usize = 8;

/// An invitation or a removal, as an entry states it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Admits a node.
    Invite(NodeId),
    /// Removes one.
    Remove {
        /// Who.
        node: NodeId,
        /// The last place of its chain that counts.
        height: u64,
    },
}

/// What a statement does to the members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Noted {
    /// Nothing, as things stand.
    Nothing,
    /// How this node stands, and that is all.
    Moved(NodeId),
    /// Perhaps much: they are to be computed anew.
    Recount,
}

/// A member, or one that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Steps from the founder along invitations.
    pub depth: u32,
    /// Who invited it; the founder names itself.
    pub invited_by: NodeId,
    /// The place above which nothing it wrote counts; `None` without a bound.
    pub limit: Option<u64>,
    /// Why there is a limit.
    pub state: State,
}

/// How a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    /// May write.
    Active,
    /// Was removed, or left.
    Removed,
    /// Signed two entries for one place.
    Forked,
}

/// The members of a store's mesh, computed from its entries.
#[derive(Clone, Debug)]
pub struct Membership {
    founder: NodeId,
    /// The lowest forked place of each author that has one.
    forks: BTreeMap<NodeId, u64>,
    acts: BTreeMap<(NodeId, u64, u16), Act>,
    /// How many nodes each author has invited, and which.
    guests: BTreeMap<NodeId, u32>,
    invited: BTreeSet<(NodeId, NodeId)>,
    /// The removals once more, by who is removed and by whom: where, and above which height.
    removals: BTreeMap<(NodeId, NodeId), Vec<(u64, u64)>>,
    members: BTreeMap<NodeId, Member>,
}

impl Membership {
    /// The mesh of a new store: the founder alone.
    #[must_use]
    pub fn new(founder: NodeId) -> Membership {
        let mut membership = Membership {
            founder,
            forks: BTreeMap::new(),
            acts: BTreeMap::new(),
            guests: BTreeMap::new(),
            invited: BTreeSet::new(),
            removals: BTreeMap::new(),
            members: BTreeMap::new(),
        };
        membership.evaluate();
        membership
    }

    /// The founder.
    #[must_use]
    pub fn founder(&self) -> NodeId {
        self.founder
    }

    /// Takes note of what the entry at (`author`, `seq`) states in its operation number `op`. An
    /// author's statements are noted in the order of its chain.
    ///
    /// Nearly every statement admits or removes somebody who has stated nothing so far: those cost the
    /// same however many members there are. The others are rare, and computed anew by
    /// [`Membership::evaluate`].
    pub fn note(&mut self, author: NodeId, seq: u64, op: u16, act: Act) -> Noted {
        if !self.adds(author, seq, act) {
            return Noted::Nothing;
        }
        self.acts.insert((author, seq, op), act);
        let by = self.members.get(&author).copied();
        let Some(by) = by.filter(|by| by.limit.is_none_or(|limit| seq <= limit)) else {
            return Noted::Nothing;
        };
        match act {
            Act::Invite(node) => self.note_guest(author, by.depth + 1, node),
            Act::Remove { node, height } => {
                let Some(of) = self.members.get(&node).copied() else { return Noted::Nothing };
                let lowers = of.limit.is_none_or(|limit| height < limit);
                let lowers = lowers && !bug!(second_removal_ignored);
                let moot = of.state == State::Removed && !lowers && author != node;
                if moot || (author != node && by.depth >= of.depth) {
                    return Noted::Nothing;
                }
                self.stand(node, of.depth, of.invited_by)
            }
        }
    }

    /// Whether a statement says anything that its author has not said before, or too often.
    fn adds(&mut self, author: NodeId, seq: u64, act: Act) -> bool {
        match act {
            Act::Invite(node) => {
                let guests = self.guests.entry(author).or_default();
                let adds = *guests < MAX_GUESTS && self.invited.insert((author, node));
                *guests += u32::from(adds);
                adds
            }
            Act::Remove { node, height } => {
                let said = self.removals.entry((node, author)).or_default();
                let adds = said.len() < MAX_REMOVALS
                    && said.last().is_none_or(|(_, lowest)| height < *lowest);
                said.extend(adds.then_some((seq, height)));
                adds
            }
        }
    }

    /// An invitation that counts, to depth `depth`.
    fn note_guest(&mut self, author: NodeId, depth: u32, node: NodeId) -> Noted {
        match self.members.get(&node) {
            Some(_) if node == self.founder => Noted::Nothing,
            Some(known) if (depth, author) >= (known.depth, known.invited_by) => Noted::Nothing,
            None if self.members.len() >= MAX_MEMBERS => Noted::Recount,
            _ => self.stand(node, depth, author),
        }
    }

    /// Works out how `node` stands at `depth`. If it has stated nothing, nobody else is touched.
    fn stand(&mut self, node: NodeId, depth: u32, invited_by: NodeId) -> Noted {
        if self.acts_of(&node).next().is_some() {
            return Noted::Recount;
        }
        let removed = self.removed(&node, depth);
        let (limit, state) = self.limit(&node, removed.as_ref(), self.forks.get(&node));
        self.members.insert(node, Member { depth, invited_by, limit, state });
        Noted::Moved(node)
    }

    /// The lowest place above which a member nearer the founder than `depth` has removed `node`.
    fn removed(&self, node: &NodeId, depth: u32) -> Option<u64> {
        let by_anyone = (*node, NodeId([0; 32]))..=(*node, NodeId([0xff; 32]));
        let said = self.removals.range(by_anyone).filter_map(|((_, by), said)| {
            let by = self.members.get(by).filter(|by| by.depth < depth)?;
            let counts = |seq: u64| by.limit.is_none_or(|limit| seq <= limit);
            // Each is lower than the one before it.
            said.iter().rev().find(|(seq, _)| counts(*seq)).map(|(_, height)| *height)
        });
        said.min()
    }

    /// Takes note that `author` signed two entries for the place `seq`, and none below. To be followed by
    /// [`Membership::evaluate`].
    pub fn forked(&mut self, author: NodeId, seq: u64) {
        self.forks.insert(author, seq);
    }

    /// The member `node`, active or not; `None` if it was never invited.
    #[must_use]
    pub fn get(&self, node: &NodeId) -> Option<&Member> {
        self.members.get(node)
    }

    /// Whether `node` may write, and be talked to.
    #[must_use]
    pub fn is_active(&self, node: &NodeId) -> bool {
        self.members.get(node).is_some_and(|member| member.state == State::Active)
    }

    /// Everyone, by id, active or not.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeId, &Member)> {
        self.members.iter()
    }

    /// Whether `author` may remove `node`.
    #[must_use]
    pub fn may_remove(&self, author: &NodeId, node: &NodeId) -> bool {
        match (self.members.get(author), self.members.get(node)) {
            (Some(by), Some(of)) => {
                by.state == State::Active && (author == node || by.depth < of.depth)
            }
            _ => false,
        }
    }

    /// Computes the members anew, and returns those that stand otherwise than before.
    pub fn evaluate(&mut self) -> Vec<NodeId> {
        let mut members: BTreeMap<NodeId, Member> = BTreeMap::new();
        let mut removals: BTreeMap<NodeId, u64> = BTreeMap::new();
        let mut level = alloc::vec![(self.founder, self.founder)];
        let mut depth = 0;
        while !level.is_empty() {
            for (node, invited_by) in &level {
                let limit = self.limit(node, removals.get(node), self.forks.get(node));
                let (limit, state) = limit;
                members.insert(*node, Member { depth, invited_by: *invited_by, limit, state });
            }
            let mut next: BTreeMap<NodeId, NodeId> = BTreeMap::new();
            for (author, _) in &level {
                for act in self.effective(author, members[author].limit) {
                    match act {
                        Act::Invite(node) if !members.contains_key(&node) => {
                            next.entry(node).or_insert(*author);
                        }
                        Act::Remove { node, height } if !members.contains_key(&node) => {
                            let lowest = removals.entry(node).or_insert(height);
                            *lowest = height.min(*lowest);
                        }
                        Act::Invite(_) | Act::Remove { .. } => {}
                    }
                }
            }
            level = next.into_iter().take(MAX_MEMBERS - members.len()).collect();
            depth += 1;
        }
        let before = core::mem::replace(&mut self.members, members);
        let everyone: BTreeSet<&NodeId> = before.keys().chain(self.members.keys()).collect();
        let moved =
            everyone.into_iter().filter(|node| before.get(*node) != self.members.get(*node));
        moved.copied().collect()
    }

    /// The place above which `node` does not count, given what its seniors and its forks say.
    fn limit(
        &self,
        node: &NodeId,
        removed: Option<&u64>,
        fork: Option<&u64>,
    ) -> (Option<u64>, State) {
        let fork = fork.map(|seq| seq.saturating_sub(1));
        let removed = removed.copied();
        let bound = fork.into_iter().chain(removed).min();
        let left = self
            .acts_of(node)
            .find(|(_, act)| matches!(act, Act::Remove { node: who, .. } if who == node))
            .map(|(seq, _)| seq)
            .filter(|seq| bound.is_none_or(|bound| *seq <= bound));
        // Who was removed, or left, stays so if it forks as well.
        let state = match (left.or(removed), fork) {
            (Some(_), _) => State::Removed,
            (None, Some(_)) => State::Forked,
            (None, None) => State::Active,
        };
        (left.or(bound), state)
    }

    /// What `author` stated up to `limit`.
    fn effective(&self, author: &NodeId, limit: Option<u64>) -> Vec<Act> {
        let limit = limit.unwrap_or(u64::MAX);
        self.acts_of(author).filter(|(seq, _)| *seq <= limit).map(|(_, act)| act).collect()
    }

    fn acts_of(&self, author: &NodeId) -> impl Iterator<Item = (u64, Act)> {
        let all = (*author, 0, 0)..=(*author, u64::MAX, u16::MAX);
        self.acts.range(all).map(|((_, seq, _), act)| (*seq, *act))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn node(n: u8) -> NodeId {
        NodeId([n; 32])
    }

    fn remove(n: u8, height: u64) -> Act {
        Act::Remove { node: node(n), height }
    }

    /// A mesh founded by 0 from statements (author, seq, act).
    fn mesh(acts: &[(u8, u64, Act)]) -> Membership {
        let mut membership = Membership::new(node(0));
        for (author, seq, act) in acts {
            membership.note(node(*author), *seq, 0, *act);
        }
        membership.evaluate();
        membership
    }

    #[test]
    fn an_inviter_can_remove_and_an_equal_cannot() {
        let invited = [(0, 1, Act::Invite(node(1))), (0, 2, Act::Invite(node(2)))];
        let by_founder = mesh(&[invited[0], invited[1], (0, 3, remove(1, 5))]);
        assert_eq!(by_founder.get(&node(1)).unwrap().limit, Some(5));
        let by_equal = mesh(&[invited[0], invited[1], (2, 1, remove(1, 5))]);
        assert!(by_equal.is_active(&node(1)));
        assert!(!by_equal.may_remove(&node(2), &node(1)));
        assert!(by_equal.may_remove(&node(0), &node(1)));
    }

    #[test]
    fn who_is_removed_takes_its_later_guests_along() {
        let acts = [
            (0, 1, Act::Invite(node(1))),
            (1, 4, Act::Invite(node(2))),
            (1, 6, Act::Invite(node(3))),
            (0, 2, remove(1, 5)),
        ];
        let mesh = mesh(&acts);
        assert!(mesh.is_active(&node(2)), "invited while it counted");
        assert_eq!(mesh.get(&node(3)), None, "invited after its end");
    }

    #[test]
    fn a_removed_member_cannot_backdate_its_revenge() {
        // 1 is cut at 5; whatever it writes later against its guest 2 is nothing.
        let acts = [
            (0, 1, Act::Invite(node(1))),
            (1, 1, Act::Invite(node(2))),
            (0, 2, remove(1, 5)),
            (1, 6, remove(2, 0)),
        ];
        assert!(mesh(&acts).is_active(&node(2)));
    }

    #[test]
    fn leaving_ends_a_chain_at_the_entry_that_says_so() {
        let left = mesh(&[(0, 1, Act::Invite(node(1))), (1, 3, remove(1, 2))]);
        let member = left.get(&node(1)).unwrap();
        assert_eq!((member.limit, member.state), (Some(3), State::Removed));
    }

    #[test]
    fn a_fork_limits_and_says_so() {
        let mut mesh = mesh(&[(0, 1, Act::Invite(node(1)))]);
        mesh.forked(node(1), 7);
        assert_eq!(mesh.evaluate(), [node(1)]);
        let member = mesh.get(&node(1)).unwrap();
        assert_eq!((member.limit, member.state), (Some(6), State::Forked));
    }

    #[test]
    fn one_member_invites_no_more_than_its_share() {
        let mut mesh = mesh(&[(0, 1, Act::Invite(node(1)))]);
        for n in 0..=MAX_GUESTS {
            let mut id = [9; 32];
            id[..4].copy_from_slice(&n.to_be_bytes());
            mesh.note(node(1), u64::from(n) + 1, 0, Act::Invite(NodeId(id)));
        }
        assert_eq!(mesh.iter().count(), 2 + MAX_GUESTS as usize);
        let again = Act::Invite(node(2));
        assert_eq!(mesh.note(node(1), 20_000, 0, again), Noted::Nothing, "it has invited enough");
        assert_eq!(mesh.note(node(0), 2, 0, again), Noted::Moved(node(2)), "its host has not");
        assert_eq!(mesh.note(node(0), 3, 0, again), Noted::Nothing, "said twice");
    }

    #[test]
    fn one_member_is_removed_by_another_only_so_often() {
        let mut mesh = mesh(&[(0, 1, Act::Invite(node(1))), (1, 1, Act::Invite(node(2)))]);
        for n in 0..50 {
            mesh.note(node(1), 2 + n, 0, remove(2, 100 - n));
            mesh.note(node(1), 100 + n, 0, remove(2, 100));
        }
        assert_eq!(mesh.get(&node(2)).unwrap().limit, Some(101 - MAX_REMOVALS as u64));
        assert_eq!(mesh.acts.len(), 2 + MAX_REMOVALS, "what says nothing new is not kept");
        assert_eq!(mesh.evaluate(), []);
    }

    proptest! {
        /// The members are a function of the set of statements, whatever order they are noted in.
        #[test]
        fn order_does_not_matter(
            acts in proptest::collection::vec((0u8..6, 1u64..9, 0u8..6, 0u64..9, any::<bool>()), 0..24),
            fork in proptest::option::of((1u8..6, 1u64..9))
        ) {
            let mut acts: Vec<_> = acts
                .into_iter()
                .map(|(author, seq, who, height, invite)| {
                    let act = if invite { Act::Invite(node(who)) } else { remove(who, height) };
                    (author, seq, act)
                })
                .collect();
            acts.sort_by_key(|(author, seq, _)| (*author, *seq));
            acts.dedup_by_key(|(author, seq, _)| (*author, *seq));
            let mut forward = mesh(&acts);
            // Chain by chain, the last author first, and with as little computing as they ask for.
            acts.sort_by_key(|(author, seq, _)| (core::cmp::Reverse(*author), *seq));
            let mut backward = Membership::new(node(0));
            if let Some((author, seq)) = fork {
                forward.forked(node(author), seq);
                forward.evaluate();
                backward.forked(node(author), seq);
                backward.evaluate();
            }
            for (author, seq, act) in &acts {
                let before = backward.members.clone();
                match backward.note(node(*author), *seq, 0, *act) {
                    Noted::Nothing => prop_assert_eq!(&before, &backward.members),
                    Noted::Moved(who) => {
                        let others = |of: &BTreeMap<NodeId, Member>| {
                            of.iter().filter(|(id, _)| **id != who).map(|(id, m)| (*id, *m)).collect()
                        };
                        let (before, after): (Vec<_>, Vec<_>) =
                            (others(&before), others(&backward.members));
                        prop_assert_eq!(before, after);
                    }
                    Noted::Recount => drop(backward.evaluate()),
                }
                let shown = backward.members.clone();
                prop_assert_eq!(backward.evaluate(), []);
                prop_assert_eq!(shown, backward.members.clone());
            }
            prop_assert_eq!(&forward.members, &backward.members);
            prop_assert!(forward.is_active(&node(0)) || forward.get(&node(0)).unwrap().limit.is_some());
        }
    }
}
