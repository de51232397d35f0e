//! A lease that stands for a name: in the queue, or as its holder's.

use std::time::Duration;

use quorate_core::machine::Time;
use quorate_core::registry::{Command as Change, Reply};
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::cluster::{Cluster, ClusterError, Error, Read, Refusal, Renewed, Target, WatchUpdate};
use super::leadership::Campaign;
use super::observe::holder_of;

/// What failed is tried again after so long.
pub(super) const RETRY: Duration = Duration::from_millis(100);

/// How a candidate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// The name is its, under this token.
    Held(u64),
    /// It waits; news come with this revision at the earliest.
    Queued(u64),
}

/// A lease that stands for a name.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) cluster: Cluster,
    pub(super) campaign: Campaign,
    pub(super) origin: Instant,
    pub(super) lease: u64,
    /// When what was last answered of the lease was sent.
    pub(super) sent: Time,
}

impl Standing {
    /// Without a lease as yet.
    pub(super) fn new(cluster: Cluster, campaign: Campaign) -> Standing {
        Standing { cluster, campaign, origin: Instant::now(), lease: 0, sent: Time::ZERO }
    }

    pub(super) fn now(&self) -> Time {
        Time(self.origin.elapsed().as_micros() as u64)
    }

    fn at(&self, time: Time) -> Instant {
        self.origin + Duration::from_micros(time.0)
    }

    /// Takes a lease and stands with it.
    pub(super) async fn stand(&mut self) -> Result<Stand, ClusterError> {
        let sent = self.now();
        self.lease = self.cluster.grant(self.campaign.ttl).await?;
        self.sent = sent;
        self.stand_again().await
    }

    /// Stands with the lease that there is; asked twice, it changes nothing.
    async fn stand_again(&self) -> Result<Stand, ClusterError> {
        let Campaign { name, value, priority, .. } = self.campaign.clone();
        let campaign = Change::Campaign { name, lease: self.lease, priority, value };
        match self.cluster.change(campaign).await? {
            Reply::Held { token } => Ok(Stand::Held(token)),
            Reply::Queued { revision, .. } => Ok(Stand::Queued(revision + 1)),
            _ => Err(ClusterError::BadReply),
        }
    }

    fn renew_at(&self) -> Instant {
        self.at(self.sent) + self.campaign.ttl / 3
    }

    /// Renews the lease; what is asked of its holder. Who is asked to give the name back, though it may
    /// not have heard yet that it has it, gains no time: the log's runs from when it was asked.
    pub(super) async fn renew(&mut self) -> Result<Vec<u64>, ClusterError> {
        let sent = self.now();
        // An answer that comes later than the next renewal is due is of no use.
        let cluster = self.cluster.clone().with_timeout(self.campaign.ttl / 3);
        let Renewed { stepping_down, .. } = cluster.keep_alive(self.lease).await?;
        if stepping_down.is_empty() {
            self.sent = self.sent.max(sent);
        }
        Ok(stepping_down)
    }

    /// Waits until the name is this candidate's.
    pub(super) async fn granted(&mut self, mut stand: Stand) -> Result<u64, ClusterError> {
        loop {
            let from = match stand {
                Stand::Held(token) => return Ok(token),
                Stand::Queued(from) => from,
            };
            if let Some(token) = self.watch_queue(from).await? {
                return Ok(token);
            }
            // The watch or the lease has ended.
            stand = match self.stand_again().await {
                Err(error) if is_gone(&error) => self.stand().await?,
                other => other?,
            };
        }
    }

    /// The token, once it is granted; nothing where the watch or the lease ends before.
    async fn watch_queue(&mut self, from: u64) -> Result<Option<u64>, ClusterError> {
        let target = Target::Name(self.campaign.name.clone());
        let mut watch = self.cluster.watch(target, Some(from)).await?;
        loop {
            let renew_at = self.renew_at();
            tokio::select! {
                update = watch.next() => match update? {
                    WatchUpdate::Changed { changes, .. } => {
                        let mine = changes.iter().filter_map(holder_of);
                        let mine = mine.flatten().find(|holder| holder.lease == self.lease);
                        if let Some(holder) = mine {
                            return Ok(Some(holder.token));
                        }
                    }
                    WatchUpdate::Began { .. } => {}
                    WatchUpdate::Compacted { .. } => return Ok(None),
                    // This node keeps no data, or has too many watches.
                    WatchUpdate::Ended(_) => return self.ask_for_turn().await,
                },
                () = sleep_until(renew_at) => if self.is_gone_when_renewed().await? {
                    return Ok(None);
                },
            }
        }
    }

    /// The same where nothing can be watched: asks again and again.
    async fn ask_for_turn(&mut self) -> Result<Option<u64>, ClusterError> {
        loop {
            sleep(RETRY).await;
            if Instant::now() >= self.renew_at() && self.is_gone_when_renewed().await? {
                return Ok(None);
            }
            let holder =
                match self.cluster.name(self.campaign.name.clone(), Read::Linearizable).await {
                    Ok(view) => view.and_then(|view| view.holder),
                    Err(ClusterError::Refused(Error::Unavailable { .. })) => continue,
                    Err(error) => return Err(error),
                };
            if let Some(holder) = holder.filter(|holder| holder.lease == self.lease) {
                return Ok(Some(holder.token));
            }
        }
    }

    /// Renews the lease of one who waits, if it can be; whether the lease has ended.
    async fn is_gone_when_renewed(&mut self) -> Result<bool, ClusterError> {
        match self.renew().await {
            Ok(stepping_down) if stepping_down.is_empty() => return Ok(false),
            // It was granted the name: that is heard otherwise.
            Ok(_) => {}
            Err(error) if is_gone(&error) => return Ok(true),
            Err(ClusterError::Stopped) => return Err(ClusterError::Stopped),
            Err(error) => debug!(%error, "not renewed"),
        }
        sleep(RETRY).await;
        Ok(false)
    }

    /// Gives the name back, or the place in the queue, and the lease.
    pub(super) async fn leave(&self, token: Option<u64>) -> Result<(), ClusterError> {
        let (name, lease) = (self.campaign.name.clone(), self.lease);
        let change = match token {
            Some(token) => Change::Release { name, token },
            None => Change::Withdraw { name, lease },
        };
        let left = match self.cluster.change(change).await {
            // It was granted meanwhile.
            Err(ClusterError::Refused(Error::Refused(Refusal::Holds { token }))) => {
                let name = self.campaign.name.clone();
                self.cluster.change(Change::Release { name, token }).await
            }
            other => other,
        };
        let ended = self.cluster.revoke(lease).await;
        match left.map(drop).and(ended) {
            Err(error) if is_gone(&error) => Ok(()),
            other => other,
        }
    }

    pub(super) fn leave_in_background(self, token: Option<u64>) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(async move {
                if let Err(error) = self.leave(token).await {
                    debug!(%error, "the lease ends by itself");
                }
            }));
        }
    }
}

/// Whether what was to be renewed or given back is not there any more.
pub(super) fn is_gone(error: &ClusterError) -> bool {
    let ClusterError::Refused(Error::Refused(refusal)) = error else { return false };
    matches!(
        refusal,
        Refusal::UnknownLease
            | Refusal::UnknownName
            | Refusal::StaleToken { .. }
            | Refusal::NotACandidate
    )
}
