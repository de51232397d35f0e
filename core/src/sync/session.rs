//! The two sides of one session, each a step function from a message to the next.
//!
//! Both work on the frontier as it was when the session began (a clone, which is free); what
//! changes meanwhile is for the next session. Neither keeps the ids or cells of its own side: they
//! are computed again when needed, so that a session is small and a machine in mid-session still
//! clones in constant time.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::mem;

use super::message::{
    Body, MAX_CELLS_PER_MESSAGE, MAX_IDS_PER_MESSAGE, MAX_TIPS_PER_MESSAGE, Nonce, TIP_BYTES, Want,
    WireTip,
};
use super::{Chain, FIRST_CELLS, MUCH_SMALLER, Outcome, SMALL_FRONTIER};
use crate::frontier::{Frontier, Tip};
use crate::hash::Hash;
use crate::iblt::{self, CELL_BYTES, Cell, Decoder, Id, MAX_CELLS};
use crate::machine::NodeId;

/// What a message leads to.
#[derive(Clone, Debug)]
pub(super) struct Step {
    /// Chains found to differ.
    pub(super) chains: Vec<Chain>,
    pub(super) next: Next,
}

#[derive(Clone, Debug)]
pub(super) enum Next {
    /// Say this, and wait for the peer.
    Send(Body),
    /// The session is over, perhaps with a last word.
    End { last: Option<Body>, outcome: Outcome },
    /// The peer does not keep to the protocol.
    Misbehaved,
}

impl From<Next> for Step {
    fn from(next: Next) -> Step {
        Step { chains: Vec::new(), next }
    }
}

/// The side that offered.
#[derive(Clone, Debug)]
pub(super) struct Initiator {
    session: Nonce,
    frontier: Frontier,
    stage: Stage,
}

/// What the initiator waits for.
#[derive(Clone, Debug)]
enum Stage {
    /// The answer to the offer.
    Offered,
    /// More cells.
    Decoding { key: Key, their_chains: u64, decoder: Decoder },
    /// The page of the responder's frontier that follows this author.
    Fetching { after: Option<NodeId> },
    /// What the responder wants of the tips it was told.
    Told(Told),
    /// Nothing: the session is over.
    Over,
}

#[derive(Clone, Debug)]
struct Told {
    /// The page that the responder refers to.
    page: Vec<Tip>,
    /// What is still to be told.
    rest: Vec<Tip>,
    unknown: Vec<Id>,
    /// What comes when all is told.
    then: Then,
}

#[derive(Clone, Debug)]
enum Then {
    /// The next page of the initiator's frontier.
    Tell {
        after: NodeId,
    },
    /// The next page of the responder's.
    Fetch {
        after: NodeId,
    },
    End,
}

impl Initiator {
    /// Opens a session about `frontier`.
    pub(super) fn open(session: Nonce, frontier: &mut Frontier) -> (Initiator, Body) {
        let offer = Body::Offer { digest: frontier.digest(), chains: frontier.len() as u64 };
        (Initiator { session, frontier: frontier.clone(), stage: Stage::Offered }, offer)
    }

    /// Takes the responder's next answer.
    pub(super) fn step(&mut self, answer: Body) -> Step {
        match (mem::replace(&mut self.stage, Stage::Over), answer) {
            (Stage::Offered, Body::Same) => Next::End { last: None, outcome: Outcome::Same }.into(),
            (Stage::Offered, Body::Ask) => Next::Send(self.tell(None)).into(),
            (Stage::Offered, Body::Cells { nonce, chains, cells }) => {
                let key = Key::of(self.session, nonce);
                let decoder = Decoder::new(key.cells(), chains, self.frontier.len() as u64);
                self.decode(key, chains, decoder, &cells)
            }
            (Stage::Decoding { key, their_chains, decoder }, Body::Cells { cells, .. }) => {
                self.decode(key, their_chains, decoder, &cells)
            }
            (Stage::Offered, Body::Whole { tips, last }) => self.compare(None, &tips, last),
            (Stage::Fetching { after }, Body::Whole { tips, last }) => {
                self.compare(after, &tips, last)
            }
            (Stage::Told(told), Body::Wants { wants }) => self.wanted(told, &wants),
            _ => Next::Misbehaved.into(),
        }
    }

