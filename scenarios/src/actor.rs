//! A node that can be made to lie: the honest machine, and besides, whatever a scenario puts into its
//! mouth. Peers see one authenticated node; they cannot tell which half speaks.

use quorate_core::machine::{Cx, Effects, Input, Machine, NodeId, Time};
use quorate_core::node::{Command, Event, Message, Node, Record};

/// A node, honest unless told otherwise.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The honest half.
    pub node: Node,
    /// Whether it takes no notice of anything but greetings and pings: its process hangs, and the
    /// system below it does not.
    pub deaf: bool,
}

/// What a scenario asks of an actor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// What a client would ask of a node.
    Node(Command),
    /// Send this message, whether the node would or not.
    Say(NodeId, Message),
    /// Take no notice of messages, or do so again.
    Deaf(bool),
}

impl Machine for Actor {
    type Message = Message;
    type Record = Record;
    type Command = Ask;
    type Event = Event;

    fn restore(&mut self, record: Record) {
        self.node.restore(record);
    }

    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        let input = match input {
            Input::Start => Input::Start,
            Input::Message { from, message } => {
                let heard = matches!(message, Message::Handshake(_) | Message::Detector(_));
                if self.deaf && !heard {
                    return;
                }
                Input::Message { from, message }
            }
            Input::Command(Ask::Node(command)) => Input::Command(command),
            Input::Command(Ask::Say(to, message)) => return fx.send_now(to, message),
            Input::Command(Ask::Deaf(deaf)) => {
                self.deaf = deaf;
                return;
            }
            Input::Link { peer, up } => Input::Link { peer, up },
            Input::Tick => Input::Tick,
        };
        self.node.handle(cx, input, &mut Through(fx));
    }

    fn deadline(&self) -> Option<Time> {
        self.node.deadline()
    }

    fn check(&self) {
        self.node.check();
    }
}

/// The node's effects, which are the actor's.
struct Through<'a>(&'a mut dyn Effects<Actor>);

impl Effects<Node> for Through<'_> {
    fn persist(&mut self, record: Record) {
        self.0.persist(record);
    }
    fn send(&mut self, to: NodeId, message: Message) {
        self.0.send(to, message);
    }
    fn send_now(&mut self, to: NodeId, message: Message) {
        self.0.send_now(to, message);
    }
    fn emit(&mut self, event: Event) {
        self.0.emit(event);
    }
    fn emit_now(&mut self, event: Event) {
        self.0.emit_now(event);
    }
}
