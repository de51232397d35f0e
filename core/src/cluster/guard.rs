//! A holder's own view of its lease: until when may it believe that it still holds?
//!
//! The log decides when a lease ends; this decides when its holder stops believing in it, which must
//! be earlier, also when the holder hears nothing. So it counts from when it *sent* what was answered,
//! by its own monotonic clock, and leaves room for two clocks that differ: its own and the leader's,
//! each by [`DRIFT_PERCENT`]. The log cannot count from any earlier moment than that of sending.
//!
//! **Lost stays lost.** Whoever was told once that it holds no longer has stopped its work, and what it
//! guards may be another's already: a renewal that comes late changes nothing. It campaigns anew.
//!
//! **Zombies.** A process whose network side is alive and whose working side hangs would renew for
//! ever. So the application may have to say itself that it is alive, within a time of its own; if it
//! does not, nothing is renewed any more, and the name goes to the next when the lease ends.

use core::fmt;

use crate::log::DRIFT_PERCENT;
use crate::machine::Time;

/// Why a holder holds no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Loss {
    /// No renewal was answered in time.
    Expired,
    /// The application did not say in time that it is alive.
    Zombie,
    /// It was given back.
    Released,
    /// It was asked to be given back.
    SteppedDown,
    /// The log says that the lease has ended, or that the name is another's.
    Taken,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Loss::Expired => "no renewal was answered in time",
            Loss::Zombie => "the application did not say in time that it is alive",
            Loss::Released => "it was given back",
            Loss::SteppedDown => "it was asked to step down",
            Loss::Taken => "the lease has ended",
        })
    }
}

impl core::error::Error for Loss {}

/// A lease, as its holder sees it.
///
/// ```
/// use quorate_core::cluster::{Guard, Loss};
/// use quorate_core::machine::Time;
///
/// let sent = Time::ZERO; // when the lease was asked for
/// let mut guard = Guard::new(sent, 10_000, None);
/// assert_eq!(guard.check(Time::ZERO.after_ms(8_999)), Ok(()));
/// guard.renewed(Time::ZERO.after_ms(4_000)); // when the renewal that was answered was sent
/// assert_eq!(guard.check(Time::ZERO.after_ms(12_999)), Ok(()));
/// assert_eq!(guard.check(Time::ZERO.after_ms(13_000)), Err(Loss::Expired));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    ttl_ms: u64,
    /// When what was last answered was sent.
    sent: Time,
    /// How long the application may say nothing, and when it last did.
    heartbeat: Option<(u64, Time)>,
    loss: Option<Loss>,
}

impl Guard {
    /// A lease that was asked for at `sent`, and granted. If the application has to say that it is
    /// alive, then every `heartbeat_ms`.
    #[must_use]
    pub fn new(sent: Time, ttl_ms: u64, heartbeat_ms: Option<u64>) -> Guard {
        Guard { ttl_ms, sent, heartbeat: heartbeat_ms.map(|ms| (ms, sent)), loss: None }
    }

    /// A renewal that was sent at `sent` was answered.
    pub fn renewed(&mut self, sent: Time) {
        // Too late is too late: what it guards was lost when the last one ran out.
        if sent < self.lease_until() && self.loss.is_none() {
            self.sent = self.sent.max(sent);
        }
    }

    /// The application says that it is alive.
    pub fn alive(&mut self, now: Time) {
        if self.check(now).is_ok()
            && let Some((_, last)) = &mut self.heartbeat
        {
            *last = now;
        }
    }

    /// It is lost, for a reason that came from outside.
    pub fn lose(&mut self, loss: Loss) {
        self.loss.get_or_insert(loss);
    }

    /// Whether it is still held, so that what it guards may be done *now*. Once it is not, it never
    /// is again.
    ///
    /// # Errors
    ///
    /// It is lost, and why.
    pub fn check(&mut self, now: Time) -> Result<(), Loss> {
        let silent = |(ms, last): (u64, Time)| now >= last.after_ms(ms);
        if self.loss.is_none() && now >= self.lease_until() {
            self.loss = Some(Loss::Expired);
        } else if self.loss.is_none() && self.heartbeat.is_some_and(silent) {
            self.loss = Some(Loss::Zombie);
        }
        self.loss.map_or(Ok(()), Err)
    }

    /// When it is lost, if nothing more is heard: of the log or of the application.
    #[must_use]
    pub fn valid_until(&self) -> Time {
        let lease = self.lease_until();
        let heartbeat = self.heartbeat.map(|(ms, last)| last.after_ms(ms));
        heartbeat.map_or(lease, |heartbeat| heartbeat.min(lease))
    }

    fn lease_until(&self) -> Time {
        let ttl_us = self.ttl_ms.saturating_mul(1_000);
        bug!(guard_without_room_for_drift => return self.sent.after_us(ttl_us));
        self.sent.after_us(ttl_us / 100 * (100 - 2 * DRIFT_PERCENT))
    }

    /// When the next renewal is to be sent: a third of the lease's time after the last that was
    /// answered. Nothing, once it is lost: then nothing is renewed.
    #[must_use]
    pub fn renew_at(&self) -> Option<Time> {
        self.loss.is_none().then(|| self.sent.after_ms(self.ttl_ms / 3))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(ms: u64) -> Time {
        Time(ms * 1_000)
    }

    #[test]
    fn it_ends_before_the_log_can_end_it() {
        let mut guard = Guard::new(at(0), 10_000, None);
        assert_eq!(guard.renew_at(), Some(at(3_333)));
        assert_eq!(guard.valid_until(), at(9_000));
        guard.renewed(at(3_500));
        guard.renewed(at(3_400)); // answered out of order
        assert_eq!(guard.valid_until(), at(12_500));
        assert_eq!(guard.check(at(12_500)), Err(Loss::Expired));
        assert_eq!(guard.renew_at(), None);
    }

    #[test]
    fn lost_stays_lost() {
        let mut guard = Guard::new(at(0), 10_000, None);
        assert_eq!(guard.check(at(9_000)), Err(Loss::Expired));
        guard.renewed(at(8_000)); // its answer took long
        assert_eq!(guard.check(at(9_001)), Err(Loss::Expired));
        guard.lose(Loss::Taken);
        assert_eq!(guard.check(at(9_001)), Err(Loss::Expired), "the first reason is the reason");
        // Paused over its end, it hears the answer first and looks at the clock then.
        let mut guard = Guard::new(at(0), 10_000, None);
        guard.renewed(at(9_000));
        assert_eq!(guard.check(at(9_000)), Err(Loss::Expired));
    }

    #[test]
    fn an_application_that_hangs_loses_it() {
        let mut guard = Guard::new(at(0), 10_000, Some(2_000));
        assert_eq!(guard.valid_until(), at(2_000));
        guard.alive(at(1_500));
        assert_eq!(guard.check(at(3_499)), Ok(()));
        guard.renewed(at(3_333));
        assert_eq!(guard.check(at(3_500)), Err(Loss::Zombie));
        guard.alive(at(3_501));
        assert_eq!(guard.check(at(3_502)), Err(Loss::Zombie));
        assert_eq!(guard.renew_at(), None);
    }
}
