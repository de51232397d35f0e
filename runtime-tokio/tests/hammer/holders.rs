//! Processes that hold a lock in turn, and what they leave behind.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::process::{Place, quorate};

/// What a holder does: it looks whether the one before it still runs, then writes under its token, to a
/// store outside that remembers the newest, and to the registry, three times.
const WORK: &str = r#"
cd "$STORE"
exec 9>guard; flock 9
if [ -s holder ] && kill -0 "$(cat holder)" 2>/dev/null; then echo "$QUORATE_TOKEN" >>overlaps; fi
echo $$ >holder
echo "$QUORATE_TOKEN" >>granted
exec 9>&-
for n in 1 2 3; do
    exec 9>guard; flock 9
    newest=$(cat newest 2>/dev/null || echo 0)
    if [ "$QUORATE_TOKEN" -ge "$newest" ]; then echo "$QUORATE_TOKEN" >newest; fi
    exec 9>&-
    "$QUORATE" --data "$DATA" reg put fenced "$QUORATE_TOKEN" --timeout 1s \
        --fence "$QUORATE_NAME:$QUORATE_TOKEN" --json >out.$$ 2>/dev/null &&
        echo "$(sed 's/.*"revision":\([0-9]*\).*/\1/' out.$$) $QUORATE_TOKEN" >>fenced
done
rm -f out.$$
"#;

/// What the holders share.
pub(crate) struct Holders {
    data: [PathBuf; 3],
    store: tempfile::TempDir,
}

impl Holders {
    pub(crate) fn new(places: &[Place; 3]) -> Holders {
        let data = std::array::from_fn(|n| places[n].data.clone());
        Holders { data, store: tempfile::tempdir().unwrap() }
    }

    /// Holds the lock again and again, by one node or another.
    pub(crate) fn run(&self, holder: usize, stop: &AtomicBool) {
        let mut turn = holder;
        while !stop.load(Ordering::Relaxed) {
            let data = &self.data[turn % 3];
            turn += 1;
            let args = ["lock", "job", "--ttl", "1s", "--wait", "3s", "--grace", "100ms"];
            let mut command = quorate(data, &[&args[..], &["--", "sh", "-c", WORK]].concat());
            command.env("QUORATE", env!("CARGO_BIN_EXE_quorate"));
            command.env("STORE", self.store.path()).env("DATA", data);
            // However it ends: lost, waited in vain, or no node there.
            let ended = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
            assert_ne!(ended.code(), Some(2), "the command is understood");
        }
    }

    /// What must hold of what they left, in words.
    pub(crate) fn check(&self) -> String {
        let lines = |name: &str| {
            let text = std::fs::read_to_string(self.store.path().join(name)).unwrap_or_default();
            let numbers = |line: &str| line.split(' ').map(|word| word.parse().unwrap()).collect();
            text.lines().map(numbers).collect::<Vec<Vec<u64>>>()
        };
        assert_eq!(lines("overlaps"), Vec::<Vec<u64>>::new(), "two held the lock at one time");
        let granted = lines("granted");
        let distinct: BTreeSet<&Vec<u64>> = granted.iter().collect();
        assert_eq!(distinct.len(), granted.len(), "a token was granted twice");
        assert!(granted.is_sorted(), "a later holder has an older token: {granted:?}");
        let mut fenced = lines("fenced");
        fenced.sort_unstable();
        assert!(
            fenced.is_sorted_by_key(|write| write[1]),
            "an older token wrote after a newer one: {fenced:?}"
        );
        format!("{} grants of the lock, {} fenced writes", granted.len(), fenced.len())
    }
}
