//! Real values for fuzzing to start from: what three nodes said to each other and wrote to their disks
//! while they met, merged, filled gaps and proved a fork.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_core::entry::Entry;
use quorate_core::identity::Identity;
use quorate_core::machine::{Input, NodeId};
use quorate_core::node::{Command, Contact, Message, Node, Record};
use quorate_core::quorum::nostr::SecretKey;
use quorate_core::quorum::report::{Report, Status};
use quorate_core::quorum::signal::{Action, Artifact, Genesis, Proposal, Signal, Version};
use quorate_core::store::Change;
use quorate_core::ticket::Ticket;
use quorate_runtime_tokio::frame::{Codec, seal};
use quorate_runtime_tokio::node::NodeCodec;

use crate::control;
use crate::host::{Host, Told};

/// The most seeds of one kind.
const MAX_OF_A_KIND: usize = 3;

/// The longest seed: longer ones teach nothing more.
const MAX_SEED_BYTES: usize = 2_048;

/// A value to start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The [target](crate::decoders::TARGETS) it is for.
    pub target: &'static str,
    /// The file it is kept in.
    pub name: String,
    /// The value, encoded.
    pub bytes: Vec<u8>,
}

/// All seeds, the same ones every time.
#[must_use]
pub fn all() -> Vec<Seed> {
    let mut meeting = Meeting::new();
    meeting.run();
    let mut kept = Kept::default();
    let mut wire = Vec::new();
    for message in &meeting.said {
        let mut bytes = Vec::new();
        Codec::<Node>::encode_message(&NodeCodec, message, &mut bytes);
        // A message's protocol and kind are its first bytes; in a sync, the session lies between.
        let kind = match message {
            Message::Sync(_) => format!("{}-{}", bytes[0], bytes[10]),
            _ => format!("{}-{}", bytes[0], bytes[1]),
        };
        wire.extend(seal(|out| out.extend_from_slice(&bytes)));
        kept.keep("message", &kind, bytes);
        if let Message::Proof(proof) = message {
            let bytes = postcard::to_extend(proof, Vec::new())
                .expect("a vector takes whatever is written to it");
            kept.keep("proof", "fork", bytes);
        }
    }
    for frames in wire.chunks(4) {
        kept.keep("frames", "stream", frames.concat());
    }
    for record in meeting.hosts.iter().flat_map(|host| host.log.values()) {
        let mut bytes = Vec::new();
        Codec::<Node>::encode_record(&NodeCodec, record, &mut bytes);
        let Record::Store(stored) = record else { continue };
        let kind = format!("{:?}", stored.body).to_ascii_lowercase();
        let kind = kind.split(|c: char| !c.is_alphabetic()).next().unwrap_or_default();
        kept.keep("record", kind, bytes);
        if let Some(Ok(entry)) = record.entry().map(Entry::decode) {
            let kind = format!("{}-parents", entry.header().parents.len());
            kept.keep("header", &kind, entry.head().to_vec());
            kept.keep("entry", &kind, entry.bytes().to_vec());
        }
    }
    kept.keep("ticket", "ticket", meeting.ticket().to_string().into_bytes());
    for (name, text) in carried() {
        kept.keep("carried", name, text.into_bytes());
    }
    for (name, line) in control::LINES {
        kept.keep("control", name, format!("{line}\n").into_bytes());
    }
    for (name, program) in programs() {
        kept.keep("hostile", name, program);
    }
    kept.seeds
}

/// What carriers of a rollout bring: signals of both kinds and reports of both.
fn carried() -> Vec<(&'static str, String)> {
    let key = SecretKey::from_bytes(&[1; 32]).expect("a key");
    let upgrade = Proposal {
        action: Action::Upgrade,
        network: "hqz".to_owned(),
        version: Version::parse("v1.2.0-rc.1").expect("a version"),
        artifact: Artifact([0xab; 32]),
        genesis: None,
        rollback_of: Version::parse("1.3.0").ok(),
    };
    let genesis = Genesis { url: "https://a.example/g".to_owned(), required_by: 1_800_000_000 };
    let reboot = Proposal {
        action: Action::Reboot,
        genesis: Some(genesis),
        rollback_of: None,
        ..upgrade.clone()
    };
    let node = Identity::from_seed([2; 32]);
    let report = |status| {
        let signed = Report::new(&reboot, node.id(), status, 1_700_000_000).sign(&node);
        key.sign(signed.draft(&key.public())).to_json()
    };
    let signal =
        |what: &Proposal, expires| key.sign(Signal::draft(what, 1_700_000_000, expires)).to_json();
    vec![
        ("upgrade", signal(&upgrade, None)),
        ("reboot", signal(&reboot, Some(1_800_000_000))),
        ("success", report(Status::Success)),
        ("failure", report(Status::Failure("exit 1".to_owned()))),
    ]
}

/// Programs for [`hostile`](crate::hostile): every action with a few operands.
fn programs() -> Vec<(&'static str, Vec<u8>)> {
    let each =
        |operand: u8| (0..=255u8).step_by(5).flat_map(|act| [act, operand, 1, 2, 3]).collect();
    vec![("low", each(0)), ("middle", each(7)), ("high", each(201))]
}

