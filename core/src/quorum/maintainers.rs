//! Whose signals count, how many make a quorum, and how both change.
//!
//! The first set is the operator's choice. Every later one is named by the one before: a
//! [`Succession`] is signed by a quorum of the old set, which alone could give its power away, and by
//! a quorum of the new one, which shows that it has its keys (TUF's root role works the same way:
//! "signed by both the old and the new"). Each set names its predecessor by hash, so a succession
//! fits in one place and cannot be replayed in another.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::nostr::{Draft, Event, PublicKey, Verify};
use crate::hash::Hash;

/// The kind of the event with which a maintainer signs a succession.
pub const KIND: u32 = 33_322;
/// The `d` tag of every such event.
pub const ADDRESS: &str = "quorate-maintainers";
/// Maintainers of a network, at most.
pub const MAX_MAINTAINERS: usize = 64;

/// Whose signals count.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Maintainers {
    keys: BTreeSet<PublicKey>,
    threshold: u32,
    sequence: u64,
    previous: Hash,
}

/// A set of maintainers that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadMaintainers {
    /// Nobody, or more than [`MAX_MAINTAINERS`].
    Number(usize),
    /// A quorum of nobody, or of more than there are.
    Threshold(u32),
}

impl fmt::Display for BadMaintainers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadMaintainers::Number(n) => write!(f, "{n} maintainers: from 1 to {MAX_MAINTAINERS}"),
            BadMaintainers::Threshold(n) => {
                write!(f, "a quorum of {n}: from 1 to the number of maintainers")
            }
        }
    }
}

impl core::error::Error for BadMaintainers {}

impl Maintainers {
    /// The first set.
    ///
    /// # Errors
    /// Too many, too few, or a quorum that can never be or always is.
    pub fn new(
        keys: impl IntoIterator<Item = PublicKey>,
        threshold: u32,
    ) -> Result<Maintainers, BadMaintainers> {
        let keys = keys.into_iter().collect();
        Maintainers { keys, threshold, sequence: 0, previous: Hash::ZERO }.checked()
    }

    /// The set that follows this one.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn next(
        &self,
        keys: impl IntoIterator<Item = PublicKey>,
        threshold: u32,
    ) -> Result<Maintainers, BadMaintainers> {
        let (sequence, previous) = (self.sequence + 1, self.hash());
        let keys = keys.into_iter().collect();
        Maintainers { keys, threshold, sequence, previous }.checked()
    }

    fn checked(self) -> Result<Maintainers, BadMaintainers> {
        if self.keys.is_empty() || self.keys.len() > MAX_MAINTAINERS {
            return Err(BadMaintainers::Number(self.keys.len()));
        }
        if self.threshold == 0 || self.threshold as usize > self.keys.len() {
            return Err(BadMaintainers::Threshold(self.threshold));
        }
        Ok(self)
    }

    /// Their keys.
    #[must_use]
    pub fn keys(&self) -> &BTreeSet<PublicKey> {
        &self.keys
    }

    /// How many of them make a quorum.
    #[must_use]
    pub fn threshold(&self) -> u32 {
        self.threshold
    }

    /// How often the set has changed before.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What names this set and all before it.
    #[must_use]
    pub fn hash(&self) -> Hash {
        let bytes = postcard::to_allocvec(self).expect("a vector takes whatever is written to it");
        Hash(blake3::derive_key("quorate 2026 rollout maintainers", &bytes))
    }

    /// Whether this set names `current` as the one before it.
    pub(super) fn is_after(&self, current: &Maintainers) -> bool {
        self.sequence == current.sequence + 1 && self.previous == current.hash()
    }

    /// Whether these are enough of them.
    #[must_use]
    pub fn is_quorum(&self, signers: &BTreeSet<PublicKey>) -> bool {
        let count = self.keys.intersection(signers).count();
        count >= (self.threshold as usize) - usize::from(bug!(one_short_of_a_quorum))
    }

    /// What a maintainer signs so that this set follows, for one network.
    #[must_use]
    pub fn draft(&self, network: &str, created_at: u64) -> Draft {
        let tag = |name: &str, value: String| [name.to_owned(), value].to_vec();
        let tags = [
            tag("d", ADDRESS.to_owned()),
            tag("network", network.to_owned()),
            tag("maintainers", self.hash().to_string()),
        ];
        let content = alloc::format!("maintainers of {network}, set {}", self.sequence);
        Draft { created_at, kind: KIND, tags: tags.to_vec(), content }
    }
}

/// The next set, and the signatures under it: from both sides.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Succession {
    /// Who follows.
    pub next: Maintainers,
    /// Events of [`Maintainers::draft`].
    pub signatures: Vec<Event>,
}

impl Succession {
    /// Whether it is what follows `current`.
    #[must_use]
    pub fn follows(&self, current: &Maintainers, network: &str, verify: Verify) -> bool {
        let Succession { next, signatures } = self;
        if !next.is_after(current)
            || next.clone().checked().is_err()
            || signatures.len() > 2 * MAX_MAINTAINERS
        {
            return false;
        }
        let hash = next.hash().to_string();
        let signs = |event: &&Event| {
            event.kind == KIND
                && event.tag("network") == Ok(network)
                && event.tag("maintainers") == Ok(&hash)
                && event.check(verify).is_ok()
        };
        let signers = signatures.iter().filter(signs).map(|event| event.pubkey).collect();
        current.is_quorum(&signers) && (bug!(old_quorum_is_enough) || next.is_quorum(&signers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::nostr::{SecretKey, verify};

    fn key(n: u8) -> SecretKey {
        SecretKey::from_bytes(&[n; 32]).unwrap()
    }

    fn set(from: u8, to: u8) -> Vec<PublicKey> {
        (from..=to).map(|n| key(n).public()).collect()
    }

    fn signed(next: &Maintainers, by: &[u8]) -> Succession {
        let signatures = by.iter().map(|n| key(*n).sign(next.draft("net", 7))).collect();
        Succession { next: next.clone(), signatures }
    }

    #[test]
    fn both_quorums_must_sign() {
        let old = Maintainers::new(set(1, 3), 2).unwrap();
        let next = old.next(set(3, 6), 3).unwrap();
        let follows = |by: &[u8]| signed(&next, by).follows(&old, "net", verify);
        assert!(follows(&[1, 3, 4, 5]));
        assert!(!follows(&[1, 2, 3]), "of the new only 3");
        assert!(!follows(&[3, 4, 5, 6]), "of the old only 3");
        assert!(!follows(&[1, 1, 4, 5, 6]), "once is once");
        assert!(!signed(&next, &[1, 3, 4, 5]).follows(&old, "other", verify));
        assert!(!signed(&next, &[1, 3, 4, 5]).follows(&next, "net", verify), "not after itself");
        let weak = Maintainers { threshold: 0, ..next.clone() };
        assert!(!signed(&weak, &[1, 2, 3, 4, 5, 6]).follows(&old, "net", verify));
    }

    #[test]
    fn impossible_sets_are_refused() {
        assert_eq!(Maintainers::new([], 1), Err(BadMaintainers::Number(0)));
        assert_eq!(Maintainers::new(set(1, 3), 4), Err(BadMaintainers::Threshold(4)));
        assert_eq!(Maintainers::new(set(1, 3), 0), Err(BadMaintainers::Threshold(0)));
    }
}
