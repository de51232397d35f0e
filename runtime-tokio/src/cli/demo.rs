//! `quorate demo`: three nodes on this machine, cut apart and healed, with their story told.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use quorate_runtime_tokio::Node;
use quorate_runtime_tokio::node::data_dir::DataDir;
use quorate_runtime_tokio::node::read::Item;
use quorate_runtime_tokio::node::{NodeError, Options, RunningNode};
use serde_json::json;

use crate::control::execute::{data_dir_failure, node_failure};
use crate::control::protocol::{Code, Failure};

/// How long anything in the demo may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often the demo looks whether it has come.
const LOOK: Duration = Duration::from_millis(20);

const NAMES: [&str; 3] = ["Ada", "Ben", "Cai"];

/// Three nodes and the directory they live in.
struct Mesh {
    nodes: Vec<Node>,
    running: Vec<RunningNode>,
    story: Story,
    _home: tempfile::TempDir,
}

/// How the story is told: in words, or as a JSON document for each step.
#[derive(Clone, Copy)]
struct Story {
    json: bool,
}

impl Story {
    fn say(self, step: &str, words: &str) {
        self.show(json!({ "step": step }), words);
    }

    fn show(self, document: serde_json::Value, words: &str) {
        let line = if self.json { document.to_string() } else { words.to_owned() };
        // Whoever reads may have gone; the story is told to its end.
        let _ = writeln!(io::stdout(), "{line}");
    }
}

pub(super) async fn run(json: bool) -> Result<(), Failure> {
    let story = Story { json };
    story
        .say("start", "Three nodes start on this machine, each with its own key, disk and port.\n");
    let mesh = Mesh::start(story).await.map_err(whole_failure)?;
    let told = mesh.tell().await.map_err(node_failure);
    for running in mesh.running {
        let stopped = running.stop().await;
        stopped.map_err(|error| node_failure(NodeError::Host(error)))?;
    }
    if told? {
        Ok(())
    } else {
        Err(Failure::new(Code::Failed, "the nodes did not come to agree in time"))
    }
}

/// Why the nodes did not start.
enum NoStart {
    Home(std::io::Error),
    Data(quorate_runtime_tokio::node::data_dir::DataDirError),
    Node(NodeError),
}

fn whole_failure(error: NoStart) -> Failure {
    match error {
        NoStart::Home(error) => Failure::new(Code::Storage, format!("no place for it: {error}")),
        NoStart::Data(error) => data_dir_failure(&error),
        NoStart::Node(error) => node_failure(error),
    }
}

impl Mesh {
    async fn start(story: Story) -> Result<Mesh, NoStart> {
        let home = tempfile::tempdir().map_err(NoStart::Home)?;
        let (mut nodes, mut running) = (Vec::new(), Vec::new());
        for name in NAMES {
            let data = DataDir::open(&home.path().join(name), true).map_err(NoStart::Data)?;
            let started = Node::start(data, Options::listening("127.0.0.1:0")).await;
            let (node, task) = started.map_err(NoStart::Node)?;
            let address = node.address().unwrap_or("-");
            story.show(
                json!({ "started": name, "node": node.id().to_string(), "address": address }),
                &format!("  {name}  {}  {address}", node.id().short()),
            );
            nodes.push(node);
            running.push(task);
        }
        Ok(Mesh { nodes, running, story, _home: home })
    }

