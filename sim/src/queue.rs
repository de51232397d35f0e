//! What is still to come: one queue ordered by (time, order of scheduling), and slabs for what is
//! too big to be moved about in it.

/// Something that is due at a time. Nodes are dense indices; contents lie in a [`Slab`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// A message arrives. For a message to oneself `epoch` is the process's life.
    Deliver { from: u16, to: u16, epoch: u32, slot: u32 },
    /// A machine's deadline may have come.
    Tick { node: u16 },
    /// A sync that was under way has finished.
    Synced { node: u16, life: u32 },
    /// A command reaches a machine.
    Command { node: u16, life: u32, slot: u32 },
    /// An end of a connection learns that it is up or down.
    Link { node: u16, peer: u16, epoch: u32, up: bool },
    /// Two nodes try to connect.
    Connect { a: u16, b: u16 },
    /// A node that was paused or busy goes on.
    Wake { node: u16, life: u32 },
    /// A crash that waited for unsynced writes strikes.
    Strike { node: u16, life: u32, action: u32 },
    /// A process in a crash loop dies again, `left` times more.
    CrashAgain { node: u16, left: u16, life: u32, action: u32 },
    /// A process starts.
    Start { node: u16, life: u32 },
    /// An entry of the schedule.
    Action { index: u32 },
    /// The end of a fault.
    Undo { index: u32 },
    /// The faults stop.
    Heal,
    /// Has the run converged?
    Poll,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u64,
    order: u64,
    due: Due,
}

impl Entry {
    #[inline]
    fn key(&self) -> u128 {
        u128::from(self.at) << 64 | u128::from(self.order)
    }
}

/// How many children an entry of the heap has: four lie in two cache lines, and the heap is half as
/// deep as one of two.
const ARITY: usize = 4;

/// The queue of a run: a heap of [`ARITY`], the earliest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Queue {
    heap: Vec<Entry>,
    scheduled: u64,
}

impl Queue {
    #[inline]
    pub(crate) fn push(&mut self, at: u64, due: Due) {
        let entry = Entry { at, order: self.scheduled, due };
        self.scheduled += 1;
        let mut hole = self.heap.len();
        self.heap.push(entry);
        while hole > 0 {
            let parent = (hole - 1) / ARITY;
            if self.heap[parent].at <= at {
                break;
            }
            self.heap[hole] = self.heap[parent];
            hole = parent;
        }
        self.heap[hole] = entry;
    }

    /// The earliest, if it is due by `until`.
    #[inline]
    pub(crate) fn pop(&mut self, until: u64) -> Option<(u64, Due)> {
        let first = *self.heap.first()?;
        if first.at > until {
            return None;
        }
        let last = self.heap.pop()?;
        if !self.heap.is_empty() {
            self.sink(last);
        }
        Some((first.at, first.due))
    }

    /// Puts `entry` in the place of the first and lets it sink to where it belongs.
    #[inline]
    fn sink(&mut self, entry: Entry) {
        let key = entry.key();
        let mut hole = 0;
        loop {
            let first = hole * ARITY + 1;
            let Some(rest) = self.heap.get(first..) else { break };
            let mut least: Option<(u128, usize)> = None;
            for (n, child) in rest.iter().take(ARITY).enumerate() {
                let key = child.key();
                if least.is_none_or(|(least, _)| key < least) {
                    least = Some((key, first + n));
                }
            }
            let Some((child_key, child)) = least else { break };
            if child_key >= key {
                break;
            }
            self.heap[hole] = self.heap[child];
            hole = child;
        }
        self.heap[hole] = entry;
    }
}

/// Values at stable places that are used again.
#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Slab<T> {
        Slab { slots: Vec::new(), free: Vec::new() }
    }

    /// How many values there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    #[inline]
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(slot) = self.free.pop() {
            self.slots[slot as usize] = Some(value);
            return slot;
        }
        self.slots.push(Some(value));
        (self.slots.len() - 1) as u32
    }

    #[inline]
    pub(crate) fn take(&mut self, slot: u32) -> T {
        self.free.push(slot);
        self.slots[slot as usize].take().expect("a slot is taken once")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earliest_first_and_ties_in_the_order_of_scheduling() {
        let mut queue = Queue::default();
        for (at, node) in [(5, 0), (3, 1), (5, 2), (3, 3), (9, 4)] {
            queue.push(at, Due::Tick { node });
        }
        let mut nodes = Vec::new();
        while let Some((_, Due::Tick { node })) = queue.pop(8) {
            nodes.push(node);
        }
        assert_eq!(nodes, [1, 3, 0, 2]);
    }

    #[test]
    fn a_slot_is_used_again() {
        let mut slab = Slab::new();
        let (a, b) = (slab.insert("a"), slab.insert("b"));
        assert_eq!((slab.take(a), slab.len()), ("a", 1));
        assert_eq!(slab.insert("c"), a);
        assert_eq!((slab.take(b), slab.take(a)), ("b", "c"));
    }

    #[test]
    fn an_entry_stays_small() {
        assert_eq!(size_of::<Entry>(), 32);
    }
}
