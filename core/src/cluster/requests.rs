//! What a node does with what it is asked: to whom each request goes, and what it is answered.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use rand_core::Rng;

use super::message::{Answer, Asked, Error, Event, Forwarded, Read, Request};
use super::{Asker, Cluster, MAX_PENDING, MAX_REQUEST_BYTES, MAX_TIMEOUT_MS, RETRY_MS, Step};
use crate::log::Ballot;
use crate::machine::{Cx, NodeId, Time, earliest};
use crate::registry::{Command, Compare, Item, Op, Origin, Refusal, Reply};

/// Requests that go together, at most, and their bytes, unless a single one has more.
const MAX_BATCH: usize = 4_096;
const MAX_BATCH_BYTES: usize = 1 << 20;

/// The requests of this node's clients that wait for an answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    /// Drawn at the start: entries that this node asked for in another life are not its own.
    life: u64,
    serial: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// When something is to be done about each.
    timers: BTreeSet<(Time, u64)>,
    /// Those that nobody has been asked to carry out.
    idle: BTreeSet<u64>,
    /// Those that are asked for again after a pause, or when there is another leader.
    paused: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
struct Waiting {
    ticket: u64,
    deadline: Time,
    timer: Time,
    request: Request,
    with: With,
    /// Whether it may have been carried out once already, in part.
    again: bool,
}

/// With whom a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum With {
    Nobody,
    /// This node leads, and has it.
    Here,
    /// The leader under this ballot.
    There(Ballot),
}

/// Where requests go now.
enum Route {
    Here,
    There(Ballot),
    Nowhere,
}

impl Requests {
    pub(super) fn start(&mut self, cx: Cx) {
        // Not zero: that is a leader's own.
        self.life = cx.random("cluster life").next_u64().max(1);
    }

    pub(super) fn life(&self) -> u64 {
        self.life
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn deadline(&self) -> Option<Time> {
        self.timers.first().map(|(at, _)| *at)
    }

    fn set_timer(&mut self, serial: u64, at: Option<Time>) {
        let Some(waiting) = self.waiting.get_mut(&serial) else { return };
        self.timers.remove(&(waiting.timer, serial));
        waiting.timer = earliest(at, Some(waiting.deadline)).unwrap_or(waiting.deadline);
        self.timers.insert((waiting.timer, serial));
    }

    fn take(&mut self, serial: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&serial)?;
        self.timers.remove(&(waiting.timer, serial));
        self.idle.remove(&serial);
        self.paused.remove(&serial);
        Some(waiting)
    }

    /// It certainly was not proposed: again, at once or after a pause.
    ///
    /// Under another number, if it must not happen twice: "it was not proposed" is said of one attempt, and
    /// a message may come late, or twice. Taken for what became of the next attempt, it would have a client
    /// told that nothing happened, or have it asked for once more, while that attempt is being committed.
    /// What does no harm twice keeps its number, so that an answer slower than [`RETRY_MS`] still counts.
    fn put_back(&mut self, serial: u64, pause: Option<Time>) {
        let Some(mut waiting) = self.take(serial) else { return };
        let serial = if is_harmless(&waiting.request) || bug!(an_old_no_is_believed) {
            serial
        } else {
            self.serial += 1;
            self.serial
        };
        (waiting.with, waiting.again) = (With::Nobody, true);
        self.timers.insert((waiting.timer, serial));
        self.waiting.insert(serial, waiting);
        match pause {
            Some(_) => self.paused.insert(serial),
            None => self.idle.insert(serial),
        };
        self.set_timer(serial, pause);
    }

    /// Whatever paused goes on: somebody else leads.
    pub(super) fn resume(&mut self) {
        self.idle.append(&mut self.paused);
    }

    fn with(&self, which: impl Fn(&Waiting) -> bool) -> Vec<u64> {
        self.waiting
            .iter()
            .filter(|(_, waiting)| which(waiting))
            .map(|(serial, _)| *serial)
            .collect()
    }

