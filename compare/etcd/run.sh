#!/usr/bin/env bash
# Three nodes of Quorate and three of etcd on this machine, one after the other: durable writes a
# second, their latency, and how long nobody answers after the leader is killed. Takes three minutes.
set -euo pipefail
cd "$(dirname "$0")"

command -v etcd >/dev/null || {
    echo "skipped: etcd is not on the path; Debian has it in the package etcd-server" >&2
    exit 0
}
cargo build --quiet --release --manifest-path ../../Cargo.toml -p quorate-runtime-tokio
target=${CARGO_TARGET_DIR:-../../target}
QUORATE=$(realpath "$target/release/quorate") cargo run --quiet --release -- "$@"
