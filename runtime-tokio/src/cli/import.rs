//! `quorate import`: each line of a file is an entry.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use quorate_core::entry::{MAX_BODY_BYTES, MAX_KEY_BYTES};
use serde_json::Value as Json;

use super::args::Import;
use super::print::Output;
use crate::control::protocol::{
    Blob, Code, Failure, ItemDoc, MAX_LINE_BYTES, Reply, Request, ValueDoc,
};
use crate::control::session::Session;

/// Items sent to the node at once.
const BATCH_ITEMS: usize = 512;
/// Bytes sent to the node at once, before they are encoded.
const BATCH_BYTES: usize = 1 << 20;
/// Members of a set that go into one entry: the largest ones fit.
const SET_PIECE: usize = MAX_BODY_BYTES / (2 * MAX_KEY_BYTES + 16);
/// The fields of a line that `quorate export` printed.
const EXPORTED: [&str; 4] = ["conflict", "key", "type", "value"];

/// What some editors put before the first line.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// A key, and what is to be written there.
type Item = (Blob, ValueDoc);

/// What was read and not yet sent.
#[derive(Debug, Default)]
struct Batch {
    items: Vec<Item>,
    bytes: usize,
    /// The number of the first and last line, from 1.
    first: u64,
    last: u64,
}

impl Batch {
    /// Adds what the line of this number says.
    fn push(&mut self, number: u64, (key, value): Item) {
        if self.items.is_empty() {
            self.first = number;
        }
        self.last = number;
        self.bytes += key.0.len();
        self.bytes += match &value {
            ValueDoc::Register(value) => value.0.len(),
            ValueDoc::Counter(_) => size_of::<i64>(),
            ValueDoc::Set(members) => members.iter().map(|member| member.0.len()).sum(),
        };
        self.items.push((key, value));
    }
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
        let items = match items(line.trim_ascii_end(), import) {
            Ok(items) => items,
            Err(why) => {
                // What came before it is imported all the same: the message says so.
                *entries += send(session, std::mem::take(&mut batch)).await?;
                let message = format!("line {number}: {why}; the lines before it are imported");
                return Err(Failure::new(Code::Usage, message));
            }
        };
        for item in items {
            batch.push(number, item);
            if batch.items.len() >= BATCH_ITEMS || batch.bytes >= BATCH_BYTES {
                *entries += send(session, std::mem::take(&mut batch)).await?;
                bar.set_message(format!("{entries} entries"));
            }
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

/// What a line says is to be written, in pieces that fit into an entry each; or what is wrong with it.
fn items(line: &[u8], import: &Import) -> Result<Vec<Item>, String> {
    let json: Json = serde_json::from_slice(line).map_err(|error| format!("not JSON: {error}"))?;
    let Json::Object(fields) = json else { return Err("not a JSON object".into()) };
    let is_exported = fields.len() == EXPORTED.len()
        && EXPORTED.iter().all(|name| fields.contains_key(*name))
        && import.key.is_none()
        && import.value.is_none();
    let (key, value) = if is_exported { exported(fields)? } else { plain(line, &fields, import)? };
    if key.0.is_empty() || key.0.len() > MAX_KEY_BYTES {
        return Err(format!("a key has 1 to {MAX_KEY_BYTES} bytes, this one {}", key.0.len()));
    }
    match value {
        // The operation around key and value takes a few bytes too.
        ValueDoc::Register(value) if value.0.len() + key.0.len() + 16 > MAX_BODY_BYTES => {
            Err(format!("a value has some {MAX_BODY_BYTES} bytes at most"))
        }
        ValueDoc::Set(members) => {
            let piece = |members: &[Blob]| (key.clone(), ValueDoc::Set(members.to_vec()));
            Ok(members.chunks(SET_PIECE).map(piece).collect())
        }
        value => Ok(vec![(key, value)]),
    }
}

/// The key and the value of a line that `quorate export` printed.
fn exported(fields: serde_json::Map<String, Json>) -> Result<Item, String> {
    let kind_fits = |item: &ItemDoc| match item.value {
        ValueDoc::Register(_) => item.kind == "register",
        ValueDoc::Counter(_) => item.kind == "counter",
        ValueDoc::Set(_) => item.kind == "set",
    };
    let item = serde_json::from_value::<ItemDoc>(Json::Object(fields)).ok().filter(kind_fits);
    let item = item.ok_or(
        "it has the fields of an exported line, and they do not fit; if it is none, say so with --key",
    )?;
    Ok((item.key, item.value))
}

/// The key and the value of any other line: the field that holds the key, and the whole line or the
/// field that holds the value.
fn plain(
    line: &[u8],
    fields: &serde_json::Map<String, Json>,
    import: &Import,
) -> Result<Item, String> {
    let field = |name: &str| fields.get(name).ok_or_else(|| format!("it has no field `{name}`"));
    let key = import.key.as_deref().unwrap_or("key");
    let key = match field(key)? {
        Json::Number(number) => Blob(number.to_string().into_bytes()),
        other => serde_json::from_value::<Blob>(other.clone())
            .map_err(|_| format!("the field `{key}` is neither text nor a number"))?,
    };
    let value = match &import.value {
        None => Blob(line.to_vec()),
        Some(name) => {
            let value = field(name)?;
            serde_json::from_value::<Blob>(value.clone())
                .unwrap_or_else(|_| Blob(value.to_string().into_bytes()))
        }
    };
    Ok((key, ValueDoc::Register(value)))
}

/// The next line with its end; `None` at the end of the file.
fn read_line(reader: &mut impl BufRead, number: u64) -> Result<Option<Vec<u8>>, Failure> {
    let most = MAX_LINE_BYTES;
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
        Import { file: "-".into(), key: None, value: value.map(Into::into) }
    }

    /// The one register that a line comes to.
    fn item(line: &[u8], import: &Import) -> Result<(Blob, Blob), String> {
        let mut items = items(line, import)?;
        match (items.pop(), items.pop()) {
            (Some((key, ValueDoc::Register(value))), None) => Ok((key, value)),
            other => panic!("{other:?}"),
        }
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
        let hex = br#"{"key": {"hex": "ff"}}"#;
        assert_eq!(item(hex, &import(None)).unwrap().0.0, b"\xff");
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
