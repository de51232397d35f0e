//! The host: one task that owns a machine and steps it.
//!
//! Readers, writers, diallers and the disk work at the edges and hand their results to this task,
//! which alone touches the machine. Each turn it takes a bounded number of whatever is there, in a
//! fixed order, and each source gets its share: neither a flood of messages nor one of commands
//! keeps a timer or a commit waiting. While the disk is behind, nothing new is taken, and the
//! bounded inboxes push back on peers and callers.
//!
//! A storage error stops the host: what it cannot make durable it must not promise.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{fmt, io};

use quorate_core::machine::{Cx, Input, Machine, Time, WallTime, earliest};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span, error, info, info_span};

use crate::connect::{Door, Refused, dial};
pub use crate::dial::{MAX_DIALS, MAX_HEARSAY, MAX_HEARSAY_PER_PEER};
use crate::edge::Edge;
use crate::frame::{Codec, WireError};
use crate::handle::{Handle, Request};
use crate::handshakes::Handshakes;
use crate::journal::Journal;
use crate::link::{Arrival, Inbox, LINK_QUEUE_BYTES, Pulse};
use crate::log::{Done, Log, Marks, ReadDone};
use crate::net::{Listener, Net};
use crate::outbox::{Outbox, Parts};
use crate::restore::restore;
use crate::storage::{Storage, StorageError};
use crate::tls::Identity;

/// Links that may be up at once, unless the settings say otherwise.
pub const MAX_CONNECTIONS: usize = 256;

/// The time from the first byte to a link, or for reaching an address and shaking hands with it,
/// unless the settings say otherwise.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Accepted connections in their handshake at once, unless the settings say otherwise. One more
/// takes the place of the oldest of the source that has most.
pub const MAX_HANDSHAKES: usize = 64;

/// As many of them may come from one source (an IPv4 address, or 64 bits of an IPv6 one), unless the
/// settings say otherwise. One more takes the place of that source's oldest.
pub const MAX_HANDSHAKES_PER_SOURCE: usize = 16;

/// An end that has nothing to say says so this often, unless the settings say otherwise.
pub const KEEPALIVE: Duration = Duration::from_secs(5);

/// A link on which nothing arrives for this long is closed, unless the settings say otherwise.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// Inputs of one kind taken in a turn.
const TURN_INPUTS: usize = 64;

/// The host looks up at least this often.
const MAX_SLEEP: Duration = Duration::from_secs(3_600);

/// What a host is made of.
#[derive(Debug)]
pub struct Setup<E: Edge, N, C> {
    /// The machine, as new: what it persisted before is restored into it.
    pub machine: E::Machine,
    /// The application's side.
    pub edge: E,
    /// Where connections come from.
    pub net: N,
    /// How messages and records become bytes.
    pub codec: C,
    /// Who this node is.
    pub identity: Identity,
    /// The log.
    pub storage: Storage,
    /// The journal beside it, where the codec sends records there.
    pub journal: Option<Journal>,
    /// The rest.
    pub settings: Settings,
}

/// Limits and times of a host.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address to listen on, if any.
    pub listen: Option<String>,
    /// See [`MAX_CONNECTIONS`].
    pub max_connections: usize,
    /// See [`MAX_HANDSHAKES`].
    pub max_handshakes: usize,
    /// See [`MAX_HANDSHAKES_PER_SOURCE`].
    pub max_handshakes_per_source: usize,
    /// See [`HANDSHAKE_TIMEOUT`].
    pub handshake_timeout: Duration,
    /// See [`KEEPALIVE`]. Must be well below the peers' `idle_timeout`.
    pub keepalive: Duration,
    /// See [`IDLE_TIMEOUT`].
    pub idle_timeout: Duration,
    /// See [`LINK_QUEUE_BYTES`]. A message larger than this closes the link it is sent on.
    pub link_queue_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: None,
            max_connections: MAX_CONNECTIONS,
            max_handshakes: MAX_HANDSHAKES,
            max_handshakes_per_source: MAX_HANDSHAKES_PER_SOURCE,
            handshake_timeout: HANDSHAKE_TIMEOUT,
            keepalive: KEEPALIVE,
            idle_timeout: IDLE_TIMEOUT,
            link_queue_bytes: LINK_QUEUE_BYTES,
        }
    }
}

