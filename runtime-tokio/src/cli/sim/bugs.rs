//! `quorate sim bugs`: the planted bugs, and the seeds that each took.
//!
//! No build of this program contains one: they are hunted in a build of their own, by
//! `cargo run -p quorate-planted --example hunt`, which keeps what it found in the table that is printed here.

use quorate_scenarios::planted;
use serde_json::json;

use super::print;
use crate::control::protocol::Failure;

pub(super) fn run(as_json: bool) -> Result<(), Failure> {
    for bug in planted() {
        if as_json {
            let value = json!({
                "bug": bug.name, "protocol": bug.protocol, "scenario": bug.scenario,
                "seeds": bug.seeds, "wrong": bug.wrong,
            });
            print(&value.to_string())?;
        } else {
            let found = format!("{} in {}", bug.seeds, bug.scenario);
            print(&format!("{:<32} {found:<26} {}", bug.name, bug.wrong))?;
        }
    }
    if !as_json {
        let mut seeds: Vec<u64> = planted().map(|bug| bug.seeds).collect();
        seeds.sort_unstable();
        let (count, most) = (seeds.len(), seeds.last().copied().unwrap_or(0));
        let median = seeds.get(count / 2).copied().unwrap_or(0);
        print(&format!(
            "{count} planted bugs, half of them found within {median} seeds, all within {most}; \
             `cargo run -p quorate-planted --example hunt` hunts them again"
        ))?;
    }
    Ok(())
}
