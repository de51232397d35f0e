//! What is asked of a cluster, and answered, through the running node that is a member of it.

use std::time::Duration;

use bytes::Bytes;
use quorate_core::machine::NodeId;
use quorate_core::registry;
use quorate_runtime_tokio::node::cluster::{
    Cluster, ClusterError, Compare, Error, List, Op, Outcome, Query, Read, Refusal, Relation,
    Request, Seat, Subject, WatchEnd, WatchUpdate,
};

use super::execute::{Hosted, Replies, resolve, send};
use super::protocol::cluster::{
    Answer, Ask, ChangeDoc, ClusterDoc, FenceDoc, GivenDoc, KeyDoc, TargetDoc, TxnDoc,
};
use super::protocol::{Blob, Code, Failure, Reply};

/// Keys asked for at once where many are listed.
const PAGE: u32 = 1_024;
/// How much of a value a sentence shows, in characters.
const SHOWN: usize = 60;

/// Answers what has one answer.
pub(crate) async fn answer(hosted: &Hosted, timeout_ms: u64, ask: Ask) -> Reply {
    match one(hosted, Duration::from_millis(timeout_ms), ask).await {
        Ok(answer) => Reply::Cluster(answer),
        Err(failure) => Reply::Failure(failure),
    }
}

/// Answers what has any number of answers.
pub(super) async fn stream(
    hosted: &Hosted,
    timeout_ms: u64,
    ask: Ask,
    replies: &Replies,
) -> Result<(), Failure> {
    let timeout = Duration::from_millis(timeout_ms);
    let cluster = hosted.node.cluster().with_timeout(timeout);
    let stream = Stream { cluster, me: hosted.node.id(), replies };
    match ask {
        Ask::List { prefix, limit, keys_only, read } => {
            let list = List { prefix: prefix.0.into(), keys_only, ..List::default() };
            let most = limit.unwrap_or(u64::MAX);
            stream.keys(list, most, read.into(), Answer::Item).await.map(drop)
        }
        Ask::Watch { target, from } => stream.watch(target, from).await,
        other => stream.send(one(hosted, timeout, other).await?).await,
    }
}

async fn one(hosted: &Hosted, timeout: Duration, ask: Ask) -> Result<Answer, Failure> {
    let cluster = hosted.node.cluster().with_timeout(timeout);
    let me = hosted.node.id();
    let (subject, fence) = (subject(&ask), fence(&ask).cloned());
    let failed = |error: ClusterError| failure(me, &subject, fence.as_ref(), &error);
    match ask {
        Ask::Init => {
            let cluster = cluster.init().await.map_err(failed)?;
            Ok(Answer::Made { cluster: cluster.to_string() })
        }
        Ask::Add { node, seat } => {
            let node = resolve(&hosted.node, &node).await?;
            cluster.add(node, seat.into()).await.map_err(failed)?;
            Ok(Answer::Seated { node: node.to_string(), seat })
        }
        Ask::Remove { node } => {
            let node = resolve(&hosted.node, &node).await?;
            cluster.remove(node).await.map_err(failed)?;
            Ok(Answer::Unseated { node: node.to_string() })
        }
        Ask::Promote { node } => {
            let node = resolve(&hosted.node, &node).await?;
            cluster.promote(node).await.map_err(failed)?;
            Ok(Answer::Seated { node: node.to_string(), seat: Seat::Voter.into() })
        }
        Ask::Status => {
            let status = cluster.status().await.map_err(failed)?;
            Ok(Answer::Standing(Box::new(ClusterDoc::of(me.to_string(), &status))))
        }
        Ask::Cas { key, expected, value, lease, fence } => {
            let key = Bytes::from(key.0);
            let held = Subject::Value(expected.0.into());
            let txn = registry::Command::Txn {
                compare: vec![Compare {
                    key: key.clone(),
                    subject: held,
                    relation: Relation::Equal,
                }],
                then: vec![Op::Put { key: key.clone(), value: value.0.into(), lease }],
                otherwise: vec![Op::Get { key: key.clone() }],
                fence: fence.map(Into::into),
            };
            let reply = cluster.request(Request::Change(txn)).await.map_err(failed)?;
            swapped(&key, reply)
        }
        Ask::StepDown { name, to } => {
            let to = match to {
                Some(to) => Some(resolve(&hosted.node, &to).await?),
                None => None,
            };
            let done = cluster.step_down(name.0, to, timeout).await.map_err(failed)?;
            Ok(Answer::SteppedDown { token: done.token, next: done.next.map(Into::into) })
        }
        Ask::WaitLeader { name } => {
            let holder = cluster.wait_for_leader(name.0, timeout).await.map_err(failed)?;
            Ok(Answer::Leader(holder.into()))
        }
        other => {
            let reply = cluster.request(request(other)).await.map_err(failed)?;
            answered(&subject, reply)
        }
    }
}

