//! What survives a restart, and the one place where it changes.
//!
//! `Kept::apply` is called for each record twice: when it is written, and when it is restored. So
//! a machine that was restored from any prefix of its log is what it was when that prefix was written.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::certificate::Certificate;
use super::floor::Floor;
use super::maintainers::Maintainers;
use super::message::{Outcome, Record};
use super::report::Status;
use super::signal::{Artifact, Proposal, ProposalId, Signal};
use super::tally::Tally;
use crate::machine::NodeId;

/// Proposals whose end is remembered, at most. What the floor lets through is never forgotten.
pub const MAX_RUNS: usize = 1_024;
/// Certificates that are kept, at most: the latest.
pub const MAX_CERTIFICATES: usize = 64;

/// What survives a restart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Kept {
    pub(super) began: Option<u64>,
    /// The set that the operator named first.
    root: Maintainers,
    pub(super) maintainers: Maintainers,
    pub(super) tally: Tally,
    certificates: Vec<(Proposal, Certificate)>,
    pub(super) floor: Floor,
    /// What last ran well.
    pub(super) installed: Option<Artifact>,
    pub(super) runs: BTreeMap<ProposalId, Run>,
    /// What ended last.
    pub(super) last: Option<ProposalId>,
    pub(super) held: bool,
    /// Whether it is halted still, or was resumed and is not halted again.
    halts: BTreeMap<ProposalId, bool>,
    pub(super) away: BTreeSet<NodeId>,
}

/// A proposal on this node, from the moment it was about to run, or could not.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Run {
    /// What.
    pub proposal: Proposal,
    /// Whether the host was, or may have been, asked to run it.
    pub begun: bool,
    /// How it ended; `None` while it runs.
    pub outcome: Option<Outcome>,
    /// When it ended, in seconds since 1970.
    pub at: u64,
    /// Whether the previous artifact is back, after a bad run.
    pub is_back: bool,
}

impl Run {
    /// Whether nothing of it is going on any more.
    #[must_use]
    pub fn is_through(&self) -> bool {
        self.outcome.as_ref().is_some_and(|outcome| !outcome.is_bad_run() || self.is_back)
    }

    /// As the node reports it.
    pub(super) fn status(&self) -> Option<Status> {
        let text: String = match self.outcome.as_ref()? {
            Outcome::Success => return Some(Status::Success),
            Outcome::NotFetched(why) => alloc::format!("the artifact was not fetched: {why}"),
            Outcome::WrongHash(hash) => alloc::format!("the artifact's hash is {hash}"),
            Outcome::Failed(why) => alloc::format!("the run failed: {why}"),
            Outcome::TimedOut => "the run took too long".into(),
            Outcome::Unknown => "unknown: the node died during the run; not retried".into(),
            Outcome::Quarantined => "the artifact failed here before".into(),
            Outcome::TooLate => "the deadline had passed".into(),
        };
        Some(Status::Failure(text))
    }
}

impl Kept {
    pub(super) fn new(root: Maintainers, floor: Floor, installed: Option<Artifact>) -> Kept {
        Kept {
            began: None,
            maintainers: root.clone(),
            root,
            tally: Tally::default(),
            certificates: Vec::new(),
            floor,
            installed,
            runs: BTreeMap::new(),
            last: None,
            held: false,
            halts: BTreeMap::new(),
            away: BTreeSet::new(),
        }
    }

    /// Whose signals count now.
    #[must_use]
    pub fn maintainers(&self) -> &Maintainers {
        &self.maintainers
    }

    /// The votes.
    #[must_use]
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The highest version that ever was to run here.
    #[must_use]
    pub fn floor(&self) -> &Floor {
        &self.floor
    }

    /// What became of proposals here.
    #[must_use]
    pub fn runs(&self) -> &BTreeMap<ProposalId, Run> {
        &self.runs
    }

    /// Whether the operator holds everything.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// The latest certificates.
    #[must_use]
    pub fn certificates(&self) -> &[(Proposal, Certificate)] {
        &self.certificates
    }

    /// The certificate for a proposal.
    #[must_use]
    pub fn certificate(&self, id: ProposalId) -> Option<&(Proposal, Certificate)> {
        self.certificates.iter().find(|(proposal, _)| proposal.id() == id)
    }

