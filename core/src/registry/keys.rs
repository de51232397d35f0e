//! Keys and values: put, delete, transactions, lists.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use bytes::Bytes;

use super::command::{
    Change, Compare, Fence, Item, Op, Outcome, Refusal, Relation, Reply, Subject,
};
use super::{
    MAX_BYTES, MAX_ITEM_BYTES, MAX_ITEMS, MAX_KEY_BYTES, MAX_KEYS, MAX_OPS, MAX_PER_LEASE,
    MAX_VALUE_BYTES, Name, Registry, Turn, page,
};

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) value: Bytes,
    pub(super) create_revision: u64,
    pub(super) mod_revision: u64,
    pub(super) version: u64,
    pub(super) lease: Option<u64>,
}

impl Value {
    pub(super) fn item(&self, key: &Bytes) -> Item {
        Item {
            key: key.clone(),
            value: self.value.clone(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }
}

impl Registry {
    /// A write that is made under a grant is the holder's, or nobody's.
    pub(super) fn check_fence(&self, fence: Option<&Fence>) -> Result<(), Refusal> {
        let Some(Fence { name, token }) = fence else { return Ok(()) };
        let current = self.holder(name).map(|holder| holder.token);
        bug!(older_tokens_pass => if current.is_some_and(|current| current >= *token) { return Ok(()) });
        if current == Some(*token) { Ok(()) } else { Err(Refusal::StaleToken { current }) }
    }

    pub(super) fn check_previous(&self, key: &Bytes, previous: Option<u64>) -> Result<(), Refusal> {
        let current = self.keys.get(key).map_or(0, |value| value.mod_revision);
        bug!(deleted_key_matches_any_revision => if current == 0 { return Ok(()) });
        match previous {
            Some(previous) if previous != current => Err(Refusal::StaleRevision { current }),
            _ => Ok(()),
        }
    }

    /// Puts a value; the key's version. Refused before anything has changed.
    pub(super) fn put(
        &mut self,
        turn: &mut Turn,
        key: &Bytes,
        value: &Bytes,
        lease: Option<u64>,
    ) -> Result<u64, Refusal> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(Refusal::BadKey);
        }
        if value.len() > MAX_VALUE_BYTES {
            return Err(Refusal::BadValue);
        }
        let before = self.keys.get(key);
        let freed = before.map_or(0, |before| key.len() + before.value.len());
        let bytes = self.bytes - freed as u64 + (key.len() + value.len()) as u64;
        let (lease_before, create_revision, version) = match before {
            Some(before) => (before.lease, before.create_revision, before.version + 1),
            None => (None, self.revision, 1),
        };
        if bytes > MAX_BYTES || (before.is_none() && self.keys.len() >= MAX_KEYS) {
            return Err(Refusal::Full);
        }
        if let Some(id) = lease
            && lease_before != lease
        {
            let lease = self.leases.get_mut(&id).ok_or(Refusal::UnknownLease)?;
            if lease.burden() >= MAX_PER_LEASE {
                return Err(Refusal::TooManyPerLease);
            }
            lease.keys.insert(key.clone(), ());
        }
        if lease_before != lease {
            self.detach(key, lease_before);
        }
        let mod_revision = self.revision;
        let value = Value { value: value.clone(), create_revision, mod_revision, version, lease };
        turn.changes.push(Change::Put(value.item(key)));
        self.keys.insert(key.clone(), value);
        self.bytes = bytes;
        Ok(version)
    }

    /// Whether the key was there.
    pub(super) fn delete(&mut self, turn: &mut Turn, key: &Bytes) -> bool {
        let Some(before) = self.keys.remove(key) else { return false };
        self.bytes -= (key.len() + before.value.len()) as u64;
        self.detach(key, before.lease);
        turn.changes.push(Change::Deleted { key: key.clone() });
        true
    }

    /// The key hangs on this lease no longer.
    fn detach(&mut self, key: &Bytes, lease: Option<u64>) {
        if let Some(lease) = lease.and_then(|id| self.leases.get_mut(&id)) {
            lease.keys.remove(key);
        }
    }

