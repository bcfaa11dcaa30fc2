#!/usr/bin/env bash
# Two builds of the program, before and after a change that is to move no number: weights, moments, losses, norms, held-out
# evaluations, greedy ids, logits and gradients must be the same, bit for bit; times alone may differ. What the first one saved
# half way the second one resumes, to the same end. Not part of ./test.sh: it needs an older build. About two minutes.
# Usage: tests/soak/unmoved.sh OLD_BINARY NEW_BINARY   works in build/unmoved; at the first difference ends with 1 and keeps all
set -eu
[ $# -eq 2 ] || { echo "usage: $0 OLD_BINARY NEW_BINARY" >&2; exit 64; }
old=$(realpath "$1") new=$(realpath "$2") source=$(realpath "$(dirname "$0")/../..")
. "$source/tests/cli/lib.sh"
work=$source/build/unmoved
rm -rf "$work" && mkdir -p "$work" && cd "$work"

# One line a case: name, ranks, configuration, settings.
cases() {
  local small='train.steps=12 train.ckpt_every=6 train.eval_every=5 train.eval_tokens=3000 train.eval_seq=61 train.sample_every=6'
  small+=' sample.max_new=20 train.keep=9'
  local llama='model.family=llama model.pattern=N model.width=48 model.heads=4 model.kv_heads=2 model.ffn=80 model.layers=3'
  local hybrid='model.pattern=LNWL model.layers=4 model.width=48 model.heads=4 model.kv_heads=2 model.ffn=64 model.window=20 train.seq=53'
  hybrid+=' train.batch_tokens=265 train.micro_rows=2'
  echo "quickstart 1 quickstart train.minutes=0 $small train.batch_tokens=2048"
  echo "quickstart-2 2 quickstart train.minutes=0 $small train.batch_tokens=2048"
  echo "hybrid 1 tiny $hybrid $small"
  echo "hybrid-dp3 3 tiny $hybrid $small"
  echo "hybrid-sp2-tp2 4 tiny $hybrid $small parallel.sp=2 parallel.tp=2"
  echo "hybrid-ring 2 tiny $hybrid $small parallel.sp=2 parallel.sp_softmax=ring parallel.sp_linear=lasp2_scan"
  echo "recompute 1 tiny $hybrid $small model.recompute=true"
  echo "recompute-sp2-tp2 4 tiny $hybrid $small model.recompute=true parallel.sp=2 parallel.tp=2"
  echo "llama 1 tiny $llama $small model.tied=false"
  echo "llama-dp3 3 tiny $llama $small"
}

# train BINARY RANKS RUN CONFIG SETTING...
train() {
  local binary=$1 ranks=$2 run=$3 config=$4
  shift 4
  settle data.offline=true data.sources="$source/data/sample" data.mix='""' data.holdout=devil data.cache=cache-$config "$@"
  mpirun -n "$ranks" "$binary" train "$source/configs/$config.yaml" train.run_dir="$run" "${settled[@]}" >"$run.log" 2>&1 ||
    { cat "$run.log" >&2; fail "$run"; }
}

# Everything but times.
lines() { sed -E 's/,"(step_s|tok_s)":[^,}]*//g' "$1/metrics.jsonl"; }
alike() { # RUN_A RUN_B
  local file
  cmp <(lines "$1") <(lines "$2") || fail "metrics of $1 and $2 differ"
  for file in $(cd "$1" && ls ckpt/*/*.safetensors samples/* model/*); do same "$1/$file" "$2/$file"; done
}

ids=$PWD/ids.safetensors
/usr/bin/python3 - "$ids" <<'PY'
import json, random, struct, sys
random.seed(1)
data = b"".join(struct.pack("<q", random.randrange(3, 250)) for _ in range(3 * 71))
header = json.dumps({"input_ids": {"dtype": "I64", "shape": [3, 71], "data_offsets": [0, len(data)]}}).encode()
header += b" " * (-len(header) % 8)
open(sys.argv[1], "wb").write(struct.pack("<Q", len(header)) + header + data)
PY

while read -ru 3 name ranks config settings; do
  for binary in old new; do train "${!binary}" "$ranks" "$name-$binary" "$config" $settings; done
  alike "$name-old" "$name-new"

  # What the old one saved half way goes on with the new one.
  mkdir -p "$name-resumed/ckpt"
  cp "$name-old"/config.*.yaml "$name-old/metrics.jsonl" "$name-resumed"
  cp -r "$name-old/ckpt/step_00000006" "$name-resumed/ckpt"
  train "$new" "$ranks" "$name-resumed" "$config" $settings
  for file in $(cd "$name-old" && ls ckpt/step_00000012/*.safetensors); do same "$name-old/$file" "$name-resumed/$file"; done

  for binary in old new; do
    "${!binary}" generate --model "$name-old/model" --prompt-ids 40,41,42 --print-ids --max-new 60 --greedy >"$name-$binary.ids" 2>/dev/null
    mpirun -n "$ranks" "${!binary}" forward "$name-old/model" --ids "$ids" --out "$name-$binary.out" --grads \
      $(tr ' ' '\n' <<<"$settings" | grep '^parallel\.' || true) >/dev/null 2>"$name-$binary.log" || { cat "$name-$binary.log" >&2; fail "$name"; }
  done
  same "$name-old.ids" "$name-new.ids"
  same "$name-old.out" "$name-new.out"
  echo "$name: same"
done 3< <(cases)
