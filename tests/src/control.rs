//! What commands and a running node say to each other over the control socket: lines of JSON.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::BufReader;

use self::socket::lines;
use self::socket::protocol::{Reply, Request};

/// They belong to the binary, which has no library of its own: compiled here once more.
#[allow(dead_code, unreachable_pub, reason = "of the binary's, reading and writing lines is used")]
#[path = "../../runtime-tokio/src/control"]
mod socket {
    pub(crate) mod lines;
    pub(crate) mod protocol;
}

/// What arrives at once: so little that lines are put together of many pieces.
const PIECE_BYTES: usize = 7;

/// A line of every kind, by the names of their seeds.
pub(crate) const LINES: &[(&str, &str)] = &[
    ("put", r#"{"request":"put","key":"colour","value":{"hex":"00ff"}}"#),
    ("get", r#"{"request":"get","key":"caf\u00e9"}"#),
    ("delete", r#"{"request":"delete","key":{"hex":"ff"}}"#),
    ("list", r#"{"request":"list","prefix":"a","from":"ab","to":null,"limit":7}"#),
    ("history", r#"{"request":"history","key":"k","limit":18446744073709551615}"#),
    ("heads", r#"{"request":"heads","key":"k"}"#),
    ("watch", r#"{"request":"watch","pattern":{"glob":"a*"}}"#),
    ("counter", r#"{"request":"counter_add","key":"n","delta":-9223372036854775808}"#),
    ("set-add", r#"{"request":"set_add","key":"s","member":"m"}"#),
    ("set-remove", r#"{"request":"set_remove","key":"s","member":"m"}"#),
    ("import", r#"{"request":"import","items":[["a","1"],[{"hex":"ff"},""]]}"#),
    ("invite", r#"{"request":"invite","node":"d75a980182b10ab7d54bfed3c964073a"}"#),
    ("join", r#"{"request":"join","ticket":"quorate1abc"}"#),
    ("remove", r#"{"request":"remove","node":"d75a","leave":true}"#),
    ("removed", r#"{"reply":"removed","node":"d75a","already":false}"#),
    ("sync", r#"{"request":"sync","node":null,"limit_ms":30000}"#),
    ("status", r#"{"request":"status"}"#),
    ("peers", r#"{"request":"peers"}"#),
    ("doctor", r#"{"request":"doctor","trust_disk":true}"#),
    (
        "item",
        r#"{"reply":"item","key":"k","type":"set","value":["a",{"hex":"ff"}],"conflict":true}"#,
    ),
    (
        "version",
        concat!(
            r#"{"reply":"version","author":"d7","seq":1,"hash":"ab","#,
            r#""written_ms":1800000000000,"change":"put","value":"v","head":true,"#,
            r#""counts":false}"#,
        ),
    ),
    (
        "update",
        concat!(
            r#"{"reply":"update","event":"changed","key":"k","type":"counter","value":-3,"#,
            r#""conflict":false}"#,
        ),
    ),
    ("deleted", r#"{"reply":"update","event":"deleted","key":"k"}"#),
    ("written", r#"{"reply":"written","author":"d7","seq":1,"hash":"ab"}"#),
    ("imported", r#"{"reply":"imported","entries":2}"#),
    ("ticket", r#"{"reply":"ticket","ticket":"quorate1abc","node":"d7"}"#),
    ("joined", r#"{"reply":"joined","store":"ab"}"#),
    ("synced", r#"{"reply":"synced","node":"d7","in_sync":true}"#),
    (
        "standing",
        concat!(
            r#"{"reply":"status","node":"d7","version":"0.1.0","data":"/d","running":true,"#,
            r#""listens":"[::]:4470","address":null,"store":"ab","founder":"d7","#,
            r#""standing":"active","writable":true,"suspect":false,"digest":"ab","entries":1,"#,
            r#""slots":1,"members":[{"node":"d7","state":"active","invited_by":"d7","#,
            r#""entries":1}],"links":0,"forks":[{"author":"d7","seq":1,"hashes":["a","b"],"#,
            r#""proof":"c"}],"gaps":0,"orphans":{"waiting":0,"bytes":0,"parked":0,"#,
            r#""expired":0,"evicted":0},"refused":{"NoRoom":1},"disconnected":{},"#,
            r#""closed":{"idle":1},"transfers_stalled":0,"watches":0,"log_records":2,"#,
            r#""commits":1,"corrupted":0,"bytes_in":0,"bytes_out":0}"#,
        ),
    ),
    (
        "peer",
        concat!(
            r#"{"reply":"peer","node":"d7","state":"open","address":"db1:4470","rtt_us":200,"#,
            r#""clock_offset_ms":-1,"protocol":1,"backlog_chains":0,"last_sync":null,"#,
            r#""syncs_same":1,"syncs_differed":0,"syncs_failed":0,"bytes_in":0,"bytes_out":0}"#,
        ),
    ),
    ("check", r#"{"reply":"check","check":"disk","ok":true,"finding":"whole"}"#),
    ("cluster-init", r#"{"request":"cluster","timeout_ms":5000,"ask":"init"}"#),
    (
        "cluster-add",
        r#"{"request":"cluster","timeout_ms":30000,"ask":{"add":{"node":"d7","seat":"witness"}}}"#,
    ),
    (
        "reg-put",
        concat!(
            r#"{"request":"cluster","timeout_ms":5000,"ask":{"put":{"key":"k","value":{"hex":"ff"},"#,
            r#""lease":7,"given":{"previous":0,"fence":{"name":"jobs","token":3}}}}}"#,
        ),
    ),
    (
        "reg-txn",
        concat!(
            r#"{"request":"cluster","timeout_ms":5000,"ask":{"txn":{"compare":[{"key":"k","#,
            r#""subject":{"value":"v"},"relation":"!="},{"key":"k","subject":{"mod_revision":0},"#,
            r#""relation":">"}],"then":[{"put":{"key":"k","value":"w","lease":null}},"#,
            r#"{"delete":{"key":"l"}}],"otherwise":[{"get":{"key":"k"}}],"fence":null}}}"#,
        ),
    ),
    (
        "reg-watch",
        r#"{"request":"cluster","timeout_ms":1,"ask":{"watch":{"target":{"names":"j"},"from":9}}}"#,
    ),
    (
        "campaign",
        concat!(
            r#"{"request":"cluster","timeout_ms":5000,"ask":{"campaign":{"name":"jobs","lease":7,"#,
            r#""priority":255,"value":"at home"}}}"#,
        ),
    ),
    (
        "reg-change",
        concat!(
            r#"{"reply":"cluster","answer":"change","event":"put","revision":9,"key":"k","#,
            r#""value":"v","create_revision":4,"mod_revision":9,"version":2,"lease":7}"#,
        ),
    ),
    (
        "reg-done",
        concat!(
            r#"{"reply":"cluster","answer":"txn","revision":9,"held":false,"outcomes":["#,
            r#"{"put":{"version":1}},{"deleted":{"existed":true}},{"got":null}]}"#,
        ),
    ),
    (
        "leader",
        concat!(
            r#"{"reply":"cluster","answer":"leader","node":"d7","lease":7,"token":8,"#,
            r#""priority":0,"value":"","stepping_down":false}"#,
        ),
    ),
    (
        "cluster-standing",
        concat!(
            r#"{"reply":"cluster","answer":"standing","cluster":"ab","node":"d7","role":"leader","#,
            r#""health":"whole","leader":"d7","epoch":3,"revision":9,"oldest_revision":1,"#,
            r#""commit":9,"last":9,"entries":9,"clock_ms":1000,"keys":1,"bytes":2,"leases":0,"#,
            r#""names":0,"watches":0,"pending":0,"members":[{"node":"d7","seat":"voter","#,
            r#""aspires":false,"reachable":true,"matched":null}],"counters":{"asked":1}}"#,
        ),
    ),
    (
        "unavailable",
        concat!(
            r#"{"reply":"failure","code":"unreachable","message":"nobody leads","#,
            r#""detail":{"leader":null,"reachable":["d7"],"unreachable":["ab","cd"]}}"#,
        ),
    ),
    ("failure", r#"{"reply":"failure","code":"not_found","message":"nothing at `k`"}"#),
    ("end", r#"{"reply":"end"}"#),
];

/// Lines that are requests, or replies, to the last.
#[must_use]
pub fn lines(bytes: &[u8]) -> bool {
    let requests = read_all::<Request>(bytes);
    let replies = read_all::<Reply>(bytes);
    assert!(requests.is_none() || replies.is_none(), "no line is both");
    requests.map(written_again).or(replies.map(written_again)).is_some()
}

/// Every line in `bytes`, if each is a `T` and there is one.
fn read_all<T: DeserializeOwned>(bytes: &[u8]) -> Option<Vec<T>> {
    let mut stream = BufReader::with_capacity(PIECE_BYTES, bytes);
    let mut read = Vec::new();
    while let Some(value) = ready(lines::read(&mut stream)).ok()? {
        read.push(value);
    }
    (!read.is_empty()).then_some(read)
}

/// Writes what was read, and reads that: it must be the same.
fn written_again<T: Serialize + DeserializeOwned + Debug>(values: Vec<T>) {
    let write = |values: &[T]| {
        let mut bytes = Vec::new();
        for value in values {
            ready(lines::write(&mut bytes, value)).expect("a vector takes whatever is written");
        }
        bytes
    };
    let once = write(&values);
    let read = read_all::<T>(&once).expect("what was written is read");
    assert_eq!(once, write(&read), "what is passed on is the same");
    assert_eq!(format!("{values:?}"), format!("{read:?}"));
}

/// What comes of a future that waits for nothing.
fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => unreachable!("bytes in memory are there"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::socket::protocol::Blob;

    proptest! {
        #[test]
        fn a_request_is_read_as_it_was_and_damaged_is_an_error_or_another(
            key: Vec<u8>,
            value: Vec<u8>,
            cut: prop::sample::Index,
            bit: prop::sample::Index,
        ) {
            let (key, value) = (Blob(key), Blob(value));
            let mut line = Vec::new();
            let request = Request::Put { key: key.clone(), value: value.clone() };
            ready(lines::write(&mut line, &request)).expect("room");
            let read = read_all::<Request>(&line).expect("a request");
            let [Request::Put { key: k, value: v }] = &read[..] else { panic!("{read:?}") };
            prop_assert!((k, v) == (&key, &value));

            prop_assert!(!super::lines(&line[..cut.index(line.len())]), "cut off");
            let bit = bit.index(line.len() * 8);
            line[bit / 8] ^= 1 << (bit % 8);
            let _ = super::lines(&line);
        }
    }
}
