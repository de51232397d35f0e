//! Somebody who campaigns for a name, holds it, works, and gives it back: the client's side of a lock or
//! an election, as the client library has it.
//!
//! It works only while its [`Guard`] says so, by its own clock; it shows its token to a store outside of
//! the cluster and as a fence to the registry. Whatever it loses, it tries to give back with the token
//! that it had, late too: that must never take the name from whoever holds it then.

use bytes::Bytes;
use quorate_core::cluster::{Error, Guard, Loss, Request, WatchUpdate};
use quorate_core::machine::{NodeId, Time};
use quorate_core::registry::{Change, Command, Fence, Holder, Op, Refusal, Reply, Target};
use serde::{Deserialize, Serialize};

/// What somebody campaigns for, and how long they keep it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wish {
    /// The name.
    pub name: String,
    /// Higher is granted earlier.
    pub priority: u8,
    /// The lease's time.
    pub ttl_ms: u64,
    /// How long it is held before it is given back.
    pub hold_ms: u64,
    /// How often the application has to say that it is alive, if it has to.
    pub heartbeat_ms: Option<u64>,
    /// How long after a loss the old token is used once more.
    pub late_ms: u64,
}

/// How far a contender is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It has no lease.
    Idle,
    /// It has asked for one.
    Leasing,
    /// It has one, and has to campaign, or to campaign again.
    Ready,
    /// It has asked for the name.
    Campaigning,
    /// It waits in the queue.
    Waiting,
    /// It holds the name.
    Holding(u64),
    /// It gives it back.
    Releasing(u64),
    /// It has had its last turn.
    Done,
}

/// For what something is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    Lease,
    /// With this lease.
    Campaign(u64),
    /// Of this lease.
    Renew(u64),
    /// Of this grant.
    Release(u64),
    /// What nobody waits for.
    Other,
}

/// What a contender says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Said {
    /// It holds the name.
    Holds {
        /// The name.
        name: String,
        /// The grant.
        token: u64,
    },
    /// It holds it no longer.
    Lost {
        /// Why.
        loss: Loss,
    },
    /// It was told of a loss that its guard knows nothing of.
    Early(String),
    /// It shows its token to a store outside of the cluster.
    Uses {
        /// The name.
        name: String,
        /// The grant.
        token: u64,
        /// Whose.
        lease: u64,
    },
}

/// What a contender wants done.
#[derive(Clone, Debug, Default)]
pub(super) struct Wants {
    pub(super) requests: Vec<(Purpose, u64, Request)>,
    pub(super) watch: Option<(Target, Option<u64>)>,
    pub(super) unwatch: Option<u64>,
    pub(super) said: Vec<Said>,
}

/// Somebody who campaigns.
#[derive(Clone, Debug)]
pub(super) struct Contender {
    wish: Wish,
    stage: Stage,
    /// The lease, as this side sees it.
    lease: Option<(u64, Guard)>,
    wants: Wants,
    watch: Option<u64>,
    renewing: bool,
    renew_at: Time,
    alive_at: Time,
    try_at: Time,
    work_at: Time,
    end_at: Time,
    hung_until: Time,
    /// An old token, to be used once more.
    late: Option<(Time, u64)>,
    finishing: bool,
    turns: u32,
    writes: u32,
}

/// How long to wait before trying again.
const RETRY_MS: u64 = 150;
/// The least time of the lease for a last turn.
const FINISH_TTL_MS: u64 = 2_500;
/// How often a holder works.
const WORK_MS: u64 = 120;

impl Contender {
    pub(super) fn new(wish: Wish, now: Time) -> Contender {
        Contender {
            wish,
            stage: Stage::Idle,
            lease: None,
            wants: Wants::default(),
            watch: None,
            renewing: false,
            renew_at: now,
            alive_at: now,
            try_at: now,
            work_at: now,
            end_at: now,
            hung_until: now,
            late: None,
            finishing: false,
            turns: 0,
            writes: 0,
        }
    }

