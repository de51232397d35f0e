//! The one signed form of what maintainers say: a Nostr event (NIP-01), whichever carrier brings it.
//!
//! An event's id is the SHA-256 of a fixed serialization, and its signature is BIP-340's over that id.
//! So a signal from a relay, one from a store and one out of a certificate's file are the same bytes
//! and pass the same check, here and in every Nostr program.

use alloc::string::String;
use alloc::vec::Vec;

use k256::schnorr::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Refusal;
use super::hex::hex_type;

/// A text of more bytes is not looked at.
pub const MAX_EVENT_BYTES: usize = 16 * 1024;

hex_type! {
    /// Who signs: the x coordinate of a point of secp256k1, as BIP-340 has it.
    PublicKey, 32
}
hex_type! {
    /// An event's id: the SHA-256 of its serialization.
    EventId, 32
}
hex_type! {
    /// A BIP-340 signature.
    Signature, 64
}

/// What is signed, before it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Draft {
    /// When, in seconds since 1970, as its author has it.
    pub created_at: u64,
    /// What it is about: [`super::signal::KIND`] for instance.
    pub kind: u32,
    /// Names and values.
    pub tags: Vec<Vec<String>>,
    /// For people.
    pub content: String,
}

/// A Nostr event. Its fields are what somebody claims until [`check`](Event::check) has passed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Event {
    /// The hash of all the rest but the signature.
    pub id: EventId,
    /// The author.
    pub pubkey: PublicKey,
    /// When, in seconds since 1970, as the author has it.
    pub created_at: u64,
    /// What it is about.
    pub kind: u32,
    /// Names and values.
    pub tags: Vec<Vec<String>>,
    /// For people.
    pub content: String,
    /// Of the id, by the author.
    pub sig: Signature,
}

/// How a machine checks the signatures of events: [`verify`], or a memo of it.
pub type Verify = fn(&PublicKey, &EventId, &Signature) -> bool;

/// Whether `key` signed `id`, by BIP-340.
#[must_use]
pub fn verify(key: &PublicKey, id: &EventId, signature: &Signature) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&key.0.into()) else { return false };
    let Ok(signature) = k256::schnorr::Signature::try_from(&signature.0[..]) else { return false };
    key.verify_raw(&id.0, &signature).is_ok()
}

impl Event {
    /// Reads an event's JSON, which may be anything.
    ///
    /// # Errors
    /// Too long, not UTF-8, or not an event. Nothing is said yet about its signature.
    pub fn from_json(text: &[u8]) -> Result<Event, Refusal> {
        if text.len() > MAX_EVENT_BYTES {
            return Err(Refusal::Giant);
        }
        let text = core::str::from_utf8(text).map_err(|_| Refusal::NotUtf8)?;
        let event: Event = serde_json::from_str(text).map_err(|_| Refusal::Malformed)?;
        // NIP-01: a tag has a name. Relays that keep others differ in what they index.
        let named = |tag: &Vec<String>| tag.first().is_some_and(|name| !name.is_empty());
        if event.tags.iter().all(named) { Ok(event) } else { Err(Refusal::EmptyTag) }
    }

    /// Its JSON, as relays take it.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers can be written")
    }

    /// Whether the id is the event's hash and the signature its author's.
    ///
    /// # Errors
    /// Which of the two is not so.
    pub fn check(&self, verify: Verify) -> Result<(), Refusal> {
        if self.id != self.hash() {
            return Err(Refusal::WrongId);
        }
        if !verify(&self.pubkey, &self.id, &self.sig) {
            bug!(forged_signals_count => return Ok(()));
            return Err(Refusal::BadSignature);
        }
        Ok(())
    }

    /// What its id must be.
    #[must_use]
    pub fn hash(&self) -> EventId {
        hash(&self.pubkey, self.created_at, self.kind, &self.tags, &self.content)
    }

    /// The value of the tag `name`.
    ///
    /// # Errors
    /// None, an empty one, or several: programs differ in which of several they take.
    pub(super) fn tag(&self, name: &str) -> Result<&str, Refusal> {
        self.optional_tag(name)?.ok_or(Refusal::MissingTag)
    }

    /// As [`tag`](Self::tag), where there may be none.
    pub(super) fn optional_tag(&self, name: &str) -> Result<Option<&str>, Refusal> {
        let mut all = self.tags.iter().filter(|tag| tag[0] == name);
        let Some(tag) = all.next() else { return Ok(None) };
        if all.next().is_some() {
            return Err(Refusal::RepeatedTag);
        }
        match tag.get(1) {
            Some(value) if !value.is_empty() => Ok(Some(value)),
            _ => Err(Refusal::EmptyTag),
        }
    }
}

/// NIP-01: "the sha256 of the serialized event data. The serialization is done over the UTF-8
/// JSON-serialized string": `[0, pubkey, created_at, kind, tags, content]`. For control characters
/// that have no short escape, its words and nearly all programs differ; this is as the programs do.
fn hash(
    key: &PublicKey,
    created_at: u64,
    kind: u32,
    tags: &[Vec<String>],
    content: &str,
) -> EventId {
    let text = serde_json::to_vec(&(0, key, created_at, kind, tags, content));
    let text = text.expect("strings and numbers can be written");
    EventId(Sha256::digest(text).into())
}

