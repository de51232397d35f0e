//! A network that takes releases, as a [`System`] for the simulator: maintainers who sign, carriers
//! of all manners, and nodes that count, act and report.
//!
//! The fleet knows the truth: what maintainers really signed, what really ran where and how it went.
//! From that it says what must hold at every step:
//!
//! - no action runs twice on a node, through crashes at any moment;
//! - none without a certificate: a quorum of signals for this very proposal, which maintainers signed;
//! - none below the floor, none with other bytes than were signed, none after its deadline, none with
//!   an artifact that failed there before;
//! - never more nodes of a cluster at a time than allowed, and no wave before the ones before it are well;
//! - what a node reports is what happened.
//!
//! In the end every node counts the same votes, those that the maintainers cast last, and what was
//! meant to run has run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use quorate_core::identity::Identity;
use quorate_core::machine::NodeId;
use quorate_core::quorum::nostr::{self, PublicKey, SecretKey};
use quorate_core::quorum::report::Status;
use quorate_core::quorum::signal::{
    Action, Artifact, Genesis, Proposal, ProposalId, Signal, Version,
};
use quorate_core::quorum::waves::{Cluster, Policy, order};
use quorate_core::quorum::{
    Certificate, Command, Config, Event, Maintainers, Outcome, Quorum, RunError, Succession,
};
use quorate_sim::{HostCx, Loss, SimTime, System, View};
use serde::{Deserialize, Serialize};

use crate::memo::{remembered, remembered_maintainer};
use crate::station::{Manners, Order, Station, Word, claims};

/// The network that the nodes are in.
const NETWORK: &str = "fleet";
/// Where the wall clocks stand when a run starts, in seconds.
const START_S: u64 = quorate_sim::clock::WALL_START_US / 1_000_000;
/// How many maintainers there are at first, and how many of them decide.
pub(crate) const MAINTAINERS: u8 = 5;
const THRESHOLD: u32 = 3;

/// A proposal in short.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Release {
    /// To which version.
    pub version: String,
    /// With which artifact.
    pub hash: u8,
    /// For the nodes' network, or another one.
    pub elsewhere: bool,
    /// What it takes back.
    pub rollback_of: Option<String>,
    /// For a reboot: until when, in seconds from the start.
    pub required_by_s: Option<u64>,
}

impl Release {
    /// An upgrade.
    #[must_use]
    pub fn new(version: &str, hash: u8) -> Release {
        let version = version.to_owned();
        Release { version, hash, elsewhere: false, rollback_of: None, required_by_s: None }
    }

    pub(crate) fn proposal(&self) -> Proposal {
        let version = |text: &String| Version::parse(text).expect("scenarios write versions");
        let genesis = |at: u64| Genesis {
            url: "https://genesis.example/".to_owned(),
            required_by: START_S + at,
        };
        let action = self.required_by_s.map_or(Action::Upgrade, |_| Action::Reboot);
        Proposal {
            action,
            network: if self.elsewhere { "elsewhere" } else { NETWORK }.to_owned(),
            version: version(&self.version),
            artifact: Artifact([self.hash; 32]),
            genesis: self.required_by_s.map(genesis),
            rollback_of: self.rollback_of.as_ref().map(version),
        }
    }
}

/// What is done to a fleet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Act {
    /// A maintainer signs, and brings it to this carrier.
    Sign {
        /// Who; from `MAINTAINERS` on those who follow.
        maintainer: u8,
        /// What.
        what: Release,
        /// When, by the maintainer's clock, in seconds from the start.
        at_s: i64,
    },
    /// Somebody brings claims of success, in the name of all nodes, to this carrier.
    Claim(Release),
    /// This node is told of new maintainers, with the signatures of these.
    Succeed(Vec<u8>),
    /// This node's operator holds, or lets go.
    Hold(bool),
}

/// What must have come of it in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// It has run well on every node whose artifact was the right one.
    Runs(Release),
    /// Every node is through with it, however it went.
    Through(Release),
    /// Nothing has run anywhere.
    Nothing,
    /// Some have run it, and the rest have stopped.
    Halts(Release),
    /// Only what always must hold.
    Anything,
}

