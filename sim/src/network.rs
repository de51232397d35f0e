//! The network: which nodes are connected, and what becomes of a message.
//!
//! **Connections.** A pair of nodes that the topology allows is connected some time after both run
//! and neither direction is cut. Each connection has an *epoch*; both ends are told of it, each
//! after a delay of its own. It ends when either end is told that it is down, or when a process at
//! an end dies; then neither end's messages of that epoch arrive any more, and the other end is
//! told too, if the news can reach it. An end that was never told (a peer that lost power, a cut
//! that nobody noticed) is told `down` and at once `up` when the next connection comes to be, as
//! a host does that finds a newer connection of the same peer. Told ends alternate strictly.
//!
//! **Cuts** take away one direction between two nodes, for what is sent and for what is on its way.
//! Whether the end that hears nothing any more is told of it, and when, is drawn for each cut; if
//! not, the connection lives on when the cut heals, and only the messages are missing.
//!
//! **Messages** of one direction arrive in order, unless a reordering is drawn for one. Loss,
//! duplication and delays are drawn for each. *Stale* arrivals are the exception to the epochs: by
//! that chance a message whose connection has ended still arrives in a later one, as it can through
//! a relay or over datagrams. It is off unless conditions turn it on.
//!
//! *Replays* are copies that arrive much later, as from a recording: in the same connection, or, if
//! conditions say so, in any later one. A *corrupt* message is one whose bits changed on the way:
//! [`System::corrupt`](crate::System::corrupt) says what the machine gets; mostly the transport's
//! checksum finds it, and the link breaks. A *clogged* direction holds what would arrive.
//!
//! A message to oneself does not pass through here: it arrives a microsecond after it was sent.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::latency::{Distribution, Regions};
use crate::prng::{Ratio, Rng, Span};

/// What waits longer than this for limited bandwidth is dropped, in microseconds.
const SEND_QUEUE_US: u64 = 5_000_000;

/// Marks the epoch of a replay, so that it is known when it arrives.
pub(crate) const REPLAY: u32 = 1 << 31;

/// How the network is when no fault of the schedule touches it; constant over a run's active phase.
/// Durations are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetworkConditions {
    /// How long a message takes.
    pub latency_us: Span,
    /// How that is drawn.
    pub distribution: Distribution,
    /// By this chance a message takes `tail_factor` times as long.
    pub tail: Ratio,
    /// How much longer the slow ones take.
    pub tail_factor: u32,
    /// How many are lost.
    pub loss: Ratio,
    /// How many arrive twice.
    pub duplicate: Ratio,
    /// How many may overtake and be overtaken.
    pub reorder: Ratio,
    /// How many messages of an ended connection arrive in a later one.
    pub stale: Ratio,
    /// How many arrive once more, much later.
    pub replay: Ratio,
    /// How much later.
    pub replay_after_us: Span,
    /// Whether a replay may arrive in another connection than its original.
    pub replay_later_links: bool,
    /// How many are corrupt when they arrive.
    pub corrupt: Ratio,
    /// How much passes in one direction between two nodes, zero for any amount; see
    /// [`System::size`](crate::System::size). Messages queue for it, up to five seconds.
    pub bytes_per_ms: u64,
    /// By this chance the end that hears nothing any more is told that its link is down.
    pub notice: Ratio,
    /// How long until it is told.
    pub notice_after_us: Span,
    /// How long two nodes that can connect take to do so.
    pub connect_after_us: Span,
    /// How long they wait after one of them closed the link.
    pub reconnect_after_us: Span,
}

impl NetworkConditions {
    /// A quick and faultless network: 1 to 10 ms.
    pub const CALM: NetworkConditions = NetworkConditions {
        latency_us: Span::new(1_000, 10_000),
        distribution: Distribution::Uniform,
        tail: Ratio::NEVER,
        tail_factor: 1,
        loss: Ratio::NEVER,
        duplicate: Ratio::NEVER,
        reorder: Ratio::NEVER,
        stale: Ratio::NEVER,
        replay: Ratio::NEVER,
        replay_after_us: Span::new(1_000_000, 30_000_000),
        replay_later_links: false,
        corrupt: Ratio::NEVER,
        bytes_per_ms: 0,
        notice: Ratio::ALWAYS,
        notice_after_us: Span::new(50_000, 2_000_000),
        connect_after_us: Span::new(1_000, 50_000),
        reconnect_after_us: Span::new(10_000, 500_000),
    };

