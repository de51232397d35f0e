//! When to dial which address: exponential backoff with jitter, and no dialling of a peer that is
//! linked anyhow. A plain value: the host dials, and tells it what came of it.
//!
//! What a person or the machine gave is dialled until it is taken back. What a peer merely told is
//! hearsay, and any member may lie: it expires unless it works, each peer may tell only so much, and
//! it has its own part of the table and of the attempts. So no lie takes the place of an address that
//! was given or has worked, nor its turn. An address under which another node is expected is another
//! entry, for the same reason.

use std::collections::BTreeMap;

use quorate_core::machine::{NodeId, Time};

/// Addresses that may be kept dialled because they were given: more than a machine remembers, so
/// that there is room for those that a person names.
pub const MAX_DIALS: usize = 2048;

/// Addresses that peers told, those that have worked since included.
pub const MAX_HEARSAY: usize = 1024;

/// As many of them, as long as they have not worked, may be told by one peer.
pub const MAX_HEARSAY_PER_PEER: usize = 64;

/// So long hearsay is tried before it is forgotten. Whoever told it may tell it again.
const HEARSAY_EXPIRY_MS: u64 = 3_600_000;

/// Addresses dialled at once.
const MAX_ATTEMPTS: usize = 32;

/// As many of them may be hearsay that has not worked.
const MAX_HEARSAY_ATTEMPTS: usize = MAX_ATTEMPTS / 2;

/// The longest pause after the first failure; each further one doubles it.
const BACKOFF_MIN_MS: u64 = 200;

/// The longest pause ever. A link that lived longer than this starts the backoff anew.
const BACKOFF_MAX_MS: u64 = 30_000;

/// Where to dial, and who must answer there; `None` is whoever does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    pub(crate) addr: String,
    pub(crate) expected: Option<NodeId>,
}

/// What to dial.
#[derive(Debug, Default)]
pub(crate) struct Dials {
    entries: BTreeMap<Target, Entry>,
}

#[derive(Debug)]
struct Entry {
    origin: Origin,
    /// Who was expected or last answered.
    known: Option<NodeId>,
    failures: u32,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum Origin {
    /// By a person, or by the machine.
    Given,
    /// Told by a peer, and true.
    Worked,
    /// Told by a peer.
    Hearsay { told_by: NodeId, until: Time },
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Due(Time),
    Trying,
    /// Until the link to this peer is lost.
    Linked(NodeId),
}

/// There is no room for this address: see [`MAX_DIALS`], [`MAX_HEARSAY`] and
/// [`MAX_HEARSAY_PER_PEER`].
#[derive(Debug)]
pub(crate) struct TooMany;

impl Dials {
    /// Dials `target` from now on. One that is dialled already keeps its place.
    pub(crate) fn add(&mut self, target: Target, now: Time) -> Result<(), TooMany> {
        let given = |entry: &Entry| entry.origin == Origin::Given;
        if self.entries.get(&target).is_some_and(given) {
            return Ok(());
        }
        if self.count(given) >= MAX_DIALS {
            return Err(TooMany);
        }
        let entry = Entry::new(Origin::Given, &target, now);
        self.entries.entry(target).or_insert(entry).origin = Origin::Given;
        Ok(())
    }

    /// Dials `target` for a while, because `told_by` says that the node expected listens there.
    pub(crate) fn hear(
        &mut self,
        target: Target,
        told_by: NodeId,
        now: Time,
    ) -> Result<(), TooMany> {
        self.expire(now);
        if self.entries.contains_key(&target) {
            return Ok(());
        }
        let told = self.count(|entry| entry.origin != Origin::Given);
        let by_peer = |entry: &Entry| matches!(entry.origin, Origin::Hearsay { told_by: by, .. } if by == told_by);
        if told >= MAX_HEARSAY || self.count(by_peer) >= MAX_HEARSAY_PER_PEER {
            return Err(TooMany);
        }
        let until = now.after_ms(HEARSAY_EXPIRY_MS);
        let entry = Entry::new(Origin::Hearsay { told_by, until }, &target, now);
        self.entries.insert(target, entry);
        Ok(())
    }

    /// Dials no address at which `peer` is expected.
    pub(crate) fn remove(&mut self, peer: NodeId) {
        self.entries.retain(|target, _| target.expected != Some(peer));
    }

    /// Dials where `peer` is expected, or last answered, without further pause.
    pub(crate) fn hurry(&mut self, peer: NodeId, now: Time) {
        for entry in self.entries.values_mut().filter(|entry| entry.known == Some(peer)) {
            entry.failures = 0;
            if let State::Due(_) = entry.state {
                entry.state = State::Due(now);
            }
        }
    }

    /// When [`due`](Self::due) next has something to give.
    pub(crate) fn next(&self) -> Option<Time> {
        let (all, hearsay) = self.attempts();
        if all >= MAX_ATTEMPTS {
            return None;
        }
        let waits = |entry: &&Entry| entry.is_hearsay() && hearsay >= MAX_HEARSAY_ATTEMPTS;
        let due = self.entries.values().filter(|entry| !waits(entry)).filter_map(Entry::due);
        due.min()
    }

