//! An entry: what one author wrote at one place of its chain, signed.
//!
//! ```text
//! header    format  store  author  seq  prev  parents  hlc  body length  body hash
//! signature Ed25519 over the header
//! body      the operations, which apply together or not at all
//! ```
//!
//! `hash = BLAKE3(header, signature)`. The body is committed to by the header, so the hash covers
//! everything, and covers the signature too: one verified tip authenticates the whole hash-linked run
//! behind it. Keeping the body's hash in the header rather than the body under the entry's hash lets a
//! chain be checked, and a fork be proven, from headers alone.
//!
//! The layout is postcard's, fixed by the order of the fields, and canonical: of the several ways to
//! write an integer only the shortest is accepted, so an entry has exactly one encoding.
//!
//! `seq` counts from 1, to [`MAX_SEQ`] at most. `prev` is the hash of the entry at `seq - 1`, zero at
//! the start. `parents` are the entries of *other* authors that this one has seen and replaces (the
//! heads of the keys it writes), the last one of each author: those before it in its chain are
//! implied, as are the author's own.

use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::hlc::Hlc;
use crate::identity::{Claim, Identity, Signature, Verify};
use crate::machine::NodeId;

/// An entry's format, the first bytes of its header; keeps its signature from meaning anything else.
pub const FORMAT: [u8; 4] = *b"QE01";
/// The longest encoded body, in bytes.
pub const MAX_BODY_BYTES: usize = 256 * 1024;
/// The longest key, and the longest member of a set, in bytes.
pub const MAX_KEY_BYTES: usize = 1024;
/// The most operations in one entry.
pub const MAX_OPS: usize = 1024;
/// The most parents an entry may cite, each by another author. A key with heads of more authors than
/// that keeps the rest as heads.
pub const MAX_PARENTS: usize = 64;
/// The longest header: fixed fields and a full list of parents, in bytes.
pub const MAX_HEADER_BYTES: usize = 192 + MAX_PARENTS * Link::MAX_BYTES;
/// The longest entry, in bytes.
pub const MAX_ENTRY_BYTES: usize = MAX_HEADER_BYTES + Signature::BYTES + MAX_BODY_BYTES;
/// Every entry whose sequence number is a multiple of this must carry a valid signature of its own,
/// whatever links to it. It bounds the run of entries that a proof of a fork has to show.
pub const SIGNED_EVERY: u64 = 128;

/// The last place that a chain can have. It leaves room to count on, and a bit for others to use.
pub const MAX_SEQ: u64 = u64::MAX >> 1;

/// A reference to an entry: a place in a chain, and the hash of what stands there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Link {
    /// Whose chain.
    pub author: NodeId,
    /// The place in it, from 1.
    pub seq: u64,
    /// The hash of the entry there.
    pub hash: Hash,
}

impl Link {
    /// The longest encoding of a link, in bytes.
    const MAX_BYTES: usize = 32 + 10 + 32;
}

/// The signed part of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: [u8; 4],
    /// The store it belongs to.
    pub store: Hash,
    /// Who wrote it.
    pub author: NodeId,
    /// Its place in the author's chain, from 1.
    pub seq: u64,
    /// The hash of the author's entry before it; zero for the first.
    pub prev: Hash,
    /// The entries of other authors that it has seen and replaces, ascending by author, one for each.
    pub parents: Vec<Link>,
    /// When it was written, by the author's clock.
    pub hlc: Hlc,
    /// The body's length, in bytes.
    pub body_bytes: u32,
    /// The body's BLAKE3 hash.
    pub body: Hash,
}

