//! What travels in a sync session, and how small it is made.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::frontier::Tip;
use crate::hash::Hash;
use crate::iblt::{Cell, Id};
use crate::machine::NodeId;

/// Tips in one message, at most.
pub const MAX_TIPS_PER_MESSAGE: usize = 4_096;

/// Cells in one message, at most.
pub const MAX_CELLS_PER_MESSAGE: u32 = 8_192;

/// Ids in one message, at most.
pub const MAX_IDS_PER_MESSAGE: usize = 16_384;

/// What a tip takes on the wire, in bytes: 32 for the author, 16 for the hash, and 1 to 9 for the
/// height. Used to weigh one way of finding differences against another.
pub const TIP_BYTES: u64 = 52;

/// A random name, drawn afresh for each session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Nonce(pub [u8; 8]);

/// One message of a session. The two sides alternate strictly, so whatever is duplicated, late or
/// out of order is known by its turn.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// The initiator's name for the session.
    pub session: Nonce,
    /// 0 for the offer and its answer, 1 for the next request and its answer, and so on.
    pub turn: u32,
    /// What it says.
    pub body: Body,
}

/// What a message says. The first five are the initiator's requests, the others the responder's
/// answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Body {
    /// Opens a session: what the initiator's frontier comes to.
    Offer {
        /// The frontier's digest.
        digest: Hash,
        /// The number of its chains.
        chains: u64,
    },
    /// The cells do not suffice yet.
    More {
        /// How many would, as far as the initiator can judge.
        cells: u32,
    },
    /// Cells are no use: the responder's own tips, please, the next page of them.
    Fetch,
    /// A page of the initiator's frontier, answering [`Body::Ask`].
    Tell {
        /// Every tip after the page before, ascending by author.
        tips: Vec<WireTip>,
        /// Whether the frontier ends here.
        last: bool,
    },
    /// Where the two frontiers differ. In pages; ids follow when the tips are through.
    Differ {
        /// The initiator's tips there, ascending by author; absent ones too after a
        /// [`Body::Whole`].
        tips: Vec<WireTip>,
        /// The ids of tips that only the responder has, and of which the initiator knows no more.
        unknown: Vec<Id>,
        /// Whether this is the last such page.
        last: bool,
    },
    /// The digests are equal.
    Same,
    /// The next cells over the responder's tips.
    Cells {
        /// The responder's part of the session's key.
        nonce: Nonce,
        /// The number of its chains.
        chains: u64,
        /// Cells, from the first not yet sent.
        cells: Vec<Cell>,
    },
    /// A page of the responder's frontier.
    Whole {
        /// Every tip after the page before, ascending by author.
        tips: Vec<WireTip>,
        /// Whether the frontier ends here.
        last: bool,
    },
    /// The initiator's frontier is much the smaller: it may tell all of it.
    Ask,
    /// Answers a page of [`Body::Differ`] or [`Body::Tell`]: the chains on it of which the
    /// responder lacks something, or which it cannot judge. Empty after a [`Body::Whole`].
    Wants {
        /// Ascending by index.
        wants: Vec<Want>,
    },
}

impl Body {
    /// Whether the initiator says this.
    #[must_use]
    pub fn is_request(&self) -> bool {
        match self {
            Body::Offer { .. }
            | Body::More { .. }
            | Body::Fetch
            | Body::Tell { .. }
            | Body::Differ { .. } => true,
            Body::Same
            | Body::Cells { .. }
            | Body::Whole { .. }
            | Body::Ask
            | Body::Wants { .. } => false,
        }
    }

    /// Whether every list is within its limit.
    pub(super) fn is_bounded(&self) -> bool {
        match self {
            Body::Tell { tips, .. } | Body::Whole { tips, .. } => {
                tips.len() <= MAX_TIPS_PER_MESSAGE
            }
            Body::Differ { tips, unknown, .. } => {
                tips.len() <= MAX_TIPS_PER_MESSAGE && unknown.len() <= MAX_IDS_PER_MESSAGE
            }
            Body::Cells { cells, .. } => cells.len() <= MAX_CELLS_PER_MESSAGE as usize,
            Body::Wants { wants } => wants.len() <= MAX_TIPS_PER_MESSAGE,
            Body::Offer { .. } | Body::More { .. } | Body::Fetch | Body::Same | Body::Ask => true,
        }
    }
}

/// A peer's tip, as it tells it. The hash is cut to 16 bytes: enough to tell a fork, proof of
/// nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "(NodeId, u64, [u8; 16])", into = "(NodeId, u64, [u8; 16])")]
pub struct WireTip {
    /// Whose chain. Not checked: the peer may name authors that nobody knows.
    pub author: NodeId,
    /// The number of entries the peer holds, below 2^63.
    pub height: u64,
    /// The first 16 bytes of the hash at `height`.
    pub prefix: [u8; 16],
    /// The peer takes the chain to be cut there for good.
    pub closed: bool,
}

impl WireTip {
    /// `tip` as it is told to peers.
    #[must_use]
    pub fn of(tip: &Tip) -> WireTip {
        let Tip { author, height, hash, closed } = *tip;
        WireTip { author, height, prefix: hash.prefix(), closed }
    }

    /// Whether the peer's tip is `tip`, as far as can be seen.
    #[must_use]
    pub fn matches(&self, tip: &Tip) -> bool {
        *self == WireTip::of(tip)
    }

    /// None if it says that the peer holds nothing of the chain.
    pub(super) fn present(self) -> Option<WireTip> {
        (self.height > 0 || self.closed).then_some(self)
    }
}

/// The responder's tip of a chain of which it wants more: a [`WireTip`] whose author is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "(u32, u64, [u8; 16])", into = "(u32, u64, [u8; 16])")]
pub struct Want {
    /// The chain's place on the page that is answered.
    pub index: u32,
    /// As in [`WireTip`].
    pub height: u64,
    /// As in [`WireTip`].
    pub prefix: [u8; 16],
    /// As in [`WireTip`].
    pub closed: bool,
}

// On the wire the flag is the lowest bit of the height, which saves a byte a tip.

const MAX_HEIGHT: u64 = u64::MAX >> 1;

fn pack(height: u64, closed: bool) -> u64 {
    height.min(MAX_HEIGHT) << 1 | u64::from(closed)
}

impl From<(NodeId, u64, [u8; 16])> for WireTip {
    fn from((author, packed, prefix): (NodeId, u64, [u8; 16])) -> WireTip {
        WireTip { author, height: packed >> 1, prefix, closed: packed & 1 == 1 }
    }
}

impl From<WireTip> for (NodeId, u64, [u8; 16]) {
    fn from(tip: WireTip) -> Self {
        (tip.author, pack(tip.height, tip.closed), tip.prefix)
    }
}

impl From<(u32, u64, [u8; 16])> for Want {
    fn from((index, packed, prefix): (u32, u64, [u8; 16])) -> Want {
        Want { index, height: packed >> 1, prefix, closed: packed & 1 == 1 }
    }
}

impl From<Want> for (u32, u64, [u8; 16]) {
    fn from(want: Want) -> Self {
        (want.index, pack(want.height, want.closed), want.prefix)
    }
}
