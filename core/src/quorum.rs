//! Rollouts: a release runs on a node when enough maintainers have signed the very same one.
//!
//! The intuition. Each node counts for itself. Maintainers publish *signals*; the newest of each is
//! its vote; when enough votes name the very same proposal (action, network, version, hash of the
//! artifact, and for a reboot genesis and deadline), those signed signals are a *certificate* that
//! convinces anybody, offline. The node then waits for its turn, has the artifact fetched and compares
//! its hash, writes down that it is about to act, acts once, and reports how it went.
//!
//! **Carriers only carry.** A signal is a Nostr event whichever way it came, over a relay or as a
//! store's entry ([`nostr`]); a report is signed with the node's own key, whatever envelope it has
//! ([`report`]). A carrier that withholds, repeats, reorders, forges or forgets can delay this node,
//! and can do nothing else: replacement is decided here ([`tally`]), and so is what is too old, too
//! far ahead, for another network, or by a stranger ([`Refusal`]).
//!
//! **What this rests on.** Samuel, Mathewson, Cappos and Dingledine, *Survivable Key Compromise in
//! Software Update Systems* (2010), which became TUF: thresholds of keys, versions that only rise
//! ([`floor`]), signatures that expire, and a client that notices when it is told nothing new: a
//! *frozen* network. Roots change by the old and the new together ([`maintainers`]). We depart in that
//! there is no repository and no role for a timestamp: each maintainer's signal is all there is, so a
//! network counts as frozen when its newest signal is old, and maintainers sign again now and then.
//!
//! **At most once.** [`Record::Begun`] is durable before the host hears [`Event::Run`]. A node that
//! finds such a record without an end at its start does not know how far the run came; it says
//! "unknown" and does not try again, since a second run may be worse than none. What failed in any way
//! stays failed on this node: a retry is a decision, and takes a new proposal.
//!
//! **Cases.** Two hashes for one version are two proposals; if both have a quorum (a low threshold),
//! neither runs. A quorum that dissolves before this node's turn (votes expired or moved on) starts
//! nothing. A run that fails has the previous artifact put back, and its hash is not run again under
//! another name. Who goes when is [`waves`]'s essay. While an action runs, newer proposals wait.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bytes::Bytes;

use crate::machine::{Cx, Effects, Input, Machine, Never, NodeId, Time, earliest};

pub mod certificate;
mod config;
pub mod floor;
mod hex;
pub mod kept;
pub mod maintainers;
mod message;
pub mod nostr;
mod refusal;
pub mod report;
mod reports;
pub mod signal;
pub mod tally;
#[cfg(test)]
mod tests;
pub mod waves;

pub use certificate::Certificate;
pub use config::Config;
pub use floor::Floor;
pub use kept::Kept;
pub use maintainers::{Maintainers, Succession};
pub use message::{Command, Event, Outcome, Record, RunError};
pub use refusal::{Refusal, Refusals};
use report::{Report, SignedReport};
pub use reports::MAX_PAGE;
use reports::Reports;
use signal::{Artifact, Proposal, ProposalId, Signal};
use tally::Standing;
use waves::Waves;

/// A signal from further ahead of this node's clock is refused; carriers will bring it again.
pub const MAX_AHEAD_S: u64 = 15 * 60;
/// Rollouts whose reports are kept: the latest.
pub const MAX_ROLLOUTS: usize = 4;
/// Votes expire without anything happening: this often they are counted again.
pub const COUNT_EVERY_US: u64 = 30_000_000;
/// Claims that matter are collected for so long before they are checked together.
const SETTLE_US: u64 = 50_000;
/// A report is published again after so long, then after twice that, and so on…
const REPORT_AGAIN_US: u64 = 10_000_000;
/// … up to this.
const REPORT_AGAIN_MOST_US: u64 = 3_600_000_000;
/// After so many records the next is a checkpoint.
const CHECKPOINT_EVERY: u32 = 4_096;

/// What this node is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing, or it waits for its turn.
    Waiting,
    /// The host fetches this one's artifact.
    Fetching(ProposalId),
    /// It is there, and is what it should be.
    Fetched(ProposalId),
    /// The host runs this.
    Running(ProposalId),
    /// The host puts back what ran before this.
    PuttingBack(ProposalId),
}

