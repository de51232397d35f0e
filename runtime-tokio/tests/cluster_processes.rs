//! A cluster of three real processes: the registry, locks and leaders through kills, and what is said
//! when there is no quorum.

mod process;

use std::io::{BufRead, BufReader, Lines, Read};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use process::{Place, quorate};
use serde_json::{Value as Json, json};

/// Says under which grant it runs, and goes on until its input ends. What it has started would keep its
/// output open.
const WORK: &str = "sleep 1000 & echo $QUORATE_NAME $QUORATE_TOKEN $QUORATE_LEASE; cat; kill $!";

/// Three nodes, one mesh, one cluster.
fn three() -> [Place; 3] {
    let [ada, ben, cai] = [Place::up(), Place::up(), Place::up()];
    ada.admit(&ben);
    ada.admit(&cai);
    let made = ada.json(&["cluster", "init"]);
    assert!(made["cluster"].is_string(), "{made}");
    for other in [&ben, &cai] {
        let seated = ada.json(&["cluster", "add", &other.id[..12]]);
        assert_eq!((&seated["node"], &seated["seat"]), (&json!(other.id), &json!("voter")));
    }
    [ada, ben, cai]
}

impl Place {
    /// What a command answers in one document.
    fn json(&self, args: &[&str]) -> Json {
        let said = self.run(&[args, &["--json"]].concat()).ok();
        serde_json::from_str(&said).expect("one document")
    }

    fn put(&self, key: &str, value: &str) -> u64 {
        self.json(&["reg", "put", key, value])["revision"].as_u64().unwrap()
    }

    /// What goes wrong, as a document.
    fn refusal(&self, args: &[&str], code: i32) -> Json {
        let said = self.run(&[args, &["--json"]].concat()).refused(code);
        serde_json::from_str(&said).expect("one document")
    }
}

