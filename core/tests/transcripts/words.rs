//! How a message reads to a person.

use bytes::Bytes;
use quorate_core::entry::{Entry, Link, Op, SignedHeader};
use quorate_core::handshake::Message as Handshake;
use quorate_core::hunt::Message as Hunt;
use quorate_core::machine::NodeId;
use quorate_core::membership::State;
use quorate_core::node::{Disconnect, Message, Notice};
use quorate_core::store::Store;
use quorate_core::sync::{Body, WireTip};
use quorate_core::value::{Found, Reading, read};
use quorate_core::{detector, gap, transfer};

/// Names of nodes, by the order of their making: A, B, C.
pub(crate) struct Words {
    pub(crate) names: Vec<NodeId>,
}

impl Words {
    pub(crate) fn name(&self, node: &NodeId) -> char {
        let at = self.names.iter().position(|known| known == node);
        at.map_or('?', |at| char::from(b'A' + at as u8))
    }

    /// One line; `None` for what would only repeat itself all the time.
    pub(crate) fn message(&self, message: &Message) -> Option<String> {
        Some(match message {
            Message::Detector(detector::Message::Ping { .. } | detector::Message::Pong { .. }) => {
                return None;
            }
            Message::Handshake(message) => handshake(message),
            Message::Cluster(message) => return self.cluster(&message.body),
            Message::Sync(message) => {
                format!("sync {}: {}", message.turn, self.sync(&message.body))
            }
            Message::Gap(gap::Message::Want { author, from, to }) => {
                format!("gap: I miss {}", self.range(author, *from, *to))
            }
            Message::Gap(gap::Message::NotHeld { author, from }) => {
                format!("gap: I do not hold {}#{from} either", self.name(author))
            }
            Message::Transfer(transfer::Message::Page { serial, entries, last }) => {
                let end = if *last { ", the last" } else { "" };
                format!("transfer: page {serial}{end}: {}", self.entries(entries))
            }
            Message::Transfer(transfer::Message::Ack { serial }) => {
                format!("transfer: page {serial} is on my disk")
            }
            Message::News(news) => format!("news: {}", self.entries(&news.0)),
            Message::Hunt(message) => self.hunt(message),
            Message::Proof(proof) => format!(
                "proof: {} signed two entries, {} and {}",
                proof.left.first().map_or('?', |header| self.author(header)),
                self.run(&proof.left),
                self.run(&proof.right),
            ),
            Message::Contacts(contacts) => {
                let one = |c: &quorate_core::node::Contact| {
                    format!("{} at {}", self.name(&c.node), c.address)
                };
                format!("contacts: {}", list(contacts.iter().map(one)))
            }
        })
    }

    fn sync(&self, body: &Body) -> String {
        let more = |last: &bool| if *last { "" } else { ", more to come" };
        match body {
            Body::Offer { chains, .. } => format!("offer: the digest of my {chains} chains"),
            Body::Same => "same: we hold the same".to_owned(),
            Body::Cells { chains, cells, .. } => {
                format!("cells: {} over my {chains} chains", cells.len())
            }
            Body::More { cells } => format!("more: {cells} cells would do"),
            Body::Fetch => "fetch: tell me all your tips".to_owned(),
            Body::Ask => "ask: tell me all your tips".to_owned(),
            Body::Whole { tips, last } => format!("whole: {}{}", self.tips(tips), more(last)),
            Body::Tell { tips, last } => format!("tell: {}{}", self.tips(tips), more(last)),
            Body::Differ { tips, unknown, last } => {
                let tips = self.tips(tips);
                let unknown = match unknown.len() {
                    0 => String::new(),
                    n => format!(", and {n} of yours I do not know"),
                };
                format!("differ: mine are {tips}{unknown}{}", more(last))
            }
            Body::Wants { wants } if wants.is_empty() => "wants: nothing".to_owned(),
            Body::Wants { wants } => {
                let one = |want: &quorate_core::sync::Want| {
                    format!("I have chain {} up to {}", want.index, want.height)
                };
                format!("wants: {}", list(wants.iter().map(one)))
            }
        }
    }

    fn tips(&self, tips: &[WireTip]) -> String {
        let one = |tip: &WireTip| {
            let cut = if tip.closed { " (cut)" } else { "" };
            format!("{}#{}{cut}", self.name(&tip.author), tip.height)
        };
        if tips.is_empty() { "none".to_owned() } else { list(tips.iter().map(one)) }
    }

    fn hunt(&self, message: &Hunt) -> String {
        match message {
            Hunt::Points { author, points } => {
                let places = list(points.iter().map(|(seq, _)| format!("#{seq}")));
                format!("hunt: my hashes of {}'s chain at {places}", self.name(author))
            }
            Hunt::Story { author, seq, headers } => {
                let headers = self.run(headers);
                format!(
                    "hunt: {}'s story from #{seq} on, as told to me: {headers}",
                    self.name(author)
                )
            }
        }
    }

    fn range(&self, author: &NodeId, from: u64, to: u64) -> String {
        let name = self.name(author);
        if from == to { format!("{name}#{from}") } else { format!("{name}#{from} to #{to}") }
    }

