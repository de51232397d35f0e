//! Leadership of a name: campaigning, a guard that knows when it ends, standing down, looking on.
//!
//! ```no_run
//! # async fn run(node: quorate_runtime_tokio::Node) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use quorate_runtime_tokio::node::leadership::Campaign;
//!
//! let candidacy = node.cluster().campaign(Campaign::new("billing")).await?;
//! let guard = candidacy.wait_for_leadership(Duration::from_secs(60)).await?;
//! println!("leading, with the token {}", guard.token());
//! tokio::select! {
//!     loss = guard.lost() => println!("lost: {loss}"), // stop at once
//!     () = work() => guard.release().await?,
//! }
//! # Ok(()) }
//! # async fn work() {}
//! ```
//!
//! A name is held with a lease of its own, which a task keeps alive. The guard does not believe that
//! task: it looks at this process's own clock ([`quorate_core::cluster::Guard`]), so that it ends in time
//! though nothing is heard, and though the process was paused. (Not though the whole machine was: the
//! monotonic clock of Linux stands still then.) Whoever writes somewhere with the
//! [token](Guard::token) is protected even then: the registry refuses an old one by itself
//! ([`Given::fence`](super::cluster::Given)), and another store can with a
//! [`Watermark`](super::lock::Watermark).

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use quorate_core::cluster;
use quorate_core::machine::Time;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{debug, warn};

use super::cluster::{Cluster, ClusterError, ClusterWatch, Fence, Target, WatchUpdate, millis};
use super::observe::holder_of;
use super::standing::{RETRY, Stand, Standing, is_gone};

pub use quorate_core::cluster::Loss;

/// How long a lease lasts from each renewal, unless told otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_secs(10);

/// How long giving up a place may take where somebody waits for it.
pub(super) const PARTING: Duration = Duration::from_secs(1);

/// What a candidate wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Campaign {
    /// Of the election.
    pub name: Bytes,
    /// For whoever looks the holder up.
    pub value: Bytes,
    /// Higher is granted earlier. It takes the name from nobody.
    pub priority: u8,
    /// How long the name is kept for a holder that says nothing.
    pub ttl: Duration,
    /// If set, the application must call [`Guard::heartbeat`] at least this often: one that hangs is
    /// replaced.
    pub heartbeat: Option<Duration>,
}

impl Campaign {
    /// For `name`, with [`DEFAULT_TTL`], without priority, value and heartbeat.
    #[must_use]
    pub fn new(name: impl Into<Bytes>) -> Campaign {
        let (name, value, priority, ttl) = (name.into(), Bytes::new(), 0, DEFAULT_TTL);
        Campaign { name, value, priority, ttl, heartbeat: None }
    }
}

impl Cluster {
    /// Stands for a name, with a lease of its own: it is this candidate's at once, or it waits for its
    /// turn.
    ///
    /// # Errors
    ///
    /// What the cluster answered.
    pub async fn campaign(&self, campaign: Campaign) -> Result<Candidacy, ClusterError> {
        let mut standing = Standing::new(self.clone(), campaign);
        let stand = standing.stand().await?;
        Ok(Candidacy { standing: Some(standing), stand })
    }
}

/// A place in the queue for a name, or the name already. Dropping it gives it up.
#[derive(Debug)]
pub struct Candidacy {
    standing: Option<Standing>,
    stand: Stand,
}

