//! One node, its carriers' every whim, and its disk.

use alloc::vec;

use super::nostr::SecretKey;
use super::report::Status;
use super::signal::{Action, Genesis, Version};
use super::waves::Policy;
use super::*;
use crate::identity::{self, Identity};
use crate::machine::WallTime;

const T0: u64 = 1_800_000_000;
const NET: &str = "net";

fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n; 32]).unwrap()
}

fn node(n: u8) -> Identity {
    Identity::from_seed([n; 32])
}

fn release(version: &str, hash: u8) -> Proposal {
    Proposal {
        action: Action::Upgrade,
        network: NET.into(),
        version: Version::parse(version).unwrap(),
        artifact: Artifact([hash; 32]),
        genesis: None,
        rollback_of: None,
    }
}

fn signed(maintainer: u8, proposal: &Proposal, at: u64) -> nostr::Event {
    key(maintainer).sign(Signal::draft(proposal, at, None))
}

fn maintainers() -> Maintainers {
    Maintainers::new((1..=5).map(|n| key(n).public()), 3).unwrap()
}

fn config(nodes: impl IntoIterator<Item = u8>) -> Config {
    Config {
        identity: node(100),
        network: NET.into(),
        maintainers: maintainers(),
        nodes: nodes.into_iter().map(|n| (node(n).id(), 0)).collect(),
        policy: Policy::default(),
        installed: None,
        lifetime_s: 30 * 86_400,
        frozen_after_s: 60 * 86_400,
        timeout_us: 60_000_000,
        verify: identity::verify,
        verify_maintainer: nostr::verify,
    }
}

#[derive(Default)]
struct Sink {
    records: Vec<Record>,
    events: Vec<Event>,
}

impl Effects<Quorum> for Sink {
    fn persist(&mut self, record: Record) {
        self.records.push(record);
    }
    fn send(&mut self, _: NodeId, message: Never) {
        match message {}
    }
    fn send_now(&mut self, _: NodeId, message: Never) {
        match message {}
    }
    fn emit(&mut self, event: Event) {
        self.events.push(event);
    }
    fn emit_now(&mut self, event: Event) {
        self.emit(event);
    }
}

struct Host {
    quorum: Quorum,
    log: Vec<Record>,
    /// After each step: how long the log was, and what was kept.
    states: Vec<(usize, Kept)>,
    now: Time,
    wall_s: u64,
}

impl Host {
    fn new(config: Config) -> Host {
        let quorum = Quorum::new(config);
        let mut host =
            Host { quorum, log: vec![], states: vec![], now: Time(1), wall_s: T0 + 1_000 };
        host.step(Input::Start);
        host
    }

    fn step(&mut self, input: Input<Quorum>) -> Vec<Event> {
        let mut sink = Sink::default();
        self.now = self.now.after_us(1);
        let wall = WallTime(self.wall_s * 1_000);
        let cx = Cx { me: node(100).id(), now: self.now, wall, entropy: 0 };
        self.quorum.handle(cx, input, &mut sink);
        self.quorum.check();
        self.log.extend(sink.records);
        self.states.push((self.log.len(), self.quorum.kept().clone()));
        sink.events
    }

    fn command(&mut self, command: Command) -> Vec<Event> {
        self.step(Input::Command(command))
    }

    fn hear(&mut self, event: &nostr::Event) -> Vec<Event> {
        self.command(Command::Carried(event.to_json().into()))
    }

    fn hear_all(
        &mut self,
        by: impl IntoIterator<Item = u8>,
        what: &Proposal,
        at: u64,
    ) -> Vec<Event> {
        by.into_iter().flat_map(|n| self.hear(&signed(n, what, at))).collect()
    }

    /// The time goes on, and every timer with it.
    fn pass(&mut self, seconds: u64) -> Vec<Event> {
        let end = self.now.after_us(seconds * 1_000_000);
        self.wall_s += seconds;
        let mut events = Vec::new();
        while let Some(at) = self.quorum.deadline().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            events.extend(self.step(Input::Tick));
            assert!(self.quorum.deadline().is_none_or(|at| at > self.now), "a timer stands still");
        }
        self.now = end;
        events
    }

    fn refused(&self, why: Refusal) -> u64 {
        self.quorum.refusals().get(why)
    }
}

