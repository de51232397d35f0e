//! Clusters of whole nodes over loopback: what the library promises of leaders, locks and the registry.

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate_core::cluster::Config;
use quorate_core::machine::NodeId;
use quorate_runtime_tokio::journal::{Directory, Journal};
use quorate_runtime_tokio::node::cluster::{
    Cluster, ClusterError, ClusterWatch, Compare, Error, Given, Happened, List, Op, Read, Refusal,
    Relation, Role, Seat, Standing, Subject, Target, Txn, WatchUpdate,
};
use quorate_runtime_tokio::node::data_dir::{DataDir, JOURNAL_DIR, trust_log};
use quorate_runtime_tokio::node::leadership::{Campaign, Loss};
use quorate_runtime_tokio::node::lifecycle::{Application, Result as HookResult, Timeouts};
use quorate_runtime_tokio::node::{Node, Options, RunningNode};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Nothing here takes so long unless it hangs.
const HUNG: Duration = Duration::from_secs(60);

/// A lease's time that outlives a failover and is not long to wait for.
const TTL: Duration = Duration::from_secs(3);

struct Member {
    node: Node,
    running: Option<RunningNode>,
    dir: TempDir,
    addr: String,
}

impl Member {
    async fn new() -> Member {
        let dir = tempfile::tempdir().unwrap();
        let (node, running) = start(dir.path(), "127.0.0.1:0").await;
        let addr = node.listens().unwrap().to_owned();
        Member { node, running: Some(running), dir, addr }
    }

    fn cluster(&self) -> Cluster {
        self.node.cluster().with_timeout(HUNG)
    }

    fn id(&self) -> NodeId {
        self.node.id()
    }

    async fn stop(&mut self) {
        self.running.take().unwrap().stop().await.unwrap();
    }

    /// On the same disk and address as before.
    async fn restart(&mut self) {
        let (node, running) = start(self.dir.path(), &self.addr).await;
        (self.node, self.running) = (node, Some(running));
    }
}

async fn start(dir: &Path, addr: &str) -> (Node, RunningNode) {
    let data = DataDir::open(dir, true).unwrap();
    Node::start(data, Options::listening(addr)).await.unwrap()
}

/// A mesh of `n` nodes, all of them voters of a cluster that the first has made.
async fn cluster(n: usize) -> Vec<Member> {
    let mut members = vec![Member::new().await];
    for _ in 1..n {
        let newcomer = Member::new().await;
        let ticket = members[0].node.invite(newcomer.id()).await.unwrap();
        newcomer.node.join(ticket).await.unwrap();
        members.push(newcomer);
    }
    members[0].cluster().init().await.unwrap();
    for member in &members[1..] {
        hung(members[0].cluster().add(member.id(), Seat::Voter)).await.unwrap();
    }
    members
}

