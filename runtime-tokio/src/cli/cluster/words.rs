//! Times, fences and transactions, as they are written on the command line.

use std::ffi::OsString;
use std::time::Duration;

use crate::cli::shell::split;
use crate::control::protocol::cluster::{CompareDoc, FenceDoc, OpDoc, RelationDoc, SubjectDoc};
use crate::control::protocol::{Blob, Code, Failure};

pub(super) const TXN_HELP: &str = "\
A condition is one of
    value KEY = VALUE      revision KEY = N      created KEY = N      version KEY = N
    exists KEY             absent KEY
with =, !=, < or >. A step is one of
    put KEY VALUE [LEASE]  delete KEY            get KEY
Words are split as a shell splits them, so that `put 'my key' ''` is a step. Exit code 8 if a
condition does not hold.

    quorate reg txn --if 'absent job' --then 'put job mine' --else 'get job'";

/// A time as in `500ms`, `10s`, `2m`, `1h`; a number alone is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_ms)) {
        Some(ms) if unit_ms > 0 => Ok(Duration::from_millis(ms)),
        _ => Err("a time is a number and a unit, as in 500ms, 10s, 2m or 1h".to_owned()),
    }
}

/// A name and a token, as a holder is given them.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Fence {
    name: String,
    token: u64,
}

impl From<Fence> for FenceDoc {
    fn from(Fence { name, token }: Fence) -> FenceDoc {
        FenceDoc { name: Blob(name.into_bytes()), token }
    }
}

/// As in `jobs:42`; the name may hold colons.
pub(super) fn fence(text: &str) -> Result<Fence, String> {
    let parts = text.rsplit_once(':').filter(|(name, _)| !name.is_empty());
    let read = |(name, token): (&str, &str)| {
        Some(Fence { name: name.to_owned(), token: token.parse().ok()? })
    };
    parts.and_then(read).ok_or_else(|| {
        "a fence is a name and its token, as in jobs:42: $QUORATE_NAME:$QUORATE_TOKEN".to_owned()
    })
}

/// A condition of a transaction.
pub(super) fn condition(text: OsString) -> Result<CompareDoc, Failure> {
    let words = words(&text)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let relation = |text| match text {
        "=" => Some(RelationDoc::Equal),
        "!=" => Some(RelationDoc::NotEqual),
        "<" => Some(RelationDoc::Less),
        ">" => Some(RelationDoc::Greater),
        _ => None,
    };
    let read = match words[..] {
        ["exists", key] => Some((key, SubjectDoc::ModRevision(0), RelationDoc::Greater)),
        ["absent", key] => Some((key, SubjectDoc::ModRevision(0), RelationDoc::Equal)),
        ["value", key, how, value] => {
            relation(how).map(|how| (key, SubjectDoc::Value(blob(value)), how))
        }
        [what, key, how, number] => {
            let number = number.parse::<u64>().ok();
            let subject = number.and_then(|number| match what {
                "revision" => Some(SubjectDoc::ModRevision(number)),
                "created" => Some(SubjectDoc::CreateRevision(number)),
                "version" => Some(SubjectDoc::Version(number)),
                _ => None,
            });
            subject.zip(relation(how)).map(|(subject, how)| (key, subject, how))
        }
        _ => None,
    };
    let (key, subject, relation) = read.ok_or_else(|| not_understood("condition", &text))?;
    Ok(CompareDoc { key: blob(key), subject, relation })
}

/// A step of a transaction.
pub(super) fn step(text: OsString) -> Result<OpDoc, Failure> {
    let words = words(&text)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let put = |key, value, lease| OpDoc::Put { key: blob(key), value: blob(value), lease };
    let read = match words[..] {
        ["put", key, value] => Some(put(key, value, None)),
        ["put", key, value, lease] => lease.parse().ok().map(|lease| put(key, value, Some(lease))),
        ["delete", key] => Some(OpDoc::Delete { key: blob(key) }),
        ["get", key] => Some(OpDoc::Get { key: blob(key) }),
        _ => None,
    };
    read.ok_or_else(|| not_understood("step", &text))
}

fn words(text: &OsString) -> Result<Vec<String>, Failure> {
    let utf8 = text.to_str().ok_or_else(|| not_understood("argument", text))?;
    split(utf8)
}

fn not_understood(what: &str, text: &OsString) -> Failure {
    let message = format!(
        "the {what} `{}` is not understood; `quorate reg txn --help` shows how they are written",
        text.display()
    );
    Failure::new(Code::Usage, message)
}

fn blob(text: &str) -> Blob {
    Blob(text.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, ms) in [("500ms", 500), ("10s", 10_000), ("7", 7_000), ("2m", 120_000)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)));
        }
        for bad in ["", "s", "-1s", "1.5s", "1d", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_fence_has_a_name_and_a_token() {
        let read = fence("a:b:42").unwrap();
        assert_eq!((&read.name[..], read.token), ("a:b", 42));
        for bad in ["", "a", ":1", "a:", "a:b"] {
            assert!(fence(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn conditions_and_steps_are_words() {
        let read = condition("value 'my key' != ''".into()).unwrap();
        assert_eq!((read.key, read.relation), (blob("my key"), RelationDoc::NotEqual));
        let read = condition("absent a".into()).unwrap();
        assert_eq!(read.subject, SubjectDoc::ModRevision(0));
        assert!(matches!(step("put a 1 77".into()), Ok(OpDoc::Put { lease: Some(77), .. })));
        for bad in ["", "absent", "value a ~ b", "revision a = x", "created a"] {
            assert!(condition(bad.into()).is_err(), "{bad}");
        }
        for bad in ["", "put a", "put a b c", "explode a"] {
            assert!(step(bad.into()).is_err(), "{bad}");
        }
    }
}
