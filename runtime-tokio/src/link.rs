//! One connection to one peer: a task that writes, a task that reads, and the host between them.
//!
//! The host never waits for a peer. What it sends goes into a queue bounded by bytes, and a peer
//! that lets it overflow loses its link. What it receives waits, decoded, in the host's inbox:
//! while that is full the reader does not read, and TCP slows the sender. Whatever goes wrong ends
//! the link with one [`CloseReason`], counted and logged, and touches no other.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use quorate_core::machine::{Machine, NodeId, Time};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, warn};

use crate::connect::{Connected, Refused};
use crate::frame::{Codec, FrameError, FrameReader, HEADER_BYTES};

/// Bytes of frames that may wait for one peer, unless the settings say otherwise. With a frame
/// half read, a link takes this and [`MAX_FRAME_BYTES`](crate::frame::MAX_FRAME_BYTES) at most.
pub const LINK_QUEUE_BYTES: usize = 8 << 20;

/// What a waiting frame counts beside its bytes, so that empty ones are not free.
const FRAME_COST_BYTES: usize = 64;

/// Small frames are gathered into writes of about this many bytes.
const WRITE_BYTES: usize = 64 << 10;

/// Arrivals that may wait for the host, of all peers together.
pub(crate) const INBOX_ARRIVALS: usize = 1024;

/// Bytes of frames that may wait for the host, of all peers together; waiting readers take turns.
pub(crate) const INBOX_BYTES: usize = 32 << 20;

/// How long a link that is closed in order may take to deliver what is in its queue.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A frame of nothing: alive, or, as the first on a connection, "I keep this one".
pub(crate) const EMPTY_FRAME: Bytes = Bytes::from_static(&[0; HEADER_BYTES]);

/// What is said of a connection to our own key. From one end it cannot be told which it is.
const OWN_KEY: &str = "connection refused: the other end has this node's own key; it is this node \
     itself, or another process that runs on a copy of its data directory, of which only one may run";

