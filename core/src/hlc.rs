//! The hybrid logical clock: wall time where clocks behave, a counter where they do not.
//!
//! From *Logical Physical Clocks and Consistent Snapshots* (Kulkarni, Demirbas, Madappa, Avva, Leone,
//! 2014): a timestamp that respects causality like Lamport's and stays close to physical time. Ours is
//! one word: 48 bits of milliseconds, 16 bits of counter, so that comparing is comparing integers.
//!
//! Cases:
//! - the wall moved on: the timestamp is the wall, counter zero;
//! - the wall stands still, or jumped back: "l.j := max(l'.j, pt.j)", the counter goes up by one, and
//!   carries into the milliseconds after 65,535 events in one of them;
//! - an entry from another node: the clock moves past it, but never past the wall by more than
//!   [`MAX_DRIFT_MS`].
//!
//! The last clause is our departure. The paper lets a bad clock drag everyone's clock along; here an
//! entry from farther ahead is *parked* until the local wall comes near it. It is never called
//! invalid, because that would make validity depend on who looks, and when.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::machine::WallTime;

/// How far ahead of the local wall clock an entry may be and still be applied: five minutes. Wide
/// enough for machines that nobody runs NTP on, and the most by which a fast clock can win a tie.
pub const MAX_DRIFT_MS: u64 = 300_000;

/// A hybrid timestamp: milliseconds since 1970 in the upper 48 bits, a counter in the lower 16.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Hlc(pub u64);

impl Hlc {
    /// Before everything.
    pub const ZERO: Hlc = Hlc(0);

    /// The first timestamp of a millisecond; times past the year 10,000 are the last one.
    #[must_use]
    pub const fn at(wall: WallTime) -> Hlc {
        const LAST: u64 = (1 << 48) - 1;
        Hlc(if wall.0 > LAST { LAST << 16 } else { wall.0 << 16 })
    }

    /// Its physical part, in milliseconds since 1970.
    #[must_use]
    pub const fn wall(self) -> WallTime {
        WallTime(self.0 >> 16)
    }

    /// Its logical part.
    #[must_use]
    pub const fn counter(self) -> u16 {
        (self.0 & 0xffff) as u16
    }

    /// Whether it lies farther ahead of `wall` than [`MAX_DRIFT_MS`].
    #[must_use]
    pub const fn is_future(self, wall: WallTime) -> bool {
        self.wall().0 > wall.0.saturating_add(MAX_DRIFT_MS)
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.wall().0, self.counter())
    }
}

/// A node's clock: the highest timestamp it has given out or applied.
///
/// ```
/// use quorate_core::{hlc::Clock, machine::WallTime};
///
/// let mut clock = Clock::default();
/// let before = clock.tick(WallTime(1_000));
/// let after = clock.tick(WallTime(400)); // the wall jumped back
/// assert!(after > before);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    last: Hlc,
}

impl Clock {
    /// A timestamp for an event here and now, above every earlier one.
    pub fn tick(&mut self, wall: WallTime) -> Hlc {
        let next = if bug!(clock_follows_the_wall) { 0 } else { self.last.0.saturating_add(1) };
        self.last = Hlc::at(wall).max(Hlc(next));
        self.last
    }

    /// Moves past a timestamp that was applied here. The caller has checked it against the bound.
    pub fn observe(&mut self, applied: Hlc) {
        self.last =
            if bug!(clock_forgets_what_it_saw) { self.last } else { self.last.max(applied) };
    }

    /// The highest timestamp given out or applied.
    #[must_use]
    pub fn last(&self) -> Hlc {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_carries_into_the_milliseconds() {
        let mut clock = Clock::default();
        let first = clock.tick(WallTime(5));
        let last = (0..70_000).map(|_| clock.tick(WallTime(5))).last().unwrap();
        assert_eq!(first, Hlc::at(WallTime(5)));
        assert_eq!((last.wall(), last.counter()), (WallTime(6), (70_000 - 65_536) as u16));
    }

    #[test]
    fn the_bound_is_inclusive() {
        let wall = WallTime(1_000);
        assert!(!Hlc::at(WallTime(1_000 + MAX_DRIFT_MS)).is_future(wall));
        assert!(Hlc::at(WallTime(1_001 + MAX_DRIFT_MS)).is_future(wall));
    }

    #[test]
    fn the_end_of_time_does_not_wrap() {
        let mut clock = Clock::default();
        clock.observe(Hlc(u64::MAX));
        assert_eq!(clock.tick(WallTime(1)), Hlc(u64::MAX));
        assert!(Hlc::at(WallTime(u64::MAX)) <= Hlc(u64::MAX));
    }
}
