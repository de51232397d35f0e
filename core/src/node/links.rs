//! Who is there: links become open peers, and open peers go.

use alloc::vec::Vec;

use super::{
    Body, Contact, Disconnect, Event, Guard, JoinError, MAX_CONTACTS, MAX_CONTACTS_SENT, Message,
    Node, Notice, Peer, Step,
};
use crate::handshake::{self, Reason};
use crate::machine::{Input, NodeId};
use crate::membership::State;
use crate::store::{Founding, Store, WriteError};
use crate::{detector, gap, sync};

impl Node {
    /// Makes a store of one's own.
    pub(super) fn found(&mut self, step: &mut Step<'_>) {
        if self.store.is_some() {
            return;
        }
        let mut nonce = [0; 16];
        rand_core::Rng::fill_bytes(&mut step.cx.random("founding"), &mut nonce);
        let founding = Founding { founder: self.id(), nonce };
        self.begin(step, founding, Vec::new());
    }

    /// Leaves one's own empty store for another's.
    pub(super) fn join(
        &mut self,
        step: &mut Step<'_>,
        ticket: u64,
        founding: Founding,
        contacts: Vec<Contact>,
    ) {
        let result = match &self.store {
            Some(store) if store.id() == founding.store() => Err(JoinError::AlreadyJoined),
            Some(store) if store.applied() > 0 => {
                Err(JoinError::HasEntries { entries: store.applied() })
            }
            _ => Ok(founding.store()),
        };
        if result.is_ok() {
            let open: Vec<NodeId> = self.open.keys().copied().collect();
            open.into_iter().for_each(|peer| self.close(step, peer));
            self.turn_away(step);
            self.begin(step, founding, contacts);
        }
        step.fx.emit(Event::Joined { ticket, result });
    }

    fn begin(&mut self, step: &mut Step<'_>, founding: Founding, contacts: Vec<Contact>) {
        let position = self.logged;
        let body = Body::Founding { founding, contacts: contacts.clone() };
        self.persist(step, position, body);
        self.adopt(founding, contacts.clone());
        self.guard = match (self.guard, founding.founder == self.id() && contacts.is_empty()) {
            (Guard::Suspect, _) => Guard::Suspect,
            (_, true) => Guard::Whole,
            (_, false) => Guard::Joining,
        };
        let network = handshake::Command::Network(founding.store());
        self.feed_handshake(step, Input::Command(network));
        for contact in contacts {
            step.fx.emit(Event::Dial { contact, told_by: None });
        }
    }

    /// Belongs to a store from here on: now, or when the log says so.
    pub(super) fn adopt(&mut self, founding: Founding, contacts: Vec<Contact>) {
        self.store = Some(Store::new(self.id(), founding, self.config.verify, self.logged));
        self.bootstrap.extend(contacts.iter().map(|contact| contact.node));
        for contact in contacts {
            self.remember(contact, None);
        }
    }

    /// Lets in `peer` while too little is known of the members.
    pub(super) fn trust(&mut self, peer: NodeId) {
        if self.bootstrap.len() < MAX_CONTACTS {
            self.bootstrap.insert(peer);
        }
    }

    /// Remembers where a node listens, by the record at `position`, and forgets the record that this
    /// replaces.
    pub(super) fn remember(&mut self, contact: Contact, position: Option<u64>) {
        if self.contacts.len() < MAX_CONTACTS || self.contacts.contains_key(&contact.node) {
            let before = self.contacts.insert(contact.node, (contact, position));
            self.forgotten.extend(before.and_then(|(_, position)| position));
        }
    }

    pub(super) fn shook_hands(&mut self, step: &mut Step<'_>, event: handshake::Event) {
        match event {
            handshake::Event::Opened { peer, address, .. } => self.admit(step, peer, address),
            handshake::Event::Closed { peer } => self.close(step, peer),
            handshake::Event::Refused { peer, reason } => {
                self.disconnect(step, peer, Disconnect::Refused(reason));
            }
            handshake::Event::RefusedBy { peer, reason } => {
                self.disconnect(step, peer, Disconnect::RefusedBy(reason));
            }
            handshake::Event::Failed { peer, .. } => {
                self.disconnect(step, peer, Disconnect::Silent);
            }
        }
    }

    /// Lets a peer in that the handshake accepted, if it is a member, or if nothing is known of the
    /// members yet and it is one of those whom the ticket named.
    fn admit(&mut self, step: &mut Step<'_>, peer: NodeId, address: Option<alloc::string::String>) {
        let Some(store) = &self.store else { return };
        let trusted = self.trusts(&peer);
        let reason = match store.membership().get(&peer).map(|member| member.state) {
            // Who forked writes no more, but is a member still: mostly it is a restored backup, and it
            // has to learn what happened.
            Some(State::Active | State::Forked) => None,
            None if trusted => None,
            Some(State::Removed) => Some(Reason::Removed),
            None => Some(Reason::NotAMember),
        };
        if let Some(reason) = reason {
            let refuse = handshake::Command::Refuse { peer, reason };
            return self.feed_handshake(step, Input::Command(refuse));
        }
        self.open.insert(peer, Peer::default());
        self.spread.link(peer, true);
        self.transfer.open(peer);
        self.feed_detector(step, Input::Link { peer, up: true });
        self.feed_sync(step, Input::Link { peer, up: true });
        self.feed_gap(step, Input::Link { peer, up: true });
        self.feed_cluster(step, Input::Link { peer, up: true });
        self.send_contacts(step, peer);
        self.ask_own_tip(step, peer);
        if let Some(address) = address {
            self.met(step, Contact { node: peer, address });
        }
        step.notice(Notice::Opened(peer));
    }

