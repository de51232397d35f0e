//! A peer that follows no rules, against a node machine.
//!
//! The peer is a member, with a key that signs whatever it likes. A program, which is any bytes, says
//! what it does: well-formed messages of every protocol whose fields are drawn from what makes sense
//! (known authors, near heights, hashes that exist), from what does not, and from what the node itself
//! said before; entries on any place of its chain, its siblings' real entries in any order; links that
//! come and go; time that passes; and the node's own writes, syncs and restarts in between.
//!
//! After every step the node checks its own invariants. In the end, what its disk makes of it must be
//! what it is.

use bytes::Bytes;
use quorate_core::entry::{Draft, Entry, Link, Op};
use quorate_core::gap;
use quorate_core::handshake::{self, Introduction, Reason, feature};
use quorate_core::hash::Hash;
use quorate_core::hlc::Hlc;
use quorate_core::hunt;
use quorate_core::iblt::{Cell, Id};
use quorate_core::identity::Identity;
use quorate_core::machine::{Input, NodeId, WallTime};
use quorate_core::node::{Command, Contact, Event, Message};
use quorate_core::sigchain::ForkProof;
use quorate_core::spread::News;
use quorate_core::store::Change;
use quorate_core::sync::{self, Nonce, Want, WireTip};
use quorate_core::{detector, transfer};

use crate::host::{Host, START_MS, Told};

/// Steps after which a program is cut off.
const MAX_ACTS: usize = 400;

/// The most that one input may make a node say to this one peer.
const MAX_ANSWERS: usize = 1_024;

/// Runs a program; always `true`, since no program is refused.
///
/// # Panics
///
/// Where the node breaks one of its promises.
#[must_use]
pub fn hostile(program: &[u8]) -> bool {
    let mut peer = Peer { rest: program, ..beginning() };
    for _ in 0..MAX_ACTS {
        if peer.rest.is_empty() {
            break;
        }
        peer.act();
    }
    peer.finish();
    true
}

/// A node with a peer and an entry or two, from which every program begins.
fn beginning() -> Peer<'static> {
    thread_local! {
        static BEGINNING: Peer<'static> = Peer::new();
    }
    BEGINNING.with(Clone::clone)
}

#[derive(Clone)]
struct Peer<'a> {
    rest: &'a [u8],
    host: Host,
    me: Identity,
    /// Another member, whose entries are real; it says nothing itself.
    sibling: Identity,
    store: Hash,
    /// Entries that exist, of any kind.
    entries: Vec<Entry>,
    /// What the node said last.
    heard: Vec<Message>,
    /// The last session of sync that the node opened.
    session: Nonce,
    up: bool,
    /// The node closed the link; it is made again with the next act.
    thrown_out: bool,
}

