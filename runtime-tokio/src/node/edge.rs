//! The node's edge: what the machine tells becomes answers for callers, reads of the log, dialling,
//! updates for watchers, and lines in the log for people.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use quorate_core::cluster;
use quorate_core::entry::Link;
use quorate_core::hash::Hash;
use quorate_core::machine::NodeId;
use quorate_core::node::{Command, Contact, Event, JoinError, Node, Notice, Record, WatchUpdate};
use quorate_core::store::WriteError;
use quorate_core::watch::WINDOW;
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{debug, info, warn};

use super::codec::NodeCodec;
use super::data_dir::forget_old_journal;
use super::requests::{self, Requests, Todo};
use crate::edge::{Actions, Edge};
use crate::frame::{Codec, Lane};
use crate::storage::Corrupted;

/// Updates that may be on their way to a watcher: what the machine lets out unacknowledged before the
/// watcher fell behind and after it began anew, and the words in between.
const WATCH_QUEUE: usize = 2 * WINDOW + 8;

type WriteAnswer = oneshot::Sender<Result<Link, WriteError>>;
type JoinAnswer = oneshot::Sender<Result<Hash, JoinError>>;

/// The application's side of a [`Node`]. Made and used by [`crate::Node`].
#[derive(Debug, Default)]
pub struct NodeEdge {
    next_ticket: u64,
    writes: BTreeMap<u64, WriteAnswer>,
    joins: BTreeMap<u64, JoinAnswer>,
    watches: BTreeMap<u64, mpsc::Sender<WatchUpdate>>,
    blocked: BTreeSet<NodeId>,
    corrupted: u64,
    synced: Arc<Notify>,
    requests: Requests,
    /// The file which says that the journal may be an old copy.
    old_journal: Option<PathBuf>,
}

impl NodeEdge {
    /// The edge of a node whose journal is an old copy if this file says so.
    pub(super) fn new(old_journal: Option<PathBuf>) -> NodeEdge {
        NodeEdge { old_journal, ..NodeEdge::default() }
    }

    /// Asks the machine to write, and remembers whom to tell.
    pub(super) fn write(
        &mut self,
        changes: Vec<quorate_core::store::Change>,
        answer: WriteAnswer,
        actions: &mut Actions<'_, Node>,
    ) {
        let ticket = self.ticket();
        self.writes.insert(ticket, answer);
        actions.command(Command::Write { ticket, changes });
    }

    /// Asks the machine to join, and remembers whom to tell.
    pub(super) fn join(
        &mut self,
        ticket: quorate_core::ticket::Ticket,
        answer: JoinAnswer,
        actions: &mut Actions<'_, Node>,
    ) {
        let quorate_core::ticket::Ticket { founding, contacts } = ticket;
        let ticket = self.ticket();
        self.joins.insert(ticket, answer);
        actions.command(Command::Join { ticket, founding, contacts });
    }

    /// Begins a watch; returns its number and where its updates come.
    pub(super) fn watch(
        &mut self,
        pattern: quorate_core::watch::Pattern,
        actions: &mut Actions<'_, Node>,
    ) -> (u64, mpsc::Receiver<WatchUpdate>) {
        let watch = self.ticket();
        let (give, take) = mpsc::channel(WATCH_QUEUE);
        self.watches.insert(watch, give);
        actions.command(Command::Watch { watch, pattern });
        (watch, take)
    }

    /// Ends a watch.
    pub(super) fn unwatch(&mut self, watch: u64, actions: &mut Actions<'_, Node>) {
        if self.watches.remove(&watch).is_some() {
            actions.command(Command::Unwatch(watch));
        }
    }

    /// Has no link to `peer` until it is let in again.
    pub(super) fn block(&mut self, peer: NodeId, block: bool, actions: &mut Actions<'_, Node>) {
        if block && self.blocked.insert(peer) {
            actions.disconnect(peer, "blocked here");
        } else if !block {
            self.blocked.remove(&peer);
            // The pause between attempts has grown meanwhile.
            actions.redial(peer);
        }
    }

