//! What a group of keys does when it is asked, for the checkers of linearizability. Every value that is
//! written is another one, so a value stands for the revision at which it was written.

use std::collections::BTreeMap;

use quorate_sim::check::Model;

/// How many keys are one object, because transactions write to several of them.
pub(super) const GROUP: u8 = 2;

/// What is asked of a key, or of several of one group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Call {
    Get(u8),
    /// If `expected` is given, only if that is what is there; `Some(None)` for nothing.
    Put {
        key: u8,
        expected: Option<Option<u64>>,
        value: u64,
    },
    Delete {
        key: u8,
        expected: Option<Option<u64>>,
    },
    /// Puts values if `key` holds `expected`, else looks at them.
    Txn {
        key: u8,
        expected: Option<u64>,
        puts: Vec<(u8, u64)>,
    },
}

impl Call {
    pub(super) fn writes(&self) -> bool {
        !matches!(self, Call::Get(_))
    }

    /// What it writes, if it does.
    pub(super) fn values(&self) -> Vec<(u8, u64)> {
        match self {
            Call::Put { key, value, .. } => vec![(*key, *value)],
            Call::Txn { puts, .. } => puts.clone(),
            Call::Get(_) | Call::Delete { .. } => Vec::new(),
        }
    }

    fn of(&self) -> u8 {
        match self {
            Call::Get(key)
            | Call::Put { key, .. }
            | Call::Delete { key, .. }
            | Call::Txn { key, .. } => *key,
        }
    }
}

/// A value, and how often its key was written since it came to be.
pub(super) type Held = Option<(u64, u64)>;

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Response {
    Value(Held),
    Written {
        version: u64,
    },
    Deleted {
        existed: bool,
    },
    /// Not what was expected; whether the key is there.
    Stale {
        there: bool,
    },
    /// The versions that were written.
    Swapped(Vec<u64>),
    /// What was there.
    Kept(Vec<Held>),
}

/// The keys of a group that are there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Keys(BTreeMap<u8, (u64, u64)>);

impl Keys {
    fn value(&self, key: u8) -> Option<u64> {
        self.0.get(&key).map(|(value, _)| *value)
    }

    fn put(&mut self, key: u8, value: u64) -> u64 {
        let version = self.0.get(&key).map_or(0, |(_, version)| *version) + 1;
        self.0.insert(key, (value, version));
        version
    }

    fn stale(&self, key: u8, expected: Option<Option<u64>>) -> Option<Response> {
        let current = self.value(key);
        let stale = expected.is_some_and(|expected| expected != current);
        stale.then_some(Response::Stale { there: current.is_some() })
    }
}

impl Model for Keys {
    type Call = Call;
    type Response = Response;
    type Key = u8;

    fn key(call: &Call) -> u8 {
        call.of() / GROUP
    }

    fn apply(&mut self, call: &Call) -> Response {
        match call {
            Call::Get(key) => Response::Value(self.0.get(key).copied()),
            Call::Put { key, expected, value } => self
                .stale(*key, *expected)
                .unwrap_or_else(|| Response::Written { version: self.put(*key, *value) }),
            Call::Delete { key, expected } => self
                .stale(*key, *expected)
                .unwrap_or_else(|| Response::Deleted { existed: self.0.remove(key).is_some() }),
            Call::Txn { key, expected, puts } if self.value(*key) == *expected => {
                let put = |(key, value): &(u8, u64)| self.put(*key, *value);
                Response::Swapped(puts.iter().map(put).collect())
            }
            Call::Txn { puts, .. } => {
                Response::Kept(puts.iter().map(|(key, _)| self.0.get(key).copied()).collect())
            }
        }
    }
}
