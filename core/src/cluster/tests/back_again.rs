//! Members that are removed and added again before they have heard of it.

use super::*;

/// A node that is removed, and added again as `seat` before it has heard of it.
fn back_before_it_knew(was: Seat, seat: Seat) -> (Net, usize) {
    let mut net = Net::new(4, Config::default());
    net.found(3);
    let leader = net.leader();
    assert!(net.ask(leader, 5_000, Request::Add { node: id(3), seat: was }).is_ok());
    net.put(leader, "k").unwrap();
    net.run_ms(500);
    net.cut.extend((0..3).map(|n| (n, 3)));
    assert!(net.ask(leader, 5_000, Request::Remove { node: id(3) }).is_ok());
    net.put(leader, "later").unwrap();
    let added = net.send(leader, 5_000, Request::Add { node: id(3), seat });
    net.run_ms(100);
    net.cut.clear();
    let steps = net.steps;
    net.run_ms(2_000);
    assert!(net.steps - steps < 5_000, "messages go round in circles");
    let answer = &net.hosts[leader].answers[&added];
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(net.put(3, "k").map(drop), Ok(()));
    (net, leader)
}

/// Found by the simulator: it forgot what it had just acknowledged as a member again, perhaps as a voter; and
/// the leader went on from there, in circles, as fast as the network.
#[test]
fn who_is_a_member_again_before_it_knew_forgets_nothing() {
    let (mut net, _) = back_before_it_knew(Seat::Voter, Seat::Voter);
    assert!(!net.hosts[3].events.iter().any(|event| matches!(event, Event::Left(_))));
    net.assert_equal();
    let (net, _) = back_before_it_knew(Seat::Voter, Seat::Witness);
    assert!(!net.hosts[3].events.iter().any(|event| matches!(event, Event::Left(_))));
    assert_eq!(net.hosts[3].cluster.role(), Role::Witness);
}

#[test]
fn a_former_witness_begins_anew_before_it_takes_another_seat() {
    let (mut net, leader) = back_before_it_knew(Seat::Witness, Seat::Voter);
    assert!(net.hosts[3].events.iter().any(|event| matches!(event, Event::Left(_))));
    net.assert_equal();
    assert!(!net.hosts[3].cluster.log().is_blank());
    // And may lead then, with all that there is.
    assert!(net.ask(leader, 5_000, Request::HandOver { to: Some(id(3)) }).is_ok());
    net.run_ms(500);
    assert_eq!(net.leader(), 3);
    assert_eq!(net.get(3, "later", Read::Linearizable), Ok(Some(b("v"))));
}

/// Found by the simulator: the state came as of when this node was a witness, was taken for that of one, and
/// what had been written by then was lost to it.
#[test]
fn a_former_witness_is_given_the_state_as_of_when_it_was_one() {
    let config = Config { compact_entries: 20, keep_entries: 5, ..Config::default() };
    let mut net = Net::new(4, config);
    net.found(3);
    net.put(0, "early").unwrap();
    assert!(net.ask(0, 5_000, Request::Add { node: id(3), seat: Seat::Witness }).is_ok());
    for _ in 0..40 {
        net.put(1, "k").unwrap();
    }
    assert!(net.ask(0, 5_000, Request::Remove { node: id(3) }).is_ok());
    net.run_ms(500);
    assert_eq!(net.hosts[3].cluster.id(), None);
    assert!(net.ask(0, 5_000, Request::Add { node: id(3), seat: Seat::Voter }).is_ok());
    net.run_ms(1_000);
    net.assert_equal();
    assert_eq!(net.get(3, "early", Read::Local), Ok(Some(b("v"))));
}
