//! The log as it lies in memory: entries after a snapshot's position, in the pages they came in.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::message::{Ballot, Entry, Members, Payload, Position};
use super::page::Page;

/// Entries that one message carries, at most.
pub const MAX_ENTRIES_PER_MESSAGE: usize = 4_096;
/// Bytes of payload that one message carries, at most, unless a single entry is larger.
pub const MAX_BYTES_PER_MESSAGE: usize = 1 << 20;

/// A page with fewer entries than this is joined with those after it before it is sent.
const SMALL: usize = 128;

/// A log without its beginning.
#[derive(Clone, Debug, Hash)]
pub(super) struct Entries {
    /// What the snapshot covers; the entries follow it.
    base: Position,
    /// The last entry, or the base.
    last: Position,
    /// In order, none of them empty.
    pages: VecDeque<Stored>,
    /// Who takes part, by the index from which on: the base's, then every change in the entries.
    members: Vec<(u64, Members)>,
    /// Rises whenever the last members may have become others. From 1.
    version: u64,
    /// No entry after this one is blank.
    blank: Option<u64>,
}

#[derive(Clone, Debug, Hash)]
struct Stored {
    /// The index of the page's first entry.
    first: u64,
    /// The bytes of payload in it.
    weight: usize,
    page: Page,
}

impl Stored {
    fn new(first: u64, page: Page) -> Stored {
        let weight = page.iter().map(|entry| entry.payload.weight()).sum();
        Stored { first, weight, page }
    }

    fn last(&self) -> Position {
        let last = self.page.last().map_or(Ballot::ZERO, |entry| entry.ballot);
        Position { ballot: last, index: self.first + self.page.len() as u64 - 1 }
    }
}

impl Entries {
    pub(super) fn new(members: Members) -> Entries {
        Entries::after(Position::ZERO, members)
    }

    /// Nothing after a snapshot.
    pub(super) fn after(base: Position, members: Members) -> Entries {
        let members = [(base.index, members)].into();
        Entries { base, last: base, pages: VecDeque::new(), members, version: 1, blank: None }
    }

    pub(super) fn base(&self) -> Position {
        self.base
    }

    #[inline]
    pub(super) fn last_index(&self) -> u64 {
        self.last.index
    }

    #[inline]
    pub(super) fn last(&self) -> Position {
        self.last
    }

    /// Which page an index is on, if it is at hand.
    #[inline]
    fn find(&self, index: u64) -> Option<usize> {
        if index <= self.base.index || index > self.last.index {
            return None;
        }
        // What is asked for is mostly near the end.
        let (mut low, mut high, mut step) = (0, self.pages.len(), 1);
        while high > step {
            if self.pages[high - step].first <= index {
                low = high - step;
                break;
            }
            (high, step) = (high - step, step * 2);
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match self.pages[middle].first <= index {
                true => low = middle,
                false => high = middle,
            }
        }
        Some(low)
    }

    /// The ballot at an index that is at hand.
    #[inline]
    pub(super) fn ballot(&self, index: u64) -> Option<Ballot> {
        if index == self.last.index {
            return Some(self.last.ballot);
        }
        if index == self.base.index {
            return Some(self.base.ballot);
        }
        self.get(index).map(|entry| entry.ballot)
    }

