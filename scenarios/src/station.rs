//! A station of a rollout: a node that counts votes, or a carrier between nodes and maintainers.
//!
//! Carriers are stations of their own, so that whatever happens to networks and disks happens to what
//! they carry too. A node asks each of them again and again; a carrier answers as its manners are.

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use quorate_core::identity::Identity;
use quorate_core::machine::{Cx, Effects, Input, Machine, Never, NodeId, Time, earliest};
use quorate_core::quorum::nostr::{self, Draft, PublicKey, SecretKey};
use quorate_core::quorum::report::{Report, SignedReport, Status};
use quorate_core::quorum::{self, Quorum, signal};

/// A node asks its carriers this often.
const ASK_EVERY_US: u64 = 2_000_000;
/// Reports of one answer, at most, as relays cap their results.
const PAGE: usize = 100;

/// How a carrier behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Manners {
    /// Keeps everything, as a store does.
    Store,
    /// A relay as it should be: of each author only the newest signal.
    Good,
    /// Keeps an author's first signal.
    KeepsOlder,
    /// Keeps what came last.
    KeepsLast,
    /// Does not show the signals of every other author.
    Withholds,
    /// Shows everything it ever had, backwards and twice.
    Repeats,
    /// Shows everything, and all of it forged as well.
    Forges,
    /// Loses every other report.
    Loses,
}

/// Every way but the two good ones.
pub(crate) const BAD_MANNERS: [Manners; 6] = [
    Manners::KeepsOlder,
    Manners::KeepsLast,
    Manners::Withholds,
    Manners::Repeats,
    Manners::Forges,
    Manners::Loses,
];

/// A node or a carrier.
#[derive(Clone, Debug)]
pub enum Station {
    /// Counts, acts, reports.
    Node(Box<Node>),
    /// Carries.
    Carrier(Carrier),
}

/// What stations say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Word {
    /// What is there? Reports from this number on.
    Ask(u32),
    /// Signals, and the reports of these numbers.
    Answer(Vec<Bytes>, Vec<Bytes>, Range<u32>),
    /// Carry this, please.
    Put(Bytes),
}

/// What stations keep.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Written {
    /// A node's.
    Node(quorum::Record),
    /// What a carrier carries.
    Carried(Bytes),
}

/// What is asked of a station.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// Of a node.
    Node(quorum::Command),
    /// Of a carrier: carry this.
    Put(Bytes),
}

/// The node's half of a station.
#[derive(Clone, Debug)]
pub struct Node {
    pub(crate) quorum: Quorum,
    carriers: Vec<NodeId>,
    ask_at: Option<Time>,
    /// Where the next page of reports begins, by carrier.
    next: BTreeMap<NodeId, u32>,
    envelope: SecretKey,
}

/// The carrier's half.
#[derive(Clone, Debug)]
pub struct Carrier {
    manners: Manners,
    signals: Vec<nostr::Event>,
    reports: Vec<Bytes>,
    /// For forgeries.
    stranger: SecretKey,
}

impl Station {
    pub(crate) fn node(quorum: Quorum, carriers: Vec<NodeId>, envelope: SecretKey) -> Station {
        let next = BTreeMap::new();
        Station::Node(Box::new(Node { quorum, carriers, ask_at: None, next, envelope }))
    }

    pub(crate) fn carrier(manners: Manners, stranger: SecretKey) -> Station {
        Station::Carrier(Carrier { manners, signals: Vec::new(), reports: Vec::new(), stranger })
    }

    /// The node's machine, where this is one.
    #[must_use]
    pub fn quorum(&self) -> Option<&Quorum> {
        match self {
            Station::Node(node) => Some(&node.quorum),
            Station::Carrier(_) => None,
        }
    }
}

impl Node {
    fn ask(&mut self, cx: Cx, fx: &mut dyn Effects<Station>) {
        for carrier in &self.carriers {
            fx.send_now(*carrier, Word::Ask(self.next.get(carrier).copied().unwrap_or(0)));
        }
        self.ask_at = Some(cx.now.after_us(ASK_EVERY_US));
    }

