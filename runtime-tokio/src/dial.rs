//! When to dial which address: exponential backoff with jitter, and no dialling of a peer that is
//! linked anyhow. A plain value: the host dials, and tells it what came of it.

use std::collections::BTreeMap;

use quorate_core::machine::{NodeId, Time};

/// Addresses that may be kept dialled.
pub const MAX_DIALS: usize = 1024;

/// Addresses dialled at once.
const MAX_ATTEMPTS: usize = 32;

/// The longest pause after the first failure; each further one doubles it.
const BACKOFF_MIN_MS: u64 = 200;

/// The longest pause ever. A link that lived longer than this starts the backoff anew.
const BACKOFF_MAX_MS: u64 = 30_000;

/// The addresses to dial.
#[derive(Debug, Default)]
pub(crate) struct Dials {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    expected: Option<NodeId>,
    /// Who was expected or last answered.
    known: Option<NodeId>,
    failures: u32,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Due(Time),
    Trying,
    /// Until the link to this peer is lost.
    Linked(NodeId),
    /// The address is our own: never again.
    Own,
}

/// There are [`MAX_DIALS`] addresses already.
#[derive(Debug)]
pub(crate) struct TooMany;

impl Dials {
    /// Dials `addr` from now on. An address already known keeps its place unless it expects
    /// another peer.
    pub(crate) fn add(
        &mut self,
        addr: String,
        expected: Option<NodeId>,
        now: Time,
    ) -> Result<(), TooMany> {
        match self.entries.get(&addr) {
            Some(entry) if entry.expected == expected => return Ok(()),
            None if self.entries.len() >= MAX_DIALS => return Err(TooMany),
            _ => {}
        }
        let state = State::Due(now);
        self.entries.insert(addr, Entry { expected, known: expected, failures: 0, state });
        Ok(())
    }

    pub(crate) fn remove(&mut self, addr: &str) {
        self.entries.remove(addr);
    }

    /// When [`due`](Self::due) next has something to give.
    pub(crate) fn next(&self) -> Option<Time> {
        if self.attempts() >= MAX_ATTEMPTS {
            return None;
        }
        let due = self.entries.values().filter_map(|entry| match entry.state {
            State::Due(at) => Some(at),
            _ => None,
        });
        due.min()
    }

    /// The addresses to dial now, and whom to expect. Those whose peer is linked wait.
    pub(crate) fn due(
        &mut self,
        now: Time,
        linked: impl Fn(&NodeId) -> bool,
    ) -> Vec<(String, Option<NodeId>)> {
        let mut room = MAX_ATTEMPTS.saturating_sub(self.attempts());
        let mut due = Vec::new();
        for (addr, entry) in &mut self.entries {
            if !matches!(entry.state, State::Due(at) if at <= now) {
                continue;
            }
            match entry.known.filter(&linked) {
                Some(peer) => entry.state = State::Linked(peer),
                None if room > 0 => {
                    room -= 1;
                    entry.state = State::Trying;
                    due.push((addr.clone(), entry.expected));
                }
                None => {}
            }
        }
        due
    }

    /// The attempt reached `peer`, which is linked now, by this connection or another. False if the
    /// address is no longer wanted.
    pub(crate) fn reached(&mut self, addr: &str, peer: NodeId) -> bool {
        let Some(entry) = self.entries.get_mut(addr) else { return false };
        entry.known = Some(peer);
        entry.state = State::Linked(peer);
        true
    }

    /// The attempt reached this very host.
    pub(crate) fn own(&mut self, addr: &str) {
        if let Some(entry) = self.entries.get_mut(addr) {
            entry.state = State::Own;
        }
    }

    /// The attempt failed.
    pub(crate) fn failed(&mut self, addr: &str, now: Time, chance: u64) {
        if let Some(entry) = self.entries.get_mut(addr) {
            entry.pause(now, chance);
        }
    }

