//! Looking on at a name: who holds it, and waiting for somebody, or for somebody else.

use std::time::Duration;

use bytes::Bytes;
use quorate_core::machine::NodeId;
use quorate_core::registry::{Command as Change, Reply};
use tokio::time::{sleep, timeout};

use super::cluster::{
    Cluster, ClusterError, ClusterWatch, Happened, Holder, Query, Read, Request, SteppedDown,
    Target, WatchUpdate,
};
use super::standing::RETRY;

impl Cluster {
    /// Waits until somebody holds `name`, whoever it is.
    ///
    /// # Errors
    ///
    /// [`ClusterError::TimedOut`], or what the cluster answered.
    pub async fn wait_for_leader(
        &self,
        name: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Holder, ClusterError> {
        let mut observer = self.within(limit).observe(name);
        let held = async {
            loop {
                if let Some(holder) = observer.next().await? {
                    return Ok(holder);
                }
            }
        };
        timeout(limit, held).await.unwrap_or(Err(ClusterError::TimedOut))
    }

    /// Looks on at a name: who holds it now, and then each change.
    #[must_use]
    pub fn observe(&self, name: impl Into<Bytes>) -> Observer {
        Observer { cluster: self.clone(), name: name.into(), watch: None, told: None }
    }

    /// Asks the holder of `name` to give it back, to a candidate of the node `to` or to the next; and
    /// waits until that has happened.
    ///
    /// # Errors
    ///
    /// [`ClusterError::TimedOut`], or what the cluster answered: [`Refusal::UnknownName`](super::cluster::Refusal) where nobody
    /// holds it.
    pub async fn step_down(
        &self,
        name: impl Into<Bytes>,
        to: Option<NodeId>,
        limit: Duration,
    ) -> Result<SteppedDown, ClusterError> {
        let (name, cluster) = (name.into(), self.within(limit));
        let gone = async {
            let asked = cluster.change(Change::StepDown { name: name.clone(), to }).await?;
            let Reply::SteppingDown { token, .. } = asked else {
                return Err(ClusterError::BadReply);
            };
            let mut observer = cluster.observe(name);
            loop {
                let next = observer.next().await?;
                if next.as_ref().is_none_or(|holder| holder.token != token) {
                    return Ok(SteppedDown { token, next });
                }
            }
        };
        timeout(limit, gone).await.unwrap_or(Err(ClusterError::TimedOut))
    }

    /// The same, whose requests say within `limit` why there is no answer.
    fn within(&self, limit: Duration) -> Cluster {
        self.clone().with_timeout(self.timeout().min(limit / 10 * 9))
    }
}

/// Looks on at a name. Dropping it ends that.
#[derive(Debug)]
pub struct Observer {
    cluster: Cluster,
    name: Bytes,
    watch: Option<ClusterWatch>,
    told: Option<Option<Holder>>,
}

impl Observer {
    /// Who holds the name: now, the first time, and then with each change. Whoever looks on for long
    /// and slowly may miss a holder in between, and never the last. May be dropped at any await.
    ///
    /// # Errors
    ///
    /// What the cluster answered.
    pub async fn next(&mut self) -> Result<Option<Holder>, ClusterError> {
        loop {
            let Some(watch) = &mut self.watch else {
                let holder = self.look().await?;
                if self.told.as_ref() != Some(&holder) {
                    self.told = Some(holder.clone());
                    return Ok(holder);
                }
                sleep(RETRY).await;
                continue;
            };
            match watch.next().await? {
                WatchUpdate::Changed { changes, .. } => {
                    let Some(holder) = changes.iter().filter_map(holder_of).next_back() else {
                        continue;
                    };
                    let holder = holder.cloned();
                    if self.told.as_ref() != Some(&holder) {
                        self.told = Some(holder.clone());
                        return Ok(holder);
                    }
                }
                WatchUpdate::Began { .. } => {}
                WatchUpdate::Compacted { .. } | WatchUpdate::Ended(_) => self.watch = None,
            }
        }
    }

    /// How things stand, and a watch of what changes after that: this node may be behind, and what had
    /// changed before must not be told as news. A node that keeps no data has nothing to watch: it looks
    /// again.
    async fn look(&mut self) -> Result<Option<Holder>, ClusterError> {
        // Among names that begin so this one is the first, and where it is not there the revision is told.
        let query = Query::Names { prefix: self.name.clone(), after: None, limit: 1 };
        let asked = Request::Query { query, read: Read::Linearizable };
        let Reply::Names { revision, names, .. } = self.cluster.request(asked).await? else {
            return Err(ClusterError::BadReply);
        };
        let target = Target::Name(self.name.clone());
        self.watch = Some(self.cluster.watch(target, Some(revision + 1)).await?);
        let this = names.into_iter().find(|view| view.name == self.name);
        Ok(this.and_then(|view| view.holder))
    }
}

/// The holder after a change of a name.
pub(super) fn holder_of(change: &Happened) -> Option<Option<&Holder>> {
    match change {
        Happened::Name { holder, .. } => Some(holder.as_ref()),
        Happened::Put(_) | Happened::Deleted { .. } => None,
    }
}
