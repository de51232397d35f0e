//! What happened in a run, as one number and, if asked for, as a list.
//!
//! Every event (a message sent, delivered or dropped, a record written, a crash, …) is mixed into a
//! rolling hash with its time, its nodes and its content. Two runs with the same hash did the same
//! thing. Two that differ though they had the same seed have a leak of outside state; both are then
//! run again with recording on, and [`first_difference`] names the event where they part.
//!
//! The mixing step is a multiplication to 128 bits folded to 64, as in wyhash. It is not
//! cryptographic: nobody attacks a test. It sees integers in little-endian order and `usize` as 64
//! bits, whatever the machine. (The one gap: `core` hashes a *slice* of integers wider than a byte
//! as it lies in memory, so on a big-endian machine such a message hashes differently.)

use core::fmt;
use core::hash::Hasher;

use crate::SimTime;
use crate::recording::{About, InFlight};

const MULTIPLIER: u64 = 0x9fb2_1c65_1e98_df25;
const INCREMENT: u64 = 0xa076_1d64_78bd_642f;

/// A 64-bit hasher that gives the same on every little-endian machine.
#[derive(Clone, Debug)]
pub struct TraceHasher(u64);

impl TraceHasher {
    /// A hasher that starts from `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> TraceHasher {
        TraceHasher(seed ^ INCREMENT)
    }

    #[inline]
    fn mix(&mut self, low: u64, high: u64) {
        let product = u128::from(self.0 ^ low) * u128::from(high ^ MULTIPLIER);
        let folded = (product as u64) ^ ((product >> 64) as u64);
        self.0 = folded.wrapping_add(low.rotate_left(32)).wrapping_add(INCREMENT);
    }

    /// Mixes in two words.
    #[inline]
    pub(crate) fn words(&mut self, low: u64, high: u64) {
        self.mix(low, high);
    }
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    let mut padded = [0; 8];
    padded[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(padded)
}

impl Hasher for TraceHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<16>();
        for block in blocks {
            let (low, high) = block.split_at(8);
            self.mix(word(low), word(high));
        }
        let (low, high) = rest.split_at(rest.len().min(8));
        self.mix(word(low), word(high) ^ ((bytes.len() as u64) << 57));
    }
    #[inline]
    fn write_u8(&mut self, n: u8) {
        self.mix(u64::from(n), 1);
    }
    #[inline]
    fn write_u16(&mut self, n: u16) {
        self.mix(u64::from(n), 2);
    }
    #[inline]
    fn write_u32(&mut self, n: u32) {
        self.mix(u64::from(n), 4);
    }
    #[inline]
    fn write_u64(&mut self, n: u64) {
        self.mix(n, 8);
    }
    #[inline]
    fn write_u128(&mut self, n: u128) {
        self.mix(n as u64, (n >> 64) as u64);
    }
    #[inline]
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
    #[inline]
    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as i64 as u64);
    }
}

/// What kind of thing an event of the trace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum What {
    /// A message left its node.
    Send,
    /// A message never arrives; the detail says why.
    Drop,
    /// A message will arrive a second time.
    Duplicate,
    /// A message reached a machine.
    Deliver,
    /// A timer fired.
    Tick,
    /// A command reached a machine.
    Command,
    /// A machine was told of a link.
    Link,
    /// A connection between two nodes came to be.
    Connect,
    /// A record was written, not yet durable.
    Persist,
    /// The disk has synced up to a position.
    Sync,
    /// A record is not needed any more.
    Forget,
    /// A machine told its host something.
    Emit,
    /// A process started.
    Start,
    /// A process died.
    Crash,
    /// A workload operation began.
    Op,
    /// A fault began.
    Fault,
    /// A fault ended.
    Undo,
    /// The faults stopped and the run has to converge.
    Heal,
}

/// One event of a recorded trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceEvent {
    /// The number of this event in the run.
    pub number: u64,
    /// When, in simulated time.
    pub time: SimTime,
    /// The kind of event.
    pub what: What,
    /// Where; `None` if it concerns no node in particular.
    pub node: Option<usize>,
    /// The other node, where there is one.
    pub peer: Option<usize>,
    /// What it is about, for programs.
    pub about: About,
    /// The content, for people.
    pub detail: String,
    /// The rolling hash after it.
    pub hash: u64,
}

impl fmt::Display for TraceEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} {} {:?}", self.number, self.time, self.what)?;
        if let Some(node) = self.node {
            write!(f, " node {node}")?;
        }
        if let Some(peer) = self.peer {
            write!(f, " peer {peer}")?;
        }
        write!(f, " {}", self.detail)
    }
}

/// Where two recorded traces part: the first event of each that the other does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The one trace's event; `None` if that trace ended.
    pub left: Option<TraceEvent>,
    /// The other trace's event.
    pub right: Option<TraceEvent>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |event: &Option<TraceEvent>| {
            event.as_ref().map_or_else(|| "the end".to_owned(), TraceEvent::to_string)
        };
        write!(f, "the one had: {}\nthe other:   {}", show(&self.left), show(&self.right))
    }
}

