//! The part of a run that does harm, and heals it: actions of the schedule, crashes, starts, the
//! heal phase.

use core::hash::Hash;

use quorate_machine::{Input, Machine};

use crate::atlas::Atlas;
use crate::disk::Loses;
use crate::prng::{Ratio, Span};
use crate::queue::Due;
use crate::recording::About;
use crate::run::{FailureKind, Sim};
use crate::schedule::{Action, Fault, When};
use crate::system::{HostCx, Message, System, View};
use crate::time::FOREVER_US;
use crate::trace::{What, Who};
use crate::world::Ambush;

/// A node that the heal phase finds dead starts again within this time.
const HEALED_START_US: Span = Span::new(1_000, 100_000);

impl<S: System> Sim<S> {
    /// An entry of the schedule is due.
    pub(crate) fn act(&mut self, index: u32) {
        let run = self.run.clone();
        let action = &run.schedule[index as usize].1;
        action.hash(&mut self.world.trace.hasher);
        match action {
            Action::Op { node, op } => {
                self.world.acting = Some(*node);
                self.note(What::Op, Who::node(*node), 0, || format!("{op:?}"));
                let cx = &mut HostCx { world: &mut self.world, node: *node };
                self.system.op(*node, op.clone(), cx);
            }
            Action::Fault(fault) => {
                if self.world.core.is_some() {
                    return;
                }
                let now = self.world.now;
                self.world.trace.note_about(now, What::Fault, Who::NOBODY, 0, |_| {
                    (About::Fault(Box::new(fault.clone())), format!("{fault:?}"))
                });
                if !self.strike_with(fault, index) {
                    return;
                }
                *self.world.faults.entry(fault.name()).or_default() += 1;
                if let Some(lasts) = fault.undone_after() {
                    self.holding.insert(index);
                    if lasts != FOREVER_US {
                        self.world.queue.push(self.world.now + lasts, Due::Undo { index });
                    }
                }
            }
        }
    }

    /// A fault begins; whether it applied.
    fn strike_with(&mut self, fault: &Fault, index: u32) -> bool {
        let now = self.world.now;
        match *fault {
            Fault::Cut { ref lanes, .. } => {
                for &(from, to) in lanes {
                    self.world.network.cut(from, to);
                    self.world.may_notice(to, from);
                }
            }
            Fault::SlowLink { ref lanes, factor, .. } => {
                for &(from, to) in lanes {
                    self.world.network.slow(from, to, factor);
                }
            }
            Fault::Reset { a, b } => {
                let (_, alive) = self.world.network.connection(a, b);
                if alive {
                    self.world.disconnect(a, b);
                }
                return alive;
            }
            Fault::Clog { ref lanes, .. } => {
                lanes.iter().for_each(|&(from, to)| self.world.network.clog(from, to));
            }
            Fault::Crash { node, when, loses, down_us } => {
                return self.crash_when(node, when, loses, down_us, index);
            }
            Fault::CrashLoop { node, times, .. } => {
                let life = self.world.nodes[node].life;
                return self.crash_again(node, life, times, index);
            }
            Fault::Restart { node } => {
                let (down, life) = (!self.world.running(node), self.world.nodes[node].life);
                self.start(node, life);
                return down;
            }
            Fault::Pause { node, lasts_us } => {
                if !self.world.running(node) {
                    return false;
                }
                self.world.block(node, now.saturating_add(lasts_us));
            }
            Fault::SlowNode { node, step_us, .. } => self.world.nodes[node].step_us = step_us,
            Fault::WallJump { node, by_us } => self.world.nodes[node].clock.jump(now, by_us),
            Fault::Drift { node, wall_ppm, monotonic_ppm, .. } => {
                self.drift(node, wall_ppm, monotonic_ppm);
            }
            Fault::WallWave { node, wave, .. } => self.world.nodes[node].clock.wave(now, wave),
            Fault::Heal => self.heal_all(),
            Fault::KeepCopy { .. }
            | Fault::RestoreOldCopy { .. }
            | Fault::BitRot { .. }
            | Fault::MisdirectedWrite { .. }
            | Fault::LyingSync { .. }
            | Fault::SlowDisk { .. }
            | Fault::FullDisk { .. } => return self.strike_disk(fault),
        }
        true
    }