/// A network that takes releases.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// How many nodes there are; carriers come after them.
    pub nodes: usize,
    /// How each carrier behaves.
    pub carriers: Vec<Manners>,
    /// So many clusters.
    pub clusters: usize,
    /// Who goes when.
    pub policy: Policy,
    /// How long a signal counts, in seconds.
    pub lifetime_s: u64,
    /// Nodes to which other bytes come than they ask for.
    pub tampered: BTreeSet<usize>,
    /// Artifacts whose run fails.
    pub broken: BTreeSet<u8>,
    /// What must have come of it.
    pub expect: Expect,
    /// What must never run.
    pub never: Vec<Release>,
    /// Whether every vote arrives everywhere in time.
    pub same_votes: bool,
    signed: Vec<nostr::Event>,
    heirs: bool,
    ran: BTreeSet<(usize, Proposal)>,
    /// Runs that came to a good end, or will if their node lives so long.
    good_ends: BTreeMap<(usize, ProposalId), SimTime>,
    went_well: BTreeSet<(usize, ProposalId)>,
    at_it: BTreeMap<usize, ProposalId>,
    backs: BTreeMap<usize, SimTime>,
    floors: BTreeMap<usize, Version>,
    fetched: BTreeMap<usize, Artifact>,
    failed: BTreeSet<(usize, Artifact)>,
    halted: BTreeSet<usize>,
}

pub(crate) fn maintainer(n: u8) -> SecretKey {
    SecretKey::from_bytes(&[n + 1; 32]).expect("a key")
}

fn keys(from: u8, to: u8) -> Vec<PublicKey> {
    (from..to).map(|n| maintainer(n).public()).collect()
}

fn maintainers() -> Maintainers {
    Maintainers::new(keys(0, MAINTAINERS), THRESHOLD).expect("five of whom three decide")
}

/// Two of the old ones, and three more.
fn heirs() -> Maintainers {
    maintainers().next(keys(3, 8), THRESHOLD).expect("five of whom three decide")
}

impl Fleet {
    /// Nodes in two clusters, and carriers.
    #[must_use]
    pub fn new(nodes: usize, carriers: &[Manners]) -> Fleet {
        Fleet {
            nodes,
            carriers: carriers.to_vec(),
            clusters: 2,
            policy: Policy { failures_max: 100, enough_percent: 100, ..Policy::default() },
            lifetime_s: 30 * 86_400,
            tampered: BTreeSet::new(),
            broken: BTreeSet::new(),
            expect: Expect::Anything,
            never: Vec::new(),
            same_votes: true,
            signed: Vec::new(),
            heirs: false,
            ran: BTreeSet::new(),
            good_ends: BTreeMap::new(),
            went_well: BTreeSet::new(),
            at_it: BTreeMap::new(),
            backs: BTreeMap::new(),
            floors: BTreeMap::new(),
            fetched: BTreeMap::new(),
            failed: BTreeSet::new(),
            halted: BTreeSet::new(),
        }
    }

    /// The numbers of the carriers.
    pub fn carriers(&self) -> impl Iterator<Item = usize> + use<> {
        self.nodes..self.nodes + self.carriers.len()
    }

    fn identity(node: usize) -> Identity {
        Identity::from_seed([node as u8 + 1; 32])
    }

    fn clusters(&self) -> BTreeMap<NodeId, Cluster> {
        let cluster = |node: usize| (node % self.clusters) as Cluster;
        (0..self.nodes).map(|node| (Self::identity(node).id(), cluster(node))).collect()
    }

    fn sign(&mut self, who: u8, what: &Release, at_s: i64) -> nostr::Event {
        let at = START_S.saturating_add_signed(at_s);
        let event = maintainer(who).sign(Signal::draft(&what.proposal(), at, None));
        if !self.signed.contains(&event) {
            self.signed.push(event.clone());
        }
        event
    }