fn runs(events: &[Event]) -> Vec<ProposalId> {
    let run = |event: &Event| match event {
        Event::Run { proposal, .. } => Some(proposal.id()),
        _ => None,
    };
    events.iter().filter_map(run).collect()
}

fn fetched(proposal: &Proposal, hash: u8) -> Command {
    Command::Fetched { proposal: proposal.id(), result: Ok(Artifact([hash; 32])) }
}

fn ran(proposal: &Proposal, result: Result<(), RunError>) -> Command {
    Command::Ran { proposal: proposal.id(), result }
}

fn published(events: &[Event]) -> Vec<Status> {
    let report = |event: &Event| match event {
        Event::Publish(signed) => Some(signed.report.status.clone()),
        _ => None,
    };
    events.iter().filter_map(report).collect()
}

#[test]
fn three_of_five_make_it_run_once() {
    let mut host = Host::new(config([]));
    let v1 = release("v1.0.0", 1);
    assert_eq!(host.hear_all(1..=2, &v1, T0), []);
    let events = host.hear(&signed(3, &release("1.0.0", 1), T0));
    let [Event::Quorum(proposal, certificate), Event::Fetch(_)] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(proposal, &v1);
    assert_eq!(certificate.check(&maintainers(), NET, nostr::verify), Ok(v1.clone()));
    assert_eq!(runs(&host.command(fetched(&v1, 1))), [v1.id()]);
    assert_eq!(published(&host.command(ran(&v1, Ok(())))), [Status::Success]);
    assert_eq!(host.hear_all(4..=5, &v1, T0 + 1), [], "nothing runs again");
    assert_eq!(runs(&host.command(fetched(&v1, 1))), []);
    assert_eq!(host.quorum.kept().floor.version(), Some(&v1.version));
}

#[test]
fn a_newer_signal_takes_its_vote_along() {
    let mut host = Host::new(config([]));
    let (v1, v2) = (release("1.0.0", 1), release("2.0.0", 2));
    host.hear_all(1..=2, &v1, T0);
    assert_eq!(host.hear_all(2..=3, &v2, T0 + 1), [], "one and two");
    let events = host.hear_all([3, 4], &v2, T0 + 2);
    assert!(
        matches!(&events[..], [Event::Quorum(proposal, _), Event::Fetch(_)] if *proposal == v2)
    );
    // What was said before is said again, and means nothing.
    host.hear_all(1..=5, &v1, T0);
    assert_eq!(host.refused(Refusal::Superseded) + host.refused(Refusal::Duplicate), 4);
    assert_eq!(*host.quorum.standing(), Standing::Quorum(v2));
}

#[test]
fn hashes_do_not_pool_and_a_conflict_is_seen() {
    let mut host = Host::new(config([]));
    let (a, b) = (release("1.0.0", 1), release("1.0.0", 2));
    host.hear_all(1..=2, &a, T0);
    assert_eq!(host.hear_all(3..=4, &b, T0), []);
    let conflicts = host.quorum.kept().tally.conflicts();
    assert_eq!(conflicts[&(Action::Upgrade, a.version.clone())], [a.id(), b.id()].into());
    // With a low threshold both get there, and neither runs.
    let pairs = Maintainers::new((1..=5).map(|n| key(n).public()), 2).unwrap();
    let mut host = Host::new(Config { maintainers: pairs, ..config([]) });
    host.hear_all(1..=2, &a, T0);
    let events = host.hear_all(3..=4, &b, T0);
    assert_eq!(events, [Event::Conflict(Action::Upgrade, a.version.clone())]);
    assert_eq!(host.command(fetched(&a, 1)), []);
}

#[test]
fn equal_times_are_broken_by_the_lowest_id_whatever_came_first() {
    let (a, b) = (release("1.0.0", 1), release("1.0.0", 2));
    let events = [signed(1, &a, T0), signed(1, &b, T0)];
    let lowest = events.iter().map(|event| event.id).min().unwrap();
    for order in [[0, 1], [1, 0]] {
        let mut host = Host::new(config([]));
        for n in order {
            host.hear(&events[n]);
        }
        let tally = &host.quorum.kept().tally;
        assert_eq!(tally.votes()[&key(1).public()].signal.event, lowest);
    }
}

