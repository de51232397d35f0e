//! Signature checks remembered. Five simulated nodes check the same signatures; the answer is a pure
//! function of its arguments, so the memo changes no run, only how long it takes.

use std::cell::RefCell;
use std::collections::BTreeMap;

use quorate_core::identity::{Signature, verify};
use quorate_core::machine::NodeId;

/// How many answers a thread remembers before it starts afresh.
const MAX_REMEMBERED: usize = 1 << 17;

thread_local! {
    static REMEMBERED: RefCell<BTreeMap<[u8; 32], bool>> = const { RefCell::new(BTreeMap::new()) };
}

/// Answers as [`verify`] does.
pub(crate) fn remembered(author: &NodeId, message: &[u8], signature: &Signature) -> bool {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&author.0);
    hasher.update(&signature.to_bytes());
    hasher.update(message);
    let key = *hasher.finalize().as_bytes();
    REMEMBERED.with_borrow_mut(|remembered| {
        if remembered.len() >= MAX_REMEMBERED {
            remembered.clear();
        }
        *remembered.entry(key).or_insert_with(|| verify(author, message, signature))
    })
}
