//! How a node's messages and records become bytes: postcard, the encoding of entries too.
//!
//! What a peer can make us allocate is bounded by the frame it came in: postcard reserves no more than
//! there are bytes for, up to the size of a decoded element, and refuses what is left over at the end.

use bytes::Bytes;
use quorate_core::machine::WallTime;
use quorate_core::node::{Body, Event, Message, Node, Record, StoreRecord};

use crate::frame::{Codec, Lane, WireError};

/// A node's store is founded, and another's is joined, before there is anything else to record: what
/// store it belongs to is said among so many records at the log's beginning.
const FIRST_RECORDS: u64 = 8;

/// The codec of [`quorate_core::node::Node`].
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeCodec;

impl Codec<Node> for NodeCodec {
    fn encode_message(&self, message: &Message, out: &mut Vec<u8>) {
        encode(message, out);
    }

    fn decode_message(&self, bytes: Bytes) -> Result<Message, WireError> {
        decode(&bytes)
    }

    fn encode_record(&self, record: &Record, out: &mut Vec<u8>) {
        match record {
            Record::Store(record) => encode(record, out),
            Record::Cluster(record) => encode(record, out),
        }
    }

    fn decode_record(&self, lane: Lane, bytes: Bytes) -> Result<Record, WireError> {
        match lane {
            Lane::Store => decode(&bytes).map(Record::Store),
            Lane::Journal => decode(&bytes).map(Record::Cluster),
        }
    }

    fn record_lane(&self, record: &Record) -> Lane {
        match record {
            Record::Store(_) => Lane::Store,
            Record::Cluster(_) => Lane::Journal,
        }
    }

    fn message_lane(&self, message: &Message) -> Lane {
        match message {
            Message::Cluster(_) => Lane::Journal,
            _ => Lane::Store,
        }
    }

    fn event_lane(&self, event: &Event) -> Lane {
        match event {
            Event::Cluster(_) => Lane::Journal,
            _ => Lane::Store,
        }
    }

    /// What is lost is fetched again from others; but not what store this node belongs to, which stands
    /// among the first records.
    fn damaged_record(&self, position: u64) -> Option<Record> {
        let (wall, body) = (WallTime::ZERO, Body::Damaged);
        (position >= FIRST_RECORDS).then_some(Record::Store(StoreRecord { position, wall, body }))
    }
}

fn encode(value: &impl serde::Serialize, out: &mut Vec<u8>) {
    let written = postcard::to_extend(value, std::mem::take(out));
    *out = written.expect("a vector takes whatever is written to it");
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, rest)) => Err(WireError(format!("{} bytes too many", rest.len()))),
        Err(error) => Err(WireError(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::machine::NodeId;
    use quorate_core::node::Contact;

    fn message() -> Message {
        let contact = |n| Contact { node: NodeId([n; 32]), address: format!("node{n}:4470") };
        Message::Contacts(vec![contact(1), contact(2)])
    }

    #[test]
    fn messages_and_records_are_read_back() {
        let mut out = vec![9];
        NodeCodec.encode_message(&message(), &mut out);
        assert_eq!(out[0], 9, "appended to what was there");
        assert_eq!(NodeCodec.decode_message(out.split_off(1).into()), Ok(message()));
        let body = Body::Entry(Bytes::from_static(b"entry"));
        let record = Record::Store(StoreRecord { position: 300, wall: WallTime(1), body });
        let mut out = Vec::new();
        NodeCodec.encode_record(&record, &mut out);
        assert_eq!(NodeCodec.decode_record(Lane::Store, out.into()), Ok(record));
    }

    #[test]
    fn damaged_bytes_are_an_error_or_another_message_and_never_a_panic() {
        let mut whole = Vec::new();
        NodeCodec.encode_message(&message(), &mut whole);
        for cut in 0..whole.len() {
            assert!(NodeCodec.decode_message(Bytes::copy_from_slice(&whole[..cut])).is_err());
        }
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let _ = NodeCodec.decode_message(bytes.into());
        }
        whole.push(0);
        assert!(NodeCodec.decode_message(whole.into()).is_err());
    }
}