    /// The same distances, without the faults.
    #[must_use]
    pub fn healed(self) -> NetworkConditions {
        let NetworkConditions { latency_us, connect_after_us, reconnect_after_us, .. } = self;
        NetworkConditions {
            latency_us,
            distribution: self.distribution,
            connect_after_us,
            reconnect_after_us,
            ..NetworkConditions::CALM
        }
    }
}

/// One direction between two nodes, seen from its sender.
#[derive(Clone, Debug)]
struct Lane {
    /// How many cuts hold now.
    cuts: u32,
    /// How many clogs hold now.
    clogs: u32,
    /// Messages take this many times as long.
    slowness: u32,
    /// The epoch that the sender was told is up; zero for down.
    told: u32,
    /// When the last message that keeps the order arrives.
    last_arrival: u64,
    /// When all that was sent so far has left, where bandwidth is limited.
    busy_until: u64,
    /// For messages, and for news of links: a cut more shifts no message's draws.
    rng: Rng,
    news: Rng,
}

/// Two nodes. Kept for the lower index first.
#[derive(Clone, Debug)]
struct Pair {
    allowed: bool,
    alive: bool,
    connecting: bool,
    epoch: u32,
}

/// What becomes of a message that is being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It arrives, and perhaps again.
    Arrives { epoch: u32, at: u64, again: Option<u64>, replay: Option<u64> },
    /// It does not.
    Dropped(&'static str),
}

/// What becomes of a message that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The machine gets it.
    Accepted,
    /// The machine gets it once it was told that the link is up.
    UpFirst,
    /// It does not.
    Dropped(&'static str),
}

#[derive(Clone, Debug)]
pub(crate) struct Network {
    nodes: usize,
    lanes: Vec<Lane>,
    pairs: Vec<Pair>,
    pub(crate) conditions: NetworkConditions,
    /// Where the nodes stand, if that matters.
    regions: Option<Arc<Regions>>,
}

impl Network {
    pub(crate) fn new(
        seed: u64,
        nodes: usize,
        allowed: impl Fn(usize, usize) -> bool,
        conditions: NetworkConditions,
        regions: Option<Arc<Regions>>,
    ) -> Network {
        let lanes = (0..nodes * nodes).map(|index| Lane {
            cuts: 0,
            clogs: 0,
            slowness: 1,
            told: 0,
            last_arrival: 0,
            busy_until: 0,
            rng: Rng::stream(seed, "lane", index as u64),
            news: Rng::stream(seed, "news", index as u64),
        });
        let pairs = (0..nodes * nodes).map(|index| {
            let (a, b) = (index / nodes, index % nodes);
            let allowed = a < b && (allowed(a, b) || allowed(b, a));
            Pair { allowed, alive: false, connecting: false, epoch: 0 }
        });
        Network { nodes, lanes: lanes.collect(), pairs: pairs.collect(), conditions, regions }
    }

    #[inline]
    fn lane(&mut self, from: usize, to: usize) -> &mut Lane {
        &mut self.lanes[from * self.nodes + to]
    }

    #[inline]
    fn pair(&mut self, a: usize, b: usize) -> &mut Pair {
        &mut self.pairs[a.min(b) * self.nodes + a.max(b)]
    }

