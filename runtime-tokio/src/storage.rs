//! The write-ahead log on a disk: records by position, in the order of their arrival.
//!
//! One redb file holds two tables: `log`, from position to record, and `meta`, from name to bytes.
//! Positions only rise, so every insert goes to the right edge of the tree. A commit returns once
//! it is durable. redb checks its pages only when it repairs after a crash, so each record carries
//! a CRC-32 over its position and its bytes: what a disk has changed, or returned from the wrong
//! place, is reported and never served. (BLAKE3 there cost a fifth of a large commit's CPU time;
//! against forgery, records carry their own hashes.)

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};

const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// The file inside the data directory.
pub const FILE_NAME: &str = "log.redb";

/// The layout of the tables, under [`FORMAT_KEY`].
const FORMAT: u64 = 1;
const FORMAT_KEY: &str = "quorate.format";

/// Where the lowest position never used stands once records were forgotten: the log's own last
/// key no longer tells it.
const NEXT_KEY: &str = "quorate.next";

/// Names of our own in `meta`; others are the caller's.
const RESERVED: &str = "quorate.";

/// Pages redb may keep in memory.
const CACHE_BYTES: usize = 64 << 20;

/// The checksum before each record.
const CHECKSUM_BYTES: usize = 4;

/// A log and its metadata. Reads may run beside a commit; commits are one at a time.
pub struct Storage {
    database: Database,
    next: AtomicU64,
}

/// The record at `position` does not have the bytes that were written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record at log position {position} does not match its checksum")]
pub struct Corrupted {
    /// Its place in the log.
    pub position: u64,
}

/// Why the log cannot be opened, read or written. After an error in a commit nothing of it counts
/// as written, and the storage must be opened anew.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// Another process, or another storage of this one, has it open.
    #[error("{path}: data directory in use by another quorate process; stop that one first")]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// No room left. Nothing is lost: free some space and start again.
    #[error("no space left for the log; free some and start again: {0}")]
    DiskFull(io::Error),
    /// A record was changed on the disk.
    #[error("{0}; restore the data directory from a backup, or start with an empty one")]
    Corrupted(#[from] Corrupted),
    /// The file as a whole is not a sound log.
    #[error(
        "the log is damaged ({0}); move `identity.key` alone to an empty \
             directory, start there and join again"
    )]
    Damaged(String),
    /// Written by a version with another layout.
    #[error("the log has format {found}, this version reads {FORMAT}")]
    Format {
        /// What the file says.
        found: u64,
    },
    /// A record of the [journal](crate::journal) was durable and cannot be read.
    #[error(
        "{file} is damaged at offset {offset} (record {position}); what stood there may be a vote that \
             nobody else remembers, so this node must not take part in its cluster again: start with \
             an empty directory, and let the cluster replace the node"
    )]
    Journal {
        /// The segment.
        file: String,
        /// Where in it.
        offset: u64,
        /// The record's position.
        position: u64,
    },
    /// Any other failure of the disk.
    #[error("the log cannot be read or written: {0}")]
    Io(io::Error),
}

