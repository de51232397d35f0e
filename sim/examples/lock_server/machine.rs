//! A lock server: it grants a lock to one client at a time, and the client gives it back.
use quorate_machine::{Cx, Effects, Input, Machine, NodeId, Time};

/// The node that grants.
const SERVER: NodeId = NodeId([0; 32]);

/// A client says again and again what it wants, and in which round; the server grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Message {
    Want(u64),
    Idle(u64),
    Grant(u64),
}

#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Lock {
    pub(crate) careful: bool,
    pub(crate) holds: bool,
    pub(crate) wants: bool,
    pub(crate) round: u64,
    pub(crate) granted: Option<(NodeId, u64)>,
    pub(crate) due: Option<Time>,
}

impl Machine for Lock {
    type Message = Message;
    type Record = (u64, Option<(NodeId, u64)>);
    type Command = bool;
    type Event = bool;

    fn restore(&mut self, record: Self::Record) {
        (self.round, self.granted) = record;
    }

    fn handle(&mut self, cx: Cx, input: Input<Self>, fx: &mut dyn Effects<Self>) {
        let before = (self.round, self.granted);
        let mut grants = None;
        match input {
            Input::Message { from, message: Message::Want(round) } => {
                // Free, or given back by a message that was lost.
                if self.granted.is_none_or(|(to, of)| to == from && of < round) {
                    self.granted = Some((from, round));
                }
                grants = self.granted.filter(|granted| *granted == (from, round));
            }
            Input::Message { from, message: Message::Idle(round) } => {
                self.granted = self.granted.filter(|(to, of)| *to != from || *of > round);
            }
            Input::Message { message: Message::Grant(of), .. }
                if self.wants && !self.holds && (of == self.round || !self.careful) =>
            {
                self.holds = true;
                fx.emit(true);
            }
            Input::Command(wants) if wants != self.wants => {
                (self.wants, self.holds) = (wants, false);
                self.round += u64::from(wants);
            }
            Input::Start | Input::Tick => {
                self.due = Some(cx.now.after_ms(100));
                let says = if self.wants { Message::Want } else { Message::Idle };
                if cx.me != SERVER && !self.holds {
                    fx.send(SERVER, says(self.round));
                }
            }
            _ => {}
        }
        if before != (self.round, self.granted) {
            fx.persist((self.round, self.granted));
        }
        if let Some((to, round)) = grants {
            fx.send(to, Message::Grant(round));
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.due
    }
}