    /// Draws what becomes of a message of `bytes`.
    #[inline]
    pub(crate) fn send(&mut self, from: usize, to: usize, now: u64, bytes: u64) -> Fate {
        let conditions = &self.conditions;
        let span = match &self.regions {
            None => conditions.latency_us,
            Some(regions) => regions.latency_us(from, to),
        };
        let pair = &self.pairs[from.min(to) * self.nodes + from.max(to)];
        let (alive, epoch) = (pair.alive, pair.epoch);
        let lane = &mut self.lanes[from * self.nodes + to];
        if !alive || lane.told != epoch {
            return Fate::Dropped("no link");
        }
        if lane.cuts > 0 {
            return Fate::Dropped("cut");
        }
        if lane.rng.chance(conditions.loss) {
            return Fate::Dropped("lost");
        }
        let Some(left) = lane.leaves(now, bytes, conditions.bytes_per_ms) else {
            return Fate::Dropped("queue full");
        };
        let mut at = left + lane.latency(conditions, span);
        if !lane.rng.chance(conditions.reorder) {
            at = at.max(lane.last_arrival);
            lane.last_arrival = at;
        }
        let again = lane
            .rng
            .chance(conditions.duplicate)
            .then(|| at + lane.latency(conditions, span) * (1 + lane.rng.below(8)));
        let replay = lane
            .rng
            .chance(conditions.replay)
            .then(|| at.saturating_add(lane.rng.within(conditions.replay_after_us)));
        Fate::Arrives { epoch, at, again, replay }
    }

    /// Decides about a message of `epoch` that has come as far as `to`.
    #[inline]
    pub(crate) fn arrive(&mut self, from: usize, to: usize, epoch: u32) -> Arrival {
        let pair = &self.pairs[from.min(to) * self.nodes + from.max(to)];
        let (alive, current) = (pair.alive, pair.epoch);
        if self.lanes[from * self.nodes + to].cuts > 0 {
            return Arrival::Dropped("cut");
        }
        if !alive {
            return Arrival::Dropped("link ended");
        }
        if current != epoch && !self.replays(epoch, current) {
            let stale = self.conditions.stale;
            if !self.lane(from, to).rng.chance(stale) {
                return Arrival::Dropped("older link");
            }
        }
        if self.lanes[to * self.nodes + from].told == current {
            Arrival::Accepted
        } else {
            Arrival::UpFirst
        }
    }

    /// Whether an epoch is that of a replay, and the replay arrives. None does once faults stop.
    #[cold]
    fn replays(&self, epoch: u32, current: u32) -> bool {
        let NetworkConditions { replay, replay_later_links, .. } = self.conditions;
        let recorded = epoch & REPLAY != 0 && replay != Ratio::NEVER;
        recorded && (replay_later_links || epoch & !REPLAY == current)
    }

    /// Whether a message that arrives is corrupt, and how.
    #[inline]
    pub(crate) fn corrupts(&mut self, from: usize, to: usize) -> Option<u64> {
        let corrupt = self.conditions.corrupt;
        if corrupt.numerator == 0 {
            return None;
        }
        let rng = &mut self.lane(from, to).rng;
        rng.chance(corrupt).then(|| rng.next_u64())
    }

    /// Whether what arrives is held.
    #[inline]
    pub(crate) fn clogged(&self, from: usize, to: usize) -> bool {
        self.lanes[from * self.nodes + to].clogs > 0
    }

    pub(crate) fn clog(&mut self, from: usize, to: usize) {
        self.lane(from, to).clogs += 1;
    }

    /// One clog less; whether what was held may go.
    pub(crate) fn unclog(&mut self, from: usize, to: usize) -> bool {
        let lane = self.lane(from, to);
        lane.clogs = lane.clogs.saturating_sub(1);
        lane.clogs == 0
    }

    /// How long news of a link takes in one direction.
    pub(crate) fn latency(&mut self, from: usize, to: usize) -> u64 {
        let NetworkConditions { latency_us, distribution, .. } = self.conditions;
        let regions = self.regions.as_ref();
        let span = regions.map_or(latency_us, |regions| regions.latency_us(from, to));
        let lane = self.lane(from, to);
        distribution.draw(span, &mut lane.news) * u64::from(lane.slowness)
    }

    /// A new future.
    pub(crate) fn reseed(&mut self, seed: u64) {
        for (index, lane) in self.lanes.iter_mut().enumerate() {
            lane.rng = Rng::stream(seed, "lane", index as u64);
            lane.news = Rng::stream(seed, "news", index as u64);
        }
    }

    /// A number of `span` for a link.
    pub(crate) fn draw(&mut self, from: usize, to: usize, span: Span) -> u64 {
        self.lane(from, to).news.within(span)
    }

    /// The epoch `node` was told is up with `peer`; zero for down.
    pub(crate) fn told(&self, node: usize, peer: usize) -> u32 {
        self.lanes[node * self.nodes + peer].told
    }

