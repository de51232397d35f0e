//! The arguments of the commands that need a cluster.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::words::{Fence, duration, fence};

#[derive(Clone, Debug, Subcommand)]
pub(in crate::cli) enum ClusterCommand {
    /// Make a cluster with this node as its only voter
    Init,
    /// Let a member of the mesh take part: as a voter, once it has caught up
    Add {
        /// Its id, or enough of its first digits
        #[arg(value_name = "NODE-ID")]
        node: String,
        /// It votes, and keeps no data
        #[arg(long, conflicts_with = "learner")]
        witness: bool,
        /// It keeps the data, and does not vote
        #[arg(long)]
        learner: bool,
        #[command(flatten)]
        limit: Waiting,
    },
    /// Take a node out of the cluster; it stays in the mesh
    Remove {
        /// Its id, or enough of its first digits
        #[arg(value_name = "NODE-ID")]
        node: String,
        #[command(flatten)]
        limit: Limit,
    },
    /// Let a learner vote
    Promote {
        /// Its id, or enough of its first digits
        #[arg(value_name = "NODE-ID")]
        node: String,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show how this node sees the cluster; needs no quorum
    Status,
}

/// How long a request may take.
#[derive(Args, Clone, Copy, Debug)]
pub(in crate::cli) struct Limit {
    /// Be answered within so long, whatever happens
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(super) timeout: Duration,
}

/// How long something that takes its time may take.
#[derive(Args, Clone, Copy, Debug)]
pub(in crate::cli) struct Waiting {
    /// Be answered within so long, whatever happens
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(super) timeout: Duration,
}

#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Leader {
    /// What is to be led
    pub(super) name: OsString,
    /// Whoever has a higher one comes first; it takes the name from nobody
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) priority: u8,
    /// Said to whoever looks up the leader: an address, for example
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub(super) value: OsString,
    /// How long others wait for this process after it was last heard of
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) ttl: Duration,
    /// How long the command may take to end after SIGTERM; less, if others may hold the name sooner
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(super) grace: Duration,
    /// Run this while leading: everything after it. QUORATE_NAME, QUORATE_TOKEN and QUORATE_LEASE are
    /// in its environment
    #[arg(long, value_name = "COMMAND", num_args = 1.., allow_hyphen_values = true)]
    pub(super) run: Vec<OsString>,
}

#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct Lock {
    /// What is locked
    pub(super) name: OsString,
    /// How long others wait for this process after it was last heard of
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) ttl: Duration,
    /// Wait for the lock so long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub(super) wait: Duration,
    /// How long the command may take to end after SIGTERM; less, if others may hold the name sooner
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(super) grace: Duration,
    /// Run while the lock is held. QUORATE_NAME, QUORATE_TOKEN and QUORATE_LEASE are in its
    /// environment
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) run: Vec<OsString>,
}

#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct StepDown {
    /// What is led or locked
    pub(super) name: OsString,
    /// In favour of somebody who waits on this node: its id, or enough of its first digits
    #[arg(long, value_name = "NODE-ID")]
    pub(super) to: Option<String>,
    #[command(flatten)]
    pub(super) limit: Waiting,
}

#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct WaitLeader {
    /// What is led or locked
    pub(super) name: OsString,
    /// Wait so long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(super) timeout: Duration,
}

