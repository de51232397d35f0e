//! The path of an authentic entry into the store: judged, then applied, kept waiting or refused; and
//! what follows from each, in a loop, never by recursion.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use bytes::Bytes;

use super::{Outcome, Refusal, Store};
use crate::entry::{Entry, Link, Op};
use crate::hash::Hash;
use crate::machine::{NodeId, Time, WallTime};
use crate::membership::{Act, Noted};
use crate::orphans::{Kept, MAX_DISTANCE, Orphan, Wait};
use crate::sigchain::{AuthorNo, MAX_PROOF_RUN, Meta, Place};

/// An authentic entry on its way in; `position` is its place in the log if it has one already.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    pub(super) entry: Entry,
    pub(super) from: NodeId,
    pub(super) since: Time,
    pub(super) position: Option<u64>,
    /// See [`Orphan::sheltered`].
    pub(super) sheltered: bool,
    /// Whether it has waited long enough for what it cites.
    pub(super) waived: bool,
}

impl Store {
    /// Whether this very entry is held, applied or waiting.
    #[must_use]
    pub fn has(&self, entry: &Entry) -> bool {
        let Link { author, seq, hash } = entry.link();
        let held = self.chains.of(&author).and_then(|chain| chain.get(seq));
        held.is_some_and(|meta| meta.hash == hash)
            || self.orphans.get(&author, seq).is_some_and(|orphan| orphan.entry.hash() == hash)
    }

    /// Whether another entry is held at its place.
    pub(super) fn contradicts(&self, entry: &Entry) -> bool {
        let Link { author, seq, hash } = entry.link();
        let member = self.membership.get(&author).is_some();
        let held = self.chains.of(&author).and_then(|chain| chain.get(seq));
        let held = held.is_some_and(|meta| meta.hash != hash);
        let waiting = self.orphans.get(&author, seq);
        member && (held || waiting.is_some_and(|orphan| orphan.entry.hash() != hash))
    }

    /// The run of signed headers that starts with `first`, as far as the entries after it and the
    /// orphans link.
    pub(super) fn story(&self, first: &Entry, after: &[Entry]) -> Vec<Bytes> {
        let mut last = first.link();
        let mut run = alloc::vec![first.head()];
        let waiting = self.orphans.of(last.author, last.seq + 1).map(|orphan| &orphan.entry);
        for entry in after.iter().chain(waiting).take(2 * MAX_PROOF_RUN) {
            let header = entry.header();
            let follows =
                (header.author, header.seq, header.prev) == (last.author, last.seq + 1, last.hash);
            if follows && run.len() < MAX_PROOF_RUN {
                last = entry.link();
                run.push(entry.head());
            }
        }
        run
    }

    /// Applies entries, or keeps them waiting, or refuses them; then whatever they release, likewise.
    pub(super) fn settle(
        &mut self,
        mut queue: VecDeque<Incoming>,
        wall: WallTime,
        out: &mut Vec<Outcome>,
    ) {
        while let Some(incoming) = queue.pop_front() {
            let link = incoming.entry.link();
            let waived = incoming.waived;
            match self.judge(&incoming, wall, out) {
                Verdict::Refuse(Refusal::NotAMember) if incoming.sheltered => {
                    self.strays.push(incoming);
                }
                Verdict::Refuse(reason) => {
                    out.push(Outcome::Refused { link, from: incoming.from, reason });
                    out.extend(incoming.position.map(Outcome::Forgotten));
                }
                Verdict::Drop => out.extend(incoming.position.map(Outcome::Forgotten)),
                Verdict::Keep(wait) => self.keep(incoming, wait, out),
                Verdict::Apply(parents) => {
                    let noted = self.apply(incoming, parents, out);
                    while let Some(orphan) = self.orphans.released(link.author, link.seq) {
                        let waived = waived && orphan.entry.header().author == link.author;
                        queue.push_back(Incoming { waived, ..Incoming::again(orphan) });
                        bug!(only_one_orphan_released => break);
                    }
                    self.admit(noted, &mut queue, out);
                }
            }
        }
    }

