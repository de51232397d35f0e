//! A node's state as documents.

use quorate_core::cluster::Standing;
use quorate_core::detector;
use quorate_core::handshake::Reason;
use quorate_core::membership::State;
use quorate_core::node::{Disconnect, PeerStatus};
use quorate_core::sync::Outcome;
use quorate_runtime_tokio::handle::Metrics;
use quorate_runtime_tokio::node::status::Status;

use super::execute::Hosted;
use super::protocol::{CheckDoc, ForkDoc, MemberDoc, OrphansDoc, PeerDoc, StatusDoc};

/// Clocks that differ by more than this are worth a word: well below what parks entries.
const CLOCK_OFFSET_MS: i64 = 30_000;

pub(super) fn status(hosted: &Hosted, status: Status) -> StatusDoc {
    let (node, host) = (status.node, status.host);
    let me = hosted.node.id();
    let traffic = host.peers.values().chain([&host.other_peers]);
    let (bytes_in, bytes_out) =
        traffic.fold((0, 0), |(i, o), traffic| (i + traffic.bytes_in, o + traffic.bytes_out));
    let standing = status.members.iter().find(|member| member.node == me);
    let fork = |(fork, proof): &(quorate_core::sigchain::Fork, quorate_core::hash::Hash)| ForkDoc {
        author: fork.author.to_string(),
        seq: fork.seq,
        hashes: [fork.hashes.0.to_string(), fork.hashes.1.to_string()],
        proof: proof.to_string(),
    };
    StatusDoc {
        node: me.to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        data: hosted.data.display().to_string(),
        running: hosted.running,
        listens: hosted.node.listens().map(Into::into),
        address: hosted.node.address().map(Into::into),
        store: status.founding.map(|founding| founding.store().to_string()),
        founder: status.founding.map(|founding| founding.founder.to_string()),
        standing: standing.map_or("not a member yet", |member| state(member.state)).into(),
        writable: node.writable,
        suspect: status.suspect && !node.writable,
        digest: status.digest.map(|digest| digest.to_string()),
        entries: node.applied,
        slots: status.slots as u64,
        members: status
            .members
            .iter()
            .map(|member| MemberDoc {
                node: member.node.to_string(),
                state: state(member.state).into(),
                invited_by: member.invited_by.to_string(),
                entries: member.height,
            })
            .collect(),
        links: host.links.len() as u64,
        forks: status.forks.iter().map(fork).collect(),
        gaps: node.gaps as u64,
        orphans: OrphansDoc {
            waiting: node.orphans as u64,
            bytes: node.orphan_bytes as u64,
            parked: node.parked as u64,
            expired: node.orphans_dropped.0,
            evicted: node.orphans_dropped.1,
        },
        refused: node.refused.iter().map(|(why, count)| (why.to_string(), *count)).collect(),
        disconnected: node
            .disconnected
            .iter()
            .map(|(why, count)| (why.to_string(), *count))
            .collect(),
        closed: host.closed.iter().map(|(why, count)| (why.to_string(), *count)).collect(),
        transfers_stalled: node.transfers_stalled,
        watches: node.watches as u64,
        log_records: node.next_position,
        commits: host.commits,
        corrupted: status.corrupted,
        bytes_in,
        bytes_out,
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Active => "active",
        State::Removed => "removed",
        State::Forked => "forked",
    }
}

pub(super) fn peer(peer: PeerStatus, metrics: &Metrics) -> PeerDoc {
    let state = match (peer.open, peer.health) {
        (true, Some(detector::Status::Suspect)) => "silent",
        (true, _) => "open",
        (false, _) if metrics.links.contains_key(&peer.node) => "greeting",
        (false, _) => "away",
    };
    let last_sync =
        peer.sync.as_ref().and_then(|sync| sync.last).map(|(outcome, _)| match outcome {
            Outcome::Same => "same".to_owned(),
            Outcome::Differed => "differed".to_owned(),
            Outcome::Failed(reason) => reason.to_string(),
        });
    let count = |of: fn(&quorate_core::sync::Status) -> u64| peer.sync.as_ref().map_or(0, of);
    let traffic = metrics.peers.get(&peer.node).copied().unwrap_or_default();
    PeerDoc {
        node: peer.node.to_string(),
        state: state.into(),
        address: peer.address.clone(),
        rtt_us: peer.rtt_us,
        clock_offset_ms: peer.clock_offset_ms,
        protocol: peer.version,
        backlog_chains: peer.backlog as u64,
        last_sync,
        syncs_same: count(|sync| sync.same),
        syncs_differed: count(|sync| sync.differed),
        syncs_failed: count(|sync| sync.failed),
        bytes_in: traffic.bytes_in,
        bytes_out: traffic.bytes_out,
    }
}

