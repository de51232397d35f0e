//! Signature checks remembered. Five simulated nodes check the same signatures; the answer is a pure
//! function of its arguments, so the memo changes no run, only how long it takes.

use std::cell::RefCell;
use std::collections::BTreeMap;

use quorate_core::identity::{Claim, verify};

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
    let key = *hasher.finalize().as_bytes();
    REMEMBERED.with_borrow_mut(|remembered| {
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        *remembered.entry(key).or_insert_with(|| verify(&[*claim]))
    })
}
