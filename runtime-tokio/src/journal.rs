//! The journal on a disk: records one after the other, in files that are only appended to.
//!
//! It stands beside the log of [`storage`](crate::storage) for what must be durable *soon*: the
//! promises and entries of a cluster, which somebody waits for. A durable commit of an embedded B-tree
//! rewrites pages up to its root, 1.4 ms on the machine where this was measured; a record here costs
//! one write and one `fdatasync`, 0.1 ms. It has no index and cannot forget a single record: whoever
//! writes to it writes, now and then, a record that makes those before it unnecessary, and
//! [trims](Journal::trim).
//!
//! **Files.** A segment is named by the position of its first record and begins with a header of
//! [`HEADER_BYTES`]; a new one is begun after [`SEGMENT_BYTES`]. A record is
//!
//! ```text
//! CRC-32 u32 | length u32 | position u64 | durable u64 | bytes, and zeros up to a multiple of 8
//! ```
//!
//! in little endian, the checksum over all that follows it. Files grow by [`GROW_BYTES`] of zeros at a
//! time, written and not merely allocated: to overwrite what is there changes nothing of a file but
//! its data, so that the `fdatasync` is one write (92 µs here, against 143 µs where each append makes
//! the file longer; the append that grows it costs 0.4 ms, once in a thousand).
//!
//! **A torn tail.** Records are appended in groups, one `fdatasync` each, and nothing of a group is
//! promised to anyone before it has returned. So a crash may leave any part of the *last* group, and
//! that is no loss: it is cut off and [reported](Journal::cut). Damage to anything before is another
//! matter, since it may be a vote that nobody else remembers: then the journal does not open.
//! What tells the two apart is in the records themselves. `durable` is the position below which all
//! was durable when the record was written; so where the record at position `p` cannot be read and any
//! sound record after it says that more than `p` was durable, `p` was. (Damage to the very last group,
//! after which nothing was written, looks like a torn tail; nothing on this disk could tell.)
//!
//! **Failure.** After a failed write or `fdatasync` nothing is known of what is on the disk, and a
//! second `fdatasync` that succeeds proves nothing: the kernel may have dropped the pages. (Rebello et
//! al., *Can Applications Recover from fsync Failures?*, 2020.) The journal refuses to go on; whoever
//! opens it anew reads what is there.

use std::fmt;
use std::io;
use std::path::Path;

use bytes::Bytes;

use crate::storage::{StorageError, io_error};

mod disk;
mod segment;

pub use disk::{Directory, Disk, Memory};
use segment::{Found, header, seal};

/// A segment that has reached this length is followed by a new one.
pub const SEGMENT_BYTES: u64 = 16 << 20;

/// Segments grow by multiples of this.
pub const GROW_BYTES: u64 = 256 << 10;

/// The length of a segment's header.
pub const HEADER_BYTES: usize = 32;

/// The longest record.
pub const MAX_RECORD_BYTES: usize = u32::MAX as usize;

/// An append leaves no larger buffer than this behind.
const BUFFER_BYTES: usize = 1 << 20;

/// Records in the order of their appending. One owner appends; see the [module](self).
pub struct Journal {
    disk: Box<dyn Disk>,
    segment_bytes: u64,
    /// The first positions of the segments, in order.
    segments: Vec<u64>,
    /// Where in the last segment the next record goes, and how far it is written, with zeros.
    offset: u64,
    written: u64,
    next: u64,
    cut: Option<Cut>,
    failed: bool,
    buffer: Vec<u8>,
}

/// The end of the journal was torn by a crash, and cut off. Nothing of it had been promised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {bytes} bytes from offset {offset} on were torn by a crash and are cut off")]
pub struct Cut {
    /// The segment.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// How many bytes, in this segment and after it.
    pub bytes: u64,
    /// The position that the first lost record had.
    pub position: u64,
}

impl Journal {
    /// Opens the journal in the directory `path`, which need not exist: it is made with the first
    /// record. The caller sees to it that nobody else does (as the log in the same data directory
    /// does, which is locked).
    ///
    /// # Errors
    ///
    /// [`StorageError::Journal`] where a record that was durable cannot be read; else what the file
    /// system said.
    pub fn open(path: &Path) -> Result<Journal, StorageError> {
        Self::with_disk(Directory::new(path))
    }

