//! What befalls the nodes.

use std::collections::BTreeMap;
use std::process::Command;
use std::thread;
use std::time::Duration;

use quorate_sim::{Rng, Span};

use crate::process::Place;

/// Namespaces with a bridge between them, if this machine lets us make some; else all is loopback.
pub(crate) struct Faults {
    rng: Rng,
    network: Option<Network>,
    done: BTreeMap<&'static str, u32>,
}

impl Faults {
    pub(crate) fn new(seed: u64) -> Faults {
        let rng = Rng::stream(seed, "faults", 0);
        Faults { rng, network: Network::new(), done: BTreeMap::new() }
    }

    pub(crate) fn about(&self) -> &'static str {
        match self.network {
            Some(_) => "each node in a network namespace of its own: cuts too",
            None => "no network namespaces to be had here: kills and pauses, no cuts",
        }
    }

    pub(crate) fn done(&self) -> String {
        let done = self.done.iter().map(|(fault, times)| format!("{times} {fault}"));
        done.collect::<Vec<_>>().join(", ")
    }

    /// Starts a node, where it belongs.
    pub(crate) fn start(&self, n: usize, place: &mut Place) {
        place.start_as(|up| match &self.network {
            Some(network) => network.within(n, &up),
            None => up,
        });
    }

    /// One fault, and its end.
    pub(crate) fn one(&mut self, places: &mut [Place; 3]) {
        let victim = self.rng.below(3) as usize;
        let other = (victim + 1 + self.rng.below(2) as usize) % 3;
        let kinds = if self.network.is_some() { 6 } else { 2 };
        let fault = match self.rng.below(kinds) {
            0 => {
                places[victim].kill();
                self.last(300);
                self.start(victim, &mut places[victim]);
                "kills"
            }
            1 => {
                signal(&places[victim], "-STOP");
                self.last(1_500);
                signal(&places[victim], "-CONT");
                "pauses"
            }
            2 => self.cut(&[(victim, other), (other, victim)], "cuts of a pair"),
            3 => self.cut(&[(victim, other)], "one-way cuts"),
            4 => {
                let away = (0..3).filter(|n| *n != victim);
                let ways: Vec<_> = away.flat_map(|n| [(victim, n), (n, victim)]).collect();
                self.cut(&ways, "isolations")
            }
            _ => {
                let away = (0..3).filter(|n| *n != victim);
                let ways: Vec<_> = away.map(|n| (n, victim)).collect();
                self.cut(&ways, "deaf nodes")
            }
        };
        *self.done.entry(fault).or_default() += 1;
        self.last(700);
    }

    /// Everything is as it should be again.
    pub(crate) fn heal(places: &[Place; 3]) {
        for place in places {
            signal(place, "-CONT");
        }
    }

    fn cut(&mut self, ways: &[(usize, usize)], name: &'static str) -> &'static str {
        let network = self.network.as_ref().expect("drawn only then");
        for (from, to) in ways {
            network.route("add", *from, *to);
        }
        self.last(1_500);
        let network = self.network.as_ref().expect("drawn only then");
        for (from, to) in ways {
            network.route("del", *from, *to);
        }
        name
    }

    /// The fault lasts: this time is what is tried, not a wait for something.
    fn last(&mut self, most_ms: u64) {
        let ms = self.rng.within(Span { min: most_ms / 5, max: most_ms });
        thread::park_timeout(Duration::from_millis(ms));
    }
}

fn signal(place: &Place, signal: &str) {
    let pid = place.pid().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
}

/// Three namespaces and one with the bridge.
struct Network {
    prefix: String,
}

impl Network {
    fn new() -> Option<Network> {
        let network = Network { prefix: format!("quorate-{}", std::process::id()) };
        network.make().then_some(network)
    }

    fn make(&self) -> bool {
        let hub = self.space(0);
        let mut made = ip(&["netns", "add", &hub])
            && ip(&["-n", &hub, "link", "add", "name", "hub0", "type", "bridge"])
            && ip(&["-n", &hub, "link", "set", "hub0", "up"]);
        for n in 1..=3 {
            let (space, port) = (self.space(n), format!("port{n}"));
            made = made
                && ip(&["netns", "add", &space])
                && ip(&[
                    "-n", &hub, "link", "add", "name", &port, "type", "veth", "peer", "name",
                    "eth0", "netns", &space,
                ])
                && ip(&["-n", &hub, "link", "set", &port, "master", "hub0", "up"])
                && ip(&["-n", &space, "addr", "add", &format!("{}/24", address(n)), "dev", "eth0"])
                && ip(&["-n", &space, "link", "set", "eth0", "up"])
                && ip(&["-n", &space, "link", "set", "lo", "up"]);
        }
        made
    }

    fn space(&self, n: usize) -> String {
        format!("{}-{n}", self.prefix)
    }

    /// The command, in a node's namespace and listening there.
    fn within(&self, n: usize, up: &Command) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.space(n + 1)]).arg(up.get_program());
        for arg in up.get_args() {
            match arg.to_str() {
                Some("127.0.0.1:0") => command.arg(format!("{}:4470", address(n + 1))),
                _ => command.arg(arg),
            };
        }
        for (name, value) in up.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Lets what one node sends to another vanish, or pass again.
    fn route(&self, act: &str, from: usize, to: usize) {
        let (space, to) = (self.space(from + 1), address(to + 1));
        assert!(ip(&["-n", &space, "route", act, "blackhole", &format!("{to}/32")]));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for n in 0..=3 {
            ip(&["netns", "del", &self.space(n)]);
        }
    }
}

fn address(n: usize) -> String {
    format!("10.77.0.{n}")
}

fn ip(args: &[&str]) -> bool {
    // Where there is no such command, or no right to it, there are no namespaces.
    Command::new("ip").args(args).output().is_ok_and(|done| done.status.success())
}
