//! Operations that do less than another: what shrinking tries in its place.

use bytes::Bytes;
use quorate_core::store::Change;

use crate::lies::Lie;
use crate::mesh::Op;

/// What every value becomes that need not be what it is.
const PLAIN: &[u8] = b"v";

/// Operations that do less than `op`, the simplest first.
pub(crate) fn simpler(op: &Op) -> Vec<Op> {
    match op {
        Op::Write(changes) => fewer(changes).into_iter().map(Op::Write).collect(),
        Op::Import(count) => smaller(u64::from(*count)).map(|n| Op::Import(n as u32)).collect(),
        Op::Lie(Lie::Orphans(count)) => lies(*count, Lie::Orphans),
        Op::Lie(Lie::Future(count)) => lies(*count, Lie::Future),
        Op::Lie(Lie::Strangers(count)) => lies(*count, Lie::Strangers),
        Op::Lie(Lie::Stories(count)) => lies(*count, Lie::Stories),
        Op::Invite(_) | Op::Remove(_) | Op::Lie(_) | Op::Watch | Op::Deaf(_) => Vec::new(),
    }
}

fn lies(count: u64, lie: impl Fn(u64) -> Lie) -> Vec<Op> {
    smaller(count).map(|count| Op::Lie(lie(count))).collect()
}

fn smaller(count: u64) -> impl Iterator<Item = u64> {
    let counts = [1, count / 10, count / 2, count - count / 10];
    counts.into_iter().filter(move |smaller| (1..count).contains(smaller))
}

/// One change less, or one change that is plainer.
fn fewer(changes: &[Change]) -> Vec<Vec<Change>> {
    let mut all = Vec::new();
    for at in 0..changes.len() {
        if changes.len() > 1 {
            let mut fewer = changes.to_vec();
            fewer.remove(at);
            all.push(fewer);
        }
        let key = match &changes[at] {
            Change::Put { key, value } if value != PLAIN => key,
            Change::Delete { key }
            | Change::Add { key, .. }
            | Change::SetAdd { key, .. }
            | Change::SetRemove { key, .. } => key,
            Change::Put { .. } | Change::Invite { .. } | Change::Remove { .. } => continue,
        };
        let mut plainer = changes.to_vec();
        plainer[at] = Change::Put { key: key.clone(), value: Bytes::from_static(PLAIN) };
        all.push(plainer);
    }
    all
}
