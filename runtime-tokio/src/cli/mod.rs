//! The command line: what it says, what each command does, how answers are shown.
//!
//! Most commands are one [`Request`] to a node, answered by the running one over its control socket or,
//! where none runs, by one that this process starts on the data directory and that talks to nobody.
//! Which is which the command does not notice.

mod args;
mod cluster;
mod demo;
mod import;
mod print;
mod shell;
mod sim;
mod up;

use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};
use quorate_core::entry::MAX_BODY_BYTES;
use quorate_runtime_tokio::node::data_dir::{DataDir, node_id};
use tokio::time::timeout;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::control::execute::data_dir_failure;
use crate::control::protocol::cluster::Ask;
use crate::control::protocol::{Blob, Code, Failure, Pattern, Request};
use crate::control::session::Session;
use args::{Cli, Command, CounterCommand, Global, SetCommand};
use print::Output;

/// Runs the command that the process's arguments ask for.
pub(crate) fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misunderstood(&error),
    };
    let json = cli.global.json;
    // What redb panics about on a damaged log is caught, and told in one sentence.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let in_redb = panic.location().is_some_and(|at| at.file().contains("/redb-"));
        if !in_redb {
            usual(panic);
        }
    }));
    let long_lived = matches!(cli.command, Command::Up(_));
    if let Err(failure) = start_log(&cli.global, long_lived) {
        return exit(&failure, json);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            let failure = Failure::new(Code::Failed, format!("cannot start: {error}"));
            return exit(&failure, json);
        }
    };
    let result = runtime.block_on(run(cli));
    // A thread that reads the terminal must not keep the process alive.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(failure) => exit(&failure, json),
    }
}

fn exit(failure: &Failure, json: bool) -> ExitCode {
    tell("quorate: ", failure, json);
    ExitCode::from(failure.code as u8)
}

/// Says on stderr what went wrong, if that is not said already: in a sentence, or as a JSON document.
fn tell(who: &str, failure: &Failure, json: bool) {
    let Failure { code, message, detail } = failure;
    if message.is_empty() {
    } else if json {
        let mut document = detail.clone();
        document.insert("error".to_owned(), message.clone().into());
        document.insert("code".to_owned(), serde_json::json!(code));
        document.insert("exit_code".to_owned(), (*code as u8).into());
        eprintln!("{}", serde_json::Value::Object(document));
    } else {
        eprintln!("{who}{message}");
    }
}

/// Arguments that are not understood, or that ask for help.
fn misunderstood(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || !std::env::args_os().any(|arg| arg == "--json") {
        error.exit();
    }
    exit(&usage(error), true)
}

/// What clap says, without its advice.
fn usage(error: &clap::Error) -> Failure {
    let text = error.to_string();
    let text = text.split("\n\n").next().unwrap_or_default();
    Failure::new(Code::Usage, text.strip_prefix("error: ").unwrap_or(text).trim())
}

/// The log goes to stderr: what `RUST_LOG` says; else nothing, for a node its peers' comings and goings,
/// and more with each `-v`. A command's own failure is not logged: its one sentence says it.
fn start_log(global: &Global, long_lived: bool) -> Result<(), Failure> {
    let level = match (global.verbose, long_lived) {
        (0, false) => LevelFilter::OFF,
        (0, true) | (1, false) => LevelFilter::INFO,
        (1, true) | (2, _) => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let targets = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => text.parse::<Targets>().map_err(|error| {
            Failure::new(Code::Usage, format!("RUST_LOG=`{text}` is not understood: {error}"))
        })?,
        _ => Targets::new().with_default(level.min(LevelFilter::WARN)).with_targets([
            ("quorate", level),
            ("quorate_core", level),
            ("quorate_runtime_tokio", level),
        ]),
    };
    let ansi = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(ansi)
        .with_target(global.verbose > 0);
    // Set once: the shell's commands find it set.
    let _ = tracing_subscriber::registry().with(lines).with(targets).try_init();
    Ok(())
}

/// Runs one command; returns with what the process is to end.
async fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Leader(leader) => {
            Box::pin(cluster::lead(&data_dir(&global)?, leader, global.json)).await
        }
        Command::Lock(lock) => {
            Box::pin(cluster::lock(&data_dir(&global)?, lock, global.json)).await
        }
        Command::Shell => Box::pin(shell::run(&data_dir(&global)?, &global)).await,
        other => run_plain(&global, other).await.map(|()| ExitCode::SUCCESS),
    }
}

async fn run_plain(global: &Global, command: Command) -> Result<(), Failure> {
    if let Command::Sim(command) = command {
        return sim::run(command, global.json); // needs no data directory
    }
    let data = data_dir(global)?;
    let mut output = Output::new(global.json);
    let request = match command {
        Command::Up(up) => return up::run(&data, up, &mut output).await,
        Command::Id => return id(&data, &mut output),
        Command::Demo => return demo::run(global.json).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "quorate", &mut script);
            return output.raw(&script);
        }
        Command::Import(import) => return import::run(&data, import, &mut output).await,
        Command::Export { prefix } => {
            output = Output::new(true);
            Request::List {
                prefix: blob(prefix.unwrap_or_default()),
                from: None,
                to: None,
                limit: None,
            }
        }
        other => request(other)?,
    };
    ask(&data, request, &mut output).await
}

