//! Hosts with a journal beside their log: what waits for which, and what comes back.

mod support;

use quorate_runtime_tokio::frame::Lane;
use quorate_runtime_tokio::host::{HostError, Settings};
use quorate_runtime_tokio::journal::{Journal, SEGMENT_BYTES};
use quorate_runtime_tokio::storage::{Storage, StorageError};
use support::{Command, Event, Gate, Node, hung, listening, memory};

fn persist(text: impl Into<String>) -> Command {
    Command::Persist(text.into())
}

fn emit(text: &str) -> Command {
    Command::Emit(text.into())
}

fn told(text: &str) -> Event {
    Event::Told(text.into())
}

async fn told_so_far(node: &Node) -> Vec<String> {
    let seen = node.handle.with_edge(|edge, _| edge.seen.clone()).await.unwrap();
    let text = |event| if let Event::Told(text) = event { Some(text) } else { None };
    seen.into_iter().filter_map(text).collect()
}

#[tokio::test]
async fn each_lane_comes_back_in_order_the_logs_first() {
    let dir = tempfile::tempdir().unwrap();
    let open =
        || (Storage::open(dir.path()).unwrap(), Journal::open(&dir.path().join("j")).unwrap());
    let (storage, journal) = open();
    let node = Node::with_journal(1, storage, Some(journal), Settings::default()).await.unwrap();
    let order = ["journal 0", "a", "journal 1", "b", "c", "journal 2"];
    node.command(Command::Many(order.map(persist).into())).await;
    node.handle.query(|_, _| ()).await.unwrap();
    let metrics = node.handle.metrics().await.unwrap();
    assert_eq!((metrics.records, metrics.journaled), (3, 3));
    node.running.stop().await.unwrap();

    let (storage, journal) = open();
    let node = Node::with_journal(1, storage, Some(journal), Settings::default()).await.unwrap();
    let records = node.handle.query(|toy, _| toy.records.clone()).await.unwrap();
    assert_eq!(records, ["a", "b", "c", "journal 0", "journal 1", "journal 2"]);
    node.command(persist("journal 3")).await;
    let positions = node.handle.query(|_, edge| edge.positions.clone()).await.unwrap();
    let expected = [
        (Lane::Store, 0, "a"),
        (Lane::Store, 1, "b"),
        (Lane::Store, 2, "c"),
        (Lane::Journal, 0, "journal 0"),
        (Lane::Journal, 1, "journal 1"),
        (Lane::Journal, 2, "journal 2"),
        (Lane::Journal, 3, "journal 3"),
    ];
    assert_eq!(positions, expected.map(|(lane, at, text)| (lane, at, text.to_owned())));
}

#[tokio::test]
async fn the_log_holds_up_nothing_of_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new();
    let journal = Journal::open(dir.path()).unwrap();
    let mut a = Node::with_journal(1, gate.storage(), Some(journal), listening()).await.unwrap();
    let mut b = Node::start(2, memory(), Settings::default()).await;
    b.dial(a.addr(), Some(a.id)).await;
    a.until(Event::Up(b.id)).await;
    b.until(Event::Up(a.id)).await;

    let shut = gate.shut();
    a.command(Command::Many(vec![
        persist("entry"),
        Command::Send(b.id, "after the entry".into()),
        emit("after the entry"),
        persist("journal: vote"),
        Command::Send(b.id, "journal: after the vote".into()),
        emit("journal: after the vote"),
    ]))
    .await;
    a.until(told("journal: after the vote")).await;
    assert_eq!(b.event().await, Event::Received(a.id, "journal: after the vote".into()));
    assert_eq!(told_so_far(&a).await, ["journal: after the vote"]);
    let metrics = a.handle.metrics().await.unwrap();
    assert_eq!((metrics.groups, metrics.held), (1, 2), "a message and an event wait for the log");

    drop(shut);
    assert_eq!(b.event().await, Event::Received(a.id, "after the entry".into()));
    a.until(told("after the entry")).await;
}

#[tokio::test]
async fn what_is_of_the_log_waits_for_both() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new();
    let journal = gate.journal(dir.path());
    let mut node =
        Node::with_journal(1, memory(), Some(journal), Settings::default()).await.unwrap();
    let shut = gate.shut();
    let commands =
        [persist("entry"), emit("both"), persist("journal: vote"), emit("journal: vote")];
    node.command(Command::Many(commands.into())).await;
    // Rests on the entry alone, which becomes durable.
    node.until(told("both")).await;
    let commands = vec![emit("now both"), emit("journal: in order")];
    node.command(Command::Many(commands)).await;
    node.until_counted(|metrics| metrics.steps == 3 && metrics.commits == 1).await;
    assert_eq!(told_so_far(&node).await, ["both"], "the others wait for the vote");
    drop(shut);
    node.handle.query(|_, _| ()).await.unwrap();
    let all = ["both", "journal: vote", "journal: in order", "now both"];
    assert_eq!(told_so_far(&node).await, all);
}

#[tokio::test]
async fn the_journal_is_trimmed_when_the_edge_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::open(dir.path()).unwrap();
    let node = Node::with_journal(1, memory(), Some(journal), Settings::default()).await.unwrap();
    let large = "x".repeat(SEGMENT_BYTES as usize);
    for n in 0..3 {
        node.command(persist(format!("journal {n} {large}"))).await;
        node.handle.query(|_, _| ()).await.unwrap();
    }
    let files = || std::fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files(), 3);
    node.handle.with_edge(|_, actions| actions.trim(2)).await.unwrap();
    node.command(persist("journal: after")).await;
    node.handle.query(|_, _| ()).await.unwrap();
    node.running.stop().await.unwrap();
    assert_eq!(files(), 2);
    let journal = Journal::open(dir.path()).unwrap();
    let positions: Vec<_> = journal.records().map(|found| found.unwrap().0).collect();
    assert_eq!(positions, [2, 3]);
}

#[tokio::test]
async fn a_full_journal_stops_the_host_and_answers_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let gate = Gate::new();
    let journal = gate.journal(dir.path());
    let mut node =
        Node::with_journal(1, memory(), Some(journal), Settings::default()).await.unwrap();
    gate.fill();
    let commands = vec![persist("journal: too much"), emit("journal: not to be told")];
    node.command(Command::Many(commands)).await;
    let stopped = hung(node.running.stopped()).await;
    assert!(matches!(stopped, Err(HostError::Storage(StorageError::DiskFull(_)))), "{stopped:?}");
    assert_eq!(node.event().await, Event::Started(0));
    assert!(node.handle.is_closed());
}

#[tokio::test]
async fn a_damaged_journal_keeps_a_node_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path()).unwrap();
    for position in 0..3 {
        journal.append(&[(position, format!("journal: vote {position}").into())]).unwrap();
    }
    drop(journal);
    let file = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.windows(6).position(|six| six == b"vote 1").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let refused = Journal::open(dir.path()).unwrap_err();
    assert!(matches!(refused, StorageError::Journal { position: 1, .. }), "{refused}");
    let name = file.display().to_string();
    assert!(refused.to_string().contains(&name), "{refused}");
}
