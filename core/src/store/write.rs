//! Writing: what a user wants changed becomes one signed entry, or a reason why not.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::settle::Incoming;
use super::{Outcome, Store};
use crate::dag::{Kind, SlotName, Write};
use crate::entry::{Draft, Entry, EntryError, Link, MAX_OPS, Op};
use crate::hash::Hash;
use crate::identity::Identity;
use crate::machine::{NodeId, Time, WallTime};
use crate::membership::State;
use crate::value::{Found, Type, kind, read};

/// A change that a user asks for. Several asked for together apply together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Change {
    /// Sets the register at a key.
    Put {
        /// The key.
        key: Bytes,
        /// Its new value.
        value: Bytes,
    },
    /// Removes what stands at a key, whatever its type.
    Delete {
        /// The key.
        key: Bytes,
    },
    /// Adds to the counter at a key; a new counter stands at zero.
    Add {
        /// The key.
        key: Bytes,
        /// What to add, negative to subtract.
        delta: i64,
    },
    /// Puts a member into the set at a key.
    SetAdd {
        /// The set's key.
        key: Bytes,
        /// The member.
        member: Bytes,
    },
    /// Takes a member out of the set at a key.
    SetRemove {
        /// The set's key.
        key: Bytes,
        /// The member.
        member: Bytes,
    },
    /// Admits a node to the mesh.
    Invite {
        /// Who may join.
        node: NodeId,
    },
    /// Removes a node from the mesh, with what it writes from now on; oneself, to leave.
    Remove {
        /// Who.
        node: NodeId,
    },
}

/// Why a write was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WriteError {
    /// This node is not a member of the store's mesh, or does not know yet that it is.
    NotAMember,
    /// This node was removed from the mesh.
    Removed,
    /// This node signed two entries for one place: its key writes no more.
    Forked,
    /// The key holds another type.
    WrongType {
        /// The key.
        key: Bytes,
        /// What it holds.
        holds: Type,
        /// What was asked for.
        wanted: Type,
    },
    /// There is nothing at the key, or the set has no such member.
    NotFound {
        /// The key.
        key: Bytes,
    },
    /// A limit was exceeded.
    TooMuch(TooMuch),
    /// The counter would leave the range of a 64-bit integer.
    Overflow {
        /// The key.
        key: Bytes,
    },
    /// The node is a member already, or was one: who was removed comes back with a new key.
    AlreadyInvited(NodeId),
    /// Only members nearer the founder may remove a member, and anyone itself.
    MayNotRemove(NodeId),
    /// The node is waiting to learn its own latest entries from its peers; try again.
    CatchingUp,
    /// More writes wait than the node holds; try again.
    Busy,
    /// This node's clock is, or once was, so far ahead that everyone else would park what it writes.
    ClockAhead {
        /// By how much: its wall clock compared with its peers', or its last entry with its wall clock.
        ahead_ms: u64,
    },
}

/// Which limit a write exceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TooMuch {
    /// The bytes of one write.
    Bytes,
    /// The operations of one write.
    Ops,
    /// The length of a key or a member.
    Key,
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |key: &Bytes| alloc::string::String::from_utf8_lossy(key).into_owned();
        match self {
            WriteError::NotAMember => {
                f.write_str("this node is not a member yet: join with a ticket and let it sync")
            }
            WriteError::Removed => f.write_str("this node was removed from the mesh"),
            WriteError::Forked => f.write_str(
                "this node signed two entries for one place, as a restored backup does; its key \
                 writes no more: make a new identity and ask for an invitation",
            ),
            WriteError::WrongType { key, holds, wanted } => {
                write!(f, "`{}` holds a {holds}, not a {wanted}: delete it first", text(key))
            }
            WriteError::NotFound { key } => write!(f, "nothing at `{}`", text(key)),
            WriteError::TooMuch(TooMuch::Bytes) => fmt::Display::fmt(&EntryError::BodyTooLong, f),
            WriteError::TooMuch(TooMuch::Ops) => fmt::Display::fmt(&EntryError::OpCount, f),
            WriteError::TooMuch(TooMuch::Key) => fmt::Display::fmt(&EntryError::KeyLength, f),
            WriteError::Overflow { key } => {
                write!(f, "the counter at `{}` would overflow", text(key))
            }
            WriteError::AlreadyInvited(node) => {
                write!(f, "{node} is or was a member; who was removed comes back with a new key")
            }
            WriteError::MayNotRemove(node) => {
                write!(f, "{node} can be removed only by a member nearer the founder, or by itself")
            }
            WriteError::CatchingUp => {
                f.write_str("the node is learning its own latest entries from its peers: try again")
            }
            WriteError::Busy => f.write_str("too many writes are waiting: try again"),
            WriteError::ClockAhead { ahead_ms } => write!(
                f,
                "this machine's clock is, or its latest entry was, {} s ahead of the others, who would \
                 hold the write back: set it right, or wait",
                ahead_ms / 1000
            ),
        }
    }
}

