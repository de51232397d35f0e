//! Frames on a stream, and the codec that turns a machine's values into them.
//!
//! A frame is its length as a little-endian `u32`, then so many bytes, at most [`MAX_FRAME_BYTES`].
//! An empty frame carries nothing: it shows that the sender is alive. A frame's memory grows with
//! what has arrived, not with what its length claims, and each owns its bytes: a message that keeps
//! a slice of one pins that frame and no other.

use std::io;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use quorate_core::machine::Machine;
use tokio::io::{AsyncRead, AsyncReadExt, BufReader};
use tokio::time::timeout;

/// The longest frame, and so the longest encoded message.
pub const MAX_FRAME_BYTES: usize = 4 << 20;

/// How far ahead of its bytes a frame's memory may grow.
const GROW_BYTES: usize = 64 << 10;

/// Bytes read from the stream at once.
const READ_BUFFER_BYTES: usize = 16 << 10;

/// Bytes of a frame's length.
pub const HEADER_BYTES: usize = 4;

/// Where a record goes, and so for what an effect waits that rests on records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// The log of [`storage`](crate::storage). Effects of this lane wait for both.
    Store,
    /// The [`journal`](crate::journal). Effects of this lane wait for it alone, and may overtake those
    /// of the other: they must reveal nothing but what is in the journal.
    Journal,
}

/// How a machine's messages and records become bytes. Decoding must accept anything a peer could
/// send and answer with an error, never a panic, and allocate no more than a small multiple of what
/// it is given.
pub trait Codec<M: Machine>: Clone + Send + Sync + 'static {
    /// Appends the message's bytes.
    fn encode_message(&self, message: &M::Message, out: &mut Vec<u8>);
    /// Takes a message from a peer's frame.
    fn decode_message(&self, bytes: Bytes) -> Result<M::Message, WireError>;
    /// Appends the record's bytes.
    fn encode_record(&self, record: &M::Record, out: &mut Vec<u8>);
    /// Takes a record that we wrote in `lane`.
    fn decode_record(&self, lane: Lane, bytes: Bytes) -> Result<M::Record, WireError>;
    /// Where the record goes. Each lane's records come back in their order, those of the store first.
    fn record_lane(&self, record: &M::Record) -> Lane {
        let _ = record;
        Lane::Store
    }
    /// What a message that is held rests on.
    fn message_lane(&self, message: &M::Message) -> Lane {
        let _ = message;
        Lane::Store
    }
    /// What an event that is held rests on.
    fn event_lane(&self, event: &M::Event) -> Lane {
        let _ = event;
        Lane::Store
    }
    /// What a machine is told in place of the store's record at `position`, whose stored bytes are not those
    /// that were written. `None` if it cannot do without it: then a host cuts the log there if nothing
    /// sound follows, and refuses to start if something does.
    fn damaged_record(&self, position: u64) -> Option<M::Record> {
        let _ = position;
        None
    }
}

/// Why bytes are not a message or a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid encoding: {0}")]
pub struct WireError(pub String);

/// Why no frame could be read or made.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME_BYTES`].
    #[error("a frame of {bytes} bytes is over the limit of {MAX_FRAME_BYTES}")]
    Oversized {
        /// The length it has or claims.
        bytes: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream ended inside a frame")]
    Truncated,
    /// Nothing arrived for too long.
    #[error("nothing arrived for too long")]
    Idle,
    /// The stream failed.
    #[error("the stream failed: {0}")]
    Io(#[from] io::Error),
}

/// Makes a frame of what `encode` appends.
pub fn seal(encode: impl FnOnce(&mut Vec<u8>)) -> Result<Bytes, FrameError> {
    let mut out = vec![0; HEADER_BYTES];
    encode(&mut out);
    let bytes = out.len() - HEADER_BYTES;
    if bytes > MAX_FRAME_BYTES {
        return Err(FrameError::Oversized { bytes });
    }
    out[..HEADER_BYTES].copy_from_slice(&(bytes as u32).to_le_bytes());
    Ok(out.into())
}

/// Reads frames one after the other.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: BufReader<R>,
    idle: Duration,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads from `stream`, which stands at the beginning of a frame; gives up once nothing at all
    /// arrived for `idle`.
    pub fn new(stream: R, idle: Duration) -> Self {
        Self { stream: BufReader::with_capacity(READ_BUFFER_BYTES, stream), idle }
    }

    /// The next frame's bytes, or `None` where the stream ends between two frames. Not to be
    /// dropped half-way: a part of a frame would be lost.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        let mut header = BytesMut::with_capacity(HEADER_BYTES);
        if !self.fill(&mut header, HEADER_BYTES).await? {
            return if header.is_empty() { Ok(None) } else { Err(FrameError::Truncated) };
        }
        let bytes = header.get_u32_le() as usize;
        if bytes > MAX_FRAME_BYTES {
            return Err(FrameError::Oversized { bytes });
        }
        let mut body = BytesMut::new();
        if self.fill(&mut body, bytes).await? {
            Ok(Some(body.freeze()))
        } else {
            Err(FrameError::Truncated)
        }
    }

    /// Reads until `buffer` holds `len` bytes; false where the stream ends before that.
    async fn fill(&mut self, buffer: &mut BytesMut, len: usize) -> Result<bool, FrameError> {
        while buffer.len() < len {
            let missing = len - buffer.len();
            buffer.reserve(missing.min(GROW_BYTES));
            let mut rest = (&mut self.stream).take(missing as u64);
            let read = timeout(self.idle, rest.read_buf(buffer)).await;
            if read.map_err(|_| FrameError::Idle)?? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn frames_pass_whole() {
        let mut wire = Vec::new();
        for body in [&b""[..], b"one", &[7; 200_000]] {
            wire.extend_from_slice(&seal(|out| out.extend_from_slice(body)).unwrap());
        }
        let mut frames = FrameReader::new(&wire[..], IDLE);
        assert_eq!(frames.next().await.unwrap().unwrap(), &b""[..]);
        assert_eq!(frames.next().await.unwrap().unwrap(), &b"one"[..]);
        assert_eq!(frames.next().await.unwrap().unwrap(), &[7; 200_000][..]);
        assert!(frames.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn every_cut_inside_a_frame_is_truncation() {
        let wire = seal(|out| out.extend_from_slice(b"body")).unwrap();
        for len in 1..wire.len() {
            let cut = FrameReader::new(&wire[..len], IDLE).next().await;
            assert!(matches!(cut, Err(FrameError::Truncated)), "cut at {len}: {cut:?}");
        }
    }

    #[tokio::test]
    async fn an_oversized_frame_is_refused_by_its_header() {
        let header = (MAX_FRAME_BYTES as u32 + 1).to_le_bytes();
        let refused = FrameReader::new(&header[..], IDLE).next().await;
        assert!(matches!(refused, Err(FrameError::Oversized { bytes }) if bytes > MAX_FRAME_BYTES));
        let own = seal(|out| out.resize(HEADER_BYTES + MAX_FRAME_BYTES + 1, 0));
        assert!(matches!(own, Err(FrameError::Oversized { .. })));
    }
}
