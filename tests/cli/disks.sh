#!/usr/bin/env bash
# Disks that are full or read-only: one message, code 74, checkpoints written before stay valid, and with room again the
# same command ends with the weights of a run that was left alone. Needs the right to mount a tmpfs of its own; skipped elsewhere.
# Usage: disks.sh BINARY SOURCE_DIR
set -eu
if [ -z "${DISKS_INSIDE:-}" ]; then
  unshare -m true 2>/dev/null && exec env DISKS_INSIDE=1 unshare -m bash "$0" "$@"
  unshare -rm true 2>/dev/null && exec env DISKS_INSIDE=1 unshare -rm bash "$0" "$@"
  echo 'skipped: needs the right to mount a tmpfs' >&2
  exit 77
fi
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir -p work/small && cd work

train() { # RUN_DIR CACHE SETTING...
  local dir=$1 cache=$2
  shift 2
  settle data.sources="$source/data/sample" train.steps=12 train.ckpt_every=4 train.keep=3 train.eval_every=0 "$@"
  mpirun -n 2 "$binary" train "$source/configs/tiny.yaml" train.run_dir="$dir" data.cache="$cache" "${settled[@]}"
}
disk() { mount -t tmpfs -o "size=$1" none small; }
train whole cache >log.txt 2>&1 || { cat log.txt >&2; fail 'the run on a disk with room'; }
checkpoint=$(du -sk whole/ckpt/step_00000004 | cut -f1)

# Room for one checkpoint and a half.
disk $((checkpoint * 3 / 2))k
expect 74 'No space left on device' train small/run cache
says 'hint: ' expect.err
[ "$(ls small/run/ckpt)" = step_00000004 ] || fail "a failed save left $(ls small/run/ckpt)"
"$binary" ckpt verify small/run/ckpt/step_00000004 >log.txt || fail 'the checkpoint before is damaged'
mount -o remount,size=100m small
train small/run cache >log.txt 2>&1 || { cat log.txt >&2; fail 'with room again'; }
says 'resuming after step 4' log.txt
same_run whole small/run

# Read-only: nothing can be trained further, everything can be read.
mount -o remount,ro small
expect 74 'Read-only file system' train small/run cache train.keep=2
expect 74 'Read-only file system' train small/new cache
expect 74 'Read-only file system' "$binary" report small/run
"$binary" generate --model small/run/model --prompt x --max-new 3 >log.txt || fail 'reading from a read-only disk'
umount small

# The corpus does not fit.
disk 200k
expect 74 'No space left on device' train other small/cache
mount -o remount,size=100m small
train other small/cache >log.txt 2>&1 || { cat log.txt >&2; fail 'a corpus with room again'; }
same_run whole other
umount small