/// Counts votes and decides what runs on one node.
#[derive(Clone, Debug)]
pub struct Quorum {
    config: Arc<Config>,
    kept: Arc<Kept>,
    stage: Stage,
    /// What has a quorum now, as far as this node could follow it.
    standing: Standing,
    rollouts: Vec<(ProposalId, Reports)>,
    refusals: Refusals,
    frozen: bool,
    /// Since when the waves before this node's are well.
    well_since: Option<Time>,
    count_at: Option<Time>,
    settle_at: Option<Time>,
    report_at: Option<Time>,
    report_again_us: u64,
    records: u32,
}

/// One step under way.
struct Step<'a> {
    cx: Cx,
    fx: &'a mut dyn Effects<Quorum>,
}

impl Step<'_> {
    /// Seconds since 1970, as this node's clock has it.
    fn wall_s(&self) -> u64 {
        self.cx.wall.0 / 1_000
    }
}

/// Whether a node may begin.
enum Turn {
    Now,
    At(Time),
    NotYet,
}

impl Quorum {
    /// A machine without a past.
    ///
    /// # Panics
    /// The settings contradict themselves: see [`Config`].
    #[must_use]
    pub fn new(config: Config) -> Quorum {
        assert!(config.is_valid(), "settings of a rollout that contradict themselves");
        let (version, artifact) = config.installed.clone().unzip();
        let kept = Kept::new(config.maintainers.clone(), Floor::at(version), artifact);
        Quorum {
            config: Arc::new(config),
            kept: Arc::new(kept),
            stage: Stage::Waiting,
            standing: Standing::Open,
            rollouts: Vec::new(),
            refusals: Refusals::default(),
            frozen: false,
            well_since: None,
            count_at: None,
            settle_at: None,
            report_at: None,
            report_again_us: REPORT_AGAIN_US,
            records: 0,
        }
    }

    /// Everything that survives a restart.
    #[must_use]
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// What this node is doing.
    #[must_use]
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// What has a quorum.
    #[must_use]
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What was refused since the start, and why.
    #[must_use]
    pub fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Whether no maintainer was heard for too long.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// How many nodes' reports are at hand, by rollout, checked or not.
    pub fn reports(&self) -> impl Iterator<Item = (ProposalId, usize)> {
        self.rollouts.iter().map(|(id, reports)| (*id, reports.len()))
    }

    /// The reports on one rollout after that of the node `after`, in the order of node ids, and where
    /// to go on. Only what the nodes themselves signed.
    #[must_use]
    pub fn page(
        &self,
        id: ProposalId,
        after: Option<NodeId>,
    ) -> (Vec<Arc<SignedReport>>, Option<NodeId>) {
        let reports = self.rollouts.iter().find(|(of, _)| *of == id);
        reports.map_or((Vec::new(), None), |(_, reports)| reports.page(after, self.config.verify))
    }

    /// Of one rollout: this node's wave, and the successes by wave that were checked so far.
    #[must_use]
    pub fn progress(&self, id: ProposalId) -> Option<(usize, &[u32])> {
        let (_, reports) = self.rollouts.iter().find(|(of, _)| *of == id)?;
        Some((reports.waves.my_wave(), reports.successes()))
    }

    /// Writes a record and does what it says: the only way in which anything kept changes.
    fn keep(&mut self, step: &mut Step<'_>, record: Record) {
        Arc::make_mut(&mut self.kept).apply(&record);
        step.fx.persist(record);
        self.records += 1;
        if self.records >= CHECKPOINT_EVERY {
            self.records = 0;
            step.fx.persist(Record::Checkpoint(Arc::clone(&self.kept)));
        }
    }

