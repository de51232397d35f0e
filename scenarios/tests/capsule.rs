//! Failures of the scenarios as files, and smaller.

use quorate_scenarios::{Mesh, Named, Op, catalogue, origin};
use quorate_sim::capsule::Verdict;
use quorate_sim::shrink::Effort;
use quorate_sim::{Action, Capsule, Failure, FailureKind, Plan, Sim, SimTime};

#[test]
fn every_scenario_can_be_written_and_read() {
    for scenario in catalogue() {
        for seed in 0..4 {
            let (mesh, plan) = (scenario.build)(seed);
            let (step, time, node) = (1, SimTime::ZERO, None);
            let (kind, reason) = (FailureKind::Liveness, "none".to_owned());
            let capsule = Capsule {
                scenario: scenario.name.to_owned(),
                origin: origin(),
                failure: Failure { step, time, node, kind, reason },
                trace_hash: 0,
                run: plan.draw(&mesh, seed),
            };
            let text = capsule.to_string();
            assert_eq!(text.parse(), Ok(capsule), "{text}");
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
    let scenario = quorate_scenarios::find("swarm").expect("it is there");
    for seed in 0..40 {
        let (mesh, plan) = (scenario.build)(seed);
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
    let swarm = quorate_scenarios::find("swarm").expect("it is there");
    let (mut mesh, mut plan) = (swarm.build)(seed);
    mesh.expect.forked = Some(1);
    plan.settle_us = 60_000_000;
    (mesh, plan)
}

#[test]
fn what_is_left_is_what_the_failure_needs() {
    let scenario = Named { name: "in_vain", about: "", marks: &[], build: in_vain };
    let capsule = scenario.record(2).expect("it fails");
    let shrunk = scenario.shrink(&capsule, Effort::default(), &mut |_| {}).expect("it fails");
    assert!(shrunk.minimal && capsule.run.schedule.len() > 60);
    let capsule: Capsule<Op> = shrunk.capsule.to_string().parse().expect("what was written");
    let [(_, Action::Op { node: 0, op: Op::Invite(1) })] = &capsule.run.schedule[..] else {
        panic!("one invitation: {capsule}")
    };
    assert_eq!(capsule.run.absent, [2, 3, 4].into());
    let outcome = scenario.open(&capsule, false).expect("it fits").finish();
    assert_eq!(capsule.judge(&origin(), &outcome).verdict, Verdict::ToTheLetter);
    assert!(capsule.failure.reason.contains("no proof of the fork of node 1"));
}