    /// Whether this node is a member itself, as far as it knows.
    pub(super) fn is_member(&self) -> bool {
        let me = self.config.identity.id();
        self.store.as_ref().is_some_and(|store| store.membership().is_active(&me))
    }

    /// Whether this node is a member, or was one, as far as it knows.
    pub(super) fn is_known(&self) -> bool {
        let me = self.config.identity.id();
        self.store.as_ref().is_some_and(|store| store.membership().get(&me).is_some())
    }

    /// Whether `peer` is let in although it is not known to be a member: nothing is known of the members
    /// yet, or some of it was lost, and it is one of those whom the ticket or the operator named or who
    /// were met before. Or it is of this node's cluster, whose leader let it in as a member: the
    /// invitation may still be on its way, and who sent it may be gone. Voters that turn each other
    /// away for that would never elect another leader.
    fn trusts(&self, peer: &NodeId) -> bool {
        let knows_little = !self.is_member() || self.guard == Guard::Suspect;
        let met = || self.bootstrap.contains(peer) || self.contacts.contains_key(peer);
        knows_little && met() || self.cluster.counts(peer)
    }

    pub(super) fn close(&mut self, step: &mut Step<'_>, peer: NodeId) {
        if self.open.remove(&peer).is_none() {
            return;
        }
        self.spread.link(peer, false);
        self.transfer.close(peer);
        self.feed_detector(step, Input::Link { peer, up: false });
        self.feed_sync(step, Input::Link { peer, up: false });
        self.feed_gap(step, Input::Link { peer, up: false });
        self.feed_cluster(step, Input::Link { peer, up: false });
        if self.guard == Guard::Joining && self.open.is_empty() {
            self.turn_away(step);
        }
        step.notice(Notice::Closed(peer));
    }

    pub(super) fn disconnect(&mut self, step: &mut Step<'_>, peer: NodeId, reason: Disconnect) {
        self.close(step, peer);
        *self.disconnected.entry(reason).or_default() += 1;
        step.fx.emit(Event::Disconnect { peer, reason });
    }

    pub(super) fn detected(&mut self, step: &mut Step<'_>, event: detector::Event) {
        match event {
            detector::Event::Alive { .. } => {}
            detector::Event::Suspect { peer } => step.notice(Notice::Suspect(peer)),
            detector::Event::Dead { peer } => self.disconnect(step, peer, Disconnect::Dead),
            detector::Event::Unwatched { peer } => self.disconnect(step, peer, Disconnect::Full),
        }
    }

    /// The members changed: peers that are none any more are told so and go.
    pub(super) fn members_changed(&mut self, step: &mut Step<'_>) {
        let Some(store) = &self.store else { return };
        let membership = store.membership();
        let gone = |peer: &NodeId| match membership.get(peer) {
            Some(member) => member.state == State::Removed,
            None => !self.trusts(peer),
        };
        let gone: Vec<NodeId> = self.open.keys().copied().filter(|peer| gone(peer)).collect();
        for peer in gone {
            let refuse = handshake::Command::Refuse { peer, reason: Reason::Removed };
            self.feed_handshake(step, Input::Command(refuse));
            self.forget_contact(step, peer);
        }
        self.forget_removed(step);
        step.notice(Notice::Members);
    }

    /// Where a removed member listened is neither dialled nor told on, be it there or not.
    pub(super) fn forget_removed(&mut self, step: &mut Step<'_>) {
        let Some(store) = &self.store else { return };
        let membership = store.membership();
        let is_removed = |peer: &NodeId| {
            membership.get(peer).is_some_and(|member| member.state == State::Removed)
        };
        let gone: Vec<NodeId> = self.contacts.keys().copied().filter(is_removed).collect();
        gone.into_iter().for_each(|peer| self.forget_contact(step, peer));
    }

    fn forget_contact(&mut self, step: &mut Step<'_>, peer: NodeId) {
        let before = self.contacts.remove(&peer);
        self.forgotten.extend(before.and_then(|(_, position)| position));
        step.fx.emit(Event::Undial(peer));
    }

