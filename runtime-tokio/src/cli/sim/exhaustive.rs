//! `quorate sim explore --exhaustive`: every state of a small configuration.

use clap::Args;
use quorate_scenarios::find;
use quorate_scenarios::small::{CONFIGURATIONS, Configuration};
use quorate_sim::explore::small::{Bounds, Ended, Explored, Progress};
use serde_json::{Value, json};

use super::print;
use super::shrink::spinner;
use crate::control::protocol::{Code, Failure};

/// How far to look: what is not given is the configuration's own, with which a search comes to its
/// end.
#[derive(Args, Clone, Debug)]
pub(crate) struct Within {
    /// The longest path
    #[arg(long, value_name = "N", requires = "exhaustive")]
    depth: Option<u32>,
    /// The most states
    #[arg(long, value_name = "N", requires = "exhaustive", value_parser = clap::value_parser!(u32).range(1..))]
    states: Option<u32>,
    /// How many timers may fire on a path
    #[arg(long, value_name = "N", requires = "exhaustive")]
    ticks: Option<u32>,
    /// How many processes may die on a path
    #[arg(long, value_name = "N", requires = "exhaustive")]
    crashes: Option<u32>,
    /// How many messages may be lost on a path
    #[arg(long, value_name = "N", requires = "exhaustive")]
    drops: Option<u32>,
    /// How many messages may arrive twice on a path
    #[arg(long, value_name = "N", requires = "exhaustive")]
    duplicates: Option<u32>,
}

impl Within {
    fn bounds(&self, usual: Bounds) -> Bounds {
        Bounds {
            depth_max: self.depth.unwrap_or(usual.depth_max),
            states_max: self.states.map_or(usual.states_max, u64::from),
            ticks: self.ticks.unwrap_or(usual.ticks),
            crashes: self.crashes.unwrap_or(usual.crashes),
            drops: self.drops.unwrap_or(usual.drops),
            duplicates: self.duplicates.unwrap_or(usual.duplicates),
            ..usual
        }
    }
}

pub(super) fn run(name: &str, within: &Within, as_json: bool) -> Result<(), Failure> {
    let small = configuration(name)?;
    let bar = spinner();
    let mut told = |Progress { depth, states }: &Progress| {
        bar.set_message(format!("{states} states, {depth} deep"));
        bar.tick();
    };
    let found = small.explore(within.bounds(small.bounds), &mut told);
    bar.finish_and_clear();
    if as_json {
        print(&as_value(small, &found).to_string())?;
    } else {
        print(&format!("{}: {}\n{}", small.name, small.about, found.to_string().trim_end()))?;
    }
    match found.violation {
        None => Ok(()),
        Some(violation) => Err(Failure::new(Code::Failed, format!("{name}: {}", violation.reason))),
    }
}

fn configuration(name: &str) -> Result<&'static Configuration, Failure> {
    CONFIGURATIONS.iter().find(|small| small.name == name).ok_or_else(|| {
        let names: Vec<&str> = CONFIGURATIONS.iter().map(|small| small.name).collect();
        let names = names.join(" or ");
        let text = match find(name) {
            Some(_) => format!("`{name}` is too large to look at every state; try {names}"),
            None => format!("there is no small configuration `{name}`, but {names}"),
        };
        Failure::new(Code::NotFound, text)
    })
}

fn as_value(small: &Configuration, found: &Explored) -> Value {
    let Explored { bounds, states, transitions, depth, ended, violation } = found;
    let violation = violation.as_ref().map(|violation| {
        let path = &violation.path;
        json!({ "reason": violation.reason, "path": path })
    });
    json!({
        "scenario": small.name, "states": states, "transitions": transitions, "depth": depth,
        "complete": *ended == Ended::Complete,
        "bounds": {
            "depth": bounds.depth_max, "states": bounds.states_max, "ticks": bounds.ticks,
            "crashes": bounds.crashes, "drops": bounds.drops, "duplicates": bounds.duplicates,
            "ordered": bounds.ordered,
        },
        "violation": violation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_takes_the_place_of_what_is_usual() {
        let within = Within {
            depth: Some(7),
            states: None,
            ticks: Some(1),
            crashes: None,
            drops: None,
            duplicates: None,
        };
        let small = configuration("small_election").unwrap();
        let bounds = within.bounds(small.bounds);
        assert_eq!(bounds, Bounds { depth_max: 7, ticks: 1, ..small.bounds });
        let value = as_value(small, &small.explore(bounds, &mut |_| {}));
        assert_eq!((&value["complete"], &value["bounds"]["ticks"]), (&json!(true), &json!(1)));
        assert!(value["states"].as_u64().unwrap() > 10, "{value}");
        let missing = configuration("swarm").unwrap_err();
        assert!(missing.to_string().contains("try small_election or small_log"), "{missing}");
        let missing = configuration("swarn").unwrap_err();
        assert!(missing.to_string().contains("no small configuration `swarn`"), "{missing}");
    }
}
