//! Restoring: a machine is given back what it persisted, the log's records first and then the
//! journal's, each in order.

use quorate_core::machine::Machine;
use tracing::{error, warn};

use crate::edge::Edge;
use crate::frame::{Codec, Lane};
use crate::host::HostError;
use crate::journal::Journal;
use crate::storage::{Corrupted, Storage, StorageError, on_suspicion};

/// Feeds `machine` every record there is, and tells `edge`.
pub(crate) fn restore<E: Edge, C: Codec<E::Machine>>(
    storage: &Storage,
    journal: Option<&Journal>,
    codec: &C,
    machine: &mut E::Machine,
    edge: &mut E,
) -> Result<(), HostError> {
    let mut refused = None;
    on_suspicion(|| match replay_log(storage, codec, machine, edge) {
        Err(HostError::Storage(error)) => Err(error),
        other => {
            refused = other.err();
            Ok(())
        }
    })?;
    refused.map_or(Ok(()), Err)?;
    journal.map_or(Ok(()), |journal| replay_journal(journal, codec, machine, edge))
}

/// Feeds the machine the log's records, or what stands in for a damaged one; cuts a damaged tail that
/// nothing can stand in for.
fn replay_log<E: Edge, C: Codec<E::Machine>>(
    storage: &Storage,
    codec: &C,
    machine: &mut E::Machine,
    edge: &mut E,
) -> Result<(), HostError> {
    let mut tail: Vec<Corrupted> = Vec::new();
    for entry in storage.records()? {
        match entry? {
            (position, Err(report)) => match codec.damaged_record(position) {
                Some(record) if tail.is_empty() => {
                    error!(%report, "a record is damaged");
                    edge.corrupted(report);
                    machine.restore(record);
                }
                _ => tail.push(report),
            },
            (position, Ok(bytes)) => {
                if let Some(&report) = tail.first() {
                    return Err(StorageError::Corrupted(report).into());
                }
                let record = codec.decode_record(Lane::Store, bytes);
                let record = record.map_err(|error| HostError::Undecodable { position, error })?;
                edge.record(Lane::Store, position, &record);
                machine.restore(record);
            }
        }
    }
    if !tail.is_empty() {
        storage.forget(&tail.iter().map(|report| report.position).collect::<Vec<_>>())?;
    }
    for report in tail {
        error!(%report, "the log's tail is cut");
        edge.corrupted(report);
    }
    Ok(())
}

/// Feeds the machine every record of the journal, after those of the log.
fn replay_journal<E: Edge, C: Codec<E::Machine>>(
    journal: &Journal,
    codec: &C,
    machine: &mut E::Machine,
    edge: &mut E,
) -> Result<(), HostError> {
    for entry in journal.records() {
        let (position, bytes) = entry?;
        let record = codec.decode_record(Lane::Journal, bytes);
        let record = record.map_err(|error| HostError::Undecodable { position, error })?;
        edge.record(Lane::Journal, position, &record);
        machine.restore(record);
    }
    if let Some(cut) = journal.cut() {
        warn!(%cut, "the journal's tail is cut; nothing in it had been promised");
    }
    Ok(())
}