impl Storage {
    /// Opens the log in the directory `path`, which is made if need be, and locks it until drop.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        on_suspicion(|| Self::open_file(path))
    }

    fn open_file(path: &Path) -> Result<Self, StorageError> {
        fs::create_dir_all(path).map_err(io_error)?;
        let file = path.join(FILE_NAME);
        let fresh = !file.try_exists().map_err(io_error)?;
        let database = match builder().create(&file) {
            Err(redb::DatabaseError::DatabaseAlreadyOpen) => {
                return Err(StorageError::Locked { path: path.to_owned() });
            }
            other => other.map_err(redb_error)?,
        };
        if fresh {
            // A file whose directory entry is lost with the power is lost with all it acknowledged.
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            for dir in [Some(path), parent].into_iter().flatten() {
                File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error)?;
            }
        }
        Self::prepare(database)
    }

    /// A log on any disk, such as [`redb::backends::InMemoryBackend`], or one that tests a fault.
    pub fn with_backend(backend: impl StorageBackend) -> Result<Self, StorageError> {
        Self::prepare(builder().create_with_backend(backend).map_err(redb_error)?)
    }

    fn prepare(database: Database) -> Result<Self, StorageError> {
        let found = database.begin_read().map_err(redb_error)?;
        let empty = found.list_tables().map_err(redb_error)?.next().is_none();
        drop(found);
        if empty {
            let write = database.begin_write().map_err(redb_error)?;
            write.open_table(LOG).map_err(redb_error)?;
            let mut meta = write.open_table(META).map_err(redb_error)?;
            meta.insert(FORMAT_KEY, &FORMAT.to_le_bytes()[..]).map_err(redb_error)?;
            drop(meta);
            write.commit().map_err(redb_error)?;
        }
        let storage = Self { database, next: AtomicU64::new(0) };
        let found = storage.number(FORMAT_KEY)?.unwrap_or(0);
        if found != FORMAT {
            return Err(StorageError::Format { found });
        }
        let last = storage.log()?.last().map_err(redb_error)?.map(|(key, _)| key.value() + 1);
        let next = last.unwrap_or(0).max(storage.number(NEXT_KEY)?.unwrap_or(0));
        storage.next.store(next, Ordering::Release);
        Ok(storage)
    }

    /// The lowest position that was never used, not even by a record since forgotten.
    #[must_use]
    pub fn next_position(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    /// All records in the order of their positions, as the log stands now.
    pub fn records(
        &self,
    ) -> Result<impl Iterator<Item = Result<(u64, Checked), StorageError>> + use<>, StorageError>
    {
        let range = self.log()?.range::<u64>(..).map_err(redb_error)?;
        Ok(range.map(|entry| {
            let (key, value) = entry.map_err(redb_error)?;
            Ok((key.value(), open_record(key.value(), value.value())))
        }))
    }

    /// Writes `batch` and returns once it is durable. Positions must rise, from
    /// [`next_position`](Self::next_position) on.
    pub fn append(&self, batch: &[(u64, Bytes)]) -> Result<(), StorageError> {
        self.commit(batch, &[])
    }

    /// Removes the records at `positions`; those not there are passed over.
    pub fn forget(&self, positions: &[u64]) -> Result<(), StorageError> {
        self.commit(&[], positions)
    }

    /// [`append`](Self::append) and then [`forget`](Self::forget) as one: both or neither.
    pub fn commit(&self, batch: &[(u64, Bytes)], forget: &[u64]) -> Result<(), StorageError> {
        let mut next = self.next_position();
        let write = self.database.begin_write().map_err(redb_error)?;
        let mut log = write.open_table(LOG).map_err(redb_error)?;
        for (position, bytes) in batch {
            assert!(*position >= next, "position {position} was used, the next is {next}");
            next = position + 1;
            let len = CHECKSUM_BYTES + bytes.len();
            let mut slot = log.insert_reserve(position, len).map_err(redb_error)?;
            let (sum, body) = slot.as_mut().split_at_mut(CHECKSUM_BYTES);
            sum.copy_from_slice(&checksum(*position, bytes));
            body.copy_from_slice(bytes);
        }
        for position in forget {
            log.remove(position).map_err(redb_error)?;
        }
        drop(log);
        if !forget.is_empty() {
            let mut meta = write.open_table(META).map_err(redb_error)?;
            meta.insert(NEXT_KEY, &next.to_le_bytes()[..]).map_err(redb_error)?;
        }
        write.commit().map_err(redb_error)?;
        self.next.store(next, Ordering::Release);
        Ok(())
    }

    /// The records at `positions`, in the same order: `None` for one that is not there.
    pub fn read(&self, positions: &[u64]) -> Result<Vec<Option<Checked>>, StorageError> {
        let log = self.log()?;
        let one = |position: &u64| {
            let value = log.get(position).map_err(redb_error)?;
            Ok(value.map(|value| open_record(*position, value.value())))
        };
        positions.iter().map(one).collect()
    }

    /// What [`set_meta`](Self::set_meta) last wrote under `name`.
    pub fn meta(&self, name: &str) -> Result<Option<Bytes>, StorageError> {
        let read = self.database.begin_read().map_err(redb_error)?;
        let value = read.open_table(META).map_err(redb_error)?.get(name).map_err(redb_error)?;
        Ok(value.map(|value| Bytes::copy_from_slice(value.value())))
    }

    /// Writes `value` under `name`, which must not begin with `quorate.`, and returns once it is
    /// durable.
    pub fn set_meta(&self, name: &str, value: &[u8]) -> Result<(), StorageError> {
        assert!(!name.starts_with(RESERVED), "the name {name} is reserved");
        let write = self.database.begin_write().map_err(redb_error)?;
        write.open_table(META).map_err(redb_error)?.insert(name, value).map_err(redb_error)?;
        write.commit().map_err(redb_error)
    }

    fn log(&self) -> Result<redb::ReadOnlyTable<u64, &'static [u8]>, StorageError> {
        let read = self.database.begin_read().map_err(redb_error)?;
        read.open_table(LOG).map_err(redb_error)
    }

    fn number(&self, name: &str) -> Result<Option<u64>, StorageError> {
        let Some(bytes) = self.meta(name)? else {
            return Ok(None);
        };
        let bytes: [u8; 8] = bytes[..].try_into().map_err(|_| {
            StorageError::Damaged(format!("{name} has {} bytes, not 8", bytes.len()))
        })?;
        Ok(Some(u64::from_le_bytes(bytes)))
    }
}

/// Runs `work` on a log that may be damaged. redb checks its pages only as it reads them, and gives up
/// on some kinds of damage by panicking: to whoever opens a log that is an error like any other.
pub(crate) fn on_suspicion<T>(
    work: impl FnOnce() -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(StorageError::Damaged("its pages contradict each other".into())))
}

/// A record's bytes, or the report that they are not those that were written.
pub type Checked = Result<Bytes, Corrupted>;

impl fmt::Debug for Storage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Storage").field("next", &self.next_position()).finish_non_exhaustive()
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn checksum(position: u64, bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&position.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize().to_le_bytes()
}

fn open_record(position: u64, stored: &[u8]) -> Checked {
    match stored.split_at_checked(CHECKSUM_BYTES) {
        Some((sum, bytes)) if sum == checksum(position, bytes) => Ok(Bytes::copy_from_slice(bytes)),
        _ => Err(Corrupted { position }),
    }
}

pub(crate) fn io_error(error: io::Error) -> StorageError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StorageError::DiskFull(error),
        _ => StorageError::Io(error),
    }
}

fn redb_error(error: impl Into<redb::Error>) -> StorageError {
    match error.into() {
        redb::Error::Io(error) => io_error(error),
        redb::Error::PreviousIo => {
            StorageError::Io(io::Error::other("an earlier failure; see the first one"))
        }
        other => StorageError::Damaged(other.to_string()),
    }
}
