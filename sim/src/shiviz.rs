//! A recorded run in ShiViz's log format, with vector clocks.
//!
//! Each event is one line: its host, its text, and the host's vector clock after it as JSON.
//! [`PARSER`] is the regular expression that ShiViz needs to read it (its "log parsing regular
//! expression"). ShiViz draws an arrow wherever a clock takes over what another host knew, so the
//! clocks are all it is told: every event of a node adds one to the node's own number, and a
//! delivery takes the clock of its send. (Beschastnikh, Wang, Brun and Ernst, *Debugging
//! Distributed Systems*, 2016; clocks after Mattern and Fidge.)
//!
//! Events of no node (faults, the heal phase) are of the host `simulator`. Nothing passes from it
//! to a node but what it does, so no clock takes over its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::recording::About;
use crate::trace::{TraceEvent, What};

/// The regular expression by which ShiViz reads [`log`].
pub const PARSER: &str = r"^(?<host>\S+) (?<event>.*) (?<clock>\{[^{}]*\})$";

/// The host of events that happen at no node.
const NOWHERE: usize = usize::MAX;

/// What a host had seen of each host, as the number of its events.
pub type Clock = BTreeMap<usize, u64>;

/// Each event's vector clock; hosts are nodes, `usize::MAX` for no node.
pub fn clocks(events: &[TraceEvent]) -> impl Iterator<Item = Clock> {
    let mut hosts: BTreeMap<usize, Clock> = BTreeMap::new();
    // Kept until the run ends: a message may arrive again, however late.
    let mut sent: BTreeMap<u64, Clock> = BTreeMap::new();
    events.iter().map(move |event| {
        let host = event.node.unwrap_or(NOWHERE);
        let clock = hosts.entry(host).or_default();
        if let (What::Deliver, About::Message(send)) = (event.what, &event.about)
            && let Some(theirs) = sent.get(send)
        {
            for (&host, &seen) in theirs {
                let known = clock.entry(host).or_default();
                *known = (*known).max(seen);
            }
        }
        *clock.entry(host).or_default() += 1;
        if event.what == What::Send {
            sent.insert(event.number, clock.clone());
        }
        clock.clone()
    })
}

/// The whole log.
#[must_use]
pub fn log(events: &[TraceEvent]) -> String {
    let mut log = String::new();
    for (event, clock) in events.iter().zip(clocks(events)) {
        let _ = write!(log, "{} {} {:?}", name(event.node), event.time, event.what);
        if let Some(peer) = event.peer {
            let _ = write!(log, " {}", name(Some(peer)));
        }
        // One line an event, whatever is in its text.
        let detail = event.detail.replace(['\n', '\r', '\u{2028}', '\u{2029}'], " ");
        let _ = write!(log, " {detail} {{");
        for (place, (host, seen)) in clock.iter().enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            let host = name((*host != NOWHERE).then_some(*host));
            let _ = write!(log, "{comma}\"{host}\": {seen}");
        }
        log += "}\n";
    }
    log
}

fn name(node: Option<usize>) -> String {
    node.map_or_else(|| "simulator".to_owned(), |node| format!("node{node}"))
}