#[derive(Clone, Debug, Subcommand)]
pub(in crate::cli) enum RegCommand {
    /// Print a key's value on stdout, its revision on stderr
    Get {
        key: OsString,
        #[command(flatten)]
        read: ReadArgs,
        #[command(flatten)]
        limit: Limit,
    },
    /// Give a key a value; prints the new revision
    Put {
        key: OsString,
        /// The value; `-` reads standard input
        #[arg(allow_negative_numbers = true)]
        value: OsString,
        /// Only if the key's last change has this revision; 0 if it must not be there
        #[arg(long, value_name = "N")]
        prev_revision: Option<u64>,
        #[command(flatten)]
        with: With,
        #[command(flatten)]
        limit: Limit,
    },
    /// Give a key a value, if it holds the expected one; prints the new revision
    Cas {
        key: OsString,
        /// What it must hold
        #[arg(allow_negative_numbers = true)]
        expected: OsString,
        /// The new value; `-` reads standard input
        #[arg(allow_negative_numbers = true)]
        value: OsString,
        #[command(flatten)]
        with: With,
        #[command(flatten)]
        limit: Limit,
    },
    /// Remove a key; prints the revision
    Delete {
        key: OsString,
        /// Only if the key's last change has this revision
        #[arg(long, value_name = "N")]
        prev_revision: Option<u64>,
        /// Only while this grant is the current one
        #[arg(long, value_name = "NAME:TOKEN", value_parser = fence)]
        fence: Option<Fence>,
        #[command(flatten)]
        limit: Limit,
    },
    /// List keys with their revisions and values, in order
    List {
        /// Only keys that start so
        prefix: Option<OsString>,
        /// At most so many
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// Without the values
        #[arg(long)]
        keys_only: bool,
        #[command(flatten)]
        read: ReadArgs,
        #[command(flatten)]
        deadline: Limit,
    },
    /// Show what keys hold now, then every change with its revision, until interrupted
    Watch {
        /// Keys that start so
        prefix: Option<OsString>,
        /// One key
        #[arg(long, conflicts_with = "prefix")]
        key: Option<OsString>,
        /// Who holds this name, instead of keys
        #[arg(long, conflicts_with_all = ["prefix", "key"])]
        name: Option<OsString>,
        /// Only the changes of this revision and later ones
        #[arg(long, value_name = "REVISION")]
        from: Option<u64>,
    },
    /// Do several things at once if all conditions hold, other things if not, and nothing by halves
    #[command(after_help = super::words::TXN_HELP)]
    Txn {
        /// A condition; may be given again
        #[arg(long = "if", value_name = "CONDITION")]
        compare: Vec<OsString>,
        /// What is done if all conditions hold; may be given again
        #[arg(long, value_name = "STEP")]
        then: Vec<OsString>,
        /// What is done if one does not; may be given again
        #[arg(long = "else", value_name = "STEP")]
        otherwise: Vec<OsString>,
        /// Only while this grant is the current one
        #[arg(long, value_name = "NAME:TOKEN", value_parser = fence)]
        fence: Option<Fence>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Leases: what is put with one goes with it
    Lease {
        #[command(subcommand)]
        command: LeaseCommand,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub(in crate::cli) enum LeaseCommand {
    /// Make a lease; prints its number
    Grant {
        /// It ends so long after it was made, or was last kept alive
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
        ttl: Duration,
        #[command(flatten)]
        limit: Limit,
    },
    /// Let it go on for its time once more
    KeepAlive {
        lease: u64,
        #[command(flatten)]
        limit: Limit,
    },
    /// End it, and with it what hangs on it
    Revoke {
        lease: u64,
        #[command(flatten)]
        limit: Limit,
    },
}

/// What goes with a put.
#[derive(Args, Clone, Debug)]
pub(in crate::cli) struct With {
    /// The key goes when this lease ends
    #[arg(long, value_name = "LEASE")]
    pub(super) lease: Option<u64>,
    /// Only while this grant is the current one
    #[arg(long, value_name = "NAME:TOKEN", value_parser = fence)]
    pub(super) fence: Option<Fence>,
}

/// How new what is read has to be.
#[derive(Args, Clone, Copy, Debug)]
pub(in crate::cli) struct ReadArgs {
    /// Take what this node has, which may be old; needs no quorum
    #[arg(long)]
    pub(super) local: bool,
    /// Trust the leader's lease: quicker, and right as long as clocks run alike within 5 % and the
    /// leader's machine was not asleep
    #[arg(long, conflicts_with = "local")]
    pub(super) by_lease: bool,
}
