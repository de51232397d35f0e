//! Gap filling: entries that must exist, because something shown to us builds on them, are fetched.
//!
//! The intuition: a store notices a gap when it is shown an entry whose predecessor, or a tip whose
//! chain, it lacks. Whoever showed it most likely has the rest, so that peer is asked first. If it
//! is silent, or does not have them, others are asked, one at a time, until somebody fills the gap
//! or everybody was asked often enough. Then the gap is given up: periodic anti-entropy (see
//! [`crate::sync`]) finds it again, when there is someone to fill it.
//!
//! The cases:
//!
//! * *The peer answers.* The store tells how far it got ([`Command::Filled`]). That restarts the
//!   clock, and a range too long for one request goes on with the same peer.
//! * *The peer does not have it* ([`Message::NotHeld`]): the next peer is asked at once.
//! * *The peer is silent, or sends something else:* nothing is filled, and after
//!   [`ANSWER_MS`] the next is asked. A liar costs only time.
//! * *Its link goes down:* the next is asked at once.
//! * *Everybody was asked* (a *round*, at most [`MAX_PEERS_A_ROUND`] of them, at random after those
//!   who showed the gap): a pause, then another round. Times double with each round, ± 25 %.
//! * *More is missing of the same author:* the gap grows, and is still asked for once at a time.
//!
//! This is the usual retransmission discipline (one request in flight, timeouts that back off
//! exponentially, and jitter: Floyd and others, "A Reliable Multicast Framework for Light-weight
//! Sessions and Application Level Framing", 1995), except that requests go to one peer at a time
//! instead of to a group.
//!
//! The entries themselves do not pass through here: [`Event::Wanted`] tells the parent what to
//! send, and what arrives goes to the store.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;
use serde::{Deserialize, Serialize};

use crate::machine::{Cx, Effects, Input, Machine, Never, NodeId, Time};

/// How long a peer has to answer in the first round; doubles with each round.
pub const ANSWER_MS: u64 = 1_000;
/// Rounds before a gap is given up.
pub const MAX_ROUNDS: u32 = 5;
/// Peers asked in one round, at most.
pub const MAX_PEERS_A_ROUND: usize = 8;
/// Entries in one request, at most.
pub const MAX_RANGE: u64 = 4_096;
/// Gaps, so authors, at most; those beyond are given up at once.
pub const MAX_GAPS: usize = 1_024;
/// Peers remembered as having shown a gap, at most.
pub const MAX_SHOWN_BY: usize = 4;

/// What travels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Please send these entries.
    Want {
        /// Whose chain.
        author: NodeId,
        /// The first.
        from: u64,
        /// The last.
        to: u64,
    },
    /// Of what was wanted, the sender holds nothing.
    NotHeld {
        /// As wanted.
        author: NodeId,
        /// As wanted.
        from: u64,
    },
}

/// What the parent tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Entries `from..=to` are missing. Merged with what is missing of that author already; an
    /// empty range is ignored.
    Missing {
        /// Whose chain.
        author: NodeId,
        /// The first missing.
        from: u64,
        /// The last missing.
        to: u64,
        /// Who showed us something that builds on them.
        shown_by: NodeId,
    },
    /// Nothing is missing of the author up to `through`.
    Filled {
        /// Whose chain.
        author: NodeId,
        /// The height up to which it is whole.
        through: u64,
    },
    /// A peer's answer, which reached the parent, was that it has none of what it was asked for.
    Nothing {
        /// The peer.
        peer: NodeId,
        /// Whose chain.
        author: NodeId,
    },
    /// Answers [`Event::Wanted`]: we have none of that.
    NotHeld {
        /// The peer that asked.
        peer: NodeId,
        /// As it asked.
        author: NodeId,
        /// As it asked.
        from: u64,
    },
}

/// What the parent is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A peer asks for entries: send what there is of them, or [`Command::NotHeld`].
    Wanted {
        /// Who asks.
        peer: NodeId,
        /// Whose chain: as the peer says.
        author: NodeId,
        /// The first, at least 1.
        from: u64,
        /// The last, less than [`MAX_RANGE`] after the first.
        to: u64,
    },
    /// Nobody filled the gap, or there are [`MAX_GAPS`] others. It is forgotten.
    Unfilled {
        /// Whose chain.
        author: NodeId,
        /// The first still missing.
        from: u64,
        /// The last.
        to: u64,
    },
}

/// What happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests sent.
    pub asked: u64,
    /// Gaps closed.
    pub filled: u64,
    /// Gaps given up.
    pub unfilled: u64,
}

/// Fills the gaps of one store. See the [module](self). Keeps nothing durable: after a restart the
/// parent tells again what is missing.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    gaps: BTreeMap<NodeId, Gap>,
    linked: BTreeSet<NodeId>,
    counters: Counters,
}

