//! What can be done with a scenario, whatever system it is of: run many seeds, tell one again, walk
//! through it, make a failure smaller, search by forking.
//!
//! Every scenario can be tried so, without a line of its own. Operations are of another type in each
//! system, so what leaves here in place of a capsule is its text.

use std::fmt;
use std::ops::Range;

use quorate_sim::capsule::{ParseError, Unfit};
use quorate_sim::explore::guided;
use quorate_sim::many::prepare;
use quorate_sim::shrink::{Effort, Progress, Stale};
use quorate_sim::{
    Capsule, Cursor, Failure, FailureKind, Options, Origin, Report, Scenario, Sim, SimTime, System,
    many, shrink,
};
use serde::de::IgnoredAny;

use crate::replay::{Replay, replay};
use crate::walk::Walk;

/// This code, by its version and a hash over the sources of every crate that decides what a seed does.
#[must_use]
pub fn origin() -> Origin {
    Origin {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        machine: env!("QUORATE_MACHINE_FINGERPRINT").to_owned(),
    }
}

/// Where a run comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// A seed.
    Seed(u64),
    /// A capsule's text.
    Capsule(String),
}

/// The name of the scenario that a capsule is of, and its seed.
///
/// # Errors
/// If the text is no capsule. The operations of its schedule are not looked at.
pub fn subject(capsule: &str) -> Result<(String, u64), ParseError> {
    let capsule: Capsule<IgnoredAny> = capsule.parse()?;
    Ok((capsule.scenario, capsule.run.seed))
}

/// How much of a run is kept to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// What came of it.
    Outcome,
    /// Every event.
    Events,
    /// Every event, and each node's state after each of its steps.
    States,
}

/// A failure made smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smaller {
    /// The capsule's text.
    pub capsule: String,
    /// How it fails.
    pub failure: Failure,
    /// How many elements the schedule had before.
    pub before: usize,
    /// What it took.
    pub progress: Progress,
    /// Whether nothing more can be taken out; if not, the tries were used up.
    pub minimal: bool,
}

/// A budget spent both ways, and what failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// How far each came.
    pub comparison: guided::Comparison<String>,
    /// The first failure of plain seeds, as a capsule's text.
    pub plain: Option<String>,
    /// The first failure of the guided search, likewise.
    pub guided: Option<String>,
}

/// Why there is nothing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The text is no capsule of this scenario.
    Broken(ParseError),
    /// The capsule speaks of what the scenario does not have.
    Unfit(Unfit),
    /// The seed does not fail, so there is nothing to make smaller.
    Holds(u64),
    /// The capsule does not fail as it says.
    Stale(Stale),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::Broken(error) => error.fmt(f),
            Refused::Unfit(unfit) => unfit.fmt(f),
            Refused::Holds(seed) => write!(f, "seed {seed} does not fail: nothing to shrink"),
            Refused::Stale(stale) => stale.fmt(f),
        }
    }
}

impl std::error::Error for Refused {}

impl From<ParseError> for Refused {
    fn from(error: ParseError) -> Refused {
        Refused::Broken(error)
    }
}

impl From<Unfit> for Refused {
    fn from(unfit: Unfit) -> Refused {
        Refused::Unfit(unfit)
    }
}

/// A scenario of any system.
pub trait Trial: Sync {
    /// Runs every seed of `seeds`, see [`many()`]. `before` is called before each run, on its thread.
    fn many(&self, seeds: Range<u64>, options: Options, before: &(dyn Fn() + Sync)) -> Report;

    /// A run to its end.
    ///
    /// # Errors
    /// If it cannot begin.
    fn replay(&self, start: &Start, keep: Keep) -> Result<Replay, Refused>;

    /// A run before its first event, to go back and forth in.
    ///
    /// # Errors
    /// If it cannot begin.
    fn walk(&self, start: &Start) -> Result<Box<dyn Walk>, Refused>;

    /// All that a seed does, as the text of a capsule of `name`, to be looked at or edited. It has not
    /// been run: its failure is none.
    fn draw(&self, name: &str, seed: u64) -> String;

