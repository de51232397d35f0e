//! Real processes of the binary `quorate`, in directories of their own, on ports the system chose.
#![allow(dead_code, reason = "each test file uses a part")]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The binary, with an environment that does not meddle.
pub(crate) fn quorate<S: AsRef<OsStr>>(data: &Path, args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.env_remove("RUST_LOG").env_remove("QUORATE_DATA").env("NO_COLOR", "1");
    command.arg("--data").arg(data).args(args).stdin(Stdio::null());
    command
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    pub(crate) fn of(output: &Output) -> Done {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or(-1);
        Done { code, out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Its output, if it went well.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Its one sentence, if it failed with `code`.
    pub(crate) fn refused(self, code: i32) -> String {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.err.lines().count(), 1, "one sentence: {self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
        self.err
    }
}

impl Done {
    /// It ended with `code` and said nothing: what there was to say was its command's to say.
    pub(crate) fn ended_silently(self, code: i32) {
        assert_eq!((self.code, &self.out[..], &self.err[..]), (code, "", ""));
    }
}

/// A data directory, and the node that runs on it, if one does.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) data: PathBuf,
    pub(crate) id: String,
    up: Option<Up>,
    home: tempfile::TempDir,
}

#[derive(Debug)]
struct Up {
    child: Child,
    listens: String,
}

impl Drop for Up {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Place {
    /// A new node that does not run.
    pub(crate) fn new() -> Place {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        let made = Done::of(&quorate(&data, &["id"]).output().unwrap());
        let id = made.ok().trim().to_owned();
        Place { data, id, up: None, home }
    }

    /// A new node that runs.
    pub(crate) fn up() -> Place {
        let mut place = Place::new();
        place.start();
        place
    }

    /// A copy of the directory, as a backup program makes one, on which no node runs.
    pub(crate) fn copy(&self) -> Place {
        let home = tempfile::tempdir().unwrap();
        let data = home.path().join("data");
        let done = Command::new("cp").arg("-a").arg(&self.data).arg(&data).status().unwrap();
        assert!(done.success());
        Place { data, id: self.id.clone(), up: None, home }
    }

    /// Runs the node; on the port it had before, if it had one.
    pub(crate) fn start(&mut self) {
        self.start_as(|up| up);
    }

    /// Runs the node with further arguments.
    pub(crate) fn start_with(&mut self, args: &[&str]) {
        self.start_as(|mut up| {
            up.args(args);
            up
        });
    }

    /// Runs the node by what `made` makes of the command.
    pub(crate) fn start_as(&mut self, made: impl FnOnce(Command) -> Command) {
        let listen = self.up.take().map_or("127.0.0.1:0".to_owned(), |up| up.listens.clone());
        let mut child = made(quorate(&self.data, &["up", "--json", "--listen", &listen]))
            .stdout(Stdio::piped())
            .stderr(File::create(self.log_file()).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the node did not start: {}", self.log());
        let banner: Json = serde_json::from_str(&line).unwrap();
        let listens = banner["listens"].as_str().unwrap().to_owned();
        self.up = Some(Up { child, listens });
    }

    /// What the node has logged since its last start.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap()
    }

    fn log_file(&self) -> PathBuf {
        self.home.path().join("log")
    }

    /// Kills the node with SIGKILL.
    pub(crate) fn kill(&mut self) {
        let up = self.up.as_mut().expect("a node that runs");
        up.child.kill().unwrap();
        up.child.wait().unwrap();
    }

    /// Waits for the node's own end; returns its exit code.
    pub(crate) fn ended(&mut self) -> i32 {
        let up = self.up.as_mut().expect("a node that runs");
        up.child.wait().unwrap().code().unwrap_or(-1)
    }

    /// Where the node listens.
    pub(crate) fn listens(&self) -> String {
        self.up.as_ref().expect("a node that runs").listens.clone()
    }

    /// The process of the node.
    pub(crate) fn pid(&self) -> u32 {
        self.up.as_ref().expect("a node that runs").child.id()
    }

    /// Sends the node SIGTERM and waits for its end; returns its exit code.
    pub(crate) fn terminate(&mut self) -> i32 {
        let up = self.up.as_mut().expect("a node that runs");
        let pid = up.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.ended()
    }

    /// Runs a command on this directory.
    pub(crate) fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Done {
        Done::of(&quorate(&self.data, args).output().unwrap())
    }

    /// Runs a command that reads `input`.
    pub(crate) fn run_with(&self, args: &[&str], input: &[u8]) -> Done {
        let mut command = quorate(&self.data, args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // A command that refuses may not read its input.
        let _ = child.stdin.take().unwrap().write_all(input);
        Done::of(&child.wait_with_output().unwrap())
    }

    pub(crate) fn status(&self) -> Json {
        serde_json::from_str(&self.run(&["status", "--json"]).ok()).unwrap()
    }

    /// Waits until the node's status is as `wanted`.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Json) -> bool) -> Json {
        let until = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < until, "never: {what}; at last {status:#}");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until the node is connected and a sync finds it and its peers equal.
    pub(crate) async fn synced(&self) {
        self.until("in sync", |_| self.run(&["sync"]).code == 0).await;
    }

    /// Makes `other` a member and lets it join.
    pub(crate) fn admit(&self, other: &Place) {
        let ticket = self.run(&["invite", &other.id]).ok();
        other.run(&["join", ticket.trim()]).ok();
    }
}

/// Lines as a package list has them.
pub(crate) fn packages(count: usize) -> String {
    let line = |n: usize| {
        let (version, section) = (n % 97, ["libs", "net", "admin", "doc"][n % 4]);
        format!(
            "{{\"key\":\"package-{n:06}\",\"version\":\"1.{version}-2\",\"section\":\"{section}\",\
             \"description\":\"{n:x>300}\"}}\n"
        )
    };
    (0..count).map(line).collect()
}