    /// What must be true of a run that begins.
    fn may_run(
        &self,
        node: usize,
        proposal: &Proposal,
        certificate: &Certificate,
    ) -> Result<(), String> {
        let id = proposal.id();
        if self.ran.contains(&(node, proposal.clone())) {
            return Err(format!("{proposal:?} runs a second time on node {node}"));
        }
        if self.never.iter().any(|release| release.proposal() == *proposal) {
            return Err(format!("{proposal:?} runs, and never may"));
        }
        let real = |event: &&nostr::Event| {
            let says = Signal::parse(event).is_ok_and(|signal| signal.proposal == *proposal);
            says && self.signed.contains(event)
        };
        let signers: BTreeSet<PublicKey> =
            certificate.signals.iter().filter(real).map(|event| event.pubkey).collect();
        if signers.len() < THRESHOLD as usize || proposal.network != NETWORK {
            return Err(format!("{proposal:?} runs on the word of {} maintainers", signers.len()));
        }
        if let Some(floor) = self.floors.get(&node) {
            let back = proposal.rollback_of.as_ref() == Some(floor);
            let newer = proposal.version > *floor
                || (proposal.action == Action::Reboot && proposal.version == *floor);
            if !back && !newer {
                return Err(format!("{} runs below the floor {floor}", proposal.version));
            }
        }
        if self.fetched.get(&node) != Some(&proposal.artifact) {
            return Err(format!("node {node} runs other bytes than were signed"));
        }
        if self.failed.contains(&(node, proposal.artifact)) {
            return Err(format!("node {node} runs an artifact that failed there"));
        }
        let mates = self
            .at_it
            .iter()
            .filter(|(mate, what)| **what == id && *mate % self.clusters == node % self.clusters);
        if mates.count() >= self.policy.at_a_time as usize {
            return Err(format!("one more than {} of a cluster at a time", self.policy.at_a_time));
        }
        self.waves_before_are_well(node, id)
    }

    fn waves_before_are_well(&self, node: usize, id: ProposalId) -> Result<(), String> {
        let clusters = self.clusters();
        let order = order(clusters.keys(), &id);
        let mut from = 0;
        for end in self.policy.ends(order.len()) {
            let wave = &order[from..end];
            if wave.contains(&Self::identity(node).id()) {
                return Ok(());
            }
            let well = (0..self.nodes).filter(|mate| {
                wave.contains(&Self::identity(*mate).id()) && self.went_well.contains(&(*mate, id))
            });
            let enough = (wave.len() * usize::from(self.policy.enough_percent)).div_ceil(100);
            if well.count() < enough {
                return Err(format!("node {node} begins before the wave before it is well"));
            }
            from = end;
        }
        Ok(())
    }

    fn run(
        &mut self,
        node: usize,
        proposal: &Proposal,
        certificate: &Certificate,
        cx: &mut HostCx<'_, Self>,
    ) {
        if let Err(why) = self.may_run(node, proposal, certificate) {
            cx.fail(why);
        }
        let id = proposal.id();
        let deadline = proposal.genesis.as_ref().map(|genesis| genesis.required_by - START_S);
        if deadline.is_some_and(|at| cx.now() > SimTime::secs(at + 1)) {
            cx.fail(format!("a reboot begins after its deadline of {deadline:?} s"));
        }
        cx.mark("run");
        self.ran.insert((node, proposal.clone()));
        self.at_it.insert(node, id);
        let floor = self.floors.entry(node).or_insert_with(|| proposal.version.clone());
        *floor = proposal.version.clone().max(floor.clone());
        let broken = self.broken.contains(&proposal.artifact.0[0]);
        let result = if broken { Err(RunError::Failed("exit 1".to_owned())) } else { Ok(()) };
        let us = 200_000 + cx.rng().below(4_000_000);
        if !broken {
            self.good_ends.insert((node, id), cx.now().after_us(us));
        }
        cx.command_after(us, Order::Node(Command::Ran { proposal: id, result }));
    }

    /// What a node says of itself, against what happened.
    fn published(
        &mut self,
        node: usize,
        id: ProposalId,
        status: &Status,
        cx: &mut HostCx<'_, Self>,
    ) {
        cx.mark("reported");
        // A node that died before it had written the good end down knows of none.
        let well = self.good_ends.get(&(node, id)).is_some_and(|at| *at <= cx.now());
        let known = self.went_well.contains(&(node, id));
        let true_word = if *status == Status::Success { well } else { !known };
        if *status == Status::Success {
            self.went_well.insert((node, id));
        }
        if !true_word {
            cx.fail(format!("node {node} reports {status:?}, and that is not what happened"));
        }
        if self.backs.get(&node).is_some_and(|until| *until > cx.now()) {
            cx.fail(format!("node {node} reports that it is through before it is"));
        }
        if self.at_it.get(&node) == Some(&id) {
            self.at_it.remove(&node);
        }
    }