    fn decode(&mut self, key: Key, their_chains: u64, decoder: Decoder, cells: &[Cell]) -> Step {
        let mut decoder = decoder;
        // An empty batch would go on for ever.
        if cells.is_empty() {
            return Next::Misbehaved.into();
        }
        let from = decoder.len();
        let to = (u64::from(from) + cells.len() as u64).min(MAX_CELLS.into());
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_CELLS")]
        let ours = iblt::encode(key.cells(), key.ids(&self.frontier), from..to as u32);
        decoder.extend(cells, &ours);
        let Some(found) = decoder.decode() else {
            return Next::Send(self.more(key, their_chains, decoder)).into();
        };
        // Every id said to be ours only must be ours, and none said to be theirs only.
        let ours: BTreeSet<Id> = found.ours.into_iter().collect();
        let theirs: BTreeSet<Id> = found.theirs.iter().copied().collect();
        let mut tips = Vec::new();
        for (id, tip) in key.ids(&self.frontier).zip(self.frontier.iter()) {
            if theirs.contains(&id) {
                return Next::Misbehaved.into();
            }
            if ours.contains(&id) {
                tips.push(tip);
            }
        }
        if tips.len() != ours.len() {
            return Next::Misbehaved.into();
        }
        Next::Send(self.differ(tips, found.theirs, Then::End)).into()
    }

    /// More cells; or the responder's tips themselves, if so many differ that cells cost more.
    fn more(&mut self, key: Key, their_chains: u64, decoder: Decoder) -> Body {
        // 1.35 to 1.4 cells for each of many differences, and some for the estimate's error.
        let total = decoder.estimate().saturating_mul(8) / 5;
        let cells = u32::try_from(total).unwrap_or(MAX_CELLS).saturating_sub(decoder.len());
        let batch = next_batch(decoder.len(), cells);
        let bytes = u64::from(decoder.len() + batch) * CELL_BYTES;
        if batch == 0 || bytes > their_chains.saturating_mul(TIP_BYTES) {
            self.stage = Stage::Fetching { after: None };
            return Body::Fetch;
        }
        self.stage = Stage::Decoding { key, their_chains, decoder };
        Body::More { cells: batch }
    }

    /// A page of the responder's frontier, against the same stretch of ours.
    fn compare(&mut self, after: Option<NodeId>, tips: &[WireTip], last: bool) -> Step {
        let Some(chains) = compare(&self.frontier, after, tips, last) else {
            return Next::Misbehaved.into();
        };
        let through = tips.last().map(|tip| tip.author).filter(|_| !last);
        let then = through.map_or(Then::End, |after| Then::Fetch { after });
        let request = match then {
            Then::Fetch { after } if chains.is_empty() => {
                self.stage = Stage::Fetching { after: Some(after) };
                Body::Fetch
            }
            then => {
                let ours = chains
                    .iter()
                    .map(|chain| chain.mine.unwrap_or(Tip::absent(chain.author)))
                    .collect();
                self.differ(ours, Vec::new(), then)
            }
        };
        Step { chains, next: Next::Send(request) }
    }

    fn wanted(&mut self, told: Told, wants: &[Want]) -> Step {
        if !wants.is_sorted_by(|a, b| a.index < b.index) {
            return Next::Misbehaved.into();
        }
        let chains = wants
            .iter()
            .filter_map(|want| {
                let mine = told.page.get(want.index as usize)?;
                let Want { height, prefix, closed, .. } = *want;
                let theirs = WireTip { author: mine.author, height, prefix, closed };
                Some(Chain::new(mine.author, Some(*mine), Some(theirs)))
            })
            .collect();
        let next = if !told.rest.is_empty() || !told.unknown.is_empty() {
            Next::Send(self.differ(told.rest, told.unknown, told.then))
        } else {
            match told.then {
                Then::Tell { after } => Next::Send(self.tell(Some(after))),
                Then::Fetch { after } => {
                    self.stage = Stage::Fetching { after: Some(after) };
                    Next::Send(Body::Fetch)
                }
                Then::End => Next::End { last: None, outcome: Outcome::Differed },
            }
        };
        Step { chains, next }
    }

