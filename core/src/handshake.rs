//! The handshake: what two nodes agree on before they say anything else.
//!
//! The link below has already proved who is at either end and encrypts what passes. What it cannot
//! know is whether the two speak the same protocol and belong to the same mesh. So each end
//! introduces itself, and each end judges the other:
//!
//! - **Version.** Both name the highest version they speak and the lowest they still accept. The
//!   lower of the two highest is spoken, if neither end finds it too low.
//! - **Features.** What both know is used. An older peer gets the subset it knows.
//! - **Network.** The mesh's root store. A node of another mesh is refused, and told so.
//! - The parent may refuse for reasons of its own: not a member, removed, no room.
//!
//! What a version after ours adds to an introduction goes into `extension`, which is carried and
//! not looked at; a reason we do not know is [`Reason::Unknown`]. So an older node can always read
//! a newer one's messages well enough to agree or to refuse.
//!
//! **Cases.** A link loses, repeats and reorders messages here, since the simulator's does, and
//! since a peer restarts at any moment. Therefore it is a challenge and an answer, from each end:
//!
//! ```text
//! one                                              other
//!  │ Hello { nonce 1, introduction of one }  ─────▶  │ judges one
//!  │ ◀─────  Welcome { nonce 1, introduction of other }
//!  │ judges other: open                              │
//!  │          the same in the other direction        │
//! ```
//!
//! A Hello is repeated until its Welcome comes. The nonce is new for each round of greeting, so a
//! Welcome proves that the peer, in the session that the Welcome names, was there after the round
//! began: that alone opens. A Hello proves nothing, for it may be an old one come late. It is
//! always answered; if it names a session other than the one that is open, the peer may have
//! restarted, and we ask with a Hello of our own. If it did, the Welcome names the new session:
//! closed, and opened again. If the Hello was a ghost, the Welcome names the session that is open,
//! and nothing happens. Nothing follows from a Welcome but that, so the two cannot keep each other
//! busy.
//!
//! A refusal names the session it is for. After it the link is of no more use and is to be closed;
//! until then every Hello is answered with the same refusal. One refusal ends it for both,
//! whichever end speaks first.
//!
//! The challenge is TCP's lesson: "The principle reason for the three-way handshake is to prevent
//! old duplicate connection initiations from causing confusion" (RFC 793, 3.4).

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use rand_core::Rng;

use crate::hash::Hash;
use crate::machine::{Cx, Effects, Input, Machine, Never, NodeId, Time, earliest};

pub use message::{Introduction, Message, Reason, feature};

mod message;

/// The protocol this code speaks.
pub const PROTOCOL_VERSION: u16 = 1;
/// The oldest protocol this code still speaks.
pub const MIN_PROTOCOL_VERSION: u16 = 1;
/// Links greeted on at once; the next is refused with [`Reason::Full`].
pub const MAX_PEERS: usize = 1024;
/// Bytes of an address in an introduction, far above any `host:port` in use.
pub const MAX_ADDRESS: usize = 255;
/// Bytes of an introduction's extension.
pub const MAX_EXTENSION: usize = 1024;
/// A Hello is repeated after this time. Above most round trips; a repetition too many is harmless.
pub const RETRY_MS: u64 = 500;
/// A Hello is sent at most so often in a round: with [`RETRY_MS`], a peer has ten seconds.
pub const HELLO_ATTEMPTS: u32 = 20;
/// A refusal is sent so often unasked, in case one is lost before the link is closed.
pub const REFUSE_ATTEMPTS: u32 = 3;

/// Why a handshake came to nothing without a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// [`HELLO_ATTEMPTS`] Hellos were not answered.
    Silent,
}

/// What the parent asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// The node belongs to this mesh from now on: every link is greeted on anew.
    Network(Hash),
    /// Where the node listens from now on; told to those who link up later.
    Address(Option<String>),
    /// Refuses the peer for a reason of the parent's, until its link comes up again.
    Refuse {
        /// Whom.
        peer: NodeId,
        /// Why.
        reason: Reason,
    },
}

