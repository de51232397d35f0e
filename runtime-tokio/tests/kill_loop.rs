//! Power cuts as far as a process can feel them: a node that is killed with -9 at random moments while
//! it writes. Whatever it acknowledged is there afterwards. `QUORATE_KILLS=200` for a long run.

mod process;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use process::Place;

/// Kills in an ordinary run.
const KILLS: usize = 10;
/// The node lives so long between two kills, at most.
const LIFE_MS: u64 = 60;

/// Writes until the node is gone, and notes what it acknowledged: the last value of each key.
fn write(data: &Path, round: usize, acknowledged: &mut BTreeMap<String, String>) {
    let Ok(stream) = UnixStream::connect(data.join("control.sock")) else { return };
    let mut answers = BufReader::new(stream.try_clone().unwrap());
    let mut requests = stream;
    for n in 0.. {
        let (key, value) = (format!("key-{round}-{}", n % 50), format!("{round}.{n}"));
        let request = serde_json::json!({ "request": "put", "key": key, "value": value });
        if writeln!(requests, "{request}").is_err() {
            return;
        }
        loop {
            let mut line = String::new();
            if !matches!(answers.read_line(&mut line), Ok(1..)) {
                return;
            }
            let answer: serde_json::Value = match serde_json::from_str(&line) {
                Ok(answer) => answer,
                // Cut off in the middle: not an acknowledgement.
                Err(_) => return,
            };
            match answer["reply"].as_str() {
                Some("written") => drop(acknowledged.insert(key.clone(), value.clone())),
                Some("end") => break,
                _ => panic!("{answer}"),
            }
        }
    }
}

#[tokio::test]
async fn nothing_acknowledged_is_missing_after_kills_at_random_moments() {
    let kills = std::env::var("QUORATE_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(KILLS);
    let mut place = Place::new();
    let mut acknowledged = BTreeMap::new();
    let mut wrote = 0;
    for round in 0..kills {
        place.start();
        let before = acknowledged.len();
        let life = Duration::from_micros(getrandom::u64().unwrap() % (LIFE_MS * 1000));
        let data = place.data.clone();
        let writer = std::thread::spawn(move || {
            write(&data, round, &mut acknowledged);
            acknowledged
        });
        // This is the random moment at which the power goes.
        tokio::time::sleep(life).await;
        place.kill();
        acknowledged = writer.join().unwrap();
        wrote += usize::from(acknowledged.len() > before);
        let listed = place.run(&["export"]).ok();
        let held: BTreeMap<String, String> = listed
            .lines()
            .map(|line| {
                let item: serde_json::Value = serde_json::from_str(line).unwrap();
                let text = |name: &str| item[name].as_str().unwrap().to_owned();
                (text("key"), text("value"))
            })
            .collect();
        for (key, value) in &acknowledged {
            let number =
                |value: &str| -> u64 { value.rsplit('.').next().unwrap().parse().unwrap() };
            let found = held.get(key).unwrap_or_else(|| panic!("kill {round}: {key} is missing"));
            // One more write may have become durable than was acknowledged.
            assert!(number(found) >= number(value), "kill {round}: {key} is {found}, was {value}");
        }
    }
    assert!(wrote * 2 > kills, "only {wrote} of {kills} lives were long enough to write");
}
