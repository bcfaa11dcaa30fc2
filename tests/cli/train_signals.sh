#!/usr/bin/env bash
# Asked to stop, a run saves, says why and ends with 75; the same command then ends as the run that was left alone.
# Usage: train_signals.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir work && cd work

length=150
! short || length=60
# train DIR SETTING...
train() {
  local dir=$1
  shift
  exec mpirun -n 2 "$binary" train "$source/configs/tiny.yaml" train.run_dir="$dir" data.cache=cache \
    data.sources="$source/data/sample" train.steps=$length train.ckpt_every=0 train.eval_every=10 train.eval_tokens=20000 \
    train.batch_tokens=448 "$@" >>"$dir.log" 2>&1
}
finished() {
  same_run whole "$1"
  says '"reason": "finished"' "$1/exit.json"
}
# started DIR STEP: a run that has done this step; its mpirun is $job.
started() {
  train "$1" & job=$!
  until grep -q "\"step\":$2," "$1/metrics.jsonl" 2>/dev/null; do kill -0 $job 2>/dev/null || fail "$1 ended early"; done
}
# stopped DIR REASON: 75, a checkpoint of the step in exit.json, and a report.
stopped() {
  local code=0 step
  wait $job || code=$?
  [ $code = 75 ] || { cat "$1.log" >&2; fail "$1: exit code $code, not 75"; }
  says "\"reason\": \"$2\"" "$1/exit.json"
  says '"code": 75' "$1/exit.json"
  says 'run the same command again to go on' "$1.log"
  step=$(sed -nE 's/.*"step": ([0-9]+).*/\1/p' "$1/exit.json")
  [ -d "$1/ckpt/step_$(printf %08d "$step")" ] || fail "$1: no checkpoint of step $step"
  [ -s "$1/report.html" ] || fail "$1: no report"
  none_left
}

(train whole) || fail 'the uninterrupted run'

# To the first rank, to the last, to all: one stop.
signals=USR1
short || signals='USR1 TERM INT'
for signal in $signals; do
  started "$signal" 3
  kill -$signal "$(ranks_of $signal | head -n 1)"
  stopped $signal "stopped by SIG$signal"
  (train $signal) || fail "$signal did not go on"
  finished $signal
done
if short; then exit 0; fi
started last 15
kill -USR1 "$(ranks_of last | tail -n 1)"
stopped last "stopped on another rank's signal"
started last 100
ranks_of last | xargs kill -USR1
stopped last 'stopped by SIGUSR1'
(train last) || fail 'last did not go on'
finished last

# mpirun passes SIGUSR1 on.
started launcher 10
kill -USR1 $job
stopped launcher 'stopped by SIGUSR1'
(train launcher) || fail 'launcher did not go on'
finished launcher

# In the middle of evaluation.
started evaluation 20
kill -USR1 "$(ranks_of evaluation | head -n 1)"
stopped evaluation 'stopped by SIGUSR1'
(train evaluation) || fail 'evaluation did not go on'
finished evaluation