    fn start(&mut self, step: &mut Step<'_>) {
        if self.kept.began.is_none() {
            let now = step.wall_s();
            self.keep(step, Record::Began(now));
        }
        let known = self.kept.certificates().iter().rev().take(MAX_ROLLOUTS);
        let known: Vec<ProposalId> = known.map(|(proposal, _)| proposal.id()).collect();
        known.into_iter().rev().for_each(|id| self.watch_reports(step.cx.me, id));
        let runs = self.kept.runs.iter();
        let open: Vec<ProposalId> =
            runs.filter(|(_, run)| !run.is_through()).map(|(id, _)| *id).collect();
        assert!(open.len() <= 1, "one action at a time");
        for id in open {
            if self.kept.runs[&id].outcome.is_some() {
                self.put_back(step, id);
            } else if bug!(unknown_is_tried_again) {
                self.run(step, id);
            } else {
                self.end(step, id, Outcome::Unknown);
            }
        }
        if self.stage == Stage::Waiting {
            self.report(step);
        }
        self.decide(step);
    }

    /// Takes what a carrier brought.
    fn carried(&mut self, step: &mut Step<'_>, text: &Bytes) -> Result<(), Refusal> {
        let event = nostr::Event::from_json(text)?;
        match event.kind {
            signal::KIND => self.signal(step, event),
            report::KIND => self.reported(step, SignedReport::parse(&event)?),
            _ => Err(Refusal::UnknownKind),
        }
    }

    /// Takes a signal. Everything that is cheap comes before its signature.
    fn signal(&mut self, step: &mut Step<'_>, event: nostr::Event) -> Result<(), Refusal> {
        if !self.kept.maintainers.keys().contains(&event.pubkey) {
            return Err(Refusal::NotFollowed);
        }
        let signal = Signal::parse(&event)?;
        let other = signal.proposal.network != self.config.network;
        if other && !bug!(other_networks_replace) {
            return Err(Refusal::WrongNetwork);
        }
        let now = step.wall_s();
        if signal.created_at > now.saturating_add(MAX_AHEAD_S) && !bug!(far_future_is_taken) {
            return Err(Refusal::FarFuture);
        }
        // One that its author lets expire sooner still replaces what its author said before.
        if signal.is_outlived(now, self.config.lifetime_s) {
            return Err(Refusal::Expired);
        }
        self.kept.tally.stands(&signal)?;
        event.check(self.config.verify_maintainer)?;
        self.keep(step, Record::Signal(event));
        self.decide(step);
        Ok(())
    }

    /// Takes a report of another node.
    fn reported(&mut self, step: &mut Step<'_>, signed: SignedReport) -> Result<(), Refusal> {
        let Report { network, node, proposal, .. } = &signed.report;
        if *network != self.config.network {
            return Err(Refusal::WrongNetwork);
        }
        let cluster = *self.config.nodes.get(node).ok_or(Refusal::UnknownNode)?;
        if *node == step.cx.me {
            return Err(Refusal::Duplicate);
        }
        let deciding = !self.kept.runs.contains_key(proposal);
        let away = self.kept.away.contains(node);
        let rollout = self.rollouts.iter_mut().find(|(of, _)| of == proposal);
        let (_, reports) = rollout.ok_or(Refusal::UnknownRelease)?;
        let (verify, refusals) = (self.config.verify, &mut self.refusals);
        if reports.take(signed, (cluster, away), deciding, verify, refusals)? {
            self.settle_at.get_or_insert(step.cx.now.after_us(SETTLE_US));
        }
        Ok(())
    }

    fn succeed(&mut self, step: &mut Step<'_>, succession: Succession) -> Result<(), Refusal> {
        let Config { network, verify_maintainer, .. } = &*self.config;
        if !succession.follows(&self.kept.maintainers, network, *verify_maintainer) {
            return Err(Refusal::BadSuccession);
        }
        self.keep(step, Record::Succeeded(succession.clone()));
        step.fx.emit(Event::Succeeded(succession));
        self.decide(step);
        Ok(())
    }

