//! Three nodes as real processes: import, invitation, kill -9 in the middle of a sync, and a node that
//! joins while the founder is down.

mod process;

use process::{Place, packages};
use quorate_core::transfer::{PAGE_BYTES, WINDOW};

const ENTRIES: u64 = 20_000;
/// What a sync may cost beyond the entries it transfers: greetings, heartbeats and frontiers; and where
/// both ends begin a sync at once, the pages that are on their way when the second one finds the
/// difference are sent twice.
const OVERHEAD_BYTES: u64 = 200_000 + 2 * (WINDOW * PAGE_BYTES) as u64;

fn number(status: &serde_json::Value, name: &str) -> u64 {
    status[name].as_u64().unwrap_or_else(|| panic!("{name} in {status:#}"))
}

/// A member that was killed while it had a part of the store; and how much of it is on its disk.
async fn killed_in_the_middle(founder: &Place, total: u64) -> (Place, u64) {
    for _ in 0..10 {
        let mut place = Place::up();
        founder.admit(&place);
        place.until("a good part", |status| number(status, "entries") > total / 4).await;
        place.kill();
        let held = number(&place.status(), "entries");
        if held < total {
            return (place, held);
        }
    }
    panic!("every sync was over before it could be cut");
}

#[tokio::test]
async fn a_sync_that_was_killed_goes_on_where_it_was_and_a_third_node_needs_no_founder() {
    let mut ada = Place::up();
    let imported = ada.run_with(&["import", "-"], packages(ENTRIES as usize).as_bytes()).ok();
    assert_eq!(imported, format!("imported {ENTRIES} entries\n"));

    let (mut ben, held) = killed_in_the_middle(&ada, ENTRIES).await;
    assert!(held > ENTRIES / 4, "it had a part");
    let founder = ada.status();
    let total = number(&founder, "entries");
    let digest = founder["digest"].clone();
    // Only what Ada sent to this one counts below.
    ben.start();
    let whole = |status: &serde_json::Value| status["digest"] == digest;
    let again = ben.until("Ben holds what Ada holds", whole).await;
    assert_eq!(number(&again, "entries"), total);
    assert_eq!(again["standing"], "active");

    let mut cai = Place::new();
    let ticket = ada.run(&["invite", &cai.id]).ok();
    let invited = ada.status()["digest"].clone();
    ben.until("Ben heard of it", |status| status["digest"] == invited).await;
    ada.kill();
    let from_ben = ben.run(&["invite", &cai.id]).ok();
    assert_ne!(ticket, from_ben, "each names itself first");
    cai.start();
    cai.run(&["join", from_ben.trim()]).ok();
    let third = cai.until("Cai holds it too", |status| status["digest"] == invited).await;
    assert_eq!(number(&third, "links"), 1, "with Ben alone");

    // What a whole store costs in bytes is what Cai received; Ben, after his restart, paid for the
    // missing part.
    let (all, rest) = (number(&third, "bytes_in"), number(&again, "bytes_in"));
    let missing = all * (total - held) / total;
    assert!(
        rest <= missing + OVERHEAD_BYTES,
        "{rest} bytes for {} of {total} entries; all of them cost {all}",
        total - held
    );

    ada.start();
    ada.synced().await;
    for (place, name) in [(&ada, "Ada"), (&ben, "Ben"), (&cai, "Cai")] {
        place.until(name, |status| status["digest"] == invited).await;
        let exported = place.run(&["export"]).ok();
        assert_eq!(exported.lines().count() as u64, ENTRIES, "{name}");
    }
}

#[tokio::test]
async fn a_newcomer_takes_the_store_from_whom_its_operator_names() {
    let mut ada = Place::up();
    ada.run(&["put", "colour", "green"]).ok();
    let (ben, mut cai) = (Place::up(), Place::new());
    let ticket = ada.run(&["invite", &cai.id]).ok();
    ada.admit(&ben);
    let digest = ada.status()["digest"].clone();
    ben.until("Ben holds what Ada holds", |status| status["digest"] == digest).await;
    ada.kill();
    // The ticket names Ada alone, who is gone.
    cai.start_with(&["--peer", &ben.listens()]);
    cai.run(&["join", ticket.trim()]).ok();
    cai.until("Cai holds it too", |status| status["digest"] == digest).await;
    cai.run(&["put", "shape", "round"]).ok();
    ben.until("Cai may write", |_| ben.run(&["get", "shape"]).out == "round").await;
}

