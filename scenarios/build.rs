//! The machine fingerprint: a hash over all sources that decide what a seed does. Capsules carry it, so
//! that a replay can say whether the code is the same.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The crates whose sources count.
const CRATES: [&str; 4] = ["machine", "core", "sim", "scenarios"];

fn main() {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the crate is");
    let above = &mut Path::new(&manifest).ancestors();
    let workspace =
        above.find(|at| at.join("machine/src").is_dir()).expect("a crate of a workspace");
    let mut hash = FNV_OFFSET;
    for name in CRATES {
        let root = workspace.join(name).join("src");
        println!("cargo::rerun-if-changed={}", root.display());
        let mut files = Vec::new();
        collect(&root, &mut files);
        files.sort();
        for file in files {
            let place = file.strip_prefix(workspace).expect("found below it");
            let text = fs::read(&file).expect("a source can be read");
            mix(&mut hash, place.to_string_lossy().as_bytes());
            mix(&mut hash, &text.len().to_le_bytes());
            mix(&mut hash, &text);
        }
    }
    println!("cargo::rustc-env=QUORATE_MACHINE_FINGERPRINT={hash:016x}");
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// FNV-1a: it tells one state of the sources from another, and nobody attacks it.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

fn mix(hash: &mut u64, bytes: &[u8]) {
    for byte in bytes {
        *hash = (*hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
    }
}