    /// What to dial now. Those whose peer is linked wait; hearsay comes last.
    pub(crate) fn due(&mut self, now: Time, linked: impl Fn(&NodeId) -> bool) -> Vec<Target> {
        self.expire(now);
        let (mut all, mut hearsay) = self.attempts();
        let is_due = |entry: &Entry| entry.due().is_some_and(|at| at <= now);
        let mut ready: Vec<_> =
            self.entries.iter_mut().filter(|(_, entry)| is_due(entry)).collect();
        ready.sort_by_key(|(_, entry)| (entry.is_hearsay(), entry.due()));
        let mut due = Vec::new();
        for (target, entry) in ready {
            let room =
                all < MAX_ATTEMPTS && (!entry.is_hearsay() || hearsay < MAX_HEARSAY_ATTEMPTS);
            match entry.known.filter(&linked) {
                Some(peer) => entry.state = State::Linked(peer),
                None if room => {
                    all += 1;
                    hearsay += usize::from(entry.is_hearsay());
                    entry.state = State::Trying;
                    due.push(target.clone());
                }
                None => {}
            }
        }
        due
    }

    /// The attempt reached `peer`, which is linked now, by this connection or another. False if the
    /// address is no longer wanted.
    pub(crate) fn reached(&mut self, target: &Target, peer: NodeId) -> bool {
        let Some(entry) = self.entries.get_mut(target) else { return false };
        if entry.is_hearsay() {
            entry.origin = Origin::Worked;
        }
        entry.known = Some(peer);
        entry.state = State::Linked(peer);
        true
    }

