//! Beyond seeds: searches that choose where to look.
//!
//! - [`guided`] spends machine steps as plain seeds do, but goes on from the interesting moments of
//!   earlier runs: the simulated cluster is cloned there and given other futures.
//! - [`small`] leaves nothing to chance: it looks at every state that a small configuration of the
//!   same machines can reach, with so many crashes, losses and duplicates.

pub mod guided;
pub mod small;
