//! etcd, by its HTTP gateway.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::{Client, cpu_of};

/// Three etcds.
pub(crate) struct Cluster {
    dir: TempDir,
    nodes: Vec<Node>,
}

struct Node {
    client: u16,
    peer: u16,
    process: Child,
}

impl Cluster {
    pub(crate) async fn start() -> io::Result<Cluster> {
        let dir = tempfile::tempdir()?;
        let ports = free_ports(6).await?;
        let peers: Vec<u16> = ports[3..].to_vec();
        let mut nodes = Vec::new();
        for n in 0..3 {
            let process = spawn(&dir, n, ports[n], &peers, "new")?;
            nodes.push(Node { client: ports[n], peer: peers[n], process });
        }
        let mut cluster = Cluster { dir, nodes };
        crate::Cluster::leader(&mut cluster).await?;
        Ok(cluster)
    }
}

fn spawn(dir: &TempDir, n: usize, client: u16, peers: &[u16], state: &str) -> io::Result<Child> {
    let url = |port: &u16| format!("http://127.0.0.1:{port}");
    let all: Vec<String> =
        peers.iter().enumerate().map(|(n, port)| format!("n{n}={}", url(port))).collect();
    let log = std::fs::File::options().create(true).append(true).open(dir.path().join("log"))?;
    Command::new("etcd")
        .args(["--name", &format!("n{n}"), "--initial-cluster-state", state])
        .arg("--data-dir")
        .arg(dir.path().join(format!("n{n}")))
        .args(["--listen-client-urls", &url(&client), "--advertise-client-urls", &url(&client)])
        .args(["--listen-peer-urls", &url(&peers[n])])
        .args(["--initial-advertise-peer-urls", &url(&peers[n])])
        .args(["--initial-cluster", &all.join(","), "--log-level", "error"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .kill_on_drop(true)
        .spawn()
}

impl crate::Cluster for Cluster {
    type Client = Http;

    async fn leader(&mut self) -> io::Result<usize> {
        loop {
            for n in 0..self.nodes.len() {
                let Ok(mut http) = Http::connect(&self.endpoint(n)).await else { continue };
                let Ok(status) = http.post("/v3/maintenance/status", "{}").await else { continue };
                let status: serde_json::Value = serde_json::from_slice(&status)?;
                let leader = status["leader"].as_str();
                if leader.is_some() && leader == status["header"]["member_id"].as_str() {
                    return Ok(n);
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    fn endpoint(&self, node: usize) -> String {
        format!("127.0.0.1:{}", self.nodes[node].client)
    }

    fn kill(&mut self, node: usize) -> io::Result<()> {
        self.nodes[node].process.start_kill()
    }

    async fn restart(&mut self, node: usize) -> io::Result<()> {
        self.nodes[node].process.wait().await?;
        let peers: Vec<u16> = self.nodes.iter().map(|node| node.peer).collect();
        let client = self.nodes[node].client;
        self.nodes[node].process = spawn(&self.dir, node, client, &peers, "existing")?;
        let endpoint = self.endpoint(node);
        loop {
            if let Ok(mut http) = Http::connect(&endpoint).await
                && http.put("bench/back", b"yes").await.is_ok()
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

/// A connection that is kept alive.
pub(crate) struct Http(BufReader<TcpStream>);

impl Client for Http {
    async fn connect(endpoint: &str) -> io::Result<Http> {
        let stream = TcpStream::connect(endpoint).await?;
        stream.set_nodelay(true)?;
        Ok(Http(BufReader::new(stream)))
    }

    async fn put(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        let (key, value) = (base64(key.as_bytes()), base64(value));
        self.post("/v3/kv/put", &format!(r#"{{"key":"{key}","value":"{value}"}}"#)).await?;
        Ok(())
    }
}

impl Http {
    async fn post(&mut self, path: &str, body: &str) -> io::Result<Vec<u8>> {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: etcd\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.0.write_all(request.as_bytes()).await?;
        let (mut line, mut length, mut ok) = (String::new(), 0, None);
        loop {
            line.clear();
            if self.0.read_line(&mut line).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            ok = ok.or_else(|| Some(line.starts_with("HTTP/1.1 200")));
            let header = line.trim_end().to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length: ") {
                length = value.parse().map_err(io::Error::other)?;
            }
            if header.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await?;
        match ok {
            Some(true) => Ok(body),
            _ => Err(io::Error::other(String::from_utf8_lossy(&body).into_owned())),
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).flat_map(|chunk| {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - chunk.len()));
        (0..4).map(move |n| match n <= chunk.len() {
            true => char::from(DIGITS[(word >> (18 - 6 * n) & 63) as usize]),
            false => '=',
        })
    });
    digits.collect()
}

/// Ports that were free a moment ago: etcd takes no port 0.
pub(crate) async fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let mut listeners = Vec::new();
    for _ in 0..count {
        listeners.push(TcpListener::bind("127.0.0.1:0").await?);
    }
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}
