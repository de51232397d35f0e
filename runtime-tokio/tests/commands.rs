//! The commands of the binary: what they print, and how they end.

mod process;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use process::{Place, packages, quorate};

#[test]
fn values_of_each_type_are_written_and_read_without_a_running_node() {
    let place = Place::new();
    place.run(&["put", "motto", "gutta cavat lapidem"]).ok();
    assert_eq!(place.run(&["get", "motto"]).ok(), "gutta cavat lapidem");
    assert_eq!(place.run_with(&["put", "blob", "-"], b"\xff\x00\n").ok(), "");
    let blob = place.run(&["get", "blob", "--json"]).ok();
    assert_eq!(
        blob,
        "{\"conflict\":false,\"key\":\"blob\",\"type\":\"register\",\"value\":{\"hex\":\"ff000a\"}}\n"
    );
    place.run(&["counter", "add", "n", "5"]).ok();
    place.run(&["counter", "add", "n", "-7"]).ok();
    assert_eq!(place.run(&["get", "n"]).ok(), "-2\n");
    for member in ["x", "y"] {
        place.run(&["set", "add", "s", member]).ok();
    }
    place.run(&["set", "remove", "s", "x"]).ok();
    assert_eq!(place.run(&["get", "s"]).ok(), "y\n");
    let listed = place.run(&["list", "--json", "--from", "c", "--to", "s"]).ok();
    assert_eq!(listed.lines().count(), 2, "motto and n: {listed}");
    assert_eq!(place.run(&["list", "--limit", "1"]).ok().lines().count(), 1);
    place.run(&["delete", "motto"]).ok();
    place.run(&["get", "motto"]).refused(3);
    place.run(&["delete", "motto"]).refused(3);
    let history = place.run(&["history", "motto", "--json"]).ok();
    assert!(history.contains("\"put\"") && history.contains("\"delete\""), "{history}");
    let wrong = place.run(&["set", "add", "n", "x"]).refused(4);
    assert!(wrong.contains("holds a counter"), "{wrong}");
    place.run(&["doctor"]).ok();
}

#[tokio::test]
async fn commands_work_beside_a_running_node_and_after_it() {
    let mut place = Place::up();
    place.run(&["put", "k", "v"]).ok();
    assert_eq!(place.status()["running"], true);
    let second = place.run(&["up", "--listen", "127.0.0.1:0"]).refused(4);
    assert!(second.contains("in use by another quorate process"), "{second}");
    assert_eq!(place.terminate(), 0);
    assert!(!place.data.join("control.sock").exists());
    assert_eq!(place.run(&["get", "k"]).ok(), "v");
    assert_eq!(place.status()["running"], false);
    for args in [&["watch"][..], &["sync"]] {
        let refused = place.run(args).refused(5);
        assert!(refused.contains("no node is running"), "{refused}");
    }
    // After kill -9 the socket is still there, and nobody behind it.
    place.start();
    place.kill();
    assert!(place.data.join("control.sock").exists());
    assert_eq!(place.run(&["get", "k"]).ok(), "v");
    place.start();
    assert_eq!(place.run(&["get", "k"]).ok(), "v");
    place.run(&["sync"]).refused(5);
}

#[test]
fn many_commands_at_once_take_turns() {
    let place = Place::new();
    let children: Vec<_> = (0..8)
        .map(|n| quorate(&place.data, &["counter", "add", "n", &n.to_string()]).spawn().unwrap())
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(place.run(&["get", "n"]).ok(), "28\n");
}

#[test]
fn what_cannot_be_done_is_said_in_one_sentence() {
    let place = Place::new();
    let nowhere = place.data.join("nowhere");
    let run = |args: &[&str]| {
        let output = quorate(&nowhere, args).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = run(&["get", "k"]);
    assert_eq!(code, Some(3));
    assert!(said.contains("quorate up"), "{said}");
    for args in [&["explode"][..], &["put", "k"], &["counter", "add", "n", "many"], &[]] {
        assert_eq!(run(args).0, Some(2), "{args:?}");
    }
    place.run(&["invite", "abc"]).refused(2);
    place.run(&["join", "hello"]).refused(2);
    place.run(&["join", "quorate9abc"]).refused(2);
    place.run(&["remove", "abc"]).refused(3);
    let other = Place::new();
    let nowhere = place.run(&["invite", &other.id]).refused(5);
    assert!(nowhere.contains("does not listen"), "{nowhere}");
    place.run(&["import", "/nonexistent"]).refused(3);
    place.run(&["import", "/"]).refused(2);
    let long = "k".repeat(1025);
    place.run(&["put", &long, "v"]).refused(2);
    let big = vec![b'x'; 300 * 1024];
    place.run_with(&["put", "k", "-"], &big).refused(2);
    for args in [["up", "--listen", "nonsense"], ["up", "--peer", "foo"]] {
        let (code, said) = run(&args);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("a host and a port"), "{said}");
    }
    // No point of the curve has this for its y.
    place.run(&["invite", &format!("02{}", "0".repeat(62))]).refused(2);
    place.run(&["invite", &"0".repeat(64)]).refused(2);
}

