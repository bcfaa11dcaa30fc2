#!/usr/bin/env bash
# Ranks that were not told the same, read other files or run other builds end with one message that names them, nobody waits,
# and nothing is written. Processes that a launcher started without connecting them say so. (tests/mpi/case_launch.c)
# Usage: ranks_agree.sh BINARY SOURCE_DIR
set -eu
binary=$1 source=$2
. "$(dirname "$0")/lib.sh"
rm -rf work && mkdir work && cd work

settings=(train.run_dir=run data.cache=cache data.sources="$source/data/sample" data.offline=true train.steps=3 train.eval_every=0)
train=("$binary" train "$source/configs/tiny.yaml" "${settings[@]}")
# refused CODE TEXT FIRST... : -n 1 SECOND...
refused() {
  expect "$1" "$2" timeout -k 5 30 mpirun -n 1 "${@:3}"
  [ "$(grep -c '^sterna: ' expect.err)" = 1 ] || { cat expect.err >&2; fail "not one message: $*"; }
  none_left
}

# ---- what they were told ----
sed 's/^\( *lr:\).*/\1 0.25/' "$source/configs/tiny.yaml" >other.yaml
refused 64 'rank 1: not the same as on the first rank' "${train[@]}" : -n 1 "$binary" train other.yaml "${settings[@]}" \
  data.vocab=600 train.keep=3
says '): data.vocab: 512 -> 600; schedule.lr: ' expect.err
says ' -> 0.25; train.keep: 2 -> 3' expect.err
refused 69 '`ckpt` works in one process' "$binary" ckpt ls . : -n 1 "${train[@]}"
generate=("$binary" generate --model m parallel.tp=2 --prompt)
refused 64 '--prompt: one -> two' "${generate[@]}" one : -n 1 "${generate[@]}" two

# ---- what they are ----
for other in "$(dirname "$binary")"/../*/sterna; do
  [ "$("$other" --version)" != "$("$binary" --version)" ] || continue
  refused 69 'rank 1 runs another build than rank 0' "${train[@]}" : -n 1 "$other" "${train[@]:1}"
  says 'f64' expect.err
  says 'f32' expect.err
  break
done
[ ! -e run ] && [ ! -e cache ] || fail 'ranks that disagree have written something'

# ---- the same words, other files ----
"${train[@]}" >log.txt 2>&1 || { cat log.txt >&2; fail 'the run'; }
mkdir -p there/run && cp -r run/model there/run/
echo 'It was a dark night, and it rained.' >text.txt && echo 'It was a dark day, and it rained.' >there/text.txt
eval=("$binary" eval --model run/model --text text.txt)
refused 69 'input: hash' "${eval[@]}" : -n 1 -wdir there "${eval[@]}"
cp text.txt there/ && printf '\x01' | dd of=there/run/model/model.safetensors bs=1 seek=30000 conv=notrunc status=none
refused 69 'weights: hash' "${eval[@]}" : -n 1 -wdir there "${eval[@]}"

# ---- many, and each alone ----
generate=("$binary" generate --model run/model --prompt It --max-new 2)
expect 69 'but each is alone' env SLURM_STEP_NUM_TASKS=2 "${generate[@]}"
expect 69 'but each is alone' env PMI_SIZE=2 PMI_RANK=1 "$binary" bench step
expect 69 'no multiple of it' "${generate[@]}" parallel.tp=2
# A batch script is no task, and mpirun's only rank is alone wherever it runs.
env SLURM_JOB_ID=7 SLURM_NTASKS=2 SLURM_PROCID=0 "${generate[@]}" >/dev/null || fail 'in a batch script'
env SLURM_STEP_NUM_TASKS=2 mpirun -n 1 "${generate[@]}" >/dev/null || fail 'mpirun in a step'
