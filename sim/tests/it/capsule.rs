//! A failure as a file.

use crate::toys::author::{Authors, Bug};
use crate::toys::probe::{Ask, Watch};
use quorate_sim::capsule::{ParseError, Problem, Verdict};
use quorate_sim::{
    Action, Capsule, Conditions, Failure, FailureKind, Fault, Kind, Loses, Options, Origin, Plan,
    Rng, Sim, SimTime, Span, Swarm, Topology, When, many, secs,
};

fn origin(machine: &str) -> Origin {
    Origin { program: "0.1.0".to_owned(), machine: machine.to_owned() }
}

fn red(seed: u64) -> (Authors, Plan<u64>) {
    (Authors::new(3 + (seed % 3) as usize, Bug::SendBeforeDurable), Plan::new(SimTime::secs(10)))
}

fn recorded() -> Capsule<u64> {
    let report = many(&red, 0..300, Options::default());
    let seed = report.failures[0].seed;
    Capsule::record(&red, "authors", origin("one"), seed).expect("it fails")
}

/// Capsules with everything in them that a swarm can draw.
fn drawn(seed: u64) -> Capsule<Ask> {
    let gap = Span::only(secs(1));
    let swarm = Swarm::default().with(Kind::OldCopy, gap, gap).with(Kind::BitRot, gap, gap);
    let mut plan = Plan { swarm, ..Plan::new(SimTime::secs(9)) };
    plan = plan.op(SimTime(seed), 1, Ask::Say(u64::MAX - seed)).op(SimTime::secs(3), 0, Ask::Panic);
    plan = plan.fault(SimTime::secs(2), Fault::Heal).fault(SimTime::ZERO, Fault::crash(2));
    let when = When::Unsynced { within_us: seed };
    let crash = Fault::Crash { node: 0, when, loses: Loses::Unsynced, down_us: 3 };
    plan = plan.fault(SimTime(17), crash).fault(SimTime(17), Fault::Restart { node: 2 });
    let mut rng = Rng::new(seed);
    let topologies = [Topology::Ring, Topology::Star, Topology::Pairs(vec![(0, 3), (1, 2)])];
    plan.topology = rng.pick(&topologies).cloned().expect("one of three");
    let mut run = plan.draw(&Watch::new(4), seed);
    run.draws = rng.next_u64();
    run.absent = (1..4).filter(|_| rng.below(2) == 0).collect();
    let kind = rng.pick(&[FailureKind::Panic, FailureKind::Liveness]).copied();
    let failure = Failure {
        step: rng.next_u64(),
        time: SimTime(rng.next_u64()),
        node: rng.pick(&[None, Some(3)]).copied().flatten(),
        kind: kind.expect("one of two"),
        reason: format!("two lines\nof \"{}\" and # at 4.5s {{}} ü", rng.next_u64()),
    };
    let trace_hash = rng.next_u64();
    Capsule { scenario: "a name".to_owned(), origin: origin("m"), failure, trace_hash, run }
}

#[test]
fn what_is_written_is_read() {
    for seed in 0..200 {
        let capsule = drawn(seed);
        let text = capsule.to_string();
        assert_eq!(text.parse(), Ok(capsule.clone()), "{text}");
        // Comments, empty lines, and the order of all but the first change nothing.
        let mut lines: Vec<&str> = text.lines().collect();
        lines[1..].reverse();
        let by_time = |line: &&str| line.starts_with("at ");
        let (at, rest): (Vec<&str>, Vec<&str>) = lines.into_iter().partition(by_time);
        let at: Vec<&str> = at.into_iter().rev().collect();
        let edited = format!("# mine\n\n{}\n# ours\n{}\r\n", rest[..].join("\n"), at.join("\n"));
        assert_eq!(edited.parse(), Ok(capsule));
    }
}

