//! Clients of the registry, and what they write down.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use quorate_sim::check::revision::Place as At;
use quorate_sim::check::{Completion, History, Model, OpId, linear, revision};
use quorate_sim::{Ratio, Rng, SimTime, Span};
use serde_json::{Value as Json, json};

use crate::process::Place;

/// A request is answered by then, in milliseconds.
const TIMEOUT_MS: u64 = 2_000;
/// Keys in use at one time.
const KEYS: u64 = 3;
/// How long a set of keys is used: a short history of each is checked quickly.
const USED: Duration = Duration::from_secs(2);
/// Applications of the model that a check may take.
const WORK_MAX: u64 = 50_000_000;

/// What is asked of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Call {
    key: u64,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum What {
    Get,
    Put(u64),
    Swap { expected: u64, value: u64 },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Told {
    Holds(Option<u64>),
    Written,
    Other,
}

/// A key, as a model.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Cell(Option<u64>);

impl Model for Cell {
    type Call = Call;
    type Response = Told;
    type Key = u64;

    fn key(call: &Call) -> u64 {
        call.key
    }

    fn apply(&mut self, call: &Call) -> Told {
        match call.what {
            What::Get => return Told::Holds(self.0),
            What::Swap { expected, .. } if self.0 != Some(expected) => return Told::Other,
            What::Put(value) | What::Swap { value, .. } => self.0 = Some(value),
        }
        Told::Written
    }
}

/// The histories, by key, and at which revision each answer says that it was.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<BTreeMap<u64, Record>>);

#[derive(Default)]
struct Record {
    history: History<Call, Told>,
    revisions: BTreeMap<OpId, u64>,
}

impl Recorder {
    fn asked(&self, client: u64, node: usize, begun: Instant, call: &Call) -> OpId {
        let mut records = self.0.lock().unwrap();
        let history = &mut records.entry(call.key).or_default().history;
        history.invoke(client, node, at(begun), call.clone())
    }

    fn told(&self, key: u64, id: OpId, begun: Instant, outcome: &Outcome) {
        let mut records = self.0.lock().unwrap();
        let record = records.get_mut(&key).expect("it was asked");
        match outcome {
            Outcome::Told(told, revision) => {
                record.revisions.insert(id, *revision);
                record.history.answer(id, at(begun), told.clone());
            }
            Outcome::Never => record.history.fail(id, at(begun)),
            Outcome::Unknown => {}
        }
    }

    /// Whether all of it is linearizable, in words.
    pub(crate) fn check(&self) -> String {
        let records = self.0.lock().unwrap();
        let (mut answered, mut open, mut failed) = (0, 0, 0);
        for (key, Record { history, revisions }) in &*records {
            for operation in history.operations() {
                match operation.completion {
                    Completion::Answered { .. } => answered += 1,
                    Completion::Open => open += 1,
                    Completion::Failed => failed += 1,
                }
            }
            let place = |operation: &quorate_sim::check::Operation<Call, Told>, told: &Told| At {
                revision: revisions[&operation.id],
                wrote: *told == Told::Written,
            };
            let by_revision = revision::check(&Cell::default(), history, place, WORK_MAX);
            by_revision.into_result().unwrap_or_else(|wrong| panic!("key {key}: {wrong}"));
            let by_search = linear::check(&Cell::default(), history, WORK_MAX);
            by_search.into_result().unwrap_or_else(|wrong| panic!("key {key}: {wrong}"));
        }
        assert!(answered > 0, "nobody was served");
        let keys = records.len();
        format!(
            "{answered} operations on {keys} keys answered, {open} open, {failed} refused: \
             linearizable"
        )
    }
}

fn at(begun: Instant) -> SimTime {
    SimTime::ms(begun.elapsed().as_millis() as u64)
}

/// How a request ended.
enum Outcome {
    /// Answered, as of this revision.
    Told(Told, u64),
    /// It certainly did not take effect, and never will.
    Never,
    /// Nobody knows.
    Unknown,
}

/// What the clients share.
pub(crate) struct Clients<'a> {
    sockets: [PathBuf; 3],
    recorder: &'a Recorder,
    begun: Instant,
    /// Every write writes another value.
    values: AtomicU64,
}