/// Which member leads the log, once one does.
async fn leader(members: &[Member]) -> usize {
    hung(async {
        loop {
            for (n, member) in members.iter().enumerate() {
                let up = member.running.is_some();
                if up && member.cluster().status().await.unwrap().role == Role::Leader {
                    return n;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

async fn hung<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(HUNG, wait).await.expect("the test hung")
}

fn refused<T: std::fmt::Debug>(result: Result<T, ClusterError>) -> Refusal {
    match result {
        Err(ClusterError::Refused(Error::Refused(refusal))) => refusal,
        other => panic!("not refused: {other:?}"),
    }
}

fn previous(revision: u64) -> Given {
    Given { previous: Some(revision), ..Given::default() }
}

/// The next change of a key's value.
async fn next_put(watch: &mut ClusterWatch) -> (u64, String) {
    loop {
        match hung(watch.next()).await.unwrap() {
            WatchUpdate::Changed { revision, changes } => {
                let [Happened::Put(item)] = &changes[..] else { panic!("{changes:?}") };
                return (revision, String::from_utf8_lossy(&item.value).into_owned());
            }
            WatchUpdate::Began { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn any_node_answers_for_the_registry() {
    let members = cluster(3).await;
    let [a, b, c] = [0, 1, 2].map(|n| members[n].cluster());
    let first = hung(b.put("k", "1", Given::default())).await.unwrap();
    assert_eq!(first.version, 1);
    for cluster in [&a, &b, &c] {
        for read in [Read::Linearizable, Read::ByLease] {
            let (revision, item) = hung(cluster.get("k", read)).await.unwrap();
            let item = item.unwrap();
            assert_eq!((&item.value[..], item.mod_revision), (&b"1"[..], first.revision));
            assert!(revision >= first.revision);
        }
    }
    let second = hung(c.put("k", "2", previous(first.revision))).await.unwrap();
    let stale = refused(hung(a.put("k", "3", previous(first.revision))).await);
    assert_eq!(stale, Refusal::StaleRevision { current: second.revision });
    assert!(refused(hung(a.put("k", "3", previous(0))).await) == stale, "it is there");

    let is = |value: &'static str| Compare {
        key: "k".into(),
        subject: Subject::Value(value.into()),
        relation: Relation::Equal,
    };
    let put = |key: &'static str| Op::Put { key: key.into(), value: "x".into(), lease: None };
    let txn = Txn { compare: vec![is("2")], then: vec![put("l"), put("m")], ..Txn::default() };
    assert!(hung(b.txn(txn.clone())).await.unwrap().held);
    let done = hung(b.txn(Txn { compare: vec![is("1")], ..txn })).await.unwrap();
    assert!(!done.held && done.outcomes.is_empty());
    let page =
        hung(c.list(List { limit: 2, ..List::default() }, Read::Linearizable)).await.unwrap();
    let keys: Vec<_> = page.items.iter().map(|item| item.key.clone()).collect();
    assert_eq!((keys, page.more), (vec!["k".into(), "l".into()], true));
    assert!(hung(a.delete("k", previous(second.revision))).await.unwrap().existed);
    assert!(!hung(a.delete("k", Given::default())).await.unwrap().existed);
}

#[tokio::test]
async fn a_watch_goes_on_across_a_failover() {
    let mut members = cluster(3).await;
    let leads = leader(&members).await;
    let (watcher, writer) = ((leads + 1) % 3, (leads + 2) % 3);
    let mut watch = members[watcher].cluster().watch(Target::Key("k".into()), None).await.unwrap();
    assert!(matches!(hung(watch.next()).await.unwrap(), WatchUpdate::Began { .. }));
    let writer = members[writer].cluster();
    let mut written = Vec::new();
    for n in 0..10 {
        if n == 5 {
            members[leads].stop().await;
        }
        let value = n.to_string();
        let done = hung(writer.put("k", value.clone(), Given::default())).await.unwrap();
        written.push((done.revision, value));
    }
    for put in &written {
        assert_eq!(&next_put(&mut watch).await, put, "in order, no gap, none twice");
    }
    assert_ne!(leader(&members).await, leads);
    let revision = written[3].0;
    let target = Target::Key("k".into());
    let mut again = members[watcher].cluster().watch(target, Some(revision)).await.unwrap();
    for put in &written[3..] {
        assert_eq!(&next_put(&mut again).await, put, "from a revision before the failover on");
    }
}

#[tokio::test]
async fn a_lock_is_handed_on_with_a_greater_token() {
    let members = cluster(3).await;
    let [a, b, _] = [0, 1, 2].map(|n| members[n].cluster());
    let first = hung(a.lock("l", TTL, HUNG)).await.unwrap();
    assert_eq!(first.check(), Ok(()));
    let fenced = |fence| Given { fence: Some(fence), ..Given::default() };
    hung(b.put("k", "first", fenced(first.fence()))).await.unwrap();
    let in_vain = hung(b.lock("l", TTL, Duration::from_millis(50))).await;
    assert!(matches!(in_vain, Err(ClusterError::TimedOut)), "{in_vain:?}");
    let view = hung(a.name("l", Read::Linearizable)).await.unwrap().unwrap();
    assert!(view.queue.is_empty(), "who gave up waits no longer");

    let waiting = tokio::spawn({
        let b = b.clone();
        async move { b.lock("l", TTL, HUNG).await }
    });
    hung(async {
        while hung(a.name("l", Read::Linearizable)).await.unwrap().unwrap().queue.is_empty() {}
    })
    .await;
    let (old, token) = (first.fence(), first.token());
    hung(first.release()).await.unwrap();
    let second = hung(waiting).await.unwrap().unwrap();
    assert!(second.token() > token);
    let stale = refused(hung(a.put("k", "late", fenced(old))).await);
    assert_eq!(stale, Refusal::StaleToken { current: Some(second.token()) });
    hung(a.put("k", "second", fenced(second.fence()))).await.unwrap();
}

#[tokio::test]
async fn who_is_cut_off_knows_before_another_holds_the_name() {
    let members = cluster(3).await;
    let leads = leader(&members).await;
    let (alone, other) = ((leads + 1) % 3, (leads + 2) % 3);
    let guard = hung(members[alone].cluster().lock("l", TTL, HUNG)).await.unwrap();
    let candidacy = hung(members[other].cluster().campaign(Campaign::new("l"))).await.unwrap();
    for n in [leads, other] {
        members[alone].node.block(members[n].id(), true).await.unwrap();
        members[n].node.block(members[alone].id(), true).await.unwrap();
    }
    let next = hung(candidacy.wait_for_leadership(HUNG)).await.unwrap();
    assert_eq!(guard.check(), Err(Loss::Expired), "by its own clock, and nobody told it");
    assert_eq!(hung(guard.lost()).await, Loss::Expired);
    assert!(next.token() > guard.token());

    // The node is without a quorum, and says so in time.
    let hurried = members[alone].node.cluster().with_timeout(Duration::from_millis(300));
    let answer = hung(hurried.put("k", "v", Given::default())).await;
    let Err(ClusterError::Refused(Error::Unavailable { reachable, unreachable, .. })) = answer
    else {
        panic!("{answer:?}")
    };
    assert_eq!(reachable, [members[alone].id()]);
    assert_eq!(unreachable.len(), 2);
}

#[tokio::test]
async fn a_holder_that_is_asked_to_steps_down_and_is_followed() {
    let members = cluster(3).await;
    let [a, b, c] = [0, 1, 2].map(|n| members[n].cluster());
    let held = hung(a.campaign(Campaign::new("n")).await.unwrap().wait_for_leadership(HUNG));
    let held = held.await.unwrap();
    let strong = Campaign { priority: 9, ..Campaign::new("n") };
    let (strong, weak) = (b.campaign(strong).await.unwrap(), c.campaign(Campaign::new("n")).await);
    let weak = weak.unwrap();
    assert!(!strong.is_held() && !weak.is_held());
    let mut observer = b.observe("n");
    assert_eq!(hung(observer.next()).await.unwrap().unwrap().token, held.token());
    let stepping = tokio::spawn({
        let (b, to) = (b.clone(), members[2].id());
        async move { b.step_down("n", Some(to), HUNG).await }
    });
    assert_eq!(hung(held.lost()).await, Loss::SteppedDown);
    let token = held.token();
    hung(held.release()).await.unwrap();
    let done = hung(stepping).await.unwrap().unwrap();
    let next = done.next.unwrap();
    assert_eq!((done.token, next.node), (token, members[2].id()), "the one that was named");
    let weak = hung(weak.wait_for_leadership(HUNG)).await.unwrap();
    assert_eq!(weak.token(), next.token);
    loop {
        let holder = hung(observer.next()).await.unwrap();
        if holder.is_some_and(|holder| holder.token == next.token) {
            break;
        }
    }
    let waited = hung(a.wait_for_leader("n", HUNG)).await.unwrap();
    assert_eq!(waited.token, next.token);
    let nobody = hung(a.wait_for_leader("other", Duration::from_millis(50))).await;
    assert!(matches!(nobody, Err(ClusterError::TimedOut)));
}

/// Whoever is asked to step down has the time from when it was asked, and no more, though it had not
/// looked yet whether it holds the name.
#[tokio::test]
async fn who_is_asked_to_step_down_gains_no_time_by_renewing() {
    let members = cluster(1).await;
    let cluster = members[0].cluster();
    let alive = Campaign { heartbeat: Some(HUNG), ttl: HUNG, ..Campaign::new("n") };
    let candidacy = hung(cluster.campaign(alive)).await.unwrap();
    assert!(candidacy.is_held());
    let in_vain = hung(cluster.step_down("n", None, Duration::from_millis(50))).await;
    assert!(matches!(in_vain, Err(ClusterError::TimedOut)), "{in_vain:?}");
    let asked = Instant::now();
    let guard = hung(candidacy.wait_for_leadership(HUNG)).await.unwrap();
    assert!(guard.valid_until() < asked + HUNG * 9 / 10);
    assert_eq!(hung(guard.lost()).await, Loss::SteppedDown);
}

/// A witness has nothing to watch, and its own clients wait and look on all the same.
#[tokio::test]
async fn on_a_witness_names_are_waited_for_too() {
    let mut members = cluster(1).await;
    let witness = Member::new().await;
    let ticket = members[0].node.invite(witness.id()).await.unwrap();
    witness.node.join(ticket).await.unwrap();
    hung(members[0].cluster().add(witness.id(), Seat::Witness)).await.unwrap();
    members.push(witness);
    let [ada, witness] = [0, 1].map(|n| members[n].cluster());
    let held = hung(ada.lock("l", TTL, HUNG)).await.unwrap();
    let seen = hung(witness.wait_for_leader("l", HUNG)).await.unwrap();
    assert_eq!(seen.token, held.token());
    let waiting = hung(witness.campaign(Campaign::new("l"))).await.unwrap();
    let waiting = tokio::spawn(waiting.wait_for_leadership(HUNG));
    let before = ada.status().await.unwrap().commit;
    for _ in 0..100 {
        hung(witness.get("k", Read::Linearizable)).await.unwrap();
    }
    let written = ada.status().await.unwrap().commit - before;
    assert!(written < 50, "waiting wrote {written} entries in the time of a hundred reads");
    let token = held.token();
    hung(held.release()).await.unwrap();
    assert!(hung(waiting).await.unwrap().unwrap().token() > token);
}

#[tokio::test]
async fn after_a_restart_of_all_nothing_is_lost_and_tokens_go_on() {
    let mut members = cluster(3).await;
    let guard = hung(members[1].cluster().lock("l", TTL, HUNG)).await.unwrap();
    let token = guard.token();
    let done = hung(members[2].cluster().put("k", "kept", Given::default())).await.unwrap();
    for member in &mut members {
        member.stop().await;
    }
    drop(guard);
    for member in &mut members {
        member.restart().await;
    }
    let cluster = members[0].cluster();
    let (revision, item) = hung(cluster.get("k", Read::Linearizable)).await.unwrap();
    assert_eq!(item.map(|item| item.mod_revision), Some(done.revision));
    assert!(revision >= done.revision);
    // The old holder has gone with its node; its lease ends by the log's clock.
    let next = hung(cluster.lock("l", TTL, HUNG)).await.unwrap();
    assert!(next.token() > token, "{} after {token}", next.token());
    for member in &members {
        let epoch = member.cluster().status().await.unwrap().ballot.number;
        assert!(epoch > 1, "a new leader, and a new epoch");
    }
}

/// Makes the directory `to` what `from` is, file by file, as a backup program does.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let beside = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &beside),
            false => drop(std::fs::copy(&path, &beside).unwrap()),
        }
    }
}

/// Waits until that is why a node takes no part, or until it does.
async fn stands_aside(member: &Member, awaited: Option<Standing>) {
    hung(async {
        while member.cluster().status().await.unwrap().stands_aside != awaited {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_restored_voter_stands_aside_until_it_is_removed_and_added_again() {
    let mut members = cluster(3).await;
    let backup = tempfile::tempdir().unwrap();
    members[2].stop().await;
    copy(members[2].dir.path(), backup.path());
    members[2].restart().await;
    hung(members[2].cluster().put("k", "forgotten", Given::default())).await.unwrap();
    members[2].stop().await;
    std::fs::remove_dir_all(members[2].dir.path()).unwrap();
    copy(backup.path(), members[2].dir.path());

    members[2].restart().await;
    stands_aside(&members[2], Some(Standing::Member)).await;
    let aside = members[2].cluster();
    for answer in [
        hung(aside.put("k", "old", Given::default())).await.map(drop),
        hung(aside.get("k", Read::Local)).await.map(drop),
        hung(aside.init()).await.map(drop),
    ] {
        assert!(matches!(answer, Err(ClusterError::Refused(Error::OldCopy))), "{answer:?}");
    }
    let (one, id) = (members[0].cluster(), members[2].id());
    hung(one.put("k", "kept", Given::default())).await.unwrap();
    let status = aside.status().await.unwrap();
    assert_eq!((status.applied, status.leader), (0, None), "it neither votes nor follows");

    // That the stores are found equal says nothing of the journal.
    hung(members[2].node.writable()).await.unwrap();
    members[2].stop().await;
    trust_log(members[2].dir.path()).unwrap();
    members[2].restart().await;
    stands_aside(&members[2], Some(Standing::Member)).await;

    hung(one.remove(id)).await.unwrap();
    stands_aside(&members[2], Some(Standing::Removed)).await;
    hung(one.add(id, Seat::Voter)).await.unwrap();
    stands_aside(&members[2], None).await;
    let get = members[2].cluster();
    let (_, item) = hung(get.get("k", Read::Linearizable)).await.unwrap();
    assert_eq!(item.unwrap().value, "kept");
    members[2].stop().await;
    members[2].restart().await;
    assert_eq!(members[2].cluster().status().await.unwrap().stands_aside, None);
    // It votes: the cluster goes on with it and one other.
    members[1].stop().await;
    hung(members[2].cluster().put("k", "new", Given::default())).await.unwrap();
}

/// Starts a node whose journal has short segments, and whose snapshots are frequent.
async fn start_tidy(dir: &Path) -> (Node, RunningNode) {
    let mut data = DataDir::open(dir, true).unwrap();
    let disk = Directory::new(&dir.join(JOURNAL_DIR));
    data.journal = Journal::with_segments(disk, 32 << 10).unwrap();
    let config = Config { compact_entries: 64, keep_entries: 16, ..Config::default() };
    let options = Options { cluster: config, ..Options::listening("127.0.0.1:0") };
    Node::start(data, options).await.unwrap()
}

fn segments(dir: &Path) -> Vec<OsString> {
    let names = std::fs::read_dir(dir.join(JOURNAL_DIR)).unwrap();
    let mut names: Vec<OsString> = names.map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_a_snapshot_covers_goes_from_the_journal_and_nothing_else() {
    const KEYS: usize = 8;
    let dir = tempfile::tempdir().unwrap();
    let (node, running) = start_tidy(dir.path()).await;
    let cluster = node.cluster();
    cluster.init().await.unwrap();
    let first = segments(dir.path());
    let mut last = 0;
    for n in 0..1_000 {
        let value = vec![n as u8; 1_000];
        let put = cluster.put(format!("k{}", n % KEYS), value, Given::default());
        last = hung(put).await.unwrap().revision;
    }
    let status = cluster.status().await.unwrap();
    assert!(status.counters.compactions >= 10, "{}", status.counters.compactions);
    let kept = segments(dir.path());
    assert_eq!(first.len(), 1);
    assert!(!kept.contains(&first[0]), "{kept:?}");
    // The history in a snapshot is longer than a segment, so that each has one of its own.
    assert!(kept.len() <= 4, "the last snapshot, and what came since: {kept:?}");
    running.stop().await.unwrap();

    let (node, running) = start_tidy(dir.path()).await;
    let cluster = node.cluster().with_timeout(HUNG);
    for n in 1_000 - KEYS..1_000 {
        let get = cluster.get(format!("k{}", n % KEYS), Read::Linearizable);
        let (revision, item) = hung(get).await.unwrap();
        assert!(revision >= last);
        assert_eq!(item.map(|item| item.value), Some(vec![n as u8; 1_000].into()));
    }
    let written = hung(cluster.put("k", "after", Given::default())).await.unwrap();
    assert!(written.revision > last);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_node_without_a_cluster_says_so() {
    let member = Member::new().await;
    let answer = hung(member.cluster().get("k", Read::Local)).await;
    assert!(matches!(answer, Err(ClusterError::Refused(Error::NoCluster))), "{answer:?}");
    let id = hung(member.cluster().init()).await.unwrap();
    assert_eq!(member.cluster().status().await.unwrap().cluster, Some(id));
    let again = hung(member.cluster().init()).await;
    assert!(matches!(again, Err(ClusterError::Refused(Error::InCluster(found))) if found == id));
}

/// Writes down what it is told.
struct Diary {
    lines: mpsc::UnboundedSender<String>,
    refuses: Arc<Mutex<bool>>,
}

impl Diary {
    fn new() -> (Diary, mpsc::UnboundedReceiver<String>) {
        let (lines, read) = mpsc::unbounded_channel();
        (Diary { lines, refuses: Arc::default() }, read)
    }
}

impl Application for Diary {
    async fn became_active(&self, _: u64) -> HookResult {
        if *self.refuses.lock().unwrap() {
            return Err("not now".into());
        }
        self.lines.send("active".into()).unwrap();
        Ok(())
    }
    async fn became_passive(&self, _: u64) -> HookResult {
        self.lines.send("passive".into()).unwrap();
        Ok(())
    }
    fn halt(&self, _: u64) {
        self.lines.send("halted".into()).unwrap();
    }
}

#[tokio::test]
async fn an_application_is_active_on_one_node() {
    let members = cluster(3).await;
    let campaign = || Campaign { ttl: TTL, ..Campaign::new("app") };
    let run = |cluster: Cluster, diary: Diary, stop: CancellationToken| {
        tokio::spawn(
            async move { cluster.run(campaign(), Timeouts::default(), &diary, stop).await },
        )
    };
    let (stop, other_stop) = (CancellationToken::new(), CancellationToken::new());
    let (diary, mut lines) = Diary::new();
    let refuses = Arc::clone(&diary.refuses);
    let one = run(members[0].cluster(), diary, stop.clone());
    assert_eq!(hung(lines.recv()).await.unwrap(), "active");
    let (diary, mut other_lines) = Diary::new();
    let other = run(members[1].cluster(), diary, other_stop.clone());
    hung(async {
        let cluster = members[2].cluster();
        while cluster.name("app", Read::Linearizable).await.unwrap().unwrap().queue.is_empty() {}
    })
    .await;
    // This one would fail if it were asked again.
    *refuses.lock().unwrap() = true;
    hung(members[2].cluster().step_down("app", None, HUNG)).await.unwrap();
    assert_eq!(hung(lines.recv()).await.unwrap(), "passive");
    assert_eq!(hung(other_lines.recv()).await.unwrap(), "active");
    other_stop.cancel();
    assert_eq!(hung(other_lines.recv()).await.unwrap(), "passive");
    hung(other).await.unwrap().unwrap();
    // What cannot become active becomes passive, and gives the name back.
    assert_eq!(hung(lines.recv()).await.unwrap(), "passive");
    stop.cancel();
    hung(one).await.unwrap().unwrap();
    let view = hung(members[2].cluster().name("app", Read::Linearizable)).await.unwrap();
    assert!(view.is_none(), "nobody holds it, nobody waits: {view:?}");
}
