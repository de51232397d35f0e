//! What crosses crates. Here are the parts that tests and fuzz targets share.
#![deny(missing_docs)]
