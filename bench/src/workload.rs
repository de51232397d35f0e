//! Stores to measure with: a founder, members whom it invited, and chains of single puts.

use bytes::Bytes;
use quorate_core::entry::{Draft, Entry, MAX_OPS, Op};
use quorate_core::hash::Hash;
use quorate_core::hlc::Hlc;
use quorate_core::identity::Identity;
use quorate_core::machine::WallTime;
use quorate_core::store::Founding;

/// The wall clock's reading throughout, in milliseconds.
pub const WALL: WallTime = WallTime(1_800_000_000_000);
/// A key's length.
pub const KEY_BYTES: usize = 16;
/// A value's length.
pub const VALUE_BYTES: usize = 100;

/// A store's authors, and where each one's chain stands.
#[derive(Debug)]
pub struct Workload {
    /// The founder first.
    pub identities: Vec<Identity>,
    founding: Founding,
    tips: Vec<(u64, Hash)>,
    written: u64,
    ticks: u64,
}

impl Workload {
    /// A store of `authors` members, and the founder's entries that invite them.
    #[must_use]
    pub fn new(authors: usize) -> (Workload, Vec<Entry>) {
        let identities: Vec<Identity> = (0..authors).map(identity).collect();
        let founding = Founding { founder: identities[0].id(), nonce: [7; 16] };
        let tips = vec![(0, Hash::ZERO); authors];
        let mut workload = Workload { identities, founding, tips, written: 0, ticks: 0 };
        let nodes: Vec<_> = workload.identities[1..].iter().map(Identity::id).collect();
        let invitations = nodes.chunks(MAX_OPS).map(|nodes| {
            let ops: Vec<Op<'_>> = nodes.iter().map(|node| Op::Invite { node: *node }).collect();
            workload.write(0, &ops)
        });
        let invitations = invitations.collect();
        (workload, invitations)
    }

    /// Who made the store.
    #[must_use]
    pub fn founding(&self) -> Founding {
        self.founding
    }

    /// The next entry of `author`, with these operations.
    pub fn write(&mut self, author: usize, ops: &[Op<'_>]) -> Entry {
        self.ticks += 1;
        // A thousand a second, long past.
        let hlc = Hlc(Hlc::at(WallTime(WALL.0 - 1_000_000_000)).0 + (self.ticks << 16));
        let (height, prev) = self.tips[author];
        let (store, seq) = (self.founding.store(), height + 1);
        let draft = Draft { store, seq, prev, parents: Vec::new(), hlc, ops };
        let entry = Entry::sign(&self.identities[author], draft).expect("within the limits");
        self.tips[author] = (seq, entry.hash());
        entry
    }

    /// The next entry of `author`: puts a key never used before, in no order that a tree would like.
    pub fn put(&mut self, author: usize) -> Entry {
        self.written += 1;
        let key = &Hash::of(&self.written.to_le_bytes()).0[..KEY_BYTES];
        self.write(author, &[Op::Put { key, value: &[0x5a; VALUE_BYTES] }])
    }

    /// So many puts by one author.
    pub fn run(&mut self, author: usize, count: usize) -> Vec<Entry> {
        (0..count).map(|_| self.put(author)).collect()
    }

    /// `count` puts of every author, taking turns.
    pub fn everyone(&mut self, count: usize) -> Vec<Entry> {
        let authors = self.identities.len();
        (0..count * authors).map(|at| self.put(at % authors)).collect()
    }
}

/// Encoded entries, as they travel.
#[must_use]
pub fn encoded(entries: &[Entry]) -> Vec<Bytes> {
    entries.iter().map(|entry| entry.bytes().clone()).collect()
}

fn identity(number: usize) -> Identity {
    let mut seed = [1; 32];
    seed[..8].copy_from_slice(&(number as u64).to_le_bytes());
    Identity::from_seed(seed)
}
