//! A node's state in lines, for replays and pictures.

use std::fmt::Write as _;

use quorate_core::machine::NodeId;
use quorate_core::node::Node;
use quorate_core::store::Store;
use quorate_sim::{System as _, View};

use crate::mesh::Mesh;

/// Waiting entries that are told of at most.
const WAITS_TOLD: usize = 3;

/// What there is to say of a node after a step.
pub(crate) fn state(
    mesh: &Mesh,
    node: usize,
    view: &View<'_, Mesh>,
) -> Vec<(&'static str, String)> {
    let Some(actor) = view.machine(node) else { return Vec::new() };
    let actor = &actor.node;
    let status = actor.status();
    let (written, durable) = (view.log(node).len(), view.durable(node));
    let mut lines = vec![
        ("id", format!("{:?}", actor.id())),
        ("links", links(view, node)),
        ("peers", peers(actor, view)),
        ("log", format!("{durable} of {written} durable")),
        ("writes", if status.writable { "may write" } else { "is learning its tip" }.to_owned()),
    ];
    if let Some(store) = actor.store() {
        lines.push(("applied", format!("{}, state {:?}", status.applied, store.digest())));
        lines.push(("tips", tips(mesh, store, view)));
        lines.push(("members", members(mesh, store, view)));
        lines.extend(some("waits", waits(store)));
        lines.extend(some("cuts", cuts(mesh, store)));
    }
    let (late, crowded) = status.orphans_dropped;
    let noted = [
        ("orphans", status.orphans as u64, format!("{}, {} parked", status.orphans, status.parked)),
        ("dropped", late + crowded, format!("{late} too old, {crowded} for want of room")),
        ("gaps", status.gaps as u64 + status.gaps_filled, {
            format!("{} open, {} filled", status.gaps, status.gaps_filled)
        }),
        ("refused", status.refused.len() as u64, format!("{:?}", status.refused)),
        ("closed", status.disconnected.len() as u64, format!("{:?}", status.disconnected)),
        ("stalled", status.transfers_stalled, format!("{} transfers", status.transfers_stalled)),
        ("damaged", status.damaged, format!("{} records", status.damaged)),
        ("watches", status.watches as u64, status.watches.to_string()),
    ];
    let there = noted.into_iter().filter(|(_, count, _)| *count > 0);
    lines.extend(there.map(|(label, _, text)| (label, text)));
    lines
}

/// The nodes it was told it has a link with.
fn links(view: &View<'_, Mesh>, node: usize) -> String {
    list((0..view.nodes()).filter(|peer| view.linked(node, *peer)).map(|peer| peer.to_string()))
}

/// What it thinks of its peers.
fn peers(actor: &Node, view: &View<'_, Mesh>) -> String {
    let mut open: Vec<_> = actor.peers().into_iter().filter(|peer| peer.open).collect();
    open.sort_by_key(|peer| view.index(peer.node));
    list(open.into_iter().map(|peer| {
        let name =
            view.index(peer.node).map_or_else(|| format!("{:?}", peer.node), |n| n.to_string());
        peer.health.map_or_else(|| name.clone(), |health| format!("{name}:{health:?}"))
    }))
}

/// How far it has each author's chain: applied, and held if that is more.
fn tips(mesh: &Mesh, store: &Store, view: &View<'_, Mesh>) -> String {
    list((0..view.nodes()).filter_map(|author| {
        let id = mesh.id(author);
        let (height, chain) = (store.tip(&id).height, store.chains().of(&id)?);
        let held = chain.held();
        let mut text = format!("{author}:{height}");
        if held != height {
            let _ = write!(text, "/{held}");
        }
        Some(text)
    }))
}

fn members(mesh: &Mesh, store: &Store, view: &View<'_, Mesh>) -> String {
    list((0..view.nodes()).filter_map(|node| {
        let member = store.membership().get(&mesh.id(node))?;
        Some(format!("{node}:{:?}", member.state))
    }))
}

/// Which entries wait, and for what: the first few.
fn waits(store: &Store) -> Vec<String> {
    let orphans = store.orphans();
    let all = orphans.authors().into_iter().flat_map(|author| orphans.of(author, 0));
    all.take(WAITS_TOLD).map(|orphan| format!("{:?} for {:?}", orphan.entry, orphan.wait)).collect()
}

/// Whose chains end where.
fn cuts(mesh: &Mesh, store: &Store) -> Vec<String> {
    let cut = |author: &NodeId| Some((mesh.name(author)?, store.chains().of(author)?.cut()?));
    let cuts = store.membership().iter().filter_map(|(author, _)| cut(author));
    cuts.map(|(name, cut)| format!("{name} at {cut}")).collect()
}

/// A line, if there is something to say.
fn some(label: &'static str, words: Vec<String>) -> Option<(&'static str, String)> {
    (!words.is_empty()).then(|| (label, words.join(", ")))
}

fn list(words: impl Iterator<Item = String>) -> String {
    let words: Vec<String> = words.collect();
    if words.is_empty() { "none".to_owned() } else { words.join(" ") }
}