    fn step(&mut self, cx: Cx, input: Input<Quorum>, fx: &mut dyn Effects<Station>) {
        let mut through = Through { fx, node: (&self.carriers, &mut self.next, &self.envelope) };
        self.quorum.handle(cx, input, &mut through);
    }

    fn answer(&mut self, cx: Cx, fx: &mut dyn Effects<Station>, from: NodeId, word: Word) {
        let Word::Answer(signals, reports, page) = word else { return };
        // What follows may begin the reading anew.
        let next = self.next.entry(from).or_default();
        *next = if *next == page.start { page.end } else { *next };
        for text in signals.into_iter().chain(reports) {
            self.step(cx, Input::Command(quorum::Command::Carried(text)), fx);
        }
    }
}

/// A node's effects, which are its station's; what it publishes goes to every carrier.
struct Through<'a> {
    fx: &'a mut dyn Effects<Station>,
    node: (&'a [NodeId], &'a mut BTreeMap<NodeId, u32>, &'a SecretKey),
}

impl Effects<Quorum> for Through<'_> {
    fn persist(&mut self, record: quorum::Record) {
        self.fx.persist(Written::Node(record));
    }
    fn send(&mut self, _: NodeId, message: Never) {
        match message {}
    }
    fn send_now(&mut self, _: NodeId, message: Never) {
        match message {}
    }
    fn emit(&mut self, event: quorum::Event) {
        let (carriers, next, envelope) = &mut self.node;
        match &event {
            quorum::Event::Publish(signed) => {
                let draft = signed.draft(&envelope.public());
                let text = Bytes::from(envelope.sign(draft).to_json());
                carriers.iter().for_each(|to| self.fx.send(*to, Word::Put(text.clone())));
            }
            // Reports that came before were not kept.
            quorum::Event::Quorum(..) => next.clear(),
            _ => {}
        }
        self.fx.emit(event);
    }
    fn emit_now(&mut self, event: quorum::Event) {
        self.emit(event);
    }
}

impl Carrier {
    fn put(&mut self, text: Bytes) {
        let Ok(event) = nostr::Event::from_json(&text) else { return };
        if event.kind != signal::KIND {
            let lost = self.manners == Manners::Loses && event.id.0[0].is_multiple_of(2);
            if !lost && !self.reports.contains(&text) {
                self.reports.push(text);
            }
            return;
        }
        let older = self.signals.iter().position(|known| known.pubkey == event.pubkey);
        let rank = |event: &nostr::Event| (event.created_at, std::cmp::Reverse(event.id));
        match (self.manners, older) {
            (Manners::Good | Manners::Withholds | Manners::Loses, Some(at)) => {
                if rank(&event) > rank(&self.signals[at]) {
                    self.signals[at] = event;
                }
            }
            (Manners::KeepsOlder, Some(_)) => {}
            (Manners::KeepsLast, Some(at)) => self.signals[at] = event,
            _ if self.signals.contains(&event) => {}
            _ => self.signals.push(event),
        }
    }

    fn answer(&self, from: u32) -> Word {
        let json = |event: &nostr::Event| Bytes::from(event.to_json());
        let shown = |event: &&nostr::Event| {
            self.manners != Manners::Withholds || event.pubkey.0[31].is_multiple_of(2)
        };
        let mut signals: Vec<Bytes> = self.signals.iter().filter(shown).map(json).collect();
        let page = self.reports.iter().skip(from as usize).take(PAGE);
        let mut reports: Vec<Bytes> = page.cloned().collect();
        let next = from + reports.len() as u32;
        match self.manners {
            Manners::Repeats => {
                signals.extend_from_within(..);
                signals.reverse();
                reports.extend_from_within(..);
                reports.reverse();
            }
            Manners::Forges => {
                signals.splice(0..0, self.signals.iter().flat_map(|event| self.forged(event)));
                let forged: Vec<Bytes> =
                    reports.iter().filter_map(|text| self.forged_report(text)).collect();
                reports.splice(0..0, forged);
            }
            _ => {}
        }
        Word::Answer(signals, reports, from..next)
    }

