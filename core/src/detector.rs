//! Failure detection: which of the peers we are linked to are alive, slow, or dead.
//!
//! **Intuition.** A peer is known to live by what arrives from it. Whoever has nothing to say is
//! asked, once a second, so that silence means something; how long a silence may last before it
//! means death depends on how long that peer's answers usually take. No detector is right about
//! every crash and every slow peer at once (Chandra and Toueg, 1996), so this one is made to be
//! right about the slow one, and pays with seconds before it is sure of the dead one.
//!
//! **The timeout** is TCP's (Jacobson and Karels; RFC 6298): a smoothed round trip plus four times
//! its smoothed deviation. A peer that always takes two seconds gets a timeout above two seconds;
//! one that becomes slow widens its own deviation. The phi-accrual detector (Hayashibara and
//! others, 2004) would turn the same history into a probability, but needs to know the distribution
//! of the delays, which faults do not have. Like TigerBeetle's `fault_detector`, we prefer a plain
//! rule that is good enough everywhere to the best rule for a model that nobody measured.
//!
//! **Suspicion before death** is SWIM's (Das, Gupta and Motivala, 2002), which lowers false alarms
//! "by modifying the protocol to allow group members to suspect a process before declaring it as
//! failed". A suspected peer is still asked, and anything it says clears it. We depart from SWIM in
//! that every node judges only its own links, since a mesh here has one link for each pair of
//! peers: nobody probes on another's behalf, and no verdict is spread.
//!
//! ```text
//! Alive ──silent for 2 intervals + timeout──▶ Suspect ──4 timeouts, at least 5 s──▶ Dead
//!   ▲                                            │                                   │
//!   └───────────────────────── anything arrives ─┴───────────────────────────────────┘
//! ```
//!
//! **Our own health** is Lifeguard's point (Dadgar, Phillips and Currey, 2017): most false alarms
//! come from an accuser that is itself slow to run. When our own tick comes much later than its
//! deadline, we were paused, and what our peers said meanwhile still waits in our sockets. The time
//! we slept is held against nobody, and nobody's state worsens until there was time to listen
//! again.
//!
//! **Clocks.** An answer carries the peer's wall clock. Together with half the round trip it tells
//! how far the peer's clock is from ours, for a warning; nothing here is decided by wall clocks.

use alloc::collections::{BTreeMap, VecDeque};

use rand_core::Rng;
use serde::{Deserialize, Serialize};

use crate::machine::{Cx, Effects, Input, Machine, Never, NodeId, Time, WallTime, earliest};

/// Peers watched at once; links beyond them are not, which [`Event::Unwatched`] says.
pub const MAX_PEERS: usize = 1024;
/// A peer is asked this often. One small message each way a second is nothing next to a link's own
/// upkeep, and a crash is noticed within seconds. The actual interval is up to an eighth shorter,
/// by chance, so that links that came up together are not served together for ever.
pub const INTERVAL_MS: u64 = 1_000;
/// A dead peer whose link stays up is asked this often, in case it comes back.
pub const DEAD_INTERVAL_MS: u64 = 5_000;
/// Silence that arouses suspicion: so many intervals and one timeout. Two, since one lost message
/// must not do it.
pub const SUSPECT_INTERVALS: u64 = 2;
/// The timeout of a peer whose round trip has not been measured: RFC 6298's former, more patient
/// initial value, for the first answer of a slow link.
pub const INITIAL_TIMEOUT_MS: u64 = 3_000;
/// A timeout is at least this: below it, scheduling delays on a busy machine look like failures.
pub const MIN_TIMEOUT_MS: u64 = 200;
/// A timeout is at most this: a peer that takes longer to answer is of no use.
pub const MAX_TIMEOUT_MS: u64 = 15_000;
/// A suspect has so many timeouts to say something.
pub const DEATH_TIMEOUTS: u64 = 4;
/// A suspect has at least this long: a stop-the-world pause, a reboot of a switch, a lid closed for
/// a moment pass within it.
pub const MIN_DEATH_MS: u64 = 5_000;
/// A tick that comes so much after its deadline means that we were paused. Far above what a loaded
/// machine delays a task, and below the shortest silence that counts.
pub const PAUSE_MS: u64 = 500;
/// Questions to a peer that may still be answered: with one a second, all that [`MAX_TIMEOUT_MS`]
/// allows for.
pub const MAX_PROBES: usize = 16;
/// Clock samples kept for a peer; the one with the shortest round trip counts. NTP's eight.
pub const CLOCK_SAMPLES: usize = 8;

