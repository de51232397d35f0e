//! Every decoder of bytes that a peer, a disk or a person may have chosen.
//!
//! Each target takes any bytes and returns whether they were accepted. It must not panic; and where it
//! accepts, it asserts what the decoder promises of what it accepted.

use std::time::Duration;

use crate::control;
use bytes::Bytes;
use quorate_core::entry::{Entry, SignedHeader};
use quorate_core::hash::Hash;
use quorate_core::identity::verify;
use quorate_core::node::Node;
use quorate_core::quorum::nostr;
use quorate_core::quorum::report::SignedReport;
use quorate_core::quorum::signal::{self, Signal};
use quorate_core::sigchain::{ForkProof, MAX_PROOF_RUN};
use quorate_core::ticket::Ticket;
use quorate_runtime_tokio::frame::{Codec, FrameReader, HEADER_BYTES, Lane, MAX_FRAME_BYTES, seal};
use quorate_runtime_tokio::node::NodeCodec;

/// A decoder under test.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder of seeds.
    pub name: &'static str,
    /// Runs it; whether it accepted the bytes.
    pub run: fn(&[u8]) -> bool,
    /// Whether what it accepts is authentic: the bytes as they were made, or nothing.
    pub authentic: bool,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "entry", run: entry, authentic: true },
    Target { name: "header", run: header, authentic: true },
    Target { name: "proof", run: proof, authentic: true },
    Target { name: "message", run: message, authentic: false },
    Target { name: "record", run: record, authentic: false },
    Target { name: "ticket", run: ticket, authentic: true },
    Target { name: "frames", run: frames, authentic: false },
    Target { name: "carried", run: carried, authentic: false },
    Target { name: "control", run: control::lines, authentic: false },
];

/// An entry whose signature is its author's.
#[must_use]
pub fn entry(bytes: &[u8]) -> bool {
    let Ok(entry) = Entry::decode(Bytes::copy_from_slice(bytes)) else { return false };
    assert_eq!(entry.bytes(), bytes, "an entry has one encoding");
    assert!(!entry.ops().is_empty(), "an entry does something");
    let head = SignedHeader::decode(entry.head()).expect("an entry's head is a signed header");
    assert_eq!((&head.header, head.hash), (entry.header(), entry.hash()));
    let signed = entry.is_signed(verify);
    assert_eq!(head.is_signed(verify), signed);
    signed
}

/// A signed header whose signature is its author's.
#[must_use]
pub fn header(bytes: &[u8]) -> bool {
    let decoded = SignedHeader::decode(Bytes::copy_from_slice(bytes));
    decoded.is_ok_and(|header| {
        assert_eq!(header.hash, Hash::of(bytes), "the hash covers header and signature");
        header.is_signed(verify)
    })
}

/// A fork's proof that proves something of the store it names.
#[must_use]
pub fn proof(bytes: &[u8]) -> bool {
    let Ok((proof, [])) = postcard::take_from_bytes::<ForkProof>(bytes) else { return false };
    let first = proof.left.first().cloned().map(SignedHeader::decode);
    let store = first.and_then(Result::ok).map_or(Hash::ZERO, |first| first.header.store);
    let checked = proof.check(store, verify);
    if let Ok(fork) = checked {
        assert!(fork.hashes.0 < fork.hashes.1, "two entries, the lower first");
        assert!(proof.left.len() <= MAX_PROOF_RUN && proof.right.len() <= MAX_PROOF_RUN);
    }
    checked.is_ok()
}

/// A message between nodes.
#[must_use]
pub fn message(bytes: &[u8]) -> bool {
    let Ok(message) = NodeCodec.decode_message(Bytes::copy_from_slice(bytes)) else { return false };
    let mut again = Vec::new();
    Codec::<Node>::encode_message(&NodeCodec, &message, &mut again);
    assert_eq!(NodeCodec.decode_message(again.into()), Ok(message), "what is sent on is the same");
    true
}

/// A record of the log.
#[must_use]
pub fn record(bytes: &[u8]) -> bool {
    let Ok(record) = NodeCodec.decode_record(Lane::Store, Bytes::copy_from_slice(bytes)) else {
        return false;
    };
    let mut again = Vec::new();
    Codec::<Node>::encode_record(&NodeCodec, &record, &mut again);
    assert_eq!(
        NodeCodec.decode_record(Lane::Store, again.into()),
        Ok(record),
        "what is kept is the same"
    );
    true
}

/// A ticket, as text.
#[must_use]
pub fn ticket(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(ticket) = text.parse::<Ticket>() else { return false };
    assert_eq!(ticket.to_string().parse(), Ok(ticket), "a ticket that is passed on is the same");
    true
}

/// What a carrier of a rollout brings: a signal of whoever signed it, or a report.
#[must_use]
pub fn carried(bytes: &[u8]) -> bool {
    let Ok(event) = nostr::Event::from_json(bytes) else { return false };
    let again = nostr::Event::from_json(event.to_json().as_bytes());
    assert_eq!(again.as_ref(), Ok(&event), "what is passed on is the same");
    if event.kind != signal::KIND {
        return SignedReport::parse(&event).is_ok();
    }
    let Ok(said) = Signal::parse(&event) else { return false };
    let Signal { proposal, created_at, expires_at, .. } = &said;
    let draft = Signal::draft(proposal, *created_at, *expires_at);
    let key = nostr::SecretKey::from_bytes(&[1; 32]).expect("a key");
    let repeated = Signal::parse(&key.sign(draft)).expect("what was read can be said");
    assert_eq!(repeated.proposal.id(), proposal.id(), "a proposal has one form");
    event.check(nostr::verify).is_ok()
}

/// A stream of frames, whole to its end.
#[must_use]
pub fn frames(bytes: &[u8]) -> bool {
    // Nothing waits here, but the reader's timeout asks for a runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime in this thread").block_on(async {
        let mut frames = FrameReader::new(bytes, Duration::from_secs(60));
        let mut read = 0;
        loop {
            match frames.next().await {
                Ok(Some(frame)) => {
                    assert!(frame.len() <= MAX_FRAME_BYTES);
                    let sealed = seal(|out| out.extend_from_slice(&frame)).expect("within bounds");
                    assert_eq!(sealed, bytes[read..read + HEADER_BYTES + frame.len()]);
                    read += sealed.len();
                }
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        assert_eq!(read, bytes.len(), "nothing is left out");
        true
    })
}
