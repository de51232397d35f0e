//! What the hunt for planted bugs found: see `planted/`, which writes the table.

/// A planted bug, and how soon it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planted {
    /// Its name in `core/src/planted.rs`.
    pub name: &'static str,
    /// The protocol it is in.
    pub protocol: &'static str,
    /// The scenario that found it soonest.
    pub scenario: &'static str,
    /// How many seeds that took.
    pub seeds: u64,
    /// What is wrong.
    pub wrong: &'static str,
}

/// Every planted bug.
pub fn planted() -> impl Iterator<Item = Planted> {
    include_str!("../../planted/table.txt").lines().filter_map(|line| {
        let mut fields = line.split('\t');
        let (name, protocol) = (fields.next()?, fields.next()?);
        let (scenario, seeds) = (fields.next()?, fields.next()?.parse().ok()?);
        Some(Planted { name, protocol, scenario, seeds, wrong: fields.next()? })
    })
}
