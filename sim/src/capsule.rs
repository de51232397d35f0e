//! A failure as a file: all that is needed to see it again, and nothing else.
//!
//! A seed is a failure only for as long as the code draws the same from it. A capsule holds what
//! was drawn: the explicit [`Run`], one line for each element of its schedule; and what came of it:
//! the failure, the trace's hash, and by which code. It is text, to be read, compared and edited:
//!
//! ```text
//! quorate capsule 1
//! scenario "counters"
//! seed 17
//! draws 17
//! …
//! at 2.000000s {"Fault":{"Crash":{"node":0,"when":"Now","loses":"Drawn","down_us":50000}}}
//! at 2.010000s {"Op":{"node":0,"op":null}}
//! ```
//!
//! Each line is a word and a value in JSON; `at` lines have a time before it. A run that a search
//! forked ([`guided`](crate::explore::guided)) has a `fork` line for each place. The order of the
//! other lines does not matter, none may be missing, and lines that are empty or begin with `#` are
//! passed over. A capsule comes from somebody else: its size is bounded and it is checked against
//! its system before it is run.
//!
//! **A replay says openly what it proves.** The [`Origin`] names the code that made the capsule. If
//! the code is the same the trace must be, to the letter; if it has changed, the replay says so,
//! and whether the run still fails in the same way ([`Fingerprint`]).

use core::fmt;
use core::str::FromStr;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::SimTime;
use crate::fingerprint::Fingerprint;
use crate::many::Scenario;
use crate::network::NetworkConditions;
use crate::run::{Failure, Outcome, Sim};
use crate::schedule::{Action, Conditions, Fork, Run, Schedule};
use crate::system::System;

/// The version of the format that is written and read here.
pub const VERSION: u32 = 1;
/// No capsule is longer than this.
pub const CAPSULE_BYTES_MAX: usize = 16 << 20;
/// No line of one is longer than this.
pub const LINE_BYTES_MAX: usize = 1 << 20;
/// No schedule of one has more elements than this.
pub const ELEMENTS_MAX: usize = 100_000;

const TITLE: &str = "quorate capsule";
/// What the lines of the network's conditions begin with.
const NETWORK: &str = "network.";
/// What the line of a fork begins with.
const FORK: &str = "fork ";

/// Which code ran.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The version of the program, for people.
    pub program: String,
    /// A fingerprint of all the code that decides what a run does: machines, simulator, scenarios.
    /// A hash of their sources is best; a version that changes with them will do.
    pub machine: String,
}

/// A failing run, what came of it, and of which code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capsule<O> {
    /// The scenario's name; it and [`Run::seed`] give the system.
    pub scenario: String,
    /// The code that failed.
    pub origin: Origin,
    /// How it failed.
    pub failure: Failure,
    /// The trace's hash at the failure.
    pub trace_hash: u64,
    /// All that the run does.
    pub run: Run<O>,
}

impl<O: Clone> Capsule<O> {
    /// Runs `seed` of `scenario`, whose name is `name`.
    ///
    /// # Errors
    /// The outcome, if the seed does not fail.
    pub fn record<C>(
        scenario: &C,
        name: &str,
        origin: Origin,
        seed: u64,
    ) -> Result<Capsule<O>, Box<Outcome>>
    where
        C: Scenario,
        C::System: System<Op = O>,
    {
        let (system, plan) = scenario.build(seed);
        let run = plan.draw(&system, seed);
        let outcome = Sim::new(system, run.clone(), false).finish();
        match &outcome.result {
            Ok(()) => Err(Box::new(outcome)),
            Err(failure) => Ok(Capsule {
                scenario: name.to_owned(),
                origin,
                failure: failure.clone(),
                trace_hash: outcome.trace_hash,
                run,
            }),
        }
    }

    /// The cluster of the capsule before its first event; `system` is what the scenario builds for
    /// [`Run::seed`].
    ///
    /// # Errors
    /// What of the run does not fit the system: the capsule was edited, or is of other code.
    pub fn prepare<S: System<Op = O>>(&self, system: S, record: bool) -> Result<Sim<S>, Unfit> {
        self.run.fits(system.nodes()).map_err(Unfit)?;
        let mut asked = system.clone();
        if let Some(node) = self.run.absent.iter().find(|&&node| !asked.leave_out(node)) {
            return Err(Unfit(format!("the system cannot do without node {node}")));
        }
        Ok(Sim::new(system, self.run.clone(), record))
    }