#[tokio::test]
async fn members_write_apart_and_merge_and_a_removed_one_is_cut_off() {
    let (mut ada, ben) = (Place::up(), Place::up());
    ada.admit(&ben);
    ben.until("Ben is a member", |status| status["standing"] == "active").await;
    ada.run(&["put", "colour", "green"]).ok();
    ben.synced().await;
    assert_eq!(ben.run(&["get", "colour"]).ok(), "green");

    assert_eq!(ada.terminate(), 0);
    ada.run(&["put", "colour", "red"]).ok();
    ada.run(&["counter", "add", "visits", "2"]).ok();
    ben.run(&["put", "colour", "blue"]).ok();
    ben.run(&["counter", "add", "visits", "40"]).ok();
    ada.start();
    let visits = |place: &Place| place.run(&["get", "visits"]).out;
    ada.until("both additions", |_| visits(&ada) == "42\n" && visits(&ben) == "42\n").await;
    assert_eq!(ada.status()["digest"], ben.status()["digest"]);

    let (at_ada, at_ben) = (ada.run(&["get", "colour"]), ben.run(&["get", "colour"]));
    assert_eq!(at_ada.out, at_ben.out, "one winner");
    assert!(at_ada.err.contains("conflict"), "{at_ada:?}");
    let heads = ben.run(&["heads", "colour", "--json"]).ok();
    assert_eq!(heads.lines().count(), 2, "{heads}");
    ada.run(&["put", "colour", "violet"]).ok();
    ada.synced().await;
    let settled = ben.run(&["get", "colour"]);
    assert_eq!((&settled.out[..], &settled.err[..]), ("violet", ""));

    let refused = ben.run(&["remove", &ada.id[..12]]).refused(4);
    assert!(refused.contains("nearer the founder"), "{refused}");
    ada.run(&["remove", &ben.id[..12]]).ok();
    ada.until("Ben is gone", |status| status["links"] == 0).await;
    ben.until("Ben knows", |status| status["links"] == 0).await;
    ada.run(&["put", "after", "1"]).ok();
    ben.run(&["get", "after"]).refused(3);
    // A node that was removed is told so when it writes, or writes in vain.
    let late = ben.run(&["put", "late", "1"]);
    assert!(late.code == 0 || late.code == 4, "{late:?}");
    ada.run(&["get", "late"]).refused(3);
}

#[tokio::test]
async fn a_watch_shows_the_state_and_then_the_changes() {
    use std::io::{BufRead, BufReader};
    let ada = Place::up();
    ada.run(&["put", "a/1", "one"]).ok();
    ada.run(&["put", "b/1", "other"]).ok();
    let mut watch = process::quorate(&ada.data, &["watch", "a/", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut next = || -> serde_json::Value {
        serde_json::from_str(&lines.next().expect("one more line").unwrap()).unwrap()
    };
    let now = next();
    assert_eq!(
        (&now["event"], &now["key"], &now["value"]),
        (&"now".into(), &"a/1".into(), &"one".into())
    );
    assert_eq!(next()["event"], "live");
    ada.run(&["set", "add", "a/2", "x"]).ok();
    ada.run(&["put", "b/2", "unseen"]).ok();
    ada.run(&["delete", "a/1"]).ok();
    let (set, gone) = (next(), next());
    assert_eq!((&set["event"], &set["value"]), (&"changed".into(), &serde_json::json!(["x"])));
    assert_eq!((&gone["event"], &gone["key"]), (&"deleted".into(), &"a/1".into()));
    watch.kill().unwrap();
    watch.wait().unwrap();
    ada.until("the watch is forgotten", |status| status["watches"] == 0).await;
}

/// Copies a data directory as a backup program does.
fn copy(from: &std::path::Path, to: &std::path::Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

#[tokio::test]
async fn a_node_restored_from_a_backup_learns_what_it_lacks_before_it_writes() {
    let (ada, mut ben) = (Place::up(), Place::up());
    ada.admit(&ben);
    ben.until("Ben is a member", |status| status["standing"] == "active").await;
    ben.run(&["put", "before", "the backup"]).ok();
    ben.terminate();
    let backup = ben.data.with_extension("backup");
    copy(&ben.data, &backup);
    ben.start();
    ben.run(&["put", "after", "the backup"]).ok();
    ben.synced().await;
    ben.kill();

    std::fs::remove_dir_all(&ben.data).unwrap();
    copy(&backup, &ben.data);
    let refused = ben.run(&["put", "too", "early"]).refused(4);
    assert!(refused.contains("quorate up"), "{refused}");
    ben.start();
    ben.until("Ben writes again", |status| status["writable"] == true).await;
    assert_eq!(ben.run(&["get", "after"]).ok(), "the backup", "fetched from Ada");
    ben.run(&["put", "again", "at last"]).ok();
    ben.synced().await;
    for place in [&ada, &ben] {
        let status = place.status();
        assert_eq!(status["forks"], serde_json::json!([]));
        assert_eq!(status["digest"], ada.status()["digest"]);
    }
    // It is trusted again for good.
    let trusted = |_: &serde_json::Value| ben.data.join("instance").exists();
    ben.until("the directory is trusted", trusted).await;
    ben.kill();
    ben.run(&["put", "and", "offline"]).ok();
}

#[tokio::test]
async fn strangers_and_garbage_are_counted_and_others_served() {
    use std::io::{Read, Write};
    let (ada, ben) = (Place::up(), Place::up());
    let listens = ada.status()["listens"].as_str().unwrap().to_owned();
    let mut garbage = std::net::TcpStream::connect(&listens).unwrap();
    garbage.write_all(&[0x55; 4096]).unwrap();
    // Whatever is answered, the connection ends.
    let _ = garbage.read_to_end(&mut Vec::new());
    let counted = |status: &serde_json::Value| status["closed"]["handshake_failed"] == 1;
    ada.until("the garbage is counted", counted).await;

    // A node with a ticket and without an invitation.
    let other = Place::new();
    let ticket = ada.run(&["invite", &other.id]).ok();
    ben.run(&["join", ticket.trim()]).ok();
    let refused = |status: &serde_json::Value| {
        let reasons = status["disconnected"].as_object().unwrap();
        reasons.keys().any(|reason| reason.starts_with("refused"))
    };
    ada.until("the stranger is refused", refused).await;
    ada.run(&["put", "k", "v"]).ok();
    assert_eq!(ben.status()["entries"], 0);
}