/// What the parent is told. `Opened` and `Closed` of a peer alternate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Both ends accept each other. The peer may have been told so a little before us, or may be a
    /// little after: what it says of other protocols before `Opened` is early, not wrong.
    Opened {
        /// Who.
        peer: NodeId,
        /// The version to be spoken.
        version: u16,
        /// Bits of [`feature`] that both know.
        features: u64,
        /// The peer's, for this link and this life of its process.
        session: u64,
        /// Where it says that it listens.
        address: Option<String>,
    },
    /// What was open is not any more: the link went down, the peer restarted (`Opened` follows), a
    /// refusal (`Refused` or `RefusedBy` follows), or another network was chosen.
    Closed {
        /// Who.
        peer: NodeId,
    },
    /// We refused the peer. Its link is to be closed.
    Refused {
        /// Whom.
        peer: NodeId,
        /// Why.
        reason: Reason,
    },
    /// The peer refused us. Its link is to be closed.
    RefusedBy {
        /// Who.
        peer: NodeId,
        /// Why.
        reason: Reason,
    },
    /// The peer does not answer. Its link is to be closed.
    Failed {
        /// Who.
        peer: NodeId,
        /// Why.
        reason: Failure,
    },
}

/// What a node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The highest version it speaks.
    pub version: u16,
    /// The lowest, at most `version`.
    pub min_version: u16,
    /// Bits of [`feature`].
    pub features: u64,
    /// The root store of its mesh.
    pub network: Hash,
    /// Where it listens; at most [`MAX_ADDRESS`] bytes.
    pub address: Option<String>,
}

impl Config {
    /// What this code can do, in the mesh `network`.
    #[must_use]
    pub const fn new(network: Hash, address: Option<String>) -> Self {
        Self {
            version: PROTOCOL_VERSION,
            min_version: MIN_PROTOCOL_VERSION,
            features: feature::ALL,
            network,
            address,
        }
    }
}

/// The handshakes of one node with all its peers. See the [module documentation](self).
#[derive(Clone, Debug)]
pub struct Handshake {
    config: Config,
    peers: BTreeMap<NodeId, Peer>,
    /// No later than the first `retry_at`.
    next: Option<Time>,
    refused: BTreeMap<Reason, u64>,
    refused_by: BTreeMap<Reason, u64>,
}

#[derive(Clone, Debug)]
struct Peer {
    /// Ours, on this link.
    session: u64,
    /// Of the present round of greeting, or of the last.
    nonce: u64,
    /// When the Hello, or the refusal, is repeated; none if neither is.
    retry_at: Option<Time>,
    /// How often still.
    attempts: u32,
    /// The session that the peer named last: whom a refusal is for.
    theirs: Option<u64>,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open(Agreement),
    Refused(Reason),
    RefusedBy,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Agreement {
    version: u16,
    features: u64,
    session: u64,
    address: Option<String>,
}

impl Handshake {
    /// A node that introduces itself as `config` says, without links.
    ///
    /// # Panics
    ///
    /// If `config` is one that peers would call malformed.
    #[must_use]
    pub fn new(config: Config) -> Self {
        assert!(config.min_version <= config.version, "speaks no version");
        assert!(fits(config.address.as_ref()), "an address of more than {MAX_ADDRESS} bytes");
        let (refused, refused_by) = (BTreeMap::new(), BTreeMap::new());
        Self { config, peers: BTreeMap::new(), next: None, refused, refused_by }
    }

    /// Whether both ends accepted each other.
    #[must_use]
    pub fn is_open(&self, peer: NodeId) -> bool {
        self.agreement(peer).is_some()
    }

    /// The version agreed with an open peer.
    #[must_use]
    pub fn version(&self, peer: NodeId) -> Option<u16> {
        self.agreement(peer).map(|agreement| agreement.version)
    }