    /// Counts, and does what follows.
    fn decide(&mut self, step: &mut Step<'_>) {
        self.count_at = Some(step.cx.now.after_us(COUNT_EVERY_US));
        let now = step.wall_s();
        self.watch_for_silence(step, now);
        let counts = self.kept.tally.counts(now, self.config.lifetime_s);
        let standing = Standing::of(&counts, &self.kept.maintainers, &self.kept.floor);
        let told = core::mem::replace(&mut self.standing, standing);
        if matches!(self.stage, Stage::Running(_) | Stage::PuttingBack(_)) {
            return;
        }
        let proposal = match &self.standing {
            Standing::Quorum(proposal) => proposal.clone(),
            Standing::Conflict(action, version) => {
                if told != self.standing {
                    step.fx.emit(Event::Conflict(*action, version.clone()));
                }
                return self.wait();
            }
            Standing::Open => return self.wait(),
        };
        let id = proposal.id();
        if self.kept.certificate(id).is_none() {
            let Some(count) = counts.get(&id) else { return self.wait() };
            let certificate = self.kept.tally.certificate(id, count);
            self.keep(step, Record::Quorum(certificate.clone()));
            step.fx.emit(Event::Quorum(proposal.clone(), certificate));
        }
        self.follow(step, id, &proposal);
    }

    /// Takes a proposal that has a quorum as far as it may go now.
    fn follow(&mut self, step: &mut Step<'_>, id: ProposalId, proposal: &Proposal) {
        self.watch_reports(step.cx.me, id);
        if self.kept.runs.contains_key(&id) || !self.kept.has_room() {
            return self.wait();
        }
        self.watch_failures(step, id);
        if self.kept.held || self.kept.halted(id) == Some(true) {
            return self.wait();
        }
        if self.kept.is_quarantined(&proposal.artifact) {
            return self.end(step, id, Outcome::Quarantined);
        }
        let deadline = proposal.genesis.as_ref().map(|genesis| genesis.required_by);
        if deadline.is_some_and(|at| step.wall_s() > at) && !bug!(deadline_is_ignored) {
            return self.end(step, id, Outcome::TooLate);
        }
        match self.turn(step.cx.now, id) {
            Turn::Now if self.stage == Stage::Fetched(id) => self.begin(step, id),
            Turn::Now if self.stage == Stage::Fetching(id) => {}
            Turn::Now => {
                self.stage = Stage::Fetching(id);
                step.fx.emit(Event::Fetch(proposal.clone()));
            }
            Turn::At(at) => {
                self.wait();
                self.count_at = earliest(self.count_at, Some(at));
            }
            Turn::NotYet => self.wait(),
        }
    }

    fn wait(&mut self) {
        self.stage = Stage::Waiting;
    }

    /// Whether it is this node's turn: see [`waves`].
    fn turn(&mut self, now: Time, id: ProposalId) -> Turn {
        let policy = &self.config.policy;
        let Some((_, reports)) = self.rollouts.iter().find(|(of, _)| *of == id) else {
            return Turn::Now;
        };
        let limit = policy.at_a_time + u32::from(bug!(one_more_at_a_time));
        let crowded = reports.may_be_at_it() >= limit;
        let well = bug!(waves_do_not_wait) || reports.waves_before_are_well(policy);
        if reports.waves.my_wave() > 0 && policy.soak_us > 0 {
            let since = if well { self.well_since.unwrap_or(now) } else { now };
            self.well_since = well.then_some(since);
            let ripe = since.after_us(policy.soak_us);
            if well && ripe > now {
                return Turn::At(ripe);
            }
        }
        if well && !crowded { Turn::Now } else { Turn::NotYet }
    }

    /// Keeps reports of a proposal from now on.
    fn watch_reports(&mut self, me: NodeId, id: ProposalId) {
        let Config { nodes, policy, .. } = &*self.config;
        if nodes.is_empty() || self.rollouts.iter().any(|(of, _)| *of == id) {
            return;
        }
        if self.rollouts.len() >= MAX_ROLLOUTS {
            self.rollouts.remove(0);
        }
        self.well_since = None;
        let waves = Waves::new(id, me, nodes, &self.kept.away, policy);
        self.rollouts.push((id, Reports::new(waves)));
    }

    fn watch_failures(&mut self, step: &mut Step<'_>, id: ProposalId) {
        let failures = self.rollouts.iter().find(|(of, _)| *of == id);
        let failures = failures.map_or(0, |(_, reports)| reports.failures());
        if failures > self.config.policy.failures_max && self.kept.halted(id).is_none() {
            self.keep(step, Record::Halted(id));
            step.fx.emit(Event::Halted(id));
        }
    }