    #[inline]
    pub(super) fn get(&self, index: u64) -> Option<&Entry> {
        let Stored { first, page, .. } = &self.pages[self.find(index)?];
        page.get((index - first) as usize)
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

    /// Tells whether [`members`](Self::members) are still those of before.
    #[inline]
    pub(super) fn members_version(&self) -> u64 {
        self.version
    }

    /// Nothing but what a snapshot covers.
    pub(super) fn reset(&mut self, base: Position, members: Members) {
        *self = Entries { version: self.version + 1, ..Entries::after(base, members) };
    }

    /// Whether there may be entries without their data.
    #[inline]
    pub(super) fn may_be_blank(&self) -> bool {
        self.blank.is_some()
    }

    /// The index of the last change of members.
    #[inline]
    pub(super) fn members_since(&self) -> u64 {
        self.members[self.members.len() - 1].0
    }

    /// The members as of an index.
    pub(super) fn members_at(&self, index: u64) -> &Members {
        let known = self.members.iter().rev().find(|(since, _)| *since <= index);
        known.map_or(&self.members[0].1, |(_, members)| members)
    }

    /// Appends a page.
    pub(super) fn push(&mut self, page: Page) {
        if page.is_empty() {
            return;
        }
        let first = self.last.index + 1;
        let mut weight = 0;
        for (index, entry) in (first..).zip(&page) {
            weight += entry.payload.weight();
            if entry.payload == Payload::Blank {
                self.blank = Some(index);
            }
            if let Payload::Members(members) = &entry.payload {
                self.members.push((index, Members::clone(members)));
                self.version += 1;
            }
        }
        let stored = Stored { first, weight, page };
        self.last = stored.last();
        self.pages.push_back(stored);
    }

    /// Drops what comes after `index`.
    pub(super) fn truncate(&mut self, index: u64) {
        if index >= self.last.index {
            return;
        }
        while let Some(stored) = self.pages.back()
            && stored.first > index
        {
            self.pages.pop_back();
        }
        if let Some(stored) = self.pages.back_mut() {
            let keep = (index + 1 - stored.first) as usize;
            *stored = Stored::new(stored.first, stored.page.slice(0, keep));
        }
        self.last = self.pages.back().map_or(self.base, Stored::last);
        self.members.retain(|(since, _)| *since <= index.max(self.base.index));
        self.blank = self.blank.map(|last| last.min(index));
        self.version += 1;
    }

    /// Drops what comes before and at `index`, which a snapshot covers.
    pub(super) fn compact(&mut self, index: u64) {
        let Some(ballot) = self.ballot(index) else { return };
        let members = self.members_at(index).clone();
        while let Some(stored) = self.pages.front()
            && stored.last().index <= index
        {
            self.pages.pop_front();
        }
        if let Some(stored) = self.pages.front_mut()
            && stored.first <= index
        {
            let drop = (index + 1 - stored.first) as usize;
            *stored = Stored::new(index + 1, stored.page.clone().after(drop));
        }
        self.base = Position { ballot, index };
        self.blank = self.blank.filter(|last| *last > index);
        self.members.retain(|(since, _)| *since > index);
        self.members.insert(0, (index, members));
    }

    /// What comes after `index` on one page, up to `last`.
    pub(super) fn run(&self, index: u64, last: u64) -> Page {
        let Some(at) = self.find(index + 1) else { return Page::EMPTY };
        let Stored { first, page, .. } = &self.pages[at];
        page.slice((index + 1 - first) as usize, (last + 1 - first) as usize)
    }

    /// What comes after `index`, if it is a page that may be sent as it is.
    #[inline]
    pub(super) fn whole_page(&self, index: u64) -> Option<Page> {
        let at = self.find(index + 1)?;
        let Stored { first, weight, page } = &self.pages[at];
        let skip = (index + 1 - first) as usize;
        let fits = page.len() <= MAX_ENTRIES_PER_MESSAGE && *weight <= MAX_BYTES_PER_MESSAGE;
        let enough = at + 1 == self.pages.len() || page.len() - skip >= SMALL;
        (fits && enough).then(|| page.clone().after(skip))
    }

    /// What comes after `index`, as much as fits a message; without data if `blank`.
    pub(super) fn page(&self, index: u64, blank: bool) -> Page {
        if let Some(page) = self.whole_page(index).filter(|_| !blank) {
            return page;
        }
        let Some(at) = self.find(index + 1) else { return Page::EMPTY };
        let Stored { first, page, .. } = &self.pages[at];
        let skip = (index + 1 - first) as usize;
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += entry.payload.weight();
            bytes <= MAX_BYTES_PER_MESSAGE || bytes == entry.payload.weight()
        };
        let more = self.pages.range(at + 1..).flat_map(|stored| stored.page.iter());
        let entries = page[skip..].iter().chain(more).take(MAX_ENTRIES_PER_MESSAGE);
        let entries = entries.take_while(fits).cloned();
        if !blank {
            return entries.collect::<Vec<Entry>>().into();
        }
        let hidden = |entry: Entry| match entry.payload {
            Payload::Data(_) => Entry { payload: Payload::Blank, ..entry },
            _ => entry,
        };
        entries.map(hidden).collect::<Vec<Entry>>().into()
    }

    /// All that is at hand.
    pub(super) fn pages(&self) -> Vec<Page> {
        self.pages.iter().map(|stored| stored.page.clone()).collect()
    }

    /// How many entries are at hand.
    pub(super) fn len(&self) -> usize {
        (self.last.index - self.base.index) as usize
    }

    /// Ballots never fall, and pages follow one another.
    pub(super) fn check(&self) {
        debug_assert!(
            self.pages.iter().zip(self.pages.iter().skip(1)).all(|(a, b)| {
                a.last().index + 1 == b.first && a.last().ballot <= b.page[0].ballot
            }) && self.pages.iter().all(|stored| stored.page.is_sorted_by_key(|e| e.ballot)),
            "pages overlap, or ballots fall along a log"
        );
    }
}