    fn ended(&mut self, node: usize, id: ProposalId, outcome: &Outcome, cx: &mut HostCx<'_, Self>) {
        match outcome {
            Outcome::Success => {
                self.went_well.insert((node, id));
                cx.mark("succeeded");
            }
            Outcome::WrongHash(_) => cx.mark("wrong hash"),
            Outcome::Unknown => cx.mark("unknown"),
            Outcome::Quarantined => cx.mark("quarantined"),
            Outcome::TooLate => cx.mark("too late"),
            Outcome::Failed(_) => cx.mark("failed"),
            Outcome::NotFetched(_) | Outcome::TimedOut => {}
        }
        let ran = self.ran.iter().find(|(on, proposal)| *on == node && proposal.id() == id);
        if outcome.is_bad_run()
            && let Some((_, proposal)) = ran
        {
            self.failed.insert((node, proposal.artifact));
        }
    }

    fn fetch(&mut self, node: usize, proposal: &Proposal, cx: &mut HostCx<'_, Self>) {
        let tampered = self.tampered.contains(&node);
        let hash = if tampered { Artifact([0xee; 32]) } else { proposal.artifact };
        self.fetched.insert(node, hash);
        let us = 20_000 + cx.rng().below(500_000);
        let command = Command::Fetched { proposal: proposal.id(), result: Ok(hash) };
        cx.command_after(us, Order::Node(command));
    }

    /// Each maintainer's last vote.
    fn last_votes(&self) -> BTreeMap<PublicKey, nostr::EventId> {
        let current = if self.heirs { heirs() } else { maintainers() };
        let mut last: BTreeMap<PublicKey, (u64, Reverse<nostr::EventId>)> = BTreeMap::new();
        let tomorrow = START_S + 86_400;
        for event in self.signed.iter().filter(|event| current.keys().contains(&event.pubkey)) {
            let here = Signal::parse(event).is_ok_and(|signal| signal.proposal.network == NETWORK);
            if here && event.created_at < tomorrow {
                let rank = (event.created_at, Reverse(event.id));
                let best = last.entry(event.pubkey).or_insert(rank);
                *best = rank.max(*best);
            }
        }
        last.into_iter().map(|(author, (_, Reverse(id)))| (author, id)).collect()
    }

    fn came_out(&self, node: usize, quorum: &Quorum) -> Result<(), String> {
        let runs = &quorum.kept().runs();
        let ran = |release: &Release| runs.get(&release.proposal().id());
        let through = |release: &Release| ran(release).is_some_and(|run| run.is_through());
        let fine = match &self.expect {
            Expect::Anything => true,
            Expect::Nothing => runs.is_empty(),
            Expect::Through(release) => through(release),
            Expect::Runs(release) => {
                let outcome = ran(release).and_then(|run| run.outcome.as_ref());
                match outcome {
                    Some(Outcome::WrongHash(_)) => self.tampered.contains(&node),
                    outcome => outcome == Some(&Outcome::Success),
                }
            }
            Expect::Halts(release) => through(release) || self.halted.contains(&node),
        };
        let said = || {
            let reports: Vec<_> =
                quorum.reports().map(|(id, count)| (id, count, quorum.progress(id))).collect();
            let (stage, standing) = (quorum.stage(), quorum.standing());
            let expected = &self.expect;
            format!(
                "node {node} is {stage:?} with {standing:?}, {reports:?}; expected: {expected:?}"
            )
        };
        if fine { Ok(()) } else { Err(said()) }
    }
}

impl System for Fleet {
    type Machine = Station;
    type Op = Act;

    fn nodes(&self) -> usize {
        self.nodes + self.carriers.len()
    }

    fn id(&self, node: usize) -> NodeId {
        Self::identity(node).id()
    }

    fn boot(&self, node: usize) -> Station {
        let stranger = SecretKey::from_bytes(&[200 + node as u8; 32]).expect("a key");
        if let Some(manners) = node.checked_sub(self.nodes) {
            return Station::carrier(self.carriers[manners], stranger);
        }
        let config = Config {
            identity: Self::identity(node),
            network: NETWORK.to_owned(),
            maintainers: maintainers(),
            nodes: self.clusters(),
            policy: self.policy.clone(),
            installed: None,
            lifetime_s: self.lifetime_s,
            frozen_after_s: 86_400,
            timeout_us: 60_000_000,
            verify: remembered,
            verify_maintainer: remembered_maintainer,
        };
        let carriers = self.carriers().map(|carrier| self.id(carrier)).collect();
        Station::node(Quorum::new(config), carriers, stranger)
    }

