//! Followers that are behind are sent what they lack, and little else.

use super::*;

/// A long log, whose end a follower that is down lacks; the leader, and that follower.
fn one_away() -> (Net, usize, usize) {
    let mut net = Net::cluster(3);
    let (leader, follower) = (net.leader(), net.follower());
    for _ in 0..300 {
        net.put(leader, "k").unwrap();
    }
    net.crash(follower);
    for _ in 0..5 {
        net.put(leader, "k").unwrap();
    }
    (net, leader, follower)
}

/// Who starts again does not know what is committed. Sent everything from there on, it was a while before
/// it had what it lacked; and if the leader died meanwhile, so did the next one's lead.
#[test]
fn who_was_away_for_a_moment_is_sent_what_it_lacks() {
    let (mut net, _, follower) = one_away();
    net.run_ms(500);
    let before = net.appended;
    net.restart(follower);
    net.run_ms(500);
    net.assert_equal();
    assert!(net.appended - before < 60, "{} entries", net.appended - before);
}

/// The same of a leader that is new, and knows nothing of its followers.
#[test]
fn a_new_leader_sends_what_is_lacked() {
    let (mut net, leader, follower) = one_away();
    net.crash(leader);
    let before = net.appended;
    net.restart(follower);
    net.run_ms(3_000);
    let new = net.leader();
    assert_ne!(new, leader);
    assert_eq!(net.put(new, "k").map(drop), Ok(()));
    assert!(net.appended - before < 60, "{} entries", net.appended - before);
}
