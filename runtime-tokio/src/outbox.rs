//! What a machine wants done: the host's [`Effects`], the queue of those held until they are
//! durable, and the table of links they leave by.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use quorate_core::machine::{Effects, Input, Machine, NodeId};
use tracing::{debug, info, warn};

use crate::connect::Connected;
use crate::dial::Dials;
use crate::edge::{Action, Actions, Edge};
use crate::frame::{Codec, Lane, seal};
use crate::handle::{Answer, LinkMetrics, MAX_PAST_PEERS, Metrics, Traffic};
use crate::host::{Clock, chance};
use crate::link::{CloseReason, Closings, EMPTY_FRAME, Link, LinkTask, accepted_wins};
use crate::log::{Log, Marks};
use tokio_util::sync::CancellationToken;

/// Effects that may wait for the disk before the host takes no more input.
const MAX_HELD: usize = 65_536;

/// Inputs of the host's own (from itself, its edge, its links) before it takes no more from others.
const MAX_LOCAL: usize = 65_536;

/// What leaves once every record before it is durable.
enum Held<M: Machine> {
    Send(NodeId, M::Message),
    Emit(M::Event),
    Answer(Answer),
}

/// Everything of a host but its machine.
pub(crate) struct Outbox<E: Edge, C> {
    pub(crate) me: NodeId,
    pub(crate) edge: E,
    pub(crate) codec: C,
    pub(crate) log: Log<E::Machine>,
    pub(crate) clock: Clock,
    pub(crate) dials: Dials,
    pub(crate) closings: Arc<Closings>,
    /// Inputs that come before any other.
    pub(crate) local: VecDeque<Input<E::Machine>>,
    pub(crate) link_queue_bytes: usize,
    pub(crate) max_connections: usize,
    /// What waits for both lanes, and what for the journal alone; see [`crate::log`].
    held: VecDeque<(Marks, Held<E::Machine>)>,
    held_by_journal: VecDeque<(Marks, Held<E::Machine>)>,
    actions: Vec<Action<E::Machine>>,
    pub(crate) links: BTreeMap<NodeId, Link>,
    next_link: u64,
    past: BTreeMap<NodeId, Traffic>,
    other_peers: Traffic,
    opened: u64,
    unroutable: u64,
    oversized: u64,
}

/// What an outbox is made of.
pub(crate) struct Parts<E: Edge, C> {
    pub(crate) me: NodeId,
    pub(crate) edge: E,
    pub(crate) codec: C,
    pub(crate) log: Log<E::Machine>,
    pub(crate) link_queue_bytes: usize,
    pub(crate) max_connections: usize,
}