    /// The same as if every maintainer had signed it, later.
    fn forged(&self, event: &nostr::Event) -> Vec<Bytes> {
        let authors = self.signals.iter().map(|event| event.pubkey);
        let forge = |author: PublicKey| {
            let nostr::Event { created_at, kind, tags, content, .. } = event.clone();
            let mut text = content;
            text.push('!');
            let draft = Draft { created_at: created_at + 1, kind, tags, content: text };
            let mut forged = self.stranger.sign(draft);
            forged.pubkey = author;
            // The right id for the author it names: only the signature is wrong.
            forged.id = forged.hash();
            Bytes::from(forged.to_json())
        };
        authors.map(forge).collect()
    }

    /// The opposite of a report, as if its node had said it, in good time.
    fn forged_report(&self, text: &Bytes) -> Option<Bytes> {
        let event = nostr::Event::from_json(text).ok()?;
        let SignedReport { report, signature } = SignedReport::parse(&event).ok()?;
        let status = match report.status {
            Status::Success => Status::Failure("forged".to_owned()),
            Status::Failure(_) => Status::Success,
        };
        let forged = SignedReport { report: Report { status, ..report }, signature };
        Some(self.stranger.sign(forged.draft(&self.stranger.public())).to_json().into())
    }
}

/// Success in the name of nodes that have said nothing yet, by somebody else.
pub(crate) fn claims(proposal: &signal::Proposal, nodes: &[NodeId], at: u64) -> Vec<Bytes> {
    let liar = Identity::from_seed([250; 32]);
    let key = SecretKey::from_bytes(&[251; 32]).expect("a key");
    let claim = |node: &NodeId| {
        let signed = Report::new(proposal, *node, Status::Success, at).sign(&liar);
        Bytes::from(key.sign(signed.draft(&key.public())).to_json())
    };
    nodes.iter().map(claim).collect()
}

impl Machine for Station {
    type Message = Word;
    type Record = Written;
    type Command = Order;
    type Event = quorum::Event;

    fn restore(&mut self, record: Written) {
        match (self, record) {
            (Station::Node(node), Written::Node(record)) => node.quorum.restore(record),
            (Station::Carrier(carrier), Written::Carried(text)) => carrier.put(text),
            _ => {}
        }
    }

    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        match self {
            Station::Node(node) => match input {
                Input::Start => {
                    node.step(cx, Input::Start, fx);
                    node.ask(cx, fx);
                }
                Input::Message { from, message } => node.answer(cx, fx, from, message),
                Input::Command(Order::Node(command)) => {
                    node.step(cx, Input::Command(command), fx);
                }
                Input::Tick => {
                    let due = |at: Option<Time>| at.is_some_and(|at| at <= cx.now);
                    if due(node.ask_at) {
                        node.ask(cx, fx);
                    }
                    if due(node.quorum.deadline()) {
                        node.step(cx, Input::Tick, fx);
                    }
                }
                Input::Command(Order::Put(_)) | Input::Link { .. } => {}
            },
            Station::Carrier(carrier) => match input {
                Input::Message { message: Word::Put(text), .. }
                | Input::Command(Order::Put(text)) => {
                    fx.persist(Written::Carried(text.clone()));
                    carrier.put(text);
                }
                Input::Message { from, message: Word::Ask(at) } => {
                    fx.send(from, carrier.answer(at));
                }
                _ => {}
            },
        }
    }

    fn deadline(&self) -> Option<Time> {
        match self {
            Station::Node(node) => earliest(node.ask_at, node.quorum.deadline()),
            Station::Carrier(_) => None,
        }
    }

    fn check(&self) {
        if let Station::Node(node) = self {
            node.quorum.check();
        }
    }
}