/// What is asked of the registry.
fn request(ask: Ask) -> Request {
    use registry::Command;
    let name = |blob: Blob| Bytes::from(blob.0);
    Request::Change(match ask {
        Ask::Get { key, read } => {
            return Request::Query { query: Query::Get { key: key.0.into() }, read: read.into() };
        }
        Ask::Name { name } => {
            let query = Query::Name { name: name.0.into() };
            return Request::Query { query, read: Read::Linearizable };
        }
        Ask::KeepAlive { lease } => return Request::KeepAlive { lease },
        Ask::Put { key, value, lease, given: GivenDoc { previous, fence } } => Command::Put {
            key: key.0.into(),
            value: value.0.into(),
            lease,
            previous,
            fence: fence.map(Into::into),
        },
        Ask::Delete { key, given: GivenDoc { previous, fence } } => {
            Command::Delete { key: key.0.into(), previous, fence: fence.map(Into::into) }
        }
        Ask::Txn(TxnDoc { compare, then, otherwise, fence }) => Command::Txn {
            compare: compare.into_iter().map(Into::into).collect(),
            then: then.into_iter().map(Into::into).collect(),
            otherwise: otherwise.into_iter().map(Into::into).collect(),
            fence: fence.map(Into::into),
        },
        // The node says itself whose the lease is.
        Ask::Grant { ttl_ms } => Command::Grant { ttl_ms, node: NodeId([0; 32]) },
        Ask::Revoke { lease } => Command::Revoke { lease },
        Ask::Campaign { name: of, lease, priority, value } => {
            Command::Campaign { name: name(of), lease, priority, value: value.0.into() }
        }
        Ask::Release { name: of, token } => Command::Release { name: name(of), token },
        Ask::Withdraw { name: of, lease } => Command::Withdraw { name: name(of), lease },
        Ask::Init
        | Ask::Add { .. }
        | Ask::Remove { .. }
        | Ask::Promote { .. }
        | Ask::Status
        | Ask::List { .. }
        | Ask::Cas { .. }
        | Ask::Watch { .. }
        | Ask::StepDown { .. }
        | Ask::WaitLeader { .. } => unreachable!("not one request of the registry's"),
    })
}

/// What the registry answered.
fn answered(subject: &str, reply: registry::Reply) -> Result<Answer, Failure> {
    use registry::Reply as R;
    Ok(match reply {
        R::Done { revision } => Answer::Done { revision },
        R::Written { revision, version } => Answer::Written { revision, version },
        R::Deleted { existed: false, .. } | R::Value { item: None, .. } => {
            return Err(Failure::new(Code::NotFound, format!("nothing at `{subject}`")));
        }
        R::Deleted { revision, .. } => Answer::Deleted { revision },
        R::Value { item: Some(item), .. } => Answer::Item(item.into()),
        R::Txn { revision, held, outcomes } => {
            let outcomes = outcomes.into_iter().map(Into::into).collect();
            Answer::Txn { revision, held, outcomes }
        }
        R::Granted { lease, ttl_ms } => Answer::Granted { lease, ttl_ms },
        R::Renewed { ttl_ms, stepping_down, .. } => Answer::Renewed { ttl_ms, stepping_down },
        R::Held { token } => Answer::Held { token },
        R::Queued { revision, before, token } => Answer::Queued { revision, before, token },
        R::Name { revision, name } => Answer::Name {
            revision,
            holder: name.holder.map(Into::into),
            waiting: name.queue.len() as u64,
        },
        R::SteppingDown { .. }
        | R::Items { .. }
        | R::Lease { .. }
        | R::Leases { .. }
        | R::Names { .. } => return Err(other_answer()),
    })
}