impl Candidacy {
    /// Whether the name is this candidate's already.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self.stand, Stand::Held(_))
    }

    /// Waits until the name is this candidate's. Its place in the queue is kept meanwhile.
    ///
    /// # Errors
    ///
    /// [`ClusterError::TimedOut`], and then the place is given up; or what the cluster answered.
    pub async fn wait_for_leadership(mut self, limit: Duration) -> Result<Guard, ClusterError> {
        let stand = self.stand;
        let Some(standing) = &mut self.standing else { return Err(ClusterError::Stopped) };
        let granted = async {
            let token = standing.granted(stand).await?;
            if standing.campaign.heartbeat.is_some() {
                // The application's time runs from here, and the lease's with it.
                standing.renew().await?;
            }
            Ok(token)
        };
        let granted = timeout(limit, granted).await;
        let token = granted.unwrap_or(Err(ClusterError::TimedOut));
        let Some(standing) = self.standing.take() else { return Err(ClusterError::Stopped) };
        match token {
            Ok(token) => Ok(Guard::begin(standing, token)),
            Err(error) => {
                // Where no quorum is there to be told, the lease ends by itself.
                match timeout(PARTING, standing.leave(None)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => debug!(%error, "the lease ends by itself"),
                    Err(_) => debug!("the lease ends by itself"),
                }
                Err(error)
            }
        }
    }

    /// Gives it up.
    ///
    /// # Errors
    ///
    /// What the cluster answered; the lease then ends by itself.
    pub async fn withdraw(mut self) -> Result<(), ClusterError> {
        let token = self.token();
        let Some(standing) = self.standing.take() else { return Ok(()) };
        standing.leave(token).await
    }

    fn token(&self) -> Option<u64> {
        if let Stand::Held(token) = self.stand { Some(token) } else { None }
    }
}

impl Drop for Candidacy {
    fn drop(&mut self) {
        if let Some(standing) = self.standing.take() {
            standing.leave_in_background(self.token());
        }
    }
}

/// A name that is held. Dropping it gives it back.
#[derive(Debug)]
pub struct Guard {
    held: Arc<Held>,
    standing: Option<Standing>,
}

/// What a guard and the task that keeps its lease alive share.
#[derive(Debug)]
struct Held {
    name: Bytes,
    token: u64,
    lease: u64,
    origin: Instant,
    guard: Mutex<cluster::Guard>,
    changed: Notify,
}

impl Guard {
    fn begin(standing: Standing, token: u64) -> Guard {
        let Standing { campaign, origin, lease, sent, .. } = &standing;
        let mut guard =
            cluster::Guard::new(*sent, millis(campaign.ttl), campaign.heartbeat.map(millis));
        guard.alive(standing.now());
        let held = Arc::new(Held {
            name: campaign.name.clone(),
            token,
            lease: *lease,
            origin: *origin,
            guard: Mutex::new(guard),
            changed: Notify::new(),
        });
        drop(tokio::spawn(keep(standing.clone(), Arc::clone(&held))));
        Guard { held, standing: Some(standing) }
    }

    /// Of what.
    #[must_use]
    pub fn name(&self) -> &Bytes {
        &self.held.name
    }

    /// The fencing token: greater than that of any holder before.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.held.token
    }

    /// The lease with which it stands and falls; keys may hang on it too.
    #[must_use]
    pub fn lease(&self) -> u64 {
        self.held.lease
    }

    /// What makes a write to the registry conditional on this grant.
    #[must_use]
    pub fn fence(&self) -> Fence {
        Fence { name: self.held.name.clone(), token: self.held.token }
    }

    /// Whether it is still held, now and by this process's own clock.
    ///
    /// # Errors
    ///
    /// It is lost, and why. Lost stays lost.
    pub fn check(&self) -> Result<(), Loss> {
        self.held.check()
    }

    /// Until when it is held if nothing more is heard.
    #[must_use]
    pub fn valid_until(&self) -> Instant {
        self.held.at(self.held.lock().valid_until())
    }

    /// Waits until it is lost: for this, nothing need be heard of anybody. What is done under it must
    /// then stop. May be dropped at any await.
    pub async fn lost(&self) -> Loss {
        self.held.lost().await
    }

    /// The application is alive. See [`Campaign::heartbeat`].
    pub fn heartbeat(&self) {
        let now = self.held.now();
        self.held.lock().alive(now);
    }

    /// Gives it back: the next in the queue has it at once. Whoever was [asked to](Loss::SteppedDown)
    /// does this when its work has stopped.
    ///
    /// # Errors
    ///
    /// What the cluster answered; the lease then ends by itself.
    pub async fn release(mut self) -> Result<(), ClusterError> {
        self.held.lose(Loss::Released);
        let Some(standing) = self.standing.take() else { return Ok(()) };
        standing.leave(Some(self.held.token)).await
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.held.lose(Loss::Released);
        if let Some(standing) = self.standing.take() {
            standing.leave_in_background(Some(self.held.token));
        }
    }
}

