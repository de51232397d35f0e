//! The accepted connections that have not proved a key yet: strangers, who may come in any number
//! and say nothing.
//!
//! Refusing newcomers while the table is full would hand it to whoever fills it first. So a
//! newcomer always gets in, and another gives way: the oldest of the same source where that has its
//! share already, or else the oldest of the source that holds the most. A flood from one source thus
//! only ever presses on itself, and whoever floods from many must have more of them than the table
//! has places before an honest peer that is alone at its address feels it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use tokio::sync::oneshot;

use crate::link::CloseReason;

/// Who counts as one: an address, or in IPv6 a network of 64 bits, which is what one customer has.
/// All whose address is not an IP address and a port are one.
type Source = Option<IpAddr>;

/// The connections in their handshake, by age.
#[derive(Debug)]
pub(crate) struct Handshakes {
    max: usize,
    max_per_source: usize,
    next: u64,
    places: BTreeMap<u64, (Source, oneshot::Sender<CloseReason>)>,
}

impl Handshakes {
    pub(crate) fn new(max: usize, max_per_source: usize) -> Self {
        assert!(max > 0 && max_per_source > 0, "a host that listens lets somebody in");
        Self { max, max_per_source, next: 0, places: BTreeMap::new() }
    }

    /// A place for the connection from `addr`. It is held until the receiver is dropped, and lost to
    /// a newcomer when the receiver says so.
    pub(crate) fn enter(&mut self, addr: &str) -> oneshot::Receiver<CloseReason> {
        self.places.retain(|_, (_, leave)| !leave.is_closed());
        let source = source(addr);
        if self.held(source) >= self.max_per_source {
            self.give_way(source, CloseReason::TooManyFromSource);
        } else if self.places.len() >= self.max {
            let sources = self.places.values().map(|(source, _)| *source).rev();
            // Of several the last: the one with the oldest connection of all.
            let crowded = sources.max_by_key(|source| self.held(*source));
            self.give_way(crowded.flatten(), CloseReason::TooManyHandshakes);
        }
        let (leave, left) = oneshot::channel();
        self.places.insert(self.next, (source, leave));
        self.next += 1;
        assert!(self.places.len() <= self.max, "a place for each");
        left
    }

    fn held(&self, source: Source) -> usize {
        self.places.values().filter(|(other, _)| *other == source).count()
    }

    /// The oldest connection of `source` loses its place.
    fn give_way(&mut self, source: Source, reason: CloseReason) {
        let oldest = self.places.iter().find(|(_, (other, _))| *other == source);
        let oldest = oldest.map(|(place, _)| *place);
        if let Some((_, leave)) = oldest.and_then(|place| self.places.remove(&place)) {
            // It may have ended this moment.
            let _ = leave.send(reason);
        }
    }
}

fn source(addr: &str) -> Source {
    let addr: SocketAddr = addr.parse().ok()?;
    Some(match addr.ip().to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    type Place = oneshot::Receiver<CloseReason>;

    fn enter(table: &mut Handshakes, addr: &str, count: usize) -> Vec<Place> {
        (0..count).map(|_| table.enter(addr)).collect()
    }

    fn lost(places: &mut [Place]) -> Vec<Option<CloseReason>> {
        places.iter_mut().map(|place| place.try_recv().ok()).collect()
    }

    #[test]
    fn a_source_presses_only_on_itself() {
        let mut table = Handshakes::new(10, 3);
        let mut honest = enter(&mut table, "10.0.0.1:1", 1);
        let mut flood = enter(&mut table, "10.0.0.2:1", 100);
        let (gone, stay) = flood.split_at_mut(97);
        assert_eq!(lost(gone), vec![Some(CloseReason::TooManyFromSource); 97], "oldest first");
        assert_eq!(lost(stay), [None; 3]);
        assert_eq!(lost(&mut honest), [None]);
    }

    #[test]
    fn when_all_is_full_the_oldest_of_whoever_holds_most_gives_way() {
        let mut table = Handshakes::new(5, 3);
        let mut alone = enter(&mut table, "10.0.0.1:1", 1);
        let mut two = enter(&mut table, "10.0.0.2:1", 2);
        let mut others = enter(&mut table, "10.0.0.3:1", 2);
        let mut new = enter(&mut table, "10.0.0.4:1", 1);
        assert_eq!(lost(&mut two), [Some(CloseReason::TooManyHandshakes), None]);
        new.extend(enter(&mut table, "10.0.0.5:1", 1));
        assert_eq!(lost(&mut others), [Some(CloseReason::TooManyHandshakes), None]);
        assert_eq!(lost(&mut alone), [None]);
        // Each holds one now: the oldest.
        new.extend(enter(&mut table, "10.0.0.6:1", 1));
        assert_eq!(lost(&mut alone), [Some(CloseReason::TooManyHandshakes)]);
        assert_eq!(lost(&mut new), [None; 3]);
    }

    #[test]
    fn who_has_left_makes_nobody_give_way() {
        let mut table = Handshakes::new(2, 2);
        let mut first = enter(&mut table, "10.0.0.1:1", 1);
        for _ in 0..10 {
            drop(enter(&mut table, "10.0.0.1:2", 1));
        }
        assert_eq!(lost(&mut first), [None]);
    }

    #[test]
    fn one_customer_is_one_source() {
        assert_eq!(source("10.0.0.1:1"), source("[::ffff:10.0.0.1]:2"));
        assert_ne!(source("10.0.0.1:1"), source("10.0.0.2:1"));
        assert_eq!(source("[2001:db8::1]:1"), source("[2001:db8::ffff:0:0:1]:2"));
        assert_ne!(source("[2001:db8::1]:1"), source("[2001:db8:0:1::1]:1"));
        assert_eq!(source("a pipe"), source("another"));
    }
}