/// Sends a request and shows the replies.
async fn ask(data: &Path, request: Request, output: &mut Output) -> Result<(), Failure> {
    let must_run =
        matches!(request, Request::Watch { .. } | Request::Sync { .. } | Request::Cluster { .. });
    // A node that is stopped or overloaded would not keep it. Each page of a list has as much.
    let limit = match &request {
        Request::Cluster { ask, .. } if matches!(**ask, Ask::Watch { .. }) => None,
        Request::Cluster { timeout_ms, .. } => {
            Some(Duration::from_millis(*timeout_ms) + cluster::hold::LATE)
        }
        _ => None,
    };
    let mut session = Session::open(data, must_run).await?;
    let shown = show(&mut session, request, limit, output).await;
    let closed = session.close().await;
    shown.and(closed)
}

/// Shows the replies; the request is taken, and each of them comes, within `limit` if there is one.
async fn show(
    session: &mut Session,
    request: Request,
    limit: Option<Duration>,
    output: &mut Output,
) -> Result<(), Failure> {
    output.begin(&request);
    within(limit, session.ask(request)).await?;
    while let Some(reply) = within(limit, session.next()).await? {
        if !output.reply(&reply)? {
            return Ok(());
        }
    }
    output.end()
}

async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match limit {
        Some(limit) => timeout(limit, work).await.unwrap_or_else(|_| Err(cluster::hold::silent())),
        None => work.await,
    }
}

/// The request that a command comes to.
fn request(command: Command) -> Result<Request, Failure> {
    Ok(match command {
        Command::Status => Request::Status,
        Command::Peers => Request::Peers,
        Command::Doctor { trust_disk } => Request::Doctor { trust_disk },
        Command::Put { key, value } => {
            Request::Put { key: blob(key), value: value_or_stdin(value, MAX_BODY_BYTES)? }
        }
        Command::Get { key } => Request::Get { key: blob(key) },
        Command::Delete { key } => Request::Delete { key: blob(key) },
        Command::List { prefix, from, to, limit } => Request::List {
            prefix: prefix.map(blob).unwrap_or_default(),
            from: from.map(blob),
            to: to.map(blob),
            limit,
        },
        Command::History { key, limit } => Request::History { key: blob(key), limit },
        Command::Heads { key } => Request::Heads { key: blob(key) },
        Command::Watch { prefix, key, glob } => Request::Watch {
            pattern: match (key, glob) {
                (Some(key), _) => Pattern::Key(blob(key)),
                (None, Some(glob)) => Pattern::Glob(blob(glob)),
                (None, None) => Pattern::Prefix(prefix.map(blob).unwrap_or_default()),
            },
        },
        Command::Counter { command: CounterCommand::Add { key, delta } } => {
            Request::CounterAdd { key: blob(key), delta }
        }
        Command::Set { command: SetCommand::Add { key, member } } => {
            Request::SetAdd { key: blob(key), member: blob(member) }
        }
        Command::Set { command: SetCommand::Remove { key, member } } => {
            Request::SetRemove { key: blob(key), member: blob(member) }
        }
        Command::Invite { node } => Request::Invite { node },
        Command::Join { ticket } => Request::Join { ticket: ticket.concat() },
        Command::Remove { node, leave } => Request::Remove { node, leave },
        Command::Sync { node, wait } => Request::Sync { node, limit_ms: wait.saturating_mul(1000) },
        Command::Cluster(command) => cluster::cluster_request(command),
        Command::Reg(command) => cluster::reg_request(command)?,
        Command::Stepdown(step_down) => cluster::step_down_request(step_down),
        Command::WaitLeader(wait) => cluster::wait_leader_request(wait),
        Command::Up(_)
        | Command::Leader(_)
        | Command::Lock(_)
        | Command::Id
        | Command::Demo
        | Command::Shell
        | Command::Sim(_)
        | Command::Completions { .. }
        | Command::Import(_)
        | Command::Export { .. } => unreachable!("handled before"),
    })
}

fn blob(text: std::ffi::OsString) -> Blob {
    Blob(text.into_vec())
}

/// The value itself, or what standard input holds where it is `-`, `most` bytes at most.
fn value_or_stdin(value: std::ffi::OsString, most: usize) -> Result<Blob, Failure> {
    if value != "-" {
        return Ok(blob(value));
    }
    let mut bytes = Vec::new();
    let read = io::stdin().take(most as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::new(Code::Failed, format!("standard input: {error}")))?;
    if bytes.len() > most {
        let message = format!("standard input holds more than a value may, {most} bytes");
        return Err(Failure::new(Code::Usage, message));
    }
    Ok(Blob(bytes))
}

/// Shows the node's id; makes a node where there is none.
fn id(data: &Path, output: &mut Output) -> Result<(), Failure> {
    use quorate_runtime_tokio::node::data_dir::DataDirError;
    let id = match node_id(data) {
        Ok(id) => id,
        Err(DataDirError::Missing(_)) => {
            DataDir::open(data, true).map_err(|error| data_dir_failure(&error))?;
            eprintln!("made a new node in {}", data.display());
            node_id(data).map_err(|error| data_dir_failure(&error))?
        }
        Err(error) => return Err(data_dir_failure(&error)),
    };
    output.id(&id.to_string())
}

/// Where the node lives: `--data`, `QUORATE_DATA`, or the user's data directory.
fn data_dir(global: &Global) -> Result<PathBuf, Failure> {
    if let Some(data) = &global.data {
        return std::path::absolute(data).map_err(|error| {
            Failure::new(Code::Usage, format!("--data `{}`: {error}", data.display()))
        });
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
    base.map(|base| base.join("quorate")).ok_or_else(|| {
        let message = "neither HOME nor QUORATE_DATA is set: name the data directory with --data";
        Failure::new(Code::Usage, message)
    })
}
