//! Hosts and their disk: what leaves only when it is durable, and what comes back after the end.

mod support;

use std::fs;

use quorate_runtime_tokio::frame::Lane;
use quorate_runtime_tokio::host::{HostError, Settings};
use quorate_runtime_tokio::storage::{FILE_NAME, Storage, StorageError};
use support::{Command, Event, Gate, Node, hung, listening, memory};

fn persist(text: impl Into<String>) -> Command {
    Command::Persist(text.into())
}

#[tokio::test]
async fn a_restart_restores_the_records_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for round in 0..3 {
        let storage = Storage::open(dir.path()).unwrap();
        let mut node = Node::start(1, storage, Settings::default()).await;
        assert_eq!(node.event().await, Event::Started(all.len()));
        for n in 0..10 {
            node.command(persist(format!("{round}.{n}"))).await;
            all.push(format!("{round}.{n}"));
        }
        let records = node.handle.query(|toy, _| toy.records.clone()).await.unwrap();
        assert_eq!(records, all);
        let positions = node.handle.with_edge(|edge, _| edge.positions.clone()).await.unwrap();
        let expected: Vec<_> =
            (0..).zip(&all).map(|(at, text)| (Lane::Store, at, text.clone())).collect();
        assert_eq!(positions, expected, "the edge is told of restored and new ones alike");
        node.running.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_stop_makes_durable_what_was_persisted() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(1, Storage::open(dir.path()).unwrap(), Settings::default()).await;
    let many = (0..500).map(|n| persist(n.to_string())).collect();
    node.command(Command::Many(many)).await;
    // Taken in the order they were given, so the command before it has been.
    node.handle.with_edge(|_, _| ()).await.unwrap();
    node.running.stop().await.unwrap();
    let storage = Storage::open(dir.path()).unwrap();
    assert_eq!(storage.records().unwrap().count(), 500);
}

#[tokio::test]
async fn held_effects_leave_only_when_durable() {
    let gate = Gate::new();
    let mut a = Node::start(1, gate.storage(), listening()).await;
    let mut b = Node::start(2, memory(), Settings::default()).await;
    b.dial(a.addr(), Some(a.id)).await;
    a.until(Event::Up(b.id)).await;
    b.until(Event::Up(a.id)).await;

    let shut = gate.shut();
    a.command(Command::Many(vec![
        Command::Send(b.id, "before".into()),
        persist("vote"),
        Command::Send(b.id, "held".into()),
        Command::Emit("held".into()),
        Command::SendNow(b.id, "at once".into()),
        Command::EmitNow("at once".into()),
    ]))
    .await;
    let handle = a.handle.clone();
    let mut query = Box::pin(handle.query(|toy, _| toy.records.clone()));
    // `before` needs nothing durable, yet leaves in its turn, after what leaves at once.
    assert_eq!(b.event().await, Event::Received(a.id, "at once".into()));
    assert_eq!(b.event().await, Event::Received(a.id, "before".into()));
    assert!(answer_now(&mut query).await.is_none(), "asked, and not yet heard");
    let (seen, held) = (
        a.handle.with_edge(|edge, _| edge.seen.clone()).await.unwrap(),
        a.handle.metrics().await.unwrap().held,
    );
    assert!(!seen.contains(&Event::Told("held".into())));
    assert!(seen.contains(&Event::Told("at once".into())), "told with the disk shut");
    assert_eq!(held, 3, "a message, an event and an answer");
    assert!(answer_now(&mut query).await.is_none(), "an answer before its records");

    drop(shut);
    assert_eq!(b.event().await, Event::Received(a.id, "held".into()));
    a.until(Event::Told("held".into())).await;
    assert_eq!(hung(query).await.unwrap(), ["vote"]);
    assert_eq!(a.handle.with_edge(|edge, _| edge.logged).await.unwrap(), 1);
}

/// The future's answer if it has one already, after every other task had its turn.
async fn answer_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! {
        biased;
        answer = future => Some(answer),
        () = tokio::task::yield_now() => None,
    }
}

#[tokio::test]
async fn what_comes_during_a_commit_goes_into_the_next_one() {
    let gate = Gate::new();
    let node = Node::start(1, gate.storage(), Settings::default()).await;
    let shut = gate.shut();
    for n in 0..200 {
        node.command(persist(n.to_string())).await;
    }
    node.until_counted(|m| m.steps == 201).await;
    drop(shut);
    node.handle.query(|_, _| ()).await.unwrap();
    let metrics = node.handle.metrics().await.unwrap();
    assert_eq!(metrics.records, 200);
    assert!(metrics.commits <= 3, "{} commits", metrics.commits);
}