    /// Tells a peer where others listen, so that the mesh holds together when one of them goes.
    fn send_contacts(&mut self, step: &mut Step<'_>, peer: NodeId) {
        let known = self.contacts.values().map(|(contact, _)| contact);
        let others = known.filter(|contact| contact.node != peer);
        let contacts: Vec<Contact> = others.take(MAX_CONTACTS_SENT).cloned().collect();
        if !contacts.is_empty() {
            step.fx.send(peer, Message::Contacts(contacts));
        }
    }

    /// A peer says where others listen. What it says is tried, and remembered only once the other has
    /// answered there.
    pub(super) fn told_contacts(
        &mut self,
        step: &mut Step<'_>,
        from: NodeId,
        contacts: Vec<Contact>,
    ) {
        let me = self.id();
        let Some(store) = &self.store else { return };
        let newcomer = !self.is_member();
        for contact in contacts.into_iter().take(MAX_CONTACTS_SENT) {
            let Contact { node, address } = &contact;
            let known = self.contacts.get(node).is_some_and(|(known, _)| known.address == *address);
            let welcome = newcomer || store.membership().is_active(node);
            if *node != me
                && welcome
                && !known
                && !self.open.contains_key(node)
                && address.len() <= handshake::MAX_ADDRESS
            {
                step.fx.emit(Event::Dial { contact, told_by: Some(from) });
            }
        }
    }

    /// A member answered and says where it listens: remembered for the next start.
    fn met(&mut self, step: &mut Step<'_>, contact: Contact) {
        let known = self.contacts.get(&contact.node);
        if known.is_some_and(|(known, _)| *known == contact) {
            return;
        }
        if known.is_none() && self.contacts.len() >= MAX_CONTACTS {
            return;
        }
        let position = self.next_position();
        self.persist(step, position, Body::Contact(contact.clone()));
        self.remember(contact, Some(position));
    }

    /// While this node may lack entries of its own, asks a peer for the next one. "Not held" is the
    /// answer hoped for; it does not depend on what others write meanwhile.
    pub(super) fn ask_own_tip(&mut self, step: &mut Step<'_>, peer: NodeId) {
        let learning = !matches!(self.guard, Guard::Down | Guard::Whole);
        if learning && self.is_member() && self.open.contains_key(&peer) {
            let (author, next) = self.next_own_place();
            let want = gap::Message::Want { author, from: next, to: next };
            step.fx.send(peer, Message::Gap(want));
        }
    }

    /// A peer holds nothing of a chain from a place on: of one's own, that is news.
    pub(super) fn told_not_held(
        &mut self,
        step: &mut Step<'_>,
        peer: NodeId,
        author: NodeId,
        from: u64,
    ) {
        // Before anything has come, it only means that the peer has not sent it yet.
        if self.is_member() && (author, from) == self.next_own_place() {
            self.found_equal(step, peer);
        }
    }

    fn next_own_place(&self) -> (NodeId, u64) {
        let me = self.id();
        (me, self.store.as_ref().map_or(0, |store| store.tip(&me).height) + 1)
    }

    /// `peer` holds no more of this node's own chain than it does.
    pub(super) fn found_equal(&mut self, step: &mut Step<'_>, peer: NodeId) {
        let whole = match self.guard {
            Guard::Down | Guard::Whole => false,
            Guard::Learning(_) => true,
            // Another who knows as little: what this key has written, if it has, is still to come.
            Guard::Joining if !self.is_known() => false,
            Guard::Joining => {
                // A key that has written here before: any member may hold more of its chain.
                let me = self.id();
                let fresh = self.store.as_ref().is_some_and(|store| store.tip(&me).height == 0);
                if !fresh {
                    self.suspect(step);
                    self.equal.insert(peer);
                }
                fresh
            }
            Guard::Suspect => {
                self.equal.insert(peer);
                let me = self.id();
                let others = self.store.iter().flat_map(|store| store.membership().iter());
                others.filter(|(node, member)| **node != me && member.state == State::Active).all(
                    |(node, _)| self.equal.contains(node) || bug!(one_peer_vouches_for_the_disk),
                )
            }
        };
        if whole {
            self.own_chain_is_whole(step);
        }
    }

    /// Writes nothing until every member has been found equal; what waited is told so.
    pub(super) fn suspect(&mut self, step: &mut Step<'_>) {
        self.guard = Guard::Suspect;
        self.turn_away(step);
    }

    /// Refuses the writes that wait.
    fn turn_away(&mut self, step: &mut Step<'_>) {
        for (ticket, _) in self.waiting.drain(..) {
            step.fx.emit(Event::Written { ticket, result: Err(WriteError::CatchingUp) });
        }
    }

    /// The own chain is whole, as far as can be known: write what waited.
    pub(super) fn own_chain_is_whole(&mut self, step: &mut Step<'_>) {
        self.guard = Guard::Whole;
        self.forgotten.append(&mut self.holes);
        while let Some((ticket, changes)) = self.waiting.pop_front() {
            self.write(step, ticket, &changes);
        }
    }

    pub(super) fn sync_soon(&mut self, step: &mut Step<'_>) {
        self.feed_sync(step, Input::Command(sync::Command::Nudge));
    }
}