    fn author(&self, header: &Bytes) -> char {
        SignedHeader::decode(header.clone()).map_or('?', |signed| self.name(&signed.header.author))
    }

    fn run(&self, headers: &[Bytes]) -> String {
        let one = |bytes: &Bytes| match SignedHeader::decode(bytes.clone()) {
            Ok(signed) => {
                format!(
                    "{}#{} ({:?})",
                    self.name(&signed.header.author),
                    signed.header.seq,
                    signed.hash
                )
            }
            Err(error) => error.to_string(),
        };
        list(headers.iter().map(one))
    }

    fn entries(&self, entries: &[Bytes]) -> String {
        list(entries.iter().map(|bytes| match Entry::decode(bytes.clone()) {
            Ok(entry) => self.entry(&entry),
            Err(error) => error.to_string(),
        }))
    }

    fn entry(&self, entry: &Entry) -> String {
        let ops = entry.ops().iter().map(|op| self.op(op)).collect::<Vec<_>>();
        let parents = &entry.header().parents;
        let after = match parents.len() {
            0 => String::new(),
            _ => format!(", replacing {}", list(parents.iter().map(|link| self.link(link)))),
        };
        format!("{} ({}{after})", self.link(&entry.link()), ops.join(", "))
    }

    fn op(&self, op: &Op<'_>) -> String {
        match op {
            Op::Put { key, value } => format!("{} = {}", text(key), text(value)),
            Op::Delete { key } => format!("delete {}", text(key)),
            Op::Add { key, delta, .. } => format!("add {delta} to {}", text(key)),
            Op::SetAdd { key, member } => format!("{} into {}", text(member), text(key)),
            Op::SetRemove { key, member } => format!("{} out of {}", text(member), text(key)),
            Op::Invite { node } => format!("invite {}", self.name(node)),
            Op::Remove { node, height, .. } => {
                format!("remove {}, whose entries count up to #{height}", self.name(node))
            }
        }
    }

    fn link(&self, link: &Link) -> String {
        format!("{}#{}", self.name(&link.author), link.seq)
    }

    /// What a node tells its host; `None` for what the messages say already.
    pub(crate) fn notice(&self, notice: &Notice) -> Option<String> {
        Some(match notice {
            Notice::Opened(peer) => format!("{} is there", self.name(peer)),
            Notice::Closed(peer) => format!("{} has gone", self.name(peer)),
            Notice::Refused { link, reason, .. } => {
                format!("refused {}: {reason}", self.link(link))
            }
            Notice::Parked(link) => format!("{} is from the future and waits", self.link(link)),
            Notice::Forked(fork) => {
                format!(
                    "it is proven that {} forked its chain at #{}",
                    self.name(&fork.author),
                    fork.seq
                )
            }
            Notice::Cut { author, cut: Some(cut) } => {
                format!("of {}'s chain nothing counts above #{cut}", self.name(author))
            }
            Notice::Cut { author, cut: None } => {
                format!("all of {}'s chain counts", self.name(author))
            }
            Notice::Members => "the members have changed".to_owned(),
            Notice::InSync(peer) => format!("in sync with {}", self.name(peer)),
            _ => return None,
        })
    }

    /// Why a link was closed.
    pub(crate) fn disconnect(&self, peer: &NodeId, reason: Disconnect) -> String {
        format!("closes the link to {}: {reason}", self.name(peer))
    }

    /// The members, as `store` knows them.
    pub(crate) fn members(&self, store: &Store) -> String {
        list(store.membership().iter().map(|(node, member)| {
            let state = match member.state {
                State::Active => "",
                State::Forked => " (forked)",
                State::Removed => " (removed)",
            };
            format!("{}{state}", self.name(node))
        }))
    }
}

/// What a key holds, by the value each register points to.
pub(crate) fn reading(store: &Store, key: &str, value: impl Fn(u64) -> Entry) -> String {
    let Reading { found, conflict } = read(store.dag(), key.as_bytes());
    let found = match found {
        Found::Nothing => "nothing".to_owned(),
        Found::Counter(value) => value.to_string(),
        Found::Set(members) => list(members.iter().map(|member| text(member))),
        Found::Register(write) => {
            let entry = value(store.meta(&write).position);
            let put = |op: &Op<'_>| match op {
                Op::Put { key: at, value } if *at == key.as_bytes() => Some(text(value)),
                _ => None,
            };
            entry.ops().iter().find_map(put).unwrap_or_default()
        }
    };
    let conflict = if conflict { ", undecided between concurrent writers" } else { "" };
    format!("{key} is {found}{conflict}")
}

fn handshake(message: &Handshake) -> String {
    match message {
        Handshake::Hello { introduction, .. } => format!(
            "hello: I speak versions {} to {}, and listen at {}",
            introduction.min_version,
            introduction.version,
            introduction.address.as_deref().unwrap_or("no address"),
        ),
        Handshake::Welcome { introduction, .. } => format!(
            "welcome: I speak versions {} to {}, and listen at {}",
            introduction.min_version,
            introduction.version,
            introduction.address.as_deref().unwrap_or("no address"),
        ),
        Handshake::Refuse { reason, .. } => format!("refuse: {reason}"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}