    /// The link to `peer`, up since `since`, is lost.
    pub(crate) fn lost(&mut self, peer: NodeId, since: Time, now: Time, chance: u64) {
        let stable = now.since_us(since) > BACKOFF_MAX_MS * 1_000;
        for entry in self.entries.values_mut() {
            if entry.state == State::Linked(peer) {
                if stable {
                    entry.failures = 0;
                }
                entry.pause(now, chance);
            }
        }
    }

    fn attempts(&self) -> usize {
        self.entries.values().filter(|entry| entry.state == State::Trying).count()
    }
}

impl Entry {
    /// Waits between half and the whole of the pause that so many failures call for.
    fn pause(&mut self, now: Time, chance: u64) {
        let doubled = BACKOFF_MIN_MS << self.failures.min(16);
        let half = doubled.min(BACKOFF_MAX_MS) / 2;
        self.failures = self.failures.saturating_add(1);
        self.state = State::Due(now.after_ms(half + chance % (half + 1)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId([1; 32]);

    fn dials(addr: &str) -> Dials {
        let mut dials = Dials::default();
        dials.add(addr.into(), None, Time::ZERO).unwrap();
        assert_eq!(dials.due(Time::ZERO, |_| false), [(addr.to_owned(), None)]);
        dials
    }

    #[test]
    fn failures_wait_longer_and_longer_up_to_a_bound() {
        let mut dials = dials("a");
        let (mut now, mut last) = (Time::ZERO, 0);
        for _ in 0..40 {
            dials.failed("a", now, u64::MAX / 7);
            let at = dials.next().unwrap();
            let pause = at.since_us(now);
            assert!((BACKOFF_MIN_MS * 500..=BACKOFF_MAX_MS * 1_000).contains(&pause), "{pause}");
            assert!(pause * 2 >= last, "{pause} after {last}");
            assert!(dials.due(Time(at.0 - 1), |_| false).is_empty(), "not before its time");
            assert_eq!(dials.due(at, |_| false).len(), 1);
            (now, last) = (at, pause);
        }
        assert!(last >= BACKOFF_MAX_MS * 500, "the pause grew to {last} only");
    }

    #[test]
    fn a_linked_peer_is_not_dialled_until_its_link_is_lost() {
        let mut dials = dials("a");
        assert!(dials.reached("a", PEER));
        assert_eq!(dials.next(), None);
        dials.lost(NodeId([2; 32]), Time::ZERO, Time(5), 0);
        assert_eq!(dials.next(), None, "another peer's link");
        dials.lost(PEER, Time::ZERO, Time(5), 0);
        let at = dials.next().unwrap();
        assert!(dials.due(at, |peer| *peer == PEER).is_empty(), "linked by the other side");
        assert_eq!(dials.next(), None);
    }

    #[test]
    fn our_own_address_is_never_dialled_again() {
        let mut dials = dials("a");
        dials.own("a");
        dials.add("a".into(), None, Time(9)).unwrap();
        assert_eq!(dials.next(), None);
        dials.failed("b", Time(9), 0);
        assert!(!dials.reached("b", PEER), "never added");
    }

    #[test]
    fn addresses_and_attempts_are_bounded() {
        let mut dials = Dials::default();
        for n in 0..MAX_DIALS {
            dials.add(format!("a{n}"), None, Time::ZERO).unwrap();
        }
        assert!(dials.add("one more".into(), None, Time::ZERO).is_err());
        assert_eq!(dials.due(Time::ZERO, |_| false).len(), MAX_ATTEMPTS);
        assert_eq!(dials.next(), None, "no room until one ends");
        dials.remove("a0");
        assert_eq!(dials.due(Time::ZERO, |_| false).len(), 1);
    }

    #[test]
    fn a_removed_address_is_forgotten() {
        let mut dials = dials("a");
        dials.reached("a", PEER);
        dials.remove("a");
        dials.lost(PEER, Time::ZERO, Time(5), 0);
        assert_eq!(dials.next(), None);
        // An attempt that was under way comes too late.
        assert!(!dials.reached("a", PEER));
        dials.failed("a", Time(5), 0);
        assert_eq!(dials.next(), None);
    }
}
