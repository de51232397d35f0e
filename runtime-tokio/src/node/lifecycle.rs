//! An application that is active on one node of a cluster and passive on the others: it is told, in
//! order and within a time, and what follows when it fails is settled.
//!
//! The order and the outcomes are those of [`quorate_core::hooks`], a machine; here are its clock, the
//! campaign for the name, and the application's own code. In short: *became passive* goes before
//! everything and cancels whatever runs; the name is given back only when it has ended, so that another
//! node becomes active after this one has become passive, as long as this one has that much time.

use std::pin::Pin;
use std::time::Duration;

use quorate_core::hooks::{Command, Event, Hook, Hooks};
use quorate_core::machine::{Cx, Effects, Input, Machine, Never, NodeId, Time, WallTime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::cluster::{Cluster, ClusterError, Health, Life};
use super::leadership::{Campaign, Guard};
use super::observe::Observer;
use super::standing::RETRY;

pub use quorate_core::hooks::{Outcome, Timeouts};

/// As good as for ever.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3_600);

/// What one hook comes to; the text of a failure goes to the log.
pub type Result = std::result::Result<(), String>;

/// An application with a life cycle. A hook that is cancelled is dropped at an await.
pub trait Application: Sync {
    /// The name is this node's: begin. `token` fences what is written elsewhere. If it fails, or its
    /// time runs out, the application is told to become passive and another node has its turn.
    fn became_active(&self, token: u64) -> impl Future<Output = Result> + Send;
    /// The name is lost, or about to be: stop. If it fails, or its time runs out: [`halt`](Self::halt).
    fn became_passive(&self, token: u64) -> impl Future<Output = Result> + Send;
    /// Another node holds the name, or none does.
    fn leader_changed(&self, leader: Option<NodeId>) -> impl Future<Output = Result> + Send {
        let _ = leader;
        async { Ok(()) }
    }
    /// The cluster's health has changed, as this node sees it.
    fn health_changed(&self, health: Health) -> impl Future<Output = Result> + Send {
        let _ = health;
        async { Ok(()) }
    }
    /// It did not become passive, and may still be at work: end it by force, whatever that takes.
    fn halt(&self, token: u64);
}

impl Cluster {
    /// Campaigns for as long as `stop` allows, and runs the hooks of `application`; at the end it is
    /// passive and the name given back.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Stopped`] where the node stops; whatever else goes wrong is tried again.
    pub async fn run(
        &self,
        campaign: Campaign,
        timeouts: Timeouts,
        application: &impl Application,
        stop: CancellationToken,
    ) -> std::result::Result<(), ClusterError> {
        let mut life = self.life().await?;
        life.mark_changed();
        let mut run = Run {
            cluster: self,
            application,
            origin: Instant::now(),
            hooks: Hooks::new(timeouts),
            running: None,
            office: Office::Resting(Instant::now()),
            observer: self.observe(campaign.name.clone()),
            look_at: Instant::now(),
            aside: false,
            life,
            campaign,
        };
        run.serve(stop).await
    }
}

type Running<'a> = Pin<Box<dyn Future<Output = Result> + Send + 'a>>;
type Campaigning = Pin<Box<dyn Future<Output = std::result::Result<Guard, ClusterError>> + Send>>;

type Returning = Pin<Box<dyn Future<Output = std::result::Result<(), ClusterError>> + Send>>;

/// Where this node stands.
enum Office {
    /// It campaigns again then.
    Resting(Instant),
    /// It waits for its turn.
    Campaigning(Campaigning),
    /// It holds the name.
    Held(Guard),
    /// It has lost the name, or is to give it back, and becomes passive.
    Leaving(Guard),
    /// It gives the name back.
    Returning(Returning),
}

struct Run<'a, A> {
    cluster: &'a Cluster,
    application: &'a A,
    campaign: Campaign,
    origin: Instant,
    hooks: Hooks,
    running: Option<(u64, Running<'a>)>,
    office: Office,
    observer: Observer,
    /// When to look at the name's holder again, after that failed.
    look_at: Instant,
    /// Whether another node is to have its turn first.
    aside: bool,
    life: watch::Receiver<Life>,
}

/// What the hooks ask for.
#[derive(Default)]
struct Asked(Vec<Event>);

impl Effects<Hooks> for Asked {
    fn persist(&mut self, record: Never) {
        match record {}
    }
    fn send(&mut self, _: NodeId, message: Never) {
        match message {}
    }
    fn send_now(&mut self, _: NodeId, message: Never) {
        match message {}
    }
    fn emit(&mut self, event: Event) {
        self.0.push(event);
    }
    fn emit_now(&mut self, event: Event) {
        self.0.push(event);
    }
}

/// What has become of the campaign.
enum News {
    /// It begins.
    Campaign(Campaigning),
    /// The name is this node's, or the campaign failed.
    Granted(std::result::Result<Guard, ClusterError>),
    /// The name is lost.
    Lost,
    /// The name is given back, or left to its lease.
    Returned,
}

impl<A: Application> Run<'_, A> {
    async fn serve(&mut self, stop: CancellationToken) -> std::result::Result<(), ClusterError> {
        loop {
            let stopping = stop.is_cancelled();
            if stopping && self.is_over() {
                return Ok(());
            }
            let deadline = self.hooks.deadline().map(|at| self.at(at));
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {}
                (run, success) = ended(&mut self.running) => {
                    self.step(Input::Command(Command::Ended { run, success }));
                }
                news = news(&mut self.office, self.cluster, &self.campaign) => self.hear(news)?,
                () = sleep_until(deadline.unwrap_or(self.origin)), if deadline.is_some() => {
                    self.step(Input::Tick);
                }
                changed = self.life.changed() => {
                    changed.map_err(|_| ClusterError::Stopped)?;
                    let health = self.life.borrow_and_update().health;
                    self.happened(Hook::HealthChanged(health));
                }
                holder = look(&mut self.observer, self.look_at) => match holder {
                    Ok(leader) => self.happened(Hook::LeaderChanged { leader }),
                    Err(ClusterError::Stopped) => return Err(ClusterError::Stopped),
                    Err(_) => self.look_at = Instant::now() + RETRY,
                },
            }
        }
    }

    /// Leaves office; whether that is over.
    fn is_over(&mut self) -> bool {
        let office = Office::Resting(Instant::now() + FOREVER);
        match std::mem::replace(&mut self.office, office) {
            Office::Held(guard) => self.leave(guard),
            leaving @ (Office::Leaving(_) | Office::Returning(_)) => self.office = leaving,
            Office::Resting(_) | Office::Campaigning(_) => {}
        }
        matches!(self.office, Office::Resting(_)) && self.running.is_none()
    }

    fn hear(&mut self, news: News) -> std::result::Result<(), ClusterError> {
        match news {
            News::Campaign(campaigning) => self.office = Office::Campaigning(campaigning),
            News::Granted(Ok(guard)) => {
                let epoch = guard.token();
                self.office = Office::Held(guard);
                self.happened(Hook::BecameActive { epoch });
            }
            News::Granted(Err(ClusterError::Stopped)) => return Err(ClusterError::Stopped),
            News::Granted(Err(error)) => {
                info!(%error, "no campaign");
                self.office = Office::Resting(Instant::now() + RETRY);
            }
            News::Returned => {
                let rest = if std::mem::take(&mut self.aside) { self.campaign.ttl } else { RETRY };
                self.office = Office::Resting(Instant::now() + rest);
            }
            News::Lost => {
                let office = Office::Resting(Instant::now());
                if let Office::Held(guard) = std::mem::replace(&mut self.office, office) {
                    self.leave(guard);
                }
            }
        }
        Ok(())
    }

    fn leave(&mut self, guard: Guard) {
        let epoch = guard.token();
        self.office = Office::Leaving(guard);
        self.happened(Hook::BecamePassive { epoch });
    }

    fn happened(&mut self, hook: Hook) {
        self.step(Input::Command(Command::Happened(hook)));
    }

    fn step(&mut self, input: Input<Hooks>) {
        let (me, now) = (self.cluster.me, Time(self.origin.elapsed().as_micros() as u64));
        let cx = Cx { me, now, wall: WallTime::ZERO, entropy: 0 };
        let mut asked = Asked::default();
        self.hooks.handle(cx, input, &mut asked);
        for event in asked.0 {
            match event {
                Event::Run { run, hook } => {
                    self.running = Some((run, call(self.application, hook)));
                }
                Event::Cancel { run } => drop(self.running.take_if(|(which, _)| *which == run)),
                Event::Over { hook, outcome } => self.over(hook, outcome),
                Event::StepDown { epoch } => {
                    warn!(
                        token = epoch,
                        "the application did not become active: another has its turn"
                    );
                    let office = Office::Resting(Instant::now());
                    // It becomes passive next, and gives the name back then.
                    if let Office::Held(guard) = std::mem::replace(&mut self.office, office) {
                        self.aside = true;
                        self.office = Office::Leaving(guard);
                    }
                }
                Event::Halt { epoch } => {
                    warn!(token = epoch, "the application did not become passive: ended by force");
                    self.application.halt(epoch);
                }
            }
        }
    }

    fn over(&mut self, hook: Hook, outcome: Outcome) {
        if matches!(outcome, Outcome::Failed | Outcome::TimedOut) {
            warn!(?hook, ?outcome, "a hook failed");
        }
        if !matches!(hook, Hook::BecamePassive { .. }) {
            return;
        }
        match std::mem::replace(&mut self.office, Office::Resting(Instant::now())) {
            Office::Leaving(guard) => self.office = Office::Returning(Box::pin(guard.release())),
            other => self.office = other,
        }
    }

    fn at(&self, time: Time) -> Instant {
        self.origin + Duration::from_micros(time.0)
    }
}

