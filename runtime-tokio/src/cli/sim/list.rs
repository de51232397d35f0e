//! `quorate sim list`.

use quorate_scenarios::{Named, catalogue};
use serde_json::json;

use super::print;
use crate::control::protocol::Failure;

pub(super) fn run(as_json: bool) -> Result<(), Failure> {
    for Named { name, about, .. } in catalogue() {
        if as_json {
            print(&json!({ "scenario": name, "about": about }).to_string())?;
        } else {
            print(&format!("{name:<20} {about}"))?;
        }
    }
    Ok(())
}