#[derive(Clone, Debug)]
struct Gap {
    from: u64,
    to: u64,
    /// Asked before others, the latest last.
    shown_by: Vec<NodeId>,
    /// The request in flight.
    asked: Option<Asked>,
    /// Those asked in this round.
    tried: BTreeSet<NodeId>,
    round: u32,
    /// When to give up waiting: for the answer, or for the next round.
    due: Time,
}

#[derive(Clone, Copy, Debug)]
struct Asked {
    peer: NodeId,
    from: u64,
    to: u64,
}

impl Gaps {
    /// The gaps, by author: (author, first missing, last missing, the peer that is being asked).
    pub fn gaps(&self) -> impl Iterator<Item = (NodeId, u64, u64, Option<NodeId>)> {
        self.gaps
            .iter()
            .map(|(author, gap)| (*author, gap.from, gap.to, gap.asked.map(|asked| asked.peer)))
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn missing(&mut self, scope: &mut Scope<'_>, author: NodeId, range: (u64, u64), by: NodeId) {
        let (from, to) = (range.0.max(1), range.1);
        if from > to {
            return;
        }
        if let Some(gap) = self.gaps.get_mut(&author) {
            gap.from = gap.from.min(from);
            gap.to = gap.to.max(to);
            gap.shown(by);
            return;
        }
        if self.gaps.len() == MAX_GAPS {
            self.counters.unfilled += 1;
            scope.fx.emit(Event::Unfilled { author, from, to });
            return;
        }
        let gap = Gap {
            from,
            to,
            shown_by: [by].into(),
            asked: None,
            tried: BTreeSet::new(),
            round: 0,
            due: scope.cx.now,
        };
        self.gaps.insert(author, gap);
        self.ask_next(scope, author);
    }

    fn filled(&mut self, scope: &mut Scope<'_>, author: NodeId, through: u64) {
        let Some(gap) = self.gaps.get_mut(&author).filter(|gap| gap.from <= through) else {
            return;
        };
        if through >= gap.to {
            self.gaps.remove(&author);
            self.counters.filled += 1;
            return;
        }
        gap.from = through + 1;
        gap.round = 0;
        gap.tried.clear();
        match gap.asked {
            // All that was asked for is here: on with the same peer.
            Some(asked) if through >= asked.to => self.ask(scope, author, asked.peer),
            // It is still sending, or somebody else did.
            Some(asked) => {
                gap.tried.insert(asked.peer);
                gap.due = scope.after_about(ANSWER_MS);
            }
            None => gap.due = gap.due.min(scope.after_about(ANSWER_MS)),
        }
    }

    /// The peer that is being asked has nothing.
    fn nothing(&mut self, scope: &mut Scope<'_>, peer: NodeId, author: NodeId, from: Option<u64>) {
        let asked = self.gaps.get(&author).and_then(|gap| gap.asked);
        if asked.is_some_and(|asked| asked.peer == peer && from.is_none_or(|f| f == asked.from)) {
            self.ask_next(scope, author);
        }
    }

    /// Asks the next peer of this round; after the last, pauses, or gives up.
    fn ask_next(&mut self, scope: &mut Scope<'_>, author: NodeId) {
        let Some(gap) = self.gaps.get_mut(&author) else { return };
        if let Some(peer) = gap.next_peer(&self.linked, &mut scope.random) {
            self.ask(scope, author, peer);
            return;
        }
        gap.asked = None;
        gap.tried.clear();
        gap.round += 1;
        gap.due = scope.after_about(ANSWER_MS << gap.round);
        if gap.round == MAX_ROUNDS {
            let (from, to) = (gap.from, gap.to);
            self.gaps.remove(&author);
            self.counters.unfilled += 1;
            scope.fx.emit(Event::Unfilled { author, from, to });
        }
    }

    fn ask(&mut self, scope: &mut Scope<'_>, author: NodeId, peer: NodeId) {
        let Some(gap) = self.gaps.get_mut(&author) else { return };
        let (from, to) = (gap.from, gap.to.min(gap.from.saturating_add(MAX_RANGE - 1)));
        gap.asked = Some(Asked { peer, from, to });
        gap.tried.insert(peer);
        gap.due = scope.after_about(ANSWER_MS << gap.round);
        self.counters.asked += 1;
        scope.fx.send(peer, Message::Want { author, from, to });
    }

    fn link(&mut self, scope: &mut Scope<'_>, peer: NodeId, up: bool) {
        if up {
            self.linked.insert(peer);
            // Whoever pauses may have waited for just this peer.
            for gap in self.gaps.values_mut().filter(|gap| gap.asked.is_none()) {
                gap.due = gap.due.min(scope.after_about(ANSWER_MS));
            }
        } else {
            self.linked.remove(&peer);
            let asking = |gap: &Gap| {
                gap.asked.is_some_and(|asked| asked.peer == peer && !bug!(gap_outlives_its_link))
            };
            for author in self.authors(asking) {
                self.ask_next(scope, author);
            }
        }
    }

    fn message(&mut self, scope: &mut Scope<'_>, peer: NodeId, message: &Message) {
        if !self.linked.contains(&peer) {
            return;
        }
        match *message {
            Message::Want { author, from, to } => {
                let from = from.max(1);
                let to = to.min(from.saturating_add(MAX_RANGE - 1));
                if from <= to {
                    scope.fx.emit(Event::Wanted { peer, author, from, to });
                }
            }
            Message::NotHeld { author, from } => self.nothing(scope, peer, author, Some(from)),
        }
    }

    fn authors(&self, of: impl Fn(&Gap) -> bool) -> Vec<NodeId> {
        self.gaps.iter().filter(|(_, gap)| of(gap)).map(|(author, _)| *author).collect()
    }
}

impl Gap {
    fn shown(&mut self, by: NodeId) {
        if !self.shown_by.contains(&by) {
            if self.shown_by.len() == MAX_SHOWN_BY {
                self.shown_by.remove(0);
            }
            self.shown_by.push(by);
        }
    }