#[test]
fn strangers_other_networks_and_the_future_change_nothing() {
    let mut host = Host::new(config([]));
    let v1 = release("1.0.0", 1);
    host.hear_all(1..=2, &v1, T0);
    let before = host.quorum.kept().clone();
    host.hear_all(6..=9, &v1, T0);
    host.hear_all(1..=5, &Proposal { network: "other".into(), ..v1.clone() }, T0 + 9);
    host.hear_all(3..=5, &v1, T0 + 1_000 + MAX_AHEAD_S + 1);
    host.hear_all(3..=5, &v1, T0 + 1_001 - 30 * 86_400 - 1);
    let forged = nostr::Event { pubkey: key(3).public(), ..signed(4, &v1, T0) };
    host.hear(&forged);
    let sig = nostr::Signature([7; 64]);
    host.hear(&nostr::Event { sig, ..signed(3, &v1, T0) });
    host.command(Command::Carried(Bytes::from_static(b"\xff")));
    host.command(Command::Carried(vec![b'x'; nostr::MAX_EVENT_BYTES + 1].into()));
    assert_eq!(*host.quorum.kept(), before);
    for (why, times) in [
        (Refusal::NotFollowed, 4),
        (Refusal::WrongNetwork, 5),
        (Refusal::FarFuture, 3),
        (Refusal::Expired, 3),
        (Refusal::WrongId, 1),
        (Refusal::BadSignature, 1),
        (Refusal::NotUtf8, 1),
        (Refusal::Giant, 1),
    ] {
        assert_eq!(host.refused(why), times, "{why}");
    }
    assert_eq!(host.quorum.refusals().iter().map(|(_, n)| n).sum::<u64>(), 19);
}

#[test]
fn what_cannot_run_fails_once_and_says_so() {
    let v1 = release("1.0.0", 1);
    let no_file = Command::Fetched { proposal: v1.id(), result: Err("no such file".into()) };
    for (answer, says) in [(fetched(&v1, 9), "hash is 0909"), (no_file, "no such file")] {
        let mut host = Host::new(config([]));
        host.hear_all(1..=3, &v1, T0);
        let reports = published(&host.command(answer));
        let [Status::Failure(why)] = &reports[..] else { panic!("{reports:?}") };
        assert!(why.contains(says), "{why}");
        assert_eq!(host.hear_all(4..=5, &v1, T0), []);
        assert_eq!(runs(&host.pass(3_600)), []);
    }
    let genesis = Genesis { url: "https://a.example".into(), required_by: T0 + 2_000 };
    let reboot = Proposal { action: Action::Reboot, genesis: Some(genesis), ..v1 };
    let mut host = Host::new(config([]));
    host.wall_s = T0 + 2_001;
    let events = host.hear_all(1..=3, &reboot, T0);
    assert_eq!(published(&events), [Status::Failure("the deadline had passed".into())]);
}

#[test]
fn a_failed_run_is_taken_back_and_its_artifact_is_not_run_again() {
    let installed = Some((Version::parse("0.9.0").unwrap(), Artifact([9; 32])));
    let mut host = Host::new(Config { installed, ..config([]) });
    let v1 = release("1.0.0", 1);
    host.hear_all(1..=3, &v1, T0);
    host.command(fetched(&v1, 1));
    let events = host.command(ran(&v1, Err(RunError::Failed("exit 1".into()))));
    let artifact = Some(Artifact([9; 32]));
    assert_eq!(events[1..], [Event::PutBack { proposal: v1.id(), artifact }]);
    let reports = published(&host.command(Command::IsBack(v1.id())));
    assert_eq!(reports, [Status::Failure("the run failed: exit 1".into())]);
    let renamed = release("1.0.1", 1);
    let reports = published(&host.hear_all(1..=3, &renamed, T0 + 1));
    assert_eq!(reports, [Status::Failure("the artifact failed here before".into())]);
    let fixed = release("1.0.1", 2);
    assert!(matches!(host.hear_all(1..=3, &fixed, T0 + 2)[..], [.., Event::Fetch(_)]));
}

