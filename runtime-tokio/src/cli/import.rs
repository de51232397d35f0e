//! `quorate import`: each line of a file is an entry.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use quorate_core::entry::{MAX_BODY_BYTES, MAX_KEY_BYTES};
use serde_json::Value as Json;

use super::args::Import;
use super::print::Output;
use crate::control::protocol::{Blob, Code, Failure, Reply, Request};
use crate::control::session::Session;

/// Lines sent to the node at once.
const BATCH_LINES: usize = 512;
/// Bytes sent to the node at once, before they are encoded.
const BATCH_BYTES: usize = 1 << 20;

/// What some editors put before the first line.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Lines that were read and not yet sent.
#[derive(Debug, Default)]
struct Batch {
    items: Vec<(Blob, Blob)>,
    bytes: usize,
    /// The number of the first and last line, from 1.
    first: u64,
    last: u64,
}

pub(super) async fn run(data: &Path, import: Import, output: &mut Output) -> Result<(), Failure> {
    let (reader, bytes) = open(&import.file)?;
    let mut session = Session::open(data, false).await?;
    let bar = bar(bytes);
    let mut entries = 0;
    let result = send_all(reader, &import, &mut session, &bar, &mut entries).await;
    bar.finish_and_clear();
    let closed = session.close().await;
    output.reply(&Reply::Imported { entries })?;
    output.end()?;
    result.and(closed)
}

async fn send_all(
    mut reader: impl BufRead,
    import: &Import,
    session: &mut Session,
    bar: &ProgressBar,
    entries: &mut u64,
) -> Result<(), Failure> {
    let (mut batch, mut number) = (Batch::default(), 0);
    while let Some(line) = read_line(&mut reader, number + 1)? {
        number += 1;
        bar.inc(line.len() as u64);
        let mark = if number == 1 { BYTE_ORDER_MARK } else { &[] };
        let line = line.strip_prefix(mark).unwrap_or(&line);
        if line.trim_ascii().is_empty() {
            continue;
        }
        let item = match item(line.trim_ascii_end(), import) {
            Ok(item) => item,
            Err(why) => {
                // What came before it is imported all the same: the message says so.
                *entries += send(session, std::mem::take(&mut batch)).await?;
                let message = format!("line {number}: {why}; the lines before it are imported");
                return Err(Failure::new(Code::Usage, message));
            }
        };
        if batch.items.is_empty() {
            batch.first = number;
        }
        batch.last = number;
        batch.bytes += item.0.0.len() + item.1.0.len();
        batch.items.push(item);
        if batch.items.len() >= BATCH_LINES || batch.bytes >= BATCH_BYTES {
            *entries += send(session, std::mem::take(&mut batch)).await?;
            bar.set_message(format!("{entries} entries"));
        }
    }
    *entries += send(session, batch).await?;
    Ok(())
}

/// Sends a batch and waits until it is durable.
async fn send(session: &mut Session, batch: Batch) -> Result<u64, Failure> {
    let Batch { items, first, last, .. } = batch;
    if items.is_empty() {
        return Ok(0);
    }
    let name = |failure: Failure| {
        Failure::new(failure.code, format!("lines {first} to {last}: {failure}"))
    };
    session.ask(Request::Import { items }).await.map_err(name)?;
    let mut entries = 0;
    while let Some(reply) = session.next().await.map_err(name)? {
        if let Reply::Imported { entries: some } = reply {
            entries += some;
        }
    }
    Ok(entries)
}

