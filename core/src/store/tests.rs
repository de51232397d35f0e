//! Stores that exchange entries in any order, with forks and removals among them, and must end equal.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::ToString;
use alloc::vec::Vec;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::entry::{Draft, Entry, Op};
use crate::identity::{Identity, verify};
use crate::sigchain::ForkProof;
use crate::value::{Found, Type, kind, read};

/// A store and the log behind it.
#[derive(Clone)]
struct Site {
    identity: Identity,
    store: Store,
    log: BTreeMap<u64, Entry>,
    proofs: Vec<ForkProof>,
    wall: u64,
}

fn identity(n: u8) -> Identity {
    Identity::from_seed([n + 1; 32])
}

fn founding() -> Founding {
    Founding { founder: identity(0).id(), nonce: [0; 16] }
}

fn key(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

fn put(name: &str, value: &str) -> Change {
    Change::Put { key: key(name), value: key(value) }
}

impl Site {
    fn new(n: u8) -> Site {
        let store = Store::new(identity(n).id(), founding(), verify, 0);
        let (log, proofs) = (BTreeMap::new(), Vec::new());
        Site { identity: identity(n), store, log, proofs, wall: 1_000_000 }
    }

    fn arrival(&self) -> Arrival {
        let from = NodeId([0xee; 32]);
        Arrival { from, now: Time::ZERO, wall: WallTime(self.wall) }
    }

    fn write(&mut self, changes: &[Change]) -> Result<Link, WriteError> {
        self.wall += 1;
        let mut out = Vec::new();
        let identity = self.identity.clone();
        let link = self.store.write(&identity, changes, WallTime(self.wall), &mut out);
        self.take(out);
        link
    }

    fn ingest(&mut self, entries: &[Entry]) -> Vec<Outcome> {
        let mut out = Vec::new();
        self.store.ingest(entries.to_vec(), self.arrival(), &mut out);
        self.take(out.clone());
        self.store.check();
        out
    }

    fn prove(&mut self, proof: &ForkProof) {
        let mut out = Vec::new();
        self.store.prove(proof.clone(), WallTime(self.wall), &mut out).expect("a valid proof");
        self.take(out);
        self.store.check();
    }

    fn take(&mut self, out: Vec<Outcome>) {
        let mut conflicts = Vec::new();
        for outcome in out {
            match outcome {
                Outcome::Stored { position, entry } => {
                    assert!(self.log.insert(position, entry).is_none());
                }
                Outcome::Forgotten(position) => {
                    self.log.remove(&position);
                }
                Outcome::Forked { proof, .. } => self.proofs.push(proof),
                Outcome::Conflict { author, seq, theirs } => conflicts.push((author, seq, theirs)),
                _ => {}
            }
        }
        for (author, seq, theirs) in conflicts {
            let positions = self.store.story_positions(&author, seq);
            let ours: Vec<Bytes> = positions.iter().map(|at| self.log[at].head()).collect();
            if let Some(proof) = ForkProof::assemble(&ours, &theirs, verify) {
                self.prove(&proof);
            }
        }
    }

    fn entries(&self) -> Vec<Entry> {
        self.log.values().cloned().collect()
    }

    fn text(&self, name: &str) -> Option<Vec<u8>> {
        let Found::Register(write) = read(self.store.dag(), name.as_bytes()).found else {
            return None;
        };
        let entry = &self.log[&self.store.meta(&write).position];
        entry.ops().iter().find_map(|op| match op {
            Op::Put { key, value } if *key == name.as_bytes() => Some(value.to_vec()),
            _ => None,
        })
    }

    /// What the digest covers, to be read where two differ.
    fn describe(&self) -> alloc::string::String {
        let heads = self.store.dag().slots_from(&[]).filter(|(_, heads)| !heads.is_empty());
        let heads = heads.map(|(name, heads)| {
            let links: Vec<Link> = heads.iter().map(|head| self.store.link(head)).collect();
            (SlotName::parts(name).0.escape_ascii().to_string(), links)
        });
        let members: Vec<_> = self.store.membership().iter().collect();
        alloc::format!("{:#?}\n{members:#?}", heads.collect::<Vec<_>>())
    }

    /// A restart: the same log, fed to a new store.
    fn restarted(&self) -> Store {
        let mut store = Store::new(self.identity.id(), founding(), verify, 0);
        for (position, entry) in &self.log {
            store.restore(entry.clone(), *position, WallTime(self.wall), false);
        }
        for proof in &self.proofs {
            store.restore_proof(proof.clone(), store.next_position(), WallTime(self.wall));
        }
        store
    }
}

/// Three members who know each other.
fn mesh() -> Vec<Site> {
    let mut sites: Vec<Site> = (0..4).map(Site::new).collect();
    for n in 1..4 {
        sites[0].write(&[Change::Invite { node: identity(n).id() }]).unwrap();
    }
    let invitations = sites[0].entries();
    for site in &mut sites[1..] {
        site.ingest(&invitations);
    }
    sites
}

/// Gives everyone everything, until nothing is new.
fn gossip(sites: &mut [Site]) {
    loop {
        let before: Vec<_> = sites.iter().map(|site| (site.log.len(), site.proofs.len())).collect();
        for from in 0..sites.len() {
            for to in 0..sites.len() {
                let (entries, proofs) = (sites[from].entries(), sites[from].proofs.clone());
                sites[to].ingest(&entries);
                proofs.iter().for_each(|proof| sites[to].prove(proof));
            }
        }
        let after: Vec<_> = sites.iter().map(|site| (site.log.len(), site.proofs.len())).collect();
        if before == after {
            return;
        }
    }
}

#[test]
fn concurrent_writes_leave_two_heads_and_a_citing_write_one() {
    let mut sites = mesh();
    sites[1].write(&[put("k", "one")]).unwrap();
    sites[2].write(&[put("k", "two")]).unwrap();
    gossip(&mut sites);
    let reading = read(sites[3].store.dag(), b"k");
    assert!(reading.conflict);
    let values: BTreeSet<_> = sites.iter().map(|site| site.text("k")).collect();
    assert_eq!(values.len(), 1, "one winner everywhere");
    sites[3].write(&[put("k", "settled")]).unwrap();
    gossip(&mut sites);
    assert!(sites.iter().all(|site| !read(site.store.dag(), b"k").conflict));
    assert!(sites.iter().all(|site| site.text("k").as_deref() == Some(b"settled")));
}

#[test]
fn counters_add_up_and_a_citing_entry_takes_none_away() {
    let mut sites = mesh();
    let add = |name: &str, delta| Change::Add { key: key(name), delta };
    sites[1].write(&[add("n", 5), put("k", "x")]).unwrap();
    gossip(&mut sites);
    // This entry cites 1's, for the register; 1's addition must stand all the same.
    sites[2].write(&[add("n", 2), put("k", "y")]).unwrap();
    sites[3].write(&[add("n", -10)]).unwrap();
    gossip(&mut sites);
    for site in &sites {
        assert_eq!(read(site.store.dag(), b"n").found, Found::Counter(-3));
    }
    sites[0].write(&[Change::Delete { key: key("n") }]).unwrap();
    sites[0].write(&[add("n", 1)]).unwrap();
    gossip(&mut sites);
    assert_eq!(read(sites[1].store.dag(), b"n").found, Found::Counter(1));
}

#[test]
fn a_concurrent_addition_survives_a_removal() {
    let mut sites = mesh();
    let (tags, red) = (key("tags"), key("red"));
    let add = Change::SetAdd { key: tags.clone(), member: red.clone() };
    sites[1].write(core::slice::from_ref(&add)).unwrap();
    gossip(&mut sites);
    sites[2].write(&[Change::SetRemove { key: tags, member: red }]).unwrap();
    sites[3].write(&[add]).unwrap();
    gossip(&mut sites);
    let holds = Found::Set(alloc::vec![b"red".to_vec()]);
    assert!(sites.iter().all(|site| read(site.store.dag(), b"tags").found == holds));
}

#[test]
fn a_key_has_one_type() {
    let mut site = mesh().remove(0);
    site.write(&[put("k", "text")]).unwrap();
    let add = Change::Add { key: key("k"), delta: 1 };
    let error = site.write(core::slice::from_ref(&add)).unwrap_err();
    assert!(matches!(error, WriteError::WrongType { .. }), "{error}");
    site.write(&[Change::Delete { key: key("k") }]).unwrap();
    site.write(&[add]).unwrap();
    let missing = site.write(&[Change::Delete { key: key("none") }]);
    assert!(matches!(missing, Err(WriteError::NotFound { .. })));
}

#[test]
fn a_broken_signature_inside_a_linked_run_is_authentic_on_every_path() {
    let mut sites = mesh();
    for n in 0..5 {
        sites[1].write(&[put("k", &alloc::format!("{n}"))]).unwrap();
    }
    // The author's third entry, its signature spoilt, and those after it signed again on top of it.
    let mut chain: Vec<Entry> = sites[1].entries().split_off(3);
    let spoilt = {
        let mut bytes = chain[2].bytes().to_vec();
        let at = chain[2].head().len() - 1;
        bytes[at] ^= 1;
        Entry::decode(bytes.into()).unwrap()
    };
    chain[2] = spoilt;
    for at in 3..5 {
        let (header, ops) = (chain[at].header().clone(), chain[at].ops());
        let (store, seq, parents, hlc) = (header.store, header.seq, header.parents, header.hlc);
        let draft = Draft { store, seq, prev: chain[at - 1].hash(), parents, hlc, ops: &ops };
        chain[at] = Entry::sign(&identity(1), draft).unwrap();
    }
    let mut whole = mesh().remove(2);
    whole.ingest(&chain);
    let mut single = mesh().remove(3);
    for entry in &chain {
        single.ingest(core::slice::from_ref(entry));
    }
    assert_eq!(single.store.tip(&identity(1).id()).height, 2, "alone it is not authentic");
    assert_eq!(single.store.orphans().len(), 2);
    single.ingest(&chain[2..3]);
    assert_eq!(single.store.digest(), whole.store.digest());
    assert_eq!(whole.store.tip(&identity(1).id()).height, 5);
}

#[test]
fn an_entry_waits_for_what_it_cites() {
    let mut sites = mesh();
    sites[1].write(&[put("k", "first")]).unwrap();
    let first = sites[1].entries().split_off(3);
    sites[2].ingest(&first);
    sites[2].write(&[put("k", "second")]).unwrap();
    let second = sites[2].entries().split_off(4);
    let out = sites[3].ingest(&second);
    assert!(out.iter().any(|outcome| matches!(outcome, Outcome::Missing { .. })));
    assert_eq!((sites[3].text("k"), sites[3].store.orphans().len()), (None, 1));
    sites[3].ingest(&first);
    assert_eq!(sites[3].text("k").as_deref(), Some(&b"second"[..]));
    assert!(sites[3].store.orphans().is_empty() && !read(sites[3].store.dag(), b"k").conflict);
}

#[test]
fn what_comes_from_the_future_waits_and_restarts_waiting() {
    let mut sites = mesh();
    sites[1].wall += crate::hlc::MAX_DRIFT_MS + 60_000;
    sites[1].write(&[put("k", "early")]).unwrap();
    sites[1].write(&[put("k", "bird")]).unwrap();
    let entries = sites[1].entries();
    sites[2].ingest(&entries);
    assert_eq!(sites[2].text("k"), None);
    assert_eq!((sites[2].store.orphans().len(), sites[2].store.orphans().parked()), (2, 1));
    assert_eq!(sites[2].restarted().orphans().parked(), 1);
    let mut out = Vec::new();
    let later = WallTime(sites[2].wall + 120_000);
    sites[2].store.unpark(later, &mut out);
    assert!(matches!(out[0], Outcome::Released(_)));
    assert_eq!(sites[2].text("k").as_deref(), Some(&b"bird"[..]));
}

/// An entry of `n`'s at `seq` upon `prev` that cites `parents`.
fn citing(n: u8, seq: u64, prev: Hash, parents: Vec<Link>) -> Entry {
    let (store, hlc) = (founding().store(), crate::hlc::Hlc::at(WallTime(1_000_000 + seq)));
    let ops = [Op::Put { key: b"k", value: b"cites" }];
    Entry::sign(&identity(n), Draft { store, seq, prev, parents, hlc, ops: &ops }).unwrap()
}

#[test]
fn what_cites_nothing_counts_in_time_and_after_a_restart() {
    let nowhere = Link { author: identity(2).id(), seq: 7, hash: Hash([9; 32]) };
    let cites = citing(1, 1, Hash::ZERO, alloc::vec![nowhere]);
    let next = citing(1, 2, cites.hash(), Vec::new());
    let mut site = mesh().swap_remove(3);
    site.ingest(&[cites, next]);
    assert_eq!((site.text("k"), site.store.orphans().len()), (None, 2));
    let mut out = Vec::new();
    let wall = WallTime(site.wall);
    site.store.expire(Time::ZERO.after_ms(crate::orphans::ORPHAN_TTL_MS - 1), wall, &mut out);
    assert!(out.is_empty(), "it waits as long as anything");
    site.store.expire(Time::ZERO.after_ms(crate::orphans::ORPHAN_TTL_MS), wall, &mut out);
    assert!(
        matches!(out[0], Outcome::Waived(Link { seq: 1, .. })),
        "and what waits for it follows"
    );
    site.store.check();
    assert_eq!(site.text("k").as_deref(), Some(&b"cites"[..]));
    assert!(site.store.orphans().is_empty());
    let mut again = site.restarted();
    again.waive(&identity(1).id(), 1, wall, &mut out);
    assert_eq!(again.digest(), site.store.digest());
}

#[test]
fn nobody_is_asked_for_places_too_far_away_to_be_kept() {
    let mut site = mesh().swap_remove(3);
    let out = site.ingest(&[citing(1, 1 << 40, Hash([9; 32]), Vec::new())]);
    assert!(matches!(out[..], [Outcome::Refused { reason: Refusal::NoRoom, .. }]), "{out:?}");
    let far = Link { author: identity(2).id(), seq: 1 << 50, hash: Hash([9; 32]) };
    let out = site.ingest(&[citing(1, 1, Hash::ZERO, alloc::vec![far])]);
    let asked = out.iter().find_map(|outcome| match outcome {
        Outcome::Missing { from, to, .. } => Some((*from, *to)),
        _ => None,
    });
    assert_eq!(asked, Some((1, crate::orphans::MAX_DISTANCE)));
}

#[test]
fn a_lower_fork_supersedes_the_proof_of_a_higher_one() {
    let mut site = mesh().swap_remove(3);
    let story = |seq: u64, prev: Hash, value: u8| {
        let hlc = crate::hlc::Hlc::at(WallTime(1_000_000 + seq));
        let (store, parents, value) = (founding().store(), Vec::new(), [value]);
        let ops = [Op::Put { key: b"k", value: &value }];
        Entry::sign(&identity(1), Draft { store, seq, prev, parents, hlc, ops: &ops }).unwrap()
    };
    let prove = |site: &mut Site, left: &Entry, right: &Entry| {
        let side = |entry: &Entry| alloc::vec![entry.head()];
        let proof = ForkProof { left: side(left), right: side(right) };
        let mut out = Vec::new();
        site.store.prove(proof, WallTime(site.wall), &mut out).unwrap();
        out.into_iter().find_map(|outcome| match outcome {
            Outcome::Forgotten(position) => Some(position),
            _ => None,
        })
    };
    let first = story(1, Hash::ZERO, 1);
    let above = site.store.next_position();
    assert_eq!(prove(&mut site, &story(2, first.hash(), 1), &story(2, first.hash(), 2)), None);
    assert_eq!(prove(&mut site, &first, &story(1, Hash::ZERO, 2)), Some(above));
    assert_eq!(site.store.membership().get(&identity(1).id()).unwrap().limit, Some(0));
}

#[test]
fn the_type_of_a_key_is_that_of_what_is_read() {
    let mut site = mesh().swap_remove(0);
    let set = |member: &str| Change::SetAdd { key: key("s"), member: key(member) };
    site.write(&[put("r", "1"), set("a"), set("b"), Change::Add { key: key("c"), delta: 2 }])
        .unwrap();
    let kinds =
        |site: &Site| ["r", "s", "c", "none"].map(|key| kind(site.store.dag(), key.as_bytes()));
    assert_eq!(kinds(&site), [Some(Type::Register), Some(Type::Set), Some(Type::Counter), None]);
    site.write(&["r", "s", "c"].map(|name| Change::Delete { key: key(name) })).unwrap();
    assert_eq!(kinds(&site), [None; 4]);
}

/// What a random run does.
#[derive(Clone, Debug)]
enum Step {
    Write(usize, u8, u8),
    Add(usize, u8),
    Tag(usize, u8),
    Untag(usize, u8),
    Delete(usize, u8),
    Remove(usize, usize),
    Exchange(usize, usize),
    /// The site loses its last entries, as a restored backup does, and goes on writing.
    Rewind(usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let site = 0usize..4;
    prop_oneof![
        6 => (site.clone(), 0u8..4, any::<u8>()).prop_map(|(s, k, v)| Step::Write(s, k, v)),
        2 => (site.clone(), 0u8..3).prop_map(|(s, k)| Step::Add(s, k)),
        2 => (site.clone(), 0u8..3).prop_map(|(s, k)| Step::Tag(s, k)),
        2 => (site.clone(), 0u8..3).prop_map(|(s, k)| Step::Untag(s, k)),
        1 => (site.clone(), 0u8..4).prop_map(|(s, k)| Step::Delete(s, k)),
        1 => (site.clone(), site.clone()).prop_map(|(a, b)| Step::Remove(a, b)),
        5 => (site.clone(), site.clone()).prop_map(|(a, b)| Step::Exchange(a, b)),
        1 => (1usize..4, 1usize..4).prop_map(|(s, n)| Step::Rewind(s, n)),
    ]
}

/// Runs a step; writes that are refused are part of the game.
fn run(sites: &mut [Site], step: &Step) {
    let name = |n: u8| key(&alloc::format!("k{n}"));
    let tags = key("tags");
    let _ = match step {
        Step::Write(site, k, v) => {
            let change = Change::Put { key: name(*k), value: Bytes::copy_from_slice(&[*v]) };
            sites[*site].write(&[change])
        }
        Step::Add(site, k) => {
            let key = key(&alloc::format!("c{k}"));
            sites[*site].write(&[Change::Add { key, delta: 1 }])
        }
        Step::Tag(site, m) => sites[*site].write(&[Change::SetAdd { key: tags, member: name(*m) }]),
        Step::Untag(site, m) => {
            sites[*site].write(&[Change::SetRemove { key: tags, member: name(*m) }])
        }
        Step::Delete(site, k) => sites[*site].write(&[Change::Delete { key: name(*k) }]),
        Step::Remove(by, node) => {
            sites[*by].write(&[Change::Remove { node: identity(*node as u8).id() }])
        }
        Step::Exchange(a, b) => {
            let entries = sites[*a].entries();
            sites[*b].ingest(&entries);
            return;
        }
        Step::Rewind(site, back) => {
            let site = &mut sites[*site];
            let kept = site.log.len().saturating_sub(*back);
            let mut old = Site::new(0);
            old.identity = site.identity.clone();
            old.wall = site.wall;
            old.ingest(&site.entries()[..kept]);
            *site = old;
            return;
        }
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Whatever is written, forked, removed and exchanged: when everyone has everything, everyone
    /// reads the same; so does a restart of each, and a newcomer who gets it all in another order.
    #[test]
    fn stores_end_equal(
        steps in proptest::collection::vec(step(), 1..60),
        order in any::<u64>(),
    ) {
        let mut sites = mesh();
        for step in &steps {
            run(&mut sites, step);
        }
        gossip(&mut sites);
        let digests: BTreeSet<Hash> = sites.iter().map(|site| site.store.digest()).collect();
        prop_assert_eq!(digests.len(), 1);
        for site in &sites {
            prop_assert_eq!(site.restarted().digest(), site.store.digest());
        }
        let mut newcomer = Site::new(9);
        let mut entries: Vec<Entry> = sites.iter().flat_map(Site::entries).collect();
        entries.sort_by_key(|entry| Hash::of(&[&order.to_le_bytes()[..], &entry.hash().0].concat()));
        for entry in &entries {
            newcomer.ingest(core::slice::from_ref(entry));
        }
        sites.push(newcomer);
        gossip(&mut sites);
        prop_assert_eq!(sites[4].describe(), sites[0].describe());
        prop_assert_eq!(sites[4].store.digest(), sites[0].store.digest());
    }
}
