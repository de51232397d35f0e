//! Names: elections and locks. At most one holder, a queue, a token for each grant.

use alloc::vec::Vec;

use bytes::Bytes;

use super::command::{Candidate, Change, Holder, NameView, Refusal, Reply, SteppingDown};
use super::leases::Timer;
use super::{
    MAX_BYTES, MAX_CANDIDATES, MAX_ITEM_BYTES, MAX_ITEMS, MAX_KEY_BYTES, MAX_NAMES, MAX_PER_LEASE,
    Registry, Turn, page,
};
use crate::machine::NodeId;

/// There as long as somebody holds it or waits for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) holder: Option<Holder>,
    /// The next first: a higher priority, then an older candidate.
    pub(super) queue: Vec<Candidate>,
}

impl Registry {
    pub(super) fn holder(&self, name: &Bytes) -> Option<&Holder> {
        self.names.get(name)?.holder.as_ref()
    }

    /// The lease waits for the name from here on, unless it does already or holds it.
    pub(super) fn campaign(
        &mut self,
        turn: &mut Turn,
        name: &Bytes,
        id: u64,
        priority: u8,
        value: &Bytes,
    ) -> Result<Reply, Refusal> {
        if name.is_empty() || name.len() > MAX_KEY_BYTES {
            return Err(Refusal::BadName);
        }
        if value.len() > MAX_KEY_BYTES {
            return Err(Refusal::BadValue);
        }
        let lease = self.leases.get(&id).ok_or(Refusal::UnknownLease)?;
        let done = Ok(Reply::Done { revision: self.revision });
        if lease.names.contains_key(name) {
            return done;
        }
        if lease.burden() >= MAX_PER_LEASE {
            return Err(Refusal::TooManyPerLease);
        }
        let waiting = self.names.get(name).map_or(0, |name| name.queue.len());
        if waiting >= MAX_CANDIDATES {
            return Err(Refusal::TooManyCandidates);
        }
        if !self.names.contains_key(name) && self.names.len() >= MAX_NAMES {
            return Err(Refusal::TooManyNames);
        }
        let bytes = self.bytes + (name.len() + value.len()) as u64;
        if bytes > MAX_BYTES {
            return Err(Refusal::Full);
        }
        self.bytes = bytes;
        let (node, since) = (lease.node, self.revision);
        let candidate = Candidate { node, lease: id, since, priority, value: value.clone() };
        let entry = self.names.get_or_insert_with(name.clone(), Name::default);
        let at = entry.queue.partition_point(|other| other.priority >= priority);
        entry.queue.insert(at, candidate);
        if entry.holder.is_none() {
            turn.vacant.entry(name.clone()).or_default();
        }
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.names.insert(name.clone(), ());
        }
        let lower = |holder: &Holder| holder.priority < priority;
        if bug!(higher_priority_takes_the_name) && self.holder(name).is_some_and(lower) {
            self.vacate(turn, name);
        }
        done
    }

    /// How a campaigning lease stands.
    pub(super) fn standing(&self, name: &Bytes, id: u64) -> Result<Reply, Refusal> {
        let entry = self.names.get(name).ok_or(Refusal::UnknownName)?;
        let holder = entry.holder.as_ref().ok_or(Refusal::UnknownName)?;
        if holder.lease == id {
            return Ok(Reply::Held { token: holder.token });
        }
        let before = entry.queue.iter().position(|candidate| candidate.lease == id);
        let before = before.ok_or(Refusal::NotACandidate)? as u32;
        Ok(Reply::Queued { revision: self.revision, before, token: holder.token })
    }

    pub(super) fn withdraw(&mut self, name: &Bytes, id: u64) -> Result<Reply, Refusal> {
        let entry = self.names.get(name).ok_or(Refusal::UnknownName)?;
        if let Some(holder) = entry.holder.as_ref().filter(|holder| holder.lease == id) {
            return Err(Refusal::Holds { token: holder.token });
        }
        if !entry.queue.iter().any(|candidate| candidate.lease == id) {
            return Err(Refusal::NotACandidate);
        }
        self.leave_queue(name, id);
        if let Some(lease) = self.leases.get_mut(&id) {
            lease.names.remove(name);
        }
        Ok(Reply::Done { revision: self.revision })
    }

    pub(super) fn release(
        &mut self,
        turn: &mut Turn,
        name: &Bytes,
        token: u64,
    ) -> Result<Reply, Refusal> {
        let entry = self.names.get(name).ok_or(Refusal::UnknownName)?;
        let current = entry.holder.as_ref().map(|holder| holder.token);
        if current != Some(token) && !bug!(release_frees_whoever_holds) {
            return Err(Refusal::StaleToken { current });
        }
        self.vacate(turn, name);
        Ok(Reply::Done { revision: self.revision })
    }

    pub(super) fn step_down(
        &mut self,
        turn: &mut Turn,
        name: &Bytes,
        to: Option<NodeId>,
    ) -> Result<Reply, Refusal> {
        let (revision, clock_ms) = (self.revision, self.clock_ms);
        let entry = self.names.get_mut(name).ok_or(Refusal::UnknownName)?;
        let candidates = &entry.queue;
        if to.is_some_and(|to| !candidates.iter().any(|candidate| candidate.node == to)) {
            return Err(Refusal::NoSuchCandidate);
        }
        let holder = entry.holder.as_mut().ok_or(Refusal::UnknownName)?;
        let token = holder.token;
        // Asked again, it has no more time than at first.
        let asked = holder.stepping_down.map(|before| before.deadline_ms);
        let ttl_ms = self.leases.get(&holder.lease).map_or(0, |lease| lease.ttl_ms);
        let deadline_ms = asked.unwrap_or_else(|| clock_ms.saturating_add(ttl_ms));
        bug!(name_lost_before_its_holder_knows => {
            self.vacate(turn, name);
            return Ok(Reply::SteppingDown { revision, token, within_ms: 0 });
        });
        holder.stepping_down = Some(SteppingDown { to, deadline_ms });
        let holder = Some(holder.clone());
        turn.changes.push(Change::Name { name: name.clone(), holder });
        self.timers.insert((deadline_ms, Timer::Name(name.clone())), ());
        let within_ms = deadline_ms.saturating_sub(clock_ms);
        Ok(Reply::SteppingDown { revision, token, within_ms })
    }

    /// The name has no holder any more. Who gets it is settled at the end of the entry.
    pub(super) fn vacate(&mut self, turn: &mut Turn, name: &Bytes) {
        let Some(entry) = self.names.get_mut(name) else { return };
        let Some(holder) = entry.holder.take() else { return };
        let to = holder.stepping_down.and_then(|SteppingDown { to, deadline_ms }| {
            self.timers.remove(&(deadline_ms, Timer::Name(name.clone())));
            to
        });
        turn.vacant.insert(name.clone(), to);
        self.bytes -= (name.len() + holder.value.len()) as u64;
        if let Some(lease) = self.leases.get_mut(&holder.lease) {
            lease.names.remove(name);
        }
    }

    /// The lease waits for the name no longer.
    pub(super) fn leave_queue(&mut self, name: &Bytes, id: u64) {
        let Some(entry) = self.names.get_mut(name) else { return };
        if let Some(at) = entry.queue.iter().position(|candidate| candidate.lease == id) {
            let left = entry.queue.remove(at);
            self.bytes -= (name.len() + left.value.len()) as u64;
        }
        if entry.queue.is_empty() && entry.holder.is_none() {
            self.names.remove(name);
        }
    }

    /// Grants what became free in this entry to the next, if there is one.
    pub(super) fn fill_vacancies(&mut self, turn: &mut Turn) {
        for (name, to) in core::mem::take(&mut turn.vacant) {
            let token = if bug!(token_from_a_counter_beside_the_snapshot) {
                self.history.len() as u64 + 1
            } else {
                self.revision
            };
            let Some(entry) = self.names.get_mut(&name) else {
                // Those who waited have gone in the same entry.
                turn.changes.push(Change::Name { name, holder: None });
                continue;
            };
            let wanted = |candidate: &Candidate| Some(candidate.node) == to;
            let next = entry.queue.iter().position(wanted).unwrap_or(0);
            if entry.queue.is_empty() {
                self.names.remove(&name);
                turn.changes.push(Change::Name { name, holder: None });
                continue;
            }
            let Candidate { node, lease, priority, value, .. } = entry.queue.remove(next);
            let holder = Holder { node, lease, token, priority, value, stepping_down: None };
            entry.holder = Some(holder.clone());
            turn.changes.push(Change::Name { name, holder: Some(holder) });
        }
    }

    pub(super) fn name(&self, name: &Bytes) -> Option<NameView> {
        let Name { holder, queue } = self.names.get(name)?.clone();
        Some(NameView { name: name.clone(), holder, queue })
    }

    pub(super) fn list_names(&self, prefix: &Bytes, after: Option<&Bytes>, limit: u32) -> Reply {
        let limit = MAX_ITEMS.min(limit as usize);
        let (mut names, mut bytes, mut more) = (Vec::new(), 0, false);
        for (name, Name { holder, .. }) in page(&self.names, prefix, after) {
            bytes += name.len() + holder.as_ref().map_or(0, |holder| holder.value.len());
            if names.len() == limit || (bytes > MAX_ITEM_BYTES && !names.is_empty()) {
                more = true;
                break;
            }
            let (name, holder, queue) = (name.clone(), holder.clone(), Vec::new());
            names.push(NameView { name, holder, queue });
        }
        Reply::Names { revision: self.revision, names, more }
    }

    pub(super) fn check_names(&self) {
        assert!(self.names.len() <= MAX_NAMES);
        for (name, Name { holder, queue }) in &self.names {
            let knows = |id: &u64| self.leases.get(id).is_some_and(|l| l.names.contains_key(name));
            let holder =
                holder.as_ref().expect("whoever waits for a name that is free is granted it");
            assert!(holder.token <= self.revision, "a grant from the future");
            assert!(knows(&holder.lease), "a holder's lease is there");
            if let Some(SteppingDown { deadline_ms, .. }) = holder.stepping_down {
                let timer = (deadline_ms, Timer::Name(name.clone()));
                assert!(self.timers.contains_key(&timer), "stepping down ends");
            }
            assert!(queue.len() <= MAX_CANDIDATES);
            let waits = |c: &Candidate| knows(&c.lease) && c.lease != holder.lease;
            assert!(queue.iter().all(waits), "a candidate's lease is there, and not the holder's");
            let order = |c: &Candidate| (core::cmp::Reverse(c.priority), c.since);
            assert!(queue.is_sorted_by_key(order), "the next stands first");
        }
    }
}
