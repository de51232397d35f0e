//! A request may be put to a leader more than once: what is said of one attempt is said of no other.

use super::*;

/// What travels from one node to another, of this kind.
fn sent<T>(net: &Net, from: usize, to: usize, of: impl Fn(&Body) -> Option<T>) -> Option<T> {
    let mut there = net.on_the_way.values().filter(|(a, b, _)| (*a, *b) == (from, to));
    there.find_map(|(.., message)| of(&message.body))
}

fn requests(body: &Body) -> Option<Body> {
    matches!(body, Body::Requests { .. }).then(|| body.clone())
}

/// Found by the simulator: the answer "it was not proposed" came twice, the second time when the request had
/// been asked for again. That was taken back, and at the deadline the client was told that nothing had
/// happened, while the second attempt was being committed.
#[test]
fn that_an_attempt_came_to_nothing_is_said_of_no_later_one() {
    let mut net = Net::cluster(3);
    let (leader, follower) = (net.leader(), net.follower());
    let cluster = net.hosts[0].cluster.id().unwrap();
    net.cut.insert((leader, follower));
    let ticket = net.send(follower, 5_000, Request::Change(put("k", "v")));
    let Some(Body::Requests { life, ballot, requests: asked }) =
        sent(&net, follower, leader, requests)
    else {
        panic!("it is passed on")
    };
    net.on_the_way.retain(|_, (from, ..)| *from != follower);
    let answers = [Answer { serial: asked[0].serial, result: None }].into();
    let no = Message { cluster, body: Body::Answers { life, ballot, answers } };
    let from = id(leader);
    net.step(follower, Input::Message { from, message: no.clone() });
    let retried = |net: &Net| net.hosts[follower].cluster.status().counters.retried;
    assert_eq!(retried(&net), 1);
    net.run_ms(RETRY_MS + 1);
    assert!(sent(&net, follower, leader, requests).is_some(), "it is asked for again");
    net.step(follower, Input::Message { from, message: no });
    assert_eq!(retried(&net), 1, "that was said of the first attempt");
    net.cut.clear();
    net.run_ms(1_000);
    let answer = net.hosts[follower].answers.get(&ticket);
    assert!(matches!(answer, Some(Ok(Reply::Written { version: 1, .. }))), "{answer:?}");
}

/// The other half: who was told that it never will be must be able to rely on it.
#[test]
fn what_was_turned_down_before_the_lead_began_is_not_taken_up_then() {
    let mut net = Net::cluster(3);
    let old = net.leader();
    let cluster = net.hosts[0].cluster.id().unwrap();
    net.crash(old);
    let elected = |net: &Net| {
        let of = |n: &usize| net.hosts[*n].cluster.log().leader();
        (0..3)
            .filter(|n| *n != old)
            .find_map(|n| of(&n).filter(|b| b.node == id(n)).map(|b| (n, b)))
    };
    let (n, ballot) = loop {
        match elected(&net) {
            Some(elected) => break elected,
            None => net.run_ms(1),
        }
    };
    assert_eq!(net.hosts[n].cluster.leads(net.now), None, "it has not begun");
    let asking = (0..3).find(|other| ![old, n].contains(other)).unwrap();
    let request = Request::Change(put("k", "v"));
    let asked = [Forwarded { serial: 999, timeout_ms: 1_000, request }].into();
    let body = Body::Requests { life: 7, ballot, requests: asked };
    let message = Message { cluster, body };
    let from = id(asking);
    net.step(n, Input::Message { from, message: message.clone() });
    let no = |body: &Body| match body {
        Body::Answers { life: 7, answers, .. } => Some(answers[0].result.is_none()),
        _ => None,
    };
    assert_eq!(sent(&net, n, asking, no), Some(true));
    net.run_ms(500);
    assert_eq!(net.leader(), n);
    net.step(n, Input::Message { from, message });
    net.run_ms(500);
    assert_eq!(net.get(n, "k", Read::Linearizable), Ok(None));
}

/// A leader that was paused learns that its lead is over when it is about to propose.
#[test]
fn what_a_lead_ended_too_early_for_is_asked_for_again_at_once() {
    let mut net = Net::cluster(3);
    let paused = net.leader();
    net.hosts[paused].up = false;
    net.run_ms(1_000);
    net.hosts[paused].up = true;
    let ticket = net.send(paused, 5_000, Request::Change(put("k", "v")));
    assert_ne!(net.leader(), paused);
    net.run_ms(1_000);
    let answer = net.hosts[paused].answers.get(&ticket);
    assert!(matches!(answer, Some(Ok(Reply::Written { version: 1, .. }))), "{answer:?}");
}
