//! What a dishonest member says: entries that no honest node would write, made with its real key.

use bytes::Bytes;
use quorate_core::entry::{Draft, Entry, Header, Link, Op};
use quorate_core::hash::Hash;
use quorate_core::hlc::{Hlc, MAX_DRIFT_MS};
use quorate_core::identity::Identity;
use quorate_core::machine::{NodeId, WallTime};
use quorate_core::node::Message;
use quorate_core::spread::News;
use serde::{Deserialize, Serialize};

/// A way to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Lie {
    /// Two entries for one place, one told to these nodes and one to the others; then an entry on top
    /// of each.
    Equivocate,
    /// Entries far above the chain, without what lies between.
    Orphans(u64),
    /// Entries from the far future.
    Future(u64),
    /// A run of entries, one of them with a broken signature: whole to some, one by one to others.
    BrokenSignature,
    /// Bytes that are no entry.
    Garbage,
    /// Entries signed by somebody who is not a member.
    Strangers(u64),
    /// Entries of another store.
    OtherStore,
    /// An entry that cites a place of the last node's chain which that never wrote, and one upon it.
    CiteNothing,
    /// A run of entries; half of the nodes get it with another in the place of the second, unsigned.
    Substitute,
    /// An entry in the last node's name, with a signature that is none.
    Forge,
    /// Two entries for one place, the second told once everybody has the first.
    Retell,
    /// Two stories of so many entries from one place on, each told to half of the nodes.
    Stories(u64),
    /// No lie: the entry at `seq` of the chains of so many members that have no node of their own.
    Chorus {
        /// How many.
        voices: u8,
        /// At which place.
        seq: u64,
    },
}

/// Where the chain ends that a liar adds to, and what time it is there.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) store: Hash,
    pub(crate) height: u64,
    pub(crate) hash: Hash,
    pub(crate) hlc: Hlc,
    pub(crate) wall: WallTime,
}

/// Writes the entries of a chain as its author could, honestly or not.
pub(crate) struct Pen<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) place: Place,
}

