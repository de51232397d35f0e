//! A replicated register under every fault, judged by its clients' history; and one that is wrong.

use crate::toys::register::Registers;
use quorate_sim::{FailureKind, Options, Plan, SimTime, many, run};

fn registers(forgetful: bool) -> impl Fn(u64) -> (Registers, Plan<Option<u64>>) + Sync {
    move |_| (Registers::new(3, forgetful), Plan::new(SimTime::secs(3)))
}

#[test]
fn the_majority_register_is_linearizable_by_both_opinions() {
    let report = many(&registers(false), 0..150, Options::default());
    report.assert_ok(|seed| format!("cargo test -p quorate-sim --test registers # seed {seed}"));
    assert!(report.unreached(&["an operation stays open"]).is_empty());
    let gave_up = report.marks.get("the search gave up").map_or(0, |reached| reached.seeds);
    assert!(gave_up < 15, "one opinion only in {gave_up} of 150 seeds");
}

#[test]
fn reads_that_do_not_write_back_are_found_and_shown_by_few_operations() {
    let report =
        many(&registers(true), 0..300, Options { failures_max: 300, ..Options::default() });
    let reasons: Vec<&str> = report
        .failures
        .iter()
        .filter_map(|outcome| outcome.result.as_ref().err())
        .inspect(|failure| assert_eq!(failure.kind, FailureKind::Finished, "{failure}"))
        .map(|failure| &*failure.reason)
        .collect();
    assert!(!reasons.iter().any(|reason| reason.contains("disagree")), "{reasons:?}");
    let both = |reason: &&&str| reason.contains("by tags: #") && reason.contains("no order of");
    let shown = reasons.iter().filter(both).min_by_key(|reason| reason.lines().count());
    let shown = shown.expect("within 300 seeds");
    assert!(shown.lines().count() <= 8, "{shown}");
    assert!(shown.contains("<- cannot be explained"), "{shown}");
    let first = &report.failures[0];
    assert_eq!(run(&registers(true), first.seed), *first, "and replayed");
}
