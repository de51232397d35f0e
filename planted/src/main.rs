//! `cargo run -p quorate-planted [SEEDS] [NAME …]`: hunts every planted bug, or those named, within so many
//! seeds of each scenario, and writes `planted/table.txt` and `docs/planted-bugs.md` when it hunted all.

use std::fmt::Write as _;
use std::path::Path;

use quorate_core::planted::ALL;
use quorate_planted::{Found, SEEDS_MAX, hunt};

fn main() -> std::io::Result<()> {
    let (numbers, only): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|arg| arg.parse::<u64>().is_ok());
    let most = numbers.first().and_then(|most| most.parse().ok()).unwrap_or(SEEDS_MAX);
    let mut rows = Vec::new();
    let mut missed = 0;
    for (bug, name, protocol, wrong) in ALL {
        if !only.is_empty() && !only.iter().any(|wanted| wanted == name) {
            continue;
        }
        match hunt(*bug, SEEDS_MAX.min(most)) {
            Some(found) => {
                println!("{name}: seed {} of {}: {}", found.seeds, found.scenario, found.failure);
                rows.push((name, protocol, wrong, found));
            }
            None => {
                println!("{name}: NOT FOUND within {SEEDS_MAX} seeds of any scenario");
                missed += 1;
            }
        }
    }
    if only.is_empty() && missed == 0 {
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
         Known ways to get it wrong that no scenario finds yet, and so not on the list: promising before the promise is durable,\n\
         counting a leader's own copy before it is durable, committing an older leader's entries by counting them, forgetting\n\
         at a restart whom one had answered, changing members twice at once, links of a run not compared, a batch's signatures\n\
         not checked, the second story of a fork dropped, parked entries looked at once, backoff without a bound, a greeting\n\
         that is never repeated, an answer to an earlier greeting heeded, changes by a cut that watchers do not hear of.\n\n\
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
