//! Replays one seed of one scenario: `replay SCENARIO SEED [trace]`.

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let scenario = quorate_scenarios::find(&args[1]).expect("a scenario");
    let seed = args[2].parse().expect("a seed");
    let mesh = quorate_sim::many::prepare(&scenario.build, seed, args.len() > 3);
    let replay = quorate_scenarios::replay(mesh);
    replay.schedule.iter().for_each(|line| println!("{line}"));
    for event in replay.outcome.trace.iter().flatten() {
        println!("{event}");
    }
    replay.nodes.iter().for_each(|line| println!("{line}"));
    println!("{:?}", replay.outcome.result);
}
