//! Reading: what stands at a key, and what stood there before.
//!
//! The index in memory knows which entry wrote what, and where in the log the entry is; a register's
//! value is read from there. A read takes a snapshot of the index, which costs nothing since it is
//! copy-on-write, after everything in it has become durable, and works on that: a list of a million
//! keys is consistent, and holds up nobody.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use quorate_core::dag::{Dag, Kind, SlotName, Write};
use quorate_core::entry::{Entry, Op};
use quorate_core::hash::Hash;
use quorate_core::machine::{NodeId, WallTime};
use quorate_core::sigchain::{Chains, Meta};
use quorate_core::value::{Found, Reading, read, scan};
use tokio::sync::oneshot;

use super::edge::entry_of;
use super::{Node, NodeError};

/// The most keys, or entries, whose bodies are read from the log at once.
const PAGE: usize = 256;

/// A value, of any type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A register's.
    Register(Bytes),
    /// A counter's.
    Counter(i64),
    /// A set's members, in order.
    Set(Vec<Vec<u8>>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Register(value) => f.write_str(&String::from_utf8_lossy(value)),
            Value::Counter(value) => write!(f, "{value}"),
            Value::Set(members) => {
                for (n, member) in members.iter().enumerate() {
                    let comma = if n > 0 { ", " } else { "" };
                    write!(f, "{comma}{}", String::from_utf8_lossy(member))?;
                }
                Ok(())
            }
        }
    }
}

/// A key and what stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The key.
    pub key: Vec<u8>,
    /// What stands there; of a conflict, the winner.
    pub value: Value,
    /// Whether concurrent writers left it undecided: a write settles it.
    pub conflict: bool,
}

/// One write to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Who wrote it.
    pub author: NodeId,
    /// The entry's place in the author's chain.
    pub seq: u64,
    /// The entry's hash.
    pub hash: Hash,
    /// When it was written, by the author's clock.
    pub written: WallTime,
    /// What it did.
    pub change: VersionChange,
    /// Whether nothing has replaced it.
    pub head: bool,
    /// Whether it has an effect: not what a removed or forked author wrote above its end.
    pub counts: bool,
}

/// What one write did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VersionChange {
    /// Set the register.
    Put(Bytes),
    /// Removed what stood there.
    Delete,
    /// Added to the counter.
    Add(i64),
    /// Put a member into the set.
    SetAdd(Vec<u8>),
    /// Took a member out of the set.
    SetRemove(Vec<u8>),
}

/// The index as it was at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    node: Node,
    dag: Dag,
    chains: Arc<Chains>,
}

/// Which keys to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// Those that start so.
    pub prefix: Vec<u8>,
    /// From this one on.
    pub from: Option<Vec<u8>>,
    /// Up to this one, which is not among them.
    pub to: Option<Vec<u8>>,
}

impl Node {
    /// What stands at `key`; `None` for nothing. Shows only what is durable.
    ///
    /// # Errors
    ///
    /// Where the node has stopped, or what is asked for is damaged on the disk.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Item>, NodeError> {
        self.snapshot().await?.get(key).await
    }

    /// The index as it is now, once it is durable.
    ///
    /// # Errors
    ///
    /// [`NodeError::Stopped`] where the node has stopped.
    pub async fn snapshot(&self) -> Result<Snapshot, NodeError> {
        let parts = self.handle.query(|machine, _| {
            machine.store().map(|store| (store.dag().clone(), store.chains().clone()))
        });
        let (dag, chains) = parts.await?.unwrap_or_default();
        Ok(Snapshot { node: self.clone(), dag, chains: Arc::new(chains) })
    }

    /// The entries at `positions` of the log.
    async fn load(&self, positions: Vec<u64>) -> Result<Vec<Entry>, NodeError> {
        let (give, take) = oneshot::channel();
        let asked = positions.clone();
        self.handle
            .with_edge(move |_, actions| actions.load(asked, |found| drop(give.send(found))))
            .await?;
        let found = take.await.map_err(|_| NodeError::Stopped)?;
        let read = |(found, position): (Option<Bytes>, u64)| {
            let entry = found.and_then(entry_of).and_then(|bytes| Entry::decode(bytes).ok());
            entry.ok_or(NodeError::Damaged { position })
        };
        found.into_iter().zip(positions).map(read).collect()
    }

    /// The value of the register `key` in the entry at `position`.
    pub(super) async fn register(&self, key: &[u8], position: u64) -> Result<Value, NodeError> {
        let entries = self.load(vec![position]).await?;
        let value = entries.first().and_then(|entry| value_of(entry, key));
        value.ok_or(NodeError::Damaged { position })
    }
}

