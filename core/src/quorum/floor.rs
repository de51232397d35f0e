//! The floor: the highest version that this node ever set out to run. It never goes down.
//!
//! Without it whoever can replay old signals can bring an old, broken version back: TUF calls this
//! the rollback attack, and Uptane's clients refuse "an image whose version is lower than the last
//! installed". Maintainers may still want to go back. So a signal can say that it *takes back* a
//! version: it then lets exactly those nodes run its lower version whose floor is the one taken
//! back, and leaves the floor where it is. Replayed, it finds another floor or its own trace in the
//! history. What was taken back is not run again; the next release has a higher version.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::signal::{Action, Proposal, Version};

/// The highest version that this node ever set out to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Floor(Option<Version>);

/// Why a proposal cannot pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Below {
    /// Not newer than what ran already.
    NotNewer,
    /// It takes back another version than the one that runs here.
    NothingToTakeBack,
}

impl fmt::Display for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Below::NotNewer => "not newer than what ran here before",
            Below::NothingToTakeBack => "it takes back a version that does not run here",
        })
    }
}

impl Floor {
    /// That of a node on which this version was installed by hand.
    #[must_use]
    pub fn at(installed: Option<Version>) -> Floor {
        Floor(installed)
    }

    /// The version, if any ever ran.
    #[must_use]
    pub fn version(&self) -> Option<&Version> {
        self.0.as_ref()
    }

    /// Whether a proposal may pass.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(&self, proposal: &Proposal) -> Result<(), Below> {
        bug!(floor_is_ignored => return Ok(()));
        let (admitted, or_else) = match (&self.0, &proposal.rollback_of) {
            (Some(floor), Some(of)) => {
                let same = bug!(anything_is_taken_back) || floor == of;
                (same, Below::NothingToTakeBack)
            }
            (None, Some(_)) => (false, Below::NothingToTakeBack),
            (None, None) => (true, Below::NotNewer),
            // A network begins anew with the version that it runs, or a newer one.
            (Some(floor), None) if proposal.action == Action::Reboot => {
                (proposal.version >= *floor, Below::NotNewer)
            }
            (Some(floor), None) => (proposal.version > *floor, Below::NotNewer),
        };
        if admitted { Ok(()) } else { Err(or_else) }
    }

    /// Raises it to what is about to run.
    pub(super) fn raise(&mut self, version: &Version) {
        if self.0.as_ref().is_none_or(|floor| floor < version) {
            self.0 = Some(version.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quorum::signal::Artifact;

    fn version(text: &str) -> Version {
        Version::parse(text).unwrap()
    }

    fn proposal(action: Action, to: &str, rollback_of: Option<&str>) -> Proposal {
        Proposal {
            action,
            network: "net".into(),
            version: version(to),
            artifact: Artifact([0; 32]),
            genesis: None,
            rollback_of: rollback_of.map(version),
        }
    }

    #[test]
    fn only_what_is_newer_passes_unless_it_takes_back_what_runs() {
        let mut floor = Floor::at(Some(version("1.0.0")));
        let passes = |floor: &Floor, action, to: &str, back: Option<&str>| {
            floor.admits(&proposal(action, to, back)).is_ok()
        };
        let upgrade = Action::Upgrade;
        assert!(passes(&floor, upgrade, "1.0.1", None));
        assert!(!passes(&floor, upgrade, "1.0.0", None));
        assert!(!passes(&floor, upgrade, "1.0.0-rc.1", None));
        assert!(passes(&floor, Action::Reboot, "1.0.0", None));
        assert!(!passes(&floor, Action::Reboot, "0.9.0", None));
        floor.raise(&version("2.0.0"));
        floor.raise(&version("1.5.0"));
        assert_eq!(floor.version(), Some(&version("2.0.0")));
        assert!(passes(&floor, upgrade, "1.0.0", Some("2.0.0")));
        assert!(!passes(&floor, upgrade, "1.0.0", Some("1.5.0")));
        assert!(!passes(&Floor::default(), upgrade, "1.0.0", Some("2.0.0")));
    }
}
