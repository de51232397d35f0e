//! A toy machine in a real host, a peer that follows no rules, and a disk that waits to be let go.
#![allow(dead_code, unreachable_pub, reason = "a module that each test crate uses a part of")]

use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use bytes::Bytes;
use quorate_core::machine::{Cx, Effects, Input, Machine, NodeId, Time};
use quorate_runtime_tokio::edge::{Actions, Edge};
use quorate_runtime_tokio::frame::{Codec, Lane, WireError};
use quorate_runtime_tokio::handle::{Handle, Metrics};
use quorate_runtime_tokio::host::{self, HostError, Running, Settings, Setup};
use quorate_runtime_tokio::journal::{Directory, Disk, Journal};
use quorate_runtime_tokio::net::TokioNet;
use quorate_runtime_tokio::storage::{Corrupted, Storage};
use quorate_runtime_tokio::tls::Identity;
use redb::backends::InMemoryBackend;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsStream;

/// Past this a test has hung; nothing is measured by it.
const HUNG: Duration = Duration::from_secs(60);

/// Remembers what it is told, in order.
#[derive(Clone, Debug, Default)]
pub struct Toy {
    pub records: Vec<String>,
    pub ticks: u64,
    alarm: Option<Time>,
}

#[derive(Debug)]
pub enum Command {
    Persist(String),
    Send(NodeId, String),
    SendNow(NodeId, String),
    Emit(String),
    EmitNow(String),
    /// A tick in so many milliseconds.
    Alarm(u64),
    Many(Vec<Command>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Started(usize),
    Received(NodeId, String),
    Up(NodeId),
    Down(NodeId),
    Told(String),
    Ticked,
    Corrupted(u64),
}

impl Machine for Toy {
    type Message = String;
    type Record = String;
    type Command = Command;
    type Event = Event;

    fn restore(&mut self, record: String) {
        self.records.push(record);
    }

    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        match input {
            Input::Start => fx.emit(Event::Started(self.records.len())),
            Input::Message { from, message } => fx.emit(Event::Received(from, message)),
            Input::Command(command) => self.obey(command, cx, fx),
            Input::Link { peer, up } => {
                fx.emit(if up { Event::Up(peer) } else { Event::Down(peer) });
            }
            Input::Tick => {
                assert!(self.alarm.is_some_and(|at| at <= cx.now), "a tick before its time");
                self.alarm = None;
                self.ticks += 1;
                fx.emit(Event::Ticked);
            }
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.alarm
    }
}

impl Toy {
    fn obey(&mut self, command: Command, cx: Cx, fx: &mut dyn Effects<Self>) {
        match command {
            Command::Persist(record) => {
                self.records.push(record.clone());
                fx.persist(record);
            }
            Command::Send(to, message) => fx.send(to, message),
            Command::SendNow(to, message) => fx.send_now(to, message),
            Command::Emit(text) => fx.emit(Event::Told(text)),
            Command::EmitNow(text) => fx.emit_now(Event::Told(text)),
            Command::Alarm(ms) => self.alarm = Some(cx.now.after_ms(ms)),
            Command::Many(commands) => {
                commands.into_iter().for_each(|command| self.obey(command, cx, fx));
            }
        }
    }
}

/// Passes events on to the test.
#[derive(Debug)]
pub struct Probe {
    events: mpsc::UnboundedSender<Event>,
    pub seen: Vec<Event>,
    pub positions: Vec<(Lane, u64, String)>,
    pub logged: u64,
    pub barred: Option<NodeId>,
}

impl Edge for Probe {
    type Machine = Toy;

    fn event(&mut self, event: Event, actions: &mut Actions<'_, Toy>) {
        self.seen.push(event.clone());
        self.logged = actions.logged(Lane::Store);
        // The test may have stopped listening.
        let _ = self.events.send(event);
    }

    fn admits(&mut self, peer: NodeId) -> bool {
        self.barred != Some(peer)
    }

    fn record(&mut self, lane: Lane, position: u64, record: &String) {
        self.positions.push((lane, position, record.clone()));
    }

    fn corrupted(&mut self, report: Corrupted) {
        let _ = self.events.send(Event::Corrupted(report.position));
    }
}

/// Texts that name the journal go that way.
fn lane(text: &str) -> Lane {
    if text.starts_with("journal") { Lane::Journal } else { Lane::Store }
}

/// Texts as UTF-8.
#[derive(Clone, Copy, Debug)]
pub struct Utf8;

impl Codec<Toy> for Utf8 {
    fn encode_message(&self, message: &String, out: &mut Vec<u8>) {
        out.extend_from_slice(message.as_bytes());
    }
    fn decode_message(&self, bytes: Bytes) -> Result<String, WireError> {
        String::from_utf8(bytes.into()).map_err(|error| WireError(error.to_string()))
    }
    fn encode_record(&self, record: &String, out: &mut Vec<u8>) {
        out.extend_from_slice(record.as_bytes());
    }
    fn decode_record(&self, _: Lane, bytes: Bytes) -> Result<String, WireError> {
        self.decode_message(bytes)
    }
    fn record_lane(&self, record: &String) -> Lane {
        lane(record)
    }
    fn message_lane(&self, message: &String) -> Lane {
        lane(message)
    }
    fn event_lane(&self, event: &Event) -> Lane {
        match event {
            Event::Told(text) => lane(text),
            _ => Lane::Store,
        }
    }
}

pub fn identity(seed: u8) -> Identity {
    Identity::from_seed(&[seed; 32]).unwrap()
}

pub fn memory() -> Storage {
    Storage::with_backend(InMemoryBackend::new()).unwrap()
}

/// Listens on a port of the system's choice.
pub fn listening() -> Settings {
    Settings { listen: Some("127.0.0.1:0".into()), ..Settings::default() }
}

/// A host with a toy.
#[derive(Debug)]
pub struct Node {
    pub id: NodeId,
    pub running: Running<Probe>,
    pub handle: Handle<Probe>,
    events: mpsc::UnboundedReceiver<Event>,
}

impl Node {
    pub async fn start(seed: u8, storage: Storage, settings: Settings) -> Self {
        Self::try_start(seed, storage, settings).await.unwrap()
    }