    /// The bits of [`feature`] agreed with an open peer.
    #[must_use]
    pub fn features(&self, peer: NodeId) -> Option<u64> {
        self.agreement(peer).map(|agreement| agreement.features)
    }

    /// How often we refused, by reason.
    #[must_use]
    pub const fn refused(&self) -> &BTreeMap<Reason, u64> {
        &self.refused
    }

    /// How often we were refused, by reason; all unknown ones count as `Unknown(0)`.
    #[must_use]
    pub const fn refused_by(&self) -> &BTreeMap<Reason, u64> {
        &self.refused_by
    }

    fn agreement(&self, peer: NodeId) -> Option<&Agreement> {
        match &self.peers.get(&peer)?.state {
            State::Open(agreement) => Some(agreement),
            State::Closed | State::Refused(_) | State::RefusedBy => None,
        }
    }

    fn introduction(&self, session: u64) -> Introduction {
        Introduction {
            version: self.config.version,
            min_version: self.config.min_version,
            features: self.config.features,
            network: self.config.network,
            session,
            address: self.config.address.clone(),
            extension: Vec::new(),
        }
    }

    /// What we agree on with the one who introduces itself so, or why on nothing.
    fn judge(&self, introduction: &Introduction) -> Result<Agreement, Reason> {
        let theirs = introduction;
        if theirs.min_version > theirs.version
            || !fits(theirs.address.as_ref())
            || theirs.extension.len() > MAX_EXTENSION
        {
            return Err(Reason::Malformed);
        }
        if theirs.version < self.config.min_version {
            return Err(Reason::TooOld);
        }
        if theirs.min_version > self.config.version {
            return Err(Reason::TooNew);
        }
        // After the version: what a network is may change with it.
        if theirs.network != self.config.network {
            return Err(Reason::OtherNetwork);
        }
        Ok(Agreement {
            version: theirs.version.min(self.config.version),
            features: theirs.features & self.config.features,
            session: theirs.session,
            address: theirs.address.clone(),
        })
    }

    /// A new session with the peer at the other end of its link, whatever was before.
    fn start(&mut self, cx: Cx, id: NodeId, random: &mut impl Rng, fx: &mut dyn Effects<Self>) {
        let session = random.next_u64();
        let fresh = Peer {
            session,
            nonce: 0,
            retry_at: None,
            attempts: 0,
            theirs: None,
            state: State::Closed,
        };
        let before = self.peers.insert(id, fresh);
        if before.is_some_and(|peer| matches!(peer.state, State::Open(_))) {
            fx.emit(Event::Closed { peer: id });
        }
        self.greet(cx, id, random, fx);
    }

    /// Begins a round of greeting.
    fn greet(&mut self, cx: Cx, id: NodeId, random: &mut impl Rng, fx: &mut dyn Effects<Self>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.nonce = random.next_u64();
        peer.attempts = HELLO_ATTEMPTS;
        self.repeat(cx, id, fx);
    }

    /// Sends what is being repeated, or gives up.
    fn repeat(&mut self, cx: Cx, id: NodeId, fx: &mut dyn Effects<Self>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if peer.attempts == 0 {
            peer.retry_at = None;
            // A peer that is open and does not answer is the failure detector's to judge.
            if peer.state == State::Closed {
                fx.emit(Event::Failed { peer: id, reason: Failure::Silent });
            }
            return;
        }
        peer.attempts -= 1;
        peer.retry_at = Some(cx.now.after_ms(RETRY_MS));
        self.next = earliest(self.next, peer.retry_at);
        bug!(greeting_never_repeated => if peer.attempts + 1 < HELLO_ATTEMPTS { return });
        match (&peer.state, peer.theirs) {
            (State::Closed | State::Open(_), _) => {
                let (nonce, session) = (peer.nonce, peer.session);
                let introduction = self.introduction(session);
                fx.send(id, Message::Hello { nonce, introduction });
            }
            (State::Refused(reason), Some(session)) => {
                fx.send(id, Message::Refuse { session, reason: *reason });
            }
            // Whom the refusal is for is not known before it says Hello.
            (State::Refused(_), None) | (State::RefusedBy, _) => peer.retry_at = None,
        }
    }

