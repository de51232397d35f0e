//! Changes as capsules show them: keys and values as text where they are text.

use bytes::Bytes;
use quorate_core::machine::NodeId;
use quorate_core::store::Change;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// [`Change`], field by field.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Change")]
enum Fields {
    Put {
        #[serde(with = "text")]
        key: Bytes,
        #[serde(with = "text")]
        value: Bytes,
    },
    Delete {
        #[serde(with = "text")]
        key: Bytes,
    },
    Add {
        #[serde(with = "text")]
        key: Bytes,
        delta: i64,
    },
    SetAdd {
        #[serde(with = "text")]
        key: Bytes,
        #[serde(with = "text")]
        member: Bytes,
    },
    SetRemove {
        #[serde(with = "text")]
        key: Bytes,
        #[serde(with = "text")]
        member: Bytes,
    },
    Invite {
        node: NodeId,
    },
    Remove {
        node: NodeId,
    },
}

#[derive(Serialize, Deserialize)]
struct Readable(#[serde(with = "Fields")] Change);

pub(crate) fn serialize<S: Serializer>(changes: &[Change], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(changes.iter().cloned().map(Readable))
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Change>, D::Error> {
    let changes = Vec::<Readable>::deserialize(from)?;
    Ok(changes.into_iter().map(|Readable(change)| change).collect())
}

/// Bytes as text, or as numbers if they are none.
mod text {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Bytes(Vec<u8>),
    }

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        let either = match String::from_utf8(bytes.to_vec()) {
            Ok(text) => Either::Text(text),
            Err(error) => Either::Bytes(error.into_bytes()),
        };
        either.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        Ok(match Either::deserialize(from)? {
            Either::Text(text) => text.into(),
            Either::Bytes(bytes) => bytes.into(),
        })
    }
}