    pub(super) fn check(&self) {
        assert_eq!(self.waiting.len(), self.timers.len(), "every request is answered in time");
        assert!(self.waiting.len() <= MAX_PENDING);
        let nobody = |serial: &u64| {
            self.waiting.get(serial).is_some_and(|waiting| waiting.with == With::Nobody)
        };
        assert!(self.idle.iter().chain(&self.paused).all(nobody), "asked for twice at once");
    }
}

impl Cluster {
    /// A client's request.
    pub(super) fn asked(&mut self, step: &mut Step<'_>, asked: Asked) {
        let Asked { ticket, timeout_ms, mut request } = asked;
        self.counters.asked += 1;
        if let Err(error) = self.admits(&request) {
            return step.tell(Event::Answer { ticket, result: Err(error) });
        }
        if let Request::Query { query, read: Read::Local } = &request {
            let result = match self.keeps_data() {
                true => self.registry.query(query).map_err(Error::from),
                false => Err(Error::WrongSeat(step.cx.me)),
            };
            return step.tell(Event::Answer { ticket, result });
        }
        if let Request::Change(Command::Grant { node, .. }) = &mut request {
            *node = step.cx.me;
        }
        let deadline = step.cx.now.after_ms(timeout_ms.min(MAX_TIMEOUT_MS));
        self.requests.serial += 1;
        let serial = self.requests.serial;
        let (with, again, timer) = (With::Nobody, false, deadline);
        let waiting = Waiting { ticket, deadline, timer, request, with, again };
        self.requests.waiting.insert(serial, waiting);
        self.requests.timers.insert((timer, serial));
        self.requests.idle.insert(serial);
    }

    fn admits(&self, request: &Request) -> Result<(), Error> {
        if self.halted {
            return Err(Error::Halted);
        }
        if self.aside.is_some() {
            return Err(Error::OldCopy);
        }
        if self.id.is_none() {
            return Err(Error::NoCluster);
        }
        if self.requests.waiting.len() >= MAX_PENDING {
            return Err(Error::Busy);
        }
        if request_bytes(request) > MAX_REQUEST_BYTES {
            return Err(Error::TooLarge);
        }
        Ok(())
    }

    fn route(&self, me: NodeId) -> Route {
        if self.leading.as_ref().is_some_and(super::Leading::is_ready) {
            return Route::Here;
        }
        match self.log.leader() {
            Some(ballot) if ballot.node != me && self.links.contains(&ballot.node) => {
                Route::There(ballot)
            }
            _ => Route::Nowhere,
        }
    }

    /// Hands what nobody has to whoever leads.
    pub(super) fn route_idle(&mut self, step: &mut Step<'_>) {
        if self.requests.idle.is_empty() {
            return;
        }
        let route = self.route(step.cx.me);
        if matches!(route, Route::Nowhere) {
            return;
        }
        let now = step.cx.now;
        for serial in core::mem::take(&mut self.requests.idle) {
            let Some(waiting) = self.requests.waiting.get_mut(&serial) else { continue };
            let (request, deadline) = (waiting.request.clone(), waiting.deadline);
            match route {
                Route::Here => {
                    waiting.with = With::Here;
                    self.requests.set_timer(serial, None);
                    self.serve(step, Asker::Here { serial }, request, deadline);
                }
                Route::There(ballot) => {
                    waiting.with = With::There(ballot);
                    // What does no harm twice need not wait for one lost message.
                    let again = is_harmless(&request).then(|| now.after_ms(10 * RETRY_MS));
                    self.requests.set_timer(serial, again);
                    self.counters.forwarded += 1;
                    let timeout_ms = deadline.since_us(now) / 1_000;
                    let forwarded = Forwarded { serial, timeout_ms, request };
                    step.forwards.entry((ballot.node, ballot)).or_default().push(forwarded);
                }
                Route::Nowhere => {}
            }
        }
    }

