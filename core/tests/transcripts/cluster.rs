//! A cluster's exchanges: its words, and its transcripts.

use bytes::Bytes;
use quorate_core::cluster::{Body, Event, Forwarded, Read, Request, Standing, WatchUpdate};
use quorate_core::log::{Entry, Members, Message, Payload, Position};
use quorate_core::registry::{
    Act, Change, Command, Fence, Holder, Item, Proposal, Query, Reply, Target,
};

use crate::net::Net;
use crate::words::Words;
use crate::{A, B, C};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Words {
    /// One line; heartbeats and their answers are left out.
    pub(crate) fn cluster(&self, body: &Body) -> Option<String> {
        Some(match body {
            Body::Log(message) => return self.log(message).map(|line| format!("log: {line}")),
            Body::Requests { requests, .. } => {
                let one = |forwarded: &Forwarded| self.request(&forwarded.request);
                format!("requests: {}", requests.iter().map(one).collect::<Vec<_>>().join(", "))
            }
            Body::Answers { answers, .. } => {
                let all = answers.iter().map(|answer| match &answer.result {
                    Some(Ok(reply)) => Words::reply(reply),
                    Some(Err(error)) => format!("no: {error}"),
                    None => "I do not lead: it was not proposed".to_owned(),
                });
                format!("answers: {}", all.collect::<Vec<_>>().join(", "))
            }
            Body::Stranger => "I am in no cluster".to_owned(),
            Body::Join { since } => format!("you are in mine, since {since}"),
            Body::Hello => "am I still a member?".to_owned(),
            Body::Removed { at } => format!("you are no member, as of {at}"),
        })
    }

    fn log(&self, message: &Message) -> Option<String> {
        let at = |position: &Position| match position.index {
            0 => "the beginning".to_owned(),
            index => format!("{index}"),
        };
        Some(match message {
            Message::Ask { ballot } => format!("would you promise ballot {}?", ballot.number),
            Message::Answer { ballot, granted: true, .. } => format!("I would, {}", ballot.number),
            Message::Answer { promised, .. } => format!("no: I hear {}", self.name(&promised.node)),
            Message::Prepare { ballot, last, released, .. } => {
                let freed = if released.is_some() { ", handed over to me" } else { "" };
                format!("promise ballot {}{freed}; my log ends at {}", ballot.number, at(last))
            }
            Message::Promise { ballot, tail, .. } => {
                format!("I promise {}, and you lack {}", ballot.number, self.entries_of(tail))
            }
            Message::Refuse { promised, .. } => format!("no: I promised {}", promised.number),
            Message::Append { entries, .. } if entries.is_empty() => return None,
            Message::Append { after, entries, commit, .. } => {
                let entries = self.entries_of(entries);
                format!("after {} come {entries}; committed to {commit}", at(after))
            }
            Message::Appended { .. } | Message::Durable { .. } => return None,
            Message::Fetch { after, .. } => format!("what comes after {after}?"),
            Message::Tail { entries, .. } => self.entries_of(entries),
            Message::Chunk { piece, .. } => format!("the snapshot as of {}", at(&piece.at)),
            Message::Pull { .. } => "more of it".to_owned(),
            Message::TakeOver { .. } => "I have stopped: lead".to_owned(),
            Message::Released { ballot } => format!("I lead no more, under {}", ballot.number),
        })
    }

    fn entries_of(&self, entries: &[Entry]) -> String {
        if entries.is_empty() {
            return "nothing".to_owned();
        }
        let one = |entry: &Entry| match &entry.payload {
            Payload::Noop => {
                format!("[{} leads under {}]", self.name(&entry.ballot.node), entry.ballot.number)
            }
            Payload::Blank => "[nothing]".to_owned(),
            Payload::Members(members) => format!("[{}]", self.voters(members)),
            Payload::Data(data) => match postcard::from_bytes::<Proposal>(data) {
                Ok(proposal) => format!("[{}]", self.act(&proposal.act)),
                Err(error) => error.to_string(),
            },
        };
        entries.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn voters(&self, members: &Members) -> String {
        let names = |ids: &std::collections::BTreeSet<_>| {
            let mut names: Vec<char> = ids.iter().map(|id| self.name(id)).collect();
            names.sort_unstable();
            names.into_iter().map(String::from).collect::<Vec<_>>().join(" ")
        };
        let voters = names(&members.voters);
        match members.learners.is_empty() {
            true => format!("voters {voters}"),
            false => format!("voters {voters}, learners {}", names(&members.learners)),
        }
    }

    fn act(&self, act: &Act) -> String {
        match act {
            Act::Command(command) => self.command(command),
            Act::Beat { renewals } if renewals.is_empty() => "the clock".to_owned(),
            Act::Beat { renewals } => format!("the clock, and leases {renewals:?} go on"),
            Act::Aspire { node } => format!("{} is to vote", self.name(node)),
        }
    }

    fn command(&self, command: &Command) -> String {
        let under = |fence: &Option<Fence>| match fence {
            Some(Fence { name, token }) => format!(" under {}#{token}", text(name)),
            None => String::new(),
        };
        match command {
            Command::Put { key, value, fence, .. } => {
                format!("{} = {}{}", text(key), text(value), under(fence))
            }
            Command::Delete { key, fence, .. } => format!("delete {}{}", text(key), under(fence)),
            Command::Txn { .. } => "a transaction".to_owned(),
            Command::Grant { ttl_ms, node } => {
                format!("a lease of {ttl_ms} ms for {}", self.name(node))
            }
            Command::Revoke { lease } => format!("revoke lease {lease}"),
            Command::Campaign { name, lease, .. } => format!("lease {lease} wants {}", text(name)),
            Command::Withdraw { name, lease } => {
                format!("lease {lease} wants {} no more", text(name))
            }
            Command::Release { name, token } => format!("release {}#{token}", text(name)),
            Command::StepDown { name, .. } => {
                format!("the holder of {} is to step down", text(name))
            }
        }
    }

    pub(crate) fn request(&self, request: &Request) -> String {
        match request {
            Request::Change(command) => self.command(command),
            Request::Query { query: Query::Get { key }, read } => {
                let how = match read {
                    Read::Linearizable => "",
                    Read::ByLease => ", by lease",
                    Read::Local => ", here",
                };
                format!("what is {}{how}?", text(key))
            }
            Request::Query { .. } => "a query".to_owned(),
            Request::KeepAlive { lease } => format!("lease {lease} goes on"),
            Request::Add { node, .. } => format!("add {}", self.name(node)),
            Request::Remove { node } => format!("remove {}", self.name(node)),
            Request::Promote { node } => format!("promote {}", self.name(node)),
            Request::HandOver { to: Some(node) } => format!("hand over to {}", self.name(node)),
            Request::HandOver { to: None } => "hand over".to_owned(),
        }
    }

    fn reply(reply: &Reply) -> String {
        match reply {
            Reply::Done { revision } => format!("done, as of {revision}"),
            Reply::Written { revision, .. } => format!("written at {revision}"),
            Reply::Granted { lease, .. } => format!("it is lease {lease}"),
            Reply::Renewed { ttl_ms, .. } => format!("it goes on for {ttl_ms} ms"),
            Reply::Held { token } => format!("it is yours, with token {token}"),
            Reply::Queued { before, token, .. } => {
                format!("it is another's, with token {token}; {before} wait before you")
            }
            Reply::Value { item: Some(Item { value, mod_revision, .. }), .. } => {
                format!("{}, written at {mod_revision}", text(value))
            }
            Reply::Value { item: None, .. } => "nothing".to_owned(),
            other => format!("{other:?}"),
        }
    }

    /// What a node tells its host of the cluster; `None` for what the messages say already.
    pub(crate) fn cluster_event(&self, event: &Event) -> Option<String> {
        Some(match event {
            Event::Answer { result: Ok(reply), .. } => format!("answers: {}", Words::reply(reply)),
            Event::Answer { result: Err(error), .. } => format!("answers: no, {error}"),
            Event::Leading(ballot) => format!("leads, under ballot {}", ballot.number),
            Event::Stopped(_) => "leads no more".to_owned(),
            Event::LeaderChanged(Some(ballot)) => {
                format!("knows that {} leads", self.name(&ballot.node))
            }
            Event::LeaderChanged(None) => "knows of no leader".to_owned(),
            Event::Joined(_) => "is a member now".to_owned(),
            Event::Left(_) => "is no member any more".to_owned(),
            Event::Halted(error) => format!("halts: {error}"),
            Event::TakesPart => "takes part again".to_owned(),
            Event::Watched { update: WatchUpdate::Changed { changes, .. }, .. } => {
                let one = |change: &Change| match change {
                    Change::Name { name, holder: Some(Holder { node, token, .. }) } => {
                        format!("{} is {}'s, with token {token}", text(name), self.name(node))
                    }
                    Change::Name { name, holder: None } => format!("{} is nobody's", text(name)),
                    Change::Put(Item { key, value, .. }) => {
                        format!("{} = {}", text(key), text(value))
                    }
                    Change::Deleted { key } => format!("{} is gone", text(key)),
                };
                format!("tells: {}", changes.iter().map(one).collect::<Vec<_>>().join(", "))
            }
            Event::Watched { .. } | Event::HealthChanged(_) | Event::Covered => return None,
        })
    }
}

const NAME: Bytes = Bytes::from_static(b"primary");

fn put(value: &'static str, fence: Option<Fence>) -> Request {
    let (key, value) = (Bytes::from_static(b"colour"), Bytes::from_static(value.as_bytes()));
    Request::Change(Command::Put { key, value, lease: None, previous: None, fence })
}

fn get(read: Read) -> Request {
    Request::Query { query: Query::Get { key: Bytes::from_static(b"colour") }, read }
}

/// A node's lease, and its campaign.
fn campaign(net: &mut Net, n: usize, ttl_ms: u64) -> u64 {
    let node = net.words.names[n];
    net.ask(n, Request::Change(Command::Grant { ttl_ms, node }));
    net.run_ms(100);
    let lease = net.node(n).cluster().registry().revision();
    let (name, priority, value) = (NAME, 0, Bytes::new());
    net.ask(n, Request::Change(Command::Campaign { name, lease, priority, value }));
    net.run_ms(100);
    lease
}

#[test]
fn an_election_and_a_write() {
    let mut net = Net::cluster(3);
    net.say("All three restart. Nobody leads.");
    (0..3).for_each(|n| net.stop(n));
    for n in 0..3 {
        let disk = net.backup(n);
        net.restart(n, disk);
    }
    for (a, b) in [(A, B), (A, C), (B, C)] {
        net.link(a, b);
    }
    net.run_ms(2_000);
    net.say("Whoever is asked passes it on to who leads.");
    net.ask(C, put("green", None));
    net.run_ms(100);
    net.ask(B, get(Read::Linearizable));
    net.run_ms(100);
    insta::assert_snapshot!(net.transcript());
}

#[test]
fn a_failover() {
    let mut net = Net::cluster(3);
    net.ask(B, put("green", None));
    net.run_ms(5);
    net.say("A, which leads, dies before the request has reached it. B does not know what became of it.");
    net.stop(A);
    net.run_ms(3_000);
    net.say("A comes back.");
    let disk = net.backup(A);
    net.restart(A, disk);
    net.link(A, B);
    net.link(A, C);
    net.run_ms(1_000);
    net.ask(A, get(Read::Linearizable));
    net.run_ms(100);
    insta::assert_snapshot!(net.transcript());
}

/// The invitation travels with the stores, and who sent it may die before it has arrived.
#[test]
fn two_voters_who_know_each_other_by_their_cluster_alone() {
    let mut net = Net::cluster(2);
    net.newcomer();
    net.mute_stores(true);
    net.say("A invites C, and adds it to the cluster; B does not hear of the invitation.");
    net.invite(A, C);
    net.link(A, C);
    net.run_ms(100);
    let node = net.words.names[C];
    net.ask(A, Request::Add { node, seat: quorate_core::cluster::Seat::Voter });
    net.run_ms(2_000);
    net.say("A dies. B and C meet for the first time.");
    net.stop(A);
    net.link(C, B);
    net.run_ms(2_000);
    net.ask(B, put("green", None));
    net.run_ms(200);
    net.mute_stores(false);
    net.run_ms(35_000);
    let is_active = |n: usize| net.node(n).store().unwrap().membership().is_active(&node);
    assert!(!is_active(B) && !is_active(C), "who could invite C is gone");
    insta::assert_snapshot!(net.transcript());
}

#[test]
fn an_old_copy_stands_aside() {
    let mut net = Net::cluster(3);
    let copy = net.journal(C);
    let node = net.words.names[C];
    net.ask(A, put("green", None));
    net.run_ms(100);
    net.say("C goes on from an old copy of its disk. It neither votes nor acknowledges.");
    net.stop(C);
    net.restart_aside(C, copy.clone());
    net.link(C, A);
    net.link(C, B);
    net.run_ms(7_000);
    net.ask(C, get(Read::Local));
    net.ask(B, put("red", None));
    net.run_ms(100);
    assert_eq!(net.journal(C).len(), copy.len(), "it writes nothing down");
    net.say("It is removed, and added again.");
    net.ask(A, Request::Remove { node });
    net.run_ms(1_000);
    assert_eq!(net.node(C).cluster().stands_aside(), Some(Standing::Removed));
    net.ask(A, Request::Add { node, seat: quorate_core::cluster::Seat::Voter });
    net.run_ms(1_000);
    assert_eq!(net.node(C).cluster().stands_aside(), None);
    insta::assert_snapshot!(net.transcript());
}

#[test]
fn a_transfer() {
    let mut net = Net::cluster(3);
    let to = Some(net.words.names[C]);
    net.ask(B, Request::HandOver { to });
    net.run_ms(200);
    net.ask(A, put("green", None));
    net.run_ms(100);
    insta::assert_snapshot!(net.transcript());
}

#[test]
fn members_change() {
    let mut net = Net::cluster(2);
    net.say("B is removed, and added again.");
    let node = net.words.names[B];
    net.ask(A, Request::Remove { node });
    net.run_ms(1_000);
    net.ask(A, Request::Add { node, seat: quorate_core::cluster::Seat::Voter });
    net.run_ms(1_000);
    insta::assert_snapshot!(net.transcript());
}

#[test]
fn a_fenced_write_is_refused() {
    let mut net = Net::cluster(3);
    campaign(&mut net, B, 1_000);
    let token = net.node(B).cluster().registry().revision();
    net.ask(B, put("green", Some(Fence { name: NAME, token })));
    net.run_ms(100);
    net.say("B is paused, and its lease ends. It wakes, and does not know.");
    net.run_ms(1_500);
    net.ask(B, put("red", Some(Fence { name: NAME, token })));
    net.run_ms(100);
    net.ask(B, get(Read::Linearizable));
    net.run_ms(100);
    insta::assert_snapshot!(net.transcript());
}

#[test]
fn a_lock_is_handed_on() {
    let mut net = Net::cluster(3);
    let lease = campaign(&mut net, B, 1_000);
    let from = Some(net.node(C).cluster().registry().revision() + 1);
    net.ask(B, Request::KeepAlive { lease });
    net.run_ms(100);
    campaign(&mut net, C, 60_000);
    let watch =
        quorate_core::cluster::Command::Watch { watch: 1, target: Target::Name(NAME), from };
    net.command(C, quorate_core::node::Command::Cluster(watch));
    net.say("B's lease is not renewed any more. C waits, and watches.");
    net.run_ms(1_500);
    insta::assert_snapshot!(net.transcript());
}
