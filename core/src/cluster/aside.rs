//! Standing aside: a node whose journal may be an old copy of its disk.
//!
//! Such a node has forgotten what it promised and acknowledged since the copy was made. If it voted, it
//! might promise a second candidate what it had promised to a first, and a quorum that counts on it
//! might lack an acknowledged entry. So it neither votes nor keeps anything: it says nothing of its own,
//! takes no ticks and refuses what it is asked, until one of two things has happened.
//!
//! - Its owner says that nothing newer exists ([`Command::TakePart`]).
//! - It was removed from the cluster *since it stands aside*, and is added again: then the others count
//!   on nothing that it had said before, and it begins anew, with an empty log, as everybody who was
//!   removed does.
//!
//! The second must not be believed too easily. The node may have been removed and added several times
//! since its copy was made, and a member that is behind may tell of an earlier removal. Only a leader
//! sends appends, and only to those who are members now. So what counts is a removal later than the
//! commit that such an append named, and a membership that began after that. The copy may also be from a
//! time before the node was in the cluster, or when it was in another: what its records say of that
//! decides nothing. And what was heard is not written down: it is of no worth to the next copy.

use super::message::{Body, ClusterId, Command, Error, Event, Message, Standing};
use super::{Cluster, HELLO_MS, Step};
use crate::log;
use crate::machine::{Input, NodeId};

/// What a node that stands aside has heard meanwhile.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Aside {
    /// The cluster whose leader takes it for a member, and up to where that was committed.
    counted: Option<(ClusterId, u64)>,
    /// As of where it was removed from that one since.
    removed: Option<u64>,
}

impl Aside {
    /// Since where it may be a member of `cluster` again.
    fn removed_from(&self, cluster: ClusterId) -> Option<u64> {
        let (counted, _) = self.counted?;
        self.removed.filter(|_| counted == cluster)
    }

    /// A leader of `cluster` takes it for a member, `commit` being committed.
    fn is_counted(&mut self, cluster: ClusterId, commit: u64) {
        match &mut self.counted {
            Some((known, before)) if *known == cluster => *before = (*before).max(commit),
            _ => *self = Aside { counted: Some((cluster, commit)), removed: None },
        }
    }

    /// Somebody who knows the log of `cluster` up to `at` does not find it there.
    fn is_removed(&mut self, cluster: ClusterId, at: u64) {
        if self.counted.is_some_and(|(known, commit)| known == cluster && at > commit) {
            self.removed = self.removed.max(Some(at));
        }
    }
}

impl Cluster {
    /// Takes no part from the start on, because the journal may be an old copy. Before
    /// [`Input::Start`].
    pub fn stand_aside(&mut self) {
        assert!(!self.started, "whoever has voted does not stand aside");
        self.aside = Some(Aside::default());
    }

    /// Whether it takes no part because the journal may be an old copy, and what it waits for.
    #[must_use]
    pub fn stands_aside(&self) -> Option<Standing> {
        self.aside.map(|aside| match (aside.counted, aside.removed) {
            (None, _) => Standing::Unheard,
            (Some(_), None) => Standing::Member,
            (Some(_), Some(_)) => Standing::Removed,
        })
    }

    /// All that reaches a node that stands aside.
    pub(super) fn reach_aside(&mut self, step: &mut Step<'_>, input: Input<Cluster>) {
        match input {
            Input::Start => {
                (self.started, self.me) = (true, step.cx.me);
                self.requests.start(step.cx);
                self.hello_at = Some(step.cx.now.after_ms(HELLO_MS));
            }
            Input::Command(Command::TakePart) => self.take_part(step),
            Input::Command(Command::Init { ticket }) => {
                step.tell(Event::Answer { ticket, result: Err(Error::OldCopy) });
            }
            // Requests and watches are refused.
            Input::Command(command) => self.command(step, command),
            Input::Link { peer, up: true } => {
                self.links.insert(peer);
                self.ask_from_aside(step, peer);
            }
            Input::Link { peer, up: false } => drop(self.links.remove(&peer)),
            Input::Message { from, message } => self.told_aside(step, from, message),
            Input::Tick => {
                self.hello_at = Some(step.cx.now.after_ms(HELLO_MS));
                for peer in self.links.clone() {
                    self.ask_from_aside(step, peer);
                }
            }
        }
    }

    /// Whether it still is a member. That it asks binds it to nothing.
    fn ask_from_aside(&self, step: &mut Step<'_>, peer: NodeId) {
        if let Some((cluster, _)) = self.aside.and_then(|aside| aside.counted) {
            step.fx.send(peer, Message { cluster, body: Body::Hello });
        }
    }

    fn told_aside(&mut self, step: &mut Step<'_>, from: NodeId, message: Message) {
        let Message { cluster, body } = message;
        let Some(aside) = &mut self.aside else { return };
        match body {
            Body::Log(log::Message::Append { ballot, commit, .. }) if ballot.node == from => {
                match aside.removed_from(cluster) {
                    // It is a member again: who says that it is in no cluster is told since when.
                    Some(_) => step.fx.send(from, Message { cluster, body: Body::Stranger }),
                    None => aside.is_counted(cluster, commit),
                }
            }
            Body::Removed { at } => aside.is_removed(cluster, at),
            Body::Join { since } if aside.removed_from(cluster).is_some_and(|at| since > at) => {
                self.begin_anew(step, cluster, since);
            }
            _ => {}
        }
    }

    /// Is a member again, and remembers nothing of before.
    fn begin_anew(&mut self, step: &mut Step<'_>, cluster: ClusterId, since: u64) {
        self.aside = None;
        if self.id.is_some() {
            self.leave(step, self.since);
        }
        self.join(step, cluster, since);
        step.fx.emit(Event::TakesPart);
    }

    /// Its owner says that nothing newer than its journal exists.
    fn take_part(&mut self, step: &mut Step<'_>) {
        self.aside = None;
        self.hello_at = None;
        self.begin(step);
        for peer in self.links.clone() {
            self.greet(step, peer);
        }
        step.fx.emit(Event::TakesPart);
    }
}