#[test]
fn a_rollback_goes_down_once_and_the_floor_stays() {
    let mut host = Host::new(config([]));
    let (v1, v2) = (release("1.0.0", 1), release("2.0.0", 2));
    for (at, release, hash) in [(T0, &v1, 1), (T0 + 1, &v2, 2)] {
        host.hear_all(1..=3, release, at);
        host.command(fetched(release, hash));
        host.command(ran(release, Ok(())));
    }
    assert_eq!(host.hear_all(1..=3, &release("1.0.0", 3), T0 + 2), [], "below the floor");
    let back = Proposal { rollback_of: Some(v2.version.clone()), ..v1.clone() };
    assert!(matches!(host.hear_all(1..=3, &back, T0 + 3)[..], [.., Event::Fetch(_)]));
    assert_eq!(runs(&host.command(fetched(&back, 1))), [back.id()]);
    host.command(ran(&back, Ok(())));
    assert_eq!(host.quorum.kept().floor.version(), Some(&v2.version));
    assert_eq!(host.hear_all(1..=3, &back, T0 + 4), [], "once");
    assert_eq!(host.hear_all(1..=3, &v2, T0 + 5), [], "what was taken back is not run again");
}

#[test]
fn every_prefix_of_the_log_restores_what_was_kept_and_runs_nothing_twice() {
    let mut host = Host::new(config([100, 101]));
    let (v1, v2) = (release("1.0.0", 1), release("2.0.0", 2));
    host.command(Command::Hold);
    host.hear_all(1..=4, &v1, T0);
    host.command(Command::Away { node: node(101).id(), away: true });
    host.command(Command::Resume);
    host.command(fetched(&v1, 1));
    host.command(ran(&v1, Ok(())));
    host.hear_all([5, 4, 3, 2], &v2, T0 + 1);
    host.command(fetched(&v2, 2));
    host.command(ran(&v2, Err(RunError::TimedOut)));
    host.command(Command::IsBack(v2.id()));
    assert_eq!(host.quorum.kept().runs.len(), 2);
    for cut in 0..=host.log.len() {
        let mut again = Host::new(config([100, 101]));
        again.quorum = Quorum::new(config([100, 101]));
        host.log[..cut].iter().cloned().for_each(|record| again.quorum.restore(record));
        let kept = again.quorum.kept().clone();
        let then = host.states.iter().find(|(len, _)| *len == cut);
        assert!(then.is_none_or(|(_, then)| *then == kept), "restored from {cut} records");
        let begun: Vec<ProposalId> =
            kept.runs.iter().filter(|(_, run)| run.begun).map(|(id, _)| *id).collect();
        let mut events = again.step(Input::Start);
        for (release, hash) in [(&v1, 1), (&v2, 2)] {
            events.extend(again.hear_all(1..=5, release, T0 + 2 + u64::from(hash)));
            events.extend(again.command(fetched(release, hash)));
            events.extend(again.command(ran(release, Ok(()))));
            events.extend(again.command(Command::IsBack(release.id())));
        }
        for id in runs(&events) {
            assert!(!begun.contains(&id), "after {cut} records {id} runs again");
        }
        assert!(again.quorum.kept().runs.values().all(kept::Run::is_through));
    }
    let mut whole = Quorum::new(config([100, 101]));
    whole.restore(Record::Checkpoint(Arc::new(host.quorum.kept().clone())));
    assert_eq!(whole.kept(), host.quorum.kept());
}

#[test]
fn a_node_waits_for_those_before_it_and_stops_at_failures() {
    let v1 = release("1.0.0", 1);
    let all = 100..110;
    let report = |n: u8, status: Status| {
        Command::Reported(Report::new(&v1, node(n).id(), status, T0).sign(&node(n)))
    };
    let policy = Policy { enough_percent: 100, ..Policy::default() };
    let start = || {
        let mut host = Host::new(Config { policy: policy.clone(), ..config(all.clone()) });
        let events = host.hear_all(1..=3, &v1, T0);
        assert!(matches!(events[..], [Event::Quorum(..)]), "it is not its turn yet");
        host
    };
    let mut host = start();
    let fetches = |events: &[Event]| events.iter().any(|event| matches!(event, Event::Fetch(_)));
    let mut heard = 0;
    for n in 101..110 {
        host.command(report(n, Status::Success));
        heard += 1;
        if fetches(&host.pass(1)) {
            break;
        }
    }
    let (_, reports) = &host.quorum.rollouts[0];
    assert!(reports.may_be_at_it() == 0 && reports.waves_before_are_well(&policy));
    assert!(heard > 0, "somebody goes before");
    // Forged ones do not count, neither as successes nor as failures, and keep nobody's word out.
    let mut host = start();
    for n in 101..110 {
        let forged = Report::new(&v1, node(n).id(), Status::Failure("x".into()), T0).sign(&node(1));
        host.command(Command::Reported(forged));
    }
    host.pass(1);
    assert_eq!(host.refused(Refusal::BadSignature), 9);
    assert_eq!(host.quorum.kept().halted(v1.id()), None);
    // Two failures are one too many.
    host.command(report(101, Status::Failure("x".into())));
    host.command(report(102, Status::Failure("x".into())));
    assert_eq!(host.pass(1), [Event::Halted(v1.id())]);
    (103..110).for_each(|n| assert!(host.command(report(n, Status::Success)).is_empty()));
    assert!(!fetches(&host.pass(1)));
    host.command(Command::Away { node: node(101).id(), away: true });
    assert!(!fetches(&host.pass(60)), "halted is halted");
    // Until somebody says otherwise.
    let policy = Policy { enough_percent: 0, at_a_time: 9, ..policy.clone() };
    let quorum = Quorum::new(Config { policy, ..config(all) });
    let log = core::mem::take(&mut host.log);
    host.quorum = quorum;
    log.into_iter().for_each(|record| host.quorum.restore(record));
    assert!(!fetches(&host.step(Input::Start)));
    assert!(fetches(&host.command(Command::Resume)));
}

