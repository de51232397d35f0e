//! A node's two clocks, and how they lie.
//!
//! The *wall* clock starts with an offset, drifts by some parts in a million and jumps either way.
//! The *monotonic* clock never goes back, but its rate drifts too, and it starts from a new origin
//! with every process: a machine that compares its `now` with one from an earlier life is found.
//! A *wave* is laid over the wall clock for a while: up and down, or a step forth and back.
//!
//! Both are linear between changes: a reading is `base + elapsed * (1_000_000 + ppm) / 1_000_000`.

use quorate_machine::{Time, WallTime};
use serde::{Deserialize, Serialize};

use crate::prng::{Rng, Span};

const MILLION: u64 = 1_000_000;
/// Where true wall time stands when a run starts: 2026-01-01 00:00 UTC, in microseconds.
pub const WALL_START_US: u64 = 1_767_225_600_000_000;
/// A process's monotonic clock starts somewhere in here.
const ORIGIN_US: Span = Span::new(1, 1 << 40);
/// Farther ahead than this (about 115 days) a deadline is never reached.
const HORIZON_US: u64 = 10_000_000_000_000;

/// How far a node's clocks are off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Skew {
    /// The wall clock's error at the start, in microseconds.
    pub wall_offset_us: i64,
    /// The wall clock's drift in parts per million; above -1,000,000.
    pub wall_ppm: i32,
    /// The monotonic clock's drift in parts per million; above -1,000,000.
    pub monotonic_ppm: i32,
}

/// The form of a wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Form {
    /// Up, down below the true value, and up again, at an even rate.
    Triangle,
    /// A step forth, half a period later a step back.
    Square,
}

/// An error of a wall clock that comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wave {
    /// How it comes and goes.
    pub form: Form,
    /// The greatest error, in microseconds; less than zero to begin with the clock behind.
    pub most_us: i64,
    /// How long until it begins anew, in microseconds.
    pub period_us: u64,
}

impl Wave {
    /// The error `elapsed_us` after the wave began.
    #[must_use]
    pub fn error_us(&self, elapsed_us: u64) -> i64 {
        let period = i128::from(self.period_us.max(4));
        let phase = i128::from(elapsed_us) % period;
        let most = i128::from(self.most_us);
        let error = match self.form {
            Form::Square if phase * 2 < period => most,
            Form::Square => 0,
            // Up in the first quarter, down in the next two, up in the last.
            Form::Triangle if phase * 4 < period => most * phase * 4 / period,
            Form::Triangle if phase * 4 < period * 3 => most * (period - 2 * phase) * 2 / period,
            Form::Triangle => most * (phase - period) * 4 / period,
        };
        error as i64
    }
}

/// A clock that ran `ppm` off since it showed `base` at simulated time `since`.
#[derive(Clone, Copy, Debug)]
struct Linear {
    base: u64,
    since: u64,
    ppm: i32,
}

impl Linear {
    #[inline]
    fn rate(self) -> u64 {
        let rate = MILLION.saturating_add_signed(i64::from(self.ppm));
        assert!(rate > 0, "a clock must not stand still: {} ppm", self.ppm);
        rate
    }

    #[inline]
    fn read(self, now: u64) -> u64 {
        let elapsed = now - self.since;
        if self.ppm == 0 {
            return self.base + elapsed;
        }
        let Some(scaled) = elapsed.checked_mul(self.rate()) else {
            let scaled = u128::from(elapsed) * u128::from(self.rate());
            return self.base + (scaled / u128::from(MILLION)) as u64;
        };
        self.base + scaled / MILLION
    }

    /// The first simulated time at which the clock shows `reading`; `None` if out of sight.
    #[inline]
    fn when(self, reading: u64) -> Option<u64> {
        let ahead = reading.saturating_sub(self.base);
        if ahead > HORIZON_US {
            return None;
        }
        if self.ppm == 0 {
            return Some(self.since + ahead);
        }
        Some(self.since + (ahead * MILLION).div_ceil(self.rate()))
    }

    fn turn(&mut self, now: u64, ppm: i32) {
        *self = Linear { base: self.read(now), since: now, ppm };
    }
}

/// The clocks of one node.
#[derive(Clone, Debug)]
pub struct Clock {
    wall: Linear,
    monotonic: Linear,
    /// Laid over the wall clock since the time given.
    wave: Option<(Wave, u64)>,
}

impl Clock {
    /// The clocks at the start of a run.
    pub(crate) fn new(skew: Skew, rng: &mut Rng) -> Clock {
        let base = WALL_START_US.saturating_add_signed(skew.wall_offset_us);
        let wall = Linear { base, since: 0, ppm: skew.wall_ppm };
        let origin = rng.within(ORIGIN_US);
        let monotonic = Linear { base: origin, since: 0, ppm: skew.monotonic_ppm };
        Clock { wall, monotonic, wave: None }
    }

    /// What the process reads as its monotonic time at simulated time `now`.
    #[inline]
    #[must_use]
    pub fn monotonic(&self, now: u64) -> Time {
        Time(self.monotonic.read(now))
    }

    /// What the host believes to be the time of day at simulated time `now`.
    #[inline]
    #[must_use]
    pub fn wall(&self, now: u64) -> WallTime {
        let error_us = self.wave.map_or(0, |(wave, since)| wave.error_us(now - since));
        WallTime(self.wall.read(now).saturating_add_signed(error_us) / 1_000)
    }

