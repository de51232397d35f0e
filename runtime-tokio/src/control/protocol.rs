//! What commands and a running node say to each other: one JSON document a line.
//!
//! A request is answered by any number of replies, the last of which is `end` or `failure`. The same
//! replies, without their `reply` tag, are what `--json` prints.
//!
//! Keys and values are bytes. In JSON they are strings where they are UTF-8, and `{"hex": "…"}` where
//! they are not.

pub(crate) mod cluster;

use std::collections::BTreeMap;
use std::fmt;

use quorate_runtime_tokio::node::read::{Item, Value, Version, VersionChange};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use cluster::{Answer, Ask};

/// The longest line either side reads, in bytes: more than the largest value in its longest encoding.
pub(crate) const MAX_LINE_BYTES: usize = 16 << 20;

/// What can be asked of a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    Put {
        key: Blob,
        value: Blob,
    },
    Get {
        key: Blob,
    },
    Delete {
        key: Blob,
    },
    List {
        prefix: Blob,
        from: Option<Blob>,
        to: Option<Blob>,
        limit: Option<u64>,
    },
    History {
        key: Blob,
        limit: u64,
    },
    Heads {
        key: Blob,
    },
    Watch {
        pattern: Pattern,
    },
    CounterAdd {
        key: Blob,
        delta: i64,
    },
    SetAdd {
        key: Blob,
        member: Blob,
    },
    SetRemove {
        key: Blob,
        member: Blob,
    },
    Import {
        items: Vec<(Blob, ValueDoc)>,
    },
    Invite {
        node: String,
    },
    Join {
        ticket: String,
    },
    Remove {
        node: String,
        leave: bool,
    },
    Sync {
        node: Option<String>,
        limit_ms: u64,
    },
    Status,
    Peers,
    Doctor {
        trust_disk: bool,
    },
    /// Of a running node alone: answered within so long, whatever happens.
    Cluster {
        timeout_ms: u64,
        ask: Box<Ask>,
    },
}

/// Which keys to watch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Pattern {
    Key(Blob),
    Prefix(Blob),
    Glob(Blob),
}

/// What a node answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub(crate) enum Reply {
    Item(ItemDoc),
    Version(Box<VersionDoc>),
    Update(UpdateDoc),
    Written(WrittenDoc),
    Imported { entries: u64 },
    Ticket { ticket: String, node: String },
    Joined { store: String },
    Removed { node: String, already: bool },
    Synced { node: String, in_sync: bool },
    Status(Box<StatusDoc>),
    Peer(Box<PeerDoc>),
    Check(CheckDoc),
    Cluster(Answer),
    Failure(Failure),
    End,
}

/// Why a command ends otherwise than well: the process's exit code, and one sentence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// What a program may want to know besides, by name.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub(crate) detail: serde_json::Map<String, serde_json::Value>,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), detail: serde_json::Map::new() }
    }

    /// The same, and something that a program may want to know.
    pub(crate) fn with(mut self, name: &str, detail: impl Into<serde_json::Value>) -> Failure {
        self.detail.insert(name.to_owned(), detail.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Exit codes. Those of the command line's own mistakes are clap's: 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    /// Anything without a code of its own.
    Failed = 1,
    /// The command was not understood, or an argument is out of bounds.
    Usage = 2,
    /// There is no such key, node, name, lease or file.
    NotFound = 3,
    /// Understood and refused: not a member, wrong type, directory in use.
    Refused = 4,
    /// No node is running, or it cannot be reached, or it reached nobody, or no quorum.
    Unreachable = 5,
    /// The disk is full, damaged or not accessible.
    Storage = 6,
    /// The address to listen on is not available.
    Listen = 7,
    /// A revision or a value is not the current one.
    Stale = 8,
    /// A lock or a leadership was lost while the command ran.
    Lost = 9,
    /// Waited in vain for as long as was asked for.
    TimedOut = 10,
    /// A token is not that of the name's holder.
    OldToken = 11,
}

/// Bytes in JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Blob {
        Blob(bytes.to_vec())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => {
                let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("hex", &hex)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Blob, D::Error> {
        struct BlobVisitor;
        impl<'de> Visitor<'de> for BlobVisitor {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or {\"hex\": \"…\"}")
            }
            fn visit_str<E>(self, text: &str) -> Result<Blob, E> {
                Ok(Blob(text.as_bytes().to_vec()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Blob, A::Error> {
                let entry: Option<(String, String)> = map.next_entry()?;
                let hex = entry.filter(|(name, _)| name == "hex").map(|(_, hex)| hex);
                let bytes = hex.and_then(|hex| unhex(&hex)).map(Blob);
                bytes.ok_or_else(|| A::Error::custom("expected {\"hex\": \"…\"}"))
            }
        }
        deserializer.deserialize_any(BlobVisitor)
    }
}

/// The bytes that an even number of hexadecimal digits stand for.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

/// A value in JSON: a string, a number, or an array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum ValueDoc {
    Counter(i64),
    Set(Vec<Blob>),
    Register(Blob),
}

/// A key and what stands there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ItemDoc {
    pub(crate) key: Blob,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) value: ValueDoc,
    pub(crate) conflict: bool,
}

impl From<Item> for ItemDoc {
    fn from(item: Item) -> ItemDoc {
        let (kind, value) = match item.value {
            Value::Register(value) => ("register", ValueDoc::Register(Blob(value.to_vec()))),
            Value::Counter(value) => ("counter", ValueDoc::Counter(value)),
            Value::Set(members) => ("set", ValueDoc::Set(members.into_iter().map(Blob).collect())),
        };
        let (key, conflict) = (Blob(item.key), item.conflict);
        ItemDoc { key, kind: kind.into(), value, conflict }
    }
}