    /// The same for faults of disks.
    fn strike_disk(&mut self, fault: &Fault) -> bool {
        match *fault {
            Fault::KeepCopy { node } => self.world.nodes[node].disk.keep_copy(),
            Fault::RestoreOldCopy { node, down_us } => {
                if !self.world.nodes[node].disk.has_copy() || !self.may_lose_all(node) {
                    return false;
                }
                self.crash(node, Loses::Drawn, down_us);
                self.world.nodes[node].disk.restore_copy();
            }
            Fault::BitRot { node, pick } => return self.damage(node, pick, None).is_some(),
            Fault::MisdirectedWrite { node, pick } => {
                let Some(hit) = self.damage(node, pick, None) else { return false };
                // What was overwritten is one loss; that what was meant is not there is the other.
                self.damage(node, pick.rotate_left(32), Some(hit));
            }
            Fault::LyingSync { node, .. } => {
                let may = self.may_lose_all(node);
                self.world.nodes[node].disk.lying |= may;
                return may;
            }
            Fault::SlowDisk { node, factor, .. } => {
                self.world.nodes[node].disk.slowness = factor.max(1);
            }
            Fault::FullDisk { node, .. } => self.world.nodes[node].disk.full = true,
            _ => unreachable!("{fault:?} is no fault of a disk"),
        }
        true
    }

    /// Whether what a node has made durable may be lost, whatever it is.
    fn may_lose_all(&self, node: usize) -> bool {
        let atlas = self.run.conditions.atlas.as_ref();
        atlas.is_none_or(|atlas| atlas.whole_victims().contains(&node))
    }

    /// Damages a durable record, chosen by `pick` among those that may be lost, but not the one at
    /// `except`; where it is, if there is one and the system lets it rot.
    fn damage(&mut self, node: usize, pick: u64, except: Option<u64>) -> Option<u64> {
        let (system, atlas) = (&self.system, self.run.conditions.atlas.as_ref());
        let disk = &mut self.world.nodes[node].disk;
        let position = disk.find(pick, |position, record| {
            let victims = |atlas: &Atlas| atlas.victims(system.copy(position, record));
            except != Some(position) && atlas.is_none_or(|atlas| victims(atlas).contains(&node))
        })?;
        let rotten = disk.rot(position, |record| system.rot(record, pick.rotate_left(32)));
        rotten.then_some(position)
    }

    /// The end of a fault, unless it was healed before.
    pub(crate) fn undo(&mut self, index: u32) {
        if !self.holding.remove(&index) {
            return;
        }
        let run = self.run.clone();
        let Action::Fault(fault) = &run.schedule[index as usize].1 else { return };
        let now = self.world.now;
        self.world.trace.note_about(now, What::Undo, Who::NOBODY, u64::from(index), |_| {
            (About::Fault(Box::new(fault.clone())), format!("{fault:?}"))
        });
        match *fault {
            Fault::Cut { ref lanes, .. } => {
                for &(from, to) in lanes {
                    self.world.network.uncut(from, to);
                }
                let after_us = self.world.network.conditions.connect_after_us;
                for &(from, to) in lanes {
                    self.world.connect(from, to, after_us);
                }
            }
            Fault::SlowLink { ref lanes, .. } => {
                for &(from, to) in lanes {
                    self.world.network.slow(from, to, 1);
                }
            }
            Fault::Clog { ref lanes, .. } => {
                for &(from, to) in lanes {
                    if self.world.network.unclog(from, to) {
                        self.release(from, to);
                    }
                }
            }
            Fault::SlowNode { node, .. } => self.world.nodes[node].step_us = 0,
            Fault::LyingSync { node, .. } => self.world.nodes[node].disk.lying = false,
            Fault::WallWave { node, .. } => self.world.nodes[node].clock.still(),
            Fault::SlowDisk { node, .. } => self.world.nodes[node].disk.slowness = 1,
            Fault::FullDisk { node, .. } => self.world.nodes[node].disk.full = false,
            Fault::Drift { node, .. } => {
                let skew = run.conditions.skew.get(node).copied().unwrap_or_default();
                self.drift(node, skew.wall_ppm, skew.monotonic_ppm);
            }
            // Pauses and crash loops end by themselves; the rest is never undone.
            _ => {}
        }
    }