/// Why a host could not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The log failed. [`StorageError::Corrupted`] names a record that is not at the log's end.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A stored record is intact but not one of this machine's.
    #[error("the record at log position {position} is {error}; was it written by another version?")]
    Undecodable {
        /// Its place in the log.
        position: u64,
        /// What the codec found.
        error: WireError,
    },
    /// The address to listen on is not available.
    #[error("cannot listen on {addr}: {error}")]
    Bind {
        /// The address asked for.
        addr: String,
        /// What the system said.
        error: io::Error,
    },
    /// The machine, the edge or the host broke one of its own invariants.
    #[error("the host panicked: {0}")]
    Panicked(String),
}

/// Restores the machine from the log, starts listening, then starts the host. Everything it needs
/// runs on the current tokio runtime and ends before [`Running::stop`] returns. Restoring reads the
/// whole log on the calling task.
pub async fn start<E, N, C>(setup: Setup<E, N, C>) -> Result<Running<E>, HostError>
where
    E: Edge,
    E::Machine: Machine<Message: Send, Record: Send, Command: Send, Event: Send> + Send + 'static,
    N: Net,
    C: Codec<E::Machine>,
{
    let Setup { mut machine, mut edge, net, codec, identity, storage, journal, settings } = setup;
    let span = info_span!("host", me = %identity.id().short());
    span.in_scope(|| restore(&storage, journal.as_ref(), &codec, &mut machine, &mut edge))?;
    let (inbox, arrivals) = Inbox::new();
    let (handle, requests) = Handle::new();
    let (tasks, stop) = (Tasks::new(span.clone()), CancellationToken::new());
    let outbox = Outbox::new(Parts {
        me: identity.id(),
        edge,
        codec,
        log: Log::new(storage, journal),
        link_queue_bytes: settings.link_queue_bytes,
        max_connections: settings.max_connections,
    });
    let mut local_addr = None;
    if let Some(addr) = settings.listen.clone() {
        let bound = match net.bind(&addr).await {
            Ok(listener) => listener.local_addr().map(|addr| (listener, addr)),
            Err(error) => Err(error),
        };
        let (listener, bound) = bound.map_err(|error| HostError::Bind { addr, error })?;
        local_addr = Some(bound);
        let door = Door {
            identity: identity.clone(),
            closings: Arc::clone(&outbox.closings),
            tasks: tasks.clone(),
            limit: settings.handshake_timeout,
            handshakes: Handshakes::new(
                settings.max_handshakes,
                settings.max_handshakes_per_source,
            ),
        };
        tasks.spawn(door.accept_all(listener, inbox.clone()));
    }
    let Marks { store, journal } = outbox.log.next();
    span.in_scope(|| info!(addr = local_addr, log = store, journal, "host starts"));
    let guard = tasks.stop.clone().drop_guard();
    let stop_guard = stop.clone().drop_guard();
    let host = Host {
        machine,
        outbox,
        net,
        identity,
        settings,
        inbox,
        arrivals,
        requests,
        tasks,
        stop,
        steps: 0,
        _guard: guard,
    };
    let task = Some(tokio::spawn(host.run().instrument(span)));
    Ok(Running { handle, local_addr, stop: stop_guard, task })
}

/// A host that runs. Dropping it stops the host soon; [`stop`](Self::stop) waits for it.
#[derive(Debug)]
pub struct Running<E: Edge> {
    handle: Handle<E>,
    local_addr: Option<String>,
    stop: DropGuard,
    task: Option<JoinHandle<Result<(), HostError>>>,
}

impl<E: Edge> Running<E> {
    /// Talks to it.
    #[must_use]
    pub fn handle(&self) -> Handle<E> {
        self.handle.clone()
    }

    /// The address it listens on, with the port that was chosen.
    #[must_use]
    pub fn local_addr(&self) -> Option<&str> {
        self.local_addr.as_deref()
    }

    /// Waits until the host stops by itself, which only an error makes it do. May be dropped at any
    /// await. After the first answer it answers `Ok` at once.
    pub async fn stopped(&mut self) -> Result<(), HostError> {
        let Some(task) = &mut self.task else { return Ok(()) };
        let result = task.await;
        self.task = None;
        result.unwrap_or_else(|error| Err(HostError::Panicked(error.to_string())))
    }

