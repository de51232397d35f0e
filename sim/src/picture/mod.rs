//! A picture of a recorded run: one page, drawn by the browser, that needs nothing else.
//!
//! A space-time diagram: each node is a line, each message an arrow from where it was sent to where
//! it arrived or was lost. [`html`] writes the run as columns of numbers (`Run`) into a page of
//! files beside this one: `page.html`, `page.css`, and the scripts, which depend on nothing. What
//! the scripts need not find out again is found out here: how long each fault held (`bands`),
//! which event failed, and how much text there is room for.

mod bands;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::picture::bands::{Band, bands};
use crate::recording::{About, StateChange, States};
use crate::run::{Failure, FailureKind, Outcome};
use crate::trace::{TraceEvent, What};

/// Events shown at most; of a longer recording, the last ones.
pub const PICTURE_EVENTS_MAX: usize = 150_000;
/// How many bytes of events' texts a page carries in full; beyond that they are cut short, the
/// later events' texts last.
pub const PICTURE_TEXT_MAX: usize = 6 << 20;
/// A text longer than this is cut short wherever it is.
const LONG_TEXT_MAX: usize = 4_000;
/// A text is cut to this length where there is no more room.
const SHORT_TEXT_MAX: usize = 30;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPTS: [&str; 5] = [
    include_str!("run.js"),
    include_str!("view.js"),
    include_str!("draw.js"),
    include_str!("panel.js"),
    include_str!("page.js"),
];

/// What a page says about its run besides what is in the recording.
#[derive(Clone, Debug, Default)]
pub struct Caption {
    /// The scenario's name.
    pub scenario: String,
    /// What it tries.
    pub about: String,
    /// The command that makes the run again.
    pub replay: String,
    /// The nodes' names; their numbers where there is none.
    pub names: Vec<String>,
}

/// The page of a run that was recorded, and better with [states kept](crate::Sim::keep_states).
#[must_use]
pub fn html(outcome: &Outcome, caption: &Caption) -> String {
    // Within JSON a `<` is always inside a string: so no text can end the script.
    let run = serde_json::to_string(&Run::of(outcome, caption)).unwrap_or_default();
    let run = run.replace('<', "\\u003c");
    let title = format!("{} seed {}", escaped(&caption.scenario), outcome.seed);
    let mut page = String::with_capacity(run.len() + (128 << 10));
    for part in PAGE.split("<!--") {
        match part.split_once("-->") {
            None => page += part,
            Some((mark, rest)) => {
                match mark {
                    "title" => page += &title,
                    "style" => page += STYLE,
                    "run" => page += &run,
                    "scripts" => SCRIPTS.iter().for_each(|script| page += script),
                    mark => unreachable!("the page asks for {mark}"),
                }
                page += rest;
            }
        }
    }
    page
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// The kind of a message: the first word of its text, and the second if the first only wraps it, as
/// in `Sync(Reply { … })`.
#[must_use]
pub fn kind_of(text: &str) -> String {
    let word = |text: &str| {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
        (text[..end].to_owned(), end)
    };
    let (first, end) = word(text);
    let inner = text[end..].strip_prefix('(').map(|inner| word(inner).0).unwrap_or_default();
    if inner.starts_with(char::is_uppercase) && inner != first && inner != "None" {
        return format!("{first} {inner}");
    }
    if first.is_empty() { "message".to_owned() } else { first }
}

/// The event at which the run failed.
#[must_use]
pub fn failing_event(events: &[TraceEvent], failure: &Failure) -> Option<usize> {
    let Some(node) = failure.node else { return events.len().checked_sub(1) };
    let reported = failure.kind == FailureKind::Reported;
    let acts = |what: What| match what {
        What::Emit | What::Op | What::Crash | What::Start => reported,
        what => what.begins_step() && !reported,
    };
    let at = events.iter().rposition(|event| {
        let starts = event.what == What::Start;
        event.node == Some(node) && (acts(event.what) || starts)
    });
    at.or_else(|| events.len().checked_sub(1))
}

/// A run as the page's scripts read it. Events are columns, by place; -1 is for none.
#[derive(Serialize)]
struct Run<'a> {
    scenario: &'a str,
    about: &'a str,
    replay: &'a str,
    seed: String,
    hash: String,
    failure: Option<String>,
    failed_at: i64,
    nodes: Vec<String>,
    /// What the page must say is missing.
    notes: Vec<String>,
    /// The number of the first event.
    first: u64,
    whats: Vec<String>,
    /// The time since the event before, in microseconds.
    time: Vec<u64>,
    what: Vec<u8>,
    node: Vec<i32>,
    peer: Vec<i32>,
    text: Vec<u32>,
    /// The place of the send that it is about; a send's own place.
    message: Vec<i32>,
    /// For a send, in `kinds`.
    kind: Vec<i32>,
    kinds: Vec<String>,
    texts: Vec<String>,
    bands: Vec<Band>,
    labels: &'a [&'static str],
    values: &'a [String],
    /// Place, node, label, value, one after the other.
    states: Vec<i64>,
}

