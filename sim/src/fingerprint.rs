//! Whether two failures are the same one.
//!
//! What differs from run to run (node numbers, heights, hashes, how many of them) is taken out of a
//! failure's reason; the rest and the kind of failure are its fingerprint. Shrinking keeps it, so
//! that a search that set out for one bug does not come home with another; and a capsule says by
//! it whether changed code still fails in the same way.

use core::fmt;

use crate::run::{Failure, FailureKind};

/// Words of hexadecimal letters alone that are at least so long are taken for hashes.
const HASH_LETTERS_MIN: usize = 6;

/// A failure without what differs from run to run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint {
    /// The kind of failure.
    pub kind: FailureKind,
    /// Its reason, `#` in place of every number and hash, and of every row of them.
    pub shape: String,
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.shape)
    }
}

impl Failure {
    /// See [`Fingerprint`].
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint { kind: self.kind, shape: shape(&self.reason) }
    }
}

fn shape(reason: &str) -> String {
    let mut shape = String::new();
    let mut rest = reason;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        if end == 0 {
            shape.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (word, after) = rest.split_at(end);
        if varies(word) {
            // The sign of a number, but not a hyphen in a name.
            let signed = shape.strip_suffix('-').filter(|s| !s.ends_with(char::is_alphanumeric));
            shape.truncate(signed.map_or(shape.len(), str::len));
            shape.push('#');
        } else {
            shape += word;
        }
        rest = after;
    }
    while shape.contains("#, #") {
        shape = shape.replace("#, #", "#");
    }
    shape
}

fn varies(word: &str) -> bool {
    let hex = |b: u8| matches!(b, b'a'..=b'f');
    word.bytes().any(|b| b.is_ascii_digit())
        || (word.len() >= HASH_LETTERS_MIN && word.bytes().all(hex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_hashes_are_taken_out_and_words_are_not() {
        let same = [
            ("node 1 holds -3, [4, 5] was added", "node 12 holds 0, [1] was added"),
            ("lacks Link { author: 01ab, hash: deadbeef }", "lacks Link { author: 99, hash: 7 }"),
            ("it panicked (core/src/dag.rs:17:4)", "it panicked (core/src/dag.rs:180:44)"),
        ];
        for (one, other) in same {
            assert_eq!(shape(one), shape(other));
        }
        assert_eq!(shape("node 3 of half-open n-5"), "node # of half-open n-#");
        assert_ne!(shape("node 1 is down"), shape("node 1 is no member"));
        assert_eq!(shape("a decade: ünsafe"), "a #: ünsafe");
    }
}