/// What a compare-and-set came to.
fn swapped(key: &Bytes, reply: registry::Reply) -> Result<Answer, Failure> {
    let registry::Reply::Txn { revision, held, mut outcomes } = reply else {
        return Err(other_answer());
    };
    let key = String::from_utf8_lossy(key);
    match (held, outcomes.pop()) {
        (true, Some(Outcome::Put { version })) => Ok(Answer::Written { revision, version }),
        (false, Some(Outcome::Got(Some(item)))) => {
            let value: String = String::from_utf8_lossy(&item.value).chars().take(SHOWN).collect();
            let current = item.mod_revision;
            let message = format!(
                "`{key}` holds another value: `{}`, revision {current}",
                value.escape_debug()
            );
            Err(Failure::new(Code::Stale, message).with("current", current))
        }
        (false, _) => {
            let message = format!("`{key}` holds nothing");
            Err(Failure::new(Code::Stale, message).with("current", 0))
        }
        (true, _) => Err(other_answer()),
    }
}

fn other_answer() -> Failure {
    Failure::new(Code::Failed, ClusterError::BadReply.to_string())
}

/// Where many answers go.
struct Stream<'a> {
    cluster: Cluster,
    me: NodeId,
    replies: &'a Replies,
}

impl Stream<'_> {
    async fn send(&self, answer: Answer) -> Result<(), Failure> {
        send(self.replies, Reply::Cluster(answer)).await
    }

    fn failed(&self, error: &ClusterError) -> Failure {
        failure(self.me, "", None, error)
    }

    /// Sends at most so many keys, and returns the revision of the first page.
    async fn keys(
        &self,
        mut list: List,
        mut left: u64,
        read: Read,
        shown: impl Fn(KeyDoc) -> Answer,
    ) -> Result<u64, Failure> {
        let mut first = None;
        loop {
            list.limit = u32::try_from(left).unwrap_or(u32::MAX).min(PAGE);
            let page = self.cluster.list(list.clone(), read).await;
            let page = page.map_err(|error| self.failed(&error))?;
            let revision = *first.get_or_insert(page.revision);
            left = left.saturating_sub(page.items.len() as u64);
            list.after = page.items.last().map(|item| item.key.clone());
            for item in page.items {
                self.send(shown(item.into())).await?;
            }
            if !page.more || left == 0 || list.after.is_none() {
                return Ok(revision);
            }
        }
    }

    /// What is watched, as it is now, and then each change; from a revision on, only the changes.
    async fn watch(&self, target: TargetDoc, from: Option<u64>) -> Result<(), Failure> {
        let from = match from {
            Some(from) => Some(from),
            None => self.now(&target).await?.map(|revision| revision + 1),
        };
        let begun = self.cluster.watch(target.into(), from).await;
        let mut watch = begun.map_err(|error| self.failed(&error))?;
        loop {
            match watch.next().await.map_err(|error| self.failed(&error))? {
                WatchUpdate::Began { from } => {
                    self.send(Answer::Change(ChangeDoc::Live { from })).await?;
                }
                WatchUpdate::Changed { revision, changes } => {
                    for change in changes {
                        self.send(Answer::Change(ChangeDoc::at(revision, change))).await?;
                    }
                }
                WatchUpdate::Compacted { oldest } => {
                    let message = format!(
                        "what changed before revision {oldest} is forgotten: list, then watch"
                    );
                    return Err(Failure::new(Code::Stale, message).with("oldest", oldest));
                }
                WatchUpdate::Ended(WatchEnd::NoData) => {
                    let message = "this node keeps no data of a cluster, so it sees no changes";
                    return Err(Failure::new(Code::Refused, message));
                }
                WatchUpdate::Ended(WatchEnd::TooMany) => {
                    let message = "there are as many watches on this node as it takes";
                    return Err(Failure::new(Code::Refused, message));
                }
            }
        }
    }

    /// Sends what the keys that are watched hold, and returns as of which revision. What changes after
    /// the first page is told by the watch as well.
    async fn now(&self, target: &TargetDoc) -> Result<Option<u64>, Failure> {
        let now = |item: KeyDoc| Answer::Change(ChangeDoc::Now(item));
        match target {
            TargetDoc::Key(key) => {
                let read = self.cluster.get(key.0.clone(), Read::Linearizable).await;
                let (revision, item) = read.map_err(|error| self.failed(&error))?;
                if let Some(item) = item {
                    self.send(now(item.into())).await?;
                }
                Ok(Some(revision))
            }
            TargetDoc::Prefix(prefix) => {
                let list = List { prefix: prefix.0.clone().into(), ..List::default() };
                self.keys(list, u64::MAX, Read::Linearizable, now).await.map(Some)
            }
            TargetDoc::Name(name) => {
                let query = Query::Name { name: name.0.clone().into() };
                let asked = Request::Query { query, read: Read::Linearizable };
                match self.cluster.request(asked).await {
                    Ok(registry::Reply::Name { revision, name: view }) => {
                        let (name, holder) = (name.clone(), view.holder.map(Into::into));
                        let held = ChangeDoc::Name { revision, name, holder };
                        self.send(Answer::Change(held)).await?;
                        Ok(Some(revision))
                    }
                    Ok(_) => Err(other_answer()),
                    // Nobody holds it or waits for it; what changes from now on is told.
                    Err(ClusterError::Refused(Error::Refused(Refusal::UnknownName))) => Ok(None),
                    Err(error) => Err(self.failed(&error)),
                }
            }
            TargetDoc::Names(_) => Ok(None),
        }
    }
}

