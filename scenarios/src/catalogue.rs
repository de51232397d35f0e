//! The scenarios of every system by name, and where a system is added: a line of [`SYSTEMS`].

use std::fmt;

use crate::coordination::plans;
use crate::trial::Trial;
use crate::{cuts, meshes, rollouts};

/// The scenarios of each system. A further one has its own file with a table like theirs.
static SYSTEMS: [&[Named]; 4] =
    [&meshes::SCENARIOS, &cuts::SCENARIOS, &rollouts::SCENARIOS, &plans::SCENARIOS];

/// A scenario and its name.
#[derive(Clone, Copy)]
pub struct Named {
    /// As given to `--scenario`; no two are called alike.
    pub name: &'static str,
    /// What is under test: `mesh`, `voters`, `fleet`, `cluster`.
    pub system: &'static str,
    /// What it tries, in one line.
    pub about: &'static str,
    /// Marks that some seed must reach.
    pub marks: &'static [&'static str],
    /// What can be done with it.
    pub trial: &'static dyn Trial,
}

impl fmt::Debug for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Named { name, system, .. } = self;
        f.debug_struct("Named").field("name", name).field("system", system).finish_non_exhaustive()
    }
}

/// Every scenario.
pub fn catalogue() -> impl Iterator<Item = &'static Named> {
    SYSTEMS.into_iter().flatten()
}

/// The scenario of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Named> {
    catalogue().find(|scenario| scenario.name == name)
}

/// The table of a system's scenarios: each is a function of this name, from a seed to the system and a
/// plan.
macro_rules! scenarios {
    ($system:literal; $($name:ident $about:literal $marks:expr;)*) => {
        [$(Named {
            name: stringify!($name), system: $system, about: $about, marks: &$marks, trial: &$name,
        }),*]
    };
}
pub(crate) use scenarios;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_are_called_alike() {
        let names: BTreeSet<&str> = catalogue().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), catalogue().count());
        assert!(find("swarm").is_some_and(|scenario| scenario.system == "mesh"));
        assert!(find("voters").is_some_and(|scenario| scenario.system == "voters"));
        assert!(find("nothing").is_none());
    }
}
