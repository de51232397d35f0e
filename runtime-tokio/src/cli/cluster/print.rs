//! How a cluster's answers are shown to people.

use std::io::{self, Write};
use std::time::Duration;

use crate::cli::print;
use crate::control::protocol::Blob;
use crate::control::protocol::cluster::{
    Answer, ChangeDoc, ClusterDoc, HolderDoc, KeyDoc, OutcomeDoc, SeatDoc, SeatedDoc,
};

pub(super) use crate::cli::print::{line, short as short_id};

/// How wide the column of keys, at least.
const KEY_COLUMN: usize = 24;

/// One answer, the `shown`th; `plain` where a program reads it.
pub(in crate::cli) fn answer(
    out: &mut impl Write,
    answer: &Answer,
    shown: usize,
    plain: bool,
) -> io::Result<()> {
    match answer {
        Answer::Made { cluster } => writeln!(
            out,
            "made the cluster {cluster}, with this node as its only voter\n\
             Add two more, so that any one may fail: quorate cluster add NODE-ID"
        ),
        Answer::Seated { node, seat } => {
            let seat = match seat {
                SeatDoc::Voter => "votes",
                SeatDoc::Witness => "votes as a witness",
                SeatDoc::Learner => "follows as a learner",
            };
            writeln!(out, "{} {seat}", short_id(node))
        }
        Answer::Unseated { node } => writeln!(out, "{} takes part no longer", short_id(node)),
        Answer::Standing(status) => standing(out, status),
        Answer::Item(item) => row(out, item, shown),
        Answer::Written { revision, .. }
        | Answer::Deleted { revision }
        | Answer::Done { revision } => writeln!(out, "revision {revision}"),
        Answer::Txn { revision, held, outcomes } => {
            let held = if *held { "held" } else { "did not hold" };
            writeln!(out, "{held}, revision {revision}")?;
            outcomes.iter().try_for_each(|of| outcome(out, of))
        }
        Answer::Change(change) => changed(out, change),
        Answer::Granted { lease, .. } if plain => writeln!(out, "{lease}"),
        Answer::Granted { lease, ttl_ms } => {
            writeln!(out, "lease {lease}, for {}", time(Duration::from_millis(*ttl_ms)))
        }
        Answer::Renewed { ttl_ms, .. } => {
            writeln!(out, "goes on for {}", time(Duration::from_millis(*ttl_ms)))
        }
        Answer::Held { token } => writeln!(out, "held, token {token}"),
        Answer::Queued { before, token, .. } => {
            writeln!(out, "waits behind {before} others; the holder's token is {token}")
        }
        Answer::SteppedDown { token, next } => {
            let next = match next {
                Some(next) => {
                    format!("{} holds it now, token {}", short_id(&next.node), next.token)
                }
                None => "nobody holds it now".to_owned(),
            };
            writeln!(out, "the grant with token {token} has ended; {next}")
        }
        Answer::Name { holder, waiting, .. } => {
            writeln!(out, "{}; {waiting} waiting", held_by(holder.as_ref()))
        }
        Answer::Leader(holder) => {
            let value = match holder.value.0.is_empty() {
                true => String::new(),
                false => format!(", says {}", line(&holder.value)),
            };
            writeln!(out, "{} leads, token {}{value}", short_id(&holder.node), holder.token)
        }
    }
}

/// What goes with a value that is printed as it is.
pub(in crate::cli) fn about(item: &KeyDoc) -> String {
    let KeyDoc { mod_revision, version, lease, .. } = item;
    let lease = lease.map(|lease| format!(", goes with lease {lease}")).unwrap_or_default();
    format!("revision {mod_revision}, version {version}{lease}")
}

fn row(out: &mut impl Write, item: &KeyDoc, shown: usize) -> io::Result<()> {
    if shown == 1 {
        writeln!(out, "{:<KEY_COLUMN$} {:>8} {:>7}  value", "key", "revision", "version")?;
    }
    let lease = item.lease.map(|lease| format!("  (lease {lease})")).unwrap_or_default();
    let (key, value) = (line(&item.key), line(&item.value));
    let KeyDoc { mod_revision, version, .. } = item;
    writeln!(out, "{key:<KEY_COLUMN$} {mod_revision:>8} {version:>7}  {value}{lease}")
}

fn outcome(out: &mut impl Write, outcome: &OutcomeDoc) -> io::Result<()> {
    match outcome {
        OutcomeDoc::Put { version } => writeln!(out, "  put, version {version}"),
        OutcomeDoc::Deleted { existed: true } => writeln!(out, "  deleted"),
        OutcomeDoc::Deleted { existed: false } => writeln!(out, "  deleted nothing"),
        OutcomeDoc::Got(None) => writeln!(out, "  got nothing"),
        OutcomeDoc::Got(Some(item)) => {
            writeln!(out, "  got `{}` = `{}`, {}", line(&item.key), line(&item.value), about(item))
        }
    }
}