impl Peer<'_> {
    fn new() -> Self {
        let mut host = Host::new(1);
        let (me, sibling) = (Identity::from_seed([2; 32]), Identity::from_seed([3; 32]));
        host.step(Input::Start);
        host.step(Input::Command(Command::Found));
        let invite = |identity: &Identity| Change::Invite { node: identity.id() };
        for change in [invite(&me), invite(&sibling)] {
            host.step(Input::Command(Command::Write { ticket: 0, changes: vec![change] }));
        }
        let store = host.node.store().expect("it was founded").id();
        let entries =
            host.log.values().filter_map(|record| Entry::decode(record.entry()?).ok()).collect();
        let (heard, session) = (Vec::new(), Nonce([0; 8]));
        let mut peer = Peer {
            rest: &[],
            host,
            me,
            sibling,
            store,
            entries,
            heard,
            session,
            up: false,
            thrown_out: false,
        };
        let mut prev = Hash::ZERO;
        for seq in 1..=6 {
            let op = Op::Put { key: b"k1", value: b"sibling's" };
            let hlc = Hlc(Hlc::at(WallTime(START_MS)).0 + seq);
            prev = peer.sign(true, (seq, prev, hlc), Vec::new(), &[op]);
        }
        peer.link();
        peer
    }

    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *byte
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }

    /// Heights and counts: mostly small, sometimes at an edge.
    fn number(&mut self) -> u64 {
        match self.byte() {
            byte @ 0..200 => u64::from(byte) % 12,
            byte @ 200..230 => u64::from(byte),
            230..240 => 4_096,
            240..246 => 1 << 32,
            246..250 => u64::MAX >> 1,
            250..253 => u64::MAX - 1,
            253.. => u64::MAX,
        }
    }

    fn entry(&mut self) -> Entry {
        let at = self.below(self.entries.len());
        self.entries[at].clone()
    }

    fn entries(&mut self) -> Vec<Bytes> {
        let first = self.below(self.entries.len());
        let count = self.below(12);
        let backwards = self.byte() > 200;
        let run = self.entries.iter().skip(first).take(count);
        let mut run: Vec<Bytes> = run.map(|entry| entry.bytes().clone()).collect();
        if backwards {
            run.reverse();
        }
        if self.byte() > 250 {
            run.push(Bytes::from_static(b"no entry"));
        }
        run
    }

    fn heads(&mut self) -> Vec<Bytes> {
        let first = self.below(self.entries.len());
        let count = self.below(8);
        self.entries.iter().skip(first).take(count).map(Entry::head).collect()
    }

    fn author(&mut self) -> NodeId {
        match self.byte() % 5 {
            0 => self.host.node.id(),
            1 => self.me.id(),
            2 => self.sibling.id(),
            3 => self.entry().header().author,
            _ => NodeId([self.byte(); 32]),
        }
    }

    fn hash(&mut self) -> Hash {
        match self.byte() % 4 {
            0 => Hash::ZERO,
            1 => Hash([self.byte(); 32]),
            _ => self.entry().hash(),
        }
    }

    fn act(&mut self) {
        if std::mem::take(&mut self.thrown_out) {
            self.relink();
        }
        match self.byte() % 20 {
            0 => {
                let ms = [1, 10, 100, 400, 1_000, 5_000, 30_000, 700_000][self.below(8)];
                let told = self.host.wait_ms(ms);
                self.note(told);
            }
            1 | 2 => self.forge(),
            3 | 4 => {
                let news = News(self.entries());
                self.say(Message::News(news));
            }
            5 => self.page(),
            6 | 7 => self.sync(),
            8 => self.gap(),
            9 | 10 => self.hunt(),
            11 => {
                let proof = ForkProof { left: self.heads(), right: self.heads() };
                self.say(Message::Proof(proof));
            }
            12 => self.contacts(),
            13 => self.handshake(),
            14 => self.detector(),
            15 => self.echo(),
            16 => self.relink(),
            17 => self.own_write(),
            18 => {
                let told = self.host.step(Input::Command(Command::Sync(None)));
                self.note(told);
            }
            _ => {
                let told = self.host.restart();
                self.up = false;
                self.note(told);
                self.link();
            }
        }
    }

    /// Signs an entry and keeps it.
    fn sign(
        &mut self,
        sibling: bool,
        (seq, prev, hlc): (u64, Hash, Hlc),
        parents: Vec<Link>,
        ops: &[Op<'_>],
    ) -> Hash {
        let identity = if sibling { &self.sibling } else { &self.me };
        let draft = Draft { store: self.store, seq, prev, parents, hlc, ops };
        let signed = Entry::sign(identity, draft);
        // What no encoding is for is not sent.
        let Some(entry) = signed.ok().and_then(|entry| Entry::decode(entry.bytes().clone()).ok())
        else {
            return prev;
        };
        let hash = entry.hash();
        self.entries.push(entry);
        hash
    }

    /// An entry of the peer's own, at any place, upon anything, doing anything.
    fn forge(&mut self) {
        let upon = self.entry();
        let extends = self.byte() < 200;
        let (seq, prev) = match extends {
            true if upon.header().author == self.me.id() => {
                (upon.header().seq.saturating_add(1), upon.hash())
            }
            true => (1, Hash::ZERO),
            false => (self.number(), self.hash()),
        };
        let count = self.below(4);
        let parents = (0..count).map(|_| match self.byte() {
            0..200 => self.entry().link(),
            _ => Link { author: self.author(), seq: self.number(), hash: self.hash() },
        });
        let parents: Vec<Link> = parents.collect();
        let hlc = match self.byte() {
            0..200 => Hlc(upon.header().hlc.0.saturating_add(u64::from(self.byte()))),
            200..220 => Hlc(self.number()),
            220..250 => Hlc::at(WallTime(START_MS + self.host.now.0 / 1_000 + 200_000)),
            250.. => Hlc(u64::MAX - u64::from(self.byte())),
        };
        let (node, height, hash) = (self.author(), self.number(), self.hash());
        let edges = [1, -1, i64::MAX, i64::MIN, 0];
        let (delta, total) = (edges[self.below(5)], edges[self.below(5)]);
        let key: &[u8] = [&b"k0"[..], b"k1", b"k2"][self.below(3)];
        let ops = [
            Op::Put { key, value: b"forged" },
            Op::Delete { key },
            Op::Add { key, delta, total },
            Op::SetAdd { key, member: b"m" },
            Op::SetRemove { key, member: b"m" },
            Op::Invite { node },
            Op::Remove { node, height, hash },
        ];
        let first = self.below(ops.len());
        let last = (first + 1 + self.below(3)).min(ops.len());
        self.sign(false, (seq, prev, hlc), parents, &ops[first..last]);
    }

    fn page(&mut self) {
        let serial = self.number();
        let message = match self.byte() % 3 {
            0 => transfer::Message::Ack { serial },
            _ => {
                let entries = self.entries();
                transfer::Message::Page { serial, entries, last: self.byte().is_multiple_of(2) }
            }
        };
        self.say(Message::Transfer(message));
    }

    fn tips(&mut self) -> Vec<WireTip> {
        let count = self.below(6);
        let tip = |_| WireTip {
            author: self.author(),
            height: self.number() >> 1,
            prefix: self.hash().prefix(),
            closed: self.byte() > 220,
        };
        let mut tips: Vec<WireTip> = (0..count).map(tip).collect();
        if self.byte() < 200 {
            tips.sort_by_key(|tip| tip.author);
            tips.dedup_by_key(|tip| tip.author);
        }
        tips
    }

    fn sync(&mut self) {
        let session = if self.byte() < 180 { self.session } else { Nonce([self.byte(); 8]) };
        let turn = if self.byte() < 240 { self.below(4) as u32 } else { u32::MAX };
        let body = match self.byte() % 10 {
            0 => sync::Body::Offer { digest: self.hash(), chains: self.number() },
            1 => sync::Body::More { cells: self.number() as u32 },
            2 => sync::Body::Fetch,
            3 => sync::Body::Tell { tips: self.tips(), last: self.byte().is_multiple_of(2) },
            4 => {
                let (tips, count) = (self.tips(), self.below(5));
                let unknown = (0..count).map(|_| Id(self.number())).collect();
                sync::Body::Differ { tips, unknown, last: self.byte().is_multiple_of(2) }
            }
            5 => sync::Body::Same,
            6 => {
                let cell = |peer: &mut Self| Cell {
                    sum: peer.number(),
                    check: u32::from(peer.byte()),
                    count: [0, 1, -1, i32::MAX, i32::MIN][peer.below(5)],
                };
                let count = self.below(70);
                let cells = (0..count).map(|_| cell(self)).collect();
                sync::Body::Cells { nonce: Nonce([self.byte(); 8]), chains: self.number(), cells }
            }
            7 => sync::Body::Whole { tips: self.tips(), last: self.byte().is_multiple_of(2) },
            8 => sync::Body::Ask,
            _ => {
                let count = self.below(4);
                let want = |_| Want {
                    index: self.number() as u32,
                    height: self.number() >> 1,
                    prefix: self.hash().prefix(),
                    closed: self.byte() > 220,
                };
                sync::Body::Wants { wants: (0..count).map(want).collect() }
            }
        };
        self.say(Message::Sync(sync::Message { session, turn, body }));
    }

    fn gap(&mut self) {
        let (author, from) = (self.author(), self.number());
        let message = match self.byte() % 3 {
            0 => gap::Message::NotHeld { author, from },
            _ => gap::Message::Want { author, from, to: self.number() },
        };
        self.say(Message::Gap(message));
    }

    fn hunt(&mut self) {
        let author = self.author();
        let message = if self.byte().is_multiple_of(2) {
            let count = self.below(20);
            let mut points: Vec<(u64, [u8; 16])> =
                (0..count).map(|_| (self.number(), self.hash().prefix())).collect();
            if self.byte() < 220 {
                points.sort_unstable();
                points.dedup_by_key(|(seq, _)| *seq);
            }
            hunt::Message::Points { author, points }
        } else {
            hunt::Message::Story { author, seq: self.number(), headers: self.heads() }
        };
        self.say(Message::Hunt(message));
    }

    fn contacts(&mut self) {
        let count = self.below(80);
        let contact =
            |_| Contact { node: self.author(), address: "x".repeat(usize::from(self.byte()) * 2) };
        let contacts = (0..count).map(contact).collect();
        self.say(Message::Contacts(contacts));
    }

    fn introduction(&mut self) -> Introduction {
        let honest = self.byte() < 200;
        Introduction {
            version: if honest { handshake::PROTOCOL_VERSION } else { u16::from(self.byte()) },
            min_version: if honest { 1 } else { u16::from(self.byte()) },
            features: feature::ALL,
            network: if honest { self.store } else { self.hash() },
            session: u64::from(self.byte()),
            address: (!honest).then(|| "x".repeat(usize::from(self.byte()) * 2)),
            extension: if honest { Vec::new() } else { vec![0; usize::from(self.byte()) * 8] },
        }
    }

    fn handshake(&mut self) {
        let nonce = self.number();
        let message = match self.byte() % 3 {
            0 => handshake::Message::Hello { nonce, introduction: self.introduction() },
            1 => handshake::Message::Welcome { nonce, introduction: self.introduction() },
            _ => {
                let reason = Reason::from(u16::from(self.byte()) % 10);
                handshake::Message::Refuse { session: self.number(), reason }
            }
        };
        self.say(Message::Handshake(message));
    }

    fn detector(&mut self) {
        let nonce = self.number();
        let message = match self.byte() % 2 {
            0 => detector::Message::Ping { nonce },
            _ => detector::Message::Pong { nonce, wall: WallTime(self.number()) },
        };
        self.say(Message::Detector(message));
    }

    /// Says what the node said, or answers its ping.
    fn echo(&mut self) {
        if self.heard.is_empty() {
            return;
        }
        let at = self.below(self.heard.len());
        let message = match self.heard[at].clone() {
            Message::Detector(detector::Message::Ping { nonce }) => {
                let offset = [0, 1_000, 400_000, u64::MAX / 2][self.below(4)];
                let wall = WallTime(START_MS.saturating_add(offset));
                Message::Detector(detector::Message::Pong { nonce, wall })
            }
            message => message,
        };
        self.say(message);
    }

    fn own_write(&mut self) {
        let (key, member) = (Bytes::from_static(b"k1"), Bytes::from_static(b"m"));
        let change = match self.byte() % 7 {
            0 => Change::Put { key, value: member },
            1 => Change::Delete { key },
            2 => Change::Add { key, delta: i64::MAX },
            3 => Change::SetAdd { key, member },
            4 => Change::SetRemove { key, member },
            5 => Change::Invite { node: self.author() },
            _ => Change::Remove { node: NodeId([self.byte(); 32]) },
        };
        let told =
            self.host.step(Input::Command(Command::Write { ticket: 0, changes: vec![change] }));
        self.note(told);
    }

    fn say(&mut self, message: Message) {
        let from = self.me.id();
        let told = self.host.step(Input::Message { from, message });
        self.note(told);
    }

    /// Takes note of what the node says, and does as it asks of its host.
    fn note(&mut self, told: Told) {
        let me = self.me.id();
        let sent = told.sent.into_iter().filter(|(to, _)| *to == me).map(|(_, message)| message);
        let sent: Vec<Message> = sent.collect();
        assert!(sent.len() <= MAX_ANSWERS, "{} answers to one input", sent.len());
        for message in &sent {
            if let Message::Sync(message) = message {
                self.session = message.session;
            }
        }
        if !sent.is_empty() {
            self.heard = sent;
        }
        let me = self.me.id();
        let is_mine =
            |event: &Event| matches!(event, Event::Disconnect { peer, .. } if *peer == me);
        self.thrown_out |= told.events.iter().any(is_mine);
    }

    fn relink(&mut self) {
        if self.up {
            self.up = false;
            let told = self.host.step(Input::Link { peer: self.me.id(), up: false });
            self.note(told);
        }
        self.link();
    }

    /// A link comes up, and the peer shakes hands as it should.
    fn link(&mut self) {
        if self.up {
            return;
        }
        self.up = true;
        let told = self.host.step(Input::Link { peer: self.me.id(), up: true });
        let introduction = Introduction {
            version: handshake::PROTOCOL_VERSION,
            min_version: handshake::MIN_PROTOCOL_VERSION,
            features: feature::ALL,
            network: self.store,
            session: self.host.now.0,
            address: None,
            extension: Vec::new(),
        };
        let hellos: Vec<u64> = told.sent.iter().filter_map(hello).collect();
        self.note(told);
        for nonce in hellos {
            let introduction = introduction.clone();
            self.say(Message::Handshake(handshake::Message::Welcome { nonce, introduction }));
        }
        self.say(Message::Handshake(handshake::Message::Hello { nonce: 1, introduction }));
    }

    /// What the disk makes of the node is what the node is.
    fn finish(self) {
        let restored = self.host.restored();
        let (before, after) = (self.host.node.store(), restored.store());
        let state = |store: &quorate_core::store::Store| {
            let tips: Vec<_> =
                store.chains().iter().map(|chain| store.tip(&chain.author())).collect();
            let forks: Vec<_> = store.forks().keys().copied().collect();
            (store.digest(), tips, forks)
        };
        assert_eq!(before.map(state), after.map(state), "the log holds the whole state");
    }
}

fn hello((_, message): &(NodeId, Message)) -> Option<u64> {
    match message {
        Message::Handshake(handshake::Message::Hello { nonce, .. }) => Some(*nonce),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peer_is_listened_to() {
        let mut peer = beginning();
        let applied = |peer: &Peer<'_>| peer.host.node.status().applied;
        let before = applied(&peer);
        assert!(!peer.thrown_out, "it is let in");
        let news: Vec<Bytes> = peer.entries.iter().map(|entry| entry.bytes().clone()).collect();
        peer.say(Message::News(News(news)));
        assert_eq!(applied(&peer), before + 6, "the sibling's entries are taken from it");
        let session = Nonce([1; 8]);
        let body = sync::Body::Offer { digest: Hash::ZERO, chains: 1 };
        peer.say(Message::Sync(sync::Message { session, turn: 0, body }));
        assert!(matches!(peer.heard[..], [Message::Sync(_)]), "it is answered: {:?}", peer.heard);
    }
}
