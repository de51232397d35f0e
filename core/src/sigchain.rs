//! Sigchains: each author's entries as one hash-linked, signed line, and what happens when it forks.
//!
//! An author writes entries 1, 2, 3 …, each naming the hash of the one before. Whoever holds the hash
//! at height *h* therefore holds a commitment to everything up to *h*, so (author, height, hash)
//! describes holdings wholly.
//!
//! **Authenticity is one rule**, the same for everyone: *an entry is authentic if its own signature
//! verifies, or if a later authentic entry of its chain links to it*. A run of a thousand entries costs
//! a thousand hashes and one signature check. Every [`SIGNED_EVERY`]th entry must carry a valid
//! signature of its own all the same, which bounds what a proof of a fork has to show.
//!
//! **A fork** is two different authentic entries at one place of a chain. Mostly it is honest (a disk
//! restored from a backup); it can also be an author who tells two stories. Either way the reaction
//! must not depend on which story came first, so neither is believed: the chain is *cut* below the
//! lowest proven fork, on every node, and what lies above has no effect. The two headers are the proof;
//! it spreads, is kept and can be shown. Nothing else stalls: an entry that cites something above a cut
//! simply cites nothing.
//!
//! The same cut serves the removal of a member ([`crate::membership`]): the lower of the two counts.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::cow::{CowMap, CowVec};
use crate::entry::{Entry, SIGNED_EVERY, SignedHeader};
use crate::frontier::Tip;
use crate::hash::Hash;
use crate::hlc::Hlc;
use crate::identity::Verify;
use crate::machine::NodeId;

/// The longest side of a fork's proof: from the forked place to the next entry that must be signed.
pub const MAX_PROOF_RUN: usize = SIGNED_EVERY as usize;

/// An author's number on this node: dense, local, never sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuthorNo(pub u32);

/// A place in a chain, with the author by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Whose chain.
    pub author: AuthorNo,
    /// The place in it, from 1.
    pub seq: u64,
}

/// What is kept in memory of an entry; its body is in the log at `position`.
#[derive(Clone, Debug)]
pub struct Meta {
    /// The entry's hash.
    pub hash: Hash,
    /// Its record's position in the log.
    pub position: u64,
    /// When it was written.
    pub hlc: Hlc,
    /// Its encoded length.
    pub bytes: u32,
    // One word where there are none, which is mostly: a boxed slice would take two.
    #[allow(clippy::box_collection, reason = "a million of these are kept")]
    parents: Option<Box<Vec<Place>>>,
}

impl Meta {
    /// What is kept of `entry`, whose parents are at `parents`.
    #[must_use]
    pub fn new(entry: &Entry, position: u64, parents: Vec<Place>) -> Meta {
        Meta {
            hash: entry.hash(),
            position,
            hlc: entry.header().hlc,
            bytes: entry.bytes().len() as u32,
            parents: (!parents.is_empty()).then(|| Box::new(parents)),
        }
    }

    /// The other authors' entries that it replaces.
    #[must_use]
    pub fn parents(&self) -> &[Place] {
        self.parents.as_deref().map_or(&[], Vec::as_slice)
    }
}

/// One author's chain, as far as it is held here.
#[derive(Clone, Debug)]
pub struct Chain {
    author: NodeId,
    metas: CowVec<Meta>,
    cut: Option<u64>,
    overtaken: bool,
}

impl Chain {
    /// Whose it is.
    #[must_use]
    pub fn author(&self) -> NodeId {
        self.author
    }

    /// The last place that is held, above the cut or not.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.metas.len() as u64
    }

    /// The last place that is held and counts.
    #[must_use]
    pub fn height(&self) -> u64 {
        self.held().min(self.cut.unwrap_or(u64::MAX))
    }

    /// The place above which nothing counts, if there is one.
    #[must_use]
    pub fn cut(&self) -> Option<u64> {
        self.cut
    }

    /// Whether entries that cite this chain may have been applied before what they cite was: while it
    /// was cut, an entry that cites a place above the cut had nothing to wait for.
    #[must_use]
    pub fn was_overtaken(&self) -> bool {
        self.overtaken
    }

    /// Whether the entry at `seq`, if there is one, would have an effect.
    #[must_use]
    pub fn counts(&self, seq: u64) -> bool {
        self.cut.is_none_or(|cut| seq <= cut || bug!(cut_not_heeded))
    }

    /// What is known of the entry at `seq`, above the cut too.
    #[must_use]
    pub fn get(&self, seq: u64) -> Option<&Meta> {
        self.metas.get(usize::try_from(seq.checked_sub(1)?).ok()?)
    }

    /// The hash at `seq`; zero at 0, the place before the first.
    #[must_use]
    pub fn hash_at(&self, seq: u64) -> Option<Hash> {
        if seq == 0 { Some(Hash::ZERO) } else { self.get(seq).map(|meta| meta.hash) }
    }

    /// The chain as peers are told of it.
    #[must_use]
    pub fn tip(&self) -> Tip {
        let height = self.height();
        let hash = self.hash_at(height).expect("a chain holds the hash at its height");
        Tip { author: self.author, height, hash, closed: self.cut.is_some() }
    }

    /// Appends the next entry.
    ///
    /// # Panics
    ///
    /// If it does not follow: callers have checked that it does.
    pub fn push(&mut self, entry: &Entry, meta: Meta) {
        let header = entry.header();
        assert_eq!(header.author, self.author, "an entry goes to its author's chain");
        assert_eq!(header.seq, self.held() + 1, "a chain has no gaps");
        assert_eq!(Some(header.prev), self.hash_at(self.held()), "a chain is hash-linked");
        self.metas.push(meta);
    }
}

