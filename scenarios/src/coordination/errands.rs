//! What clients and operators do, put to the machine.

use bytes::Bytes;
use quorate_core::cluster::{Command, Read, Request};
use quorate_core::registry::{self, Query};
use quorate_sim::{HostCx, System};

use super::model::Call;
use super::watcher::Watcher;
use super::{Ask, Awaited, Coordination, Errand, client};

impl Coordination {
    pub(super) fn run(&mut self, node: usize, errand: Errand, cx: &mut HostCx<'_, Self>) {
        match errand {
            Errand::Get { key, read } => self.get(key, read, cx),
            Errand::Put { key, checked } => {
                let (call, command) = self.client.put(key, checked);
                self.call(call, command, cx);
            }
            Errand::Delete { key, checked } => {
                let (call, command) = self.client.delete(key, checked);
                self.call(call, command, cx);
            }
            Errand::Swap { key } => {
                let (call, command) = self.client.swap(key);
                self.call(call, command, cx);
            }
            Errand::Fill { count, bytes } => {
                for n in 0..count {
                    let key = Bytes::from(format!("fill/{}", n % 4));
                    let value = Bytes::from(vec![n as u8; bytes as usize]);
                    let (lease, previous, fence) = (None, None, None);
                    let put = registry::Command::Put { key, value, lease, previous, fence };
                    self.ask(cx, 0, 5_000, Awaited::Other, Request::Change(put));
                }
            }
            Errand::Campaign(wish) => {
                self.wishes[node].push(wish.clone());
                cx.command(Ask::Campaign(wish));
            }
            Errand::Finish => {
                self.finishing = true;
                cx.command(Ask::Finish);
                for n in 0..self.watchers.len() {
                    if self.watchers[n].node == node {
                        self.finish_watching(n, cx);
                    }
                }
            }
            Errand::Hang(ms) => drop(cx.command(Ask::Hang(ms))),
            Errand::StepDown { name, to } => {
                let (name, to) = (Bytes::from(name), to.map(|to| self.id(to)));
                let down = registry::Command::StepDown { name, to };
                self.ask(cx, 0, 1_000, Awaited::Other, Request::Change(down));
            }
            Errand::HandOver(to) => {
                let to = to.map(|to| self.id(to));
                self.ask(cx, 0, 1_000, Awaited::Other, Request::HandOver { to });
            }
            Errand::Add { node, seat } => {
                let node = self.id(node);
                self.ask(cx, 0, 4_000, Awaited::Other, Request::Add { node, seat });
            }
            Errand::Promote(node) => {
                let node = self.id(node);
                self.ask(cx, 0, 2_000, Awaited::Other, Request::Promote { node });
            }
            Errand::Remove(node) => {
                let node = self.id(node);
                self.ask(cx, 0, 4_000, Awaited::Other, Request::Remove { node });
            }
            Errand::Watch { prefix, slow, from } => {
                self.watchers.push(Watcher::new(node, &prefix, slow, from));
                self.watch(self.watchers.len() - 1, cx);
            }
        }
    }

    /// Nobody is slow any more, and whose watch has ended begins again.
    fn finish_watching(&mut self, n: usize, cx: &mut HostCx<'_, Self>) {
        self.watchers[n].slow = false;
        if self.watchers[n].watch.is_none() {
            self.watch(n, cx);
        } else {
            self.take(n, cx);
        }
    }

    fn call(&mut self, call: Call, command: registry::Command, cx: &mut HostCx<'_, Self>) {
        let open = self.client.begin(cx.node(), cx.now(), call, true);
        let timeout_ms = self.timeout_ms();
        self.ask(cx, 0, timeout_ms, Awaited::Call(open), Request::Change(command));
    }

    fn get(&mut self, key: u8, read: Read, cx: &mut HostCx<'_, Self>) {
        let counts = match read {
            Read::Linearizable => true,
            Read::ByLease => self.true_clocks,
            Read::Local => false,
        };
        let open = self.client.begin(cx.node(), cx.now(), Call::Get(key), counts);
        let (query, timeout_ms) = (Query::Get { key: client::key(key) }, self.timeout_ms());
        self.ask(cx, 0, timeout_ms, Awaited::Call(open), Request::Query { query, read });
    }

    /// Some are in a hurry.
    fn timeout_ms(&self) -> u64 {
        let least = if self.quiet { 1_500 } else { 300 };
        least + self.tickets * 397 % 2_800
    }
}

/// What a client says to make a cluster.
pub(super) fn found() -> Ask {
    Ask::Cluster(Command::Init { ticket: super::INIT })
}