    /// Says when nothing new was heard for too long, and when something was.
    fn watch_for_silence(&mut self, step: &mut Step<'_>, now: u64) {
        let heard = self.kept.tally.newest().max(self.kept.began).unwrap_or(now);
        let frozen = now > heard.saturating_add(self.config.frozen_after_s);
        if core::mem::replace(&mut self.frozen, frozen) != frozen {
            step.fx.emit(Event::Frozen(frozen));
        }
    }

    fn fetched(&mut self, step: &mut Step<'_>, id: ProposalId, result: Result<Artifact, String>) {
        if self.stage != Stage::Fetching(id) {
            return;
        }
        let Some((proposal, _)) = self.kept.certificate(id) else { return };
        match result {
            Ok(hash) if hash == proposal.artifact || bug!(hash_is_not_compared) => {
                self.stage = Stage::Fetched(id);
            }
            Ok(hash) => self.end(step, id, Outcome::WrongHash(hash)),
            Err(why) => self.end(step, id, Outcome::NotFetched(why)),
        }
        self.decide(step);
    }

    /// The point of no return: once this is durable, the host is asked to run, and never again.
    fn begin(&mut self, step: &mut Step<'_>, id: ProposalId) {
        bug!(run_before_it_is_written => {
            self.run(step, id);
            return self.keep(step, Record::Begun(id));
        });
        self.keep(step, Record::Begun(id));
        self.run(step, id);
    }

    fn run(&mut self, step: &mut Step<'_>, id: ProposalId) {
        let (proposal, certificate) =
            self.kept.certificate(id).expect("a quorum's certificate is kept").clone();
        self.stage = Stage::Running(id);
        let timeout_us = self.config.timeout_us;
        step.fx.emit(Event::Run { proposal, certificate, timeout_us });
    }

    fn ran(&mut self, step: &mut Step<'_>, id: ProposalId, result: Result<(), RunError>) {
        if self.stage != Stage::Running(id) {
            return;
        }
        let outcome = match result {
            Ok(()) => Outcome::Success,
            Err(RunError::Failed(why)) => Outcome::Failed(why),
            Err(RunError::TimedOut) => Outcome::TimedOut,
        };
        self.end(step, id, outcome);
        self.decide(step);
    }

    /// A proposal is through here, whichever way.
    fn end(&mut self, step: &mut Step<'_>, id: ProposalId, outcome: Outcome) {
        let bad_run = outcome.is_bad_run();
        let (event, at) = (Event::Ended(id, outcome.clone()), step.wall_s());
        self.keep(step, Record::Ended { proposal: id, outcome, at });
        step.fx.emit(event);
        if bad_run {
            return self.put_back(step, id);
        }
        self.wait();
        self.report(step);
    }

    fn put_back(&mut self, step: &mut Step<'_>, id: ProposalId) {
        self.stage = Stage::PuttingBack(id);
        step.fx.emit(Event::PutBack { proposal: id, artifact: self.kept.installed });
        bug!(reported_before_it_is_through => self.report(step));
    }

    fn is_back(&mut self, step: &mut Step<'_>, id: ProposalId) {
        if self.stage != Stage::PuttingBack(id) {
            return;
        }
        self.keep(step, Record::IsBack(id));
        self.wait();
        self.report(step);
        self.decide(step);
    }

    /// Counts this node's own report, and publishes it.
    fn report(&mut self, step: &mut Step<'_>) {
        self.report_again_us = REPORT_AGAIN_US;
        let Some(signed) = self.own_report(step.cx.me) else { return };
        let cluster = self.config.nodes.get(&step.cx.me).copied().unwrap_or_default();
        let rollout = self.rollouts.iter_mut().find(|(id, _)| *id == signed.report.proposal);
        if let Some((_, reports)) = rollout {
            reports.own(signed, cluster);
        }
        self.publish(step);
    }

    /// What this node has to say of what ended last.
    fn own_report(&self, me: NodeId) -> Option<SignedReport> {
        let run = self.kept.runs.get(&self.kept.last?)?;
        if !run.is_through() && !bug!(reported_before_it_is_through) {
            return None;
        }
        let report = Report::new(&run.proposal, me, run.status()?, run.at);
        Some(report.sign(&self.config.identity))
    }