    /// A journal on any disk, such as one that tests a fault.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn with_disk(disk: impl Disk) -> Result<Journal, StorageError> {
        Self::with_segments(disk, SEGMENT_BYTES)
    }

    /// The same with segments of another length, so that a test sees some of them go.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn with_segments(disk: impl Disk, segment_bytes: u64) -> Result<Journal, StorageError> {
        let segments = disk.list().map_err(io_error)?;
        let mut journal = Journal {
            next: segments.first().copied().unwrap_or(0),
            disk: Box::new(disk),
            segment_bytes,
            segments,
            offset: 0,
            written: 0,
            cut: None,
            failed: false,
            buffer: Vec::new(),
        };
        journal.check()?;
        Ok(journal)
    }

    /// The position of the next record. Positions rise by one and are never used twice, except for
    /// those of a torn tail.
    #[must_use]
    pub fn next_position(&self) -> u64 {
        self.next
    }

    /// What was cut off on opening.
    #[must_use]
    pub fn cut(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }

    /// Segments that are kept.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// All records in order, as the journal stands now.
    pub fn records(&self) -> impl Iterator<Item = Result<(u64, Bytes), StorageError>> {
        self.segments.iter().flat_map(|&first| {
            let (records, failed) = match self.disk.read(first) {
                Ok(bytes) => (segment::records(bytes.into(), first), None),
                Err(error) => (Vec::new(), Some(Err(io_error(error)))),
            };
            records.into_iter().map(Ok).chain(failed)
        })
    }

    /// Appends `records` as one group and returns once it is durable: all of it then, and after a
    /// crash before that any part. Positions must rise by one, from
    /// [`next_position`](Self::next_position) on.
    ///
    /// # Errors
    ///
    /// [`StorageError::DiskFull`], or what else the disk said. The journal is of no use after that.
    pub fn append(&mut self, records: &[(u64, Bytes)]) -> Result<(), StorageError> {
        self.usable()?;
        let appended = self.append_group(records);
        self.failed = appended.is_err();
        appended.map_err(io_error)
    }

    /// Removes whole segments that hold only records before `before`. The last one always stays.
    ///
    /// # Errors
    ///
    /// What the disk said. The journal is of no use after that.
    pub fn trim(&mut self, before: u64) -> Result<(), StorageError> {
        self.usable()?;
        let gone = self.segments.iter().skip(1).take_while(|first| **first <= before).count();
        for first in self.segments.drain(..gone) {
            // One after the other: were a later one gone and an earlier one back after a crash, it would
            // look as if something were missing.
            let removed = self.disk.remove(first).and_then(|()| self.disk.sync_names());
            if let Err(error) = removed {
                self.failed = true;
                return Err(io_error(error));
            }
        }
        Ok(())
    }

    fn usable(&self) -> Result<(), StorageError> {
        if self.failed {
            return Err(StorageError::Io(io::Error::other(
                "an earlier failure; see the first one",
            )));
        }
        Ok(())
    }

    fn append_group(&mut self, records: &[(u64, Bytes)]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let begun = self.segments.is_empty() || self.offset >= self.segment_bytes;
        if begun {
            self.disk.create(self.next)?;
            self.segments.push(self.next);
            (self.offset, self.written) = (0, 0);
        }
        let segment = self.segments[self.segments.len() - 1];
        self.buffer.clear();
        if begun {
            self.buffer.extend_from_slice(&header(segment));
        }
        for (next, (position, record)) in (self.next..).zip(records) {
            assert!(*position == next, "position {position} where {next} is the next");
            if record.len() > MAX_RECORD_BYTES {
                return Err(io::Error::other("a record over the limit of 4 GiB"));
            }
            seal(next, self.next, record, &mut self.buffer);
        }
        let end = self.offset + self.buffer.len() as u64;
        if end > self.written {
            self.written = end.next_multiple_of(GROW_BYTES);
            self.buffer.resize((self.written - self.offset) as usize, 0);
        }
        self.disk.write(segment, self.offset, &self.buffer)?;
        self.disk.sync(segment)?;
        if begun {
            // A file whose directory entry is lost with the power is lost with all it acknowledged.
            self.disk.sync_names()?;
        }
        self.offset = end;
        self.next += records.len() as u64;
        self.buffer.shrink_to(BUFFER_BYTES);
        Ok(())
    }

    /// Reads everything, and finds the end.
    fn check(&mut self) -> Result<(), StorageError> {
        for n in 0..self.segments.len() {
            let first = self.segments[n];
            let bytes = self.disk.read(first).map_err(io_error)?;
            // A segment that does not go on where the one before it ends has nothing sound to add.
            let goes_on = first == self.next;
            let nothing = Found { offset: 0, next: self.next };
            let found = if goes_on { segment::check(&bytes, first) } else { nothing };
            let is_whole = found.offset > 0 && segment::is_blank(&bytes[found.offset..]);
            self.next = found.next;
            (self.offset, self.written) = (found.offset as u64, bytes.len() as u64);
            if !is_whole {
                return self.torn(n, &bytes);
            }
        }
        Ok(())
    }

    /// The journal ends in segment `n`, whose bytes these are, unless something after that shows that
    /// more was durable.
    fn torn(&mut self, n: usize, bytes: &[u8]) -> Result<(), StorageError> {
        let (first, offset, position) = (self.segments[n], self.offset, self.next);
        let rest = &bytes[offset as usize..];
        let mut lost = rest.len();
        let mut was_durable = first < position && offset == 0;
        was_durable |= segment::shows_durable(rest, position);
        for &later in &self.segments[n + 1..] {
            let bytes = self.disk.read(later).map_err(io_error)?;
            was_durable |= segment::shows_durable(&bytes, position);
            lost += bytes.len();
        }
        let file = self.disk.name(first);
        if was_durable {
            return Err(StorageError::Journal { file, offset, position });
        }
        self.cut_off(n, rest.len()).map_err(io_error)?;
        self.cut = Some(Cut { file, offset, bytes: lost as u64, position });
        Ok(())
    }

    /// Puts zeros where the torn tail was, `length` bytes of segment `n` and the segments after it: no
    /// part of it may stand after what is written next.
    fn cut_off(&mut self, n: usize, length: usize) -> io::Result<()> {
        let whole = if self.offset == 0 { n } else { n + 1 };
        for &gone in self.segments[whole..].iter().rev() {
            self.disk.remove(gone)?;
        }
        self.segments.truncate(whole);
        if self.offset == 0 {
            // What comes next begins a segment.
            self.offset = self.segment_bytes;
        } else {
            self.disk.write(self.segments[n], self.offset, &vec![0; length])?;
            self.disk.sync(self.segments[n])?;
        }
        self.disk.sync_names()
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segments, next, .. } = self;
        f.debug_struct("Journal").field("segments", segments).field("next", next).finish()
    }
}

#[cfg(test)]
mod tests;
