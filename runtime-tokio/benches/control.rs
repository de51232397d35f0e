//! What a request over the control socket costs a node: `cargo bench -p quorate-runtime-tokio --bench
//! control`. One node, a cluster by itself, asked by so many connections with so many requests under way
//! on each; answers a second and the node's CPU time for each. A local read is what the socket costs; a
//! put is durable as well.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader as Lines};
use tokio::net::UnixStream;

const MEASURED: Duration = Duration::from_secs(2);
/// An answer, and the line that ends it.
const LINES_PER_ANSWER: usize = 2;
/// Of the kernel's clock in which `/proc` counts CPU time.
const TICKS_PER_SECOND: f64 = 100.0;

const READ: &str =
    r#"{"request":"cluster","timeout_ms":5000,"ask":{"get":{"key":"k","read":"local"}}}"#;
const PUT: &str = concat!(
    r#"{"request":"cluster","timeout_ms":5000,"ask":{"put":{"key":"k","#,
    r#""value":"0123456789012345678901234567890123456789012345678901234567890123","#,
    r#""lease":null,"given":{}}}}"#,
);

fn main() {
    let home = tempfile::tempdir().expect("a directory");
    let data = home.path().join("data");
    let mut node = quorate(&data, &["up", "--json", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the node starts");
    let mut banner = String::new();
    let out = node.stdout.take().expect("its output");
    BufReader::new(out).read_line(&mut banner).expect("its banner");
    for args in [&["cluster", "init"][..], &["reg", "put", "k", "v"]] {
        let done = quorate(&data, args).stdout(Stdio::null()).status().expect("it runs");
        assert!(done.success(), "{args:?}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    println!(
        "{:<6} {:>11} {:>9} {:>12} {:>14}",
        "", "connections", "under way", "answers/s", "CPU us/answer"
    );
    for (name, request) in [("read", READ), ("put", PUT)] {
        for (connections, under_way) in [(1, 1), (16, 1), (256, 1), (1, 16), (16, 64)] {
            let before = cpu_seconds(&node);
            let begun = Instant::now();
            let answers = runtime.block_on(hammer(&data, request, connections, under_way));
            let (spent, took) = (cpu_seconds(&node) - before, begun.elapsed().as_secs_f64());
            let (rate, cost) = (answers as f64 / took, spent * 1e6 / answers as f64);
            println!("{name:<6} {connections:>11} {under_way:>9} {rate:>12.0} {cost:>14.1}");
        }
    }
    node.kill().expect("it runs");
    node.wait().expect("it ends");
}

fn quorate(data: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.env_remove("RUST_LOG").arg("--data").arg(data).args(args).stdin(Stdio::null());
    command
}

/// How many answers came, to all connections together.
async fn hammer(data: &Path, request: &str, connections: usize, under_way: usize) -> usize {
    let until = Instant::now() + MEASURED;
    let batch = format!("{request}\n").repeat(under_way);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let (batch, socket) = (batch.clone(), data.join("control.sock"));
        clients.spawn(async move {
            let mut stream = UnixStream::connect(socket).await.expect("the node listens");
            let (reader, mut writer) = stream.split();
            let (mut lines, mut answers, mut line) = (Lines::new(reader), 0, Vec::new());
            while Instant::now() < until {
                writer.write_all(batch.as_bytes()).await.expect("it listens");
                for _ in 0..under_way * LINES_PER_ANSWER {
                    line.clear();
                    lines.read_until(b'\n', &mut line).await.expect("it answers");
                    assert!(!line.starts_with(br#"{"reply":"failure""#), "{}", line.escape_ascii());
                }
                answers += under_way;
            }
            answers
        });
    }
    clients.join_all().await.into_iter().sum()
}

/// The CPU time that the node has had so far.
fn cpu_seconds(node: &Child) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", node.id())).expect("it runs");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    let ticks =
        fields.split(' ').skip(11).take(2).map(|field| field.parse::<f64>().expect("ticks"));
    ticks.sum::<f64>() / TICKS_PER_SECOND
}