impl Snapshot {
    /// What stands at `key`; `None` for nothing.
    ///
    /// # Errors
    ///
    /// Where the node has stopped, or what is asked for is damaged on the disk.
    pub async fn get(&self, key: &[u8]) -> Result<Option<Item>, NodeError> {
        let Reading { found, conflict } = read(&self.dag, key);
        let one = vec![(key.to_vec(), found, conflict)];
        Ok(self.items(one).await?.pop())
    }

    /// Whether concurrent writers left `key` undecided, be it that it reads as deleted.
    #[must_use]
    pub fn is_conflict(&self, key: &[u8]) -> bool {
        read(&self.dag, key).conflict
    }

    /// The next keys of `keys` after `after`, some hundreds at most, with what stands there; empty at
    /// the end.
    ///
    /// # Errors
    ///
    /// Where the node has stopped, or what is asked for is damaged on the disk.
    pub async fn page(&self, keys: &Keys, after: Option<&[u8]>) -> Result<Vec<Item>, NodeError> {
        let start = match after {
            // Slots of a key end in 00 01 or 00 02 …; the next key's lie above 00 03.
            Some(after) => [&SlotName::prefix(after)[..], &[0, 3]].concat(),
            None => {
                let from = keys.from.as_deref().unwrap_or_default();
                SlotName::prefix(from.max(&keys.prefix[..])).into_vec()
            }
        };
        let found = scan(&self.dag, &start, &keys.prefix)
            .take_while(|(key, _)| keys.to.as_ref().is_none_or(|to| key < to))
            .take(PAGE)
            .map(|(key, reading)| (key, reading.found, reading.conflict))
            .collect();
        self.items(found).await
    }

    /// Every write to `key`, the latest last; at most `limit` of the latest.
    ///
    /// # Errors
    ///
    /// Where the node has stopped, or what is asked for is damaged on the disk.
    pub async fn history(&self, key: &[u8], limit: usize) -> Result<Vec<Version>, NodeError> {
        self.versions(key, limit, |_| true).await
    }

    /// The writes to `key` that nothing has replaced, the winner first.
    ///
    /// # Errors
    ///
    /// Where the node has stopped, or what is asked for is damaged on the disk.
    pub async fn heads(&self, key: &[u8]) -> Result<Vec<Version>, NodeError> {
        let mut heads = self.versions(key, usize::MAX, |head| head).await?;
        let slots = self.slots(key);
        let rank = |version: &Version| {
            let heads = slots.iter().flat_map(|slot| self.dag.heads(slot));
            heads.map(|head| self.meta(head).hash).position(|hash| hash == version.hash)
        };
        heads.sort_by_key(rank);
        Ok(heads)
    }

    async fn versions(
        &self,
        key: &[u8],
        limit: usize,
        wanted: impl Fn(bool) -> bool,
    ) -> Result<Vec<Version>, NodeError> {
        let mut writes: Vec<(Write, SlotName, bool)> = Vec::new();
        for slot in self.slots(key) {
            let heads = self.dag.heads(&slot);
            for write in self.dag.history(&slot) {
                let head = heads.contains(&write);
                if wanted(head) {
                    writes.push((write, slot.clone(), head));
                }
            }
        }
        let rank = |write: &Write| (self.meta(write).hlc, self.author(write));
        writes.sort_by_cached_key(|(write, ..)| rank(write));
        writes.drain(..writes.len().saturating_sub(limit));
        let mut versions = Vec::with_capacity(writes.len());
        for page in writes.chunks(PAGE) {
            let positions = page.iter().map(|(write, ..)| self.meta(write).position).collect();
            let entries = self.node.load(positions).await?;
            for ((write, slot, head), entry) in page.iter().zip(&entries) {
                versions.push(self.version(write, slot, *head, entry)?);
            }
        }
        Ok(versions)
    }

