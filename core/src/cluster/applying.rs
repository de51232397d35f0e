//! What becomes of committed entries: the registry takes them, in order, and who asked is told.

use alloc::vec::Vec;

use super::leading::Asker;
use super::message::{Error, Event, Record};
use super::{COMPACT_BYTES, Cluster, KEEP_BYTES, Step};
use crate::log::{self, Ballot, Entry, Members, Payload, Snapshot};
use crate::machine::Input;
use crate::registry::{Proposal, Refusal, Registry, Reply};

/// The state as of when a snapshot was due, and how many bytes the entries had by then: it is written
/// once those that came since are enough for whoever is a little behind.
#[derive(Clone, Debug)]
pub(super) struct Marked {
    state: Registry,
    bytes: u64,
}

/// What was proposed at an index by this node.
#[derive(Clone, Debug)]
pub(super) struct Due {
    pub(super) ballot: Ballot,
    pub(super) what: What,
}

/// And who is to be told what came of it.
#[derive(Clone, Debug)]
pub(super) enum What {
    Command(Asker),
    Beat(Vec<(Asker, u64)>),
    /// The change of members at the front of the leader's queue, or a step towards it.
    Change,
}

impl Cluster {
    pub(super) fn committed(&mut self, step: &mut Step<'_>, from: u64, entries: &[Entry]) {
        for (index, Entry { ballot, payload }) in (from..).zip(entries) {
            if self.halted || index <= self.registry.revision() {
                continue;
            }
            self.apply(step, index, *ballot, payload);
        }
    }

    fn apply(&mut self, step: &mut Step<'_>, index: u64, ballot: Ballot, payload: &Payload) {
        let mut result = Ok(Reply::Done { revision: index });
        let mut origin = None;
        match payload {
            Payload::Noop | Payload::Blank => self.registry.pass(index),
            Payload::Members(members) => {
                self.registry.members(index, members);
                self.take_members(step, index, Members::clone(members));
            }
            Payload::Data(data) => {
                self.bytes += data.len() as u64;
                // Committed is committed: bytes that this version does not know change nothing.
                match postcard::from_bytes::<Proposal>(data) {
                    Ok(proposal) => {
                        result = self.registry.apply(index, &proposal);
                        origin = Some(proposal.origin);
                    }
                    Err(_) => {
                        self.registry.pass(index);
                        result = Err(Refusal::Undecodable);
                    }
                }
            }
        }
        if let Some(Due { ballot: proposed, what }) = self.due.remove(&index) {
            self.came_to_be(step, what, (proposed == ballot).then_some(&result));
        }
        if let Some(origin) = origin {
            self.recognise(step, origin, &result);
        }
        if ballot != self.applied {
            self.applied = ballot;
            self.supersede(step, ballot);
        }
    }

    /// What was proposed came to this; or something else stands in its place.
    fn came_to_be(
        &mut self,
        step: &mut Step<'_>,
        what: What,
        result: Option<&Result<Reply, Refusal>>,
    ) {
        match what {
            What::Command(asker) => {
                let result = result.map(|result| result.clone().map_err(Error::from));
                self.answer(step, asker, result);
            }
            What::Beat(renewals) => {
                if let Some(leading) = &mut self.leading {
                    leading.beating = false;
                }
                for (asker, lease) in renewals {
                    let renewed = || self.registry.renewed(lease).map_err(Error::from);
                    let result = result.map(|_| renewed());
                    self.answer(step, asker, result);
                }
            }
            What::Change => {
                if let Some(leading) = &mut self.leading {
                    leading.changing = false;
                }
                step.unsettled = false;
            }
        }
    }

    /// An entry under a later ballot than that of the one before was applied: no entry under an earlier
    /// one follows it.
    fn supersede(&mut self, step: &mut Step<'_>, ballot: Ballot) {
        let never = self.due.extract_if(.., |_, due| due.ballot < ballot);
        let never: Vec<What> = never.map(|(_, due)| due.what).collect();
        for what in never {
            self.came_to_be(step, what, None);
        }
        self.superseded(step, ballot);
    }

    /// The state jumps to that of a snapshot.
    pub(super) fn restored(&mut self, step: &mut Step<'_>, snapshot: Snapshot) {
        let Snapshot { at, members, data } = snapshot;
        // By what it holds, not by the seat that this node had then: it may have another since, and be
        // sent the state as of when it was a witness.
        let blank = data.is_empty();
        let state = if blank {
            let mut blank = Registry::default();
            if at.index > 0 {
                blank.pass(at.index);
            }
            Ok(blank)
        } else {
            Registry::decode(&data)
        };
        self.registry = match state {
            Ok(registry) => registry,
            Err(error) => return self.halt(step, error),
        };
        self.marked = None;
        self.bytes = 0;
        self.applied = at.ballot;
        self.take_members(step, at.index, members);
        // What was proposed here up to there may have come to be, and nobody saw what of.
        let passed = self.due.extract_if(.., |index, _| *index <= at.index);
        let passed: Vec<What> = passed.map(|(_, due)| due.what).collect();
        for what in passed {
            if let What::Command(asker) = what {
                self.answer(step, asker, Some(Err(Error::Unknown)));
            } else {
                self.came_to_be(step, what, None);
            }
        }
        self.lost_sight(step, at.ballot);
    }

    /// The state cannot be read: no part is taken, or this node would differ from the others.
    fn halt(&mut self, step: &mut Step<'_>, error: crate::registry::SnapshotError) {
        self.halted = true;
        if let Some(leading) = &self.leading {
            self.stop_leading(step, leading.ballot);
        }
        self.answer_all(step, &Error::Halted);
        step.fx.emit(Event::Halted(error));
    }

    /// Replaces old entries by the state, once they are many and worth it. The state is that of some
    /// time ago, so that those who are a little behind need no snapshot.
    pub(super) fn compact_if_due(&mut self, step: &mut Step<'_>) {
        let (applied, base) = (self.registry.revision(), self.log.base().index);
        let (entries, (_, state)) = (applied.saturating_sub(base), self.registry.size());
        let most = self.config.compact_entries;
        if self.marked.is_none() && !self.halted {
            let many = entries >= most || self.bytes >= COMPACT_BYTES;
            let worth = self.bytes + 64 * entries >= state / 2 || entries >= 16 * most;
            if many && worth {
                self.marked = Some(Marked { state: self.registry.clone(), bytes: self.bytes });
            }
            return;
        }
        let Some(Marked { state: marked, bytes }) = &self.marked else { return };
        let (index, since) = (marked.revision(), self.bytes - bytes);
        if applied < index + self.config.keep_entries && since < KEEP_BYTES {
            return;
        }
        let Some(Marked { state: marked, .. }) = self.marked.take() else { return };
        let data = if self.keeps_data() { marked.encode() } else { Default::default() };
        bug!(snapshot_of_a_later_state => return self.feed(step, Input::Command(log::Command::Compact {
            index,
            data: self.registry.encode(),
        })));
        self.bytes = 0;
        self.counters.compactions += 1;
        self.feed(step, Input::Command(log::Command::Compact { index, data }));
    }

    /// A snapshot was written, and with it all that the log must remember. Besides that only which
    /// cluster it is must be known: then whatever came before may go.
    pub(super) fn write_behind_snapshot(&mut self, step: &mut Step<'_>) {
        let Some(cluster) = self.id else { return };
        step.fx.persist(Record::Joined { cluster, since: self.since });
        step.fx.emit(Event::Covered);
    }
}
