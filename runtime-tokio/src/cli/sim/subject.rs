//! What is replayed or shrunk: a seed of a scenario, or a capsule.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use quorate_scenarios::{Mesh, Named, Op};
use quorate_sim::capsule::CAPSULE_BYTES_MAX;
use quorate_sim::many::prepare;
use quorate_sim::{Capsule, Sim};

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
    pub(super) capsule: Option<Capsule<Op>>,
    /// The command that replays it.
    pub(super) replay: String,
}

impl Which {
    pub(super) fn find(&self) -> Result<Subject, Failure> {
        if let Some(path) = &self.capsule {
            let capsule = read(path)?;
            let scenario = scenario(&capsule.scenario)?;
            let replay = format!("quorate sim replay {}", path.display());
            let seed = capsule.run.seed;
            return Ok(Subject { scenario, seed, capsule: Some(capsule), replay });
        }
        let (Some(name), Some(seed)) = (&self.scenario, self.seed) else {
            let text = "name a capsule, or a scenario and a seed";
            return Err(Failure::new(Code::Usage, text));
        };
        let replay = replay_command(name, seed);
        Ok(Subject { scenario: scenario(name)?, seed, capsule: None, replay })
    }
}

impl Subject {
    /// The mesh before its first event.
    pub(super) fn prepare(&self, record: bool) -> Result<Sim<Mesh>, Failure> {
        match &self.capsule {
            None => Ok(prepare(&self.scenario.build, self.seed, record)),
            Some(capsule) => self
                .scenario
                .open(capsule, record)
                .map_err(|unfit| Failure::new(Code::Usage, unfit.to_string())),
        }
    }
}

fn read(path: &Path) -> Result<Capsule<Op>, Failure> {
    let name = path.display();
    let broken = |error: std::io::Error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let code = if missing { Code::NotFound } else { Code::Failed };
        Failure::new(code, format!("{name}: {error}"))
    };
    let mut text = String::new();
    let most = CAPSULE_BYTES_MAX as u64 + 1;
    File::open(path).map_err(broken)?.take(most).read_to_string(&mut text).map_err(broken)?;
    text.parse().map_err(|error| Failure::new(Code::Usage, format!("{name}: {error}")))
}
