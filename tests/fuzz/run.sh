#!/usr/bin/env bash
# Fuzzes the parsers under the address and undefined-behaviour sanitizers, one target after the other, from their seeds and
# from what earlier runs found (build/fuzz/short): three quarters of the time short inputs, then those of up to 64 KB, among
# which time that explodes is found. No part of ./test.sh. An input that breaks a target, or takes 10 seconds, lies in
# build/fuzz/found/TARGET-*, and the script ends with 1: mend it, and put a small form into tests/fuzz/regress/TARGET/.
# Usage: tests/fuzz/run.sh SECONDS [TARGET ...]   SECONDS for each target; build/fuzz/tests/fuzz/fuzz_replay --list names them
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -ge 1 ] || { echo 'usage: tests/fuzz/run.sh SECONDS [TARGET ...]' >&2; exit 64; }
echo 'int LLVMFuzzerTestOneInput(void){return 0;}' | clang-14 -fsanitize=fuzzer -x c -o /dev/null - 2>/dev/null ||
  { echo 'tests/fuzz/run.sh: needs libFuzzer: apt-get install clang-14 libclang-rt-14-dev libomp-14-dev' >&2; exit 69; }
seconds=$1
shift
build=build/fuzz
mkdir -p build
{ cmake --preset fuzz && cmake --build --preset fuzz; } >build/fuzz.log 2>&1 || { tail -n 20 build/fuzz.log >&2; exit 1; }
replay=$build/tests/fuzz/fuzz_replay
mkdir -p $build/bin $build/found
$replay --seeds $build/seeds
[ $# -gt 0 ] || mapfile -t names < <($replay --list)
[ $# = 0 ] || names=("$@")

# look NAME DIR BYTES SECONDS: inputs of up to so many bytes, kept in DIR; appends to $log.
look() {
  local name=$1 dir=$build/$2/$1 dict=tests/fuzz/dict/$1 more=("$build/seeds/$1") options=()
  [ ! -d "tests/fuzz/regress/$name" ] || more+=("tests/fuzz/regress/$name")
  [ "$2" = short ] || more+=("$build/short/$name")
  [ ! -f "$dict" ] || options=(-dict="$dict")
  mkdir -p "$dir"
  "$build/bin/$name" -max_total_time="$4" -max_len="$3" -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 "${options[@]}" \
    -artifact_prefix="$build/found/$name-" "$dir" "${more[@]}" >>"$log" 2>&1
}
# figure PATTERN: the numbers behind it in $log.
figure() { { grep -oE "$1 *[0-9]+" "$log" || echo 0; } | grep -oE '[0-9]+$'; }

printf '%-14s %12s %7s  %s\n' target executions edges result
failed=0
for name in "${names[@]}"; do
  [ -d "$build/seeds/$name" ] || { echo "tests/fuzz/run.sh: no target $name" >&2; exit 64; }
  ln -sf ../tests/fuzz/fuzz_driver "$build/bin/$name"
  log=$build/found/$name.log result=good
  : >"$log"
  { look "$name" short 4096 $((seconds - seconds / 4)) && look "$name" long 65536 $((seconds / 4 + 1)); } ||
    { result="FAILED, see $log" failed=1; }
  executions=$(figure 'number_of_executed_units:' | awk "{ s += \$1 } END { print s }")
  printf '%-14s %12s %7s  %s\n' "$name" "$executions" "$(figure 'cov:' | sort -n | tail -n 1)" "$result"
done
exit $failed