impl<E, C> Outbox<E, C>
where
    E: Edge<Machine: Machine<Command: Send> + 'static>,
    C: Codec<E::Machine>,
{
    pub(crate) fn new(parts: Parts<E, C>) -> Self {
        let Parts { me, edge, codec, log, link_queue_bytes, max_connections } = parts;
        Self {
            me,
            edge,
            codec,
            log,
            clock: Clock::start(),
            dials: Dials::default(),
            closings: Arc::new(Closings::new()),
            local: VecDeque::new(),
            link_queue_bytes,
            max_connections,
            held: VecDeque::new(),
            held_by_journal: VecDeque::new(),
            actions: Vec::new(),
            links: BTreeMap::new(),
            next_link: 0,
            past: BTreeMap::new(),
            other_peers: Traffic::default(),
            opened: 0,
            unroutable: 0,
            oversized: 0,
        }
    }

    /// Whether so much waits that no more input should be taken.
    pub(crate) fn is_full(&self) -> bool {
        self.log.is_full() || self.held() >= MAX_HELD || self.local.len() >= MAX_LOCAL
    }

    fn held(&self) -> usize {
        self.held.len() + self.held_by_journal.len()
    }

    /// Lets out, in order, whatever is durable.
    pub(crate) fn release(&mut self) {
        while let Some((logged, effect)) = self.released() {
            match effect {
                Held::Send(to, message) => self.transmit(to, message),
                Held::Emit(event) => {
                    self.at_edge(logged, |edge, actions| edge.event(event, actions));
                }
                Held::Answer(answer) => answer(),
            }
        }
    }

    /// The next effect that may leave.
    fn released(&mut self) -> Option<(Marks, Held<E::Machine>)> {
        let durable = self.log.durable();
        let leaves = |lane| move |(stamp, _): &mut (Marks, _)| durable.releases(*stamp, lane);
        let swift = self.held_by_journal.pop_front_if(leaves(Lane::Journal));
        swift.or_else(|| self.held.pop_front_if(leaves(Lane::Store)))
    }

    /// Holds an answer until all that is persisted so far is durable.
    pub(crate) fn hold(&mut self, answer: Answer) {
        self.hold_in(Lane::Store, Held::Answer(answer));
    }

    fn hold_in(&mut self, lane: Lane, effect: Held<E::Machine>) {
        let queue = match lane {
            Lane::Store => &mut self.held,
            Lane::Journal => &mut self.held_by_journal,
        };
        queue.push_back((self.log.next(), effect));
    }

    /// Lets the edge act, then does what it asked for.
    pub(crate) fn at_edge(
        &mut self,
        logged: Marks,
        act: impl FnOnce(&mut E, &mut Actions<'_, E::Machine>),
    ) {
        act(&mut self.edge, &mut Actions { queue: &mut self.actions, logged });
        for action in std::mem::take(&mut self.actions) {
            match action {
                Action::Command(command) => self.local.push_back(Input::Command(command)),
                Action::Read { positions, then } => self.log.read(positions, then),
                Action::Dial(target) => {
                    if let Err(error) = self.dials.add(target.clone(), self.clock.now()) {
                        warn!(addr = target.addr, ?error, "address not dialled");
                    }
                }
                Action::Hear { target, told_by } => {
                    let heard = self.dials.hear(target.clone(), told_by, self.clock.now());
                    if let Err(error) = heard {
                        let told_by = told_by.short();
                        debug!(addr = target.addr, %told_by, ?error, "hearsay not dialled");
                    }
                }
                Action::Undial(peer) => self.dials.remove(peer),
                Action::Redial(peer) => self.dials.hurry(peer, self.clock.now()),
                Action::Disconnect { peer, reason } => {
                    info!(peer = %peer.short(), reason, "disconnecting");
                    self.unlink(peer, CloseReason::Disconnected);
                }
                Action::Forget { position } => self.log.forget(position),
                Action::Trim { before } => self.log.trim(before),
            }
        }
    }

    fn transmit(&mut self, to: NodeId, message: <E::Machine as Machine>::Message) {
        if to == self.me {
            self.local.push_back(Input::Message { from: to, message });
            return;
        }
        let Some(link) = self.links.get(&to) else {
            self.unroutable += 1;
            return;
        };
        match seal(|out| self.codec.encode_message(&message, out)) {
            Ok(frame) => {
                if link.send(frame, self.link_queue_bytes).is_err() {
                    self.unlink(to, CloseReason::SlowReceiver);
                }
            }
            Err(error) => {
                self.oversized += 1;
                tracing::error!(peer = %to.short(), %error, "message not sent");
            }
        }
    }

    /// Makes a link of an authenticated connection, or hangs up.
    pub(crate) fn connected<S>(
        &mut self,
        connected: Connected<S>,
        stop: CancellationToken,
    ) -> Option<LinkTask<S>> {
        let Connected { peer, ref dialled, .. } = connected;
        let unnamed = dialled.as_ref().is_some_and(|target| target.expected.is_none());
        let dialled = dialled.is_some();
        if let Err(reason) = self.admit(&connected) {
            debug!(peer = %peer.short(), addr = connected.addr, %reason, "not linked");
            self.closings.unlinked(&connected.addr, reason);
            return None;
        }
        if self.links.contains_key(&peer) {
            self.unlink(peer, CloseReason::Replaced);
        }
        let dialler = if dialled { self.me } else { peer };
        self.next_link += 1;
        let id = self.next_link;
        info!(peer = %peer.short(), addr = connected.addr, dialled, link = id, "link up");
        let now = self.clock.now();
        let (link, task) = Link::new(id, (dialler, now), connected, stop);
        if dialled {
            // Tells the accepting host that the connection is kept.
            let sent = link.send(EMPTY_FRAME, usize::MAX);
            debug_assert!(sent.is_ok(), "nothing is without limit");
        }
        self.opened += 1;
        self.links.insert(peer, link);
        let answered = unnamed.then(|| self.edge.answered(peer)).flatten();
        self.local.extend(answered.map(Input::Command));
        self.local.push_back(Input::Link { peer, up: true });
        Some(task)
    }

    fn admit<S>(&mut self, connected: &Connected<S>) -> Result<(), CloseReason> {
        let Connected { peer, ref dialled, .. } = *connected;
        let full = self.links.len() >= self.max_connections;
        let refused = if peer == self.me {
            Some(CloseReason::SelfConnection)
        } else {
            (!self.edge.admits(peer)).then_some(CloseReason::NotAdmitted)
        };
        if let Some(reason) = refused {
            // Someone else may answer there another time.
            if let Some(target) = dialled {
                self.dials.failed(target, self.clock.now(), chance());
            }
            return Err(reason);
        }
        if let Some(target) = dialled {
            let linked = self.links.contains_key(&peer);
            if full && !linked {
                self.dials.failed(target, self.clock.now(), chance());
                return Err(CloseReason::TooManyConnections);
            }
            if !self.dials.reached(target, peer) {
                return Err(CloseReason::Undialled);
            }
            return if linked { Err(CloseReason::Duplicate) } else { Ok(()) };
        }
        match self.links.get(&peer) {
            Some(old) if !accepted_wins(old.dialler, self.me, peer) => Err(CloseReason::Duplicate),
            None if full => Err(CloseReason::TooManyConnections),
            _ => Ok(()),
        }
    }

    /// Whether `link` is the one that stands for `peer` now.
    pub(crate) fn is_current(&self, peer: NodeId, link: u64) -> bool {
        self.links.get(&peer).is_some_and(|current| current.id == link)
    }

    /// Takes a link out of the table and closes it, unless it closed by itself.
    pub(crate) fn unlink(&mut self, peer: NodeId, reason: CloseReason) {
        let Some(link) = self.links.remove(&peer) else { return };
        link.close(reason);
        self.past.entry(peer).or_default().add(link.traffic());
        if self.past.len() > MAX_PAST_PEERS {
            let gone = self.past.keys().find(|peer| !self.links.contains_key(peer)).copied();
            if let Some(traffic) = gone.and_then(|gone| self.past.remove(&gone)) {
                self.other_peers.add((traffic.bytes_in, traffic.bytes_out));
            }
        }
        self.dials.lost(peer, link.since, self.clock.now(), chance());
        self.local.push_back(Input::Link { peer, up: false });
    }

    pub(crate) fn metrics(&self, steps: u64) -> Metrics {
        let mut peers = self.past.clone();
        let mut links = BTreeMap::new();
        for (&peer, link) in &self.links {
            peers.entry(peer).or_default().add(link.traffic());
            let (addr, dialled) = (link.addr.clone(), link.dialler == self.me);
            links.insert(peer, LinkMetrics { addr, dialled, queued_bytes: link.queued_bytes() });
        }
        Metrics {
            links,
            peers,
            other_peers: self.other_peers,
            opened: self.opened,
            closed: self.closings.read(),
            steps,
            commits: self.log.commits,
            records: self.log.records,
            groups: self.log.groups,
            journaled: self.log.journaled,
            held: self.held(),
            unroutable: self.unroutable,
            oversized: self.oversized,
        }
    }
}

impl<E, C> Effects<E::Machine> for Outbox<E, C>
where
    E: Edge<Machine: Machine<Command: Send> + 'static>,
    C: Codec<E::Machine>,
{
    fn persist(&mut self, record: <E::Machine as Machine>::Record) {
        let lane = self.codec.record_lane(&record);
        self.edge.record(lane, self.log.next().of(lane), &record);
        let mut bytes = Vec::new();
        self.codec.encode_record(&record, &mut bytes);
        self.log.push(lane, bytes);
    }

    fn send(&mut self, to: NodeId, message: <E::Machine as Machine>::Message) {
        self.hold_in(self.codec.message_lane(&message), Held::Send(to, message));
    }

    fn send_now(&mut self, to: NodeId, message: <E::Machine as Machine>::Message) {
        self.transmit(to, message);
    }

    fn emit(&mut self, event: <E::Machine as Machine>::Event) {
        self.hold_in(self.codec.event_lane(&event), Held::Emit(event));
    }

    fn emit_now(&mut self, event: <E::Machine as Machine>::Event) {
        // Of the log it may speak of nothing that is not durable.
        let logged = self.log.durable();
        self.at_edge(logged, |edge, actions| edge.event(event, actions));
    }
}