    /// Stops it in order: no more input; what was persisted becomes durable and what was held for
    /// it leaves; links close; every task ends.
    pub async fn stop(self) -> Result<(), HostError> {
        let Self { stop, mut task, .. } = self;
        drop(stop);
        let Some(task) = task.take() else { return Ok(()) };
        task.await.unwrap_or_else(|error| Err(HostError::Panicked(error.to_string())))
    }
}

/// The tasks of one host, all of which end with its token.
#[derive(Clone, Debug)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    span: Span,
}

impl Tasks {
    fn new(span: Span) -> Self {
        Self { tracker: TaskTracker::new(), stop: CancellationToken::new(), span }
    }

    /// Runs `task` until it ends or the host does.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.stop.clone().run_until_cancelled_owned(task);
        self.spawn_to_end(async {
            let _ = task.await;
        });
    }

    /// Runs `task`, which looks after its end by itself.
    fn spawn_to_end(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.tracker.track_future(task).instrument(self.span.clone());
        drop(tokio::spawn(task));
    }

    async fn finish(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// The host's clocks.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    last: Time,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), last: Time::ZERO }
    }

    /// Microseconds since the start; never goes back.
    pub(crate) fn now(&mut self) -> Time {
        self.last = self.last.max(Time(self.start.elapsed().as_micros() as u64));
        self.last
    }
}

fn wall() -> WallTime {
    // A clock before 1970 shows the epoch.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(since.as_millis() as u64)
}

/// One word of the system's randomness.
pub(crate) fn chance() -> u64 {
    getrandom::u64().expect("the system has randomness")
}

struct Host<E: Edge, N: Net, C> {
    machine: E::Machine,
    outbox: Outbox<E, C>,
    net: N,
    identity: Identity,
    settings: Settings,
    inbox: Inbox<N::Stream, E::Machine>,
    arrivals: mpsc::Receiver<Arrival<N::Stream, E::Machine>>,
    requests: mpsc::Receiver<Request<E>>,
    tasks: Tasks,
    stop: CancellationToken,
    steps: u64,
    /// Ends the tasks should this one be dropped or panic.
    _guard: DropGuard,
}

