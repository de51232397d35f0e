//! A disk that forgets, tears and fails, and what a journal makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::segment::RECORD_HEADER_BYTES;
use super::*;

/// What is lost or kept by itself in a crash.
const SECTOR: usize = 512;

/// Short segments, so that there are many.
const SEGMENT: usize = 16 << 10;

/// A disk in memory. Clones are the same disk.
#[derive(Clone, Debug, Default)]
struct Memory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<u64, File>,
    /// Files whose removal is not durable yet, as they were.
    removed: BTreeMap<u64, File>,
    syncs: u64,
    /// The write after so many is cut short, with this error.
    fail_write: Option<(u64, io::ErrorKind)>,
    fail_sync: bool,
}

#[derive(Clone, Debug, Default)]
struct File {
    durable: Vec<u8>,
    bytes: Vec<u8>,
    named: bool,
    /// Sectors that were written since.
    dirty: BTreeSet<usize>,
}

impl Disk for Memory {
    fn list(&self) -> io::Result<Vec<u64>> {
        Ok(self.0.lock().unwrap().files.keys().copied().collect())
    }
    fn create(&mut self, file: u64) -> io::Result<()> {
        let old = self.0.lock().unwrap().files.insert(file, File::default());
        assert!(old.is_none(), "file {file} is there");
        Ok(())
    }
    fn read(&self, file: u64) -> io::Result<Vec<u8>> {
        Ok(self.0.lock().unwrap().files[&file].bytes.clone())
    }
    fn write(&mut self, file: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let failure = match &mut state.fail_write {
            Some((0, kind)) => Some(*kind),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        let bytes = if failure.is_some() { &bytes[..bytes.len() / 2] } else { bytes };
        let file = state.files.get_mut(&file).expect("the file is there");
        let start = offset as usize;
        assert!(start <= file.bytes.len(), "a hole in the file");
        let end = file.bytes.len().max(start + bytes.len());
        file.bytes.resize(end, 0);
        file.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        file.dirty.extend(start / SECTOR..(start + bytes.len()).div_ceil(SECTOR));
        failure.map_or(Ok(()), |kind| Err(kind.into()))
    }
    fn sync(&mut self, file: u64) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.syncs += 1;
        let fails = state.fail_sync;
        let file = state.files.get_mut(&file).expect("the file is there");
        if fails {
            // As Linux does: the pages are clean now, and what was in them is nowhere.
            file.dirty.clear();
            return Err(io::Error::other("a bad sector"));
        }
        file.durable = file.bytes.clone();
        file.dirty.clear();
        Ok(())
    }
    fn sync_names(&mut self) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        state.files.values_mut().for_each(|file| file.named = true);
        state.removed.clear();
        Ok(())
    }
    fn remove(&mut self, file: u64) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let gone = state.files.remove(&file).expect("the file is there");
        state.removed.insert(file, gone);
        Ok(())
    }
    fn name(&self, file: u64) -> String {
        format!("segment {file}")
    }
}

impl Memory {
    fn open(&self) -> Result<Journal, StorageError> {
        Journal::with_segments(self.clone(), SEGMENT as u64)
    }

    /// The power goes. Of what was not synced, chance decides sector by sector.
    fn crash(&self, chance: &mut Chance) {
        let mut state = self.0.lock().unwrap();
        (state.fail_sync, state.fail_write) = (false, None);
        let back = std::mem::take(&mut state.removed);
        state.files.extend(back.into_iter().filter(|_| chance.one_in(2)));
        state.files.retain(|_, file| file.named || chance.one_in(2));
        for file in state.files.values_mut() {
            let mut left = file.durable.clone();
            let grown = if chance.one_in(2) { file.bytes.len() } else { left.len() };
            left.resize(grown.max(left.len()), 0);
            for sector in file.dirty.iter().filter(|_| chance.one_in(2)) {
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(left.len());
                if range.start < range.end && range.end <= file.bytes.len() {
                    left[range.clone()].copy_from_slice(&file.bytes[range]);
                }
            }
            *file = File { durable: left.clone(), bytes: left, named: true, ..File::default() };
        }
    }

    fn flip(&self, file: u64, offset: usize) {
        self.0.lock().unwrap().files.get_mut(&file).unwrap().bytes[offset] ^= 0x10;
    }
}

/// Numbers that look random (SplitMix64).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    fn lengths(&mut self) -> Vec<usize> {
        let large = if self.one_in(4) { SEGMENT as u64 } else { 1_000 };
        (0..=self.below(6)).map(|_| self.below(large / 4) as usize + 1).collect()
    }
    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn record(position: u64, bytes: usize) -> Bytes {
    format!("{position}:{}", "x".repeat(bytes)).into()
}

