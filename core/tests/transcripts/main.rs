//! What nodes say to each other, written down. Each snapshot reads as that protocol's documentation;
//! a change of behaviour changes it, on purpose.
//!
//! `A → B` is a message, shown when it is sent; a line with one name is what that node does or tells
//! its host. Pings are left out.

mod cluster;
mod net;
mod rollout;
mod words;

use bytes::Bytes;
use net::Net;
use quorate_core::node::{Command, Contact};
use quorate_core::store::Change;
use quorate_core::ticket::Ticket;

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

#[test]
fn joining_by_ticket() {
    let mut net = Net::new(2);
    net.command(A, Command::Found);
    net.put(A, "colour", "green");
    net.say("A invites B, and hands it a ticket.");
    let node = net.node(B).id();
    net.own(A, "writes invite B");
    net.write(A, vec![Change::Invite { node }]);
    let founding = net.node(A).store().expect("A has founded it").founding();
    let contacts = vec![Contact { node: net.node(A).id(), address: "a.example:4470".into() }];
    let ticket = Ticket { founding, contacts }.to_string();
    net.own(A, &format!("{}…", &ticket[..32]));
    let Ticket { founding, contacts } = ticket.parse().expect("it was just written");
    net.command(B, Command::Join { ticket: 1, founding, contacts });
    net.link(B, A);
    net.run_ms(3_000);
    net.say("B is a member now, and writes.");
    net.put(B, "shape", "round");
    net.run_ms(3_000);
    net.read(A, "shape");
    net.read(B, "colour");
    insta::assert_snapshot!(net.transcript());
}

/// Two whose keys may have written here before, and who know of nobody yet.
#[test]
fn two_who_know_nothing_do_not_vouch_for_each_other() {
    let mut net = Net::new(3);
    net.command(A, Command::Found);
    let nodes = [net.node(B).id(), net.node(C).id()];
    net.write(A, nodes.map(|node| Change::Invite { node }).to_vec());
    let founding = net.node(A).store().expect("A has founded it").founding();
    let contact = |node| Contact { node, address: String::new() };
    for (joining, other) in [(B, C), (C, B)] {
        let contacts = [A, other].map(|node| contact(net.node(node).id())).to_vec();
        net.command(joining, Command::Join { ticket: 1, founding, contacts });
    }
    net.link(B, C);
    net.run_ms(5_000);
    assert!(!net.node(B).status().writable, "C holds as little as B");
    net.link(B, A);
    net.run_ms(5_000);
    assert!(net.node(B).status().writable);
}

#[test]
fn a_stranger_is_refused() {
    let mut net = Net::new(3);
    net.command(A, Command::Found);
    let founding = net.node(A).store().expect("A has founded it").founding();
    net.say("B has the ticket, but nobody invited it.");
    let contacts = vec![Contact { node: net.node(A).id(), address: String::new() }];
    net.command(B, Command::Join { ticket: 1, founding, contacts });
    net.link(A, B);
    net.run_ms(100);
    net.say("C is of another mesh.");
    net.command(C, Command::Found);
    net.link(A, C);
    net.run_ms(100);
    insta::assert_snapshot!(net.transcript());
}

#[test]
fn a_gap_is_filled() {
    let mut net = Net::mesh(2);
    net.say("Two of A's pushes are lost.");
    net.lose(true);
    net.put(A, "colour", "red");
    net.put(A, "colour", "green");
    net.lose(false);
    net.say("The third arrives, and shows that something is missing.");
    net.put(A, "colour", "blue");
    net.run_ms(100);
    net.read(B, "colour");
    insta::assert_snapshot!(net.transcript());
}

#[test]
fn concurrent_writes_are_merged() {
    let mut net = Net::mesh(2);
    net.say("Apart, both write the same key, and both add to one counter.");
    net.unlink(A, B);
    let count = || Bytes::from_static(b"count");
    for (node, colour, delta) in [(A, "red", 2), (B, "blue", 3)] {
        net.put(node, "colour", colour);
        net.write(node, vec![Change::Add { key: count(), delta }]);
        net.run_ms(1_000);
    }
    net.say("They meet again.");
    net.link(A, B);
    net.run_ms(3_000);
    net.say("Both read the same. The next write has seen both, and settles it.");
    net.read(A, "colour");
    net.read(B, "colour");
    net.read(A, "count");
    net.put(A, "colour", "purple");
    net.run_ms(3_000);
    net.read(B, "colour");
    net.read(B, "count");
    insta::assert_snapshot!(net.transcript());
}

#[test]
fn a_fork_is_found_proven_and_cut() {
    let mut net = Net::mesh(3);
    net.put(C, "colour", "white");
    net.run_ms(100);
    net.say("C is backed up, and writes on; only B hears of it. A is away.");
    net.unlink(A, B);
    let backup = net.backup(C);
    net.put(C, "colour", "red");
    net.run_ms(100);
    net.put(C, "colour", "green");
    net.run_ms(100);
    net.say(
        "C's disk dies. It is restored from the backup, meets A alone, and writes on from there.",
    );
    net.restart(C, backup);
    net.link(A, C);
    net.run_ms(3_000);
    net.put(C, "colour", "blue");
    net.run_ms(100);
    net.unlink(A, C);
    net.say("A and B meet, and hold different accounts of C's chain.");
    net.link(A, B);
    net.run_ms(3_000);
    net.say("C meets B, and learns what happened.");
    net.link(B, C);
    net.run_ms(3_000);
    net.put(C, "colour", "black");
    for node in [A, B, C] {
        net.read(node, "colour");
    }
    insta::assert_snapshot!(net.transcript());
}

#[test]
fn a_removed_member_is_refused() {
    let mut net = Net::mesh(2);
    net.put(B, "colour", "red");
    net.run_ms(100);
    net.say("While B is away, A removes it. B does not know, and writes on.");
    net.unlink(A, B);
    let node = net.node(B).id();
    net.own(A, "writes remove B");
    net.write(A, vec![Change::Remove { node }]);
    let members = net.words.members(net.node(A).store().expect("A has one"));
    net.own(A, &format!("knows the members {members}"));
    net.put(B, "colour", "blue");
    net.say("B comes back.");
    net.link(A, B);
    net.run_ms(3_000);
    net.read(A, "colour");
    insta::assert_snapshot!(net.transcript());
}