#[derive(Default)]
struct Kept {
    seeds: Vec<Seed>,
    kinds: BTreeMap<(&'static str, String), usize>,
    seen: BTreeSet<(&'static str, Vec<u8>)>,
}

impl Kept {
    fn keep(&mut self, target: &'static str, kind: &str, bytes: Vec<u8>) {
        let count = self.kinds.entry((target, kind.to_owned())).or_default();
        let fits = *count < MAX_OF_A_KIND && bytes.len() <= MAX_SEED_BYTES;
        if fits && self.seen.insert((target, bytes.clone())) {
            *count += 1;
            let name = format!("{kind}-{count}");
            self.seeds.push(Seed { target, name, bytes });
        }
    }
}

/// Three nodes, all linked to all, and what they say.
struct Meeting {
    hosts: Vec<Host>,
    ids: Vec<NodeId>,
    said: Vec<Message>,
    /// A node that hears and says nothing just now.
    away: Option<usize>,
}

impl Meeting {
    fn new() -> Meeting {
        let hosts: Vec<Host> = (1..=3).map(Host::new).collect();
        let ids = hosts.iter().map(|host| host.node.id()).collect();
        Meeting { hosts, ids, said: Vec::new(), away: None }
    }

    fn run(&mut self) {
        (0..3).for_each(|n| self.input(n, Input::Start));
        self.input(0, Input::Command(Command::Found));
        self.changes();
        let Ticket { founding, contacts } = self.ticket();
        for guest in [1, 2] {
            self.write(0, vec![Change::Invite { node: self.ids[guest] }]);
            let (ticket, contacts) = (1, contacts.clone());
            self.input(guest, Input::Command(Command::Join { ticket, founding, contacts }));
        }
        for (a, b) in [(0, 1), (1, 2), (0, 2)] {
            self.input(a, Input::Link { peer: self.ids[b], up: true });
            self.input(b, Input::Link { peer: self.ids[a], up: true });
        }
        self.pass(40_000);
        self.write(1, vec![Change::Put { key: "shape".into(), value: "round".into() }]);
        self.pass(1_000);
        // Node 2 misses two pushes, and gets the third: a gap.
        self.away = Some(2);
        (0..2).for_each(|n| self.put(0, &format!("gap {n}")));
        self.away = None;
        self.put(0, "after the gap");
        self.pass(1_000);
        // Node 2 loses its last writes, and writes on: a fork.
        let backup = self.hosts[2].log.clone();
        self.put(2, "before");
        self.pass(1_000);
        self.hosts[2].log = backup;
        let told = self.hosts[2].restart();
        self.note(2, told);
        self.input(2, Input::Command(Command::TrustDisk));
        self.put(2, "after");
        for n in [0, 1] {
            for up in [false, true] {
                self.input(n, Input::Link { peer: self.ids[2], up });
            }
            self.input(2, Input::Link { peer: self.ids[n], up: true });
        }
        self.pass(4_000);
        self.write(0, vec![Change::Remove { node: self.ids[1] }]);
        self.pass(1_000);
    }

    /// An entry of each kind of change.
    fn changes(&mut self) {
        let (key, member) = (|name: &str| Bytes::from(name.to_owned()), Bytes::from("member"));
        let changes = [
            Change::Put { key: key("colour"), value: "green".into() },
            Change::Delete { key: key("colour") },
            Change::Add { key: key("count"), delta: -3 },
            Change::SetAdd { key: key("set"), member: member.clone() },
            Change::SetRemove { key: key("set"), member },
        ];
        changes.into_iter().for_each(|change| self.write(0, vec![change]));
    }

    fn ticket(&self) -> Ticket {
        let founding = self.hosts[0].node.store().expect("the first has founded it").founding();
        let contact = Contact { node: self.ids[0], address: "node:4470".into() };
        Ticket { founding, contacts: vec![contact] }
    }

    fn put(&mut self, n: usize, value: &str) {
        let value = Bytes::from(value.to_owned());
        self.write(n, vec![Change::Put { key: "colour".into(), value }]);
    }

    fn write(&mut self, n: usize, changes: Vec<Change>) {
        self.input(n, Input::Command(Command::Write { ticket: 1, changes }));
    }

    fn input(&mut self, n: usize, input: Input<Node>) {
        let told = self.hosts[n].step(input);
        self.note(n, told);
    }

    /// Delivers what was said, and what is said to that, until everybody is silent.
    fn note(&mut self, n: usize, told: Told) {
        let mut on_the_way: Vec<(usize, NodeId, Message)> =
            told.sent.into_iter().map(|(to, message)| (n, to, message)).collect();
        while !on_the_way.is_empty() {
            let (from, to, message) = on_the_way.remove(0);
            self.said.push(message.clone());
            let Some(at) = self.ids.iter().position(|id| *id == to) else { continue };
            if self.away == Some(at) || self.away == Some(from) {
                continue;
            }
            let told = self.hosts[at].step(Input::Message { from: self.ids[from], message });
            on_the_way.extend(told.sent.into_iter().map(|(to, message)| (at, to, message)));
        }
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 100 {
            for n in 0..self.hosts.len() {
                let told = self.hosts[n].wait_ms(100);
                self.note(n, told);
            }
        }
    }
}
