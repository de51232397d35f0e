//! Clients that read and write keys, and what they have been answered.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use quorate_core::cluster::{Body, Error, Message, Read};
use quorate_core::log;
use quorate_core::registry::{
    Command, Compare, Item, Op, Outcome, Refusal, Relation, Reply, Subject,
};
use quorate_sim::check::revision::{self, Place};
use quorate_sim::check::{History, OpId, Operation, Verdict, linear};
use quorate_sim::{HostCx, Rng, SimTime, View};

use super::model::{Call, GROUP, Held, Keys, Response};
use super::truth::Truth;
use super::{Coordination, Errand};

/// How many keys there are, in groups.
const KEYS: u64 = 6;

/// How much the search for an order may do.
const WORK_MAX: u64 = 300_000;

/// A call that waits for its answer.
#[derive(Clone, Debug)]
pub(super) struct Open {
    /// In both histories; none for a read that may be old.
    ids: Option<[OpId; 2]>,
    call: Call,
}

/// What clients know, and have done.
#[derive(Clone, Debug)]
pub(super) struct Client {
    by_answers: History<Call, Response>,
    /// The same without what was refused, which names no revision.
    by_revisions: History<Call, Response>,
    places: BTreeMap<OpId, Place>,
    /// What was last heard of each key.
    heard: BTreeMap<u8, Option<u64>>,
    /// The revision at which each value was written, if it was heard.
    revisions: BTreeMap<u64, u64>,
    values: u64,
    /// Writes that were never answered.
    open: Vec<([OpId; 2], Call)>,
    /// Values that certainly were not written.
    failed: Vec<(u8, u64)>,
}

impl Default for Client {
    fn default() -> Client {
        Client {
            by_answers: History::new(),
            by_revisions: History::new(),
            places: BTreeMap::new(),
            heard: BTreeMap::new(),
            revisions: BTreeMap::new(),
            values: 0,
            open: Vec::new(),
            failed: Vec::new(),
        }
    }
}

/// A random errand of a client.
pub(super) fn draw(rng: &mut Rng) -> Errand {
    let key = rng.below(KEYS) as u8;
    match rng.below(20) {
        0..4 => Errand::Get { key, read: Read::Linearizable },
        4..7 => Errand::Get { key, read: Read::ByLease },
        7 => Errand::Get { key, read: Read::Local },
        8..12 => Errand::Put { key, checked: false },
        12..15 => Errand::Put { key, checked: true },
        15 => Errand::Delete { key, checked: false },
        16 => Errand::Delete { key, checked: true },
        _ => Errand::Swap { key },
    }
}

/// The bytes of a key.
pub(super) fn key(key: u8) -> Bytes {
    Bytes::from(format!("k{key}"))
}

fn value(value: u64) -> Bytes {
    Bytes::from(value.to_string())
}

fn held(item: Option<&Item>) -> Held {
    let item = item?;
    let value = std::str::from_utf8(&item.value).ok()?.parse().ok()?;
    Some((value, item.version))
}

/// The client's key and value of an item, if it is one.
pub(super) fn written(item: &Item) -> Option<(u8, u64)> {
    let key = std::str::from_utf8(item.key.strip_prefix(b"k")?).ok()?.parse().ok()?;
    Some((key, held(Some(item))?.0))
}

impl Client {
    fn next(&mut self) -> u64 {
        self.values += 1;
        self.values
    }

    fn last(&self, key: u8) -> Option<u64> {
        self.heard.get(&key).copied().flatten()
    }

    /// A compare-and-set or a delete of what was last heard.
    fn previous(&self, key: u8, checked: bool) -> (Option<Option<u64>>, Option<u64>) {
        let last = self.last(key);
        let revision = last.map_or(Some(0), |last| self.revisions.get(&last).copied());
        match revision {
            Some(revision) if checked => (Some(last), Some(revision)),
            _ => (None, None),
        }
    }

    pub(super) fn put(&mut self, of: u8, checked: bool) -> (Call, Command) {
        let (expected, previous) = self.previous(of, checked);
        let new = self.next();
        let call = Call::Put { key: of, expected, value: new };
        let (key, value) = (key(of), value(new));
        (call, Command::Put { key, value, lease: None, previous, fence: None })
    }