    /// What the leader says came of requests.
    pub(super) fn answered(
        &mut self,
        step: &mut Step<'_>,
        life: u64,
        ballot: Ballot,
        answers: Vec<Answer>,
    ) {
        if life != self.requests.life {
            return;
        }
        for Answer { serial, result } in answers {
            // An answer to what has been put to another since is not one to that.
            let waiting = self.requests.waiting.get(&serial);
            if waiting.is_some_and(|waiting| waiting.with == With::There(ballot)) {
                self.resolve(step, serial, result);
            }
        }
    }

    /// What came of a request of this node's own; nothing, if it certainly was not proposed.
    pub(super) fn resolve(
        &mut self,
        step: &mut Step<'_>,
        serial: u64,
        result: Option<Result<Reply, Error>>,
    ) {
        let Some(result) = result else {
            self.counters.retried += 1;
            return self.requests.put_back(serial, Some(step.cx.now.after_ms(RETRY_MS)));
        };
        let Some(Waiting { ticket, request, again, .. }) = self.requests.take(serial) else {
            return;
        };
        let revision = self.registry.revision();
        let result = match (&request, result) {
            // That it was removed by the first of two attempts is what was asked for.
            (Request::Remove { node }, Err(Error::NotAMember(other)))
                if again && *node == other =>
            {
                Ok(Reply::Done { revision })
            }
            (_, result) => result,
        };
        step.tell(Event::Answer { ticket, result });
    }

    /// An entry was applied that this node may have asked for, through whomever.
    pub(super) fn recognise(
        &mut self,
        step: &mut Step<'_>,
        origin: Origin,
        result: &Result<Reply, Refusal>,
    ) {
        if origin.life == self.requests.life {
            let result = result.clone().map_err(Error::from);
            self.resolve(step, origin.serial, Some(result));
        }
    }

    /// An entry under `ballot` was applied: what was asked of an earlier leader and has not come by now
    /// never will, for along a log ballots never fall.
    pub(super) fn superseded(&mut self, step: &mut Step<'_>, ballot: Ballot) {
        let blank = !self.keeps_data();
        let earlier = |with: With| matches!(with, With::There(asked) if asked < ballot);
        let revision = self.registry.revision();
        for serial in self.requests.with(|waiting| earlier(waiting.with)) {
            match self.requests.waiting.get(&serial).map(|waiting| &waiting.request) {
                // It was asked to, and leads no longer.
                Some(Request::HandOver { .. }) => {
                    self.resolve(step, serial, Some(Ok(Reply::Done { revision })));
                }
                // Who keeps no data cannot see what the entries were.
                Some(Request::Change(_)) if blank => {}
                _ => {
                    self.counters.retried += 1;
                    self.requests.put_back(serial, None);
                }
            }
        }
    }

    /// The state has jumped past entries that this node has not seen: what it asked for may have been
    /// among them.
    pub(super) fn lost_sight(&mut self, step: &mut Step<'_>, ballot: Ballot) {
        let passed = |with: With| matches!(with, With::There(asked) if asked <= ballot);
        for serial in self.requests.with(|waiting| passed(waiting.with)) {
            let waiting = self.requests.waiting.get(&serial);
            if waiting.is_some_and(|waiting| matches!(waiting.request, Request::Change(_))) {
                self.counters.unknown += 1;
                self.resolve(step, serial, Some(Err(Error::Unknown)));
            } else {
                self.requests.put_back(serial, None);
            }
        }
    }

    /// A link went: what was asked of that node and does no harm twice is asked for again.
    pub(super) fn asked_in_vain(&mut self, peer: NodeId) {
        let there = |with: With| matches!(with, With::There(ballot) if ballot.node == peer);
        for serial in self.requests.with(|w| there(w.with) && is_harmless(&w.request)) {
            self.requests.put_back(serial, None);
        }
    }