/// What an ask is about, to be named where it fails.
fn subject(ask: &Ask) -> String {
    let text = |blob: &Blob| String::from_utf8_lossy(&blob.0).into_owned();
    match ask {
        Ask::Get { key, .. }
        | Ask::Put { key, .. }
        | Ask::Cas { key, .. }
        | Ask::Delete { key, .. } => text(key),
        Ask::Campaign { name, .. }
        | Ask::Release { name, .. }
        | Ask::Withdraw { name, .. }
        | Ask::StepDown { name, .. }
        | Ask::Name { name }
        | Ask::WaitLeader { name } => text(name),
        _ => String::new(),
    }
}

/// The grant under which something is to be written.
fn fence(ask: &Ask) -> Option<&FenceDoc> {
    match ask {
        Ask::Put { given: GivenDoc { fence, .. }, .. }
        | Ask::Delete { given: GivenDoc { fence, .. }, .. }
        | Ask::Cas { fence, .. }
        | Ask::Txn(TxnDoc { fence, .. }) => fence.as_ref(),
        _ => None,
    }
}

/// The exit code and sentence of an error.
fn failure(me: NodeId, subject: &str, fence: Option<&FenceDoc>, error: &ClusterError) -> Failure {
    let error = match error {
        ClusterError::Refused(error) => error,
        ClusterError::Stopped => return Failure::new(Code::Unreachable, error.to_string()),
        ClusterError::BadReply => return Failure::new(Code::Failed, error.to_string()),
        ClusterError::TimedOut => {
            let message = format!("waited in vain for `{subject}`");
            return Failure::new(Code::TimedOut, message);
        }
    };
    match error {
        Error::Refused(refusal) => refused(subject, fence, *refusal),
        Error::Unavailable { leader, reachable, unreachable } => {
            unavailable(me, *leader, reachable, unreachable)
        }
        Error::Unknown => {
            Failure::new(Code::Unreachable, error.to_string()).with("outcome", "unknown")
        }
        Error::NoCluster => {
            let message = "this node is in no cluster: make one with `quorate cluster init`, or have a \
                           member add it with `quorate cluster add`";
            Failure::new(Code::Refused, message)
        }
        Error::NotAMember(node) => {
            let message = format!("{} is not a member of the cluster", node.short());
            Failure::new(Code::NotFound, message)
        }
        Error::InCluster(id) => {
            let message = format!("this node is in the cluster {id} already");
            Failure::new(Code::Refused, message)
        }
        Error::OtherSeat(node) => {
            let message = format!("{} has another seat: remove it first", node.short());
            Failure::new(Code::Refused, message)
        }
        Error::WrongSeat(node) => {
            let message = format!("{} cannot do that in its seat", node.short());
            Failure::new(Code::Refused, message)
        }
        Error::Behind { entries } => {
            let message = format!("it still lacks {entries} entries: try again");
            Failure::new(Code::Refused, message).with("entries", *entries)
        }
        Error::TooLarge => Failure::new(Code::Usage, error.to_string()),
        Error::Unreachable(node) => {
            let message = format!("the leader has no link to {}: is it running?", node.short());
            Failure::new(Code::Unreachable, message)
        }
        Error::Halted => Failure::new(Code::Storage, error.to_string()),
        Error::OldCopy => {
            let message = format!(
                "this node's directory is a copy or an old backup, so it may have forgotten what it \
                 promised to its cluster, and takes no part. While it runs, on another member: \
                 `quorate cluster remove {id}`, then `quorate cluster add {id}`. Or, if nothing newer \
                 than this directory exists, here: `quorate doctor --trust-disk`",
                id = me.short()
            );
            Failure::new(Code::Refused, message).with("reason", "old_copy")
        }
        Error::Removed | Error::Busy | Error::LastVoter | Error::TooManyMembers => {
            Failure::new(Code::Refused, error.to_string())
        }
    }
}