/// The key and the value of a line, or what is wrong with it.
fn item(line: &[u8], import: &Import) -> Result<(Blob, Blob), String> {
    let json: Json = serde_json::from_slice(line).map_err(|error| format!("not JSON: {error}"))?;
    let Json::Object(fields) = json else { return Err("not a JSON object".into()) };
    let field = |name: &str| fields.get(name).ok_or_else(|| format!("it has no field `{name}`"));
    let key = match field(&import.key)? {
        Json::String(text) => text.clone(),
        Json::Number(number) => number.to_string(),
        _ => return Err(format!("the field `{}` is neither text nor a number", import.key)),
    };
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(format!("a key has 1 to {MAX_KEY_BYTES} bytes, this one {}", key.len()));
    }
    let value = match &import.value {
        None => line.to_vec(),
        Some(name) => match field(name)? {
            Json::String(text) => text.clone().into_bytes(),
            other => serde_json::from_value::<Blob>(other.clone())
                .map_or_else(|_| other.to_string().into_bytes(), |blob| blob.0),
        },
    };
    // The operation around key and value takes a few bytes too.
    if value.len() + key.len() + 16 > MAX_BODY_BYTES {
        return Err(format!("a value has some {MAX_BODY_BYTES} bytes at most"));
    }
    Ok((Blob(key.into_bytes()), Blob(value)))
}

/// The next line with its end; `None` at the end of the file.
fn read_line(reader: &mut impl BufRead, number: u64) -> Result<Option<Vec<u8>>, Failure> {
    let most = 2 * MAX_BODY_BYTES;
    let mut line = Vec::new();
    let read = reader.take(most as u64 + 1).read_until(b'\n', &mut line);
    let failed = |code, why: String| Failure::new(code, format!("line {number}: {why}"));
    match read {
        Err(error) => Err(failed(Code::Failed, error.to_string())),
        Ok(_) if line.len() > most => {
            Err(failed(Code::Usage, format!("it is longer than {most} bytes")))
        }
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(line)),
    }
}

fn open(path: &Path) -> Result<(Box<dyn BufRead>, Option<u64>), Failure> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(BufReader::new(io::stdin())), None));
    }
    let cannot = |error: io::Error| {
        let code = match error.kind() {
            io::ErrorKind::NotFound => Code::NotFound,
            _ => Code::Failed,
        };
        Failure::new(code, format!("{}: {error}", path.display()))
    };
    let file = File::open(path).map_err(cannot)?;
    let meta = file.metadata().map_err(cannot)?;
    if meta.is_dir() {
        let message = format!("{} is a directory, not a file of JSON lines", path.display());
        return Err(Failure::new(Code::Usage, message));
    }
    Ok((Box::new(BufReader::with_capacity(1 << 16, file)), Some(meta.len())))
}

/// A progress bar on a terminal's stderr.
fn bar(bytes: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:30} {percent:>3} %  {msg}"),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {msg}"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(value: Option<&str>) -> Import {
        Import { file: "-".into(), key: "key".into(), value: value.map(Into::into) }
    }

    #[test]
    fn a_line_is_a_value_under_the_key_it_names() {
        let line = br#"{"key": "bash", "version": "5.2"}"#;
        let (key, value) = item(line, &import(None)).unwrap();
        assert_eq!((&key.0[..], &value.0[..]), (&b"bash"[..], &line[..]));
        let (_, value) = item(line, &import(Some("version"))).unwrap();
        assert_eq!(value.0, b"5.2");
        let hex = br#"{"key": 7, "value": {"hex": "ff00"}}"#;
        let (key, value) = item(hex, &import(Some("value"))).unwrap();
        assert_eq!((&key.0[..], &value.0[..]), (&b"7"[..], &b"\xff\x00"[..]));
    }

    #[test]
    fn bad_lines_are_told_apart() {
        let why = |line: &str| item(line.as_bytes(), &import(None)).unwrap_err();
        assert!(why("hello").starts_with("not JSON"));
        assert!(why("[1]").starts_with("not a JSON object"));
        assert!(why("{}").contains("no field `key`"));
        assert!(why(r#"{"key": []}"#).contains("neither"));
        assert!(why(r#"{"key": ""}"#).contains("1 to"));
        let long = format!(r#"{{"key": "k", "v": "{}"}}"#, "x".repeat(MAX_BODY_BYTES));
        assert!(why(&long).contains("at most"));
    }
}
