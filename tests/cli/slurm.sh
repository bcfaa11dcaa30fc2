#!/usr/bin/env bash
# A job under a real Slurm: warned, it saves and requeues itself; started again it ends with the weights of a run that was
# left alone; cancelled, it saves and stays away. Needs a controller that answers, with two free CPUs, and the working
# directory shared with its nodes; skipped elsewhere (sbatch.sh tests the script against stand-ins).
# Usage: slurm.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
if ! command -v sbatch >/dev/null || ! scontrol ping 2>/dev/null | grep -q 'is UP'; then
  echo 'skipped: no Slurm controller answers' >&2
  exit 77
fi
rm -rf work && mkdir work && cd work
export STERNA=$binary
settings=(data.cache=cache data.sources="$source/data/sample" train.steps=300 train.ckpt_every=0 train.eval_every=100
  train.eval_tokens=5000)
mpirun -n 2 "$binary" train "$source/configs/tiny.yaml" train.run_dir=whole "${settings[@]}" >whole.log 2>&1 ||
  { cat whole.log >&2; fail 'the run without Slurm'; }

submit() { # DIR: prints the job's number
  sbatch --parsable -n 2 -t 30 "$source/slurm/train.sbatch" "$source/configs/tiny.yaml" train.run_dir="$1" "${settings[@]}"
}
state() { scontrol show job "$1" | sed -nE 's/.*JobState=([A-Z_]+).*/\1/p'; }
await() { # JOB STATE...
  local job=$1 _ now
  shift
  for _ in $(seq 600); do
    now=$(state "$job")
    case " $* " in *" $now "*) return 0 ;; esac
    sleep 0.1
  done
  cat sterna-"$job".log >&2
  fail "job $job is $now, not $*"
}
await_step() { # DIR STEP
  local _
  for _ in $(seq 300); do
    if grep -qs "\"step\":$2," "$1/metrics.jsonl"; then return 0; fi
    sleep 0.1
  done
  fail "$1 does not reach step $2"
}

job=$(submit warned)
await_step warned 30
scancel --signal=USR1 --batch "$job"
await "$job" PENDING
says 'back into the queue' "sterna-$job.log"
says '"code": 75' warned/exit.json
scontrol update JobId="$job" StartTime=now
await "$job" COMPLETED
says 'resuming after step' "sterna-$job.log"
says '"reason": "finished"' warned/exit.json
same_run whole warned

job=$(submit cancelled)
await_step cancelled 30
scancel "$job"
await "$job" CANCELLED
for _ in $(seq 100); do [ ! -e cancelled/exit.json ] || break; sleep 0.1; done
says '"reason": "stopped by SIGTERM"' cancelled/exit.json
job=$(submit cancelled)
await "$job" COMPLETED
same_run whole cancelled

job=$(sbatch --parsable -n 2 -t 30 "$source/slurm/train.sbatch" none.yaml)
await "$job" FAILED
scontrol show job "$job" | grep -q 'ExitCode=74:0' || { scontrol show job "$job" >&2; fail 'the exit code of a failure'; }