/// Every kind of event: their numbers are their places.
const WHATS: [What; 18] = [
    What::Send,
    What::Drop,
    What::Duplicate,
    What::Deliver,
    What::Tick,
    What::Command,
    What::Link,
    What::Connect,
    What::Persist,
    What::Sync,
    What::Forget,
    What::Emit,
    What::Start,
    What::Crash,
    What::Op,
    What::Fault,
    What::Undo,
    What::Heal,
];

impl<'a> Run<'a> {
    fn of(outcome: &'a Outcome, caption: &'a Caption) -> Run<'a> {
        let all = outcome.trace.as_deref().unwrap_or_default();
        let skipped = all.len().saturating_sub(PICTURE_EVENTS_MAX);
        let events = &all[skipped..];
        let first = events.first().map_or(0, |event| event.number);
        let states = outcome.states.as_ref();
        let count = all.iter().filter_map(|event| event.node).max().map_or(0, |node| node + 1);
        let named = |node: usize| {
            caption.names.get(node).cloned().unwrap_or_else(|| format!("node {node}"))
        };
        let mut run = Run {
            scenario: &caption.scenario,
            about: &caption.about,
            replay: &caption.replay,
            seed: outcome.seed.to_string(),
            hash: format!("{:016x}", outcome.trace_hash),
            failure: outcome.result.as_ref().err().map(Failure::to_string),
            failed_at: -1,
            nodes: (0..count.max(caption.names.len())).map(named).collect(),
            notes: notes(outcome, skipped),
            first,
            whats: WHATS.iter().map(|what| format!("{what:?}")).collect(),
            time: Vec::with_capacity(events.len()),
            what: events.iter().map(|event| event.what as u8).collect(),
            node: events.iter().map(|event| place(event.node)).collect(),
            peer: events.iter().map(|event| place(event.peer)).collect(),
            text: Vec::new(),
            message: Vec::with_capacity(events.len()),
            kind: Vec::with_capacity(events.len()),
            kinds: Vec::new(),
            texts: Vec::new(),
            bands: bands(all, skipped),
            labels: states.map_or(&[], |states| &states.labels),
            values: states.map_or(&[], |states| &states.values),
            states: states.map(|states| flat(states, first)).unwrap_or_default(),
        };
        if let Err(failure) = &outcome.result {
            run.failed_at = failing_event(events, failure).map_or(-1, |place| place as i64);
        }
        run.columns(events, first);
        run.texts(events);
        run
    }

    fn columns(&mut self, events: &[TraceEvent], first: u64) {
        let mut known: BTreeMap<String, i32> = BTreeMap::new();
        let mut before = 0;
        for (place, event) in events.iter().enumerate() {
            self.time.push(event.time.0 - before);
            before = event.time.0;
            let (mut message, mut kind) = (-1, -1);
            if event.what == What::Send {
                message = place as i32;
                kind = *known.entry(kind_of(&event.detail)).or_insert_with_key(|name| {
                    self.kinds.push(name.clone());
                    self.kinds.len() as i32 - 1
                });
            } else if let About::Message(sent) = event.about
                && sent >= first
            {
                message = (sent - first) as i32;
            }
            self.message.push(message);
            self.kind.push(kind);
        }
    }

    /// The events' texts, each once. The last ones are the first to have room: failures are there.
    fn texts(&mut self, events: &[TraceEvent]) {
        let mut known: BTreeMap<&str, u32> = BTreeMap::new();
        let (mut room, mut cut) = (PICTURE_TEXT_MAX, 0);
        self.text = vec![0; events.len()];
        for (place, event) in events.iter().enumerate().rev() {
            self.text[place] = *known.entry(&event.detail).or_insert_with_key(|detail| {
                let most = if room > 0 { LONG_TEXT_MAX } else { SHORT_TEXT_MAX };
                cut += u32::from(detail.len() > most && most == SHORT_TEXT_MAX);
                let text = shortened(detail, most);
                room = room.saturating_sub(text.len());
                self.texts.push(text);
                self.texts.len() as u32 - 1
            });
        }
        if cut > 0 {
            self.notes.push(format!(
                "{cut} texts of the earlier events are cut short: there are too many"
            ));
        }
    }
}

