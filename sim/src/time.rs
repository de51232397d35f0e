//! Simulated time.

use core::fmt;

/// A point in simulated time: microseconds from the start of the run. No node sees it; each has
/// clocks of its own, see [`Clock`](crate::clock::Clock).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SimTime(pub u64);

impl SimTime {
    /// The start of the run.
    pub const ZERO: SimTime = SimTime(0);

    /// `n` milliseconds into the run.
    #[must_use]
    pub const fn ms(n: u64) -> SimTime {
        SimTime(ms(n))
    }

    /// `n` seconds into the run.
    #[must_use]
    pub const fn secs(n: u64) -> SimTime {
        SimTime(secs(n))
    }

    /// This point and `us` microseconds.
    #[must_use]
    pub const fn after_us(self, us: u64) -> SimTime {
        SimTime(self.0.saturating_add(us))
    }
}

impl fmt::Display for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// `n` milliseconds in microseconds, the unit of every duration here.
#[must_use]
pub const fn ms(n: u64) -> u64 {
    n.saturating_mul(1_000)
}

/// `n` seconds in microseconds.
#[must_use]
pub const fn secs(n: u64) -> u64 {
    n.saturating_mul(1_000_000)
}

/// A duration that outlasts every run.
pub const FOREVER_US: u64 = u64::MAX;