impl Pen<'_> {
    /// The entry at `seq` upon `prev`, at `hlc`.
    fn entry(&self, seq: u64, prev: Hash, hlc: Hlc, value: &str) -> Entry {
        self.citing(Vec::new(), seq, prev, hlc, value)
    }

    /// The same, citing `parents`.
    fn citing(&self, parents: Vec<Link>, seq: u64, prev: Hash, hlc: Hlc, value: &str) -> Entry {
        let ops = [Op::Put { key: b"k0", value: value.as_bytes() }];
        let store = self.place.store;
        let draft = Draft { store, seq, prev, parents, hlc, ops: &ops };
        Entry::sign(self.identity, draft).expect("a small entry")
    }

    /// `count` entries from the chain's end on.
    fn run(&self, count: u64, value: &str) -> Vec<Entry> {
        let Place { height, hash, hlc, wall, .. } = self.place;
        let mut clock = hlc.max(Hlc::at(wall)).0;
        let mut prev = hash;
        let mut run = Vec::new();
        for n in 1..=count {
            clock += 1;
            let entry = self.entry(height + n, prev, Hlc(clock), value);
            prev = entry.hash();
            run.push(entry);
        }
        run
    }

    /// What to say to each of `others`.
    pub(crate) fn tell(&self, lie: Lie, others: &[NodeId]) -> Vec<(NodeId, Message)> {
        let everyone = |messages: Vec<Message>| -> Vec<(NodeId, Message)> {
            let each = |to: &NodeId| {
                let to = *to;
                messages.clone().into_iter().map(move |message| (to, message))
            };
            others.iter().flat_map(each).collect()
        };
        match lie {
            Lie::Equivocate | Lie::Stories(_) => {
                let count = if let Lie::Stories(count) = lie { count } else { 2 };
                let stories = [self.run(count, "left"), self.run(count, "right")];
                let tell = |(n, to): (usize, &NodeId)| (*to, news(&stories[n % 2]));
                others.iter().enumerate().map(tell).collect()
            }
            Lie::Orphans(count) => {
                let run = self.run(count + 1, "orphan");
                everyone(run[1..].chunks(50).map(news).collect())
            }
            Lie::Future(count) => everyone(self.future_run(count).chunks(50).map(news).collect()),
            Lie::BrokenSignature => {
                let run = self.spoilt_run();
                let one_by_one = |to: NodeId| {
                    run.iter().map(move |entry| (to, news(core::slice::from_ref(entry))))
                };
                let (whole, single) = others.split_at(others.len() / 2);
                let whole = whole.iter().map(|to| (*to, news(&run)));
                whole.chain(single.iter().flat_map(|to| one_by_one(*to))).collect()
            }
            Lie::Garbage => everyone(vec![Message::News(News(vec![Bytes::from_static(b"junk")]))]),
            Lie::Strangers(count) => {
                let stranger = Identity::from_seed([0xaa; 32]);
                let place = Place { height: 0, hash: Hash::ZERO, ..self.place };
                let pen = Pen { identity: &stranger, place };
                everyone(pen.run(count, "stranger").chunks(50).map(news).collect())
            }
            Lie::OtherStore => {
                let place = Place { store: Hash([0xbb; 32]), ..self.place };
                let pen = Pen { identity: self.identity, place };
                everyone(vec![news(&pen.run(1, "other"))])
            }
            Lie::CiteNothing => {
                let author = *others.last().expect("a liar is not alone");
                everyone(vec![news(&self.citing_nothing(author))])
            }
            Lie::Substitute => {
                let honest = self.run(3, "own");
                let mut spoilt = honest.clone();
                let Header { seq, prev, hlc, .. } = *honest[1].header();
                spoilt[1] = unsigned(&self.entry(seq, prev, hlc, "another"));
                let runs = [news(&honest), news(&spoilt)];
                let tell = |(n, to): (usize, &NodeId)| (*to, runs[n % 2].clone());
                others.iter().enumerate().map(tell).collect()
            }
            Lie::Chorus { voices, seq } => {
                let sung: Vec<Entry> =
                    (0..voices).map(|voice| self.sung(&self::voice(voice), seq)).collect();
                everyone(sung.chunks(50).map(news).collect())
            }
            Lie::Forge => {
                let author = *others.last().expect("a liar is not alone");
                let forged = in_the_name_of(author, &self.run(1, "forged")[0]);
                everyone(vec![news(&[forged])])
            }
            Lie::Retell => {
                let stories = [self.run(2, "first"), self.run(2, "second")];
                everyone(stories.iter().map(|story| news(story)).collect())
            }
        }
    }

    /// The entry at `seq` of a chain that is the same whoever writes it down.
    fn sung(&self, identity: &Identity, seq: u64) -> Entry {
        let place =
            Place { height: 0, hash: Hash::ZERO, hlc: Hlc(0), wall: WallTime(1), ..self.place };
        let mut chain = Pen { identity, place }.run(seq, "sung");
        chain.pop().expect("places are counted from 1")
    }

    /// Entries from far ahead of every clock.
    fn future_run(&self, count: u64) -> Vec<Entry> {
        let ahead = WallTime(self.place.wall.0 + 3 * MAX_DRIFT_MS);
        let Place { height, hash, .. } = self.place;
        let mut prev = hash;
        let mut run = Vec::new();
        for n in 1..=count {
            let entry = self.entry(height + n, prev, Hlc(Hlc::at(ahead).0 + n), "future");
            prev = entry.hash();
            run.push(entry);
        }
        run
    }

    /// An entry that cites what `author` never wrote, and the one after it.
    fn citing_nothing(&self, author: NodeId) -> [Entry; 2] {
        let Place { height, hash, hlc, wall, .. } = self.place;
        let hlc = hlc.max(Hlc::at(wall)).0;
        let nothing = Link { author, seq: 900, hash: Hash([0xcc; 32]) };
        let cites = self.citing(vec![nothing], height + 1, hash, Hlc(hlc + 1), "cites");
        let next = self.entry(height + 2, cites.hash(), Hlc(hlc + 2), "next");
        [cites, next]
    }

    /// Five entries, the second with a spoilt signature and the rest signed on top of it.
    fn spoilt_run(&self) -> Vec<Entry> {
        let mut run = self.run(5, "spoilt");
        run[1] = unsigned(&run[1]);
        for n in 2..run.len() {
            let hlc = run[n].header().hlc;
            run[n] = self.entry(run[n].header().seq, run[n - 1].hash(), hlc, "spoilt");
        }
        run
    }
}

/// A member that has no node.
pub(crate) fn voice(number: u8) -> Identity {
    let mut seed = [0xcc; 32];
    seed[0] = number;
    Identity::from_seed(seed)
}

/// The entry with a signature that is none.
fn unsigned(entry: &Entry) -> Entry {
    let mut bytes = entry.bytes().to_vec();
    bytes[entry.head().len() - 1] ^= 1;
    Entry::decode(bytes.into()).expect("its form is fine")
}

/// The entry as if `author` had written it; only the signature tells.
fn in_the_name_of(author: NodeId, entry: &Entry) -> Entry {
    let (mut bytes, own) = (entry.bytes().to_vec(), entry.header().author.0);
    let at = bytes.windows(32).position(|window| window == own).expect("an entry names its author");
    bytes[at..at + 32].copy_from_slice(&author.0);
    Entry::decode(bytes.into()).expect("its form is fine")
}

fn news(entries: &[Entry]) -> Message {
    Message::News(News(entries.iter().map(|entry| entry.bytes().clone()).collect()))
}
