//! Every scenario over many seeds. `QUORATE_SEEDS=N` runs N of each instead; a failing one is printed
//! as the one command that replays it.

use quorate_scenarios::{Keep, Start, catalogue, find};
use quorate_sim::Options;

/// Seeds of each scenario in an ordinary `cargo test`; of those of fleets and clusters, which take
/// longer, fewer.
const SEEDS: u64 = 40;
const SEEDS_OF_LONG_ONES: u64 = 30;

#[allow(clippy::disallowed_methods, reason = "how many seeds, not what one does")]
fn seeds(usual: u64) -> u64 {
    let wanted = std::env::var("QUORATE_SEEDS").ok();
    wanted.map_or(usual, |wanted| wanted.parse().expect("QUORATE_SEEDS is a number"))
}

fn run(name: &str) {
    let scenario = find(name).expect("a scenario of this name");
    let long = matches!(scenario.system, "cluster" | "fleet");
    let usual = if long { SEEDS_OF_LONG_ONES } else { SEEDS };
    let report = scenario.trial.many(0..seeds(usual), Options::default(), &|| ());
    println!("{name}: {report}");
    report.assert_ok(|seed| {
        format!("cargo run --release -- sim replay --scenario {name} --seed {seed}")
    });
    let unreached = report.unreached(scenario.marks);
    assert!(unreached.is_empty(), "no seed of {name} reached {unreached:?}");
}

/// Seeds that failed once, farther out than an ordinary run goes: a late "not proposed" taken for another
/// attempt's, a member that forgot what it had acknowledged when it was removed and added again, a former
/// witness without its data, a lease too short for a slow network, an entry of one's own that waits elsewhere.
#[test]
fn what_failed_once_holds() {
    let seeds = [
        ("lying_sync", 968),
        ("cluster", 123),
        ("cluster", 229),
        ("cluster_deaf_leader", 118),
        ("cluster_mute_leader", 118),
        ("cluster_members", 79),
        ("cluster_members", 92),
        ("cluster_members", 133),
    ];
    for (name, seed) in seeds {
        let trial = find(name).expect("a scenario of this name").trial;
        let replay = trial.replay(&Start::Seed(seed), Keep::Outcome).expect("a seed can be run");
        assert_eq!(replay.outcome.result, Ok(()), "{name} {seed}");
    }
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test] fn $name() { run(stringify!($name)); })*

        #[test]
        fn none_is_left_out() {
            let names: Vec<&str> = catalogue().map(|scenario| scenario.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

scenarios! {
    swarm offline_write chain halves crash_in_sync lost_pushes lost_pages split_brain everybody
    long_absence delete_in_partition skewed_clocks equivocation old_copy bit_rot flood
    removed_author broken_signature invitations joining purge deep_rot cite_nothing wiped strangers
    forgery told_twice unresponsive many_chains two_histories two_removals
    continents lying_sync misdirected

    voters leader_cut quorum_loss constrained chained deaf_leader mute_leader flapping_link
    a_fifth_lost crashes all_restart slow_disk stalled_disk hung_leader transfers witness far_behind
    drift_within drift_beyond voters_change_cut voters_change untrue_clocks bound_voter slow_leader
    old_entries two_changes

    fleet three_of_five two_then_three wrong_network bad_hash restarts split_hashes replays
    bad_carriers parted two_faced forged_reports lost_reports broken_release broken_again
    taken_back heirs deadline clocks

    cluster cluster_leader_cut cluster_quorum_loss cluster_constrained cluster_chained
    cluster_deaf_leader cluster_mute_leader cluster_flapping_link cluster_a_fifth_lost
    cluster_last_append cluster_restarts cluster_members cluster_far_behind cluster_witness
    cluster_full_disks cluster_slow_disks hand_overs step_downs many_candidates
    leases_at_the_bound leases_beyond_the_bound paused_holders late_releases hung_holders
    cluster_watchers
}