    /// Someone who was not asked in this round: who showed the gap, or anyone.
    fn next_peer(&self, linked: &BTreeSet<NodeId>, random: &mut ChaCha8Rng) -> Option<NodeId> {
        if self.tried.len() >= MAX_PEERS_A_ROUND {
            return None;
        }
        let may_ask = |peer: &&NodeId| linked.contains(*peer) && !self.tried.contains(*peer);
        if let Some(peer) = self.shown_by.iter().find(may_ask) {
            return Some(*peer);
        }
        let others: Vec<&NodeId> = linked.iter().filter(may_ask).collect();
        let count = others.len() as u64;
        let at = random.next_u64().checked_rem(count)?;
        others.get(usize::try_from(at).ok()?).map(|peer| **peer)
    }
}

/// What a step works with.
struct Scope<'a> {
    cx: Cx,
    random: ChaCha8Rng,
    fx: &'a mut dyn Effects<Gaps>,
}

impl Scope<'_> {
    /// `ms` from now, ± 25 %, so that nodes that lost the same message do not ask in step.
    fn after_about(&mut self, ms: u64) -> Time {
        let us = ms * 1_000;
        self.cx.now.after_us(us * 3 / 4 + self.random.next_u64() % (us / 2 + 1))
    }
}

impl Machine for Gaps {
    type Message = Message;
    type Record = Never;
    type Command = Command;
    type Event = Event;

    fn restore(&mut self, record: Never) {
        match record {}
    }

    fn handle(&mut self, cx: Cx, input: Input<Gaps>, fx: &mut dyn Effects<Gaps>) {
        // Most inputs: chains grow all the time, gaps are rare.
        if let Input::Command(Command::Filled { author, .. }) = &input
            && !self.gaps.contains_key(author)
        {
            return;
        }
        let scope = &mut Scope { cx, random: cx.random("gap"), fx };
        match input {
            Input::Start => {}
            Input::Message { from, message } => self.message(scope, from, &message),
            Input::Command(Command::Missing { author, from, to, shown_by }) => {
                self.missing(scope, author, (from, to), shown_by);
            }
            Input::Command(Command::Filled { author, through }) => {
                self.filled(scope, author, through);
            }
            Input::Command(Command::Nothing { peer, author }) => {
                self.nothing(scope, peer, author, None);
            }
            Input::Command(Command::NotHeld { peer, author, from }) => {
                scope.fx.send(peer, Message::NotHeld { author, from });
            }
            Input::Link { peer, up } => self.link(scope, peer, up),
            Input::Tick => {
                for author in self.authors(|gap| gap.due <= cx.now && !bug!(gap_timer_stands_still))
                {
                    self.ask_next(scope, author);
                }
            }
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.gaps.values().map(|gap| gap.due).min()
    }

    fn check(&self) {
        assert!(self.gaps.len() <= MAX_GAPS, "{} gaps", self.gaps.len());
        for (author, gap) in &self.gaps {
            assert!(0 < gap.from && gap.from <= gap.to, "the gap of {author:?} is empty");
            assert!(gap.tried.len() <= MAX_PEERS_A_ROUND && gap.round < MAX_ROUNDS);
            let asked = gap.asked.is_none_or(|asked| self.linked.contains(&asked.peer));
            assert!(asked, "{author:?}'s gap is asked for from someone without a link");
        }
    }
}

#[cfg(test)]
mod tests;