    /// What an outcome of [`prepare`](Capsule::prepare)'s cluster says, run by the code of
    /// `origin`.
    #[must_use]
    pub fn judge(&self, origin: &Origin, outcome: &Outcome) -> Judgement {
        let verdict = match &outcome.result {
            Ok(()) => Verdict::Passes,
            Err(failure) if failure.fingerprint() != self.failure.fingerprint() => {
                Verdict::FailsOtherwise(failure.fingerprint())
            }
            Err(failure) => {
                let same = outcome.trace_hash == self.trace_hash && *failure == self.failure;
                if same { Verdict::ToTheLetter } else { Verdict::Fails }
            }
        };
        let (then, now) = (self.origin.machine.clone(), origin.machine.clone());
        Judgement { then, now, verdict }
    }
}

/// A capsule's run is not one of the system's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfit(pub String);

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the capsule does not fit its scenario: {}", self.0)
    }
}

impl core::error::Error for Unfit {}

/// What a replay gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same failure at the same step of the same trace.
    ToTheLetter,
    /// The same failure; the trace is another one.
    Fails,
    /// Another failure, this one.
    FailsOtherwise(Fingerprint),
    /// No failure.
    Passes,
}

/// What a replay gave, and by which code: its `Display` is a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// The machine fingerprint in the capsule.
    pub then: String,
    /// That of the code that replayed it.
    pub now: String,
    /// What came of it.
    pub verdict: Verdict,
}

impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Judgement { then, now, verdict } = self;
        let same = then == now;
        match verdict {
            Verdict::ToTheLetter if same => {
                return write!(f, "to the letter: the same code ({now}), the same trace");
            }
            _ if same => write!(
                f,
                "the same code ({now}) and another trace: the capsule was edited, or something \
                 outside leaks into the run; "
            )?,
            _ => write!(f, "the code has changed since (fingerprint {then}, now {now}); ")?,
        }
        match verdict {
            Verdict::ToTheLetter => write!(f, "it still fails, with the same trace to the letter"),
            Verdict::Fails => write!(f, "it still fails in the same way"),
            Verdict::FailsOtherwise(other) => write!(f, "it fails in another way: {other}"),
            Verdict::Passes => write!(f, "it fails no more"),
        }
    }
}

impl<O: Serialize> fmt::Display for Capsule<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Capsule { scenario, origin, failure, trace_hash, run } = self;
        let mut text = String::new();
        let mut line = |key: &str, value: &dyn ErasedJson| {
            let _ = writeln!(text, "{key} {}", value.json());
        };
        line("scenario", scenario);
        line("seed", &run.seed);
        line("draws", &run.draws);
        line("program", &origin.program);
        line("machine", &origin.machine);
        line("kind", &failure.kind);
        line("reason", &failure.reason);
        line("node", &failure.node);
        line("time", &failure.time.to_string());
        line("steps", &failure.step);
        line("trace", &format!("{trace_hash:016x}"));
        line("topology", &run.topology);
        line("active", &run.active.to_string());
        line("settle_us", &run.settle_us);
        line("poll_us", &run.poll_us);
        line("heal_clocks", &run.heal_clocks);
        line("steps_max", &run.steps_max);
        line("absent", &run.absent);
        line("sync_us", &run.conditions.sync_us);
        line("skew", &run.conditions.skew);
        line("regions", &run.conditions.regions);
        line("atlas", &run.conditions.atlas);
        for (field, value) in fields(&run.conditions.network) {
            line(&format!("{NETWORK}{field}"), &value);
        }
        writeln!(f, "{TITLE} {VERSION}\n{text}")?;
        for (at, action) in &run.schedule {
            writeln!(f, "at {at} {}", action.json())?;
        }
        for fork in &run.forks {
            writeln!(f, "{FORK}{}", fork.json())?;
        }
        Ok(())
    }
}

/// What can be written as JSON, whatever its type.
trait ErasedJson {
    fn json(&self) -> String;
}