    fn refuse(&mut self, cx: Cx, id: NodeId, reason: Reason, fx: &mut dyn Effects<Self>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        match peer.state {
            State::Closed => {}
            State::Open(_) => fx.emit(Event::Closed { peer: id }),
            State::Refused(_) | State::RefusedBy => return,
        }
        peer.state = State::Refused(reason);
        peer.attempts = REFUSE_ATTEMPTS;
        count(&mut self.refused, reason);
        fx.emit(Event::Refused { peer: id, reason });
        self.repeat(cx, id, fx);
    }

    fn hello(
        &mut self,
        cx: Cx,
        id: NodeId,
        nonce: u64,
        theirs: &Introduction,
        fx: &mut dyn Effects<Self>,
    ) {
        let Some(peer) = self.peers.get_mut(&id) else {
            // Without a place there is no memory of it either. Otherwise our end of the link is not
            // up yet, and it will ask again.
            if self.peers.len() >= MAX_PEERS {
                let reason = Reason::Full;
                fx.send(id, Message::Refuse { session: theirs.session, reason });
            }
            return;
        };
        peer.theirs = Some(theirs.session);
        match &peer.state {
            State::Refused(reason) => {
                let (session, reason) = (theirs.session, *reason);
                return fx.send(id, Message::Refuse { session, reason });
            }
            State::RefusedBy => return,
            State::Closed | State::Open(_) => {}
        }
        let (greeting, session) = (peer.retry_at.is_some(), peer.session);
        let open = self.agreement(id).map(|agreement| agreement.session);
        match self.judge(theirs) {
            Ok(_) => {
                let introduction = self.introduction(session);
                fx.send(id, Message::Welcome { nonce, introduction });
            }
            // A ghost must not end what is open: whoever is there now will answer our Hello.
            Err(_) if open.is_some() => {}
            Err(reason) => return self.refuse(cx, id, reason, fx),
        }
        if open != Some(theirs.session) && !greeting {
            self.greet(cx, id, &mut cx.random("handshake"), fx);
        }
    }

    fn welcome(
        &mut self,
        cx: Cx,
        id: NodeId,
        nonce: u64,
        theirs: &Introduction,
        fx: &mut dyn Effects<Self>,
    ) {
        let judgement = self.judge(theirs);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let greeting = peer.retry_at.is_some() && peer.nonce == nonce;
        if !greeting || matches!(peer.state, State::Refused(_) | State::RefusedBy) {
            return;
        }
        peer.theirs = Some(theirs.session);
        let agreement = match judgement {
            Ok(agreement) => agreement,
            Err(reason) => return self.refuse(cx, id, reason, fx),
        };
        peer.retry_at = None;
        if let State::Open(open) = &peer.state {
            if open.session == agreement.session {
                return;
            }
            fx.emit(Event::Closed { peer: id });
        }
        peer.state = State::Open(agreement.clone());
        let Agreement { version, features, session, address } = agreement;
        fx.emit(Event::Opened { peer: id, version, features, session, address });
    }

    fn refused_from(
        &mut self,
        id: NodeId,
        session: u64,
        reason: Reason,
        fx: &mut dyn Effects<Self>,
    ) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        // One for another session is a ghost.
        if peer.session != session {
            return;
        }
        match peer.state {
            State::Closed => {}
            State::Open(_) => fx.emit(Event::Closed { peer: id }),
            State::Refused(_) | State::RefusedBy => return,
        }
        peer.state = State::RefusedBy;
        peer.retry_at = None;
        let counted = if let Reason::Unknown(_) = reason { Reason::Unknown(0) } else { reason };
        count(&mut self.refused_by, counted);
        fx.emit(Event::RefusedBy { peer: id, reason });
    }