    pub(crate) fn tell(&mut self, node: usize, peer: usize, epoch: u32) {
        self.lane(node, peer).told = epoch;
    }

    /// The current epoch of a pair and whether it is alive.
    pub(crate) fn connection(&self, a: usize, b: usize) -> (u32, bool) {
        let pair = &self.pairs[a.min(b) * self.nodes + a.max(b)];
        (pair.epoch, pair.alive)
    }

    /// Whether messages pass from `from` to `to`.
    pub(crate) fn open(&self, from: usize, to: usize) -> bool {
        self.lanes[from * self.nodes + to].cuts == 0
    }

    /// Whether the two should start to connect; if so they are from now on connecting.
    pub(crate) fn begin_connecting(&mut self, a: usize, b: usize) -> bool {
        let open = a != b && self.open(a, b) && self.open(b, a);
        let pair = self.pair(a, b);
        let begins = open && pair.allowed && !pair.alive && !pair.connecting;
        pair.connecting |= begins;
        begins
    }

    /// Connecting is over; a new epoch if `running` and the pair can still connect.
    pub(crate) fn finish_connecting(&mut self, a: usize, b: usize, running: bool) -> Option<u32> {
        let open = self.open(a, b) && self.open(b, a);
        let pair = self.pair(a, b);
        pair.connecting = false;
        if !running || !open || pair.alive {
            return None;
        }
        pair.alive = true;
        pair.epoch += 1;
        let epoch = pair.epoch;
        self.lane(a, b).last_arrival = 0;
        self.lane(b, a).last_arrival = 0;
        Some(epoch)
    }

    /// The connection is over, whoever knows it; whether there was one.
    pub(crate) fn end(&mut self, a: usize, b: usize) -> bool {
        std::mem::replace(&mut self.pair(a, b).alive, false)
    }

    /// Draws whether and when an end that hears nothing any more is told.
    pub(crate) fn notice(&mut self, node: usize, peer: usize) -> Option<u64> {
        let NetworkConditions { notice, notice_after_us, .. } = self.conditions;
        let news = &mut self.lane(node, peer).news;
        news.chance(notice).then(|| news.within(notice_after_us))
    }

    pub(crate) fn cut(&mut self, from: usize, to: usize) {
        self.lane(from, to).cuts += 1;
    }

    pub(crate) fn uncut(&mut self, from: usize, to: usize) {
        let lane = self.lane(from, to);
        lane.cuts = lane.cuts.saturating_sub(1);
    }

    pub(crate) fn slow(&mut self, from: usize, to: usize, slowness: u32) {
        self.lane(from, to).slowness = slowness.max(1);
    }

    /// Ends every cut, clog and slowness between the two.
    pub(crate) fn heal(&mut self, from: usize, to: usize) {
        let lane = self.lane(from, to);
        lane.cuts = 0;
        lane.clogs = 0;
        lane.slowness = 1;
    }
}

impl Lane {
    /// When a message of `bytes` has left the sender; `None` if too much waits before it.
    #[inline]
    fn leaves(&mut self, now: u64, bytes: u64, bytes_per_ms: u64) -> Option<u64> {
        if bytes_per_ms == 0 {
            return Some(now);
        }
        let begins = now.max(self.busy_until);
        if begins - now > SEND_QUEUE_US {
            return None;
        }
        self.busy_until = begins + bytes * 1_000 * u64::from(self.slowness) / bytes_per_ms;
        Some(self.busy_until)
    }