    /// Whether too many failures have stopped it; `None` if they never did.
    #[must_use]
    pub fn halted(&self, id: ProposalId) -> Option<bool> {
        self.halts.get(&id).copied()
    }

    /// Whether nothing of it may ever run again, whatever is signed.
    fn is_past(&self, run: &Run) -> bool {
        self.floor.admits(&run.proposal).is_err() && run.is_through()
    }

    /// Whether one more proposal can be remembered.
    pub(super) fn has_room(&self) -> bool {
        self.runs.len() < MAX_RUNS || self.runs.values().any(|run| self.is_past(run))
    }

    /// Whether an artifact ran badly here: as long as that run is remembered, it is not run again.
    #[must_use]
    pub fn is_quarantined(&self, artifact: &Artifact) -> bool {
        let bad = |run: &Run| run.outcome.as_ref().is_some_and(Outcome::is_bad_run);
        let same = |run: &Run| run.proposal.artifact == *artifact;
        !bug!(no_quarantine) && self.runs.values().any(|run| same(run) && bad(run))
    }

    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::Began(at) => self.began = Some(*at),
            Record::Signal(event) => {
                let ours = self.maintainers.keys().contains(&event.pubkey);
                if let Some(signal) = Signal::parse(event).ok().filter(|_| ours) {
                    self.tally.take(signal, event.clone());
                }
            }
            Record::Succeeded(succession) => {
                // The operator may have named other maintainers since it was written.
                if succession.next.is_after(&self.maintainers) {
                    self.maintainers = succession.next.clone();
                    self.tally.retain(&self.maintainers);
                }
            }
            Record::Quorum(certificate) => self.certify(certificate),
            Record::Begun(id) => self.begin(*id),
            Record::Ended { proposal, outcome, at } => self.end(*proposal, outcome, *at),
            Record::IsBack(id) => {
                if let Some(run) = self.runs.get_mut(id) {
                    run.is_back = true;
                }
            }
            Record::Halted(id) => {
                self.halts.insert(*id, true);
            }
            Record::Held => self.held = true,
            Record::Resumed => {
                self.held = false;
                self.halts.values_mut().for_each(|halted| *halted = false);
            }
            Record::Away { node, away: true } => {
                self.away.insert(*node);
            }
            Record::Away { node, away: false } => {
                self.away.remove(node);
            }
            Record::Checkpoint(kept) => {
                let root = core::mem::replace(self, (**kept).clone()).root;
                if root != self.root {
                    self.maintainers = root.clone();
                    self.root = root;
                    self.tally.retain(&self.maintainers);
                }
            }
        }
    }

    fn certify(&mut self, certificate: &Certificate) {
        let first = certificate.signals.first().map(Signal::parse);
        let Some(Ok(signal)) = first else { return };
        if self.certificates.len() >= MAX_CERTIFICATES {
            let (gone, _) = self.certificates.remove(0);
            self.halts.remove(&gone.id());
        }
        self.certificates.push((signal.proposal, certificate.clone()));
    }

    fn begin(&mut self, id: ProposalId) {
        let Some((proposal, _)) = self.certificate(id) else { return };
        let proposal = proposal.clone();
        self.floor.raise(&proposal.version);
        let run = Run { proposal, begun: true, outcome: None, at: 0, is_back: false };
        self.remember(id, run);
    }

    fn end(&mut self, id: ProposalId, outcome: &Outcome, at: u64) {
        if !self.runs.contains_key(&id)
            && let Some((proposal, _)) = self.certificate(id)
        {
            let proposal = proposal.clone();
            let run = Run { proposal, begun: false, outcome: None, at, is_back: false };
            self.remember(id, run);
        }
        let Some(run) = self.runs.get_mut(&id) else { return };
        (run.outcome, run.at) = (Some(outcome.clone()), at);
        let artifact = run.proposal.artifact;
        self.last = Some(id);
        if *outcome == Outcome::Success {
            self.installed = Some(artifact);
        }
    }

    fn remember(&mut self, id: ProposalId, run: Run) {
        if self.runs.len() >= MAX_RUNS {
            let past = self.runs.iter().filter(|(_, run)| self.is_past(run));
            let oldest = past.min_by_key(|(_, run)| run.at).map(|(id, _)| *id);
            oldest.map(|id| self.runs.remove(&id));
        }
        self.runs.insert(id, run);
    }
}
