//! How answers are shown: as JSON, or for people.

use std::io::{self, BufWriter, IsTerminal, Write};

use serde_json::Value as Json;

use super::cluster;
use crate::control::protocol::cluster::{Answer, Ask};
use crate::control::protocol::{
    Blob, CheckDoc, Code, Failure, ItemDoc, PeerDoc, Reply, Request, StatusDoc, UpdateDoc,
    ValueDoc, VersionDoc,
};

/// How wide the column of keys, at least.
const KEY_COLUMN: usize = 24;
/// How many digits of an id are shown where space is scarce.
const SHORT_ID: usize = 10;

/// Where answers go.
#[derive(Debug)]
pub(super) struct Output {
    out: BufWriter<io::Stdout>,
    json: bool,
    tty: bool,
    shows: Shows,
    shown: usize,
    failed: usize,
    /// Whether the conditions of a transaction held.
    held: bool,
}

/// What the replies answer, where it matters to how they look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Value,
    Rows,
    Stream,
    Heads,
}

impl Output {
    pub(super) fn new(json: bool) -> Output {
        let tty = io::stdout().is_terminal();
        let out = BufWriter::new(io::stdout());
        Output { out, json, tty, shows: Shows::Rows, shown: 0, failed: 0, held: true }
    }

    /// What follows answers `request`.
    pub(super) fn begin(&mut self, request: &Request) {
        self.shows = match request {
            Request::Get { .. } => Shows::Value,
            Request::Watch { .. } => Shows::Stream,
            Request::Heads { .. } => Shows::Heads,
            Request::Cluster { ask, .. } => match **ask {
                Ask::Get { .. } => Shows::Value,
                Ask::Watch { .. } => Shows::Stream,
                _ => Shows::Rows,
            },
            _ => Shows::Rows,
        };
    }

    /// Shows one reply; `false` once nobody reads.
    pub(super) fn reply(&mut self, reply: &Reply) -> Result<bool, Failure> {
        self.shown += 1;
        match reply {
            Reply::Check(check) => self.failed += usize::from(!check.ok),
            Reply::Cluster(Answer::Txn { held, .. }) => self.held = *held,
            _ => {}
        }
        let written = if self.json { self.as_json(reply) } else { self.as_text(reply) };
        let flushed = match self.shows {
            Shows::Stream => written.and_then(|()| self.out.flush()),
            _ => written,
        };
        match flushed {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => Err(Failure::new(Code::Failed, format!("cannot print: {error}"))),
        }
    }

    /// All replies were shown.
    pub(super) fn end(&mut self) -> Result<(), Failure> {
        if self.shows == Shows::Heads && self.shown > 1 && !self.json {
            eprintln!("conflict: {} writes stand; another write settles it", self.shown);
        }
        self.flush()?;
        match self.failed {
            // What came of it is printed already.
            0 if !self.held => Err(Failure::new(Code::Stale, "")),
            0 => Ok(()),
            n => Err(Failure::new(Code::Failed, format!("{n} things need attention"))),
        }
    }

