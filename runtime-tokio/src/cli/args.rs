//! The arguments. What is written here is what `--help` says.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use super::cluster::args::{ClusterCommand, Leader, Lock, RegCommand, StepDown, WaitLeader};
use super::sim::SimCommand;

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 failed, 2 not understood, 3 no such key, node, name or lease, 4 refused, \
5 no node running, nobody reached or no quorum, 6 disk, 7 cannot listen, 8 revision or value is \
not the current one, 9 lock or leadership lost while running, 10 waited in vain, 11 an old token. \
`leader --run` and `lock` end with the code of their command.

Keys and values are bytes. In JSON they are strings, or {\"hex\": \"…\"} where they are not UTF-8.";

/// Stores that many machines write at once, offline too, and that end equal everywhere.
#[derive(Clone, Debug, Parser)]
#[command(name = "quorate", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Args, Clone, Debug)]
pub(super) struct Global {
    /// The node's data directory [default: ~/.local/share/quorate]
    #[arg(long, global = true, env = "QUORATE_DATA", hide_env_values = true, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
    /// Print JSON: one document, or one a line where there may be many
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Log more to stderr; RUST_LOG overrules it
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(super) verbose: u8,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum Command {
    /// Run a node; on first start make its key and a store of its own
    Up(Up),
    /// Show the node's id; make a node if there is none
    Id,
    /// Show how the node and its store are
    Status,
    /// Show the other nodes it knows
    Peers,
    /// Look for what may be wrong
    Doctor {
        /// Write on although the data directory looks like an old copy: what it lacks is lost
        #[arg(long)]
        trust_disk: bool,
    },
    /// Set a key's value
    Put {
        key: OsString,
        /// The value; `-` reads standard input
        #[arg(allow_negative_numbers = true)]
        value: OsString,
    },
    /// Print a key's value, just as it was put; a set's members one a line
    Get { key: OsString },
    /// Remove what stands at a key
    Delete { key: OsString },
    /// List keys with their values, in order
    List {
        /// Only keys that start so
        prefix: Option<OsString>,
        /// Only keys from this one on
        #[arg(long, value_name = "KEY")]
        from: Option<OsString>,
        /// Only keys before this one
        #[arg(long, value_name = "KEY")]
        to: Option<OsString>,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
    },
    /// Show every write to a key, the latest last
    History {
        key: OsString,
        /// At most so many of the latest
        #[arg(long, value_name = "N", default_value_t = 1000)]
        limit: u64,
    },
    /// Show the writes to a key that nothing has replaced: more than one is a conflict
    Heads { key: OsString },
    /// Show what keys hold now, then every change, until interrupted
    Watch {
        /// Keys that start so
        prefix: Option<OsString>,
        /// One key
        #[arg(long, conflicts_with_all = ["prefix", "glob"])]
        key: Option<OsString>,
        /// Keys that match: `*` is any run of bytes, `?` one byte
        #[arg(long, conflicts_with = "prefix")]
        glob: Option<OsString>,
    },
    /// Counters
    Counter {
        #[command(subcommand)]
        command: CounterCommand,
    },
    /// Sets
    Set {
        #[command(subcommand)]
        command: SetCommand,
    },
    /// Put each line of a file of JSON objects under the key it names; write again what was exported
    Import(Import),
    /// Print every key and value as JSON lines, for `quorate import`
    Export {
        /// Only keys that start so
        prefix: Option<OsString>,
    },
    /// Admit a node and print the ticket it joins with
    Invite {
        /// What `quorate id` shows there
        #[arg(value_name = "NODE-ID")]
        node: String,
    },
    /// Join the mesh that a ticket leads to
    Join {
        #[arg(required = true)]
        ticket: Vec<String>,
    },
    /// Remove a node for good: what it writes from now on has no effect
    Remove {
        /// Its id, or enough of its first digits
        #[arg(value_name = "NODE-ID")]
        node: String,
        /// It is this very node, which leaves the mesh and never writes again
        #[arg(long)]
        leave: bool,
    },
    /// Sync now, with one node or all, and wait until both hold the same
    Sync {
        /// Its id, or enough of its first digits
        #[arg(value_name = "NODE-ID")]
        node: Option<String>,
        /// Wait so many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        wait: u64,
    },
    /// A few nodes that agree: who takes part
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// The registry that a cluster agrees on: keys with revisions
    #[command(subcommand)]
    Reg(RegCommand),
    /// Campaign for a name, and run a command while leading
    Leader(Leader),
    /// Have the leader or the lock's holder give the name back, and wait until it has
    Stepdown(StepDown),
    /// Wait until somebody holds a name, and say who
    WaitLeader(WaitLeader),
    /// Run a command while holding a lock
    Lock(Lock),
    /// Watch three nodes on this machine be cut apart, diverge, and heal
    Demo,
    /// The same commands, interactively
    Shell,
    /// Run scenarios in the simulator: meshes, voters, fleets and clusters, cut, crashed and lied to
    #[command(subcommand)]
    Sim(SimCommand),
    /// Print a completion script
    Completions { shell: Shell },
}

#[derive(Args, Clone, Debug)]
pub(super) struct Up {
    /// The address to listen on; port 0 lets the system choose
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:4470", value_parser = host_and_port)]
    pub(super) listen: String,
    /// The address to tell others, if not the one listened on; without a port, that of --listen
    #[arg(long, value_name = "ADDR")]
    pub(super) advertise: Option<String>,
    /// An address to keep a link to; may be given again
    #[arg(long = "peer", value_name = "ADDR", value_parser = host_and_port)]
    pub(super) peers: Vec<String>,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum CounterCommand {
    /// Add to a counter; a new one stands at zero
    Add {
        key: OsString,
        /// What to add, negative to subtract
        #[arg(value_name = "N", allow_negative_numbers = true)]
        delta: i64,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum SetCommand {
    /// Put a member into a set
    Add { key: OsString, member: OsString },
    /// Take a member out of a set
    Remove { key: OsString, member: OsString },
}

#[derive(Args, Clone, Debug)]
pub(super) struct Import {
    /// The file; `-` reads standard input
    pub(super) file: PathBuf,
    /// The field that holds the key [default: key]
    #[arg(long, value_name = "FIELD")]
    pub(super) key: Option<String>,
    /// The field that holds the value [default: the whole line]
    #[arg(long, value_name = "FIELD")]
    pub(super) value: Option<String>,
}

/// Whether `text` is an address as sockets take it. Whether there is such a host turns out later: names
/// may begin to resolve while a node runs.
fn host_and_port(text: &str) -> Result<String, String> {
    let fits = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let host_fits = if bracketed {
            text.parse::<SocketAddr>().is_ok()
        } else {
            !host.is_empty() && !host.contains([':', ' ', '/'])
        };
        host_fits && port.parse::<u16>().is_ok()
    });
    if fits {
        return Ok(text.to_owned());
    }
    Err("an address is a host and a port, as in 192.0.2.7:4470, [2001:db8::7]:4470 or \
         db1.example:4470"
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for good in ["127.0.0.1:0", "db1.example:4470", "[::1]:4470", "0.0.0.0:65535"] {
            assert_eq!(host_and_port(good).as_deref(), Ok(good));
        }
        for bad in ["foo", "foo:", ":4470", "::1:4470", "[::1]", "a:65536", "http://a:80", "[a]:1"]
        {
            assert!(host_and_port(bad).is_err(), "{bad}");
        }
    }
}
