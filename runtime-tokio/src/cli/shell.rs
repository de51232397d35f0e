//! `quorate shell`: the same commands, with history and completion.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};

use super::args::{Cli, Command, Global};
use crate::control::protocol::{Code, Failure};

const HISTORY_FILE: &str = "shell_history";

pub(super) async fn run(data: &Path, global: &Global) -> Result<ExitCode, Failure> {
    let broken =
        |error: ReadlineError| Failure::new(Code::Failed, format!("the terminal: {error}"));
    let mut editor = Editor::<Names, FileHistory>::new().map_err(broken)?;
    editor.set_helper(Some(Names::new()));
    let history = data.join(HISTORY_FILE);
    // There is none the first time.
    let _ = editor.load_history(&history);
    let interactive = std::io::stdin().is_terminal();
    if interactive {
        println!(
            "Commands as on the command line, without `quorate`; `help` lists them. Ctrl-D ends."
        );
    }
    let mut last = Ok(ExitCode::SUCCESS);
    loop {
        let (line, back) = tokio::task::spawn_blocking(move || {
            let line = editor.readline("quorate> ");
            (line, editor)
        })
        .await
        .map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
        editor = back;
        let line = match line {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => continue,
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(broken(error)),
        };
        if line.trim().is_empty() {
            continue;
        }
        let _ = editor.add_history_entry(&line);
        if let "exit" | "quit" = line.trim() {
            break;
        }
        last = one(&line, data, global).await;
        if let Err(failure) = &last {
            super::tell("", failure, global.json);
        }
    }
    if let Err(error) = editor.save_history(&history) {
        tracing::debug!(%error, "the history is not kept");
    }
    // A script's last command decides; a person has seen what went wrong.
    if interactive { Ok(ExitCode::SUCCESS) } else { last }
}

/// Runs one line, until it ends or Ctrl-C.
async fn one(line: &str, data: &Path, global: &Global) -> Result<ExitCode, Failure> {
    let words = split(line)?;
    let parsed = Cli::try_parse_from(std::iter::once("quorate".to_owned()).chain(words));
    let mut cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            let failed = error.use_stderr();
            if failed && global.json {
                return Err(super::usage(&error));
            }
            // Where it goes is clap's to choose.
            let _ = error.print();
            return match failed {
                true => Err(Failure::new(Code::Usage, "not understood")),
                false => Ok(ExitCode::SUCCESS),
            };
        }
    };
    if let Command::Shell | Command::Up(_) = cli.command {
        let message = "not in the shell: run it in another terminal";
        return Err(Failure::new(Code::Usage, message));
    }
    cli.global.data.get_or_insert_with(|| data.to_owned());
    cli.global.json |= global.json;
    if let Command::Leader(_) | Command::Lock(_) = cli.command {
        // They give back what they hold.
        return Box::pin(super::run(cli)).await;
    }
    tokio::select! {
        biased;
        done = Box::pin(super::run(cli)) => done,
        _ = tokio::signal::ctrl_c() => Ok(ExitCode::SUCCESS),
    }
}

/// Splits a line into words as a shell does, with quotes and backslashes and nothing else.
pub(super) fn split(line: &str) -> Result<Vec<String>, Failure> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => match chars.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err(Failure::new(Code::Usage, "a backslash at the end")),
            },
            (c, Some(open)) if c == open => quote = None,
            ('"' | '\'', None) => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(Failure::new(Code::Usage, "a quote that does not end"));
    }
    words.extend(word);
    Ok(words)
}

/// Completes the names of commands.
struct Names {
    names: Vec<(String, Vec<String>)>,
}

impl Names {
    fn new() -> Names {
        let command = Cli::command();
        let below = |command: &clap::Command| {
            command.get_subcommands().map(|sub| sub.get_name().to_owned()).collect()
        };
        let names = command.get_subcommands().map(|sub| (sub.get_name().to_owned(), below(sub)));
        Names { names: names.collect() }
    }

    fn matching(&self, line: &str) -> (usize, Vec<String>) {
        let start = line.rfind(char::is_whitespace).map_or(0, |at| at + 1);
        let (before, word) = (line[..start].split_whitespace().collect::<Vec<_>>(), &line[start..]);
        let candidates: Vec<&str> = match before[..] {
            [] => self.names.iter().map(|(name, _)| &name[..]).collect(),
            [command] => {
                let found = self.names.iter().find(|(name, _)| name == command);
                found
                    .into_iter()
                    .flat_map(|(_, below)| below.iter().map(|name| &name[..]))
                    .collect()
            }
            _ => Vec::new(),
        };
        let fits = candidates.into_iter().filter(|name| name.starts_with(word));
        (start, fits.map(|name| format!("{name} ")).collect())
    }
}

impl Completer for Names {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        position: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.matching(&line[..position]))
    }
}

impl Hinter for Names {
    type Hint = String;
}

impl Highlighter for Names {}
impl Validator for Names {}
impl Helper for Names {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_as_a_shell_does() {
        let words = |line| split(line).unwrap();
        assert_eq!(words(r#" put  "a b" 'c"d' e\ f "" "#), ["put", "a b", "c\"d", "e f", ""]);
        assert_eq!(words(r#"x"y"'z'"#), ["xyz"]);
        assert!(split("put 'a").is_err() && split("a\\").is_err());
    }

    #[test]
    fn names_complete_where_commands_stand() {
        let names = Names::new();
        assert_eq!(names.matching("sta"), (0, vec!["status ".into()]));
        assert_eq!(names.matching("counter a"), (8, vec!["add ".into()]));
        assert_eq!(names.matching("get a"), (4, vec![]));
    }
}