    /// The next page of differing tips, then of ids.
    fn differ(&mut self, mut rest: Vec<Tip>, mut unknown: Vec<Id>, then: Then) -> Body {
        let page: Vec<Tip> = rest.drain(..rest.len().min(MAX_TIPS_PER_MESSAGE)).collect();
        let ids = if rest.is_empty() { unknown.len().min(MAX_IDS_PER_MESSAGE) } else { 0 };
        let request = Body::Differ {
            tips: page.iter().map(WireTip::of).collect(),
            unknown: unknown.drain(..ids).collect(),
            last: rest.is_empty() && unknown.is_empty(),
        };
        self.stage = Stage::Told(Told { page, rest, unknown, then });
        request
    }

    /// The page of our frontier that follows `after`.
    fn tell(&mut self, after: Option<NodeId>) -> Body {
        let (page, last) = page(&self.frontier, after);
        let tips = page.iter().map(WireTip::of).collect();
        let then = match page.last() {
            Some(tip) if !last => Then::Tell { after: tip.author },
            _ => Then::End,
        };
        self.stage = Stage::Told(Told { page, rest: Vec::new(), unknown: Vec::new(), then });
        Body::Tell { tips, last }
    }
}

/// The side that answers.
#[derive(Clone, Debug)]
pub(super) struct Responder {
    frontier: Frontier,
    serving: Serving,
}

/// What the responder has told or asked.
#[derive(Clone, Debug)]
enum Serving {
    /// So many cells; `named` are the authors on the pages of differences before the last.
    Cells { key: Key, nonce: Nonce, sent: u32, named: BTreeSet<NodeId> },
    /// Its frontier as far as `after`.
    Whole { after: Option<NodeId>, complete: bool },
    /// For the initiator's frontier, and got it as far as `after`.
    Asked { after: Option<NodeId> },
}

impl Responder {
    /// Answers an offer. `nonce` is the responder's own.
    pub(super) fn open(
        frontier: &mut Frontier,
        session: Nonce,
        nonce: Nonce,
        digest: Hash,
        their_chains: u64,
    ) -> (Responder, Step) {
        let our_chains = frontier.len() as u64;
        let equal = frontier.digest() == digest
            || (bug!(equal_if_as_many_chains) && our_chains == their_chains);
        let serving = if our_chains <= SMALL_FRONTIER || their_chains / MUCH_SMALLER > our_chains {
            Serving::Whole { after: None, complete: false }
        } else if their_chains <= SMALL_FRONTIER || our_chains / MUCH_SMALLER > their_chains {
            Serving::Asked { after: None }
        } else {
            let key = Key::of(session, nonce);
            Serving::Cells { key, nonce, sent: 0, named: BTreeSet::new() }
        };
        let mut responder = Responder { frontier: frontier.clone(), serving };
        let next = if equal {
            Next::End { last: Some(Body::Same), outcome: Outcome::Same }
        } else {
            match responder.serving {
                Serving::Whole { .. } => responder.whole(None),
                Serving::Cells { .. } => responder.cells(0),
                Serving::Asked { .. } => Next::Send(Body::Ask),
            }
        };
        (responder, next.into())
    }

