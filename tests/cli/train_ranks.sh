#!/usr/bin/env bash
# The number of ranks is a choice of speed: 1, 2, 3 and 4 ranks train the same model, with uneven shares and with a rank
# that has nothing to do. One layout repeats bit for bit, with recomputation as well.
# Usage: train_ranks.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir work && cd work

# train RANKS DIR SETTING...: 20 steps at constant rate; Adam hides the scale of gradients, so the norm is compared, too.
train() {
  local ranks=$1 dir=$2
  shift 2
  mpirun -n "$ranks" "$binary" train "$source/configs/tiny.yaml" train.run_dir="$dir" data.cache=cache \
    data.sources="$source/data/sample" train.steps=20 schedule.kind=constant schedule.lr=1e-3 schedule.warmup=0 \
    train.eval_every=10 train.eval_tokens=2000 train.ckpt_every=10 train.seq=50 "$@" >"$dir.log" 2>&1 ||
    { cat "$dir.log" >&2; fail "$dir"; }
}

# 7 rows: shares of 7; 4+3; 3+2+2; 2+2+2+1. 3 rows on 4 ranks: one has none.
sizes='1 2 3 4'
! short || sizes='1 3'
for rows in 7 3; do
  for ranks in $sizes; do train $ranks "rows$rows.n$ranks" train.batch_tokens=$((50 * rows)) train.micro_rows=2; done
  for ranks in ${sizes#1}; do
    "$(dirname "$0")/compare_runs.py" "rows$rows.n1" "rows$rows.n$ranks" 1e-6 5e-6 || fail "$rows rows on $ranks ranks"
  done
done

if short; then exit 0; fi
train 3 again train.batch_tokens=350 train.micro_rows=2
train 3 recompute train.batch_tokens=350 train.micro_rows=2 model.recompute=true
same_run rows7.n3 again
same_run rows7.n3 recompute

# The comparison can tell runs that differ little.
train 2 other train.batch_tokens=350 optim.beta2=0.9501
if "$(dirname "$0")/compare_runs.py" rows7.n1 other 1e-6 5e-6 >/dev/null; then fail 'the comparison accepts another beta2'; fi