fn call<A: Application>(application: &A, hook: Hook) -> Running<'_> {
    match hook {
        Hook::BecameActive { epoch } => Box::pin(application.became_active(epoch)),
        Hook::BecamePassive { epoch } => Box::pin(application.became_passive(epoch)),
        Hook::LeaderChanged { leader } => Box::pin(application.leader_changed(leader)),
        Hook::HealthChanged(health) => Box::pin(application.health_changed(health)),
    }
}

/// The end of the hook that runs; never, if none does.
async fn ended(running: &mut Option<(u64, Running<'_>)>) -> (u64, bool) {
    let Some((run, hook)) = running else { return std::future::pending().await };
    let result = hook.await;
    let run = *run;
    *running = None;
    if let Err(reason) = &result {
        warn!(reason, "a hook says that it failed");
    }
    (run, result.is_ok())
}

async fn news(office: &mut Office, cluster: &Cluster, campaign: &Campaign) -> News {
    match office {
        Office::Resting(until) => {
            sleep_until(*until).await;
            let (cluster, campaign) = (cluster.clone(), campaign.clone());
            News::Campaign(Box::pin(async move {
                cluster.campaign(campaign).await?.wait_for_leadership(FOREVER).await
            }))
        }
        Office::Campaigning(campaigning) => News::Granted(campaigning.await),
        Office::Held(guard) => {
            guard.lost().await;
            News::Lost
        }
        Office::Leaving(_) => std::future::pending().await,
        Office::Returning(returning) => {
            // What is not given back ends with its lease.
            let _ = returning.await;
            News::Returned
        }
    }
}

/// Who holds the name, from `at` on.
async fn look(
    observer: &mut Observer,
    at: Instant,
) -> std::result::Result<Option<NodeId>, ClusterError> {
    sleep_until(at).await;
    Ok(observer.next().await?.map(|holder| holder.node))
}
