//! The log on a disk: its lock, its order, and that what it acknowledged outlives a killed process.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use bytes::Bytes;
use quorate_runtime_tokio::storage::{Corrupted, Storage, StorageError};
use redb::ReadableTable;
use redb::backends::InMemoryBackend;

fn body(position: u64) -> Bytes {
    format!("record {position}").into()
}

fn batch(positions: impl IntoIterator<Item = u64>) -> Vec<(u64, Bytes)> {
    positions.into_iter().map(|position| (position, body(position))).collect()
}

fn positions(storage: &Storage) -> Vec<u64> {
    let entries = storage.records().unwrap().map(|entry| {
        let (position, bytes) = entry.unwrap();
        assert_eq!(bytes, Ok(body(position)));
        position
    });
    entries.collect()
}

#[test]
fn a_directory_has_one_owner() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(dir.path()).unwrap();
    let refused = Storage::open(dir.path()).unwrap_err();
    assert!(matches!(&refused, StorageError::Locked { path } if path == dir.path()));
    assert!(refused.to_string().contains("in use by another quorate process"), "{refused}");
    drop(storage);
    Storage::open(dir.path()).unwrap();
}

#[test]
fn positions_are_never_used_twice() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(&dir.path().join("new/deep")).unwrap();
    assert_eq!(storage.next_position(), 0);
    storage.append(&batch(0..5)).unwrap();
    storage.commit(&batch(5..7), &[0, 6, 4, 77]).unwrap();
    storage.forget(&[5]).unwrap();
    assert_eq!(storage.next_position(), 7);
    drop(storage);
    let storage = Storage::open(&dir.path().join("new/deep")).unwrap();
    assert_eq!(storage.next_position(), 7);
    assert_eq!(positions(&storage), [1, 2, 3]);
    let found = storage.read(&[3, 0, 1]).unwrap();
    assert_eq!(found, [Some(Ok(body(3))), None, Some(Ok(body(1)))]);
    storage.append(&batch([7])).unwrap();
    assert_eq!(positions(&storage), [1, 2, 3, 7]);
}

#[test]
fn metadata_stays() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(dir.path()).unwrap();
    assert_eq!(storage.meta("cluster").unwrap(), None);
    storage.set_meta("cluster", b"blue").unwrap();
    drop(storage);
    let storage = Storage::open(dir.path()).unwrap();
    assert_eq!(storage.meta("cluster").unwrap(), Some("blue".into()));
}

#[test]
fn reads_run_beside_commits() {
    let storage = Storage::with_backend(InMemoryBackend::new()).unwrap();
    storage.append(&batch(0..100)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for first in (100..2_000).step_by(10) {
                storage.append(&batch(first..first + 10)).unwrap();
            }
        });
        for _ in 0..200 {
            let seen = positions(&storage);
            assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>());
            assert_eq!(seen.len() % 10, 0, "a part of a batch");
        }
    });
}

#[test]
fn another_layout_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Storage::open(dir.path()).unwrap());
    let file = dir.path().join(quorate_runtime_tokio::storage::FILE_NAME);
    let database = redb::Database::open(&file).unwrap();
    let write = database.begin_write().unwrap();
    let meta = redb::TableDefinition::<&str, &[u8]>::new("meta");
    write.open_table(meta).unwrap().insert("quorate.format", &9u64.to_le_bytes()[..]).unwrap();
    write.commit().unwrap();
    drop(database);
    assert!(matches!(Storage::open(dir.path()), Err(StorageError::Format { found: 9 })));
    std::fs::write(&file, b"this is not a log").unwrap();
    let damaged = Storage::open(dir.path()).unwrap_err();
    assert!(matches!(damaged, StorageError::Damaged(_) | StorageError::Io(_)), "{damaged:?}");
}

#[test]
fn a_record_at_the_wrong_place_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(dir.path()).unwrap();
    storage.append(&batch(0..3)).unwrap();
    drop(storage);
    // A disk that returns record 1 where record 2 was asked for.
    let file = dir.path().join(quorate_runtime_tokio::storage::FILE_NAME);
    let database = redb::Database::open(&file).unwrap();
    let write = database.begin_write().unwrap();
    let log = redb::TableDefinition::<u64, &[u8]>::new("log");
    let mut table = write.open_table(log).unwrap();
    let one = table.get(1).unwrap().unwrap().value().to_vec();
    table.insert(2, &one[..]).unwrap();
    drop(table);
    write.commit().unwrap();
    drop(database);
    let storage = Storage::open(dir.path()).unwrap();
    let found = storage.read(&[1, 2]).unwrap();
    assert_eq!(found, [Some(Ok(body(1))), Some(Err(Corrupted { position: 2 }))]);
}

/// Set for the process that is to be killed: where its log is.
const VICTIM: &str = "QUORATE_TEST_VICTIM";

#[test]
fn a_killed_process_loses_nothing_it_acknowledged() {
    if let Some(dir) = std::env::var_os(VICTIM) {
        write_until_killed(PathBuf::from(dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    for round in 1..=3 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_killed_process_loses_nothing_it_acknowledged", "--nocapture"])
            .env(VICTIM, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(victim.stdout.take().unwrap()).lines();
        let told = lines.map_while(Result::ok).filter_map(|line| line.parse::<u64>().ok());
        acknowledged = told.take_while(|next| *next < round * 100).last().unwrap_or(acknowledged);
        victim.kill().unwrap();
        victim.wait().unwrap();

        let storage = Storage::open(dir.path()).unwrap();
        let found = positions(&storage);
        assert!(acknowledged > 0 && found.len() as u64 >= acknowledged, "round {round}");
        assert_eq!(found, (0..found.len() as u64).collect::<Vec<_>>());
    }
}

/// Tells the parent of each commit after it is durable.
fn write_until_killed(dir: PathBuf) -> ! {
    let storage = Storage::open(&dir).unwrap();
    let mut out = std::io::stdout();
    loop {
        let next = storage.next_position();
        storage.append(&batch(next..next + 7)).unwrap();
        writeln!(out, "\n{}", storage.next_position()).unwrap();
        out.flush().unwrap();
    }
}
