//! Small configurations of real protocols, every state of which can be looked at: what
//! `quorate sim explore --exhaustive` searches, see [`quorate_sim::explore::small`].
//!
//! The search has no common time, so what rests on leases (that no two lead at once) is not asked here;
//! what rests on quorums is, and in the strongest form, which shows in the fewest steps: not only that
//! nothing committed ever changes, but that what a leader or a commit rests on is on a quorum's disks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::Hash;

use bytes::Bytes;
use quorate_core::log::{
    Ballot, Checkpoint, Command, Entry, Event, Log, Members, Message, Position, Record, Snapshot,
    Timing,
};
use quorate_core::machine::{Machine, NodeId};
use quorate_sim::explore::small::{Bounds, Explored, Progress, Small, State, explore};
use quorate_sim::trace::TraceHasher;

/// Looks at every state, and tells how far it has come.
type Search = fn(Bounds, &mut dyn FnMut(&Progress)) -> Explored;

/// A small configuration and its name.
#[derive(Clone, Copy)]
pub struct Configuration {
    /// As given to `--scenario`; no scenario is called so.
    pub name: &'static str,
    /// What is looked at, in one line.
    pub about: &'static str,
    /// Bounds within which a search comes to its end in seconds.
    pub bounds: Bounds,
    search: Search,
}

impl Configuration {
    /// Looks at every state within `bounds`.
    pub fn explore(&self, bounds: Bounds, told: &mut dyn FnMut(&Progress)) -> Explored {
        (self.search)(bounds, told)
    }
}

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Configuration { name, bounds, .. } = self;
        f.debug_struct("Configuration").field("name", name).field("bounds", bounds).finish()
    }
}

/// Every small configuration.
pub static CONFIGURATIONS: [Configuration; 2] = [
    Configuration {
        name: "small_election",
        about: "three voters elect a leader, whose first entry is committed",
        bounds: BOUNDS,
        search: |bounds, told| explore(&ThreeVoters::writing(0), bounds, told),
    },
    Configuration {
        name: "small_log",
        about: "the same, and whoever leads first writes an entry",
        bounds: BOUNDS,
        search: |bounds, told| explore(&ThreeVoters::writing(1), bounds, told),
    },
];

/// Two timers: whoever votes for another has waited itself, so nobody leads with less.
const BOUNDS: Bounds = Bounds {
    drops: 0,
    duplicates: 0,
    crashes: 1,
    ticks: 2,
    ordered: true,
    stale: false,
    depth_max: 1_000,
    states_max: 1_000_000,
};

const NODES: usize = 3;

/// Election and log of three voters.
#[derive(Clone, Debug, Default, Hash)]
struct ThreeVoters {
    /// How many entries are still to be written, by whoever comes to lead.
    writes: u32,
    /// Every ballot under which somebody led.
    led: BTreeSet<Ballot>,
    /// What was told to be committed, by anybody.
    committed: BTreeMap<u64, Entry>,
    /// Two were told different things.
    differs: Option<u64>,
}

impl ThreeVoters {
    fn writing(writes: u32) -> ThreeVoters {
        ThreeVoters { writes, ..ThreeVoters::default() }
    }

    fn members(&self) -> Members {
        Members::of((0..NODES).map(|node| self.id(node)))
    }
}

impl Small for ThreeVoters {
    type Machine = Log;

    fn nodes(&self) -> usize {
        NODES
    }

    fn boot(&self, node: usize) -> Log {
        let timing = Timing { heartbeat_us: 20_000, election_us: 300_000 };
        let mut log = Log::new(timing, node as u8 * 40);
        // Founded already: the order in which they are is not what is looked at.
        let snapshot = Snapshot { at: Position::ZERO, members: self.members(), data: Bytes::new() };
        let checkpoint = Checkpoint { snapshot, promised: Ballot::ZERO, tail: Vec::new() };
        log.restore(Record::Snapshot(Box::new(checkpoint)));
        log
    }

    fn digest(&self, log: &Log, hasher: &mut TraceHasher) {
        log.hash(hasher);
    }

    fn event(&mut self, _: usize, event: Event) -> Vec<Command> {
        match event {
            Event::Leading(ballot) => {
                self.led.insert(ballot);
                let write = self.writes.checked_sub(1).map(|left| {
                    self.writes = left;
                    let data = vec![Bytes::from(vec![left as u8])];
                    Command::Propose { ticket: left.into(), data }
                });
                write.into_iter().collect()
            }
            Event::Committed { from, entries } => {
                for (index, entry) in (from..).zip(&entries) {
                    let known = self.committed.entry(index).or_insert_with(|| entry.clone());
                    if known != entry {
                        self.differs = Some(index);
                    }
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn invariant(&self, state: &State<ThreeVoters>) -> Result<(), String> {
        if let Some(index) = self.differs {
            return Err(format!("two entries were committed at index {index}"));
        }
        let kept: Vec<Kept> = (0..NODES).map(|node| Kept::of(state.log(node))).collect();
        let quorum = |has: &dyn Fn(&Kept) -> bool| {
            kept.iter().filter(|kept| has(kept)).count() >= self.members().quorum()
        };
        let appends = state.in_flight().filter_map(|(_, _, message)| match message {
            Message::Append { ballot, .. } => Some(ballot),
            _ => None,
        });
        for ballot in self.led.iter().chain(appends) {
            if !quorum(&|kept| kept.promised >= *ballot) {
                let leader = number(ballot.node);
                return Err(format!(
                    "node {leader} led, and no quorum has its promise on its disks"
                ));
            }
        }
        for (index, entry) in &self.committed {
            if !quorum(&|kept| kept.entries.get(index) == Some(entry)) {
                return Err(format!("index {index} is committed, and on no quorum's disks"));
            }
        }
        Ok(())
    }
}

/// What a node has on its disk, whatever happens to it.
struct Kept {
    promised: Ballot,
    entries: BTreeMap<u64, Entry>,
}

impl Kept {
    fn of((log, durable): (&[Record], usize)) -> Kept {
        let mut kept = Kept { promised: Ballot::ZERO, entries: BTreeMap::new() };
        for record in &log[..durable] {
            match record {
                Record::Promised(ballot) => kept.promised = kept.promised.max(*ballot),
                Record::Entries { from, entries } => {
                    kept.entries.split_off(from);
                    kept.entries.extend((*from..).zip(entries.iter().cloned()));
                    let last = entries.last().map_or(Ballot::ZERO, |entry| entry.ballot);
                    kept.promised = kept.promised.max(last);
                }
                // Nothing is compacted here.
                Record::Snapshot(_) => {}
            }
        }
        kept
    }
}

fn number(node: NodeId) -> usize {
    (0..NODES).find(|at| ThreeVoters::default().id(*at) == node).unwrap_or(NODES)
}

#[cfg(test)]
mod tests {
    use quorate_sim::explore::small::Ended;

    use super::*;

    #[test]
    fn every_state_of_a_small_election_holds() {
        // Without the crash, with which it takes seconds.
        let bounds = Bounds { crashes: 0, ..BOUNDS };
        let mut told = 0;
        let found = CONFIGURATIONS[0].explore(bounds, &mut |progress| told = progress.states);
        assert_eq!((found.violation.as_ref(), found.ended), (None, Ended::Complete), "{found}");
        assert_eq!(told, found.states);
        assert!(found.states > 10_000, "{found}");
    }
}
