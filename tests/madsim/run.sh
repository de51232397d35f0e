#!/bin/sh
# Runs whole nodes under madsim, in a target folder of its own. MADSIM_TEST_NUM=20 runs twenty seeds;
# MADSIM_TEST_SEED=7 begins with another.
cd "$(dirname "$0")" || exit
export MADSIM_TEST_SEED="${MADSIM_TEST_SEED:-1}"
RUSTFLAGS="--cfg madsim" exec cargo test --target-dir ../../target-madsim "$@"
