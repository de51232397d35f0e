//! Walking through a run: a line at a time, forward and back.

use quorate_scenarios::Walk;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use serde_json::json;

use super::print;
use super::replay::told;
use crate::control::protocol::{Code, Failure};

/// Events told after a move at most: the last ones.
const EVENTS_TOLD: u64 = 20;

const HELP: &str = "\
next [N]       go on by N steps, or one
back [N]       go back by N steps, or one
goto N         go to step N, wherever that is
node N         go on to the next step of node N, and show how it stands
show N         show how node N stands here
events [N]     the last N events, or 20
end            go to the end
quit           leave";

/// One line of what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Next(u64),
    Back(u64),
    Goto(u64),
    Node(usize),
    Show(usize),
    Events(u64),
    End,
    Help,
    Quit,
}

pub(super) fn run(cursor: &mut dyn Walk, as_json: bool) -> Result<(), Failure> {
    let broken =
        |error: ReadlineError| Failure::new(Code::Failed, format!("the terminal: {error}"));
    let mut editor = DefaultEditor::new().map_err(broken)?;
    if !as_json {
        print("Before the first step. `help` names the commands, Ctrl-D ends.")?;
    }
    let mut last = Wish::Help;
    loop {
        let line = match editor.readline("step> ") {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(broken(error)),
        };
        // An empty line does the last again, as debuggers have it.
        let wish = if line.trim().is_empty() { Ok(last) } else { parse(&line) };
        let _ = editor.add_history_entry(&line);
        match wish {
            Ok(Wish::Quit) => return Ok(()),
            Ok(wish) => {
                last = wish;
                let lines = obey(cursor, wish);
                answer(cursor, &lines, as_json)?;
            }
            Err(why) if as_json => print(&json!({ "error": why }).to_string())?,
            Err(why) => print(&why)?,
        }
    }
}

fn parse(line: &str) -> Result<Wish, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let number = |word: &str| {
        word.parse::<u64>().map_err(|_| format!("`{word}` is no number; `help` names the commands"))
    };
    Ok(match words[..] {
        ["next" | "n"] => Wish::Next(1),
        ["next" | "n", steps] => Wish::Next(number(steps)?),
        ["back" | "b"] => Wish::Back(1),
        ["back" | "b", steps] => Wish::Back(number(steps)?),
        ["goto" | "g", step] => Wish::Goto(number(step)?),
        ["node", node] => Wish::Node(number(node)? as usize),
        ["show", node] => Wish::Show(number(node)? as usize),
        ["events" | "e"] => Wish::Events(EVENTS_TOLD),
        ["events" | "e", count] => Wish::Events(number(count)?),
        ["end"] => Wish::End,
        ["help"] => Wish::Help,
        ["quit" | "exit"] => Wish::Quit,
        _ => return Err(format!("`{}` is not understood; `help` names the commands", line.trim())),
    })
}

/// Does it; what there is to say about it.
fn obey(cursor: &mut dyn Walk, wish: Wish) -> Vec<String> {
    let before = cursor.place().event;
    match wish {
        Wish::Next(steps) => cursor.forward(steps),
        Wish::Back(steps) => cursor.back(steps),
        Wish::Goto(step) => cursor.seek(step),
        Wish::End => cursor.finish(),
        Wish::Node(node) | Wish::Show(node) if node >= cursor.nodes() => {
            return vec![format!("there is no node {node}")];
        }
        Wish::Node(node) => {
            let stepped = cursor.next_at(node);
            let end = cursor.place().event;
            let events = cursor.events(before.max(end.saturating_sub(EVENTS_TOLD))..end);
            let mut lines = told(&events, Some(node));
            if !stepped {
                lines.push(format!("node {node} makes no further step"));
            }
            lines.push(cursor.describe(node));
            return lines;
        }
        Wish::Show(node) => return vec![cursor.describe(node)],
        Wish::Events(count) => {
            return told(&cursor.events(before.saturating_sub(count)..before), None);
        }
        Wish::Help => return HELP.lines().map(str::to_owned).collect(),
        Wish::Quit => return Vec::new(),
    }
    // What was passed on the way; going back, what has just happened there.
    let end = cursor.place().event;
    let from = if end > before { before } else { end.saturating_sub(1) };
    told(&cursor.events(from.max(end.saturating_sub(EVENTS_TOLD))..end), None)
}

fn answer(cursor: &dyn Walk, lines: &[String], as_json: bool) -> Result<(), Failure> {
    let place = cursor.place();
    let failure = cursor.failure().map(|failure| failure.to_string());
    if as_json {
        let value = json!({
            "step": place.step, "event": place.event, "time_us": place.time.0,
            "trace_hash": format!("{:016x}", cursor.trace_hash()), "done": cursor.done(),
            "failure": failure, "lines": lines,
        });
        return print(&value.to_string());
    }
    lines.iter().try_for_each(|line| print(line))?;
    let end = match &failure {
        Some(failure) => format!(": {failure}"),
        None if cursor.done() => ": the end, everything held".to_owned(),
        None => String::new(),
    };
    print(&format!("step {}, {}{end}", place.step, place.time))
}

#[cfg(test)]
mod tests {
    use quorate_scenarios::Start;

    use super::*;

    #[test]
    fn wishes_are_understood_or_named() {
        assert_eq!(parse(" next  12 "), Ok(Wish::Next(12)));
        assert_eq!((parse("b"), parse("goto 7")), (Ok(Wish::Back(1)), Ok(Wish::Goto(7))));
        assert!(parse("goto seven").is_err_and(|why| why.contains("`seven` is no number")));
        assert!(parse("jump").is_err_and(|why| why.contains("`jump` is not understood")));
    }

    #[test]
    fn a_walk_goes_there_and_back() {
        let scenario = quorate_scenarios::find("halves").unwrap();
        let mut walk = scenario.trial.walk(&Start::Seed(1)).unwrap();
        let cursor = walk.as_mut();
        assert!(obey(cursor, Wish::Goto(40)).len() as u64 <= EVENTS_TOLD);
        let (place, hash) = (cursor.place(), cursor.trace_hash());
        assert!(!obey(cursor, Wish::Next(3)).is_empty());
        obey(cursor, Wish::Back(20));
        assert!(cursor.place().step < place.step);
        obey(cursor, Wish::Goto(place.step));
        assert_eq!((cursor.place(), cursor.trace_hash()), (place, hash));
        let lines = obey(cursor, Wish::Node(2));
        assert!(lines.last().unwrap().starts_with("node 2"), "{lines:?}");
        assert_eq!(obey(cursor, Wish::Node(9)), ["there is no node 9"]);
    }
}
