//! Who a node is: an Ed25519 key pair. The public key is the node's id.
//!
//! There is one acceptance rule for signatures, used everywhere: *strict* verification (RFC 8032 with
//! small-order keys and non-canonical encodings refused, and no cofactor). Ed25519 libraries differ on
//! hostile signatures, and batch verification accepts some that single verification refuses; a store
//! whose nodes disagree on one signature never ends equal. A host may give the machines another
//! [`Verify`] only if it answers exactly as [`verify`] does, a memo of it for instance.

use core::fmt;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::machine::NodeId;

/// A node's secret key. Never shown, wiped when dropped.
#[derive(Clone)]
pub struct Identity {
    key: SigningKey,
}

impl Identity {
    /// The identity whose Ed25519 secret seed is `seed`.
    ///
    /// ```
    /// use quorate_core::identity::{Identity, verify};
    ///
    /// let alice = Identity::from_seed([1; 32]);
    /// let signature = alice.sign(b"hello");
    /// assert!(verify(&alice.id(), b"hello", &signature));
    /// assert!(!verify(&alice.id(), b"hullo", &signature));
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

/// How a machine checks signatures: [`verify`], or a function that answers exactly as it does.
pub type Verify = fn(&NodeId, &[u8], &Signature) -> bool;

/// Whether `signature` is `author`'s over `message`, by the strict rule.
#[must_use]
pub fn verify(author: &NodeId, message: &[u8], signature: &Signature) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&author.0) else { return false };
    let signature = ed25519_dalek::Signature::from_bytes(&signature.to_bytes());
    key.verify_strict(message, &signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weak_key_signs_nothing() {
        // The identity point: under the lax rule R = identity, s = 0 would pass for any message.
        let mut point = [0; 32];
        point[0] = 1;
        let mut forged = [0; 64];
        forged[0] = 1;
        assert!(!verify(&NodeId(point), b"anything", &Signature::from_bytes(&forged)));
    }

    #[test]
    fn debug_shows_no_secret() {
        let identity = Identity::from_seed([7; 32]);
        assert!(!alloc::format!("{identity:?}").contains("0707"));
    }
}
