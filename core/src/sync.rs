//! Sync: two nodes find out what each lacks of a store, at a cost that follows the difference.
//!
//! The intuition: a [`Frontier`] (one tip for each author) says all about what a node holds, and
//! two nodes that meet again differ in few tips. So a session first compares digests of the
//! frontiers: if they are equal that is all, one round trip and some fifty bytes. If not, the
//! responder sends cells of a rateless IBLT (see [`crate::iblt`]) over its tips, from which the
//! initiator reads off *which* tips differ, whatever their number; then each side tells the other
//! its tips of just those chains. This machine finds differences. Moving entries is its parent's
//! business.
//!
//! The cases, by what the two frontiers are:
//!
//! ```text
//! equal          I: Offer          R: Same
//! alike          I: Offer          R: Cells      (I: More  R: Cells)...
//!                I: Differ         R: Wants
//! R's is small   I: Offer          R: Whole      I: Differ   R: Wants
//! I's is small   I: Offer          R: Ask        I: Tell     R: Wants
//! cells in vain  I: Offer  ...     I: Fetch      R: Whole    I: Differ  R: Wants
//! ```
//!
//! Small is at most [`SMALL_FRONTIER`] chains, or [`MUCH_SMALLER`] times fewer than the other's:
//! then the tips themselves are cheaper than cells, and the side that has few tells them.
//! Everything long goes in pages, each answered before the next is sent.
//!
//! What comes of it: the responder gets [`Event::Differs`] with every chain that differs. The
//! initiator gets those where the responder lacks something or cannot judge (equal heights,
//! different hashes: a fork); of the others it need not know, the responder's entries are on their
//! way. After `Whole` it gets them all. The side that is ahead sends. Whoever finds that a shorter
//! tip is not on the longer chain has found a fork.
//!
//! The protocol alternates strictly, and every message carries the session's nonce and its turn. So
//! a message that is duplicated, late or out of order is recognised and ignored, and a lost one is
//! a timeout. Failures are retried with exponential backoff, counted by peer; sessions with
//! different peers do not know of each other. Each linked peer is offered a session every
//! [`ANTI_ENTROPY_MS`], give or take a quarter, unless it offered one itself, for a session tells
//! both sides.
//!
//! Paper: Yang, Gilad, Alizadeh, "Practical Rateless Set Reconciliation", SIGCOMM 2024. There the
//! cells stream until the receiver calls stop. We depart and ask for them in batches, as many as
//! the first ones let us expect to need: a node has many peers, and what is in flight to each is
//! bounded.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::{fmt, mem};

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use crate::frontier::{Frontier, Tip};
use crate::hash::Hash;
use crate::machine::{Cx, Effects, Input, Machine, Never, NodeId, Time, earliest};

mod message;
mod session;
#[cfg(test)]
mod tests;

pub use message::{
    Body, MAX_CELLS_PER_MESSAGE, MAX_IDS_PER_MESSAGE, MAX_TIPS_PER_MESSAGE, Message, Nonce,
    TIP_BYTES, Want, WireTip,
};
use session::{Initiator, Next, Responder, Step};

/// Every linked peer is offered a session this often, ± 25 %.
pub const ANTI_ENTROPY_MS: u64 = 30_000;
/// A session in which nothing was heard for so long has failed.
pub const SESSION_TIMEOUT_MS: u64 = 10_000;
/// After a nudge, or a new link, an offer goes out this much later, ± 25 %.
pub const NUDGE_MS: u64 = 400;
/// Before the first retry, ± 25 %; doubles with each failure.
pub const BACKOFF_MIN_MS: u64 = 1_000;
/// Between two retries at most, ± 25 %.
pub const BACKOFF_MAX_MS: u64 = 120_000;
/// Between two offers to one peer at least. Offers that come four times as fast are ignored.
pub const OFFER_GAP_MS: u64 = 1_000;
/// Peers known, linked or not, at most: more links are ignored.
pub const MAX_PEERS: usize = 1_024;
/// Turns in a session, at most.
pub const MAX_TURNS: u32 = 1_024;
/// The first batch of cells. It tells twenty tips, so ten chains that moved on, in 98 of 100
/// sessions.
pub const FIRST_CELLS: u32 = 48;
/// A frontier of so many chains is told rather than coded.
pub const SMALL_FRONTIER: u64 = 16;
/// A frontier so many times smaller than the other is told rather than coded.
pub const MUCH_SMALLER: u64 = 4;

/// What the parent asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Our holdings changed: the author's chain now ends here.
    Advance(Tip),
    /// Sync with a peer now, whatever came before.
    Start {
        /// Must be linked, or the session fails at once.
        peer: NodeId,
    },
    /// Sync with all linked peers soon, except those that are failing.
    Nudge,
}

