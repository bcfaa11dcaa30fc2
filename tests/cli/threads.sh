#!/usr/bin/env bash
# Threads that the program chooses itself: from cores and ranks, the same number in plan, train and bench, named when a user's
# own number is too large. Usage: threads.sh BINARY SOURCE_DIR
set -euo pipefail
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
unset OMP_NUM_THREADS OMP_WAIT_POLICY GOMP_SPINCOUNT
cores=$(nproc)
train() { # RANKS [WORD ...]
  rm -rf run
  mpirun -n "$1" "${@:2}" "$binary" train "$source/configs/tiny.yaml" data.sources="$source/data/sample" data.offline=true \
    data.holdout=devil data.cache=cache train.steps=2 train.eval_tokens=64 train.run_dir=run >train.out 2>train.err </dev/null ||
    { cat train.err >&2; fail "train on $1 ranks"; }
}

for ranks in 1 2 3; do
  share=$((cores / ranks > 0 ? cores / ranks : 1))
  train "$ranks"
  each=
  [ "$ranks" = 1 ] || each=' a rank'
  says "threads: $share$each ($cores core" train.out
  "$binary" plan "$source/configs/tiny.yaml" --ranks "$ranks" train.batch_tokens=3072 >plan.out
  says "$share thread$([ "$share" = 1 ] || echo s) each" plan.out
done
[ ! -s train.err ] || fail "warnings: $(cat train.err)"

# The affinity mask counts, not the machine.
taskset -c "$(taskset -cp $$ | sed 's/.*: //; s/[-,].*//')" "$binary" plan "$source/configs/tiny.yaml" >plan.out
says '1 thread each' plan.out

# A user's number stays, and is named where it is too large: for one rank, for several, and by a command without MPI.
OMP_NUM_THREADS=$((cores + 1)) train 1
says "OMP_NUM_THREADS=$((cores + 1))" train.err
says "threads: $((cores + 1)) (" train.out
OMP_NUM_THREADS=$cores train 2
[ "$cores" = 1 ] || says "OMP_NUM_THREADS=$cores: $((2 * cores)) threads of 2 ranks" train.err
OMP_NUM_THREADS=$((3 * cores)) "$binary" generate --model run/model --prompt It --max-new 1 >generate.out 2>generate.err
says "OMP_NUM_THREADS=$((3 * cores))" generate.err
OMP_NUM_THREADS=1 train 1
[ ! -s train.err ] || fail "warnings: $(cat train.err)"

# The waiting time that OpenMP reads when it is loaded is limited, unless the user has set one.
waits() {
  rm -rf long
  "$binary" train "$source/configs/tiny.yaml" data.sources="$source/data/sample" data.offline=true data.holdout=devil data.cache=cache \
    train.steps=1000000 train.run_dir=long >/dev/null 2>&1 &
  local pid=$! found=
  for _ in $(seq 50); do
    sleep 0.1
    found=$(tr '\0' '\n' <"/proc/$pid/environ" | grep -c '^GOMP_SPINCOUNT=' || true)
    [ "$found" = 0 ] || break
    [ "$1" = 1 ] || break
  done
  kill -9 "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  [ "$found" = "$1" ] || fail "GOMP_SPINCOUNT is there $found times, not $1"
}
waits "$((cores > 1))"
OMP_WAIT_POLICY=passive waits 0
echo "threads: $cores cores"