    fn link(&mut self, cx: Cx, id: NodeId, up: bool, fx: &mut dyn Effects<Self>) {
        if !up {
            let before = self.peers.remove(&id);
            if before.is_some_and(|peer| matches!(peer.state, State::Open(_))) {
                fx.emit(Event::Closed { peer: id });
            }
        } else if self.peers.len() >= MAX_PEERS && !self.peers.contains_key(&id) {
            count(&mut self.refused, Reason::Full);
            fx.emit(Event::Refused { peer: id, reason: Reason::Full });
        } else {
            self.start(cx, id, &mut cx.random("handshake"), fx);
        }
    }

    fn command(&mut self, cx: Cx, command: Command, fx: &mut dyn Effects<Self>) {
        match command {
            Command::Network(network) if network == self.config.network => {}
            Command::Network(network) => {
                self.config.network = network;
                let mut random = cx.random("handshake");
                let ids: Vec<NodeId> = self.peers.keys().copied().collect();
                for id in ids {
                    self.start(cx, id, &mut random, fx);
                }
            }
            Command::Address(address) => {
                assert!(fits(address.as_ref()), "an address of more than {MAX_ADDRESS} bytes");
                self.config.address = address;
            }
            Command::Refuse { peer, reason } => self.refuse(cx, peer, reason, fx),
        }
    }

    fn tick(&mut self, cx: Cx, fx: &mut dyn Effects<Self>) {
        let due = |peer: &Peer| peer.retry_at.is_some_and(|at| at <= cx.now);
        let ids: Vec<NodeId> =
            self.peers.iter().filter(|(_, peer)| due(peer)).map(|(id, _)| *id).collect();
        for id in ids {
            self.repeat(cx, id, fx);
        }
        self.next = self.peers.values().filter_map(|peer| peer.retry_at).min();
        assert!(self.next.is_none_or(|next| next > cx.now), "a tick must move the deadline");
    }
}

impl Machine for Handshake {
    type Message = Message;
    type Record = Never;
    type Command = Command;
    type Event = Event;

    fn restore(&mut self, record: Never) {
        match record {}
    }

    // Everything here is sent held: a refusal may rest on a record that is not durable yet.
    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        match input {
            Input::Start => {}
            Input::Message { from, message: Message::Hello { nonce, introduction } } => {
                self.hello(cx, from, nonce, &introduction, fx);
            }
            Input::Message { from, message: Message::Welcome { nonce, introduction } } => {
                self.welcome(cx, from, nonce, &introduction, fx);
            }
            Input::Message { from, message: Message::Refuse { session, reason } } => {
                self.refused_from(from, session, reason, fx);
            }
            Input::Command(command) => self.command(cx, command, fx),
            Input::Link { peer, up } => self.link(cx, peer, up, fx),
            Input::Tick => self.tick(cx, fx),
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.next
    }

    fn check(&self) {
        assert!(self.peers.len() <= MAX_PEERS);
        for (id, peer) in &self.peers {
            let due = earliest(self.next, peer.retry_at);
            assert_eq!(due, self.next, "{id:?} is forgotten");
            if let State::Open(agreement) = &peer.state {
                assert!(agreement.version >= self.config.min_version);
                assert!(agreement.version <= self.config.version);
                assert_eq!(agreement.features & !self.config.features, 0);
            }
        }
    }
}

fn fits(address: Option<&String>) -> bool {
    address.is_none_or(|address| address.len() <= MAX_ADDRESS)
}

fn count(counters: &mut BTreeMap<Reason, u64>, reason: Reason) {
    *counters.entry(reason).or_insert(0) += 1;
}

#[cfg(test)]
mod tests;
