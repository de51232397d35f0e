//! Who a node is: an Ed25519 key pair. The public key is the node's id.
//!
//! There is one acceptance rule for signatures, used everywhere: RFC 8032's, with points of small order
//! and encodings that are not canonical refused. Ed25519 libraries differ on hostile signatures, and a
//! store whose nodes disagree on one signature never ends equal; so a batch of signatures must be
//! judged as each of them would be. The essay in `verify.rs` says how. A host may give the machines
//! another [`Verify`] only if it answers exactly as [`verify`] does, a memo of it for instance.

mod verify;

use core::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::machine::NodeId;

pub use verify::{Claim, Verify, verify};

/// A node's secret key. Never shown, wiped when dropped.
#[derive(Clone)]
pub struct Identity {
    key: SigningKey,
}

/// Whether `node` is a key that a node can have: a point of the curve, and not one of the few of small
/// order, for which anybody can sign.
#[must_use]
pub fn is_key(node: &NodeId) -> bool {
    VerifyingKey::from_bytes(&node.0).is_ok_and(|key| !key.is_weak())
}

impl Identity {
    /// The identity whose Ed25519 secret seed is `seed`.
    ///
    /// ```
    /// use quorate_core::identity::{Claim, Identity, verify};
    ///
    /// let alice = Identity::from_seed([1; 32]);
    /// let signature = alice.sign(b"hello");
    /// assert!(verify(&[Claim { author: &alice.id(), message: b"hello", signature }]));
    /// ```
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Identity {
        Identity { key: SigningKey::from_bytes(&seed) }
    }

    /// The public key, which is the node's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId(self.key.verifying_key().to_bytes())
    }

    /// Signs `message`. Deterministic: the same message gives the same signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature::from_bytes(&self.key.sign(message).to_bytes())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.id()).finish()
    }
}

/// An Ed25519 signature: the point R and the scalar s, 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Signature {
    r: [u8; 32],
    s: [u8; 32],
}

impl Signature {
    /// A signature's length, in bytes.
    pub const BYTES: usize = 64;

    /// From its 64 bytes; any 64 bytes will do, verification decides.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 64]) -> Signature {
        let (mut r, mut s) = ([0; 32], [0; 32]);
        r.copy_from_slice(&bytes[..32]);
        s.copy_from_slice(&bytes[32..]);
        Signature { r, s }
    }

    /// Its 64 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&self.r);
        bytes[32..].copy_from_slice(&self.s);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_secret() {
        let identity = Identity::from_seed([7; 32]);
        assert!(!alloc::format!("{identity:?}").contains("0707"));
    }
}