/// RFC 6298's G, "a clock granularity of G seconds".
const GRANULARITY_US: u64 = 1_000;

/// What travels between peers. Nothing in it rests on anything durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Are you there?
    Ping {
        /// Random, so that it cannot be answered before it was asked.
        nonce: u64,
    },
    /// Yes.
    Pong {
        /// The question's.
        nonce: u64,
        /// The wall clock of the one who answers.
        wall: WallTime,
    },
}

/// What the parent tells the detector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Something of another protocol arrived from this peer, so it lives.
    Heard(NodeId),
}

/// What the detector tells the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The link came up, or a suspected or dead peer was heard again.
    Alive {
        /// Who.
        peer: NodeId,
    },
    /// Silent for longer than its round trip explains.
    Suspect {
        /// Who.
        peer: NodeId,
    },
    /// Silent for so long that it should leave the routing tables. Always after `Suspect`.
    Dead {
        /// Who.
        peer: NodeId,
    },
    /// The link came up, but [`MAX_PEERS`] are watched already.
    Unwatched {
        /// Who.
        peer: NodeId,
    },
}

/// What is thought of a watched peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// It says something as often as it should.
    Alive,
    /// It is silent, and may be slow.
    Suspect,
    /// It is gone.
    Dead,
}

/// The failure detector of one node. See the [module documentation](self).
///
/// A peer is watched from `Link { up: true }` to `Link { up: false }`; when its link goes down the
/// detector forgets it, and says nothing, since the parent knows.
#[derive(Clone, Debug, Default)]
pub struct Detector {
    peers: BTreeMap<NodeId, Peer>,
    /// No later than when the first peer is due. Hearing from a peer leaves it as it is: a tick too
    /// early costs less than a search of all peers for every message.
    next: Option<Time>,
    /// When the last step was.
    seen: Time,
    /// After a pause: until then, nobody's status worsens.
    grace_until: Time,
}

#[derive(Clone, Debug)]
struct Peer {
    status: Status,
    /// When `status` became what it is.
    since: Time,
    /// When anything last arrived.
    heard: Time,
    ping_at: Time,
    /// Questions not answered yet, oldest first.
    probes: VecDeque<(u64, Time)>,
    rtt: Option<RoundTrip>,
    clock: ClockFilter,
}

impl Detector {
    /// A detector that watches nobody.
    #[must_use]
    pub const fn new() -> Self {
        Self { peers: BTreeMap::new(), next: None, seen: Time::ZERO, grace_until: Time::ZERO }
    }

    /// What is thought of `peer`; `None` if it is not watched.
    #[must_use]
    pub fn status(&self, peer: NodeId) -> Option<Status> {
        self.peers.get(&peer).map(|peer| peer.status)
    }

    /// The smoothed round trip to `peer` in microseconds, once measured.
    #[must_use]
    pub fn rtt_us(&self, peer: NodeId) -> Option<u64> {
        Some(self.peers.get(&peer)?.rtt?.smoothed_us)
    }

    /// How long an answer of `peer` may take, in microseconds.
    #[must_use]
    pub fn timeout_us(&self, peer: NodeId) -> Option<u64> {
        self.peers.get(&peer).map(Peer::timeout_us)
    }

    /// How far the wall clock of `peer` is ahead of ours in milliseconds, once measured; negative
    /// if behind. Off by at most half the shortest of the last [`CLOCK_SAMPLES`] round trips, if
    /// the peer tells the truth and neither clock has just been set.
    #[must_use]
    pub fn clock_offset_ms(&self, peer: NodeId) -> Option<i64> {
        self.peers.get(&peer)?.clock.offset_ms()
    }

    /// The watched peers.
    pub fn peers(&self) -> impl Iterator<Item = (NodeId, Status)> {
        self.peers.iter().map(|(id, peer)| (*id, peer.status))
    }

