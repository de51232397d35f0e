//! The table of scenarios, and what makes an operation of one simpler.

use std::collections::BTreeSet;

use bytes::Bytes;
use quorate_core::machine::NodeId;
use quorate_core::store::Change;
use quorate_scenarios::{Lie, Mesh, Op, catalogue, find};
use quorate_sim::System;

#[test]
fn no_two_are_called_alike() {
    let names: BTreeSet<&str> = catalogue().map(|scenario| scenario.name).collect();
    assert_eq!(names.len(), catalogue().count());
    for (name, system) in
        [("swarm", "mesh"), ("voters", "voters"), ("fleet", "fleet"), ("cluster", "cluster")]
    {
        assert!(find(name).is_some_and(|scenario| scenario.system == system), "{name}");
    }
    assert!(find("nothing").is_none());
}

#[test]
fn the_page_on_the_simulator_has_every_one() {
    let page = include_str!("../../docs/simulator.md");
    for scenario in catalogue() {
        let row = format!("| `{}` | {} |\n", scenario.name, scenario.about);
        assert!(page.contains(&row), "not in docs/simulator.md: {row}");
    }
}

#[test]
fn simpler_and_simpler_ends() {
    let mesh = Mesh::new(3);
    let key = Bytes::from_static(b"k");
    let add = Change::Add { key: key.clone(), delta: 3 };
    let invite = Change::Invite { node: NodeId([1; 32]) };
    let ops = [
        Op::Write(vec![add, Change::Delete { key }, invite]),
        Op::Import(600),
        Op::Lie(Lie::Orphans(2_200)),
        Op::Watch,
    ];
    for mut op in ops {
        let mut times = 0;
        while let Some(next) = mesh.simpler(&op).pop() {
            times += 1;
            assert!(times < 100, "{op:?} has no end");
            op = next;
        }
    }
    assert_eq!(mesh.simpler(&Op::Lie(Lie::Garbage)), []);
}
