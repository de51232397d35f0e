//! The bytes of a segment: its header, its records, and what can be told from them.

use bytes::Bytes;

use super::HEADER_BYTES;

/// The first bytes of every segment; the last of them is the version of the layout.
const MAGIC: [u8; 8] = *b"quorJRN\x01";

/// Before the bytes of a record: checksum, length, position, durable.
pub(super) const RECORD_HEADER_BYTES: usize = 24;

/// Records begin at multiples of this.
const ALIGN: usize = 8;

/// How far a segment is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where the first byte stands that is not; 0 where the header is not.
    pub(super) offset: usize,
    /// The position of the record that should stand there.
    pub(super) next: u64,
}

/// A record as it stands in a segment.
struct Record<'a> {
    position: u64,
    durable: u64,
    bytes: &'a [u8],
    /// With its header and the zeros after it.
    length: usize,
}

/// The header of the segment whose first record has the position `first`.
pub(super) fn header(first: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..16].copy_from_slice(&first.to_le_bytes());
    let sum = crc32fast::hash(&header[..16]);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
    header
}

/// Appends a record to `out`.
pub(super) fn seal(position: u64, durable: u64, bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(&position.to_le_bytes());
    out.extend_from_slice(&durable.to_le_bytes());
    out.extend_from_slice(bytes);
    let sum = crc32fast::hash(&out[start + 4..]);
    out[start..start + 4].copy_from_slice(&sum.to_le_bytes());
    out.resize(start + (out.len() - start).next_multiple_of(ALIGN), 0);
}

/// The sound record at the beginning of `bytes`, if there is one.
fn open(bytes: &[u8]) -> Option<Record<'_>> {
    let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let (sum_and_length, position, durable) = (number(0)?, number(8)?, number(16)?);
    let end = RECORD_HEADER_BYTES.checked_add((sum_and_length >> 32) as usize)?;
    // The cheap tests first: a search tries this at every offset.
    let length = end.next_multiple_of(ALIGN);
    if durable > position || length > bytes.len() {
        return None;
    }
    let sound = crc32fast::hash(&bytes[4..end]) == sum_and_length as u32;
    let bytes = &bytes[RECORD_HEADER_BYTES..end];
    sound.then_some(Record { position, durable, bytes, length })
}

/// How far the segment that begins with the position `first` is sound.
pub(super) fn check(bytes: &[u8], first: u64) -> Found {
    let mut found = Found { offset: 0, next: first };
    if bytes.get(..HEADER_BYTES) != Some(&header(first)) {
        return found;
    }
    found.offset = HEADER_BYTES;
    while let Some(record) = bytes.get(found.offset..).and_then(open)
        && record.position == found.next
    {
        found.offset += record.length;
        found.next += 1;
    }
    found
}

/// The records of a segment up to the first that is not sound.
pub(super) fn records(bytes: Bytes, first: u64) -> Vec<(u64, Bytes)> {
    let end = check(&bytes, first).offset;
    let (mut offset, mut records) = (HEADER_BYTES.min(end), Vec::new());
    while let Some(record) = open(&bytes[offset..end]) {
        records.push((record.position, bytes.slice_ref(record.bytes)));
        offset += record.length;
    }
    records
}

/// Whether a sound record somewhere in `bytes`, which begin where a record or a header may, was
/// written when the record at `position` was durable.
pub(super) fn shows_durable(bytes: &[u8], position: u64) -> bool {
    let offsets = (0..bytes.len()).step_by(ALIGN);
    offsets.filter_map(|at| open(&bytes[at..])).any(|record| record.durable > position)
}

/// Whether nothing was ever written there.
pub(super) fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
