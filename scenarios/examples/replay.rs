//! Replays one seed of one scenario: `replay SCENARIO SEED [trace]`.

use quorate_scenarios::{Keep, Start, find};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let scenario = find(&args[1]).expect("a scenario");
    let seed = args[2].parse().expect("a seed");
    let keep = if args.len() > 3 { Keep::Events } else { Keep::Outcome };
    let replay = scenario.trial.replay(&Start::Seed(seed), keep).expect("a seed can be run");
    replay.schedule.iter().for_each(|line| println!("{line}"));
    for event in replay.outcome.trace.iter().flatten() {
        println!("{event}");
    }
    replay.nodes.iter().for_each(|line| println!("{line}"));
    println!("{:?}", replay.outcome.result);
}
