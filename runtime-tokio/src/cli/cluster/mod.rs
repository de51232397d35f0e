//! The commands that need a cluster: who takes part, the registry, leaders and locks.
//!
//! All but `leader` and `lock` are one request to the running node. Those two hold a name
//! ([`hold`]) and run a command meanwhile ([`child`]).

pub(super) mod args;
mod child;
pub(super) mod hold;
pub(super) mod print;
mod words;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::signal::Signal;
use quorate_core::cluster::Loss;
use quorate_core::registry::MAX_VALUE_BYTES;
use tokio::time::{Instant, sleep_until, timeout};

use super::{blob, value_or_stdin};
use crate::control::protocol::cluster::{
    Ask, GivenDoc, HolderDoc, ReadDoc, SeatDoc, TargetDoc, TxnDoc,
};
use crate::control::protocol::{Blob, Code, Failure, Request};
use args::{
    ClusterCommand, Leader, LeaseCommand, Limit, Lock, ReadArgs, RegCommand, StepDown, WaitLeader,
};
use child::{Child, Signals};
use hold::{COURTESY, Candidacy, Hold, REQUEST, Stand, Wanted, campaign};

/// How long a request may take that needs nobody else.
const LOCAL_MS: u64 = 5_000;

/// The request that a command of `quorate cluster` comes to.
pub(super) fn cluster_request(command: ClusterCommand) -> Request {
    match command {
        ClusterCommand::Init => asked(LOCAL_MS, Ask::Init),
        ClusterCommand::Add { node, witness, learner, limit } => {
            let seat = match (witness, learner) {
                (true, _) => SeatDoc::Witness,
                (_, true) => SeatDoc::Learner,
                _ => SeatDoc::Voter,
            };
            asked(millis(limit.timeout), Ask::Add { node, seat })
        }
        ClusterCommand::Remove { node, limit } => within(limit, Ask::Remove { node }),
        ClusterCommand::Promote { node, limit } => within(limit, Ask::Promote { node }),
        ClusterCommand::Status => asked(LOCAL_MS, Ask::Status),
    }
}

/// The request that a command of `quorate reg` comes to.
pub(super) fn reg_request(command: RegCommand) -> Result<Request, Failure> {
    Ok(match command {
        RegCommand::Get { key, read: how, limit } => {
            within(limit, Ask::Get { key: blob(key), read: read(how) })
        }
        RegCommand::Put { key, value, prev_revision, with, limit } => {
            let given = GivenDoc { previous: prev_revision, fence: with.fence.map(Into::into) };
            let (key, value) = (blob(key), value_or_stdin(value, MAX_VALUE_BYTES)?);
            within(limit, Ask::Put { key, value, lease: with.lease, given })
        }
        RegCommand::Cas { key, expected, value, with, limit } => {
            let (key, expected, value) =
                (blob(key), blob(expected), value_or_stdin(value, MAX_VALUE_BYTES)?);
            let fence = with.fence.map(Into::into);
            within(limit, Ask::Cas { key, expected, value, lease: with.lease, fence })
        }
        RegCommand::Delete { key, prev_revision, fence, limit } => {
            let given = GivenDoc { previous: prev_revision, fence: fence.map(Into::into) };
            within(limit, Ask::Delete { key: blob(key), given })
        }
        RegCommand::List { prefix, limit, keys_only, read: how, deadline } => {
            let prefix = prefix.map(blob).unwrap_or_default();
            within(deadline, Ask::List { prefix, limit, keys_only, read: read(how) })
        }
        RegCommand::Watch { prefix, key, name, from } => {
            let target = match (key, name) {
                (Some(key), _) => TargetDoc::Key(blob(key)),
                (None, Some(name)) => TargetDoc::Name(blob(name)),
                (None, None) => TargetDoc::Prefix(prefix.map(blob).unwrap_or_default()),
            };
            asked(LOCAL_MS, Ask::Watch { target, from })
        }
        RegCommand::Txn { compare, then, otherwise, fence, limit } => {
            let steps =
                |steps: Vec<OsString>| steps.into_iter().map(words::step).collect::<Result<_, _>>();
            let txn = TxnDoc {
                compare: compare.into_iter().map(words::condition).collect::<Result<_, _>>()?,
                then: steps(then)?,
                otherwise: steps(otherwise)?,
                fence: fence.map(Into::into),
            };
            within(limit, Ask::Txn(txn))
        }
        RegCommand::Lease { command } => match command {
            LeaseCommand::Grant { ttl, limit } => within(limit, Ask::Grant { ttl_ms: millis(ttl) }),
            LeaseCommand::KeepAlive { lease, limit } => within(limit, Ask::KeepAlive { lease }),
            LeaseCommand::Revoke { lease, limit } => within(limit, Ask::Revoke { lease }),
        },
    })
}

/// The request of `quorate stepdown`.
pub(super) fn step_down_request(StepDown { name, to, limit }: StepDown) -> Request {
    asked(millis(limit.timeout), Ask::StepDown { name: blob(name), to })
}

