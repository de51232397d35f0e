//! What the cluster has agreed on, as an outsider learns it: from the registry of whichever node applied
//! a revision first. Every other node, at that time or after any crash, must say the same of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use quorate_core::cow::CowMap;
use quorate_core::registry::{Change, Holder, Item, Registry, Target};

use super::client;

/// Every so manieth revision whole registries are compared.
const COMPARE_EVERY: u64 = 8;

/// What was agreed on so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    changes: CowMap<u64, Vec<Change>>,
    /// Up to which revision all changes are known.
    pub(super) upto: u64,
    registries: CowMap<u64, Registry>,
    /// What each key held, from each revision on.
    keys: BTreeMap<Bytes, BTreeMap<u64, Option<Item>>>,
    /// At which revision each value of a client was written.
    written: BTreeMap<(u8, u64), u64>,
    holders: BTreeMap<Bytes, Holder>,
    /// The last token of each name.
    tokens: BTreeMap<Bytes, u64>,
}

impl Truth {
    /// A node's registry has come from the revision `seen` to where it is.
    pub(super) fn learn(&mut self, registry: &Registry, seen: u64) -> Result<(), String> {
        let from = registry.oldest().max(seen + 1);
        if from > self.upto + 1 {
            return Err(format!("what happened from {} to {from} is not known", self.upto + 1));
        }
        let mut known = self.changes.range(from..=registry.revision());
        let told = registry.changes(from).map_err(|oldest| format!("{oldest} is the oldest"))?;
        let mut new = Vec::new();
        for (revision, changes) in told {
            if revision > self.upto {
                new.push((revision, changes.to_vec()));
            } else if known
                .next()
                .is_none_or(|known| (*known.0, &known.1[..]) != (revision, changes))
            {
                let known = self.changes.get(&revision);
                return Err(format!("{revision} was {known:?}, and is {changes:?}"));
            }
        }
        if let Some((revision, changes)) = known.next() {
            return Err(format!("{revision} was {changes:?}, and is nothing"));
        }
        for (revision, changes) in new {
            self.happened(revision, &changes)?;
            self.changes.insert(revision, changes);
        }
        let revision = registry.revision();
        self.upto = self.upto.max(revision);
        if revision.is_multiple_of(COMPARE_EVERY) {
            match self.registries.get(&revision) {
                Some(known) if known != registry => {
                    return Err(format!("two registries differ at revision {revision}"));
                }
                Some(_) => {}
                None => drop(self.registries.insert(revision, registry.clone())),
            }
        }
        Ok(())
    }

    /// Something new.
    fn happened(&mut self, revision: u64, changes: &[Change]) -> Result<(), String> {
        for change in changes {
            match change {
                Change::Put(item) => {
                    if item.mod_revision != revision {
                        return Err(format!("{item:?} was written at revision {revision}"));
                    }
                    if let Some(written) = client::written(item)
                        && let Some(before) = self.written.insert(written, revision)
                    {
                        return Err(format!("{item:?} was written at {before}, and again"));
                    }
                    let of = self.keys.entry(item.key.clone()).or_default();
                    of.insert(revision, Some(item.clone()));
                }
                Change::Deleted { key } => {
                    self.keys.entry(key.clone()).or_default().insert(revision, None);
                }
                Change::Name { name, holder } => self.named(revision, name, holder.as_ref())?,
            }
        }
        for change in changes {
            if let Change::Put(item) = change {
                self.guarded(item)?;
            }
        }
        Ok(())
    }

    fn named(&mut self, at: u64, name: &Bytes, holder: Option<&Holder>) -> Result<(), String> {
        let Some(holder) = holder else {
            self.holders.remove(name);
            return Ok(());
        };
        let before = self.holders.insert(name.clone(), holder.clone());
        if before.is_some_and(|before| before.token == holder.token && before.lease == holder.lease)
        {
            return Ok(()); // it is asked to step down
        }
        let last = self.tokens.insert(name.clone(), holder.token).unwrap_or(0);
        if holder.token != at || holder.token <= last {
            let token = holder.token;
            return Err(format!("{name:?} was granted at {at} with {token}, before with {last}"));
        }
        Ok(())
    }

    /// What only a holder may write is written by the holder.
    fn guarded(&self, item: &Item) -> Result<(), String> {
        let Some(name) = item.key.strip_prefix(b"guarded/") else { return Ok(()) };
        let holder = self.holders.get(name).map(|holder| holder.token.to_string());
        if holder.as_ref().is_none_or(|token| token.as_bytes() != item.value) {
            return Err(format!("{item:?} was written when {holder:?} was the grant"));
        }
        Ok(())
    }

    /// What a key held at a revision.
    pub(super) fn at(&self, key: &[u8], revision: u64) -> Option<&Item> {
        self.keys.get(key)?.range(..=revision).next_back()?.1.as_ref()
    }

    /// A client's value, as it was written.
    pub(super) fn written(&self, of: u8, value: u64) -> Option<&Item> {
        let revision = self.written.get(&(of, value))?;
        self.at(&client::key(of), *revision)
    }

    /// Whatever a key held.
    pub(super) fn of(&self, key: &[u8]) -> impl Iterator<Item = (u64, Option<&Item>)> {
        let of = self.keys.get(key).into_iter().flatten();
        of.map(|(revision, item)| (*revision, item.as_ref()))
    }

    /// What is there at the end.
    pub(super) fn items(&self) -> Vec<&Item> {
        self.keys.values().filter_map(|of| of.last_key_value()?.1.as_ref()).collect()
    }

    /// What happened at a revision, as far as a watch looks at it.
    pub(super) fn watched(&self, target: &Target, revision: u64) -> Vec<Change> {
        let changes = self.changes.get(&revision).into_iter().flatten();
        changes.filter(|change| target.matches(change)).cloned().collect()
    }

    /// The first revision of those at which something happened that a watch looks at.
    pub(super) fn first_watched(&self, target: &Target, from: u64, before: u64) -> Option<u64> {
        let mut range = self.changes.range(from..before.max(from));
        range.find(|(_, all)| all.iter().any(|change| target.matches(change))).map(|(at, _)| *at)
    }
}