    /// Decides what is to become of an authentic entry.
    fn judge(&self, incoming: &Incoming, wall: WallTime, out: &mut Vec<Outcome>) -> Verdict {
        let header = incoming.entry.header();
        let author = header.author;
        if header.store != self.id {
            return Verdict::Refuse(Refusal::WrongStore);
        }
        let Some(member) = self.membership.get(&author) else {
            return Verdict::Refuse(Refusal::NotAMember);
        };
        if member.limit.is_some_and(|limit| header.seq > limit) {
            return Verdict::Refuse(Refusal::Closed);
        }
        let known = self.has(&incoming.entry) || self.contradicts(&incoming.entry);
        if known && !bug!(duplicate_applied_twice) {
            return Verdict::Drop;
        }
        let chain = self.chains.of(&author);
        let held = chain.map_or(0, |chain| chain.held());
        let before = header.seq - 1;
        let shown_by = incoming.from;
        if before.saturating_sub(held) > MAX_DISTANCE && !incoming.sheltered {
            return Verdict::Refuse(Refusal::NoRoom);
        }
        if before > held {
            out.push(Outcome::Missing { author, from: held + 1, to: before, shown_by });
            return Verdict::Keep(Wait::Place(author, before));
        }
        let prev = chain.and_then(|chain| chain.hash_at(before)).unwrap_or(Hash::ZERO);
        if prev != header.prev && !bug!(predecessor_not_compared) {
            out.push(Outcome::Diverged { author, seq: before, with: shown_by });
            return Verdict::Drop;
        }
        if chain.and_then(|chain| chain.get(before)).is_some_and(|meta| header.hlc <= meta.hlc) {
            return Verdict::Refuse(Refusal::ClockOrder);
        }
        let unmet = header.parents.iter().find(|parent| !self.is_met(parent));
        if let Some(missing) = unmet.filter(|_| !incoming.waived) {
            let Link { author, seq: to, .. } = *missing;
            let held = self.chains.of(&author).map_or(0, |chain| chain.held());
            out.push(if held < to {
                // Nobody is asked for more than could be kept, however far away the place is said to be.
                let (from, to) = (held + 1, to.min(held + MAX_DISTANCE));
                Outcome::Missing { author, from, to, shown_by }
            } else {
                Outcome::Diverged { author, seq: to, with: shown_by }
            });
            return Verdict::Keep(Wait::Place(author, to));
        }
        // One's own entries are never from the future: if they waited, the next write would fork them.
        if author != self.me && header.hlc.is_future(wall) {
            out.push(Outcome::Parked(incoming.entry.link()));
            return Verdict::Keep(Wait::Clock);
        }
        Verdict::Apply(header.parents.clone())
    }

    /// Whether an entry that cites `parent` need not wait for it: it is here, or it lies above a cut
    /// and so has no effect.
    fn is_met(&self, parent: &Link) -> bool {
        // Who is no member has no effect, now or any more. Should it become one, what it wrote is found
        // to have been overtaken.
        let Some(member) = self.membership.get(&parent.author) else { return true };
        if member.limit.is_some_and(|limit| parent.seq > limit) {
            return true;
        }
        let chain = self.chains.of(&parent.author);
        chain.and_then(|chain| chain.hash_at(parent.seq)) == Some(parent.hash)
    }

    fn keep(&mut self, incoming: Incoming, wait: Wait, out: &mut Vec<Outcome>) {
        let Incoming { entry, from, since, position, sheltered, .. } = incoming;
        let link = entry.link();
        let height = self.chains.of(&link.author).map_or(0, |chain| chain.height());
        let known = position.is_some();
        let position = position.unwrap_or(self.next_position);
        let orphan = Orphan { entry: entry.clone(), position, from, since, wait, sheltered };
        match self.orphans.keep(orphan, height) {
            Kept::Yes(dropped) => {
                if !known {
                    self.next_position += 1;
                    out.push(Outcome::Stored { position, entry });
                }
                out.extend(dropped.into_iter().map(Outcome::Forgotten));
            }
            Kept::No => {
                out.push(Outcome::Refused { link, from, reason: Refusal::NoRoom });
                out.extend(known.then_some(Outcome::Forgotten(position)));
            }
        }
    }

    /// Gives an entry its effect, but for what it does to the members, which is returned.
    pub(super) fn apply(
        &mut self,
        incoming: Incoming,
        parents: Vec<Link>,
        out: &mut Vec<Outcome>,
    ) -> Vec<Noted> {
        let Incoming { entry, from, position, .. } = incoming;
        let Link { author, seq, .. } = entry.link();
        let number = self.number(author);
        let parents: Vec<Place> = parents
            .into_iter()
            .map(|parent| Place { author: self.number(parent.author), seq: parent.seq })
            .collect();
        parents.iter().for_each(|parent| self.chains.cite(*parent));
        let known = position.is_some();
        let position = position.unwrap_or_else(|| self.take_position());
        self.chains.chain_mut(number).push(&entry, Meta::new(&entry, position, parents.clone()));
        self.clock.observe(entry.header().hlc);
        self.moved_tips.insert(author);
        self.applied += 1;
        if !known {
            out.push(Outcome::Stored { position, entry: entry.clone() });
        }
        let mut members = Vec::new();
        let place = Place { author: number, seq };
        for (at, op) in entry.ops().iter().enumerate() {
            let act = match op {
                Op::Invite { node } => Act::Invite(*node),
                Op::Remove { node, height, hash } => {
                    let held = self.chains.of(node).and_then(|chain| chain.hash_at(*height));
                    if *height > 0 && held.is_some_and(|held| held != *hash) {
                        // The removal stands on another story of that chain than is held here.
                        out.push(Outcome::Diverged { author: *node, seq: *height, with: from });
                    }
                    Act::Remove { node: *node, height: *height }
                }
                _ => {
                    let slot = self.dag.apply(place, &parents, op, &self.chains);
                    out.extend(slot.map(Outcome::Changed));
                    continue;
                }
            };
            members.push(self.membership.note(author, seq, at as u16, act));
        }
        out.push(Outcome::Applied { entry, from });
        members
    }