#[test]
fn with_json_what_goes_wrong_is_json_too() {
    let place = Place::new();
    let said = |args: &[&str], code: u8| -> serde_json::Value {
        let text = place.run(args).refused(code.into());
        let document: serde_json::Value = serde_json::from_str(&text).expect("one document");
        assert_eq!(document["exit_code"], code);
        document
    };
    assert_eq!(said(&["get", "none", "--json"], 3)["code"], "not_found");
    let error = said(&["--json", "counter", "add", "n", "many"], 2);
    assert!(error["error"].as_str().unwrap().contains("many"), "{error}");
    said(&["--json", "invite", "abc"], 2);
}

#[test]
fn nobody_leaves_by_mistake() {
    let place = Place::new();
    let said = place.run(&["remove", &place.id[..12]]).refused(4);
    assert!(said.contains("--leave"), "{said}");
    let stranger = Place::new().id.clone();
    place.run(&["remove", &stranger]).refused(3);
    place.run(&["remove", &stranger, "--leave"]).refused(2);
    place.run(&["put", "k", "v"]).ok();
    assert!(place.run(&["remove", &place.id, "--leave"]).ok().contains("removed"));
    assert!(place.run(&["remove", &place.id, "--leave"]).ok().contains("before"));
    place.run(&["put", "k", "w"]).refused(4);
}

#[test]
fn the_demo_is_told_in_documents_too() {
    let place = Place::new();
    let told = place.run(&["demo", "--json"]).ok();
    let documents: Vec<serde_json::Value> =
        told.lines().map(|line| serde_json::from_str(line).expect("a document a line")).collect();
    let digests: Vec<_> = documents.iter().filter_map(|of| of.get("digest")).collect();
    assert!(digests.len() == 3 && digests.iter().all(|digest| digest == &digests[0]), "{told}");
    assert!(documents.iter().any(|document| document["step"] == "converged"));
}

#[test]
fn a_taken_port_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let said = Place::new().run(&["up", "--listen", &addr]).refused(7);
    assert!(said.contains(&addr), "{said}");
}

#[test]
fn keys_that_others_may_read_are_refused() {
    let place = Place::new();
    let key = place.data.join("identity.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    for args in [&["id"][..], &["get", "k"], &["up", "--listen", "127.0.0.1:0"]] {
        let said = place.run(args).refused(4);
        assert!(said.contains("chmod 600"), "{said}");
    }
}

#[test]
fn a_bad_line_is_named_and_the_lines_before_it_are_kept() {
    let place = Place::new();
    let done = place.run_with(&["import", "-"], b"{\"key\":\"a\"}\n\n{\"key\":\"b\"}\nnonsense\n");
    assert_eq!(done.code, 2, "{done:?}");
    assert!(done.err.contains("line 4"), "{done:?}");
    assert_eq!(place.run(&["list"]).ok().lines().count(), 2);
    let other = place.run_with(&["import", "--key", "name", "-"], b"{\"key\":\"a\"}\n");
    assert!(other.refused(2).contains("no field `name`"));
}

#[test]
fn what_is_exported_can_be_imported() {
    let (from, to) = (Place::new(), Place::new());
    from.run_with(&["import", "-"], packages(1000).as_bytes()).ok();
    from.run_with(&["put", "odd", "-"], b"\xfe\n").ok();
    let exported = from.run(&["export"]).ok();
    assert_eq!(exported.lines().count(), 1001);
    to.run_with(&["import", "--value", "value", "-"], exported.as_bytes()).ok();
    assert_eq!(to.run(&["export"]).ok(), exported);
}

#[test]
fn a_copied_directory_reads_and_does_not_write_until_it_is_trusted() {
    let place = Place::new();
    place.run(&["put", "k", "v"]).ok();
    let copy = place.copy();
    copy.run(&["get", "k"]).ok();
    let said = copy.run(&["put", "k", "w"]).refused(4);
    assert!(said.contains("--trust-disk"), "{said}");
    assert_eq!(copy.run(&["doctor"]).code, 1);
    copy.run(&["doctor", "--trust-disk"]).ok();
    copy.run(&["put", "k", "w"]).ok();
}

#[tokio::test]
async fn two_nodes_with_one_key_say_so_and_make_no_link() {
    let one = Place::up();
    let mut other = one.copy();
    let listens = one.status()["listens"].as_str().unwrap().to_owned();
    other.start_with(&["--peer", &listens]);
    for place in [&one, &other] {
        let refused = |status: &serde_json::Value| {
            status["closed"]["self_connection"].is_u64()
                && place.log().contains("a copy of its data directory, of which only one may run")
        };
        let status = place.until("the other is refused, and why is said", refused).await;
        assert_eq!(status["links"], 0);
    }
}

