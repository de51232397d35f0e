//! From an address, or a stranger's connection, to an authenticated stream.
//!
//! After the TLS handshake the dialling host decides whether it keeps the connection and says so
//! with an empty frame; until then the accepting host does not know the peer. So a host that finds
//! the peer it dialled already linked, or itself, hangs up without disturbing what is there.
//! Everything up to that frame falls under one timeout, and only so many handshakes run at once: see
//! `handshakes`.

use std::sync::Arc;
use std::time::Duration;

use quorate_core::machine::{Machine, NodeId};
use tokio::io::AsyncReadExt;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsStream;
use tracing::{debug, warn};

use crate::dial::Target;
use crate::frame::HEADER_BYTES;
use crate::handshakes::Handshakes;
use crate::host::Tasks;
use crate::link::{Arrival, CloseReason, Closings, EMPTY_FRAME, Inbox};
use crate::net::{Listener, Net};
use crate::tls::{Identity, TlsError};

/// How long to wait after the system failed to accept (out of file descriptors, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// An authenticated stream.
pub(crate) struct Connected<S> {
    pub(crate) peer: NodeId,
    pub(crate) stream: TlsStream<S>,
    pub(crate) addr: String,
    /// What this host dialled, if it did.
    pub(crate) dialled: Option<Target>,
}

/// An address that was dialled in vain.
pub(crate) struct Refused {
    pub(crate) target: Target,
    pub(crate) reason: CloseReason,
}

/// Dials `target` once.
pub(crate) async fn dial<N: Net>(
    net: N,
    identity: Identity,
    target: Target,
    limit: Duration,
) -> Result<Connected<N::Stream>, Refused> {
    let Target { addr, expected } = &target;
    let attempt = async {
        let stream = net.connect(addr).await.map_err(|error| {
            debug!(addr, %error, "cannot connect");
            CloseReason::Unreachable
        })?;
        let shaken = identity.dial(stream, *expected).await;
        shaken.map_err(|error| refusal(addr, identity.id(), &error))
    };
    match timeout(limit, attempt).await {
        Ok(Ok((peer, stream))) => {
            Ok(Connected { peer, stream, addr: addr.clone(), dialled: Some(target) })
        }
        Ok(Err(reason)) => Err(Refused { target, reason }),
        Err(_) => Err(Refused { target, reason: CloseReason::HandshakeTimeout }),
    }
}

/// What accepting needs.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) identity: Identity,
    pub(crate) closings: Arc<Closings>,
    pub(crate) tasks: Tasks,
    pub(crate) limit: Duration,
    pub(crate) handshakes: Handshakes,
}

impl Door {
    /// Accepts until dropped.
    pub(crate) async fn accept_all<L, M>(mut self, mut listener: L, inbox: Inbox<L::Stream, M>)
    where
        L: Listener<Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static>,
        M: Machine<Message: Send> + 'static,
    {
        loop {
            let (stream, addr) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let mut gives_way = self.handshakes.enter(&addr);
            let (identity, inbox) = (self.identity.clone(), inbox.clone());
            let (closings, limit) = (Arc::clone(&self.closings), self.limit);
            self.tasks.spawn(async move {
                let from = addr.clone();
                let handshake = async {
                    let shaken = timeout(limit, greet(&identity, stream, &addr)).await;
                    let (peer, stream) = shaken.unwrap_or(Err(CloseReason::HandshakeTimeout))?;
                    let connected = Connected { peer, stream, addr, dialled: None };
                    // Until the host has taken it, it holds its place.
                    inbox.put(Arrival::Connected(Box::new(connected))).await;
                    Ok(())
                };
                let result = tokio::select! {
                    biased;
                    Ok(reason) = &mut gives_way => Err(reason),
                    result = handshake => result,
                };
                if let Err(reason) = result {
                    closings.refused(&from, reason);
                }
            });
        }
    }
}

/// Shakes hands and waits for the dialling host to say that it keeps the connection.
async fn greet<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    identity: &Identity,
    stream: S,
    addr: &str,
) -> Result<(NodeId, TlsStream<S>), CloseReason> {
    let shaken = identity.accept(stream).await;
    let (peer, mut stream) = shaken.map_err(|error| refusal(addr, identity.id(), &error))?;
    if peer == identity.id() {
        return Err(CloseReason::SelfConnection);
    }
    let mut kept = [0; HEADER_BYTES];
    match stream.read_exact(&mut kept).await {
        Ok(_) if kept == EMPTY_FRAME[..] => Ok((peer, stream)),
        Ok(_) => Err(CloseReason::HandshakeFailed),
        Err(_) => Err(CloseReason::PeerClosed),
    }
}

fn refusal(addr: &str, me: NodeId, error: &TlsError) -> CloseReason {
    debug!(addr, %error, "no handshake");
    match error {
        TlsError::WrongPeer { found, .. } if *found == me => CloseReason::SelfConnection,
        TlsError::WrongPeer { .. } => CloseReason::WrongPeer,
        TlsError::Key(_) | TlsError::Handshake(_) => CloseReason::HandshakeFailed,
    }
}