    /// From now on one more turn at most. Its next lease is long enough to have that turn: where networks and
    /// disks are slow, the time of a short one is over before the name is granted under it, again and again,
    /// and who waits with a lower priority waits for ever. No protocol can help that.
    pub(super) fn finish(&mut self) {
        self.finishing = true;
        self.wish.ttl_ms = self.wish.ttl_ms.max(FINISH_TTL_MS);
        self.wish.hold_ms = self.wish.hold_ms.min(WORK_MS);
        self.end_at = Time::ZERO;
    }

    pub(super) fn hang(&mut self, until: Time) {
        self.hung_until = until;
    }

    pub(super) fn watches(&mut self, watch: u64) {
        self.watch = Some(watch);
    }

    pub(super) fn done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// Its lease, whether it may still count on it or not.
    pub(super) fn lease(&self) -> Option<u64> {
        self.lease.as_ref().map(|(lease, _)| *lease)
    }

    pub(super) fn stage(&self) -> &Stage {
        &self.stage
    }

    /// The name, and the token of a grant that is valid now, by this node's clock.
    pub(super) fn holds(&self, now: Time) -> Option<(&str, u64)> {
        let Stage::Holding(token) = self.stage else { return None };
        self.valid(now).then_some((&self.wish.name, token))
    }

    /// The lease, while its holder may count on it.
    pub(super) fn counts_on(&self, now: Time) -> Option<u64> {
        let (lease, _) = self.lease.as_ref()?;
        self.valid(now).then_some(*lease)
    }

    fn valid(&self, now: Time) -> bool {
        self.lease.as_ref().is_some_and(|(_, guard)| guard.clone().check(now).is_ok())
    }

    fn name(&self) -> Bytes {
        Bytes::copy_from_slice(self.wish.name.as_bytes())
    }

    /// What is due at `now` is done.
    pub(super) fn turn(&mut self, now: Time) -> Wants {
        let hung = now < self.hung_until;
        let releasing = matches!(self.stage, Stage::Releasing(_));
        if let Some((_, guard)) = self.lease.as_mut().filter(|_| !releasing) {
            if !hung && self.alive_at <= now {
                guard.alive(now);
                self.alive_at = now.after_ms(self.wish.heartbeat_ms.unwrap_or(u64::MAX) / 3);
            }
            if let Err(loss) = guard.check(now) {
                self.lost(now, loss);
            }
        }
        self.renew(now);
        if let Some((_, token)) = self.late.take_if(|(at, _)| *at <= now) {
            self.try_old(token);
        }
        match self.stage {
            Stage::Idle if self.finishing && self.turns > 0 => self.stage = Stage::Done,
            Stage::Idle if self.try_at <= now => {
                self.stage = Stage::Leasing;
                // The asking node fills in itself, whatever is said here.
                let grant = Command::Grant { ttl_ms: self.wish.ttl_ms, node: NodeId([9; 32]) };
                self.ask(Purpose::Lease, 1_000, Request::Change(grant));
            }
            Stage::Ready if self.try_at <= now => self.campaign(),
            Stage::Holding(token) if !hung => self.work(now, token),
            _ => {}
        }
        core::mem::take(&mut self.wants)
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        let stage = match self.stage {
            Stage::Idle | Stage::Ready => Some(self.try_at),
            Stage::Holding(_) => Some(self.work_at.min(self.end_at).max(self.hung_until)),
            _ => None,
        };
        let releasing = matches!(self.stage, Stage::Releasing(_));
        let lease = self.lease.as_ref().filter(|_| !releasing).and_then(|(_, guard)| {
            let renew = guard.renew_at().filter(|_| !self.renewing);
            let renew = renew.map(|at| at.max(self.renew_at));
            let alive = self.wish.heartbeat_ms.map(|_| self.alive_at.max(self.hung_until));
            [renew, alive, Some(guard.valid_until())].into_iter().flatten().min()
        });
        let late = self.late.map(|(at, _)| at);
        [stage, lease, late].into_iter().flatten().min()
    }

    fn ask(&mut self, purpose: Purpose, timeout_ms: u64, request: Request) {
        self.wants.requests.push((purpose, timeout_ms, request));
    }

