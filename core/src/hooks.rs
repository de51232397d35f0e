//! Life-cycle hooks: what an application does when it becomes active or passive, when the leader
//! changes, when the cluster's health does.
//!
//! They run one at a time and in order, each with a timeout. One thing goes before everything: to
//! become *passive*. It does not wait its turn, for another may become active meanwhile.
//!
//! **Cases.**
//!
//! | while … | the node becomes passive: |
//! |---|---|
//! | nothing runs | the hook runs at once |
//! | "became active" runs | that is cancelled, and the hook runs at once, not when the other has ended |
//! | another hook runs | the same; it is not run again |
//! | "became active" waits | it is dropped, and the hook is not run: the application never was active |
//!
//! So each "became active" that was begun is followed by exactly one "became passive", and none stands
//! alone. A change of the leader or of the health that waits is replaced by a later one: an application
//! that is slow hears of the last.
//!
//! **Failing.** What follows is the same whether a hook says that it failed or its time runs out, in
//! which case it is cancelled first. "Became active" failed: the application is not active, so the node
//! should not lead; [`Event::StepDown`] says so, and "became passive" runs to clean up. "Became passive"
//! failed: the application may still be at work, so the host stops it by force, whatever that takes:
//! [`Event::Halt`]. The other two: it is only told.
//!
//! A machine like the others, without messages and records: its host, which starts processes or calls
//! functions, is asked by event and answers by command.

use alloc::collections::VecDeque;

use crate::cluster::Health;
use crate::machine::{Cx, Effects, Input, Machine, Never, NodeId, Time};

/// What can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// The node leads from now on.
    BecameActive {
        /// The epoch, for whoever compares.
        epoch: u64,
    },
    /// It leads no longer.
    BecamePassive {
        /// That it led in.
        epoch: u64,
    },
    /// Another leads, or nobody.
    LeaderChanged {
        /// Who.
        leader: Option<NodeId>,
    },
    /// The cluster's health, as this node sees it.
    HealthChanged(Health),
}

/// How long each may run, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Becoming active.
    pub active_ms: u64,
    /// Becoming passive: shorter than what a successor waits.
    pub passive_ms: u64,
    /// The others.
    pub other_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts { active_ms: 30_000, passive_ms: 5_000, other_ms: 10_000 }
    }
}

/// What a host, or a parent, tells the hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// This has happened.
    Happened(Hook),
    /// A run has ended by itself.
    Ended {
        /// Which.
        run: u64,
        /// Whether it did what it should.
        success: bool,
    },
}

/// What is asked of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Run this.
    Run {
        /// Names the run.
        run: u64,
        /// What.
        hook: Hook,
    },
    /// Stop what still runs of this; it counts as over.
    Cancel {
        /// Which.
        run: u64,
    },
    /// What became of a hook.
    Over {
        /// What.
        hook: Hook,
        /// How it ended.
        outcome: Outcome,
    },
    /// The application could not become active: this node should hand over.
    StepDown {
        /// In which epoch.
        epoch: u64,
    },
    /// The application could not become passive: stop it by force.
    Halt {
        /// In which epoch it was active.
        epoch: u64,
    },
}

/// How a hook ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// It did what it should.
    Done,
    /// It said that it could not.
    Failed,
    /// Its time ran out.
    TimedOut,
    /// It was cancelled, because the node became passive.
    Interrupted,
    /// It never ran: something later made it needless.
    Superseded,
}

/// The hooks of one application. See the [module](self).
#[derive(Clone, Debug)]
pub struct Hooks {
    timeouts: Timeouts,
    running: Option<Running>,
    /// In order: at most one of each kind.
    waiting: VecDeque<Hook>,
    /// The epoch in which the application was told to become active, and not yet to become passive.
    active: Option<u64>,
    runs: u64,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    run: u64,
    hook: Hook,
    until: Time,
}

impl Hooks {
    /// Nothing has happened yet, and the application is passive.
    #[must_use]
    pub fn new(timeouts: Timeouts) -> Hooks {
        Hooks { timeouts, running: None, waiting: VecDeque::new(), active: None, runs: 0 }
    }

    /// The epoch in which the application is, or becomes, active.
    #[must_use]
    pub fn active(&self) -> Option<u64> {
        self.active
    }

