//! Writing what was imported: an entry for each item, in their order.
//!
//! An import that broke off may be begun anew: a register is set, a set gains its members, and a
//! counter is brought to its value, by adding what it lacks.

use std::collections::BTreeMap;

use quorate_core::entry::Link;
use quorate_core::store::{Change, WriteError};
use quorate_runtime_tokio::node::NodeError;
use quorate_runtime_tokio::node::read::Value;
use tokio::task::{JoinError, JoinSet};

use super::execute::{Hosted, node_failure, write_failure};
use super::protocol::{Blob, Code, Failure, ValueDoc};

/// Entries of one import under way at once: as many as one commit should take together.
const IMPORTS_AT_ONCE: usize = 256;

/// Writes `items`, many at a time, since commits are grouped; returns the number of entries.
pub(super) async fn import(hosted: &Hosted, items: Vec<(Blob, ValueDoc)>) -> Result<u64, Failure> {
    let mut counters = counters(hosted, &items).await?;
    let (mut entries, mut writes) = (0, JoinSet::new());
    for (key, value) in items {
        let changes = match value {
            ValueDoc::Register(value) => {
                vec![Change::Put { key: key.0.into(), value: value.0.into() }]
            }
            ValueDoc::Counter(value) => {
                let now = counters.insert(key.clone(), Some(value)).flatten();
                if now == Some(value) {
                    continue;
                }
                let delta = value.checked_sub(now.unwrap_or(0));
                let overflow = WriteError::Overflow { key: key.0.clone().into() };
                let delta = delta.ok_or_else(|| node_failure(overflow.into()))?;
                vec![Change::Add { key: key.0.into(), delta }]
            }
            ValueDoc::Set(members) => {
                let add = |member: Blob| Change::SetAdd {
                    key: key.0.clone().into(),
                    member: member.0.into(),
                };
                members.into_iter().map(add).collect()
            }
        };
        if writes.len() >= IMPORTS_AT_ONCE {
            written(writes.join_next().await, hosted, &mut entries)?;
        }
        let write = hosted.node.submit(changes).await;
        writes.spawn(write.map_err(|error| write_failure(hosted, error))?);
    }
    while let Some(write) = writes.join_next().await {
        written(Some(write), hosted, &mut entries)?;
    }
    Ok(entries)
}

/// What the counters among `items` stand at.
async fn counters(
    hosted: &Hosted,
    items: &[(Blob, ValueDoc)],
) -> Result<BTreeMap<Blob, Option<i64>>, Failure> {
    let is_counter = |item: &&(Blob, ValueDoc)| matches!(item.1, ValueDoc::Counter(_));
    let keys: Vec<&Blob> = items.iter().filter(is_counter).map(|(key, _)| key).collect();
    let mut counters = BTreeMap::new();
    if keys.is_empty() {
        return Ok(counters);
    }
    let snapshot = hosted.node.snapshot().await.map_err(node_failure)?;
    for key in keys {
        let value = match snapshot.get(&key.0).await.map_err(node_failure)?.map(|item| item.value) {
            Some(Value::Counter(value)) => Some(value),
            // What is of another type will refuse the write, or yield to it.
            _ => None,
        };
        counters.insert(key.clone(), value);
    }
    Ok(counters)
}

type Written = Option<Result<Result<Link, NodeError>, JoinError>>;

fn written(result: Written, hosted: &Hosted, entries: &mut u64) -> Result<(), Failure> {
    match result {
        None => Ok(()),
        Some(Ok(Ok(_))) => {
            *entries += 1;
            Ok(())
        }
        Some(Ok(Err(error))) => Err(write_failure(hosted, error)),
        Some(Err(error)) => Err(Failure::new(Code::Failed, format!("a task of the node: {error}"))),
    }
}