    /// All of one branch, or nothing.
    pub(super) fn txn(
        &mut self,
        turn: &mut Turn,
        compare: &[Compare],
        then: &[Op],
        otherwise: &[Op],
    ) -> Result<Reply, Refusal> {
        if [compare.len(), then.len(), otherwise.len()].into_iter().any(|len| len > MAX_OPS) {
            return Err(Refusal::TooManyOps);
        }
        writes_once(then)?;
        writes_once(otherwise)?;
        let held = compare.iter().all(|compare| self.holds(compare));
        let (before, changes) = (self.clone(), turn.changes.len());
        let steps = if held { then } else { otherwise };
        let outcomes: Result<Vec<Outcome>, Refusal> =
            steps.iter().map(|op| self.step(turn, op)).collect();
        let got = |outcome: &Outcome| match outcome {
            Outcome::Got(Some(item)) => item.key.len() + item.value.len(),
            _ => 0,
        };
        let fits =
            |outcomes: &Vec<Outcome>| outcomes.iter().map(got).sum::<usize>() <= MAX_ITEM_BYTES;
        match outcomes.and_then(|o| if fits(&o) { Ok(o) } else { Err(Refusal::ReadsTooMuch) }) {
            Ok(outcomes) => Ok(Reply::Txn { revision: self.revision, held, outcomes }),
            Err(refusal) => {
                *self = before;
                turn.changes.truncate(changes);
                Err(refusal)
            }
        }
    }

    fn step(&mut self, turn: &mut Turn, op: &Op) -> Result<Outcome, Refusal> {
        Ok(match op {
            Op::Put { key, value, lease } => {
                Outcome::Put { version: self.put(turn, key, value, *lease)? }
            }
            Op::Delete { key } => Outcome::Deleted { existed: self.delete(turn, key) },
            Op::Get { key } => Outcome::Got(self.item(key)),
        })
    }

    fn holds(&self, Compare { key, subject, relation }: &Compare) -> bool {
        let value = self.keys.get(key);
        let ordering = match subject {
            Subject::CreateRevision(than) => value.map_or(0, |v| v.create_revision).cmp(than),
            Subject::ModRevision(than) => value.map_or(0, |v| v.mod_revision).cmp(than),
            Subject::Version(than) => value.map_or(0, |v| v.version).cmp(than),
            Subject::Value(than) => match value {
                Some(value) => value.value.cmp(than),
                // What is not there is not equal to anything.
                None => return *relation == Relation::NotEqual,
            },
        };
        match relation {
            Relation::Equal => ordering.is_eq(),
            Relation::NotEqual => ordering.is_ne(),
            Relation::Less => ordering.is_lt(),
            Relation::Greater => ordering.is_gt(),
        }
    }

    pub(super) fn item(&self, key: &Bytes) -> Option<Item> {
        self.keys.get(key).map(|value| value.item(key))
    }

    pub(super) fn list(
        &self,
        prefix: &Bytes,
        after: Option<&Bytes>,
        limit: u32,
        keys_only: bool,
    ) -> Reply {
        let limit = MAX_ITEMS.min(limit as usize);
        let (mut items, mut bytes, mut more) = (Vec::new(), 0, false);
        for (key, value) in page(&self.keys, prefix, after) {
            let mut item = value.item(key);
            if keys_only {
                item.value = Bytes::new();
            }
            bytes += item.key.len() + item.value.len();
            if items.len() == limit || (bytes > MAX_ITEM_BYTES && !items.is_empty()) {
                more = true;
                break;
            }
            items.push(item);
        }
        Reply::Items { revision: self.revision, items, more }
    }

    pub(super) fn check_keys(&self) {
        let keys = self.keys.iter().map(|(key, value)| key.len() + value.value.len());
        let names = self.names.iter().flat_map(|(name, Name { holder, queue })| {
            let values = holder.iter().map(|holder| &holder.value);
            values.chain(queue.iter().map(|c| &c.value)).map(move |value| name.len() + value.len())
        });
        let bytes = keys.chain(names).sum::<usize>() as u64;
        assert_eq!(self.bytes, bytes, "the bytes of keys, names and values are counted");
        assert!(self.keys.len() <= MAX_KEYS && self.bytes <= MAX_BYTES);
        for (key, value) in &self.keys {
            assert!(value.create_revision <= value.mod_revision);
            assert!(value.mod_revision <= self.revision, "a key from the future");
            let lease = value.lease.map(|id| self.leases.get(&id));
            let hangs = lease.is_none_or(|lease| lease.is_some_and(|l| l.keys.contains_key(key)));
            assert!(hangs, "a key hangs on a lease that is there and knows it");
        }
    }
}

/// A transaction has one revision, so it can write a key but once.
fn writes_once(ops: &[Op]) -> Result<(), Refusal> {
    let mut written = BTreeSet::new();
    let mut first = |op: &Op| match op {
        Op::Put { key, .. } | Op::Delete { key } => written.insert(key.clone()),
        Op::Get { .. } => true,
    };
    if ops.iter().all(&mut first) { Ok(()) } else { Err(Refusal::DuplicateKey) }
}