    fn link_up(&mut self, cx: Cx, id: NodeId, fx: &mut dyn Effects<Self>) {
        if self.peers.contains_key(&id) {
            // A new connection. What was asked on the old one will not be answered.
            self.heard(cx, id, fx);
        } else if self.peers.len() < MAX_PEERS {
            self.peers.insert(id, Peer::new(cx.now));
            fx.emit(Event::Alive { peer: id });
        } else {
            fx.emit(Event::Unwatched { peer: id });
            return;
        }
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.probes.clear();
            peer.ping(cx, id, &mut cx.random("detector"), fx);
            self.next = earliest(self.next, Some(peer.due(self.grace_until)));
        }
    }

    fn heard(&mut self, cx: Cx, id: NodeId, fx: &mut dyn Effects<Self>) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.heard = cx.now;
        if peer.status != Status::Alive {
            peer.become_status(cx.now, Status::Alive);
            peer.ping_at = peer.ping_at.min(cx.now.after_ms(INTERVAL_MS));
            self.next = earliest(self.next, Some(peer.due(self.grace_until)));
            fx.emit(Event::Alive { peer: id });
        }
    }

    fn pong(&mut self, cx: Cx, id: NodeId, nonce: u64, wall: WallTime) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        // "RTT samples MUST NOT be made using segments that were retransmitted (and thus for which
        // it is ambiguous whether the reply was for the first instance of the packet or a later
        // instance)" (RFC 6298, 3). Every question here has its own nonce, so that an answer is
        // never ambiguous, however late, and teaches how slow the peer is. Duplicates and answers
        // to what nobody asked are signs of life and nothing more.
        let Some(at) = peer.probes.iter().position(|(asked, _)| *asked == nonce) else { return };
        let (_, sent) = peer.probes[at];
        peer.probes.drain(..=at);
        let sample_us = cx.now.since_us(sent);
        match &mut peer.rtt {
            None => peer.rtt = Some(RoundTrip::first(sample_us)),
            Some(rtt) => rtt.next(sample_us),
        }
        peer.clock.sample(sample_us, wall, cx.wall);
    }

    fn tick(&mut self, cx: Cx, fx: &mut dyn Effects<Self>) {
        let mut random = cx.random("detector");
        self.next = None;
        for (id, peer) in &mut self.peers {
            if peer.worsens_at(self.grace_until).is_some_and(|at| at <= cx.now) {
                if peer.status == Status::Alive {
                    peer.become_status(cx.now, Status::Suspect);
                    fx.emit(Event::Suspect { peer: *id });
                } else {
                    peer.become_status(cx.now, Status::Dead);
                    fx.emit(Event::Dead { peer: *id });
                }
            }
            if peer.ping_at <= cx.now && !bug!(ping_timer_stands_still) {
                peer.ping(cx, *id, &mut random, fx);
            }
            self.next = earliest(self.next, Some(peer.due(self.grace_until)));
        }
        assert!(self.next.is_none_or(|next| next > cx.now), "a tick must move the deadline");
    }

    /// Notices that we did not run for a while, and takes that time out of everyone's account.
    fn wake(&mut self, now: Time) {
        let late_us = self.next.map_or(0, |due| now.since_us(due.max(self.seen)));
        self.seen = now;
        if late_us < PAUSE_MS * 1_000 {
            return;
        }
        self.grace_until = now.after_ms(INTERVAL_MS);
        for peer in self.peers.values_mut() {
            peer.heard = peer.heard.after_us(late_us).min(now);
            peer.since = peer.since.after_us(late_us).min(now);
            // The answers lay in our sockets for as long as we slept: they measure us.
            peer.probes.clear();
        }
    }
}

impl Machine for Detector {
    type Message = Message;
    type Record = Never;
    type Command = Command;
    type Event = Event;

    fn restore(&mut self, record: Never) {
        match record {}
    }

    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        self.wake(cx.now);
        match input {
            Input::Start => {}
            Input::Message { from, message } => {
                // Before `heard`, so that the timeout a late answer teaches counts at once.
                match message {
                    Message::Ping { nonce } => {
                        fx.send_now(from, Message::Pong { nonce, wall: cx.wall });
                    }
                    Message::Pong { nonce, wall } => self.pong(cx, from, nonce, wall),
                }
                self.heard(cx, from, fx);
            }
            Input::Command(Command::Heard(peer)) => self.heard(cx, peer, fx),
            Input::Link { peer, up: true } => self.link_up(cx, peer, fx),
            Input::Link { peer, up: false } => {
                self.peers.remove(&peer);
                if self.peers.is_empty() {
                    self.next = None;
                }
            }
            Input::Tick => self.tick(cx, fx),
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.next
    }

    fn check(&self) {
        assert!(self.peers.len() <= MAX_PEERS);
        assert_eq!(self.next.is_none(), self.peers.is_empty());
        for (id, peer) in &self.peers {
            assert!(peer.probes.len() <= MAX_PROBES);
            assert!(self.next <= Some(peer.due(self.grace_until)), "{id:?} is forgotten");
            assert!(peer.heard <= self.seen && peer.since <= self.seen);
        }
    }
}

