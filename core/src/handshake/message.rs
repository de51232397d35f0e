//! What travels between peers in a [handshake](super), and what it may grow into.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::hash::Hash;

/// Bits of what a node can do beyond its version's minimum. A bit once used is never given another
/// meaning.
pub mod feature {
    /// Reconciles frontiers by rateless sketches.
    pub const SYNC_SKETCH: u64 = 1 << 0;
    /// Takes new entries pushed without having asked.
    pub const PUSH: u64 = 1 << 1;
    /// All that this code knows.
    pub const ALL: u64 = SYNC_SKETCH | PUSH;
}

/// How a node introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Introduction {
    /// The highest version it speaks.
    pub version: u16,
    /// The lowest version it speaks.
    pub min_version: u16,
    /// Bits of [`feature`].
    pub features: u64,
    /// The root store of its mesh.
    pub network: Hash,
    /// Random: this link, in this life of the process.
    pub session: u64,
    /// Where it listens, as `host:port`, if it does; at most [`MAX_ADDRESS`](super::MAX_ADDRESS)
    /// bytes.
    pub address: Option<String>,
    /// What later versions add; carried and not looked at; at most
    /// [`MAX_EXTENSION`](super::MAX_EXTENSION) bytes.
    pub extension: Vec<u8>,
}

/// What travels between peers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Message {
    /// Who are you? This is who I am.
    Hello {
        /// Random, for this round of greeting.
        nonce: u64,
        /// The sender.
        introduction: Introduction,
    },
    /// I have your Hello and accept you. This is who I am.
    Welcome {
        /// The Hello's.
        nonce: u64,
        /// The sender.
        introduction: Introduction,
    },
    /// I do not talk to you.
    Refuse {
        /// The session of the one who is refused.
        session: u64,
        /// Why.
        reason: Reason,
    },
}

/// Why a peer is refused. Travels as a number, so that an older node can read a newer one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "u16", into = "u16")]
pub enum Reason {
    /// The introduction breaks its own rules: a limit, or a minimum above the maximum.
    Malformed,
    /// All that you speak is older than what I accept.
    TooOld,
    /// All that you accept is newer than what I speak.
    TooNew,
    /// You are of another mesh.
    OtherNetwork,
    /// You are not a member of this mesh.
    NotAMember,
    /// You were a member and were removed.
    Removed,
    /// I have no room for another peer.
    Full,
    /// A reason of a later version.
    Unknown(u16),
}

impl From<u16> for Reason {
    fn from(code: u16) -> Self {
        match code {
            1 => Reason::Malformed,
            2 => Reason::TooOld,
            3 => Reason::TooNew,
            4 => Reason::OtherNetwork,
            5 => Reason::NotAMember,
            6 => Reason::Removed,
            7 => Reason::Full,
            code => Reason::Unknown(code),
        }
    }
}

impl From<Reason> for u16 {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::Malformed => 1,
            Reason::TooOld => 2,
            Reason::TooNew => 3,
            Reason::OtherNetwork => 4,
            Reason::NotAMember => 5,
            Reason::Removed => 6,
            Reason::Full => 7,
            Reason::Unknown(code) => code,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Malformed => "the introduction is malformed",
            Reason::TooOld => "its protocol is too old: upgrade the refused node",
            Reason::TooNew => "its protocol is too new: upgrade the refusing node",
            Reason::OtherNetwork => "it belongs to another mesh",
            Reason::NotAMember => "it is not a member of this mesh",
            Reason::Removed => "it was removed from this mesh",
            Reason::Full => "there is no room for another peer",
            Reason::Unknown(code) => return write!(f, "reason {code} of a later version"),
        })
    }
}
