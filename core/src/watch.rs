//! Watching: what matches a pattern now, then every change after it, with no gap and no duplicate.
//!
//! A watch begins with a *snapshot*: the merge as it is at that moment, which costs nothing to keep
//! since it is copy-on-write. It is told page by page; changes that happen meanwhile queue behind it.
//! So the two halves meet exactly: everything before the moment is in the snapshot, everything after
//! it is a change.
//!
//! **Slow readers.** The reader acknowledges what it has taken. At most [`WINDOW`] updates are on their
//! way to it, and at most [`MAX_PENDING`] wait behind those. One more, and the reader is told
//! [`Update::Lagged`] instead: what was waiting is dropped, and nothing more comes until it asks to
//! resync, which is a new snapshot. Memory stays bounded, and nobody misses something unknowingly.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::dag::{Dag, SlotName};
use crate::value::{Found, Reading, read, scan};

/// The most updates that a reader has not acknowledged.
pub const WINDOW: usize = 256;
/// The most updates that wait for a reader.
pub const MAX_PENDING: usize = 8192;
/// The most watches on a node.
pub const MAX_WATCHES: usize = 1024;

/// Which keys are watched.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Pattern {
    /// One key.
    Key(Bytes),
    /// The keys that start so.
    Prefix(Bytes),
    /// `*` stands for any run of bytes, `?` for one byte, everything else for itself.
    Glob(Bytes),
}

impl Pattern {
    /// Whether `key` matches.
    #[must_use]
    pub fn matches(&self, key: &[u8]) -> bool {
        match self {
            Pattern::Key(wanted) => key == wanted,
            Pattern::Prefix(prefix) => key.starts_with(prefix),
            Pattern::Glob(glob) => glob_matches(glob, key),
        }
    }

    /// What every matching key starts with.
    fn prefix(&self) -> &[u8] {
        match self {
            Pattern::Key(key) => key,
            Pattern::Prefix(prefix) => prefix,
            Pattern::Glob(glob) => {
                let end = glob.iter().position(|byte| matches!(byte, b'*' | b'?'));
                &glob[..end.unwrap_or(glob.len())]
            }
        }
    }
}

/// What a reader is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// What a key held when the watch began.
    Now {
        /// The key.
        key: Vec<u8>,
        /// What it held.
        reading: Reading,
    },
    /// The snapshot is over; what follows are changes.
    Live,
    /// A key's heads changed.
    Changed {
        /// The key.
        key: Vec<u8>,
        /// What it holds now.
        reading: Reading,
    },
    /// The reader fell behind: updates were dropped, and nothing comes until it resyncs.
    Lagged,
}

/// All watches of a node.
#[derive(Clone, Debug, Default)]
pub struct Watches {
    watches: BTreeMap<u64, Watch>,
}

#[derive(Clone, Debug)]
struct Watch {
    pattern: Pattern,
    /// What is left of the snapshot: the merge then, and where to go on.
    snapshot: Option<(Dag, Box<[u8]>)>,
    pending: VecDeque<Update>,
    unacknowledged: usize,
    lagged: bool,
}

impl Watches {
    /// Begins watch `id`, or begins it anew; `false` if there are [`MAX_WATCHES`] already.
    pub fn begin(&mut self, id: u64, pattern: Pattern, dag: &Dag) -> bool {
        if self.watches.len() >= MAX_WATCHES && !self.watches.contains_key(&id) {
            return false;
        }
        let start = SlotName::prefix(pattern.prefix());
        let (pending, unacknowledged, lagged) = (VecDeque::new(), 0, false);
        let snapshot = Some((dag.clone(), start));
        self.watches.insert(id, Watch { pattern, snapshot, pending, unacknowledged, lagged });
        true
    }

    /// Ends watch `id`.
    pub fn end(&mut self, id: u64) {
        self.watches.remove(&id);
    }

    /// The reader of `id` has taken `count` updates.
    pub fn acknowledge(&mut self, id: u64, count: usize) {
        if let Some(watch) = self.watches.get_mut(&id) {
            watch.unacknowledged = watch.unacknowledged.saturating_sub(count);
        }
    }

    /// The reader of `id`, which fell behind, begins again.
    pub fn resync(&mut self, id: u64, dag: &Dag) {
        if let Some(watch) = self.watches.get(&id) {
            let pattern = watch.pattern.clone();
            self.begin(id, pattern, dag);
        }
    }

    /// The heads of `key` changed.
    pub fn changed(&mut self, key: &[u8], dag: &Dag) {
        for watch in self.watches.values_mut() {
            if watch.lagged || !watch.pattern.matches(key) {
                continue;
            }
            if watch.pending.len() >= MAX_PENDING {
                watch.lagged = true;
                watch.snapshot = None;
                watch.pending = VecDeque::from([Update::Lagged]);
            } else {
                let reading = read(dag, key);
                if bug!(watch_skips_deletes) && reading.found == Found::Nothing {
                    continue;
                }
                watch.pending.push_back(Update::Changed { key: key.to_vec(), reading });
            }
        }
    }

    /// The next update that a reader can take.
    pub fn next_update(&mut self) -> Option<(u64, Update)> {
        self.watches.iter_mut().find_map(|(id, watch)| Some((*id, watch.next_update()?)))
    }

    /// How many watches there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.watches.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }
}