impl core::error::Error for WriteError {}

impl From<EntryError> for WriteError {
    fn from(error: EntryError) -> WriteError {
        WriteError::TooMuch(match error {
            EntryError::OpCount => TooMuch::Ops,
            EntryError::KeyLength => TooMuch::Key,
            _ => TooMuch::Bytes,
        })
    }
}

/// A set's key, and a member of that set.
type Member = (Bytes, Box<[u8]>);

impl Store {
    /// Writes `changes` as one entry of this node, and applies it. It is acknowledged once what `out`
    /// says to persist is durable.
    ///
    /// # Errors
    ///
    /// Where the write is refused; nothing was changed then.
    pub fn write(
        &mut self,
        identity: &Identity,
        changes: &[Change],
        wall: WallTime,
        out: &mut Vec<Outcome>,
    ) -> Result<Link, WriteError> {
        let author = identity.id();
        let member = self.membership.get(&author).ok_or(WriteError::NotAMember)?;
        match member.state {
            State::Active => {}
            State::Removed => return Err(WriteError::Removed),
            State::Forked => return Err(WriteError::Forked),
        }
        if self.orphans.of(author, 0).next().is_some() {
            // Entries of one's own that wait for others: the next place in the chain is taken.
            return Err(WriteError::CatchingUp);
        }
        if self.clock.last().is_future(wall) {
            // The wall was ahead once and has been set right: everybody would hold this back.
            let ahead_ms = self.clock.last().wall().0 - wall.0;
            return Err(WriteError::ClockAhead { ahead_ms });
        }
        let members = self.expand(&author, changes)?;
        let members: Vec<(&Bytes, &[u8])> =
            members.iter().map(|(key, member)| (key, &member[..])).collect();
        let ops = self.ops(author, changes, &members)?;
        let parents = self.parents(author, &ops);
        let tip = self.tip(&author);
        let hlc = self.clock.tick(wall);
        let (store, seq, prev) = (self.id, tip.height + 1, tip.hash);
        let entry = Entry::sign(identity, Draft { store, seq, prev, parents, hlc, ops: &ops })?;
        let link = entry.link();
        let parents = entry.header().parents.clone();
        let incoming = Incoming::new(entry, author, Time::ZERO);
        let mut queue = alloc::collections::VecDeque::new();
        let noted = self.apply(incoming, parents, out);
        self.admit(noted, &mut queue, out);
        while let Some(orphan) = self.orphans.released(author, seq) {
            queue.push_back(Incoming::again(orphan));
        }
        self.settle(queue, wall, out);
        Ok(link)
    }

    /// The members of every set that `changes` delete as a whole.
    fn expand(&self, author: &NodeId, changes: &[Change]) -> Result<Vec<Member>, WriteError> {
        let mut removed = Vec::new();
        for change in changes {
            match change {
                Change::Delete { key } => match read(&self.dag, key).found {
                    Found::Nothing => return Err(WriteError::NotFound { key: key.clone() }),
                    Found::Set(members) => {
                        removed
                            .extend(members.into_iter().map(|member| (key.clone(), member.into())));
                    }
                    Found::Register(_) | Found::Counter(_) => {}
                },
                Change::Invite { node } if self.membership.get(node).is_some() => {
                    return Err(WriteError::AlreadyInvited(*node));
                }
                Change::Remove { node } if !self.membership.may_remove(author, node) => {
                    return Err(WriteError::MayNotRemove(*node));
                }
                _ => {}
            }
            if changes.len() + removed.len() > 2 * MAX_OPS {
                return Err(WriteError::TooMuch(TooMuch::Ops));
            }
        }
        Ok(removed)
    }

