//! A name that this process holds, or waits for: a lock, or a leadership.
//!
//! The process itself is the holder. It asks its node for a lease, campaigns with it, keeps it alive,
//! and keeps its own [`Guard`] by its own clock, which counts from before each request was sent. If the
//! node goes away it is reached again, by the same or a new process of it, for as long as the guard
//! lasts; no other node is needed.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use quorate_core::cluster::{Guard, Loss};
use quorate_core::machine::Time;
use tokio::time::{sleep, timeout};

use crate::control::protocol::cluster::{Answer, Ask, ChangeDoc, HolderDoc, TargetDoc};
use crate::control::protocol::{Blob, Code, Failure, Reply, Request};
use crate::control::session::Session;

/// How long a request may take whose caller waits for it.
pub(super) const REQUEST: Duration = Duration::from_secs(5);
/// How long one may take that is a courtesy, or that is all that can be done in time.
pub(super) const COURTESY: Duration = Duration::from_secs(1);
/// How much later than its deadline an answer is still waited for.
pub(in crate::cli) const LATE: Duration = Duration::from_secs(1);
/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// The clock is looked at so often at least: a machine that slept has not moved tokio's.
const LOOK: Duration = Duration::from_millis(500);

/// What a process wants to hold.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) name: Blob,
    pub(super) value: Blob,
    pub(super) priority: u8,
    pub(super) ttl: Duration,
}

/// A candidate's lease: it stands in the queue, or holds.
#[derive(Debug)]
pub(super) struct Candidacy {
    data: PathBuf,
    wanted: Wanted,
    lease: u64,
    guard: Mutex<Guard>,
}

/// A name that is held.
#[derive(Debug)]
pub(super) struct Hold {
    candidacy: Candidacy,
    pub(super) token: u64,
}

/// What became of a campaign so far.
pub(super) enum Stand {
    Held(Hold),
    /// Somebody else holds the name, and so many are before this one.
    Queued(Candidacy, u32),
}

/// Stands for a name with a new lease; each request for that may take `limit`.
pub(super) async fn campaign(
    data: &Path,
    wanted: Wanted,
    limit: Duration,
) -> Result<Stand, Failure> {
    let mut line = Line::new(data);
    let ttl_ms = u64::try_from(wanted.ttl.as_millis()).unwrap_or(u64::MAX);
    let sent = now();
    let lease = match line.ask(Ask::Grant { ttl_ms }, limit).await? {
        Answer::Granted { lease, .. } => lease,
        other => return Err(unexpected(&other)),
    };
    let guard = Mutex::new(Guard::new(sent, ttl_ms, None));
    let candidacy = Candidacy { data: data.to_owned(), wanted: wanted.clone(), lease, guard };
    let Wanted { name, value, priority, .. } = wanted;
    match line.ask(Ask::Campaign { name, lease, priority, value }, limit).await {
        Ok(Answer::Held { token }) => Ok(Stand::Held(Hold { candidacy, token })),
        Ok(Answer::Queued { before, .. }) => Ok(Stand::Queued(candidacy, before)),
        Ok(other) => Err(unexpected(&other)),
        Err(failure) => {
            candidacy.leave().await;
            Err(failure)
        }
    }
}