/// One change. An entry's operations apply together or not at all.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op<'a> {
    /// Sets the register at `key`.
    Put {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// Removes what stands at `key`.
    Delete {
        /// The key.
        key: &'a [u8],
    },
    /// Adds to the counter at `key`.
    Add {
        /// The key.
        key: &'a [u8],
        /// What is added.
        delta: i64,
        /// All that this author has added since the counter was last deleted, this included. Carrying
        /// it makes the author's latest entry speak for its earlier ones.
        total: i64,
    },
    /// Puts `member` into the set at `key`.
    SetAdd {
        /// The set's key.
        key: &'a [u8],
        /// The member.
        member: &'a [u8],
    },
    /// Takes out of the set at `key` the additions of `member` that the entry's author has seen.
    SetRemove {
        /// The set's key.
        key: &'a [u8],
        /// The member.
        member: &'a [u8],
    },
    /// Admits `node` to the mesh.
    Invite {
        /// Who may join.
        node: NodeId,
    },
    /// Removes `node` from the mesh: what it wrote above `height` has no effect.
    Remove {
        /// Who is removed.
        node: NodeId,
        /// The last place of its chain that counts.
        height: u64,
        /// The hash of the entry there; zero for height zero.
        hash: Hash,
    },
}

/// An entry whose form has been checked: limits, canonical encoding, body hash. Its signature is
/// checked by the chain, since a link from an authentic successor does as well.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    bytes: Bytes,
    header: Header,
    header_bytes: u32,
    hash: Hash,
}

impl Entry {
    /// Writes and signs an entry. Of `parents` the last of each author is cited, [`MAX_PARENTS`] at most.
    ///
    /// # Errors
    ///
    /// Where the operations exceed a limit.
    pub fn sign(identity: &Identity, draft: Draft<'_>) -> Result<Entry, EntryError> {
        let Draft { store, seq, prev, mut parents, hlc, ops } = draft;
        check_ops(ops)?;
        let body = postcard::to_allocvec(ops).map_err(|_| EntryError::BodyTooLong)?;
        if body.len() > MAX_BODY_BYTES {
            return Err(EntryError::BodyTooLong);
        }
        parents.sort_unstable_by(|a, b| (a.author, b.seq).cmp(&(b.author, a.seq)));
        parents.dedup_by_key(|parent| parent.author);
        parents.truncate(MAX_PARENTS);
        let header = Header {
            format: FORMAT,
            store,
            author: identity.id(),
            seq,
            prev,
            parents,
            hlc,
            body_bytes: body.len() as u32,
            body: Hash::of(&body),
        };
        let mut bytes = postcard::to_allocvec(&header).map_err(|_| EntryError::Malformed)?;
        let header_bytes = bytes.len() as u32;
        let signature = identity.sign(&bytes);
        bytes.extend_from_slice(&signature.to_bytes());
        let hash = Hash::of(&bytes);
        bytes.extend_from_slice(&body);
        Ok(Entry { bytes: bytes.into(), header, header_bytes, hash })
    }

    /// Reads an entry and checks its form.
    ///
    /// # Errors
    ///
    /// Where the bytes are not the one encoding of an entry within the limits.
    pub fn decode(bytes: Bytes) -> Result<Entry, EntryError> {
        if bytes.len() > MAX_ENTRY_BYTES {
            return Err(EntryError::TooLong);
        }
        let (header, rest) =
            postcard::take_from_bytes::<Header>(&bytes).map_err(|_| EntryError::Malformed)?;
        let header_bytes = bytes.len() - rest.len();
        check_header(&header, &bytes[..header_bytes])?;
        let body = rest.get(Signature::BYTES..).ok_or(EntryError::Malformed)?;
        if body.len() != header.body_bytes as usize || Hash::of(body) != header.body {
            return Err(EntryError::WrongBody);
        }
        check_ops(&decode_ops(body)?)?;
        let hash = Hash::of(&bytes[..header_bytes + Signature::BYTES]);
        Ok(Entry { header_bytes: header_bytes as u32, header, hash, bytes })
    }

    /// The signed part.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The hash of the header and its signature.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The encoding.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The place it stands at, and its hash.
    #[must_use]
    pub fn link(&self) -> Link {
        Link { author: self.header.author, seq: self.header.seq, hash: self.hash }
    }

    /// The header and its signature, as signed and hashed: what a proof has to show of an entry.
    #[must_use]
    pub fn head(&self) -> Bytes {
        self.bytes.slice(..self.header_bytes as usize + Signature::BYTES)
    }

