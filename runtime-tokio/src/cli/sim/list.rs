//! `quorate sim list`.

use quorate_scenarios::small::CONFIGURATIONS;
use quorate_scenarios::{Named, catalogue};
use serde_json::json;

use super::{NAME_WIDTH, SMALL, print};
use crate::control::protocol::Failure;

pub(super) fn run(as_json: bool) -> Result<(), Failure> {
    let named = catalogue().map(|Named { name, system, about, .. }| (*name, *system, *about));
    let small = CONFIGURATIONS.iter().map(|small| (small.name, SMALL, small.about));
    for (name, system, about) in named.chain(small) {
        if as_json {
            print(&json!({ "scenario": name, "system": system, "about": about }).to_string())?;
        } else {
            print(&format!("{system:<8} {name:<NAME_WIDTH$} {about}"))?;
        }
    }
    Ok(())
}