/// A maintainer's secret key.
#[derive(Clone)]
pub struct SecretKey {
    key: SigningKey,
}

impl SecretKey {
    /// From its 32 bytes; `None` for the few that are not a key.
    ///
    /// ```
    /// use quorate_core::quorum::nostr::{Draft, SecretKey, verify};
    ///
    /// let key = SecretKey::from_bytes(&[1; 32]).unwrap();
    /// let draft = Draft { created_at: 0, kind: 1, tags: vec![], content: "hello".into() };
    /// let event = key.sign(draft);
    /// assert_eq!(event.check(verify), Ok(()));
    /// ```
    #[must_use]
    pub fn from_bytes(bytes: &[u8; 32]) -> Option<SecretKey> {
        let key = SigningKey::from_bytes(bytes.into()).ok()?;
        Some(SecretKey { key })
    }

    /// Who this is.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.key.verifying_key().to_bytes().into())
    }

    /// Signs a draft. Deterministic: BIP-340's auxiliary randomness is zero.
    #[must_use]
    pub fn sign(&self, draft: Draft) -> Event {
        let Draft { created_at, kind, tags, content } = draft;
        let pubkey = self.public();
        let id = hash(&pubkey, created_at, kind, &tags, &content);
        let sig = self.key.sign_raw(&id.0, &[0; 32]).expect("a key signs any 32 bytes");
        let sig = Signature(sig.to_bytes());
        Event { id, pubkey, created_at, kind, tags, content, sig }
    }
}

impl core::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("SecretKey").field(&self.public()).finish()
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;

    /// BIP-340's own test vectors 0 and 1, and 5, whose key is no point.
    #[test]
    fn signatures_are_those_of_bip_340() {
        let key =
            PublicKey::from_hex("DFF1D77F2A671C5F36183726DB2341BE58FEAE1DA2DECED843240F7B502BA659");
        let id =
            EventId::from_hex("243F6A8885A308D313198A2E03707344A4093822299F31D0082EFA98EC4E6C89");
        let signature = Signature::from_hex(concat!(
            "6896BD60EEAE296DB48A229FF71DFE071BDE413E6D43F917DC8DCF8C78DE3341",
            "8906D11AC976ABCCB20B091292BFF4EA897EFCB639EA871CFA95F6DE339E4B0A"
        ));
        let (key, id, signature) = (key.unwrap(), id.unwrap(), signature.unwrap());
        assert!(verify(&key, &id, &signature));
        assert!(!verify(&key, &EventId([0; 32]), &signature));
        let nowhere =
            PublicKey::from_hex("EEFDEA4CDB677750A420FEE807EACF21EB9898AE79B9768766E4FAA04A2D4A34");
        assert!(!verify(&nowhere.unwrap(), &id, &signature));
        let mut three = [0; 32];
        three[31] = 3;
        let three = SecretKey::from_bytes(&three).unwrap();
        let f9 = "f9308a019258c31049344f85f89d5229b531c845836f99b08601f113bce036f9";
        assert_eq!(three.public(), PublicKey::from_hex(f9).unwrap());
    }

    /// Made by another program: the event that the documentation of `nak` shows.
    #[test]
    fn an_event_of_another_program_passes() {
        let text = concat!(
            r#"{"id":"53443506e7d09e55b922a2369b80f926007a8a8a8ea5f09df1db59fe1993335e","#,
            r#""pubkey":"79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798","#,
            r#""created_at":1698632644,"kind":1,"tags":[],"#,
            r#""content":"hello from the nostr army knife","#,
            r#""sig":"4bdb609c975b2b61338c2ff4c7ce91d4afe74bea4ed1601a62e1fd125bd4c0ae"#,
            r#"6e0166cca96e5cfb7e0f50583eb6a0dd0b66072566299b6007742db56278010c"}"#
        );
        let event = Event::from_json(text.as_bytes()).unwrap();
        assert_eq!(event.check(verify), Ok(()));
        assert_eq!(Event::from_json(event.to_json().as_bytes()), Ok(event.clone()));
        let longer = Event { content: event.content.clone() + " ", ..event };
        assert_eq!(longer.check(verify), Err(Refusal::WrongId));
    }

    #[test]
    fn what_is_not_an_event_is_refused_for_its_reason() {
        let refused = |text: &[u8]| Event::from_json(text).unwrap_err();
        assert_eq!(refused(&[b' '; MAX_EVENT_BYTES + 1]), Refusal::Giant);
        assert_eq!(refused(b"{\"content\":\"\xff\"}"), Refusal::NotUtf8);
        assert_eq!(refused(b"{}"), Refusal::Malformed);
        let draft = Draft { created_at: 0, kind: 1, tags: vec![vec![]], content: "x".into() };
        let event = SecretKey::from_bytes(&[1; 32]).unwrap().sign(draft);
        assert_eq!(refused(event.to_json().as_bytes()), Refusal::EmptyTag);
        let short = event.to_json().replacen(&event.sig.to_string()[..2], "", 1);
        assert_eq!(refused(short.as_bytes()), Refusal::Malformed);
    }
}
