//! Leases: granted, renewed, ended by time or by being revoked.

use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::command::{LeaseView, Refusal, Reply};
use super::{
    MAX_ITEM_BYTES, MAX_ITEMS, MAX_LEASES, MAX_PER_LEASE, MAX_TTL_MS, MIN_TTL_MS, Registry, Turn,
};
use crate::cow::CowMap;
use crate::machine::NodeId;

/// What hangs on it goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) node: NodeId,
    pub(super) ttl_ms: u64,
    pub(super) deadline_ms: u64,
    pub(super) keys: CowMap<Bytes, ()>,
    /// Those that it holds or waits for.
    pub(super) names: CowMap<Bytes, ()>,
}

impl Lease {
    pub(super) fn new(node: NodeId, ttl_ms: u64, deadline_ms: u64) -> Lease {
        Lease { node, ttl_ms, deadline_ms, keys: CowMap::new(), names: CowMap::new() }
    }

    /// How much hangs on it.
    pub(super) fn burden(&self) -> usize {
        self.keys.len() + self.names.len()
    }
}

/// What ends by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Timer {
    /// A lease.
    Lease(u64),
    /// The time in which a name's holder may step down by itself.
    Name(Bytes),
}

impl Registry {
    pub(super) fn grant_lease(&mut self, ttl_ms: u64, node: NodeId) -> Result<Reply, Refusal> {
        if !(MIN_TTL_MS..=MAX_TTL_MS).contains(&ttl_ms) {
            return Err(Refusal::BadTtl);
        }
        if self.leases.len() >= MAX_LEASES {
            return Err(Refusal::TooManyLeases);
        }
        let lease = self.revision;
        let deadline_ms = self.clock_ms.saturating_add(ttl_ms);
        self.leases.insert(lease, Lease::new(node, ttl_ms, deadline_ms));
        self.timers.insert((deadline_ms, Timer::Lease(lease)), ());
        Ok(Reply::Granted { lease, ttl_ms })
    }

    /// From now on for its whole time again, if it is there.
    pub(super) fn renew(&mut self, id: u64) {
        let Some(lease) = self.leases.get_mut(&id) else { return };
        let before = lease.deadline_ms;
        lease.deadline_ms = before.max(self.clock_ms.saturating_add(lease.ttl_ms));
        let after = lease.deadline_ms;
        self.timers.remove(&(before, Timer::Lease(id)));
        self.timers.insert((after, Timer::Lease(id)), ());
    }

    /// What a renewed lease's holder is told.
    ///
    /// # Errors
    ///
    /// There is no such lease any more.
    pub fn renewed(&self, id: u64) -> Result<Reply, Refusal> {
        let lease = self.leases.get(&id).ok_or(Refusal::UnknownLease)?;
        let steps_down = |name: &Bytes| {
            let holder = self.holder(name).filter(|holder| holder.lease == id)?;
            holder.stepping_down.map(|_| holder.token)
        };
        let stepping_down = lease.names.keys().filter_map(steps_down).collect();
        Ok(Reply::Renewed { revision: self.revision, ttl_ms: lease.ttl_ms, stepping_down })
    }

    pub(super) fn revoke(&mut self, turn: &mut Turn, id: u64) -> Result<Reply, Refusal> {
        let Some(lease) = self.leases.get(&id) else { return Err(Refusal::UnknownLease) };
        self.timers.remove(&(lease.deadline_ms, Timer::Lease(id)));
        self.end_lease(turn, id);
        Ok(Reply::Done { revision: self.revision })
    }

    /// Ends whatever the clock has passed.
    pub(super) fn expire(&mut self, turn: &mut Turn) {
        while let Some(((deadline_ms, timer), ())) = self.timers.first_key_value()
            && *deadline_ms <= self.clock_ms
        {
            let (at, timer) = (*deadline_ms, timer.clone());
            self.timers.remove(&(at, timer.clone()));
            match timer {
                Timer::Lease(id) => self.end_lease(turn, id),
                Timer::Name(name) => self.vacate(turn, &name),
            }
        }
    }

    fn end_lease(&mut self, turn: &mut Turn, id: u64) {
        let Some(lease) = self.leases.remove(&id) else { return };
        for key in lease.keys.keys() {
            self.delete(turn, key);
        }
        for name in lease.names.keys() {
            match self.holder(name) {
                Some(holder) if holder.lease == id => self.vacate(turn, name),
                _ => self.leave_queue(name, id),
            }
        }
    }

    pub(super) fn lease(&self, id: u64) -> Option<LeaseView> {
        let mut bytes = 0;
        let fits = |name: &&Bytes| {
            bytes += name.len();
            bytes <= MAX_ITEM_BYTES
        };
        let names = self.leases.get(&id)?.names.keys().take_while(fits).cloned().collect();
        Some(LeaseView { names, ..self.lease_alone(id)? })
    }

    fn lease_alone(&self, id: u64) -> Option<LeaseView> {
        let lease = self.leases.get(&id)?;
        Some(LeaseView {
            lease: id,
            node: lease.node,
            ttl_ms: lease.ttl_ms,
            left_ms: lease.deadline_ms.saturating_sub(self.clock_ms),
            keys: lease.keys.len() as u32,
            names: Vec::new(),
        })
    }

    pub(super) fn list_leases(&self, after: u64, limit: u32) -> Reply {
        let limit = MAX_ITEMS.min(limit as usize);
        let mut ids = self.leases.range(after.saturating_add(1)..).map(|(id, _)| *id);
        let leases: Vec<LeaseView> =
            ids.by_ref().take(limit).filter_map(|id| self.lease_alone(id)).collect();
        Reply::Leases { revision: self.revision, leases, more: ids.next().is_some() }
    }

    pub(super) fn check_leases(&self) {
        assert!(self.leases.len() <= MAX_LEASES);
        for (id, lease) in &self.leases {
            assert!(*id <= self.revision, "a lease from the future");
            assert!(lease.burden() <= MAX_PER_LEASE);
            assert!(lease.deadline_ms > self.clock_ms, "a lease outlives its time");
            let timer = (lease.deadline_ms, Timer::Lease(*id));
            assert!(self.timers.contains_key(&timer), "every lease ends");
            let holds =
                |key: &Bytes| self.keys.get(key).is_some_and(|value| value.lease == Some(*id));
            assert!(lease.keys.keys().all(holds), "a lease's keys hang on it");
            let known = |name: &Bytes| self.names.contains_key(name);
            assert!(lease.names.keys().all(known), "a lease's names are there");
        }
    }
}
