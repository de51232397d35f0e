//! The node as a library: transactions, snapshots, watches, and two nodes over loopback.

use std::time::Duration;

use quorate_core::machine::NodeId;
use quorate_core::store::{Change, WriteError};
use quorate_core::watch::{MAX_PENDING, Pattern, WINDOW};
use quorate_runtime_tokio::journal::{Journal, Memory};
use quorate_runtime_tokio::node::data_dir::DataDir;
use quorate_runtime_tokio::node::read::{Keys, Value, VersionChange};
use quorate_runtime_tokio::node::watch::Update;
use quorate_runtime_tokio::node::{Node, NodeError, Options, RunningNode};
use quorate_runtime_tokio::storage::Storage;

/// Nothing here takes so long unless it hangs.
const HUNG: Duration = Duration::from_secs(60);

/// A node without a disk.
async fn node(seed: u8, options: Options) -> (Node, RunningNode) {
    Node::start(data(seed), options).await.unwrap()
}

fn data(seed: u8) -> DataDir {
    let storage = Storage::with_backend(redb::backends::InMemoryBackend::new()).unwrap();
    let journal = Journal::with_disk(Memory::default()).unwrap();
    DataDir { seed: [seed; 32], storage, journal, suspect: false, old_journal: None }
}

fn put(key: &'static str, value: &'static str) -> Change {
    Change::Put { key: key.into(), value: value.into() }
}

fn text(value: &str) -> Value {
    Value::Register(value.to_owned().into())
}

#[tokio::test]
async fn a_transaction_is_one_entry_and_its_last_word_on_a_key_is_read() {
    let (node, running) = node(1, Options::offline()).await;
    let add = |delta| Change::Add { key: "n".into(), delta };
    let changes = vec![put("a", "first"), add(2), put("b", "b"), put("a", "second"), add(5)];
    node.write(changes).await.unwrap();
    assert_eq!(node.get(b"a").await.unwrap().unwrap().value, text("second"));
    assert_eq!(node.get(b"n").await.unwrap().unwrap().value, Value::Counter(7));
    assert_eq!(node.status().await.unwrap().node.applied, 1);
    // All or nothing: the second change is refused, so the first has not happened.
    let refused = node.write(vec![put("c", "c"), Change::Delete { key: "none".into() }]).await;
    assert!(matches!(refused, Err(NodeError::Write(WriteError::NotFound { .. }))), "{refused:?}");
    assert_eq!(node.get(b"c").await.unwrap(), None);
    running.stop().await.unwrap();
    assert!(matches!(node.put(b"late", b"").await, Err(NodeError::Stopped)));
}

#[tokio::test]
async fn a_snapshot_stays_as_it_was_and_is_read_page_by_page() {
    let (node, _running) = node(1, Options::offline()).await;
    let puts = (0..700).map(|n| {
        let node = node.clone();
        async move { node.put(format!("k{n:03}").as_bytes(), b"old").await.unwrap() }
    });
    let mut tasks = tokio::task::JoinSet::new();
    puts.for_each(|put| drop(tasks.spawn(put)));
    tasks.join_all().await;
    let snapshot = node.snapshot().await.unwrap();
    node.put(b"k000", b"new").await.unwrap();
    node.delete(b"k350").await.unwrap();
    let keys =
        Keys { prefix: b"k".to_vec(), from: Some(b"k000".to_vec()), to: Some(b"k600".to_vec()) };
    let (mut found, mut after) = (Vec::new(), None::<Vec<u8>>);
    loop {
        let page = snapshot.page(&keys, after.as_deref()).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.key.clone());
        found.extend(page);
    }
    assert_eq!(found.len(), 600);
    assert!(found.is_sorted_by(|a, b| a.key < b.key));
    assert!(found.iter().all(|item| item.value == text("old")));
    let history = node.snapshot().await.unwrap().history(b"k000", 10).await.unwrap();
    let changes: Vec<_> = history.into_iter().map(|version| version.change).collect();
    assert_eq!(changes, [VersionChange::Put("old".into()), VersionChange::Put("new".into())]);
}

