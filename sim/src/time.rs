//! Simulated time.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// A point in simulated time: microseconds from the start of the run. No node sees it; each has
/// clocks of its own, see [`Clock`](crate::clock::Clock).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
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

impl FromStr for SimTime {
    type Err = String;

    /// Reads what `Display` writes, such as `4.250000s`; fewer decimals will do.
    fn from_str(text: &str) -> Result<SimTime, String> {
        let wrong = || format!("`{text}` is no time: write it as 4.25s");
        let number = text.strip_suffix('s').ok_or_else(wrong)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(part) || part.len() > 6 {
            return Err(wrong());
        }
        let seconds: u64 = whole.parse().map_err(|_| wrong())?;
        let micros: u64 = format!("{part:0<6}").parse().map_err(|_| wrong())?;
        let us = seconds.checked_mul(1_000_000).and_then(|us| us.checked_add(micros));
        us.map(SimTime).ok_or_else(wrong)
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
