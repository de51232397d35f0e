//! The log as it lies in memory: entries after a snapshot's position.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::message::{Ballot, Entry, Members, Payload, Position};

/// Entries that one message carries, at most.
pub const MAX_ENTRIES_PER_MESSAGE: usize = 4_096;
/// Bytes of payload that one message carries, at most, unless a single entry is larger.
pub const MAX_BYTES_PER_MESSAGE: usize = 1 << 20;

/// A log without its beginning.
#[derive(Clone, Debug)]
pub(super) struct Entries {
    /// What the snapshot covers; the entries follow it.
    base: Position,
    entries: VecDeque<Entry>,
    /// Who takes part, by the index from which on: the base's, then every change in the entries.
    members: Vec<(u64, Members)>,
}

impl Entries {
    pub(super) fn new(members: Members) -> Entries {
        Entries::after(Position::ZERO, members)
    }

    /// Nothing after a snapshot.
    pub(super) fn after(base: Position, members: Members) -> Entries {
        Entries { base, entries: VecDeque::new(), members: [(base.index, members)].into() }
    }

    pub(super) fn base(&self) -> Position {
        self.base
    }

    #[inline]
    pub(super) fn last_index(&self) -> u64 {
        self.base.index + self.entries.len() as u64
    }

    #[inline]
    pub(super) fn last(&self) -> Position {
        match self.entries.back() {
            Some(entry) => Position { ballot: entry.ballot, index: self.last_index() },
            None => self.base,
        }
    }

    /// The ballot at an index that is at hand.
    #[inline]
    pub(super) fn ballot(&self, index: u64) -> Option<Ballot> {
        if index == self.base.index {
            return Some(self.base.ballot);
        }
        self.get(index).map(|entry| entry.ballot)
    }

    #[inline]
    pub(super) fn get(&self, index: u64) -> Option<&Entry> {
        let offset = index.checked_sub(self.base.index + 1)?;
        self.entries.get(usize::try_from(offset).ok()?)
    }

    /// Whether the entry at a position is this log's.
    #[inline]
    pub(super) fn holds(&self, position: Position) -> bool {
        // What a snapshot covers was committed, so it is the same everywhere.
        position.index < self.base.index || self.ballot(position.index) == Some(position.ballot)
    }

    /// The members as of the last entry.
    #[inline]
    pub(super) fn members(&self) -> &Members {
        &self.members[self.members.len() - 1].1
    }

    /// The index of the last change of members.
    pub(super) fn members_since(&self) -> u64 {
        self.members[self.members.len() - 1].0
    }

    /// The members as of an index.
    pub(super) fn members_at(&self, index: u64) -> &Members {
        let known = self.members.iter().rev().find(|(since, _)| *since <= index);
        known.map_or(&self.members[0].1, |(_, members)| members)
    }

    #[inline]
    pub(super) fn push(&mut self, entry: Entry) {
        if let Payload::Members(members) = &entry.payload {
            self.members.push((self.last_index() + 1, members.clone()));
        }
        self.entries.push_back(entry);
    }

    /// Drops what comes after `index`.
    pub(super) fn truncate(&mut self, index: u64) {
        let keep = index.saturating_sub(self.base.index);
        self.entries.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        self.members.retain(|(since, _)| *since <= index.max(self.base.index));
    }

    /// Drops what comes before and at `index`, which a snapshot covers.
    pub(super) fn compact(&mut self, index: u64) {
        let Some(ballot) = self.ballot(index) else { return };
        let members = self.members_at(index).clone();
        self.entries.drain(..(index - self.base.index) as usize);
        self.base = Position { ballot, index };
        self.members.retain(|(since, _)| *since > index);
        self.members.insert(0, (index, members));
    }

    /// What comes after `index`, as much as fits a message; without data if `blank`.
    pub(super) fn page(&self, index: u64, blank: bool) -> Vec<Entry> {
        let skip = index.saturating_sub(self.base.index) as usize;
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.payload.weight();
            bytes <= MAX_BYTES_PER_MESSAGE || bytes == entry.payload.weight()
        };
        let page = self.entries.range(skip.min(self.entries.len())..);
        let page = page.take(MAX_ENTRIES_PER_MESSAGE).take_while(fits).cloned();
        if !blank {
            return page.collect();
        }
        let hidden = |entry: Entry| match entry.payload {
            Payload::Data(_) => Entry { payload: Payload::Blank, ..entry },
            _ => entry,
        };
        page.map(hidden).collect()
    }

    /// How many entries are at hand.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Ballots never fall.
    pub(super) fn check(&self) {
        debug_assert!(
            self.entries.iter().zip(self.entries.iter().skip(1)).all(|(a, b)| a.ballot <= b.ballot),
            "ballots fall along a log"
        );
    }
}
