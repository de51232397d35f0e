#![deny(missing_docs)]
//! sim