#[test]
fn silence_is_told_and_so_is_its_end() {
    let mut host = Host::new(Config { frozen_after_s: 3_600, ..config([]) });
    assert_eq!(host.pass(3_700), [Event::Frozen(true)]);
    let at = host.wall_s;
    assert_eq!(host.hear(&signed(1, &release("1.0.0", 1), at)), [Event::Frozen(false)]);
    host.pass(3_500);
    host.hear(&signed(1, &release("1.0.0", 1), at));
    assert_eq!(host.pass(200), [Event::Frozen(true)], "what is repeated is nothing new");
}

#[test]
fn votes_expire_and_the_quorum_with_them() {
    let mut host = Host::new(Config { lifetime_s: 3_000, ..config([]) });
    let v1 = release("1.0.0", 1);
    host.command(Command::Hold);
    host.hear_all(1..=3, &v1, T0);
    assert_eq!(*host.quorum.standing(), Standing::Quorum(v1.clone()));
    host.pass(2_100);
    assert_eq!(*host.quorum.standing(), Standing::Open);
    assert_eq!(host.command(Command::Resume), []);
    let soon = key(1).sign(Signal::draft(&v1, T0 + 3_000, Some(T0 + 3_200)));
    host.hear(&soon);
    host.hear_all(2..=3, &v1, T0 + 3_050);
    assert_eq!(*host.quorum.standing(), Standing::Quorum(v1));
    host.pass(200);
    assert_eq!(*host.quorum.standing(), Standing::Open, "its author said until when");
}

#[test]
fn new_maintainers_count_and_old_ones_do_not() {
    let mut host = Host::new(config([]));
    let next = maintainers().next((4..=8).map(|n| key(n).public()), 3).unwrap();
    let by = |keys: &[u8]| Succession {
        next: next.clone(),
        signatures: keys.iter().map(|n| key(*n).sign(next.draft(NET, T0))).collect(),
    };
    host.command(Command::Succeed(by(&[1, 2, 3])));
    assert_eq!(host.refused(Refusal::BadSuccession), 1);
    let v1 = release("1.0.0", 1);
    host.hear_all(1..=2, &v1, T0);
    host.command(Command::Succeed(by(&[1, 4, 5, 6])));
    assert_eq!(host.quorum.kept().maintainers, next);
    assert!(host.quorum.kept().tally.votes().is_empty(), "1 and 2 are no maintainers any more");
    assert_eq!(host.hear_all(1..=5, &v1, T0), []);
    assert!(matches!(host.hear_all([6], &v1, T0)[..], [Event::Quorum(..), Event::Fetch(_)]));
}

#[test]
fn reports_are_paged_and_only_signed_ones_are_shown() {
    let mut host = Host::new(config(0..=255));
    let v1 = release("1.0.0", 1);
    host.hear_all(1..=3, &v1, T0);
    for n in 0..=255 {
        let by = if n == 7 { 8 } else { n };
        let report = Report::new(&v1, node(n).id(), Status::Success, T0).sign(&node(by));
        host.command(Command::Reported(report));
    }
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let (page, next) = host.quorum.page(v1.id(), after);
        all.extend(page);
        let Some(_) = next else { break };
        after = next;
    }
    assert_eq!(all.len(), 254, "all but this node's and the forged one");
    assert!(all.is_sorted_by_key(|signed| signed.report.node));
}