    /// Brings about what an entry's statements do to the members.
    pub(super) fn admit(
        &mut self,
        noted: Vec<Noted>,
        queue: &mut VecDeque<Incoming>,
        out: &mut Vec<Outcome>,
    ) {
        let moved = |noted: &Noted| match noted {
            Noted::Moved(node) => Some(*node),
            Noted::Nothing | Noted::Recount => None,
        };
        self.members_moved(noted.iter().filter_map(moved).collect(), queue, out);
        if noted.contains(&Noted::Recount) {
            self.recount_members(queue, out);
        }
    }

    /// Computes the members anew, and moves the cuts to where that puts them.
    pub(super) fn recount_members(
        &mut self,
        queue: &mut VecDeque<Incoming>,
        out: &mut Vec<Outcome>,
    ) {
        let moved = self.membership.evaluate();
        self.members_moved(moved, queue, out);
    }

    fn members_moved(
        &mut self,
        moved: Vec<NodeId>,
        queue: &mut VecDeque<Incoming>,
        out: &mut Vec<Outcome>,
    ) {
        if !moved.is_empty() {
            out.push(Outcome::Members);
            queue.extend(core::mem::take(&mut self.strays));
        }
        for author in moved {
            self.moved_tips.insert(author);
            self.move_cut(author, out);
            self.release_above(author, queue, out);
        }
    }

    /// Cuts `author`'s chain where membership says, and takes away or gives back the effect of what
    /// lies between the old cut and the new.
    fn move_cut(&mut self, author: NodeId, out: &mut Vec<Outcome>) {
        let number = self.number(author);
        let cut = self.cut_of(&author);
        let before = self.chains.chain(number).cut();
        if !self.chains.set_cut(number, cut) {
            return;
        }
        let (before, after) = (before.unwrap_or(u64::MAX), cut.unwrap_or(u64::MAX));
        let places = before.min(after).saturating_add(1)..=before.max(after);
        bug!(cut_leaves_heads => return);
        if self.chains.chain(number).held() >= *places.start() {
            let changed = self.dag.recount(number, places, &self.chains);
            bug!(cuts_not_watched => return);
            out.extend(changed.into_iter().map(Outcome::Changed));
        }
        out.push(Outcome::Cut { author, cut });
    }

    /// Lets go whatever waited for an entry of `author` above its cut, which will have no effect; what
    /// waits above the cut itself is not needed any more.
    fn release_above(
        &mut self,
        author: NodeId,
        queue: &mut VecDeque<Incoming>,
        out: &mut Vec<Outcome>,
    ) {
        let Some(cut) = self.membership.get(&author).and_then(|member| member.limit) else {
            return;
        };
        let above = self.orphans.of(author, cut + 1).map(|orphan| orphan.entry.header().seq);
        for seq in above.collect::<Vec<u64>>() {
            let orphan = self.orphans.remove(author, seq);
            out.extend(orphan.map(|orphan| Outcome::Forgotten(orphan.position)));
        }
        while let Some(orphan) = self.orphans.released_above(author, cut) {
            queue.push_back(Incoming::again(orphan));
        }
    }

    /// The number of `author`; a new chain starts out cut where membership says.
    pub(super) fn number(&mut self, author: NodeId) -> AuthorNo {
        if let Some(number) = self.chains.find(&author) {
            return number;
        }
        let number = self.chains.number(author);
        self.chains.set_cut(number, self.cut_of(&author));
        number
    }

    /// Where `author`'s chain is to be cut: nothing of one who is not a member counts.
    pub(super) fn cut_of(&self, author: &NodeId) -> Option<u64> {
        self.membership.get(author).map_or(Some(0), |member| member.limit)
    }
}

/// What is to become of an entry.
enum Verdict {
    Apply(Vec<Link>),
    Keep(Wait),
    Refuse(Refusal),
    /// Nothing: it is held already, or the outcome says the rest.
    Drop,
}

impl Incoming {
    /// An entry that `from` brought, or wrote, at `since`.
    pub(super) fn new(entry: Entry, from: NodeId, since: Time) -> Incoming {
        Incoming { entry, from, since, position: None, sheltered: false, waived: false }
    }

    /// An orphan that is tried again.
    pub(super) fn again(orphan: Orphan) -> Incoming {
        let Orphan { entry, position, from, since, sheltered, .. } = orphan;
        let position = Some(position);
        Incoming { position, sheltered, ..Incoming::new(entry, from, since) }
    }
}
