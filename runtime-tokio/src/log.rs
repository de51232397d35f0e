//! The host's side of the disk: commits in groups, two lanes of them, and reads beside them.
//!
//! **Lanes.** A record goes to the log of [`storage`](crate::storage), where it can be found and
//! forgotten one by one, or to the [`journal`](crate::journal), where it is durable fifteen times
//! sooner: its codec says which. Each lane has positions of its own and a mark up to which it is
//! durable. In each at most one group is in flight, on a blocking thread; everything that comes
//! meanwhile goes into that lane's next. A lane with nothing to write is not waited for. Reads are of
//! the log alone, are grouped the same way and wait for no commit.
//!
//! **What waits for what.** A held effect is stamped with both lanes' positions when it is asked for.
//! One of the lane [`Lane::Store`], which is what everything is unless its codec says otherwise, waits
//! for both. One of the lane [`Lane::Journal`] waits for the journal alone, in a queue of its own, so
//! that no commit of the log, 1.4 ms and more, delays a message of a cluster. That is sound if, and
//! only if, the effect reveals nothing but what journal records hold, and whoever takes it can do
//! without what the other queue holds back. So it is for the cluster of a node:
//!
//! - its machine persists to the journal only, and never looks at the stores. What reaches it from
//!   the rest of the node is which peers are open, which is nothing durable;
//! - its messages may come before a message of another protocol to the same peer that was sent
//!   earlier. The only ones that a peer needs first are those of the handshake: before that the peer
//!   ignores them, as if they had been lost, and lost messages are sent again;
//! - its events are answers to requests, and news of leaders and keys of the registry: no other
//!   event speaks of these.
//!
//! Within a queue the order stays as it was.

// madsim runs blocking closures in its one thread, which is what we want of it, and says so by a
// deprecation.
#![cfg_attr(madsim, allow(deprecated))]

use std::future::pending;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use quorate_core::machine::Machine;
use tokio::task::{JoinHandle, spawn_blocking};
use tracing::debug;

use crate::edge::Then;
use crate::frame::Lane;
use crate::journal::Journal;
use crate::storage::{Corrupted, Storage, StorageError};

/// Bytes that may wait for the disk before the host takes no more input.
const LOG_QUEUE_BYTES: usize = 16 << 20;

/// Reads that may wait before the host takes no more input.
const MAX_READS: usize = 1024;

/// Removals that may wait for the disk before the host takes no more input.
const MAX_FORGOTTEN: usize = 65_536;

/// Reads done in one go, so that the first of many is not answered with the last.
const READS_AT_ONCE: usize = 64;

/// A read an edge asked for.
type Read<M> = (Vec<u64>, Then<M>);

/// What is over.
pub(crate) enum Done<M: Machine> {
    /// A group of records: [`Log::durable`] has moved.
    Commit,
    /// A group of reads.
    Read(ReadDone<M>),
}

/// What a group of reads found.
pub(crate) struct ReadDone<M: Machine> {
    pub(crate) commands: Vec<M::Command>,
    pub(crate) corrupted: Vec<Corrupted>,
}

/// A position in each lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) store: u64,
    pub(crate) journal: u64,
}

impl Marks {
    pub(crate) fn of(self, lane: Lane) -> u64 {
        match lane {
            Lane::Store => self.store,
            Lane::Journal => self.journal,
        }
    }

    /// Whether an effect of `lane` that was stamped with `stamp` may leave once this is durable.
    pub(crate) fn releases(self, stamp: Marks, lane: Lane) -> bool {
        let journal = stamp.journal <= self.journal;
        journal && (lane == Lane::Journal || stamp.store <= self.store)
    }
}

/// What waits to be written in one lane.
#[derive(Default)]
struct Queue {
    next: u64,
    durable: u64,
    records: Vec<(u64, Bytes)>,
    bytes: usize,
}

impl Queue {
    fn from(next: u64) -> Queue {
        Queue { next, durable: next, ..Queue::default() }
    }

    fn push(&mut self, record: Vec<u8>) {
        self.bytes += record.len();
        self.records.push((self.next, record.into()));
        self.next += 1;
    }

    fn take(&mut self) -> Vec<(u64, Bytes)> {
        self.bytes = 0;
        mem::take(&mut self.records)
    }
}

/// A group in flight: the position after it, and the thread that writes it.
type Flight<T> = Option<(u64, JoinHandle<T>)>;

/// The disk of one host.
pub(crate) struct Log<M: Machine> {
    storage: Arc<Storage>,
    store: Queue,
    forgotten: Vec<u64>,
    commit: Flight<Result<(), StorageError>>,
    /// Away while a group is appended; absent where no record goes there.
    journal: Option<Journal>,
    tail: Queue,
    trim: Option<u64>,
    append: Flight<(Journal, Result<(), StorageError>)>,
    reads: Vec<Read<M>>,
    reading: Option<JoinHandle<Result<ReadDone<M>, StorageError>>>,
    pub(crate) commits: u64,
    pub(crate) records: u64,
    pub(crate) groups: u64,
    pub(crate) journaled: u64,
}

