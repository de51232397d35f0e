//! The host's side of the log: commits in groups, reads beside them.
//!
//! At most one commit is in flight, on a blocking thread; everything that comes meanwhile goes into
//! the next. Reads are grouped the same way and wait for no commit.

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
    /// A commit: [`Log::durable`] has moved.
    Commit,
    /// A group of reads.
    Read(ReadDone<M>),
}

/// What a group of reads found.
pub(crate) struct ReadDone<M: Machine> {
    pub(crate) commands: Vec<M::Command>,
    pub(crate) corrupted: Vec<Corrupted>,
}

/// The log of one host.
pub(crate) struct Log<M: Machine> {
    storage: Arc<Storage>,
    next: u64,
    durable: u64,
    queued: Vec<(u64, Bytes)>,
    queued_bytes: usize,
    forgotten: Vec<u64>,
    commit: Option<(u64, JoinHandle<Result<(), StorageError>>)>,
    reads: Vec<Read<M>>,
    reading: Option<JoinHandle<Result<ReadDone<M>, StorageError>>>,
    pub(crate) commits: u64,
    pub(crate) records: u64,
}

impl<M: Machine<Command: Send> + 'static> Log<M> {
    pub(crate) fn new(storage: Storage) -> Self {
        let next = storage.next_position();
        Self {
            storage: Arc::new(storage),
            next,
            durable: next,
            queued: Vec::new(),
            queued_bytes: 0,
            forgotten: Vec::new(),
            commit: None,
            reads: Vec::new(),
            reading: None,
            commits: 0,
            records: 0,
        }
    }

    /// The next record's position.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Every record below this position is durable.
    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    /// Queues a record.
    pub(crate) fn push(&mut self, record: Vec<u8>) {
        self.queued_bytes += record.len();
        self.queued.push((self.next, record.into()));
        self.next += 1;
    }

    /// Queues the removal of a record.
    pub(crate) fn forget(&mut self, position: u64) {
        self.forgotten.push(position);
    }

    /// Queues a read.
    pub(crate) fn read(&mut self, positions: Vec<u64>, then: Then<M>) {
        self.reads.push((positions, then));
    }

    /// Whether the disk has fallen behind.
    pub(crate) fn is_full(&self) -> bool {
        self.queued_bytes >= LOG_QUEUE_BYTES
            || self.forgotten.len() >= MAX_FORGOTTEN
            || self.reads.len() >= MAX_READS
    }

    /// Starts the next commit if there is something to commit and none in flight; likewise reads.
    pub(crate) fn start(&mut self) {
        if self.commit.is_none() && !(self.queued.is_empty() && self.forgotten.is_empty()) {
            let batch = mem::take(&mut self.queued);
            let forgotten = mem::take(&mut self.forgotten);
            self.queued_bytes = 0;
            self.commits += 1;
            self.records += batch.len() as u64;
            let storage = Arc::clone(&self.storage);
            let commit = spawn_blocking(move || storage.commit(&batch, &forgotten));
            self.commit = Some((self.next, commit));
        }
        if self.reading.is_none() && !self.reads.is_empty() {
            let reads: Vec<_> = self.reads.drain(..self.reads.len().min(READS_AT_ONCE)).collect();
            let storage = Arc::clone(&self.storage);
            self.reading = Some(spawn_blocking(move || read(&storage, reads)));
        }
    }

    /// Whether nothing is queued and no commit is in flight.
    pub(crate) fn is_settled(&self) -> bool {
        self.commit.is_none() && self.queued.is_empty() && self.forgotten.is_empty()
    }

    /// Waits for the commit or the reads in flight, for ever without any. May be dropped at any
    /// await.
    pub(crate) async fn done(&mut self) -> Result<Done<M>, StorageError> {
        tokio::select! {
            biased;
            (end, result) = committed(&mut self.commit) => {
                self.commit = None;
                result?;
                self.durable = end;
                Ok(Done::Commit)
            }
            result = finished(&mut self.reading) => {
                self.reading = None;
                result.map(Done::Read)
            }
        }
    }

    /// Waits until no thread works on the storage; what is still queued is not done.
    pub(crate) async fn close(mut self) {
        while self.commit.is_some() || self.reading.is_some() {
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

async fn committed(
    commit: &mut Option<(u64, JoinHandle<Result<(), StorageError>>)>,
) -> (u64, Result<(), StorageError>) {
    match commit {
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
