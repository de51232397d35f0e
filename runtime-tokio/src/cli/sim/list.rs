//! `quorate sim list`.

use quorate_scenarios::{Named, catalogue};
use serde_json::json;

use super::print;
use crate::control::protocol::Failure;

pub(super) fn run(as_json: bool) -> Result<(), Failure> {
    for Named { name, system, about, .. } in catalogue() {
        if as_json {
            print(&json!({ "scenario": name, "system": system, "about": about }).to_string())?;
        } else {
            print(&format!("{system:<8} {name:<20} {about}"))?;
        }
    }
    Ok(())
}