    /// Bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.out.write_all(bytes);
        written.or_else(quiet).map_err(cannot_print)?;
        self.flush()
    }

    /// The node's id.
    pub(super) fn id(&mut self, id: &str) -> Result<(), Failure> {
        let line =
            if self.json { serde_json::json!({ "node": id }).to_string() } else { id.to_owned() };
        self.raw(format!("{line}\n").as_bytes())
    }

    /// Whether JSON is wanted.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().or_else(quiet).map_err(cannot_print)
    }

    fn as_json(&mut self, reply: &Reply) -> io::Result<()> {
        let mut document = serde_json::to_value(reply).map_err(io::Error::other)?;
        if let Json::Object(fields) = &mut document {
            fields.remove("reply");
            fields.remove("answer");
        }
        writeln!(self.out, "{document}")
    }

    fn as_text(&mut self, reply: &Reply) -> io::Result<()> {
        match reply {
            Reply::Item(item) if self.shows == Shows::Value => self.value(item),
            Reply::Item(item) => {
                let mark = if item.conflict { "  (conflict)" } else { "" };
                let key = line(&item.key);
                writeln!(self.out, "{key:<KEY_COLUMN$} {}{mark}", value(&item.value))
            }
            Reply::Version(version) => self.version(version),
            Reply::Update(update) => self.update(update),
            Reply::Written(_) | Reply::Failure(_) | Reply::End => Ok(()),
            Reply::Imported { entries: 1 } => writeln!(self.out, "imported 1 entry"),
            Reply::Imported { entries } => writeln!(self.out, "imported {entries} entries"),
            Reply::Removed { node, already: false } => {
                let node = short(node);
                writeln!(self.out, "removed {node}: what it writes from now on has no effect")
            }
            Reply::Removed { node, already: true } => {
                writeln!(self.out, "{} was removed before", short(node))
            }
            Reply::Ticket { ticket, node } => {
                if self.tty {
                    let node = short(node);
                    return writeln!(
                        self.out,
                        "{node} may join now. On that machine:\n\nquorate join {ticket}\n"
                    );
                }
                writeln!(self.out, "{ticket}")
            }
            Reply::Joined { store } => {
                let store = short(store);
                writeln!(self.out, "joined the store {store}; it comes as this node syncs")
            }
            Reply::Synced { node, in_sync: true } => writeln!(self.out, "{}  in sync", short(node)),
            Reply::Synced { node, in_sync: false } => {
                writeln!(self.out, "{}  not yet in sync", short(node))
            }
            Reply::Status(status) => self.status(status),
            Reply::Peer(peer) => self.peer(peer),
            Reply::Check(check) => self.check(check),
            Reply::Cluster(Answer::Item(item)) if self.shows == Shows::Value => {
                self.bytes(&item.value.0)?;
                self.out.flush()?;
                eprintln!("{}", cluster::print::about(item));
                Ok(())
            }
            Reply::Cluster(answer) => {
                cluster::print::answer(&mut self.out, answer, self.shown, !self.tty)
            }
        }
    }

    /// A value just as it was put; at a terminal the prompt begins on a line of its own.
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        if self.tty && !bytes.ends_with(b"\n") {
            writeln!(self.out)?;
        }
        Ok(())
    }

    fn value(&mut self, item: &ItemDoc) -> io::Result<()> {
        match &item.value {
            ValueDoc::Register(bytes) => self.bytes(&bytes.0)?,
            ValueDoc::Counter(number) => writeln!(self.out, "{number}")?,
            ValueDoc::Set(members) => {
                for member in members {
                    self.out.write_all(&member.0)?;
                    writeln!(self.out)?;
                }
            }
        }
        self.out.flush()?;
        if item.conflict {
            let key = String::from_utf8_lossy(&item.key.0);
            eprintln!("conflict: others wrote `{key}` at the same time; `quorate heads {key}`");
        }
        Ok(())
    }

    fn version(&mut self, version: &VersionDoc) -> io::Result<()> {
        let when = utc(version.written_ms);
        let mark = match (version.head, version.counts) {
            (_, false) => "  (no effect)",
            (true, true) if self.shows != Shows::Heads => "  (stands)",
            (true, true) if self.shown == 1 => "  (read)",
            _ => "",
        };
        let what = version.value.as_ref().map(value).unwrap_or_default();
        let (author, change) = (short(&version.author), &version.change);
        writeln!(self.out, "{when}  {author}#{:<6} {change:<10} {what}{mark}", version.seq)
    }

    fn update(&mut self, update: &UpdateDoc) -> io::Result<()> {
        let (mark, item) = match update {
            UpdateDoc::Now(item) => (' ', item),
            UpdateDoc::Changed(item) => ('*', item),
            UpdateDoc::Live => return writeln!(self.out, "-- changes from here on --"),
            UpdateDoc::Deleted { key } => return writeln!(self.out, "- {}", line(key)),
            UpdateDoc::Lagged => {
                return writeln!(
                    self.out,
                    "-- fell behind: changes were dropped; the state now --"
                );
            }
        };
        let conflict = if item.conflict { "  (conflict)" } else { "" };
        let key = line(&item.key);
        writeln!(self.out, "{mark} {key:<KEY_COLUMN$} {}{conflict}", value(&item.value))
    }

    fn status(&mut self, status: &StatusDoc) -> io::Result<()> {
        let mut rows: Vec<(&str, String)> = Vec::new();
        let mut row = |name, text: String| rows.push((name, text));
        row("node", status.node.clone());
        row("data", status.data.clone());
        row(
            "running",
            match (&status.listens, &status.address) {
                (Some(listens), Some(address)) if listens != address => {
                    format!("listens on {listens}, tells others {address}")
                }
                (Some(listens), _) => format!("listens on {listens}"),
                _ => "no".into(),
            },
        );
        row("store", status.store.clone().unwrap_or_else(|| "none yet".into()));
        row("digest", status.digest.clone().unwrap_or_default());
        let writes = match (status.writable, status.suspect) {
            (true, _) => String::new(),
            (false, true) => ", writes nothing: the directory looks like an old copy".into(),
            (false, false) => ", learning its own latest entry".into(),
        };
        row("standing", format!("{}{writes}", status.standing));
        row("entries", status.entries.to_string());
        let active = status.members.iter().filter(|member| member.state == "active").count();
        row("members", format!("{active} active, {} connected", status.links));
        for member in &status.members {
            let (node, state, entries) = (short(&member.node), &member.state, member.entries);
            let me = if member.node == status.node { "  (this node)" } else { "" };
            row("", format!("{node}  {state:<8} {entries:>8} entries{me}"));
        }
        let orphans = &status.orphans;
        if orphans.waiting > 0 || status.gaps > 0 {
            let (waiting, parked, gaps) = (orphans.waiting, orphans.parked, status.gaps);
            row("waiting", format!("{waiting} entries, {parked} for the clock; {gaps} gaps"));
        }
        for fork in &status.forks {
            let (author, seq, proof) = (short(&fork.author), fork.seq, &fork.proof);
            row("fork", format!("{author} signed two entries for place {seq}; proof {proof}"));
        }
        for (name, counts) in [
            ("refused", &status.refused),
            ("disconnected", &status.disconnected),
            ("closed", &status.closed),
        ] {
            for (reason, count) in counts {
                row(name, format!("{count} {reason}"));
            }
        }
        if status.corrupted > 0 {
            row("damaged", format!("{} stored records", status.corrupted));
        }
        row("traffic", format!("{} in, {} out", size(status.bytes_in), size(status.bytes_out)));
        rows.iter().try_for_each(|(name, text)| writeln!(self.out, "{name:<13}{text}"))
    }

    fn peer(&mut self, peer: &PeerDoc) -> io::Result<()> {
        if self.shown == 1 {
            writeln!(
                self.out,
                "{:<12}{:<10}{:<23}{:>9} {:>10}  {:<10}{:>10} {:>10}",
                "node", "state", "address", "rtt", "clock", "last sync", "in", "out"
            )?;
        }
        let rtt = peer.rtt_us.map_or("-".into(), |us| format!("{:.1} ms", us as f64 / 1e3));
        let clock = peer.clock_offset_ms.map_or("-".into(), |ms| format!("{ms:+} ms"));
        writeln!(
            self.out,
            "{:<12}{:<10}{:<23}{rtt:>9} {clock:>10}  {:<10}{:>10} {:>10}",
            short(&peer.node),
            peer.state,
            peer.address.as_deref().unwrap_or("-"),
            peer.last_sync.as_deref().unwrap_or("-"),
            size(peer.bytes_in),
            size(peer.bytes_out),
        )
    }

    fn check(&mut self, check: &CheckDoc) -> io::Result<()> {
        let mark = if check.ok { "ok" } else { "!!" };
        writeln!(self.out, "{mark}  {:<12}{}", check.check, check.finding)
    }
}