/// What the parent is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Both frontiers are equal.
    Same {
        /// With whom.
        peer: NodeId,
    },
    /// Chains to act upon. Comes once a session at least, and once for each page of a long one.
    Differs {
        /// With whom.
        peer: NodeId,
        /// At most [`MAX_TIPS_PER_MESSAGE`]. Empty if the peer acts upon all of them.
        chains: Vec<Chain>,
    },
    /// A session broke off; it is retried.
    Failed {
        /// With whom.
        peer: NodeId,
        /// Why.
        reason: Reason,
    },
}

/// A chain that two nodes hold differently, as both frontiers were when the session began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Chain {
    /// Whose chain: as the peer says, if `mine` is `None`.
    pub author: NodeId,
    /// What we hold; `None` for nothing.
    pub mine: Option<Tip>,
    /// What the peer says it holds; `None` for nothing.
    pub theirs: Option<WireTip>,
}

impl Chain {
    fn new(author: NodeId, mine: Option<Tip>, theirs: Option<WireTip>) -> Chain {
        let mine = mine.filter(|tip| !tip.is_absent());
        Chain { author, mine, theirs: theirs.and_then(WireTip::present) }
    }
}

/// Why a session failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Nothing was heard for [`SESSION_TIMEOUT_MS`].
    Timeout,
    /// The peer does not keep to the protocol.
    Misbehaved,
    /// The link is down.
    Unlinked,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Timeout => "the peer did not answer in time",
            Reason::Misbehaved => "the peer does not keep to the sync protocol",
            Reason::Unlinked => "there is no link to the peer",
        })
    }
}

/// How the last session with a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Equal frontiers.
    Same,
    /// Differences found and told.
    Differed,
    /// Broken off.
    Failed(Reason),
}

/// What is known of syncing with one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether there is a link.
    pub linked: bool,
    /// The last outcome, and when.
    pub last: Option<(Outcome, Time)>,
    /// Failures since the last success.
    pub failures: u32,
    /// Sessions we started.
    pub started: u64,
    /// Sessions, of both sides, that found equal frontiers.
    pub same: u64,
    /// Sessions, of both sides, that found differences.
    pub differed: u64,
    /// Sessions, of both sides, that broke off.
    pub failed: u64,
}

/// Reconciles this node's frontier of one store with its peers'. See the [module](self).
///
/// Keeps nothing durable: after [`Input::Start`] the parent tells the tips it has by
/// [`Command::Advance`].
#[derive(Clone, Debug, Default)]
pub struct Sync {
    frontier: Frontier,
    peers: BTreeMap<NodeId, Peer>,
}

#[derive(Clone, Debug)]
struct Peer {
    id: NodeId,
    status: Status,
    /// When to offer next, while linked.
    due: Time,
    /// A nudge or start came during our session: another is due after it.
    again: bool,
    offered_at: Option<Time>,
    /// The last offer accepted from the peer: a duplicate of it must not open a second session.
    served: Option<(Nonce, Time)>,
    ours: Option<Session<Initiator>>,
    theirs: Option<Session<Responder>>,
}

#[derive(Clone, Debug)]
struct Session<Side> {
    nonce: Nonce,
    turn: u32,
    expires: Time,
    /// Whether any difference was reported.
    reported: bool,
    side: Side,
}

/// What a step works with.
struct Scope<'a> {
    cx: Cx,
    random: ChaCha8Rng,
    fx: &'a mut dyn Effects<Sync>,
}

impl Scope<'_> {
    /// `ms` from now, ± 25 %, so that nodes that act at once by chance do not go on doing so.
    fn after_about(&mut self, ms: u64) -> Time {
        let us = ms * 1_000;
        self.cx.now.after_us(us * 3 / 4 + self.random.next_u64() % (us / 2 + 1))
    }

    fn nonce(&mut self) -> Nonce {
        Nonce(self.random.next_u64().to_le_bytes())
    }
}

impl Sync {
    /// Our own holdings.
    #[must_use]
    pub fn frontier(&self) -> &Frontier {
        &self.frontier
    }

    /// What is known of syncing with each peer.
    pub fn status(&self) -> impl Iterator<Item = (NodeId, Status)> {
        self.peers.iter().map(|(id, peer)| (*id, peer.status))
    }

