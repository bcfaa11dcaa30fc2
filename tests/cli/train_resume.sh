#!/usr/bin/env bash
# A run that dies anywhere ends with the weights of the run that did not: ranks killed at a random step, in the middle of
# evaluation, and at every point of saving. Also on another number of ranks, and with a time budget.
# Usage: train_resume.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir work && cd work

length=150
! short || length=90
# train RANKS DIR SETTING...; $launch: options of mpirun
launch=()
train() {
  local ranks=$1 dir=$2
  shift 2
  settle data.sources="$source/data/sample" train.steps=$length train.ckpt_every=25 train.eval_every=20 train.eval_tokens=20000 \
    train.sample_every=40 train.batch_tokens=448 "$@"
  mpirun -n "$ranks" "${launch[@]}" "$binary" train "$source/configs/tiny.yaml" train.run_dir="$dir" data.cache=cache \
    "${settled[@]}" >>"$dir.log" 2>&1
}

lines() { cat "$1/metrics.jsonl" 2>/dev/null | grep -c "$2" || true; }

# killed DIR: the started run is killed: one of its ranks, without a warning.
killed() {
  ranks_of "$1" | shuf -n 1 --random-source=<(yes "$1") | xargs -r kill -9
  ! wait "$job" || fail "$1: mpirun ended well, the run was over before the kill"
  none_left
}

train 2 whole || fail 'the uninterrupted run'

# At a random step: before the first checkpoint, between two, near the end.
moments=($((RANDOM % 30 + 30)))
short || moments+=($((RANDOM % 20 + 1)) $((RANDOM % 30 + 80)))
for step in "${moments[@]}"; do
  dir=step$step
  train 2 $dir & job=$!
  until [ "$(lines $dir '"step",')" -ge $step ]; do kill -0 $job || fail "$dir ended early"; done
  killed $dir
  train 2 $dir || { cat $dir.log >&2; fail "$dir did not go on"; }
  same_run whole $dir
done

# In the middle of evaluation: step 20 is done, its evaluation is not.
for try in 1 2 3 4 5 6 7 8 9 10; do
  ! short || break
  dir=eval$try
  train 2 $dir & job=$!
  until [ "$(lines $dir '"step":20,')" -ge 1 ]; do kill -0 $job || fail "$dir ended early"; done
  killed $dir
  [ "$(lines $dir '"kind":"eval","step":20')" = 1 ] || break
  [ $try != 10 ] || fail 'no kill came in the middle of evaluation'
done
short || train 2 $dir || { cat $dir.log >&2; fail "$dir did not go on"; }
short || same_run whole $dir

# At every write of a save: the shim kills each process before its Nth fsync or rename below ckpt/, for N = 1, 2, ... until
# there are no more. Two saves, the second drops the first. In short: every fifth, from one of the first five on.
short=(train.steps=8 train.ckpt_every=4 train.keep=1 train.eval_every=0 train.sample_every=0)
train 2 undisturbed "${short[@]}" || fail 'the undisturbed run'
points=$(seq 99)
! short || points=$(seq $((RANDOM % 5 + 1)) 5 99)
for point in $points; do
  dir=point$point
  launch=(-x LD_PRELOAD="$(dirname "$binary")/tests/libdie_at.so" -x DIE_AT=$point
    -x ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0")
  if train 2 $dir "${short[@]}"; then break; fi
  none_left
  launch=()
  train 2 $dir "${short[@]}" || { cat $dir.log >&2; fail "$dir did not go on"; }
  same_run undisturbed $dir
done
launch=()
[ "$point" -gt 9 ] || fail "only $((point - 1)) points of death in two saves"
same_run undisturbed "$dir" # the one that nothing disturbed

# Another number of ranks goes on: the same training within rounding.
train 2 ranks & job=$!
until [ "$(lines ranks '"step":60,')" -ge 1 ]; do kill -0 $job || fail 'ranks ended early'; done
killed ranks
train 3 ranks || { cat ranks.log >&2; fail 'three ranks did not go on from two'; }
says 'resuming after step' ranks.log
"$(dirname "$0")/compare_runs.py" whole ranks 1e-6 5e-6 || fail 'three ranks went elsewhere'

# A time budget is measured once: the steps it gave stay.
budget() {
  local steps budget=(train.steps=0 train.minutes=0.05)
  train 2 budget "${budget[@]}" & job=$!
  until [ "$(lines budget '"step":9,')" -ge 1 ]; do kill -0 $job || fail 'budget ended early'; done
  killed budget
  steps=$(sed -nE 's/^ *steps: ([0-9]+).*/\1/p' budget/config.resolved.yaml)
  train 2 budget "${budget[@]}" || { cat budget.log >&2; fail 'budget did not go on'; }
  [ "$(tail -n 1 budget/metrics.jsonl | grep -oE '"step":[0-9]+')" = "\"step\":$steps" ] || fail "budget did not end at step $steps"
}
short || budget

# A finished run stays as it is; another configuration is refused by name, settings that change no number are not.
cp whole/metrics.jsonl before
train 2 whole || fail 'a finished run, again'
same before whole/metrics.jsonl
code=0
train 2 whole optim.beta1=0.8 schedule.lr=2e-3 || code=$?
[ $code = 64 ] || fail "another configuration: exit code $code, not 64"
for key in optim.beta1 schedule.lr; do says "$key" whole.log; done
same before whole/metrics.jsonl
train 2 whole train.keep=1 train.log_every=3 || { cat whole.log >&2; fail 'other settings of logging were refused'; }
