//! Writes the seeds of the fuzz targets into `fuzz/seeds`.

use std::fs;
use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let mut bytes = 0;
    let seeds = quorate_tests::seeds::all();
    for seed in &seeds {
        let folder = root.join(seed.target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(&seed.name), &seed.bytes)?;
        bytes += seed.bytes.len();
    }
    println!("{} seeds, {bytes} bytes", seeds.len());
    Ok(())
}