impl<T: Serialize> ErasedJson for T {
    /// Maps with keys other than text, which is all that JSON cannot say, appear in no capsule but
    /// by an operation of somebody else's.
    fn json(&self) -> String {
        serde_json::to_string(self).expect("an operation that JSON can say")
    }
}

/// The network's conditions by name.
pub(crate) fn fields(network: &NetworkConditions) -> Map<String, Value> {
    match serde_json::to_value(network) {
        Ok(Value::Object(fields)) => fields,
        _ => unreachable!("a structure of numbers"),
    }
}

/// A text is no capsule, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a line of a capsule, or with the whole of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The text is longer than [`CAPSULE_BYTES_MAX`].
    TooLong,
    /// The line is longer than [`LINE_BYTES_MAX`].
    LineTooLong,
    /// There are more elements than [`ELEMENTS_MAX`].
    TooManyElements,
    /// The first line is not a capsule's.
    NotACapsule,
    /// The format is of another version.
    Version(String),
    /// A word without a value.
    NoValue,
    /// A line that no capsule has.
    Unknown(String),
    /// A line that was there before.
    Repeated(String),
    /// The text ends and a line is missing.
    Missing(String),
    /// A value that is none, and why.
    Value(String),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: ", self.line)?;
        match &self.problem {
            Problem::TooLong => write!(f, "a capsule has at most {CAPSULE_BYTES_MAX} bytes"),
            Problem::LineTooLong => write!(f, "a line has at most {LINE_BYTES_MAX} bytes"),
            Problem::TooManyElements => write!(f, "at most {ELEMENTS_MAX} elements"),
            Problem::NotACapsule => write!(f, "a capsule begins with `{TITLE} {VERSION}`"),
            Problem::Version(version) => {
                write!(f, "version `{version}` of the format; {VERSION} is read here")
            }
            Problem::NoValue => write!(f, "a word and no value"),
            Problem::Unknown(key) => write!(f, "no line of a capsule begins with `{key}`"),
            Problem::Repeated(key) => write!(f, "a second `{key}`"),
            Problem::Missing(key) => write!(f, "the end, and no `{key}` before it"),
            Problem::Value(why) => write!(f, "{why}"),
        }
    }
}

impl core::error::Error for ParseError {}

/// The lines of a capsule that were not taken yet, by their word.
struct Lines<'a> {
    found: BTreeMap<&'a str, (usize, &'a str)>,
    last: usize,
}