    fn publish(&mut self, step: &mut Step<'_>) {
        self.report_at = None;
        if let Some(signed) = self.own_report(step.cx.me) {
            step.fx.emit(Event::Publish(signed));
            self.report_at = Some(step.cx.now.after_us(self.report_again_us));
            self.report_again_us = (2 * self.report_again_us).min(REPORT_AGAIN_MOST_US);
        }
    }

    fn away(&mut self, step: &mut Step<'_>, node: NodeId, away: bool) {
        let known = self.config.nodes.contains_key(&node) && node != step.cx.me;
        if !known || self.kept.away.contains(&node) == away {
            return;
        }
        self.keep(step, Record::Away { node, away });
        let Config { nodes, policy, .. } = &*self.config;
        for (id, reports) in &mut self.rollouts {
            let waves = Waves::new(*id, step.cx.me, nodes, &self.kept.away, policy);
            *reports = reports.again(waves, |node| self.kept.away.contains(node));
        }
        self.decide(step);
    }

    fn tick(&mut self, step: &mut Step<'_>) {
        let now = step.cx.now;
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        if due(self.settle_at) {
            self.settle_at = None;
            let (verify, refusals) = (self.config.verify, &mut self.refusals);
            for (_, reports) in &mut self.rollouts {
                if reports.settle(verify, refusals) {
                    self.settle_at = Some(now.after_us(1));
                }
            }
            self.decide(step);
        }
        if due(self.report_at) {
            self.publish(step);
        }
        if due(self.count_at) {
            self.decide(step);
        }
    }

    fn command(&mut self, step: &mut Step<'_>, command: Command) {
        let taken = match command {
            Command::Carried(text) => self.carried(step, &text),
            Command::Reported(signed) => self.reported(step, signed),
            Command::Succeed(succession) => self.succeed(step, succession),
            other => {
                self.answer(step, other);
                Ok(())
            }
        };
        if let Err(refusal) = taken {
            self.refusals.count(refusal);
        }
    }

    /// What the host or the operator says.
    fn answer(&mut self, step: &mut Step<'_>, command: Command) {
        match command {
            Command::Fetched { proposal, result } => self.fetched(step, proposal, result),
            Command::Ran { proposal, result } => self.ran(step, proposal, result),
            Command::IsBack(id) => self.is_back(step, id),
            Command::Hold if !self.kept.held => {
                self.keep(step, Record::Held);
                self.decide(step);
            }
            Command::Resume => {
                self.keep(step, Record::Resumed);
                self.decide(step);
            }
            Command::Away { node, away } => self.away(step, node, away),
            Command::Hold | Command::Carried(_) | Command::Reported(_) | Command::Succeed(_) => {}
        }
    }
}

impl Machine for Quorum {
    type Message = Never;
    type Record = Record;
    type Command = Command;
    type Event = Event;

    fn restore(&mut self, record: Record) {
        self.records = if let Record::Checkpoint(_) = record { 0 } else { self.records + 1 };
        Arc::make_mut(&mut self.kept).apply(&record);
    }

    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        let step = &mut Step { cx, fx };
        match input {
            Input::Start => self.start(step),
            Input::Command(command) => self.command(step, command),
            Input::Tick => self.tick(step),
            Input::Message { message, .. } => match message {},
            Input::Link { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        earliest(earliest(self.count_at, self.settle_at), self.report_at)
    }

    fn check(&self) {
        let kept = &self.kept;
        assert!(self.rollouts.len() <= MAX_ROLLOUTS, "more rollouts than are kept");
        assert!(kept.tally.votes().len() <= maintainers::MAX_MAINTAINERS, "votes of strangers");
        let open = kept.runs.values().filter(|run| !run.is_through()).count();
        let busy = matches!(self.stage, Stage::Running(_) | Stage::PuttingBack(_));
        // Between a restore and the start, a run may be open that nobody has looked at.
        assert!(open == usize::from(busy) || self.count_at.is_none(), "an action that nobody does");
        for run in kept.runs.values().filter(|run| run.begun) {
            let floor = kept.floor.version();
            assert!(floor >= Some(&run.proposal.version), "ran above the floor");
        }
        self.rollouts.iter().for_each(|(_, reports)| reports.assert_counts());
    }
}