    /// The operations.
    #[must_use]
    pub fn ops(&self) -> Vec<Op<'_>> {
        let body = &self.bytes[self.header_bytes as usize + Signature::BYTES..];
        // Canonical, and within the limits, or this would be no entry.
        postcard::from_bytes(body).unwrap_or_default()
    }

    /// That the author signed it, to be checked.
    ///
    /// # Panics
    ///
    /// Never: an entry was signed or decoded, and holds a signature.
    #[must_use]
    pub fn claim(&self) -> Claim<'_> {
        let (message, rest) = self.bytes.split_at(self.header_bytes as usize);
        claim(&self.header.author, message, rest)
    }

    /// Whether the author's own signature on it is valid.
    #[must_use]
    pub fn is_signed(&self, verify: Verify) -> bool {
        verify(&[self.claim()])
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}#{} {:?}", self.header.author, self.header.seq, self.hash)
    }
}

/// What an entry is made from.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// The store it belongs to.
    pub store: Hash,
    /// Its place in the author's chain.
    pub seq: u64,
    /// The hash of the entry before it.
    pub prev: Hash,
    /// The entries of other authors that it replaces.
    pub parents: Vec<Link>,
    /// When it is written.
    pub hlc: Hlc,
    /// What it does.
    pub ops: &'a [Op<'a>],
}

/// A header with its signature, without its body: enough to check a chain or to prove a fork.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHeader {
    /// The signed part.
    pub header: Header,
    /// The hash of the entry.
    pub hash: Hash,
    bytes: Bytes,
}

impl SignedHeader {
    /// Reads what [`Entry::head`] gives.
    ///
    /// # Errors
    ///
    /// Where the bytes are not the one encoding of a signed header within the limits.
    pub fn decode(bytes: Bytes) -> Result<SignedHeader, EntryError> {
        if bytes.len() > MAX_HEADER_BYTES + Signature::BYTES {
            return Err(EntryError::TooLong);
        }
        let (header, rest) =
            postcard::take_from_bytes::<Header>(&bytes).map_err(|_| EntryError::Malformed)?;
        if rest.len() != Signature::BYTES {
            return Err(EntryError::Malformed);
        }
        check_header(&header, &bytes[..bytes.len() - Signature::BYTES])?;
        Ok(SignedHeader { header, hash: Hash::of(&bytes), bytes })
    }

    /// Whether the author's own signature on it is valid.
    #[must_use]
    pub fn is_signed(&self, verify: Verify) -> bool {
        let (message, rest) = self.bytes.split_at(self.bytes.len() - Signature::BYTES);
        verify(&[claim(&self.header.author, message, rest)])
    }
}

/// Why bytes are not an entry, or operations do not fit into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EntryError {
    /// The bytes are not an entry's encoding, or not its canonical one.
    Malformed,
    /// Another format than [`FORMAT`]: written by a newer version, or no entry at all.
    UnknownFormat,
    /// Longer than [`MAX_ENTRY_BYTES`].
    TooLong,
    /// The body is not the one that the header names.
    WrongBody,
    /// The operations take more than [`MAX_BODY_BYTES`].
    BodyTooLong,
    /// No operations, or more than [`MAX_OPS`].
    OpCount,
    /// A key or a member is empty or longer than [`MAX_KEY_BYTES`].
    KeyLength,
}

impl fmt::Display for EntryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EntryError::Malformed => write!(f, "not a well-formed entry"),
            EntryError::UnknownFormat => write!(f, "an entry of an unknown format"),
            EntryError::TooLong => write!(f, "an entry longer than {MAX_ENTRY_BYTES} bytes"),
            EntryError::WrongBody => write!(f, "an entry whose body is not the one it signs"),
            EntryError::BodyTooLong => {
                write!(f, "one write may hold {MAX_BODY_BYTES} bytes: split it")
            }
            EntryError::OpCount => write!(f, "one write holds 1 to {MAX_OPS} operations: split it"),
            EntryError::KeyLength => write!(f, "a key has 1 to {MAX_KEY_BYTES} bytes"),
        }
    }
}