/// One write to a key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct VersionDoc {
    pub(crate) author: String,
    pub(crate) seq: u64,
    pub(crate) hash: String,
    /// Milliseconds since 1970, by the author's clock.
    pub(crate) written_ms: u64,
    pub(crate) change: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<ValueDoc>,
    pub(crate) head: bool,
    pub(crate) counts: bool,
}

impl From<Version> for VersionDoc {
    fn from(version: Version) -> VersionDoc {
        let (change, value) = match version.change {
            VersionChange::Put(value) => ("put", Some(ValueDoc::Register(Blob(value.to_vec())))),
            VersionChange::Delete => ("delete", None),
            VersionChange::Add(delta) => ("add", Some(ValueDoc::Counter(delta))),
            VersionChange::SetAdd(member) => ("set_add", Some(ValueDoc::Register(Blob(member)))),
            VersionChange::SetRemove(member) => {
                ("set_remove", Some(ValueDoc::Register(Blob(member))))
            }
        };
        VersionDoc {
            author: version.author.to_string(),
            seq: version.seq,
            hash: version.hash.to_string(),
            written_ms: version.written.0,
            change: change.into(),
            value,
            head: version.head,
            counts: version.counts,
        }
    }
}

/// An update of a watch.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum UpdateDoc {
    Now(ItemDoc),
    Live,
    Changed(ItemDoc),
    Deleted { key: Blob },
    Lagged,
}

/// An entry that was written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WrittenDoc {
    pub(crate) author: String,
    pub(crate) seq: u64,
    pub(crate) hash: String,
}

/// A node's state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StatusDoc {
    pub(crate) node: String,
    pub(crate) version: String,
    pub(crate) data: String,
    pub(crate) running: bool,
    pub(crate) listens: Option<String>,
    pub(crate) address: Option<String>,
    pub(crate) store: Option<String>,
    pub(crate) founder: Option<String>,
    pub(crate) standing: String,
    pub(crate) writable: bool,
    pub(crate) suspect: bool,
    pub(crate) digest: Option<String>,
    pub(crate) entries: u64,
    pub(crate) slots: u64,
    pub(crate) members: Vec<MemberDoc>,
    pub(crate) links: u64,
    pub(crate) forks: Vec<ForkDoc>,
    pub(crate) gaps: u64,
    pub(crate) orphans: OrphansDoc,
    pub(crate) refused: BTreeMap<String, u64>,
    pub(crate) disconnected: BTreeMap<String, u64>,
    pub(crate) closed: BTreeMap<String, u64>,
    pub(crate) transfers_stalled: u64,
    pub(crate) watches: u64,
    pub(crate) log_records: u64,
    pub(crate) commits: u64,
    pub(crate) corrupted: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MemberDoc {
    pub(crate) node: String,
    pub(crate) state: String,
    pub(crate) invited_by: String,
    pub(crate) entries: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ForkDoc {
    pub(crate) author: String,
    pub(crate) seq: u64,
    pub(crate) hashes: [String; 2],
    pub(crate) proof: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct OrphansDoc {
    pub(crate) waiting: u64,
    pub(crate) bytes: u64,
    pub(crate) parked: u64,
    pub(crate) expired: u64,
    pub(crate) evicted: u64,
}

/// What is known of a peer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PeerDoc {
    pub(crate) node: String,
    pub(crate) state: String,
    pub(crate) address: Option<String>,
    pub(crate) rtt_us: Option<u64>,
    pub(crate) clock_offset_ms: Option<i64>,
    pub(crate) protocol: Option<u16>,
    pub(crate) backlog_chains: u64,
    pub(crate) last_sync: Option<String>,
    pub(crate) syncs_same: u64,
    pub(crate) syncs_differed: u64,
    pub(crate) syncs_failed: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// What the doctor found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct CheckDoc {
    pub(crate) check: String,
    pub(crate) ok: bool,
    pub(crate) finding: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_strings_where_they_can_be() {
        for (bytes, json) in
            [(&b"caf\xc3\xa9"[..], r#""café""#), (b"\xff\x00", r#"{"hex":"ff00"}"#)]
        {
            let blob = Blob::from(bytes);
            assert_eq!(serde_json::to_string(&blob).unwrap(), json);
            assert_eq!(serde_json::from_str::<Blob>(json).unwrap(), blob);
        }
        for json in ["7", r#"{"hex":"f"}"#, r#"{"hex":"é1"}"#, r#"{"other":"ff"}"#, "{}"] {
            assert!(serde_json::from_str::<Blob>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn values_of_each_type_are_told_apart() {
        for (json, kind) in [("5", "counter"), (r#"["a",{"hex":"ff"}]"#, "set"), (r#""5""#, "text")]
        {
            let value: ValueDoc = serde_json::from_str(json).unwrap();
            let found = match value {
                ValueDoc::Counter(_) => "counter",
                ValueDoc::Set(_) => "set",
                ValueDoc::Register(_) => "text",
            };
            assert_eq!(found, kind);
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
        }
    }

    #[test]
    fn a_reply_crosses_the_socket() {
        let item = ItemDoc {
            key: Blob::from(&b"k\xff"[..]),
            kind: "counter".into(),
            value: ValueDoc::Counter(-3),
            conflict: true,
        };
        let line = serde_json::to_string(&Reply::Update(UpdateDoc::Changed(item.clone()))).unwrap();
        let Reply::Update(UpdateDoc::Changed(read)) = serde_json::from_str(&line).unwrap() else {
            panic!("{line}")
        };
        assert_eq!(read, item);
        let unknown = serde_json::from_str::<Request>(r#"{"request":"explode"}"#);
        assert!(unknown.is_err());
    }
}
