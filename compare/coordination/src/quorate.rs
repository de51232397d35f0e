//! Quorate's own log.

use bytes::Bytes;
use quorate_core::log::{Command, Log, Members, Timing};
use quorate_machine::Time;

use crate::peer::{ELECTION_TICKS, Peer, TICK_US, id};

impl Peer for Log {
    const NAME: &'static str = "quorate";

    fn new(_: usize, _: usize) -> Log {
        let election_us = ELECTION_TICKS as u64 * TICK_US;
        Log::new(Timing { heartbeat_us: TICK_US, election_us }, 0)
    }

    fn found(nodes: usize) -> Option<Command> {
        Some(Command::Found(Members::of((0..nodes).map(id))))
    }

    fn write() -> Command {
        Command::Propose { ticket: 0, data: vec![Bytes::from_static(&[7; 100])] }
    }

    fn leads(&self, now: Time) -> bool {
        Log::leads(self, now).is_some()
    }

    fn epoch(&self) -> u64 {
        self.promised().number
    }
}
