//! What a host costs: three of them in this process, each with a replicated log on a journal of its own,
//! and clients that propose to the leader and wait until their entry is committed.
//!
//! `cargo bench -p quorate-runtime-tokio --bench replication [-- DIRECTORY [THREADS]]` prints, for each
//! number of clients, entries per second, CPU time an entry (of all three hosts and the clients
//! together), and the time a client waits. Each host has a runtime of its own, with so many threads.
//! Everything that a cluster's node does but the registry is in it: TLS over loopback, `fdatasync`, and
//! the replies.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_core::log::{Command, Event, Log, Members, Message, Payload, Record, Timing};
use quorate_core::machine::NodeId;
use quorate_runtime_tokio::edge::{Actions, Edge};
use quorate_runtime_tokio::frame::{Codec, Lane, WireError};
use quorate_runtime_tokio::host::{self, Running, Settings, Setup};
use quorate_runtime_tokio::journal::Journal;
use quorate_runtime_tokio::net::TokioNet;
use quorate_runtime_tokio::storage::Storage;
use quorate_runtime_tokio::tls::Identity;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

const ENTRY_BYTES: usize = 256;
const CLIENTS: [usize; 4] = [1, 16, 64, 256];
const RUN: Duration = Duration::from_secs(3);

#[derive(Clone, Copy, Debug)]
struct Postcard;

impl Codec<Log> for Postcard {
    fn encode_message(&self, message: &Message, out: &mut Vec<u8>) {
        *out = postcard::to_extend(message, std::mem::take(out)).expect("a vector takes it");
    }
    fn decode_message(&self, bytes: Bytes) -> Result<Message, WireError> {
        postcard::from_bytes(&bytes).map_err(|error| WireError(error.to_string()))
    }
    fn encode_record(&self, record: &Record, out: &mut Vec<u8>) {
        *out = postcard::to_extend(record, std::mem::take(out)).expect("a vector takes it");
    }
    fn decode_record(&self, _: Lane, bytes: Bytes) -> Result<Record, WireError> {
        postcard::from_bytes(&bytes).map_err(|error| WireError(error.to_string()))
    }
    fn record_lane(&self, _: &Record) -> Lane {
        Lane::Journal
    }
    fn message_lane(&self, _: &Message) -> Lane {
        Lane::Journal
    }
    fn event_lane(&self, _: &Event) -> Lane {
        Lane::Journal
    }
}

/// Gathers what clients propose in a turn, and answers when it is committed.
#[derive(Debug, Default)]
struct Clients {
    gathered: (Vec<Bytes>, Vec<oneshot::Sender<()>>),
    proposed: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
    ticket: u64,
    applied: u64,
    leads: Arc<Mutex<Option<NodeId>>>,
    me: Option<NodeId>,
}

impl Edge for Clients {
    type Machine = Log;

    fn event(&mut self, event: Event, actions: &mut Actions<'_, Log>) {
        match event {
            Event::Leading(_) => *self.leads.lock().expect("nobody panics") = self.me,
            Event::Proposed { ticket, first } => {
                let answers = self.proposed.remove(&ticket).unwrap_or_default();
                self.waiting.extend((first.index..).zip(answers));
            }
            Event::Committed { from, entries } => {
                for (index, entry) in (from..).zip(&entries) {
                    let data = matches!(entry.payload, Payload::Data(_));
                    if let Some(answer) = self.waiting.remove(&index).filter(|_| data) {
                        let _ = answer.send(());
                    }
                    self.applied = index;
                }
                if self.applied % 4096 < 64 {
                    let (index, data) = (self.applied, Bytes::new());
                    actions.command(Command::Compact { index, data });
                }
            }
            _ => {}
        }
    }

    fn turned(&mut self, actions: &mut Actions<'_, Log>) {
        let (data, answers) = std::mem::take(&mut self.gathered);
        if !data.is_empty() {
            self.ticket += 1;
            self.proposed.insert(self.ticket, answers);
            actions.command(Command::Propose { ticket: self.ticket, data });
        }
    }
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| !arg.starts_with("--"));
    let parent = args.next().map_or_else(std::env::temp_dir, Into::into);
    let threads: usize = args.next().map_or(2, |arg| arg.parse().expect("a number of threads"));
    let dir = tempfile::tempdir_in(parent).expect("a directory to write in");
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads).enable_all().build().expect("a runtime")
    };
    let hosts = [runtime(), runtime(), runtime()];
    runtime().block_on(run(dir.path(), &hosts));
}