    fn watch(&mut self, from: Option<u64>) {
        self.wants.unwatch = self.watch.take();
        self.wants.watch = Some((Target::Name(self.name()), from));
    }

    fn renew(&mut self, now: Time) {
        let Some((lease, guard)) = &self.lease else { return };
        let due = guard.renew_at().is_some_and(|at| at.max(self.renew_at) <= now);
        if due && !self.renewing {
            self.renewing = true;
            let lease = *lease;
            self.ask(Purpose::Renew(lease), self.wish.ttl_ms / 3, Request::KeepAlive { lease });
        }
    }

    fn campaign(&mut self) {
        let Some((lease, _)) = self.lease else { return };
        self.stage = Stage::Campaigning;
        let (name, priority) = (self.name(), self.wish.priority);
        let campaign = Command::Campaign { name, lease, priority, value: Bytes::new() };
        self.ask(Purpose::Campaign(lease), 1_000, Request::Change(campaign));
    }

    fn work(&mut self, now: Time, token: u64) {
        if self.end_at <= now {
            return self.give_back(token, Loss::Released);
        }
        if self.work_at <= now {
            self.work_at = now.after_ms(WORK_MS);
            let Some((lease, _)) = self.lease else { return };
            self.wants.said.push(Said::Uses { name: self.wish.name.clone(), token, lease });
            self.fenced(token);
        }
    }

    /// A write under the grant: as a put, or as a transaction.
    fn fenced(&mut self, token: u64) {
        let fence = Some(Fence { name: self.name(), token });
        let key = Bytes::from(format!("guarded/{}", self.wish.name));
        let value = Bytes::from(token.to_string());
        self.writes += 1;
        let command = if self.writes.is_multiple_of(2) {
            Command::Put { key, value, lease: None, previous: None, fence }
        } else {
            let then = vec![Op::Put { key, value, lease: None }];
            Command::Txn { compare: Vec::new(), then, otherwise: Vec::new(), fence }
        };
        self.ask(Purpose::Other, 2_000, Request::Change(command));
    }

    /// What an old holder may still try: to write, and to give back.
    fn try_old(&mut self, token: u64) {
        self.fenced(token);
        self.fenced(token);
        let release = Command::Release { name: self.name(), token };
        self.ask(Purpose::Other, 2_000, Request::Change(release));
    }

    fn give_back(&mut self, token: u64, loss: Loss) {
        if let Some((_, guard)) = &mut self.lease {
            guard.lose(loss);
        }
        self.wants.said.push(Said::Lost { loss });
        self.stage = Stage::Releasing(token);
        let release = Command::Release { name: self.name(), token };
        self.ask(Purpose::Release(token), 1_000, Request::Change(release));
    }

    fn lost(&mut self, now: Time, loss: Loss) {
        if let Stage::Holding(token) = self.stage {
            self.late = Some((now.after_ms(self.wish.late_ms), token));
            self.wants.said.push(Said::Lost { loss });
        }
        self.over(now);
    }

    /// The lease is gone, or is let go.
    fn over(&mut self, now: Time) {
        self.lease = None;
        if let Some(watch) = self.watch.take() {
            self.wants.unwatch = Some(watch);
        }
        self.wants.watch = None;
        self.renewing = false;
        self.stage = Stage::Idle;
        self.try_at = now.after_ms(RETRY_MS);
    }

    fn hold(&mut self, now: Time, token: u64) {
        self.stage = Stage::Holding(token);
        self.work_at = now;
        self.end_at = now.after_ms(self.wish.hold_ms);
        if self.valid(now) {
            self.turns += 1;
            self.wants.said.push(Said::Holds { name: self.wish.name.clone(), token });
            if self.watch.is_none() {
                self.watch(Some(token + 1));
            }
        }
    }

