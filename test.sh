#!/usr/bin/env bash
# Installs packages, builds and runs all tests: release, f64 (gradient checks) and dev (address and undefined-behaviour
# sanitizers). Usage: ./test.sh [--no-install] [PRESET ...]   default: release f64 dev
set -euo pipefail
cd "$(dirname "$0")"
if [ "${1:-}" = --no-install ]; then shift; else ./install.sh; fi
[ $# -gt 0 ] || set -- release f64 dev
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
passed=0 failed=0 skipped=0
for preset in "$@"; do
  echo "== $preset"
  cmake --preset "$preset" -DSTERNA_TESTS=ON >/dev/null
  log=build/$preset/build.log
  cmake --build --preset "$preset" >"$log" 2>&1 || { cat "$log" >&2; exit 1; }
  log=build/$preset/ctest.log
  ctest --preset "$preset" -j2 2>&1 | tee "$log" | grep -vE '^ *Start ' || true
  grep -q 'tests passed' "$log" || { echo "test.sh: $preset: no test ran" >&2; exit 1; }
  skip=$(grep -cE '^ *[0-9]+/[0-9]+ .*\*\*\*Skipped' "$log" || true)
  read -r bad total < <(sed -nE 's/.*, ([0-9]+) tests failed out of ([0-9]+).*/\1 \2/p' "$log")
  passed=$((passed + total - bad - skip)) failed=$((failed + bad)) skipped=$((skipped + skip))
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