    /// The attempt failed.
    pub(crate) fn failed(&mut self, target: &Target, now: Time, chance: u64) {
        if let Some(entry) = self.entries.get_mut(target) {
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

    /// Forgets hearsay that did not work in its time.
    fn expire(&mut self, now: Time) {
        self.entries.retain(|_, entry| {
            let over = matches!(entry.origin, Origin::Hearsay { until, .. } if until <= now);
            !over || entry.state == State::Trying
        });
    }

    /// How many attempts are under way, and how many of them at hearsay.
    fn attempts(&self) -> (usize, usize) {
        let trying = |entry: &Entry| entry.state == State::Trying;
        (self.count(trying), self.count(|entry| trying(entry) && entry.is_hearsay()))
    }

    fn count(&self, wanted: impl Fn(&Entry) -> bool) -> usize {
        self.entries.values().filter(|entry| wanted(entry)).count()
    }
}

impl Entry {
    fn new(origin: Origin, target: &Target, now: Time) -> Self {
        Self { origin, known: target.expected, failures: 0, state: State::Due(now) }
    }

    fn is_hearsay(&self) -> bool {
        matches!(self.origin, Origin::Hearsay { .. })
    }

    fn due(&self) -> Option<Time> {
        match self.state {
            State::Due(at) => Some(at),
            _ => None,
        }
    }

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
    const LIAR: NodeId = NodeId([6; 32]);

    fn anyone(addr: &str) -> Target {
        Target { addr: addr.into(), expected: None }
    }

    fn only(addr: &str, node: NodeId) -> Target {
        Target { addr: addr.into(), expected: Some(node) }
    }

    /// `count` lies by `told_by`.
    fn lie(dials: &mut Dials, told_by: u8, count: usize, now: Time) -> usize {
        let lies = (0..count).map(|n| only(&format!("{told_by}-{n}"), PEER));
        lies.filter(|lie| dials.hear(lie.clone(), NodeId([told_by; 32]), now).is_ok()).count()
    }

    fn dials(addr: &str) -> Dials {
        let mut dials = Dials::default();
        dials.add(anyone(addr), Time::ZERO).unwrap();
        assert_eq!(dials.due(Time::ZERO, |_| false), [anyone(addr)]);
        dials
    }

    #[test]
    fn failures_wait_longer_and_longer_up_to_a_bound() {
        let mut dials = dials("a");
        let (mut now, mut last) = (Time::ZERO, 0);
        for _ in 0..40 {
            dials.failed(&anyone("a"), now, u64::MAX / 7);
            let at = dials.next().unwrap();
            let pause = at.since_us(now);
            assert!((BACKOFF_MIN_MS * 500..=BACKOFF_MAX_MS * 1_000).contains(&pause), "{pause}");
            assert!(pause * 2 >= last, "{pause} after {last}");
            assert!(dials.due(Time(at.0 - 1), |_| false).is_empty(), "not before its time");
            assert_eq!(dials.due(at, |_| false).len(), 1);
            (now, last) = (at, pause);
        }
        assert!(last >= BACKOFF_MAX_MS * 500, "the pause grew to {last} only");
        dials.failed(&anyone("a"), now, 0);
        dials.hurry(PEER, now);
        assert!(dials.next().unwrap() > now, "nobody knows who is there");
        dials.reached(&anyone("a"), PEER);
        dials.lost(PEER, now, now, 0);
        dials.hurry(PEER, now);
        assert_eq!(dials.next(), Some(now));
    }

    #[test]
    fn a_linked_peer_is_not_dialled_until_its_link_is_lost() {
        let mut dials = dials("a");
        assert!(dials.reached(&anyone("a"), PEER));
        assert_eq!(dials.next(), None);
        dials.lost(NodeId([2; 32]), Time::ZERO, Time(5), 0);
        assert_eq!(dials.next(), None, "another peer's link");
        dials.lost(PEER, Time::ZERO, Time(5), 0);
        let at = dials.next().unwrap();
        assert!(dials.due(at, |peer| *peer == PEER).is_empty(), "linked by the other side");
        assert_eq!(dials.next(), None);
    }

    #[test]
    fn addresses_and_attempts_are_bounded() {
        let mut dials = Dials::default();
        for n in 0..MAX_DIALS {
            dials.add(only(&format!("a{n}"), PEER), Time::ZERO).unwrap();
        }
        assert!(dials.add(anyone("one more"), Time::ZERO).is_err());
        let due = dials.due(Time::ZERO, |_| false);
        assert_eq!(due.len(), MAX_ATTEMPTS);
        assert_eq!(dials.next(), None, "no room until one ends");
        dials.failed(&due[0], Time::ZERO, 0);
        assert_eq!(dials.due(Time::ZERO, |_| false).len(), 1);
    }

    #[test]
    fn a_removed_peer_is_forgotten_wherever_it_was_expected() {
        let mut dials = Dials::default();
        dials.add(only("a", PEER), Time::ZERO).unwrap();
        dials.hear(only("b", PEER), LIAR, Time::ZERO).unwrap();
        dials.add(only("b", LIAR), Time::ZERO).unwrap();
        assert_eq!(dials.due(Time::ZERO, |_| false).len(), 3);
        dials.remove(PEER);
        dials.lost(PEER, Time::ZERO, Time(5), 0);
        assert_eq!(dials.next(), None);
        // An attempt that was under way comes too late.
        assert!(!dials.reached(&only("a", PEER), PEER));
        dials.failed(&only("b", PEER), Time(5), 0);
        assert_eq!(dials.next(), None);
        assert!(dials.reached(&only("b", LIAR), LIAR), "another is still wanted there");
    }

    #[test]
    fn hearsay_takes_no_place_of_what_was_given_or_has_worked() {
        let mut dials = dials("a");
        assert!(dials.reached(&anyone("a"), PEER));
        dials.hear(only("a", LIAR), LIAR, Time::ZERO).unwrap();
        dials.hear(only("true", PEER), LIAR, Time::ZERO).unwrap();
        assert_eq!(dials.due(Time::ZERO, |_| false).len(), 2);
        assert!(dials.reached(&only("true", PEER), PEER));
        // All that liars can tell.
        let told: usize = (10..100).map(|liar| lie(&mut dials, liar, 100, Time::ZERO)).sum();
        assert_eq!(told, MAX_HEARSAY - 2);
        assert!(dials.hear(only("b", PEER), LIAR, Time::ZERO).is_err());
        dials.add(anyone("later"), Time::ZERO).unwrap();
        assert_eq!(dials.due(Time::ZERO, |_| false)[0], anyone("later"), "the given come first");
        dials.lost(PEER, Time::ZERO, Time::ZERO, 0);
        let later = dials.due(Time(BACKOFF_MIN_MS * 1_000), |_| false);
        assert_eq!(later, [anyone("a"), only("true", PEER)], "whatever attempts hang on lies");
    }

    #[test]
    fn a_peer_tells_only_so_much_until_it_expires() {
        let mut dials = Dials::default();
        assert_eq!(lie(&mut dials, 6, 100, Time::ZERO), MAX_HEARSAY_PER_PEER);
        assert_eq!(lie(&mut dials, 7, 1, Time::ZERO), 1, "another has a share of its own");
        let tried = dials.due(Time::ZERO, |_| false);
        assert_eq!(tried.len(), MAX_HEARSAY_ATTEMPTS);
        assert_eq!(dials.next(), None, "no room for hearsay until one ends");
        assert!(dials.reached(&tried[0], PEER));
        assert_eq!(lie(&mut dials, 6, 1, Time::ZERO), 1, "told already");
        let over = Time::ZERO.after_ms(HEARSAY_EXPIRY_MS);
        for target in &tried[1..] {
            dials.failed(target, over, 0);
        }
        assert!(dials.due(over, |_| false).is_empty(), "its time is over");
        dials.lost(PEER, Time::ZERO, over, 0);
        let again = dials.due(over.after_ms(BACKOFF_MIN_MS), |_| false);
        assert_eq!(again, tried[..1], "what has worked stays");
    }

    #[test]
    fn hearsay_that_is_given_too_stays() {
        let mut dials = Dials::default();
        dials.hear(only("a", PEER), LIAR, Time::ZERO).unwrap();
        dials.add(only("a", PEER), Time::ZERO).unwrap();
        let over = Time::ZERO.after_ms(HEARSAY_EXPIRY_MS);
        assert_eq!(dials.due(over, |_| false), [only("a", PEER)]);
    }
}
