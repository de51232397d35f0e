//! Import and export: what comes out goes in again, and what goes in goes in in order.

mod process;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use process::Place;
use serde_json::{Value as Json, json};

/// Stores of random content that are exported and imported.
const STORES: u64 = 8;
/// Requests that fill one.
const REQUESTS: usize = 400;

/// A node's control socket.
struct Control {
    answers: BufReader<UnixStream>,
}

impl Control {
    fn of(place: &Place) -> Control {
        let stream = UnixStream::connect(place.data.join("control.sock")).unwrap();
        Control { answers: BufReader::new(stream) }
    }

    /// Whether `request` was done; it may be refused.
    fn ask(&mut self, request: &Json) -> bool {
        writeln!(self.answers.get_mut(), "{request}").unwrap();
        loop {
            let mut line = String::new();
            self.answers.read_line(&mut line).unwrap();
            let answer: Json = serde_json::from_str(&line).unwrap();
            match answer["reply"].as_str() {
                Some("end") => return true,
                Some("failure") => return false,
                _ => {}
            }
        }
    }
}

/// Numbers from a seed: SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Up to `most` bytes, few of them, and those that formats stumble over.
    fn bytes(&mut self, most: u64) -> Json {
        const BYTES: &[u8] = b"a7\"\\\n\r\0{\x7f\xc3\xa9\xff";
        let len = self.next() % (most + 1);
        let bytes: Vec<u8> =
            (0..len).map(|_| BYTES[(self.next() % BYTES.len() as u64) as usize]).collect();
        match String::from_utf8(bytes) {
            Ok(text) => json!(text),
            Err(error) => {
                let hex: String =
                    error.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
                json!({ "hex": hex })
            }
        }
    }

    /// Something to write; some of it is refused.
    fn request(&mut self) -> Json {
        let key = self.bytes(2);
        match self.next() % 8 {
            0 | 1 => json!({ "request": "put", "key": key, "value": self.bytes(12) }),
            2 => json!({ "request": "delete", "key": key }),
            3 => json!({ "request": "counter_add", "key": key, "delta": self.next() as i64 / 4 }),
            4 => json!({ "request": "counter_add", "key": key, "delta": 0 }),
            5 | 6 => json!({ "request": "set_add", "key": key, "member": self.bytes(3) }),
            _ => json!({ "request": "set_remove", "key": key, "member": self.bytes(1) }),
        }
    }
}

#[test]
fn every_store_that_is_exported_can_be_imported() {
    for seed in 0..STORES {
        let (from, to) = (Place::up(), Place::new());
        let (mut control, mut random) = (Control::of(&from), Random(seed));
        let done = (0..REQUESTS).filter(|_| control.ask(&random.request())).count();
        assert!(done * 4 > REQUESTS, "seed {seed}: {done} requests were done");
        let exported = from.run(&["export"]).ok();
        for kind in ["register", "counter", "set"] {
            assert!(exported.contains(&format!("\"type\":\"{kind}\"")), "seed {seed}: {exported}");
        }
        to.run_with(&["import", "-"], exported.as_bytes()).ok();
        assert_eq!(to.run(&["export"]).ok(), exported, "seed {seed}");
        // Once more changes nothing, for an import that broke off is begun anew.
        to.run_with(&["import", "-"], exported.as_bytes()).ok();
        assert_eq!(to.run(&["export"]).ok(), exported, "seed {seed}");
    }
}

#[test]
fn a_counter_is_brought_to_its_value_and_a_set_gains_its_members() {
    let place = Place::new();
    place.run(&["counter", "add", "n", "5"]).ok();
    place.run(&["set", "add", "s", "z"]).ok();
    let line = |key: &str, kind: &str, value: Json| {
        let line = json!({ "key": key, "type": kind, "value": value, "conflict": false });
        format!("{line}\n").into_bytes()
    };
    let counter = |value: i64| line("n", "counter", json!(value));
    let lines = [counter(7), counter(-2), line("s", "set", json!(["x", { "hex": "ff" }]))].concat();
    place.run_with(&["import", "-"], &lines).ok();
    assert_eq!(place.run(&["get", "n"]).ok(), "-2\n");
    let set = place.run(&["get", "s", "--json"]).ok();
    assert!(set.contains(r#"["x","z",{"hex":"ff"}]"#), "{set}");
    // More members than one entry holds.
    let many: Vec<String> = (0..3000).map(|n| format!("{n:0>200}")).collect();
    place.run_with(&["import", "-"], &line("many", "set", json!(many))).ok();
    assert_eq!(place.run(&["get", "many"]).ok().lines().count(), 3000);
    let far = place.run_with(&["import", "-"], &counter(i64::MAX)).refused(4);
    assert!(far.contains("overflow"), "{far}");
    let wrong = place.run_with(&["import", "-"], &line("n", "set", json!(["x"]))).refused(4);
    assert!(wrong.contains("holds a counter"), "{wrong}");
    let odd = place.run_with(&["import", "-"], &line("n", "set", json!("x"))).refused(2);
    assert!(odd.contains("line 1") && odd.contains("--key"), "{odd}");
    // Named, the fields are anybody's.
    place.run_with(&["import", "--key", "key", "-"], &line("plain", "set", json!("x"))).ok();
    assert!(place.run(&["get", "plain"]).ok().starts_with('{'));
}

#[test]
fn values_that_grow_in_json_come_back() {
    let (from, to) = (Place::new(), Place::new());
    for (key, byte) in [("zeros", 0), ("binary", 0xff)] {
        from.run_with(&["put", key, "-"], &[byte; 200 * 1024]).ok();
    }
    let exported = from.run(&["export"]).ok();
    to.run_with(&["import", "-"], exported.as_bytes()).ok();
    assert_eq!(to.run(&["export"]).ok(), exported);
}

#[test]
fn of_two_lines_for_one_key_the_later_stands() {
    let place = Place::up();
    let lines: String =
        (0..2000).map(|n| format!("{{\"key\":\"k{}\",\"n\":{n}}}\n", n % 3)).collect();
    for _ in 0..5 {
        place.run_with(&["import", "--value", "n", "-"], lines.as_bytes()).ok();
        let read = ["k0", "k1", "k2"].map(|key| place.run(&["get", key]).ok());
        assert_eq!(read, ["1998", "1999", "1997"]);
    }
}