    /// An answer came to what was asked at `sent`.
    pub(super) fn answered(
        &mut self,
        now: Time,
        purpose: Purpose,
        sent: Time,
        result: Result<Reply, Error>,
    ) {
        let mine = self.lease.as_ref().map(|(lease, _)| *lease);
        match (purpose, result) {
            (Purpose::Lease, Ok(Reply::Granted { lease, ttl_ms })) => {
                self.lease = Some((lease, Guard::new(sent, ttl_ms, self.wish.heartbeat_ms)));
                (self.renew_at, self.alive_at) = (now, now);
                (self.stage, self.try_at) = (Stage::Ready, now);
            }
            (Purpose::Lease, _) => self.over(now),
            (Purpose::Renew(lease), result) if mine == Some(lease) => {
                self.renewed(now, sent, result);
            }
            (Purpose::Campaign(lease), result)
                if mine == Some(lease) && self.stage == Stage::Campaigning =>
            {
                self.stands(now, result);
            }
            (Purpose::Release(token), result) if self.stage == Stage::Releasing(token) => {
                if !matches!(result, Ok(_) | Err(Error::Refused(_))) {
                    self.late = Some((now.after_ms(self.wish.late_ms), token));
                }
                if let Some(lease) = mine {
                    self.ask(Purpose::Other, 2_000, Request::Change(Command::Revoke { lease }));
                }
                self.over(now);
            }
            _ => {}
        }
    }

    fn stands(&mut self, now: Time, result: Result<Reply, Error>) {
        match result {
            Ok(Reply::Held { token }) => self.hold(now, token),
            Ok(Reply::Queued { revision, .. }) => {
                self.stage = Stage::Waiting;
                self.watch(Some(revision + 1));
            }
            Err(Error::Refused(Refusal::UnknownLease)) => self.gone(now, "a campaign"),
            _ => (self.stage, self.try_at) = (Stage::Ready, now.after_ms(RETRY_MS)),
        }
    }

    fn renewed(&mut self, now: Time, sent: Time, result: Result<Reply, Error>) {
        self.renewing = false;
        let Some((_, guard)) = &mut self.lease else { return };
        match result {
            Ok(Reply::Renewed { stepping_down, .. }) => {
                guard.renewed(sent);
                if let Stage::Holding(token) = self.stage
                    && stepping_down.contains(&token)
                {
                    self.give_back(token, Loss::SteppedDown);
                }
            }
            Err(Error::Refused(Refusal::UnknownLease)) => self.gone(now, "a renewal"),
            _ => self.renew_at = now.after_ms(RETRY_MS / 3),
        }
    }

    /// The log says that the lease has ended: then its holder must know by its own clock.
    fn gone(&mut self, now: Time, by: &str) {
        if self.valid(now) {
            let said = format!("{by} says that the lease behind {} is gone", self.wish.name);
            self.wants.said.push(Said::Early(said));
        }
        self.lost(now, Loss::Taken);
    }

    /// A watch told something.
    pub(super) fn watched(&mut self, now: Time, watch: u64, update: WatchUpdate) {
        if self.watch != Some(watch) {
            return;
        }
        match update {
            WatchUpdate::Began { .. } => {}
            WatchUpdate::Changed { changes, .. } => {
                for change in changes {
                    if let Change::Name { holder, .. } = change {
                        self.named(now, holder);
                    }
                }
            }
            // Who holds is told by the next renewal; who waits asks again, some time.
            WatchUpdate::Compacted { .. } | WatchUpdate::Ended(_) => {
                self.watch = None;
                if self.stage == Stage::Waiting {
                    (self.stage, self.try_at) = (Stage::Ready, now.after_ms(2 * RETRY_MS));
                }
            }
        }
    }

    fn named(&mut self, now: Time, holder: Option<Holder>) {
        let mine = self.lease.as_ref().map(|(lease, _)| *lease);
        let ours = holder.filter(|holder| Some(holder.lease) == mine);
        match (&self.stage, ours) {
            (Stage::Waiting, Some(holder)) => self.hold(now, holder.token),
            (Stage::Holding(token), Some(Holder { token: same, stepping_down, .. }))
                if same == *token =>
            {
                let asked = stepping_down.map(|_| Loss::SteppedDown);
                asked.into_iter().for_each(|loss| self.give_back(same, loss));
            }
            (Stage::Holding(_), _) => self.gone(now, "a watch"),
            _ => {}
        }
    }
}
