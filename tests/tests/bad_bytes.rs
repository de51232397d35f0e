//! Every decoder against its seeds, whole, cut off, with flipped bits, and against noise.

use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;
use quorate_tests::decoders::{TARGETS, Target};
use quorate_tests::hostile::hostile;
use quorate_tests::seeds::{self, Seed};

fn seeds_of(target: &Target) -> Vec<Seed> {
    seeds::all().into_iter().filter(|seed| seed.target == target.name).collect()
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds")
}

#[test]
fn every_decoder_accepts_its_seeds() {
    for target in TARGETS {
        let seeds = seeds_of(target);
        assert!(!seeds.is_empty(), "{} has seeds", target.name);
        for seed in seeds {
            assert!((target.run)(&seed.bytes), "{} refuses {}", target.name, seed.name);
        }
    }
}

/// What was found once is tried again each time.
#[test]
fn every_kept_input_is_tried() {
    let run = |name: &str| match TARGETS.iter().find(|target| target.name == name) {
        Some(target) => target.run,
        None => hostile as fn(&[u8]) -> bool,
    };
    let mut tried = 0;
    for folder in fs::read_dir(folder()).expect("the folder of seeds").flatten() {
        let name = folder.file_name().into_string().expect("a plain name");
        for file in fs::read_dir(folder.path()).expect("a folder of seeds").flatten() {
            let bytes = fs::read(file.path()).expect("a file of seeds");
            // Whether it is accepted or not: it does not panic.
            let _ = run(&name)(&bytes);
            tried += 1;
        }
    }
    assert!(tried >= TARGETS.len(), "{tried} inputs were there");
}

#[test]
fn what_is_cut_off_is_refused() {
    for target in TARGETS.iter().filter(|target| target.name != "frames") {
        for seed in seeds_of(target) {
            for cut in 0..seed.bytes.len() {
                let accepted = (target.run)(&seed.bytes[..cut]);
                assert!(!accepted, "{} accepts {} cut at {cut}", target.name, seed.name);
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_refused_or_means_something_else() {
    for target in TARGETS {
        for seed in seeds_of(target) {
            for bit in 0..seed.bytes.len() * 8 {
                let mut bytes = seed.bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let accepted = (target.run)(&bytes);
                // Letters may change their case in a ticket.
                let same = target.name == "ticket" && bytes.eq_ignore_ascii_case(&seed.bytes);
                let fine = !accepted || !target.authentic || same;
                assert!(fine, "{} accepts {} with bit {bit} flipped", target.name, seed.name);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn noise_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        for target in TARGETS {
            let accepted = (target.run)(&bytes);
            prop_assert!(!accepted || !target.authentic, "{} accepts noise", target.name);
        }
    }

    #[test]
    fn a_hostile_peer_breaks_nothing(program in proptest::collection::vec(any::<u8>(), 0..800)) {
        let _ = hostile(&program);
    }
}
