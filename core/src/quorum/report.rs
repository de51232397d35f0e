//! A report: how an action went on a node, signed with the node's own key.
//!
//! The signature is over the report itself, not over what carries it. On a relay a report travels as
//! an event of kind 3333 with the tags that relays ask for and one more, `node_sig`; whose Nostr key
//! signed that envelope means nothing, since anybody may publish there. A store's entry holds the
//! same report.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::nostr::{Draft, Event, PublicKey};
use super::signal::{self, Action, Proposal, ProposalId, Version};
use super::{Refusal, hex};
use crate::identity::{Claim, Identity, Signature};
use crate::machine::NodeId;

/// The kind of a report's event.
pub const KIND: u32 = 3_333;
/// An error's text in a report, in bytes at most.
pub const MAX_ERROR_BYTES: usize = 256;

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Status {
    /// Done.
    Success,
    /// Not done, or done badly, and why.
    Failure(String),
}

/// How an action went on a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Report {
    /// Which.
    pub proposal: ProposalId,
    /// Its network.
    pub network: String,
    /// What was done.
    pub action: Action,
    /// To which version.
    pub version: Version,
    /// On which node.
    pub node: NodeId,
    /// How it went.
    pub status: Status,
    /// When it ended, in seconds since 1970, by the node's clock.
    pub at: u64,
}

/// A report and the node's signature of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SignedReport {
    /// What the node says.
    pub report: Report,
    /// That it does.
    pub signature: Signature,
}

impl Report {
    /// What `node` has to say of `proposal`. A text that is too long is cut.
    #[must_use]
    pub fn new(proposal: &Proposal, node: NodeId, status: Status, at: u64) -> Report {
        let status = match status {
            Status::Failure(error) => Status::Failure(shortened(error)),
            Status::Success => Status::Success,
        };
        Report {
            proposal: proposal.id(),
            network: proposal.network.clone(),
            action: proposal.action,
            version: proposal.version.clone(),
            node,
            status,
            at,
        }
    }

    /// Signs it, as the node it is of.
    #[must_use]
    pub fn sign(self, identity: &Identity) -> SignedReport {
        let signature = identity.sign(&self.signed_bytes());
        SignedReport { report: self, signature }
    }

    pub(super) fn signed_bytes(&self) -> Vec<u8> {
        let bytes = b"quorate 2026 rollout report\0".to_vec();
        postcard::to_extend(self, bytes).expect("a vector takes whatever is written to it")
    }
}

impl SignedReport {
    /// What an event of kind 3333 says. Nothing is checked yet.
    ///
    /// # Errors
    /// Why it is no report.
    pub fn parse(event: &Event) -> Result<SignedReport, Refusal> {
        if event.kind != KIND {
            return Err(Refusal::UnknownKind);
        }
        if event.content.is_empty() {
            return Err(Refusal::EmptyContent);
        }
        let mut address = event.tag("a")?.split(':');
        let kind_and_author = (address.next(), address.next().and_then(PublicKey::from_hex));
        let (Some("33321"), Some(_), Some(signal::ADDRESS), None) =
            (kind_and_author.0, kind_and_author.1, address.next(), address.next())
        else {
            return Err(Refusal::BadAddress);
        };
        let status = match event.tag("status")? {
            "success" => Status::Success,
            "failure" => Status::Failure(error(event.tag("error")?)?.to_owned()),
            _ => return Err(Refusal::BadStatus),
        };
        let node = NodeId(hex::decode(event.tag("node_id")?).ok_or(Refusal::BadAddress)?);
        let signature: [u8; 64] = hex::decode(event.tag("node_sig")?).ok_or(Refusal::BadAddress)?;
        let proposal = ProposalId::from_hex(event.tag("proposal")?).ok_or(Refusal::BadHash)?;
        let report = Report {
            proposal,
            network: signal::name(event.tag("network")?)?.to_owned(),
            action: Action::parse(event.tag("action")?)?,
            version: Version::parse(event.tag("version")?)?,
            node,
            status,
            at: signal::time(event.tag("action_at")?)?,
        };
        Ok(SignedReport { report, signature: Signature::from_bytes(&signature) })
    }