    fn link(&mut self, scope: &mut Scope<'_>, id: NodeId, up: bool) {
        if up {
            if !self.peers.contains_key(&id) && self.peers.len() >= MAX_PEERS {
                let gone = self.peers.iter().find(|(_, peer)| !peer.status.linked);
                let Some((&gone, _)) = gone else { return };
                self.peers.remove(&gone);
            }
            let peer = self.peers.entry(id).or_insert_with(|| Peer::new(id));
            peer.status.linked = true;
            peer.due = scope.after_about(NUDGE_MS);
        } else if let Some(peer) = self.peers.get_mut(&id) {
            let (ours, theirs) = (peer.ours.take(), peer.theirs.take());
            if ours.is_some() || theirs.is_some() {
                peer.fail(scope, Reason::Unlinked);
            }
            peer.status.linked = false;
        }
    }

    fn start(&mut self, scope: &mut Scope<'_>, id: NodeId) {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.status.linked) else {
            scope.fx.emit(Event::Failed { peer: id, reason: Reason::Unlinked });
            return;
        };
        peer.again |= peer.ours.is_some();
        peer.due = scope.cx.now;
        peer.offer_if_due(scope, &mut self.frontier);
    }

    fn nudge(&mut self, scope: &mut Scope<'_>) {
        for peer in self.peers.values_mut().filter(|peer| peer.status.failures == 0) {
            peer.again |= peer.ours.is_some();
            peer.due = peer.due.min(scope.after_about(NUDGE_MS));
        }
    }

    fn tick(&mut self, scope: &mut Scope<'_>) {
        let now = scope.cx.now;
        for peer in self.peers.values_mut().filter(|peer| peer.status.linked) {
            bug!(session_never_expires => continue);
            let ours = peer.ours.take_if(|session| session.expires <= now).is_some();
            let theirs = peer.theirs.take_if(|session| session.expires <= now).is_some();
            if ours || theirs {
                peer.fail(scope, Reason::Timeout);
            }
            peer.offer_if_due(scope, &mut self.frontier);
        }
    }

    fn message(&mut self, scope: &mut Scope<'_>, from: NodeId, message: Message) {
        let Some(peer) = self.peers.get_mut(&from).filter(|peer| peer.status.linked) else {
            return;
        };
        match message.body {
            Body::Offer { digest, chains } if message.turn == 0 => {
                peer.offered(scope, &mut self.frontier, message.session, digest, chains);
            }
            ref body if body.is_request() => peer.request(scope, message),
            _ => peer.answer(scope, message),
        }
    }
}

impl Peer {
    fn new(id: NodeId) -> Peer {
        Peer {
            id,
            status: Status::default(),
            due: Time::ZERO,
            again: false,
            offered_at: None,
            served: None,
            ours: None,
            theirs: None,
        }
    }

    fn offer_if_due(&mut self, scope: &mut Scope<'_>, frontier: &mut Frontier) {
        if self.ours.is_some() || self.due > scope.cx.now {
            return;
        }
        if let Some(at) = self.offered_at {
            self.due = at.after_ms(OFFER_GAP_MS);
            if self.due > scope.cx.now {
                return;
            }
        }
        let session = scope.nonce();
        let (side, body) = Initiator::open(session, frontier);
        self.ours = Some(Session::new(session, scope.cx.now, side));
        self.offered_at = Some(scope.cx.now);
        self.status.started += 1;
        scope.fx.send(self.id, Message { session, turn: 0, body });
    }

    fn offered(
        &mut self,
        scope: &mut Scope<'_>,
        frontier: &mut Frontier,
        session: Nonce,
        digest: Hash,
        chains: u64,
    ) {
        let now = scope.cx.now;
        if let Some((last, at)) = self.served
            && (last == session || now.since_us(at) < OFFER_GAP_MS * 1_000 / 4)
        {
            return;
        }
        self.served = Some((session, now));
        self.due = scope.after_about(ANTI_ENTROPY_MS);
        let (side, step) = Responder::open(frontier, session, scope.nonce(), digest, chains);
        // A session that is still open was given up by the peer: this one replaces it.
        self.theirs = self.advance(scope, Session::new(session, now, side), step);
    }

    fn request(&mut self, scope: &mut Scope<'_>, message: Message) {
        let Some(mut session) = self.theirs.take_if(|session| {
            session.nonce == message.session && session.turn + 1 == message.turn
        }) else {
            return;
        };
        session.turn += 1;
        let step = session
            .admit(message.body)
            .map_or(Next::Misbehaved.into(), |body| session.side.step(body));
        self.theirs = self.advance(scope, session, step);
    }