fn changed(out: &mut impl Write, change: &ChangeDoc) -> io::Result<()> {
    let mut one = |mark: char, revision: u64, key: &Blob, text: &str| {
        let row = format!("{mark} {revision:>8}  {:<KEY_COLUMN$} {text}", line(key));
        writeln!(out, "{}", row.trim_end())
    };
    match change {
        ChangeDoc::Now(item) => one(' ', item.mod_revision, &item.key, &line(&item.value)),
        ChangeDoc::Put { revision, item } => one('*', *revision, &item.key, &line(&item.value)),
        ChangeDoc::Deleted { revision, key } => one('-', *revision, key, ""),
        ChangeDoc::Name { revision, name, holder } => {
            one('*', *revision, name, &held_by(holder.as_ref()))
        }
        ChangeDoc::Live { from } => writeln!(out, "-- changes from revision {from} on --"),
    }
}

fn held_by(holder: Option<&HolderDoc>) -> String {
    match holder {
        None => "nobody holds it".to_owned(),
        Some(HolderDoc { node, token, stepping_down, .. }) => {
            let stepping_down = if *stepping_down { ", asked to step down" } else { "" };
            format!("{} holds it, token {token}{stepping_down}", short_id(node))
        }
    }
}

fn standing(out: &mut impl Write, status: &ClusterDoc) -> io::Result<()> {
    let mut rows: Vec<(&str, String)> = Vec::new();
    let mut row = |name, text: String| rows.push((name, text));
    if status.role == "aside" {
        row(
            "aside",
            "the journal may be an old copy: this node takes no part. See quorate doctor".into(),
        );
    }
    let Some(cluster) = &status.cluster else {
        row("node", status.node.clone());
        row("cluster", "none: `quorate cluster init` makes one, or a member adds this node".into());
        return table(out, &rows);
    };
    row("cluster", cluster.clone());
    row("node", status.node.clone());
    row("role", status.role.clone());
    let leader = match &status.leader {
        Some(leader) => format!("{}, epoch {}", short_id(leader), status.epoch),
        None => format!("none is known; the last epoch was {}", status.epoch),
    };
    row("leader", leader);
    row("health", status.health.clone());
    let behind = status.commit.saturating_sub(status.revision);
    let behind = if behind > 0 { format!(", {behind} behind") } else { String::new() };
    row("revision", format!("{}{behind}", status.revision));
    let voters = status.members.iter().filter(|member| member.seat != SeatDoc::Learner);
    let (voters, all) = (voters.count(), status.members.len());
    row("members", format!("{all}, {voters} of them vote; {} decide", voters / 2 + 1));
    for member in &status.members {
        row("", seated(status, member));
    }
    row("keys", format!("{}, {}", status.keys, print::size(status.bytes)));
    row("leases", status.leases.to_string());
    row("names", status.names.to_string());
    row("watches", format!("{} on this node", status.watches));
    table(out, &rows)
}

fn seated(status: &ClusterDoc, member: &SeatedDoc) -> String {
    let seat = match (member.seat, member.aspires) {
        (SeatDoc::Voter, _) => "voter",
        (SeatDoc::Witness, _) => "witness",
        (SeatDoc::Learner, true) => "learner, to vote",
        (SeatDoc::Learner, false) => "learner",
    };
    let mut notes = Vec::new();
    if status.leader.as_deref() == Some(&member.node) {
        notes.push("leads".to_owned());
    }
    if let Some(matched) = member.matched.filter(|matched| *matched < status.last) {
        notes.push(format!("lacks {} entries", status.last - matched));
    }
    if member.node == status.node {
        notes.push("this node".to_owned());
    } else if !member.reachable {
        notes.push("not reached".to_owned());
    }
    format!("{}  {seat:<16}  {}", short_id(&member.node), notes.join(", ")).trim_end().to_owned()
}

fn table(out: &mut impl Write, rows: &[(&str, String)]) -> io::Result<()> {
    rows.iter().try_for_each(|(name, text)| writeln!(out, "{name:<13}{text}"))
}

/// A time as it is written on the command line.
pub(super) fn time(time: Duration) -> String {
    match time.as_millis() {
        ms if ms % 1_000 != 0 => format!("{ms}ms"),
        ms => format!("{}s", ms / 1_000),
    }
}