#[test]
fn nothing_that_is_read_panics() {
    let text = drawn(3).to_string();
    let mut rng = Rng::new(1);
    let mut read = 0;
    for _ in 0..3_000 {
        let mut bytes = text.clone().into_bytes();
        for _ in 0..1 + rng.below(3) {
            let at = rng.below(bytes.len() as u64) as usize;
            match rng.below(3) {
                0 => bytes[at] = b' ' + rng.below(95) as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let Ok(capsule) = String::from_utf8_lossy(&bytes).parse::<Capsule<Ask>>() else { continue };
        read += 1;
        if capsule.prepare(Watch::new(4), false).is_ok() {
            assert!(capsule.run.fits(4).is_ok());
        }
    }
    assert!(read > 50, "{read}");
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    let text = drawn(5).to_string();
    let wrong = |text: &str| text.parse::<Capsule<Ask>>().expect_err("it is wrong");
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} in {text}");
        wrong(&text.replacen(from, to, 1))
    };
    let line = |word: &str| {
        1 + text.lines().position(|line| line.starts_with(word)).expect("there is such a line")
    };
    assert_eq!(wrong(""), ParseError { line: 1, problem: Problem::NotACapsule });
    let version = Problem::Version("2".to_owned());
    assert_eq!(changed("capsule 1", "capsule 2"), ParseError { line: 1, problem: version });
    let unknown = changed("poll_us ", "pole_us ");
    assert_eq!(unknown.problem, Problem::Missing("poll_us".to_owned()));
    let unknown = wrong(&format!("{text}more 1\n"));
    assert_eq!(unknown.problem, Problem::Unknown("more".to_owned()));
    assert_eq!(unknown.line, text.lines().count() + 1);
    let repeated = wrong(&format!("{text}seed 1\n"));
    assert_eq!(repeated.problem, Problem::Repeated("seed".to_owned()));
    let chance = wrong(&text.replacen("network.notice [", "network.notice [9999", 1));
    assert_eq!(chance.line, line("network.notice "));
    assert!(matches!(&chance.problem, Problem::Value(why) if why.contains("no chance is")));
    let time = changed("at 0.000017s", "at 17us");
    assert!(matches!(&time.problem, Problem::Value(why) if why.contains("`17us` is no time")));
    assert_eq!(time.line, line("at 0.000017s"));
    let fault = changed("\"Restart\"", "\"Reboot\"");
    assert!(fault.to_string().contains("unknown variant `Reboot`"), "{fault}");
    let bare = changed("heal_clocks false", "heal_clocks 7");
    let why = "invalid type: integer `7`, expected a boolean".to_owned();
    assert_eq!(bare.problem, Problem::Value(why));
    assert_eq!(changed("heal_clocks false", "heal_clocks").problem, Problem::NoValue);
    let long = format!("{text}# {}\n", "x".repeat(quorate_sim::capsule::LINE_BYTES_MAX));
    assert_eq!(wrong(&long).problem, Problem::LineTooLong);
}

#[test]
fn a_replay_is_to_the_letter_or_says_what_has_changed() {
    let capsule: Capsule<u64> = recorded().to_string().parse().expect("what was written");
    let replay = |capsule: &Capsule<u64>, bug: Bug| {
        let (mut authors, _) = red(capsule.run.seed);
        authors.bug = bug;
        capsule.prepare(authors, false).expect("it fits").finish()
    };
    let outcome = replay(&capsule, Bug::SendBeforeDurable);
    let judgement = capsule.judge(&origin("one"), &outcome);
    assert_eq!(judgement.verdict, Verdict::ToTheLetter);
    assert!(judgement.to_string().starts_with("to the letter"));
    let judgement = capsule.judge(&origin("two"), &replay(&capsule, Bug::None));
    assert_eq!(judgement.verdict, Verdict::Passes);
    let said = judgement.to_string();
    assert!(said.contains("the code has changed since (fingerprint one, now two)"), "{said}");
    // Edited by hand, it fails in the same way, by another trace.
    let mut edited = capsule.clone();
    edited.run.schedule.retain(|(at, _)| *at <= capsule.failure.time);
    edited.run.schedule.push((edited.failure.time, Action::Fault(Fault::Heal)));
    edited.run.schedule.insert(0, (SimTime::ZERO, Action::Fault(Fault::Heal)));
    let judgement = edited.judge(&origin("one"), &replay(&edited, Bug::SendBeforeDurable));
    assert_eq!(judgement.verdict, Verdict::Fails);
    assert!(judgement.to_string().contains("the capsule was edited"), "{judgement}");
}

#[test]
fn a_capsule_that_does_not_fit_is_refused() {
    let mut capsule = drawn(7);
    let refused = |capsule: &Capsule<Ask>| {
        capsule.prepare(Watch::new(4), false).expect_err("it does not fit").to_string()
    };
    capsule.run.absent = [1].into();
    assert!(refused(&capsule).contains("cannot do without node 1"));
    capsule.run.absent.clear();
    capsule.run.conditions = Conditions::calm();
    assert!(capsule.prepare(Watch::new(4), false).is_ok());
    capsule.run.schedule.push((SimTime::ZERO, Action::Op { node: 4, op: Ask::Panic }));
    assert!(refused(&capsule).contains("node 4"));
    capsule.run.schedule.pop();
    let drift = Fault::Drift { node: 0, wall_ppm: 0, monotonic_ppm: -1_000_000, lasts_us: 1 };
    capsule.run.schedule.push((SimTime::ZERO, Action::Fault(drift)));
    assert!(refused(&capsule).contains("stand still"));
}

#[test]
fn a_seed_that_passes_makes_no_capsule() {
    let scenario = |_| (Watch::new(2), Plan::<Ask>::calm(SimTime::secs(1)));
    let outcome = Capsule::record(&scenario, "calm", origin("one"), 1).expect_err("it passes");
    assert_eq!(outcome.result, Ok(()));
    let (watch, plan) = scenario(1);
    assert_eq!(*outcome, Sim::new(watch.clone(), plan.draw(&watch, 1), false).finish());
}