/// Appends a group of records of these lengths.
fn append(journal: &mut Journal, lengths: &[usize]) -> Result<(), StorageError> {
    let positions = journal.next_position()..;
    let group: Vec<_> =
        positions.zip(lengths).map(|(at, bytes)| (at, record(at, *bytes))).collect();
    journal.append(&group)
}

/// The positions of the records, each of which must be what was written there.
fn positions(journal: &Journal) -> Vec<u64> {
    let records = journal.records().map(|found| {
        let (position, bytes) = found.unwrap();
        assert!(bytes.starts_with(format!("{position}:x").as_bytes()), "record {position}");
        position
    });
    records.collect()
}

#[test]
fn records_come_back_in_order() {
    let disk = Memory::default();
    let mut journal = disk.open().unwrap();
    assert_eq!((journal.next_position(), journal.segments()), (0, 0), "no file without a record");
    for group in [&[1, 2, 3][..], &[300_000], &[7; 20]] {
        append(&mut journal, group).unwrap();
    }
    journal.append(&[]).unwrap();
    let journal = disk.open().unwrap();
    assert_eq!(positions(&journal), (0..24).collect::<Vec<_>>());
    assert_eq!((journal.next_position(), journal.cut()), (24, None));
    assert_eq!(disk.0.lock().unwrap().syncs, 3, "one for a group");
}

#[test]
fn segments_follow_each_other_and_go_when_they_are_not_needed() {
    let disk = Memory::default();
    let mut journal = disk.open().unwrap();
    for _ in 0..10 {
        append(&mut journal, &[SEGMENT / 4; 2]).unwrap();
    }
    // Two groups fill a segment.
    assert_eq!(disk.list().unwrap(), [0, 4, 8, 12, 16]);
    journal.trim(11).unwrap();
    assert_eq!(disk.list().unwrap(), [8, 12, 16], "record 11 is in the segment that begins with 8");
    let mut journal = disk.open().unwrap();
    assert_eq!(positions(&journal), (8..20).collect::<Vec<_>>());
    journal.trim(u64::MAX).unwrap();
    append(&mut journal, &[1]).unwrap();
    journal.trim(journal.next_position()).unwrap();
    let journal = disk.open().unwrap();
    assert_eq!((journal.segments(), journal.next_position()), (1, 21), "the last one stays");
}

#[test]
fn whatever_a_crash_leaves_what_was_acknowledged_is_there() {
    let (mut cuts, mut kept_some, mut whole) = (0, 0, 0);
    for seed in 0..200 {
        let mut chance = Chance(seed);
        let disk = Memory::default();
        let (mut acknowledged, mut first) = (0, 0);
        for _ in 0..8 {
            let mut journal = disk.open().unwrap();
            cuts += u64::from(journal.cut().is_some());
            let found = positions(&journal);
            let next = journal.next_position();
            assert!(next >= acknowledged, "seed {seed}: {next} of {acknowledged}");
            kept_some += u64::from(next > acknowledged && journal.cut().is_some());
            whole += u64::from(next > acknowledged && journal.cut().is_none());
            let start = found.first().copied().unwrap_or(next);
            assert!(start <= first, "seed {seed}: begins at {start}, not at {first}");
            assert!(found.iter().copied().eq(start..next), "seed {seed}: {found:?}");
            for _ in 0..chance.below(5) {
                append(&mut journal, &chance.lengths()).unwrap();
            }
            acknowledged = journal.next_position();
            if chance.one_in(3) {
                first = chance.below(acknowledged + 1);
                journal.trim(first).unwrap();
                first = disk.list().unwrap().first().copied().unwrap_or(0);
            }
            // One group more, that nobody hears of.
            match chance.below(3) {
                0 => disk.0.lock().unwrap().fail_write = Some((0, io::ErrorKind::StorageFull)),
                1 => disk.0.lock().unwrap().fail_sync = true,
                _ => {}
            }
            let _ = append(&mut journal, &chance.lengths());
            disk.crash(&mut chance);
        }
    }
    assert!(cuts > 100 && kept_some > 100 && whole > 100, "{cuts} {kept_some} {whole}: too tame");
}