macro_rules! close_reasons {
    ($($(#[$doc:meta])* $name:ident => $label:literal,)*) => {
        /// Why a connection ended, or never became a link.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum CloseReason { $($(#[$doc])* $name,)* }

        impl CloseReason {
            /// Every reason.
            pub const ALL: &[CloseReason] = &[$(CloseReason::$name,)*];

            /// A short name in snake case, for logs and metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(CloseReason::$name => $label,)* }
            }
        }
    };
}

close_reasons! {
    /// The address could not be reached.
    Unreachable => "unreachable",
    /// The handshake took too long.
    HandshakeTimeout => "handshake_timeout",
    /// The other end does not speak our protocol, or not correctly.
    HandshakeFailed => "handshake_failed",
    /// Another node than the one dialled answered.
    WrongPeer => "wrong_peer",
    /// The other end has our own key: it is this host, or another with a copy of the key.
    SelfConnection => "self_connection",
    /// The edge does not admit this peer.
    NotAdmitted => "not_admitted",
    /// Too many handshakes were under way: this one, the oldest of whoever had most, gave way.
    TooManyHandshakes => "too_many_handshakes",
    /// Too many handshakes were under way with this source: this one, its oldest, gave way.
    TooManyFromSource => "too_many_from_source",
    /// Too many links were up.
    TooManyConnections => "too_many_connections",
    /// The address is no longer wanted.
    Undialled => "undialled",
    /// A link to this peer was up already, and stays.
    Duplicate => "duplicate",
    /// A newer connection to the same peer took its place.
    Replaced => "replaced",
    /// A frame was over the limit.
    Oversized => "oversized",
    /// The stream ended inside a frame.
    Truncated => "truncated",
    /// A frame was not a valid message.
    Undecodable => "undecodable",
    /// The peer reads more slowly than we have to send.
    SlowReceiver => "slow_receiver",
    /// Nothing arrived for too long, not even an empty frame.
    Idle => "idle",
    /// The peer closed it.
    PeerClosed => "peer_closed",
    /// The stream failed.
    Failed => "failed",
    /// The edge asked for it.
    Disconnected => "disconnected",
    /// This host stops.
    Shutdown => "shutdown",
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How often each reason occurred.
#[derive(Debug)]
pub(crate) struct Closings(Vec<AtomicU64>);

impl Closings {
    pub(crate) fn new() -> Self {
        Self(CloseReason::ALL.iter().map(|_| AtomicU64::new(0)).collect())
    }

    pub(crate) fn count(&self, reason: CloseReason) {
        self.0[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that never became a link, and says so ever more rarely: strangers can make
    /// as many as they like.
    pub(crate) fn refused(&self, addr: &str, reason: CloseReason) {
        let times = self.0[reason as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let what = match reason {
            CloseReason::SelfConnection => OWN_KEY,
            _ => "connection refused",
        };
        if times.is_power_of_two() {
            warn!(addr, %reason, times, "{what}");
        } else {
            debug!(addr, %reason, times, "{what}");
        }
    }

    /// Counts a connection of our own making, or of a peer that proved its key, that became no link:
    /// nothing to speak of, but for our own key at its other end.
    pub(crate) fn unlinked(&self, addr: &str, reason: CloseReason) {
        if reason == CloseReason::SelfConnection {
            return self.refused(addr, reason);
        }
        self.count(reason);
        debug!(addr, %reason, "no link");
    }

    pub(crate) fn read(&self) -> BTreeMap<CloseReason, u64> {
        let each = CloseReason::ALL.iter().zip(&self.0);
        each.map(|(&reason, n)| (reason, n.load(Ordering::Relaxed)))
            .filter(|&(_, n)| n > 0)
            .collect()
    }
}

/// What reaches the host from its connections.
pub(crate) enum Arrival<S, M: Machine> {
    Connected(Box<Connected<S>>),
    Refused(Refused),
    Message { link: u64, peer: NodeId, message: M::Message, _room: OwnedSemaphorePermit },
    Closed { link: u64, peer: NodeId, reason: CloseReason },
}

/// Where arrivals go. Sending waits for room.
pub(crate) struct Inbox<S, M: Machine> {
    arrivals: mpsc::Sender<Arrival<S, M>>,
    room: Arc<Semaphore>,
}

impl<S, M: Machine> Clone for Inbox<S, M> {
    fn clone(&self) -> Self {
        Self { arrivals: self.arrivals.clone(), room: Arc::clone(&self.room) }
    }
}

impl<S, M: Machine> Inbox<S, M> {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Arrival<S, M>>) {
        let (arrivals, receiver) = mpsc::channel(INBOX_ARRIVALS);
        (Self { arrivals, room: Arc::new(Semaphore::new(INBOX_BYTES)) }, receiver)
    }

    /// False once the host is gone.
    pub(crate) async fn put(&self, arrival: Arrival<S, M>) -> bool {
        self.arrivals.send(arrival).await.is_ok()
    }
}

/// The host's end of a link.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: u64,
    pub(crate) dialler: NodeId,
    pub(crate) addr: String,
    pub(crate) since: Time,
    queue: mpsc::UnboundedSender<Bytes>,
    state: Arc<State>,
}

/// What the host and the link's tasks share.
#[derive(Debug)]
struct State {
    queued_bytes: AtomicUsize,
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    stop: CancellationToken,
    /// Why the host stopped it; unset while it has not, or where the whole host is going.
    stopped: OnceLock<CloseReason>,
}

/// The queue of a link is full.
#[derive(Debug)]
pub(crate) struct Overflow;

impl Link {
    /// A link that stops with `stop` or by [`close`](Self::close), and what its task runs on.
    pub(crate) fn new<S>(
        id: u64,
        (dialler, since): (NodeId, Time),
        connected: Connected<S>,
        stop: CancellationToken,
    ) -> (Self, LinkTask<S>) {
        let (queue, frames) = mpsc::unbounded_channel();
        let state = Arc::new(State {
            queued_bytes: AtomicUsize::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            stop,
            stopped: OnceLock::new(),
        });
        let Connected { peer, stream, addr, dialled: _ } = connected;
        let task = LinkTask { id, peer, stream, frames, state: Arc::clone(&state) };
        (Self { id, dialler, addr, since, queue, state }, task)
    }

    /// Queues a frame, never waiting. On a link that is closing the frame is lost.
    pub(crate) fn send(&self, frame: Bytes, limit_bytes: usize) -> Result<(), Overflow> {
        let cost = cost_bytes(&frame);
        // Only this task adds, so the sum cannot pass the limit between the two.
        if self.queued_bytes() + cost > limit_bytes {
            return Err(Overflow);
        }
        self.state.queued_bytes.fetch_add(cost, Ordering::Relaxed);
        let _ = self.queue.send(frame);
        Ok(())
    }

    /// Ends the link. The first reason counts.
    pub(crate) fn close(&self, reason: CloseReason) {
        let _ = self.state.stopped.set(reason);
        self.state.stop.cancel();
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.state.queued_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of frames in and out so far.
    pub(crate) fn traffic(&self) -> (u64, u64) {
        let State { bytes_in, bytes_out, .. } = &*self.state;
        (bytes_in.load(Ordering::Relaxed), bytes_out.load(Ordering::Relaxed))
    }
}

fn cost_bytes(frame: &Bytes) -> usize {
    frame.len() + FRAME_COST_BYTES
}

/// Whether, of two connections with `peer` that both ends already keep, the one just accepted takes
/// the place of the `old` one.
///
/// A node keeps what it dialled only while it has no link to that peer. So a second connection from
/// the same side means that side lost the first; and two from opposite sides crossed on their way,
/// which both ends settle alike, without asking: the one dialled by the smaller id stays.
pub(crate) fn accepted_wins(old_dialler: NodeId, me: NodeId, peer: NodeId) -> bool {
    old_dialler == peer || peer < me
}

/// A link's own end: the stream and what is to be written to it.
pub(crate) struct LinkTask<S> {
    id: u64,
    peer: NodeId,
    stream: TlsStream<S>,
    frames: mpsc::UnboundedReceiver<Bytes>,
    state: Arc<State>,
}

/// How often an end that has nothing to say shows that it is alive, and how long it listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pulse {
    pub(crate) keepalive: Duration,
    pub(crate) idle: Duration,
}

impl<S: AsyncRead + AsyncWrite + Send + Unpin + 'static> LinkTask<S> {
    /// Writes and reads until the link ends; tells the host.
    pub(crate) async fn run<M, C>(
        self,
        codec: C,
        inbox: Inbox<S, M>,
        closings: Arc<Closings>,
        pulse: Pulse,
    ) where
        M: Machine<Message: Send> + 'static,
        C: Codec<M>,
    {
        let Self { id, peer, stream, frames, state } = self;
        let (read, write) = tokio::io::split(stream);
        let reader = Reader {
            link: id,
            peer,
            frames: FrameReader::new(read, pulse.idle),
            state: Arc::clone(&state),
            codec,
            inbox: inbox.clone(),
        };
        let reader = state.stop.clone().run_until_cancelled_owned(reader.run());
        let mut reader = tokio::spawn(reader.in_current_span());
        let writer = write_frames(write, frames, &state, pulse.keepalive);
        tokio::pin!(writer);
        let stopped = || state.stopped.get().copied().unwrap_or(CloseReason::Shutdown);
        let reason = tokio::select! {
            biased;
            () = state.stop.cancelled() => {
                // A slow receiver would only use up the time.
                if stopped() != CloseReason::SlowReceiver {
                    let _ = timeout(CLOSE_TIMEOUT, &mut writer).await;
                }
                stopped()
            }
            ended = &mut reader => match ended {
                Ok(reason) => reason.unwrap_or_else(stopped),
                Err(panic) => {
                    tracing::error!(peer = %peer.short(), %panic, "decoding panicked");
                    CloseReason::Undecodable
                }
            },
            () = &mut writer => CloseReason::Failed,
        };
        // The reader ends with the token; the host learns of the end after all that was read.
        state.stop.cancel();
        if !reader.is_finished() {
            let _ = reader.await;
        }
        closings.count(reason);
        info!(peer = %peer.short(), link = id, %reason, "link closed");
        inbox.put(Arrival::Closed { link: id, peer, reason }).await;
    }
}

struct Reader<R, S, M: Machine, C> {
    link: u64,
    peer: NodeId,
    frames: FrameReader<R>,
    state: Arc<State>,
    codec: C,
    inbox: Inbox<S, M>,
}

impl<R: AsyncRead + Unpin, S, M: Machine, C: Codec<M>> Reader<R, S, M, C> {
    async fn run(mut self) -> CloseReason {
        loop {
            let frame = match self.frames.next().await {
                Ok(Some(frame)) => frame,
                Ok(None) => return CloseReason::PeerClosed,
                Err(error) => {
                    debug!(peer = %self.peer.short(), %error, "no frame");
                    return match error {
                        FrameError::Oversized { .. } => CloseReason::Oversized,
                        FrameError::Truncated => CloseReason::Truncated,
                        FrameError::Idle => CloseReason::Idle,
                        FrameError::Io(_) => CloseReason::Failed,
                    };
                }
            };
            let bytes = (HEADER_BYTES + frame.len()) as u64;
            self.state.bytes_in.fetch_add(bytes, Ordering::Relaxed);
            if frame.is_empty() {
                continue;
            }
            let room = cost_bytes(&frame) as u32;
            let message = match self.codec.decode_message(frame) {
                Ok(message) => message,
                Err(error) => {
                    debug!(peer = %self.peer.short(), %error, "no message");
                    return CloseReason::Undecodable;
                }
            };
            let Ok(_room) = Arc::clone(&self.inbox.room).acquire_many_owned(room).await else {
                return CloseReason::Shutdown;
            };
            let Self { link, peer, .. } = self;
            if !self.inbox.put(Arrival::Message { link, peer, message, _room }).await {
                return CloseReason::Shutdown;
            }
        }
    }
}

/// Writes what is queued until the link is stopped and the queue is empty, or the stream fails.
async fn write_frames<W: AsyncWrite>(
    mut stream: WriteHalf<W>,
    mut frames: mpsc::UnboundedReceiver<Bytes>,
    state: &State,
    keepalive: Duration,
) {
    let mut batch = Vec::new();
    loop {
        let next = tokio::select! {
            biased;
            () = state.stop.cancelled(), if !frames.is_closed() => {
                frames.close();
                continue;
            }
            next = timeout(keepalive, frames.recv()) => next,
        };
        let mut cost = 0;
        batch.clear();
        match next {
            Err(_) => batch.extend_from_slice(&EMPTY_FRAME),
            Ok(None) => break,
            Ok(Some(first)) => {
                let mut next = Some(first);
                while let Some(frame) = next {
                    cost += cost_bytes(&frame);
                    batch.extend_from_slice(&frame);
                    next = if batch.len() < WRITE_BYTES { frames.try_recv().ok() } else { None };
                }
            }
        }
        let written = async {
            stream.write_all(&batch).await?;
            stream.flush().await
        };
        if let Err(error) = written.await {
            debug!(%error, "cannot write");
            return;
        }
        state.queued_bytes.fetch_sub(cost, Ordering::Relaxed);
        state.bytes_out.fetch_add(batch.len() as u64, Ordering::Relaxed);
        // One large frame must not keep its memory for the link's life.
        batch.shrink_to(2 * WRITE_BYTES);
    }
    let _ = stream.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crossing_connections_leave_the_smaller_ids() {
        let (small, large) = (NodeId([1; 32]), NodeId([2; 32]));
        // Each keeps the one it dialled, then accepts the other's.
        assert!(accepted_wins(large, large, small), "the larger gives way");
        assert!(!accepted_wins(small, small, large), "the smaller does not");
    }

    #[test]
    fn a_dialler_that_comes_again_has_lost_the_first() {
        let (small, large) = (NodeId([1; 32]), NodeId([2; 32]));
        assert!(accepted_wins(small, large, small));
        assert!(accepted_wins(large, small, large));
    }

    #[test]
    fn reasons_have_names_of_their_own() {
        let names: std::collections::BTreeSet<_> =
            CloseReason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), CloseReason::ALL.len());
    }
}
