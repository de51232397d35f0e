//! Lines of JSON on a stream, none longer than a bound.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

use super::protocol::MAX_LINE_BYTES;

/// How much memory a buffer keeps between lines.
pub(crate) const KEPT_BYTES: usize = 64 << 10;

/// Reads one line; `None` where the stream ends before it. What a line costs in memory grows with what
/// has arrived.
pub(crate) async fn read<T: DeserializeOwned>(
    from: &mut (impl AsyncBufRead + Unpin),
) -> io::Result<Option<T>> {
    read_on(from, &mut Vec::new()).await
}

/// Reads one line, of which `line` holds what has arrived already; empty again once it is read. May be
/// dropped at any await and called again.
pub(crate) async fn read_on<T: DeserializeOwned>(
    from: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
) -> io::Result<Option<T>> {
    loop {
        let arrived = from.fill_buf().await?;
        if arrived.is_empty() {
            return if line.is_empty() { Ok(None) } else { Err(invalid("cut off inside a line")) };
        }
        let end = arrived.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(arrived.len(), |end| end + 1);
        if line.len() + taken > MAX_LINE_BYTES {
            return Err(invalid(format!("a line of more than {MAX_LINE_BYTES} bytes")));
        }
        line.extend_from_slice(&arrived[..taken]);
        from.consume(taken);
        if end.is_some() {
            let value = serde_json::from_slice(line).map(Some).map_err(invalid);
            line.clear();
            line.shrink_to(KEPT_BYTES);
            return value;
        }
    }
}

/// Writes one line.
pub(crate) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    value: &impl Serialize,
) -> io::Result<()> {
    let mut line = Vec::new();
    append(&mut line, value)?;
    to.write_all(&line).await
}

/// Appends one line to others that are to be written together.
pub(crate) fn append(lines: &mut Vec<u8>, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *lines, value).map_err(invalid)?;
    lines.push(b'\n');
    Ok(())
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_read_one_by_one_and_bounded() {
        let mut stream = &b"1\n[2]\n"[..];
        assert_eq!(read::<u8>(&mut stream).await.unwrap(), Some(1));
        assert_eq!(read::<Vec<u8>>(&mut stream).await.unwrap(), Some(vec![2]));
        assert_eq!(read::<u8>(&mut stream).await.unwrap(), None);
        for bad in [&b"1"[..], b"x\n", b"\n"] {
            assert!(read::<u8>(&mut &bad[..]).await.is_err());
        }
        let long = vec![b'1'; MAX_LINE_BYTES + 1];
        assert!(read::<u8>(&mut &long[..]).await.is_err());
    }
}
