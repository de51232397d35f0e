//! The scenarios of every system by name, and where a system is added: a line of [`SYSTEMS`].

use std::fmt;

use quorate_sim::{Plan, System};

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

/// What a scenario is: a function from a seed to the system and a plan.
pub(crate) type Drawn<S> = fn(u64) -> (S, Plan<<S as System>::Op>);

/// The table of a system's scenarios: each is a function of this name. They are tried as pointers, so
/// that the simulator is compiled once for each system, not once for each scenario.
macro_rules! scenarios {
    ($system:literal, $of:ty; $($name:ident $about:literal $marks:expr;)*) => {
        [$(Named {
            name: stringify!($name),
            system: $system,
            about: $about,
            marks: &$marks,
            trial: &($name as $crate::catalogue::Drawn<$of>),
        }),*]
    };
}
pub(crate) use scenarios;
