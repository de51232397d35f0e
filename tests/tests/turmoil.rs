//! Whole nodes (host, TLS, log on a disk, every protocol) on simulated sockets that are cut and healed.
//!
//! turmoil runs each host on a runtime of its own whose clock only moves by steps, so a minute of
//! silence costs no time. What it cuts it throws away, TCP included, and never sends again: only the
//! hosts' own timeouts find out that a link is dead, which makes it a harder network than most.
//! Time here is simulated; keys are fixed, randomness and the wall clock are the system's. (Runs that
//! repeat bit by bit are the simulator's business; here it is the adapter that is tested.)

mod cluster;
mod mesh;

use std::time::Duration;

use mesh::{Mesh, converge, digests, fill, has, until};
use quorate_runtime_tokio::link::CloseReason;
use quorate_runtime_tokio::node::Node;

/// Long enough for every timeout of the links to have run out.
const LONG: Duration = Duration::from_secs(8);

#[test]
fn two_nodes_write_apart_and_converge() {
    let mut mesh = Mesh::new(1, &["a", "b"]);
    mesh.join_all();
    let nodes = mesh.nodes();
    mesh.script(async move {
        let [a, b] = &nodes[..] else { unreachable!("two nodes") };
        fill(a, "a-together", 3).await;
        fill(b, "b-together", 3).await;
        converge(&nodes).await;

        turmoil::partition("a", "b");
        fill(a, "a-apart", 5).await;
        fill(b, "b-apart", 5).await;
        a.put(b"contested", b"by a").await?;
        b.put(b"contested", b"by b").await?;
        a.add(b"count", 2).await?;
        b.add(b"count", 3).await?;
        tokio::time::sleep(LONG).await;
        let apart = digests(&nodes).await;
        assert_ne!(apart[0], apart[1], "nothing passes a cut");
        assert!(!has(a, "b-apart0").await && !has(b, "a-apart0").await);
        let closed = a.status().await?.host.closed;
        assert!(!closed.is_empty(), "a link that says nothing is given up: {closed:?}");

        turmoil::repair("a", "b");
        converge(&nodes).await;
        for node in &nodes {
            assert!(has(node, "a-apart4").await && has(node, "b-apart4").await);
            let count = node.get(b"count").await?.expect("both added to it");
            assert_eq!(count.value.to_string(), "5", "additions on both sides count");
            let contested = node.get(b"contested").await?.expect("both wrote it");
            assert!(contested.conflict, "neither had seen the other's");
        }
        Ok(())
    });
}

#[test]
fn three_nodes_one_of_them_cut_off() {
    let mut mesh = Mesh::new(2, &["a", "b", "c"]);
    mesh.join_all();
    let nodes = mesh.nodes();
    mesh.script(async move {
        let [a, b, c] = &nodes[..] else { unreachable!("three nodes") };
        converge(&nodes).await;
        turmoil::partition("c", "a");
        turmoil::partition("c", "b");
        fill(a, "majority", 20).await;
        fill(c, "minority", 20).await;
        converge(&nodes[..2]).await;
        tokio::time::sleep(LONG).await;
        assert!(has(b, "majority19").await && !has(b, "minority0").await);

        turmoil::repair("c", "b");
        // a and c still cannot meet: b passes on.
        converge(&nodes).await;
        assert!(has(a, "minority19").await && has(c, "majority19").await);
        Ok(())
    });
}

#[test]
fn a_cut_in_one_direction_heals_too() {
    let mut mesh = Mesh::new(3, &["a", "b"]);
    mesh.join_all();
    let nodes = mesh.nodes();
    mesh.script(async move {
        converge(&nodes).await;
        turmoil::partition_oneway("a", "b");
        fill(&nodes[0], "deaf", 5).await;
        fill(&nodes[1], "heard", 5).await;
        tokio::time::sleep(LONG).await;
        assert!(!has(&nodes[1], "deaf0").await);
        turmoil::repair_oneway("a", "b");
        converge(&nodes).await;
        Ok(())
    });
}

#[test]
fn a_node_that_crashes_in_a_sync_keeps_what_it_had() {
    // Some twenty pages, of which four are under way at a time.
    const BULK: usize = 600;
    let mut mesh = Mesh::new(4, &["a", "b", "c"]);
    mesh.join_all();
    let nodes = mesh.nodes();
    mesh.script(async move {
        let [a, b, c] = &nodes[..] else { unreachable!("three nodes") };
        fill(b, "acknowledged", 10).await;
        turmoil::partition("b", "a");
        turmoil::partition("b", "c");
        for n in 0..BULK {
            a.put(format!("bulk{n}").as_bytes(), &[7; 4_000]).await?;
        }
        tokio::time::sleep(LONG).await;
        converge(&[a.clone(), c.clone()]).await;
        turmoil::repair("b", "a");
        turmoil::repair("b", "c");
        until(async || has(b, "bulk0").await).await;
        assert!(!has(b, &format!("bulk{}", BULK - 1)).await, "the sync is under way");
        Ok(())
    });
    mesh.crash("b");
    let a = mesh.node("a");
    mesh.script(async move {
        fill(&a, "meanwhile", 10).await;
        tokio::time::sleep(LONG).await;
        Ok(())
    });
    mesh.bounce("b");
    let (b, nodes) = (mesh.node("b"), mesh.nodes());
    mesh.script(async move {
        assert!(has(&b, "bulk0").await, "what was read before the crash was durable");
        for n in 0..10 {
            assert!(has(&b, &format!("acknowledged{n}")).await, "{n} was acknowledged");
        }
        fill(&b, "after", 1).await;
        converge(&nodes).await;
        for node in &nodes {
            assert!(has(node, &format!("bulk{}", BULK - 1)).await && has(node, "after0").await);
            assert!(has(node, "meanwhile9").await);
            assert!(node.status().await?.forks.is_empty(), "a restart forks no chain");
        }
        Ok(())
    });
}

#[test]
fn a_crowd_that_says_nothing_keeps_nobody_out() {
    let mut mesh = Mesh::new(5, &["a", "b"]);
    for n in 0..8 {
        mesh.crowd(&format!("crowd{n}"), "a", 16);
    }
    let a = mesh.node("a");
    mesh.script(async move {
        // Twice as many as fit: all of them have come.
        until(async || closed(&a, CloseReason::TooManyHandshakes).await == 64).await;
        assert_eq!(closed(&a, CloseReason::HandshakeTimeout).await, 0, "each waits as yet");
        Ok(())
    });
    let (a, b) = (mesh.node("a"), mesh.node("b"));
    mesh.script(async move {
        b.join(a.invite(b.id()).await?).await?;
        converge(&[a.clone(), b.clone()]).await;
        assert_eq!(closed(&a, CloseReason::TooManyHandshakes).await, 65, "one gave way to it");
        assert_eq!(closed(&b, CloseReason::PeerClosed).await, 0, "and let it stay");
        Ok(())
    });
}

async fn closed(node: &Node, reason: CloseReason) -> u64 {
    let status = node.status().await.expect("the node runs");
    status.host.closed.get(&reason).copied().unwrap_or(0)
}