fn notes(outcome: &Outcome, skipped: usize) -> Vec<String> {
    let mut notes = Vec::new();
    match &outcome.trace {
        None => notes.push("the run was not recorded".to_owned()),
        Some(trace) if trace.len() >= crate::trace::RECORDED_EVENTS_MAX => {
            notes.push("the recording was full before the run ended".to_owned());
        }
        Some(_) => {}
    }
    if skipped > 0 {
        notes.push(format!("the first {skipped} events are not shown"));
    }
    if let Some(ended) = outcome.states.as_ref().and_then(|states| states.ended) {
        notes.push(format!("states are kept up to event {ended} only: there was too much of them"));
    }
    notes
}

fn place(node: Option<usize>) -> i32 {
    node.map_or(-1, |node| node as i32)
}

/// A text of at most `most` bytes, and how many more there were.
fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most);
    format!("{}… ({} bytes more)", &text[..end], text.len() - end)
}

/// State changes as flat numbers. Those before the first event shown count as its own.
fn flat(states: &States, first: u64) -> Vec<i64> {
    let numbers = |change: &StateChange| {
        let value = change.value.map_or(-1, |value| value as i64);
        let place = change.event as i64 - first as i64;
        [place.max(-1), change.node as i64, change.label as i64, value]
    };
    states.changes.iter().flat_map(numbers).collect()
}

#[cfg(test)]
mod tests {
    use quorate_machine::{Cx, Effects, Input, Machine, Never, Time};

    use super::*;
    use crate::{Plan, SimTime, System, many};

    #[test]
    fn every_kind_has_its_number() {
        assert!(WHATS.iter().enumerate().all(|(place, what)| *what as usize == place));
    }

    #[test]
    fn a_kind_is_the_first_word_and_what_it_wraps() {
        assert_eq!(kind_of("Ping { nonce: 3 }"), "Ping");
        assert_eq!(kind_of("Sync(Reply { to: 1 })"), "Sync Reply");
        assert_eq!(kind_of("News(News { run: [] })"), "News");
        assert_eq!(kind_of("Say(5)"), "Say");
        assert_eq!(kind_of("Heard(None)"), "Heard");
        assert_eq!(kind_of("[1, 2]"), "message");
        assert_eq!(kind_of(""), "message");
    }

    #[test]
    fn the_largest_page_has_its_bounds() {
        let nothing = |_: u64| (Idle, Plan::calm(SimTime::ms(1)));
        let mut outcome = many::record(&nothing, 1);
        let mut states = States::default();
        let event = |number: u64| TraceEvent {
            number,
            time: SimTime(number * 1_000),
            what: if number.is_multiple_of(2) { What::Send } else { What::Deliver },
            node: Some((number % 7) as usize),
            peer: Some(((number + 1) % 7) as usize),
            about: About::Message(number & !1),
            detail: format!("Entry {{ {} \"{}\" }}", number / 2, "\\x".repeat(400)),
            hash: 0,
        };
        let count = PICTURE_EVENTS_MAX as u64 + 1_000;
        outcome.trace = Some((0..count).map(event).collect());
        for number in 0..count {
            let lines = ["a", "b", "c"].map(|label| (label, format!("{label} {number}")));
            states.keep(number, (number % 7) as usize, &lines);
        }
        assert!(states.ended.is_some());
        outcome.states = Some(states);
        let page = html(&outcome, &Caption::default());
        assert!(page.len() < 30 << 20, "{} bytes", page.len());
        for note in
            ["the first 1000 events are not shown", "are cut short", "states are kept up to"]
        {
            assert!(page.contains(note), "{note}");
        }
    }

    /// A cluster that does nothing.
    #[derive(Clone)]
    struct Idle;

    impl Machine for Idle {
        type Message = Never;
        type Record = ();
        type Command = ();
        type Event = ();
        fn restore(&mut self, (): ()) {}
        fn handle(&mut self, _: Cx, _: Input<Self>, _: &mut dyn Effects<Self>) {}
        fn deadline(&self) -> Option<Time> {
            None
        }
    }

    impl System for Idle {
        type Machine = Idle;
        type Op = ();
        fn nodes(&self) -> usize {
            1
        }
        fn boot(&self, _: usize) -> Idle {
            Idle
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(shortened("äöü", 3), "ä… (4 bytes more)");
        assert_eq!(shortened("äöü", 6), "äöü");
    }
}