    /// When, in simulated time, the monotonic clock shows `deadline`.
    #[inline]
    pub(crate) fn when(&self, deadline: Time) -> Option<u64> {
        self.monotonic.when(deadline.0)
    }

    /// A new process: its monotonic clock has a new origin.
    pub(crate) fn restart(&mut self, now: u64, rng: &mut Rng) {
        self.monotonic.base = rng.within(ORIGIN_US);
        self.monotonic.since = now;
    }

    /// The wall clock jumps.
    pub(crate) fn jump(&mut self, now: u64, by_us: i64) {
        let base = self.wall.read(now).saturating_add_signed(by_us);
        self.wall = Linear { base, since: now, ppm: self.wall.ppm };
    }

    /// A wave begins over the wall clock, in place of one that was there.
    pub(crate) fn wave(&mut self, now: u64, wave: Wave) {
        self.wave = Some((wave, now));
    }

    /// The wave over the wall clock is over.
    pub(crate) fn still(&mut self) {
        self.wave = None;
    }

    /// Both clocks run at another rate from now on.
    pub(crate) fn drift(&mut self, now: u64, wall_ppm: i32, monotonic_ppm: i32) {
        self.wall.turn(now, wall_ppm);
        self.monotonic.turn(now, monotonic_ppm);
    }

    /// The wall clock is right again and both run at the true rate.
    pub(crate) fn heal(&mut self, now: u64) {
        self.still();
        self.drift(now, 0, 0);
        self.wall.base = WALL_START_US + now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(wall_ppm: i32, monotonic_ppm: i32) -> Clock {
        let skew = Skew { wall_offset_us: -5_000_000, wall_ppm, monotonic_ppm };
        Clock::new(skew, &mut Rng::new(1))
    }

    #[test]
    fn drift_drifts() {
        let clock = clock(200, -100);
        let (start, end) = (clock.monotonic(0), clock.monotonic(1_000_000_000));
        assert_eq!(end.since_us(start), 999_900_000);
        assert_eq!(clock.wall(0).0, WALL_START_US / 1_000 - 5_000);
        assert_eq!(clock.wall(1_000_000_000).0 - clock.wall(0).0, 1_000_200);
    }

    #[test]
    fn a_deadline_is_met_at_the_first_moment_that_shows_it() {
        for ppm in [-90_000, -333, 0, 1, 777, 120_000] {
            let clock = clock(0, ppm);
            for ahead in [1, 2, 999, 1_000_003, 77_777_777] {
                let deadline = clock.monotonic(0).after_us(ahead);
                let at = clock.when(deadline).expect("in sight");
                assert!(clock.monotonic(at) >= deadline);
                assert!(clock.monotonic(at - 1) < deadline);
            }
            assert_eq!(clock.when(Time(u64::MAX)), None);
        }
    }

    #[test]
    fn the_wall_jumps_both_ways_and_the_monotonic_clock_does_not() {
        let mut clock = clock(0, 0);
        let (wall, monotonic) = (clock.wall(1_000).0, clock.monotonic(1_000));
        clock.jump(1_000, -60_000_000);
        assert_eq!(clock.wall(1_000).0, wall - 60_000);
        clock.jump(1_000, 90_000_000);
        assert_eq!(clock.wall(1_000).0, wall + 30_000);
        assert_eq!(clock.monotonic(1_000), monotonic);
        clock.heal(2_000_000);
        assert_eq!(clock.wall(2_000_000).0, WALL_START_US / 1_000 + 2_000);
    }

    #[test]
    fn a_triangle_goes_up_and_down_around_the_truth_and_a_square_steps_forth_and_back() {
        let mut wave = Wave { form: Form::Triangle, most_us: 1_000, period_us: 8_000 };
        let errors: Vec<i64> = (0..=9).map(|n| wave.error_us(n * 1_000)).collect();
        assert_eq!(errors, [0, 500, 1_000, 500, 0, -500, -1_000, -500, 0, 500]);
        let steps = (0..20_000).map(|at| (wave.error_us(at + 1) - wave.error_us(at)).abs());
        assert_eq!(steps.max(), Some(1), "without a step");
        wave = Wave { form: Form::Square, most_us: -70, ..wave };
        let errors: Vec<i64> = (0..6).map(|n| wave.error_us(n * 3_000)).collect();
        assert_eq!(errors, [-70, -70, 0, -70, 0, 0]);
        for form in [Form::Triangle, Form::Square] {
            let widest = Wave { form, most_us: i64::MIN, period_us: u64::MAX };
            assert!(widest.error_us(1 << 62) <= 0);
            assert_eq!(Wave { form, most_us: 9, period_us: 0 }.error_us(2) % 9, 0);
        }
    }

    #[test]
    fn a_change_of_rate_keeps_the_reading() {
        let mut clock = clock(0, 0);
        let before = clock.monotonic(500);
        clock.drift(500, 10, 50_000);
        assert_eq!(clock.monotonic(500), before);
        assert_eq!(clock.monotonic(1_000_500).since_us(before), 1_050_000);
        let mut rng = Rng::new(2);
        clock.restart(1_000_500, &mut rng);
        assert_ne!(clock.monotonic(1_000_500), before.after_us(1_050_000));
    }
}