    /// A clogged lane holds what would arrive. Outside the core it does so for good.
    #[cold]
    pub(crate) fn hold(&mut self, from: usize, to: usize, epoch: u32, slot: u32) {
        if self.world.core.is_some() {
            drop(self.world.messages.take(slot));
            return self.world.dropped(from, to, "held for good", Some(slot));
        }
        let due = Due::Deliver { from: from as u16, to: to as u16, epoch, slot };
        self.world.clogged.entry((from, to)).or_default().push(due);
    }

    /// An input waits until the process goes on. Outside the core a paused one never does.
    pub(crate) fn set_aside(&mut self, node: usize, due: Due) {
        let state = &mut self.world.nodes[node];
        if self.world.core.is_none() || state.blocked_until < u64::MAX {
            return state.backlog.push_back(due);
        }
        self.discard(due);
        if let Due::Deliver { from, slot, .. } = due {
            self.world.dropped(usize::from(from), node, "paused for good", Some(slot));
        }
    }

    fn discard(&mut self, due: Due) {
        match due {
            Due::Deliver { slot, .. } => drop(self.world.messages.take(slot)),
            Due::Command { slot, .. } => drop(self.world.commands.take(slot)),
            _ => {}
        }
    }

    /// What a clogged lane held arrives, in order.
    fn release(&mut self, from: usize, to: usize) {
        for due in self.world.clogged.remove(&(from, to)).unwrap_or_default() {
            if !self.done() {
                self.input_or_backlog(to, due);
            }
        }
    }

    /// What a machine gets of a message that was corrupted; none if the checksum was found wrong.
    #[cold]
    pub(crate) fn corrupt(
        &mut self,
        from: usize,
        to: usize,
        slot: u32,
        message: &Message<S>,
        entropy: u64,
    ) -> Option<Message<S>> {
        *self.world.faults.entry("corruption").or_default() += 1;
        let corrupt = self.system.corrupt(message, entropy);
        match &corrupt {
            Some(corrupt) => corrupt.hash(&mut self.world.trace.hasher),
            None => {
                self.world.dropped(from, to, "corrupt", Some(slot));
                self.world.disconnect(to, from);
            }
        }
        corrupt
    }

    fn drift(&mut self, node: usize, wall_ppm: i32, monotonic_ppm: i32) {
        self.world.nodes[node].clock.drift(self.world.now, wall_ppm, monotonic_ppm);
        // A faster clock reaches the deadline before the tick that is in the queue.
        self.world.arm(node);
    }

    fn crash_when(
        &mut self,
        node: usize,
        when: When,
        loses: Loses,
        down_us: u64,
        index: u32,
    ) -> bool {
        let state = &mut self.world.nodes[node];
        if state.machine.is_none() || state.ambush.is_some() {
            return false;
        }
        match when {
            When::Now => self.crash(node, loses, down_us),
            When::Unsynced { within_us } => {
                state.ambush = Some(Ambush { action: index, sprung: false });
                let life = state.life;
                let due = Due::Strike { node: node as u16, life, action: index };
                self.world.queue.push(self.world.now.saturating_add(within_us), due);
                self.spring(node);
            }
        }
        true
    }

