//! The command that runs while a name is held: a process group of its own, so that whatever it has
//! started ends with it. At a terminal it gets the terminal, as a shell's job does.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};
use tokio::process::{Child as Process, Command};
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::control::protocol::{Code, Failure};

/// A running command.
#[derive(Debug)]
pub(super) struct Child {
    process: Process,
    group: Pid,
    /// Told when a child has stopped or ended.
    changes: Stream,
    /// Whether it was given the terminal.
    terminal: bool,
}

impl Child {
    /// Starts `command`, with `environment` beside that of this process.
    pub(super) fn start(
        command: &[OsString],
        environment: &[(&str, OsString)],
    ) -> Result<Child, Failure> {
        let [program, arguments @ ..] = command else {
            return Err(Failure::new(Code::Usage, "there is no command to run"));
        };
        let failed = |error: io::Error| {
            let code = match error.kind() {
                io::ErrorKind::NotFound => Code::NotFound,
                _ => Code::Failed,
            };
            Failure::new(code, format!("cannot run `{}`: {error}", program.display()))
        };
        let changes = signal(SignalKind::child()).map_err(failed)?;
        let environment = environment.iter().map(|(name, value)| (name, value));
        let process = Command::new(program)
            .args(arguments)
            .envs(environment)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let pid = process.id().and_then(|id| i32::try_from(id).ok());
        let group = Pid::from_raw(pid.expect("a process that was not waited for has an id"));
        let terminal = io::stdin().is_terminal() && tcgetpgrp(io::stdin()) == Ok(getpgrp());
        let child = Child { process, group, changes, terminal };
        child.give_terminal(group);
        // It may have stopped for want of the terminal.
        child.signal(Signal::SIGCONT);
        Ok(child)
    }

    /// Sends a signal to the command and all that it has started.
    pub(super) fn signal(&self, signal: Signal) {
        // Whoever has ended hears nothing.
        let _ = killpg(self.group, signal);
    }

    /// Waits for its end. When it is stopped at the terminal, this process stops too, and the command
    /// goes on with it.
    pub(super) async fn ended(&mut self) -> Result<ExitStatus, Failure> {
        let status = loop {
            tokio::select! {
                biased;
                status = self.process.wait() => break status,
                _ = self.changes.recv(), if self.terminal => self.follow_stop(),
            }
        };
        self.give_terminal(getpgrp());
        status.map_err(|error| Failure::new(Code::Failed, format!("waiting for it: {error}")))
    }

    fn follow_stop(&self) {
        let flags = WaitPidFlag::WSTOPPED | WaitPidFlag::WNOHANG;
        if let Ok(WaitStatus::Stopped(..)) = waitid(Id::Pid(self.group), flags) {
            self.give_terminal(getpgrp());
            // The shell that started this process has the terminal until it lets it go on.
            let _ = killpg(getpgrp(), Signal::SIGSTOP);
            self.give_terminal(self.group);
            self.signal(Signal::SIGCONT);
        }
    }

    /// Makes `group` the terminal's foreground, where there is one to give. A process that is not itself
    /// in the foreground is stopped for that, unless it blocks the signal.
    fn give_terminal(&self, group: Pid) {
        if self.terminal {
            let mut quiet = SigSet::empty();
            quiet.add(Signal::SIGTTOU);
            if let Ok(before) = quiet.thread_swap_mask(SigmaskHow::SIG_BLOCK) {
                // A terminal that has gone needs no foreground.
                let _ = tcsetpgrp(io::stdin(), group);
                let _ = before.thread_set_mask();
            }
        }
    }
}

/// The exit code of a command, as a shell tells it: 128 and the signal for one that was killed.
pub(super) fn code(status: ExitStatus) -> u8 {
    let of_signal = || status.signal().map_or(1, |signal| 128 + signal);
    u8::try_from(status.code().unwrap_or_else(of_signal)).unwrap_or(1)
}

/// What this process is told to pass on.
#[derive(Debug)]
pub(super) struct Signals {
    streams: Vec<(Signal, Stream)>,
}

impl Signals {
    pub(super) fn new() -> Result<Signals, Failure> {
        let of = |kind: Signal| {
            let stream = signal(SignalKind::from_raw(kind as i32));
            stream.map(|stream| (kind, stream))
        };
        let kinds = [
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
        ];
        let streams = kinds.into_iter().map(of).collect::<io::Result<_>>();
        let streams = streams.map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
        Ok(Signals { streams })
    }

    /// The next one. May be dropped at any await.
    pub(super) async fn next(&mut self) -> Signal {
        std::future::poll_fn(|cx| {
            for (kind, stream) in &mut self.streams {
                if stream.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready(*kind);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// The next one that asks to end.
    pub(super) async fn end(&mut self) -> Signal {
        loop {
            let signal = self.next().await;
            if !matches!(signal, Signal::SIGUSR1 | Signal::SIGUSR2) {
                return signal;
            }
        }
    }
}