    fn op(&mut self, _: usize, act: Act, cx: &mut HostCx<'_, Self>) {
        match act {
            Act::Sign { maintainer, what, at_s } => {
                let event = self.sign(maintainer, &what, at_s);
                cx.command(Order::Put(event.to_json().into()));
            }
            Act::Claim(release) => {
                let nodes: Vec<NodeId> = self.clusters().into_keys().collect();
                for text in claims(&release.proposal(), &nodes, START_S) {
                    cx.command(Order::Put(text));
                }
            }
            Act::Succeed(signers) => {
                let (next, by) = (heirs(), &signers);
                let sign = |n: &u8| maintainer(*n).sign(next.draft(NETWORK, START_S));
                let signatures = by.iter().map(sign).collect();
                let enough = |set: &Maintainers| {
                    set.is_quorum(&by.iter().map(|n| maintainer(*n).public()).collect())
                };
                self.heirs |= enough(&maintainers()) && enough(&next);
                cx.command(Order::Node(Command::Succeed(Succession { next, signatures })));
            }
            Act::Hold(hold) => {
                let command = if hold { Command::Hold } else { Command::Resume };
                cx.command(Order::Node(command));
            }
        }
    }

    fn event(&mut self, node: usize, event: Event, cx: &mut HostCx<'_, Self>) {
        match event {
            Event::Quorum(..) => cx.mark("quorum"),
            Event::Conflict(..) => cx.mark("conflict"),
            Event::Fetch(proposal) => self.fetch(node, &proposal, cx),
            Event::Run { proposal, certificate, .. } => self.run(node, &proposal, &certificate, cx),
            Event::PutBack { proposal, .. } => {
                let us = 100_000 + cx.rng().below(1_000_000);
                self.backs.insert(node, cx.now().after_us(us));
                cx.command_after(us, Order::Node(Command::IsBack(proposal)));
            }
            Event::Publish(signed) => {
                self.published(node, signed.report.proposal, &signed.report.status, cx);
            }
            Event::Ended(id, outcome) => self.ended(node, id, &outcome, cx),
            Event::Halted(_) => {
                self.halted.insert(node);
                cx.mark("halted");
            }
            Event::Frozen(_) => cx.mark("frozen"),
            Event::Succeeded(succession) => {
                cx.mark("maintainers changed");
                if !self.heirs {
                    cx.fail(format!("{succession:?} was not signed by both sides"));
                }
            }
        }
    }

    fn crashed(&mut self, node: usize, _: Loss, cx: &mut HostCx<'_, Self>) {
        self.good_ends.retain(|(on, _), at| *on != node || *at <= cx.now());
        let unfinished = self.backs.get(&node).is_some_and(|until| *until > cx.now());
        if unfinished {
            self.backs.insert(node, SimTime(u64::MAX));
        }
    }

    fn converged(&mut self, view: &View<'_, Self>) -> Result<(), String> {
        let last = self.last_votes();
        for node in 0..self.nodes {
            let Some(quorum) = view.machine(node).and_then(Station::quorum) else {
                return Err(format!("node {node} is down"));
            };
            let votes = quorum.kept().tally().votes();
            let votes: BTreeMap<PublicKey, nostr::EventId> =
                votes.iter().map(|(author, vote)| (*author, vote.signal.event)).collect();
            if self.same_votes && votes != last {
                return Err(format!("node {node} counts {votes:?}, cast were {last:?}"));
            }
            self.came_out(node, quorum)?;
        }
        Ok(())
    }

    fn finished(&mut self, _: &View<'_, Self>) -> Result<(), String> {
        let ran = self.ran.iter().filter(|(_, proposal)| match &self.expect {
            Expect::Halts(release) => release.proposal() == *proposal,
            _ => false,
        });
        // Those that are at it when the last failure that is borne is reported may be told too late.
        let most =
            self.policy.failures_max as usize + self.clusters * self.policy.at_a_time as usize;
        let count = ran.count();
        if count > most {
            return Err(format!("{count} nodes took a broken release, and {most} may"));
        }
        Ok(())
    }

    fn size(&self, word: &Word) -> usize {
        match word {
            Word::Ask(_) => 40,
            Word::Put(text) => text.len(),
            Word::Answer(signals, reports, _) => {
                signals.iter().chain(reports).map(Bytes::len).sum::<usize>() + 40
            }
        }
    }
}