    /// The operations that bring about `changes`; `members` are those of sets deleted as a whole.
    fn ops<'a>(
        &self,
        author: NodeId,
        changes: &'a [Change],
        members: &[(&'a Bytes, &'a [u8])],
    ) -> Result<Vec<Op<'a>>, WriteError> {
        let mut ops: Vec<Op<'a>> =
            members.iter().map(|(key, member)| Op::SetRemove { key, member }).collect();
        for change in changes {
            ops.push(match change {
                Change::Put { key, value } => {
                    if let Some(Type::Set) = kind(&self.dag, key) {
                        let (holds, wanted) = (Type::Set, Type::Register);
                        return Err(WriteError::WrongType { key: key.clone(), holds, wanted });
                    }
                    Op::Put { key, value }
                }
                Change::Delete { key } if members.iter().any(|(of, _)| *of == key) => continue,
                Change::Delete { key } => Op::Delete { key },
                Change::Add { key, delta } => {
                    self.expect(key, Type::Counter)?;
                    let total = self.own_total(author, key, &ops).checked_add(*delta);
                    let total = total.ok_or(WriteError::Overflow { key: key.clone() })?;
                    Op::Add { key, delta: *delta, total }
                }
                Change::SetAdd { key, member } => {
                    self.expect(key, Type::Set)?;
                    Op::SetAdd { key, member }
                }
                Change::SetRemove { key, member } => {
                    self.expect(key, Type::Set)?;
                    let heads = self.dag.heads(&SlotName::member(key, member));
                    if !heads.iter().any(|head| head.kind == Kind::SetAdd) {
                        return Err(WriteError::NotFound { key: key.clone() });
                    }
                    Op::SetRemove { key, member }
                }
                Change::Invite { node } => Op::Invite { node: *node },
                Change::Remove { node } => {
                    let chain = self.chains.of(node);
                    let height = chain.map_or(0, |chain| chain.height());
                    let hash = chain.and_then(|chain| chain.hash_at(height));
                    Op::Remove { node: *node, height, hash: hash.unwrap_or(Hash::ZERO) }
                }
            });
        }
        Ok(ops)
    }

    /// Refuses to write a `wanted` where something else is.
    fn expect(&self, key: &Bytes, wanted: Type) -> Result<(), WriteError> {
        match kind(&self.dag, key) {
            Some(holds) if holds != wanted => {
                Err(WriteError::WrongType { key: key.clone(), holds, wanted })
            }
            _ => Ok(()),
        }
    }

    /// What `author` has added to the counter at `key` so far, earlier operations of the same write
    /// included; zero once the counter reads as deleted.
    fn own_total(&self, author: NodeId, key: &[u8], earlier: &[Op<'_>]) -> i64 {
        bug!(counter_adds_from_zero => return 0);
        let in_this_write = earlier.iter().rev().find_map(|op| match op {
            Op::Add { key: of, total, .. } if *of == key => Some(*total),
            Op::Delete { key: of } if *of == key => Some(0),
            _ => None,
        });
        let heads = self.dag.heads(&SlotName::value(key));
        let counts = heads.first().is_some_and(|winner| winner.kind == Kind::Add);
        let own = heads.iter().find(|head| self.is_by(head, author) && head.kind == Kind::Add);
        in_this_write.or_else(|| own.filter(|_| counts).map(|head| head.total)).unwrap_or(0)
    }

    /// The heads of other authors that `ops` replace. An addition to a counter replaces none of the
    /// other additions, since each speaks for its author.
    fn parents(&self, author: NodeId, ops: &[Op<'_>]) -> Vec<Link> {
        let mut parents = Vec::new();
        for op in ops {
            let (slot, adds) = match op {
                Op::Put { key, .. } | Op::Delete { key } => (SlotName::value(key), false),
                Op::Add { key, .. } => (SlotName::value(key), true),
                Op::SetAdd { key, member } | Op::SetRemove { key, member } => {
                    (SlotName::member(key, member), false)
                }
                Op::Invite { .. } | Op::Remove { .. } => continue,
            };
            let others = self.dag.heads(&slot).iter().filter(|head| !self.is_by(head, author));
            let replaced = others.filter(|head| !adds || head.kind != Kind::Add);
            parents.extend(replaced.map(|head| self.link(head)));
        }
        parents
    }

    fn is_by(&self, head: &Write, author: NodeId) -> bool {
        self.chains.chain(head.place.author).author() == author
    }
}