    /// Takes the initiator's next request.
    pub(super) fn step(&mut self, request: Body) -> Step {
        match (&mut self.serving, request) {
            (Serving::Cells { named, .. }, Body::More { cells }) if named.is_empty() => {
                self.cells(cells).into()
            }
            (Serving::Cells { named, .. }, Body::Fetch) if named.is_empty() => {
                self.whole(None).into()
            }
            (&mut Serving::Whole { after, complete: false }, Body::Fetch) => {
                self.whole(after).into()
            }
            (Serving::Cells { .. }, Body::Differ { tips, unknown, last }) => {
                self.differing(&tips, unknown, last)
            }
            (&mut Serving::Whole { complete, .. }, Body::Differ { tips, unknown, last }) => {
                if !ascending(&tips) || !unknown.is_empty() {
                    return Next::Misbehaved.into();
                }
                // The initiator has our tips already.
                let answer = Body::Wants { wants: Vec::new() };
                let next = answer_or_end(answer, last && complete);
                Step { chains: chains(&self.frontier, &tips), next }
            }
            (&mut Serving::Asked { after }, Body::Tell { tips, last }) => {
                let Some(chains) = compare(&self.frontier, after, &tips, last) else {
                    return Next::Misbehaved.into();
                };
                let answer = Body::Wants { wants: wants(&self.frontier, &tips) };
                self.serving = Serving::Asked { after: tips.last().map(|tip| tip.author) };
                Step { chains, next: answer_or_end(answer, last) }
            }
            _ => Next::Misbehaved.into(),
        }
    }

    fn cells(&mut self, asked: u32) -> Next {
        let Serving::Cells { key, nonce, sent, .. } = &mut self.serving else {
            return Next::Misbehaved;
        };
        let range = *sent..*sent + next_batch(*sent, asked);
        if range.is_empty() {
            return Next::Misbehaved;
        }
        *sent = range.end;
        Next::Send(Body::Cells {
            nonce: *nonce,
            chains: self.frontier.len() as u64,
            cells: iblt::encode(key.cells(), key.ids(&self.frontier), range),
        })
    }

    fn whole(&mut self, after: Option<NodeId>) -> Next {
        let (page, complete) = page(&self.frontier, after);
        self.serving = Serving::Whole { after: page.last().map(|tip| tip.author), complete };
        Next::Send(Body::Whole { tips: page.iter().map(WireTip::of).collect(), last: complete })
    }

    /// A page of the differences that the initiator read off the cells.
    fn differing(&mut self, tips: &[WireTip], unknown: Vec<Id>, last: bool) -> Step {
        let Serving::Cells { key, named, .. } = &mut self.serving else {
            return Next::Misbehaved.into();
        };
        named.extend(tips.iter().map(|tip| tip.author));
        if !ascending(tips) || named.len() > MAX_CELLS as usize {
            return Next::Misbehaved.into();
        }
        let mut chains = chains(&self.frontier, tips);
        if !unknown.is_empty() {
            // Ids that are not ours are ignored: they name nothing.
            let unknown: BTreeSet<Id> = unknown.into_iter().collect();
            let only_ours = key
                .ids(&self.frontier)
                .zip(self.frontier.iter())
                .filter(|(id, tip)| unknown.contains(id) && !named.contains(&tip.author))
                .map(|(_, tip)| Chain::new(tip.author, Some(tip), None));
            chains.extend(only_ours);
        }
        let answer = Body::Wants { wants: wants(&self.frontier, tips) };
        Step { chains, next: answer_or_end(answer, last) }
    }
}

fn answer_or_end(answer: Body, last: bool) -> Next {
    if last {
        Next::End { last: Some(answer), outcome: Outcome::Differed }
    } else {
        Next::Send(answer)
    }
}

/// Drawn from the nonces of both sides, so that neither can choose it.
#[derive(Clone, Copy, Debug)]
struct Key([u8; 32]);

impl Key {
    fn of(initiator: Nonce, responder: Nonce) -> Key {
        let mut hasher = blake3::Hasher::new_derive_key("quorate 2026 sync session");
        hasher.update(&initiator.0);
        hasher.update(&responder.0);
        Key(*hasher.finalize().as_bytes())
    }

    /// The key of the cells' checksums.
    fn cells(&self) -> u64 {
        first_word(&self.0)
    }

