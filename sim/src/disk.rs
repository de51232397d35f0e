//! A node's disk: an append-only log, and what of it survives.
//!
//! A record is *written* when the machine persists it and *durable* when a sync that began after
//! the write has finished. One sync is under way at a time and covers everything written before it
//! began (group commit). A crash keeps a prefix of the log that is drawn between what was durable
//! and what was written: the disk may have got further than it had told us.
//!
//! A host may *forget* a position it needs no longer: it is skipped when the log is restored, and
//! the others keep their positions. That too is durable only after a sync; until then a crash may
//! bring the record back.
//!
//! A disk can *lie*: it says that a sync is done and has the records in its memory only. From then
//! on they are durable for all who ask, and gone with the next crash, unless an honest sync was
//! finished before it.
//!
//! The log is cheap to clone: sealed chunks are shared.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::prng::{Rng, Span};

/// Records of a sealed chunk. A fork copies those of the unsealed tail, so it is small.
const CHUNK: usize = 32;
/// How far a fault looks for a record that it may damage.
const SEARCH_MAX: u64 = 1_024;

/// The records of a node, at positions 0, 1, 2, …
#[derive(Clone, Debug)]
pub struct Log<R> {
    sealed: Arc<Vec<Arc<Vec<R>>>>,
    tail: Vec<R>,
    forgotten: Arc<BTreeSet<u64>>,
}

impl<R: Clone> Log<R> {
    pub(crate) fn new() -> Log<R> {
        Log { sealed: Arc::default(), tail: Vec::new(), forgotten: Arc::default() }
    }

    /// How many records were ever written and not lost, forgotten ones included.
    #[must_use]
    pub fn len(&self) -> u64 {
        (self.sealed.len() * CHUNK + self.tail.len()) as u64
    }

    /// Whether nothing is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The record at `position`, unless it lies beyond the end or was forgotten.
    #[must_use]
    pub fn get(&self, position: u64) -> Option<&R> {
        let index = usize::try_from(position).ok()?;
        let record = match self.sealed.get(index / CHUNK) {
            Some(chunk) => &chunk[index % CHUNK],
            None => self.tail.get(index - self.sealed.len() * CHUNK)?,
        };
        (!self.forgotten.contains(&position)).then_some(record)
    }

    /// Every record that is not forgotten, with its position.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &R)> {
        (0..self.len()).filter_map(|position| Some((position, self.get(position)?)))
    }

    pub(crate) fn push(&mut self, record: R) {
        self.tail.push(record);
        if self.tail.len() == CHUNK {
            let chunk = std::mem::replace(&mut self.tail, Vec::with_capacity(CHUNK));
            Arc::make_mut(&mut self.sealed).push(Arc::new(chunk));
        }
    }

    fn truncate(&mut self, len: u64) {
        if len >= self.len() {
            return;
        }
        let len = len as usize;
        if len < self.sealed.len() * CHUNK {
            let sealed = Arc::make_mut(&mut self.sealed);
            self.tail.clone_from(&sealed[len / CHUNK]);
            sealed.truncate(len / CHUNK);
        }
        self.tail.truncate(len - self.sealed.len() * CHUNK);
        Arc::make_mut(&mut self.forgotten).split_off(&(len as u64));
    }

    fn replace(&mut self, position: u64, record: R) {
        let index = position as usize;
        if index < self.sealed.len() * CHUNK {
            Arc::make_mut(&mut Arc::make_mut(&mut self.sealed)[index / CHUNK])[index % CHUNK] =
                record;
        } else {
            self.tail[index - self.sealed.len() * CHUNK] = record;
        }
    }
}

/// What a crash did to a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Loss {
    /// How many records the log had.
    pub written: u64,
    /// How many of them were known to be durable.
    pub durable: u64,
    /// How many are left: from `durable` to `written`, or fewer if the disk had lied.
    pub survived: u64,
    /// Whether the first lost record was half written: a real log would find a torn tail there.
    pub torn: bool,
}

/// How much of what was not durable a crash takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Loses {
    /// Drawn from the seed: all, nothing, or a suffix.
    Drawn,
    /// Everything that was not durable.
    Unsynced,
    /// Nothing.
    Nothing,
}

/// One node's disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk<R> {
    pub(crate) log: Log<R>,
    durable: u64,
    /// What the sync under way will make durable.
    syncing: Option<u64>,
    /// Where what is really durable ends, if the disk has lied about the rest.
    really: Option<u64>,
    /// Syncs that finish now are lies.
    pub(crate) lying: bool,
    /// Positions forgotten since the last sync began, and those that the sync under way covers.
    forgetting: Vec<u64>,
    forgetting_covered: usize,
    copy: Option<(Log<R>, u64)>,
    /// Syncs take this many times as long.
    pub(crate) slowness: u32,
    /// Nothing more can be written.
    pub(crate) full: bool,
    /// For sync times, and for what crashes take: a crash more shifts no sync time.
    rng: Rng,
    crashes: Rng,
}

