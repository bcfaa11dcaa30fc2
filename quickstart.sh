#!/usr/bin/env bash
# From a bare Debian 12 machine to a trained model: installs packages, builds, fetches and cleans a real corpus, trains a
# TransNormerLLM on two MPI ranks, generates a text and writes a report. What is there already is not done again.
# Usage: ./quickstart.sh [--minutes M] [--dir RUN_DIR] [--ranks R] [--no-install] [key=value ...]
#   --minutes M   training time (default 11); the number of steps is fixed at the first run
#   --dir DIR     run directory (default runs/quickstart)
#   --ranks R     MPI ranks (default 2)
#   --no-install  packages are there: ask no package manager
#   key=value     any configuration key, for example data.offline=true: the built-in sample, no network
set -euo pipefail
cd "$(dirname "$0")"
minutes='' dir=runs/quickstart ranks=2 install=1 settings=()
while [ $# -gt 0 ]; do
  case $1 in
    --minutes) minutes=$2; shift ;;
    --dir) dir=$2; shift ;;
    --ranks) ranks=$2; shift ;;
    --no-install) install=0 ;;
    --help|-h) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *=*) settings+=("$1") ;;
    *) echo "quickstart.sh: unknown option $1 (see --help)" >&2; exit 64 ;;
  esac
  shift
done
[ -z "$minutes" ] || settings+=("train.minutes=$minutes")
started=$SECONDS

[ "$install" = 0 ] || ./install.sh
[ -f build/release/build.ninja ] || cmake --preset release -DSTERNA_TESTS=OFF >build.log 2>&1 || { cat build.log >&2; exit 1; }
cmake --build --preset release --target sterna >build.log 2>&1 || { cat build.log >&2; exit 1; }
rm -f build.log
sterna=build/release/sterna

export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_rmaps_base_oversubscribe=1
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
mpirun -n "$ranks" "$sterna" train configs/quickstart.yaml "train.run_dir=$dir" "${settings[@]}"

# The same held-out text, packed by the usual compressors, in bits a byte.
holdout=$(sed -n 's/^ *"holdout_text": "\(.*\)",*$/\1/p' "$dir/corpus.json")
bits() { awk -v packed="$1" -v text="$2" 'BEGIN { printf "%.3f", 8 * packed / text }'; }
if [ ! -f "$dir/compressors.json" ]; then
  bytes=$(wc -c <"$holdout")
  gz=$(gzip -9 -c "$holdout" | wc -c) xz=$(xz -9e -c "$holdout" | wc -c) bz=$(bzip2 -9 -c "$holdout" | wc -c)
  printf '{"gzip -9": %s, "xz -9e": %s, "bzip2 -9": %s}\n' \
    "$(bits "$gz" "$bytes")" "$(bits "$xz" "$bytes")" "$(bits "$bz" "$bytes")" >"$dir/compressors.json"
fi

echo
echo "A text of the model:"
"$sterna" generate --model "$dir/model" --prompt "It was a truth" --max-new 120 --temperature 0.7
echo
echo "processor: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores; $ranks ranks"
"$sterna" report "$dir"
echo "quickstart took $((SECONDS - started)) s"
