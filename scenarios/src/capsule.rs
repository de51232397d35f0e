//! Failures of the named scenarios as files: recorded, made smaller, replayed.

use quorate_sim::capsule::Unfit;
use quorate_sim::shrink::{Effort, Progress, Stale};
use quorate_sim::{Capsule, Origin, Outcome, Shrunk, Sim, shrink};

use crate::catalogue::Named;
use crate::mesh::{Mesh, Op};

/// This code, by its version and a hash over the sources of every crate that decides what a seed does.
#[must_use]
pub fn origin() -> Origin {
    Origin {
        program: env!("CARGO_PKG_VERSION").to_owned(),
        machine: env!("QUORATE_MACHINE_FINGERPRINT").to_owned(),
    }
}

impl Named {
    /// The failure of `seed`, as it is.
    ///
    /// # Errors
    /// The outcome, if the seed does not fail.
    pub fn record(&self, seed: u64) -> Result<Capsule<Op>, Box<Outcome>> {
        Capsule::record(&self.build, self.name, origin(), seed)
    }

    /// A failure of this scenario with all taken out that it does without.
    ///
    /// # Errors
    /// If the capsule does not fail as it says.
    pub fn shrink(
        &self,
        capsule: &Capsule<Op>,
        effort: Effort,
        told: &mut dyn FnMut(Progress),
    ) -> Result<Shrunk<Op>, Stale> {
        let mut shrunk = shrink(&self.build, capsule, effort, told)?;
        shrunk.capsule.origin = origin();
        Ok(shrunk)
    }

    /// The mesh of a capsule of this scenario, before its first event.
    ///
    /// # Errors
    /// If the capsule speaks of what the scenario does not have.
    pub fn open(&self, capsule: &Capsule<Op>, record: bool) -> Result<Sim<Mesh>, Unfit> {
        let (mesh, _) = (self.build)(capsule.run.seed);
        capsule.prepare(mesh, record)
    }
}
