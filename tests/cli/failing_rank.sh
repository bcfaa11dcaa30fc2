#!/usr/bin/env bash
# Of ranks that share a step, one runs out of memory or cannot write its file of a checkpoint, at every point where that can
# happen: all end with the code of its cause and one message that names it, nothing hangs, nothing is left, and the next run
# goes on from what was whole.
# Usage: failing_rank.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir work && cd work
shim=$(dirname "$binary")/tests/libdie_at.so

# train RANKS DIR SETTING...; with culprit=RANK that one runs under the words of $under.
culprit= under=()
train() {
  local ranks=$1 dir=$2 words how=()
  shift 2
  settle model.width=48 model.heads=4 model.kv_heads=4 model.layers=3 model.pattern=LNW model.window=20 train.seq=53 \
    train.batch_tokens=212 train.steps=4 train.ckpt_every=2 train.keep=1 train.eval_every=0 train.log_every=1 "$@"
  words=("$binary" train "$source/configs/tiny.yaml" train.run_dir="$dir" data.cache=cache data.sources="$source/data/sample"
    "${settled[@]}")
  if [ -z "$culprit" ]; then
    how=(-n "$ranks" "${words[@]}")
  else
    [ "$culprit" = 0 ] || how=(-n "$culprit" "${words[@]}" :)
    how+=(-n 1 "${under[@]}" "${words[@]}")
    [ $((culprit + 1)) = "$ranks" ] || how+=(: -n $((ranks - culprit - 1)) "${words[@]}")
  fi
  timeout -k 5 60 mpirun "${how[@]}"
}

# One message, of that rank.
one_message() {
  local messages
  messages=$(grep '^sterna: ' expect.err | grep -vcE '^sterna: (\[rank [0-9]+\] )?warning: ') || true
  [ "$messages" = 1 ] || { cat expect.err >&2; fail "$messages messages, not one"; }
  grep -q "^sterna: .*rank $culprit: " expect.err || { cat expect.err >&2; fail "the message does not name rank $culprit"; }
  none_left
}
preload() { # VARIABLE=VALUE
  under=(env LD_PRELOAD="$shim" ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}verify_asan_link_order=0" FAIL_MAP_OF="$binary" "$1")
}
fired() { grep -q '^fails here: ' "$1"; }

sp2=(parallel.sp=2 parallel.sp_softmax=ring)
tp2=(parallel.tp=2)
both=(parallel.sp=2 parallel.tp=2)
train 2 sp2 "${sp2[@]}" >log.txt 2>&1 || { cat log.txt >&2; fail 'the undisturbed run'; }
train 2 tp2 "${tp2[@]}" >log.txt 2>&1 || { cat log.txt >&2; fail 'the undisturbed run'; }

# ---- memory: each of the program's big allocations, and a limit that the system sets ----
culprit=1 # generates the sample, too
for point in $(seq 99); do
  preload FAIL_MAP=$point
  train 4 memory "${both[@]}" >log.txt 2>&1 && code=0 || code=$?
  if ! fired log.txt; then break; fi
  [ $code != 0 ] || { cat log.txt >&2; fail "allocation $point may fail unnoticed"; }
  mv log.txt expect.err
  [ $code = 71 ] || { cat expect.err >&2; fail "exit code $code, not 71"; }
  says 'cannot reserve' expect.err
  one_message
done
[ $code = 0 ] || { cat log.txt >&2; fail 'the run in which no allocation fails'; }
[ "$point" -gt 5 ] || fail "only $((point - 1)) allocations"
if ! ldd "$binary" | grep -q libasan; then # which needs address space without end
  large=(train.seq=200000 train.batch_tokens=200000)
  culprit=1 under=(bash -c 'ulimit -v 1500000; exec "$0" "$@"')
  expect 71 'cannot reserve' train 2 limit "${sp2[@]}" "${large[@]}"
  one_message
  expect 71 'cannot reserve' train 2 limit "${tp2[@]}" "${large[@]}"
  one_message
fi

# ---- checkpoints: rank 0 writes the weights and publishes, rank 1 writes the moments ----
for culprit in 0 1; do
  if [ $culprit = 0 ]; then whole=tp2 mesh=("${tp2[@]}"); else whole=sp2 mesh=("${sp2[@]}"); fi
  for point in $(seq 99); do
    dir=$whole.point$point
    preload FAIL_AT=$point
    train 2 "$dir" "${mesh[@]}" >log.txt 2>&1 && code=0 || code=$?
    if ! fired log.txt; then break; fi
    for step in "$dir"/ckpt/step_*; do
      case $step in *.tmp | *'*') continue ;; esac
      "$binary" ckpt verify "$step" >verify.txt 2>&1 || { cat verify.txt >&2; fail "$step is damaged"; }
    done
    if [ $code != 0 ]; then # what could not be dropped is tried again later
      mv log.txt expect.err
      [ $code = 74 ] || { cat expect.err >&2; fail "exit code $code, not 74"; }
      one_message
      (culprit=; train 2 "$dir" "${mesh[@]}") >log.txt 2>&1 || { cat log.txt >&2; fail "$dir did not go on"; }
    fi
    same_run $whole "$dir"
  done
  echo "rank $culprit: $((point - 1)) points"
  least=(10 2)
  [ "$point" -gt "${least[culprit]}" ] || fail "only $((point - 1)) points of failure on rank $culprit"
  same_run $whole "$dir"
done
