//! A signal: what a maintainer wants the network to do, all of it together.
//!
//! What is voted for is the [`Proposal`]: action, network, version, artifact, and what else decides
//! what happens. Votes for two proposals never pool, however alike these are; two hashes for one
//! version are two proposals, and a conflict for people to see.

use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::Refusal;
use super::hex::hex_type;
use super::nostr::{Draft, Event, EventId, PublicKey};

/// The kind of a signal's event: addressable, so that relays replace an author's older one.
pub const KIND: u32 = 33_321;
/// The `d` tag of every signal.
pub const ADDRESS: &str = "hyperqube";
/// A network's name, or a version as text, in bytes at most.
pub const MAX_NAME_BYTES: usize = 128;
/// A genesis URL, in bytes at most.
pub const MAX_URL_BYTES: usize = 2_048;

hex_type! {
    /// The SHA-256 of an artifact.
    Artifact, 32
}
hex_type! {
    /// Which proposal: a hash over all that it says.
    ProposalId, 32
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Run another version.
    Upgrade,
    /// Begin anew from a genesis, with this version.
    Reboot,
}

impl Action {
    /// As tags have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Action::Upgrade => "upgrade",
            Action::Reboot => "reboot",
        }
    }

    /// From a tag.
    ///
    /// # Errors
    /// Another word.
    pub fn parse(text: &str) -> Result<Action, Refusal> {
        match text {
            "upgrade" => Ok(Action::Upgrade),
            "reboot" => Ok(Action::Reboot),
            _ => Err(Refusal::UnknownAction),
        }
    }
}

/// A semantic version, in its one form: without a leading `v` and without build metadata, which has
/// no part in precedence (SemVer 2.0.0, item 10).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version(semver::Version);

impl Version {
    /// From what people write: `1.2.0` and `v1.2.0` are one.
    ///
    /// # Errors
    /// Not a semantic version, or one of more than [`MAX_NAME_BYTES`].
    pub fn parse(text: &str) -> Result<Version, Refusal> {
        if text.len() > MAX_NAME_BYTES {
            return Err(Refusal::LongValue);
        }
        let bare = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let mut version = semver::Version::parse(bare).map_err(|_| Refusal::BadVersion)?;
        version.build = semver::BuildMetadata::EMPTY;
        Ok(Version(version))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// What is voted for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Proposal {
    /// What is to be done.
    pub action: Action,
    /// Where.
    pub network: String,
    /// To which version.
    pub version: Version,
    /// With which bytes.
    pub artifact: Artifact,
    /// A reboot's genesis.
    pub genesis: Option<Genesis>,
    /// Which version this takes back, where it is a rollback: see [`super::floor`].
    pub rollback_of: Option<Version>,
}

/// From where a network begins anew, and until when.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Genesis {
    /// Where it is.
    pub url: String,
    /// After this no node begins it any more, in seconds since 1970.
    pub required_by: u64,
}

impl Proposal {
    /// Which proposal this is: the hash of the whole.
    #[must_use]
    pub fn id(&self) -> ProposalId {
        let pooled = Proposal { artifact: Artifact([0; 32]), ..self.clone() };
        let whole = if bug!(hashes_pool) { &pooled } else { self };
        let bytes = postcard::to_allocvec(whole).expect("a vector takes whatever is written to it");
        ProposalId(blake3::derive_key("quorate 2026 rollout proposal", &bytes))
    }
}

/// What one maintainer signed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Signal {
    /// Who.
    pub author: PublicKey,
    /// The event that says so.
    pub event: EventId,
    /// When, in seconds since 1970, by the author's clock.
    pub created_at: u64,
    /// Until when, if the author says (NIP-40).
    pub expires_at: Option<u64>,
    /// What for.
    pub proposal: Proposal,
}

impl Signal {
    /// What an event says, if it is a signal. Its signature is not checked here.
    ///
    /// # Errors
    /// Why it is none.
    pub fn parse(event: &Event) -> Result<Signal, Refusal> {
        if event.kind != KIND || event.tag("d")? != ADDRESS {
            return Err(Refusal::UnknownKind);
        }
        if event.content.is_empty() {
            return Err(Refusal::EmptyContent);
        }
        let action = Action::parse(event.tag("action")?)?;
        let version = Version::parse(event.tag("version")?)?;
        let artifact = Artifact::from_hex(event.tag("hash")?).ok_or(Refusal::BadHash)?;
        let genesis = match action {
            Action::Upgrade => None,
            Action::Reboot => Some(Genesis {
                url: url(event.tag("genesis_url")?)?.to_owned(),
                required_by: time(event.tag("required_by")?)?,
            }),
        };
        let rollback_of = event.optional_tag("rollback")?.map(Version::parse).transpose()?;
        if rollback_of.as_ref().is_some_and(|of| action != Action::Upgrade || *of <= version) {
            return Err(Refusal::BadRollback);
        }
        let network = name(event.tag("network")?)?.to_owned();
        let proposal = Proposal { action, network, version, artifact, genesis, rollback_of };
        Ok(Signal {
            author: event.pubkey,
            event: event.id,
            created_at: event.created_at,
            expires_at: event.optional_tag("expiration")?.map(time).transpose()?,
            proposal,
        })
    }

