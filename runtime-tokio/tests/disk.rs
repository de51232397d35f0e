//! A disk that is full, or that fails: what a command says of it, and how it ends.

mod process;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use process::{Done, Place, packages, quorate};

/// `command` where no file may grow beyond `bytes`, as on a disk with no more room than that.
fn confined(command: Command, bytes: u64) -> Command {
    // POSIX: blocks of 512 bytes. Ignored, the signal becomes an error of the write.
    let script = format!("trap '' XFSZ; ulimit -f {} && exec \"$0\" \"$@\"", bytes / 512);
    let mut sh = Command::new("sh");
    sh.arg("-c").arg(script).arg(command.get_program()).args(command.get_args());
    sh.env_remove("RUST_LOG").env_remove("QUORATE_DATA").stdin(Stdio::null());
    sh
}

/// The file that cannot grow.
fn log_bytes(data: &Path) -> u64 {
    fs::metadata(data.join("log.redb")).unwrap().len()
}

#[test]
fn an_import_on_a_disk_that_fills_ends_as_a_full_disk_does() {
    let lines = tempfile::NamedTempFile::new().unwrap();
    fs::write(lines.path(), packages(8000)).unwrap();
    let import = ["import", lines.path().to_str().unwrap()];
    let mut place = Place::new();
    place.run(&["put", "k", "v"]).ok();
    let room = log_bytes(&place.data) + 4096;
    for _ in 0..3 {
        let output = confined(quorate(&place.data, &import), room).output().unwrap();
        let said = Done::of(&output).refused(6);
        assert!(said.contains("log cannot be"), "{said}");
    }
    place.start_as(|up| confined(up, room));
    let said = place.run(&import).refused(6);
    assert!(said.contains("log cannot be"), "{said}");
    assert_eq!(place.ended(), 6);
    assert_eq!(place.run(&["get", "k"]).ok(), "v");
}