    fn answer(&mut self, scope: &mut Scope<'_>, message: Message) {
        let Some(mut session) = self
            .ours
            .take_if(|session| session.nonce == message.session && session.turn == message.turn)
        else {
            return;
        };
        session.turn += 1;
        let step = session
            .admit(message.body)
            .map_or(Next::Misbehaved.into(), |body| session.side.step(body));
        self.ours = self.advance(scope, session, step);
        if self.ours.is_none() && self.status.failures == 0 {
            let ms = if mem::take(&mut self.again) { NUDGE_MS } else { ANTI_ENTROPY_MS };
            self.due = scope.after_about(ms);
        }
    }

    /// Does what the step says. Gives the session back if it goes on.
    fn advance<Side>(
        &mut self,
        scope: &mut Scope<'_>,
        mut session: Session<Side>,
        step: Step,
    ) -> Option<Session<Side>> {
        let peer = self.id;
        for chains in step.chains.chunks(MAX_TIPS_PER_MESSAGE) {
            session.reported = true;
            scope.fx.emit(Event::Differs { peer, chains: chains.to_vec() });
        }
        let mut send = |body| {
            let (session, turn) = (session.nonce, session.turn);
            scope.fx.send(peer, Message { session, turn, body });
        };
        let outcome = match step.next {
            Next::Send(body) => {
                send(body);
                session.expires = scope.cx.now.after_ms(SESSION_TIMEOUT_MS);
                return Some(session);
            }
            Next::Misbehaved => {
                self.fail(scope, Reason::Misbehaved);
                return None;
            }
            Next::End { last, outcome } => {
                last.into_iter().for_each(send);
                outcome
            }
        };
        self.status.failures = 0;
        self.status.last = Some((outcome, scope.cx.now));
        if outcome == Outcome::Same {
            self.status.same += 1;
            scope.fx.emit(Event::Same { peer });
        } else {
            self.status.differed += 1;
            if !session.reported {
                scope.fx.emit(Event::Differs { peer, chains: Vec::new() });
            }
        }
        None
    }

    fn fail(&mut self, scope: &mut Scope<'_>, reason: Reason) {
        let doublings = self.status.failures.min(16);
        let most_ms = if bug!(backoff_without_bound) { u64::MAX } else { BACKOFF_MAX_MS };
        self.due = scope.after_about((BACKOFF_MIN_MS << doublings).min(most_ms));
        self.again = false;
        self.status.failures = self.status.failures.saturating_add(1);
        self.status.failed += 1;
        self.status.last = Some((Outcome::Failed(reason), scope.cx.now));
        scope.fx.emit(Event::Failed { peer: self.id, reason });
    }
}

impl<Side> Session<Side> {
    fn new(nonce: Nonce, now: Time, side: Side) -> Session<Side> {
        let expires = now.after_ms(SESSION_TIMEOUT_MS);
        Session { nonce, turn: 0, expires, reported: false, side }
    }

    /// The body, if it and the session are within their limits.
    fn admit(&self, body: Body) -> Option<Body> {
        (self.turn <= MAX_TURNS && body.is_bounded()).then_some(body)
    }
}

impl Machine for Sync {
    type Message = Message;
    type Record = Never;
    type Command = Command;
    type Event = Event;

    fn restore(&mut self, record: Never) {
        match record {}
    }

    fn handle(&mut self, cx: Cx, input: Input<Sync>, fx: &mut dyn Effects<Sync>) {
        // Frequent, and needs no randomness.
        if let Input::Command(Command::Advance(tip)) = input {
            self.frontier.set(tip);
            return;
        }
        let scope = &mut Scope { cx, random: cx.random("sync"), fx };
        match input {
            Input::Start | Input::Command(Command::Advance(_)) => {}
            Input::Message { from, message } => self.message(scope, from, message),
            Input::Command(Command::Start { peer }) => self.start(scope, peer),
            Input::Command(Command::Nudge) => self.nudge(scope),
            Input::Link { peer, up } => self.link(scope, peer, up),
            Input::Tick => self.tick(scope),
        }
    }

    fn deadline(&self) -> Option<Time> {
        let linked = self.peers.values().filter(|peer| peer.status.linked);
        linked.fold(None, |soonest, peer| {
            let ours = peer.ours.as_ref().map_or(peer.due, |session| session.expires);
            let theirs = peer.theirs.as_ref().map(|session| session.expires);
            earliest(soonest, earliest(Some(ours), theirs))
        })
    }

    fn check(&self) {
        assert!(self.peers.len() <= MAX_PEERS, "{} peers", self.peers.len());
        for (id, peer) in &self.peers {
            let busy = peer.ours.is_some() || peer.theirs.is_some();
            assert!(peer.status.linked || !busy, "a session with {id:?} outlives its link");
        }
    }
}