impl<R: Clone> Disk<R> {
    pub(crate) fn new(rng: Rng, crashes: Rng) -> Disk<R> {
        Disk {
            log: Log::new(),
            durable: 0,
            syncing: None,
            really: None,
            lying: false,
            forgetting: Vec::new(),
            forgetting_covered: 0,
            copy: None,
            slowness: 1,
            full: false,
            rng,
            crashes,
        }
    }

    #[inline]
    pub(crate) fn written(&self) -> u64 {
        self.log.len()
    }

    #[inline]
    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    pub(crate) fn append(&mut self, record: R) -> u64 {
        self.log.push(record);
        self.log.len() - 1
    }

    /// Starts a sync if one is needed and none under way; how long it will take.
    #[inline]
    pub(crate) fn start_sync(&mut self, latency: Span) -> Option<u64> {
        let needed = self.log.len() > self.durable || !self.forgetting.is_empty();
        if !needed || self.syncing.is_some() {
            return None;
        }
        self.syncing = Some(self.log.len());
        self.forgetting_covered = self.forgetting.len();
        Some(self.rng.within(latency).saturating_mul(u64::from(self.slowness)))
    }

    /// The sync under way has finished; what is durable now.
    pub(crate) fn finish_sync(&mut self) -> u64 {
        if let Some(covered) = self.syncing.take() {
            if !self.lying {
                self.really = None;
            } else if covered > self.durable {
                self.really.get_or_insert(self.durable);
            }
            self.durable = covered;
            self.forgetting.drain(..self.forgetting_covered);
        }
        self.durable
    }

    pub(crate) fn forget(&mut self, position: u64) {
        if self.log.get(position).is_some() {
            Arc::make_mut(&mut self.log.forgotten).insert(position);
            self.forgetting.push(position);
        }
    }

    /// The process died: cuts the log.
    pub(crate) fn crash(&mut self, loses: Loses) -> Loss {
        let (written, durable) = (self.written(), self.durable);
        let survived = match (loses, self.really) {
            // The machine did not lose its power: what the disk has in its memory is safe.
            (Loses::Nothing, _) => written,
            (_, Some(really)) => really,
            (Loses::Unsynced, None) => durable,
            (Loses::Drawn, None) => match self.crashes.below(4) {
                0 => durable,
                1 => written,
                _ => self.crashes.within(Span::new(durable, written)),
            },
        };
        let torn = survived < written && self.crashes.below(2) == 0;
        let kept = self.crashes.below(self.forgetting.len() as u64 + 1) as usize;
        for position in self.forgetting.drain(..).skip(kept) {
            Arc::make_mut(&mut self.log.forgotten).remove(&position);
        }
        self.log.truncate(survived);
        self.durable = survived;
        self.really = self.really.filter(|&really| really < survived);
        self.syncing = None;
        self.forgetting_covered = 0;
        Loss { written, durable, survived, torn }
    }

    /// Keeps a copy of what is durable, as a backup would.
    pub(crate) fn keep_copy(&mut self) {
        let mut copy = self.log.clone();
        let pending: Vec<u64> = self.forgetting.clone();
        for position in pending {
            Arc::make_mut(&mut copy.forgotten).remove(&position);
        }
        copy.truncate(self.durable);
        self.copy = Some((copy, self.durable));
    }

    pub(crate) fn has_copy(&self) -> bool {
        self.copy.is_some()
    }

    /// Puts the copy back. The process must be down.
    pub(crate) fn restore_copy(&mut self) {
        if let Some((log, durable)) = self.copy.clone() {
            self.log = log;
            self.durable = durable;
            self.really = None;
        }
    }

    /// The first durable record from `pick` on that `may` be damaged.
    pub(crate) fn find(&self, pick: u64, may: impl Fn(u64, &R) -> bool) -> Option<u64> {
        let first = pick.checked_rem(self.durable)?;
        let near = (0..self.durable.min(SEARCH_MAX)).map(|n| (first + n) % self.durable);
        let mut near = near.filter(|&position| self.log.get(position).is_some());
        near.find(|&position| self.log.get(position).is_some_and(|record| may(position, record)))
    }

    /// Corrupts the record at `position` with `rot`; whether that changed anything.
    pub(crate) fn rot(&mut self, position: u64, rot: impl FnOnce(&R) -> Option<R>) -> bool {
        let rotten = self.log.get(position).and_then(rot);
        let changed = rotten.is_some();
        if let Some(rotten) = rotten {
            self.log.replace(position, rotten);
        }
        changed
    }

