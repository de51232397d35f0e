//! `cargo run -p quorate-planted --example hunt -- [SEEDS] [BUG …] [SCENARIO …]`: hunts every planted bug, or those named, within
//! so many seeds of each scenario, or of those named, and writes `planted/table.txt` and
//! `docs/planted-bugs.md` when it hunted all.

use std::fmt::Write as _;
use std::path::Path;

use quorate_core::planted::ALL;
use quorate_scenarios::find;

use crate::hunt::{Found, SEEDS_MAX, hunt, hunt_in};

#[path = "../hunt/mod.rs"]
mod hunt;

fn main() -> std::io::Result<()> {
    let (numbers, only): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|arg| arg.parse::<u64>().is_ok());
    let (places, only): (Vec<String>, Vec<String>) =
        only.into_iter().partition(|name| find(name).is_some());
    let most = numbers.first().and_then(|most| most.parse().ok()).unwrap_or(SEEDS_MAX);
    let mut rows = Vec::new();
    let mut missed = 0;
    for (bug, name, protocol, wrong) in ALL {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
            continue;
        }
        let most = SEEDS_MAX.min(most);
        let found = match &places[..] {
            [] => hunt(*bug, most),
            places => places.iter().find_map(|place| hunt_in(Some(*bug), place, most)),
        };
        match found {
            Some(found) => {
                println!("{name}: seed {} of {}: {}", found.seeds, found.scenario, found.failure);
                rows.push((name, protocol, wrong, found));
            }
            None => {
                println!("{name}: NOT FOUND within {most} seeds");
                missed += 1;
            }
        }
    }
    if only.is_empty() && places.is_empty() && missed == 0 {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        std::fs::write(root.join("planted/table.txt"), table(&rows))?;
        let path = root.join("docs/planted-bugs.md");
        let before = std::fs::read_to_string(&path)?;
        std::fs::write(path, page(&before, &rows))?;
    }
    if missed > 0 {
        return Err(std::io::Error::other(format!("{missed} planted bugs were not found")));
    }
    Ok(())
}

type Row = (&'static &'static str, &'static &'static str, &'static &'static str, Found);

/// One bug a line: name, protocol, scenario, seeds, what is wrong.
fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    for (name, protocol, wrong, Found { scenario, seeds, .. }) in rows {
        let _ = writeln!(text, "{name}\t{protocol}\t{scenario}\t{seeds}\t{wrong}");
    }
    text
}

/// The page with its prose kept: the numbers and the table are written anew.
fn page(before: &str, rows: &[Row]) -> String {
    let mut seeds: Vec<u64> = rows.iter().map(|row| row.3.seeds).collect();
    seeds.sort_unstable();
    let median = seeds.get(seeds.len() / 2).copied().unwrap_or(0);
    let most = seeds.last().copied().unwrap_or(0);
    let count = rows.len();
    let mut text = String::new();
    for line in before.lines().take_while(|line| !line.starts_with("| bug |")) {
        if line.contains(" bugs, the median found by seed ") {
            let _ = writeln!(
                text,
                "{count} bugs, the median found by seed {median}, the last by seed {most}."
            );
        } else {
            let _ = writeln!(text, "{line}");
        }
    }
    text.push_str(
        "| bug | in | what is wrong | found by | seeds | as |\n|---|---|---|---|---|---|\n",
    );
    for (name, protocol, wrong, Found { scenario, seeds, failure }) in rows {
        let kind = format!("{:?}", failure.kind).to_lowercase();
        let protocol = protocol.replace('_', " ");
        let _ =
            writeln!(text, "| `{name}` | {protocol} | {wrong} | `{scenario}` | {seeds} | {kind} |");
    }
    text
}