impl Peer {
    fn new(now: Time) -> Self {
        Self {
            status: Status::Alive,
            since: now,
            heard: now,
            ping_at: now,
            probes: VecDeque::new(),
            rtt: None,
            clock: ClockFilter::default(),
        }
    }

    fn become_status(&mut self, now: Time, status: Status) {
        self.status = status;
        self.since = now;
    }

    fn timeout_us(&self) -> u64 {
        let timeout_us = self.rtt.map_or(INITIAL_TIMEOUT_MS * 1_000, RoundTrip::timeout_us);
        timeout_us.clamp(MIN_TIMEOUT_MS * 1_000, MAX_TIMEOUT_MS * 1_000)
    }

    /// When the status becomes worse if nothing arrives.
    fn worsens_at(&self, grace_until: Time) -> Option<Time> {
        let timeout_us = self.timeout_us();
        let at = match self.status {
            Status::Alive => {
                self.heard.after_ms(SUSPECT_INTERVALS * INTERVAL_MS).after_us(timeout_us)
            }
            Status::Suspect => {
                self.since.after_us((DEATH_TIMEOUTS * timeout_us).max(MIN_DEATH_MS * 1_000))
            }
            Status::Dead => return None,
        };
        Some(at.max(grace_until))
    }

    /// When something is to be done about this peer.
    fn due(&self, grace_until: Time) -> Time {
        self.worsens_at(grace_until).map_or(self.ping_at, |at| at.min(self.ping_at))
    }

    fn ping(&mut self, cx: Cx, id: NodeId, random: &mut impl Rng, fx: &mut dyn Effects<Detector>) {
        let nonce = random.next_u64();
        if self.probes.len() == MAX_PROBES {
            self.probes.pop_front();
        }
        self.probes.push_back((nonce, cx.now));
        let interval_ms = if self.status == Status::Dead { DEAD_INTERVAL_MS } else { INTERVAL_MS };
        let sooner_ms = u64::from(random.next_u32()) % (interval_ms / 8);
        self.ping_at = cx.now.after_ms(interval_ms - sooner_ms);
        fx.send_now(id, Message::Ping { nonce });
    }
}

/// RFC 6298, section 2, in whole microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RoundTrip {
    smoothed_us: u64,
    deviation_us: u64,
}

impl RoundTrip {
    /// "When the first RTT measurement R is made, the host MUST set SRTT <- R, RTTVAR <- R/2".
    const fn first(sample_us: u64) -> Self {
        Self { smoothed_us: sample_us, deviation_us: sample_us / 2 }
    }

    fn next(&mut self, sample_us: u64) {
        let Self { smoothed_us, deviation_us } = *self;
        // "RTTVAR <- (1 - beta) * RTTVAR + beta * |SRTT - R'|", beta = 1/4
        self.deviation_us = deviation_us - deviation_us / 4 + smoothed_us.abs_diff(sample_us) / 4;
        // "SRTT <- (1 - alpha) * SRTT + alpha * R'", alpha = 1/8
        self.smoothed_us = smoothed_us - smoothed_us / 8 + sample_us / 8;
    }

    /// "RTO <- SRTT + max (G, K*RTTVAR)", K = 4. There is no back-off: we ask at an interval that
    /// does not depend on the timeout, and never repeat a question.
    fn timeout_us(self) -> u64 {
        self.smoothed_us + GRANULARITY_US.max(4 * self.deviation_us)
    }
}

/// NTP's clock filter: "uses a sliding window of eight samples and picks out the sample with the
/// least expected error". The error of one is at most half its round trip.
#[derive(Clone, Copy, Debug, Default)]
struct ClockFilter {
    /// Round trip and offset; a ring.
    samples: [Option<(u64, i64)>; CLOCK_SAMPLES],
    next: usize,
}

impl ClockFilter {
    fn sample(&mut self, rtt_us: u64, theirs: WallTime, ours: WallTime) {
        // The answer left half a round trip ago, as far as one can know.
        let theirs_ms = theirs.0.saturating_add(rtt_us / 2_000);
        let offset_ms = i128::from(theirs_ms) - i128::from(ours.0);
        let offset_ms = offset_ms.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
        self.samples[self.next] = Some((rtt_us, offset_ms));
        self.next = (self.next + 1) % CLOCK_SAMPLES;
    }

    fn offset_ms(&self) -> Option<i64> {
        let best = self.samples.iter().flatten().min_by_key(|(rtt_us, _)| *rtt_us)?;
        Some(best.1)
    }
}

#[cfg(test)]
mod tests;