impl<'a> Lines<'a> {
    /// Everything but the schedule and the forks, which go to `schedule` and `forks`.
    fn read<O: DeserializeOwned>(
        text: &'a str,
        schedule: &mut Schedule<O>,
        forks: &mut Vec<Fork<O>>,
    ) -> Result<Lines<'a>, ParseError> {
        let mut lines = Lines { found: BTreeMap::new(), last: 1 };
        let mut titled = false;
        for (index, line) in text.lines().enumerate() {
            lines.last = index + 1;
            if line.len() > LINE_BYTES_MAX {
                return Err(wrong(lines.last, Problem::LineTooLong));
            }
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if !titled {
                let version = line.strip_prefix(TITLE).map(str::trim);
                let version = version.ok_or_else(|| wrong(lines.last, Problem::NotACapsule))?;
                if version.parse() != Ok(VERSION) {
                    return Err(wrong(lines.last, Problem::Version(version.to_owned())));
                }
                titled = true;
            } else if let Some(element) = line.strip_prefix("at ") {
                if schedule.len() == ELEMENTS_MAX {
                    return Err(wrong(lines.last, Problem::TooManyElements));
                }
                schedule.push(lines.element(element)?);
            } else if let Some(fork) = line.strip_prefix(FORK) {
                let added: usize = forks.iter().map(|fork| 1 + fork.added.len()).sum();
                if added >= ELEMENTS_MAX {
                    return Err(wrong(lines.last, Problem::TooManyElements));
                }
                let fork = serde_json::from_str(fork).map_err(|error| why(&error));
                forks.push(fork.map_err(|why| wrong(lines.last, Problem::Value(why)))?);
            } else {
                let split = line.split_once(' ');
                let (key, value) = split.ok_or_else(|| wrong(lines.last, Problem::NoValue))?;
                if lines.found.insert(key, (lines.last, value)).is_some() {
                    return Err(wrong(lines.last, Problem::Repeated(key.to_owned())));
                }
            }
        }
        if titled { Ok(lines) } else { Err(wrong(1, Problem::NotACapsule)) }
    }

    fn element<O: DeserializeOwned>(&self, text: &str) -> Result<(SimTime, Action<O>), ParseError> {
        let bad = |why: String| wrong(self.last, Problem::Value(why));
        let (at, action) = text.split_once(' ').unwrap_or((text, ""));
        let at = at.parse().map_err(bad)?;
        let action = serde_json::from_str(action).map_err(|error| bad(why(&error)))?;
        Ok((at, action))
    }

    /// The value of the line that begins with `key`.
    fn take<T: DeserializeOwned>(&mut self, key: &str) -> Result<T, ParseError> {
        self.take_as(key, Ok)
    }

    fn take_as<T: DeserializeOwned, U>(
        &mut self,
        key: &str,
        read: impl FnOnce(T) -> Result<U, String>,
    ) -> Result<U, ParseError> {
        let Some((line, text)) = self.found.remove(key) else {
            return Err(wrong(self.last, Problem::Missing(key.to_owned())));
        };
        let value = serde_json::from_str(text).map_err(|error| why(&error));
        value.and_then(read).map_err(|why| wrong(line, Problem::Value(why)))
    }

    /// The network's conditions, a line each.
    fn network(&mut self) -> Result<NetworkConditions, ParseError> {
        let mut network = NetworkConditions::CALM;
        for field in fields(&NetworkConditions::CALM).into_iter().map(|(field, _)| field) {
            network = self.take_as(&format!("{NETWORK}{field}"), |value: Value| {
                let mut fields = fields(&network);
                fields.insert(field, value);
                serde_json::from_value(fields.into()).map_err(|error| why(&error))
            })?;
        }
        Ok(network)
    }
}

/// Why a value is none. A value is one line, so where in it would be taken for a line of the file.
fn why(error: &serde_json::Error) -> String {
    let place = format!(" at line {} column {}", error.line(), error.column());
    let text = error.to_string();
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

fn wrong(line: usize, problem: Problem) -> ParseError {
    ParseError { line, problem }
}

impl<O: DeserializeOwned> FromStr for Capsule<O> {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Capsule<O>, ParseError> {
        if text.len() > CAPSULE_BYTES_MAX {
            return Err(ParseError { line: 1, problem: Problem::TooLong });
        }
        let mut schedule: Schedule<O> = Vec::new();
        let mut forks: Vec<Fork<O>> = Vec::new();
        let mut lines = Lines::read(text, &mut schedule, &mut forks)?;
        schedule.sort_by_key(|(at, _)| *at);
        let time = |text: String| text.parse::<SimTime>();
        let hash = |text: String| {
            u64::from_str_radix(&text, 16).map_err(|_| format!("`{text}` is no trace hash"))
        };
        let capsule = Capsule {
            scenario: lines.take("scenario")?,
            origin: Origin { program: lines.take("program")?, machine: lines.take("machine")? },
            failure: Failure {
                step: lines.take("steps")?,
                time: lines.take_as("time", time)?,
                node: lines.take("node")?,
                kind: lines.take("kind")?,
                reason: lines.take("reason")?,
            },
            trace_hash: lines.take_as("trace", hash)?,
            run: Run {
                seed: lines.take("seed")?,
                draws: lines.take("draws")?,
                topology: lines.take("topology")?,
                conditions: Conditions {
                    network: lines.network()?,
                    sync_us: lines.take("sync_us")?,
                    skew: lines.take("skew")?,
                    regions: lines.take("regions")?,
                    atlas: lines.take("atlas")?,
                },
                schedule,
                active: lines.take_as("active", time)?,
                settle_us: lines.take("settle_us")?,
                poll_us: lines.take("poll_us")?,
                heal_clocks: lines.take("heal_clocks")?,
                steps_max: lines.take("steps_max")?,
                absent: lines.take("absent")?,
                forks,
            },
        };
        match lines.found.first_key_value() {
            Some((key, (line, _))) => Err(wrong(*line, Problem::Unknown((*key).to_owned()))),
            None => Ok(capsule),
        }
    }
}