impl Candidacy {
    /// Who holds the name now.
    pub(super) async fn holder(&self) -> Result<Option<HolderDoc>, Failure> {
        let name = self.wanted.name.clone();
        match Line::new(&self.data).ask(Ask::Name { name }, COURTESY).await? {
            Answer::Name { holder, .. } => Ok(holder),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until the name is granted to this lease, and returns the token; or until the lease is lost.
    pub(super) async fn granted(&self) -> Result<u64, Loss> {
        let mine = |holder: Option<&HolderDoc>| {
            holder.filter(|holder| holder.lease == self.lease).map(|holder| holder.token)
        };
        tokio::select! {
            biased;
            () = self.runs_out(Duration::ZERO) => Err(Loss::Expired),
            loss = self.keep() => Err(loss),
            token = self.hear(mine) => Ok(token),
        }
    }

    pub(super) fn hold(self, token: u64) -> Hold {
        Hold { candidacy: self, token }
    }

    /// Leaves the queue.
    pub(super) async fn leave(&self) {
        // What cannot be revoked ends by itself.
        let _ = Line::new(&self.data).ask(Ask::Revoke { lease: self.lease }, COURTESY).await;
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until only `margin` is left.
    async fn runs_out(&self, margin: Duration) {
        let margin = u64::try_from(margin.as_micros()).unwrap_or(u64::MAX);
        loop {
            let at = Time(self.guard().valid_until().0.saturating_sub(margin));
            if now() >= at {
                return;
            }
            until(at).await;
        }
    }

    /// Keeps the lease alive until it is lost, or the name is asked back: also from who has not heard yet
    /// that it has it. The log's time for that runs already, so nothing is gained by renewing.
    async fn keep(&self) -> Loss {
        let mut line = Line::new(&self.data);
        loop {
            let at = self.guard().renew_at();
            let Some(at) = at else { return std::future::pending().await };
            until(at).await;
            let sent = now();
            match line.ask(Ask::KeepAlive { lease: self.lease }, self.wanted.ttl / 3).await {
                Ok(Answer::Renewed { stepping_down, .. }) if stepping_down.is_empty() => {
                    self.guard().renewed(sent);
                }
                // It stands for one name.
                Ok(Answer::Renewed { .. }) => return Loss::SteppedDown,
                Err(Failure { code: Code::NotFound, .. }) => return Loss::Taken,
                Ok(_) | Err(_) => sleep(RETRY).await,
            }
        }
    }

    /// Looks at whose the name is, now and after each change, until `verdict` has one.
    async fn hear<T>(&self, verdict: impl Fn(Option<&HolderDoc>) -> Option<T>) -> T {
        loop {
            match self.hear_once(&verdict).await {
                Ok(reached) => return reached,
                Err(failure) => tracing::debug!(%failure, "what becomes of the name is not heard"),
            }
            sleep(RETRY).await;
        }
    }

    async fn hear_once<T>(
        &self,
        verdict: impl Fn(Option<&HolderDoc>) -> Option<T>,
    ) -> Result<T, Failure> {
        let mut line = Line::new(&self.data);
        let name = self.wanted.name.clone();
        let revision = match line.ask(Ask::Name { name: name.clone() }, REQUEST).await {
            Ok(Answer::Name { revision, holder, .. }) => {
                if let Some(reached) = verdict(holder.as_ref()) {
                    return Ok(reached);
                }
                revision
            }
            Ok(other) => return Err(unexpected(&other)),
            Err(failure) => {
                let nobody = failure.code == Code::NotFound;
                return verdict(None).filter(|_| nobody).ok_or(failure);
            }
        };
        let target = TargetDoc::Name(name);
        let session = line.send(Ask::Watch { target, from: Some(revision + 1) }, REQUEST).await?;
        loop {
            let Some(reply) = session.next().await? else { return Err(ended()) };
            if let Reply::Cluster(Answer::Change(ChangeDoc::Name { holder, .. })) = reply
                && let Some(reached) = verdict(holder.as_ref())
            {
                return Ok(reached);
            }
        }
    }
}

impl Hold {
    pub(super) fn lease(&self) -> u64 {
        self.candidacy.lease
    }

    pub(super) fn name(&self) -> &Blob {
        &self.candidacy.wanted.name
    }

    /// Keeps it, until it is lost, or only `margin` is left and no renewal was answered.
    pub(super) async fn lost(&self, margin: Duration) -> Loss {
        let verdict = |holder: Option<&HolderDoc>| match holder {
            Some(holder) if holder.token == self.token && !holder.stepping_down => None,
            Some(holder) if holder.token == self.token => Some(Loss::SteppedDown),
            _ => Some(Loss::Taken),
        };
        let loss = tokio::select! {
            biased;
            () = self.candidacy.runs_out(margin) => Loss::Expired,
            loss = self.candidacy.keep() => loss,
            loss = self.candidacy.hear(verdict) => loss,
        };
        self.candidacy.guard().lose(loss);
        loss
    }

    /// Waits until nothing is left, though it is kept alive no longer.
    pub(super) async fn over(&self) {
        self.candidacy.runs_out(Duration::ZERO).await;
    }

    /// How much may be kept for ending in order.
    pub(super) fn margin(&self, grace: Duration) -> Duration {
        grace.min(self.candidacy.wanted.ttl * 3 / 10)
    }

    /// Gives it back.
    pub(super) async fn release(&self) -> Result<(), Failure> {
        let (name, token) = (self.name().clone(), self.token);
        let mut line = Line::new(&self.candidacy.data);
        let released = line.ask(Ask::Release { name, token }, REQUEST).await;
        self.candidacy.leave().await;
        released.map(drop)
    }
}

/// The running node, reached again whenever the connection breaks.
#[derive(Debug)]
struct Line {
    data: PathBuf,
    session: Option<Session>,
}

impl Line {
    fn new(data: &Path) -> Line {
        Line { data: data.to_owned(), session: None }
    }

    /// Asks what has one answer; it comes soon after `limit` at the latest.
    async fn ask(&mut self, ask: Ask, limit: Duration) -> Result<Answer, Failure> {
        let answered = {
            let work = pin!(self.ask_once(ask, limit));
            timeout(limit + LATE, work).await
        };
        match answered {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(failure)) => {
                if failure.code == Code::Unreachable {
                    self.session = None;
                }
                Err(failure)
            }
            Err(_) => {
                self.session = None;
                Err(silent())
            }
        }
    }

    async fn ask_once(&mut self, ask: Ask, limit: Duration) -> Result<Answer, Failure> {
        let session = self.send(ask, limit).await?;
        let mut answer = None;
        while let Some(reply) = session.next().await? {
            if let Reply::Cluster(one) = reply {
                answer = Some(one);
            }
        }
        answer.ok_or_else(ended)
    }

    async fn send(&mut self, ask: Ask, limit: Duration) -> Result<&mut Session, Failure> {
        let session = match self.session.take() {
            Some(session) => session,
            None => Session::open(&self.data, true).await?,
        };
        let session = self.session.insert(session);
        let timeout_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        session.ask(Request::Cluster { timeout_ms, ask: Box::new(ask) }).await?;
        Ok(session)
    }
}

/// This process's clock: it does not stop while the machine sleeps, as others' do not either.
pub(super) fn now() -> Time {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("every Linux has this clock");
    Time(Duration::from(now).as_micros().try_into().unwrap_or(u64::MAX))
}

/// Waits until the clock shows `at`.
async fn until(at: Time) {
    loop {
        let left = Duration::from_micros(at.since_us(now()));
        if left.is_zero() {
            return;
        }
        sleep(left.min(LOOK)).await;
    }
}

pub(in crate::cli) fn silent() -> Failure {
    let message = "the running node did not answer in time: is it stopped, or overloaded?";
    Failure::new(Code::Unreachable, message)
}

fn ended() -> Failure {
    Failure::new(Code::Unreachable, "the node stopped before it had answered; its log says why")
}

fn unexpected(answer: &Answer) -> Failure {
    Failure::new(Code::Failed, format!("the node answered something else: {answer:?}"))
}