    #[inline]
    fn latency(&mut self, conditions: &NetworkConditions, span: Span) -> u64 {
        let drawn = conditions.distribution.draw(span, &mut self.rng);
        let mut latency = drawn * u64::from(self.slowness);
        if self.rng.chance(conditions.tail) {
            latency *= u64::from(conditions.tail_factor);
        }
        latency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(conditions: NetworkConditions) -> Network {
        let mut network = Network::new(1, 2, |_, _| true, conditions, None);
        assert!(network.begin_connecting(0, 1));
        assert!(!network.begin_connecting(0, 1), "once at a time");
        assert_eq!(network.finish_connecting(0, 1, true), Some(1));
        network.tell(0, 1, 1);
        network.tell(1, 0, 1);
        network
    }

    fn arrivals(network: &mut Network, count: u64) -> Vec<u64> {
        let mut arrivals = Vec::new();
        for now in 0..count {
            if let Fate::Arrives { at, again, .. } = network.send(0, 1, now * 100, 64) {
                arrivals.push(at);
                arrivals.extend(again);
            }
        }
        arrivals
    }

    #[test]
    fn order_is_kept_unless_reordering_is_drawn() {
        assert!(arrivals(&mut connected(NetworkConditions::CALM), 1_000).is_sorted());
        let reorder = Ratio::per_mille(100);
        let conditions = NetworkConditions { reorder, ..NetworkConditions::CALM };
        assert!(!arrivals(&mut connected(conditions), 1_000).is_sorted());
    }

    #[test]
    fn loss_and_duplication_follow_their_ratios() {
        let loss = NetworkConditions { loss: Ratio::per_mille(300), ..NetworkConditions::CALM };
        let left = arrivals(&mut connected(loss), 10_000).len();
        assert!((6_700..7_300).contains(&left), "{left}");
        let duplicate = Ratio::per_mille(200);
        let twice = NetworkConditions { duplicate, ..NetworkConditions::CALM };
        let more = arrivals(&mut connected(twice), 10_000).len();
        assert!((11_700..12_300).contains(&more), "{more}");
    }

    #[test]
    fn a_slow_link_and_a_heavy_tail_take_longer() {
        let flat = NetworkConditions { latency_us: Span::only(1_000), ..NetworkConditions::CALM };
        let mut network = connected(flat);
        network.slow(0, 1, 20);
        assert_eq!((network.latency(0, 1), network.latency(1, 0)), (20_000, 1_000));
        let tail = NetworkConditions { tail: Ratio::new(1, 2), tail_factor: 50, ..flat };
        let mut network = connected(tail);
        let slow = (0..1_000)
            .filter(|_| network.lane(0, 1).latency(&tail, tail.latency_us) == 50_000)
            .count();
        assert!((400..600).contains(&slow));
    }

    #[test]
    fn messages_of_an_ended_connection_do_not_arrive_unless_stale_ones_may() {
        let mut network = connected(NetworkConditions::CALM);
        assert!(network.end(0, 1));
        assert_eq!(network.arrive(0, 1, 1), Arrival::Dropped("link ended"));
        assert_eq!(network.send(0, 1, 0, 64), Fate::Dropped("no link"));
        network.begin_connecting(0, 1);
        assert_eq!(network.finish_connecting(0, 1, true), Some(2));
        assert_eq!(network.arrive(0, 1, 1), Arrival::Dropped("older link"));
        assert_eq!(network.arrive(0, 1, 2), Arrival::UpFirst);
        assert_eq!(
            network.send(0, 1, 0, 64),
            Fate::Dropped("no link"),
            "not told of the new one yet"
        );
        network.conditions.stale = Ratio::ALWAYS;
        assert_eq!(network.arrive(0, 1, 1), Arrival::UpFirst);
    }

    #[test]
    fn limited_bandwidth_queues_and_then_drops() {
        let latency_us = Span::only(1_000);
        let mut network = connected(NetworkConditions {
            latency_us,
            bytes_per_ms: 100,
            ..NetworkConditions::CALM
        });
        for n in 1..=6 {
            let Fate::Arrives { at, .. } = network.send(0, 1, 0, 100_000) else { panic!("queued") };
            assert_eq!(at, n * 1_000_000 + 1_000);
        }
        assert_eq!(network.send(0, 1, 0, 1), Fate::Dropped("queue full"));
        assert!(matches!(network.send(1, 0, 0, 1), Fate::Arrives { .. }), "the other way is free");
    }

    #[test]
    fn cuts_overlap_and_are_one_way() {
        let mut network = connected(NetworkConditions::CALM);
        network.cut(0, 1);
        network.cut(0, 1);
        assert_eq!(network.send(0, 1, 0, 64), Fate::Dropped("cut"));
        assert!(matches!(network.send(1, 0, 0, 64), Fate::Arrives { .. }));
        network.uncut(0, 1);
        assert!(!network.open(0, 1));
        network.uncut(0, 1);
        assert!(network.open(0, 1));
    }
}
