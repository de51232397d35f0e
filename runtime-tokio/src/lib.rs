//! The thin host: runs any [`Machine`](quorate_core::machine::Machine) over real sockets and a real
//! disk. It is the only crate that names tokio, a socket or a file.
#![deny(missing_docs)]

pub mod edge;
pub mod frame;
pub mod net;
pub mod storage;
pub mod tls;
