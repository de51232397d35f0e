//! Somebody who watches at a node, across its crashes: each change once, in order, none missing, or to be
//! told that some are not known any more.

use bytes::Bytes;
use quorate_core::cluster::WatchUpdate;
use quorate_core::registry::{Query, Target};

use super::truth::Truth;

/// A reader of a watch.
#[derive(Clone, Debug)]
pub(super) struct Watcher {
    pub(super) node: usize,
    pub(super) target: Target,
    /// The first revision that it has not been told about; unknown before the first watch began.
    pub(super) next: Option<u64>,
    /// Its name for the watch, while there is one.
    pub(super) watch: Option<u64>,
    /// Whether it takes what it is told only later.
    pub(super) slow: bool,
    pub(super) untaken: usize,
}

/// What a watcher does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Nothing,
    /// It takes what it was told.
    Take,
    /// It looks at what there is, and watches from there.
    List,
    /// It watches again, some time.
    Again,
}

impl Watcher {
    pub(super) fn new(node: usize, prefix: &str, slow: bool, next: Option<u64>) -> Watcher {
        let prefix = Bytes::copy_from_slice(prefix.as_bytes());
        let target = match prefix.strip_prefix(b"@") {
            Some(name) => Target::Names(Bytes::copy_from_slice(name)),
            None => Target::Prefix(prefix),
        };
        Watcher { node, target, next, watch: None, slow, untaken: 0 }
    }

    pub(super) fn told(&mut self, update: &WatchUpdate, truth: &Truth) -> Result<Next, String> {
        let Watcher { node, .. } = *self;
        match update {
            WatchUpdate::Began { from } => {
                if self.next.is_some_and(|next| next != *from) {
                    return Err(format!("{:?} was asked for at {node}, not {from}", self.next));
                }
                self.next = Some(*from);
                Ok(Next::Nothing)
            }
            WatchUpdate::Changed { revision, changes } => {
                let next = self.next.ok_or("changes come before the watch began")?;
                if *revision < next {
                    return Err(format!("{node} is told of {revision}, and had heard of {next}"));
                }
                if let Some(missed) = truth.first_watched(&self.target, next, *revision) {
                    return Err(format!("{node} was not told of {missed}, and is of {revision}"));
                }
                if truth.watched(&self.target, *revision) != *changes {
                    return Err(format!("{node} is told that at {revision} {changes:?}"));
                }
                self.next = Some(revision + 1);
                self.untaken += 1;
                Ok(if self.slow && self.untaken < 8 { Next::Nothing } else { Next::Take })
            }
            WatchUpdate::Compacted { oldest } => {
                if self.next.is_some_and(|next| next >= *oldest) {
                    return Err(format!("{:?} is compacted at {node}, with {oldest}", self.next));
                }
                self.watch = None;
                Ok(Next::List)
            }
            WatchUpdate::Ended(_) => {
                self.watch = None;
                Ok(Next::Again)
            }
        }
    }

    /// What there is now of what it looks at.
    pub(super) fn list(&self) -> Query {
        let (after, limit, keys_only) = (None, 100, true);
        match self.target.clone() {
            Target::Prefix(prefix) | Target::Key(prefix) => {
                Query::List { prefix, after, limit, keys_only }
            }
            Target::Names(prefix) | Target::Name(prefix) => Query::Names { prefix, after, limit },
        }
    }

    /// Whether it was told of all that happened up to a revision.
    pub(super) fn missed(&self, truth: &Truth, upto: u64) -> Option<u64> {
        self.watch?;
        truth.first_watched(&self.target, self.next?, upto + 1)
    }
}
