//! `cargo run -p quorate-planted [SEEDS] [BUG …] [SCENARIO …]`: hunts every planted bug, or those named, within
//! so many seeds of each scenario, or of those named, and writes `planted/table.txt` and
//! `docs/planted-bugs.md` when it hunted all.

use std::fmt::Write as _;
use std::path::Path;

use quorate_core::planted::ALL;
use quorate_planted::{Found, SEEDS_MAX, hunt, hunt_in};
use quorate_scenarios::find;

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
        std::fs::write(root.join("docs/planted-bugs.md"), page(&rows))?;
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

fn page(rows: &[Row]) -> String {
    let mut seeds: Vec<u64> = rows.iter().map(|row| row.3.seeds).collect();
    seeds.sort_unstable();
    let median = seeds.get(seeds.len() / 2).copied().unwrap_or(0);
    let most = seeds.last().copied().unwrap_or(0);
    let mut text = format!(
        "# Planted bugs\n\n\
         Ways in which systems of this kind get their protocols wrong, each planted at one line of `core` and hunted by the\n\
         scenarios. Seeds are counted from 0; the scenario is the one that found the bug soonest. A bug that is not found makes\n\
         the test suite red. Written by `cargo run -p quorate-planted`, which hunts them all again.\n\n\
         {} bugs, the median found by seed {median}, the last by seed {most}.\n\n\
         Not on the list because it does no harm: heeding the answer to an earlier greeting. Such an answer can only come over\n\
         the link of an earlier process of the same peer, whose greeting it then takes for the present one's until the link\n\
         breaks or the peer greets again; a connection of TCP carries nothing of an earlier one. A unit test of `handshake`\n\
         (`ghosts_of_an_earlier_session_change_nothing`) holds the rule. `ticket` is the text of an invitation: it runs in no\n\
         scenario, and has tests of its own.\n\n\
         | bug | in | what is wrong | found by | seeds | as |\n|---|---|---|---|---|---|\n",
        rows.len()
    );
    for (name, protocol, wrong, Found { scenario, seeds, failure }) in rows {
        let kind = format!("{:?}", failure.kind).to_lowercase();
        let protocol = protocol.replace('_', " ");
        let _ =
            writeln!(text, "| `{name}` | {protocol} | {wrong} | `{scenario}` | {seeds} | {kind} |");
    }
    text
}