/// Puts first who leads the cluster, once somebody does.
async fn leader_first(places: &mut [Place; 3]) {
    loop {
        let status = places[0].json(&["cluster", "status"]);
        if let Some(at) = places.iter().position(|place| status["leader"] == json!(place.id)) {
            places.swap(0, at);
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// A command that runs beside the test.
struct Beside {
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Beside {
    fn start(place: &Place, args: &[&str]) -> Beside {
        let mut command = quorate(&place.data, args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        Beside { child, input, lines: BufReader::new(output).lines() }
    }

    /// Holds a lock and does [`WORK`] meanwhile.
    fn lock(place: &Place, args: &[&str]) -> Beside {
        Beside::start(place, &[&["lock"][..], args, &["--", "sh", "-c", WORK]].concat())
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("one more line").unwrap()
    }

    fn document(&mut self) -> Json {
        serde_json::from_str(&self.line()).expect("a document")
    }

    /// The token under which it works, once it does.
    fn token(&mut self) -> u64 {
        let line = self.line();
        let words: Vec<&str> = line.split(' ').collect();
        assert_eq!(words.len(), 3, "{line}");
        words[1].parse().unwrap()
    }

    /// Lets it end: the exit code, and what was said.
    fn ended(mut self) -> (i32, String) {
        drop(self.input.take());
        self.stopped()
    }

    /// It ends although its input does not, and with it everything that its command has started.
    fn stopped(mut self) -> (i32, String) {
        assert_eq!(self.lines.by_ref().count(), 0, "nothing more is said");
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code().unwrap_or(-1), said)
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(
            std::process::Command::new("kill").args([signal, &pid]).status().unwrap().success()
        );
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_one_node_writes_all_read_and_conditions_are_kept() {
    let [ada, ben, cai] = three();
    let first = ada.put("colour", "green");
    let mut watch = Beside::start(&cai, &["reg", "watch", "co", "--json"]);
    let now = watch.document();
    assert_eq!((&now["event"], &now["value"]), (&json!("now"), &json!("green")));
    assert_eq!(watch.document()["event"], "live");

    let read = ben.run(&["reg", "get", "colour"]);
    assert_eq!(
        (&read.out[..], read.err.trim()),
        ("green", &*format!("revision {first}, version 1"))
    );
    let second = ben.json(&["reg", "put", "colour", "red", "--prev-revision", &first.to_string()]);
    let second = second["revision"].as_u64().unwrap();
    assert!(second > first);
    let stale = cai.refusal(&["reg", "put", "colour", "x", "--prev-revision", "1"], 8);
    assert_eq!((&stale["code"], &stale["current"]), (&json!("stale"), &json!(second)));
    let stale = cai.run(&["reg", "put", "colour", "x", "--prev-revision", "0"]).refused(8);
    assert!(stale.contains(&format!("its revision is {second} now")), "{stale}");

    let swapped = cai.json(&["reg", "cas", "colour", "red", "blue"]);
    assert_eq!(swapped["version"], 3);
    let said = ada.run(&["reg", "cas", "colour", "red", "pink"]).refused(8);
    assert!(said.contains("holds another value: `blue`"), "{said}");
    ada.run(&["reg", "cas", "none", "", "x"]).refused(8);

    let txn = [
        "reg",
        "txn",
        "--if",
        "value colour = blue",
        "--then",
        "put size 7",
        "--then",
        "delete colour",
        "--else",
        "get colour",
    ];
    let done = ada.json(&txn);
    assert_eq!(done["held"], true);
    let not_held = ben.run(&txn);
    assert_eq!(not_held.code, 8, "{not_held:?}");
    assert!(not_held.out.contains("did not hold"), "{not_held:?}");

    let seen: Vec<Json> = std::iter::repeat_with(|| watch.document()).take(3).collect();
    let events: Vec<&Json> = seen.iter().map(|of| &of["event"]).collect();
    assert_eq!(events, ["put", "put", "deleted"]);
    assert_eq!((&seen[0]["revision"], &seen[0]["value"]), (&json!(second), &json!("red")));

    // From a revision on, what has been is told again.
    let mut again =
        Beside::start(&ben, &["reg", "watch", "--key", "colour", "--json", "--from", "1"]);
    assert_eq!(again.document()["event"], "live");
    assert_eq!(again.document()["revision"], first);
    ben.run(&["reg", "get", "colour"]).refused(3);
    ben.run(&["reg", "delete", "colour"]).refused(3);
    let listed = cai.run(&["reg", "list"]).ok();
    assert!(listed.contains("size") && listed.lines().count() == 2, "{listed}");

    let lease = ada.json(&["reg", "lease", "grant", "--ttl", "1h"])["lease"].to_string();
    ada.run(&["reg", "put", "here", "ada", "--lease", &lease]).ok();
    ben.run(&["reg", "lease", "keep-alive", &lease]).ok();
    ben.run(&["reg", "lease", "revoke", &lease]).ok();
    cai.run(&["reg", "get", "here"]).refused(3);
    cai.run(&["reg", "lease", "keep-alive", &lease]).refused(3);
    cai.run(&["reg", "put", "k", "v", "--lease", &lease]).refused(3);
}

#[test]
fn a_lock_has_one_holder_and_each_a_higher_token() {
    let [ada, ben, cai] = three();
    let mut first = Beside::lock(&ada, &["jobs"]);
    let old = first.token();
    let fence = |token: u64| format!("jobs:{token}");
    ben.run(&["reg", "put", "job", "1", "--fence", &fence(old)]).ok();
    let said = ben.run(&["lock", "jobs", "--wait", "300ms", "--", "true"]);
    assert_eq!(said.code, 10, "{said:?}");
    assert!(said.err.contains(&format!("{} holds it, token {old}", &ada.id[..10])), "{said:?}");

    let mut second = Beside::lock(&ben, &["jobs"]);
    let (code, said) = first.ended();
    assert_eq!((code, &said[..]), (0, ""));
    let new = second.token();
    assert!(new > old);
    let stale = ada.refusal(&["reg", "put", "job", "2", "--fence", &fence(old)], 11);
    assert_eq!((&stale["code"], &stale["current"]), (&json!("old_token"), &json!(new)));
    ada.run(&["reg", "put", "job", "2", "--fence", &fence(new)]).ok();

    // A signal is the command's; its end is ours, and the lock is free at once.
    second.signal("-TERM");
    let (code, said) = second.stopped();
    assert_eq!(code, 128 + 15, "{said}");
    cai.run(&["lock", "jobs", "--wait", "0s", "--", "sh", "-c", "exit 7"]).ended_silently(7);
    let stale = ada.refusal(&["reg", "delete", "job", "--fence", &fence(new)], 11);
    assert_eq!(stale["current"], Json::Null, "nobody holds it");
    let said = cai.run(&["lock", "jobs", "--", "/nonexistent/command"]).refused(3);
    assert!(said.contains("cannot run"), "{said}");
    cai.run(&["stepdown", "jobs"]).refused(3);
    cai.run(&["wait-leader", "jobs", "--timeout", "50ms"]).refused(10);
}

#[tokio::test]
async fn a_leader_whose_node_is_killed_is_followed_by_the_next() {
    let mut places = three();
    // The cluster's leader goes together with the name's.
    leader_first(&mut places).await;
    let [ben, cai, ada] = &mut places;
    let mut first = Beside::start(
        ben,
        &["leader", "boss", "--ttl", "1s", "--value", "at ben", "--run", "sh", "-c", WORK],
    );
    let old = first.token();
    let second = ["leader", "boss", "--ttl", "1s", "--json"];
    let mut second = Beside::start(cai, &second);
    assert_eq!(second.document()["event"], "waiting");
    let leader = ada.json(&["wait-leader", "boss"]);
    assert_eq!((&leader["node"], &leader["value"]), (&json!(ben.id), &json!("at ben")));

    ben.kill();
    let (code, said) = first.stopped();
    assert_eq!(code, 9, "{said}");
    assert!(said.contains(&format!("lost `boss` (token {old})")), "{said}");
    let holding = second.document();
    assert_eq!(holding["event"], "holding");
    assert!(holding["token"].as_u64().unwrap() > old, "{holding}");
    ada.put("after", "the kill");

    // It comes back, knows what it missed, and waits for its turn.
    ben.start();
    assert_eq!(ben.json(&["reg", "get", "after"])["value"], "the kill");
    let mut third =
        Beside::start(ben, &["leader", "boss", "--ttl", "1s", "--run", "sh", "-c", WORK]);
    let mut fourth = Beside::start(ada, &["leader", "boss", "--priority", "9", "--json"]);
    assert_eq!(fourth.document()["event"], "waiting");
    let done = ada.json(&["stepdown", "boss", "--to", &ben.id[..12]]);
    assert_eq!(done["next"]["node"], json!(ben.id), "although another has a higher priority");
    let (code, said) = second.stopped();
    assert_eq!(code, 9);
    assert!(said.contains("\"loss\":\"stepped_down\""), "{said}");
    assert!(third.token() > holding["token"].as_u64().unwrap());
    assert_eq!(third.ended().0, 0);
    assert_eq!(fourth.document()["event"], "holding");
    // Without a command it leads until it is told to end.
    fourth.signal("-INT");
    assert_eq!(fourth.stopped().0, 0);
}

#[tokio::test]
async fn without_a_quorum_every_command_says_why_and_a_restart_keeps_all() {
    let mut places = three();
    let revision = places[0].put("kept", "for ever");
    let mut held = Beside::lock(&places[1], &["once", "--ttl", "1s"]);
    let old = held.token();
    assert_eq!(held.ended().0, 0);
    let [ada, ben, cai] = &mut places;
    ben.kill();
    cai.kill();
    for args in [
        &["reg", "put", "k", "v", "--timeout", "300ms"][..],
        &["reg", "get", "kept", "--timeout", "300ms"],
        &["reg", "list", "--timeout", "300ms"],
        &["stepdown", "once", "--timeout", "300ms"],
        &["wait-leader", "once", "--timeout", "300ms"],
    ] {
        let said = ada.refusal(args, 5);
        let other = |id: &String| said["unreachable"].as_array().unwrap().contains(&json!(id));
        assert!(said["outcome"] == "unknown" || (other(&ben.id) && other(&cai.id)), "{said}");
    }
    let said = ada.run(&["lock", "once", "--wait", "0s", "--", "true"]).refused(5);
    assert!(said.contains(&ben.id[..10]) && said.contains(&cai.id[..10]), "{said}");
    assert_eq!(ada.run(&["reg", "get", "kept", "--local"]).ok(), "for ever");
    let status = ada.run(&["cluster", "status"]).ok();
    assert_eq!(status.matches("not reached").count(), 2, "{status}");

    ada.kill();
    for place in &mut places {
        place.start();
    }
    for place in &places {
        let read = place.json(&["reg", "get", "kept"]);
        assert_eq!((&read["value"], &read["mod_revision"]), (&json!("for ever"), &json!(revision)));
    }
    let mut held = Beside::lock(&places[2], &["once"]);
    assert!(held.token() > old, "tokens rise through a restart of all");
    assert_eq!(held.ended().0, 0);
}

/// Whatever is asked of it: also where an answer has many parts.
#[test]
fn a_node_that_is_stopped_is_not_waited_for_longer_than_is_said() {
    let place = Place::up();
    place.run(&["cluster", "init"]).ok();
    let signal = |signal: &str| {
        let pid = place.pid().to_string();
        let done = std::process::Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(done.success());
    };
    signal("-STOP");
    let large = vec![b'v'; 512 * 1024];
    let done = place.run_with(&["reg", "put", "k", "-", "--timeout", "100ms"], &large);
    for said in [
        done.refused(5),
        place.run(&["reg", "get", "k", "--timeout", "100ms"]).refused(5),
        place.run(&["reg", "list", "--timeout", "100ms"]).refused(5),
        place.run(&["lock", "l", "--wait", "0s", "--", "true"]).refused(5),
    ] {
        assert!(said.contains("did not answer in time"), "{said}");
    }
    signal("-CONT");
    place.run_with(&["reg", "put", "k", "-"], &large).ok();
    assert_eq!(place.run(&["reg", "get", "k"]).out.len(), large.len());
}

#[test]
fn what_needs_a_cluster_says_so() {
    let mut place = Place::new();
    for args in [&["cluster", "init"][..], &["reg", "get", "k"], &["lock", "l", "--", "true"]] {
        let said = place.run(args).refused(5);
        assert!(said.contains("no node is running"), "{said}");
    }
    place.start();
    assert!(place.run(&["cluster", "status"]).ok().contains("none"));
    for args in [&["reg", "get", "k"][..], &["leader", "l"], &["reg", "watch"]] {
        let said = place.run(args).refused(4);
        assert!(said.contains("cluster init"), "{said}");
    }
    place.run(&["cluster", "init"]).ok();
    place.run(&["cluster", "init"]).refused(4);
    place.run(&["cluster", "add", "abc"]).refused(3);
    let stranger = Place::new();
    place.run(&["cluster", "remove", &stranger.id]).refused(3);
    // One node is a cluster, too.
    place.run(&["reg", "put", "k", "v"]).ok();
    place.run(&["reg", "put", &"k".repeat(5_000), "v"]).refused(2);
    for bad in [
        &["reg", "txn", "--if", "nonsense"][..],
        &["reg", "put", "k", "v", "--fence", "x"],
        &["lock", "l", "--ttl", "1y", "--", "true"],
        &["lock", "l", "--ttl", "1ms", "--", "true"],
        &["lock", "l"],
    ] {
        assert_eq!(place.run(bad).code, 2, "{bad:?}");
    }
    let script = b"reg put k w\nreg get k\nlock l -- sh -c 'exit 3'\n";
    let done = place.run_with(&["shell"], script);
    assert_eq!((done.code, done.out.contains('w')), (3, true), "{done:?}");
}

#[test]
fn a_copied_directory_stands_aside_and_says_what_to_do() {
    let mut place = Place::up();
    place.run(&["cluster", "init"]).ok();
    place.put("k", "1");
    assert_eq!(place.terminate(), 0);
    let mut copy = place.copy();
    copy.start();
    assert_eq!(copy.json(&["cluster", "status"])["role"], "aside");
    let refusal = copy.refusal(&["reg", "put", "k", "2"], 4);
    assert!(refusal.to_string().contains("old_copy"), "{refusal}");
    let doctor = copy.run(&["doctor"]);
    assert!(doctor.code == 1 && doctor.out.contains("cluster remove"), "{doctor:?}");
    // It is not forgotten in the next start.
    assert_eq!(copy.terminate(), 0);
    copy.start();
    let said = copy.run(&["reg", "get", "k"]).refused(4);
    assert!(said.contains("cluster remove") && said.contains("--trust-disk"), "{said}");
    copy.run(&["doctor", "--trust-disk"]).ok();
    copy.put("k", "2");
    assert_eq!(copy.terminate(), 0);
    copy.start();
    copy.put("k", "3");
}