    pub async fn try_start(
        seed: u8,
        storage: Storage,
        settings: Settings,
    ) -> Result<Self, HostError> {
        Self::with_journal(seed, storage, None, settings).await
    }

    pub async fn with_journal(
        seed: u8,
        storage: Storage,
        journal: Option<Journal>,
        settings: Settings,
    ) -> Result<Self, HostError> {
        let (sender, events) = mpsc::unbounded_channel();
        let edge =
            Probe { events: sender, seen: vec![], positions: vec![], logged: 0, barred: None };
        let identity = identity(seed);
        let id = identity.id();
        let machine = Toy::default();
        let setup = Setup {
            machine,
            edge,
            net: TokioNet,
            codec: Utf8,
            identity,
            storage,
            journal,
            settings,
        };
        let running = host::start(setup).await?;
        let handle = running.handle();
        Ok(Self { id, running, handle, events })
    }

    pub fn addr(&self) -> String {
        self.running.local_addr().unwrap().to_owned()
    }

    pub async fn command(&self, command: Command) {
        self.handle.command(command).await.unwrap();
    }

    pub async fn dial(&self, addr: String, expected: Option<NodeId>) {
        self.handle.with_edge(move |_, actions| actions.dial(addr, expected)).await.unwrap();
    }

    /// The next event.
    pub async fn event(&mut self) -> Event {
        hung(self.events.recv()).await.expect("the host runs")
    }

    /// Waits for `wanted`, passing over others.
    pub async fn until(&mut self, wanted: Event) {
        while self.event().await != wanted {}
    }

    /// Waits until the counters satisfy `wanted`. Each look is a round trip through the host.
    pub async fn until_counted(&self, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
        hung(async {
            loop {
                let metrics = self.handle.metrics().await.unwrap();
                if wanted(&metrics) {
                    return metrics;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// Waits until `text` has come from `peer` by way of this node's machine.
    pub async fn hears(&mut self, peer: &Node, text: &str) {
        peer.command(Command::Send(self.id, text.into())).await;
        self.until(Event::Received(peer.id, text.into())).await;
    }
}

/// Fails a test that waits for what never comes.
pub async fn hung<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(HUNG, wait).await.expect("the test hung")
}

/// A peer of our own making: an authenticated stream and nobody who minds the rules.
pub async fn stranger(seed: u8, addr: &str) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(addr).await.unwrap();
    identity(seed).dial(stream, None).await.unwrap().1
}

/// A disk in memory whose syncs wait while the gate is shut, or fail.
#[derive(Clone, Debug)]
pub struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Debug)]
pub struct Shut(Gate);

impl Drop for Shut {
    fn drop(&mut self) {
        let (state, changed) = &*self.0.0;
        state.lock().unwrap().shut = false;
        changed.notify_all();
    }
}

#[derive(Debug, Default)]
struct GateState {
    shut: bool,
    full: bool,
}

impl Gate {
    pub fn new() -> Self {
        Self(Arc::new((Mutex::new(GateState::default()), Condvar::new())))
    }

    pub fn storage(&self) -> Storage {
        Storage::with_backend(GatedDisk { gate: self.clone(), disk: InMemoryBackend::new() })
            .unwrap()
    }

    /// A journal in a directory whose syncs pass this gate.
    pub fn journal(&self, path: &Path) -> Journal {
        Journal::with_disk(GatedFiles { gate: self.clone(), files: Directory::new(path) }).unwrap()
    }

    /// Waits until it is open, and has room.
    fn pass(&self) -> std::io::Result<()> {
        let (state, changed) = &*self.0;
        let state = changed.wait_while(state.lock().unwrap(), |state| state.shut).unwrap();
        if state.full { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Syncs wait until the guard is dropped, by a failing test too.
    pub fn shut(&self) -> Shut {
        self.0.0.lock().unwrap().shut = true;
        Shut(self.clone())
    }

    /// From now on the disk has no room.
    pub fn fill(&self) {
        self.0.0.lock().unwrap().full = true;
    }
}

#[derive(Debug)]
struct GatedDisk {
    gate: Gate,
    disk: InMemoryBackend,
}

impl redb::StorageBackend for GatedDisk {
    fn len(&self) -> std::io::Result<u64> {
        self.disk.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.disk.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.disk.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.gate.pass()?;
        self.disk.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.disk.write(offset, data)
    }
}

#[derive(Debug)]
struct GatedFiles {
    gate: Gate,
    files: Directory,
}

impl Disk for GatedFiles {
    fn list(&self) -> std::io::Result<Vec<u64>> {
        self.files.list()
    }
    fn create(&mut self, file: u64) -> std::io::Result<()> {
        self.files.create(file)
    }
    fn read(&self, file: u64) -> std::io::Result<Vec<u8>> {
        self.files.read(file)
    }
    fn write(&mut self, file: u64, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.files.write(file, offset, bytes)
    }
    fn sync(&mut self, file: u64) -> std::io::Result<()> {
        self.gate.pass()?;
        self.files.sync(file)
    }
    fn sync_names(&mut self) -> std::io::Result<()> {
        self.files.sync_names()
    }
    fn remove(&mut self, file: u64) -> std::io::Result<()> {
        self.files.remove(file)
    }
    fn name(&self, file: u64) -> String {
        self.files.name(file)
    }
}
