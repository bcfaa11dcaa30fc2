#!/usr/bin/env bash
# The benchmarks of bench/ run: every method gives a row, and all methods of one kind of layer the same loss. Small sizes, on
# shared memory. Usage: bench.sh BINARY SOURCE_DIR
set -u
build=$(dirname "$(realpath "$1")") source=$(realpath "$2")
. "$source/tests/cli/lib.sh"

"$source/bench/sp" --only memory --scale 256 --ranks '2 4' --build "$build" --out rows.txt >/dev/null || { cat rows.txt; fail 'bench/sp'; }
# Of 32, 128 and 1024 tokens three linear methods each, of 32 also the five quadratic ones, on 2 and on 4 ranks.
rows=$(awk 'NF == 11 && $2 ~ /^[24]$/' rows.txt | wc -l)
[ "$rows" = 28 ] || { cat rows.txt; fail "$rows rows, not 28"; }
[ "$(awk 'NF == 9 && $7 == ".."' rows.txt | wc -l)" = 16 ] || { cat rows.txt; fail 'methods in turns'; }
awk 'NF == 11 && $2 ~ /^[24]$/ {
    kind = ($1 ~ /^(lasp2|lasp2_scan|lasp|ring_linear)$/ ? "linear " : "softmax ") $3
    if (kind in loss && (loss[kind] - $11) ^ 2 > 1e-8) { print "another loss: " $0; bad = 1 }
    loss[kind] = $11
  } END { exit bad }' rows.txt || fail 'methods disagree'

"$source/bench/overlap" --only memory --build "$build" model.preset=tnl-tiny model.vocab=256 train.seq=64 train.batch_tokens=128 >overlap.txt ||
  fail 'bench/overlap'
says 'exposed, of R: S - S0' overlap.txt
expect 64 'unknown option' "$source/bench/sp" --none
# Peaks of sanitized builds are the sanitizer's.
if grep -q 'STERNA_SANITIZE:STRING=$' "$build/CMakeCache.txt"; then
  "$source/bench/memory" --quick --build "$build" >memory.txt || { cat memory.txt; fail 'memory grows'; }
fi