async fn run(dir: &Path, runtimes: &[Runtime; 3]) {
    let leads = Arc::new(Mutex::new(None));
    let mut hosts = Vec::new();
    for n in 0..3u8 {
        let (dir, leads) = (dir.join(n.to_string()), Arc::clone(&leads));
        let host = runtimes[n as usize].spawn(async move { start(&dir, n, leads).await });
        hosts.push(host.await.expect("a host starts"));
    }
    let addrs: Vec<_> =
        hosts.iter().map(|host| host.local_addr().expect("listens").to_owned()).collect();
    let ids: Vec<_> = (0..3).map(|n| identity(n).id()).collect();
    for (n, host) in hosts.iter().enumerate() {
        let others: Vec<_> = (n + 1..3).map(|m| (addrs[m].clone(), ids[m])).collect();
        let dial = move |_: &mut Clients, actions: &mut Actions<'_, Log>| {
            others.into_iter().for_each(|(addr, id)| actions.dial(addr, Some(id)));
        };
        host.handle().with_edge(dial).await.expect("runs");
        host.handle().command(Command::Found(Members::of(ids.clone()))).await.expect("runs");
    }
    let leader = loop {
        if let Some(leader) = *leads.lock().expect("nobody panics") {
            break leader;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let leader = &hosts[ids.iter().position(|id| *id == leader).expect("one of them")];
    println!("clients   entries/s   CPU µs/entry   p50 ms   p99 ms   groups   entries/group");
    for clients in CLIENTS {
        measure(leader, clients).await;
    }
}

async fn measure(leader: &Running<Clients>, clients: usize) {
    let before = leader.handle().metrics().await.expect("runs");
    let (start, cpu) = (Instant::now(), cpu_us());
    let client = || {
        let handle = leader.handle();
        async move {
            let mut waits = Vec::new();
            while start.elapsed() < RUN {
                let (asked, (give, take)) = (Instant::now(), oneshot::channel());
                let propose = move |edge: &mut Clients, _: &mut Actions<'_, Log>| {
                    edge.gathered.0.push(vec![0x5a; ENTRY_BYTES].into());
                    edge.gathered.1.push(give);
                };
                handle.with_edge(propose).await.expect("runs");
                take.await.expect("still leads");
                waits.push(asked.elapsed().as_secs_f64() * 1e3);
            }
            waits
        }
    };
    let tasks: Vec<_> = (0..clients).map(|_| tokio::spawn(client())).collect();
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.expect("a client ends in order"));
    }
    let (took, cpu) = (start.elapsed().as_secs_f64(), cpu_us() - cpu);
    waits.sort_by(f64::total_cmp);
    let after = leader.handle().metrics().await.expect("runs");
    let (n, groups) = (waits.len(), after.groups - before.groups);
    println!(
        "{clients:7} {:11.0} {:14.1} {:8.2} {:8.2} {groups:8} {:15.1}",
        n as f64 / took,
        cpu / n as f64,
        waits[n / 2],
        waits[n * 99 / 100],
        n as f64 / groups as f64
    );
}

fn identity(n: u8) -> Identity {
    Identity::from_seed(&[n + 1; 32]).expect("a key")
}

async fn start(dir: &Path, n: u8, leads: Arc<Mutex<Option<NodeId>>>) -> Running<Clients> {
    let identity = identity(n);
    let edge = Clients { leads, me: Some(identity.id()), ..Clients::default() };
    let setup = Setup {
        machine: Log::new(Timing::default(), 0),
        edge,
        net: TokioNet,
        codec: Postcard,
        identity,
        storage: Storage::open(dir).expect("the log opens"),
        journal: Some(Journal::open(&dir.join("journal")).expect("the journal opens")),
        settings: Settings { listen: Some("127.0.0.1:0".into()), ..Settings::default() },
    };
    host::start(setup).await.expect("a host starts")
}

/// Microseconds this process has been on processors.
fn cpu_us() -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux");
    let ns = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    ns.sum::<f64>() / 1e3
}
