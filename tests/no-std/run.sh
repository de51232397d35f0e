#!/bin/sh
# Builds a program without std around core, and runs it. Fails if anything in core's dependency graph
# pulls std in.
cd "$(dirname "$0")" && exec cargo run --quiet --target-dir ../../target-no-std