    /// What is asked of the cluster.
    pub(super) fn requests(&mut self) -> &mut Requests {
        &mut self.requests
    }

    /// Makes a cluster.
    pub(super) fn init(&mut self, answer: requests::Answer, actions: &mut Actions<'_, Node>) {
        actions.command(Command::Cluster(self.requests.init(answer)));
    }

    /// Begins a watch of the cluster's registry; its number and where its updates come.
    pub(super) fn watch_cluster(
        &mut self,
        target: quorate_core::registry::Target,
        from: Option<u64>,
        actions: &mut Actions<'_, Node>,
    ) -> (u64, mpsc::Receiver<quorate_core::cluster::WatchUpdate>) {
        let (watch, updates, command) = self.requests.watch(target, from);
        actions.command(Command::Cluster(command));
        (watch, updates)
    }

    /// Ends a watch of the registry.
    pub(super) fn unwatch_cluster(&mut self, watch: u64, actions: &mut Actions<'_, Node>) {
        if let Some(command) = self.requests.unwatch(watch) {
            actions.command(Command::Cluster(command));
        }
    }

    /// Stored records that were found damaged since the start.
    pub(super) fn corruptions(&self) -> u64 {
        self.corrupted
    }

    /// Rings when a sync has found this node and a peer equal.
    pub(super) fn synced(&self) -> Arc<Notify> {
        Arc::clone(&self.synced)
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }

    /// What the journal holds is the latest again. Once in a node's life, if ever: not worth a thread.
    fn journal_is_whole(&mut self) {
        let Some(note) = self.old_journal.take() else { return };
        if let Err(error) = forget_old_journal(&note) {
            warn!(%error, "this node will stand aside again after its next start");
        }
    }

    fn watched(&mut self, watch: u64, update: WatchUpdate, actions: &mut Actions<'_, Node>) {
        let Some(watcher) = self.watches.get(&watch) else { return };
        // Full is what the machine's window rules out; gone is a watcher that was dropped.
        if watcher.try_send(update).is_err() {
            self.unwatch(watch, actions);
        }
    }
}

impl Edge for NodeEdge {
    type Machine = Node;

    fn event(&mut self, event: Event, actions: &mut Actions<'_, Node>) {
        match event {
            Event::Written { ticket, result } => {
                if let Some(answer) = self.writes.remove(&ticket) {
                    // Whoever does not wait any more need not be told.
                    let _ = answer.send(result);
                }
            }
            Event::Joined { ticket, result } => {
                if let Some(answer) = self.joins.remove(&ticket) {
                    let _ = answer.send(result);
                }
            }
            Event::Read { ticket, positions } => actions.read(positions, move |bodies| {
                let bodies = bodies.into_iter().map(|body| entry_of(body?)).collect();
                Command::Bodies { ticket, bodies }
            }),
            Event::Forget(position) => actions.forget(position),
            Event::Disconnect { peer, reason } => actions.disconnect(peer, reason.to_string()),
            Event::Dial { contact: Contact { node, address }, told_by: None } => {
                actions.dial(address, Some(node));
            }
            Event::Dial { contact: Contact { node, address }, told_by: Some(peer) } => {
                actions.dial_hearsay(address, node, peer);
            }
            Event::Undial(node) => actions.undial(node),
            Event::Watched { watch, update } => self.watched(watch, update, actions),
            Event::Cluster(event) => {
                tell_cluster(&event);
                if event == cluster::Event::TakesPart {
                    self.journal_is_whole();
                }
                match self.requests.event(event) {
                    Some(Todo::Command(command)) => actions.command(Command::Cluster(command)),
                    Some(Todo::Trim(before)) => actions.trim(before),
                    None => {}
                }
            }
            Event::Notice(notice) => {
                if let Notice::InSync(_) = notice {
                    self.synced.notify_waiters();
                }
                tell(&notice);
            }
        }
    }

