//! Orphans: authentic entries that cannot be applied yet.
//!
//! An entry waits for one of two things: a *place* (its predecessor, or an entry that it cites, has not
//! come), or the *clock* (it claims to be from farther in the future than [`crate::hlc::MAX_DRIFT_MS`];
//! it is *parked*, not invalid). When a place is filled, whatever waited for it is handed back and tried
//! again; the caller loops, nothing recurses.
//!
//! Whoever can make us keep things can make us keep too many. So only authentic entries of members get
//! here; there are quotas for the whole, for each author and for each peer; an entry too far above its
//! author's height is refused; and what is farthest from being applied goes first. Orphans are in the
//! log as well, so a restart loses none, and the position of each that is dropped is handed back, to be
//! forgotten there. Entries that stood in the log above a damaged record are *sheltered*: they were
//! applied once, so neither quota nor time takes them away.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::cow::CowMap;
use crate::entry::Entry;
use crate::machine::{NodeId, Time};

/// The most orphans in all.
pub const MAX_ORPHANS: usize = 8192;
/// The most bytes of orphans in all.
pub const MAX_ORPHAN_BYTES: usize = 16 << 20;
/// The most orphans of one author.
pub const MAX_ORPHANS_PER_AUTHOR: usize = 2048;
/// The most orphans that one peer brought.
pub const MAX_ORPHANS_PER_PEER: usize = 4096;
/// How far above its author's height an orphan may stand.
pub const MAX_DISTANCE: u64 = 16_384;
/// How long an orphan is kept, in milliseconds: by then anti-entropy has run many times.
pub const ORPHAN_TTL_MS: u64 = 600_000;

/// What an orphan waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wait {
    /// An entry of this author at this place.
    Place(NodeId, u64),
    /// The wall clock.
    Clock,
}

/// An entry that waits.
#[derive(Clone, Debug)]
pub struct Orphan {
    /// The entry.
    pub entry: Entry,
    /// Its record's position in the log.
    pub position: u64,
    /// Who brought it.
    pub from: NodeId,
    /// Since when it is here.
    pub since: Time,
    /// What it waits for.
    pub wait: Wait,
    /// Whether it stood in the log above a damaged record: it was applied once, so neither quotas nor
    /// time may take it away. Its citations are waived in time like anybody's.
    pub sheltered: bool,
}

/// What became of an orphan that was offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is kept; the entries at these log positions were dropped for it.
    Yes(Vec<u64>),
    /// There was no room, or it stands too far above its chain.
    No,
}

/// The buffer, by author and place.
#[derive(Clone, Debug, Default)]
pub struct Orphans {
    orphans: CowMap<(NodeId, u64), Orphan>,
    waiting: CowMap<(Wait, NodeId, u64), ()>,
    by_author: BTreeMap<NodeId, usize>,
    by_peer: BTreeMap<NodeId, usize>,
    bytes: usize,
    counted: usize,
    oldest: Option<Time>,
    expired: u64,
    evicted: u64,
}

