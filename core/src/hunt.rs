//! The hunt for a fork: two nodes whose accounts of one chain differ find the first place where.
//!
//! Sync shows *that* two accounts differ, by the hashes at some height. The cut must be made below the
//! *lowest* differing place, or the nodes would keep different entries below it. Hash-linking makes
//! the search easy: once two accounts differ they never agree again, so "differs at" is monotone, and a
//! search over sixteen places at a time narrows a chain of a million entries in five messages.
//!
//! A [`Message::Points`] shows one's own hashes at some places. The other looks for the highest that
//! agrees and the lowest that differs. If they are neighbours, it answers with its side of the story
//! from there: signed headers, which are half a proof. Else it answers with points between. Nothing is
//! remembered between messages; each answer lies strictly inside what was asked, so it ends.

use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::machine::NodeId;
use crate::sigchain::Chain;

/// The most places that one message shows.
pub const MAX_POINTS: usize = 16;

/// What travels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// The first sixteen bytes of the sender's hashes, at ascending places of a chain.
    Points {
        /// Whose chain.
        author: NodeId,
        /// Places and hashes.
        points: Vec<(u64, [u8; 16])>,
    },
    /// The sender's side of the story: signed headers from the first differing place on.
    Story {
        /// Whose chain.
        author: NodeId,
        /// The place of the first header.
        seq: u64,
        /// The headers.
        headers: Vec<Bytes>,
    },
}

/// What to answer to points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing differs that is held here.
    Nothing,
    /// The first differing place: tell one's own story from there.
    Found(u64),
    /// Look closer.
    Points(Vec<(u64, [u8; 16])>),
}

/// Points that narrow down where the account of a peer differs, given that it does at `seq`.
#[must_use]
pub fn begin(chain: &Chain, seq: u64) -> Vec<(u64, [u8; 16])> {
    points(chain, 0, seq.min(chain.held()))
}

/// What to answer to a peer's points.
#[must_use]
pub fn answer(chain: &Chain, theirs: &[(u64, [u8; 16])]) -> Answer {
    let ascending = theirs.windows(2).all(|pair| pair[0].0 < pair[1].0);
    if !ascending || theirs.len() > MAX_POINTS {
        return Answer::Nothing;
    }
    let (mut agrees, mut differs) = (0, None);
    for (seq, prefix) in theirs {
        match chain.get(*seq).map(|meta| meta.hash.prefix() == *prefix) {
            Some(true) => agrees = *seq,
            Some(false) => {
                differs = Some(*seq);
                break;
            }
            None => break,
        }
    }
    match differs {
        None => Answer::Nothing,
        Some(seq) if seq == agrees + 1 || bug!(fork_not_narrowed) => Answer::Found(seq),
        Some(seq) => Answer::Points(points(chain, agrees, seq)),
    }
}

/// Up to [`MAX_POINTS`] places above `low`, the last of them `high`.
fn points(chain: &Chain, low: u64, high: u64) -> Vec<(u64, [u8; 16])> {
    let count = (high - low).min(MAX_POINTS as u64);
    let at = |n: u64| low + (u128::from(high - low) * u128::from(n) / u128::from(count)) as u64;
    let places = (1..=count).map(at);
    places.filter_map(|seq| Some((seq, chain.get(seq)?.hash.prefix()))).collect()
}
