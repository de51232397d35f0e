//! Watching from outside the machine: updates with their values, at the reader's pace.

use quorate_core::node::{Command, Holds, Shown, WatchUpdate};
use quorate_core::watch::{MAX_WATCHES, Pattern, WINDOW};
use tokio::sync::mpsc;

use super::read::{Item, Value};
use super::{Node, NodeError};

/// Taken updates are told to the machine when so many have come together.
const ACKNOWLEDGE: usize = WINDOW / 4;

/// What a watcher is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// What a key held when the watch began.
    Now(Item),
    /// What follows are changes.
    Live,
    /// What a key holds now; `None` for nothing.
    Changed {
        /// The key.
        key: Vec<u8>,
        /// What it holds.
        item: Option<Item>,
    },
    /// The reader was too slow and changes were dropped. The watch begins anew: what follows is the
    /// state now.
    Lagged,
}

/// A watch. Dropping it ends it.
#[derive(Debug)]
pub struct Watcher {
    node: Node,
    watch: u64,
    updates: mpsc::Receiver<WatchUpdate>,
    taken: usize,
}

/// Why there are no more updates.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// There is no room for one more watch.
    #[error("{MAX_WATCHES} watches are under way already: end one first")]
    TooMany,
    /// The node failed.
    #[error(transparent)]
    Node(#[from] NodeError),
}

impl Watcher {
    pub(super) async fn begin(node: Node, pattern: Pattern) -> Result<Watcher, NodeError> {
        let begin = node.handle.with_edge(move |edge, actions| edge.watch(pattern, actions));
        let (watch, updates) = begin.await?;
        Ok(Watcher { node, watch, updates, taken: 0 })
    }

    /// The next update. Not to be dropped half-way: an update would be lost.
    ///
    /// # Errors
    ///
    /// Where the watch was refused or the node stopped.
    pub async fn next(&mut self) -> Result<Update, WatchError> {
        if self.taken >= ACKNOWLEDGE || (self.taken > 0 && self.updates.is_empty()) {
            let (watch, count) = (self.watch, std::mem::take(&mut self.taken));
            self.command(Command::Taken { watch, count }).await?;
        }
        let update = self.updates.recv().await.ok_or(NodeError::Stopped)?;
        self.taken += 1;
        Ok(match update {
            WatchUpdate::Now(shown) => match self.item(shown).await? {
                (_, Some(item)) => Update::Now(item),
                (key, None) => Update::Changed { key, item: None },
            },
            WatchUpdate::Changed(shown) => {
                let (key, item) = self.item(shown).await?;
                Update::Changed { key, item }
            }
            WatchUpdate::Live => Update::Live,
            WatchUpdate::Lagged => {
                // The machine forgets what was unacknowledged when the watch begins anew.
                self.taken = 0;
                self.command(Command::Resync(self.watch)).await?;
                Update::Lagged
            }
            WatchUpdate::Refused => return Err(WatchError::TooMany),
        })
    }

    async fn item(&self, shown: Shown) -> Result<(Vec<u8>, Option<Item>), NodeError> {
        let Shown { key, holds, conflict } = shown;
        let value = match holds {
            Holds::Nothing => return Ok((key, None)),
            Holds::Register { position } => self.node.register(&key, position).await?,
            Holds::Counter(value) => Value::Counter(value),
            Holds::Set(members) => Value::Set(members),
        };
        Ok((key.clone(), Some(Item { key, value, conflict })))
    }

    async fn command(&self, command: Command) -> Result<(), NodeError> {
        Ok(self.node.handle.command(command).await?)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let (handle, watch) = (self.node.handle.clone(), self.watch);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(async move {
                let end = handle.with_edge(move |edge, actions| edge.unwatch(watch, actions));
                // A node that has stopped has no watches.
                let _ = end.await;
            }));
        }
    }
}