#[tokio::test]
async fn a_full_disk_stops_the_host_and_answers_nothing() {
    let gate = Gate::new();
    let mut node = Node::start(1, gate.storage(), Settings::default()).await;
    gate.fill();
    node.command(persist("too much")).await;
    let answer = node.handle.query(|toy, _| toy.records.len()).await;
    assert!(answer.is_err(), "an answer nobody can rely on: {answer:?}");
    let stopped = hung(node.running.stopped()).await;
    assert!(matches!(stopped, Err(HostError::Storage(StorageError::DiskFull(_)))), "{stopped:?}");
}

#[tokio::test]
async fn an_edge_reads_and_forgets_records() {
    let mut node = Node::start(1, memory(), Settings::default()).await;
    for text in ["zero", "one", "two"] {
        node.command(persist(text)).await;
    }
    node.handle.query(|_, _| ()).await.unwrap();
    node.handle.with_edge(|_, actions| actions.forget(1)).await.unwrap();
    // The forgetting is a commit of its own; one more record is durable only after it.
    node.command(persist("three")).await;
    node.handle.query(|_, _| ()).await.unwrap();
    let read = |bodies: Vec<Option<bytes::Bytes>>| {
        let text = |body: Option<bytes::Bytes>| match body {
            Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            None => "-".into(),
        };
        Command::Emit(bodies.into_iter().map(text).collect::<Vec<_>>().join(" "))
    };
    let ask =
        move |_: &mut support::Probe,
              actions: &mut quorate_runtime_tokio::edge::Actions<'_, support::Toy>| {
            actions.read(vec![2, 1, 0, 3, 99], read);
        };
    node.handle.with_edge(ask).await.unwrap();
    node.until(Event::Told("two - zero three -".into())).await;
}

/// Changes every copy of `text` in the log's file.
fn rot(dir: &std::path::Path, text: &str) {
    let path = dir.join(FILE_NAME);
    let mut bytes = fs::read(&path).unwrap();
    let mut found = 0;
    for at in 0..bytes.len() - text.len() {
        if bytes[at..].starts_with(text.as_bytes()) {
            bytes[at] ^= 1;
            found += 1;
        }
    }
    assert!(found > 0, "{text} is not in the file");
    fs::write(&path, bytes).unwrap();
}

fn three_records(dir: &std::path::Path) {
    let storage = Storage::open(dir).unwrap();
    let batch =
        [(0, "first record".into()), (1, "second record".into()), (2, "third record".into())];
    storage.append(&batch).unwrap();
}

#[tokio::test]
async fn rot_inside_the_log_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    three_records(dir.path());
    rot(dir.path(), "second record");
    let storage = Storage::open(dir.path()).unwrap();
    let failed = Node::try_start(1, storage, Settings::default()).await.unwrap_err();
    assert!(
        matches!(&failed, HostError::Storage(StorageError::Corrupted(report))
            if report.position == 1),
        "{failed:?}"
    );
    assert!(failed.to_string().contains("position 1"), "{failed}");
}

#[tokio::test]
async fn rot_at_the_logs_end_is_cut_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    three_records(dir.path());
    rot(dir.path(), "third record");
    let storage = Storage::open(dir.path()).unwrap();
    let mut node = Node::start(1, storage, Settings::default()).await;
    assert_eq!(node.event().await, Event::Corrupted(2));
    assert_eq!(node.event().await, Event::Started(2));
    node.command(persist("fourth record")).await;
    let positions = node.handle.query(|_, edge| edge.positions.clone()).await.unwrap();
    assert_eq!(
        positions.last(),
        Some(&(Lane::Store, 3, "fourth record".into())),
        "no position is used twice"
    );
    node.running.stop().await.unwrap();
    let storage = Storage::open(dir.path()).unwrap();
    assert!(storage.records().unwrap().all(|entry| entry.unwrap().1.is_ok()));
}

#[tokio::test]
async fn a_panic_of_the_machine_is_an_error_of_the_host() {
    let mut node = Node::start(1, memory(), Settings::default()).await;
    let run = node.handle.with_edge(|_, _| panic!("on purpose")).await;
    assert!(run.is_err());
    assert!(matches!(hung(node.running.stopped()).await, Err(HostError::Panicked(_))));
}
