//! Signature checks remembered. Five simulated nodes check the same signatures; the answer is a pure
//! function of its arguments, so the memo changes no run, only how long it takes.

use std::cell::RefCell;
use std::collections::BTreeMap;

use quorate_core::identity::{Claim, verify};
use quorate_core::quorum::nostr::{self, EventId, PublicKey};

/// How many answers a thread remembers before it starts afresh.
const MAX_REMEMBERED: usize = 1 << 17;

thread_local! {
    static REMEMBERED: RefCell<BTreeMap<[u8; 32], bool>> = const { RefCell::new(BTreeMap::new()) };
}

/// Answers as [`verify`] does.
pub(crate) fn remembered(claims: &[Claim<'_>]) -> bool {
    claims.iter().all(remembered_one)
}

fn remembered_one(claim: &Claim<'_>) -> bool {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&claim.author.0);
    hasher.update(&claim.signature.to_bytes());
    hasher.update(claim.message);
    recall(*hasher.finalize().as_bytes(), || verify(&[*claim]))
}

/// Answers as [`nostr::verify`] does.
pub(crate) fn remembered_maintainer(
    author: &PublicKey,
    id: &EventId,
    signature: &nostr::Signature,
) -> bool {
    let mut hasher = blake3::Hasher::new_derive_key("maintainers' signatures");
    hasher.update(&author.0);
    hasher.update(&id.0);
    hasher.update(&signature.0);
    recall(*hasher.finalize().as_bytes(), || nostr::verify(author, id, signature))
}

fn recall(key: [u8; 32], check: impl FnOnce() -> bool) -> bool {
    REMEMBERED.with_borrow_mut(|remembered| {
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        *remembered.entry(key).or_insert_with(check)
    })
}
