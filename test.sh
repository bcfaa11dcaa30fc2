#!/usr/bin/env bash
# Installs packages, builds and runs all tests: release, f64 (gradient checks) and dev (address and undefined-behaviour
# sanitizers).
#
#   ./test.sh [--no-install] [--long] [PRESET ...]   default: release f64 dev
#   ./test.sh --slowest                              the twenty tests that took longest, of what ran last
#
# --long: every script and grid whole in every build, then what looks for the unforeseen: planted faults, random deaths, fuzzing. Hours.
set -euo pipefail
cd "$(dirname "$0")"
install=1 long=OFF
while [ $# -gt 0 ]; do
  case $1 in
    --no-install) install=0 ;;
    --long) long=ON ;;
    --slowest)
      for log in build/*/ctest.log; do
        preset=$(basename "$(dirname "$log")")
        sed -nE "s#^ *[0-9]+/[0-9]+ Test +\\#[0-9]+: ([^ ]+) .* ([0-9.]+) sec.*#\\2 $preset \\1#p" "$log"
      done | sort -rn | head -n 20
      exit ;;
    -*) echo "test.sh: unknown option $1" >&2; exit 64 ;;
    *) break ;;
  esac
  shift
done
[ $install = 0 ] || ./install.sh
[ $# -gt 0 ] || set -- release f64 dev
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
passed=0 failed=0 skipped=0
for preset in "$@"; do
  echo "== $preset"
  cmake --preset "$preset" -DSTERNA_TESTS=ON -DSTERNA_LONG=$long >/dev/null
  log=build/$preset/build.log
  cmake --build --preset "$preset" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
  log=build/$preset/ctest.log
  ctest --preset "$preset" -j$(($(nproc) + 1)) 2>&1 | tee "$log" | grep -vE '^ *Start ' || true
  grep -q 'tests passed' "$log" || { echo "test.sh: $preset: no test ran" >&2; exit 1; }
  skip=$(grep -cE '^ *[0-9]+/[0-9]+ .*\*\*\*Skipped' "$log" || true)
  read -r bad total < <(sed -nE 's/.*, ([0-9]+) tests failed out of ([0-9]+).*/\1 \2/p' "$log")
  passed=$((passed + total - bad - skip)) failed=$((failed + bad)) skipped=$((skipped + skip))
done
if [ $long = ON ]; then
  for soak in 'tests/soak/faults.sh' 'tests/soak/kills.sh build/release/sterna 200' 'tests/fuzz/run.sh 60'; do
    echo "== $soak"
    if bash $soak; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  done
fi
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