    /// There may be unsynced writes now: a crash that waits for them strikes.
    #[inline]
    pub(crate) fn spring(&mut self, node: usize) {
        let sync_us = self.world.sync_us;
        let state = &mut self.world.nodes[node];
        if let Some(ambush) = &mut state.ambush
            && !ambush.sprung
            && state.disk.written() > state.disk.durable()
        {
            ambush.sprung = true;
            let (life, action) = (state.life, ambush.action);
            // Mostly before the sync can have finished, sometimes about when it does.
            let soon = !state.rng.chance(Ratio::new(1, 4));
            let most = if soon { sync_us.min } else { sync_us.max };
            let after = state.rng.within(Span::new(0, most));
            let due = Due::Strike { node: node as u16, life, action };
            self.world.queue.push(self.world.now + after, due);
        }
    }

    /// A crash that waited strikes, unless it has struck or was healed before.
    pub(crate) fn strike(&mut self, node: usize, life: u32, action: u32) {
        let state = &mut self.world.nodes[node];
        if state.life != life || state.ambush.is_none_or(|ambush| ambush.action != action) {
            return;
        }
        let run = self.run.clone();
        if let Action::Fault(Fault::Crash { loses, down_us, .. }) = run.schedule[action as usize].1
        {
            self.crash(node, loses, down_us);
        }
    }

    /// A crash loop begins or goes on, unless the process died or started otherwise since, or the
    /// loop was healed; whether it did. The next crash comes once the process has run again.
    pub(crate) fn crash_again(&mut self, node: usize, life: u32, left: u16, action: u32) -> bool {
        let run = self.run.clone();
        let Action::Fault(Fault::CrashLoop { times, up_us, down_us, .. }) =
            run.schedule[action as usize].1
        else {
            return false;
        };
        let begins = left == times;
        let state = &self.world.nodes[node];
        let healed = !begins && !self.holding.contains(&action);
        if left == 0 || healed || state.machine.is_none() || state.life != life {
            return false;
        }
        self.crash(node, Loses::Drawn, down_us);
        let (at, life) = (self.world.now.saturating_add(down_us), self.world.nodes[node].life);
        let due = Due::CrashAgain { node: node as u16, left: left - 1, life, action };
        self.world.queue.push(at.saturating_add(up_us), due);
        true
    }

    pub(crate) fn crash(&mut self, node: usize, loses: Loses, down_us: u64) {
        let state = &mut self.world.nodes[node];
        if state.machine.take().is_none() {
            return;
        }
        state.life += 1;
        state.held.clear();
        state.armed = u64::MAX;
        state.blocked_until = 0;
        state.ambush = None;
        let life = state.life;
        let loss = state.disk.crash(loses);
        for due in std::mem::take(&mut state.backlog) {
            self.discard(due);
        }
        self.note(What::Crash, Who::node(node), loss.survived, || format!("{loss:?}"));
        for peer in 0..self.world.nodes.len() {
            if peer != node && self.world.network.end(node, peer) {
                self.world.may_notice(peer, node);
            }
            self.world.network.tell(node, peer, 0);
        }
        if down_us != FOREVER_US {
            let at = self.world.now + down_us;
            self.world.queue.push(at, Due::Start { node: node as u16, life });
        }
        self.world.acting = Some(node);
        self.system.crashed(node, loss, &mut HostCx { world: &mut self.world, node });
    }

    /// A process starts, if it is the next life of its node.
    pub(crate) fn start(&mut self, node: usize, life: u32) {
        let frozen = self.world.core.as_ref().is_some_and(|core| !core.contains(&node));
        let absent = self.run.absent.contains(&node);
        let now = self.world.now;
        let state = &mut self.world.nodes[node];
        if state.machine.is_some() || state.life != life || frozen || absent {
            return;
        }
        self.world.acting = Some(node);
        state.clock.restart(now, &mut state.rng);
        let mut machine = self.system.boot(node);
        for (_, record) in state.disk.log.iter() {
            machine.restore(record.clone());
        }
        state.machine = Some(machine);
        let restored = state.disk.written();
        self.note(What::Start, Who::node(node), restored, || format!("{restored} records"));
        self.system.restarted(node, &mut HostCx { world: &mut self.world, node });
        self.step(node, Input::Start);
        self.world.connect_all(node);
    }