    fn turned(&mut self, actions: &mut Actions<'_, Node>) {
        if let Some(command) = self.requests.gathered() {
            actions.command(Command::Cluster(command));
        }
    }

    fn record(&mut self, _: Lane, position: u64, record: &Record) {
        if let Record::Cluster(record) = record {
            self.requests.record(position, record);
        }
    }

    fn admits(&mut self, peer: NodeId) -> bool {
        !self.blocked.contains(&peer)
    }

    /// The operator gave that address: a newcomer may ask whoever answers there.
    fn answered(&mut self, peer: NodeId) -> Option<Command> {
        Some(Command::Trust(peer))
    }

    fn corrupted(&mut self, _: Corrupted) {
        self.corrupted += 1;
    }
}

/// The entry in a stored record.
pub(super) fn entry_of(record: Bytes) -> Option<Bytes> {
    match NodeCodec.decode_record(Lane::Store, record).ok()? {
        Record::Store(record) => record.entry(),
        Record::Cluster(_) => None,
    }
}

/// Puts what an operator may want to know of the cluster into the log.
fn tell_cluster(event: &cluster::Event) {
    use cluster::Event;
    match event {
        Event::Leading(ballot) => info!(epoch = ballot.number, "this node leads the cluster"),
        Event::Stopped(ballot) => {
            info!(epoch = ballot.number, "this node leads the cluster no more");
        }
        Event::LeaderChanged(Some(ballot)) => {
            info!(leader = %ballot.node.short(), epoch = ballot.number, "the cluster's leader");
        }
        Event::LeaderChanged(None) => info!("nobody is known to lead the cluster"),
        Event::HealthChanged(health) => info!(?health, "the cluster's health"),
        Event::Joined(cluster) => info!(%cluster, "member of a cluster"),
        Event::Left(cluster) => info!(%cluster, "member of the cluster no more"),
        Event::Halted(error) => {
            warn!(%error, "the cluster's state is of another version: this node takes no part");
        }
        Event::TakesPart => info!("this node takes part in its cluster again"),
        Event::Answer { .. } | Event::Watched { .. } | Event::Covered => {}
    }
}

/// Puts a notice into the log.
fn tell(notice: &Notice) {
    match notice {
        Notice::Opened(peer) => info!(peer = %peer.short(), "peer is there"),
        Notice::Closed(peer) => info!(peer = %peer.short(), "peer is gone"),
        Notice::Suspect(peer) => info!(peer = %peer.short(), "peer is silent"),
        Notice::Refused { link, from, reason } => {
            let (author, from) = (link.author.short(), from.short());
            debug!(%author, seq = link.seq, %from, %reason, "entry refused");
        }
        Notice::Parked(link) => {
            let author = link.author.short();
            warn!(%author, seq = link.seq, "entry from the future is held back; whose clock is wrong?");
        }
        Notice::Released => info!("entries that were held back now count"),
        Notice::Waived(link) => {
            info!(author = %link.author, seq = link.seq, "an entry cites what nobody has, and counts without");
        }
        Notice::Forked(fork) => {
            let author = fork.author.short();
            warn!(%author, seq = fork.seq, "author signed two entries for one place");
        }
        Notice::Cut { author, cut: Some(cut) } => {
            warn!(author = %author.short(), cut, "what the author wrote above this place has no effect");
        }
        Notice::Cut { author, cut: None } => info!(author = %author.short(), "cut lifted"),
        Notice::Members => info!("members changed"),
        Notice::Unfilled { author, from, to } => {
            info!(author = %author.short(), from, to, "nobody has these entries yet");
        }
        Notice::SyncFailed { peer, reason } => {
            info!(peer = %peer.short(), %reason, "sync broke off, will be retried");
        }
        Notice::Damaged(position) => warn!(position, "a stored record is damaged"),
        // `InSync`, and whatever else is of interest only to whoever looks closely.
        other => debug!(notice = ?other),
    }
}