impl<M: Machine<Command: Send> + 'static> Log<M> {
    pub(crate) fn new(storage: Storage, journal: Option<Journal>) -> Self {
        Self {
            store: Queue::from(storage.next_position()),
            storage: Arc::new(storage),
            forgotten: Vec::new(),
            commit: None,
            tail: Queue::from(journal.as_ref().map_or(0, Journal::next_position)),
            journal,
            trim: None,
            append: None,
            reads: Vec::new(),
            reading: None,
            commits: 0,
            records: 0,
            groups: 0,
            journaled: 0,
        }
    }

    /// The next records' positions.
    pub(crate) fn next(&self) -> Marks {
        Marks { store: self.store.next, journal: self.tail.next }
    }

    /// Every record below these positions is durable.
    pub(crate) fn durable(&self) -> Marks {
        Marks { store: self.store.durable, journal: self.tail.durable }
    }

    /// Queues a record.
    pub(crate) fn push(&mut self, lane: Lane, record: Vec<u8>) {
        match lane {
            Lane::Store => self.store.push(record),
            Lane::Journal => {
                let has_journal = self.journal.is_some() || self.append.is_some();
                assert!(has_journal, "a record for a journal on a host without one");
                self.tail.push(record);
            }
        }
    }

    /// Queues the removal of a record.
    pub(crate) fn forget(&mut self, position: u64) {
        self.forgotten.push(position);
    }

    /// Queues the removal of the journal's records before a position, as far as they go together;
    /// once all that was queued before is durable.
    pub(crate) fn trim(&mut self, before: u64) {
        self.trim = self.trim.max(Some(before));
    }

    /// Queues a read.
    pub(crate) fn read(&mut self, positions: Vec<u64>, then: Then<M>) {
        self.reads.push((positions, then));
    }

    /// Whether the disk has fallen behind.
    pub(crate) fn is_full(&self) -> bool {
        self.store.bytes >= LOG_QUEUE_BYTES
            || self.tail.bytes >= LOG_QUEUE_BYTES
            || self.forgotten.len() >= MAX_FORGOTTEN
            || self.reads.len() >= MAX_READS
    }

    /// Starts what there is to write in each lane that has nothing in flight; likewise reads.
    pub(crate) fn start(&mut self) {
        self.start_append();
        if self.commit.is_none() && !(self.store.records.is_empty() && self.forgotten.is_empty()) {
            let batch = self.store.take();
            let forgotten = mem::take(&mut self.forgotten);
            self.commits += 1;
            self.records += batch.len() as u64;
            let storage = Arc::clone(&self.storage);
            let commit = spawn_blocking(move || storage.commit(&batch, &forgotten));
            self.commit = Some((self.store.next, commit));
        }
        if self.reading.is_none() && !self.reads.is_empty() {
            let reads: Vec<_> = self.reads.drain(..self.reads.len().min(READS_AT_ONCE)).collect();
            let storage = Arc::clone(&self.storage);
            self.reading = Some(spawn_blocking(move || read(&storage, reads)));
        }
    }

    fn start_append(&mut self) {
        if self.tail.records.is_empty() && self.trim.is_none() {
            return;
        }
        let Some(mut journal) = self.journal.take() else { return };
        let (batch, trim) = (self.tail.take(), self.trim.take());
        self.groups += 1;
        self.journaled += batch.len() as u64;
        let append = spawn_blocking(move || {
            let appended = journal.append(&batch);
            let trimmed = match trim {
                Some(before) if appended.is_ok() => journal.trim(before),
                _ => Ok(()),
            };
            (journal, appended.and(trimmed))
        });
        self.append = Some((self.tail.next, append));
    }

    /// Whether nothing is queued and nothing in flight.
    pub(crate) fn is_settled(&self) -> bool {
        self.commit.is_none()
            && self.append.is_none()
            && self.store.records.is_empty()
            && self.tail.records.is_empty()
            && self.forgotten.is_empty()
    }

    /// Waits for what is in flight to end, for ever if nothing is. May be dropped at any await.
    pub(crate) async fn done(&mut self) -> Result<Done<M>, StorageError> {
        tokio::select! {
            biased;
            (end, (journal, result)) = landed(&mut self.append) => {
                self.append = None;
                self.journal = Some(journal);
                result?;
                self.tail.durable = end;
                Ok(Done::Commit)
            }
            (end, result) = landed(&mut self.commit) => {
                self.commit = None;
                result?;
                self.store.durable = end;
                Ok(Done::Commit)
            }
            result = finished(&mut self.reading) => {
                self.reading = None;
                result.map(Done::Read)
            }
        }
    }

    /// Waits until no thread works on the disk; what is still queued is not done.
    pub(crate) async fn close(mut self) {
        while self.commit.is_some() || self.append.is_some() || self.reading.is_some() {
            if let Err(error) = self.done().await {
                debug!(%error, "at the end");
            }
        }
    }
}

fn read<M: Machine>(storage: &Storage, reads: Vec<Read<M>>) -> Result<ReadDone<M>, StorageError> {
    let mut done = ReadDone { commands: Vec::new(), corrupted: Vec::new() };
    for (positions, then) in reads {
        let mut bodies = Vec::with_capacity(positions.len());
        for found in storage.read(&positions)? {
            bodies
                .push(found.and_then(|checked| {
                    checked.map_err(|report| done.corrupted.push(report)).ok()
                }));
        }
        done.commands.extend(then(bodies));
    }
    Ok(done)
}

async fn landed<T>(flight: &mut Flight<T>) -> (u64, T) {
    match flight {
        Some((end, thread)) => (*end, finished_thread(thread).await),
        None => pending().await,
    }
}

async fn finished<T>(thread: &mut Option<JoinHandle<T>>) -> T {
    match thread {
        Some(thread) => finished_thread(thread).await,
        None => pending().await,
    }
}

/// A blocking thread's result; its panic goes on in the host.
async fn finished_thread<T>(thread: &mut JoinHandle<T>) -> T {
    thread.await.unwrap_or_else(|error| panic!("a thread of the log ended early: {error}"))
}