    /// The event that carries it over relays, for any key to sign; `author` is one whose signal the
    /// node acted on.
    #[must_use]
    pub fn draft(&self, author: &PublicKey) -> Draft {
        let Report { proposal, network, action, version, node, status, at } = &self.report;
        let mut tags = Vec::new();
        let mut tag = |name: &str, value: String| tags.push([name.to_owned(), value].to_vec());
        tag("a", alloc::format!("{}:{author}:{}", signal::KIND, signal::ADDRESS));
        tag("p", author.to_string());
        tag("version", version.to_string());
        tag("network", network.clone());
        tag("action", action.as_str().to_owned());
        let word = match status {
            Status::Success => "success",
            Status::Failure(error) => {
                tag("error", error.clone());
                "failure"
            }
        };
        tag("status", word.to_owned());
        tag("node_id", node.to_string());
        tag("action_at", at.to_string());
        tag("proposal", proposal.to_string());
        let digits = |byte: u8| alloc::format!("{byte:02x}");
        tag("node_sig", self.signature.to_bytes().into_iter().map(digits).collect());
        let content = alloc::format!("{} of {network} to {version}: {word}", action.as_str());
        Draft { created_at: *at, kind: KIND, tags, content }
    }

    /// Whether each was signed by the node that it names.
    pub(super) fn signed(all: &[&SignedReport], verify: crate::identity::Verify) -> bool {
        let bytes: Vec<Vec<u8>> = all.iter().map(|signed| signed.report.signed_bytes()).collect();
        let claims: Vec<Claim<'_>> = (all.iter().zip(&bytes))
            .map(|(signed, message)| Claim {
                author: &signed.report.node,
                message,
                signature: signed.signature,
            })
            .collect();
        bug!(forged_reports_count => return true);
        verify(&claims)
    }
}

/// A failure has a reason, of a bounded length.
fn error(text: &str) -> Result<&str, Refusal> {
    if text.len() <= MAX_ERROR_BYTES { Ok(text) } else { Err(Refusal::LongValue) }
}

/// Something that a tag can hold: not empty, not too long.
fn shortened(mut text: String) -> String {
    if text.is_empty() {
        return "no reason was given".to_owned();
    }
    let end = (0..=MAX_ERROR_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::verify;
    use crate::quorum::nostr::SecretKey;
    use crate::quorum::signal::Artifact;

    fn failure() -> SignedReport {
        let proposal = Proposal {
            action: Action::Upgrade,
            network: "hqz".into(),
            version: Version::parse("1.0.0").unwrap(),
            artifact: Artifact([1; 32]),
            genesis: None,
            rollback_of: None,
        };
        let identity = Identity::from_seed([9; 32]);
        let status = Status::Failure("é".repeat(MAX_ERROR_BYTES));
        Report::new(&proposal, identity.id(), status, 1_700_000_000).sign(&identity)
    }

    fn carried(change: impl Fn(&mut Draft)) -> Event {
        let key = SecretKey::from_bytes(&[3; 32]).unwrap();
        let mut draft = failure().draft(&key.public());
        change(&mut draft);
        key.sign(draft)
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let read = SignedReport::parse(&carried(|_| {})).unwrap();
        assert_eq!(read, failure());
        assert!(SignedReport::signed(&[&read], verify));
        let forged = SignedReport { report: Report { at: 0, ..read.report }, ..read };
        assert!(!SignedReport::signed(&[&forged], verify));
    }

    #[test]
    fn bad_input_is_refused_for_its_reason() {
        let refused = |change: &dyn Fn(&mut Draft)| SignedReport::parse(&carried(change));
        for (name, value, why) in [
            ("a", "33321:00:hyperqube", Refusal::BadAddress),
            ("a", "1:2", Refusal::BadAddress),
            ("status", "done", Refusal::BadStatus),
            ("node_id", "hyperqube-node-xyz789", Refusal::BadAddress),
            ("node_sig", "00", Refusal::BadAddress),
            ("proposal", "00", Refusal::BadHash),
            ("action_at", "-1", Refusal::BadTime),
            ("action", "dance", Refusal::UnknownAction),
            ("error", "", Refusal::EmptyTag),
        ] {
            let set = |draft: &mut Draft| {
                let tag = draft.tags.iter_mut().find(|tag| tag[0] == name);
                tag.expect("it is there")[1] = value.into();
            };
            assert_eq!(refused(&set), Err(why), "{name} = {value}");
        }
        let names =
            ["a", "version", "network", "action", "status", "error", "node_id", "action_at"];
        for name in names {
            let drop = |draft: &mut Draft| draft.tags.retain(|tag| tag[0] != name);
            assert_eq!(refused(&drop), Err(Refusal::MissingTag), "{name}");
        }
        assert_eq!(refused(&|draft| draft.kind = 1), Err(Refusal::UnknownKind));
    }
}
