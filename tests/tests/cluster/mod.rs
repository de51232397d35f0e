//! A cluster of whole nodes on simulated sockets: cut, healed, and without power.

use std::time::Duration;

use quorate_runtime_tokio::node::Node;
use quorate_runtime_tokio::node::cluster::{
    Cluster, ClusterError, ClusterWatch, Error, Fence, Given, Happened, Read, Refusal, Role, Seat,
    Target, WatchUpdate,
};
use quorate_runtime_tokio::node::leadership::{Campaign, Loss};

use crate::mesh::Mesh;

/// More simulated time than anything here takes.
const LONG: Duration = Duration::from_secs(60);

const TTL: Duration = Duration::from_secs(2);

const NAMES: [&str; 3] = ["a", "b", "c"];

fn cluster(node: &Node) -> Cluster {
    node.cluster().with_timeout(LONG)
}

/// A mesh of three, all of them voters.
fn three(seed: u64) -> Mesh {
    let mut mesh = Mesh::new(seed, &NAMES);
    mesh.join_all();
    let nodes = mesh.nodes();
    mesh.script(async move {
        cluster(&nodes[0]).init().await?;
        for node in &nodes[1..] {
            cluster(&nodes[0]).add(node.id(), Seat::Voter).await?;
            let id = cluster(node).status().await?.cluster;
            assert!(id.is_some(), "who votes knows of it");
        }
        Ok(())
    });
    mesh
}

/// The node that leads, once one of them does.
async fn leader(nodes: &[Node]) -> usize {
    loop {
        for (n, node) in nodes.iter().enumerate() {
            if cluster(node).status().await.is_ok_and(|status| status.role == Role::Leader) {
                return n;
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn under(fence: Fence) -> Given {
    Given { fence: Some(fence), ..Given::default() }
}

async fn next_value(watch: &mut ClusterWatch) -> (u64, String) {
    loop {
        match watch.next().await.expect("the node runs") {
            WatchUpdate::Changed { revision, changes } => {
                let [Happened::Put(item)] = &changes[..] else { panic!("{changes:?}") };
                return (revision, String::from_utf8_lossy(&item.value).into_owned());
            }
            WatchUpdate::Began { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_leader_that_is_cut_off_has_lost_what_it_held_before_another_holds_it() {
    let mut mesh = three(1);
    let nodes = mesh.nodes();
    mesh.script(async move {
        let leads = leader(&nodes).await;
        let others = [(leads + 1) % 3, (leads + 2) % 3];
        let [old, new] = [leads, others[0]].map(|n| cluster(&nodes[n]));
        let campaign = || Campaign { ttl: TTL, ..Campaign::new("n") };
        let guard = old.campaign(campaign()).await?.wait_for_leadership(LONG).await.expect("A");
        let waiting = new.campaign(campaign()).await?;
        let mut watch = old.watch(Target::Key("k".into()), None).await?;
        let first = old.put("k", "old", under(guard.fence())).await?;

        for other in others {
            turmoil::partition(NAMES[leads], NAMES[other]);
        }
        let next = waiting.wait_for_leadership(LONG).await.expect("B");
        assert_eq!(guard.check(), Err(Loss::Expired), "it knew by itself, and first");
        assert!(next.token() > guard.token());
        let second = new.put("k", "new", under(next.fence())).await?;
        let hurried = old.clone().with_timeout(Duration::from_millis(500));
        let answer = hurried.put("k", "late", under(guard.fence())).await;
        assert!(
            matches!(answer, Err(ClusterError::Refused(Error::Unavailable { .. }))),
            "{answer:?}"
        );

        for other in others {
            turmoil::repair(NAMES[leads], NAMES[other]);
        }
        let stale = old.put("k", "late", under(guard.fence())).await;
        let current = Some(next.token());
        assert_eq!(stale, Err(Error::Refused(Refusal::StaleToken { current }).into()));
        assert_eq!(next_value(&mut watch).await, (first.revision, "old".into()));
        assert_eq!(next_value(&mut watch).await, (second.revision, "new".into()));
        Ok(())
    });
}

#[test]
fn without_power_everywhere_nothing_acknowledged_is_lost() {
    let mut mesh = three(2);
    let nodes = mesh.nodes();
    let (tell, told) = std::sync::mpsc::channel();
    mesh.script(async move {
        let guard = cluster(&nodes[1]).lock("l", TTL, LONG).await?;
        let mut last = 0;
        for n in 0..20 {
            let at = &nodes[n % nodes.len()];
            last =
                cluster(at).put(format!("k{n}"), n.to_string(), Given::default()).await?.revision;
        }
        tell.send((guard.token(), last))?;
        Ok(())
    });
    let (token, last) = told.recv().expect("the script ended well");
    for round in 0..2 {
        NAMES.into_iter().for_each(|name| mesh.crash(name));
        NAMES.into_iter().for_each(|name| mesh.bounce(name));
        let nodes = mesh.nodes();
        mesh.script(async move {
            for n in 0..20 {
                let at = cluster(&nodes[(n + round) % nodes.len()]);
                let (revision, item) = at.get(format!("k{n}"), Read::Linearizable).await?;
                assert!(revision >= last, "{revision} after {last}");
                assert_eq!(item.map(|item| item.value), Some(n.to_string().into()));
            }
            let guard = cluster(&nodes[0]).lock("l", TTL, LONG).await?;
            assert!(guard.token() > token, "{} after {token}", guard.token());
            Ok(())
        });
    }
}