impl core::error::Error for EntryError {}

/// That `author` signed `message`, by the signature at the start of `rest`.
fn claim<'a>(author: &'a NodeId, message: &'a [u8], rest: &[u8]) -> Claim<'a> {
    let signature = rest.first_chunk::<{ Signature::BYTES }>().expect("a header is signed");
    Claim { author, message, signature: Signature::from_bytes(signature) }
}

/// Refuses headers that are out of bounds, or that are not written the one canonical way.
fn check_header(header: &Header, bytes: &[u8]) -> Result<(), EntryError> {
    if header.format != FORMAT {
        return Err(EntryError::UnknownFormat);
    }
    let ascending = header.parents.windows(2).all(|pair| pair[0].author < pair[1].author);
    let foreign = header.parents.iter().all(|parent| parent.author != header.author);
    let has_place = |seq: u64| (1..=MAX_SEQ).contains(&seq);
    if !has_place(header.seq)
        || (header.seq == 1) != (header.prev == Hash::ZERO)
        || header.parents.len() > MAX_PARENTS
        || !header.parents.iter().all(|parent| has_place(parent.seq))
        || !ascending
        || !foreign
    {
        return Err(EntryError::Malformed);
    }
    let same = postcard::serialize_with_flavor::<_, Same<'_>, bool>(header, Same(bytes, true));
    if same == Ok(true) { Ok(()) } else { Err(EntryError::Malformed) }
}

fn decode_ops(body: &[u8]) -> Result<Vec<Op<'_>>, EntryError> {
    let ops: Vec<Op<'_>> = postcard::from_bytes(body).map_err(|_| EntryError::Malformed)?;
    let same = postcard::serialize_with_flavor::<_, Same<'_>, bool>(&ops, Same(body, true));
    if same == Ok(true) { Ok(ops) } else { Err(EntryError::Malformed) }
}

fn check_ops(ops: &[Op<'_>]) -> Result<(), EntryError> {
    if ops.is_empty() || ops.len() > MAX_OPS {
        return Err(EntryError::OpCount);
    }
    let fits = |key: &[u8]| (1..=MAX_KEY_BYTES).contains(&key.len());
    let fine = ops.iter().all(|op| match op {
        Op::Put { key, .. } | Op::Delete { key } | Op::Add { key, .. } => fits(key),
        Op::SetAdd { key, member } | Op::SetRemove { key, member } => fits(key) && fits(member),
        Op::Invite { .. } | Op::Remove { .. } => true,
    });
    let within = ops.iter().all(|op| match op {
        Op::Remove { height, .. } => *height <= MAX_SEQ,
        _ => true,
    });
    match (fine, within) {
        (true, true) => Ok(()),
        (false, _) => Err(EntryError::KeyLength),
        (true, false) => Err(EntryError::Malformed),
    }
}

/// A postcard sink that keeps nothing and compares what is written with what was read.
struct Same<'a>(&'a [u8], bool);