    pub(super) fn delete(&mut self, of: u8, checked: bool) -> (Call, Command) {
        let (expected, previous) = self.previous(of, checked);
        let call = Call::Delete { key: of, expected };
        (call, Command::Delete { key: key(of), previous, fence: None })
    }

    /// A transaction that compares by value, by revision, or by whether it is there.
    pub(super) fn swap(&mut self, of: u8) -> (Call, Command) {
        let expected = self.last(of);
        let known = expected.and_then(|last| self.revisions.get(&last).copied());
        let subject = match (expected, known) {
            (Some(last), None) => Subject::Value(value(last)),
            (Some(last), Some(_)) if last % 2 == 0 => Subject::Value(value(last)),
            (Some(_), Some(revision)) => Subject::ModRevision(revision),
            (None, _) => Subject::Version(0),
        };
        let compare = vec![Compare { key: key(of), subject, relation: Relation::Equal }];
        let group = of / GROUP * GROUP;
        let puts: Vec<(u8, u64)> = (group..group + GROUP).map(|key| (key, self.next())).collect();
        let put =
            |(of, new): &(u8, u64)| Op::Put { key: key(*of), value: value(*new), lease: None };
        let then = puts.iter().map(put).collect();
        let otherwise = puts.iter().map(|(of, _)| Op::Get { key: key(*of) }).collect();
        let call = Call::Txn { key: of, expected, puts };
        (call, Command::Txn { compare, then, otherwise, fence: None })
    }

    /// A call is made. What may be answered from an old state is in no history.
    pub(super) fn begin(&mut self, node: usize, at: SimTime, call: Call, counts: bool) -> Open {
        let ids = counts.then(|| {
            [&mut self.by_answers, &mut self.by_revisions]
                .map(|history| history.invoke(node as u64, node, at, call.clone()))
        });
        Open { ids, call }
    }

    pub(super) fn answered(
        &mut self,
        open: Open,
        result: &Result<Reply, Error>,
        truth: &Truth,
        cx: &HostCx<'_, Coordination>,
    ) -> Result<(), String> {
        let Open { ids, call } = open;
        let at = cx.now();
        if let (Call::Get(of), Ok(Reply::Value { revision, item })) = (&call, result) {
            let known = truth.at(&key(*of), *revision);
            if *revision > truth.upto || known != item.as_ref() {
                return Err(format!("k{of} at {revision} was read as {item:?}, it was {known:?}"));
            }
        }
        let answer = match result {
            Ok(reply) => Some(self.learn(&call, reply)?),
            Err(Error::Refused(Refusal::StaleRevision { current })) => {
                Some((Response::Stale { there: *current > 0 }, None))
            }
            // It may have happened, or not.
            Err(Error::Unknown | Error::Removed) if call.writes() => {
                self.left_open(Open { ids, call });
                return Ok(());
            }
            Err(_) => None,
        };
        if answer.is_none() {
            self.failed.extend(call.values());
        }
        let Some([answered, placed]) = ids else { return Ok(()) };
        match answer {
            Some((response, place)) => {
                self.by_answers.answer(answered, at, response.clone());
                match place {
                    Some(place) => {
                        self.places.insert(placed, place);
                        self.by_revisions.answer(placed, at, response);
                    }
                    None => self.by_revisions.fail(placed, at),
                }
            }
            None => {
                self.by_answers.fail(answered, at);
                self.by_revisions.fail(placed, at);
            }
        }
        Ok(())
    }

    /// It will not be answered any more.
    pub(super) fn left_open(&mut self, Open { ids, call }: Open) {
        self.open.extend(ids.map(|ids| (ids, call)));
    }

    /// What became of writes that were never answered is known in the end: a value that was written is
    /// another one each time.
    fn settle(&mut self, truth: &Truth, at: SimTime) {
        for ([answered, placed], call) in std::mem::take(&mut self.open) {
            let values = call.values();
            let Some((key, value)) = values.first() else { continue };
            let Some(item) = truth.written(*key, *value) else {
                self.by_answers.fail(answered, at);
                self.by_revisions.fail(placed, at);
                continue;
            };
            let version = |(key, value): &(u8, u64)| {
                truth.written(*key, *value).map_or(0, |item| item.version)
            };
            let response = match call {
                Call::Txn { .. } => Response::Swapped(values.iter().map(version).collect()),
                _ => Response::Written { version: item.version },
            };
            self.places.insert(placed, Place { revision: item.mod_revision, wrote: true });
            self.by_answers.answer(answered, at, response.clone());
            self.by_revisions.answer(placed, at, response);
        }
    }