    /// Answers what has waited for as long as it may.
    pub(super) fn time_out(&mut self, step: &mut Step<'_>) {
        let now = step.cx.now;
        while let Some(&(at, serial)) = self.requests.timers.first()
            && at <= now
        {
            let Some(waiting) = self.requests.waiting.get(&serial) else { break };
            if waiting.deadline > now {
                // Its pause is over, or its answer late.
                self.requests.put_back(serial, None);
                continue;
            }
            let error = match waiting.with {
                With::Here | With::There(_)
                    if !is_harmless(&waiting.request) && !bug!(unavailable_though_proposed) =>
                {
                    self.counters.unknown += 1;
                    Error::Unknown
                }
                _ => {
                    self.counters.unavailable += 1;
                    self.unavailable(step.cx.me)
                }
            };
            self.resolve(step, serial, Some(Err(error)));
        }
    }

    /// Answers everything: this node is no member any more.
    pub(super) fn answer_all_removed(&mut self, step: &mut Step<'_>) {
        let (me, revision) = (step.cx.me, self.registry.revision());
        for serial in self.requests.with(|_| true) {
            let request = self.requests.waiting.get(&serial).map(|waiting| &waiting.request);
            let result = match request {
                Some(Request::Remove { node }) if *node == me => Ok(Reply::Done { revision }),
                _ => Err(Error::Removed),
            };
            self.resolve(step, serial, Some(result));
        }
    }

    /// Answers everything with this.
    pub(super) fn answer_all(&mut self, step: &mut Step<'_>, error: &Error) {
        for serial in self.requests.with(|_| true) {
            self.resolve(step, serial, Some(Err(error.clone())));
        }
    }

    fn unavailable(&self, me: NodeId) -> Error {
        let linked = |node: &NodeId| *node == me || self.links.contains(node);
        let voters = self.log.members().voters.iter().copied();
        let (reachable, unreachable) = voters.partition(linked);
        let leader = self.log.leader().map(|ballot| ballot.node);
        Error::Unavailable { leader, reachable, unreachable }
    }
}

/// Whether it may be done twice.
pub(super) fn is_harmless(request: &Request) -> bool {
    bug!(asked_again_though_proposed => return true);
    matches!(request, Request::Query { .. } | Request::KeepAlive { .. })
}

/// How much a request carries, in bytes.
pub(super) fn request_bytes(request: &Request) -> usize {
    let Request::Change(command) = request else { return 0 };
    let op = |op: &Op| match op {
        Op::Put { key, value, .. } => key.len() + value.len(),
        Op::Delete { key } | Op::Get { key } => key.len(),
    };
    match command {
        Command::Put { key, value, .. } => key.len() + value.len(),
        Command::Campaign { name, value, .. } => name.len() + value.len(),
        Command::Txn { compare, then, otherwise, .. } => {
            let compared: usize = compare.iter().map(Compare::bytes).sum();
            compared + then.iter().chain(otherwise).map(op).sum::<usize>()
        }
        Command::Delete { key: name, .. }
        | Command::Withdraw { name, .. }
        | Command::Release { name, .. }
        | Command::StepDown { name, .. } => name.len(),
        Command::Grant { .. } | Command::Revoke { .. } => 0,
    }
}

/// How much an answer carries, in bytes.
pub(super) fn answer_bytes(answer: &Answer) -> usize {
    let item = |item: &Item| item.key.len() + item.value.len();
    match &answer.result {
        Some(Ok(Reply::Items { items, .. })) => items.iter().map(item).sum(),
        Some(Ok(Reply::Value { item: Some(one), .. })) => item(one),
        Some(Ok(Reply::Txn { .. } | Reply::Name { .. } | Reply::Names { .. })) => MAX_BATCH_BYTES,
        _ => 0,
    }
}

/// What goes to one node, in messages.
pub(super) fn batches<T>(all: Vec<T>, weight: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut batches: Vec<Vec<T>> = Vec::new();
    let mut bytes = 0;
    for one in all {
        bytes += weight(&one);
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_BATCH && bytes <= MAX_BATCH_BYTES => batch.push(one),
            _ => {
                bytes = weight(&one);
                batches.push([one].into());
            }
        }
    }
    batches
}