/// All chains of a store, by author and by the author's number.
#[derive(Clone, Debug, Default)]
pub struct Chains {
    numbers: CowMap<NodeId, u32>,
    chains: CowVec<Chain>,
}

impl Chains {
    /// The number of `author`, which is given one if it has none.
    pub fn number(&mut self, author: NodeId) -> AuthorNo {
        if let Some(number) = self.numbers.get(&author) {
            return AuthorNo(*number);
        }
        let number = u32::try_from(self.chains.len()).expect("fewer than 2^32 authors");
        self.numbers.insert(author, number);
        self.chains.push(Chain { author, metas: CowVec::new(), cut: None, overtaken: false });
        AuthorNo(number)
    }

    /// The number of `author`, if it has one.
    #[must_use]
    pub fn find(&self, author: &NodeId) -> Option<AuthorNo> {
        self.numbers.get(author).copied().map(AuthorNo)
    }

    /// The chain of `author`.
    #[must_use]
    pub fn of(&self, author: &NodeId) -> Option<&Chain> {
        self.find(author).map(|number| self.chain(number))
    }

    /// The chain with this number.
    #[must_use]
    pub fn chain(&self, number: AuthorNo) -> &Chain {
        self.chains.get(number.0 as usize).expect("a number is given out with its chain")
    }

    /// The chain with this number, to be changed.
    pub fn chain_mut(&mut self, number: AuthorNo) -> &mut Chain {
        self.chains.get_mut(number.0 as usize).expect("a number is given out with its chain")
    }

    /// What is known of the entry at `place`.
    #[must_use]
    pub fn meta(&self, place: Place) -> Option<&Meta> {
        self.chain(place.author).get(place.seq)
    }

    /// Whether the entry at `place` has an effect.
    #[must_use]
    pub fn counts(&self, place: Place) -> bool {
        self.chain(place.author).counts(place.seq)
    }

    /// Takes note that the entry at `place` is cited by one that is applied.
    pub fn cite(&mut self, place: Place) {
        if self.chain(place.author).held() < place.seq {
            self.chain_mut(place.author).overtaken = true;
        }
    }

    /// Moves a cut; `true` if it was elsewhere before.
    pub fn set_cut(&mut self, number: AuthorNo, cut: Option<u64>) -> bool {
        let before = self.chain(number).cut;
        if before != cut {
            let chain = self.chain_mut(number);
            chain.cut = cut;
        }
        before != cut
    }

    /// Every chain, in the order in which the authors became known here.
    pub fn iter(&self) -> impl Iterator<Item = &Chain> {
        self.chains.iter()
    }
}

/// Says of each entry in `batch` whether it is authentic, by its signature or by a link from an
/// authentic successor in the batch, or from one that `successor` knows: given author and place it
/// answers with the hash that an authentic entry at the next place names as its predecessor, and with its
/// clock.
///
/// "One verified tip authenticates the whole hash-linked run behind it": the batch is walked from its
/// end, so each author's last entry pays for a signature and those before it for a comparison. The
/// signatures are taken to be valid, and then checked all at once, which costs half; if that finds one
/// that is not, the walk is made again and each is checked on its own.
#[must_use]
pub fn authenticate(
    batch: &[Entry],
    verify: Verify,
    successor: impl Fn(&NodeId, u64) -> Option<(Hash, Hlc)>,
) -> Vec<bool> {
    let mut claims = Vec::new();
    let authentic = walk(batch, &successor, |entry| {
        claims.push(entry.claim());
        true
    });
    if verify(&claims) || bug!(signatures_not_checked) {
        return authentic;
    }
    walk(batch, &successor, |entry| entry.is_signed(verify))
}

/// [`authenticate`], with `is_signed` to judge of a signature.
fn walk<'a>(
    batch: &'a [Entry],
    successor: &impl Fn(&NodeId, u64) -> Option<(Hash, Hlc)>,
    mut is_signed: impl FnMut(&'a Entry) -> bool,
) -> Vec<bool> {
    let mut linked: BTreeMap<NodeId, (u64, (Hash, Hlc))> = BTreeMap::new();
    let mut authentic = alloc::vec![false; batch.len()];
    for (entry, authentic) in batch.iter().zip(&mut authentic).rev() {
        let header = entry.header();
        let next = linked.get(&header.author).filter(|(seq, _)| *seq == header.seq);
        let next = next.map(|(_, link)| *link).or_else(|| successor(&header.author, header.seq));
        // Who breaks the order of the clock is refused, and so vouches for nobody.
        let linked_to = |prev| prev == entry.hash() || bug!(links_not_compared);
        let by_link = next.is_some_and(|(prev, hlc)| linked_to(prev) && hlc > header.hlc);
        let must_sign = header.seq.is_multiple_of(SIGNED_EVERY);
        *authentic = if by_link && !must_sign { true } else { is_signed(entry) };
        if *authentic {
            linked.insert(header.author, (header.seq - 1, (header.prev, header.hlc)));
        }
    }
    authentic
}