/// The first place where two traces of the same recorded range differ, if they do.
#[must_use]
pub fn first_difference(left: &[TraceEvent], right: &[TraceEvent]) -> Option<Difference> {
    let same = left.iter().zip(right).take_while(|(a, b)| a == b).count();
    let difference = Difference { left: left.get(same).cloned(), right: right.get(same).cloned() };
    (difference.left.is_some() || difference.right.is_some()).then_some(difference)
}

/// Events kept in a recording at most; later ones are only hashed.
pub const RECORDED_EVENTS_MAX: usize = 1 << 21;

const NOBODY: u16 = u16::MAX;

/// The rolling hash and, if asked for, the list.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    pub(crate) hasher: TraceHasher,
    pub(crate) recorded: Option<Vec<TraceEvent>>,
    pub(crate) in_flight: InFlight,
    /// Whether what is recorded is also written out.
    pub(crate) texts: bool,
    pub(crate) events: u64,
}

/// Who an event concerns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Who(u16, u16);

impl Who {
    pub(crate) const NOBODY: Who = Who(NOBODY, NOBODY);
    #[inline]
    pub(crate) fn node(node: usize) -> Who {
        Who(node as u16, NOBODY)
    }
    #[inline]
    pub(crate) fn pair(node: usize, peer: usize) -> Who {
        Who(node as u16, peer as u16)
    }
}

impl Trace {
    pub(crate) fn new(seed: u64, record: bool) -> Trace {
        let (hasher, recorded) = (TraceHasher::new(seed), record.then(Vec::new));
        let in_flight = InFlight::default();
        Trace { hasher, recorded, in_flight, texts: true, events: 0 }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// Notes an event. `content` must already tell everything that `detail` says, or have been
    /// mixed into the hasher before.
    #[inline]
    pub(crate) fn note(
        &mut self,
        time: u64,
        what: What,
        who: Who,
        content: u64,
        detail: impl FnOnce() -> String,
    ) {
        self.note_about(time, what, who, content, |_| (About::Nothing, detail()));
    }

    /// The same for an event about something; `tell` is asked only if it is recorded.
    #[inline]
    pub(crate) fn note_about(
        &mut self,
        time: u64,
        what: What,
        who: Who,
        content: u64,
        tell: impl FnOnce(&InFlight) -> (About, String),
    ) {
        let head = u64::from(what as u8) | u64::from(who.0) << 16 | u64::from(who.1) << 32;
        self.hasher.words(time.wrapping_mul(INCREMENT) ^ head, content);
        if self.recorded.is_some() {
            self.record(time, what, who, tell);
        }
        self.events += 1;
    }

    /// The message of the last send lies in `slot` until it arrives.
    #[inline]
    pub(crate) fn lies_in(&mut self, slot: u32) {
        if self.recorded.is_some() {
            self.in_flight.put(slot);
        }
    }

    #[cold]
    #[inline(never)]
    fn record(
        &mut self,
        time: u64,
        what: What,
        who: Who,
        tell: impl FnOnce(&InFlight) -> (About, String),
    ) {
        let (number, hash) = (self.events, self.hash());
        let nothing = (About::Nothing, String::new());
        let (about, detail) = if self.texts { tell(&self.in_flight) } else { nothing };
        self.in_flight.noted(number, what);
        let some = |index: u16| (index != NOBODY).then_some(usize::from(index));
        let (node, peer, time) = (some(who.0), some(who.1), SimTime(time));
        if let Some(recorded) = &mut self.recorded
            && recorded.len() < RECORDED_EVENTS_MAX
        {
            recorded.push(TraceEvent { number, time, what, node, peer, about, detail, hash });
        }
    }
}

#[cfg(test)]
mod tests {
    use core::hash::Hash;

    use super::*;

    fn hash_of(value: impl Hash) -> u64 {
        let mut hasher = TraceHasher::new(0);
        value.hash(&mut hasher);
        hasher.finish()
    }

    #[test]
    fn the_hash_is_the_same_everywhere() {
        assert_eq!(hash_of((1u8, 2u64, "three", 4usize)), 5_788_048_354_079_740_033);
    }

    #[test]
    fn a_changed_bit_changes_the_hash() {
        let zeros = [0u8; 64];
        let clean = hash_of(zeros);
        for bit in 0..512 {
            let mut bytes = zeros;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(hash_of(bytes), clean, "bit {bit}");
        }
        assert_ne!(hash_of([0u8; 16]), hash_of([0u8; 17]));
        assert_ne!(hash_of((0u8, 1u8)), hash_of((1u8, 0u8)));
    }

    #[test]
    fn the_first_difference_is_named() {
        let trace = |changed: u64| {
            let mut trace = Trace::new(1, true);
            for number in 0..10 {
                let content = if number == 6 { changed } else { number };
                trace.note(number, What::Send, Who::pair(0, 1), content, || content.to_string());
            }
            trace.recorded.unwrap_or_default()
        };
        assert_eq!(first_difference(&trace(6), &trace(6)), None);
        let difference = first_difference(&trace(6), &trace(99)).expect("they differ");
        assert_eq!(difference.right.expect("an event").detail, "99");
    }
}
