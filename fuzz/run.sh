#!/bin/sh
# Fuzzes, with coverage as guide: run.sh [SECONDS [TARGET…]], by default a minute for each target.
#
# libFuzzer by way of libfuzzer-sys, on the stable compiler: it needs instrumented code, which stable can
# make, and a C++ compiler. Only the address sanitizer would need nightly, and has nothing to find in
# code without `unsafe`. What is found lies in artifacts/; kept inputs belong into seeds/, where the
# ordinary tests try them each time.
cd "$(dirname "$0")" || exit
seconds="${1:-60}"
[ $# -gt 0 ] && shift
[ $# -eq 0 ] && set -- entry header proof message record ticket frames control carried hostile
host="$(rustc -vV | sed -n 's/^host: //p')"
for flag in level=4 inline-8bit-counters pc-table trace-compares; do
    flags="$flags -Cllvm-args=-sanitizer-coverage-$flag"
done
# Named by its target, so that build scripts and macros, which run here, are not instrumented.
RUSTFLAGS="-Cpasses=sancov-module $flags" \
    cargo build --quiet --release --target "$host" --target-dir ../target-fuzz || exit
for target; do
    mkdir -p "corpus/$target" "artifacts/$target"
    echo "== $target"
    "../target-fuzz/$host/release/$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
        -max_len=65536 -print_final_stats=1 -artifact_prefix="artifacts/$target/" \
        "corpus/$target" "seeds/$target" 2> "artifacts/$target.log" ||
        { tail -n 40 "artifacts/$target.log"; echo "$target: found something"; exit 1; }
    grep -E 'cov:|number_of_executed_units|peak_rss_mb' "artifacts/$target.log" | tail -n 3
done
