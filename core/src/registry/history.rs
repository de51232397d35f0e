//! What happened lately, revision by revision, for whoever watches.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::command::{Change, Item};
use super::{MAX_HISTORY, MAX_HISTORY_BYTES};
use crate::cow::CowMap;

/// The changes of the last revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct History {
    revisions: CowMap<u64, Arc<[Change]>>,
    bytes: u64,
    /// From here on nothing is lacking.
    oldest: u64,
}

impl Default for History {
    fn default() -> History {
        History { revisions: CowMap::new(), bytes: 0, oldest: 1 }
    }
}

impl History {
    /// As a snapshot tells it.
    pub(super) fn from(oldest: u64) -> History {
        History { oldest, ..History::default() }
    }

    pub(super) fn push(&mut self, revision: u64, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        self.bytes += changes.iter().map(weight).sum::<u64>();
        self.revisions.insert(revision, changes.into());
        while self.revisions.len() > MAX_HISTORY || self.bytes > MAX_HISTORY_BYTES {
            let Some((&oldest, changes)) = self.revisions.first_key_value() else { break };
            self.bytes -= changes.iter().map(weight).sum::<u64>();
            self.revisions.remove(&oldest);
            self.oldest = oldest + 1;
        }
    }

    pub(super) fn since(&self, from: u64) -> Result<impl Iterator<Item = (u64, &[Change])>, u64> {
        if from < self.oldest {
            return Err(self.oldest);
        }
        Ok(self.revisions.range(from..).map(|(revision, changes)| (*revision, &changes[..])))
    }

    pub(super) fn oldest(&self) -> u64 {
        self.oldest
    }

    pub(super) fn len(&self) -> usize {
        self.revisions.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &[Change])> {
        self.revisions.iter().map(|(revision, changes)| (*revision, &changes[..]))
    }

    pub(super) fn check(&self, revision: u64) {
        let bytes: u64 =
            self.revisions.values().flat_map(|changes| changes.iter()).map(weight).sum();
        assert_eq!(self.bytes, bytes, "the history's bytes are counted");
        assert!(self.revisions.len() <= MAX_HISTORY && self.bytes <= MAX_HISTORY_BYTES);
        assert!(self.revisions.keys().all(|at| *at >= self.oldest && *at <= revision));
    }
}

/// What a change takes up, in bytes of keys and values.
fn weight(change: &Change) -> u64 {
    let bytes = match change {
        Change::Put(Item { key, value, .. }) => key.len() + value.len(),
        Change::Deleted { key } => key.len(),
        Change::Name { name, holder } => {
            name.len() + holder.as_ref().map_or(0, |holder| holder.value.len())
        }
    };
    bytes as u64
}
