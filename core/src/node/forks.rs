//! Two accounts of one chain: from suspicion, by a hunt for the place, to a proof that spreads.

use alloc::vec::Vec;

use bytes::Bytes;

use super::{Disconnect, MAX_STORIES, Message, Node, Reading, Step};
use crate::entry::{Entry, SignedHeader};
use crate::hunt::{self, Answer};
use crate::machine::NodeId;
use crate::sigchain::{ForkProof, MAX_PROOF_RUN};

impl Node {
    /// `with` holds another account of `author`'s chain at `seq`: find out where they part.
    pub(super) fn diverged(&mut self, step: &mut Step<'_>, author: NodeId, seq: u64, with: NodeId) {
        let Some(store) = &self.store else { return };
        let Some(chain) = store.chains().of(&author) else { return };
        if !self.open.contains_key(&with) || !chain.counts(seq) {
            return;
        }
        let points = hunt::begin(chain, seq);
        if !points.is_empty() {
            step.fx.send(with, Message::Hunt(hunt::Message::Points { author, points }));
        }
    }

    pub(super) fn hunted(&mut self, step: &mut Step<'_>, from: NodeId, message: hunt::Message) {
        let Some(store) = &self.store else { return };
        match message {
            hunt::Message::Points { author, points } => {
                let Some(chain) = store.chains().of(&author) else { return };
                match hunt::answer(chain, &points) {
                    Answer::Nothing => {}
                    Answer::Points(points) => {
                        let closer = hunt::Message::Points { author, points };
                        step.fx.send(from, Message::Hunt(closer));
                    }
                    // Few stories at a time: they are long, and asked for cheaply.
                    Answer::Found(_) if !self.may_read_story_for(from) => {}
                    Answer::Found(seq) => {
                        let positions = store.story_positions(&author, seq);
                        self.read(step, positions, Reading::Story { peer: from, author, seq });
                    }
                }
            }
            hunt::Message::Story { author, seq, headers } => {
                if headers.len() > MAX_PROOF_RUN {
                    return self.disconnect(step, from, Disconnect::Malformed);
                }
                let starts = headers.first().cloned().map(SignedHeader::decode);
                let names = |header: &SignedHeader| (header.header.author, header.header.seq);
                if starts.is_some_and(|header| header.is_ok_and(|h| names(&h) == (author, seq))) {
                    self.conflict(step, author, seq, headers);
                }
            }
        }
    }

    fn may_read_story_for(&self, to: NodeId) -> bool {
        let stories = self.reads.values().filter_map(|(_, reading)| match reading {
            Reading::Story { peer, .. } => Some(*peer),
            Reading::Page { .. } | Reading::Proof { .. } => None,
        });
        let mut reading_for = stories.collect::<Vec<NodeId>>().into_iter();
        reading_for.len() < MAX_STORIES && reading_for.all(|peer| peer != to)
    }

    /// Sends this node's side of the story, from `seq` on.
    pub(super) fn tell_story(
        &mut self,
        step: &mut Step<'_>,
        peer: NodeId,
        author: NodeId,
        seq: u64,
        ours: &[Entry],
    ) {
        let headers = heads(ours, &author, seq);
        if !headers.is_empty() && self.open.contains_key(&peer) {
            let story = hunt::Message::Story { author, seq, headers };
            step.fx.send(peer, Message::Hunt(story));
        }
    }

    /// Another story than ours begins at `seq`: read ours, to hold them side by side. Reading costs more
    /// than claiming, so the claim is checked first: only the author can have told two stories.
    pub(super) fn conflict(
        &mut self,
        step: &mut Step<'_>,
        author: NodeId,
        seq: u64,
        theirs: Vec<Bytes>,
    ) {
        let Some(store) = &self.store else { return };
        let proven = store.forks().get(&author).is_some_and(|of| of.fork.seq <= seq);
        let of_author = |reading: &Reading| matches!(reading, Reading::Proof { author: of, .. } if *of == author);
        if self.reads.values().any(|(_, reading)| of_author(reading)) {
            return;
        }
        let told = ForkProof::side(&theirs, store.id(), self.config.verify);
        let other = told.is_ok_and(|first| store.hash_at(&author, seq) != Some(first.hash));
        if !other {
            return;
        }
        let positions =
            store.story_positions(&author, seq + u64::from(bug!(fork_story_begins_late)));
        if !proven && !positions.is_empty() {
            self.read(step, positions, Reading::Proof { author, theirs });
        }
    }

    /// Our side has been read: with theirs it is a proof, or it is not.
    pub(super) fn assemble_proof(
        &mut self,
        step: &mut Step<'_>,
        author: NodeId,
        theirs: &[Bytes],
        ours: &[Entry],
    ) {
        let starts = theirs.first().cloned().and_then(|first| SignedHeader::decode(first).ok());
        let Some(seq) = starts.map(|first| first.header.seq) else { return };
        let ours = heads(ours, &author, seq);
        let proof = ForkProof::assemble(&ours, theirs, self.config.verify);
        proof.into_iter().for_each(|proof| self.take_proof(step, None, proof));
    }

    /// Takes a proof: from a peer, or assembled here.
    pub(super) fn take_proof(
        &mut self,
        step: &mut Step<'_>,
        from: Option<NodeId>,
        proof: ForkProof,
    ) {
        let Some(store) = &mut self.store else { return };
        let mut outcomes = Vec::new();
        let proven = store.prove(proof, step.cx.wall, &mut outcomes);
        let me = self.id();
        self.outcomes(step, outcomes, from.unwrap_or(me));
        if let (Err(_), Some(peer)) = (proven, from) {
            self.disconnect(step, peer, Disconnect::Malformed);
        }
    }

    /// Tells every peer but the one it came from.
    pub(super) fn spread_proof(&mut self, step: &mut Step<'_>, proof: &ForkProof, from: NodeId) {
        for peer in self.open.keys().filter(|peer| **peer != from) {
            step.fx.send(*peer, Message::Proof(proof.clone()));
        }
    }
}

/// The signed headers of `author`'s entries from place `seq` on, up to the first that is not there.
fn heads(entries: &[Entry], author: &NodeId, seq: u64) -> Vec<Bytes> {
    let expected = (seq..).map(|seq| (*author, seq));
    let place = |entry: &Entry| (entry.header().author, entry.header().seq);
    let run = entries.iter().zip(expected).take_while(|(entry, at)| place(entry) == *at);
    run.map(|(entry, _)| entry.head()).collect()
}