/// A journal of several groups, and where each of its records begins.
fn groups(disk: &Memory) -> Vec<(u64, usize, usize)> {
    let mut journal = disk.open().unwrap();
    let mut places = Vec::new();
    for lengths in [&[10, 700, 3][..], &[100, 20], &[50, 60, 1_000]] {
        let mut offset = if places.is_empty() { HEADER_BYTES } else { journal.offset as usize };
        for (position, bytes) in (journal.next_position()..).zip(lengths) {
            let length = RECORD_HEADER_BYTES + record(position, *bytes).len();
            places.push((position, offset, length));
            offset += length.next_multiple_of(8);
        }
        append(&mut journal, lengths).unwrap();
    }
    places
}

#[test]
fn damage_to_what_was_durable_is_named_and_nothing_is_cut() {
    let disk = Memory::default();
    let places = groups(&disk);
    let last_group = places.len() - 3;
    for &(position, offset, length) in &places[..last_group] {
        for at in (offset..offset + length).step_by(5) {
            disk.flip(0, at);
            let before = disk.read(0).unwrap();
            let refused = disk.open().unwrap_err();
            let StorageError::Journal { file, offset: told, position: of } = refused else {
                panic!("{refused}")
            };
            assert_eq!((file.as_str(), told, of), ("segment 0", offset as u64, position));
            assert_eq!(disk.read(0).unwrap(), before, "evidence is not touched");
            disk.flip(0, at);
        }
    }
    for at in 0..20 {
        disk.flip(0, at);
        assert!(matches!(disk.open(), Err(StorageError::Journal { offset: 0, .. })));
        disk.flip(0, at);
    }
    assert_eq!(positions(&disk.open().unwrap()).len(), places.len());
}

#[test]
fn damage_to_the_last_group_is_a_torn_tail() {
    let places = groups(&Memory::default());
    for &(position, offset, length) in &places[places.len() - 3..] {
        for at in (offset..offset + length).step_by(97) {
            let disk = Memory::default();
            groups(&disk);
            disk.flip(0, at);
            let mut journal = disk.open().unwrap();
            let cut = journal.cut().unwrap();
            assert_eq!((cut.position, cut.offset), (position, offset as u64));
            assert_eq!(journal.next_position(), position);
            // As long as the one that was lost: whatever followed that would follow this.
            let lost = length - RECORD_HEADER_BYTES - 2;
            append(&mut journal, &[lost]).unwrap();
            let journal = disk.open().unwrap();
            assert_eq!((journal.next_position(), journal.cut()), (position + 1, None));
        }
    }
}

#[test]
fn a_segment_that_is_gone_is_missed() {
    let disk = Memory::default();
    let mut journal = disk.open().unwrap();
    for _ in 0..3 {
        append(&mut journal, &[SEGMENT]).unwrap();
    }
    disk.0.lock().unwrap().files.remove(&1);
    let refused = disk.open().unwrap_err();
    assert!(
        matches!(&refused, StorageError::Journal { file, position: 1, .. } if file == "segment 2"),
        "{refused}"
    );
}

#[test]
fn a_full_disk_is_an_error_of_its_own_and_a_failure_is_for_good() {
    let disk = Memory::default();
    let mut journal = disk.open().unwrap();
    append(&mut journal, &[5]).unwrap();
    disk.0.lock().unwrap().fail_write = Some((0, io::ErrorKind::StorageFull));
    let full = append(&mut journal, &[5]).unwrap_err();
    assert!(matches!(full, StorageError::DiskFull(_)), "{full}");
    disk.0.lock().unwrap().fail_write = None;
    assert!(matches!(append(&mut journal, &[5]), Err(StorageError::Io(_))), "no second attempt");

    let mut journal = disk.open().unwrap();
    assert_eq!(positions(&journal), [0]);
    disk.0.lock().unwrap().fail_sync = true;
    assert!(matches!(append(&mut journal, &[5]), Err(StorageError::Io(_))));
    disk.0.lock().unwrap().fail_sync = false;
    let syncs = disk.0.lock().unwrap().syncs;
    assert!(append(&mut journal, &[5]).is_err() && journal.trim(0).is_err());
    assert_eq!(disk.0.lock().unwrap().syncs, syncs, "a failed sync is never tried again");
}

#[test]
fn a_directory_holds_a_journal() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("journal");
    let mut journal = Journal::open(&path).unwrap();
    assert!(!path.exists(), "made with the first record");
    for _ in 0..3 {
        append(&mut journal, &[SEGMENT_BYTES as usize, 5]).unwrap();
    }
    drop(journal);
    let mut journal = Journal::open(&path).unwrap();
    assert_eq!(positions(&journal), (0..6).collect::<Vec<_>>());
    journal.trim(4).unwrap();
    append(&mut journal, &[1, 2]).unwrap();
    drop(journal);
    assert_eq!(positions(&Journal::open(&path).unwrap()), (4..8).collect::<Vec<_>>());
}