#[tokio::test]
async fn a_slow_watcher_is_told_that_it_fell_behind_and_begins_anew() {
    let (node, _running) = node(1, Options::offline()).await;
    let mut watcher = node.watch(Pattern::Prefix("n".into())).await.unwrap();
    assert_eq!(watcher.next().await.unwrap(), Update::Live);
    let writes = WINDOW + MAX_PENDING + 300;
    let add = |delta| Change::Add { key: "n".into(), delta };
    for _ in 0..writes {
        node.write(vec![add(1)]).await.unwrap();
    }
    let (mut seen, mut lagged) = (0, false);
    let last = loop {
        match watcher.next().await.unwrap() {
            Update::Changed { item: Some(item), .. } => {
                assert!(!lagged, "changes come after the state");
                seen += 1;
                assert_eq!(item.value, Value::Counter(seen), "no gap before it fell behind");
            }
            Update::Lagged => lagged = true,
            Update::Now(item) => break item.value,
            other => panic!("{other:?}"),
        }
    };
    // `Live` was not acknowledged yet either.
    assert!(lagged && seen >= WINDOW as i64 - 1, "{seen}");
    assert_eq!(last, Value::Counter(writes as i64));
    assert_eq!(watcher.next().await.unwrap(), Update::Live);
    node.write(vec![add(1)]).await.unwrap();
    assert!(matches!(watcher.next().await.unwrap(), Update::Changed { .. }));
}

#[tokio::test]
async fn two_nodes_join_write_and_sync() {
    let (ada, _one) = node(1, Options::listening("127.0.0.1:0")).await;
    let (ben, _two) = node(2, Options::listening("127.0.0.1:0")).await;
    let ticket = ada.invite(ben.id()).await.unwrap();
    assert_eq!(ada.invite(ben.id()).await.unwrap().founding, ticket.founding, "asked again");
    ben.join(ticket.clone()).await.unwrap();
    let mut watcher = ben.watch(Pattern::Key("k".into())).await.unwrap();
    ada.put(b"k", b"v").await.unwrap();
    let arrived = async {
        loop {
            if let Update::Changed { item: Some(item), .. } = watcher.next().await.unwrap() {
                return item.value;
            }
        }
    };
    assert_eq!(tokio::time::timeout(HUNG, arrived).await.unwrap(), text("v"));
    let synced = ben.sync(None, HUNG).await.unwrap();
    assert!(synced.iter().all(|one| one.in_sync) && synced.len() == 1, "{synced:?}");
    assert_eq!(ada.digest().await.unwrap(), ben.digest().await.unwrap());
    assert_eq!(ben.find(&ada.id().to_string()[..8]).await.unwrap(), [ada.id()]);
    let again = ben.join(ticket).await;
    assert!(matches!(again, Err(NodeError::Join(_))), "{again:?}");
}

#[tokio::test]
async fn where_a_removed_member_listened_is_forgotten_though_it_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let open = || DataDir { storage: Storage::open(dir.path()).unwrap(), ..data(3) };
    let listening = || Options::listening("127.0.0.1:0");
    let (ada, _one) = node(1, listening()).await;
    let (ben, two) = node(2, listening()).await;
    let (carl, three) = Node::start(open(), listening()).await.unwrap();
    ben.join(ada.invite(ben.id()).await.unwrap()).await.unwrap();
    until(&ada, |met| met.contains(&ben.id())).await;
    // The ticket, and so the first record that Carl keeps, names Ben.
    carl.join(ada.invite(carl.id()).await.unwrap()).await.unwrap();
    until(&ada, |met| met.contains(&carl.id())).await;
    two.stop().await.unwrap();
    ada.remove(ben.id()).await.unwrap();
    until(&ada, |met| !met.contains(&ben.id())).await;
    until(&carl, |met| !met.contains(&ben.id())).await;
    three.stop().await.unwrap();
    let (carl, _three) = Node::start(open(), Options::offline()).await.unwrap();
    until(&carl, |met| met.contains(&ada.id()) && !met.contains(&ben.id())).await;
}

/// Waits until the contacts that `node` tells, of which it is none itself, are as `wanted`.
async fn until(node: &Node, wanted: impl Fn(&[NodeId]) -> bool) {
    let waiting = async {
        loop {
            let (peers, _) = node.peers().await.unwrap();
            let met: Vec<NodeId> =
                peers.iter().filter(|peer| peer.address.is_some()).map(|peer| peer.node).collect();
            if wanted(&met) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(HUNG, waiting).await.expect("the contacts become so");
}

#[tokio::test]
async fn a_ticket_needs_an_address() {
    let (node, _running) = node(1, Options::offline()).await;
    let refused = node.invite(NodeId([9; 32])).await;
    assert!(matches!(refused, Err(NodeError::NoAddress)), "{refused:?}");
}
