//! The thin host: runs any [`Machine`](quorate_core::machine::Machine) over real sockets and a real
//! disk. It is the only crate that names tokio, a socket or a file.
//!
//! [`host::start`] takes a machine, an [`edge`] for its application, a [`net`], a
//! [`Codec`](frame::Codec), the node's [`Identity`](tls::Identity) and its [`storage`], and returns
//! a [`Running`](host::Running) host with its [`Handle`](handle::Handle). Inside, one task owns the
//! machine; `connect`, `handshakes`, `dial` and [`link`] bring it messages, `log` makes its records durable,
//! `outbox` holds its effects until they may leave.
#![deny(missing_docs)]

mod connect;
mod dial;
pub mod edge;
pub mod frame;
pub mod handle;
mod handshakes;
pub mod host;
pub mod journal;
pub mod link;
mod log;
pub mod net;
pub mod node;
mod outbox;
mod restore;
pub mod storage;
pub mod tls;

pub use node::Node;
