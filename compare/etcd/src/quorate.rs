//! Quorate, by its control socket.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value as Json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::etcd::free_ports;
use crate::{Client, cpu_of};

/// Three nodes.
pub(crate) struct Cluster {
    dir: TempDir,
    nodes: Vec<Node>,
}

struct Node {
    id: String,
    port: u16,
    process: Child,
}

impl Cluster {
    /// Makes a mesh of three, and a cluster of them.
    pub(crate) async fn start() -> io::Result<Cluster> {
        let mut cluster = Cluster { dir: tempfile::tempdir()?, nodes: Vec::new() };
        for (n, port) in free_ports(3).await?.into_iter().enumerate() {
            let id = cluster.command(n, &["id"]).await?.trim().to_owned();
            let process = cluster.spawn(n, port)?;
            cluster.nodes.push(Node { id, port, process });
            cluster.answers(n).await;
        }
        for n in 1..3 {
            let id = cluster.nodes[n].id.clone();
            let ticket = cluster.command(0, &["invite", &id]).await?;
            cluster.command(n, &["join", ticket.trim()]).await?;
        }
        cluster.command(0, &["cluster", "init"]).await?;
        for n in 1..3 {
            let id = cluster.nodes[n].id.clone();
            cluster.command(0, &["cluster", "add", &id]).await?;
        }
        Ok(cluster)
    }

    fn data(&self, node: usize) -> PathBuf {
        self.dir.path().join(format!("n{node}"))
    }

    fn binary() -> String {
        std::env::var("QUORATE").unwrap_or_else(|_| "quorate".to_owned())
    }

    fn spawn(&self, node: usize, port: u16) -> io::Result<Child> {
        let log = self.dir.path().join(format!("n{node}.log"));
        let log = std::fs::File::options().create(true).append(true).open(log)?;
        Command::new(Self::binary())
            .arg("--data")
            .arg(self.data(node))
            .args(["up", "--listen", &format!("127.0.0.1:{port}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
    }

    /// Runs a command beside a node.
    async fn command(&self, node: usize, args: &[&str]) -> io::Result<String> {
        let mut command = Command::new(Self::binary());
        let output = command.arg("--data").arg(self.data(node)).args(args).output().await?;
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(io::Error::other(format!("quorate {}: {error}", args.join(" "))));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Waits until a node answers.
    async fn answers(&self, node: usize) {
        while UnixStream::connect(self.endpoint_of(node)).await.is_err() {
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn endpoint_of(&self, node: usize) -> PathBuf {
        self.data(node).join("control.sock")
    }
}

impl crate::Cluster for Cluster {
    type Client = Lines;

    async fn leader(&mut self) -> io::Result<usize> {
        loop {
            for n in 0..self.nodes.len() {
                let Ok(status) = self.command(n, &["cluster", "status", "--json"]).await else {
                    continue;
                };
                let status: Json = serde_json::from_str(&status)?;
                let leads = |node: &Node| status["leader"] == node.id.as_str();
                if self.nodes.iter().position(leads) == Some(n) {
                    return Ok(n);
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn endpoint(&self, node: usize) -> String {
        self.endpoint_of(node).to_string_lossy().into_owned()
    }

    fn kill(&mut self, node: usize) -> io::Result<()> {
        self.nodes[node].process.start_kill()
    }

    async fn restart(&mut self, node: usize) -> io::Result<()> {
        self.nodes[node].process.wait().await?;
        self.nodes[node].process = self.spawn(node, self.nodes[node].port)?;
        let endpoint = self.endpoint(node);
        loop {
            if let Ok(mut lines) = Lines::connect(&endpoint).await
                && lines.put("bench/back", b"yes").await.is_ok()
            {
                return Ok(());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn cpu_seconds(&self) -> f64 {
        self.nodes.iter().map(|node| cpu_of(node.process.id())).sum()
    }
}

/// A connection to a control socket.
pub(crate) struct Lines(BufReader<UnixStream>);

impl Client for Lines {
    async fn connect(endpoint: &str) -> io::Result<Lines> {
        Ok(Lines(BufReader::new(UnixStream::connect(endpoint).await?)))
    }

    async fn put(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        let value = String::from_utf8_lossy(value);
        let request = format!(
            "{{\"request\":\"cluster\",\"timeout_ms\":5000,\"ask\":{{\"put\":{{\
             \"key\":\"{key}\",\"value\":\"{value}\",\"lease\":null,\"given\":{{}}}}}}}}\n"
        );
        self.0.write_all(request.as_bytes()).await?;
        let (mut line, mut written) = (String::new(), false);
        loop {
            line.clear();
            if self.0.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let reply: Json = serde_json::from_str(&line)?;
            match reply["reply"].as_str() {
                Some("cluster") => written = true,
                Some("end") if written => return Ok(()),
                _ => return Err(io::Error::other(line)),
            }
        }
    }
}
