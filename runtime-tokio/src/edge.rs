//! The edge: the application's side of a host. It lives in the host's task, is told the machine's
//! events once what they speak of is durable, and asks the host for what a machine cannot do.

use bytes::Bytes;
use quorate_core::machine::{Machine, NodeId};

use crate::dial::Target;
use crate::frame::Lane;
use crate::log::Marks;
use crate::storage::Corrupted;

/// What stands between a machine and its application. Every call runs in the host's task and must
/// not block.
pub trait Edge: Send + 'static {
    /// The machine that is hosted.
    type Machine: Machine;

    /// The machine emitted `event`, and all it persisted before that is durable; or it told it at
    /// once (`Effects::emit_now`), and it rests on nothing that is not.
    fn event(
        &mut self,
        event: <Self::Machine as Machine>::Event,
        actions: &mut Actions<'_, Self::Machine>,
    );

    /// Whatever was there for this turn of the host has been taken: an edge that gathers what several
    /// callers asked for gives it to the machine now, together.
    fn turned(&mut self, actions: &mut Actions<'_, Self::Machine>) {
        let _ = actions;
    }

    /// Whether `peer`, which has proved its key, may have a link now. Anyone can make a key, so an
    /// edge that knows its members should refuse the others here: they take up links.
    fn admits(&mut self, peer: NodeId) -> bool {
        let _ = peer;
        true
    }

    /// `peer` answered where whoever answers was to be dialled ([`Actions::dial`] without a name): what
    /// the machine is told of that, before it hears of the link.
    fn answered(&mut self, peer: NodeId) -> Option<<Self::Machine as Machine>::Command> {
        let _ = peer;
        None
    }

    /// `record` has this position in its lane: told of each on restore, and then of each as it is
    /// persisted, before it is durable. Positions rise in each lane, and none is ever used twice.
    fn record(&mut self, lane: Lane, position: u64, record: &<Self::Machine as Machine>::Record) {
        let _ = (lane, position, record);
    }

    /// A stored record no longer has the bytes that were written. On restore this speaks of the
    /// log's tail, which was cut there; later, of a read that was answered with `None`.
    fn corrupted(&mut self, report: Corrupted) {
        let _ = report;
    }
}

/// What an edge may ask of its host. Everything is done after the call returns, in order.
#[derive(Debug)]
pub struct Actions<'a, M: Machine> {
    pub(crate) queue: &'a mut Vec<Action<M>>,
    pub(crate) logged: Marks,
}

/// What is done with the bodies of a read, and the command that comes of it, if one does.
pub(crate) type Then<M> =
    Box<dyn FnOnce(Vec<Option<Bytes>>) -> Option<<M as Machine>::Command> + Send>;

pub(crate) enum Action<M: Machine> {
    Command(M::Command),
    Read { positions: Vec<u64>, then: Then<M> },
    Dial(Target),
    Hear { target: Target, told_by: NodeId },
    Undial(NodeId),
    Redial(NodeId),
    Disconnect { peer: NodeId, reason: String },
    Forget { position: u64 },
    Trim { before: u64 },
}

impl<M: Machine> std::fmt::Debug for Action<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Action::Command(_) => "Command",
            Action::Read { .. } => "Read",
            Action::Dial(_) => "Dial",
            Action::Hear { .. } => "Hear",
            Action::Undial(_) => "Undial",
            Action::Redial(_) => "Redial",
            Action::Disconnect { .. } => "Disconnect",
            Action::Forget { .. } => "Forget",
            Action::Trim { .. } => "Trim",
        })
    }
}

impl<M: Machine> Actions<'_, M> {
    /// Feeds `command` to the machine, after those already waiting.
    pub fn command(&mut self, command: M::Command) {
        self.queue.push(Action::Command(command));
    }

    /// Reads the encoded records at `positions` and feeds the machine the command that `then` makes
    /// of them, in the same order. A record that was forgotten, was never written, or is corrupted
    /// is `None`. `then` runs off the host's task.
    pub fn read(
        &mut self,
        positions: Vec<u64>,
        then: impl FnOnce(Vec<Option<Bytes>>) -> M::Command + Send + 'static,
    ) {
        let then: Then<M> = Box::new(|bodies| Some(then(bodies)));
        self.queue.push(Action::Read { positions, then });
    }

    /// As [`read`](Self::read), for the application: the machine hears nothing of it.
    pub fn load(
        &mut self,
        positions: Vec<u64>,
        then: impl FnOnce(Vec<Option<Bytes>>) + Send + 'static,
    ) {
        let then: Then<M> = Box::new(|bodies| {
            then(bodies);
            None
        });
        self.queue.push(Action::Read { positions, then });
    }

    /// Keeps a link to whoever answers at `addr`, or only to `expected`: dials until it is up, and
    /// again whenever it is lost, until [`undial`](Self::undial) of who is expected.
    pub fn dial(&mut self, addr: impl Into<String>, expected: Option<NodeId>) {
        self.queue.push(Action::Dial(Target { addr: addr.into(), expected }));
    }

    /// As [`dial`](Self::dial), on the word of the peer `told_by` that `node` listens at `addr`: it
    /// expires unless it works, and takes no place of what was given.
    pub fn dial_hearsay(&mut self, addr: impl Into<String>, node: NodeId, told_by: NodeId) {
        let target = Target { addr: addr.into(), expected: Some(node) };
        self.queue.push(Action::Hear { target, told_by });
    }

    /// Dials no address more at which `peer` is expected. A link that is up stays up.
    pub fn undial(&mut self, peer: NodeId) {
        self.queue.push(Action::Undial(peer));
    }

    /// Dials `peer`, if it is kept dialled, without waiting out the pause after earlier failures.
    pub fn redial(&mut self, peer: NodeId) {
        self.queue.push(Action::Redial(peer));
    }

    /// Closes the link to `peer`, if there is one, after what was sent on it; `reason` goes to the
    /// log. It may be dialled again by either side.
    pub fn disconnect(&mut self, peer: NodeId, reason: impl Into<String>) {
        self.queue.push(Action::Disconnect { peer, reason: reason.into() });
    }

    /// Removes the record at `position` from the log with one of the next commits.
    pub fn forget(&mut self, position: u64) {
        self.queue.push(Action::Forget { position });
    }

    /// Drops the journal's records before the position `before`, as far as whole segments hold nothing
    /// else, once all that was persisted so far is durable: a record that was persisted since makes them
    /// unnecessary.
    pub fn trim(&mut self, before: u64) {
        self.queue.push(Action::Trim { before });
    }

    /// The position in `lane` before which everything was persisted when this event was emitted: the
    /// last record the machine persisted there before it has the position one below. Of an event that
    /// was told at once, the position before which everything is durable.
    #[must_use]
    pub fn logged(&self, lane: Lane) -> u64 {
        self.logged.of(lane)
    }
}