impl<E, N, C> Host<E, N, C>
where
    E: Edge,
    E::Machine: Machine<Message: Send, Record: Send, Command: Send, Event: Send> + Send + 'static,
    N: Net,
    C: Codec<E::Machine>,
{
    async fn run(mut self) -> Result<(), HostError> {
        self.step(Input::Start);
        let result = match self.serve().await {
            Ok(()) => self.drain().await,
            failed => failed,
        };
        if let Err(error) = &result {
            error!(%error, "the log failed");
        }
        self.requests.close();
        // Whoever waits for room in the inbox learns that there is none to come.
        self.arrivals.close();
        while self.arrivals.try_recv().is_ok() {}
        self.tasks.finish().await;
        self.outbox.log.close().await;
        info!("host stopped");
        Ok(result?)
    }

    /// Steps the machine until told to stop.
    async fn serve(&mut self) -> Result<(), StorageError> {
        loop {
            self.turn();
            self.outbox.log.start();
            let busy = !self.outbox.local.is_empty();
            let open = !busy && !self.outbox.is_full();
            let wake = self.wake();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                done = self.outbox.log.done() => self.stored(done?),
                () = sleep(wake) => {}
                Some(request) = self.requests.recv(), if open => self.request(request),
                Some(arrival) = self.arrivals.recv(), if open => self.arrival(arrival),
                () = yield_now(), if busy => {}
            }
        }
    }

    /// Makes durable what was persisted and lets out what waited for it.
    async fn drain(&mut self) -> Result<(), StorageError> {
        loop {
            self.outbox.release();
            self.outbox.log.start();
            if self.outbox.log.is_settled() {
                return Ok(());
            }
            self.outbox.log.done().await?;
        }
    }

    /// Whatever is there to do, up to a bound.
    fn turn(&mut self) {
        self.tick();
        self.dial();
        self.take_inputs();
        let logged = self.outbox.log.next();
        self.outbox.at_edge(logged, |edge, actions| edge.turned(actions));
    }

    /// The host's own inputs come first: what a link brings must not overtake the news of that link.
    fn take_inputs(&mut self) {
        for _ in 0..TURN_INPUTS {
            if let Some(input) = self.outbox.local.pop_front() {
                self.step(input);
                continue;
            }
            if self.outbox.is_full() {
                return;
            }
            let (request, arrival) = (self.requests.try_recv(), self.arrivals.try_recv());
            if request.is_err() && arrival.is_err() {
                return;
            }
            if let Ok(request) = request {
                self.request(request);
            }
            if let Ok(arrival) = arrival {
                self.arrival(arrival);
            }
        }
    }

    /// How long there is nothing to do unless something happens.
    fn wake(&mut self) -> Duration {
        let now = self.outbox.clock.now();
        let due = earliest(self.machine.deadline(), self.outbox.dials.next());
        due.map_or(MAX_SLEEP, |due| Duration::from_micros(due.since_us(now)).min(MAX_SLEEP))
    }

    fn step(&mut self, input: Input<E::Machine>) -> Time {
        let cx = Cx {
            me: self.outbox.me,
            now: self.outbox.clock.now(),
            wall: wall(),
            entropy: chance(),
        };
        self.steps += 1;
        self.machine.handle(cx, input, &mut self.outbox);
        self.outbox.release();
        cx.now
    }

    fn tick(&mut self) {
        let now = self.outbox.clock.now();
        if self.machine.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let now = self.step(Input::Tick);
        if let Some(deadline) = self.machine.deadline() {
            assert!(deadline > now, "a tick at {now:?} left the deadline at {deadline:?}");
        }
    }

    fn dial(&mut self) {
        let now = self.outbox.clock.now();
        if self.outbox.dials.next().is_none_or(|due| due > now) {
            return;
        }
        let outbox = &mut self.outbox;
        let due = outbox.dials.due(now, |peer| outbox.links.contains_key(peer));
        for target in due {
            let (net, identity, inbox) =
                (self.net.clone(), self.identity.clone(), self.inbox.clone());
            let limit = self.settings.handshake_timeout;
            self.tasks.spawn(async move {
                let arrival = match dial(net, identity, target, limit).await {
                    Ok(connected) => Arrival::Connected(Box::new(connected)),
                    Err(refused) => Arrival::Refused(refused),
                };
                inbox.put(arrival).await;
            });
        }
    }

    fn request(&mut self, request: Request<E>) {
        match request {
            Request::Command(command) => drop(self.step(Input::Command(command))),
            Request::Query(query) => {
                let answer = query(&self.machine, &mut self.outbox.edge);
                self.outbox.hold(answer);
                self.outbox.release();
            }
            Request::WithEdge(act) => self.outbox.at_edge(self.outbox.log.next(), act),
            Request::Metrics(give) => drop(give.send(self.outbox.metrics(self.steps))),
        }
    }

    fn arrival(&mut self, arrival: Arrival<N::Stream, E::Machine>) {
        match arrival {
            Arrival::Connected(connected) => {
                let stop = self.tasks.stop.child_token();
                if let Some(link) = self.outbox.connected(*connected, stop) {
                    let Settings { keepalive, idle_timeout: idle, .. } = self.settings;
                    let closings = Arc::clone(&self.outbox.closings);
                    let (codec, inbox) = (self.outbox.codec.clone(), self.inbox.clone());
                    let pulse = Pulse { keepalive, idle };
                    self.tasks.spawn_to_end(link.run(codec, inbox, closings, pulse));
                }
            }
            Arrival::Refused(Refused { target, reason }) => {
                self.outbox.closings.unlinked(&target.addr, reason);
                let now = self.outbox.clock.now();
                self.outbox.dials.failed(&target, now, chance());
            }
            Arrival::Message { link, peer, message, _room } => {
                if self.outbox.is_current(peer, link) {
                    self.step(Input::Message { from: peer, message });
                }
            }
            Arrival::Closed { link, peer, reason } => {
                if self.outbox.is_current(peer, link) {
                    self.outbox.unlink(peer, reason);
                }
            }
        }
    }

    fn stored(&mut self, done: Done<E::Machine>) {
        match done {
            Done::Commit => self.outbox.release(),
            Done::Read(ReadDone { commands, corrupted }) => {
                for report in corrupted {
                    error!(%report, "not served");
                    self.outbox.edge.corrupted(report);
                }
                self.outbox.local.extend(commands.into_iter().map(Input::Command));
            }
        }
    }
}

impl<E: Edge, N: Net, C> fmt::Debug for Host<E, N, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("steps", &self.steps).finish_non_exhaustive()
    }
}