/// Two stories at one place of one chain, each told by the author: a run of signed headers from that
/// place to the first one whose own signature is valid.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ForkProof {
    /// One story, from the forked place on.
    pub left: Vec<Bytes>,
    /// The other, with another entry at the same place.
    pub right: Vec<Bytes>,
}

/// What a checked proof proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fork {
    /// Who wrote two entries.
    pub author: NodeId,
    /// Where in the chain.
    pub seq: u64,
    /// The two hashes, the lower first.
    pub hashes: (Hash, Hash),
}

impl ForkProof {
    /// A proof from two runs of headers, each longer than needed perhaps; `None` where one of them
    /// has no valid signature within [`MAX_PROOF_RUN`].
    #[must_use]
    pub fn assemble(left: &[Bytes], right: &[Bytes], verify: Verify) -> Option<ForkProof> {
        let side = |run| Some(signed_run(run, verify)?.to_vec());
        Some(ForkProof { left: side(left)?, right: side(right)? })
    }

    /// Checks one story by itself, which may be longer than needed, and returns its first header.
    ///
    /// # Errors
    ///
    /// Where no proof can have it as a side.
    pub fn side(run: &[Bytes], store: Hash, verify: Verify) -> Result<SignedHeader, ProofError> {
        check_side(signed_run(run, verify).ok_or(ProofError::NotSigned)?, store, verify)
    }

    /// Checks the proof, for the store `store`.
    ///
    /// # Errors
    ///
    /// Where it does not prove what it claims.
    pub fn check(&self, store: Hash, verify: Verify) -> Result<Fork, ProofError> {
        let left = check_side(&self.left, store, verify)?;
        let right = check_side(&self.right, store, verify)?;
        if left.header.author != right.header.author || left.header.seq != right.header.seq {
            return Err(ProofError::DifferentPlaces);
        }
        if left.hash == right.hash {
            return Err(ProofError::OneEntry);
        }
        let hashes = (left.hash.min(right.hash), left.hash.max(right.hash));
        Ok(Fork { author: left.header.author, seq: left.header.seq, hashes })
    }
}

/// Why a claimed proof of a fork proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProofError {
    /// A side is empty, too long, not well-formed, or belongs to another store.
    Malformed,
    /// A side's headers do not link to one another.
    NotLinked,
    /// A side does not end in a valid signature.
    NotSigned,
    /// The sides are by different authors, or stand at different places.
    DifferentPlaces,
    /// Both sides show the same entry.
    OneEntry,
}

impl fmt::Display for ProofError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProofError::Malformed => "not a well-formed proof of a fork",
            ProofError::NotLinked => "a fork's proof whose headers do not link",
            ProofError::NotSigned => "a fork's proof without a valid signature at its end",
            ProofError::DifferentPlaces => "a fork's proof whose sides stand at different places",
            ProofError::OneEntry => "a fork's proof that shows one entry twice",
        })
    }
}

impl core::error::Error for ProofError {}

/// As much of a run as a side needs: up to the first header whose own signature is valid.
fn signed_run(run: &[Bytes], verify: Verify) -> Option<&[Bytes]> {
    let signed = run.iter().take(MAX_PROOF_RUN).position(|bytes| {
        SignedHeader::decode(bytes.clone()).is_ok_and(|header| header.is_signed(verify))
    })?;
    Some(&run[..=signed])
}

/// Checks one side and returns its first header.
fn check_side(run: &[Bytes], store: Hash, verify: Verify) -> Result<SignedHeader, ProofError> {
    if run.is_empty() || run.len() > MAX_PROOF_RUN {
        return Err(ProofError::Malformed);
    }
    let headers: Vec<SignedHeader> = run
        .iter()
        .map(|bytes| SignedHeader::decode(bytes.clone()).map_err(|_| ProofError::Malformed))
        .collect::<Result<_, _>>()?;
    if headers.iter().any(|signed| signed.header.store != store) {
        return Err(ProofError::Malformed);
    }
    let linked = headers.windows(2).all(|pair| {
        let (before, after) = (&pair[0], &pair[1].header);
        after.author == before.header.author
            && Some(after.seq) == before.header.seq.checked_add(1)
            && after.prev == before.hash
    });
    if !linked {
        return Err(ProofError::NotLinked);
    }
    if !headers.last().is_some_and(|last| last.is_signed(verify)) {
        return Err(ProofError::NotSigned);
    }
    headers.into_iter().next().ok_or(ProofError::Malformed)
}