/// What the registry refused.
fn refused(subject: &str, fence: Option<&FenceDoc>, refusal: Refusal) -> Failure {
    let code = match refusal {
        Refusal::StaleRevision { .. } => Code::Stale,
        Refusal::StaleToken { .. } => Code::OldToken,
        Refusal::UnknownName | Refusal::UnknownLease => Code::NotFound,
        Refusal::BadKey
        | Refusal::BadName
        | Refusal::BadValue
        | Refusal::BadTtl
        | Refusal::TooManyOps
        | Refusal::ReadsTooMuch
        | Refusal::DuplicateKey => Code::Usage,
        Refusal::NotACandidate
        | Refusal::NoSuchCandidate
        | Refusal::Holds { .. }
        | Refusal::Full
        | Refusal::TooManyLeases
        | Refusal::TooManyNames
        | Refusal::TooManyCandidates
        | Refusal::TooManyPerLease
        | Refusal::Undecodable => Code::Refused,
    };
    match refusal {
        Refusal::StaleRevision { current } => {
            let message = match current {
                0 => format!("`{subject}` is not there"),
                _ => format!("`{subject}` has changed: its revision is {current} now"),
            };
            Failure::new(code, message).with("current", current)
        }
        Refusal::StaleToken { current } => {
            let fence = fence.map(|fence| String::from_utf8_lossy(&fence.name.0));
            let name = fence.as_deref().unwrap_or(subject);
            let message = match current {
                Some(current) => format!("the token of `{name}` is old: the holder's is {current}"),
                None => format!("the token of `{name}` is old: nobody holds it now"),
            };
            Failure::new(code, message).with("current", current)
        }
        Refusal::UnknownName => {
            Failure::new(code, format!("nobody holds `{subject}`, and nobody waits for it"))
        }
        other => Failure::new(code, other.to_string()),
    }
}

/// Who leads, who is reached and who is not.
fn unavailable(
    me: NodeId,
    leader: Option<NodeId>,
    reachable: &[NodeId],
    unreachable: &[NodeId],
) -> Failure {
    let named = |nodes: &[NodeId]| {
        let name = |node: &NodeId| match *node == me {
            true => "itself".to_owned(),
            false => node.short().to_string(),
        };
        let names: Vec<String> = nodes.iter().map(name).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    };
    let leads = match leader {
        Some(leader) if leader == me => {
            "this node leads, and heard of no quorum in time".to_owned()
        }
        Some(leader) => format!("the leader, {}, did not answer in time", leader.short()),
        None => "nobody leads".to_owned(),
    };
    let all = reachable.len() + unreachable.len();
    let message = format!(
        "{leads}; of {all} voters this node reaches {} ({}) and lacks {} ({})",
        reachable.len(),
        named(reachable),
        unreachable.len(),
        named(unreachable),
    );
    let ids = |nodes: &[NodeId]| nodes.iter().map(NodeId::to_string).collect::<Vec<_>>();
    Failure::new(Code::Unreachable, message)
        .with("leader", leader.map(|leader| leader.to_string()))
        .with("reachable", ids(reachable))
        .with("unreachable", ids(unreachable))
}