/// The request of `quorate wait-leader`.
pub(super) fn wait_leader_request(WaitLeader { name, timeout }: WaitLeader) -> Request {
    asked(millis(timeout), Ask::WaitLeader { name: blob(name) })
}

fn asked(timeout_ms: u64, ask: Ask) -> Request {
    Request::Cluster { timeout_ms, ask: Box::new(ask) }
}

fn within(limit: Limit, ask: Ask) -> Request {
    asked(millis(limit.timeout), ask)
}

fn read(ReadArgs { local, by_lease }: ReadArgs) -> ReadDoc {
    match (local, by_lease) {
        (true, _) => ReadDoc::Local,
        (_, true) => ReadDoc::ByLease,
        _ => ReadDoc::Linearizable,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// `quorate leader`.
pub(super) async fn lead(data: &Path, leader: Leader, json: bool) -> Result<ExitCode, Failure> {
    let Leader { name, priority, value, ttl, grace, run } = leader;
    let wanted = Wanted { name: blob(name), value: blob(value), priority, ttl };
    let told = Told { json, to_stdout: run.is_empty() };
    hold_and_run(data, wanted, None, &run, grace, &told).await
}

/// `quorate lock`.
pub(super) async fn lock(data: &Path, lock: Lock, json: bool) -> Result<ExitCode, Failure> {
    let Lock { name, ttl, wait, grace, run } = lock;
    let wanted = Wanted { name: blob(name), value: Blob::default(), priority: 0, ttl };
    let told = Told { json, to_stdout: false };
    hold_and_run(data, wanted, Some(wait), &run, grace, &told).await
}

/// Campaigns, runs the command, if there is one, while the name is held, and gives the name back.
async fn hold_and_run(
    data: &Path,
    wanted: Wanted,
    wait: Option<Duration>,
    command: &[OsString],
    grace: Duration,
    told: &Told,
) -> Result<ExitCode, Failure> {
    let mut signals = Signals::new()?;
    let hold = match obtain(data, wanted, wait, &mut signals, told).await? {
        Ok(hold) => hold,
        Err(signal) => return Ok(ended_by(signal)),
    };
    if command.is_empty() {
        told.leading(&hold);
        return just_hold(hold, &mut signals).await;
    }
    if wait.is_none() {
        told.leading(&hold);
    }
    let environment = [
        ("QUORATE_NAME", OsString::from_vec(hold.name().0.clone())),
        ("QUORATE_TOKEN", hold.token.to_string().into()),
        ("QUORATE_LEASE", hold.lease().to_string().into()),
    ];
    let mut child = match Child::start(command, &environment) {
        Ok(child) => child,
        Err(failure) => {
            given_back(hold, Loss::Released).await;
            return Err(failure);
        }
    };
    let ended = {
        let mut lost = std::pin::pin!(hold.lost(hold.margin(grace)));
        loop {
            tokio::select! {
                biased;
                loss = &mut lost => break Err(loss),
                status = child.ended() => break Ok(status?),
                signal = signals.next() => child.signal(signal),
            }
        }
    };
    match ended {
        Ok(status) => {
            given_back(hold, Loss::Released).await;
            Ok(ExitCode::from(child::code(status)))
        }
        Err(loss) => {
            stop(&mut child, &hold, loss, grace).await;
            let failure = lost(&hold, loss, "; the command was stopped");
            given_back(hold, loss).await;
            Err(failure)
        }
    }
}

/// Waits until the name is held; or for the signal that ended the waiting.
async fn obtain(
    data: &Path,
    wanted: Wanted,
    wait: Option<Duration>,
    signals: &mut Signals,
    told: &Told,
) -> Result<Result<Hold, Signal>, Failure> {
    let patience = wait.map(|wait| Instant::now() + wait);
    loop {
        // Whoever waits for less than a request may take hears sooner why there is no answer.
        let left =
            patience.map_or(REQUEST, |until| until.saturating_duration_since(Instant::now()));
        let limit = left.clamp(COURTESY, REQUEST);
        let stand = tokio::select! {
            biased;
            // What was asked for meanwhile ends with its lease.
            signal = signals.end() => return Ok(Err(signal)),
            stand = campaign(data, wanted.clone(), limit) => stand?,
        };
        let (candidacy, before) = match stand {
            Stand::Held(hold) => return Ok(Ok(hold)),
            Stand::Queued(candidacy, before) => (candidacy, before),
        };
        if wait != Some(Duration::ZERO) {
            told.waiting(&candidacy, &wanted.name, before).await;
        }
        let result = tokio::select! {
            biased;
            signal = signals.end() => Err(Ok(signal)),
            granted = candidacy.granted() => Ok(granted),
            () = out_of(patience) => Err(Err(in_vain(&candidacy, &wanted.name, wait).await)),
        };
        match result {
            Ok(Ok(token)) => return Ok(Ok(candidacy.hold(token))),
            // Without its lease it has lost its place: it stands again.
            Ok(Err(loss)) => {
                tracing::info!(%loss, "the place in the queue is lost");
                if loss == Loss::SteppedDown {
                    candidacy.leave().await;
                }
            }
            Err(why) => {
                candidacy.leave().await;
                return why.map(Err);
            }
        }
    }
}

async fn out_of(patience: Option<Instant>) {
    match patience {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Says for how long who was waited for; or why nobody can say.
async fn in_vain(candidacy: &Candidacy, name: &Blob, wait: Option<Duration>) -> Failure {
    let holder = candidacy.holder().await;
    let (name, waited) = (print::line(name), print::time(wait.unwrap_or_default()));
    let in_vain = |who: &str| format!("waited {waited} in vain for `{name}`: {who}");
    let who = match holder {
        Ok(Some(holder)) => {
            let HolderDoc { node, token, .. } = holder;
            format!("{} holds it, token {token}", print::short_id(&node))
        }
        Err(failure) if failure.code == Code::Unreachable => {
            return Failure { message: in_vain(&failure.message), ..failure };
        }
        _ => "it is not known who holds it".to_owned(),
    };
    Failure::new(Code::TimedOut, in_vain(&who))
}

/// Holds until a signal, or the loss.
async fn just_hold(hold: Hold, signals: &mut Signals) -> Result<ExitCode, Failure> {
    let ended = tokio::select! {
        biased;
        loss = hold.lost(Duration::ZERO) => Err(loss),
        signal = signals.end() => Ok(signal),
    };
    match ended {
        Ok(_) => {
            given_back(hold, Loss::Released).await;
            Ok(ExitCode::SUCCESS)
        }
        Err(loss) => {
            let failure = lost(&hold, loss, "");
            given_back(hold, loss).await;
            Err(failure)
        }
    }
}

/// Stops the command: at once where the name may be another's already; else it may end in order, for
/// `grace`, and for no longer than this process may believe that it holds.
async fn stop(child: &mut Child, hold: &Hold, loss: Loss, grace: Duration) {
    if loss != Loss::Taken {
        child.signal(Signal::SIGTERM);
        // Whoever is stopped does not hear it otherwise.
        child.signal(Signal::SIGCONT);
        tokio::select! {
            biased;
            _ = timeout(grace, child.ended()) => {}
            () = hold.over() => {}
        }
    }
    // Whatever it has started, too.
    child.signal(Signal::SIGKILL);
    let _ = child.ended().await;
}

/// Gives the name back, now that the work has stopped; unless it is another's already, or may be.
async fn given_back(hold: Hold, loss: Loss) {
    if loss == Loss::Taken {
        return;
    }
    tokio::select! {
        biased;
        released = hold.release() => if let Err(failure) = released {
            tracing::info!(%failure, "the name is not given back: it goes when the lease ends");
        },
        () = hold.over() => {}
    }
}

fn lost(hold: &Hold, loss: Loss, and: &str) -> Failure {
    let (name, token) = (print::line(hold.name()), hold.token);
    let message = format!("lost `{name}` (token {token}): {loss}{and}");
    let why = match loss {
        Loss::Expired => "expired",
        Loss::Zombie => "zombie",
        Loss::Released => "released",
        Loss::SteppedDown => "stepped_down",
        Loss::Taken => "taken",
    };
    Failure::new(Code::Lost, message).with("token", token).with("loss", why)
}

fn ended_by(signal: Signal) -> ExitCode {
    ExitCode::from(128 + u8::try_from(signal as i32).unwrap_or(0))
}

/// How a holder tells what it does: on stdout, unless that is its command's.
struct Told {
    json: bool,
    to_stdout: bool,
}

impl Told {
    fn leading(&self, hold: &Hold) {
        let (name, token, lease) = (hold.name(), hold.token, hold.lease());
        let document = serde_json::json!({
            "event": "holding", "name": name, "token": token, "lease": lease,
        });
        self.say(&document, &format!("leading `{}`, token {token}", print::line(name)));
    }

    async fn waiting(&self, candidacy: &Candidacy, name: &Blob, before: u32) {
        // Who holds it is a courtesy: if nobody can say, it is waited for all the same.
        let Ok(Some(holder)) = candidacy.holder().await else { return };
        let document = serde_json::json!({
            "event": "waiting", "name": name, "before": before, "holder": holder,
        });
        let others = match before {
            0 => String::new(),
            n => format!("; {n} more before this one"),
        };
        let (name, node) = (print::line(name), print::short_id(&holder.node));
        let token = holder.token;
        let text = format!("waiting for `{name}`: {node} holds it, token {token}{others}");
        self.say(&document, &text);
    }

    fn say(&self, document: &serde_json::Value, text: &str) {
        let text = if self.json { document.to_string() } else { text.to_owned() };
        match self.to_stdout {
            true => println!("{text}"),
            false => eprintln!("{text}"),
        }
    }
}