impl Orphans {
    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.orphans.len()
    }

    /// Whether none wait.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.orphans.is_empty()
    }

    /// Their encoded bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many wait for the clock.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.waiting_for(Wait::Clock).count()
    }

    /// How many were dropped because their time was up, and because there was no room.
    #[must_use]
    pub fn dropped(&self) -> (u64, u64) {
        (self.expired, self.evicted)
    }

    /// The orphan of `author` at `seq`.
    #[must_use]
    pub fn get(&self, author: &NodeId, seq: u64) -> Option<&Orphan> {
        self.orphans.get(&(*author, seq))
    }

    /// The orphans of `author`, from place `from` on, in order.
    pub fn of(&self, author: NodeId, from: u64) -> impl Iterator<Item = &Orphan> {
        self.orphans.range((author, from)..=(author, u64::MAX)).map(|(_, orphan)| orphan)
    }

    /// Keeps `orphan`, whose author's chain has reached `height`; drops those farthest from being
    /// applied where there is no room.
    ///
    /// # Panics
    ///
    /// If its place is taken: callers look first, since two entries for one place are a fork.
    pub fn keep(&mut self, orphan: Orphan, height: u64) -> Kept {
        let header = orphan.entry.header();
        let key = (header.author, header.seq);
        assert!(!self.orphans.contains_key(&key), "a place is taken once");
        self.oldest = Some(self.oldest.map_or(orphan.since, |oldest| oldest.min(orphan.since)));
        if orphan.sheltered {
            self.waiting.insert((orphan.wait, key.0, key.1), ());
            self.orphans.insert(key, orphan);
            return Kept::Yes(Vec::new());
        }
        if header.seq.saturating_sub(height) > MAX_DISTANCE {
            self.evicted += 1;
            return Kept::No;
        }
        *self.by_author.entry(key.0).or_default() += 1;
        *self.by_peer.entry(orphan.from).or_default() += 1;
        self.bytes += orphan.entry.bytes().len();
        self.waiting.insert((orphan.wait, key.0, key.1), ());
        self.counted += 1;
        let from = orphan.from;
        self.orphans.insert(key, orphan);
        let mut dropped = Vec::new();
        while let Some(victim) = self.over_quota(key.0, from) {
            let position = self.take(victim).expect("a victim is in the buffer").position;
            self.evicted += 1;
            dropped.push(position);
            if victim == key {
                // The new one is the farthest of all: nothing else was dropped for it.
                return if dropped.len() == 1 { Kept::No } else { Kept::Yes(dropped) };
            }
        }
        Kept::Yes(dropped)
    }

    /// Hands back an orphan that waits for `author`'s place `seq`, which has been filled, or for any
    /// place of it above a cut.
    pub fn released(&mut self, author: NodeId, seq: u64) -> Option<Orphan> {
        let key = self.waiting_for(Wait::Place(author, seq)).next()?;
        self.take(key)
    }

    /// Hands back an orphan that waits for a place of `author` above `height`.
    pub fn released_above(&mut self, author: NodeId, height: u64) -> Option<Orphan> {
        bug!(cut_leaves_orphans_waiting => return None);
        let from = (Wait::Place(author, height.checked_add(1)?), NodeId([0; 32]), 0);
        let to = (Wait::Place(author, u64::MAX), NodeId([0xff; 32]), u64::MAX);
        // An author's own entries above its cut wait in vain; only those of others go on.
        let mut waiting = self.waiting.range(from..=to).map(|(key, ())| *key);
        let (_, of, seq) = waiting.find(|(_, of, _)| *of != author)?;
        self.take((of, seq))
    }

    /// Hands back the parked entries whose time has come.
    pub fn unparked(&mut self, due: impl Fn(&Entry) -> bool) -> Vec<Orphan> {
        let keys: Vec<(NodeId, u64)> = self
            .waiting_for(Wait::Clock)
            .filter(|key| self.orphans.get(key).is_some_and(|orphan| due(&orphan.entry)))
            .collect();
        keys.into_iter().filter_map(|key| self.take(key)).collect()
    }

    /// Takes out a given orphan.
    pub fn remove(&mut self, author: NodeId, seq: u64) -> Option<Orphan> {
        self.take((author, seq))
    }

    /// The entries that have waited too long for another author's, by author and place: they are to be
    /// applied without.
    #[must_use]
    pub fn overdue(&self, now: Time) -> Vec<(NodeId, u64)> {
        bug!(citations_waited_for_for_ever => return Vec::new());
        let old = |key: &(NodeId, u64), orphan: &Orphan| {
            matches!(orphan.wait, Wait::Place(of, _) if of != key.0)
                && orphan.since.after_ms(ORPHAN_TTL_MS) <= now
        };
        self.orphans.iter().filter(|(key, orphan)| old(key, orphan)).map(|(key, _)| *key).collect()
    }

    /// Drops what has been here too long; returns the log positions.
    pub fn expire(&mut self, now: Time) -> Vec<u64> {
        let old: Vec<(NodeId, u64)> = self
            .orphans
            .iter()
            .filter(|(_, orphan)| !orphan.sheltered && orphan.since.after_ms(ORPHAN_TTL_MS) <= now)
            .map(|(key, _)| *key)
            .collect();
        self.expired += old.len() as u64;
        let dropped = old
            .into_iter()
            .filter_map(|key| self.take(key))
            .map(|orphan| orphan.position)
            .collect();
        let ends = |(key, orphan): &(&(NodeId, u64), &Orphan)| {
            let cites = matches!(orphan.wait, Wait::Place(of, _) if of != key.0);
            !orphan.sheltered || cites
        };
        self.oldest = self.orphans.iter().filter(ends).map(|(_, orphan)| orphan.since).min();
        dropped
    }

    /// When to look for orphans whose time is up; perhaps too early, never too late.
    #[must_use]
    pub fn expires_at(&self) -> Option<Time> {
        if self.is_empty() { None } else { Some(self.oldest?.after_ms(ORPHAN_TTL_MS)) }
    }

    /// Starts everyone's time at `now`: after a restart, nobody knows how long they have waited.
    pub fn restart_clock(&mut self, now: Time) {
        let keys: Vec<(NodeId, u64)> = self.orphans.keys().copied().collect();
        for key in keys {
            if let Some(orphan) = self.orphans.get_mut(&key) {
                orphan.since = now;
            }
        }
        self.oldest = Some(now);
    }

    /// Asserts that the books agree and that every bound holds.
    pub fn check(&self) {
        let counted = || self.orphans.values().filter(|orphan| !orphan.sheltered);
        let bytes: usize = counted().map(|orphan| orphan.entry.bytes().len()).sum();
        assert_eq!(self.bytes, bytes, "the orphans' bytes are counted");
        assert_eq!(self.orphans.len(), self.waiting.len(), "every orphan waits for one thing");
        assert_eq!(self.counted, counted().count());
        assert_eq!(self.by_author.values().sum::<usize>(), counted().count());
        assert_eq!(self.by_peer.values().sum::<usize>(), counted().count());
        assert!(counted().count() <= MAX_ORPHANS && self.bytes <= MAX_ORPHAN_BYTES);
        assert!(self.by_author.values().all(|count| *count <= MAX_ORPHANS_PER_AUTHOR));
        assert!(self.by_peer.values().all(|count| *count <= MAX_ORPHANS_PER_PEER));
    }

    /// Everyone whose entries wait here, for status.
    #[must_use]
    pub fn authors(&self) -> BTreeSet<NodeId> {
        self.by_author.keys().copied().collect()
    }

    fn waiting_for(&self, wait: Wait) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        let range = (wait, NodeId([0; 32]), 0)..=(wait, NodeId([0xff; 32]), u64::MAX);
        self.waiting.range(range).map(|((_, author, seq), ())| (*author, *seq))
    }

    /// Whom to drop, if a bound is exceeded after an orphan of `author` came from `peer`: the last of
    /// that author's, the peer's highest, or the highest of the author with most.
    fn over_quota(&self, author: NodeId, peer: NodeId) -> Option<(NodeId, u64)> {
        bug!(orphans_without_bound => return None);
        if self.by_author.get(&author).is_some_and(|count| *count > MAX_ORPHANS_PER_AUTHOR) {
            return self.highest_of(author);
        }
        if self.by_peer.get(&peer).is_some_and(|count| *count > MAX_ORPHANS_PER_PEER) {
            let theirs =
                self.orphans.iter().filter(|(_, orphan)| !orphan.sheltered && orphan.from == peer);
            return theirs.max_by_key(|((_, seq), _)| *seq).map(|(key, _)| *key);
        }
        if self.counted > MAX_ORPHANS || self.bytes > MAX_ORPHAN_BYTES {
            let (most, _) = self.by_author.iter().max_by_key(|(_, count)| **count)?;
            return self.highest_of(*most);
        }
        None
    }

    fn highest_of(&self, author: NodeId) -> Option<(NodeId, u64)> {
        let of_author = self.orphans.range((author, 0)..=(author, u64::MAX));
        let mut counted = of_author.filter(|(_, orphan)| !orphan.sheltered);
        counted.next_back().map(|(key, _)| *key)
    }

    fn take(&mut self, key: (NodeId, u64)) -> Option<Orphan> {
        let orphan = self.orphans.remove(&key)?;
        self.waiting.remove(&(orphan.wait, key.0, key.1));
        if orphan.sheltered {
            return Some(orphan);
        }
        self.bytes -= orphan.entry.bytes().len();
        self.counted -= 1;
        release(&mut self.by_author, key.0);
        release(&mut self.by_peer, orphan.from);
        Some(orphan)
    }
}

fn release(counts: &mut BTreeMap<NodeId, usize>, whose: NodeId) {
    if let Some(count) = counts.get_mut(&whose) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&whose);
        }
    }
}
