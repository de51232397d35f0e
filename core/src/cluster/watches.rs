//! Watches: each is a place in the registry's history, and as many updates as its reader may take.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::message::{Event, WatchEnd, WatchUpdate};
use super::{Cluster, MAX_WATCHES, Step, WINDOW};
use crate::registry::{Change, Target};

/// The watches of a node's readers.
#[derive(Clone, Debug, Default)]
pub(super) struct Watches {
    watches: BTreeMap<u64, Watch>,
    /// All watches that may be told more have been told what happened up to here.
    pumped: u64,
    /// Whether one of them has a place before that.
    behind: bool,
}

#[derive(Clone, Debug)]
struct Watch {
    target: Target,
    /// What was not looked at yet.
    from: u64,
    untaken: usize,
}

impl Watches {
    pub(super) fn len(&self) -> usize {
        self.watches.len()
    }

    pub(super) fn taken(&mut self, watch: u64, count: usize) {
        if let Some(watch) = self.watches.get_mut(&watch) {
            watch.untaken = watch.untaken.saturating_sub(count);
            self.behind = true;
        }
    }

    pub(super) fn end(&mut self, watch: u64) {
        self.watches.remove(&watch);
    }

    /// This node has no data any more.
    pub(super) fn end_all(&mut self, step: &mut Step<'_>) {
        for (watch, _) in core::mem::take(self).watches {
            step.tell(Event::Watched { watch, update: WatchUpdate::Ended(WatchEnd::NoData) });
        }
    }
}

impl Cluster {
    pub(super) fn watch(
        &mut self,
        step: &mut Step<'_>,
        watch: u64,
        target: Target,
        from: Option<u64>,
    ) {
        let data = self.keeps_data() && !self.halted && self.aside.is_none();
        let mut tell = |update| step.tell(Event::Watched { watch, update });
        if !data {
            return tell(WatchUpdate::Ended(WatchEnd::NoData));
        }
        let watches = &mut self.watches.watches;
        if watches.len() >= MAX_WATCHES && !watches.contains_key(&watch) {
            return tell(WatchUpdate::Ended(WatchEnd::TooMany));
        }
        let from = from.unwrap_or(self.registry.revision() + 1);
        let oldest = self.registry.oldest();
        if from < oldest && !bug!(compaction_passed_over_in_silence) {
            watches.remove(&watch);
            return tell(WatchUpdate::Compacted { oldest });
        }
        tell(WatchUpdate::Began { from });
        watches.insert(watch, Watch { target, from, untaken: 0 });
        self.watches.behind = true;
    }

    /// Tells the watches what has happened since, as much as their readers may take.
    pub(super) fn pump(&mut self, step: &mut Step<'_>) {
        let revision = self.registry.revision();
        if revision == self.watches.pumped && !self.watches.behind {
            return;
        }
        (self.watches.pumped, self.watches.behind) = (revision, false);
        let registry = &self.registry;
        self.watches.watches.retain(|&id, watch| {
            bug!(compaction_passed_over_in_silence => watch.from = watch.from.max(registry.oldest()));
            let Ok(history) = registry.changes(watch.from) else {
                let update = WatchUpdate::Compacted { oldest: registry.oldest() };
                step.tell(Event::Watched { watch: id, update });
                return false;
            };
            for (revision, changes) in history {
                if watch.untaken >= WINDOW {
                    return true;
                }
                watch.from = revision + 1;
                let matching = changes.iter().filter(|change| watch.target.matches(change));
                let changes: Vec<Change> = matching.cloned().collect();
                if !changes.is_empty() {
                    watch.untaken += 1;
                    let update = WatchUpdate::Changed { revision, changes };
                    step.tell(Event::Watched { watch: id, update });
                }
            }
            watch.from = watch.from.max(revision + 1);
            true
        });
    }
}
