#!/usr/bin/env bash
# The Slurm script against stand-ins for srun and scontrol: a warning reaches the step, code 75 requeues, others do not.
# Usage: sbatch.sh BINARY SOURCE_DIR
set -u
script=$2/slurm/train.sbatch
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() {
  echo "sbatch.sh: $*" >&2
  cat "$work"/*.txt >&2
  exit 1
}

cat >"$work/srun" <<'STANDIN'
#!/usr/bin/env bash
echo "$OMP_NUM_THREADS $*" >arguments.txt
trap 'echo warned >warned.txt; exit 75' USR1
trap 'exit 75' TERM
echo $$ >ready.txt
[ -n "${STANDIN_CODE:-}" ] && exit "$STANDIN_CODE"
while :; do sleep 0.1; done
STANDIN
printf '#!/bin/sh\necho "$*" >requeued.txt\n' >"$work/scontrol"
printf '#!/bin/sh\n' >"$work/program"
chmod +x "$work/srun" "$work/scontrol" "$work/program"
export PATH="$work:$PATH" STERNA="$work/program" SLURM_SUBMIT_DIR="$work" SLURM_JOB_ID=42 SLURM_CPUS_PER_TASK=3
unset SLURM_RESTART_COUNT STANDIN_CODE

start() { # leaves the job's process in $job once its step runs
  rm -f "$work"/*.txt
  bash "$script" "$@" >"$work/log.txt" 2>&1 &
  job=$!
  for _ in $(seq 100); do
    [ -s "$work/ready.txt" ] && break
    sleep 0.05
  done
  [ -s "$work/ready.txt" ] || fail "the step did not start"
}
ends_with() {
  wait "$job"
  local code=$?
  [ "$code" -eq "$1" ] || fail "$2: code $code, not $1"
}

start config.yaml train.steps=7
kill -USR1 "$job"
ends_with 75 "warned"
[ -e "$work/warned.txt" ] || fail "the warning did not reach the step"
[ "$(cat "$work/requeued.txt")" = "requeue 42" ] || fail "not requeued"
grep -q -- '^3 --mpi=pmix --cpus-per-task=3 .*program train config.yaml train.steps=7$' "$work/arguments.txt" ||
  fail "arguments of srun"

for code in 0 65 76; do
  STANDIN_CODE=$code start config.yaml
  ends_with "$code" "code $code passes through"
  [ ! -e "$work/requeued.txt" ] || fail "requeued after code $code"
done

start config.yaml # cancelled: Slurm signals both the script and the step
kill -TERM "$job"
kill -TERM "$(cat "$work/ready.txt")"
ends_with 75 "cancelled"
[ ! -e "$work/requeued.txt" ] || fail "a cancelled job was requeued"

SLURM_RESTART_COUNT=200 start config.yaml
kill -USR1 "$job"
ends_with 75 "too many restarts"
[ ! -e "$work/requeued.txt" ] || fail "requeued for ever"

bash "$script" >"$work/log.txt" 2>&1
[ $? -eq 64 ] || fail "no configuration"
STERNA=$work/missing bash "$script" config.yaml >"$work/log.txt" 2>&1
[ $? -eq 69 ] || fail "no program"