    fn happened(&mut self, now: Time, hook: Hook, fx: &mut dyn Effects<Hooks>) {
        if let Hook::BecamePassive { epoch } = hook {
            return self.passive(now, epoch, fx);
        }
        // Two that wait and say the same kind of thing: the later one counts.
        let kind = core::mem::discriminant(&hook);
        if let Some(at) = self.waiting.iter().position(|w| core::mem::discriminant(w) == kind)
            && let Some(hook) = self.waiting.remove(at)
        {
            fx.emit(Event::Over { hook, outcome: Outcome::Superseded });
        }
        self.waiting.push_back(hook);
        self.next(now, fx);
    }

    fn passive(&mut self, now: Time, epoch: u64, fx: &mut dyn Effects<Hooks>) {
        let stale = |hook: &Hook| matches!(hook, Hook::BecameActive { .. });
        if let Some(at) = self.waiting.iter().position(stale)
            && let Some(hook) = self.waiting.remove(at)
        {
            fx.emit(Event::Over { hook, outcome: Outcome::Superseded });
        }
        if self.active.take().is_none() {
            let hook = Hook::BecamePassive { epoch };
            return fx.emit(Event::Over { hook, outcome: Outcome::Superseded });
        }
        if let Some(Running { run, hook, .. }) = self.running.take() {
            fx.emit(Event::Cancel { run });
            fx.emit(Event::Over { hook, outcome: Outcome::Interrupted });
        }
        self.run(now, Hook::BecamePassive { epoch }, fx);
    }

    fn run(&mut self, now: Time, hook: Hook, fx: &mut dyn Effects<Hooks>) {
        let ms = match hook {
            Hook::BecameActive { epoch } => {
                self.active = Some(epoch);
                self.timeouts.active_ms
            }
            Hook::BecamePassive { .. } => self.timeouts.passive_ms,
            Hook::LeaderChanged { .. } | Hook::HealthChanged(_) => self.timeouts.other_ms,
        };
        self.runs += 1;
        let run = self.runs;
        // After a tick the deadline lies ahead, whatever the settings say.
        self.running = Some(Running { run, hook, until: now.after_ms(ms.max(1)) });
        fx.emit(Event::Run { run, hook });
    }

    fn next(&mut self, now: Time, fx: &mut dyn Effects<Hooks>) {
        if self.running.is_none()
            && let Some(hook) = self.waiting.pop_front()
        {
            self.run(now, hook, fx);
        }
    }

    fn over(&mut self, now: Time, hook: Hook, outcome: Outcome, fx: &mut dyn Effects<Hooks>) {
        fx.emit(Event::Over { hook, outcome });
        if outcome != Outcome::Done {
            match hook {
                Hook::BecameActive { epoch } => {
                    fx.emit(Event::StepDown { epoch });
                    return self.passive(now, epoch, fx);
                }
                Hook::BecamePassive { epoch } => fx.emit(Event::Halt { epoch }),
                Hook::LeaderChanged { .. } | Hook::HealthChanged(_) => {}
            }
        }
        self.next(now, fx);
    }
}

impl Machine for Hooks {
    type Message = Never;
    type Record = Never;
    type Command = Command;
    type Event = Event;