    /// A node that was paused or busy goes on with its backlog.
    pub(crate) fn wake(&mut self, node: usize, life: u32) {
        if self.world.nodes[node].life != life {
            return;
        }
        while !self.done() && self.world.nodes[node].blocked_until <= self.world.now {
            let Some(due) = self.world.nodes[node].backlog.pop_front() else { return };
            self.input(due);
        }
    }

    /// A scripted healing of everything, clocks and dead processes apart.
    fn heal_all(&mut self) {
        let all: Vec<usize> = (0..self.world.nodes.len()).collect();
        self.heal_nodes(&all);
    }

    fn heal_nodes(&mut self, nodes: &[usize]) {
        self.holding.clear();
        for &node in nodes {
            for &peer in nodes {
                self.world.network.heal(node, peer);
            }
            let state = &mut self.world.nodes[node];
            state.disk.slowness = 1;
            state.disk.full = false;
            state.disk.lying = false;
            state.clock.still();
            state.step_us = 0;
            state.ambush = None;
            if state.blocked_until > self.world.now {
                state.blocked_until = self.world.now;
                let due = Due::Wake { node: node as u16, life: state.life };
                self.world.queue.push(self.world.now, due);
            }
        }
        for &node in nodes {
            self.world.connect_all(node);
        }
        for &node in nodes {
            nodes.iter().for_each(|&peer| self.release(peer, node));
        }
    }

    /// Faults that hold outside the core stay as they are, and none that waits strikes any more.
    fn freeze(&mut self, core: &[usize]) {
        for &index in &self.holding {
            let Action::Fault(fault) = &self.run.schedule[index as usize].1 else { continue };
            if let Fault::Pause { node, .. } = *fault
                && !core.contains(&node)
            {
                self.world.nodes[node].blocked_until = u64::MAX;
            }
        }
        self.world.nodes.iter_mut().for_each(|node| node.ambush = None);
    }

    /// The faults stop: from now on the run must converge.
    pub(crate) fn heal(&mut self) {
        let mut rng = self.world.host_rng.clone();
        let core = self.system.core(&mut rng);
        self.world.host_rng = rng;
        let mut core = core.unwrap_or_else(|| (0..self.world.nodes.len()).collect());
        core.retain(|node| !self.run.absent.contains(node));
        let now = self.world.now;
        self.world.trace.note_about(now, What::Heal, Who::NOBODY, core.len() as u64, |_| {
            (About::Nodes(core.clone()), format!("{core:?}"))
        });
        self.world.network.conditions = self.world.network.conditions.healed();
        self.freeze(&core);
        self.heal_nodes(&core);
        for &node in &core {
            let state = &mut self.world.nodes[node];
            if self.run.heal_clocks {
                state.clock.heal(self.world.now);
            }
            if state.machine.is_none() {
                let at = self.world.now + state.rng.within(HEALED_START_US);
                let due = Due::Start { node: node as u16, life: state.life };
                self.world.queue.push(at, due);
            }
            self.world.arm(node);
        }
        self.world.core = Some(core);
        let first = self.world.now.max(self.last_action) + self.run.poll_us;
        self.world.queue.push(first, Due::Poll);
    }

    /// Asks whether the run has converged.
    pub(crate) fn poll(&mut self) {
        match self.system.converged(&View { world: &self.world }) {
            Ok(()) => {
                self.done = true;
                if let Err(reason) = self.system.finished(&View { world: &self.world }) {
                    self.fail(None, FailureKind::Finished, reason);
                }
            }
            Err(reason) => {
                let healed_at = self.run.active.0.max(self.last_action);
                if self.world.now >= healed_at.saturating_add(self.run.settle_us) {
                    self.world.excused = self.system.excuse(&View { world: &self.world });
                    match self.world.excused {
                        Some(_) => self.done = true,
                        None => self.fail(None, FailureKind::Liveness, reason),
                    }
                } else {
                    self.world.queue.push(self.world.now + self.run.poll_us.max(1), Due::Poll);
                }
            }
        }
    }
}
