//! Whole Quorate meshes in the simulator: how many a CPU second holds, and what a fork costs.
//!
//! A run: five nodes with real signatures join, write sixty times, are parted in two, one dies and
//! comes back, all are healed, and converge: every invariant is checked after every step.

use bytes::Bytes;
use quorate_bench::cpu;
use quorate_core::store::Change;
use quorate_scenarios::{Mesh, Op};
use quorate_sim::{Fault, Plan, Sim, SimTime, secs};

fn main() {
    runs();
    forks();
}

/// A mesh of five that has been told to join.
fn mesh(active: SimTime) -> (Mesh, Plan<Op>) {
    let mut plan = Plan::calm(active);
    for guest in 1..5 {
        plan = plan.op(SimTime::ms(20), 0, Op::Invite(guest));
    }
    plan.settle_us = secs(60);
    (Mesh::new(5), plan)
}

fn runs() {
    const RUNS: u64 = 400;
    let before = cpu();
    let mut steps = 0;
    for seed in 0..RUNS {
        let (mesh, plan) = mesh(SimTime::secs(12));
        let plan = plan
            .fault(SimTime::secs(4), Fault::split(&[0, 1], &[2, 3, 4]).lasting(secs(4)))
            .fault(SimTime::secs(6), Fault::crash(3).lasting(secs(1)));
        let run = plan.draw(&mesh, seed);
        let outcome = Sim::new(mesh, run, false).finish();
        assert!(outcome.result.is_ok(), "seed {seed}: {:?}", outcome.result);
        steps += outcome.steps;
    }
    let spent = cpu() - before;
    let rate = RUNS as f64 / spent.as_secs_f64();
    println!(
        "runs of five nodes, to convergence: {rate:.0} a CPU second, {} steps each",
        steps / RUNS
    );
}

/// A fork with ever longer logs: what it costs must not grow with them.
fn forks() {
    for entries in [1_000u64, 4_000, 16_000] {
        let (mut mesh, mut plan) = mesh(SimTime::secs(40));
        mesh.ops = 0;
        for n in 0..entries / 10 {
            let change = |m: u64| Change::Put {
                key: Bytes::from(format!("key {n} {m}")),
                value: Bytes::from(vec![7; 100]),
            };
            for m in 0..10 {
                let op = Op::Write(vec![change(m)]);
                plan =
                    plan.op(SimTime::ms(3_000 + n * 10_000 * 10 / entries), (m % 5) as usize, op);
            }
        }
        let run = plan.draw(&mesh, 1);
        let mut sim = Sim::new(mesh, run, false);
        sim.advance(SimTime(secs(30)));
        let applied =
            sim.view().machine(4).and_then(|actor| actor.node.store()).expect("joined").applied();
        assert!(applied >= entries, "{applied} of {entries} have arrived");
        const FORKS: u32 = 2_000;
        let mut rates: Vec<f64> = (0..7)
            .map(|_| {
                let before = cpu();
                for _ in 0..FORKS {
                    std::hint::black_box(sim.clone());
                }
                (cpu() - before).as_secs_f64() * 1e6 / f64::from(FORKS)
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        println!(
            "a fork with {applied} entries on each of five nodes, and its end: {:.1} us",
            rates[3]
        );
    }
}
