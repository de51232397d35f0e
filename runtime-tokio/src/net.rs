//! The network as the host sees it: streams to and from addresses given as text.
//!
//! The host is generic over [`Net`], so a test may hand it simulated sockets without any feature
//! flag; production hands it [`TokioNet`].

use std::fmt::Debug;
use std::future::Future;
use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Where connections come from.
pub trait Net: Clone + Debug + Send + Sync + 'static {
    /// A reliable, ordered stream of bytes.
    type Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static;
    /// What accepts them.
    type Listener: Listener<Stream = Self::Stream>;

    /// Listens on `addr`, such as `0.0.0.0:7400`; port 0 lets the system choose.
    fn bind(&self, addr: &str) -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// Connects to `addr`, such as `db1.example:7400`. The caller bounds the time.
    fn connect(&self, addr: &str) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Accepts the streams that others opened.
pub trait Listener: Send + 'static {
    /// See [`Net::Stream`].
    type Stream;

    /// The next stream and the address it came from, as `ip:port`: how many may shake hands at once
    /// is bounded by IP address too. May be dropped at any await.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, String)>> + Send;

    /// The address that was bound, with the port that was chosen.
    fn local_addr(&self) -> io::Result<String>;
}

/// Real TCP, with Nagle's delay off: frames are already gathered by the writer.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioNet;

impl Net for TokioNet {
    type Stream = TcpStream;
    type Listener = TcpListener;

    async fn bind(&self, addr: &str) -> io::Result<TcpListener> {
        TcpListener::bind(addr).await
    }

    async fn connect(&self, addr: &str) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, String)> {
        let (stream, addr) = TcpListener::accept(self).await?;
        stream.set_nodelay(true)?;
        Ok((stream, addr.to_string()))
    }

    fn local_addr(&self) -> io::Result<String> {
        TcpListener::local_addr(self).map(|addr| addr.to_string())
    }
}