/// Whether this node may write, and reaches anybody if it does.
fn membership(hosted: &Hosted, status: &Status) -> (bool, &'static str) {
    let me = hosted.node.id();
    let standing = status.members.iter().find(|member| member.node == me).map(|m| m.state);
    // Who was away when it was removed has only the others' word for it.
    let refused = Disconnect::RefusedBy(Reason::Removed);
    let told = status.node.disconnected.contains_key(&refused);
    match standing {
        Some(State::Active) if told => {
            (false, "another member says that this node was removed: what it writes reaches nobody")
        }
        Some(State::Active) => (true, "this node may write"),
        Some(State::Removed) => (false, "this node was removed from the mesh"),
        Some(State::Forked) => (
            false,
            "this node's key signed two entries for one place: it writes no more; make a new node",
        ),
        None => {
            (false, "not a member yet: the store has not come, or nobody has invited this node")
        }
    }
}

/// Whether this node votes with what it has promised, and what is to be done if it does not.
fn journal(hosted: &Hosted, stands_aside: Option<Standing>) -> String {
    let next = match stands_aside {
        None => return "what this node has promised to a cluster is remembered".into(),
        Some(Standing::Unheard) => "while it runs and reaches a leader, let a member remove it",
        Some(Standing::Member) => "let a member remove it",
        Some(Standing::Removed) => "it was removed: let a member add it",
    };
    let me = hosted.node.id();
    let id = me.short();
    format!(
        "may be an old copy, so this node takes no part in its cluster; {next} (on another member: \
         quorate cluster remove {id}, then quorate cluster add {id}). If nothing newer exists, here: \
         quorate doctor --trust-disk"
    )
}

/// What the doctor looks at. The key's permissions and the log's checksums were looked at when the node
/// started: it would not have.
pub(super) fn checks(hosted: &Hosted, status: &Status, peers: &[PeerStatus]) -> Vec<CheckDoc> {
    let mut checks = Vec::new();
    let mut check = |name: &str, ok: bool, finding: String| {
        checks.push(CheckDoc { check: name.into(), ok, finding });
    };
    let node = &status.node;
    let records = node.next_position;
    let sound = status.corrupted == 0;
    check(
        "log",
        sound,
        match status.corrupted {
            0 => format!("{records} records read, every checksum right"),
            n => format!(
                "{n} of {records} records are damaged; they are refetched where peers have them"
            ),
        },
    );
    let copy = status.suspect && !node.writable;
    check("directory", !copy, match copy {
        false => "the log is the file that this node has been writing to".into(),
        true => "a copy or an old backup, or damaged; nothing is written until every member has shown \
                 that nothing is lacking. If nothing newer exists: quorate doctor --trust-disk"
            .into(),
    });
    check("journal", status.stands_aside.is_none(), journal(hosted, status.stands_aside));
    let (member, finding) = membership(hosted, status);
    check("membership", member, finding.into());
    let forked = status.forks.len();
    check(
        "forks",
        forked == 0,
        match forked {
            0 => "no author has signed two entries for one place".into(),
            n => format!("{n} authors have signed two entries for one place; see quorate status"),
        },
    );
    let parked = node.parked;
    check("clock", clock_is_right(peers) && parked == 0, clock_finding(peers, parked));
    check(
        "waiting",
        node.gaps == 0,
        match (node.gaps, node.orphans) {
            (0, 0) => "no entry waits for another".into(),
            (gaps, waiting) => format!("{waiting} entries wait, for {gaps} gaps to be filled"),
        },
    );
    if hosted.running {
        let open = peers.iter().filter(|peer| peer.open).count();
        let me = hosted.node.id();
        let others = status.members.iter().filter(|m| m.node != me && m.state == State::Active);
        let others = others.count();
        let finding = format!("{open} of {others} other members are connected");
        check("peers", open > 0 || others == 0, finding);
    }
    checks
}

fn clock_is_right(peers: &[PeerStatus]) -> bool {
    peers.iter().all(|peer| peer.clock_offset_ms.is_none_or(|ms| ms.abs() < CLOCK_OFFSET_MS))
}

fn clock_finding(peers: &[PeerStatus], parked: usize) -> String {
    let far = peers.iter().filter_map(|peer| Some((peer.node, peer.clock_offset_ms?)));
    let far: Vec<String> = far
        .filter(|(_, ms)| ms.abs() >= CLOCK_OFFSET_MS)
        .map(|(node, ms)| format!("{}'s clock is {} s from ours", node.short(), ms / 1000))
        .collect();
    match (far.is_empty(), parked) {
        (true, 0) => "agrees with the peers' clocks".into(),
        (true, n) => {
            format!("{n} entries from the future are held back: somebody's clock is wrong")
        }
        (false, _) => far.join(", "),
    }
}
