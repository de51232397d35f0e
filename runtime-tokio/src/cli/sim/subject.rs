//! What is replayed or shrunk: a seed of a scenario, or a capsule.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use quorate_scenarios::{Named, Refused, Start, subject};
use quorate_sim::capsule::CAPSULE_BYTES_MAX;

use super::{replay_command, scenario};
use crate::control::protocol::{Code, Failure};

/// A seed of a scenario, or a file.
#[derive(Args, Clone, Debug)]
pub(crate) struct Which {
    /// A capsule: a failure as a file
    #[arg(required_unless_present = "scenario", conflicts_with_all = ["scenario", "seed"])]
    capsule: Option<PathBuf>,
    /// The scenario
    #[arg(long, value_name = "NAME", requires = "seed")]
    scenario: Option<String>,
    /// The seed
    #[arg(long, requires = "scenario")]
    seed: Option<u64>,
}

/// What [`Which`] names.
pub(super) struct Subject {
    pub(super) scenario: &'static Named,
    pub(super) seed: u64,
    pub(super) start: Start,
    /// The command that replays it.
    pub(super) replay: String,
    /// The capsule's file, if it is one.
    file: Option<PathBuf>,
}

impl Which {
    pub(super) fn find(&self) -> Result<Subject, Failure> {
        if let Some(path) = &self.capsule {
            let text = read(path)?;
            let unread = |error| refused(Some(path), &Refused::Broken(error));
            let (name, seed) = subject(&text).map_err(unread)?;
            let (scenario, start) = (scenario(&name)?, Start::Capsule(text));
            let replay = format!("quorate sim replay {}", path.display());
            return Ok(Subject { scenario, seed, start, replay, file: Some(path.clone()) });
        }
        let (Some(name), Some(seed)) = (&self.scenario, self.seed) else {
            let text = "name a capsule, or a scenario and a seed";
            return Err(Failure::new(Code::Usage, text));
        };
        let (scenario, start) = (scenario(name)?, Start::Seed(seed));
        Ok(Subject { scenario, seed, start, replay: replay_command(name, seed), file: None })
    }
}

impl Subject {
    /// What came back, or why nothing did.
    pub(super) fn ask<T>(&self, answer: Result<T, Refused>) -> Result<T, Failure> {
        answer.map_err(|why| refused(self.file.as_deref(), &why))
    }
}

/// What is no capsule of its scenario is a mistake of who gave it; what does not fail is an answer.
fn refused(file: Option<&Path>, why: &Refused) -> Failure {
    let code = match why {
        Refused::Broken(_) | Refused::Unfit(_) => Code::Usage,
        Refused::Holds(_) | Refused::Stale(_) => Code::Failed,
    };
    let file = file.map_or_else(String::new, |file| format!("{}: ", file.display()));
    Failure::new(code, format!("{file}{why}"))
}

fn read(path: &Path) -> Result<String, Failure> {
    let broken = |error: std::io::Error| {
        let (code, why) = match error.kind() {
            ErrorKind::NotFound => (Code::NotFound, "there is no such file".to_owned()),
            ErrorKind::InvalidData => (Code::Usage, "no capsule: it is not text".to_owned()),
            _ => (Code::Failed, error.to_string()),
        };
        Failure::new(code, format!("{}: {why}", path.display()))
    };
    let mut text = String::new();
    let most = CAPSULE_BYTES_MAX as u64 + 1;
    File::open(path).map_err(broken)?.take(most).read_to_string(&mut text).map_err(broken)?;
    Ok(text)
}
