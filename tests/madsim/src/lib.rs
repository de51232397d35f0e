//! The tests of this crate are in `tests/`; `run.sh` builds and runs them.
