//! What the machine is asked and told, and what it keeps.

use alloc::string::String;
use alloc::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::certificate::Certificate;
use super::kept::Kept;
use super::maintainers::Succession;
use super::nostr;
use super::report::SignedReport;
use super::signal::{Action, Artifact, Proposal, ProposalId, Version};
use crate::machine::NodeId;

/// What the host asks for, or answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// A carrier has brought an event's JSON: a signal, or a report in an envelope.
    Carried(Bytes),
    /// A carrier has brought a report as it is.
    Reported(SignedReport),
    /// The maintainers are to change.
    Succeed(Succession),
    /// The answer to [`Event::Fetch`]: the SHA-256 of what was fetched, or why nothing was.
    Fetched {
        /// As asked.
        proposal: ProposalId,
        /// Of all of its bytes.
        result: Result<Artifact, String>,
    },
    /// The answer to [`Event::Run`]. Nothing of it runs any more.
    Ran {
        /// As asked.
        proposal: ProposalId,
        /// How it went.
        result: Result<(), RunError>,
    },
    /// The answer to [`Event::PutBack`].
    IsBack(ProposalId),
    /// Nothing is to start until [`Resume`](Self::Resume).
    Hold,
    /// What was held or halted may go on, in spite of the failures so far.
    Resume,
    /// A node is away, or is back: nobody waits for it meanwhile.
    Away {
        /// Which.
        node: NodeId,
        /// Or back.
        away: bool,
    },
}

/// How a run failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RunError {
    /// It said so, in these words.
    Failed(String),
    /// It did not end in time, and was ended.
    TimedOut,
}

/// What the host is told, or asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A proposal has a quorum. Carriers should be asked for its reports again: those that came
    /// before were not kept.
    Quorum(Proposal, Certificate),
    /// Several proposals for one version have a quorum each: none of them runs.
    Conflict(Action, Version),
    /// Fetch the artifact, and say what its hash is.
    Fetch(Proposal),
    /// Run the action on the artifact that was fetched, whose hash is to be checked again; end it when
    /// the time is up. Asked once, ever.
    Run {
        /// What.
        proposal: Proposal,
        /// Why.
        certificate: Certificate,
        /// For so long.
        timeout_us: u64,
    },
    /// The run failed: put the artifact back that ran before. May be asked again after a crash.
    PutBack {
        /// Which failed.
        proposal: ProposalId,
        /// What ran before, if this machine knows.
        artifact: Option<Artifact>,
    },
    /// Publish this report on every carrier. Comes again now and then: carriers lose things.
    Publish(SignedReport),
    /// A proposal is through on this node.
    Ended(ProposalId, Outcome),
    /// Too many nodes have failed: nothing of this proposal starts until an operator resumes it.
    Halted(ProposalId),
    /// For too long no maintainer was heard; or one is heard again.
    Frozen(bool),
    /// The maintainers have changed.
    Succeeded(Succession),
}

/// How an action ended on this node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// Done.
    Success,
    /// The artifact could not be fetched.
    NotFetched(String),
    /// What was fetched has this hash.
    WrongHash(Artifact),
    /// The run failed.
    Failed(String),
    /// The run took too long.
    TimedOut,
    /// The node died during the run, so nobody knows. It is not tried again.
    Unknown,
    /// The artifact failed here before, in another proposal.
    Quarantined,
    /// The deadline had passed.
    TooLate,
}

impl Outcome {
    /// Whether a run was begun and did not end well.
    #[must_use]
    pub fn is_bad_run(&self) -> bool {
        matches!(self, Outcome::Failed(_) | Outcome::TimedOut | Outcome::Unknown)
    }
}

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// The machine first started, in seconds since 1970.
    Began(u64),
    /// A maintainer's newest signal, checked.
    Signal(nostr::Event),
    /// The maintainers have changed.
    Succeeded(Succession),
    /// A quorum was seen.
    Quorum(Certificate),
    /// The host is about to be asked to run this. Without the end of it, nobody knows how far it came.
    Begun(ProposalId),
    /// A proposal is through.
    Ended {
        /// Which.
        proposal: ProposalId,
        /// How.
        outcome: Outcome,
        /// When, in seconds since 1970.
        at: u64,
    },
    /// The previous artifact is back.
    IsBack(ProposalId),
    /// Too many nodes failed.
    Halted(ProposalId),
    /// Nothing starts.
    Held,
    /// Everything may go on.
    Resumed,
    /// A node is away, or is back.
    Away {
        /// Which.
        node: NodeId,
        /// Or back.
        away: bool,
    },
    /// All of it so far: earlier records are not needed any more.
    Checkpoint(Arc<Kept>),
}