    /// A signal for `proposal`, to be signed.
    #[must_use]
    pub fn draft(proposal: &Proposal, created_at: u64, expires_at: Option<u64>) -> Draft {
        let Proposal { action, network, version, artifact, genesis, rollback_of } = proposal;
        let mut tags = Vec::new();
        let mut tag = |name: &str, value: String| tags.push([name.to_owned(), value].to_vec());
        tag("d", ADDRESS.to_owned());
        tag("action", action.as_str().to_owned());
        tag("version", version.to_string());
        tag("hash", artifact.to_string());
        tag("network", network.clone());
        if let Some(Genesis { url, required_by }) = genesis {
            tag("genesis_url", url.clone());
            tag("required_by", required_by.to_string());
        }
        if let Some(of) = rollback_of {
            tag("rollback", of.to_string());
        }
        if let Some(at) = expires_at {
            tag("expiration", at.to_string());
        }
        let content = alloc::format!("{} of {network} to {version}", action.as_str());
        Draft { created_at, kind: KIND, tags, content }
    }
}

/// A time in seconds since 1970, as digits.
pub(super) fn time(text: &str) -> Result<u64, Refusal> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(Refusal::BadTime)
}

/// A network's name.
pub(super) fn name(text: &str) -> Result<&str, Refusal> {
    if text.len() <= MAX_NAME_BYTES { Ok(text) } else { Err(Refusal::LongValue) }
}

fn url(text: &str) -> Result<&str, Refusal> {
    if text.len() > MAX_URL_BYTES {
        return Err(Refusal::LongValue);
    }
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |rest: &&str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_graphic());
    rest.filter(plain).map(|_| text).ok_or(Refusal::BadUrl)
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;
    use crate::quorum::nostr::SecretKey;

    fn reboot() -> Proposal {
        Proposal {
            action: Action::Reboot,
            network: "hqz".into(),
            version: Version::parse("v1.2.0-rc.1+linux").unwrap(),
            artifact: Artifact([0xab; 32]),
            genesis: Some(Genesis { url: "https://a.example/g.json".into(), required_by: 9 }),
            rollback_of: None,
        }
    }

    fn signed(change: impl Fn(&mut Draft)) -> Event {
        let mut draft = Signal::draft(&reboot(), 1_700_000_000, Some(1_800_000_000));
        change(&mut draft);
        SecretKey::from_bytes(&[1; 32]).unwrap().sign(draft)
    }

    fn set(name: &'static str, value: &'static str) -> impl Fn(&mut Draft) {
        move |draft| {
            let tag = draft.tags.iter_mut().find(|tag| tag[0] == name);
            tag.expect("it is there")[1] = value.into();
        }
    }

    #[test]
    fn a_signal_is_read_as_it_was_written() {
        let signal = Signal::parse(&signed(|_| {})).unwrap();
        assert_eq!(signal.proposal, reboot());
        assert_eq!(signal.proposal.version.to_string(), "1.2.0-rc.1");
        assert_eq!((signal.created_at, signal.expires_at), (1_700_000_000, Some(1_800_000_000)));
        let capitals = signed(|draft| draft.tags[3][1] = draft.tags[3][1].to_uppercase());
        assert_eq!(Signal::parse(&capitals).unwrap().proposal.id(), reboot().id());
    }

    #[test]
    fn whatever_else_is_said_makes_another_proposal() {
        let other_hash = Proposal { artifact: Artifact([0xac; 32]), ..reboot() };
        let genesis = Genesis { url: "https://b.example".into(), required_by: 9 };
        let other_genesis = Proposal { genesis: Some(genesis), ..reboot() };
        let ids = [reboot().id(), other_hash.id(), other_genesis.id()];
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2]);
    }

    #[test]
    fn bad_input_is_refused_for_its_reason() {
        let refused = |change: &dyn Fn(&mut Draft)| Signal::parse(&signed(change)).unwrap_err();
        let drop_tag =
            |name: &'static str| move |draft: &mut Draft| draft.tags.retain(|tag| tag[0] != name);
        for (name, value, why) in [
            ("d", "other", Refusal::UnknownKind),
            ("action", "explode", Refusal::UnknownAction),
            ("version", "1.2", Refusal::BadVersion),
            ("version", "vv1.2.0", Refusal::BadVersion),
            ("version", "", Refusal::EmptyTag),
            ("hash", "abcd", Refusal::BadHash),
            ("hash", "zz", Refusal::BadHash),
            ("genesis_url", "file:///etc/passwd", Refusal::BadUrl),
            ("genesis_url", "https://a b", Refusal::BadUrl),
            ("required_by", "+9", Refusal::BadTime),
            ("required_by", "99999999999999999999999", Refusal::BadTime),
            ("expiration", "soon", Refusal::BadTime),
        ] {
            assert_eq!(refused(&set(name, value)), why, "{name} = {value}");
        }
        for name in ["d", "action", "version", "hash", "network", "genesis_url", "required_by"] {
            assert_eq!(refused(&drop_tag(name)), Refusal::MissingTag, "{name}");
        }
        let twice = |draft: &mut Draft| draft.tags.push(vec!["hash".into(), "00".repeat(32)]);
        assert_eq!(refused(&twice), Refusal::RepeatedTag);
        assert_eq!(refused(&|draft| draft.content.clear()), Refusal::EmptyContent);
        let back = |draft: &mut Draft| draft.tags.push(vec!["rollback".into(), "2.0.0".into()]);
        assert_eq!(refused(&back), Refusal::BadRollback, "a reboot takes nothing back");
        let long = |draft: &mut Draft| draft.tags[4][1] = "n".repeat(MAX_NAME_BYTES + 1);
        assert_eq!(refused(&long), Refusal::LongValue);
    }
}
