//! A certificate: the signed signals of a quorum, which convince anybody who knows its keys.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::Refusal;
use super::maintainers::{MAX_MAINTAINERS, Maintainers};
use super::nostr::{Event, Verify};
use super::signal::{Proposal, Signal};

/// Signals for one proposal, one of each maintainer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Certificate {
    /// As the maintainers signed them.
    pub signals: Vec<Event>,
}

/// Why a certificate proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCertificate {
    /// No signals, or more than there can be maintainers.
    Number(usize),
    /// A signal that is none, or not its author's.
    Signal(Refusal),
    /// Signals for different proposals.
    Different,
    /// For another network.
    WrongNetwork,
    /// Fewer maintainers than make a quorum.
    NoQuorum {
        /// So many.
        signed: usize,
        /// So many are needed.
        needed: u32,
    },
}

impl fmt::Display for BadCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadCertificate::Number(n) => write!(f, "{n} signals: from 1 to {MAX_MAINTAINERS}"),
            BadCertificate::Signal(refusal) => write!(f, "a signal does not count: {refusal}"),
            BadCertificate::Different => f.write_str("the signals are for different proposals"),
            BadCertificate::WrongNetwork => f.write_str("the signals are for another network"),
            BadCertificate::NoQuorum { signed, needed } => {
                write!(f, "{signed} maintainers signed, {needed} make a quorum")
            }
        }
    }
}

impl core::error::Error for BadCertificate {}

impl Certificate {
    /// What it proves that a quorum of `maintainers` wants. Nothing but the certificate is looked at:
    /// not a clock, so whether the signals are too old is another question.
    ///
    /// # Errors
    /// Why it proves nothing.
    pub fn check(
        &self,
        maintainers: &Maintainers,
        network: &str,
        verify: Verify,
    ) -> Result<Proposal, BadCertificate> {
        let number = BadCertificate::Number(self.signals.len());
        if self.signals.len() > MAX_MAINTAINERS {
            return Err(number);
        }
        let mut proposal: Option<Proposal> = None;
        let mut signers = BTreeSet::new();
        for event in &self.signals {
            let signal = Signal::parse(event).map_err(BadCertificate::Signal)?;
            event.check(verify).map_err(BadCertificate::Signal)?;
            if proposal.as_ref().is_some_and(|first| first.id() != signal.proposal.id()) {
                return Err(BadCertificate::Different);
            }
            signers.insert(signal.author);
            proposal.get_or_insert(signal.proposal);
        }
        let proposal = proposal.ok_or(number)?;
        if proposal.network != network {
            return Err(BadCertificate::WrongNetwork);
        }
        if !maintainers.is_quorum(&signers) {
            let signed = maintainers.keys().intersection(&signers).count();
            return Err(BadCertificate::NoQuorum { signed, needed: maintainers.threshold() });
        }
        Ok(proposal)
    }
}
