//! Lines of JSON on a stream, none longer than a bound.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

use super::protocol::MAX_LINE_BYTES;

/// Reads one line; `None` where the stream ends before it. What a line costs in memory grows with what
/// has arrived.
pub(crate) async fn read<T: DeserializeOwned>(
    from: &mut (impl AsyncBufRead + Unpin),
) -> io::Result<Option<T>> {
    let mut line = Vec::new();
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
            return serde_json::from_slice(&line).map(Some).map_err(invalid);
        }
    }
}

/// Writes one line.
pub(crate) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    value: &impl Serialize,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(value).map_err(invalid)?;
    line.push(b'\n');
    to.write_all(&line).await
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::Request;

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

    /// A request of each shape, and what may come of it on a bad day: it is understood, or refused.
    #[tokio::test]
    async fn what_is_cut_off_or_garbled_is_an_error_and_no_panic() {
        let lines = [
            r#"{"request":"put","key":"k","value":{"hex":"ff00"}}"#,
            r#"{"request":"list","prefix":"","from":null,"to":"z","limit":3}"#,
            r#"{"request":"watch","pattern":{"glob":"a*"}}"#,
            r#"{"request":"import","items":[["k","v"],[{"hex":"00"},"w"]]}"#,
            r#"{"request":"remove","node":"ab","leave":true}"#,
            r#"{"request":"sync","node":null,"limit_ms":18446744073709551615}"#,
            r#"{"request":"status"}"#,
        ];
        for line in lines {
            let whole = format!("{line}\n").into_bytes();
            assert!(read::<Request>(&mut &whole[..]).await.unwrap().is_some(), "{line}");
            for end in 1..whole.len() {
                assert!(read::<Request>(&mut &whole[..end]).await.is_err(), "{line} to {end}");
            }
            for bit in 0..8 * line.len() {
                let mut flipped = whole.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                // Understood as something else, perhaps; what matters is that it ends.
                if let Ok(Some(request)) = read::<Request>(&mut &flipped[..]).await {
                    let again = format!("{}\n", serde_json::to_string(&request).unwrap());
                    assert!(read::<Request>(&mut again.as_bytes()).await.unwrap().is_some());
                }
            }
        }
        for noise in [&b"\xff\xfe\n"[..], b"{\n", b"null\n", b"[[[[[[\n", b"{\"request\":7}\n"] {
            assert!(read::<Request>(&mut &noise[..]).await.is_err());
        }
        let deep = [&vec![b'['; 100_000][..], b"\n"].concat();
        assert!(read::<Request>(&mut &deep[..]).await.is_err(), "depth is bounded");
    }
}