    /// The story; whether it ended well.
    async fn tell(&self) -> Result<bool, NodeError> {
        let [ada, ben, cai] = &self.nodes[..] else { return Ok(false) };
        let story = self.story;
        story.say("join", "\nAda invites Ben and Cai, and they join with their tickets.");
        for other in [ben, cai] {
            let ticket = ada.invite(other.id()).await?;
            other.join(ticket).await?;
        }
        if !self.linked(2).await? {
            return Ok(false);
        }
        story.say("write", "\nAda writes. The others have it:");
        ada.put(b"colour", b"green").await?;
        ada.add(b"visits", 1).await?;
        if !self.agree().await? {
            return Ok(false);
        }
        self.show(&["colour", "visits"]).await?;

        story.say("cut", "\nThe network breaks: every link is cut.");
        self.cut(true).await?;
        if !self.linked(0).await? {
            return Ok(false);
        }
        story.say("diverge", "Nobody waits for anybody. All three write the same keys:");
        cai.delete(b"colour").await?;
        ada.put(b"colour", b"red").await?;
        ben.put(b"colour", b"blue").await?;
        for (node, visits) in [(ada, 1), (ben, 10), (cai, 100)] {
            node.add(b"visits", visits).await?;
        }
        ben.set_add(b"guests", b"Dana").await?;
        cai.set_add(b"guests", b"Eli").await?;
        self.show(&["colour", "visits", "guests"]).await?;

        story.say("heal", "\nThe network heals.");
        let healing = Instant::now();
        self.cut(false).await?;
        if !self.agree().await? {
            return Ok(false);
        }
        let healed_ms = healing.elapsed().as_millis() as u64;
        story.show(
            json!({ "step": "converged", "healed_ms": healed_ms }),
            &format!("After {healed_ms} ms all three hold the same:"),
        );
        self.show(&["colour", "visits", "guests"]).await?;
        story.say(
            "settle",
            "\nThe counter has everybody's additions and the set both guests. `colour` was written by \
             two\nand deleted by one, at once: all read the same winner and mark the conflict. Cai \
             settles it:",
        );
        cai.put(b"colour", b"violet").await?;
        if !self.agree().await? {
            return Ok(false);
        }
        self.show(&["colour"]).await?;
        story.say("compare", "\nThe digest of each store:");
        for (name, node) in NAMES.iter().zip(&self.nodes) {
            let digest = node.digest().await?.map(|digest| digest.to_string());
            let digest = digest.unwrap_or_default();
            story.show(json!({ "node": name, "digest": digest }), &format!("  {name}  {digest}"));
        }
        story.say(
            "end",
            "\nEqual. Everything is gone with this program; `quorate up` starts a node to keep.",
        );
        Ok(true)
    }

    /// Cuts every link, or lets them all come back.
    async fn cut(&self, cut: bool) -> Result<(), NodeError> {
        for node in &self.nodes {
            for other in self.nodes.iter().filter(|other| other.id() != node.id()) {
                node.block(other.id(), cut).await?;
            }
        }
        Ok(())
    }

    /// Waits until every node has so many open peers.
    async fn linked(&self, peers: usize) -> Result<bool, NodeError> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let mut fits = true;
            for node in &self.nodes {
                let open = node.peers().await?.0.iter().filter(|peer| peer.open).count();
                fits &= open == peers;
            }
            if fits {
                return Ok(true);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(false)
    }

    /// Waits until all digests are equal.
    async fn agree(&self) -> Result<bool, NodeError> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let mut digests = Vec::new();
            for node in &self.nodes {
                digests.push(node.digest().await?);
            }
            if digests.windows(2).all(|pair| pair[0] == pair[1]) {
                return Ok(true);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(false)
    }

    async fn show(&self, keys: &[&str]) -> Result<(), NodeError> {
        for (name, node) in NAMES.iter().zip(&self.nodes) {
            let (mut line, mut holds) = (String::new(), serde_json::Map::new());
            for key in keys {
                let item = node.get(key.as_bytes()).await?;
                let document = item.as_ref().map(
                    |item| json!({ "value": item.value.to_string(), "conflict": item.conflict }),
                );
                holds.insert((*key).to_owned(), document.unwrap_or_default());
                let found = match item {
                    None => "-".into(),
                    Some(Item { value, conflict: false, .. }) => value.to_string(),
                    Some(Item { value, .. }) => format!("{value} (conflict)"),
                };
                line.push_str(&format!("{key} = {found:<20}"));
            }
            let words = format!("  {name}  {}", line.trim_end());
            self.story.show(json!({ "node": name, "holds": holds }), &words);
        }
        Ok(())
    }
}
