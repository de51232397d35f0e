//! What callers ask of the cluster, and who waits for which answer.
//!
//! What several callers ask in one turn of the host goes to the machine together, which makes one
//! entry of the journal and one message of it.

use std::collections::BTreeMap;

use quorate_core::cluster::ClusterId;
use quorate_core::cluster::{
    Asked, Command, Error, Event, Health, Record, Request, WINDOW, WatchUpdate,
};
use quorate_core::log::Ballot;
use quorate_core::registry::{Reply, Target};
use tokio::sync::{mpsc, oneshot, watch};

/// Updates that may be on their way to a watcher: the machine's window, and the words in between.
const WATCH_QUEUE: usize = WINDOW + 8;

/// Where an answer goes.
pub(super) type Answer = oneshot::Sender<Result<Reply, Error>>;

/// What this node is in its cluster, as of the last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Which cluster it is a member of.
    pub cluster: Option<ClusterId>,
    /// The ballot under which it leads the cluster's log.
    pub leading: Option<Ballot>,
    /// The ballot of whoever leads, as far as this node knows.
    pub leader: Option<Ballot>,
    /// How it sees the cluster.
    pub health: Health,
}

/// The cluster's part of a node's edge.
#[derive(Debug)]
pub(super) struct Requests {
    next_ticket: u64,
    gathered: Vec<Asked>,
    answers: BTreeMap<u64, Answer>,
    watches: BTreeMap<u64, mpsc::Sender<WatchUpdate>>,
    life: watch::Sender<Life>,
    /// The position in the journal from which on all is needed, once the machine says so.
    begins: Option<u64>,
}

impl Default for Requests {
    fn default() -> Self {
        let life = Life { cluster: None, leading: None, leader: None, health: Health::Outside };
        Self {
            next_ticket: 0,
            gathered: Vec::new(),
            answers: BTreeMap::new(),
            watches: BTreeMap::new(),
            life: watch::Sender::new(life),
            begins: None,
        }
    }
}

impl Requests {
    /// Makes a cluster.
    pub(super) fn init(&mut self, answer: Answer) -> Command {
        let ticket = self.ticket();
        self.answers.insert(ticket, answer);
        Command::Init { ticket }
    }

    /// Asks with the others of this turn.
    pub(super) fn ask(&mut self, request: Request, timeout_ms: u64, answer: Answer) {
        let ticket = self.ticket();
        self.answers.insert(ticket, answer);
        self.gathered.push(Asked { ticket, timeout_ms, request });
    }

    /// What was asked in this turn.
    pub(super) fn gathered(&mut self) -> Option<Command> {
        let asked = std::mem::take(&mut self.gathered);
        (!asked.is_empty()).then_some(Command::Ask(asked))
    }

    /// Begins a watch; its number, where its updates come, and the command.
    pub(super) fn watch(
        &mut self,
        target: Target,
        from: Option<u64>,
    ) -> (u64, mpsc::Receiver<WatchUpdate>, Command) {
        let watch = self.ticket();
        let (give, take) = mpsc::channel(WATCH_QUEUE);
        self.watches.insert(watch, give);
        (watch, take, Command::Watch { watch, target, from })
    }

    /// Ends a watch.
    pub(super) fn unwatch(&mut self, watch: u64) -> Option<Command> {
        self.watches.remove(&watch).map(|_| Command::Unwatch(watch))
    }

    /// What changes in this node's place in its cluster.
    pub(super) fn life(&self) -> watch::Receiver<Life> {
        self.life.subscribe()
    }

    /// A record has this position in the journal.
    pub(super) fn record(&mut self, position: u64, record: &Record) {
        if record.begins() {
            self.begins = Some(position);
        }
    }

    /// Passes on what the machine tells; a watch that nobody reads any more is to be ended, and the
    /// journal before a position not needed.
    pub(super) fn event(&mut self, event: Event) -> Option<Todo> {
        match event {
            Event::Answer { ticket, result } => {
                if let Some(answer) = self.answers.remove(&ticket) {
                    // Whoever does not wait any more need not be told.
                    let _ = answer.send(result);
                }
            }
            Event::Watched { watch, update } => {
                // Full is what the machine's window rules out; gone is a watcher that was dropped.
                let reader = self.watches.get(&watch)?;
                if reader.try_send(update).is_err() {
                    return self.unwatch(watch).map(Todo::Command);
                }
            }
            Event::Covered => return self.begins.map(Todo::Trim),
            Event::Leading(ballot) => self.lives(|life| life.leading = Some(ballot)),
            Event::Stopped(_) => self.lives(|life| life.leading = None),
            Event::LeaderChanged(leader) => self.lives(|life| life.leader = leader),
            Event::HealthChanged(health) => self.lives(|life| life.health = health),
            Event::Joined(cluster) => self.lives(|life| life.cluster = Some(cluster)),
            Event::Left(_) => self.lives(|life| life.cluster = None),
            // Everything that is asked is answered with that.
            Event::Halted(_) | Event::TakesPart => {}
        }
        None
    }

    fn lives(&self, change: impl FnOnce(&mut Life)) {
        self.life.send_modify(change);
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }
}

/// A watch's reader has taken so many updates.
pub(super) fn taken(watch: u64, count: usize) -> quorate_core::node::Command {
    quorate_core::node::Command::Cluster(Command::Taken { watch, count })
}

/// What is to be done after an event.
#[derive(Debug)]
pub(super) enum Todo {
    /// The machine is given this.
    Command(Command),
    /// The journal is not needed before this position.
    Trim(u64),
}