#[tokio::test]
async fn a_long_path_does_not_matter() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("d".repeat(120));
    let mut up = quorate(&data, &["up", "--json", "--listen", "127.0.0.1:0"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = std::io::BufReader::new(up.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    let put = quorate(&data, &["put", "k", "v"]).output().unwrap();
    let status = quorate(&data, &["status", "--json"]).output().unwrap();
    up.kill().unwrap();
    up.wait().unwrap();
    assert!(put.status.success(), "{put:?}");
    assert!(String::from_utf8_lossy(&status.stdout).contains("\"running\":true"));
}

#[test]
fn the_shell_runs_a_script_and_ends_as_its_last_command() {
    let place = Place::new();
    let script = b"put k 'a value'\nnonsense\nget k\n";
    let done = place.run_with(&["shell"], script);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("a value") && done.err.contains("nonsense"), "{done:?}");
    assert_eq!(place.run_with(&["shell"], b"get none\n").code, 3);
}

#[test]
fn the_demo_ends_with_equal_digests() {
    let done = Place::new().run(&["demo"]);
    assert!(done.out.contains("Equal."), "{done:?}");
    let digests: Vec<&str> = done
        .out
        .lines()
        .filter_map(|line| line.split_whitespace().last().filter(|word| word.len() == 64))
        .collect();
    assert_eq!(digests.len(), 3, "{done:?}");
    assert!(digests.iter().all(|digest| *digest == digests[0]));
    assert_eq!(done.code, 0);
}

#[test]
fn completions_are_printed() {
    let script = Place::new().run(&["completions", "bash"]).ok();
    assert!(script.contains("counter"));
}

#[test]
fn a_simulated_run_is_drawn_and_written_for_shiviz() {
    let place = Place::new();
    let (page, log) = (place.data.with_extension("html"), place.data.with_extension("log"));
    let [html, shiviz] = [&page, &log].map(|file| file.to_str().expect("a path"));
    let which = ["sim", "replay", "--scenario", "offline_write", "--seed", "3"];
    let told = place.run(&[&which[..], &["--html", html, "--shiviz", shiviz]].concat()).ok();
    assert!(told.contains("everything held") && !told.contains(" Deliver "), "{told}");
    let page = fs::read_to_string(page).expect("the page");
    assert!(page.contains("quorate sim replay --scenario offline_write --seed 3"));
    assert!(page.contains("\"tips\""), "the nodes' states are in it");
    let log = fs::read_to_string(log).expect("the log");
    assert!(log.lines().all(|line| line.starts_with("node") || line.starts_with("simulator")));
    let nowhere = place.run(&[&which[..], &["--html", "/nowhere/run.html"]].concat()).refused(1);
    assert!(nowhere.contains("cannot write /nowhere/run.html"), "{nowhere}");
}

#[test]
fn a_seed_is_replayed_to_a_step_and_walked_through() {
    let place = Place::new();
    let seed = ["sim", "replay", "--scenario", "offline_write", "--seed", "1"];
    let with = |more: &[&'static str]| [&seed[..], more].concat();
    let whole = place.run(&seed).ok();
    assert!(whole.contains("everything held"), "{whole}");
    let here = place.run(&with(&["--until-step", "40", "--node", "2", "--trace"])).ok();
    assert!(here.contains("node 2 starts with 0 records"), "{here}");
    assert!(!here.contains(" node 1 starts") && here.contains("step 40, "), "{here}");
    let script = b"goto 40\nnext\nback\nnode 1\nevents 3\nnonsense\nend\n";
    let walk = place.run_with(&with(&["--interactive"]), script).ok();
    assert!(walk.contains("`nonsense` is not understood"), "{walk}");
    assert!(walk.contains("the end, everything held"), "{walk}");
    let walk = place.run_with(&with(&["--interactive", "--json"]), b"goto 40\n").ok();
    assert!(walk.contains("\"step\":40"), "{walk}");
    place.run(&with(&["--node", "9"])).refused(3);
}

#[test]
fn what_cannot_be_shrunk_or_replayed_says_why() {
    let place = Place::new();
    let shrink = ["sim", "shrink", "--scenario", "offline_write", "--seed", "1"];
    let said = place.run(&shrink).refused(1);
    assert!(said.contains("seed 1 does not fail"), "{said}");
    let file = place.data.with_extension("capsule");
    let file = file.to_str().unwrap();
    place.run(&["sim", "replay", file]).refused(3);
    std::fs::write(file, "quorate capsule 1\nseed seven\n").unwrap();
    let said = place.run(&["sim", "replay", file]).refused(2);
    assert!(said.contains("line 2: "), "{said}");
    std::fs::write(file, [0xff, 0xfe]).unwrap();
    let said = place.run(&["sim", "replay", file]).refused(2);
    assert!(said.contains("no capsule: it is not text"), "{said}");
}