    fn restore(&mut self, record: Never) {
        match record {}
    }

    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        let now = cx.now;
        match input {
            Input::Command(Command::Happened(hook)) => self.happened(now, hook, fx),
            Input::Command(Command::Ended { run, success }) => {
                if let Some(running) = self.running.take_if(|running| running.run == run) {
                    let outcome = if success { Outcome::Done } else { Outcome::Failed };
                    self.over(now, running.hook, outcome, fx);
                }
            }
            Input::Tick => {
                if let Some(running) = self.running.take_if(|running| running.until <= now) {
                    fx.emit(Event::Cancel { run: running.run });
                    self.over(now, running.hook, Outcome::TimedOut, fx);
                }
            }
            Input::Message { message, .. } => match message {},
            Input::Start | Input::Link { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.running.map(|running| running.until)
    }

    fn check(&self) {
        assert!(self.waiting.len() <= 3, "one of each kind waits, and never to become passive");
        assert!(self.waiting.is_empty() || self.running.is_some(), "nothing waits for nothing");
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::machine::WallTime;

    const ACTIVE: Hook = Hook::BecameActive { epoch: 7 };
    const PASSIVE: Hook = Hook::BecamePassive { epoch: 7 };
    const HEALTH: Hook = Hook::HealthChanged(Health::Degraded);

    #[derive(Default)]
    struct Out(Vec<Event>);

    impl Effects<Hooks> for Out {
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

    struct Host {
        hooks: Hooks,
        now: Time,
    }

    impl Host {
        fn new() -> Host {
            Host { hooks: Hooks::new(Timeouts::default()), now: Time::ZERO }
        }

        fn step(&mut self, input: Input<Hooks>) -> Vec<Event> {
            let cx = Cx { me: NodeId([0; 32]), now: self.now, wall: WallTime::ZERO, entropy: 0 };
            let mut out = Out::default();
            self.hooks.handle(cx, input, &mut out);
            self.hooks.check();
            out.0
        }

        fn happened(&mut self, hook: Hook) -> Vec<Event> {
            self.step(Input::Command(Command::Happened(hook)))
        }

        fn ended(&mut self, run: u64, success: bool) -> Vec<Event> {
            self.step(Input::Command(Command::Ended { run, success }))
        }

        fn wait(&mut self) -> Vec<Event> {
            self.now = self.hooks.deadline().expect("something runs");
            self.step(Input::Tick)
        }
    }

    fn over(hook: Hook, outcome: Outcome) -> Event {
        Event::Over { hook, outcome }
    }

    #[test]
    fn one_at_a_time_and_in_order() {
        let mut host = Host::new();
        assert_eq!(host.happened(HEALTH), [Event::Run { run: 1, hook: HEALTH }]);
        assert!(host.happened(ACTIVE).is_empty());
        let whole = Hook::HealthChanged(Health::Whole);
        assert!(host.happened(HEALTH).is_empty());
        assert_eq!(host.happened(whole), [over(HEALTH, Outcome::Superseded)]);
        let next = [over(HEALTH, Outcome::Done), Event::Run { run: 2, hook: ACTIVE }];
        assert_eq!(host.ended(1, true), next);
        assert!(host.ended(1, true).is_empty(), "that one is over");
        let next = [over(ACTIVE, Outcome::Done), Event::Run { run: 3, hook: whole }];
        assert_eq!(host.ended(2, true), next);
        assert_eq!(host.ended(3, false), [over(whole, Outcome::Failed)]);
        assert_eq!(host.hooks.active(), Some(7));
    }

    #[test]
    fn becoming_passive_waits_for_nothing() {
        let mut host = Host::new();
        host.happened(ACTIVE);
        host.happened(HEALTH);
        let events = host.happened(PASSIVE);
        assert_eq!(
            events,
            [
                Event::Cancel { run: 1 },
                over(ACTIVE, Outcome::Interrupted),
                Event::Run { run: 2, hook: PASSIVE },
            ]
        );
        assert!(host.ended(1, true).is_empty(), "it was cancelled");
        let next = [over(PASSIVE, Outcome::Done), Event::Run { run: 3, hook: HEALTH }];
        assert_eq!(host.ended(2, true), next);
    }

    #[test]
    fn what_never_became_active_need_not_become_passive() {
        let mut host = Host::new();
        host.happened(HEALTH);
        host.happened(ACTIVE);
        let superseded = [over(ACTIVE, Outcome::Superseded), over(PASSIVE, Outcome::Superseded)];
        assert_eq!(host.happened(PASSIVE), superseded);
        assert_eq!(host.ended(1, true), [over(HEALTH, Outcome::Done)]);
    }

    #[test]
    fn who_cannot_become_active_steps_down_and_who_cannot_stop_is_stopped() {
        let mut host = Host::new();
        host.happened(ACTIVE);
        let events = host.wait();
        assert_eq!(
            events,
            [
                Event::Cancel { run: 1 },
                over(ACTIVE, Outcome::TimedOut),
                Event::StepDown { epoch: 7 },
                Event::Run { run: 2, hook: PASSIVE },
            ]
        );
        // The node, having stepped down, becomes passive: that has been run.
        assert_eq!(host.happened(PASSIVE), [over(PASSIVE, Outcome::Superseded)]);
        let halted = [over(PASSIVE, Outcome::Failed), Event::Halt { epoch: 7 }];
        assert_eq!(host.ended(2, false), halted);
        assert_eq!(host.hooks.deadline(), None);
    }
}
