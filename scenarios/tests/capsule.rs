//! Failures of the scenarios as files, and smaller.

use quorate_scenarios::meshes::swarm;
use quorate_scenarios::{Keep, Mesh, Op, Start, Trial as _, catalogue, origin, subject};
use quorate_sim::capsule::Verdict;
use quorate_sim::shrink::Effort;
use quorate_sim::{Action, Capsule, Plan, Sim};

#[test]
fn every_scenario_can_be_written_and_read() {
    for scenario in catalogue() {
        for seed in 0..4 {
            let text = scenario.trial.draw(scenario.name, seed);
            assert_eq!(subject(&text), Ok((scenario.name.to_owned(), seed)), "{text}");
            let drawn = scenario.trial.replay(&Start::Seed(seed), Keep::Outcome).expect("a seed");
            let read = scenario.trial.replay(&Start::Capsule(text), Keep::Outcome).expect("fits");
            assert_eq!(read.outcome.trace_hash, drawn.outcome.trace_hash, "{}", scenario.name);
        }
    }
}

#[test]
fn keys_and_values_are_read_as_they_are() {
    let json = |text: &str| serde_json::from_str::<Op>(text).expect("an operation");
    let put = r#"{"Write":[{"Put":{"key":"k1","value":"v"}},{"Delete":{"key":[255,0]}}]}"#;
    assert_eq!(serde_json::to_string(&json(put)).expect("it is text"), put);
    assert!(serde_json::from_str::<Op>(r#"{"Write":[{"Put":{"key":"k1"}}]}"#).is_err());
}

#[test]
fn a_mesh_does_without_whoever_never_comes() {
    for seed in 0..40 {
        let (mesh, plan) = swarm(seed);
        let mut run = plan.draw(&mesh, seed);
        run.absent = [1 + (seed % 2) as usize].into();
        run.schedule.retain(|(_, action)| match action {
            Action::Op { node, .. } => !run.absent.contains(node),
            Action::Fault(_) => true,
        });
        assert_eq!(Sim::new(mesh, run, false).finish().result, Ok(()), "seed {seed}");
    }
}

/// Nobody forks, and the proof that node 1 has is waited for.
fn in_vain(seed: u64) -> (Mesh, Plan<Op>) {
    let (mut mesh, mut plan) = swarm(seed);
    mesh.expect.forked = Some(1);
    plan.settle_us = 60_000_000;
    (mesh, plan)
}

#[test]
fn what_is_left_is_what_the_failure_needs() {
    let all = Capsule::record(&in_vain, "in_vain", origin(), 2).expect("it fails").run.schedule;
    let shrunk = in_vain
        .shrink("in_vain", &Start::Seed(2), Effort::default(), &mut |_| {})
        .expect("it fails");
    assert!(shrunk.minimal && shrunk.before == all.len() && all.len() > 60);
    let capsule: Capsule<Op> = shrunk.capsule.parse().expect("what was written");
    let [(_, Action::Op { node: 0, op: Op::Invite(1) })] = &capsule.run.schedule[..] else {
        panic!("one invitation: {capsule}")
    };
    assert_eq!(capsule.run.absent, [2, 3, 4].into());
    let again = in_vain.replay(&Start::Capsule(shrunk.capsule), Keep::Outcome).expect("it fits");
    assert_eq!(again.judgement.map(|it| it.verdict), Some(Verdict::ToTheLetter));
    assert!(capsule.failure.reason.contains("no proof of the fork of node 1"));
}