    /// The ids of all tips, in their order.
    fn ids(&self, frontier: &Frontier) -> impl Iterator<Item = Id> {
        frontier
            .iter()
            .map(|tip| Id(first_word(blake3::keyed_hash(&self.0, &tip.to_bytes()).as_bytes())))
    }
}

fn first_word(bytes: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *bytes;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

/// How many cells follow the first `sent`: as many as are asked for, and at least half as many
/// again, so that a session's batches are few.
fn next_batch(sent: u32, asked: u32) -> u32 {
    let batch = if sent == 0 { FIRST_CELLS } else { asked.max(sent / 2) };
    batch.min(MAX_CELLS_PER_MESSAGE).min(MAX_CELLS - sent)
}

/// The tips that follow `after`, as many as a message holds, and whether there are no more.
fn page(frontier: &Frontier, after: Option<NodeId>) -> (Vec<Tip>, bool) {
    let mut rest = frontier.after(after);
    let page = rest.by_ref().take(MAX_TIPS_PER_MESSAGE).collect();
    (page, rest.next().is_none())
}

fn ascending(tips: &[WireTip]) -> bool {
    tips.is_sorted_by(|a, b| a.author < b.author)
}

/// Where a page of the peer's frontier, complete from `after` to its last tip (or to the end, if
/// `last`), differs from ours. None if it is no such page.
fn compare(
    frontier: &Frontier,
    after: Option<NodeId>,
    tips: &[WireTip],
    last: bool,
) -> Option<Vec<Chain>> {
    let follows = tips.first().is_none_or(|tip| after.is_none_or(|after| after < tip.author));
    if !follows || !ascending(tips) || (tips.is_empty() && !last) {
        return None;
    }
    let through = tips.last().map(|tip| tip.author).filter(|_| !last);
    let mut ours = frontier
        .after(after)
        .take_while(|tip| through.is_none_or(|through| tip.author <= through))
        .peekable();
    let mut chains = Vec::new();
    for theirs in tips {
        while let Some(mine) = ours.next_if(|mine| mine.author < theirs.author) {
            chains.push(Chain::new(mine.author, Some(mine), None));
        }
        let mine = ours.next_if(|mine| mine.author == theirs.author);
        chains.extend(differing(mine, *theirs));
    }
    chains.extend(ours.map(|mine| Chain::new(mine.author, Some(mine), None)));
    Some(chains)
}

/// Those of the peer's tips that differ from ours.
fn chains(frontier: &Frontier, tips: &[WireTip]) -> Vec<Chain> {
    tips.iter().filter_map(|theirs| differing(frontier.get(theirs.author), *theirs)).collect()
}

fn differing(mine: Option<Tip>, theirs: WireTip) -> Option<Chain> {
    let equal = theirs.matches(&mine.unwrap_or(Tip::absent(theirs.author)));
    (!equal).then(|| Chain::new(theirs.author, mine, Some(theirs)))
}

/// Of a page of the peer's tips: those of chains of which it may hold what we lack.
fn wants(frontier: &Frontier, tips: &[WireTip]) -> Vec<Want> {
    (0..)
        .zip(tips)
        .filter_map(|(index, theirs)| {
            let mine = frontier.get(theirs.author).unwrap_or(Tip::absent(theirs.author));
            let WireTip { height, prefix, closed, .. } = WireTip::of(&mine);
            (!theirs.matches(&mine) && has_news(theirs, &mine)).then_some(Want {
                index,
                height,
                prefix,
                closed,
            })
        })
        .collect()
}

/// Whether the peer, at `theirs`, may hold what we lack, at `mine`, of a chain where we differ.
///
/// The longer chain has the news, unless the shorter one is closed: then the news is why. At equal
/// heights, or both closed, there is a fork that either side may have to learn of.
fn has_news(theirs: &WireTip, mine: &Tip) -> bool {
    match (theirs.closed, mine.closed) {
        (false, false) => theirs.height >= mine.height,
        (theirs_closed, _) => theirs_closed,
    }
}
