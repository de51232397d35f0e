//! Locks: a name held for as long as something is done; and what a store of one's own does with tokens.
//!
//! A lock is a name like that of an election, and whoever has it holds a [`Guard`].
//!
//! **Tokens.** No lock on a network keeps a holder that was paused, or whose packets are on their way,
//! from acting after its time: whoever accepts the act has to refuse it. The registry does so for a write
//! with a [fence](super::cluster::Given). A store of one's own keeps a [`Watermark`] for each lock: the
//! greatest token it has seen. (Kleppmann, *How to do distributed locking*, 2016.)

use std::time::Duration;

use bytes::Bytes;

use super::cluster::{Cluster, ClusterError};
use super::leadership::{Campaign, Guard, PARTING};

impl Cluster {
    /// Takes the lock `name`, waiting for it as long as `wait`.
    ///
    /// # Errors
    ///
    /// [`ClusterError::TimedOut`] where others held it all the time; or what the cluster answered.
    pub async fn lock(
        &self,
        name: impl Into<Bytes>,
        ttl: Duration,
        wait: Duration,
    ) -> Result<Guard, ClusterError> {
        let campaign = Campaign { ttl, ..Campaign::new(name) };
        // Why nobody can be asked is said not much later than what was to be waited.
        let hurried = self.clone().with_timeout(self.timeout().min(wait.max(PARTING)));
        hurried.campaign(campaign).await?.wait_for_leadership(wait).await
    }
}

/// The greatest token that a store has seen of one lock. It must be kept with what the store keeps, in
/// one transaction.
///
/// ```
/// use quorate_runtime_tokio::node::lock::Watermark;
///
/// let mut seen = Watermark::default();
/// assert!(seen.admit(7).is_ok());
/// assert!(seen.admit(7).is_ok(), "the same holder again");
/// assert!(seen.admit(9).is_ok());
/// assert_eq!(seen.admit(7).unwrap_err().seen, 9);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watermark(pub u64);

/// A token that is older than one that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the token {token} is old: {seen} was seen")]
pub struct Stale {
    /// What was shown.
    pub token: u64,
    /// What was seen.
    pub seen: u64,
}

impl Watermark {
    /// Admits whoever shows `token`, and nobody with an older one from then on.
    ///
    /// # Errors
    ///
    /// The token is older than one that was seen: nothing may be done.
    pub fn admit(&mut self, token: u64) -> Result<(), Stale> {
        if token < self.0 {
            return Err(Stale { token, seen: self.0 });
        }
        self.0 = token;
        Ok(())
    }
}
