//! Draws one seed of one scenario: `picture SCENARIO SEED FILE`.

fn main() -> std::io::Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let scenario = quorate_scenarios::find(&args[1]).expect("a scenario");
    let replay = quorate_scenarios::replay(scenario, args[2].parse().expect("a seed"), true);
    eprintln!("{} events", replay.outcome.trace.iter().flatten().count());
    std::fs::write(&args[3], replay.html(scenario))
}