    /// What a reply says, and where in the order.
    fn learn(&mut self, call: &Call, reply: &Reply) -> Result<(Response, Option<Place>), String> {
        let place = |revision: u64, wrote: bool| Some(Place { revision, wrote });
        Ok(match (call, reply) {
            (Call::Get(of), Reply::Value { revision, item }) => {
                self.saw(*of, item.as_ref());
                (Response::Value(held(item.as_ref())), place(*revision, false))
            }
            (Call::Put { key, value, .. }, Reply::Written { revision, version }) => {
                self.wrote(*key, *value, *revision);
                (Response::Written { version: *version }, place(*revision, true))
            }
            (Call::Delete { key, .. }, Reply::Deleted { revision, existed }) => {
                self.heard.insert(*key, None);
                (Response::Deleted { existed: *existed }, place(*revision, *existed))
            }
            (Call::Txn { puts, .. }, Reply::Txn { revision, held: true, outcomes }) => {
                puts.iter().for_each(|(key, value)| self.wrote(*key, *value, *revision));
                let version = |outcome: &Outcome| match outcome {
                    Outcome::Put { version } => *version,
                    _ => 0,
                };
                (Response::Swapped(outcomes.iter().map(version).collect()), place(*revision, true))
            }
            (Call::Txn { puts, .. }, Reply::Txn { revision, held: false, outcomes }) => {
                let mut kept = Vec::new();
                for ((key, _), outcome) in puts.iter().zip(outcomes) {
                    let Outcome::Got(item) = outcome else { continue };
                    self.saw(*key, item.as_ref());
                    kept.push(held(item.as_ref()));
                }
                (Response::Kept(kept), place(*revision, false))
            }
            _ => return Err(format!("{call:?} is answered {reply:?}")),
        })
    }

    fn saw(&mut self, key: u8, item: Option<&Item>) {
        let value = held(item).map(|(value, _)| value);
        if let (Some(value), Some(item)) = (value, item) {
            self.revisions.insert(value, item.mod_revision);
        }
        self.heard.insert(key, value);
    }

    fn wrote(&mut self, key: u8, value: u64, revision: u64) {
        self.revisions.insert(value, revision);
        self.heard.insert(key, Some(value));
    }

    /// What the keys held, revision by revision, for whoever looks for the reason of a failure.
    pub(super) fn told(truth: &Truth) -> String {
        let mut text = String::new();
        for of in 0..KEYS as u8 {
            for (revision, item) in truth.of(&key(of)) {
                let _ = write!(text, "k{of} at {revision}: {:?}, ", held(item));
            }
        }
        text
    }

    /// Whether what was answered is linearizable. Where too much was never answered the search finds no
    /// verdict; then the order that the revisions claim is checked alone, which always has one.
    pub(super) fn check(
        &mut self,
        truth: &Truth,
        view: &View<'_, Coordination>,
    ) -> Result<(), String> {
        let failed = |(key, value): &&(u8, u64)| truth.written(*key, *value).is_some();
        if let Some((key, value)) = self.failed.iter().find(failed) {
            return Err(format!("that k{key} becomes {value} was said to have failed, and it did"));
        }
        self.settle(truth, view.now());
        let start = Keys::default();
        match linear::check(&start, &self.by_answers, WORK_MAX) {
            Verdict::Unknown { .. } => view.mark("no verdict by search"),
            verdict => verdict.into_result()?,
        }
        let place = |op: &Operation<Call, Response>, _: &Response| self.places[&op.id];
        revision::check(&start, &self.by_revisions, place, linear::WORK_MAX).into_result()
    }
}

/// About how many bytes a message takes.
pub(super) fn size(message: &Message) -> usize {
    match &message.body {
        Body::Log(log::Message::Append { entries, .. }) => 100 + 100 * entries.len(),
        _ => 100,
    }
}