fn quiet(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

fn cannot_print(error: io::Error) -> Failure {
    Failure::new(Code::Failed, format!("cannot print: {error}"))
}

/// The first digits of an id or a hash.
pub(super) fn short(id: &str) -> &str {
    id.get(..SHORT_ID).unwrap_or(id)
}

/// A value on one line.
fn value(value: &ValueDoc) -> String {
    match value {
        ValueDoc::Register(bytes) => line(bytes),
        ValueDoc::Counter(number) => number.to_string(),
        ValueDoc::Set(members) => {
            let members: Vec<String> = members.iter().map(line).collect();
            format!("{{{}}}", members.join(", "))
        }
    }
}

/// Bytes as one line that a terminal survives.
pub(super) fn line(bytes: &Blob) -> String {
    match std::str::from_utf8(&bytes.0) {
        Ok(text) if text.chars().any(char::is_control) => text.escape_debug().to_string(),
        Ok(text) => text.to_owned(),
        Err(_) => bytes.0.escape_ascii().to_string(),
    }
}

pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Milliseconds since 1970 as a date and time, by the days-to-civil algorithm of Howard Hinnant's
/// *chrono-Compatible Low-Level Date Algorithms*.
fn utc(ms: u64) -> String {
    let (days, rest) = (ms / 86_400_000, ms % 86_400_000);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60);
    let ms = rest % 1_000;
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00.000Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00.000Z");
        assert_eq!(utc(1_767_225_599_999), "2025-12-31 23:59:59.999Z");
    }

    #[test]
    fn a_line_holds_no_control_characters() {
        let shown = |bytes: &[u8]| line(&Blob::from(bytes));
        assert_eq!(shown("grün".as_bytes()), "grün");
        assert_eq!(shown(b"a\n\x1b[2Jb"), "a\\n\\u{1b}[2Jb");
        assert_eq!(shown(b"\xff\n"), "\\xff\\n");
    }
}