    /// A failure with all taken out that it does without, as a capsule of `name`.
    ///
    /// # Errors
    /// If it does not fail, or not as its capsule says.
    fn shrink(
        &self,
        name: &str,
        start: &Start,
        effort: Effort,
        told: &mut dyn FnMut(Progress),
    ) -> Result<Smaller, Refused>;

    /// Spends the same number of steps on plain seeds and on forks, see [`guided::compare`]. The first
    /// failure of each is also a capsule of `name`.
    fn compare(
        &self,
        name: &str,
        seed: u64,
        options: guided::Options,
        told: &mut dyn FnMut(&guided::Progress),
    ) -> Compared;
}

impl<C: Scenario<System: System<Op: Send + Sync> + 'static>> Trial for C {
    fn many(&self, seeds: Range<u64>, options: Options, before: &(dyn Fn() + Sync)) -> Report {
        let build = |seed| {
            before();
            self.build(seed)
        };
        many(&build, seeds, options)
    }

    fn replay(&self, start: &Start, keep: Keep) -> Result<Replay, Refused> {
        let (mut sim, capsule) = begin(self, start, keep != Keep::Outcome)?;
        if keep == Keep::States {
            sim.keep_states();
        }
        let replay = replay(sim);
        let judgement = capsule.map(|capsule| capsule.judge(&origin(), &replay.outcome));
        Ok(Replay { judgement, ..replay })
    }

    fn walk(&self, start: &Start) -> Result<Box<dyn Walk>, Refused> {
        let (sim, _) = begin(self, start, false)?;
        Ok(Box::new(Cursor::new(sim)))
    }

    fn draw(&self, name: &str, seed: u64) -> String {
        let (system, plan) = self.build(seed);
        let (kind, reason) = (FailureKind::Liveness, "none".to_owned());
        let failure = Failure { step: 0, time: SimTime::ZERO, node: None, kind, reason };
        let (scenario, run) = (name.to_owned(), plan.draw(&system, seed));
        Capsule { scenario, origin: origin(), failure, trace_hash: 0, run }.to_string()
    }

    fn shrink(
        &self,
        name: &str,
        start: &Start,
        effort: Effort,
        told: &mut dyn FnMut(Progress),
    ) -> Result<Smaller, Refused> {
        let capsule = match start {
            Start::Seed(seed) => Capsule::record(self, name, origin(), *seed)
                .map_err(|outcome| Refused::Holds(outcome.seed))?,
            Start::Capsule(text) => text.parse()?,
        };
        let mut shrunk = shrink(self, &capsule, effort, told).map_err(Refused::Stale)?;
        shrunk.capsule.origin = origin();
        Ok(Smaller {
            capsule: shrunk.capsule.to_string(),
            failure: shrunk.capsule.failure,
            before: capsule.run.schedule.len(),
            progress: shrunk.progress,
            minimal: shrunk.minimal,
        })
    }

    fn compare(
        &self,
        name: &str,
        seed: u64,
        options: guided::Options,
        told: &mut dyn FnMut(&guided::Progress),
    ) -> Compared {
        let compared = guided::compare(self, seed, options, told);
        let capsule = |searched: &guided::Searched<<C::System as System>::Op>| {
            let found = searched.failures.first()?;
            found.capsule(self, name, origin()).map(|capsule| capsule.to_string())
        };
        let (plain, guided) = (capsule(&compared.plain), capsule(&compared.guided));
        Compared { comparison: compared.told(), plain, guided }
    }
}

/// The cluster before its first event, and the capsule that it is of.
#[allow(clippy::type_complexity, reason = "a pair of two named things")]
fn begin<C: Scenario>(
    scenario: &C,
    start: &Start,
    record: bool,
) -> Result<(Sim<C::System>, Option<Capsule<<C::System as System>::Op>>), Refused> {
    match start {
        Start::Seed(seed) => Ok((prepare(scenario, *seed, record), None)),
        Start::Capsule(text) => {
            let capsule: Capsule<<C::System as System>::Op> = text.parse()?;
            let (system, _) = scenario.build(capsule.run.seed);
            Ok((capsule.prepare(system, record)?, Some(capsule)))
        }
    }
}