impl Held {
    fn now(&self) -> Time {
        Time(self.origin.elapsed().as_micros() as u64)
    }

    fn at(&self, time: Time) -> Instant {
        self.origin + Duration::from_micros(time.0)
    }

    fn lock(&self) -> MutexGuard<'_, cluster::Guard> {
        self.guard.lock().expect("nothing panics with the lock held")
    }

    fn check(&self) -> Result<(), Loss> {
        let now = self.now();
        self.lock().check(now)
    }

    fn lose(&self, loss: Loss) {
        self.lock().lose(loss);
        self.changed.notify_waiters();
    }

    async fn lost(&self) -> Loss {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Err(loss) = self.check() {
                return loss;
            }
            let until = self.at(self.lock().valid_until());
            tokio::select! {
                () = changed => {}
                () = sleep_until(until) => {}
            }
        }
    }
}

/// Keeps a held name's lease alive, and hears what becomes of the name, until it is lost.
async fn keep(mut standing: Standing, held: Arc<Held>) {
    let mut watch = None;
    let loss = loop {
        let renew_at = held.lock().renew_at();
        let Some(renew_at) = renew_at.map(|at| held.at(at)) else { break held.lost().await };
        tokio::select! {
            biased;
            loss = held.lost() => break loss,
            news = news(&standing, &mut watch, held.token) => match news {
                Ok(None) => {}
                Ok(Some(loss)) => held.lose(loss),
                Err(error) => {
                    debug!(%error, "no watch");
                    tokio::select! {
                        _ = held.lost() => {}
                        () = sleep(RETRY) => {}
                    }
                }
            },
            () = sleep_until(renew_at) => {
                tokio::select! {
                    biased;
                    _ = held.lost() => {}
                    () = renew(&mut standing, &held) => {}
                }
            }
        }
    };
    if loss != Loss::Released {
        let name = String::from_utf8_lossy(&held.name);
        warn!(%name, token = held.token, %loss, "lost");
    }
}

async fn renew(standing: &mut Standing, held: &Held) {
    match standing.renew().await {
        Ok(stepping_down) => {
            held.lock().renewed(standing.sent);
            if stepping_down.contains(&held.token) {
                held.lose(Loss::SteppedDown);
            }
        }
        Err(error) if is_gone(&error) => held.lose(Loss::Taken),
        Err(error) => {
            debug!(%error, "not renewed");
            sleep(RETRY).await;
        }
    }
}

/// What a watch tells of the grant `token`: how it ends, if it does.
async fn news(
    standing: &Standing,
    watch: &mut Option<ClusterWatch>,
    token: u64,
) -> Result<Option<Loss>, ClusterError> {
    let open = match watch {
        Some(open) => open,
        None => {
            let target = Target::Name(standing.campaign.name.clone());
            watch.insert(standing.cluster.watch(target, Some(token)).await?)
        }
    };
    match open.next().await? {
        WatchUpdate::Changed { changes, .. } => {
            let holders = changes.iter().filter_map(holder_of);
            Ok(holders.last().and_then(|holder| match holder {
                Some(holder) if holder.token == token => {
                    holder.stepping_down.map(|_| Loss::SteppedDown)
                }
                // Changes before the grant may come too.
                Some(holder) if holder.token < token => None,
                _ => Some(Loss::Taken),
            }))
        }
        WatchUpdate::Began { .. } => Ok(None),
        WatchUpdate::Compacted { .. } | WatchUpdate::Ended(_) => {
            // The renewals tell as well, only later.
            *watch = None;
            Err(ClusterError::TimedOut)
        }
    }
}