    fn version(
        &self,
        write: &Write,
        slot: &SlotName,
        head: bool,
        entry: &Entry,
    ) -> Result<Version, NodeError> {
        let (key, member) = SlotName::parts(slot.as_bytes());
        let meta = self.meta(write);
        let position = meta.position;
        let change = change_of(entry, write.kind, &key, member);
        Ok(Version {
            author: self.author(write),
            seq: write.place.seq,
            hash: meta.hash,
            written: meta.hlc.wall(),
            change: change.ok_or(NodeError::Damaged { position })?,
            head,
            counts: self.chains.counts(write.place),
        })
    }

    /// The slots of `key`: its value's, then its members'.
    fn slots(&self, key: &[u8]) -> Vec<SlotName> {
        let from = SlotName::value(key);
        let slots = self.dag.slots_from(from.as_bytes());
        let parts = slots.map(|(name, _)| SlotName::parts(name));
        let own = parts.take_while(|(of, _)| of == key);
        own.map(|(_, member)| match member {
            None => SlotName::value(key),
            Some(member) => SlotName::member(key, member),
        })
        .collect()
    }

    async fn items(&self, found: Vec<(Vec<u8>, Found, bool)>) -> Result<Vec<Item>, NodeError> {
        let position = |write: &Write| self.meta(write).position;
        let registers = found.iter().filter_map(|(_, found, _)| match found {
            Found::Register(write) => Some(position(write)),
            _ => None,
        });
        let entries = self.node.load(registers.collect()).await?;
        let mut entries = entries.into_iter();
        let mut items = Vec::with_capacity(found.len());
        for (key, found, conflict) in found {
            let value =
                match found {
                    Found::Nothing => continue,
                    Found::Counter(value) => Value::Counter(value),
                    Found::Set(members) => Value::Set(members),
                    Found::Register(write) => entries
                        .next()
                        .and_then(|entry| value_of(&entry, &key))
                        .ok_or(NodeError::Damaged { position: position(&write) })?,
                };
            items.push(Item { key, value, conflict });
        }
        Ok(items)
    }

    fn meta(&self, write: &Write) -> &Meta {
        self.chains.meta(write.place).expect("a write's entry is held")
    }

    fn author(&self, write: &Write) -> NodeId {
        self.chains.chain(write.place.author).author()
    }
}

/// What `entry` sets the register `key` to, by the last of its operations that does.
fn value_of(entry: &Entry, key: &[u8]) -> Option<Value> {
    match change_of(entry, Kind::Put, key, None)? {
        VersionChange::Put(value) => Some(Value::Register(value)),
        _ => None,
    }
}

/// What the last operation of this kind in `entry` does to `key`, or to the `member` of the set there.
fn change_of(
    entry: &Entry,
    kind: Kind,
    key: &[u8],
    member: Option<&[u8]>,
) -> Option<VersionChange> {
    let ops = entry.ops();
    ops.iter().rev().find_map(|op| match (op, kind) {
        (Op::Put { key: of, value }, Kind::Put) if *of == key => {
            Some(VersionChange::Put(entry.bytes().slice_ref(value)))
        }
        (Op::Delete { key: of }, Kind::Delete) if *of == key => Some(VersionChange::Delete),
        (Op::Add { key: of, delta, .. }, Kind::Add) if *of == key => {
            Some(VersionChange::Add(*delta))
        }
        (Op::SetAdd { key: of, member: m }, Kind::SetAdd) if *of == key && Some(*m) == member => {
            Some(VersionChange::SetAdd(m.to_vec()))
        }
        (Op::SetRemove { key: of, member: m }, Kind::SetRemove)
            if *of == key && Some(*m) == member =>
        {
            Some(VersionChange::SetRemove(m.to_vec()))
        }
        _ => None,
    })
}