impl Watch {
    fn next_update(&mut self) -> Option<Update> {
        // That it lags is what a reader must hear whether it has room or not.
        let urgent = self.lagged && !self.pending.is_empty();
        if self.unacknowledged >= WINDOW && !urgent {
            return None;
        }
        let update = match self.snapshot.take() {
            Some((dag, from)) => self.next_of_snapshot(dag, &from),
            None => self.pending.pop_front()?,
        };
        self.unacknowledged += 1;
        Some(update)
    }

    fn next_of_snapshot(&mut self, dag: Dag, from: &[u8]) -> Update {
        if let Pattern::Key(key) = &self.pattern {
            let reading = read(&dag, key);
            return match reading.found {
                Found::Nothing => Update::Live,
                _ => {
                    self.snapshot = Some((Dag::default(), Box::default()));
                    Update::Now { key: key.to_vec(), reading }
                }
            };
        }
        let mut found = scan(&dag, from, self.pattern.prefix());
        let Some((key, reading)) = found.find(|(key, _)| self.pattern.matches(key)) else {
            return Update::Live;
        };
        drop(found);
        debug_assert_ne!(reading.found, Found::Nothing);
        // Slots of a key end in 00 01 or 00 02 …; the next key's begin above 00 03.
        let mut next = SlotName::prefix(&key).into_vec();
        next.extend_from_slice(&[0, 3]);
        self.snapshot = Some((dag, next.into()));
        Update::Now { key, reading }
    }
}

/// Matches greedily, going back to the last `*` on a mismatch: at most |glob| × |key| steps.
fn glob_matches(glob: &[u8], key: &[u8]) -> bool {
    let (mut g, mut k, mut star) = (0, 0, None);
    while k < key.len() {
        match glob.get(g) {
            Some(b'*') => {
                star = Some((g, k));
                g += 1;
            }
            Some(byte) if *byte == b'?' || *byte == key[k] => {
                g += 1;
                k += 1;
            }
            _ => {
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                g = at + 1;
                k = from + 1;
            }
        }
    }
    glob[g..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Op;
    use crate::identity::{Identity, verify};
    use crate::machine::WallTime;
    use crate::store::{Change, Founding, Outcome, Store};

    #[test]
    fn globs() {
        let matches = |glob: &str, key: &str| glob_matches(glob.as_bytes(), key.as_bytes());
        assert!(matches("a*c", "abbbc") && matches("a*c", "ac") && matches("*", ""));
        assert!(matches("a?c*", "abcd") && !matches("a?c", "ac") && !matches("a*c", "acd"));
        assert!(matches("*x*y*", "1x2y3") && !matches("*x*y*", "1y2x3"));
    }

    struct Writer {
        identity: Identity,
        store: Store,
        watches: Watches,
    }

    impl Writer {
        fn new() -> Writer {
            let identity = Identity::from_seed([1; 32]);
            let founding = Founding { founder: identity.id(), nonce: [0; 16] };
            let store = Store::new(identity.id(), founding, verify, 0);
            Writer { identity, store, watches: Watches::default() }
        }

        fn put(&mut self, key: &str) {
            let key = Bytes::copy_from_slice(key.as_bytes());
            let change = Change::Put { key, value: Bytes::from_static(b"v") };
            let mut out = Vec::new();
            self.store.write(&self.identity, &[change], WallTime(1), &mut out).unwrap();
            for outcome in out {
                if let Outcome::Applied { entry, .. } = outcome {
                    for op in entry.ops() {
                        let Op::Put { key, .. } = op else { continue };
                        self.watches.changed(key, self.store.dag());
                    }
                }
            }
        }

        fn take(&mut self, most: usize) -> Vec<alloc::string::String> {
            let name = |key: &[u8]| alloc::string::String::from_utf8_lossy(key).into_owned();
            let mut taken = Vec::new();
            while taken.len() < most
                && let Some((_, update)) = self.watches.next_update()
            {
                taken.push(match update {
                    Update::Now { key, .. } => alloc::format!("now {}", name(&key)),
                    Update::Live => "live".into(),
                    Update::Changed { key, .. } => alloc::format!("changed {}", name(&key)),
                    Update::Lagged => "lagged".into(),
                });
            }
            taken
        }
    }

    #[test]
    fn the_state_now_then_each_change_without_gap_or_duplicate() {
        let mut writer = Writer::new();
        for key in ["a/1", "a/2", "b/1"] {
            writer.put(key);
        }
        let dag = writer.store.dag().clone();
        writer.watches.begin(7, Pattern::Prefix(Bytes::from_static(b"a/")), &dag);
        assert_eq!(writer.take(1), ["now a/1"]);
        writer.put("a/0"); // behind the reader's place in the snapshot, and after its moment
        writer.put("a/2");
        writer.put("b/2");
        assert_eq!(writer.take(9), ["now a/2", "live", "changed a/0", "changed a/2"]);
    }

    #[test]
    fn a_slow_reader_is_told_and_resyncs() {
        let mut writer = Writer::new();
        let dag = writer.store.dag().clone();
        writer.watches.begin(7, Pattern::Key(Bytes::from_static(b"k")), &dag);
        assert_eq!(writer.take(9), ["live"]);
        for _ in 0..=WINDOW + MAX_PENDING {
            writer.put("k");
            if writer.watches.watches[&7].unacknowledged < WINDOW {
                writer.take(1);
            }
        }
        assert_eq!(writer.take(9), ["lagged"]);
        writer.put("k");
        assert!(writer.take(9).is_empty(), "nothing until it resyncs");
        let dag = writer.store.dag().clone();
        writer.watches.resync(7, &dag);
        assert_eq!(writer.take(9), ["now k", "live"]);
    }
}