    /// A new future.
    pub(crate) fn reseed(&mut self, rng: Rng, crashes: Rng) {
        (self.rng, self.crashes) = (rng, crashes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(records: u64) -> Disk<u64> {
        let mut disk = Disk::new(Rng::new(5), Rng::new(6));
        for record in 0..records {
            assert_eq!(disk.append(record), record);
        }
        disk
    }

    #[test]
    fn a_sync_covers_what_was_written_before_it_began() {
        let mut disk = disk(3);
        assert_eq!(disk.start_sync(Span::only(7)), Some(7));
        disk.append(3);
        assert_eq!(disk.start_sync(Span::only(7)), None);
        assert_eq!((disk.finish_sync(), disk.written()), (3, 4));
        assert_eq!(disk.start_sync(Span::only(7)), Some(7));
        assert_eq!(disk.finish_sync(), 4);
        assert_eq!(disk.start_sync(Span::only(7)), None);
    }

    #[test]
    fn a_crash_takes_only_what_was_not_durable() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let mut disk = disk(600);
            disk.crashes = Rng::new(seed);
            disk.start_sync(Span::only(1));
            disk.finish_sync();
            (600..610).for_each(|record| assert_eq!(disk.append(record), record));
            let loss = disk.crash(Loses::Drawn);
            assert!((600..=610).contains(&loss.survived));
            assert_eq!(
                disk.log.iter().map(|(_, r)| *r).collect::<Vec<_>>(),
                (0..loss.survived).collect::<Vec<_>>()
            );
            seen.insert(loss.survived);
        }
        assert_eq!(seen.len(), 11, "every prefix is drawn: {seen:?}");
    }

    #[test]
    fn truncation_goes_back_into_sealed_chunks() {
        for len in [0, 1, 255, 256, 257, 511, 512, 700] {
            let mut disk = disk(700);
            disk.log.truncate(len);
            assert_eq!(disk.written(), len);
            disk.append(999);
            assert_eq!(disk.log.get(len), Some(&999));
            assert_eq!(disk.log.iter().count() as u64, len + 1);
        }
    }

    #[test]
    fn what_is_forgotten_is_skipped_and_positions_stay() {
        let mut disk = disk(4);
        disk.start_sync(Span::only(1));
        disk.finish_sync();
        disk.forget(1);
        assert_eq!(disk.start_sync(Span::only(1)), Some(1));
        disk.finish_sync();
        disk.crash(Loses::Drawn);
        assert_eq!(disk.log.iter().collect::<Vec<_>>(), [(0, &0), (2, &2), (3, &3)]);
        assert_eq!(disk.log.len(), 4);
    }

    #[test]
    fn an_unsynced_forget_may_be_lost() {
        let mut came_back = 0;
        for seed in 0..100 {
            let mut disk = disk(4);
            disk.crashes = Rng::new(seed);
            disk.start_sync(Span::only(1));
            disk.finish_sync();
            disk.forget(2);
            disk.crash(Loses::Drawn);
            came_back += u32::from(disk.log.get(2).is_some());
        }
        assert!((20..80).contains(&came_back), "{came_back} of 100");
    }

    #[test]
    fn what_a_lying_sync_promised_is_gone_with_the_next_crash_unless_an_honest_one_came_first() {
        let lied_to = |honest_after: bool| {
            let mut disk = disk(3);
            let sync = |disk: &mut Disk<u64>, lying| {
                disk.lying = lying;
                assert_eq!(disk.start_sync(Span::only(1)), Some(1));
                disk.finish_sync();
                disk.append(9);
            };
            sync(&mut disk, false);
            sync(&mut disk, true);
            sync(&mut disk, true);
            assert_eq!(disk.durable(), 5, "it says");
            if honest_after {
                sync(&mut disk, false);
            }
            disk
        };
        let mut disk = lied_to(false);
        let loss = disk.crash(Loses::Drawn);
        assert_eq!((loss.durable, loss.survived, disk.durable()), (5, 3, 3));
        assert_eq!(lied_to(false).crash(Loses::Nothing).survived, 6);
        assert!(lied_to(true).crash(Loses::Unsynced).survived == 6);
        // A process that dies alone leaves the lie where it is.
        let mut disk = lied_to(false);
        disk.crash(Loses::Nothing);
        assert_eq!(disk.crash(Loses::Unsynced).survived, 3);
    }

    #[test]
    fn a_fault_finds_the_next_record_that_it_may_damage() {
        let mut disk = disk(10);
        assert_eq!(disk.find(4, |_, _| true), None, "nothing is durable");
        disk.start_sync(Span::only(1));
        disk.finish_sync();
        disk.forget(6);
        assert_eq!(disk.find(24, |position, _| position > 5), Some(7));
        assert_eq!(disk.find(8, |position, _| position < 3), Some(0));
        assert_eq!(disk.find(8, |_, record| *record == 99), None);
    }

    #[test]
    fn an_old_copy_comes_back_and_rot_changes_one_record() {
        let mut disk = disk(300);
        disk.start_sync(Span::only(1));
        disk.finish_sync();
        disk.append(300);
        disk.keep_copy();
        disk.start_sync(Span::only(1));
        disk.finish_sync();
        assert_eq!(disk.find(301 + 7, |_, _| true), Some(7));
        assert!(disk.rot(7, |record| Some(record + 1_000)));
        assert_eq!(disk.log.get(7), Some(&1_007));
        disk.crash(Loses::Nothing);
        disk.restore_copy();
        assert_eq!((disk.written(), disk.log.get(7)), (300, Some(&7)));
    }
}
