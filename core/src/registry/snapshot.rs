//! The registry as bytes, and back.
//!
//! A version, then its parts one after the other, each in the order of its keys: written entry by
//! entry, without a copy of the whole in between. What follows from other parts (what hangs on a
//! lease, when it ends, how many bytes there are) is not written but found again, so that equal
//! registries have equal bytes and no snapshot can contradict itself.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::command::{Change, Holder, Item, SteppingDown};
use super::history::History;
use super::keys::Value;
use super::leases::{Lease, Timer};
use super::names::Name;
use super::{Candidate, Registry};
use crate::machine::NodeId;

/// The version of the format.
const VERSION: u8 = 1;

/// Why bytes are no registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SnapshotError {
    /// They are of another version of this software.
    Version(u8),
    /// They are damaged, or no snapshot.
    Malformed,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Version(version) => {
                write!(f, "a snapshot of version {version}, and this is {VERSION}: upgrade")
            }
            SnapshotError::Malformed => f.write_str("not a snapshot of a registry"),
        }
    }
}

impl core::error::Error for SnapshotError {}

/// What is written first.
#[derive(Serialize, Deserialize)]
struct Head {
    revision: u64,
    clock_ms: u64,
    /// The history's.
    oldest: u64,
    keys: u64,
    leases: u64,
    names: u64,
    revisions: u64,
    aspirants: BTreeSet<NodeId>,
}

#[derive(Serialize, Deserialize)]
struct LeaseEntry {
    id: u64,
    node: NodeId,
    ttl_ms: u64,
    deadline_ms: u64,
}

impl Registry {
    /// The whole of it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = [VERSION].to_vec();
        out.reserve(self.bytes as usize + 64 * self.keys.len());
        let mut write = Writer(&mut out);
        write.part(&Head {
            revision: self.revision,
            clock_ms: self.clock_ms,
            oldest: self.history.oldest(),
            keys: self.keys.len() as u64,
            leases: self.leases.len() as u64,
            names: self.names.len() as u64,
            revisions: self.history.len() as u64,
            aspirants: self.aspirants.clone(),
        });
        for (&id, &Lease { node, ttl_ms, deadline_ms, .. }) in &self.leases {
            write.part(&LeaseEntry { id, node, ttl_ms, deadline_ms });
        }
        for (key, value) in &self.keys {
            write.part(&value.item(key));
        }
        for (name, Name { holder, queue }) in &self.names {
            write.part(&(name, holder, queue));
        }
        for (revision, changes) in self.history.iter() {
            write.part(&(revision, changes));
        }
        out.into()
    }

    /// A registry from [`encode`](Self::encode)'s bytes.
    ///
    /// # Errors
    ///
    /// They are none.
    pub fn decode(bytes: &[u8]) -> Result<Registry, SnapshotError> {
        let (&version, rest) = bytes.split_first().ok_or(SnapshotError::Malformed)?;
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let mut read = Reader(rest);
        let head: Head = read.part()?;
        let mut registry = Registry {
            revision: head.revision,
            clock_ms: if bug!(clock_not_in_the_snapshot) { 0 } else { head.clock_ms },
            history: History::from(head.oldest),
            aspirants: head.aspirants,
            ..Registry::default()
        };
        for _ in 0..head.leases {
            registry.take_lease(read.part()?);
        }
        for _ in 0..head.keys {
            registry.take_item(read.part()?)?;
        }
        for _ in 0..head.names {
            let (name, holder, queue) = read.part()?;
            registry.take_name(name, holder, queue)?;
        }
        for _ in 0..head.revisions {
            let (revision, changes): (u64, Vec<Change>) = read.part()?;
            registry.history.push(revision, changes);
        }
        if read.0.is_empty() { Ok(registry) } else { Err(SnapshotError::Malformed) }
    }

    fn take_lease(&mut self, LeaseEntry { id, node, ttl_ms, deadline_ms }: LeaseEntry) {
        self.timers.insert((deadline_ms, Timer::Lease(id)), ());
        self.leases.insert(id, Lease::new(node, ttl_ms, deadline_ms));
    }

    fn take_item(&mut self, item: Item) -> Result<(), SnapshotError> {
        let Item { key, value, create_revision, mod_revision, version, lease } = item;
        if let Some(id) = lease {
            let lease = self.leases.get_mut(&id).ok_or(SnapshotError::Malformed)?;
            lease.keys.insert(key.clone(), ());
        }
        self.bytes += (key.len() + value.len()) as u64;
        let value = Value { value, create_revision, mod_revision, version, lease };
        self.keys.insert(key, value);
        Ok(())
    }

    fn take_name(
        &mut self,
        name: Bytes,
        holder: Option<Holder>,
        queue: Vec<Candidate>,
    ) -> Result<(), SnapshotError> {
        let holding = holder.iter().map(|holder| (holder.lease, &holder.value));
        let waiting = queue.iter().map(|candidate| (candidate.lease, &candidate.value));
        for (id, value) in holding.chain(waiting) {
            let lease = self.leases.get_mut(&id).ok_or(SnapshotError::Malformed)?;
            lease.names.insert(name.clone(), ());
            self.bytes += (name.len() + value.len()) as u64;
        }
        let stepping_down = holder.as_ref().and_then(|holder| holder.stepping_down);
        if let Some(SteppingDown { deadline_ms, .. }) = stepping_down {
            self.timers.insert((deadline_ms, Timer::Name(name.clone())), ());
        }
        self.names.insert(name, Name { holder, queue });
        Ok(())
    }
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn part(&mut self, part: &impl Serialize) {
        let out = core::mem::take(self.0);
        *self.0 = postcard::to_extend(part, out).expect("a vector takes whatever is written to it");
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn part<T: DeserializeOwned>(&mut self) -> Result<T, SnapshotError> {
        let (part, rest) =
            postcard::take_from_bytes(self.0).map_err(|_| SnapshotError::Malformed)?;
        self.0 = rest;
        Ok(part)
    }
}