impl Clients<'_> {
    pub(crate) fn new<'a>(places: &[Place; 3], recorder: &'a Recorder) -> Clients<'a> {
        let sockets = std::array::from_fn(|n| places[n].data.join("control.sock"));
        Clients { sockets, recorder, begun: Instant::now(), values: AtomicU64::new(1) }
    }

    /// Asks for one thing after the other, of another node whenever one fails it.
    pub(crate) fn run(&self, client: u64, seed: u64, stop: &AtomicBool) {
        let mut rng = Rng::stream(seed, "client", client);
        let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
        let (mut node, mut connection) = (client as usize % 3, None);
        while !stop.load(Ordering::Relaxed) {
            let set = (self.begun.elapsed().as_millis() / USED.as_millis()) as u64;
            let key = set * KEYS + rng.below(KEYS);
            let value = self.values.fetch_add(1, Ordering::Relaxed);
            let what = match (seen.get(&key), rng.below(3)) {
                (_, 0) => What::Put(value),
                (Some(&expected), 1) => What::Swap { expected, value },
                _ => What::Get,
            };
            if connection.is_none() {
                node = (node + 1) % 3;
                connection = UnixStream::connect(&self.sockets[node]).map(BufReader::new).ok();
            }
            let Some(open) = &mut connection else {
                thread::yield_now();
                continue;
            };
            let (outcome, intact) = self.one(open, client, node, &Call { key, what: what.clone() });
            if let Outcome::Told(told, _) = outcome {
                match (told, what) {
                    (Told::Holds(Some(held)), _) => drop(seen.insert(key, held)),
                    (Told::Written, What::Put(value) | What::Swap { value, .. }) => {
                        seen.insert(key, value);
                    }
                    _ => {}
                }
            }
            if !intact || rng.chance(Ratio::new(1, 50)) {
                connection = None;
            }
            // Nobody asks without end; and the history stays of a length that can be searched.
            thread::park_timeout(Duration::from_micros(rng.within(Span { min: 500, max: 20_000 })));
        }
    }

    /// Every key that was used is read once more.
    pub(crate) fn read_all(&self) {
        let mut connection = BufReader::new(UnixStream::connect(&self.sockets[0]).unwrap());
        let keys: Vec<u64> = self.recorder.0.lock().unwrap().keys().copied().collect();
        for key in keys {
            let (outcome, _) =
                self.one(&mut connection, u64::MAX, 0, &Call { key, what: What::Get });
            assert!(
                matches!(outcome, Outcome::Told(..)),
                "all is healed, and key {key} is not read"
            );
        }
    }

    fn one(
        &self,
        connection: &mut BufReader<UnixStream>,
        client: u64,
        node: usize,
        call: &Call,
    ) -> (Outcome, bool) {
        let name = format!("key/{}", call.key);
        let ask = match call.what {
            What::Get => json!({"get": {"key": name, "read": "linearizable"}}),
            What::Put(value) => {
                json!({"put": {"key": name, "value": value.to_string(), "lease": null, "given": {}}})
            }
            What::Swap { expected, value } => json!({"cas": {
                "key": name, "expected": expected.to_string(), "value": value.to_string(),
                "lease": null, "fence": null,
            }}),
        };
        let request = json!({"request": "cluster", "timeout_ms": TIMEOUT_MS, "ask": ask});
        let id = self.recorder.asked(client, node, self.begun, call);
        let replies = exchange(connection, &request);
        let outcome = replies.as_deref().map_or(Outcome::Unknown, read);
        self.recorder.told(call.key, id, self.begun, &outcome);
        (outcome, replies.is_some())
    }
}

/// Sends a request and reads its replies to the last; none if the connection breaks.
pub(crate) fn exchange(
    connection: &mut BufReader<UnixStream>,
    request: &Json,
) -> Option<Vec<Json>> {
    // Later than this the node has been stopped, and goes on at some time.
    let patience = Some(Duration::from_millis(2 * TIMEOUT_MS));
    connection.get_ref().set_read_timeout(patience).ok()?;
    connection.get_mut().write_all(format!("{request}\n").as_bytes()).ok()?;
    let mut replies = Vec::new();
    loop {
        let mut line = String::new();
        if connection.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let reply: Json = serde_json::from_str(&line).ok()?;
        let last = matches!(reply["reply"].as_str(), Some("end" | "failure"));
        replies.push(reply);
        if last {
            return Some(replies);
        }
    }
}

/// What replies say.
fn read(replies: &[Json]) -> Outcome {
    for reply in replies {
        let number = |field: &str| reply[field].as_u64().expect(field);
        match (reply["reply"].as_str(), reply["answer"].as_str(), reply["code"].as_str()) {
            (Some("cluster"), Some("written"), _) => {
                return Outcome::Told(Told::Written, number("revision"));
            }
            (Some("cluster"), Some("item"), _) => {
                let value = reply["value"].as_str().and_then(|text| text.parse().ok());
                return Outcome::Told(Told::Holds(value), number("mod_revision"));
            }
            (Some("failure"), _, Some("not_found")) => return Outcome::Told(Told::Holds(None), 0),
            (Some("failure"), _, Some("stale")) => {
                let current = reply["detail"]["current"].as_u64().expect("the current revision");
                return Outcome::Told(Told::Other, current);
            }
            // Nothing was proposed: it says whom it does not reach instead.
            (Some("failure"), _, Some("unreachable"))
                if reply["detail"]["unreachable"].is_array() =>
            {
                return Outcome::Never;
            }
            (Some("failure"), _, Some("refused" | "usage")) => {
                panic!("it should not have been refused: {reply}")
            }
            _ => {}
        }
    }
    Outcome::Unknown
}