impl postcard::ser_flavors::Flavor for Same<'_> {
    type Output = bool;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        match self.0.strip_prefix(bytes) {
            Some(rest) => self.0 = rest,
            None => self.1 = false,
        }
        Ok(())
    }

    fn finalize(self) -> postcard::Result<bool> {
        Ok(self.1 && self.0.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::verify;
    use proptest::prelude::*;

    fn entry() -> Entry {
        let ops = [
            Op::Put { key: b"colour", value: b"green" },
            Op::Add { key: b"visits", delta: -2, total: 40 },
            Op::SetAdd { key: b"tags", member: b"new" },
        ];
        let parent = Link { author: NodeId([9; 32]), seq: 300, hash: Hash([8; 32]) };
        let draft = Draft {
            store: Hash([1; 32]),
            seq: 2,
            prev: Hash([2; 32]),
            parents: alloc::vec![parent],
            hlc: Hlc(77 << 16),
            ops: &ops,
        };
        Entry::sign(&Identity::from_seed([3; 32]), draft).unwrap()
    }

    #[test]
    fn what_is_signed_is_read_back() {
        let written = entry();
        let read = Entry::decode(written.bytes().clone()).unwrap();
        assert_eq!(read, written);
        assert!(read.is_signed(verify));
        assert_eq!(read.ops().len(), 3);
        let head = SignedHeader::decode(read.head()).unwrap();
        assert!(head.is_signed(verify));
        assert_eq!(head.hash, read.hash());
    }

    #[test]
    fn the_encoding_is_fixed() {
        // A change here is a change of the format: every signature and every hash ever made.
        let hash = alloc::format!("{} {} bytes", entry().hash(), entry().bytes().len());
        insta::assert_snapshot!(hash);
    }

    #[test]
    fn a_place_beyond_the_last_is_refused() {
        let decode = |seq: u64, cited: u64| {
            let parent = Link { author: NodeId([9; 32]), seq: cited, hash: Hash([8; 32]) };
            let (store, prev, hlc) = (Hash::ZERO, Hash([2; 32]), Hlc(1));
            let (parents, ops) = (alloc::vec![parent], [Op::Delete { key: b"k" }]);
            let draft = Draft { store, seq, prev, parents, hlc, ops: &ops };
            Entry::decode(Entry::sign(&Identity::from_seed([3; 32]), draft)?.bytes().clone())
        };
        assert!(decode(MAX_SEQ, MAX_SEQ).is_ok());
        assert_eq!(decode(MAX_SEQ + 1, 1), Err(EntryError::Malformed));
        assert_eq!(decode(2, u64::MAX), Err(EntryError::Malformed));
        assert_eq!(decode(2, 0), Err(EntryError::Malformed));
    }

    #[test]
    fn an_integer_written_the_long_way_is_refused() {
        let bytes = entry().bytes().to_vec();
        let at = 4 + 32 + 32; // the sequence number, 2
        let mut long = bytes.clone();
        long.splice(at..=at, [0x82, 0x00]);
        assert_eq!(Entry::decode(long.into()), Err(EntryError::Malformed));
        assert!(Entry::decode(bytes.into()).is_ok());
    }

    #[test]
    fn limits_hold_when_writing() {
        let identity = Identity::from_seed([3; 32]);
        let sign = |ops: &[Op<'_>]| {
            let (prev, hlc, parents) = (Hash::ZERO, Hlc(1), Vec::new());
            Entry::sign(&identity, Draft { store: Hash::ZERO, seq: 1, prev, parents, hlc, ops })
        };
        let big = alloc::vec![0; MAX_BODY_BYTES];
        assert_eq!(sign(&[]), Err(EntryError::OpCount));
        assert_eq!(sign(&[Op::Delete { key: b"" }]), Err(EntryError::KeyLength));
        assert_eq!(sign(&[Op::Put { key: b"k", value: &big }]), Err(EntryError::BodyTooLong));
        let fits = &big[..MAX_BODY_BYTES - 16];
        let entry = sign(&[Op::Put { key: b"k", value: fits }]).unwrap();
        assert!(Entry::decode(entry.bytes().clone()).is_ok());
    }

    proptest! {
        #[test]
        fn a_truncated_entry_is_an_error(cut in 0usize..400) {
            let bytes = entry().bytes().clone();
            prop_assume!(cut < bytes.len());
            prop_assert!(Entry::decode(bytes.slice(..cut)).is_err());
        }

        #[test]
        fn a_flipped_bit_is_an_error_or_a_bad_signature(bit in 0usize..4000) {
            let mut bytes = entry().bytes().to_vec();
            prop_assume!(bit / 8 < bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
            let accepted = Entry::decode(bytes.into()).is_ok_and(|entry| entry.is_signed(verify));
            prop_assert!(!accepted);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = SignedHeader::decode(bytes.clone().into());
            prop_assert!(Entry::decode(bytes.into()).is_err());
        }
    }
}
